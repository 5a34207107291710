//! Named f32 tensors as a file.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::TensorData;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::StateDict;
use crate::error::{Error, Result};
use crate::files;
use crate::simd::widened;

/// The largest magnitude of a value that a net can still be run with: sums of squares of a whole layer fit into f32.
pub const SANE: f32 = 1e15;

/// The first tensor that holds a value which is not finite or beyond `bound`, by name, and what it holds in words. A single number is a
/// constant or a position rather than one of many weights, and need only be finite, as do running statistics: training does not read them.
pub fn first_bad(state: &StateDict, bound: f32) -> Option<(String, String)> {
    let bound_of = |name: &str, data: &TensorData| match data.num_elements() {
        1 => f32::MAX,
        _ if name.contains(".running_") => f32::MAX,
        _ => bound,
    };
    state.iter().find_map(|(name, data)| Some((name.clone(), bad_value(data, bound_of(name, data))?)))
}

/// The first value of a tensor that is not finite or beyond `bound`, in words.
pub fn bad_value(data: &TensorData, bound: f32) -> Option<String> {
    let Ok(values) = data.as_slice::<f32>() else { return Some(format!("it holds {:?}, not f32", data.dtype())) };
    if largest(values) <= bound.to_bits() {
        return None;
    }
    let at = values.iter().position(|value| !value.is_finite() || value.abs() > bound)?;
    Some(match values[at] {
        value if value.is_finite() => format!("value {at} is {value:e}, beyond {bound:e}"),
        value => format!("value {at} is {value}"),
    })
}

widened! {
    /// The bits of the largest magnitude. As integers, magnitudes are in the order of their values, infinity above all numbers and NaN
    /// above infinity.
    fn largest(values: &[f32]) -> u32 {
        values.iter().fold(0, |most, value| most.max(value.to_bits() & 0x7fff_ffff))
    }
}

/// Writes f32 tensors as safetensors.
///
/// # Errors
/// Those of the disk.
pub fn write_tensors(path: &Path, tensors: &StateDict) -> Result<()> {
    files::write_atomic(path, &pack_tensors(tensors)?)
}

/// The bytes of a safetensors file of f32 tensors.
///
/// # Errors
/// A tensor of another type.
pub fn pack_tensors(tensors: &StateDict) -> Result<Vec<u8>> {
    let broken = |e: &dyn std::fmt::Display| Error::run(format!("cannot pack the tensors: {e}"));
    let bytes: BTreeMap<&String, (Vec<usize>, &[u8])> =
        tensors.iter().map(|(name, data)| (name, (data.shape().to_vec(), data.as_bytes()))).collect();
    let views = bytes
        .iter()
        .map(|(name, (shape, bytes))| {
            Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(|e| broken(&e))?))
        })
        .collect::<Result<Vec<_>>>()?;
    safetensors::serialize(views, None).map_err(|e| broken(&e))
}

/// Reads f32 tensors from safetensors.
///
/// # Errors
/// A missing or damaged file, tensors that are not f32.
pub fn read_tensors(path: &Path) -> Result<StateDict> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    unpack_tensors(&bytes)
        .map_err(|error| Error::input(format!("`{}`: {}", path.display(), error.message())).hint("restore it from a copy"))
}

/// The f32 tensors of a safetensors file that was read.
///
/// # Errors
/// Damage, tensors that are not f32.
pub fn unpack_tensors(bytes: &[u8]) -> Result<StateDict> {
    let damaged = |e: &dyn std::fmt::Display| Error::input(format!("the tensors are damaged: {e}"));
    let file = SafeTensors::deserialize(bytes).map_err(|e| damaged(&e))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn with(at: usize, value: f32) -> StateDict {
        let mut values = vec![0.5f32; 1000];
        values[at] = value;
        [("good", vec![1.0f32; 7]), ("spoilt", values)]
            .map(|(name, v)| (name.to_owned(), TensorData::new(v.clone(), [v.len()])))
            .into()
    }

    #[test]
    fn any_value_that_is_not_finite_or_too_large_is_found_wherever_it_stands() {
        assert_eq!(first_bad(&with(3, -1e15), SANE), None);
        for at in [0, 7, 8, 500, 999] {
            for value in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.1e15, -f32::MAX] {
                let (name, what) = first_bad(&with(at, value), SANE).unwrap_or_else(|| panic!("{value} at {at} is passed over"));
                assert!(name == "spoilt" && what.starts_with(&format!("value {at} is ")), "{name}: {what}");
            }
        }
    }

    /// The constant Z of NCE is a sum over the data set of exp(score / temperature).
    #[test]
    fn a_single_number_may_be_large_but_not_infinite() {
        let one = |value: f32| [("nce_z".to_owned(), TensorData::new(vec![value], [1]))].into();
        assert_eq!(first_bad(&one(1e28), SANE), None);
        assert_eq!(first_bad(&one(f32::INFINITY), SANE), Some(("nce_z".to_owned(), "value 0 is inf".to_owned())));
    }

    #[test]
    fn integers_are_no_weights() {
        let state = [("n".to_owned(), TensorData::new(vec![1i32, 2], [2]))].into();
        assert!(first_bad(&state, SANE).unwrap().1.contains("not f32"));
    }
}
