//! The updates on each backend.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

use super::SgdStep;
use crate::kernel::KernelPath;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use crate::kernel::{Op, path::absent};

/// Updates with a kernel of their own: `flex` on the CPU. Other backends have the path `tensor`, which is no method of theirs.
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
)]
pub trait UpdateOps: Backend {
    /// See [`super::sgd`]: the next weight and velocity. With `first` there is no old velocity.
    fn update_sgd(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        velocity: FloatTensor<Self>,
        step: SgdStep,
        first: bool,
        path: KernelPath,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`super::average`].
    fn update_average(slow: FloatTensor<Self>, fast: FloatTensor<Self>, momentum: f64, path: KernelPath) -> FloatTensor<Self>;

    /// See [`super::square_sum`].
    fn update_square_sum(values: FloatTensor<Self>, path: KernelPath) -> FloatTensor<Self>;
}

#[cfg(feature = "flex")]
impl UpdateOps for burn::backend::Flex {
    fn update_sgd(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        velocity: FloatTensor<Self>,
        step: SgdStep,
        first: bool,
        path: KernelPath,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        crate::kernel::backend::cpu::only_flex(path);
        super::flex::sgd(weight, &gradient, velocity, step, first)
    }

    fn update_average(slow: FloatTensor<Self>, fast: FloatTensor<Self>, momentum: f64, path: KernelPath) -> FloatTensor<Self> {
        crate::kernel::backend::cpu::only_flex(path);
        super::flex::average(slow, &fast, momentum)
    }

    fn update_square_sum(values: FloatTensor<Self>, path: KernelPath) -> FloatTensor<Self> {
        crate::kernel::backend::cpu::only_flex(path);
        super::flex::square_sum(&values)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl UpdateOps for burn_cubecl::CubeBackend {
    fn update_sgd(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: SgdStep,
        _: bool,
        path: KernelPath,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        absent(Op::Update, path)
    }

    fn update_average(_: FloatTensor<Self>, _: FloatTensor<Self>, _: f64, path: KernelPath) -> FloatTensor<Self> {
        absent(Op::Update, path)
    }

    fn update_square_sum(_: FloatTensor<Self>, path: KernelPath) -> FloatTensor<Self> {
        absent(Op::Update, path)
    }
}
