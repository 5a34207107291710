//! The gradients of the operations on rows: one node each.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;

use super::ops::{RowsGradients, RowsOps};
use crate::kernel::KernelPath;

/// The node of [`RowsOps::rows_unit`].
#[derive(Debug)]
struct Unit;

impl<B: RowsGradients> Backward<B, 1> for Unit {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let x = ops.state;
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| B::rows_unit_backward(x, gradient));
    }
}

/// The node of [`RowsOps::rows_softmax`]: logits, and the logarithms of their sums.
#[derive(Debug)]
struct Softmax;

impl<B: RowsGradients> Backward<B, 1> for Softmax {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (logits, sums) = ops.state;
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| B::rows_softmax_backward(logits, sums, gradient));
    }
}

impl<B: RowsGradients, C: CheckpointStrategy> RowsOps for Autodiff<B, C> {
    fn rows_unit(x: FloatTensor<Self>, path: KernelPath) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let y = B::rows_unit(x.clone(), path);
        match Backward::<B, 1>::prepare::<C>(Unit, [node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(x, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn rows_softmax(logits: FloatTensor<Self>, path: KernelPath) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (logits, node) = logits.into_parts();
        let (loss, sums) = B::rows_softmax(logits.clone(), path);
        let loss = match Backward::<B, 1>::prepare::<C>(Softmax, [node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((logits, sums.clone()), loss),
            OpsKind::UnTracked(prep) => prep.finish(loss),
        };
        (loss, <FloatTensor<Self>>::new(sums))
    }
}
