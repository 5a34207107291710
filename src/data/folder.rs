//! Image files in folders. Only paths are kept, so memory does not grow with the pixels.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::source::{Encoded, Source, Split, root_problem};
use crate::error::{Error, Result, nearest};

const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "bmp", "webp"];
/// Folders nested deeper than this are taken for a symbolic link that leads back up.
const MAX_DEPTH: usize = 32;
/// Larger files are refused unread.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// A folder of images.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FolderConfig {
    /// The folder. Its `train` and `test` (or `val`) subfolders are the splits; without them it is the training split itself.
    pub root: PathBuf,
    /// Folder of the training split, relative to `root`, where it is not `train`.
    pub train: Option<PathBuf>,
    /// Folder of the test split, relative to `root`, where it is neither `test` nor `val`.
    pub test: Option<PathBuf>,
    /// Use only these class folders: a text file with one name per line, or a list of names.
    pub classes: Option<ClassFilter>,
}

/// The class folders to use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ClassFilter {
    /// A text file with one folder name per line.
    File(PathBuf),
    /// The folder names.
    Names(Vec<String>),
}

impl FolderConfig {
    /// Pushes one line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        root_problem(&self.root, at, out);
        if matches!(&self.classes, Some(ClassFilter::Names(names)) if names.is_empty()) {
            out.push(format!("`{at}.classes` is an empty list, must name at least one class folder"));
        }
    }

    /// The folder of a split, or `None` where there is no test split.
    fn split(&self, split: Split) -> Option<PathBuf> {
        let (given, usual): (_, &[&str]) = match split {
            Split::Train => (&self.train, &["train"]),
            Split::Test => (&self.test, &["test", "val"]),
        };
        if let Some(given) = given {
            return Some(self.root.join(given));
        }
        let found = usual.iter().map(|name| self.root.join(name)).find(|path| path.is_dir());
        found.or_else(|| (split == Split::Train).then(|| self.root.clone()))
    }

    /// The names to keep, sorted; `None` keeps all.
    fn wanted(&self) -> Result<Option<Vec<String>>> {
        let mut names = match &self.classes {
            None => return Ok(None),
            Some(ClassFilter::Names(names)) => names.clone(),
            Some(ClassFilter::File(path)) => {
                let text = fs::read_to_string(path).map_err(|e| Error::io("read the class list", path, &e))?;
                text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_string).collect()
            }
        };
        names.sort_unstable();
        names.dedup();
        if names.is_empty() { Err(Error::input("`data.source.classes` names no class folder")) } else { Ok(Some(names)) }
    }
}

/// The files of one split.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    classes: Vec<String>,
    directories: Vec<Directory>,
    files: Vec<(u32, Box<OsStr>)>,
    /// Images beside the class folders, which have no class and are left out.
    loose: usize,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    label: Option<u32>,
}

impl Folder {
    /// Lists one split, sorted by class and by path. Images are labelled by their class folder, at any depth below it; a
    /// folder that directly holds images, and no class folder with images, is unlabelled.
    ///
    /// Labels count the class folders of both splits together, so that a class missing from one does not shift them.
    ///
    /// # Errors
    /// A missing or unreadable folder, no test split, a listed class without a folder, or not a single image.
    pub fn open(config: &FolderConfig, split: Split) -> Result<Self> {
        let (train, test) = (config.split(Split::Train), config.split(Split::Test));
        if split == Split::Train && train.as_ref() == Some(&config.root) && config.train.is_none() && test.is_some() {
            let what = format!("`{}` has a folder of test images, but no `train` folder", config.root.display());
            return Err(
                Error::input(what).hint("name the training folder with `data.source.train`; `.` means all the rest of the root")
            );
        }
        let (own, other) = if split == Split::Train { (train, test) } else { (test, train) };
        let root = own.ok_or_else(|| {
            Error::input(format!("`{}` has no test images: no `test` and no `val` folder", config.root.display()))
                .hint("name the folder of held-out images with `data.source.test`")
        })?;
        let mut folder = Self { root, classes: Vec::new(), directories: Vec::new(), files: Vec::new(), loose: 0 };
        folder.read(config, other.as_deref())?;
        match folder.files.len() {
            0 => Err(Error::input(format!("`{}` holds no image ({})", folder.root.display(), EXTENSIONS.join(", ")))
                .hint("point `data.source.root` at a folder of images or of class folders")),
            count if count > u32::MAX as usize => {
                Err(Error::input(format!("`{}` holds {count} images, too many", folder.root.display())))
            }
            _ => Ok(folder),
        }
    }

    /// Finds the classes and the files; `other` is the folder of the other split, which may lie inside this one.
    fn read(&mut self, config: &FolderConfig, other: Option<&Path>) -> Result<()> {
        let own = class_folders(&self.root, other)?;
        let others = match other {
            Some(path) if path.is_dir() => class_folders(path, Some(&self.root))?,
            _ => Vec::new(),
        };
        let mut names = [own.as_slice(), &others].concat();
        names.sort_unstable();
        names.dedup();
        self.classes = match config.wanted()? {
            None => names,
            Some(wanted) => check_wanted(wanted, &names, &self.root)?,
        };
        for name in &own {
            if let Ok(label) = self.classes.binary_search(name) {
                self.scan(self.root.join(name), Some(label as u32), 0)?;
            }
        }
        let loose = list(&self.root)?.files;
        if self.files.is_empty() && config.classes.is_none() {
            self.classes.clear();
            self.add(self.root.clone(), None, loose);
        } else {
            self.loose = loose.len();
        }
        Ok(())
    }

    /// Adds the images of a folder and then those below it.
    fn scan(&mut self, path: PathBuf, label: Option<u32>, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            let what = format!("`{}` is nested more than {MAX_DEPTH} folders deep", path.display());
            return Err(Error::input(what).hint("look for a symbolic link that leads back to a folder above it"));
        }
        let Listing { files, folders } = list(&path)?;
        self.add(path.clone(), label, files);
        folders.into_iter().try_for_each(|name| self.scan(path.join(name), label, depth + 1))
    }

    fn add(&mut self, path: PathBuf, label: Option<u32>, files: Vec<OsString>) {
        let number = self.directories.len() as u32;
        self.files.extend(files.into_iter().map(|name| (number, name.into_boxed_os_str())));
        self.directories.push(Directory { path, label });
    }

    /// The folder of the split.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The name of image `index` without its folder.
    pub(crate) fn file_name(&self, index: usize) -> &OsStr {
        &self.files[index].1
    }

    fn path(&self, index: usize) -> PathBuf {
        let (directory, name) = &self.files[index];
        self.directories[*directory as usize].path.join(&**name)
    }
}

impl Source for Folder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.files.get(index).and_then(|(directory, _)| self.directories[*directory as usize].label)
    }

    fn encoded(&self, index: usize) -> Result<Encoded<'_>> {
        let path = self.path(index);
        let failed = |e: std::io::Error| Error::io("read", &path, &e);
        // Asked before opening: to open a named pipe would wait for its writer.
        let about = fs::metadata(&path).map_err(failed)?;
        if !about.is_file() || about.len() > MAX_FILE_BYTES {
            return Err(Error::input(format!("`{}` is no regular file of at most {MAX_FILE_BYTES} bytes", path.display())));
        }
        let bytes = fs::read(&path).map_err(failed)?;
        Ok(Encoded::File(Cow::Owned(bytes)))
    }

    fn name(&self, index: usize) -> String {
        self.path(index).display().to_string()
    }

    fn key(&self, index: usize) -> String {
        let path = self.path(index);
        // With the same separator everywhere: a run may move between systems.
        let inside = path.strip_prefix(&self.root).unwrap_or(&path).iter();
        inside.map(OsStr::to_string_lossy).collect::<Vec<_>>().join("/")
    }

    fn describe(&self) -> String {
        let classes = if self.classes.is_empty() { "no labels".into() } else { format!("{} classes", self.classes.len()) };
        let loose =
            if self.loose == 0 { String::new() } else { format!(", {} images beside the class folders left out", self.loose) };
        format!("{}: {} images, {classes}{loose}", self.root.display(), self.len())
    }
}

/// The visible entries of a folder, sorted by name.
struct Listing {
    /// Files with the extension of an image.
    files: Vec<OsString>,
    folders: Vec<OsString>,
}

fn list(path: &Path) -> Result<Listing> {
    let failed = |e: std::io::Error| Error::io("list the folder", path, &e);
    let mut listing = Listing { files: Vec::new(), folders: Vec::new() };
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (name, kind) = (entry.file_name(), entry.file_type().map_err(failed)?);
        // Links are followed: a subset of a data set is often a folder of links.
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        } else if kind.is_dir() || kind.is_symlink() && entry.path().is_dir() {
            listing.folders.push(name);
        } else if is_image(&name) {
            listing.files.push(name);
        }
    }
    listing.files.sort_unstable();
    listing.folders.sort_unstable();
    Ok(listing)
}

fn is_image(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    extension.is_some_and(|extension| EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension)))
}

/// The names of the folders in `root`, without the folder `except`.
fn class_folders(root: &Path, except: Option<&Path>) -> Result<Vec<String>> {
    let folders = list(root)?.folders.into_iter().filter(|name| Some(root.join(name).as_path()) != except);
    let named = folders.map(|name| {
        name.into_string()
            .map_err(|name| Error::input(format!("the class folder `{}` is not named in UTF-8", root.join(name).display())))
    });
    named.collect()
}

/// Passes `wanted` on if each of them is among the folders `found`.
fn check_wanted(wanted: Vec<String>, found: &[String], root: &Path) -> Result<Vec<String>> {
    let missing: Vec<&String> = wanted.iter().filter(|name| found.binary_search(name).is_err()).collect();
    let Some(first) = missing.first() else { return Ok(wanted) };
    let what =
        format!("{} of the {} classes listed have no folder in `{}`, first `{first}`", missing.len(), wanted.len(), root.display());
    let hint = if (1..=50).contains(&found.len()) {
        nearest(first, found.iter().map(String::as_str))
    } else {
        "check the list of classes, and that no class folder is missing".into()
    };
    Err(Error::input(what).hint(hint))
}

#[cfg(test)]
mod tests {
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
        assert_eq!(source.classes(), ["a", "b", "empty"]);
        assert!(
            source.describe().ends_with("4 images, 3 classes, 1 images beside the class folders left out"),
            "{}",
            source.describe()
        );
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
        assert!(refusal(&config, Split::Train).contains("holds no image (jpg, jpeg, png, bmp, webp)"));
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
}
