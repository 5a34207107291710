//! Named f32 tensors as a file.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::StateDict;
use crate::error::{Error, Result};
use crate::files;

/// Writes f32 tensors as safetensors.
///
/// # Errors
/// Those of the disk.
pub fn write_tensors(path: &Path, tensors: &StateDict) -> Result<()> {
    let broken = |e: &dyn std::fmt::Display| Error::run(format!("cannot write `{}`: {e}", path.display()));
    let bytes: BTreeMap<&String, (Vec<usize>, &[u8])> =
        tensors.iter().map(|(name, data)| (name, (data.shape().to_vec(), data.as_bytes()))).collect();
    let views = bytes
        .iter()
        .map(|(name, (shape, bytes))| {
            Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(|e| broken(&e))?))
        })
        .collect::<Result<Vec<_>>>()?;
    let packed = safetensors::serialize(views, None).map_err(|e| broken(&e))?;
    files::write_atomic(path, &packed)
}

/// Reads f32 tensors from safetensors.
///
/// # Errors
/// A missing or damaged file, tensors that are not f32.
pub fn read_tensors(path: &Path) -> Result<StateDict> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    let damaged =
        |e: &dyn std::fmt::Display| Error::input(format!("`{}` is damaged: {e}", path.display())).hint("restore it from a copy");
    let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(&e))?;
    let mut out = StateDict::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(damaged(&format!("tensor `{name}` is {:?}, not F32", view.dtype())));
        }
        let values: Vec<f32> = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        out.insert(name, TensorData::new(values, view.shape().to_vec()));
    }
    Ok(out)
}
