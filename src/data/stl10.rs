//! The binary version of STL-10. Images are read from the open files by position: the unlabelled part alone is 2.7 GB.

use std::fs::File;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::decode::RgbImage;
use crate::data::lists;
use crate::data::source::{Encoded, Source, Split, root_problem};
use crate::error::{Error, Result};

const SIDE: usize = 96;
const PLANE: usize = SIDE * SIDE;
const IMAGE: usize = 3 * PLANE;

const CLASSES: [&str; 10] = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"];

/// Which images of STL-10 are trained on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Stl10Train {
    /// The 5,000 labelled training images.
    #[serde(rename = "train")]
    Train,
    /// The 100,000 images without labels.
    #[serde(rename = "unlabeled")]
    Unlabeled,
    /// Both, the labelled ones first and without their labels.
    #[default]
    #[serde(rename = "train+unlabeled")]
    Both,
}

/// A folder with the binary version of STL-10.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Stl10Config {
    /// Folder with `train_X.bin`, `unlabeled_X.bin` and the others, unpacked, or the folder above it.
    pub root: PathBuf,
    /// The images to train on. Only `train` keeps its labels, which the kNN measurement needs.
    pub train: Stl10Train,
}

impl Stl10Config {
    /// Pushes one line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        root_problem(&self.root, at, out);
    }
}

/// Images of one file, and their labels if there are any.
#[derive(Debug)]
struct Part {
    file: File,
    path: PathBuf,
    count: usize,
    /// 0 to 9, one per image; empty where the images are used without labels.
    labels: Vec<u8>,
}

/// 96x96 colour images in one or two open files.
#[derive(Debug)]
pub struct Stl10 {
    title: String,
    parts: Vec<Part>,
    /// Empty unless every image has a label.
    classes: Vec<String>,
}

impl Stl10 {
    /// Opens one split; of the images only the number is read.
    ///
    /// # Errors
    /// A missing or packed file, a size that is no whole number of images, labels that do not fit; each names the file.
    pub fn open(config: &Stl10Config, split: Split) -> Result<Self> {
        let inner = config.root.join("stl10_binary");
        let root = if inner.is_dir() { &inner } else { &config.root };
        let labelled = |name: &str| Part::open(root, &format!("{name}_X.bin"), Some(&format!("{name}_y.bin")));
        let unlabelled = |name: &str| Part::open(root, &format!("{name}_X.bin"), None);
        let (title, parts) = match (split, config.train) {
            (Split::Test, _) => ("stl10 test", vec![labelled("test")?]),
            (Split::Train, Stl10Train::Train) => ("stl10 train", vec![labelled("train")?]),
            (Split::Train, Stl10Train::Unlabeled) => ("stl10 unlabeled", vec![unlabelled("unlabeled")?]),
            (Split::Train, Stl10Train::Both) => ("stl10 train+unlabeled", vec![unlabelled("train")?, unlabelled("unlabeled")?]),
        };
        let known = parts.iter().all(|part| part.labels.len() == part.count);
        Ok(Self { title: title.into(), parts, classes: if known { class_names(root)? } else { Vec::new() } })
    }

    /// The part that holds image `index`, and its place there.
    fn find(&self, mut index: usize) -> Option<(&Part, usize)> {
        for part in &self.parts {
            if index < part.count {
                return Some((part, index));
            }
            index -= part.count;
        }
        None
    }
}

impl Source for Stl10 {
    fn len(&self) -> usize {
        self.parts.iter().map(|part| part.count).sum()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.find(index).and_then(|(part, at)| part.labels.get(at).copied().map(u32::from))
    }

    fn encoded(&self, index: usize) -> Result<Encoded<'_>> {
        let (part, at) = self.find(index).ok_or_else(|| Error::input(format!("there is no {}", self.name(index))))?;
        let mut planes = vec![0; IMAGE];
        read_at(&part.file, &mut planes, (at * IMAGE) as u64).map_err(|e| Error::io("read", &part.path, &e))?;
        Ok(Encoded::Pixels(RgbImage { height: SIDE, width: SIDE, pixels: rows(&planes) }))
    }

    fn name(&self, index: usize) -> String {
        format!("{} image {index}", self.title)
    }

    fn describe(&self) -> String {
        let labels = match self.classes.len() {
            0 => "no labels (`data.source.train=train` has them)".to_string(),
            classes => format!("{classes} classes"),
        };
        format!("{}: {} colour images of {SIDE}x{SIDE}, {labels}", self.title, self.len())
    }
}

impl Part {
    fn open(root: &Path, images: &str, labels: Option<&str>) -> Result<Self> {
        let path = present(root, images)?;
        let file = File::open(&path).map_err(|e| Error::io("open", &path, &e))?;
        let bytes = file.metadata().map_err(|e| Error::io("read", &path, &e))?.len();
        if bytes == 0 || !bytes.is_multiple_of(IMAGE as u64) {
            let what = format!("`{}` holds {bytes} bytes, expected a whole number of images of {IMAGE} bytes", path.display());
            return Err(damaged(what));
        }
        let count = usize::try_from(bytes / IMAGE as u64).ok().filter(|&count| u32::try_from(count).is_ok());
        let count = count.ok_or_else(|| Error::input(format!("`{}` holds too many images", path.display())))?;
        let labels = labels.map_or(Ok(Vec::new()), |name| read_labels(&present(root, name)?, &path, count))?;
        Ok(Self { file, path, count, labels })
    }
}

/// An image as stored, three planes each column by column, as rows of pixels.
fn rows(planes: &[u8]) -> Vec<u8> {
    let mut pixels = vec![0; IMAGE];
    for (channel, plane) in planes.chunks_exact(PLANE).enumerate() {
        for (x, column) in plane.chunks_exact(SIDE).enumerate() {
            for (y, &value) in column.iter().enumerate() {
                pixels[3 * (y * SIDE + x) + channel] = value;
            }
        }
    }
    pixels
}

/// The labels 1 to 10 of a file, as 0 to 9, one per image.
fn read_labels(path: &Path, images: &Path, count: usize) -> Result<Vec<u8>> {
    let labels = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    if labels.len() != count {
        let what = format!("`{}` holds {count} images, but `{}` holds {} labels", images.display(), path.display(), labels.len());
        return Err(damaged(what));
    }
    if let Some((number, label)) = labels.iter().enumerate().find(|(_, label)| !(1..=10).contains(*label)) {
        return Err(damaged(format!("label {number} of `{}` is {label}, must be 1 to 10", path.display())));
    }
    Ok(labels.into_iter().map(|label| label - 1).collect())
}

fn damaged(what: String) -> Error {
    Error::input(what).hint("the file is incomplete or damaged; fetch stl10_binary.tar.gz again")
}

/// `root/name`, which must be there and unpacked.
fn present(root: &Path, name: &str) -> Result<PathBuf> {
    let path = root.join(name);
    if path.is_file() {
        return Ok(path);
    }
    let packed = root.join(format!("{name}.gz"));
    if packed.is_file() {
        return Err(Error::input(format!("`{}` is packed, and images are read from it by position", packed.display()))
            .hint(format!("unpack it: gunzip -k {}", packed.display())));
    }
    let what = if root.is_dir() {
        format!("`{}` holds no `{name}`", root.display())
    } else {
        format!("`{}` is no folder", root.display())
    };
    Err(Error::input(what).hint("set `data.source.root` to the unpacked folder `stl10_binary`, or the folder above it"))
}

/// The names from the archive's own list, or the published ones when the list is absent.
fn class_names(root: &Path) -> Result<Vec<String>> {
    let path = root.join("class_names.txt");
    if !path.exists() {
        return Ok(CLASSES.map(str::to_string).to_vec());
    }
    let names = lists::lines("read the names of the classes", &path)?;
    if names.len() != CLASSES.len() {
        return Err(damaged(format!("`{}` lists {} names, expected {}", path.display(), names.len(), CLASSES.len())));
    }
    Ok(names)
}

/// Fills `buffer` from `offset` on. Threads may read from one file at the same time: its cursor is not used.
#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Fills `buffer` from `offset` on. The cursor moves, but no read depends on where it is.
#[cfg(windows)]
fn read_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, offset) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                let rest = buffer;
                buffer = &mut rest[read..];
                offset += read as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::load;

    /// An image whose red is its number, green the column and blue the row.
    fn image(number: u8) -> Vec<u8> {
        let plane = |value: fn(usize, usize, u8) -> u8| (0..PLANE).map(move |at| value(at / SIDE, at % SIDE, number));
        plane(|_, _, number| number).chain(plane(|x, _, _| x as u8)).chain(plane(|_, y, _| y as u8)).collect()
    }

    fn folder() -> (tempfile::TempDir, Stl10Config) {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("stl10_binary");
        std::fs::create_dir(&inner).unwrap();
        let write = |name: &str, bytes: Vec<u8>| std::fs::write(inner.join(name), bytes).unwrap();
        write("train_X.bin", [image(0), image(1)].concat());
        write("train_y.bin", vec![1, 10]);
        write("unlabeled_X.bin", [image(2), image(3), image(4)].concat());
        write("test_X.bin", image(5));
        write("test_y.bin", vec![3]);
        let config = Stl10Config { root: root.path().into(), ..Stl10Config::default() };
        (root, config)
    }

    #[test]
    fn columns_become_rows() {
        let (_root, config) = folder();
        let source = Stl10::open(&config, Split::Train).unwrap();
        let loaded = load(&source, 3).unwrap();
        assert_eq!((loaded.height, loaded.width), (SIDE, SIDE));
        for (y, x) in [(0, 0), (0, 95), (95, 0), (17, 40)] {
            let at = 3 * (y * SIDE + x);
            assert_eq!(loaded.pixels[at..at + 3], [3, x as u8, y as u8]);
        }
    }

    #[test]
    fn the_training_split_is_what_the_config_says() {
        let (_root, mut config) = folder();
        let of = |config: &Stl10Config, split| {
            let source = Stl10::open(config, split).unwrap();
            (0..source.len()).map(|i| (load(&source, i).unwrap().pixels[0], source.label(i))).collect::<Vec<_>>()
        };
        assert_eq!(of(&config, Split::Train), [0, 1, 2, 3, 4].map(|number| (number, None)));
        assert!(Stl10::open(&config, Split::Train).unwrap().classes().is_empty());
        config.train = Stl10Train::Unlabeled;
        assert_eq!(of(&config, Split::Train), [2, 3, 4].map(|number| (number, None)));
        config.train = Stl10Train::Train;
        assert_eq!(of(&config, Split::Train), [(0, Some(0)), (1, Some(9))]);
        assert_eq!(of(&config, Split::Test), [(5, Some(2))]);
        let named = Stl10::open(&config, Split::Test).unwrap();
        assert_eq!((named.classes()[2].as_str(), named.label(1)), ("car", None));
        assert!(load(&named, 1).is_err());
        let text = serde_json::to_value(&config).unwrap();
        assert_eq!(text["train"], "train");
    }

    #[test]
    fn damage_is_named() {
        let (root, mut config) = folder();
        config.train = Stl10Train::Train;
        let inner = root.path().join("stl10_binary");
        let refusal = |name: &str, bytes: &[u8]| {
            let kept = std::fs::read(inner.join(name)).unwrap_or_default();
            std::fs::write(inner.join(name), bytes).unwrap();
            let error = Stl10::open(&config, Split::Train).unwrap_err().to_string();
            std::fs::write(inner.join(name), kept).unwrap();
            error
        };
        assert!(refusal("train_X.bin", &image(0)[1..]).contains("train_X.bin` holds 27647 bytes"));
        assert!(refusal("train_X.bin", &[]).contains("holds 0 bytes"));
        assert!(refusal("train_y.bin", &[1]).contains("holds 1 labels"));
        assert!(refusal("train_y.bin", &[1, 0]).contains("label 1 of"));
        assert!(refusal("class_names.txt", b"cat\ndog\n").contains("lists 2 names"));
    }

    #[test]
    fn packed_and_missing_files_say_what_to_do() {
        let (root, config) = folder();
        let inner = root.path().join("stl10_binary");
        std::fs::rename(inner.join("unlabeled_X.bin"), inner.join("unlabeled_X.bin.gz")).unwrap();
        let error = Stl10::open(&config, Split::Train).unwrap_err();
        assert!(error.message().contains("unlabeled_X.bin.gz` is packed") && error.hints()[0].contains("gunzip"), "{error}");
        std::fs::remove_file(inner.join("unlabeled_X.bin.gz")).unwrap();
        assert!(Stl10::open(&config, Split::Train).unwrap_err().message().contains("holds no `unlabeled_X.bin`"));
        let absent = Stl10Config { root: "nowhere".into(), ..Stl10Config::default() };
        assert!(Stl10::open(&absent, Split::Test).unwrap_err().message().contains("`nowhere` is no folder"));
    }

    /// A file that shrinks after it was opened is an error of the image, not of the process.
    #[test]
    fn a_file_cut_while_it_is_open() {
        let (root, config) = folder();
        let source = Stl10::open(&config, Split::Train).unwrap();
        let path = root.path().join("stl10_binary/unlabeled_X.bin");
        File::options().write(true).open(path).unwrap().set_len(IMAGE as u64).unwrap();
        assert!(load(&source, 2).is_ok());
        assert!(load(&source, 3).unwrap_err().message().contains("unlabeled_X.bin"));
    }
}
