//! The two operations of a bank on each backend.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};

use super::{reference, tensor};
use crate::kernel::path::ran;
use crate::kernel::{KernelPath, Op};

/// Scores against drawn rows, and sums of them. Each is the other's transpose, so that each is the other's backward pass (`backward.rs`).
///
/// The portable paths run on every backend, `flex` on the CPU, `cube` on CubeCL devices; another one panics.
#[backend_extension(
    Autodiff,
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
)]
pub trait BankOps: Backend {
    /// Dot products of `features` `[b, d]` with rows `rows` `[b, r]` of `bank` `[n, d]`: `[b, r]`.
    fn bank_dots(
        features: FloatTensor<Self>,
        bank: FloatTensor<Self>,
        rows: IntTensor<Self>,
        path: KernelPath,
    ) -> FloatTensor<Self>;

    /// Sums of rows `rows` `[b, r]` of `bank` `[n, d]` with `weights` `[b, r]`: `[b, d]`.
    fn bank_pull(weights: FloatTensor<Self>, bank: FloatTensor<Self>, rows: IntTensor<Self>, path: KernelPath)
    -> FloatTensor<Self>;
}

#[cfg(feature = "flex")]
impl BankOps for burn::backend::Flex {
    fn bank_dots(
        features: FloatTensor<Self>,
        bank: FloatTensor<Self>,
        rows: IntTensor<Self>,
        path: KernelPath,
    ) -> FloatTensor<Self> {
        match path {
            KernelPath::Flex => super::flex::dots(features, bank, rows),
            other => portable_dots::<Self>(features, bank, rows, other),
        }
    }

    fn bank_pull(
        weights: FloatTensor<Self>,
        bank: FloatTensor<Self>,
        rows: IntTensor<Self>,
        path: KernelPath,
    ) -> FloatTensor<Self> {
        match path {
            KernelPath::Flex => super::flex::pull(weights, bank, rows),
            other => portable_pull::<Self>(weights, bank, rows, other),
        }
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl BankOps for burn_cubecl::CubeBackend {
    fn bank_dots(
        features: FloatTensor<Self>,
        bank: FloatTensor<Self>,
        rows: IntTensor<Self>,
        path: KernelPath,
    ) -> FloatTensor<Self> {
        match path {
            KernelPath::Cube => super::cube::dots(features, bank, rows),
            other => portable_dots::<Self>(features, bank, rows, other),
        }
    }

    fn bank_pull(
        weights: FloatTensor<Self>,
        bank: FloatTensor<Self>,
        rows: IntTensor<Self>,
        path: KernelPath,
    ) -> FloatTensor<Self> {
        match path {
            KernelPath::Cube => super::cube::pull(weights, bank, rows),
            other => portable_pull::<Self>(weights, bank, rows, other),
        }
    }
}

/// The paths of [`BankOps::bank_dots`] that every backend has.
fn portable_dots<B: Backend>(
    features: FloatTensor<B>,
    bank: FloatTensor<B>,
    rows: IntTensor<B>,
    path: KernelPath,
) -> FloatTensor<B> {
    start(path);
    match path {
        KernelPath::Reference => reference::dots::<B>(features, bank, rows),
        _ => tensor::dots::<B>(features, bank, rows),
    }
}

/// The paths of [`BankOps::bank_pull`] that every backend has.
fn portable_pull<B: Backend>(
    weights: FloatTensor<B>,
    bank: FloatTensor<B>,
    rows: IntTensor<B>,
    path: KernelPath,
) -> FloatTensor<B> {
    start(path);
    match path {
        KernelPath::Reference => reference::pull::<B>(weights, bank, rows),
        _ => tensor::pull::<B>(weights, bank, rows),
    }
}

/// Counts the start of a portable path, and refuses the others.
fn start(path: KernelPath) {
    let name = path.name();
    assert!(Op::Bank.has(path), "a bank has no path `{name}`: `cube` compiles to WGSL");
    assert!(matches!(path, KernelPath::Reference | KernelPath::Tensor), "the path `{name}` cannot run on this device");
    ran(Op::Bank, path);
}
