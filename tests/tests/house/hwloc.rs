//! Who links libhwloc: only who asks for it. A program that embeds an engine must run where that library is not.

use crate::root;
use std::process::Command;

/// What a package depends on, by cargo's own account, with these more arguments.
fn tree(package: &str, more: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--offline",
            "--locked",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--package",
            package,
        ])
        .args(more)
        .current_dir(root())
        .output()
        .expect("cargo has built this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn an_engine_without_hwloc_does_not_link_it() {
    let has_hwloc = |package: &str, more: &[&str]| tree(package, more).contains("hwloc");
    for package in ["snowskin-engine", "snowskin-io"] {
        assert!(!has_hwloc(package, &["--no-default-features"]), "{package}");
        assert!(has_hwloc(package, &[]), "{package}: by default, and this test would see it");
    }
    // They know nothing of processors. A dependency of ours brings its default features only where somebody names them.
    for package in ["snowskin-client", "snowskin-master", "snowskin-ssd-tier"] {
        assert!(!has_hwloc(package, &[]), "{package}");
    }
    assert!(has_hwloc("snowskin-bench", &[]), "it runs engines as they are");
}
