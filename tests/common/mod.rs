//! What several test files share: devices, fixtures, and the binary.
#![allow(dead_code, unused_imports, reason = "each test file uses its part")]

pub mod binary;

use std::env::{self, VarError};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use unmix::check;
pub use unmix::check::common::{Tensors, asserting_path, paths, values};
use unmix::device::{self, Opened};

/// What an environment variable asks of a test, or the default where it is not set. Whoever sets it must not get a test of something else: a
/// value that cannot be read fails.
pub fn setting<T: FromStr>(name: &str, default: T) -> T {
    match env::var(name) {
        Err(VarError::NotPresent) => default,
        Err(error) => panic!("{name}: {error}"),
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, which is no {}", std::any::type_name::<T>())),
    }
}

/// The devices to test, from `UNMIX_TEST_DEVICES` (comma-separated names of `--device`), by default the CPU. A device that is named
/// and cannot be opened fails the test: whoever asked for it must not get a pass without it.
pub fn devices() -> Vec<Opened> {
    let names = std::env::var("UNMIX_TEST_DEVICES").unwrap_or_else(|_| "cpu".into());
    let open = |name: &str| {
        let opened = device::open(name).unwrap_or_else(|error| panic!("UNMIX_TEST_DEVICES names `{name}`: {error}"));
        assert_eq!(opened.info.name, name, "another device was opened than the one asked for");
        opened
    };
    names.split(',').map(|name| open(name.trim())).collect()
}

/// The folder of golden numbers: `UNMIX_FIXTURES`, or the one in the repository.
pub fn fixtures() -> PathBuf {
    match std::env::var_os("UNMIX_FIXTURES") {
        Some(dir) => dir.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"),
    }
}

/// Runs a suite of `unmix devices --check` on every device, and fails with its report where it does not pass.
pub fn suite(name: &str) {
    let [suite] = check::find(name).unwrap()[..] else { panic!("{name} is a group of suites") };
    for opened in devices() {
        let outcome = check::run(suite, &opened, Some(&fixtures()));
        eprintln!("{outcome} on {}", opened.info.name);
        assert!(outcome.passed, "{outcome} on {}", opened.info.name);
    }
}
