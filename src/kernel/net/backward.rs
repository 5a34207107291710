//! The gradients of a block: one node, whose backward pass is the backend's.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;

use super::ops::{Kept, NetGradients, NetOps};
use super::tensors::Tensors;
use super::{Block, Groups, Ways, Window};

/// The node of [`NetOps::net_block`]; its parents are the input and the parameters.
#[derive(Debug)]
struct Node;

impl<B: NetGradients, const N: usize> Backward<B, N> for Node {
    type State = Kept;

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let input_too = ops.parents[0].is_some();
        let found = B::net_block_backward(gradient, ops.state, input_too);
        let parents = ops.parents.into_iter().skip(usize::from(!input_too));
        for (parent, gradient) in parents.zip(found.0) {
            if let Some(parent) = parent {
                gradients.register::<B>(parent.id, gradient);
            }
        }
    }
}

/// The node of [`NetOps::net_max_pool`].
#[derive(Debug)]
struct Pooling;

impl<B: NetGradients> Backward<B, 1> for Pooling {
    type State = Kept;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let kept = ops.state;
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| B::net_max_pool_backward(gradient, kept));
    }
}

impl<B: NetGradients, C: CheckpointStrategy> NetOps for Autodiff<B, C> {
    fn net_block(
        x: FloatTensor<Self>,
        params: Tensors<Self>,
        block: Block,
        groups: Groups,
        ways: Ways,
        _: bool,
    ) -> (FloatTensor<Self>, Tensors<Self>, Kept) {
        // The number of parents is part of a node's type: the input, and three parameters of each of at most four units.
        match params.0.len() {
            3 => tracked::<B, C, 4>(x, params, block, groups, ways),
            6 => tracked::<B, C, 7>(x, params, block, groups, ways),
            9 => tracked::<B, C, 10>(x, params, block, groups, ways),
            12 => tracked::<B, C, 13>(x, params, block, groups, ways),
            other => panic!("a block of {other} parameters: at most three convolutions and that of a shortcut have a node"),
        }
    }

    fn net_max_pool(x: FloatTensor<Self>, window: Window, ways: Ways, _: bool) -> (FloatTensor<Self>, Kept) {
        let (x, node) = x.into_parts();
        let y = match Backward::<B, 1>::prepare::<C>(Pooling, [node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (y, kept) = B::net_max_pool(x, window, ways, true);
                prep.finish(kept, y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::net_max_pool(x, window, ways, false).0),
        };
        (y, Kept::default())
    }
}

/// What [`NetOps::net_block`] gives on a backend.
type Output<B> = (FloatTensor<B>, Tensors<B>, Kept);

fn tracked<B: NetGradients, C: CheckpointStrategy, const N: usize>(
    x: FloatTensor<Autodiff<B, C>>,
    params: Tensors<Autodiff<B, C>>,
    block: Block,
    groups: Groups,
    ways: Ways,
) -> Output<Autodiff<B, C>> {
    let (x, first) = x.into_parts();
    let (mut values, mut nodes) = (Vec::new(), vec![first]);
    for param in params.0 {
        let (value, node) = param.into_parts();
        values.push(value);
        nodes.push(node);
    }
    let nodes: [_; N] = nodes.try_into().expect("the caller counted them");
    let forward = |keep| B::net_block(x, Tensors(values), block, groups, ways, keep);
    let (y, seen) = match Backward::<B, N>::prepare::<C>(Node, nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let (y, seen, kept) = forward(true);
            (prep.finish(kept, y), seen)
        }
        OpsKind::UnTracked(prep) => {
            let (y, seen, _) = forward(false);
            (prep.finish(y), seen)
        }
    };
    (y, Tensors(seen.0.into_iter().map(<FloatTensor<Autodiff<B, C>>>::new).collect()), Kept::default())
}
