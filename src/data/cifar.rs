//! CIFAR-10 and CIFAR-100, the binary or the Python version, held in memory.

mod python;

use std::io::Read;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::decode::RgbImage;
use crate::data::idx::{find, reader};
use crate::data::lists;
use crate::data::source::{Encoded, Source, Split, root_problem};
use crate::error::{Error, Result};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;

/// A folder with the binary or the Python version of CIFAR.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CifarConfig {
    /// Folder with the `.bin` files of the binary version, each plain or `.gz`, or with the files of the Python version, which torchvision downloads; or the
    /// folder above it.
    pub root: PathBuf,
}

impl CifarConfig {
    /// Pushes one line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        root_problem(&self.root, at, out);
    }
}

/// Which of the two data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CifarKind {
    /// CIFAR-10: one label byte per record.
    Ten,
    /// CIFAR-100: a coarse and a fine label byte per record; the fine one is used.
    Hundred,
}

impl CifarKind {
    fn classes(self) -> usize {
        if self == Self::Ten { 10 } else { 100 }
    }

    fn label_bytes(self) -> usize {
        if self == Self::Ten { 1 } else { 2 }
    }

    /// The folders inside the published archives: of the binary version and of the Python version.
    fn folders(self) -> [&'static str; 2] {
        if self == Self::Ten { ["cifar-10-batches-bin", "cifar-10-batches-py"] } else { ["cifar-100-binary", "cifar-100-python"] }
    }

    fn names_file(self) -> &'static str {
        if self == Self::Ten { "batches.meta.txt" } else { "fine_label_names.txt" }
    }

    fn files(self, split: Split) -> &'static [&'static str] {
        match (self, split) {
            (Self::Ten, Split::Train) => {
                &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"]
            }
            (Self::Ten, Split::Test) => &["test_batch.bin"],
            (Self::Hundred, Split::Train) => &["train.bin"],
            (Self::Hundred, Split::Test) => &["test.bin"],
        }
    }
}

/// 32x32 colour images and labels in memory, as records of label bytes and three planes.
#[derive(Debug)]
pub struct Cifar {
    title: String,
    kind: CifarKind,
    records: Vec<u8>,
    classes: Vec<String>,
}

impl Cifar {
    /// Opens one split.
    ///
    /// # Errors
    /// A missing file, a size that is no whole number of records, or a label out of range; each names the file.
    pub fn open(config: &CifarConfig, kind: CifarKind, split: Split) -> Result<Self> {
        let title = format!("cifar{} {split}", kind.classes());
        let folders = kind.folders().map(|name| config.root.join(name));
        let root = folders.iter().find(|folder| folder.is_dir()).unwrap_or(&config.root);
        let names = kind.files(split);
        let mut records = Vec::new();
        if find(root, names[0]).is_err() && python::file(root, names[0]).is_file() {
            for name in names {
                python::read_records(&python::file(root, name), kind, &mut records)?;
            }
            return Ok(Self { title, kind, records, classes: python::class_names(root, kind)? });
        }
        for name in names {
            read_records(&find(root, name).map_err(|error| packed(error, root))?, kind, &mut records)?;
        }
        Ok(Self { title, kind, records, classes: class_names(root, kind)? })
    }

    fn record(&self, index: usize) -> Option<&[u8]> {
        self.records.chunks_exact(self.kind.label_bytes() + 3 * PLANE).nth(index)
    }
}

impl Source for Cifar {
    fn len(&self) -> usize {
        self.records.len() / (self.kind.label_bytes() + 3 * PLANE)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.record(index).map(|record| u32::from(record[self.kind.label_bytes() - 1]))
    }

    fn encoded(&self, index: usize) -> Result<Encoded<'_>> {
        let record = self.record(index).ok_or_else(|| Error::input(format!("there is no {}", self.name(index))))?;
        let planes = &record[self.kind.label_bytes()..];
        let pixels = (0..PLANE).flat_map(|at| [planes[at], planes[PLANE + at], planes[2 * PLANE + at]]).collect();
        Ok(Encoded::Pixels(RgbImage { height: SIDE, width: SIDE, pixels }))
    }

    fn name(&self, index: usize) -> String {
        format!("{} image {index}", self.title)
    }

    fn describe(&self) -> String {
        format!("{}: {} colour images of {SIDE}x{SIDE}, {} classes", self.title, self.len(), self.classes.len())
    }
}

/// Hints at an archive that was not unpacked.
fn packed(error: Error, root: &Path) -> Error {
    const ARCHIVES: [&str; 4] =
        ["cifar-10-binary.tar.gz", "cifar-10-python.tar.gz", "cifar-100-binary.tar.gz", "cifar-100-python.tar.gz"];
    match ARCHIVES.into_iter().find(|name| root.join(name).is_file()) {
        Some(name) => error.hint(format!("`{name}` is there: unpack it (tar -xzf {name})")),
        None => error,
    }
}

/// Appends the records of one file, checked.
fn read_records(path: &Path, kind: CifarKind, records: &mut Vec<u8>) -> Result<()> {
    let (start, record) = (records.len(), kind.label_bytes() + 3 * PLANE);
    let damaged =
        |what: String| Error::input(what).hint("the file is incomplete or damaged, or of the other CIFAR; fetch it again");
    reader(path)?.read_to_end(records).map_err(|e| damaged(format!("cannot read `{}`: {e}", path.display())))?;
    let bytes = records.len() - start;
    if bytes == 0 || !bytes.is_multiple_of(record) {
        let what = format!("`{}` holds {bytes} bytes, expected a whole number of {record}-byte records", path.display());
        return Err(damaged(what));
    }
    check_labels(&records[start..], kind, path).map_err(damaged)
}

/// Whether every record has a label of the data set.
fn check_labels(records: &[u8], kind: CifarKind, path: &Path) -> Result<(), String> {
    let at = kind.label_bytes() - 1;
    let labels = records.chunks_exact(kind.label_bytes() + 3 * PLANE).map(|record| usize::from(record[at]));
    match labels.enumerate().find(|(_, label)| *label >= kind.classes()) {
        Some((number, label)) => {
            Err(format!("record {number} of `{}` has label {label}, must be below {}", path.display(), kind.classes()))
        }
        None => Ok(()),
    }
}

/// The names from the archive's own list, or the numbers when the list is absent.
fn class_names(root: &Path, kind: CifarKind) -> Result<Vec<String>> {
    let path = root.join(kind.names_file());
    if !path.exists() {
        return Ok((0..kind.classes()).map(|class| class.to_string()).collect());
    }
    let names = lists::lines("read the names of the classes", &path)?;
    if names.len() != kind.classes() {
        return Err(Error::input(format!("`{}` lists {} names, expected {}", path.display(), names.len(), kind.classes())));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(labels: &[u8]) -> Vec<u8> {
        let planes = [10u8, 20, 30].into_iter().flat_map(|base| (0..PLANE).map(move |at| base + (at % SIDE / 4) as u8));
        labels.iter().copied().chain(planes).collect()
    }

    #[test]
    fn planes_are_interleaved_and_the_fine_label_is_used() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("cifar-100-binary");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(inner.join("train.bin"), [record(&[3, 99]), record(&[4, 7])].concat()).unwrap();
        let config = CifarConfig { root: root.path().into() };
        let source = Cifar::open(&config, CifarKind::Hundred, Split::Train).unwrap();
        assert_eq!((source.len(), source.label(0), source.label(1)), (2, Some(99), Some(7)));
        let Encoded::Pixels(image) = source.encoded(1).unwrap() else { panic!("a file") };
        assert_eq!(&image.pixels[9..15], [10, 20, 30, 11, 21, 31]);
        let missing = Cifar::open(&config, CifarKind::Hundred, Split::Test).unwrap_err();
        assert!(missing.message().contains("holds no `test.bin[.gz]`"), "{missing}");
    }

    #[test]
    fn names_come_from_the_list_and_damage_is_reported() {
        let root = tempfile::tempdir().unwrap();
        let (file, list) = (root.path().join("test_batch.bin"), root.path().join("batches.meta.txt"));
        let open = || Cifar::open(&CifarConfig { root: root.path().into() }, CifarKind::Ten, Split::Test);
        std::fs::write(&file, record(&[9])).unwrap();
        assert_eq!(open().unwrap().classes()[9], "9");
        std::fs::write(&list, "a\nb\nc\nd\ne\nf\ng\nh\ni\ntruck\n\n").unwrap();
        assert_eq!(open().unwrap().classes()[9], "truck");
        std::fs::write(&file, record(&[10])).unwrap();
        assert!(open().unwrap_err().message().contains("has label 10, must be below 10"));
        std::fs::write(&file, &record(&[1])[..3000]).unwrap();
        assert!(open().unwrap_err().message().contains("holds 3000 bytes, expected a whole number of 3073-byte records"));
        std::fs::write(&list, "a\n").unwrap();
        std::fs::write(&file, record(&[1])).unwrap();
        assert!(open().unwrap_err().message().contains("lists 1 names, expected 10"));
    }
}
