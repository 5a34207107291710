//! `unmix stats`, `export` and `import`, end to end.

mod common;

use std::fs;
use std::path::Path;

use common::binary::{pretrain, refuse, root, smoke, succeed, text, unmix};
use safetensors::{Dtype, SafeTensors};

fn stats(dir: &Path, args: &[&str]) -> std::process::Command {
    let mut command = unmix(dir, &["stats", "--config"]);
    command.arg(smoke()).args(args);
    command
}

/// Two images, one black and one of a single colour, so that the answer can be written down.
#[test]
fn statistics_of_known_pixels() {
    let dir = tempfile::tempdir().unwrap();
    for (name, colour) in [("a", [0, 0, 0]), ("b", [255, 102, 51])] {
        let class = dir.path().join("data/train").join(name);
        fs::create_dir_all(&class).unwrap();
        image::RgbImage::from_pixel(40, 40, image::Rgb(colour)).save(class.join("0.png")).unwrap();
    }
    let source = r#"data.source={"name":"folder","root":"data"}"#;
    let said = text(&succeed(&mut stats(dir.path(), &["--set", source])));
    let pasted = "--set views.mean=[0.500000,0.200000,0.100000] --set views.std=[0.500000,0.200000,0.100000]";
    assert!(said.starts_with(pasted) && said.contains("2 of 2 images at 28x28 in rgb, 0 broken"), "{said}");
    // The line is what another command takes.
    let mut again = stats(dir.path(), &["--set", source, "--json", "--set", "views.color_space=lab"]);
    let output = succeed(again.args(pasted.split(' ')));
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&object["images"], &object["color_space"]), (&2.into(), &"lab".into()));
    let of = |key: &str| object[key][0].as_f64().unwrap();
    assert!((of("mean") - of("std")).abs() < 1e-9, "half of it black: the lightness lies as far from its mean as that from 0");
}

#[test]
fn statistics_do_not_depend_on_the_workers() {
    let dir = tempfile::tempdir().unwrap();
    let of = |workers: &str| text(&succeed(&mut stats(dir.path(), &["--json", "--images", "300", "--set", workers])));
    assert_eq!(of("data.workers=1"), of("data.workers=3"));
    refuse(&mut stats(dir.path(), &["--images", "0"]), "--images is 0", "leave it away");
    fs::write(dir.path().join("broken.jpg"), b"no image").unwrap();
    image::RgbImage::new(30, 30).save(dir.path().join("whole.png")).unwrap();
    let half_broken = ["--set", r#"data.source={"name":"folder","root":"."}"#];
    refuse(&mut stats(dir.path(), &half_broken), "1 of 2 images cannot be read", "data.max_broken");
}

/// A run of two steps.
fn run(dir: &Path) {
    succeed(&mut pretrain(dir, &["--quiet", "--out", "run", "--set", "schedule.steps=2", "--set", "eval.enabled=false"]));
}

fn import(dir: &Path, weights: &str, args: &[&str]) -> std::process::Command {
    let mut command = unmix(dir, &["import", "--weights", weights, "--out", "in.safetensors", "--config"]);
    command.arg(smoke()).args(args);
    command
}

#[test]
fn an_encoder_leaves_and_comes_back_with_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path());
    let export = |args: &[&str]| unmix(dir.path(), &[&["export", "--run", "run", "--out", "out.safetensors"], args].concat());
    let said = text(&succeed(&mut export(&["--head", "keep"])));
    assert!(said.contains("tensors of `query` after step 2 in out.safetensors"), "{said}");
    let (kept, run) =
        (fs::read(dir.path().join("out.safetensors")).unwrap(), dir.path().join("run/checkpoint/tensors.safetensors"));
    let (out, run) = (SafeTensors::deserialize(&kept).unwrap(), fs::read(run).unwrap());
    let run = SafeTensors::deserialize(&run).unwrap();
    for (name, view) in out.iter() {
        match name.strip_suffix("num_batches_tracked") {
            None => assert_eq!(view.data(), run.tensor(&format!("query.{name}")).unwrap().data(), "{name}"),
            Some(_) => assert_eq!((view.dtype(), view.shape(), view.data()), (Dtype::I64, &[][..], &[0u8; 8][..]), "{name}"),
        }
    }
    let counters = out.names().iter().filter(|name| name.ends_with("num_batches_tracked")).count();
    assert_eq!(counters, out.names().iter().filter(|name| name.ends_with("running_mean")).count());
    let (_, header) = SafeTensors::read_metadata(&kept).unwrap();
    let about: serde_json::Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["unmix"]).unwrap();
    assert_eq!((&about["stem"], &about["image_size"], &about["step"]), (&"cifar".into(), &28.into(), &2.into()));
    assert_eq!(about["std"], serde_json::json!([0.354, 0.354, 0.354]));

    let said = text(&succeed(&mut import(dir.path(), "out.safetensors", &["--strict"])));
    assert!(said.contains("backbone and head"), "{said}");
    let back = fs::read(dir.path().join("in.safetensors")).unwrap();
    let back = SafeTensors::deserialize(&back).unwrap();
    assert_eq!(back.names().len(), out.names().len());
    assert!(out.iter().all(|(name, view)| back.tensor(name).unwrap().data() == view.data()));
    // The run's own checkpoint holds two encoders; the trained one is taken.
    let said = text(&succeed(&mut import(dir.path(), "run/checkpoint/tensors.safetensors", &[])));
    assert!(said.contains("below `query.`") && said.contains("key ("), "{said}");

    succeed(&mut export(&["--which", "key"]));
    let said = text(&succeed(&mut import(dir.path(), "out.safetensors", &[])));
    assert!(said.contains("the head is left as it was: the file has none"), "{said}");
    refuse(&mut import(dir.path(), "out.safetensors", &["--strict"]), "does not fit the model exactly", "strict");
    refuse(&mut export(&["--which", "teacher"]), "no encoder `teacher`", "--which: query, key");
    refuse(&mut import(dir.path(), "out.safetensors", &["--set", "model.width=0.25"]), "do not fit the model", "model.width");
}

#[test]
fn bad_files_of_weights() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("text.pth"), "<html>not found</html>").unwrap();
    refuse(&mut import(dir.path(), "text.pth", &[]), "text.pth", "torch.save");
    refuse(&mut import(dir.path(), "absent.pth", &[]), "absent.pth", "check the path");
    refuse(&mut import(dir.path(), ".", &[]), "is no regular file", ".safetensors");
    let tests = root().join("tests/data");
    let command = tests.join("command.pth");
    refuse(&mut import(dir.path(), command.to_str().unwrap(), &[]), "is refused", "safetensors.torch.save_file");
    assert!(!dir.path().join("unmix-ran-this").exists(), "the command in the file was run");
    refuse(&mut import(dir.path(), tests.join("moco.pth").to_str().unwrap(), &[]), "do not fit the model", "model.name");
    assert!(!dir.path().join("in.safetensors").exists());
    refuse(&mut unmix(dir.path(), &["export", "--run", "nowhere", "--out", "x"]), "nowhere", "unmix pretrain");
}

/// A command line of the authors' program trains, and prints what it came to.
#[test]
fn an_old_command_line_trains() {
    let dir = tempfile::tempdir().unwrap();
    let source = r#"data.source={"name": "synthetic", "count": 20, "test_count": 4, "height": 16, "width": 16}"#;
    let small = ["--set", source, "--set", "views.crop.size=16", "--set", "model.stem=cifar", "--set", "model.width=0.125"];
    let short = ["--epochs", "1", "--lr_decay_epochs", "1", "--batch_size", "8", "--nce_k", "9", "--set", "eval.enabled=false"];
    for (program, switches) in [("train_moco_ins", vec!["--IM"]), ("train_CMC", vec!["--softmax", "--model", "resnet18v1"])] {
        let mut command = unmix(dir.path(), &["compat", program, "--data_folder", "D", "--model_path", program]);
        let said = text(&succeed(command.args(switches).args(short).args(small)));
        assert!(said.contains("\"negatives\": 9") && said.contains("note: random draws depend"), "{said}");
        let run = std::fs::read_dir(dir.path().join(program)).unwrap().next().unwrap().unwrap().path();
        // The partial last batch is kept: 20 images in batches of 8.
        let state: serde_json::Value = serde_json::from_slice(&std::fs::read(run.join("checkpoint/state.json")).unwrap()).unwrap();
        assert_eq!(state["step"], 3, "{}", run.display());
    }
}

/// What `stats` is for: a colour space without constants, whose config no other command takes.
#[test]
fn statistics_of_a_space_without_constants() {
    let dir = tempfile::tempdir().unwrap();
    let yuv = ["--set", "views.color_space=yuv", "--set", "views.mean=null", "--set", "views.std=null"];
    refuse(pretrain(dir.path(), &["--out", "run"]).args(yuv), "views.std", "unmix");
    let said = text(&succeed(stats(dir.path(), &["--images", "50"]).args(yuv)));
    assert!(said.contains("--set views.mean=[") && said.contains(" in yuv, "), "{said}");
}

/// A run starts from the weights of another, bit by bit: the rate leaves them as they are.
#[test]
fn a_run_starts_from_weights() {
    let dir = tempfile::tempdir().unwrap();
    let short = ["--quiet", "--set", "eval.enabled=false"];
    succeed(pretrain(dir.path(), &["--out", "a", "--set", "schedule.steps=2"]).args(short));
    succeed(&mut unmix(dir.path(), &["export", "--run", "a", "--head", "keep", "--out", "a.safetensors"]));
    let from = [
        "--out",
        "b",
        "--set",
        "schedule.steps=1",
        "--set",
        "seed=99",
        "--set",
        "optim.lr=1e-30",
        "--set",
        "model.weights=a.safetensors",
    ];
    succeed(pretrain(dir.path(), &from).args(short));
    let read = |run: &str| common::Tensors::read(&dir.path().join(run).join("checkpoint/tensors.safetensors")).floats;
    let (a, b) = (read("a"), read("b"));
    let weights: Vec<_> = a.keys().filter(|name| name.starts_with("query.") && !name.contains(".running_")).collect();
    assert!(weights.len() > 20 && weights.iter().all(|name| a[*name] == b[*name]));
}
