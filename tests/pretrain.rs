//! The main job end to end, with the real binary: a run folder, its contents, interrupting and resuming.

mod common;

use std::path::Path;
use std::process::Stdio;

use common::Tensors;
use common::binary::{events, json, pretrain, refuse, same_tensors, succeed, text, unmix, wait_for};

/// One whole smoke run and everything it leaves behind.
#[test]
fn a_run_folder_holds_everything() {
    let dir = tempfile::tempdir().unwrap();
    let output = succeed(&mut pretrain(dir.path(), &["--out", "run"]));
    let said = text(&output);
    for part in ["weighted kNN top-1", "trained", "untrained", "everything is in run"] {
        assert!(said.contains(part), "no `{part}` in\n{said}");
    }
    let run = dir.path().join("run");

    let config = json(&run.join("config.json"));
    assert_eq!(config["run"]["device"]["name"], "cpu");
    assert_eq!(config["run"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(config["run"]["kernels"][0]["op"], "mix");
    assert_eq!(config["run"]["layers"], serde_json::json!(["map", "map", "map", "map", "map", "features", "embedding"]));
    assert!(!config["run"]["kernels"][0]["reason"].as_str().unwrap().is_empty());
    assert!(config["views"]["mean"].is_array(), "the config is not resolved");

    let summary = json(&run.join("summary.json"));
    for key in ["method", "mixture", "steps", "epochs", "wall_s", "images_per_s", "data_wait", "loss_last", "knn"] {
        assert!(!summary[key].is_null(), "no {key} in {summary}");
    }
    for key in ["k", "temperature", "layer", "top1", "untrained_top1"] {
        assert!(summary["knn"][key].is_number(), "no knn.{key} in {summary}");
    }
    let steps = events(&run, "step");
    let last = steps.last().unwrap();
    assert_eq!(last["step"], summary["steps"]);
    assert_eq!(last["loss"], summary["loss_last"]);
    for key in ["lr", "positive_prob", "images_per_s", "data_wait", "eta_s", "epoch"] {
        assert!(last[key].is_number(), "no {key} in {last}");
    }
    assert_eq!(events(&run, "epoch").len() as u64, summary["steps"].as_u64().unwrap().div_ceil(steps_per_epoch(&run)));
    assert_eq!(events(&run, "end")[0]["outcome"], "finished");

    let preview = image::open(run.join("preview.png")).unwrap().to_rgb8();
    let colours: std::collections::HashSet<[u8; 3]> = preview.pixels().map(|p| p.0).collect();
    assert!(preview.width() > 300 && preview.height() > 300 && colours.len() > 50, "the preview shows nothing");

    let state = json(&run.join("checkpoint/state.json"));
    assert_eq!(state["step"], summary["steps"]);
    let tensors = Tensors::read(&run.join("checkpoint/tensors.safetensors"));
    for name in ["query.conv1.weight", "key.layer4.1.bn2.running_var", "query.fc.bias", "queue", "optim.v.conv1.weight"] {
        assert!(tensors.floats.contains_key(name), "no {name} in the checkpoint");
    }
    assert!(tensors.floats.values().all(|(_, values)| values.iter().all(|v| v.is_finite())));

    // The same number again from the checkpoint.
    let output = succeed(&mut unmix(dir.path(), &["eval", "knn", "--run", "run", "--device", "cpu", "--json"]));
    let again: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(again["top1"], summary["knn"]["top1"]);

    // And the folder is not written over.
    refuse(&mut pretrain(dir.path(), &["--out", "run"]), "run", "--resume auto");
}

fn steps_per_epoch(run: &Path) -> u64 {
    let config = json(&run.join("config.json"));
    let images = events(run, "start")[0]["images"].as_u64().unwrap();
    images / config["data"]["batch"].as_u64().unwrap()
}

/// A resolved config is a config: the same run comes out of it, bit by bit.
#[test]
fn a_saved_config_repeats_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let short = ["--set", "schedule.steps=6", "--set", "eval.enabled=false", "--quiet"];
    succeed(pretrain(dir.path(), &["--out", "a"]).args(short));
    succeed(&mut unmix(dir.path(), &["pretrain", "--config", "a/config.json", "--out", "b", "--quiet", "--set", "data.workers=3"]));
    same_tensors(&dir.path().join("a"), &dir.path().join("b"));
}

/// SIGTERM ends after the step, with a checkpoint; the resumed run ends with the bits of an uninterrupted one.
#[cfg(unix)]
#[test]
fn a_stopped_run_goes_on_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let settings =
        ["--set", "schedule.steps=14", "--set", "log.every_steps=1", "--set", "eval.enabled=false", "--set", "mixture.name=unmix"];
    succeed(pretrain(dir.path(), &["--out", "whole", "--quiet"]).args(settings));

    let mut child =
        pretrain(dir.path(), &["--out", "cut"]).args(settings).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let run = dir.path().join("cut");
    wait_for(&mut child, || run.join("metrics.jsonl").exists() && events(&run, "step").len() >= 3);
    // SAFETY: the process is our child and has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{}", text(&output));
    assert!(text(&output).contains("--resume auto"), "{}", text(&output));
    assert_eq!(events(&run, "end")[0]["outcome"], "interrupted");
    let stopped = json(&run.join("checkpoint/state.json"))["step"].as_u64().unwrap();
    assert!((3..14).contains(&stopped), "stopped at {stopped}");

    succeed(pretrain(dir.path(), &["--out", "cut", "--resume", "auto", "--quiet"]).args(settings));
    same_tensors(&dir.path().join("whole"), &run);
    let losses = |run: &Path| events(run, "step").iter().map(|s| (s["step"].as_u64(), s["loss"].as_f64())).collect::<Vec<_>>();
    assert_eq!(losses(&dir.path().join("whole")), losses(&run));
}

/// The bank, the constant of NCE and the images of the queue are part of the state: a run in two halves ends with the bits of a whole one.
/// 130 images in batches of 43 leave a last batch of one.
#[test]
fn every_method_goes_on_exactly_and_takes_a_last_batch_of_one() {
    let common = "\"data\": {\"source\": {\"name\": \"synthetic\", \"count\": 130, \"test_count\": 20, \"height\": 16, \"width\": 16}, \"batch\": 43, \"drop_last\": false}, \
         \"model\": {\"width\": 0.125, \"stem_channels\": 8, \"bn_splits\": 1}, \"schedule\": {\"epochs\": 2, \"kind\": \"constant\"}, \"mixture\": {\"name\": \"im\"}, \
         \"device\": \"cpu\"";
    let views = "\"crop\": {\"size\": 16}";
    let methods = [
        ("insdis", format!("{{\"name\": \"insdis\", \"negatives\": 33}}, \"views\": {{{views}}}")),
        (
            "cmc",
            format!(
                "{{\"name\": \"cmc\", \"negatives\": 33, \"mask_self\": true, \"loss\": \"softmax\"}}, \"views\": {{{views}, \"color_space\": \"lab\"}}"
            ),
        ),
        (
            "shared",
            format!(
                "{{\"name\": \"insdis\", \"negatives\": 33, \"shared_negatives\": true, \"loss\": \"softmax\"}}, \"views\": {{{views}}}"
            ),
        ),
        (
            "moco",
            format!(
                "{{\"name\": \"moco\", \"memory\": {{\"size\": 50}}, \"mask_same_index\": true, \"in_batch_negatives\": true}}, \
                 \"views\": {{{views}}}"
            ),
        ),
        ("moco-nce", format!("{{\"name\": \"moco\", \"loss\": \"nce\", \"memory\": {{\"size\": 50}}}}, \"views\": {{{views}}}")),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (name, method) in methods {
        std::fs::write(dir.path().join("c.json"), format!("{{{common}, \"method\": {method}}}")).unwrap();
        let run = |out: &str, more: &[&str]| {
            let out = format!("{name}-{out}");
            let args = ["pretrain", "--config", "c.json", "--quiet", "--set", "eval.enabled=false", "--out", &out];
            succeed(unmix(dir.path(), &args).args(more));
            dir.path().join(out)
        };
        let whole = run("whole", &[]);
        assert!(events(&whole, "step").iter().all(|step| step["loss"].as_f64().is_some_and(f64::is_finite)), "{name}");
        run("cut", &["--set", "schedule.steps=3", "--set", "schedule.epochs=null"]);
        same_tensors(&whole, &run("cut", &["--resume", "auto"]));
    }
}

/// A loss that is not finite stops before the update, names metric and step, and leaves the checkpoint as it was.
#[test]
fn a_non_finite_loss_stops_before_the_update() {
    let dir = tempfile::tempdir().unwrap();
    let start = |more: &[&str]| {
        pretrain(dir.path(), &[&["--out", "run", "--set", "eval.enabled=false", "--quiet"], more].concat()).output().unwrap()
    };
    assert!(start(&["--set", "schedule.steps=2"]).status.success());
    // With nothing saved on the way it is the loss that tells.
    let output = start(&["--resume", "auto", "--set", "optim.lr=1e30"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("`loss` is") && said.contains("the weights were not updated") && said.contains("hint: "), "{said}");
    let run = dir.path().join("run");
    let failed: u64 = said.split("at step ").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
    let steps = events(&run, "end").last().unwrap()["step"].as_u64();
    assert_eq!((steps, json(&run.join("checkpoint/state.json"))["step"].as_u64()), (Some(failed - 1), Some(2)));
    assert_eq!(events(&run, "end").last().unwrap()["outcome"], "failed");
}

/// A batch in micro-batches is the batch: the same losses to rounding, with Un-Mix in both directions. What cannot be is refused with the reason.
#[test]
fn micro_batches_are_the_batch() {
    let dir = tempfile::tempdir().unwrap();
    let common = ["--quiet", "--set", "eval.enabled=false", "--set", "mixture.name=unmix", "--set", "method.symmetric=true"];
    let losses = |out: &str, more: &[&str]| -> Vec<f64> {
        let steps = ["--out", out, "--set", "schedule.steps=3", "--set", "log.every_steps=1", "--set", "optim.lr=0.001"];
        succeed(pretrain(dir.path(), &steps).args(common).args(more));
        events(&dir.path().join(out), "step").iter().map(|step| step["loss"].as_f64().unwrap()).collect()
    };
    let whole = losses("whole", &[]);
    let config = json(&dir.path().join("whole/config.json"));
    let (batch, splits) = (config["data"]["batch"].as_u64().unwrap(), config["model"]["bn_splits"].as_u64().unwrap());
    assert!(splits > 1, "{config}");
    let micro = format!("data.micro_batch={}", batch / splits);
    let parts = losses("parts", &["--set", &micro]);
    assert_eq!(whole.len(), 3);
    for (whole, parts) in whole.iter().zip(&parts) {
        // Roundings of a mean in another order, after up to two updates at a small rate.
        assert!((whole - parts).abs() <= 1e-4 * whole, "{parts}, at once {whole}");
    }
    refuse(pretrain(dir.path(), &[]).args(["--set", "data.micro_batch=3"]), "whole SplitBN groups", "schema");
    let plain = ["--set", "model.bn_splits=1", "--set", &micro];
    refuse(pretrain(dir.path(), &[]).args(plain), "no accumulation equals it", "schema");
}

/// A limit far below the gradient's norm makes the update small; the norm that is logged is that before.
#[test]
fn clipping_bounds_the_update() {
    let dir = tempfile::tempdir().unwrap();
    let norms = |out: &str, limit: &str| -> Vec<f64> {
        let args = ["--out", out, "--quiet", "--set", "schedule.steps=2", "--set", "eval.enabled=false", "--set", limit];
        succeed(pretrain(dir.path(), &args).args(["--set", "log.every_steps=1", "--set", "optim.weight_decay=0"]));
        events(&dir.path().join(out), "step").iter().map(|step| step["gradient_norm"].as_f64().unwrap()).collect()
    };
    let [free, clipped] = [norms("free", "optim.clip_norm=null"), norms("clipped", "optim.clip_norm=1e-9")];
    assert!(free[0] > 1e-3 && free[0] == clipped[0] && free[1] != clipped[1], "{free:?}, {clipped:?}");
    let [start, moved] = ["clipped", "free"].map(|run| Tensors::read(&dir.path().join(run).join("checkpoint/tensors.safetensors")));
    let [small, large] =
        [&start, &moved].map(|state| state.floats["optim.v.conv1.weight"].1.iter().map(|v| v.abs()).fold(0.0, f32::max));
    assert!(small <= 2e-9 && large > 1e-6, "{small:e}, {large:e}");
}

/// `config show` prints what a run would see, and every shipped config is valid.
#[test]
fn every_shipped_config_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    let mut count = 0;
    for entry in std::fs::read_dir(common::binary::root().join("configs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "json") {
            let said = succeed(&mut unmix(dir.path(), &["config", "check", path.to_str().unwrap()]));
            assert!(text(&said).contains(": ok"));
            let about = &json(&path)["about"];
            for key in ["source", "command", "hardware", "time", "expectation"] {
                assert!(about[key].as_str().is_some_and(|text| text.len() > 3), "{}: about.{key}", path.display());
            }
            count += 1;
        }
    }
    assert!(count >= 12, "{count} configs");
    let said = succeed(&mut unmix(
        dir.path(),
        &["config", "show", "--config", common::binary::smoke().to_str().unwrap(), "--set", "seed=77"],
    ));
    let shown: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(shown["seed"], 77);
    assert!(shown["optim"]["momentum"].is_number());
}
