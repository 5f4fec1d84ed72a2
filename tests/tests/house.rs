//! The rules of the house, checked. All violations of all rules are listed at once, each with its file, its line and
//! what to do about it. Every rule also has a test of its own that it says no to a seeded violation.
//!
//! | rule | where |
//! |---|---|
//! | who may import whom (DESIGN § 11), in manifests and in sources | `house/imports.rs` |
//! | files and functions are short, `unsafe` has its place and its reason, no leftovers, no globs | `house/sources.rs` |
//! | each source file is named by a `mod` | `house/modules.rs` |
//! | who does not ask for libhwloc does not link it | `house/hwloc.rs` |
//! | a reason for each dependency, no paths of one machine, no registry but the public one, the top level | `house/tree.rs` |

#[path = "house/hwloc.rs"]
mod hwloc;
#[path = "house/imports.rs"]
mod imports;
#[path = "house/modules.rs"]
mod modules;
#[path = "house/scan.rs"]
mod scan;
#[path = "house/sources.rs"]
mod sources;
#[path = "house/tree.rs"]
mod tree;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    path: String,
    /// From 1; 0 for the file as a whole.
    line: usize,
    /// What is wrong and what to do.
    words: String,
}

impl Violation {
    fn new(path: &str, line: usize, words: impl Into<String>) -> Self {
        Violation { path: path.to_owned(), line, words: words.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.words),
            line => write!(f, "{}:{line}: {}", self.path, self.words),
        }
    }
}

/// A text file of the project.
struct File {
    /// From the project's root, with `/`.
    path: String,
    text: String,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests is in the project").to_owned()
}

/// What git ignores at the top level: `.gitignore` has only lines such as `/target`.
fn ignored(root: &Path) -> Vec<PathBuf> {
    let lines = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    let names = lines.lines().filter_map(|line| line.trim().strip_prefix('/'));
    names.map(|name| root.join(name.trim_end_matches('/'))).chain([root.join(".git")]).collect()
}

/// The names at the top level, sorted.
fn top_level(root: &Path) -> Vec<String> {
    let ignored = ignored(root);
    let entries =
        fs::read_dir(root).expect("the project can be read").map(|entry| entry.expect("an entry").path());
    let mut names: Vec<String> = entries
        .filter(|path| !ignored.contains(path))
        .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// All text files that git does not ignore, by path.
fn text_files(root: &Path) -> Vec<File> {
    let ignored = ignored(root);
    let mut directories = vec![root.to_owned()];
    let mut files = Vec::new();
    while let Some(directory) = directories.pop() {
        // A directory or file that vanishes meanwhile belongs to another test or an editor.
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if ignored.contains(&path) || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                directories.push(path);
            } else if let Ok(text) = fs::read_to_string(&path)
                && !text.contains('\0')
            {
                let inside = path.strip_prefix(root).expect("walked from the root");
                files.push(File::new(&inside.to_string_lossy(), &text));
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

#[test]
fn the_house_is_in_order() {
    let root = root();
    let files = text_files(&root);
    assert!(
        files.iter().any(|file| file.path == "Cargo.toml"),
        "this is not the project: {}",
        root.display()
    );
    let mut violations: Vec<Violation> = files.iter().flat_map(imports::violations).collect();
    violations.extend(files.iter().filter(|file| file.is_rust()).flat_map(sources::violations));
    let python = files.iter().filter(|file| file.path.ends_with(".py") || file.path.ends_with(".pyi"));
    violations.extend(python.flat_map(sources::file_length_violations));
    violations.extend(modules::violations(&files));
    violations.extend(files.iter().flat_map(tree::violations));
    violations.extend(tree::top_level_violations(&top_level(&root)));
    violations.sort();
    let list: Vec<String> = violations.iter().map(|violation| format!("  {violation}")).collect();
    assert!(list.is_empty(), "{} rules of the house are broken:\n{}", list.len(), list.join("\n"));
}

#[test]
fn the_walk_sees_this_file_and_not_the_ignored_ones() {
    let files = text_files(&root());
    assert!(files.iter().any(|file| file.path == "tests/tests/house.rs"));
    assert!(!files.iter().any(|file| file.path.starts_with("target/") || file.path.starts_with(".git/")));
    let top = top_level(&root());
    assert!(top.contains(&"Cargo.toml".to_owned()) && !top.contains(&"target".to_owned()));
}
