//! The Python version of CIFAR: pickles of dictionaries, which are read and not run.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::{CifarKind, PLANE, check_labels};
use crate::error::{Error, Result, shown_path};
use crate::pickle::{self, Id, Node, Pickle};

/// The file of the Python version that has the content of one of the binary version.
pub(super) fn file(root: &Path, binary: &str) -> PathBuf {
    root.join(binary.trim_end_matches(".bin"))
}

/// Appends the records of one file, as the binary version has them.
pub(super) fn read_records(path: &Path, kind: CifarKind, records: &mut Vec<u8>) -> Result<()> {
    let pickle = open(path)?;
    let read = || -> Result<Vec<u8>, String> {
        let key = if kind == CifarKind::Ten { "labels" } else { "fine_labels" };
        let (pixels, labels) = (array(&pickle, entry(&pickle, "data")?)?, numbers(&pickle, entry(&pickle, key)?)?);
        if pixels.is_empty() || pixels.len() != labels.len() * 3 * PLANE {
            return Err(format!(
                "it holds {} labels and {} bytes of pixels, expected {} for each",
                labels.len(),
                pixels.len(),
                3 * PLANE
            ));
        }
        let mut records = Vec::with_capacity(pixels.len() + labels.len() * kind.label_bytes());
        for (image, label) in pixels.chunks_exact(3 * PLANE).zip(labels) {
            records.resize(records.len() + kind.label_bytes() - 1, 0); // the coarse label, which is not used
            records.push(label);
            records.extend_from_slice(image);
        }
        check_labels(&records, kind, path)?;
        Ok(records)
    };
    records.extend(read().map_err(|what| damaged(path, &what))?);
    Ok(())
}

/// The names of the classes, or their numbers where the file of names is absent.
pub(super) fn class_names(root: &Path, kind: CifarKind) -> Result<Vec<String>> {
    let (name, key) = if kind == CifarKind::Ten { ("batches.meta", "label_names") } else { ("meta", "fine_label_names") };
    let path = root.join(name);
    if !path.is_file() {
        return Ok((0..kind.classes()).map(|class| class.to_string()).collect());
    }
    let pickle = open(&path)?;
    let names = entry(&pickle, key).map_err(|what| damaged(&path, &what))?;
    let names: Vec<String> = pickle.list(names).unwrap_or_default().iter().map(|&name| pickle.key(name)).collect();
    if names.len() != kind.classes() {
        return Err(damaged(&path, &format!("it lists {} names, expected {}", names.len(), kind.classes())));
    }
    Ok(names)
}

fn open(path: &Path) -> Result<Pickle> {
    let file = File::open(path).map_err(|e| Error::io("open", path, &e))?;
    pickle::read(&mut BufReader::new(file)).map_err(|what| damaged(path, &what))
}

fn damaged(path: &Path, what: &str) -> Error {
    Error::input(format!("cannot read {} as the Python version of CIFAR: {what}", shown_path(path)))
        .hint("the file is incomplete or damaged, or of the other CIFAR; fetch it again")
}

fn entry(pickle: &Pickle, key: &str) -> Result<Id, String> {
    let found = pickle.entries(pickle.root).iter().find(|(name, _)| pickle.text(*name) == Some(key));
    found.map(|(_, value)| *value).ok_or_else(|| format!("it has no entry `{key}`"))
}

/// The bytes of a numpy array of unsigned bytes in the order of C.
fn array(pickle: &Pickle, id: Id) -> Result<Vec<u8>, String> {
    let Node::Call(call) = pickle.node(id) else { return Err("`data` is no array".into()) };
    let (name, arguments) = pickle.call(id).ok_or("`data` is no array")?;
    let (kind, bytes) = match name.rsplit('.').next() {
        // The array is made empty, and filled by its state: version, shape, type, order of Fortran, bytes.
        Some("_reconstruct") => match call.state.and_then(|state| pickle.list(state)) {
            Some(&[_, _, kind, fortran, bytes]) if *pickle.node(fortran) == Node::Bool(false) => (kind, bytes),
            _ => return Err("`data` is no plain array".into()),
        },
        // Protocol 5: bytes, type, shape, order.
        Some("_frombuffer") => match arguments {
            &[bytes, kind, _, order] if pickle.text(order) == Some("C") => (kind, bytes),
            _ => return Err("`data` is no plain array".into()),
        },
        _ => return Err("`data` is no array".into()),
    };
    let kind = pickle.call(kind).and_then(|(_, arguments)| pickle.text(*arguments.first()?));
    if kind != Some("u1") {
        return Err(format!("`data` is an array of the type {}, expected u1", kind.unwrap_or("?")));
    }
    Ok(pickle.bytes(bytes).ok_or("`data` has no bytes")?.into_owned())
}

fn numbers(pickle: &Pickle, id: Id) -> Result<Vec<u8>, String> {
    let list = pickle.list(id).ok_or("the labels are no list")?;
    let label = |&id: &Id| pickle.count(id).and_then(|label| u8::try_from(label).ok()).ok_or("a label is no number of a class");
    Ok(list.iter().map(label).collect::<Result<Vec<u8>, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::super::{Cifar, CifarConfig};
    use super::*;
    use crate::data::{Encoded, Source, Split};

    /// A text of protocol 2, of which Python 2 had one kind.
    fn text(text: &str) -> Vec<u8> {
        [&b"U"[..], &[text.len() as u8], text.as_bytes()].concat()
    }

    fn list(items: &[Vec<u8>]) -> Vec<u8> {
        [b"](", items.concat().as_slice(), b"e"].concat()
    }

    fn bytes(of: &[u8]) -> Vec<u8> {
        [&b"T"[..], &(of.len() as u32).to_le_bytes(), of].concat()
    }

    /// A numpy array as Python 2 pickled it.
    fn array(kind: &str, rows: u32, pixels: &[u8]) -> Vec<u8> {
        let shape = [&b"M"[..], &(rows as u16).to_le_bytes(), b"M\x00\x0c\x86"].concat();
        let kind = [
            b"cnumpy\ndtype\n",
            text(kind).as_slice(),
            b"K\x00K\x01\x87R(K\x03",
            &text("|"),
            b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
        ]
        .concat();
        let made = [&b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"[..], &text("b"), b"\x87R"].concat();
        [made.as_slice(), b"(K\x01", &shape, &kind, b"\x89", &bytes(pixels), b"tb"].concat()
    }

    fn batch(key: &str, kind: &str, labels: &[u8], pixels: &[u8]) -> Vec<u8> {
        let labels = list(&labels.iter().map(|&label| vec![b'K', label]).collect::<Vec<_>>());
        let data = array(kind, labels.len() as u32, pixels);
        [b"\x80\x02}(", text("batch_label").as_slice(), &text("a batch"), &text("data"), &data, &text(key), &labels, b"u."].concat()
    }

    fn pixels(images: usize) -> Vec<u8> {
        (0..images * 3 * PLANE).map(|at| (at / PLANE * 10 + at % 7) as u8).collect()
    }

    #[test]
    fn ten_classes() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("cifar-10-batches-py");
        std::fs::create_dir(&inner).unwrap();
        for number in 1..=5 {
            std::fs::write(inner.join(format!("data_batch_{number}")), batch("labels", "u1", &[number, 9], &pixels(2))).unwrap();
        }
        let names: Vec<Vec<u8>> = (0..10).map(|class| text(&format!("class {class}"))).collect();
        std::fs::write(inner.join("batches.meta"), [b"\x80\x02}", text("label_names").as_slice(), &list(&names), b"s."].concat())
            .unwrap();
        for root in [root.path(), &inner] {
            let source = Cifar::open(&CifarConfig { root: root.into() }, CifarKind::Ten, Split::Train).unwrap();
            assert_eq!((source.len(), source.label(0), source.label(9)), (10, Some(1), Some(9)));
            assert_eq!(source.classes()[9], "class 9");
            let Encoded::Pixels(image) = source.encoded(1).unwrap() else { panic!("a file") };
            // The second image begins at byte 3,072, its planes 1,024 bytes later each.
            assert_eq!(image.pixels[..6], [36, 41, 53, 30, 42, 54]);
        }
        let error = Cifar::open(&CifarConfig { root: root.path().into() }, CifarKind::Ten, Split::Test).unwrap_err();
        assert!(error.message().contains("holds no `test_batch.bin[.gz]`"), "{error}");
    }

    #[test]
    fn a_hundred_classes_by_their_fine_labels() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("test"), batch("fine_labels", "u1", &[99, 7], &pixels(2))).unwrap();
        let source = Cifar::open(&CifarConfig { root: root.path().into() }, CifarKind::Hundred, Split::Test).unwrap();
        assert_eq!((source.label(0), source.label(1), source.classes()[7].as_str()), (Some(99), Some(7), "7"));
    }

    #[test]
    fn damage_is_named_and_nothing_is_run() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("test_batch");
        let refusal = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let error =
                Cifar::open(&CifarConfig { root: root.path().into() }, CifarKind::Ten, Split::Test).unwrap_err().to_string();
            assert!(error.contains("test_batch") && error.contains("hint: "), "{error}");
            error
        };
        let whole = batch("labels", "u1", &[1, 9], &pixels(2));
        for length in (0..whole.len()).step_by(97) {
            refusal(&whole[..length]);
        }
        assert!(refusal(&batch("labels", "u1", &[1, 10], &pixels(2))).contains("has label 10, must be below 10"));
        assert!(refusal(&batch("labels", "u1", &[1], &pixels(2))).contains("1 labels and 6144 bytes"));
        assert!(refusal(&batch("labels", "f4", &[1, 2], &pixels(2))).contains("type f4, expected u1"));
        assert!(refusal(&batch("fine_labels", "u1", &[1, 2], &pixels(2))).contains("no entry `labels`"));
        refusal(b"cos\nsystem\n(S'touch unmix-ran-this'\ntR.");
        assert!(!Path::new("unmix-ran-this").exists());
    }

    #[test]
    fn an_archive_is_named() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("cifar-100-python.tar.gz"), "").unwrap();
        let error = Cifar::open(&CifarConfig { root: root.path().into() }, CifarKind::Hundred, Split::Train).unwrap_err();
        assert!(error.hints().iter().any(|hint| hint.contains("tar -xzf cifar-100-python.tar.gz")), "{error}");
    }
}
