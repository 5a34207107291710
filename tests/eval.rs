//! `unmix eval` end to end: what it writes, and what it refuses.

mod common;

use std::path::{Path, PathBuf};

use common::binary::{json, pretrain, refuse, succeed, text, unmix};
use serde_json::Value;

/// A short run on synthetic images of 16x12 pixels.
fn run(dir: &Path) -> PathBuf {
    let source = r#"data.source={"name": "synthetic", "count": 96, "test_count": 40, "classes": 4, "height": 16, "width": 12}"#;
    succeed(&mut pretrain(dir, &["--out", "run", "--set", source, "--set", "schedule.steps=2", "--set", "schedule.epochs=null"]));
    dir.join("run")
}

fn eval(dir: &Path, args: &[&str]) -> std::process::Command {
    let mut command = unmix(dir, &["eval"]);
    command.args(args).args(["--device", "cpu"]);
    command
}

/// The results of a call with `--json`, and the same as files.
fn results(dir: &Path, args: &[&str], folder: &Path) -> Vec<Value> {
    let output = succeed(eval(dir, args).arg("--json"));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    let results = object["results"].as_array().unwrap().clone();
    for result in &results {
        let file = json(&folder.join(format!("{}.json", result["name"].as_str().unwrap())));
        assert_eq!(&file, result, "the file is what was printed");
        for key in ["format", "kind", "program", "commit", "device", "date", "wall_s"] {
            assert!(!result[key].is_null(), "{key} in {result}");
        }
        for key in ["method", "mixture", "model", "epochs", "step", "seed"] {
            let from_weights = result["subject"]["run"].is_null() && key != "model";
            assert_eq!(result["subject"][key].is_null(), from_weights, "{key} in {result}");
        }
        assert!(result["protocol"]["tag"].is_string() && result["protocol"]["layer"].is_u64());
        assert_eq!(result["data"]["test_images"], 40);
    }
    results
}

#[test]
fn a_result_travels_with_its_whole_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let folder = run(dir.path()).join("eval");
    let found =
        results(dir.path(), &["linear", "--run", "run", "--fast", "--layer", "2,6", "--lr", "0.1,1", "--epochs", "3"], &folder);
    assert_eq!(found.iter().map(|r| r["protocol"]["layer"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 6]);
    let [protocol, result] = [&found[0]["protocol"], &found[0]["result"]];
    assert_eq!(protocol["tag"], "linear-swav-cifar-modified");
    assert_eq!((&protocol["epochs"], &protocol["recipe"], &protocol["batch"]), (&3.into(), &"center".into(), &32.into()));
    assert_eq!(result["rates"].as_array().unwrap().len(), 2);
    assert!(result["top1_best"].as_f64() >= result["top1_last"].as_f64(), "{result}");
    assert_eq!((&result["cached"], result["curve"].as_array().unwrap().len()), (&true.into(), 3));

    let found = results(dir.path(), &["linear", "--run", "run", "--protocol", "moco", "--layer", "all", "--epochs", "1"], &folder);
    assert_eq!(found.len(), 7);
    assert_eq!(found[0]["result"]["cached"], false);

    let found =
        results(dir.path(), &["knn", "--run", "run", "--layer", "1,features,-1", "--k", "9", "--temperature", "0.2"], &folder);
    assert_eq!(found.len(), 3);
    assert_eq!((&found[2]["protocol"]["k"], &found[2]["protocol"]["temperature"]), (&9.into(), &0.2.into()));
    let per_class = found[2]["result"]["per_class"].as_array().unwrap();
    let mean = per_class.iter().map(|share| share.as_f64().unwrap()).sum::<f64>() / 4.0;
    // The classes have ten test images each.
    assert!(per_class.len() == 4 && (mean - found[2]["result"]["top1"].as_f64().unwrap()).abs() < 1e-9);

    let found = results(dir.path(), &["finetune", "--run", "run", "--labels", "25%", "--set", "eval.finetune.epochs=2"], &folder);
    assert_eq!((&found[0]["result"]["labels"], &found[0]["protocol"]["fraction"]), (&24.into(), &0.25.into()));
}

/// A published list: exactly its images, in the protocol and in the name of the file.
#[test]
fn labels_are_those_of_a_list() {
    let dir = tempfile::tempdir().unwrap();
    let folder = run(dir.path()).join("eval");
    let list = |lines: &str| std::fs::write(dir.path().join("ten percent.txt"), lines).unwrap();
    let args = ["finetune", "--run", "run", "--labels-file", "ten percent.txt", "--set", "eval.finetune.epochs=1"];
    // Images of records are named by their number.
    list("5\n80\n3\n17\n\n");
    let first = results(dir.path(), &args, &folder).remove(0);
    assert_eq!((&first["result"]["labels"], &first["protocol"]["labels_file"]), (&4.into(), &"ten percent.txt".into()));
    assert!(first["protocol"]["fraction"].is_null() && first["protocol"]["tag"] == "finetune-swav-modified");
    assert!(first["name"].as_str().unwrap().starts_with("finetune-swav-modified-ten-percent-"), "{first}");
    list("5\n80\n3\n18\n");
    let other = results(dir.path(), &args, &folder).remove(0);
    assert_ne!(first["name"], other["name"], "another list under the same name");

    list("5\n96\nn01440764_10043.JPEG\n");
    let text =
        refuse(&mut eval(dir.path(), &args), "2 of the 3 names in `ten percent.txt` are no training images", "this data set");
    assert!(text.contains("`96`, `n01440764_10043.JPEG`"), "{text}");
    refuse(eval(dir.path(), &args).args(["--set", "eval.finetune.fraction=0.5"]), "`eval.finetune.labels_file` names", "schema");
    let both = eval(dir.path(), &args).args(["--labels", "1%"]).output().unwrap();
    assert!(
        both.status.code() == Some(2) && common::binary::text(&both).contains("cannot be used with"),
        "{}",
        common::binary::text(&both)
    );
}

#[test]
fn exported_weights_and_other_images_are_evaluated() {
    let dir = tempfile::tempdir().unwrap();
    let folder = run(dir.path()).join("eval");
    let own = results(dir.path(), &["knn", "--run", "run", "--k", "20"], &folder);
    assert_eq!((&own[0]["data"]["transfer"], &own[0]["protocol"]["views"]["size"]), (&false.into(), &28.into()));
    succeed(unmix(dir.path(), &["export", "--run", "run", "--head", "keep", "--out", "w.safetensors"]).arg("--which").arg("query"));
    let config = json(&dir.path().join("run/config.json"));
    let source = config["data"]["source"].to_string();
    // The weights say what model they are; the images must be named.
    let weights = ["knn", "--weights", "w.safetensors", "--k", "20"];
    refuse(&mut eval(dir.path(), &weights), "come without images", "--data");
    let same = results(dir.path(), &[&weights[..], &["--data", &source]].concat(), &dir.path().join("w-eval"));
    assert_eq!(same[0]["result"]["top1"], own[0]["result"]["top1"]);
    assert_eq!(same[1]["result"]["per_class"], own[1]["result"]["per_class"]);

    succeed(&mut unmix(dir.path(), &["export", "--run", "run", "--out", "b.safetensors"]));
    let headless = ["knn", "--weights", "b.safetensors", "--k", "20", "--data", &source];
    assert_eq!(results(dir.path(), &headless, &dir.path().join("b-eval"))[0]["result"]["top1"], own[1]["result"]["top1"]);
    refuse(eval(dir.path(), &headless).args(["--layer", "7"]), "have no head", "6");

    let other = source.replace("\"count\":96", "\"count\":64");
    let transfer = results(dir.path(), &["knn", "--run", "run", "--k", "20", "--data", &other], &folder);
    assert_eq!((&transfer[0]["data"]["transfer"], &transfer[0]["data"]["train_images"]), (&true.into(), &64.into()));
    assert_ne!(transfer[0]["name"], own[0]["name"], "no result writes over another");
    let smaller = results(dir.path(), &["knn", "--run", "run", "--k", "20", "--set", "views.crop.size=16"], &folder);
    assert_ne!(smaller[0]["name"], own[0]["name"], "the views belong to the protocol");

    // The key encoder under the same file name, into the same folder.
    succeed(unmix(dir.path(), &["export", "--run", "run", "--head", "keep", "--out", "w.safetensors"]).arg("--which").arg("key"));
    let key = results(dir.path(), &[&weights[..], &["--data", &source]].concat(), &dir.path().join("w-eval"));
    assert!(key[0]["name"] != same[0]["name"] && key[0]["subject"]["digest"] != same[0]["subject"]["digest"]);
    assert!(key[0]["data"]["transfer"].is_null(), "what a file was trained on is not known");
    let wider = ["--config", "run/config.json", "--set", "model.width=0.25"];
    let text = refuse(eval(dir.path(), &weights).args(wider), "do not fit the model", "model.width");
    assert!(text.contains("layer1.0.conv1.weight") && text.contains('['), "{text}");
}

#[test]
fn what_is_said_of_pre_training_is_not_what_the_evaluation_sets() {
    let dir = tempfile::tempdir().unwrap();
    let folder = run(dir.path()).join("eval");
    let args = ["linear", "--run", "run", "--fast", "--epochs", "1", "--set", "seed=77", "--set", "mixture.name=none"];
    let found = results(dir.path(), &args, &folder);
    assert_eq!((&found[0]["subject"]["seed"], &found[0]["subject"]["mixture"]), (&1.into(), &"im".into()));
    assert_eq!(found[0]["protocol"]["seed"], 77);
}

#[test]
fn pairs_of_nets_and_all_layers_of_alexnet_are_evaluated() {
    let dir = tempfile::tempdir().unwrap();
    let source = r#"data.source={"name": "synthetic", "count": 40, "test_count": 16, "classes": 4, "height": 24, "width": 32}"#;
    let steps = ["--set", "schedule.steps=1", "--set", "data.batch=4", "--set", "eval.enabled=false", "--set", "model.bn_splits=1"];
    let cmc = [
        "--set",
        r#"method={"name": "cmc", "loss": "softmax", "negatives": 8}"#,
        "--set",
        "views.mean=null",
        "--set",
        "views.std=null",
    ];
    let small = ["--set", "views.crop.size=16", "--set", "views.recipe=cmc"];
    succeed(pretrain(dir.path(), &["--out", "pair", "--set", source]).args(steps).args(cmc).args(small));
    // The smoke config's width is a ResNet's key, which an AlexNet refuses.
    let alexnet =
        ["--set", r#"model={"name": "alexnet_half", "bn_splits": 1}"#, "--set", "views.crop.size=224", "--set", "views.recipe=cmc"];
    succeed(pretrain(dir.path(), &["--out", "alexnet", "--set", source]).args(steps).args(cmc).args(alexnet));
    for (run, layers) in [("pair", 7), ("alexnet", 8)] {
        let output =
            succeed(&mut eval(dir.path(), &["linear", "--run", run, "--fast", "--layer", "all", "--epochs", "1", "--json"]));
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        let results = object["results"].as_array().unwrap();
        assert_eq!((results.len(), &results[0]["protocol"]["tag"]), (layers, &"linear-v1-modified".into()), "{run}");
        assert_eq!(results[0]["protocol"]["lr"][0], if run == "pair" { 30.0 } else { 0.1 });
        succeed(&mut eval(dir.path(), &["knn", "--run", run, "--layer", "5"]));
        // A name means the same in both, whatever its number.
        let output = succeed(&mut eval(dir.path(), &["knn", "--run", run, "--layer", "embedding,-2", "--json"]));
        let results = &serde_json::from_slice::<Value>(&output.stdout).unwrap()["results"];
        for (at, (layer, name)) in [(layers, "embedding"), (layers - 1, "features")].into_iter().enumerate() {
            let protocol = &results[at]["protocol"];
            assert_eq!((&protocol["layer"], &protocol["layer_name"]), (&layer.into(), &name.into()), "{run}");
        }
        succeed(&mut eval(dir.path(), &["finetune", "--run", run, "--labels", "0.2", "--set", "eval.finetune.epochs=1"]));
        succeed(&mut eval(dir.path(), &["flatness", "--run", run]));
    }
    let file = dir.path().join("pair/checkpoint/tensors.safetensors");
    let args = ["knn", "--weights", file.to_str().unwrap(), "--config", "pair/config.json"];
    refuse(&mut eval(dir.path(), &args), "CMC has two", "--run");
}

#[cfg(unix)]
#[test]
fn an_interrupted_evaluation_saves_its_state() {
    let dir = tempfile::tempdir().unwrap();
    let folder = run(dir.path()).join("eval");
    let endless = ["linear", "--run", "run", "--fast", "--epochs", "50000000"];
    let states = || {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".state")).count()
    };
    let child =
        eval(dir.path(), &endless).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(3));
    // SAFETY: a signal to a child that was started here and not yet waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert!(text(&output).contains("the same command goes on from there"), "{}", text(&output));
    assert_eq!(states(), 1);
    // A finished evaluation leaves no state behind, and does not touch another's.
    results(dir.path(), &["linear", "--run", "run", "--fast", "--epochs", "2", "--restart"], &folder);
    assert_eq!(states(), 1);
}

#[test]
fn images_that_cannot_be_read_are_told() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path());
    for split in ["train", "test"] {
        for class in ["a", "b"] {
            images(&dir.path().join("animals").join(split).join(class), &["1.png", "2.png", "3.png"]);
        }
    }
    std::fs::write(dir.path().join("animals/test/a/2.png"), "no image").unwrap();
    let args = ["--run", "run", "--data", "animals", "--set", "data.max_broken=0.5", "--json"];
    for kind in [&["knn"][..], &["linear", "--fast", "--epochs", "1"], &["finetune", "--labels", "1"]] {
        let output = succeed(eval(dir.path(), kind).args(args));
        assert!(
            text(&output).contains("warning: 1 image could not be read and is left out: `animals/test/a/2.png`"),
            "{}",
            text(&output)
        );
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        let result = &object["results"][0]["result"];
        assert_eq!((&result["broken_images"], &result["unreadable"]), (&1.into(), &serde_json::json!(["animals/test/a/2.png"])));
    }
}

#[test]
fn flatness_and_map_are_written_with_their_thumbnails() {
    let dir = tempfile::tempdir().unwrap();
    let folder = run(dir.path()).join("eval");
    let flat = &results(dir.path(), &["flatness", "--run", "run"], &folder)[0]["result"];
    let sorted: Vec<f64> = flat["mean_sorted"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
    assert!(sorted.len() == 64 && sorted.is_sorted_by(|a, b| a >= b) && (sorted.iter().sum::<f64>() - 1.0).abs() < 1e-6);
    assert!(
        flat["entropy"].as_f64().unwrap() <= flat["entropy_max"].as_f64().unwrap()
            && flat["largest"].as_f64().unwrap() >= sorted[0] - 1e-9
    );
    let map = &results(dir.path(), &["map", "--run", "run", "--images", "20"], &folder)[0]["result"];
    assert_eq!((map["pca"].as_array().unwrap().len(), map["tsne"].as_array().unwrap().len()), (20, 20));
    let labels: Vec<u64> = map["labels"].as_array().unwrap().iter().map(|label| label.as_u64().unwrap()).collect();
    assert!((0..4).all(|class| labels.iter().filter(|&&label| label == class).count() == 5), "{labels:?}");
    let atlas = image::open(folder.join(map["thumbnails"].as_str().unwrap())).unwrap();
    assert_eq!((atlas.width() / 32, atlas.height() / 32), (40, 1), "40 places in a row");

    // A report makes what is missing, once.
    std::fs::remove_dir_all(&folder).unwrap();
    let output = succeed(&mut unmix(dir.path(), &["report", "run", "--device", "cpu", "--out", "report.html"]));
    assert!(text(&output).contains("evaluating (knn, flatness, weights, map)"), "{}", text(&output));
    let output = succeed(&mut unmix(dir.path(), &["report", "run", "--device", "cpu", "--out", "report.html"]));
    assert!(!text(&output).contains("evaluating"), "{}", text(&output));
}

/// Each image by itself: the mean over a split of one image is that image's.
#[test]
fn flatness_of_single_images_is_that_of_a_split_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let folder = run(dir.path()).join("eval");
    let one = |split: &str| {
        images(&dir.path().join("one").join(split).join("a"), &["x.png"]);
        images(&dir.path().join("one").join(split).join("b"), &[]);
    };
    ["train", "test"].into_iter().for_each(one);
    images(dir.path(), &["x.png", "y.png"]);
    let json_of = |args: &[&str]| {
        let output = succeed(eval(dir.path(), &[&["flatness", "--run", "run"], args].concat()).arg("--json"));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["results"][0].clone()
    };
    let record = json_of(&["--image", "x.png", "y.png"]);
    assert_eq!((&record["kind"], &record["protocol"]["layer"]), (&"flatness_image".into(), &6.into()));
    assert_eq!(json(&folder.join(format!("{}.json", record["name"].as_str().unwrap()))), record);
    let found = record["result"]["images"].as_array().unwrap();
    assert_eq!(found.iter().map(|image| image["name"].as_str().unwrap()).collect::<Vec<_>>(), ["x.png", "y.png"]);
    assert_ne!(found[0]["mean_sorted"], found[1]["mean_sorted"]);
    // A product of matrices may round differently for another number of rows.
    let mean = &json_of(&["--data", "one"])["result"];
    for key in ["entropy", "largest", "entropy_max"] {
        let [a, b] = [mean, &found[0]].map(|of| of[key].as_f64().unwrap());
        assert!((a - b).abs() < 1e-5, "{key}: {a} {b}");
    }
    assert_eq!(mean["images"], 1);
    let said = text(&succeed(&mut eval(dir.path(), &["flatness", "--run", "run", "--image", "y.png"])));
    assert!(said.contains("y.png: softmax over the 64 pooled features: entropy ") && !said.contains("x.png"), "{said}");
    // Another image under the same name is another result.
    std::fs::copy(dir.path().join("x.png"), dir.path().join("y.png")).unwrap();
    assert_ne!(json_of(&["--image", "x.png", "y.png"])["name"], record["name"]);
    std::fs::write(dir.path().join("z.png"), "no image").unwrap();
    for (file, fact, hint) in [("z.png", "`z.png` is no image", "PNG"), ("absent.png", "absent.png", "check the path")] {
        refuse(&mut eval(dir.path(), &["flatness", "--run", "run", "--image", "x.png", file]), fact, hint);
    }
}

/// Trained beside untrained: of a run whose rate moves nothing both are the same, which only the right initial weights are.
#[test]
fn weights_are_shown_by_layer_beside_the_untrained_ones() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path());
    let steps = ["--set", "schedule.steps=1", "--set", "schedule.epochs=null", "--set", "eval.enabled=false"];
    succeed(pretrain(dir.path(), &["--out", "still", "--set", "optim.lr=1e-30"]).args(steps));
    let layers = |args: &[&str]| {
        let output = succeed(eval(dir.path(), &[&["weights"], args].concat()).arg("--json"));
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&object["results"][0]["kind"], &object["results"][0]["protocol"]["bins"]), (&"weights".into(), &64.into()));
        object["results"][0]["result"]["layers"].as_array().unwrap().clone()
    };
    let (moved, still) = (layers(&["--run", "run"]), layers(&["--run", "still", "--set", "seed=99"]));
    let names: Vec<&str> = moved.iter().map(|layer| layer["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["conv1", "layer1", "layer2", "layer3", "layer4", "fc"]);
    assert!(
        moved
            .iter()
            .all(|layer| layer["trained"] != layer["untrained"] && layer["untrained"]["count"] == layer["trained"]["count"])
    );
    assert!(still.iter().all(|layer| layer["trained"] == layer["untrained"]), "{still:?}");
    let output = succeed(&mut eval(dir.path(), &["weights", "--run", "run"]));
    assert!(text(&output).contains("layer4: ") && text(&output).contains(" untrained)"), "{}", text(&output));
    // A file of weights does not say where they began.
    succeed(&mut unmix(dir.path(), &["export", "--run", "run", "--head", "keep", "--out", "w.safetensors"]));
    let source = json(&dir.path().join("run/config.json"))["data"]["source"].to_string();
    assert!(layers(&["--weights", "w.safetensors", "--data", &source]).iter().all(|layer| layer["untrained"].is_null()));
}

#[test]
fn features_are_written_in_the_order_of_the_data() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path());
    succeed(&mut eval(dir.path(), &["features", "--run", "run", "--layer", "5", "--features", "f.safetensors"]));
    let bytes = std::fs::read(dir.path().join("f.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let labels = file.tensor("train.labels").unwrap();
    let labels: Vec<f32> = labels.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(labels, (0..96).map(|i| (i % 4) as f32).collect::<Vec<_>>());
    assert_eq!((file.tensor("train.features").unwrap().shape()[0], file.tensor("test.features").unwrap().shape()[0]), (96, 40));
}

#[test]
fn what_cannot_be_evaluated_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = run(dir.path());
    let at = |args: &[&str]| eval(dir.path(), args);
    refuse(&mut at(&["linear", "--run", "nowhere"]), "`nowhere` holds no run", "unmix pretrain");
    let text_of = refuse(&mut at(&["linear", "--run", "run", "--set", "model.width=0.25"]), "do not fit the model", "model.width");
    assert!(text_of.contains("shape of layer1.0.conv1.weight: the file has ["), "{text_of}");
    refuse(&mut at(&["linear", "--run", "run", "--layer", "8"]), "has layers 1 to 7; 7 is the embedding", "config schema");
    refuse(&mut at(&["linear", "--run", "run", "--layer", "featurs"]), "no layer", "--layer 2,features");
    refuse(&mut at(&["knn", "--run", "run", "--layer", "0"]), "has layers 1 to 7", "7 is the embedding");
    refuse(&mut at(&["linear", "--run", "run", "--layer", "6,features"]), "6 (features) more than once", "config schema");
    refuse(&mut at(&["features", "--run", "run", "--features", "f", "--out", "o"]), "this writes none", "--features");
    refuse(&mut at(&["finetune", "--run", "run", "--labels", "some"]), "no share", "1%");
    refuse(&mut at(&["finetune", "--run", "run", "--labels", "0"]), "`eval.finetune.fraction` is 0", "schema");
    refuse(&mut at(&["knn", "--run", "run", "--data", "cifar11=/x"]), "no data set: `cifar11`", "cifar10");
    refuse(&mut at(&["knn", "--run", "run", "--data", "elsewhere"]), "no folder", "NAME=ROOT");

    // A run that was stopped before its first checkpoint.
    std::fs::remove_dir_all(run.join("checkpoint")).unwrap();
    refuse(&mut at(&["linear", "--run", "run"]), "state.json", "first checkpoint");
}

/// Writes small PNG files.
fn images(folder: &Path, names: &[&str]) {
    std::fs::create_dir_all(folder).unwrap();
    for (at, name) in names.iter().enumerate() {
        let image = image::RgbImage::from_fn(9, 8, |x, y| image::Rgb([(40 * x + at as u32) as u8, (30 * y) as u8, 99]));
        image.save(folder.join(name)).unwrap();
    }
}

#[test]
fn labels_must_be_there_and_agree() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path());
    let at = |kind: &str, data: &str| eval(dir.path(), &[kind, "--run", "run", "--data", data]);
    for split in ["train", "test"] {
        images(&dir.path().join("plain").join(split), &["a.png", "b.png"]);
    }
    for kind in ["knn", "linear", "finetune"] {
        refuse(&mut at(kind, "plain"), "needs a label for every image", "class folders");
    }
    for (split, classes) in [("train", ["cat", "dog"]), ("test", ["cat", "horse"])] {
        classes.iter().for_each(|class| images(&dir.path().join("animals").join(split).join(class), &["a.png", "b.png"]));
    }
    for kind in ["knn", "linear", "finetune"] {
        let text = refuse(&mut at(kind, "animals"), "do not match: 1 of the 2", "same names");
        assert!(text.contains("(horse)"), "{text}");
    }
    // A class without test images is none of these.
    std::fs::remove_dir_all(dir.path().join("animals/test/horse")).unwrap();
    let output = succeed(&mut at("knn", "animals"));
    assert!(text(&output).contains("top-1"));
}
