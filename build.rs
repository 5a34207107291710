//! Tells the program which commit it is built from, so that every run can say so.

use std::process::Command;

fn main() {
    // Not the repository's head: a commit of what was just built must not build it again. What was built before its commit stays what it was
    // then, the commit before with changes.
    for changed in ["src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={changed}");
    }
    println!("cargo:rerun-if-env-changed=UNMIX_COMMIT");
    // Packagers build without a repository and may name the commit themselves.
    if let Some(commit) = std::env::var("UNMIX_COMMIT").ok().filter(|commit| !commit.is_empty()).or_else(from_git) {
        println!("cargo:rustc-env=UNMIX_COMMIT={commit}");
        println!("cargo:rustc-env=UNMIX_VERSION={} ({commit})", env!("CARGO_PKG_VERSION"));
    } else {
        println!("cargo:rustc-env=UNMIX_VERSION={}", env!("CARGO_PKG_VERSION"));
    }
}

/// The commit, with a mark if what is built is not what was committed.
fn from_git() -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // A source archive may lie inside the repository of something else.
    let own = std::fs::canonicalize(git(&["rev-parse", "--show-toplevel"])?).ok()?
        == std::env::current_dir().ok()?.canonicalize().ok()?;
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).filter(|_| own)?;
    let clean = git(&["status", "--porcelain", "--", "src", "Cargo.toml", "Cargo.lock"])?.is_empty();
    Some(if clean { commit } else { format!("{commit}-modified") })
}
