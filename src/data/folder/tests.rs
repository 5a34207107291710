//! Folders as people have them.

use super::*;
use crate::data::{DataConfig, SourceConfig, load};

/// A temporary folder with empty files at these paths.
fn tree(paths: &[&str]) -> (tempfile::TempDir, FolderConfig) {
    let root = tempfile::tempdir().unwrap();
    for path in paths {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let config = FolderConfig { root: root.path().into(), ..FolderConfig::default() };
    (root, config)
}

/// Names relative to the root, with labels.
fn listed(config: &FolderConfig, split: Split) -> Vec<(String, Option<u32>)> {
    let source = Folder::open(config, split).unwrap();
    let strip = |i| source.name(i)[config.root.display().to_string().len()..].trim_start_matches('/').replace("./", "");
    (0..source.len()).map(|i| (strip(i), source.label(i))).collect()
}

fn refusal(config: &FolderConfig, split: Split) -> String {
    Folder::open(config, split).unwrap_err().to_string()
}

#[test]
fn class_folders_are_sorted_searched_in_depth_and_labelled() {
    let (_root, config) = tree(&[
        "b/2.JPG",
        "b/1.png",
        "b/deep/0.webp",
        "a/x.jpeg",
        "a/.hidden.jpg",
        "a/notes.txt",
        ".git/c.jpg",
        "loose.bmp",
        "empty/x",
    ]);
    let expected = [("a/x.jpeg", 0), ("b/1.png", 1), ("b/2.JPG", 1), ("b/deep/0.webp", 1)];
    assert_eq!(listed(&config, Split::Train), expected.map(|(name, label)| (name.to_string(), Some(label))));
    let source = Folder::open(&config, Split::Train).unwrap();
    assert_eq!(source.classes(), ["a", "b"]);
    let said = source.describe();
    let left = "4 images, 2 classes; left out: 1 image beside the class folders, 1 folder without an image (empty)";
    assert!(said.ends_with(left), "{said}");
    assert!(load(&source, 0).unwrap_err().message().ends_with("a/x.jpeg: the file is empty (0 bytes)"));
}

#[test]
fn loose_images_alone_are_unlabelled() {
    let (_root, config) = tree(&["2.jpg", "10.jpg", "docs/readme.txt"]);
    assert_eq!(listed(&config, Split::Train), [("10.jpg".to_string(), None), ("2.jpg".to_string(), None)]);
    assert!(Folder::open(&config, Split::Train).unwrap().classes().is_empty());
    let limited = DataConfig { source: SourceConfig::Folder(config), limit: Some(1), ..DataConfig::default() };
    let source = limited.open(Split::Train, 0).unwrap();
    assert_eq!(source.len(), 1);
    assert!(load(&*source, 1).is_err(), "beyond the limit");
}

#[test]
fn splits_agree_on_labels_though_one_lacks_a_class() {
    let (_root, mut config) = tree(&["train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg", "val/c/2.jpg", "other/b/3.jpg"]);
    assert_eq!(listed(&config, Split::Test), [("val/c/2.jpg".to_string(), Some(2))]);
    config.test = Some("other".into());
    assert_eq!(listed(&config, Split::Test), [("other/b/3.jpg".to_string(), Some(1))]);
}

#[test]
fn test_images_never_slip_into_training() {
    let (_root, mut config) = tree(&["a/1.jpg", "b/1.jpg", "test/a/2.jpg"]);
    assert!(refusal(&config, Split::Train).contains("has a folder of test images, but no `train` folder"));
    config.train = Some(".".into());
    assert_eq!(listed(&config, Split::Train), [("a/1.jpg".to_string(), Some(0)), ("b/1.jpg".to_string(), Some(1))]);
    assert_eq!(listed(&config, Split::Test), [("test/a/2.jpg".to_string(), Some(0))]);
    let (_root, config) = tree(&["a/1.jpg"]);
    assert!(refusal(&config, Split::Test).contains("hint: name the folder of held-out images with `data.source.test`"));
}

#[test]
fn a_class_list_restricts_and_must_be_complete() {
    let (root, mut config) = tree(&["n01/1.jpg", "n02/1.jpg", "n03/1.jpg"]);
    config.classes = Some(ClassFilter::Names(vec!["n03".into(), "n01".into(), "n03".into()]));
    assert_eq!(listed(&config, Split::Train), [("n01/1.jpg".to_string(), Some(0)), ("n03/1.jpg".to_string(), Some(1))]);
    let list = root.path().join("list.txt");
    fs::write(&list, "n02\n\n  n04\n").unwrap();
    config.classes = Some(ClassFilter::File(list));
    assert!(refusal(&config, Split::Train).contains("1 of the 2 classes listed have no folder"));
    config.classes = Some(ClassFilter::File(root.path().join("absent.txt")));
    assert!(refusal(&config, Split::Train).contains("absent.txt"));
}

#[test]
fn missing_and_empty_folders_are_named() {
    let (root, config) = tree(&["a/notes.txt"]);
    assert!(refusal(&config, Split::Train).contains(
        "holds no image (jpg, jpeg, png, bmp, webp, tif, tiff, ppm, pgm, pbm, pnm); left out: 1 folder without an image (a)"
    ));
    let absent = FolderConfig { root: root.path().join("absent"), ..FolderConfig::default() };
    assert!(refusal(&absent, Split::Train).contains("cannot list the folder"));
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_for_ever() {
    let (root, config) = tree(&["a/1.jpg"]);
    std::os::unix::fs::symlink(root.path().join("a"), root.path().join("b")).unwrap();
    assert_eq!(listed(&config, Split::Train).len(), 2);
    std::os::unix::fs::symlink(root.path().join("a"), root.path().join("a/again")).unwrap();
    assert!(refusal(&config, Split::Train).contains("nested more than 32 folders deep"));
}

#[test]
fn a_configuration_reads_back_and_refuses_unknown_keys() {
    let text = r#"{"name":"folder","root":"x","classes":["a"]}"#;
    let config: SourceConfig = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::from_str::<SourceConfig>(&serde_json::to_string(&config).unwrap()).unwrap(), config);
    assert!(serde_json::from_str::<SourceConfig>(r#"{"name":"embedded","root":"x"}"#).is_err());
    assert!(serde_json::from_str::<SourceConfig>(r#"{"name":"folder","rot":"x"}"#).is_err());
    let mut out = Vec::new();
    let source = SourceConfig::Folder(FolderConfig::default());
    DataConfig { source, batch: 0, max_broken: -0.5, ..DataConfig::default() }.problems("data", &mut out);
    assert_eq!(out.len(), 3, "{out:?}");
    assert_eq!(out[0], "`data.batch` is 0, must be at least 1");
}

#[test]
fn what_is_left_out_is_said() {
    let paths = [
        "train/cat/1.jpg",
        "train/cat/2.TIF",
        "train/cat/3.ppm",
        "train/cat/4.gif",
        "train/cat/5.HEIC",
        "train/cat/deep/6.gif",
        "train/cat/notes.txt",
        "train/dog/1.jpg",
        "train/dog/@eaDir/1.jpg",
        "train/__MACOSX/cat/1.jpg",
        "train/lost+found/1.jpg",
        "train/nothing/x.txt",
        "train/loose1.jpg",
        "train/loose2.png",
        "train/runs/tiny-1/config.json",
        "train/runs/tiny-1/metrics.jsonl",
        "train/runs/tiny-1/preview.png",
        "train/runs/tiny-2/config.json",
        "train/runs/tiny-2/.lock",
        "train/runs/tiny-2/preview.png",
        "test/cat/1.jpg",
        "test/dog/1.jpg",
    ];
    let (_root, config) = tree(&paths);
    let expected = [("train/cat/1.jpg", 0), ("train/cat/2.TIF", 0), ("train/cat/3.ppm", 0), ("train/dog/1.jpg", 1)];
    assert_eq!(listed(&config, Split::Train), expected.map(|(name, label)| (name.to_string(), Some(label))));
    let source = Folder::open(&config, Split::Train).unwrap();
    assert_eq!(source.classes(), ["cat", "dog"]);
    let left = "4 images, 2 classes; left out: 2 images beside the class folders, files of formats that are not read (2 .gif, 1 .heic), \
                2 folders without an image (nothing, runs), 2 run folders (tiny-1, tiny-2), 3 folders of the system (@eaDir, __MACOSX, lost+found)";
    assert!(source.describe().ends_with(left), "{}", source.describe());
    assert!(Folder::open(&config, Split::Test).unwrap().describe().ends_with("2 images, 2 classes"));
}

/// A config file alone, or a data set with a file of that name, is no run.
#[test]
fn a_folder_with_a_config_is_no_run() {
    let (_root, config) = tree(&["a/1.jpg", "a/config.json", "b/metrics.jsonl", "b/1.jpg"]);
    assert_eq!(Folder::open(&config, Split::Train).unwrap().len(), 2);
}

#[test]
fn a_class_called_train_is_no_split() {
    let voc = ["bicycle/1.jpg", "car/1.jpg", "train/1.jpg", "tv/1.jpg"];
    let nested = ["car/vw/1.jpg", "train/ice/1.jpg"];
    let with_a_class_test = ["car/1.jpg", "train/1.jpg", "test/1.jpg"];
    for paths in [&voc[..], &nested, &with_a_class_test] {
        let (_root, mut config) = tree(paths);
        for split in [Split::Train, Split::Test] {
            let said = refusal(&config, split);
            assert!(
                said.contains("train` may be the training split or a class") && said.contains("`data.source.train=.`"),
                "{said}"
            );
        }
        config.train = Some("train".into());
        assert_eq!(Folder::open(&config, Split::Train).unwrap().len(), 1);
    }
    let (_root, mut config) = tree(&voc);
    config.train = Some(".".into());
    let source = Folder::open(&config, Split::Train).unwrap();
    assert_eq!((source.len(), source.classes()[2].as_str()), (4, "train"));
    // The splits of a data set, among whose classes is one called `train`.
    let (_root, config) = tree(&["train/car/1.jpg", "train/train/1.jpg", "test/car/1.jpg", "test/train/1.jpg", "docs/1.jpg"]);
    assert_eq!(listed(&config, Split::Test).len(), 2);
    assert_eq!(Folder::open(&config, Split::Train).unwrap().classes(), ["car", "train"]);
    // Nothing beside it that could be a class.
    for paths in [&["train/1.jpg", "test/1.jpg"][..], &["train/a/1.jpg", "docs/x.txt"], &["train/1.jpg"]] {
        let (_root, config) = tree(paths);
        assert_eq!(Folder::open(&config, Split::Train).unwrap().len(), 1);
    }
}

#[test]
fn an_unlabelled_test_gives_way_to_a_labelled_val() {
    let (_root, mut config) = tree(&["train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg", "val/b/2.jpg", "test/3.jpg"]);
    assert_eq!(listed(&config, Split::Test), [("val/a/2.jpg".to_string(), Some(0)), ("val/b/2.jpg".to_string(), Some(1))]);
    let said = Folder::open(&config, Split::Test).unwrap().describe();
    assert!(said.ends_with("2 images, 2 classes; left out: the folder `test`, which has no class folders"), "{said}");
    config.test = Some("test".into());
    assert_eq!(listed(&config, Split::Test), [("test/3.jpg".to_string(), None)]);
    let (_root, config) = tree(&["train/a/1.jpg", "val/2.jpg", "test/3.jpg"]);
    assert_eq!(listed(&config, Split::Test), [("test/3.jpg".to_string(), None)], "neither has labels");
    let (_root, config) = tree(&["train/a/1.jpg", "valid/a/2.jpg"]);
    assert_eq!(listed(&config, Split::Test), [("valid/a/2.jpg".to_string(), Some(0))]);
}

#[test]
fn one_folder_for_both_splits_is_refused() {
    let (root, mut config) = tree(&["train/a/1.jpg", "train/b/1.jpg", "test/a/2.jpg"]);
    for (train, test) in [("train", "train"), ("train", "./test/../train"), (".", ".")] {
        (config.train, config.test) = (Some(train.into()), Some(test.into()));
        for split in [Split::Train, Split::Test] {
            let said = refusal(&config, split);
            assert!(said.contains("are one folder") && said.contains("`data.source.test`"), "{said}");
        }
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(root.path().join("train"), root.path().join("link")).unwrap();
        (config.train, config.test) = (None, Some("link".into()));
        assert!(refusal(&config, Split::Train).contains("are one folder"));
        fs::remove_file(root.path().join("link")).unwrap();
    }
    // The test images lie deep inside the training folder.
    (config.train, config.test) = (Some(".".into()), Some("train/b".into()));
    let names: Vec<String> = listed(&config, Split::Train).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["test/a/2.jpg", "train/a/1.jpg"]);
}

#[test]
fn a_class_list_may_begin_with_a_mark() {
    let (root, mut config) = tree(&["cat/1.jpg", "dog/1.jpg", "eel/1.jpg"]);
    let list = root.path().join("list.txt");
    fs::write(&list, "\u{FEFF}cat\r\ndog\r\n").unwrap();
    config.classes = Some(ClassFilter::File(list));
    assert_eq!(Folder::open(&config, Split::Train).unwrap().classes(), ["cat", "dog"]);
}

#[cfg(unix)]
#[test]
fn names_with_control_characters_are_escaped() {
    let (_root, config) = tree(&["a/x\n\u{1b}[31m.jpg", "b\u{1b}[2J/1.jpg"]);
    let source = Folder::open(&config, Split::Train).unwrap();
    assert!(source.name(0).ends_with("a/x\\n\\u{1b}[31m.jpg"), "{}", source.name(0));
    for index in 0..2 {
        let said = load(&source, index).unwrap_err().to_string();
        assert!(!said.contains(['\u{1b}', '\n']) && said.contains("\\u{1b}["), "{said:?}");
    }
}
