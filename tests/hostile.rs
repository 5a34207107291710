//! Bad input, end to end: a message, a hint, exit status 2, and nothing left behind.

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;

use common::binary::{pretrain, refuse, smoke, unmix};

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Settings that point the smoke config at a source of its own.
fn source(json: &str) -> Vec<String> {
    vec!["--set".into(), format!("data.source={json}"), "--out".into(), "run".into()]
}

fn refuse_source(dir: &Path, json: &str, fact: &str, hint: &str) -> String {
    let said = refuse(pretrain(dir, &[]).args(source(json)), fact, hint);
    assert!(!dir.join("run").exists(), "a run folder was made for a run that cannot start");
    said
}

/// A small valid JPEG or PNG.
fn image(path: &Path, shade: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_fn(30, 40, |x, y| image::Rgb([shade, x as u8 * 5, y as u8 * 5])).save(path).unwrap();
}

fn classes(root: &Path, names: &[&str], images: usize) {
    for (c, name) in names.iter().enumerate() {
        for i in 0..images {
            image(&root.join(name).join(format!("{i}.png")), (c * 100 + i) as u8);
        }
    }
}

#[test]
fn a_missing_config_file() {
    let dir = temp();
    refuse(&mut unmix(dir.path(), &["pretrain", "--config", "nothing.json"]), "nothing.json", "check the path");
}

#[test]
fn a_config_that_is_not_json() {
    let dir = temp();
    fs::write(dir.path().join("bad.json"), "{\"seed\": 1,}").unwrap();
    refuse(&mut unmix(dir.path(), &["pretrain", "--config", "bad.json"]), "line 1", "");
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let dir = temp();
    refuse(
        &mut pretrain(dir.path(), &["--set", "optim.momentun=0.5"]),
        "`optim.momentun`: unknown key; did you mean `momentum`?",
        "schema",
    );
    refuse(
        &mut pretrain(dir.path(), &["--set", "method.temprature=0.5"]),
        "`method.temprature`: unknown key; did you mean `temperature`?",
        "schema",
    );
}

#[test]
fn all_values_out_of_range_at_once() {
    let dir = temp();
    let settings = ["optim.lr=-1", "data.batch=0", "method.temperature=0", "mixture.region.prob=2", "eval.knn.k=0"];
    let args: Vec<&str> = settings.iter().flat_map(|s| ["--set", *s]).collect();
    let said = refuse(&mut pretrain(dir.path(), &args), "5 problems", "schema");
    for key in ["optim.lr", "data.batch", "method.temperature", "mixture.region.prob", "eval.knn.k"] {
        assert!(said.contains(key), "{key} is not named in\n{said}");
    }
}

#[test]
fn plain_batch_norm_must_be_asked_for() {
    let dir = temp();
    refuse(&mut pretrain(dir.path(), &["--set", "data.batch=31"]), "model.bn_splits", "schema");
}

#[test]
fn a_batch_larger_than_the_dataset() {
    let dir = temp();
    refuse(&mut pretrain(dir.path(), &["--set", "data.batch=80000", "--out", "run"]), "80000", "data.batch");
    assert!(!dir.path().join("run").exists());
}

#[test]
fn a_missing_data_folder() {
    let dir = temp();
    refuse_source(dir.path(), r#"{"name":"folder","root":"nowhere"}"#, "nowhere", "check the path");
    refuse_source(dir.path(), r#"{"name":"idx","root":"nowhere"}"#, "nowhere", "");
    for name in ["cifar10", "stl10", "tiny_imagenet", "imagenet", "imagenet100"] {
        refuse_source(dir.path(), &format!(r#"{{"name":"{name}","root":"nowhere"}}"#), "nowhere", "data.source.root");
        refuse_source(dir.path(), &format!(r#"{{"name":"{name}"}}"#), "`data.source.root` is missing", "schema");
    }
}

#[test]
fn an_empty_dataset() {
    let dir = temp();
    fs::create_dir_all(dir.path().join("empty/class")).unwrap();
    refuse_source(dir.path(), r#"{"name":"folder","root":"empty"}"#, "empty", "");
}

#[test]
fn a_class_called_train() {
    let dir = temp();
    classes(&dir.path().join("voc"), &["bicycle", "car", "train", "tv"], 12);
    refuse_source(dir.path(), r#"{"name":"folder","root":"voc"}"#, "may be the training split or a class", "data.source.train=.");
}

#[test]
fn the_training_images_as_test_images() {
    let dir = temp();
    classes(&dir.path().join("data/train"), &["cat", "dog"], 40);
    let source = r#"{"name":"folder","root":"data","train":"train","test":"train"}"#;
    refuse_source(dir.path(), source, "the training and the test split are one folder", "data.source.test");
}

#[test]
fn one_class_says_nothing_about_neighbours() {
    let dir = temp();
    classes(&dir.path().join("data/train"), &["cat"], 40);
    classes(&dir.path().join("data/test"), &["cat"], 4);
    refuse_source(dir.path(), r#"{"name":"folder","root":"data"}"#, "2 classes", "eval.enabled=false");
}

#[test]
fn truncated_idx() {
    let dir = temp();
    let root = dir.path().join("idx");
    fs::create_dir(&root).unwrap();
    let header = |magic: u32, sizes: &[u32]| [magic].iter().chain(sizes).flat_map(|v| v.to_be_bytes()).collect::<Vec<u8>>();
    for (split, n) in [("train", 40u32), ("t10k", 8)] {
        let images = [header(0x803, &[n, 5, 7]), vec![7; (n * 35) as usize - 3]].concat();
        let labels = [header(0x801, &[n]), (0..n).map(|i| (i % 2) as u8).collect()].concat();
        fs::write(root.join(format!("{split}-images-idx3-ubyte")), images).unwrap();
        fs::write(root.join(format!("{split}-labels-idx1-ubyte")), labels).unwrap();
    }
    refuse_source(dir.path(), r#"{"name":"idx","root":"idx"}"#, "train-images-idx3-ubyte", "");
}

#[test]
fn truncated_gzip() {
    let dir = temp();
    let root = dir.path().join("idx");
    fs::create_dir(&root).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&vec![3u8; 100_000]).unwrap();
    let packed = packed.finish().unwrap();
    for name in
        ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
    {
        fs::write(root.join(name), &packed[..packed.len() / 2]).unwrap();
    }
    refuse_source(dir.path(), r#"{"name":"idx","root":"idx"}"#, ".gz", "");
}

#[test]
fn truncated_cifar() {
    let dir = temp();
    let root = dir.path().join("cifar");
    fs::create_dir(&root).unwrap();
    for name in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"] {
        fs::write(root.join(format!("{name}.bin")), vec![1u8; 3073 * 4 - 1]).unwrap();
    }
    refuse_source(dir.path(), r#"{"name":"cifar10","root":"cifar"}"#, "data_batch_1.bin", "");
}

#[test]
fn damaged_stl10() {
    let dir = temp();
    let root = dir.path().join("stl10_binary");
    fs::create_dir(&root).unwrap();
    for (name, bytes) in
        [("train_X.bin", 3 * 96 * 96 * 4 - 1), ("train_y.bin", 4), ("test_X.bin", 3 * 96 * 96 * 2), ("test_y.bin", 2)]
    {
        fs::write(root.join(name), vec![1u8; bytes]).unwrap();
    }
    let labelled = r#"{"name":"stl10","root":".","train":"train"}"#;
    refuse_source(dir.path(), labelled, "train_X.bin` holds 110591 bytes", "fetch");
    fs::write(root.join("train_X.bin"), vec![1u8; 3 * 96 * 96 * 4]).unwrap();
    fs::write(root.join("train_y.bin"), [1, 2, 3, 11]).unwrap();
    refuse_source(dir.path(), labelled, "label 3 of", "fetch");
    fs::write(root.join("unlabeled_X.bin.gz"), b"packed").unwrap();
    refuse_source(dir.path(), r#"{"name":"stl10","root":"."}"#, "unlabeled_X.bin.gz` is packed", "gunzip");
    refuse_source(dir.path(), r#"{"name":"stl10","root":".","train":"test"}"#, "data.source.train", "schema");
}

#[test]
fn damaged_tiny_imagenet() {
    let dir = temp();
    let root = dir.path().join("tiny-imagenet-200");
    image(&root.join("train/n1/images/n1_0.png"), 1);
    image(&root.join("val/images/val_0.png"), 2);
    fs::write(root.join("wnids.txt"), "n1\nn2\n").unwrap();
    let source = r#"{"name":"tiny_imagenet","root":"."}"#;
    refuse_source(dir.path(), source, "1 of the 2 classes listed have no folder", "unpack it again");
    image(&root.join("train/n2/images/n2_0.png"), 3);
    refuse_source(dir.path(), source, "val_annotations.txt", "unpack it again");
    fs::write(root.join("val/val_annotations.txt"), "val_1.png\tn1\t0\t0\t9\t9\n").unwrap();
    refuse_source(dir.path(), source, "has no line for", "unpack it again");
}

#[test]
fn imagenet_that_lacks_classes() {
    let dir = temp();
    for split in ["train", "val"] {
        classes(&dir.path().join("data").join(split), &["n01440764", "n02869837"], 1);
    }
    refuse_source(dir.path(), r#"{"name":"imagenet","root":"data"}"#, "images of 2 classes, expected 1000", "WordNet id");
    refuse_source(
        dir.path(),
        r#"{"name":"imagenet100","root":"data"}"#,
        "99 of the 100 classes listed have no folder",
        "WordNet id",
    );
}

/// Zero bytes, garbage, and a header that promises gigapixels: replaced and counted up to the configured share, refused above it.
#[test]
fn broken_images() {
    let dir = temp();
    let train = dir.path().join("data/train");
    classes(&train, &["cat", "dog"], 32);
    classes(&dir.path().join("data/test"), &["cat", "dog"], 4);
    fs::write(train.join("cat/zero.jpg"), b"").unwrap();
    fs::write(train.join("dog/garbage.jpg"), b"this is no image at all").unwrap();
    fs::write(train.join("dog/huge.png"), huge_png()).unwrap();

    let said = refuse(
        pretrain(dir.path(), &["--set", "schedule.steps=8", "--set", "data.max_broken=0.0", "--set", "data.batch=32"])
            .args(source(r#"{"name":"folder","root":"data"}"#)),
        "cannot be read",
        "data.max_broken",
    );
    assert!(["zero.jpg", "garbage.jpg", "huge.png"].iter().any(|name| said.contains(name)), "{said}");

    fs::remove_dir_all(dir.path().join("run")).unwrap();
    let mut command =
        pretrain(dir.path(), &["--set", "schedule.steps=8", "--set", "data.max_broken=0.2", "--set", "data.batch=32"]);
    common::binary::succeed(command.args(source(r#"{"name":"folder","root":"data"}"#)));
    let run = dir.path().join("run");
    let broken = common::binary::events(&run, "broken");
    for name in ["zero.jpg", "garbage.jpg", "huge.png"] {
        assert!(broken.iter().any(|event| event["name"].as_str().unwrap().contains(name)), "{name} is not in the log");
    }
    let counted = common::binary::json(&run.join("summary.json"))["broken_images"].as_u64().unwrap();
    assert_eq!(counted, broken.len() as u64);
}

/// A PNG whose header says 60,000 x 60,000 pixels.
fn huge_png() -> Vec<u8> {
    let mut small = Vec::new();
    image::RgbImage::new(1, 1).write_to(&mut std::io::Cursor::new(&mut small), image::ImageFormat::Png).unwrap();
    let size = 60_000u32.to_be_bytes();
    small[16..20].copy_from_slice(&size);
    small[20..24].copy_from_slice(&size);
    let mut crc = flate2::Crc::new();
    crc.update(&small[12..29]);
    small[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    small
}

/// Root may read everything, so the folder is unreadable in another way for it: a file stands where a folder should be.
#[cfg(unix)]
#[test]
fn an_unreadable_folder() {
    use std::os::unix::fs::PermissionsExt;
    let dir = temp();
    let root = dir.path().join("data");
    classes(&root.join("train"), &["cat", "dog"], 2);
    fs::set_permissions(root.join("train"), fs::Permissions::from_mode(0o000)).unwrap();
    let readable = fs::read_dir(root.join("train")).is_ok();
    if !readable {
        refuse_source(dir.path(), r#"{"name":"folder","root":"data"}"#, "train", "permissions");
    }
    fs::set_permissions(root.join("train"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.path().join("file"), b"x").unwrap();
    refuse_source(dir.path(), r#"{"name":"folder","root":"file"}"#, "file", "");
}

#[test]
fn a_folder_with_another_run() {
    let dir = temp();
    fs::create_dir(dir.path().join("run")).unwrap();
    fs::write(dir.path().join("run/config.json"), b"{}").unwrap();
    // Steps that were trained, and a checkpoint, whatever its state.
    fs::write(dir.path().join("run/metrics.jsonl"), b"{\"event\":\"step\",\"step\":1}\n").unwrap();
    refuse(&mut pretrain(dir.path(), &["--out", "run"]), "run", "--resume auto");
    fs::remove_file(dir.path().join("run/metrics.jsonl")).unwrap();
    fs::create_dir(dir.path().join("run/checkpoint")).unwrap();
    refuse(&mut pretrain(dir.path(), &["--out", "run"]), "run", "--resume auto");
    assert_eq!(fs::read(dir.path().join("run/config.json")).unwrap(), b"{}");
}

#[test]
fn nothing_to_resume() {
    let dir = temp();
    refuse(&mut pretrain(dir.path(), &["--resume", "missing"]), "missing", "");
    refuse(&mut pretrain(dir.path(), &["--resume", "auto"]), "no run folder", "--out");
    refuse(&mut unmix(dir.path(), &["eval", "knn", "--run", "missing"]), "missing", "");
}

#[test]
fn a_folder_that_cannot_be_written() {
    let dir = temp();
    fs::write(dir.path().join("file"), b"x").unwrap();
    refuse(&mut pretrain(dir.path(), &["--out", "file/run"]), "file/run", "");
    #[cfg(target_os = "linux")]
    refuse(&mut pretrain(dir.path(), &["--out", "/proc/run"]), "/proc/run", "");
}

/// A disk of 300 KB, too small for a checkpoint. Only where the test may mount one (root on Linux, as in CI); the write path itself is
/// tested against `/dev/full` everywhere.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let dir = temp();
    let disk = dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=300k", "tmpfs"])
        .arg(&disk)
        .output()
        .is_ok_and(|output| output.status.success());
    if !mounted {
        eprintln!("no right to mount a small disk: not tested here");
        return;
    }
    let output = unmix(
        dir.path(),
        &["pretrain", "--device", "cpu", "--quiet", "--out", "disk/run", "--set", "schedule.steps=2", "--config"],
    )
    .arg(smoke())
    .output()
    .unwrap();
    let leftovers: Vec<_> = fs::read_dir(disk.join("run")).map(|d| d.map(|e| e.unwrap().file_name()).collect()).unwrap_or_default();
    let unmounted = std::process::Command::new("umount").arg(&disk).output().unwrap();
    let said = common::binary::text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("No space left") && said.contains("hint: free some space"), "{said}");
    assert!(!leftovers.iter().any(|name| name.to_string_lossy().contains("tmp")), "scratch was left behind: {leftovers:?}");
    assert!(unmounted.status.success());
}

#[test]
fn an_unknown_command_line_option() {
    let dir = temp();
    let output = unmix(dir.path(), &["pretrain", "--confg", "x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(common::binary::text(&output).contains("--config"), "no suggestion");
}

/// Lightness against colours, and there are none.
#[test]
fn grey_images_for_cmc() {
    let dir = tempfile::tempdir().unwrap();
    let cmc = r#"method={"name": "cmc", "negatives": 9}"#;
    let settings = ["--set", cmc, "--set", "data.source={\"name\": \"embedded\"}"];
    refuse(pretrain(dir.path(), &["--out", "run"]).args(settings), "the images are grey", "insdis");
    assert!(!dir.path().join("run").exists());
}
