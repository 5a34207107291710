//! The moving average that makes a key or target encoder.

use burn::module::Module;

use super::state::{AnyTensor, Taken, edit_parameters, map_values};
use crate::kernel::KernelPath;
use crate::kernel::update::average;
use std::collections::HashMap;

/// `key <- momentum * key + (1 - momentum) * query`, parameters only: the running statistics of the key encoder are its own
/// (MoCo, section 3.2 of arXiv 1911.05722; its code and both versions of 2003.05438 leave the buffers alone).
pub fn update<M: Module>(key: &mut M, query: &M, momentum: f64, path: KernelPath) {
    let mut source = HashMap::new();
    // A clone shares the values; mapping with the identity only reads them.
    let _ = map_values(query.clone(), &mut |parameter, value| {
        source.insert(parameter.name.to_owned(), value.clone());
        value
    });
    edit_parameters(key, &mut |taken| {
        let pairs = taken.into_iter().map(|Taken { name, value, .. }| (value.0, source[&name].0.clone())).collect();
        average(pairs, momentum, path).into_iter().map(AnyTensor).collect()
    });
}
