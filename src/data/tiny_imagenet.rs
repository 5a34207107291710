//! Tiny ImageNet as published: class folders to train on, one folder of validation images with a list of their classes.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::folder::{ClassFilter, Folder, FolderConfig};
use crate::data::lists;
use crate::data::source::{Encoded, Source, Split, root_problem};
use crate::error::{Error, Result};

/// The folder of Tiny ImageNet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TinyImagenetConfig {
    /// The unpacked folder `tiny-imagenet-200`, with `wnids.txt`, `train` and `val`, or the folder above it.
    pub root: PathBuf,
}

impl TinyImagenetConfig {
    /// Pushes one line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        root_problem(&self.root, at, out);
    }
}

/// One split: image files, with labels that follow the sorted WordNet ids of `wnids.txt`.
#[derive(Debug)]
pub struct TinyImagenet {
    files: Folder,
    classes: Vec<String>,
    /// By image, where the files are not in class folders.
    labels: Option<Vec<u32>>,
}

impl TinyImagenet {
    /// Opens one split.
    ///
    /// # Errors
    /// A missing folder or list, a class without a folder, images and annotations that do not match.
    pub fn open(config: &TinyImagenetConfig, split: Split) -> Result<Self> {
        let inner = config.root.join("tiny-imagenet-200");
        let root = if inner.is_dir() { inner } else { config.root.clone() };
        let classes = wordnet_ids(&root)?;
        // Many sort the validation images into class folders, as the training images are.
        if split == Split::Train || !holds_files(&root.join("val/images")) && root.join("val").is_dir() {
            let wanted = Some(ClassFilter::Names(classes.clone()));
            let folders = FolderConfig { root, train: Some("train".into()), test: Some("val".into()), classes: wanted };
            return Ok(Self { files: Folder::open(&folders, split).map_err(incomplete)?, classes, labels: None });
        }
        let images = FolderConfig { root: root.join("val/images"), train: Some(".".into()), ..FolderConfig::default() };
        let files = Folder::open(&images, Split::Train).map_err(incomplete)?;
        let labels = Some(labels(&files, &classes, &root.join("val/val_annotations.txt"))?);
        Ok(Self { files, classes, labels })
    }
}

impl Source for TinyImagenet {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> Option<u32> {
        match &self.labels {
            Some(labels) => labels.get(index).copied(),
            None => self.files.label(index),
        }
    }

    fn encoded(&self, index: usize) -> Result<Encoded<'_>> {
        self.files.encoded(index)
    }

    fn name(&self, index: usize) -> String {
        self.files.name(index)
    }

    fn key(&self, index: usize) -> String {
        self.files.key(index)
    }

    fn describe(&self) -> String {
        let (root, classes) = (self.files.root().display(), self.classes.len());
        format!("tiny_imagenet {root}: {} images, {classes} classes{}", self.len(), self.files.left_out())
    }
}

/// Whether a folder holds a file.
fn holds_files(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|entries| entries.flatten().any(|entry| entry.path().is_file()))
}

fn incomplete(error: Error) -> Error {
    error.hint("set `data.source.root` to the unpacked folder `tiny-imagenet-200`; if it is, it is incomplete: unpack it again")
}

/// The classes, sorted.
fn wordnet_ids(root: &Path) -> Result<Vec<String>> {
    let path = root.join("wnids.txt");
    let mut names = lists::lines("read the class list", &path).map_err(incomplete)?;
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { Err(incomplete(Error::input(format!("`{}` lists no class", path.display())))) } else { Ok(names) }
}

/// The label of each file, from lines that begin with a file's name and its class, separated by tabs.
fn labels(files: &Folder, classes: &[String], path: &Path) -> Result<Vec<u32>> {
    let text = lists::text("read the annotations", path).map_err(incomplete)?;
    let mut by_name = HashMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let bad = |what: &str| incomplete(Error::input(format!("line {} of `{}` {what}", number + 1, path.display())));
        let mut fields = line.split('\t');
        let (Some(name), Some(class)) = (fields.next(), fields.next()) else {
            return Err(bad("has no file name and class, separated by a tab"));
        };
        let label = classes.binary_search_by(|known| known.as_str().cmp(class.trim()));
        by_name.insert(name, label.map_err(|_| bad(&format!("names the class `{class}`, which `wnids.txt` does not")))? as u32);
    }
    let of = |index: usize| {
        let found = files.file_name(index).to_str().and_then(|name| by_name.get(name)).copied();
        found.ok_or_else(|| incomplete(Error::input(format!("`{}` has no line for {}", path.display(), files.name(index)))))
    };
    let labels = (0..files.len()).map(of).collect::<Result<Vec<u32>>>()?;
    if labels.len() != by_name.len() {
        let what = format!("`{}` lists {} images, but there are {}", path.display(), by_name.len(), labels.len());
        return Err(incomplete(Error::input(what)));
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, TinyImagenetConfig) {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("tiny-imagenet-200");
        let write = |name: &str, text: &str| {
            let path = inner.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("wnids.txt", "n2\nn1\n");
        for class in ["n1", "n2", "n3"] {
            write(&format!("train/{class}/images/{class}_0.JPEG"), "");
            write(&format!("train/{class}/{class}_boxes.txt"), "");
        }
        write("val/images/val_0.JPEG", "");
        write("val/images/val_1.JPEG", "");
        write("val/val_annotations.txt", "val_1.JPEG\tn1\t0\t0\t62\t62\nval_0.JPEG\tn2\t0\t32\t44\t62\n");
        let config = TinyImagenetConfig { root: root.path().into() };
        (root, config)
    }

    #[test]
    fn labels_follow_the_sorted_ids_in_both_splits() {
        let (_root, config) = folder();
        let of = |split| {
            let source = TinyImagenet::open(&config, split).unwrap();
            let name = |i| source.name(i).rsplit('/').next().unwrap().to_owned();
            assert_eq!(source.classes(), ["n1", "n2"]);
            (0..source.len()).map(|i| (name(i), source.label(i).unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(of(Split::Train), [("n1_0.JPEG".into(), 0), ("n2_0.JPEG".into(), 1)]);
        assert_eq!(of(Split::Test), [("val_0.JPEG".into(), 1), ("val_1.JPEG".into(), 0)]);
    }

    #[test]
    fn validation_images_in_class_folders() {
        for below in ["images", ""] {
            let (root, config) = folder();
            let val = root.path().join("tiny-imagenet-200/val");
            for (file, class) in [("val_0.JPEG", "n2"), ("val_1.JPEG", "n1")] {
                fs::create_dir_all(val.join(class).join(below)).unwrap();
                fs::rename(val.join("images").join(file), val.join(class).join(below).join(file)).unwrap();
            }
            // With the emptied folder, and without.
            for _ in 0..2 {
                let source = TinyImagenet::open(&config, Split::Test).unwrap();
                let label = |i| (source.name(i).rsplit('/').next().unwrap().to_owned(), source.label(i).unwrap());
                assert_eq!([label(0), label(1)], [("val_1.JPEG".into(), 0), ("val_0.JPEG".into(), 1)]);
                let _ = fs::remove_dir(val.join("images"));
            }
        }
    }

    #[test]
    fn a_list_of_classes_may_begin_with_a_mark() {
        let (root, config) = folder();
        fs::write(root.path().join("tiny-imagenet-200/wnids.txt"), "\u{FEFF}n2\r\nn1\r\n").unwrap();
        assert_eq!(TinyImagenet::open(&config, Split::Train).unwrap().classes(), ["n1", "n2"]);
    }

    #[test]
    fn damage_is_named() {
        let (root, config) = folder();
        let refusal = |name: &str, text: &str| {
            let path = root.path().join("tiny-imagenet-200").join(name);
            let kept = fs::read(&path).unwrap_or_default();
            fs::write(&path, text).unwrap();
            let error = TinyImagenet::open(&config, Split::Test).unwrap_err();
            fs::write(&path, kept).unwrap();
            assert!(error.hints().iter().any(|hint| hint.contains("tiny-imagenet-200")), "{error}");
            error.message().to_owned()
        };
        assert!(refusal("val/val_annotations.txt", "val_0.JPEG\tn1\n").contains("has no line for"));
        assert!(refusal("val/val_annotations.txt", "val_0.JPEG n1\n").contains("line 1 of"));
        assert!(refusal("val/val_annotations.txt", "val_0.JPEG\tn9\n").contains("names the class `n9`"));
        let three = "val_0.JPEG\tn1\nval_1.JPEG\tn1\nval_2.JPEG\tn1\n";
        assert!(refusal("val/val_annotations.txt", three).contains("lists 3 images, but there are 2"));
        assert!(refusal("wnids.txt", "\n").contains("lists no class"));
        fs::remove_dir_all(root.path().join("tiny-imagenet-200/train/n1")).unwrap();
        let error = TinyImagenet::open(&config, Split::Train).unwrap_err();
        assert!(error.message().contains("1 of the 2 classes listed have no folder"), "{error}");
        let absent = TinyImagenetConfig { root: "nowhere".into() };
        assert!(TinyImagenet::open(&absent, Split::Train).unwrap_err().message().contains("wnids.txt"));
    }
}
