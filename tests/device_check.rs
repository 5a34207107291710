//! `unmix devices --check`: it passes on the CPU, and names what is wrong where something is.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::binary::{refuse, root, succeed, text, unmix};
use serde_json::Value;

fn golden() -> PathBuf {
    root().join("tests/fixtures")
}

/// The command on the CPU with further arguments.
fn check(dir: &Path, args: &[&str]) -> std::process::Command {
    unmix(dir, &[&["devices", "--check", "--device", "cpu"], args].concat())
}

/// A copy of the golden numbers.
fn copied(dir: &Path) -> PathBuf {
    let copy = dir.join("golden");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(golden()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    copy
}

fn object(output: &Output) -> Value {
    let out = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(out.trim_end().lines().count(), 1, "{out}");
    serde_json::from_str(&out).unwrap()
}

fn suite<'a>(whole: &'a Value, name: &str) -> &'a Value {
    let suites = whole["devices"][0]["suites"].as_array().unwrap();
    suites.iter().find(|suite| suite["name"] == name).unwrap_or_else(|| panic!("no suite {name} in {whole}"))
}

#[test]
fn everything_passes_on_the_cpu() {
    let dir = tempfile::tempdir().unwrap();
    let output = succeed(check(dir.path(), &["--json", "--fixtures"]).arg(golden()));
    let whole = object(&output);
    let suites = whole["devices"][0]["suites"].as_array().unwrap();
    assert_eq!(suites.len(), unmix::check::SUITES.len());
    for suite in suites {
        assert_eq!((&suite["ran"], &suite["passed"], &suite["failed"]), (&true.into(), &true.into(), &0.into()), "{suite}");
        assert!(suite["cases"].as_u64().unwrap() > 0 && suite["seconds"].as_f64().unwrap() >= 0.0, "{suite}");
    }
    assert_eq!((&whole["passed"], &whole["not_run"], &whole["failed"]), (&true.into(), &0.into(), &0.into()));
    let device = &whole["devices"][0];
    assert_eq!((&device["device"], &device["compiler"], &device["driver"]), (&"cpu".into(), &"flex (rustc)".into(), &Value::Null));
    assert!(device["description"].as_str().unwrap().contains("threads") && whole["version"].is_string());
    // As many starts on every path of the CPU as there are plans, and none on the others.
    let mix = suite(&whole, "random_plans")["paths"]["mix"].as_object().unwrap();
    assert_eq!(mix.keys().collect::<Vec<_>>(), ["flex", "reference", "tensor"]);
    assert!(mix.values().all(|starts| starts.as_u64().unwrap() >= 10_000), "{mix:?}");
    let progress = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(progress.matches("passed in").count(), suites.len(), "{progress}");
    assert!(progress.contains("cpu first_losses: passed in"), "{progress}");
}

#[test]
fn without_a_folder_the_golden_suites_are_listed_as_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let whole = object(&succeed(&mut check(dir.path(), &["--json", "--suite", "golden", "--suite", "info_nce"])));
    assert_eq!((&whole["ran"], &whole["failed"], &whole["not_run"]), (&1.into(), &0.into(), &15.into()));
    let trace = suite(&whole, "trace");
    assert_eq!((&trace["ran"], &trace["passed"]), (&false.into(), &false.into()));
    assert!(trace["reason"].as_str().unwrap().contains("--fixtures DIR"), "{trace}");
    assert_eq!(suite(&whole, "info_nce")["passed"], true);
    let said = text(&succeed(&mut check(dir.path(), &["--suite", "mixture", "--suite", "blend"])));
    assert!(said.contains("not run: it needs the folder of golden numbers (--fixtures DIR)"), "{said}");
    assert!(said.contains("1 suites ran, 0 failed, 1 not run"), "{said}");
}

/// One bit of the exponent of one number in a tensor of the oracle, and one number of a JSON file.
#[test]
fn a_changed_number_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let copy = copied(dir.path());
    let doc: Value = serde_json::from_slice(&fs::read(copy.join("losses.json")).unwrap()).unwrap();
    let case = doc["cases"].as_array().unwrap().iter().find(|case| case["outputs"]["grad_q"].is_object()).unwrap();
    let (case, tensor) = (case["name"].as_str().unwrap(), case["outputs"]["grad_q"]["tensor"].as_str().unwrap());
    let file = copy.join("losses.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let at = {
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        tensors.tensor(tensor).unwrap().data().as_ptr() as usize - bytes.as_ptr() as usize
    };
    bytes[at..at + 4].copy_from_slice(&7.5f32.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    let schedule = copy.join("schedule.json");
    let mut doc: Value = serde_json::from_slice(&fs::read(&schedule).unwrap()).unwrap();
    doc["cases"][0]["values"][0] = 123.0.into();
    let rates = doc["cases"][0]["name"].as_str().unwrap().to_owned();
    fs::write(&schedule, doc.to_string()).unwrap();
    fs::remove_file(copy.join("norm.safetensors")).unwrap();

    let output = check(dir.path(), &["--suite", "golden", "--json", "--fixtures"]).arg(&copy).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(!text(&output).contains("panicked"), "{}", text(&output));
    let whole = object(&output);
    assert_eq!((&whole["passed"], &whole["failed"]), (&false.into(), &3.into()), "{whole}");
    let failure = |name: &str| suite(&whole, name)["failures"][0].as_str().unwrap().to_owned();
    let losses = failure("losses");
    assert!(losses.contains(case) && losses.contains("grad_q[0] is ") && losses.contains("want 7.5, off by "), "{losses}");
    assert!(failure("schedule").contains(&rates) && failure("schedule").contains("want 123"), "{}", failure("schedule"));
    assert!(failure("norm").contains("norm.safetensors` is missing"), "{}", failure("norm"));
    // The other cases of a suite with a failure were looked at all the same, and the other suites pass.
    assert_eq!(suite(&whole, "losses")["failed"], 1);
    assert!(suite(&whole, "losses")["cases"].as_u64().unwrap() > 20);
    assert_eq!(suite(&whole, "encoder")["passed"], true);

    let output = check(dir.path(), &["--suite", "losses", "--fixtures"]).arg(&copy).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("FAILED") && text(&output).contains(case), "{}", text(&output));
}

#[test]
fn what_cannot_be_checked_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    refuse(&mut check(dir.path(), &["--suite", "gradient"]), "no suite `gradient`", "did you mean `gradients`");
    refuse(&mut check(dir.path(), &["--fixtures", "nowhere"]), "cannot read the folder `nowhere`", "check the path");
    refuse(&mut check(dir.path(), &["--fixtures", "."]), "holds no golden numbers", "tests/fixtures");
    refuse(&mut unmix(dir.path(), &["devices", "--check", "--device", "gpu"]), "no device `gpu`", "did you mean `wgpu`");
    let output = unmix(dir.path(), &["devices", "--suite", "blend"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
}
