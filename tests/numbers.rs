//! No number says what it is not: diverged encoders, unreadable and repeated images, sizes beyond the machine, names of formats, runs of
//! older versions.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::binary::{events, json, pretrain, refuse, succeed, text, unmix};
use serde_json::{Value, json};

/// A run of few steps on made-up images, small enough for a second.
fn run(dir: &Path, name: &str, settings: &[&str]) -> std::path::PathBuf {
    succeed(&mut command(dir, name, settings));
    dir.join(name)
}

fn command(dir: &Path, name: &str, settings: &[&str]) -> Command {
    let source = r#"data.source={"name":"synthetic","count":48,"test_count":20,"classes":2,"height":16,"width":16}"#;
    let small =
        ["data.batch=16", "method.memory.size=16", "views.crop.size=16", "eval.knn.k=5", "log.preview=0", "data.limit=null"];
    let mut command =
        pretrain(dir, &["--out", name, "--set", source, "--set", "schedule.steps=null", "--set", "schedule.epochs=2"]);
    for setting in small.iter().chain(settings) {
        command.args(["--set", setting]);
    }
    command
}

fn warnings(run: &Path) -> Vec<String> {
    events(run, "warning").iter().map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

fn eval(dir: &Path, args: &[&str]) -> Command {
    unmix(dir, &[&["eval"], args, &["--run", "run"]].concat())
}

/// The loss stays finite, since a training forward normalises by the batch; the features do not, and in the end the weights are beyond all bounds:
/// such a state is not saved.
#[test]
fn a_diverged_run_is_warned_of_and_not_saved() {
    let dir = tempfile::tempdir().unwrap();
    let settings = ["optim.lr=1e5", "schedule.epochs=4", "eval.monitor.every_epochs=1", "checkpoint.every_epochs=null"];
    // On the path `flex` such a net has no finite gradient soon, and the run ends before it is saved at all.
    let early = command(dir.path(), "early", &settings).output().unwrap();
    assert_eq!(early.status.code(), Some(1), "{}", common::binary::text(&early));
    assert!(!dir.path().join("early/checkpoint").exists() && !dir.path().join("early/summary.json").exists());
    // On the path `tensor` its loss stays finite to the end.
    let output = command(dir.path(), "run", &[&settings[..], &["kernels.net=tensor"]].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", common::binary::text(&output));
    let run = dir.path().join("run");
    let said = warnings(&run);
    assert!(said.iter().any(|line| line.starts_with("features are not finite")), "{said:?}");
    assert!(said.iter().any(|line| line.starts_with("no kNN: the features of layer")), "{said:?}");
    let last = events(&run, "monitor").pop().unwrap();
    assert!(["feature_std", "rankme", "lidar", "alignment", "uniformity"].into_iter().all(|key| last[key].is_null()), "{last}");
    assert!(common::binary::text(&output).contains("the state was not saved"), "{}", common::binary::text(&output));
    assert!(!run.join("checkpoint").exists() && !run.join("summary.json").exists());
}

/// Weights that are finite, each of them, and whose products are not.
#[test]
fn features_that_are_not_finite_are_no_accuracy() {
    use burn::tensor::TensorData;
    let dir = tempfile::tempdir().unwrap();
    let run = run(dir.path(), "run", &[]);
    // As a program before manifests would have left it.
    let checkpoint = run.join("checkpoint");
    fs::remove_file(checkpoint.join("manifest.json")).unwrap();
    let mut state = json(&checkpoint.join("state.json"));
    state["format"] = 2.into();
    fs::write(checkpoint.join("state.json"), state.to_string()).unwrap();
    let tensors = checkpoint.join("tensors.safetensors");
    let mut values = unmix::model::tensors::read_tensors(&tensors).unwrap();
    for (_, data) in values.iter_mut().filter(|(name, _)| name.contains("conv")) {
        let large: Vec<f32> = data.try_to_vec::<f32>().unwrap().into_iter().map(|value| 1e13 * value).collect();
        *data = TensorData::new(large, data.shape().to_vec());
    }
    unmix::model::tensors::write_tensors(&tensors, &values).unwrap();
    // Fine-tuning is a training of its own: it normalises by the batch.
    for args in [&["knn"][..], &["flatness"], &["map"], &["linear", "--fast"], &["features", "--features", "x.csv"]] {
        refuse(&mut eval(dir.path(), args), "", "diverged");
    }
    assert!(!dir.path().join("x.csv").exists());
    let found = fs::read_dir(run.join("eval"))
        .map_or(0, |folder| folder.filter(|f| f.as_ref().unwrap().path().extension().is_some_and(|e| e == "json")).count());
    assert_eq!(found, 0, "an evaluation left a record");
    // A value that is not finite is refused where it is read.
    let name = "query.bn1.weight";
    let mut spoilt = values[name].try_to_vec::<f32>().unwrap();
    spoilt[0] = f32::NAN;
    values.insert(name.to_owned(), TensorData::new(spoilt, values[name].shape().to_vec()));
    unmix::model::tensors::write_tensors(&tensors, &values).unwrap();
    refuse(&mut unmix(dir.path(), &["export", "--run", "run", "--out", "x.safetensors"]), "cannot be used", "diverged");
    assert!(!dir.path().join("x.safetensors").exists());
}

/// Pictures of one colour per class and number.
fn pictures(root: &Path, split: &str, classes: &[&str], count: u8) {
    for (c, class) in classes.iter().enumerate() {
        let folder = root.join(split).join(class);
        fs::create_dir_all(&folder).unwrap();
        for i in 0..count {
            let shade = [c as u8 * 90 + i, 40 + i * 3, 200 - c as u8 * 60];
            image::RgbImage::from_fn(16, 16, |x, y| image::Rgb(shade.map(|v| v ^ (x * y) as u8)))
                .save(folder.join(format!("{i}.png")))
                .unwrap();
        }
    }
}

/// Its neighbour would be scored twice, with its own label.
#[test]
fn an_unreadable_test_image_is_left_out_named_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    pictures(&root, "train", &["a", "b"], 24);
    pictures(&root, "test", &["a", "b"], 10);
    fs::write(root.join("test/a/4.png"), "").unwrap();
    fs::write(root.join("train/b/23.png"), "no image").unwrap();
    let source = format!("data.source={}", json!({"name": "folder", "root": root}));
    let run = run(dir.path(), "run", &[&source, "data.max_broken=0.2", "eval.monitor.every_epochs=1"]);
    let knn = &json(&run.join("summary.json"))["knn"];
    assert_eq!((&knn["bank"], &knn["queries"]), (&json!(47), &json!(19)), "{knn}");
    let names: Vec<&str> = knn["unreadable"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.len() == 2 && names[0].ends_with("b/23.png") && names[1].ends_with("a/4.png"), "{names:?}");
    let said = warnings(&run);
    assert!(said.iter().any(|line| line.contains("2 images could not be read") && line.contains("a/4.png")), "{said:?}");
    let output = succeed(&mut eval(dir.path(), &["knn", "--json"]));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let result = &result["results"][0]["result"];
    assert_eq!((&result["bank"], &result["queries"], &result["broken_images"]), (&json!(47), &json!(19), &json!(2)));
    // Nineteen queries: whole nineteenths.
    let hits = result["top1"].as_f64().unwrap() * 19.0 / 100.0;
    assert!((hits - hits.round()).abs() < 1e-9, "{result}");
    let lines = || fs::read_to_string(dir.path().join("f.csv")).unwrap();
    succeed(&mut eval(dir.path(), &["features", "--features", "f.csv"]));
    assert!(lines().lines().count() == 1 + 47 + 19 && !lines().contains("test/a/4.png") && lines().contains("test/a/5.png"));
}

/// Without labels there is no kNN, and the monitor alone meets the image.
#[test]
fn a_monitor_names_what_it_could_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    pictures(dir.path(), "data", &[""], 32);
    fs::write(root.join("5.png"), "").unwrap();
    let source = format!("data.source={}", json!({"name": "folder", "root": root}));
    let run = run(dir.path(), "run", &[&source, "data.max_broken=0.2", "eval.monitor.every_epochs=1", "eval.monitor.images=100"]);
    assert!(warnings(&run).iter().any(|line| line.contains("1 image could not be read and is left out")), "{:?}", warnings(&run));
    assert!(events(&run, "monitor").iter().all(|event| event["images"] == 31));
}

#[test]
fn test_images_that_are_the_training_images_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    pictures(&root, "train", &["a", "b"], 16);
    pictures(&root, "test", &["a", "b"], 8);
    run(dir.path(), "run", &[&format!("data.source={}", json!({"name": "folder", "root": root}))]);
    let twice = json!({"name": "folder", "root": root, "train": "train", "test": "train"}).to_string();
    // A copy is as bad as the folder itself.
    pictures(&dir.path().join("copy"), "train", &["a", "b"], 16);
    let copied =
        json!({"name": "folder", "root": ".", "train": root.join("train"), "test": dir.path().join("copy/train")}).to_string();
    for data in [&twice, &copied] {
        let said = text(&eval(dir.path(), &["knn", "--data", data]).output().unwrap());
        assert!(said.contains("the test images are the training images") || said.contains("error:"), "{data}: {said}");
    }
    let said = text(&succeed(&mut eval(dir.path(), &["knn"])));
    assert!(!said.contains("warning"), "{said}");
}

/// Before a folder is made: what would abort the process afterwards.
#[test]
fn sizes_that_no_machine_has_are_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    for (settings, fact, hint) in [
        (vec!["method.memory.size=18446744073709551615"], "`method.memory.size` is 18446744073709551615, must be at most", ""),
        (vec!["method.memory.size=100000000000"], "must be at most", ""),
        (vec!["model.head.dim=1000000000000"], "`model.head.dim` is", ""),
        (vec!["model.stem_channels=1000000000000"], "`model.stem_channels` is", ""),
        (vec!["method={\"name\":\"insdis\",\"negatives\":1000000000000}"], "`method.negatives` is", ""),
        (vec!["method.memory.size=16777216", "model.head.dim=65536"], "the run needs at least", "method.memory.size"),
        (
            vec!["model.stem_channels=16384", "model.width=16", "model.head.dim=65536", "views.crop.size=4096"],
            "the run needs at least",
            "model",
        ),
    ] {
        let said = refuse(&mut command(dir.path(), "run", &settings), fact, hint);
        assert!(!dir.path().join("run").exists(), "{settings:?} left a folder: {said}");
    }
}

#[test]
fn a_queue_that_outlasts_the_data_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let run = run(dir.path(), "run", &["method.memory.size=4096", "eval.enabled=false"]);
    assert!(warnings(&run)[0].contains("`method.memory.size` is 4096, but the dataset has only 48 images"));
}

/// What NCE compares with a constant is no probability, and is not called one.
#[test]
fn only_a_probability_is_called_one() {
    let dir = tempfile::tempdir().unwrap();
    let settings = ["method.loss=nce", "eval.enabled=false", "log.every_steps=1"];
    let output = succeed(&mut command(dir.path(), "run", &settings));
    let step = events(&dir.path().join("run"), "step").pop().unwrap();
    assert!(step["positive_score"].is_number() && step.get("positive_prob").is_none(), "{step}");
    let said = text(&output);
    assert!(said.contains("score ") && !said.contains("pos "), "{said}");
}

#[test]
fn the_ending_of_a_file_is_its_format_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), "run", &["eval.enabled=false"]);
    for (out, hint) in
        [("x.onnx", "torch.onnx.export"), ("x.pth", "torch.save"), ("x", ".safetensors"), ("x.safetensor", ".safetensors")]
    {
        refuse(&mut unmix(dir.path(), &["export", "--run", "run", "--out", out]), out, hint);
        assert!(!dir.path().join(out).exists());
    }
    refuse(&mut eval(dir.path(), &["features", "--features", "x.parquet"]), "x.parquet", ".safetensors, .csv or .npy");
    succeed(&mut eval(dir.path(), &["features", "--features", "x.npy"]));
    for (file, values) in [("x.train.npy", 48 * 64), ("x.train-labels.npy", 48), ("x.test.npy", 20 * 64), ("x.test-labels.npy", 20)]
    {
        let bytes = fs::read(dir.path().join(file)).unwrap();
        assert!(bytes.starts_with(b"\x93NUMPY") && (bytes.len() - 4 * values).is_multiple_of(64), "{file}: {} bytes", bytes.len());
    }
}

/// A run that an older version saved, with keys that are refused today.
#[test]
fn a_saved_run_with_keys_of_an_older_version_is_evaluated_and_not_trained() {
    let dir = tempfile::tempdir().unwrap();
    let run = run(dir.path(), "run", &[]);
    let mut config = json(&run.join("config.json"));
    (config["method"]["nce_z"], config["method"]["in_batch"], config["model"]["sync"]) = (json!("ema"), json!(true), json!(1));
    config["optim"]["dampening"] = json!(0.5);
    fs::write(run.join("config.json"), config.to_string()).unwrap();
    for mut command in [eval(dir.path(), &["knn"]), unmix(dir.path(), &["export", "--run", "run", "--out", "x.safetensors"])] {
        let said = text(&succeed(&mut command));
        for key in ["method.nce_z", "method.in_batch", "model.sync", "optim.dampening"] {
            assert!(said.contains(key), "no {key} in {said}");
        }
        assert_eq!(said.matches("warning").count(), 1, "{said}");
    }
    succeed(&mut unmix(dir.path(), &["report", "run", "--out", "r.html"]));
    let config = run.join("config.json");
    let again = ["pretrain", "--config", config.to_str().unwrap(), "--out", "new"];
    refuse(&mut unmix(dir.path(), &again), "`method.nce_z`: unknown value", "config schema");
}

#[test]
fn all_files_are_checked_and_all_their_problems_told() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.json"), r#"{"schedule": {"epochs": 1}, "data": {"batch": "many"}, "optim": {"momentum": 3}}"#)
        .unwrap();
    fs::write(dir.path().join("b.json"), r#"{"schedule": {"epochs": 1}}"#).unwrap();
    fs::write(dir.path().join("c.json"), "{").unwrap();
    let output = unmix(dir.path(), &["config", "check", "a.json", "b.json", "c.json"]).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for part in
        ["`data.batch`: got the string", "`optim.momentum` is 3", "b.json: ok", "`c.json` is not valid JSON", "2 of 3 configs"]
    {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
}
