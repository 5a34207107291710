//! The operation of a block on each backend.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

use super::tensors::Tensors;
use super::{Block, Ways, Window};
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use crate::kernel::{Op, path::absent};

/// What a forward pass leaves for its backward pass; what it is, only the backend knows.
#[derive(Clone, Default)]
pub struct Kept(pub Option<Arc<dyn Any + Send + Sync>>);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

/// Blocks with a kernel of their own: `flex` on the CPU. Other backends have the path `tensor`, which is no method of theirs.
#[backend_extension(
    Autodiff,
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Flex: cfg(feature = "flex"),
)]
pub trait NetOps: Backend {
    /// See [`super::block`]. `params` are weight, gamma and beta of each unit; the second result is mean and unbiased variance of each, the
    /// third what the backward pass needs, with `keep` alone.
    fn net_block(
        x: FloatTensor<Self>,
        #[extension_type] params: Tensors<Self>,
        block: Block,
        groups: usize,
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
        groups: usize,
        ways: Ways,
        keep: bool,
    ) -> (FloatTensor<Self>, Tensors<Self>, Kept) {
        start(ways);
        let (y, seen, kept) = among_workers(|| super::flex::forward(x, params, &block, groups, ways, keep));
        (y, seen, Kept(kept.map(|kept| Arc::new(kept) as Arc<dyn Any + Send + Sync>)))
    }

    fn net_max_pool(x: FloatTensor<Self>, window: Window, ways: Ways, keep: bool) -> (FloatTensor<Self>, Kept) {
        start(ways);
        let (y, kept) = among_workers(|| super::flex::pooling::forward(x, window, keep));
        (y, Kept(kept.map(|kept| Arc::new(kept) as Arc<dyn Any + Send + Sync>)))
    }
}

#[cfg(feature = "flex")]
impl NetGradients for burn::backend::Flex {
    fn net_block_backward(gradient: FloatTensor<Self>, kept: Kept, input_too: bool) -> Tensors<Self> {
        let kept = kept.0.and_then(|kept| kept.downcast::<super::flex::Kept>().ok());
        let kept = kept.expect("the forward pass kept it");
        among_workers(|| super::flex::backward(gradient, &kept, input_too))
    }

    fn net_max_pool_backward(gradient: FloatTensor<Self>, kept: Kept) -> FloatTensor<Self> {
        let kept = kept.0.and_then(|kept| kept.downcast::<super::flex::pooling::Kept>().ok());
        let kept = kept.expect("the forward pass kept it");
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

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl NetOps for burn_cubecl::CubeBackend {
    fn net_block(
        _: FloatTensor<Self>,
        _: Tensors<Self>,
        _: Block,
        _: usize,
        ways: Ways,
        _: bool,
    ) -> (FloatTensor<Self>, Tensors<Self>, Kept) {
        absent(Op::Net, ways.path)
    }

    fn net_max_pool(_: FloatTensor<Self>, _: Window, ways: Ways, _: bool) -> (FloatTensor<Self>, Kept) {
        absent(Op::Net, ways.path)
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl NetGradients for burn_cubecl::CubeBackend {
    fn net_block_backward(_: FloatTensor<Self>, _: Kept, _: bool) -> Tensors<Self> {
        unreachable!("its forward pass refuses every path")
    }

    fn net_max_pool_backward(_: FloatTensor<Self>, _: Kept) -> FloatTensor<Self> {
        unreachable!("its forward pass refuses every path")
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl NetEvaluation for burn_cubecl::CubeBackend {
    fn net_block_in_evaluation(_: FloatTensor<Self>, _: Tensors<Self>, _: Block, ways: Ways) -> FloatTensor<Self> {
        absent(Op::Net, ways.path)
    }
}
