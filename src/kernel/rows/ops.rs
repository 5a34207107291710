//! The operations on rows on each backend.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

use crate::kernel::KernelPath;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use crate::kernel::{
    Op,
    path::{absent, ran},
};

/// Rows with kernels of their own: `cube` on CubeCL devices. The path `tensor`, which all backends have, is no method of theirs.
#[backend_extension(
    Autodiff,
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
)]
pub trait RowsOps: Backend {
    /// See [`super::unit`].
    fn rows_unit(x: FloatTensor<Self>, path: KernelPath) -> FloatTensor<Self>;

    /// See [`super::softmax_loss`]; the second result is the logarithm of each row's sum of exponentials, `[n]`.
    fn rows_softmax(logits: FloatTensor<Self>, path: KernelPath) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// The backward passes of [`RowsOps`].
pub trait RowsGradients: RowsOps {
    /// The gradient of `x` from that of [`RowsOps::rows_unit`].
    fn rows_unit_backward(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient of `logits` from that of [`RowsOps::rows_softmax`]'s first result; `sums` is its second.
    fn rows_softmax_backward(logits: FloatTensor<Self>, sums: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;
}

#[cfg(feature = "flex")]
impl RowsOps for burn::backend::Flex {
    fn rows_unit(_: FloatTensor<Self>, path: KernelPath) -> FloatTensor<Self> {
        panic!("`rows` has no path `{}` on the CPU", path.name())
    }

    fn rows_softmax(_: FloatTensor<Self>, path: KernelPath) -> (FloatTensor<Self>, FloatTensor<Self>) {
        panic!("`rows` has no path `{}` on the CPU", path.name())
    }
}

#[cfg(feature = "flex")]
impl RowsGradients for burn::backend::Flex {
    fn rows_unit_backward(_: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("its forward pass refuses every path")
    }

    fn rows_softmax_backward(_: FloatTensor<Self>, _: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("its forward pass refuses every path")
    }
}

/// Refuses every path but `cube`, and counts a start.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn start(path: KernelPath) {
    if path != KernelPath::Cube {
        absent(Op::Rows, path);
    }
    ran(Op::Rows, path);
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl RowsOps for burn_cubecl::CubeBackend {
    fn rows_unit(x: FloatTensor<Self>, path: KernelPath) -> FloatTensor<Self> {
        start(path);
        super::cube::unit(x)
    }

    fn rows_softmax(logits: FloatTensor<Self>, path: KernelPath) -> (FloatTensor<Self>, FloatTensor<Self>) {
        start(path);
        super::cube::softmax(logits)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl RowsGradients for burn_cubecl::CubeBackend {
    fn rows_unit_backward(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        super::cube::unit_backward(x, gradient)
    }

    fn rows_softmax_backward(logits: FloatTensor<Self>, sums: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        super::cube::softmax_backward(logits, sums, gradient)
    }
}
