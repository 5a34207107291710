//! The same config on every device: the same first losses. `UNMIX_TEST_DEVICES=cpu,wgpu-cpu` names the devices.

mod common;

use common::binary::{events, json, succeed};

/// Within 1e-3 relative of the CPU, for both kinds of mixture; the CPU itself repeats its bits (`src/check/first_losses.rs`).
#[test]
fn first_losses_agree() {
    common::suite("first_losses");
}

/// A training runs on the device that it names.
#[test]
fn a_run_is_on_the_device_it_was_asked_for() {
    for opened in common::devices() {
        let dir = tempfile::tempdir().unwrap();
        let name = opened.info.name.as_str();
        let args = ["--device", name, "--out", "run", "--quiet", "--set", "schedule.steps=1", "--set", "eval.enabled=false"];
        let mut command = common::binary::unmix(dir.path(), &["pretrain", "--config"]);
        succeed(command.arg(common::binary::smoke()).args(args));
        assert_eq!(json(&dir.path().join("run/config.json"))["run"]["device"]["name"], name, "another device ran");
        assert_eq!(events(&dir.path().join("run"), "step").len(), 1);
    }
}

/// Asking for something that this machine or build does not have is an error, never another device.
#[test]
fn a_missing_device_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    #[cfg(not(feature = "cuda"))]
    common::binary::refuse(&mut common::binary::pretrain(dir.path(), &["--device", "cuda"]), "no CUDA backend", "--features cuda");
    common::binary::refuse(
        common::binary::unmix(dir.path(), &["pretrain", "--device", "wgpuu", "--config"]).arg(common::binary::smoke()),
        "no device `wgpuu`",
        "wgpu",
    );
    #[cfg(target_os = "linux")]
    common::binary::refuse(
        common::binary::unmix(dir.path(), &["pretrain", "--device", "wgpu-cpu", "--config"])
            .arg(common::binary::smoke())
            .env("VK_DRIVER_FILES", "/nonexistent.json")
            .env("VK_ICD_FILENAMES", "/nonexistent.json"),
        "no software adapter",
        "mesa-vulkan-drivers",
    );
}

/// The encoder of one short run, evaluated on every device: the probes' loss within 1e-3, accuracies within two of 64 images (a tie of two
/// logits may fall to either side).
#[test]
fn evaluations_agree() {
    let dir = tempfile::tempdir().unwrap();
    let steps = ["--out", "run", "--quiet", "--set", "schedule.steps=5", "--set", "eval.enabled=false"];
    succeed(common::binary::pretrain(dir.path(), &steps).args(["--set", "log.preview=0"]));
    let evaluate = |device: &str, kind: &[&str]| -> serde_json::Value {
        let mut command = common::binary::unmix(dir.path(), &["eval"]);
        let limit =
            ["--json", "--set", "data.source={\"name\": \"synthetic\", \"count\": 96, \"test_count\": 64}", "--device", device];
        let output = succeed(command.args(kind).args(["--run", "run"]).args(limit));
        let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(object["results"][0]["device"], device, "another device ran");
        object["results"][0]["result"].clone()
    };
    let probe = ["linear", "--fast", "--protocol", "moco", "--lr", "0.1,1", "--epochs", "3", "--set", "eval.linear.batch=32"];
    for opened in common::devices().iter().filter(|opened| opened.info.name != "cpu") {
        for (kind, number) in [(&probe[..], "top1_last"), (&["knn", "--layer", "5"], "top1")] {
            let [got, cpu] = [&opened.info.name, "cpu"].map(|device| evaluate(device, kind));
            let off = |key: &str| (got[key].as_f64().unwrap() - cpu[key].as_f64().unwrap()).abs();
            assert!(off(number) <= 200.0 / 64.0 + 1e-9, "{kind:?}: {got}, on the CPU {cpu}");
            if number == "top1_last" {
                assert!(off("loss_last") <= 1e-3 * cpu["loss_last"].as_f64().unwrap(), "{got}, on the CPU {cpu}");
            }
        }
    }
}
