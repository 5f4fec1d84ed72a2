//! No source file is an orphan: what no `mod` names is never compiled, and its tests never run.

use crate::scan::{Source, words_of};
use crate::{File, Violation};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Where files are that Cargo finds by itself, within a package; a manifest names all others.
const ROOT_FILES: [&str; 3] = ["src/lib.rs", "src/main.rs", "build.rs"];
const ROOT_DIRECTORIES: [&str; 4] = ["src/bin", "tests", "benches", "examples"];
/// What files are called whose modules stand beside them.
const BESIDE_ITSELF: [&str; 3] = ["lib.rs", "main.rs", "mod.rs"];

/// What a file says of another one.
#[derive(Debug, PartialEq, Eq)]
enum Module<'a> {
    /// `mod name;`, within these inline modules.
    Named(Vec<&'a str>),
    /// `#[path = "…"] mod name;`
    At(&'a str),
}

/// `files` are all of the project.
pub(crate) fn violations(files: &[File]) -> Vec<Violation> {
    let mut named: BTreeSet<PathBuf> = files.iter().flat_map(targets).collect();
    let rust = || files.iter().filter(|file| file.is_rust());
    let roots: BTreeSet<PathBuf> = rust()
        .map(|file| PathBuf::from(&file.path))
        .filter(|path| named.contains(path) || is_root(path))
        .collect();
    // Those that are named by their paths have their own modules beside them.
    let mut by_path = BTreeSet::new();
    for file in rust() {
        let path = Path::new(&file.path);
        let directory = path.parent().expect("it has a name");
        by_path.extend(modules(&Source::scan(&file.text), &file.text).iter().filter_map(
            |module| match module {
                Module::At(other) => Some(plain(&directory.join(other))),
                Module::Named(_) => None,
            },
        ));
    }
    for file in rust() {
        let path = Path::new(&file.path);
        let is_beside = BESIDE_ITSELF.iter().any(|name| path.ends_with(name));
        let directory = match is_beside || roots.contains(path) || by_path.contains(path) {
            true => path.parent().expect("it has a name").to_owned(),
            false => path.with_extension(""),
        };
        for module in modules(&Source::scan(&file.text), &file.text) {
            if let Module::Named(names) = module {
                let stem = names.iter().fold(directory.clone(), |directory, name| directory.join(name));
                named.extend([stem.with_extension("rs"), stem.join("mod.rs")]);
            }
        }
    }
    named.extend(by_path);
    let orphans = rust().filter(|file| {
        let path = Path::new(&file.path);
        !named.contains(path) && !is_root(path)
    });
    let words = "no mod names it, so nobody compiles it: name it, or delete it";
    orphans.map(|file| Violation::new(&file.path, 0, words)).collect()
}

/// The sources that a manifest names.
fn targets(file: &File) -> Vec<PathBuf> {
    let Some(directory) = file.path.strip_suffix("Cargo.toml") else { return Vec::new() };
    let named =
        file.text.lines().filter_map(|line| line.trim().strip_prefix("path = \"")?.strip_suffix(".rs\""));
    named.map(|path| Path::new(directory).join(path).with_extension("rs")).collect()
}

/// Whether Cargo finds it by itself.
fn is_root(path: &Path) -> bool {
    let inside: PathBuf = path.components().skip(1).collect();
    // One that has more files may be called `main.rs`, in a folder of its own.
    let stands_for =
        if inside.ends_with("main.rs") { inside.parent().expect("it has a name") } else { &inside };
    let directory = stands_for.parent().unwrap_or(Path::new(""));
    ROOT_FILES.iter().any(|file| inside == Path::new(file))
        || ROOT_DIRECTORIES.iter().any(|root| directory == Path::new(root))
}

/// Without `..`: all of it is in the project.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// The modules that a file has in other files.
fn modules<'a>(source: &'a Source, text: &'a str) -> Vec<Module<'a>> {
    let words = words_of(&source.code);
    let (mut found, mut inline) = (Vec::new(), Vec::new());
    let (mut depth, mut seen) = (0, 0);
    for (index, (range, word)) in words.iter().enumerate() {
        depth += depth_change(&source.code[seen..range.start]);
        seen = range.start;
        inline.retain(|(_, opens, outside)| range.start < *opens || *outside < depth);
        let Some((name, name_text)) = words.get(index + 1).filter(|_| *word == "mod") else { continue };
        let behind = source.code[name.end..].trim_start();
        match behind.chars().next() {
            Some('{') => inline.push((*name_text, source.code.len() - behind.len(), depth)),
            Some(';') => found.push(match path_before(source, text, range.start) {
                Some(path) => Module::At(path),
                None => Module::Named(inline.iter().map(|(name, ..)| *name).chain([*name_text]).collect()),
            }),
            _ => {}
        }
    }
    found
}

fn depth_change(code: &str) -> i64 {
    code.matches('{').count() as i64 - code.matches('}').count() as i64
}

/// What `#[path = "…"]` says among the attributes of the item at `at`: behind the last thing that ended before it.
fn path_before<'a>(source: &Source, text: &'a str, at: usize) -> Option<&'a str> {
    let begin = source.code[..at].rfind([';', '}', '{']).map_or(0, |end| end + 1);
    // The layers have as many lines as the file, and may have other bytes.
    let (first, last) = (source.line_at(begin), source.line_at(at));
    let mut lines = text.lines().skip(first - 1).take(last + 1 - first);
    lines.find_map(|line| line.trim().strip_prefix("#[path = \"")?.strip_suffix("\"]"))
}

#[cfg(test)]
fn orphans(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<File> = files.iter().map(|(path, text)| File::new(path, text)).collect();
    violations(&files).into_iter().map(|found| found.path).collect()
}

#[test]
fn who_is_named_by_nobody_is_an_orphan() {
    let lib = "mod a;\n#[cfg(test)]\n#[path = \"other/far.rs\"]\nmod tests;\n// mod c;\nmod inline {\n    mod d;\n}\nmod e;\n";
    let mut files = vec![
        ("x/src/lib.rs", lib),
        ("x/src/a.rs", "mod b;\nlet modest = \"mod c;\";"),
        ("x/src/a/b.rs", ""),
        ("x/src/other/far.rs", "mod near;"),
        ("x/src/other/near.rs", ""),
        ("x/src/inline/d.rs", ""),
        ("x/src/e/mod.rs", "mod f;"),
        ("x/src/e/f.rs", "#[path = \"../e_tests.rs\"]\nmod tests;"),
        ("x/src/e_tests.rs", ""),
        ("x/tests/all.rs", "mod common;"),
        ("x/tests/common/mod.rs", ""),
        ("x/tests/many/main.rs", "mod one;"),
        ("x/tests/many/one.rs", ""),
        ("x/src/bin/tool.rs", ""),
        ("x/Cargo.toml", "[[bin]]\npath = \"fuzz_targets/y.rs\"\n"),
        ("x/fuzz_targets/y.rs", ""),
    ];
    assert_eq!(orphans(&files), [""; 0]);
    // None of these is where the `mod` that seems to be meant looks for it.
    let lost = [
        "x/src/c.rs",
        "x/src/b.rs",
        "x/src/d.rs",
        "x/src/a/far.rs",
        "x/tests/deep/one.rs",
        "x/fuzz_targets/z.rs",
    ];
    files.extend(lost.map(|path| (path, "")));
    assert_eq!(orphans(&files).into_iter().collect::<BTreeSet<_>>(), lost.map(str::to_owned).into());
}
