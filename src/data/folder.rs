//! Image files in folders. Only paths are kept, so memory does not grow with the pixels.

mod listing;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::listing::{EXTENSIONS, LeftOut, Listing, holds_image, list};
use crate::data::lists;
use crate::data::source::{Encoded, Source, Split, root_problem};
use crate::error::{Error, Result, nearest, shown, shown_path};

/// Usual names of a test split, in the order in which they are looked for.
const TEST_NAMES: [&str; 3] = ["test", "val", "valid"];
/// Folders nested deeper than this are taken for a symbolic link that leads back up.
const MAX_DEPTH: usize = 32;
/// Larger files are refused unread.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// A folder of images.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FolderConfig {
    /// The folder. Its `train` and `test` (or `val`, `valid`) subfolders are the splits; without them it is the training split itself. Where `test`
    /// has no class folders and `val` has, `val` is the test split.
    pub root: PathBuf,
    /// Folder of the training split, relative to `root`, where it is not `train`.
    pub train: Option<PathBuf>,
    /// Folder of the test split, relative to `root`, where it is none of `test`, `val` and `valid`.
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
    ///
    /// # Errors
    /// A folder `train` that may as well be a class.
    fn split(&self, split: Split) -> Result<Option<PathBuf>> {
        match split {
            Split::Train if self.train.is_none() => {
                let usual = self.root.join("train");
                if !usual.is_dir() {
                    return Ok(Some(self.root.clone()));
                }
                self.check_train_is_no_class(&usual)?;
                Ok(Some(usual))
            }
            Split::Test if self.test.is_none() => {
                let found: Vec<PathBuf> = TEST_NAMES.iter().map(|name| self.root.join(name)).filter(|path| path.is_dir()).collect();
                // Competitions ship their test images without labels, which measure nothing.
                let labelled = found.iter().find(|path| has_classes(path));
                Ok(labelled.or(found.first()).cloned())
            }
            Split::Train => Ok(self.train.as_ref().map(|given| self.root.join(given))),
            Split::Test => Ok(self.test.as_ref().map(|given| self.root.join(given))),
        }
    }

    /// Refuses a folder `train` beside folders with images that are no splits, if it holds images itself, as a class does, or if no test split
    /// lies beside it. It would be all that is read.
    fn check_train_is_no_class(&self, train: &Path) -> Result<()> {
        let siblings = list(&self.root, &mut LeftOut::default())?.folders;
        let names = siblings.iter().filter_map(|name| name.to_str());
        let (splits, others): (Vec<&str>, Vec<&str>) =
            names.filter(|name| *name != "train").partition(|name| TEST_NAMES.contains(name));
        if has_classes(train) && !splits.is_empty() {
            return Ok(());
        }
        let classes: Vec<&str> = others.into_iter().filter(|name| holds_image(&self.root.join(name), MAX_DEPTH)).collect();
        let Some(first) = classes.first() else { return Ok(()) };
        let what = format!(
            "{} may be the training split or a class: {} beside it {} images, too",
            shown_path(train),
            if classes.len() == 1 {
                format!("the folder `{}`", shown(first))
            } else {
                format!("{} folders (`{}`, ...)", classes.len(), shown(first))
            },
            if classes.len() == 1 { "holds" } else { "hold" }
        );
        Err(Error::input(what).hint(
            "set `data.source.train=.` if `train` is a class like them, `data.source.train=train` if it is all that is trained on",
        ))
    }

    /// The names to keep, sorted; `None` keeps all.
    fn wanted(&self) -> Result<Option<Vec<String>>> {
        let mut names = match &self.classes {
            None => return Ok(None),
            Some(ClassFilter::Names(names)) => names.clone(),
            Some(ClassFilter::File(path)) => lists::lines("read the class list", path)?,
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
    left: LeftOut,
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
    /// A missing or unreadable folder, no test split, a `train` that may be a class, one folder for both splits, a listed class without a folder, or
    /// not a single image.
    pub fn open(config: &FolderConfig, split: Split) -> Result<Self> {
        let (train, test) = (config.split(Split::Train)?, config.split(Split::Test)?);
        if split == Split::Train && train.as_ref() == Some(&config.root) && config.train.is_none() && test.is_some() {
            let what = format!("{} has a folder of test images, but no `train` folder", shown_path(&config.root));
            let hint = "name the training folder with `data.source.train`; `.` means all the rest of the root. If the folder of test images is a class, name another one with `data.source.test`";
            return Err(Error::input(what).hint(hint));
        }
        if let (Some(train), Some(test)) = (&train, &test)
            && same_folder(train, test)
        {
            let what = format!("the training and the test split are one folder, {}", shown_path(train));
            return Err(Error::input(what).hint(
                "every test image would find itself among its neighbours: name a folder of held-out images with `data.source.test`",
            ));
        }
        let (own, other) = if split == Split::Train { (train, test) } else { (test, train) };
        let root = own.ok_or_else(|| {
            Error::input(format!("{} has no test images: no folder `test`, `val` or `valid`", shown_path(&config.root)))
                .hint("name the folder of held-out images with `data.source.test`")
        })?;
        let left = LeftOut::default();
        let mut folder = Self { root, classes: Vec::new(), directories: Vec::new(), files: Vec::new(), left };
        folder.read(config, other.as_deref())?;
        if split == Split::Test && config.test.is_none() {
            let first = TEST_NAMES.iter().find(|name| config.root.join(name).is_dir());
            folder.left.unlabelled = first.filter(|name| folder.root != config.root.join(name)).map(|name| name.to_string());
        }
        match folder.files.len() {
            0 => {
                Err(Error::input(format!("{} holds no image ({}){}", shown_path(&folder.root), EXTENSIONS.join(", "), folder.left))
                    .hint("point `data.source.root` at a folder of images or of class folders"))
            }
            count if count > u32::MAX as usize => {
                Err(Error::input(format!("{} holds {count} images, too many", shown_path(&folder.root))))
            }
            _ => Ok(folder),
        }
    }

    /// Finds the classes and the files; `other` is the folder of the other split, which may lie inside this one.
    fn read(&mut self, config: &FolderConfig, other: Option<&Path>) -> Result<()> {
        let other = other.filter(|path| path.is_dir());
        let own = class_folders(&self.root, other, &mut self.left)?;
        let others = match other {
            Some(path) => class_folders(path, Some(&self.root), &mut LeftOut::default())?,
            None => Vec::new(),
        };
        let mut names = [own.as_slice(), &others].concat();
        names.sort_unstable();
        names.dedup();
        self.classes = match config.wanted()? {
            None => names,
            Some(wanted) => check_wanted(wanted, &names, &self.root)?,
        };
        let (inside, mut empty) = (other.and_then(|path| path.canonicalize().ok()), Vec::new());
        for name in &own {
            if let Ok(label) = self.classes.binary_search(name) {
                let before = self.files.len();
                self.scan(self.root.join(name), label as u32, 0, inside.as_deref())?;
                if before == self.files.len() {
                    empty.push(name.clone());
                }
            }
        }
        self.left.empty = empty.iter().map(|name| shown(name).into_owned()).collect();
        if config.classes.is_none() {
            let elsewhere =
                |name: &String| others.contains(name) && other.is_some_and(|path| holds_image(&path.join(name), MAX_DEPTH));
            let in_own = |name: &String| own.contains(name) && !empty.contains(name);
            let kept: Vec<String> = self.classes.iter().filter(|name| in_own(name) || elsewhere(name)).cloned().collect();
            self.relabel(kept);
        }
        let loose = list(&self.root, &mut LeftOut::default())?.files;
        if self.files.is_empty() && config.classes.is_none() {
            self.classes.clear();
            self.add(self.root.clone(), None, loose);
        } else {
            self.left.loose = loose.len();
        }
        Ok(())
    }

    /// Leaves out the classes without an image in either split.
    fn relabel(&mut self, kept: Vec<String>) {
        for directory in &mut self.directories {
            let name = directory.label.map(|label| &self.classes[label as usize]);
            directory.label = name.and_then(|name| kept.binary_search(name).ok()).map(|label| label as u32);
        }
        self.classes = kept;
    }

    /// Adds the images of a folder and then those below it, without those of the other split.
    fn scan(&mut self, path: PathBuf, label: u32, depth: usize, other: Option<&Path>) -> Result<()> {
        if depth > MAX_DEPTH {
            let what = format!("{} is nested more than {MAX_DEPTH} folders deep", shown_path(&path));
            return Err(Error::input(what).hint("look for a symbolic link that leads back to a folder above it"));
        }
        let Listing { files, folders } = list(&path, &mut self.left)?;
        self.add(path.clone(), Some(label), files);
        for name in folders {
            let below = path.join(name);
            if other.is_none_or(|other| below.canonicalize().ok().as_deref() != Some(other)) {
                self.scan(below, label, depth + 1, other)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, path: PathBuf, label: Option<u32>, files: Vec<OsString>) {
        let number = self.directories.len() as u32;
        self.files.extend(files.into_iter().map(|name| (number, name.into_boxed_os_str())));
        self.directories.push(Directory { path, label });
    }

    /// What the split holds and does not use, as the end of a sentence.
    pub(crate) fn left_out(&self) -> impl std::fmt::Display {
        &self.left
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
        read_file(&self.path(index))
    }

    fn name(&self, index: usize) -> String {
        shown(&self.path(index).to_string_lossy()).into_owned()
    }

    fn key(&self, index: usize) -> String {
        let path = self.path(index);
        // With the same separator everywhere: a run may move between systems.
        let inside = path.strip_prefix(&self.root).unwrap_or(&path).iter();
        inside.map(OsStr::to_string_lossy).collect::<Vec<_>>().join("/")
    }

    fn describe(&self) -> String {
        let classes = if self.classes.is_empty() { "no labels".into() } else { format!("{} classes", self.classes.len()) };
        format!("{}: {} images, {classes}{}", shown(&self.root.to_string_lossy()), self.len(), self.left)
    }
}

/// The bytes of an image file.
///
/// # Errors
/// It cannot be read, is no regular file, or is too large for an image.
pub(super) fn read_file<'a>(path: &Path) -> Result<Encoded<'a>> {
    let failed = |e: std::io::Error| Error::io("read", path, &e);
    // Asked before opening: to open a named pipe would wait for its writer.
    let about = fs::metadata(path).map_err(failed)?;
    if !about.is_file() || about.len() > MAX_FILE_BYTES {
        return Err(Error::input(format!("{} is no regular file of at most {MAX_FILE_BYTES} bytes", shown_path(path))));
    }
    fs::read(path).map_err(failed).map(|bytes| Encoded::File(Cow::Owned(bytes)))
}

/// Whether both paths lead to one folder.
fn same_folder(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Whether a class folder of `root` holds an image.
fn has_classes(root: &Path) -> bool {
    let folders = list(root, &mut LeftOut::default()).map_or(Vec::new(), |listing| listing.folders);
    folders.iter().any(|name| holds_image(&root.join(name), MAX_DEPTH))
}

/// The names of the folders in `root`, without the folder `except`.
fn class_folders(root: &Path, except: Option<&Path>, left: &mut LeftOut) -> Result<Vec<String>> {
    let listing = list(root, left)?;
    let folders = listing.folders.into_iter().filter(|name| except.is_none_or(|except| !same_folder(&root.join(name), except)));
    let named = folders.map(|name| {
        name.into_string()
            .map_err(|name| Error::input(format!("the class folder {} is not named in UTF-8", shown_path(&root.join(name)))))
    });
    named.collect()
}

/// Passes `wanted` on if each of them is among the folders `found`.
fn check_wanted(wanted: Vec<String>, found: &[String], root: &Path) -> Result<Vec<String>> {
    let missing: Vec<&String> = wanted.iter().filter(|name| found.binary_search(name).is_err()).collect();
    let Some(first) = missing.first() else { return Ok(wanted) };
    let what = format!(
        "{} of the {} classes listed have no folder in {}, first `{}`",
        missing.len(),
        wanted.len(),
        shown_path(root),
        shown(first)
    );
    let hint = if (1..=50).contains(&found.len()) {
        nearest(first, found.iter().map(String::as_str))
    } else {
        "check the list of classes, and that no class folder is missing".into()
    };
    Err(Error::input(what).hint(hint))
}

#[cfg(test)]
mod tests;
