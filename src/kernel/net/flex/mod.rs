//! Blocks on the CPU backend's memory.
//!
//! Maps are channels-last here. To Burn they are `[n, c, h, w]` all the same, with the strides of that order, so that nothing outside has to
//! know: `channels_last` hands a block's output to the next one without a copy, and permutes whatever else comes.

#![expect(
    clippy::needless_range_loop,
    reason = "loops over the constant sizes of a tile unroll, so that it stays in registers; an iterator hides that they are constant"
)]

pub mod buffer;
pub mod conv;
pub mod grid;
pub mod lanes;
pub mod norm;
pub mod pooling;
pub mod shared;
pub mod tiles;
pub mod winograd;

use burn::backend::Flex;
use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, TensorData};

use self::buffer::Buffer;
use self::norm::{Affine, Joined, Moments, Normed};
use super::profile::{Kind, timed};
use super::sizes::{Conv, Map};
use super::tensors::Tensors;
use super::{Block, Convolution, Groups, Shortcut, Ways};

/// One convolution with its norm, as it went.
#[derive(Debug)]
struct Unit {
    conv: Conv,
    map: Map,
    /// Output of the convolution; `None` where the way back makes it again.
    z: Option<Buffer>,
    moments: Moments,
    affine: Affine,
}

/// Terms of a convolution's sums up to which its output is made again on the way back: that takes little more than reading it, and the maps of
/// a stem are the largest of all.
const CHEAP: usize = 160;

/// What the way back needs of a block.
#[derive(Debug)]
pub struct Kept {
    ways: Ways,
    x: FloatTensor<Flex>,
    y: FloatTensor<Flex>,
    params: Vec<FloatTensor<Flex>>,
    path: Vec<Unit>,
    /// The convolution of the shortcut.
    beside: Option<Unit>,
    identity: bool,
}

/// A tensor `[n, c, h, w]` as `[n, h, w, c]`, copied if its memory is in another order.
fn channels_last(tensor: FloatTensor<Flex>) -> FloatTensor<Flex> {
    let tensor = Flex::float_permute(tensor, &[0, 2, 3, 1]);
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// A tensor `[n, h, w, c]` as `[n, c, h, w]`, a view.
fn channels_first(tensor: FloatTensor<Flex>) -> FloatTensor<Flex> {
    Flex::float_permute(tensor, &[0, 3, 1, 2])
}

/// The values of a tensor that is contiguous.
pub fn values(tensor: &FloatTensor<Flex>) -> &[f32] {
    tensor.as_slice::<f32>().expect("maps and parameters are f32, and contiguous by now")
}

/// A tensor of a buffer, without a copy.
fn tensor<const D: usize>(buffer: Buffer, dims: [usize; D]) -> FloatTensor<Flex> {
    FloatTensor::<Flex>::from_data(TensorData::from_bytes(buffer.into_bytes(), dims, DType::F32))
}

fn vector(values: &[f32]) -> FloatTensor<Flex> {
    FloatTensor::<Flex>::from_data(TensorData::new(values.to_vec(), [values.len()]))
}

fn conv(of: Convolution, n: usize, size: [usize; 2], weight: &FloatTensor<Flex>) -> Conv {
    let [output, input, kernel, _] = weight.shape().dims();
    Conv { n, size, input, output, kernel, stride: of.stride, padding: of.padding }
}

impl Unit {
    /// With its output, unless that is cheap to make again from the block's input, which is kept anyway.
    fn keeping(mut self, z: Buffer, of_the_input: bool) -> Self {
        let terms = self.conv.input * self.conv.kernel * self.conv.kernel;
        self.z = (!of_the_input || terms > CHEAP).then_some(z);
        self
    }

    /// The convolution's output, made again from its input if it was not kept.
    fn output(&self, input: &[f32], weight: &[f32], ways: Ways) -> Output<'_> {
        match &self.z {
            Some(z) => Output::Kept(z),
            None => {
                let mut z = Buffer::new(self.map.size());
                timed(Kind::Forward, || conv::forward(&self.conv, input, weight, ways, &mut z));
                Output::Again(z)
            }
        }
    }

    /// Norm and ReLU of the convolution's output `z`, into memory of their own.
    fn activated(&self, z: &[f32], ways: Ways) -> Buffer {
        let mut y = Buffer::new(self.map.size());
        timed(Kind::Norm, || norm::apply(z, &self.map, &self.affine, Joined::Nothing, true, ways.simd, &mut y));
        y
    }

    fn normed<'a>(&'a self, z: &'a [f32], gamma: &'a [f32]) -> Normed<'a> {
        Normed { z, moments: &self.moments, gamma }
    }
}

/// The output of a convolution on the way back.
enum Output<'a> {
    Kept(&'a Buffer),
    Again(Buffer),
}

impl std::ops::Deref for Output<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Kept(z) => z,
            Self::Again(z) => z,
        }
    }
}

/// See [`super::block`]; with `keep` what [`backward`] needs.
pub fn forward(
    x: FloatTensor<Flex>,
    params: Tensors<Flex>,
    block: &Block,
    groups: Groups,
    ways: Ways,
    keep: bool,
) -> (FloatTensor<Flex>, Tensors<Flex>, Option<Kept>) {
    let mut seen = Vec::new();
    let (y, kept) = pass(x, params, 3, block, groups.all(), ways, keep, |z, map, _| {
        let moments = Moments::of(z, map, ways.simd);
        for (mean, variance) in moments.over_groups(map, groups) {
            seen.extend([vector(&mean), vector(&variance)]);
        }
        moments
    });
    (y, Tensors(seen), kept)
}

/// See [`super::block_in_evaluation`].
pub fn in_evaluation(x: FloatTensor<Flex>, params: Tensors<Flex>, block: &Block, ways: Ways) -> FloatTensor<Flex> {
    let kept = |_: &[f32], _: &Map, params: &[FloatTensor<Flex>]| Moments {
        mean: values(&params[3]).to_vec(),
        variance: values(&params[4]).to_vec(),
    };
    pass(x, params, 5, block, 1, ways, false, kept).0
}

/// A block whose norms normalise by `moments(convolution's output, its map, parameters of the unit)`; each unit has `each` parameters, weight,
/// gamma and beta first. Without `keep` it needs the memory of two maps.
#[expect(clippy::too_many_arguments, reason = "the arguments of an operation, and what its two forms differ in")]
fn pass(
    x: FloatTensor<Flex>,
    params: Tensors<Flex>,
    each: usize,
    block: &Block,
    groups: usize,
    ways: Ways,
    keep: bool,
    mut moments: impl FnMut(&[f32], &Map, &[FloatTensor<Flex>]) -> Moments,
) -> (FloatTensor<Flex>, Option<Kept>) {
    let [n, _, h, w] = x.shape().dims();
    let params: Vec<_> = params.0.into_iter().map(|tensor| tensor.to_contiguous()).collect();
    let x = channels_last(x);
    let mut unit = |at: usize, of: Convolution, size: [usize; 2], input: &[f32]| {
        let params = &params[each * at..each * (at + 1)];
        let conv = conv(of, n, size, &params[0]);
        let [h, w] = conv.out_size();
        let map = Map { n, pixels: h * w, channels: conv.output, groups };
        let mut z = Buffer::new(map.size());
        timed(Kind::Forward, || conv::forward(&conv, input, values(&params[0]), ways, &mut z));
        let moments = timed(Kind::Norm, || moments(&z, &map, params));
        let affine = moments.affine(values(&params[1]), values(&params[2]));
        (Unit { conv, map, z: None, moments, affine }, z)
    };

    let mut path: Vec<Unit> = Vec::new();
    let (mut last, mut z) = unit(0, block.path[0], [h, w], values(&x));
    for (at, of) in block.path.iter().enumerate().skip(1) {
        let size = last.conv.out_size();
        let input = if keep {
            let y = last.activated(&z, ways);
            path.push(last.keeping(z, at == 1));
            y
        } else {
            timed(Kind::Norm, || norm::apply_in_place(&mut z, &last.map, &last.affine, Joined::Nothing, true, ways.simd));
            z
        };
        (last, z) = unit(at, *of, size, &input);
    }
    let beside = match block.shortcut {
        Shortcut::Convolution(of) => Some(unit(block.path.len(), of, [h, w], values(&x))),
        Shortcut::None | Shortcut::Identity => None,
    };
    let identity = block.shortcut == Shortcut::Identity;
    let joined = match &beside {
        Some((unit, z)) => Joined::Normed(z, &unit.affine),
        None if identity => Joined::Map(values(&x)),
        None => Joined::Nothing,
    };
    let dims = last.conv.out_dims();
    let y = if keep {
        let mut y = Buffer::new(last.map.size());
        timed(Kind::Norm, || norm::apply(&z, &last.map, &last.affine, joined, true, ways.simd, &mut y));
        let first = path.is_empty();
        path.push(last.keeping(z, first));
        y
    } else {
        timed(Kind::Norm, || norm::apply_in_place(&mut z, &last.map, &last.affine, joined, true, ways.simd));
        z
    };
    let beside = beside.map(|(unit, z)| unit.keeping(z, true));
    let y = tensor(y, dims);
    let kept = keep.then(|| Kept { ways, x, y: y.clone(), params, path, beside, identity });
    (channels_first(y), kept)
}

/// A tensor that may be changed: itself where nobody else holds it and it is no part of a larger one, else a copy.
pub fn own<const D: usize>(tensor: FloatTensor<Flex>, dims: [usize; D]) -> FloatTensor<Flex> {
    // A contiguous tensor must not be cloned here: it would have two holders.
    let tensor = if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() };
    if tensor.is_unique() && tensor.storage::<f32>().len() == values(&tensor).len() {
        return tensor;
    }
    let mut copy = Buffer::new(values(&tensor).len());
    copy.copy_from_slice(values(&tensor));
    self::tensor(copy, dims)
}

/// A gradient that is to be changed: in its place where nobody else holds it.
struct Gradient(FloatTensor<Flex>);

impl Gradient {
    /// Of a tensor `[n, c, h, w]`.
    fn of(tensor: FloatTensor<Flex>) -> Self {
        let tensor = channels_last(tensor);
        let dims = tensor.shape().dims::<4>();
        Self(own(tensor, dims))
    }

    fn new(len: usize, dims: [usize; 4]) -> Self {
        Self(tensor(Buffer::new(len), dims))
    }

    fn values(&self) -> &[f32] {
        self.0.storage()
    }

    fn values_mut(&mut self) -> &mut [f32] {
        self.0.storage_mut()
    }
}

/// The gradients of a block's input, with `input_too` alone and first, and of its parameters in their order.
pub fn backward(dy: FloatTensor<Flex>, kept: &Kept, input_too: bool) -> Tensors<Flex> {
    let Kept { ways, x, y, params, path, beside, identity } = kept;
    let (ways, count) = (*ways, path.len());
    let weight = |unit: usize| values(&params[3 * unit]);
    let gamma = |unit: usize| values(&params[3 * unit + 1]);
    let learned = |conv: &Conv, input: &[f32], dz: &Gradient, back: &norm::Back| {
        let weight = timed(Kind::WeightGradient, || conv::weight_gradient(conv, input, dz.values(), ways));
        [tensor(weight, [conv.output, conv.input, conv.kernel, conv.kernel]), vector(&back.gamma), vector(&back.beta)]
    };

    // Through the ReLU to the norms whose outputs were added.
    let last = &path[count - 1];
    let mut g = Gradient::of(dy);
    let z = last.output(values(x), weight(count - 1), ways);
    let beside = beside.as_ref().map(|unit| (unit, unit.output(values(x), weight(count), ways)));
    let more = beside.as_ref().map(|(unit, z)| unit.normed(z, gamma(count)));
    let norms: Vec<Normed> = [Some(last.normed(&z, gamma(count - 1))), more].into_iter().flatten().collect();
    let backs = timed(Kind::Norm, || norm::reduce(g.values_mut(), Some(values(y)), &norms, &last.map, ways.simd));
    let mut backs = backs.into_iter();
    let mut back = backs.next().expect("one per norm");
    let mut beside_back = backs.next();

    // The gradient of the last convolution's output, in the gradient's place where nothing else needs that.
    let (mut dz, mut rest) = if beside.is_some() || (*identity && input_too) {
        let mut dz = Gradient::new(last.map.size(), last.conv.out_dims());
        timed(Kind::Norm, || norm::spread(g.values(), &z, &back, &last.map, ways.simd, dz.values_mut()));
        (dz, Some(g))
    } else {
        timed(Kind::Norm, || norm::spread_in_place(g.values_mut(), &z, &back, &last.map, ways.simd));
        (g, None)
    };
    drop(z);

    let mut gradients = Vec::new();
    for at in (1..count).rev() {
        let (unit, before) = (&path[at], &path[at - 1]);
        // The input is made once more: to keep it would take as much memory as all the rest.
        let z = before.output(values(x), weight(at - 1), ways);
        let input = before.activated(&z, ways);
        gradients.push(learned(&unit.conv, &input, &dz, &back));
        let mut g = Gradient::new(before.map.size(), before.conv.out_dims());
        timed(Kind::InputGradient, || conv::input_gradient(&unit.conv, dz.values(), weight(at), ways, false, g.values_mut()));
        let norms = [before.normed(&z, gamma(at - 1))];
        let mut backs = timed(Kind::Norm, || norm::reduce(g.values_mut(), Some(&input), &norms, &before.map, ways.simd));
        back = backs.swap_remove(0);
        timed(Kind::Norm, || norm::spread_in_place(g.values_mut(), &z, &back, &before.map, ways.simd));
        dz = g;
    }
    let first = &path[0].conv;
    gradients.push(learned(first, values(x), &dz, &back));
    gradients.reverse();

    let mut dx = input_too.then(|| {
        // The gradient that came is the shortcut's already.
        let through = if *identity { rest.take() } else { None };
        let (mut dx, add) = match through {
            Some(g) => (g, true),
            None => (Gradient::new(first.in_len(), x.shape().dims()), false),
        };
        timed(Kind::InputGradient, || conv::input_gradient(first, dz.values(), weight(0), ways, add, dx.values_mut()));
        dx
    });
    if let (Some((unit, z)), Some(mut g), Some(back)) = (beside, rest, beside_back.take()) {
        timed(Kind::Norm, || norm::spread_in_place(g.values_mut(), &z, &back, &unit.map, ways.simd));
        gradients.push(learned(&unit.conv, values(x), &g, &back));
        if let Some(dx) = &mut dx {
            timed(Kind::InputGradient, || conv::input_gradient(&unit.conv, g.values(), weight(count), ways, true, dx.values_mut()));
        }
    }
    Tensors(dx.map(|dx| channels_first(dx.0)).into_iter().chain(gradients.into_iter().flatten()).collect())
}
