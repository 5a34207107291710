//! The tensors of a `.safetensors` file, or of what `torch.save` wrote, by their names there.
//!
//! A `.pth` file is a pickle, a program that builds objects. It is not run: the reader knows the few calls that make tensors and keeps the
//! names of all others. A file with a call that has no place among weights is refused all the same, so that it does not go unnoticed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use burn::tensor::{DType, TensorData};
use pytorch_reader::{PickleValue, PytorchReader};
use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};

/// Larger files are refused unread.
const MAX_FILE_BYTES: u64 = 16 << 30;

/// Reads the bytes of one tensor.
type ReadBytes = Box<dyn Fn() -> std::io::Result<Vec<u8>>>;

/// A tensor of a file, its bytes not read yet.
pub(super) struct Stored {
    pub shape: Vec<usize>,
    /// The element type as the file's format calls it.
    pub kind: String,
    /// The floating-point type, if it is one that converts to f32.
    float: Option<DType>,
    bytes: ReadBytes,
}

impl Stored {
    pub fn is_float(&self) -> bool {
        self.float.is_some()
    }

    pub fn needs_conversion(&self) -> bool {
        self.float.is_some_and(|kind| kind != DType::F32)
    }

    /// The values as f32, or what is wrong with them.
    pub fn values(&self) -> Result<TensorData, String> {
        let kind = self.float.ok_or_else(|| format!("the type {} is no floating-point type", self.kind))?;
        let bytes = (self.bytes)().map_err(|e| e.to_string())?;
        let data = TensorData::try_from_bytes_vec(bytes, self.shape.clone(), kind).map_err(|e| e.to_string())?;
        data.try_cast_as::<f32>().map_err(|e| e.to_string())
    }
}

/// All tensors of a file. Dictionaries in it become dotted names: `state_dict.conv1.weight`.
///
/// # Errors
/// No regular file, neither format, damage, or a pickle with calls that have no place among weights.
pub(super) fn open(path: &Path) -> Result<BTreeMap<String, Stored>> {
    let failed = |e: std::io::Error| Error::io("read the weights", path, &e);
    // Asked before opening: to open a named pipe would wait for its writer.
    let about = fs::metadata(path).map_err(failed)?;
    if !about.is_file() || about.len() > MAX_FILE_BYTES {
        let what = format!("`{}` is no regular file of at most {} GiB", path.display(), MAX_FILE_BYTES >> 30);
        return Err(Error::input(what).hint("name a `.safetensors`, `.pth` or `.pt` file"));
    }
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(9).read_to_end(&mut start)).map_err(failed)?;
    // The length of a JSON header, then the header.
    let tensors = if start.get(8) == Some(&b'{') { safetensors(path)? } else { pytorch(path)? };
    if tensors.is_empty() {
        return Err(Error::input(format!("`{}` holds no tensor", path.display()))
            .hint("save a state dict: torch.save(model.state_dict(), FILE), or save_file of safetensors.torch"));
    }
    Ok(tensors)
}

/// An error about the content of a file.
pub(super) fn damaged(path: &Path, what: &str) -> Error {
    Error::input(format!("`{}` cannot be read: {what}", path.display()))
        .hint("expected is a whole `.safetensors` file, or one that `torch.save` wrote; if it is one, fetch it again")
}

fn safetensors(path: &Path) -> Result<BTreeMap<String, Stored>> {
    let bytes = fs::read(path).map_err(|e| Error::io("read the weights", path, &e))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(path, &e.to_string()))?;
    let stored = file.iter().map(|(name, view)| {
        let float = match view.dtype() {
            Dtype::F64 => Some(DType::F64),
            Dtype::F32 => Some(DType::F32),
            Dtype::F16 => Some(DType::F16),
            Dtype::BF16 => Some(DType::BF16),
            _ => None,
        };
        let bytes = view.data().to_vec();
        let stored = Stored {
            shape: view.shape().to_vec(),
            kind: format!("{:?}", view.dtype()),
            float,
            bytes: Box::new(move || Ok(bytes.clone())),
        };
        (name.to_owned(), stored)
    });
    Ok(stored.collect())
}

fn pytorch(path: &Path) -> Result<BTreeMap<String, Stored>> {
    use pytorch_reader::DType as Kind;
    let failed = |e: pytorch_reader::PytorchError| damaged(path, &e.to_string());
    let root = PytorchReader::read_pickle_data(path, None).map_err(failed)?;
    let mut foreign = BTreeSet::new();
    collect_foreign(&root, &mut foreign);
    if let Some(first) = foreign.first() {
        let error =
            Error::input(format!("`{}` is refused: besides weights it makes Python call or load `{first}`", path.display()));
        let error = foreign.iter().skip(1).take(9).fold(error, |error, name| error.detail(format!("and `{name}`")));
        return Err(error
            .detail("nothing in the file was run")
            .hint("if you trust its source, save the tensors alone, for example with safetensors.torch.save_file"));
    }
    let tensors = PytorchReader::new(path).map_err(failed)?.into_tensors();
    let stored = tensors.into_values().map(|tensor| {
        let float = match tensor.dtype() {
            Kind::F64 => Some(DType::F64),
            Kind::F32 => Some(DType::F32),
            Kind::F16 => Some(DType::F16),
            Kind::BF16 => Some(DType::BF16),
            _ => None,
        };
        let (name, kind, shape, bytes) = tensor.into_parts();
        (name, Stored { shape, kind: format!("{kind:?}"), float, bytes: Box::new(bytes) })
    });
    Ok(stored.collect())
}

/// The names of classes and functions that trainers do not save beside their weights.
fn collect_foreign(value: &PickleValue, out: &mut BTreeSet<String>) {
    match value {
        PickleValue::List(items) => items.iter().for_each(|item| collect_foreign(item, out)),
        PickleValue::Dict(entries) => entries.values().for_each(|item| collect_foreign(item, out)),
        PickleValue::Unsupported(name) if !is_usual(name) => {
            out.insert(name.clone());
        }
        _ => {}
    }
}

/// Tensors and their types, options, numbers and paths as trainers keep them; a name without a dot is a plain value.
fn is_usual(name: &str) -> bool {
    const PLAIN: [&str; 10] = ["bool", "bytearray", "bytes", "complex", "dict", "float", "int", "list", "str", "tuple"];
    match name.split_once('.') {
        None => true,
        Some(("torch", rest)) => !rest.starts_with("hub.") && !rest.starts_with("load"),
        Some(("numpy" | "argparse" | "collections" | "pathlib" | "datetime", _)) => true,
        Some(("builtins" | "__builtin__", rest)) => PLAIN.contains(&rest),
        Some(_) => false,
    }
}
