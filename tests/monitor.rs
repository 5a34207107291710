//! Watching a run, with the real binary: what is measured, that it changes nothing, and what a collapsed encoder is told.

mod common;

use std::path::{Path, PathBuf};

use common::binary::{events, json, pretrain, same_tensors, succeed, unmix};
use serde_json::Value;

/// A short run: 64 training and 40 test images, 4 steps an epoch, 4 epochs, kNN with 5 neighbours.
const CONFIG: &str = r#"{
    "data": {"source": {"name": "synthetic", "count": 64, "test_count": 40, "height": 16, "width": 16}, "batch": 16},
    "views": {"crop": {"size": 16}},
    "mixture": {"name": "im"},
    "method": {"name": "moco", "memory": {"size": 64}},
    "model": {"width": 0.125, "stem_channels": 8, "bn_splits": 2},
    "schedule": {"epochs": 4, "kind": "constant"},
    "eval": {"knn": {"k": 5}, "monitor": {"every_epochs": 1}},
    "device": "cpu"
}"#;

/// Decay that leaves nothing of the weights in a few steps: every image has the same embedding.
const COLLAPSE: [&str; 4] = ["--set", "optim.weight_decay=5", "--set", "optim.lr=0.1"];

/// What ends a run in the middle of its third epoch.
const CUT: [&str; 4] = ["--set", "schedule.steps=10", "--set", "schedule.epochs=null"];

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("c.json"), CONFIG).unwrap();
        Self(dir)
    }

    fn run(&self, out: &str, settings: &[&str]) -> PathBuf {
        let args = ["pretrain", "--config", "c.json", "--quiet", "--out", out];
        succeed(unmix(self.0.path(), &args).args(settings));
        self.0.path().join(out)
    }

    /// The same run in two halves.
    fn halves(&self, out: &str, settings: &[&str]) -> PathBuf {
        self.run(out, &[settings, &CUT].concat());
        self.run(out, &[settings, &["--resume", "auto"]].concat())
    }
}

/// The records that monitors leave, without the seconds they took.
fn watched(run: &Path) -> Vec<Value> {
    let records = ["monitor", "knn", "warning"].iter().flat_map(|event| events(run, event)).map(|mut record| {
        record.as_object_mut().unwrap().remove("wall_s");
        record
    });
    // A resumed run also warns of the keys that differ.
    records.filter(|record| record["event"] != "warning" || is_collapse(record)).collect()
}

fn is_collapse(record: &Value) -> bool {
    record["message"].as_str().is_some_and(|message| message.contains("collapsed"))
}

fn collapses(run: &Path) -> Vec<Value> {
    events(run, "warning").into_iter().filter(is_collapse).collect()
}

fn kinds(run: &Path) -> Vec<String> {
    let lines = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn monitors_change_nothing_and_go_on_after_a_resume() {
    let folder = Folder::new();
    let whole = folder.run("whole", &[]);
    let off = folder.run("off", &["--set", "eval.monitor.every_epochs=null"]);
    same_tensors(&whole, &off);
    assert!(watched(&off).is_empty());
    let cut = folder.halves("cut", &[]);
    same_tensors(&whole, &cut);
    assert_eq!(watched(&whole), watched(&cut));
    assert_eq!(json(&whole.join("summary.json"))["knn"], json(&cut.join("summary.json"))["knn"]);
    let state = |run: &Path| {
        let state = json(&run.join("checkpoint/state.json"));
        (state["best"].clone(), state["collapsed"].clone())
    };
    assert_eq!(state(&whole), state(&cut));
}

#[test]
fn every_monitored_epoch_is_measured_in_order() {
    let folder = Folder::new();
    let run = folder.run("run", &["--set", "eval.monitor.every_epochs=2", "--set", "eval.monitor.images=30"]);
    let (monitors, knn) = (events(&run, "monitor"), events(&run, "knn"));
    assert_eq!(
        monitors.iter().map(|m| (m["epoch"].as_u64(), m["step"].as_u64())).collect::<Vec<_>>(),
        [(Some(2), Some(8)), (Some(4), Some(16))]
    );
    for monitor in &monitors {
        let number = |key: &str| monitor[key].as_f64().unwrap_or_else(|| panic!("no {key} in {monitor}"));
        assert_eq!(number("images"), 30.0);
        assert!((0.0..=128f64.powf(-0.5) + 1e-6).contains(&number("feature_std")));
        assert!((1.0..30.1).contains(&number("rankme")) && (1.0..30.1).contains(&number("rankme_features")));
        assert!((1.0..30.0).contains(&number("lidar")), "30 images differ in at most 29 directions: {monitor}");
        assert!((0.0..4.0).contains(&number("alignment")) && (-8.0..0.0).contains(&number("uniformity")));
        assert!(number("wall_s") > 0.0);
    }
    let kinds = kinds(&run);
    let around: Vec<&[String]> = kinds.windows(4).filter(|window| window[1] == "monitor").collect();
    assert_eq!(around, [["epoch", "monitor", "knn", "checkpoint"]; 2], "{kinds:?}");

    let best = knn.iter().map(|k| k["top1"].as_f64().unwrap()).fold(0.0, f64::max);
    assert_eq!(knn[1]["best"].as_f64().unwrap(), best);
    assert_eq!((knn[0]["protocol"].as_str(), knn[0]["k"].as_u64()), (Some("knn"), Some(5)));
    let summary = &json(&run.join("summary.json"))["knn"];
    // One unit in both files, and the digits of a percentage of few images.
    assert_eq!((summary["best_top1"].as_f64(), &summary["top1"]), (Some(best), &knn[1]["top1"]));
    assert!(knn.iter().all(|event| event["unit"] == "percent" && event["top1"].to_string().len() < 7), "{knn:?}");
    let first_best = knn.iter().find(|k| k["top1"].as_f64() == Some(best)).unwrap();
    assert_eq!(summary["best_epoch"], first_best["epoch"]);
}

/// The probe that is made while a run trains: in the event, in the summary, with kNN and without it, of all images and of some.
#[test]
fn a_linear_probe_is_monitored_and_changes_nothing() {
    let folder = Folder::new();
    let linear = ["--set", "eval.monitor.linear=true", "--set", "eval.monitor.every_epochs=2"];
    let whole = folder.run("whole", &linear);
    same_tensors(&whole, &folder.run("off", &["--set", "eval.monitor.every_epochs=2"]));
    let cut = folder.halves("cut", &linear);
    assert_eq!(watched(&whole), watched(&cut));
    let probes = |run: &Path| events(run, "monitor").iter().map(|monitor| monitor["linear"].clone()).collect::<Vec<_>>();
    let found = probes(&whole);
    assert_eq!((found.len(), events(&whole, "knn").len()), (2, 2));
    for probe in &found {
        assert_eq!((&probe["protocol"], &probe["layer"], &probe["images"]), (&"linear-htdt".into(), &6.into(), &64.into()));
        let [top1, top5] = ["top1", "top5"].map(|key| probe[key].as_f64().unwrap());
        // The synthetic classes are told apart by far more than chance (10 %), even by an encoder that has hardly learnt.
        assert!(top1 > 20.0 && top1 <= top5 && top5 <= 100.0, "{probe}");
    }
    let summary = |run: &Path| json(&run.join("summary.json"))["linear"].clone();
    let expected = summary(&whole);
    let best = found.iter().map(|probe| probe["top1"].as_f64().unwrap()).fold(0.0, f64::max);
    assert_eq!((&expected["top1"], expected["best_top1"].as_f64()), (&found[1]["top1"], Some(best)));
    assert_eq!(expected["best_epoch"].as_u64(), if found[0]["top1"].as_f64() == Some(best) { Some(2) } else { Some(4) });
    assert_eq!(summary(&cut), expected);

    let alone = folder.run("alone", &[&linear[..], &["--set", "eval.monitor.knn=false"]].concat());
    assert!(events(&alone, "knn").is_empty() && probes(&alone) == found, "the same features without kNN");
    let some = folder.run("some", &[&linear[..], &["--set", "eval.monitor.linear_images=20"]].concat());
    assert!(probes(&some).iter().all(|probe| probe["images"] == 20) && probes(&some) != found);
    // The epochs that are watched need not be the last one: the summary's probe is of the trained encoder all the same.
    let odd = folder.run("odd", &["--set", "eval.monitor.linear=true", "--set", "eval.monitor.every_epochs=3"]);
    assert_eq!((probes(&odd).len(), &summary(&odd)["top1"]), (1, &expected["top1"]));
}

#[test]
fn a_collapse_is_told_once_also_over_a_resume() {
    let folder = Folder::new();
    let whole = folder.run("whole", &COLLAPSE);
    let told = collapses(&whole);
    assert_eq!(told.len(), 1, "{told:?} {:?}", events(&whole, "monitor"));
    let message = told[0]["message"].as_str().unwrap();
    for part in ["% of an isotropic spread", "effective rank", "optim.lr", "method.temperature", "model.bn_splits"] {
        assert!(message.contains(part), "no `{part}` in {message}");
    }
    assert!(events(&whole, "monitor").len() == 4, "a warning ends nothing");
    assert_eq!(watched(&whole), watched(&folder.halves("cut", &COLLAPSE)));
}

#[test]
fn a_healthy_run_is_left_in_peace() {
    let dir = tempfile::tempdir().unwrap();
    succeed(&mut pretrain(dir.path(), &["--out", "run", "--quiet", "--set", "eval.monitor.every_epochs=1"]));
    let run = dir.path().join("run");
    assert_eq!((events(&run, "monitor").len(), events(&run, "knn").len()), (2, 2));
    assert!(collapses(&run).is_empty(), "{:?}", events(&run, "monitor"));
}

/// No classes: all but kNN, on the training images, since a test split may not exist.
#[test]
fn images_without_labels_are_monitored_without_knn() {
    let folder = Folder::new();
    let images = folder.0.path().join("images");
    std::fs::create_dir(&images).unwrap();
    for i in 0..32u8 {
        let pixel = |x: u32, y: u32| image::Rgb([x as u8 * i, y as u8 * 7, i * 8]);
        image::RgbImage::from_fn(20, 18, pixel).save(images.join(format!("{i}.png"))).unwrap();
    }
    let settings = [r#"data.source={"name":"folder","root":"images"}"#, "schedule.epochs=1", "eval.monitor.linear=true"];
    let run = folder.run("run", &settings.iter().flat_map(|setting| ["--set", *setting]).collect::<Vec<_>>());
    let monitors = events(&run, "monitor");
    assert_eq!((monitors.len(), monitors[0]["images"].as_u64()), (1, Some(32)));
    let summary = json(&run.join("summary.json"));
    assert!(events(&run, "knn").is_empty() && summary["knn"].is_null());
    assert!(monitors[0]["linear"].is_null() && summary["linear"].is_null());
}

/// Both halves of CMC's embedding side by side, and InsDis with its one view in training.
#[test]
fn every_method_is_monitored() {
    let folder = Folder::new();
    for (name, settings) in [("insdis", &[][..]), ("cmc", &["--set", "views.color_space=lab"])] {
        let method = format!(r#"method={{"name":"{name}","negatives":33}}"#);
        let run = folder.run(name, &[&["--set", &method, "--set", "schedule.epochs=1"], settings].concat());
        let monitors = events(&run, "monitor");
        assert!(monitors.len() == 1 && monitors[0]["alignment"].is_number(), "{name}: {monitors:?}");
        assert_eq!(events(&run, "knn").len(), 1, "{name}");
    }
}

#[test]
fn impossible_monitors_are_refused() {
    let folder = Folder::new();
    for (settings, fact) in [
        (&["eval.monitor.every_epochs=0"][..], "null for never"),
        (&["eval.monitor.images=1"], "at least 2"),
        (&["eval.monitor.linear=true", "eval.monitor.linear_images=1"], "`eval.monitor.linear_images` is 1, must be at least 2"),
        (&["eval.monitor.linear_images=9"], "`eval.monitor.linear_images` is set, but `eval.monitor.linear` = false"),
        (&["eval.monitor.linear=true", "eval.enabled=false"], "`eval.monitor.linear` is set, but `eval.enabled` = false"),
        (&["eval.monitor.linear=true", "eval.monitor.every_epochs=null"], "`eval.monitor.linear` is set, but"),
    ] {
        let mut command = unmix(folder.0.path(), &["pretrain", "--config", "c.json"]);
        command.args(settings.iter().flat_map(|setting| ["--set", *setting]));
        common::binary::refuse(&mut command, fact, "config schema");
    }
}
