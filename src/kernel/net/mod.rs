//! The nets' own operation: a block of convolutions with their batch norms, the shortcut beside them, and the ReLU behind, as one node of
//! the graph with one backward pass written by hand.
//!
//! A ResNet is such blocks alone: its stem is a block of one convolution without shortcut, a basic block has two, a bottleneck three. The
//! model says what a block is ([`Block`]); [`Ways`] says how it is computed, which depends on the device and on the config.
//!
//! - `tensor`: Burn's operations one after the other, on every backend, differentiated by Burn. What the others are compared with.
//! - `flex`: channels-last loops on the CPU backend's memory ([`flex`]).
//! - `cube`: CubeCL kernels, channels-last too (`cube`).

mod backward;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
#[cfg(feature = "flex")]
pub mod flex;
pub mod ops;
pub mod profile;
pub mod simd;
pub mod sizes;
pub mod tensor;
pub mod tensors;

use burn::backend::Dispatch;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::ops::{NetEvaluation, NetOps};
use self::simd::Simd;
pub use self::sizes::Groups;
use self::tensors::Tensors;
use super::KernelPath;

/// Added to the variance of a norm, as in PyTorch.
pub const EPSILON: f64 = 1e-5;

/// How a convolution moves over its input; its weights say the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// Stride on both axes.
    pub stride: usize,
    /// Zero padding on all sides.
    pub padding: usize,
}

/// What joins the path of a block before its last ReLU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortcut {
    /// Nothing.
    None,
    /// The block's input.
    Identity,
    /// The block's input through a convolution and a norm of its own.
    Convolution(Convolution),
}

/// The form of a block: convolutions, a norm behind each, a ReLU behind each norm; the last ReLU comes after the shortcut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// One convolution at least.
    pub path: Vec<Convolution>,
    /// What joins it.
    pub shortcut: Shortcut,
}

impl Block {
    /// Convolutions, that of the shortcut included: so many [`Unit`]s the block has, the shortcut's being the last.
    pub fn units(&self) -> usize {
        self.path.len() + usize::from(matches!(self.shortcut, Shortcut::Convolution(_)))
    }
}

/// The windows of a pooling, with padding that is never the largest value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Pixels on both axes, at most 15.
    pub side: usize,
    /// Pixels from one window to the next.
    pub stride: usize,
    /// Padding on all sides, at most half the side.
    pub padding: usize,
}

impl Window {
    /// Windows along an axis of `side` pixels.
    pub fn outputs(&self, side: usize) -> usize {
        (side + 2 * self.padding - self.side) / self.stride + 1
    }
}

/// A convolution with its norm.
#[derive(Debug, Clone)]
pub struct Unit {
    /// `[c_out, c_in, k, k]`.
    pub weight: Tensor<4>,
    /// Scale of the norm, `[c_out]`.
    pub gamma: Tensor<1>,
    /// Shift of the norm, `[c_out]`.
    pub beta: Tensor<1>,
}

/// Statistics of a norm, both `[c_out]`.
#[derive(Debug, Clone)]
pub struct Statistics {
    /// Mean.
    pub mean: Tensor<1>,
    /// Variance: unbiased where a batch showed it, whatever a run has kept where it is given.
    pub variance: Tensor<1>,
}

/// `kernels.winograd`: which fast algorithm 3x3 convolutions of stride 1 take on the `flex` path (Lavin and Gray, arXiv 1509.09308).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Winograd {
    /// The fastest for each shape.
    #[default]
    Auto,
    /// None: nine products for every output and channel.
    Off,
    /// F(2x2, 3x3): four products.
    F2,
    /// F(4x4, 3x3): two and a quarter. Rounding errors are about four times those of `off`.
    F4,
}

impl Winograd {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Off, Self::F2, Self::F4];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The name that is configured.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Off => "off",
            Self::F2 => "f2",
            Self::F4 => "f4",
        }
    }
}

/// `kernels.convolution`: whose convolutions the path `cube` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Convolver {
    /// Burn's where the device has matrix units (tensor cores) that its kernels use, else ours.
    #[default]
    Auto,
    /// Ours: tiles in registers, on every device.
    Own,
    /// Burn's: tuned for each shape where the program is built with `autotune`, else its implicit GEMM, else its direct one.
    Burn,
}

impl Convolver {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Own, Self::Burn];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|convolver| convolver.name() == name)
    }

    /// The name that is configured.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Own => "own",
            Self::Burn => "burn",
        }
    }
}

/// How blocks are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways {
    /// The implementation.
    pub path: KernelPath,
    /// The algorithm of 3x3 convolutions, on the path `flex`.
    pub winograd: Winograd,
    /// The vectors of the path `flex`.
    pub simd: Simd,
    /// The convolutions of the path `cube`.
    pub convolver: Convolver,
}

impl Ways {
    /// The fastest on a device.
    pub fn on(device: &Device) -> Self {
        Self { path: if on_flex(device) { KernelPath::Flex } else { KernelPath::Cube }, ..Self::portable() }
    }

    /// Those that every device has.
    pub fn portable() -> Self {
        Self { path: KernelPath::Tensor, winograd: Winograd::Auto, simd: Simd::best(), convolver: Convolver::Auto }
    }
}

#[cfg(feature = "flex")]
fn on_flex(device: &Device) -> bool {
    *device == Device::flex()
}

#[cfg(not(feature = "flex"))]
fn on_flex(_: &Device) -> bool {
    false
}

/// A block in training: each norm normalises by the statistics of the batch, each of its `groups` by its own. On the graph of its input and its
/// units if they have one.
///
/// # Shapes
/// - `x` `[n, c, h, w]`, n a multiple of all groups; one unit per convolution of `block`, in the order of [`Block::units`]
/// - output `[n, c', h', w']`, and per unit and forward what its norm saw: means over the forward's groups, without graph
///
/// # Panics
/// A path that the device does not have.
pub fn block(x: Tensor<4>, units: Vec<Unit>, block: &Block, groups: Groups, ways: Ways) -> (Tensor<4>, Vec<Vec<Statistics>>) {
    assert!(!block.path.is_empty() && units.len() == block.units(), "a block has a convolution, and one unit for each");
    let (n, all) = (x.dims()[0], groups.all());
    assert!(all > 0 && n.is_multiple_of(all), "SplitBN: a batch of {n} cannot be split into {all} groups");
    if ways.path == KernelPath::Tensor {
        return tensor::block(x, units, block, groups);
    }
    let params = units
        .into_iter()
        .flat_map(|Unit { weight, gamma, beta }| [weight.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch()]);
    let (y, seen, _) =
        <Dispatch as NetOps>::net_block(x.into_dispatch(), Tensors(params.collect()), block.clone(), groups, ways, false);
    let seen: Vec<Tensor<1>> = seen.0.into_iter().map(|tensor| Tensor::from_dispatch(tensor).inner()).collect();
    let of_forward = |seen: &[Tensor<1>]| Statistics { mean: seen[0].clone(), variance: seen[1].clone() };
    let of_unit = |seen: &[Tensor<1>]| seen.chunks(2).map(of_forward).collect();
    (Tensor::from_dispatch(y), seen.chunks(2 * groups.forwards).map(of_unit).collect())
}

/// A block in evaluation: each norm normalises by the statistics that a run has kept.
///
/// # Shapes
/// As [`block`].
///
/// # Panics
/// A path that the device does not have; a net on a graph, on any path but `tensor`.
pub fn block_in_evaluation(x: Tensor<4>, units: Vec<(Unit, Statistics)>, block: &Block, ways: Ways) -> Tensor<4> {
    assert!(!block.path.is_empty() && units.len() == block.units(), "a block has a convolution, and one unit for each");
    if ways.path == KernelPath::Tensor {
        return tensor::block_in_evaluation(x, units, block);
    }
    let graph = x.is_autodiff() || units.iter().any(|(unit, _)| unit.weight.is_autodiff());
    assert!(!graph, "nobody differentiates an evaluation on the path `{}`: take the net without its graph", ways.path.name());
    let params = units.into_iter().flat_map(|(Unit { weight, gamma, beta }, Statistics { mean, variance })| {
        [weight.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch(), mean.into_dispatch(), variance.into_dispatch()]
    });
    Tensor::from_dispatch(<Dispatch as NetEvaluation>::net_block_in_evaluation(
        x.into_dispatch(),
        Tensors(params.collect()),
        block.clone(),
        ways,
    ))
}

/// The largest value of each window, on the graph of `x` if it has one.
///
/// # Shapes
/// - `x` `[n, c, h, w]`, output `[n, c, h', w']`, `h' = (h + 2 padding - side) / stride + 1`
///
/// # Panics
/// A path that the device does not have.
pub fn max_pool(x: Tensor<4>, window: Window, ways: Ways) -> Tensor<4> {
    if ways.path == KernelPath::Tensor {
        return tensor::max_pool(x, window);
    }
    Tensor::from_dispatch(<Dispatch as NetOps>::net_max_pool(x.into_dispatch(), window, ways, false).0)
}
