//! The updates on each backend.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

use super::{Own, SgdStep};
use crate::kernel::KernelPath;
use crate::kernel::net::tensors::Tensors;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use crate::kernel::{Op, path::absent};

/// Updates with kernels of their own: `flex` on the CPU, `cube` on CubeCL devices. The path `tensor`, which all have, is no method of theirs.
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
)]
pub trait UpdateOps: Backend {
    /// See [`super::sgd`]: the next weights and velocities.
    fn update_sgd(
        #[extension_type] weights: Tensors<Self>,
        #[extension_type] gradients: Tensors<Self>,
        #[extension_type] velocities: Tensors<Self>,
        own: Vec<Own>,
        step: SgdStep,
        path: KernelPath,
    ) -> (Tensors<Self>, Tensors<Self>);

    /// See [`super::average`].
    fn update_average(
        #[extension_type] slow: Tensors<Self>,
        #[extension_type] fast: Tensors<Self>,
        momentum: f64,
        path: KernelPath,
    ) -> Tensors<Self>;

    /// See [`super::square_sum`].
    fn update_square_sum(#[extension_type] values: Tensors<Self>, path: KernelPath) -> FloatTensor<Self>;
}

#[cfg(feature = "flex")]
impl UpdateOps for burn::backend::Flex {
    fn update_sgd(
        weights: Tensors<Self>,
        gradients: Tensors<Self>,
        velocities: Tensors<Self>,
        own: Vec<Own>,
        step: SgdStep,
        path: KernelPath,
    ) -> (Tensors<Self>, Tensors<Self>) {
        crate::kernel::backend::cpu::only_flex(path);
        let (weights, velocities) = super::flex::sgd(weights.0, gradients.0, velocities.0, &own, step);
        (Tensors(weights), Tensors(velocities))
    }

    fn update_average(slow: Tensors<Self>, fast: Tensors<Self>, momentum: f64, path: KernelPath) -> Tensors<Self> {
        crate::kernel::backend::cpu::only_flex(path);
        Tensors(super::flex::average(slow.0, fast.0, momentum))
    }

    fn update_square_sum(values: Tensors<Self>, path: KernelPath) -> FloatTensor<Self> {
        crate::kernel::backend::cpu::only_flex(path);
        super::flex::square_sum(&values.0)
    }
}

/// Refuses every path but `cube`.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn only_cube(path: KernelPath) {
    if path != KernelPath::Cube {
        absent(Op::Update, path);
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl UpdateOps for burn_cubecl::CubeBackend {
    fn update_sgd(
        weights: Tensors<Self>,
        gradients: Tensors<Self>,
        velocities: Tensors<Self>,
        own: Vec<Own>,
        step: SgdStep,
        path: KernelPath,
    ) -> (Tensors<Self>, Tensors<Self>) {
        only_cube(path);
        let (weights, velocities) = super::cube::sgd(weights.0, gradients.0, velocities.0, &own, step);
        (Tensors(weights), Tensors(velocities))
    }

    fn update_average(slow: Tensors<Self>, fast: Tensors<Self>, momentum: f64, path: KernelPath) -> Tensors<Self> {
        only_cube(path);
        Tensors(super::cube::average(slow.0, fast.0, momentum))
    }

    fn update_square_sum(values: Tensors<Self>, path: KernelPath) -> FloatTensor<Self> {
        only_cube(path);
        super::cube::square_sum(values.0)
    }
}
