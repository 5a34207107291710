//! The tensors of a `.safetensors` file, or of what `torch.save` wrote, by their names there.
//!

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use burn::tensor::{DType, TensorData};
use safetensors::{Dtype, SafeTensors};

use super::pytorch;
use crate::error::{Error, Result, shown_path};

/// Larger files are refused unread.
const MAX_FILE_BYTES: u64 = 16 << 30;

/// Reads the bytes of one tensor.
pub(super) type ReadBytes = Box<dyn Fn() -> std::io::Result<Vec<u8>>>;

/// A tensor of a file, its bytes not read yet.
pub(super) struct Stored {
    pub shape: Vec<usize>,
    /// The element type as the file's format calls it.
    pub kind: String,
    /// The floating-point type, if it is one that converts to f32.
    pub float: Option<DType>,
    pub bytes: ReadBytes,
}

/// The tensors of a file by name, and the classes in it that are none and were passed over.
pub(super) struct Contents {
    pub tensors: BTreeMap<String, Stored>,
    pub foreign: Vec<String>,
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
/// No regular file, neither format, damage, or a pickle that would run a program.
pub(super) fn open(path: &Path) -> Result<Contents> {
    let failed = |e: std::io::Error| Error::io("read the weights", path, &e);
    // Asked before opening: to open a named pipe would wait for its writer.
    let about = fs::metadata(path).map_err(failed)?;
    if !about.is_file() || about.len() > MAX_FILE_BYTES {
        let what = format!("{} is no regular file of at most {} GiB", shown_path(path), MAX_FILE_BYTES >> 30);
        return Err(Error::input(what).hint("name a `.safetensors`, `.pth` or `.pt` file"));
    }
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(9).read_to_end(&mut start)).map_err(failed)?;
    // The length of a JSON header, then the header.
    let contents = if start.get(8) == Some(&b'{') {
        Contents { tensors: safetensors(path)?, foreign: Vec::new() }
    } else {
        pytorch::open(path)?
    };
    if contents.tensors.is_empty() {
        let error = Error::input(format!("{} holds no tensor", shown_path(path)));
        return Err(passed_over(error, &contents.foreign)
            .hint("save a state dict: torch.save(model.state_dict(), FILE), or save_file of safetensors.torch"));
    }
    Ok(contents)
}

/// Adds to an error what was not looked into.
pub(super) fn passed_over(error: Error, foreign: &[String]) -> Error {
    if foreign.is_empty() { error } else { error.detail(format!("passed over, not run: {}", foreign.join(", "))) }
}

/// An error about the content of a file.
pub(super) fn damaged(path: &Path, what: &str) -> Error {
    Error::input(format!("{} cannot be read: {what}", shown_path(path)))
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
