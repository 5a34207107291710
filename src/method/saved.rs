//! Pieces of a method's saved state.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use crate::error::{Error, Result};
use crate::model::state::{self, StateDict};

/// All tensors of a module, their names behind `prefix` and a dot.
pub fn module<M: Module>(prefix: &str, module: &M) -> StateDict {
    state::collect(module).into_iter().map(|(name, data)| (format!("{prefix}.{name}"), data)).collect()
}

/// The tensors behind a prefix (with its dot), without it.
pub fn part(state: &StateDict, prefix: &str) -> StateDict {
    state.iter().filter_map(|(name, data)| Some((name.strip_prefix(prefix)?.to_owned(), data.clone()))).collect()
}

/// The rows of a memory, `want` = `[n, d]`.
///
/// # Errors
/// There are none, or of another shape.
pub fn rows(state: &StateDict, name: &str, want: &[usize; 2]) -> Result<TensorData> {
    let rows = state.get(name).ok_or_else(|| {
        Error::input(format!("the checkpoint holds no `{name}`"))
            .hint("it was written by another method: `method.name` must be its own")
    })?;
    if rows.shape().to_vec() != want {
        return Err(Error::input(format!("the checkpoint's `{name}` is {:?}, the run's {want:?}", rows.shape()))
            .hint("the dataset, `method.memory.size` and `model.head.dim` must be those of the checkpoint"));
    }
    Ok(rows.clone())
}

/// Saves an optional number.
pub fn put(all: &mut StateDict, name: &str, value: Option<&Tensor<1>>) {
    if let Some(value) = value {
        all.insert(name.to_owned(), value.clone().into_data());
    }
}

/// An optional number, `[1]`.
pub fn get(state: &StateDict, name: &str, device: &Device) -> Option<Tensor<1>> {
    state.get(name).map(|data| Tensor::from_data(data.clone(), device))
}
