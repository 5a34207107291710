//! The gradients of the two operations of a bank, on every backend and path.
//!
//! Both are linear in their first argument, and each is the transpose of the other. So a graph keeps what is there anyway, the bank and the
//! numbers of the rows, and the backward pass reads the rows once more: no graph ever holds them gathered, `[b, 1 + k, d]`.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend};

use super::ops::BankOps;
use crate::kernel::KernelPath;

/// What the backward pass needs: the bank, which is a constant, the rows, and the path of the forward pass.
type Constants<B> = (FloatTensor<B>, IntTensor<B>, KernelPath);

/// The node of [`BankOps::bank_dots`].
#[derive(Debug)]
struct Dots;

/// The node of [`BankOps::bank_pull`].
#[derive(Debug)]
struct Pull;

impl<B: Backend + BankOps> Backward<B, 1> for Dots {
    type State = Constants<B>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (bank, rows, path) = ops.state;
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| B::bank_pull(gradient, bank, rows, path));
    }
}

impl<B: Backend + BankOps> Backward<B, 1> for Pull {
    type State = Constants<B>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (bank, rows, path) = ops.state;
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| B::bank_dots(gradient, bank, rows, path));
    }
}

impl<B: Backend + BankOps, C: CheckpointStrategy> BankOps for Autodiff<B, C> {
    fn bank_dots(
        features: FloatTensor<Self>,
        bank: FloatTensor<Self>,
        rows: IntTensor<Self>,
        path: KernelPath,
    ) -> FloatTensor<Self> {
        let bank = bank.into_primitive();
        let (features, node) = features.into_parts();
        let dots = B::bank_dots(features, bank.clone(), rows.clone(), path);
        match Dots.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((bank, rows, path), dots),
            OpsKind::UnTracked(prep) => prep.finish(dots),
        }
    }

    fn bank_pull(
        weights: FloatTensor<Self>,
        bank: FloatTensor<Self>,
        rows: IntTensor<Self>,
        path: KernelPath,
    ) -> FloatTensor<Self> {
        let bank = bank.into_primitive();
        let (weights, node) = weights.into_parts();
        let sums = B::bank_pull(weights, bank.clone(), rows.clone(), path);
        match Pull.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((bank, rows, path), sums),
            OpsKind::UnTracked(prep) => prep.finish(sums),
        }
    }
}
