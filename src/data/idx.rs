//! The IDX files of MNIST and its kin (plain or gzip), held in memory.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::decode::RgbImage;
use crate::data::source::{Encoded, Source, Split, root_problem};
use crate::error::{Error, Result, shown_path};

/// Magic number of unsigned bytes in three dimensions: images.
const IMAGES: u32 = 0x0803;
/// Magic number of unsigned bytes in one dimension: labels.
const LABELS: u32 = 0x0801;
/// The most bytes of pixels held in memory.
const MAX_BYTES: u64 = 8 << 30;

/// A folder in the layout of MNIST.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IdxConfig {
    /// Folder with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same as `t10k-`, each plain or `.gz`, or with a dot for the second dash; or the
    /// folder in which torchvision made `MNIST/raw`.
    pub root: PathBuf,
}

impl IdxConfig {
    /// Pushes one line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        root_problem(&self.root, at, out);
    }
}

/// Grey images and labels in memory.
#[derive(Debug)]
pub struct Idx {
    /// For messages, for example `embedded train`.
    title: String,
    height: usize,
    width: usize,
    pixels: Vec<u8>,
    labels: Vec<u8>,
    classes: Vec<String>,
}

impl Idx {
    /// Opens one split of a folder. The classes are named by their numbers.
    ///
    /// # Errors
    /// A missing file, a wrong magic number, or sizes that do not fit; each names the file.
    pub fn open(config: &IdxConfig, split: Split) -> Result<Self> {
        let prefix = if split == Split::Train { "train" } else { "t10k" };
        let root = folder(&config.root)?;
        let images = find(&root, &format!("{prefix}-images-idx3-ubyte"))?;
        let labels = find(&root, &format!("{prefix}-labels-idx1-ubyte"))?;
        let title = format!("{} {split}", config.root.display());
        Self::read((&mut *reader(&images)?, &images.display()), (&mut *reader(&labels)?, &labels.display()), title)
    }

    /// Reads images and labels from a pair of `(reader, name for messages)`.
    pub(crate) fn read(images: Named, labels: Named, title: String) -> Result<Self> {
        let ((images, images_name), (labels, labels_name)) = (images, labels);
        let ([count, height, width], pixels) = read_idx::<3>(images, images_name, IMAGES)?;
        let ([labelled], labels) = read_idx::<1>(labels, labels_name, LABELS)?;
        if count != labelled {
            let what = format!("`{images_name}` holds {count} images, but `{labels_name}` holds {labelled} labels");
            return Err(Error::input(what).hint("take both files from the same data set and split"));
        }
        if pixels.is_empty() {
            return Err(Error::input(format!("`{images_name}` holds no image ({count} of {height}x{width} pixels)")));
        }
        let classes = (0..=labels.iter().copied().max().unwrap_or(0)).map(|class| class.to_string()).collect();
        Ok(Self { title, height: height as usize, width: width as usize, pixels, labels, classes })
    }

    /// Replaces the numbers by names; there must be one for every label.
    pub(crate) fn with_classes(mut self, names: &[&str]) -> Self {
        assert!(names.len() >= self.classes.len(), "{} has {} classes", self.title, self.classes.len());
        self.classes = names.iter().map(|name| name.to_string()).collect();
        self
    }
}

impl Source for Idx {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.labels.get(index).copied().map(u32::from)
    }

    fn encoded(&self, index: usize) -> Result<Encoded<'_>> {
        let size = self.height * self.width;
        let pixels = self.pixels[index * size..(index + 1) * size].iter().flat_map(|&grey| [grey; 3]).collect();
        Ok(Encoded::Pixels(RgbImage { height: self.height, width: self.width, pixels }))
    }

    fn name(&self, index: usize) -> String {
        format!("{} image {index}", self.title)
    }

    fn describe(&self) -> String {
        format!("{}: {} grey images of {}x{}, {} classes", self.title, self.len(), self.height, self.width, self.classes.len())
    }
}

/// A reader and what to call it in messages.
type Named<'a> = (&'a mut dyn Read, &'a dyn std::fmt::Display);

/// The dimensions and the data of one IDX file: magic number, sizes (big-endian `u32`), bytes.
fn read_idx<const D: usize>(reader: &mut dyn Read, name: &dyn std::fmt::Display, magic: u32) -> Result<([u32; D], Vec<u8>)> {
    let mut word = || {
        let mut bytes = [0; 4];
        let read = reader.read_exact(&mut bytes).map(|()| u32::from_be_bytes(bytes));
        read.map_err(|e| Error::input(format!("cannot read the header of `{name}`, {} bytes: {e}", 4 * (D + 1))))
    };
    let found = word()?;
    if found != magic {
        let what = format!("`{name}` starts with {found:#010x}, expected {magic:#010x} (IDX, unsigned bytes, {D} dimensions)");
        return Err(Error::input(what).hint("the file must be an IDX file, plain or gzip, as MNIST distributes them"));
    }
    let mut sizes = [0; D];
    for size in &mut sizes {
        *size = word()?;
    }
    let expected = sizes.iter().try_fold(1u64, |product, &size| product.checked_mul(u64::from(size)));
    let Some(expected) = expected.filter(|&bytes| bytes <= MAX_BYTES) else {
        return Err(Error::input(format!("`{name}` announces {sizes:?} bytes, more than the {MAX_BYTES} that are kept in memory")));
    };
    let mut data = Vec::new();
    let read = reader.take(expected + 1).read_to_end(&mut data);
    if data.len() as u64 == expected && read.is_ok() {
        return Ok((sizes, data));
    }
    let found = match (&read, data.len() as u64 > expected) {
        (_, true) => "more".to_string(),
        (Ok(_), false) => data.len().to_string(),
        (Err(e), false) => format!("{} ({e})", data.len()),
    };
    let what = format!("`{name}` announces {sizes:?} = {expected} bytes of data, but holds {found}");
    Err(Error::input(what).hint("the file is incomplete or damaged; fetch it again"))
}

/// The folder that holds the files: `root`, or the one below it that torchvision made.
fn folder(root: &Path) -> Result<PathBuf> {
    const BELOW: [&str; 6] = ["raw", "MNIST/raw", "FashionMNIST/raw", "KMNIST/raw", "EMNIST/raw", "QMNIST/raw"];
    let holds =
        |folder: &PathBuf| ["train", "t10k"].iter().any(|prefix| find(folder, &format!("{prefix}-images-idx3-ubyte")).is_ok());
    if holds(&root.into()) {
        return Ok(root.into());
    }
    let found: Vec<PathBuf> = BELOW.iter().map(|below| root.join(below)).filter(holds).collect();
    match found.as_slice() {
        [] => Ok(root.into()),
        [one] => Ok(one.clone()),
        several => {
            let names: Vec<String> = several.iter().map(|path| shown_path(path)).collect();
            let what = format!("{} holds several data sets: {}", shown_path(root), names.join(", "));
            Err(Error::input(what).hint("name the folder of one of them with `data.source.root`"))
        }
    }
}

/// The file `stem` in `root`, plain or `.gz`, whichever exists: as it is published, with a dot before `idx` as some unpackers name it, or in
/// a folder of its own name.
pub(crate) fn find(root: &Path, stem: &str) -> Result<PathBuf> {
    let stems = [stem.to_owned(), stem.replace("-idx", ".idx"), format!("{stem}/{stem}")];
    let candidates = stems.iter().flat_map(|stem| [root.join(stem), root.join(format!("{stem}.gz"))]);
    if let Some(path) = candidates.into_iter().find(|path| path.is_file()) {
        return Ok(path);
    }
    let what = if root.is_dir() {
        format!("`{}` holds no `{stem}[.gz]`", root.display())
    } else {
        format!("`{}` is no folder", root.display())
    };
    Err(Error::input(what).hint("set `data.source.root` to the folder that holds the files of the data set"))
}

/// Opens a file, through gzip if it is named so.
pub(crate) fn reader(path: &Path) -> Result<Box<dyn Read>> {
    let file = std::io::BufReader::new(File::open(path).map_err(|e| Error::io("open", path, &e))?);
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    Ok(if packed { Box::new(GzDecoder::new(file)) } else { Box::new(file) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idx(magic: u32, sizes: &[u32], data: &[u8]) -> Vec<u8> {
        let words = std::iter::once(&magic).chain(sizes).flat_map(|word| word.to_be_bytes());
        words.chain(data.iter().copied()).collect()
    }

    fn open(images: &[u8], labels: &[u8]) -> Result<Idx> {
        Idx::read((&mut &*images, &"images.idx"), (&mut &*labels, &"labels.idx"), "test".into())
    }

    #[test]
    fn grey_rows_become_rgb_in_file_order() {
        let source = open(&idx(IMAGES, &[2, 1, 3], &[1, 2, 3, 4, 5, 6]), &idx(LABELS, &[2], &[0, 7])).unwrap();
        let Encoded::Pixels(image) = source.encoded(1).unwrap() else { panic!("a file") };
        assert_eq!(image, RgbImage { height: 1, width: 3, pixels: vec![4, 4, 4, 5, 5, 5, 6, 6, 6] });
        assert_eq!((source.len(), source.label(1), source.classes().len()), (2, Some(7), 8));
    }

    #[test]
    fn damaged_files_are_named_with_their_sizes() {
        let (images, labels) = (idx(IMAGES, &[2, 1, 3], &[0; 6]), idx(LABELS, &[2], &[0, 7]));
        for (images, labels, expected) in [
            (&images[..21], &labels[..], "`images.idx` announces [2, 1, 3] = 6 bytes of data, but holds 5"),
            (&images[..10], &labels, "cannot read the header of `images.idx`, 16 bytes"),
            (&labels, &images, "`images.idx` starts with 0x00000801, expected 0x00000803"),
            (&images, &idx(LABELS, &[3], &[0; 3]), "`images.idx` holds 2 images, but `labels.idx` holds 3 labels"),
            (&idx(IMAGES, &[2, 1, 3], &[0; 7]), &labels, "but holds more"),
            (&idx(IMAGES, &[u32::MAX; 3], &[0; 7]), &labels, "announces [4294967295, 4294967295, 4294967295] bytes, more than"),
            (&idx(IMAGES, &[0, 28, 28], &[]), &idx(LABELS, &[0], &[]), "holds no image"),
        ] {
            let error = open(images, labels).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}\n  lacks: {expected}");
        }
    }

    #[test]
    fn the_names_that_people_have() {
        let (images, labels) = (idx(IMAGES, &[1, 1, 1], &[9]), idx(LABELS, &[1], &[3]));
        for (folder, stems) in [
            (".", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"]),
            (".", ["train-images.idx3-ubyte", "train-labels.idx1-ubyte"]),
            (".", ["train-images-idx3-ubyte/train-images-idx3-ubyte", "train-labels-idx1-ubyte/train-labels-idx1-ubyte"]),
            ("MNIST/raw", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"]),
            ("raw", ["train-images.idx3-ubyte", "train-labels-idx1-ubyte"]),
        ] {
            let root = tempfile::tempdir().unwrap();
            for (stem, bytes) in stems.iter().zip([&images, &labels]) {
                let path = root.path().join(folder).join(stem);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
            let source = Idx::open(&IdxConfig { root: root.path().into() }, Split::Train).unwrap();
            assert_eq!(source.label(0), Some(3), "{folder} {stems:?}");
        }
        let root = tempfile::tempdir().unwrap();
        for name in ["MNIST", "FashionMNIST"] {
            std::fs::create_dir_all(root.path().join(name).join("raw")).unwrap();
            std::fs::write(root.path().join(name).join("raw/train-images-idx3-ubyte"), &images).unwrap();
        }
        let error = Idx::open(&IdxConfig { root: root.path().into() }, Split::Train).unwrap_err();
        assert!(error.message().contains("holds several data sets"), "{error}");
    }

    #[test]
    fn a_folder_may_hold_plain_and_gzip_files() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("train-images-idx3-ubyte"), idx(IMAGES, &[1, 1, 1], &[9])).unwrap();
        let config = IdxConfig { root: root.path().into() };
        assert!(Idx::open(&config, Split::Train).unwrap_err().message().contains("train-labels-idx1-ubyte[.gz]"));
        let labels = root.path().join("train-labels-idx1-ubyte.gz");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut packed, &idx(LABELS, &[1], &[3])).unwrap();
        let packed = packed.finish().unwrap();
        std::fs::write(&labels, &packed).unwrap();
        assert_eq!(Idx::open(&config, Split::Train).unwrap().label(0), Some(3));
        std::fs::write(&labels, &packed[..packed.len() - 4]).unwrap();
        assert!(Idx::open(&config, Split::Train).unwrap_err().message().contains("train-labels-idx1-ubyte.gz` announces [1]"));
    }
}
