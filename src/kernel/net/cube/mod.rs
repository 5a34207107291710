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
use cubecl::prelude::*;

use self::norm::{Joined, Map, Norm};
use super::{Block, Convolution, Shortcut};
use crate::kernel::backend::cube::shaped;

/// Units of a workgroup.
const UNITS: u32 = 256;

/// A whole tensor as a kernel's argument.
///
/// # Safety
/// Those who launch keep the kernel inside of it.
unsafe fn buffer(tensor: &CubeTensor) -> BufferArg {
    // SAFETY: the caller's.
    unsafe { BufferArg::from_raw_parts(tensor.handle.clone(), tensor.meta.num_elements()) }
}

/// Values along the last axis.
fn last_axis(tensor: &CubeTensor) -> usize {
    *tensor.meta.shape().as_slice().last().expect("a map has axes")
}

/// A convolution with its sizes.
#[derive(Debug, Clone, Copy)]
pub struct Conv {
    n: usize,
    /// Height and width of the input.
    size: [usize; 2],
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
}

impl Conv {
    fn of(Convolution { stride, padding }: Convolution, from: &CubeTensor, weight: &CubeTensor) -> Self {
        let [n, h, w, input] = from.meta.shape().dims();
        let [output, .., kernel] = weight.meta.shape().dims::<4>();
        Self { n, size: [h, w], input, output, kernel, stride, padding }
    }

    fn out_size(&self) -> [usize; 2] {
        self.size.map(|side| (side + 2 * self.padding - self.kernel) / self.stride + 1)
    }

    fn out_dims(&self) -> [usize; 4] {
        let [h, w] = self.out_size();
        [self.n, h, w, self.output]
    }
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
    groups: usize,
    keep: bool,
) -> (CubeTensor, Vec<CubeTensor>, Option<Kept>) {
    let mut seen = Vec::new();
    let (y, kept) = pass(x, params, 3, block, keep, |z, map, params| {
        let (norm, statistics) = Norm::of(z, Map { groups, ..map }, &params[1], &params[2]);
        seen.extend(statistics);
        norm
    });
    (y, seen, kept)
}

/// See [`super::block_in_evaluation`].
pub fn in_evaluation(x: CubeTensor, params: Vec<CubeTensor>, block: &Block) -> CubeTensor {
    pass(x, params, 5, block, false, |_, map, params| Norm::kept(map, [1, 2, 3, 4].map(|which| &params[which]))).0
}

/// A block with the norms that `norm(convolution's output, its map, parameters of the unit)` makes; each unit has `each` parameters, weight,
/// gamma and beta first.
fn pass(
    x: CubeTensor,
    params: Vec<CubeTensor>,
    each: usize,
    block: &Block,
    keep: bool,
    mut norm: impl FnMut(&CubeTensor, Map, &[CubeTensor]) -> Norm,
) -> (CubeTensor, Option<Kept>) {
    let params: Vec<_> = params.into_iter().map(into_contiguous).collect();
    let x = channels_last(x);
    let mut unit = |at: usize, of: Convolution, input: &CubeTensor| {
        let params = &params[each * at..each * (at + 1)];
        let conv = Conv::of(of, input, &params[0]);
        let [h, w] = conv.out_size();
        let z = shaped(&input.client, &input.device, &conv.out_dims(), input.dtype);
        conv::gather(&conv, input, &conv::pack(&conv, &params[0], false), &z, false, false);
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
    let kept = keep.then(|| Kept { x, y: y.clone(), params, path, beside, identity });
    (permute_nhwc_to_nchw(y), kept)
}

/// The gradients of a block's input, with `input_too` alone and first, and of its parameters in their order.
pub fn backward(dy: CubeTensor, kept: &Kept, input_too: bool) -> Vec<CubeTensor> {
    let Kept { x, y, params, path, beside, identity } = kept;
    let count = path.len();
    let dy = channels_last(dy);
    let (weight, gamma) = (|unit: usize| &params[3 * unit], |unit: usize| &params[3 * unit + 1]);
    let learned = |conv: &Conv, input: &CubeTensor, back: &norm::Back| {
        let [gamma, beta] = back.learned.clone();
        [conv::weight_gradient(conv, input, &back.input), gamma, beta]
    };
    let through = |unit: &Unit, at: usize, back: &norm::Back, dx: &CubeTensor, add: bool| {
        conv::gather(&unit.conv, &back.input, &conv::pack(&unit.conv, weight(at), true), dx, true, add);
    };
    let like = |tensor: &CubeTensor| shaped(&tensor.client, &tensor.device, tensor.meta.shape().as_slice(), tensor.dtype);

    let last = &path[count - 1];
    let mut back = last.norm.backward([&dy, &last.z, y], gamma(count - 1), *identity && input_too);
    let shortcut = back.beside.take();
    let mut gradients = Vec::new();
    for at in (1..count).rev() {
        let (unit, before) = (&path[at], &path[at - 1]);
        // The input is made once more: to keep it would take as much memory as all the rest.
        let input = before.norm.apply(&before.z, &Joined::Nothing);
        gradients.push(learned(&unit.conv, &input, &back));
        let slopes = like(&input);
        through(unit, at, &back, &slopes, false);
        back = before.norm.backward([&slopes, &before.z, &input], gamma(at - 1), false);
    }
    gradients.push(learned(&path[0].conv, x, &back));
    gradients.reverse();

    let dx = input_too.then(|| {
        // The gradient behind the ReLU is the shortcut's already.
        let add = shortcut.is_some();
        let dx = shortcut.unwrap_or_else(|| like(x));
        through(&path[0], 0, &back, &dx, add);
        dx
    });
    if let Some(unit) = beside {
        let back = unit.norm.backward([&dy, &unit.z, y], gamma(count), false);
        gradients.push(learned(&unit.conv, x, &back));
        if let Some(dx) = &dx {
            through(unit, count, &back, dx, true);
        }
    }
    dx.map(permute_nhwc_to_nchw).into_iter().chain(gradients.into_iter().flatten()).collect()
}
