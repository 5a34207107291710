//! Golden numbers from an independent oracle, one test per file stem (`src/check/golden`). `UNMIX_FIXTURES=DIR` checks another folder of the
//! same form, `UNMIX_TEST_DEVICES=cpu,wgpu-cpu` other devices.

mod common;

use std::path::Path;

#[test]
fn bbox() {
    common::suite("bbox");
}

#[test]
fn schedule() {
    common::suite("schedule");
}

#[test]
fn augment() {
    common::suite("augment");
}

/// One body for every path of every device, and first for the loops themselves.
#[test]
fn mixture() {
    common::suite("mixture");
}

/// The same for the rules of further mixtures.
#[test]
fn mixture_zoo() {
    common::suite("mixture_zoo");
}

#[test]
fn colour() {
    common::suite("colour");
}

#[test]
fn norm() {
    common::suite("norm");
}

#[test]
fn losses() {
    common::suite("losses");
}

#[test]
fn encoder() {
    common::suite("encoder");
}

#[test]
fn trace() {
    common::suite("trace");
}

/// MoCo with the settings a run has.
#[test]
fn trace_production() {
    common::suite("trace_production");
}

/// SimCLR, BYOL, SwAV, SimSiam, Barlow Twins, i-Mix and MixCo.
#[test]
fn trace_pair() {
    common::suite("trace_pair");
}

/// InsDis and CMC.
#[test]
fn trace_bank() {
    common::suite("trace_bank");
}

/// Rules of optimizers, and exact accumulation.
#[test]
fn optim() {
    common::suite("optim");
}

#[test]
fn knn() {
    common::suite("knn");
}

/// A stem that lies in the repository's folder and that no suite reads would be checked by nobody.
#[test]
fn every_stem_has_a_suite() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let stems: Vec<String> = names.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect();
    assert!(stems.len() > 10);
    for stem in stems.iter().filter(|stem| !stem.starts_with("manifest")) {
        unmix::check::find(stem).unwrap();
    }
}
