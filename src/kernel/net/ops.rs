//! The operation of a block on each backend.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

use super::tensors::Tensors;
use super::{Block, Groups, Ways, Window};
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use crate::kernel::{
    KernelPath, Op,
    path::{absent, ran},
};

/// What a forward pass leaves for its backward pass; what it is, only the backend knows.
#[derive(Clone, Default)]
pub struct Kept(pub Option<Arc<dyn Any + Send + Sync>>);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

/// Blocks with kernels of their own: `flex` on the CPU, `cube` on CubeCL devices. The path `tensor`, which all have, is no method of theirs.
#[backend_extension(
    Autodiff,
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
)]
pub trait NetOps: Backend {
    /// See [`super::block`]. `params` are weight, gamma and beta of each unit; the second result is mean and unbiased variance of each in each
    /// forward, the third what the backward pass needs, with `keep` alone.
    fn net_block(
        x: FloatTensor<Self>,
        #[extension_type] params: Tensors<Self>,
        block: Block,
        groups: Groups,
        ways: Ways,
        keep: bool,
    ) -> (FloatTensor<Self>, Tensors<Self>, Kept);

    /// See [`super::max_pool`]; the second result is what the backward pass needs, with `keep` alone.
    fn net_max_pool(x: FloatTensor<Self>, window: Window, ways: Ways, keep: bool) -> (FloatTensor<Self>, Kept);
}

/// The backward passes of [`NetOps`]. They have none themselves: a graph of a graph does not compile.
pub trait NetGradients: NetOps {
    /// The gradients of the input of [`NetOps::net_block`], with `input_too` alone and first, and of `params` in their order.
    fn net_block_backward(gradient: FloatTensor<Self>, kept: Kept, input_too: bool) -> Tensors<Self>;

    /// The gradient of the input of [`NetOps::net_max_pool`].
    fn net_max_pool_backward(gradient: FloatTensor<Self>, kept: Kept) -> FloatTensor<Self>;
}

/// Blocks that nobody differentiates.
#[backend_extension(
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
)]
pub trait NetEvaluation: Backend {
    /// See [`super::block_in_evaluation`]. `params` are weight, gamma, beta, mean and variance of each unit.
    fn net_block_in_evaluation(
        x: FloatTensor<Self>,
        #[extension_type] params: Tensors<Self>,
        block: Block,
        ways: Ways,
    ) -> FloatTensor<Self>;
}

/// Does the work of a block as one of the pool's threads. From outside the pool each of its loops would go to sleep until the pool is done, and
/// be woken again, which takes longer than a loop of a small net.
#[cfg(feature = "flex")]
fn among_workers<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    if rayon::current_thread_index().is_some() { work() } else { rayon::scope(|_| work()) }
}

/// Counts a start, on the thread that asked for it.
#[cfg(feature = "flex")]
fn start(ways: Ways) {
    crate::kernel::backend::cpu::only_flex(ways.path);
    crate::kernel::path::ran(crate::kernel::Op::Net, ways.path);
}

#[cfg(feature = "flex")]
impl NetOps for burn::backend::Flex {
    fn net_block(
        x: FloatTensor<Self>,
        params: Tensors<Self>,
        block: Block,
        groups: Groups,
        ways: Ways,
        keep: bool,
    ) -> (FloatTensor<Self>, Tensors<Self>, Kept) {
        start(ways);
        let (y, seen, kept) = among_workers(|| super::flex::forward(x, params, &block, groups, ways, keep));
        (y, seen, keeping(kept))
    }

    fn net_max_pool(x: FloatTensor<Self>, window: Window, ways: Ways, keep: bool) -> (FloatTensor<Self>, Kept) {
        start(ways);
        let (y, kept) = among_workers(|| super::flex::pooling::forward(x, window, keep));
        (y, keeping(kept))
    }
}

#[cfg(feature = "flex")]
impl NetGradients for burn::backend::Flex {
    fn net_block_backward(gradient: FloatTensor<Self>, kept: Kept, input_too: bool) -> Tensors<Self> {
        let kept = found(kept);
        among_workers(|| super::flex::backward(gradient, &kept, input_too))
    }

    fn net_max_pool_backward(gradient: FloatTensor<Self>, kept: Kept) -> FloatTensor<Self> {
        let kept = found(kept);
        among_workers(|| super::flex::pooling::backward(gradient, &kept))
    }
}

#[cfg(feature = "flex")]
impl NetEvaluation for burn::backend::Flex {
    fn net_block_in_evaluation(x: FloatTensor<Self>, params: Tensors<Self>, block: Block, ways: Ways) -> FloatTensor<Self> {
        start(ways);
        among_workers(|| super::flex::in_evaluation(x, params, &block, ways))
    }
}

/// What a forward pass kept, as what it is.
fn found<K: Send + Sync + 'static>(kept: Kept) -> Arc<K> {
    kept.0.and_then(|kept| kept.downcast::<K>().ok()).expect("the forward pass kept it")
}

/// The other way round.
fn keeping<K: Send + Sync + 'static>(kept: Option<K>) -> Kept {
    Kept(kept.map(|kept| Arc::new(kept) as Arc<dyn Any + Send + Sync>))
}

/// Refuses every path but `cube`, and counts a start.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn start_cube(ways: Ways) {
    if ways.path != KernelPath::Cube {
        absent(Op::Net, ways.path);
    }
    ran(Op::Net, ways.path);
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl NetOps for burn_cubecl::CubeBackend {
    fn net_block(
        x: FloatTensor<Self>,
        params: Tensors<Self>,
        block: Block,
        groups: Groups,
        ways: Ways,
        keep: bool,
    ) -> (FloatTensor<Self>, Tensors<Self>, Kept) {
        start_cube(ways);
        let (y, seen, kept) = super::cube::forward(x, params.0, &block, groups, ways.convolver, keep);
        (y, Tensors(seen), keeping(kept))
    }

    fn net_max_pool(x: FloatTensor<Self>, window: Window, ways: Ways, keep: bool) -> (FloatTensor<Self>, Kept) {
        start_cube(ways);
        let (y, kept) = super::cube::pooling::forward(x, window, keep);
        (y, keeping(kept))
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl NetGradients for burn_cubecl::CubeBackend {
    fn net_block_backward(gradient: FloatTensor<Self>, kept: Kept, input_too: bool) -> Tensors<Self> {
        Tensors(super::cube::backward(gradient, &found(kept), input_too))
    }

    fn net_max_pool_backward(gradient: FloatTensor<Self>, kept: Kept) -> FloatTensor<Self> {
        super::cube::pooling::backward(gradient, &found(kept))
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl NetEvaluation for burn_cubecl::CubeBackend {
    fn net_block_in_evaluation(x: FloatTensor<Self>, params: Tensors<Self>, block: Block, ways: Ways) -> FloatTensor<Self> {
        start_cube(ways);
        super::cube::in_evaluation(x, params.0, &block, ways.convolver)
    }
}
