//! Blocks of the nets as CubeCL kernels: CUDA, and every compiler of wgpu. Maps are channels-last from the net's first block on; for everybody
//! else they keep PyTorch's axes, by strides.
//!
//! Here is what happens in which order; [`conv`] and [`norm`] are the kernels.

mod conv;
mod norm;
pub mod pooling;

use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::{permute_nchw_to_nhwc, permute_nhwc_to_nchw};
use burn_cubecl::tensor::CubeTensor;

use self::conv::Whose;
use self::norm::{Joined, Norm};
use super::sizes::{Conv, Map};
use super::{Block, Convolution, Convolver, Groups, Shortcut};

/// Units of a workgroup.
const UNITS: u32 = 256;

/// Values along the last axis.
fn last_axis(tensor: &CubeTensor) -> usize {
    *tensor.meta.shape().as_slice().last().expect("a map has axes")
}

fn conv(Convolution { stride, padding }: Convolution, from: &CubeTensor, weight: &CubeTensor) -> Conv {
    let [n, h, w, input] = from.meta.shape().dims();
    let [output, .., kernel] = weight.meta.shape().dims::<4>();
    Conv { n, size: [h, w], input, output, kernel, stride, padding }
}

/// A convolution and its norm after their forward pass.
#[derive(Debug, Clone)]
struct Unit {
    conv: Conv,
    norm: Norm,
    /// The convolution's output, channels-last.
    z: CubeTensor,
}

/// What the backward pass needs.
#[derive(Debug)]
pub struct Kept {
    whose: Whose,
    x: CubeTensor,
    y: CubeTensor,
    params: Vec<CubeTensor>,
    path: Vec<Unit>,
    beside: Option<Unit>,
    identity: bool,
}

fn channels_last(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(permute_nchw_to_nhwc(tensor))
}

/// See [`super::block`]; with `keep` what [`backward`] needs.
pub fn forward(
    x: CubeTensor,
    params: Vec<CubeTensor>,
    block: &Block,
    groups: Groups,
    convolver: Convolver,
    keep: bool,
) -> (CubeTensor, Vec<CubeTensor>, Option<Kept>) {
    let mut seen = Vec::new();
    let (y, kept) = pass(x, params, 3, block, convolver, keep, |z, map, params| {
        let (norm, statistics) = Norm::of(z, Map { groups: groups.all(), ..map }, groups, &params[1], &params[2]);
        seen.extend(statistics);
        norm
    });
    (y, seen, kept)
}

/// See [`super::block_in_evaluation`].
pub fn in_evaluation(x: CubeTensor, params: Vec<CubeTensor>, block: &Block, convolver: Convolver) -> CubeTensor {
    pass(x, params, 5, block, convolver, false, |_, map, params| Norm::kept(map, [1, 2, 3, 4].map(|which| &params[which]))).0
}

/// A block with the norms that `norm(convolution's output, its map, parameters of the unit)` makes; each unit has `each` parameters, weight,
/// gamma and beta first.
fn pass(
    x: CubeTensor,
    params: Vec<CubeTensor>,
    each: usize,
    block: &Block,
    convolver: Convolver,
    keep: bool,
    mut norm: impl FnMut(&CubeTensor, Map, &[CubeTensor]) -> Norm,
) -> (CubeTensor, Option<Kept>) {
    let params: Vec<_> = params.into_iter().map(into_contiguous).collect();
    let x = channels_last(x);
    let whose = Whose::chosen(convolver, &x);
    let ready = conv::ready(&params.iter().step_by(each).collect::<Vec<_>>(), false, whose);
    let mut unit = |at: usize, of: Convolution, input: &CubeTensor| {
        let params = &params[each * at..each * (at + 1)];
        let conv = conv(of, input, &params[0]);
        let [h, w] = conv.out_size();
        let z = conv::forward(&conv, input, &ready[at], whose);
        let norm = norm(&z, Map { n: conv.n, pixels: h * w, channels: conv.output, groups: 1 }, params);
        Unit { conv, norm, z }
    };
    let mut path = vec![unit(0, block.path[0], &x)];
    for (at, of) in block.path.iter().enumerate().skip(1) {
        let before = if keep { path[at - 1].clone() } else { path.swap_remove(0) };
        let input = before.norm.apply(&before.z, &Joined::Nothing);
        path.push(unit(at, *of, &input));
    }
    let beside = match block.shortcut {
        Shortcut::Convolution(of) => Some(unit(block.path.len(), of, &x)),
        Shortcut::None | Shortcut::Identity => None,
    };
    let identity = block.shortcut == Shortcut::Identity;
    let joined = match &beside {
        Some(unit) => Joined::Normed(&unit.z, &unit.norm),
        None if identity => Joined::Map(&x),
        None => Joined::Nothing,
    };
    let last = path.last().expect("a block has a convolution");
    let y = last.norm.apply(&last.z, &joined);
    let kept = keep.then(|| Kept { whose, x, y: y.clone(), params, path, beside, identity });
    (permute_nhwc_to_nchw(y), kept)
}

/// The gradients of a block's input, with `input_too` alone and first, and of its parameters in their order.
pub fn backward(dy: CubeTensor, kept: &Kept, input_too: bool) -> Vec<CubeTensor> {
    let Kept { whose, x, y, params, path, beside, identity } = kept;
    let (whose, count, dy) = (*whose, path.len(), channels_last(dy));
    let gamma = |unit: usize| &params[3 * unit + 1];
    // The first convolution of a net has no gradient to pass on.
    let mut passed: Vec<&CubeTensor> = params.iter().step_by(3).collect();
    if !input_too {
        passed = passed[1..count].to_vec();
    }
    let ready = conv::ready(&passed, true, whose);
    let weight = |unit: usize| &ready[if input_too { unit } else { unit - 1 }];
    let learned = |conv: &Conv, input: &CubeTensor, back: &norm::Back| {
        let [gamma, beta] = back.learned.clone();
        [conv::weight_gradient(conv, input, &back.input, whose), gamma, beta]
    };

    let last = &path[count - 1];
    let mut back = last.norm.backward([&dy, &last.z, y], gamma(count - 1), *identity && input_too);
    // The gradient behind the ReLU is the shortcut's already.
    let shortcut = back.beside.take();
    let mut gradients = Vec::new();
    for at in (1..count).rev() {
        let (unit, before) = (&path[at], &path[at - 1]);
        // The input is made once more: to keep it would take as much memory as all the rest.
        let input = before.norm.apply(&before.z, &Joined::Nothing);
        gradients.push(learned(&unit.conv, &input, &back));
        let slopes = conv::input_gradient(&unit.conv, &back.input, weight(at), None, whose);
        back = before.norm.backward([&slopes, &before.z, &input], gamma(at - 1), false);
    }
    let first = &path[0].conv;
    gradients.push(learned(first, x, &back));
    gradients.reverse();

    let mut dx = input_too.then(|| conv::input_gradient(first, &back.input, weight(0), shortcut, whose));
    if let Some(unit) = beside {
        let back = unit.norm.backward([&dy, &unit.z, y], gamma(count), false);
        gradients.push(learned(&unit.conv, x, &back));
        dx = dx.map(|dx| conv::input_gradient(&unit.conv, &back.input, weight(count), Some(dx), whose));
    }
    dx.map(permute_nhwc_to_nchw).into_iter().chain(gradients.into_iter().flatten()).collect()
}
