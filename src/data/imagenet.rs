//! ImageNet, and the 100 of its classes that the literature calls ImageNet-100: class folders named by WordNet id.

use std::collections::HashSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::folder::{ClassFilter, Folder, FolderConfig};
use crate::data::source::{Source, Split, root_problem};
use crate::error::{Error, Result};

/// The classes of ImageNet-100, one WordNet id a line, as CMC and the first version of arXiv 2003.05438 use them.
const HUNDRED: &str = include_str!("../../configs/imagenet100.txt");

/// The folder of ImageNet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ImagenetConfig {
    /// Folder with `train` and `val`, each with class folders named by WordNet id.
    pub root: PathBuf,
}

impl ImagenetConfig {
    /// Pushes one line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        root_problem(&self.root, at, out);
    }
}

/// Which classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImagenetKind {
    /// All 1,000.
    Thousand,
    /// The 100 of ImageNet-100, from a folder with all 1,000 or with these alone.
    Hundred,
}

impl ImagenetKind {
    fn classes(self) -> usize {
        if self == Self::Thousand { 1000 } else { 100 }
    }
}

/// Opens one split as class folders; labels follow the sorted WordNet ids.
///
/// # Errors
/// A missing folder, or classes without an image: `train` or `val` is incomplete, or not sorted into class folders.
pub fn open(config: &ImagenetConfig, kind: ImagenetKind, split: Split) -> Result<Folder> {
    let layout = "`data.source.root` must hold `train` and `val`, each with class folders named by WordNet id (n01440764, ...)";
    let classes = (kind == ImagenetKind::Hundred).then(|| ClassFilter::Names(HUNDRED.lines().map(str::to_string).collect()));
    let folders = FolderConfig { root: config.root.clone(), train: Some("train".into()), test: Some("val".into()), classes };
    let folder = Folder::open(&folders, split).map_err(|error| error.hint(layout))?;
    let with_images = (0..folder.len()).filter_map(|index| folder.label(index)).collect::<HashSet<_>>().len();
    if with_images == kind.classes() && folder.classes().len() == with_images {
        return Ok(folder);
    }
    let mut error = Error::input(format!("{}: images of {with_images} classes, expected {}", folder.describe(), kind.classes()));
    if with_images == 0 && split == Split::Test {
        error = error.hint("ImageNet ships its validation images in one folder: sort them into class folders first");
    }
    Err(error.hint(layout).hint("for other classes take `data.source.name=folder`, which accepts any, with `data.source.classes`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty file in each of these class folders of both splits.
    fn tree<'a>(classes: impl Iterator<Item = &'a str> + Clone) -> (tempfile::TempDir, ImagenetConfig) {
        let root = tempfile::tempdir().unwrap();
        for split in ["train", "val"] {
            for class in classes.clone() {
                let folder = root.path().join(split).join(class);
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(folder.join("0.JPEG"), "").unwrap();
            }
        }
        let config = ImagenetConfig { root: root.path().into() };
        (root, config)
    }

    #[test]
    fn a_hundred_classes_of_more() {
        let more = ["n00000001", "n99999999"];
        let (root, config) = tree(HUNDRED.lines().chain(more));
        for split in [Split::Train, Split::Test] {
            let folder = open(&config, ImagenetKind::Hundred, split).unwrap();
            assert_eq!((folder.len(), folder.classes().len(), folder.label(99)), (100, 100, Some(99)));
            assert!(folder.classes().is_sorted() && !folder.classes().contains(&more[0].to_string()));
        }
        let error = open(&config, ImagenetKind::Thousand, Split::Train).unwrap_err();
        assert!(error.message().contains("images of 102 classes, expected 1000"), "{error}");

        std::fs::remove_dir_all(root.path().join("train/n02869837")).unwrap();
        let error = open(&config, ImagenetKind::Hundred, Split::Train).unwrap_err();
        assert!(error.message().contains("images of 99 classes, expected 100"), "{error}");
        std::fs::remove_dir_all(root.path().join("val/n02869837")).unwrap();
        let error = open(&config, ImagenetKind::Hundred, Split::Train).unwrap_err();
        assert!(error.message().contains("1 of the 100 classes listed have no folder"), "{error}");
    }

    #[test]
    fn a_thousand_classes() {
        let names: Vec<String> = (0..1000).map(|class| format!("n{class:08}")).collect();
        let (root, config) = tree(names.iter().map(String::as_str));
        assert_eq!(open(&config, ImagenetKind::Thousand, Split::Test).unwrap().label(999), Some(999));
        std::fs::remove_file(root.path().join("val/n00000007/0.JPEG")).unwrap();
        let error = open(&config, ImagenetKind::Thousand, Split::Test).unwrap_err();
        assert!(error.message().contains("images of 999 classes, expected 1000"), "{error}");
    }

    #[test]
    fn validation_images_that_were_not_sorted() {
        let (root, config) = tree(HUNDRED.lines());
        std::fs::remove_dir_all(root.path().join("val")).unwrap();
        let error = open(&config, ImagenetKind::Thousand, Split::Test).unwrap_err();
        assert!(error.message().contains("val") && error.hints().iter().any(|hint| hint.contains("WordNet")), "{error}");
        std::fs::create_dir(root.path().join("val")).unwrap();
        std::fs::write(root.path().join("val/ILSVRC2012_val_00000001.JPEG"), "").unwrap();
        let error = open(&config, ImagenetKind::Thousand, Split::Test).unwrap_err();
        assert!(error.hints().iter().any(|hint| hint.contains("sort them into class folders")), "{error}");
    }
}
