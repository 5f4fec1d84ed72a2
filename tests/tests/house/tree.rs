//! What lies where: reasons for dependencies, nothing of one machine, the agreed top level.

use crate::{File, Violation};

/// All that may be at the top level.
const TOP_LEVEL: [&str; 21] = [
    ".ci",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "bench",
    "client",
    "docs",
    "engine",
    "fuzz",
    "io",
    "master",
    "protocol",
    "python",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "ssd-tier",
    "tests",
    "tools",
];
/// What must be there: the part that was given.
const GIVEN: [&str; 8] =
    ["Cargo.toml", "engine", "master", "ssd-tier", "bench", "tests", "tools", "README.md"];
/// Directories that exist on one machine and not on the next one. Taken apart, so that this file has none of them.
const MACHINE_DIRECTORIES: [&str; 3] = ["work", "root", "home"];
/// Signs of a package registry other than the public one, or of a way around it; taken apart as well.
const REGISTRY_SIGNS: [[&str; 2]; 6] = [
    ["replace", "-with"],
    ["[regis", "tries"],
    ["index.crates", ".io"],
    ["static.crates", ".io"],
    ["artifac", "tory"],
    ["PIP_INDEX", "_URL"],
];
/// The only source that a lock file may name.
const PUBLIC_SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// Our crates, which need no reason each.
const OURS: &str = "snowskin-";

pub(crate) fn violations(file: &File) -> Vec<Violation> {
    let mut found = place_violations(file);
    match file.path.as_str() {
        "Cargo.toml" => found.extend(reason_violations(file)),
        "Cargo.lock" => found.extend(lock_violations(file)),
        _ => {}
    }
    found
}

/// Each dependency has a line of reason right above it; one line may head a row of our own crates.
fn reason_violations(file: &File) -> Vec<Violation> {
    #[derive(Clone, Copy, PartialEq)]
    enum Above {
        Reason,
        Ours,
        Nothing,
    }
    let (mut inside, mut depth, mut above) = (false, 0_usize, Above::Nothing);
    let mut found = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let line = line.trim();
        if depth == 0 && line.starts_with('[') {
            inside = line == "[workspace.dependencies]";
            continue;
        }
        let is_name = depth == 0 && line.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '"');
        let name = line.split(['=', ' ', '.']).next().unwrap_or("").trim_matches('"');
        let opened = line.matches(['[', '{']).count();
        depth = (depth + opened).saturating_sub(line.matches([']', '}']).count());
        let ours = name.starts_with(OURS);
        if inside && is_name && above != Above::Reason && !(ours && above == Above::Ours) {
            let words = format!("no reason for {name}: say in a comment right above what it is here for");
            found.push(Violation::new(&file.path, index + 1, words));
        }
        above = match line {
            _ if line.starts_with("# --") => Above::Ours, // the head of a group
            _ if line.starts_with('#') => Above::Reason,
            _ if is_name && ours => Above::Ours,
            _ => Above::Nothing,
        };
    }
    found
}

fn place_violations(file: &File) -> Vec<Violation> {
    let mut found = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for directory in MACHINE_DIRECTORIES.iter().filter(|directory| has_directory(line, directory)) {
            let words = format!(
                "a path under /{directory} exists on one machine only: make it relative or an argument"
            );
            found.push(Violation::new(&file.path, index + 1, words));
        }
        for sign in
            REGISTRY_SIGNS.iter().map(|parts| parts.concat()).filter(|sign| line.contains(sign.as_str()))
        {
            let words = format!(
                "{sign} ties the project to a registry: leave that to the machine's own configuration"
            );
            found.push(Violation::new(&file.path, index + 1, words));
        }
    }
    found
}

/// An absolute path that begins with this directory: nothing that could be a path stands before it.
fn has_directory(line: &str, directory: &str) -> bool {
    let path = format!("/{directory}/");
    let starts_here = |at: usize| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | '>' | ')' | '/')))
    };
    line.match_indices(&path).any(|(at, _)| starts_here(at))
}

fn lock_violations(file: &File) -> Vec<Violation> {
    let sources = file
        .text
        .lines()
        .enumerate()
        .filter_map(|(index, line)| Some((index, line.strip_prefix("source = ")?)));
    let foreign = sources.filter(|(_, source)| source.trim_matches('"') != PUBLIC_SOURCE);
    foreign
        .map(|(index, source)| {
            Violation::new(&file.path, index + 1, format!("{source} is not the public registry"))
        })
        .collect()
}

/// `names` is all that git does not ignore at the top level.
pub(crate) fn top_level_violations(names: &[String]) -> Vec<Violation> {
    let unexpected = names.iter().filter(|name| !TOP_LEVEL.contains(&name.as_str()));
    let missing = GIVEN.iter().filter(|given| !names.iter().any(|name| name == *given));
    let words =
        "not in the agreed top level: move it, or agree on it in docs/ARCHITECTURE.md and in this test";
    unexpected
        .map(|name| Violation::new(name, 0, words))
        .chain(missing.map(|given| {
            Violation::new(given, 0, "is missing at the top level: it was given, bring it back")
        }))
        .collect()
}

#[test]
fn a_dependency_needs_a_reason() {
    let text = "[workspace.dependencies]\n# -- ours --\nsnowskin-io = { path = \"io\" }\nsnowskin-x = { path = \"x\" }\n\n\
                # -- others --\nbare = \"1\"\n# why\ngood = { version = \"1\", features = [\n    \"a\",\n] }\nsecond = \"2\"\n\n\
                [profile.dev]\nopt-level = 1\n";
    let found: Vec<usize> =
        violations(&File::new("Cargo.toml", text)).iter().map(|found| found.line).collect();
    assert_eq!(found, [7, 12]);
    assert!(violations(&File::new("io/Cargo.toml", text)).is_empty());
}

#[test]
fn paths_of_one_machine_are_refused() {
    for directory in MACHINE_DIRECTORIES {
        let found =
            violations(&File::new("docs/x.md", &format!("see\n`/{directory}/me/x`, ../{directory}/x")));
        assert_eq!(found.iter().map(|found| found.line).collect::<Vec<_>>(), [2], "{directory}");
        let relative =
            format!("net/{directory}/x ./{directory}/ https://h.org/{directory}/x $ROOT}}/{directory}/");
        assert!(violations(&File::new("docs/x.md", &relative)).is_empty(), "{directory}");
    }
}

#[test]
fn registries_are_refused() {
    for sign in REGISTRY_SIGNS {
        assert_eq!(
            violations(&File::new("docs/x.md", &format!("a {} b", sign.concat()))).len(),
            1,
            "{sign:?}"
        );
    }
    let lock = format!("source = \"{PUBLIC_SOURCE}\"\nsource = \"git+https://example.org/x\"\n");
    let found = violations(&File::new("Cargo.lock", &lock));
    assert_eq!(found.iter().map(|found| found.line).collect::<Vec<_>>(), [2]);
}

#[test]
fn the_top_level_is_agreed() {
    let all: Vec<String> = TOP_LEVEL.iter().map(|name| (*name).to_owned()).collect();
    assert!(top_level_violations(&all).is_empty());
    let mut odd: Vec<String> = all.iter().filter(|name| *name != "README.md").cloned().collect();
    odd.push("scripts".to_owned());
    let found: Vec<String> = top_level_violations(&odd).iter().map(Violation::to_string).collect();
    assert!(
        found[0].starts_with("scripts: not in the agreed") && found[1].starts_with("README.md: is missing")
    );
}
