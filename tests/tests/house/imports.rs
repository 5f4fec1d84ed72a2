//! Who may import whom: the table of DESIGN § 11, for manifests and for paths in sources.

use crate::scan::Source;
use crate::{File, Violation};

/// A crate's directory, and the directories of ours that it may import.
const MAY_IMPORT: [(&str, &[&str]); 11] = [
    ("protocol", &[]),
    ("io", &["protocol"]),
    ("ssd-tier", &["io", "protocol"]),
    // The master too, but only where an engine gets one of its own: see MASTER_IN_ENGINE.
    ("engine", &["ssd-tier", "io", "protocol", "master"]),
    ("master", &["protocol", "io"]),
    ("client", &["protocol", "io"]),
    ("python", &["client", "engine", "master", "io", "protocol"]),
    ("bench", &["client", "engine", "master", "io", "protocol"]),
    ("tools", &["client", "protocol", "ssd-tier"]),
    ("tests", &["protocol", "io", "ssd-tier", "engine", "master", "client", "bench", "tools"]),
    ("fuzz", &["protocol", "io", "ssd-tier", "engine"]),
];
/// The only file of the engine that knows of a master: it starts one in the same process.
const MASTER_IN_ENGINE: &str = "engine/src/embedded.rs";
/// Has its own workspace, as cargo-fuzz wants it.
const OWN_WORKSPACE: &str = "fuzz";
/// Begins the names of our packages.
const PREFIX: &str = "snowskin-";

pub(crate) fn violations(file: &File) -> Vec<Violation> {
    let Some((directory, rest)) = file.path.split_once('/') else { return Vec::new() };
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == directory) else {
        return Vec::new();
    };
    if rest == "Cargo.toml" {
        manifest_violations(file, directory, allowed)
    } else if file.is_rust() {
        source_violations(file, directory, allowed)
    } else {
        Vec::new()
    }
}

fn manifest_violations(file: &File, directory: &str, allowed: &[&str]) -> Vec<Violation> {
    let manifest: toml::Table = match file.text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![Violation::new(&file.path, 0, format!("not TOML: {error}"))],
    };
    let mut found = Vec::new();
    for (name, value) in dependencies(&manifest) {
        let begins = |line: &str| {
            let rest = line.trim_start().trim_start_matches('"').strip_prefix(name.as_str());
            rest.is_some_and(|rest| rest.starts_with(['.', ' ', '=', '"']))
        };
        let line = file.text.lines().position(begins).map_or(0, |index| index + 1);
        if let Some(imported) = name.strip_prefix(PREFIX)
            && imported != directory
            && !allowed.contains(&imported)
        {
            found.push(Violation::new(&file.path, line, refusal(directory, imported, allowed)));
        }
        let inherits = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
        if !inherits && directory != OWN_WORKSPACE {
            let words = format!(
                "write `{name}.workspace = true`; version and reason belong into the root Cargo.toml"
            );
            found.push(Violation::new(&file.path, line, words));
        }
    }
    found
}

/// All dependencies, of whatever kind and target.
fn dependencies(manifest: &toml::Table) -> Vec<(String, toml::Value)> {
    let mut found = Vec::new();
    for (key, value) in manifest {
        let Some(table) = value.as_table() else { continue };
        if key == "target" {
            found.extend(table.values().filter_map(toml::Value::as_table).flat_map(dependencies));
        } else if key == "dependencies" || key == "dev-dependencies" || key == "build-dependencies" {
            found.extend(table.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
    }
    found
}

fn source_violations(file: &File, directory: &str, allowed: &[&str]) -> Vec<Violation> {
    let source = Source::scan(&file.text);
    let mut found = Vec::new();
    for (range, word) in source.words() {
        let package = word.replace('_', "-");
        let Some(imported) = package.strip_prefix(PREFIX) else { continue };
        let is_ours = MAY_IMPORT.iter().any(|(name, _)| *name == imported);
        if !is_ours || imported == directory {
            continue;
        }
        let line = source.line_at(range.start);
        if !allowed.contains(&imported) {
            found.push(Violation::new(&file.path, line, refusal(directory, imported, allowed)));
        } else if directory == "engine" && imported == "master" && file.path != MASTER_IN_ENGINE {
            let words = format!("only {MASTER_IN_ENGINE} knows of the master: move this there");
            found.push(Violation::new(&file.path, line, words));
        }
    }
    found
}

fn refusal(directory: &str, imported: &str, allowed: &[&str]) -> String {
    let allowed = if allowed.is_empty() { "none of ours".to_owned() } else { allowed.join(", ") };
    format!(
        "{directory} may not import {imported}, only {allowed} (DESIGN § 11): move the code to where it may"
    )
}

#[test]
fn the_manifest_of_a_crate_is_held_to_the_table() {
    let text = "[dependencies]\nlog.workspace = true\nsnowskin-master.workspace = true\n\n\
                [target.'cfg(unix)'.dev-dependencies]\nsnowskin-client.workspace = true\n";
    let found = violations(&File::new("client/Cargo.toml", text));
    assert_eq!(found.iter().map(|violation| violation.line).collect::<Vec<_>>(), [3]);
    assert!(found[0].words.contains("client may not import master, only protocol, io"), "{}", found[0]);
    let found = violations(&File::new("io/Cargo.toml", text));
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(violations(&File::new("client/Cargo.toml", "[")).len(), 1);
}

#[test]
fn versions_belong_into_the_root() {
    let found = violations(&File::new("io/Cargo.toml", "[dev-dependencies]\nlibc = \"0.2\"\n"));
    assert!(found[0].to_string().starts_with("io/Cargo.toml:2: write `libc.workspace = true`"), "{found:?}");
    assert!(violations(&File::new("fuzz/Cargo.toml", "[dependencies]\nlibc = \"0.2\"\n")).is_empty());
}

#[test]
fn paths_in_sources_are_held_to_the_table() {
    let seeded = "use snowskin_io::Platform;\n// snowskin_engine::x\nfn f() { snowskin_engine::x(\"snowskin_master::y\"); }\n";
    let found = violations(&File::new("client/src/lib.rs", seeded));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].to_string().starts_with("client/src/lib.rs:3: client may not import engine"),
        "{}",
        found[0]
    );
    assert!(violations(&File::new("bench/src/lib.rs", seeded)).is_empty());
    assert!(
        violations(&File::new("client/src/lib.rs", "use snowskin_client::x; let snowskin_other = 1;"))
            .is_empty()
    );
}

#[test]
fn the_engine_knows_of_a_master_in_one_file_only() {
    let seeded = |path: &str| violations(&File::new(path, "use snowskin_master::Master;"));
    assert!(seeded("engine/src/embedded.rs").is_empty());
    for path in ["engine/src/main.rs", "engine/src/lib.rs", "engine/src/shard/mod.rs"] {
        assert!(seeded(path)[0].words.contains("move this there"), "{path}");
    }
}
