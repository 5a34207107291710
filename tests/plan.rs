//! `unmix plan`, and what a step costs a device that is launched at.

mod common;

use common::binary::{json, pretrain, refuse, root, smoke, succeed, text, unmix};
use serde_json::Value;

fn planned(dir: &std::path::Path, args: &[&str]) -> Value {
    let output = succeed(unmix(dir, &["plan", "--json", "--config"]).arg(smoke()).args(args));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What is said is what a run then has: its parameters, its checkpoint, its steps. Nothing is written.
#[test]
fn a_plan_says_what_the_run_is() {
    let dir = tempfile::tempdir().unwrap();
    let plan = planned(dir.path(), &["--device", "cpu"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a plan writes nothing");
    succeed(&mut pretrain(dir.path(), &["--out", "run", "--quiet", "--set", "eval.enabled=false"]));
    let run = dir.path().join("run");
    let tensors = std::fs::metadata(run.join("checkpoint/tensors.safetensors")).unwrap().len();
    let said = plan["checkpoint_bytes"].as_u64().unwrap();
    // The file names its tensors in a header, and holds a few numbers besides.
    assert!(said <= tensors && tensors < said + said / 20 + 65_536, "said {said}, is {tensors}");
    let summary = json(&run.join("summary.json"));
    assert_eq!(plan["steps"], summary["steps"]);
    let measured = &plan["measured"];
    assert!(measured["step_s"].as_f64().unwrap() > 0.0 && measured["peak_mib"].as_f64().unwrap() > 1.0);
    let (step, all) = (measured["step_s"].as_f64().unwrap(), measured["schedule_s"].as_f64().unwrap());
    assert!((all - step * plan["steps"].as_u64().unwrap() as f64).abs() < 1e-9 * all.max(1.0));
    let sum =
        |key: &str| -> u64 { plan["nets"][0]["parts"].as_array().unwrap().iter().map(|part| part[key].as_u64().unwrap()).sum() };
    assert_eq!(plan["nets"][0]["names"], serde_json::json!(["query", "key"]));
    assert_eq!(plan["memory"][0]["bytes"].as_u64().unwrap(), 2 * 4 * sum("weights"));
    assert_eq!(plan["memory"][3]["bytes"].as_u64().unwrap(), 4 * sum("kept") * plan["micro_batch"].as_u64().unwrap());
}

/// Without its data a run can be planned, but not measured; what cannot fit is planned and refused, with the sums.
#[test]
fn a_plan_needs_no_data_and_says_what_does_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let config = root().join("configs/imagenet-mocov2-unmix.json");
    let plan = |args: &[&str]| {
        let mut command = unmix(dir.path(), &["plan", "--device", "cpu", "--config"]);
        command.arg(&config).args(args);
        command
    };
    let said = text(&succeed(&mut plan(&["--images", "1281167"])));
    assert!(said.contains("5004 in an epoch") && said.contains("no step was measured") && said.contains("layer4.2"), "{said}");
    refuse(&mut plan(&[]), "data", "--images COUNT");
    refuse(&mut plan(&["--images", "0"]), "--images is 0", "how many");
    let huge = ["--images", "1281167", "--set", "data.batch=8192", "--set", "model.bn_splits=1024"];
    let said = refuse(&mut plan(&huge), "needs at least", "data.micro_batch");
    let line = said.lines().find(|line| line.contains("the largest `data.micro_batch` that can fit is")).expect(&said);
    let micro: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    // With the micro-batch that it names the run fits; with the next larger one it does not.
    let setting = |micro: u64| format!("data.micro_batch={micro}");
    succeed(plan(&huge).args(["--set", &setting(micro)]));
    refuse(plan(&huge).args(["--set", &setting(2 * micro)]), "needs at least", "data.micro_batch");
}

/// Launches of one step of ResNet-18 on every device that is launched at. They are the host's work on a GPU, some microseconds each: an operation
/// that falls apart into many shows here before there is a GPU to be slow.
#[test]
fn a_step_launches_no_more_than_it_did() {
    let dir = tempfile::tempdir().unwrap();
    for opened in common::devices().iter().filter(|opened| !opened.info.on_host()) {
        for (work, most) in [("moco", 400), ("unmix", 590)] {
            let args =
                ["bench", "step", "--json", "--arch", "resnet18-cifar", "--width", "0.125", "--stem-channels", "8", "--batch", "8"];
            let sizes = ["--size", "16", "--queue", "64", "--splits", "1", "--steps", "1", "--warmup", "1", "--work", work];
            let output = succeed(unmix(dir.path(), &args).args(sizes).args(["--device", &opened.info.name]));
            let result: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(result["kernels"]["net"]["path"], "cube");
            // The convolutions that are meant are those that ran: here there are no matrix units, so ours.
            let kernels = result["launches_by_kernel"].to_string();
            assert!(kernels.contains("GatherKernel") && !kernels.contains("DirectConv2dKernel"), "{kernels}");
            let launches = result["launches"].as_u64().unwrap();
            assert!(launches > 100, "{launches} launches cannot be all");
            assert!(launches <= most, "{work}: {launches} launches\n{:#}", result["launches_by_kernel"]);
        }
        let burn =
            ["bench", "step", "--json", "--width", "0.125", "--stem-channels", "8", "--batch", "2", "--size", "8", "--queue", "64"];
        let rest = ["--splits", "1", "--steps", "1", "--warmup", "0", "--convolution", "burn", "--device", &opened.info.name];
        let output = succeed(unmix(dir.path(), &burn).args(rest));
        let (said, kernels) = (text(&output), String::from_utf8_lossy(&output.stdout).into_owned());
        assert!(kernels.contains("DirectConv2dKernel") && !kernels.contains("GatherKernel"), "{kernels}");
        assert_eq!(said.matches("warning: Burn's implicit GEMM").count(), 1, "{said}");
    }
}
