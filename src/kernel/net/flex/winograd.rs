//! Winograd's convolution for kernels of 3 x 3 pixels with stride 1: fewer products, for transforms before and after them.
//!
//! The output is cut into tiles of 2 x 2 or 4 x 4 pixels, each of which reads a window two pixels wider. Window `d` and kernel `g` are
//! transformed (`B^T d B`, `G g G^T`), multiplied value by value, which sums over the input channels as one matrix product per value, and the
//! sums transformed to the tile (`A^T m A`): 16 products for 4 pixels or 36 for 16, where the plain sum has 36 and 144. The gradient with
//! respect to the input is such a convolution of the output's gradient, that with respect to the weights the adjoint:
//! `G^T [sum over tiles (B^T d B) (A dy A^T)] G`. See Lavin and Gray, arXiv 1509.09308.
//!
//! The transforms interpolate at 0, 1, -1 and infinity, or at 0, 5/8, -5/8, 3/2, -3/2 and infinity, the points of oneDNN. Powers of two
//! that move from one transform to another would change no bit of the results.
//!
//! Maps are channels-last, `[n, h, w, c]`, weights `[output][input][3][3]`. Every sum's order is fixed by the shape.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut, Range};

use rayon::prelude::*;

use super::buffer::Buffer;
use super::lanes::{Lanes, Task, prefetch};
use super::shared::Shared;
use super::tiles::{self, Panel};
use crate::kernel::net::simd::Simd;
use crate::kernel::net::sizes::Conv;
use crate::kernel::path::poisoned;

/// The size of the tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// 2 x 2 pixels from 4 x 4.
    F2,
    /// 4 x 4 pixels from 6 x 6.
    F4,
}

impl Variant {
    /// Side of a tile.
    pub fn side(self) -> usize {
        match self {
            Self::F2 => 2,
            Self::F4 => 4,
        }
    }

    /// Tiles of as many values as `count` of the larger variant have, about.
    fn tiles(self, count: usize) -> usize {
        match self {
            Self::F2 => 2 * count,
            Self::F4 => count,
        }
    }

    /// Values of a transformed tile.
    pub fn values(self) -> usize {
        (self.side() + 2) * (self.side() + 2)
    }
}

/// Taps of a kernel.
const TAPS: usize = 9;
/// Values between the planes of a transformed map beyond what they hold: planes that lie a multiple of 4 KiB apart would share the same few
/// places of the first-level cache. Kernels may read, but do not use, as many values behind a row.
const GAP: usize = 16;
/// Values of a cache line.
const LINE: usize = 16;

/// Which form of Winograd's method is fastest for the convolution, its gradient with respect to the input, and that with respect to the
/// weights; none where the plain sum is, or where the method does not apply.
///
/// All are compared by their products and by what else they do, in products of the same time, as measured on two cores of Zen 4.
pub fn choose(conv: &Conv) -> [Option<Variant>; 3] {
    if conv.kernel != 3 || conv.stride != 1 || conv.padding > 2 {
        return [None; 3];
    }
    let (input, output, out) = (conv.input, conv.output, conv.out_size());
    // The size that tiles cover, rows and columns of the products, and what the plain sum spends on the kernels besides.
    [(out, input, output, PACK_COST), (conv.size, output, input, PACK_COST), (out, input, output, SUM_COST)].map(
        |(size, terms, columns, besides)| {
            let products = terms * columns.next_multiple_of(LINE);
            let maps = terms.next_multiple_of(LINE) + columns.next_multiple_of(LINE);
            let cost = |variant: Variant| {
                let tiles = conv.n * size.iter().map(|side| side.div_ceil(variant.side())).product::<usize>();
                variant.values() * ((tiles + KERNEL_COST) * products + MAP_COST * tiles * maps)
            };
            let large = conv.n * out[0] * out[1] * input * output * TAPS >= WORTH_ITS_ERROR;
            let best = if large && cost(Variant::F4) <= cost(Variant::F2) { Variant::F4 } else { Variant::F2 };
            let positions = conv.n * size[0] * size[1] + besides;
            (cost(best) < TAPS * positions * products).then_some(best)
        },
    )
}

/// Products of the plain sum from which on the larger tiles are taken. Below they would save microseconds, where the smaller ones err less than
/// the plain sum, and it is the smallest batches whose norms make the most of an error.
const WORTH_ITS_ERROR: usize = 1 << 22;
/// Products that take as long as the transform of a value of a map.
const MAP_COST: usize = 8;
/// Products that take as long as the transform of a value of a kernel.
const KERNEL_COST: usize = 20;
/// Products that take as long as packing a weight for the plain sum.
const PACK_COST: usize = 100;
/// Products that take as long as adding the plain sum's parts of a weight's gradient.
const SUM_COST: usize = 12;

/// The convolution.
///
/// # Panics
/// It is not one of 3 x 3 pixels with stride 1 and padding up to 2, or a slice is of another size.
pub fn forward(conv: &Conv, variant: Variant, source: &[f32], weights: &[f32], simd: Simd, add: bool, target: &mut [f32]) {
    check(conv);
    let pass = Pass {
        variant,
        simd,
        add,
        source: Map { cut: Cut::new(conv, variant, conv.out_size()), size: conv.size, channels: conv.input, padding: conv.padding },
        target: conv.out_size(),
        columns: conv.output,
        weights: Weights { column: conv.input * TAPS, term: TAPS, turned: false },
    };
    pass.run(source, weights, target);
}

/// The gradient with respect to the input, from that with respect to the output.
///
/// # Panics
/// As [`forward`].
pub fn input_gradient(conv: &Conv, variant: Variant, gradient: &[f32], weights: &[f32], simd: Simd, add: bool, target: &mut [f32]) {
    check(conv);
    let pass = Pass {
        variant,
        simd,
        add,
        source: Map {
            cut: Cut::new(conv, variant, conv.size),
            size: conv.out_size(),
            channels: conv.output,
            padding: 2 - conv.padding,
        },
        target: conv.size,
        columns: conv.input,
        weights: Weights { column: TAPS, term: conv.input * TAPS, turned: true },
    };
    pass.run(gradient, weights, target);
}

fn check(conv: &Conv) {
    assert!(conv.kernel == 3 && conv.stride == 1 && conv.padding <= 2, "no convolution for Winograd's method");
}

/// The tiles of a map, counted through all images line by line.
#[derive(Debug, Clone, Copy)]
struct Cut {
    images: usize,
    /// Tiles on both axes.
    tiles: [usize; 2],
    /// Side of a tile.
    side: usize,
}

impl Cut {
    fn new(conv: &Conv, variant: Variant, size: [usize; 2]) -> Self {
        Self { images: conv.n, tiles: size.map(|side| side.div_ceil(variant.side())), side: variant.side() }
    }

    fn count(&self) -> usize {
        self.images * self.tiles[0] * self.tiles[1]
    }

    /// Image and first pixel of a tile.
    #[inline(always)]
    fn at(&self, tile: usize) -> (usize, [usize; 2]) {
        let [height, width] = self.tiles;
        let (line, x) = (tile / width, tile % width);
        (line / height, [line % height * self.side, x * self.side])
    }
}

/// A map that is read in windows.
#[derive(Debug, Clone, Copy)]
struct Map {
    cut: Cut,
    /// Height and width.
    size: [usize; 2],
    channels: usize,
    /// Pixels that a window begins before its tile.
    padding: usize,
}

/// Where the values of a block of transformed tiles lie: value, then tile, then channel.
#[derive(Debug, Clone, Copy)]
struct Planes {
    /// Values from one tile to the next.
    row: usize,
    /// Values from one plane to the next.
    plane: usize,
    /// Values of all planes.
    len: usize,
}

impl Planes {
    fn new(variant: Variant, rows: usize, row: usize) -> Self {
        let plane = rows * row + GAP;
        Self { row, plane, len: variant.values() * plane }
    }
}

/// How kernels lie in the weights.
#[derive(Debug, Clone, Copy)]
struct Weights {
    /// Values from the kernel of one column (output channel of the pass) to the next.
    column: usize,
    /// Values from the kernel of one term (input channel of the pass) to the next.
    term: usize,
    /// Whether kernels are rotated by 180 degrees.
    turned: bool,
}

/// A convolution.
struct Pass {
    variant: Variant,
    simd: Simd,
    add: bool,
    source: Map,
    /// Height and width of the target.
    target: [usize; 2],
    /// Channels of the target.
    columns: usize,
    weights: Weights,
}

impl Pass {
    fn run(&self, source: &[f32], weights: &[f32], target: &mut [f32]) {
        let Map { cut, size, channels, .. } = self.source;
        assert_eq!(source.len(), cut.images * size[0] * size[1] * channels, "source of another size");
        assert_eq!(target.len(), cut.images * self.target[0] * self.target[1] * self.columns, "target of another size");
        assert_eq!(weights.len(), channels * self.columns * TAPS, "weights of another size");
        if channels == 0 && !self.add {
            target.fill(0.0);
        }
        if channels == 0 || target.is_empty() {
            return;
        }
        let (panels, padded) = tiles::panels(self.columns, self.simd);
        let zeros = vec![0.0f32; channels];
        let out = Shared::new(target);
        let schedule = Schedule::new(self);
        let block = schedule.block;
        let values = self.values(block);
        let blocks = cut.count().div_ceil(block);
        let tiles_of = |index: usize| index * block..((index + 1) * block).min(cut.count());

        let mut all =
            Room::take(if schedule.kernels { self.variant.values() * (padded * channels + panels.len() * GAP) } else { 0 });
        let begin_of = |panel: usize| self.variant.values() * (panels[panel].packed * channels + panel * GAP);
        if schedule.kernels {
            let room = Shared::new(&mut all);
            let parts = channels.div_ceil(PART);
            (0..panels.len() * parts).into_par_iter().for_each(|task| {
                let (panel, part) = (task / parts, task % parts);
                let terms = part * PART..((part + 1) * PART).min(channels);
                // SAFETY: all tasks write other values.
                let out = unsafe { room.at(begin_of(panel)) };
                self.simd.run(Kernels { pass: self, weights, panel: panels[panel], terms, out });
            });
        }
        let len_of = |panel: usize| self.kernels(panels[panel].vectors * self.simd.lanes());
        let kernels_of = |panel: usize| &all[begin_of(panel)..][..len_of(panel)];
        if schedule.fused {
            (0..blocks).into_par_iter().for_each(|index| {
                let mut room = Room::take(values.len);
                self.read(source, tiles_of(index), values, &zeros, &mut room);
                for (panel, &columns) in panels.iter().enumerate() {
                    self.product(&room, values, kernels_of(panel), columns, tiles_of(index), &out);
                }
            });
            return;
        }
        for from in (0..blocks).step_by(schedule.at_once) {
            let count = schedule.at_once.min(blocks - from);
            let mut maps = Room::take(count * values.len);
            let room = Shared::new(&mut maps);
            (0..count).into_par_iter().for_each(|index| {
                // SAFETY: all tasks write other blocks.
                let room = unsafe { room.part(index * values.len, values.len) };
                self.read(source, tiles_of(from + index), values, &zeros, room);
            });
            let shares = schedule.shares.min(count);
            (0..panels.len() * shares).into_par_iter().for_each(|task| {
                let (panel, share) = (task / shares, task % shares);
                let mut own = Room::take(if schedule.kernels { 0 } else { len_of(panel) });
                if !schedule.kernels {
                    self.simd.run(Kernels { pass: self, weights, panel: panels[panel], terms: 0..channels, out: own.as_mut_ptr() });
                }
                let kernels = if schedule.kernels { kernels_of(panel) } else { &own[..] };
                for index in share * count / shares..(share + 1) * count / shares {
                    let room = &maps[index * values.len..][..values.len];
                    self.product(room, values, kernels, panels[panel], tiles_of(from + index), &out);
                }
            });
        }
    }

    /// Values of the transformed kernels of a panel with so many columns.
    fn kernels(&self, columns: usize) -> usize {
        self.variant.values() * (columns * self.source.channels + GAP)
    }

    /// Where the transformed source of a block lies.
    fn values(&self, block: usize) -> Planes {
        Planes::new(self.variant, block, self.source.channels.next_multiple_of(self.simd.lanes()))
    }

    fn read(&self, source: &[f32], tiles: Range<usize>, planes: Planes, zeros: &[f32], out: &mut [f32]) {
        let (variant, map) = (self.variant, &self.source);
        self.simd.run(Read { variant, side: Side::Source, map, values: source, zeros, tiles, planes, out });
    }

    fn product(&self, values: &[f32], planes: Planes, kernels: &[f32], panel: Panel, tiles: Range<usize>, out: &Shared) {
        let width = panel.vectors * self.simd.lanes();
        let sums = Planes::new(self.variant, tiles.len(), width);
        let mut room = Room::take(sums.len);
        self.simd.run(Product { pass: self, values, planes, kernels, panel, tiles: tiles.clone(), sums, out: &mut room });
        self.simd.run(Write { pass: self, sums: &room, planes: sums, panel, tiles, out });
    }
}

/// Terms whose kernels are transformed at once.
const PART: usize = 16;

/// The order of a convolution's work.
struct Schedule {
    /// Tiles that are transformed and multiplied at once.
    block: usize,
    /// Whether a block goes through all steps in one task.
    fused: bool,
    /// Whether all kernels are transformed first, else each task transforms its panel's.
    kernels: bool,
    /// Blocks that are transformed before any is multiplied, where not fused.
    at_once: usize,
    /// Tasks over which the blocks of a panel are spread, where not fused.
    shares: usize,
}

impl Schedule {
    /// By the shape alone. Measured on two cores of Zen 4, with 1 MiB of second-level cache each and 32 MiB of third-level cache.
    fn new(pass: &Pass) -> Self {
        let (tiles, channels) = (pass.source.cut.count(), pass.source.channels);
        let kernels = 4 * pass.variant.values() * pass.columns * channels;
        let most = pass.variant.tiles(24);
        let fused = kernels <= FEW_KERNELS || (kernels <= MANY_KERNELS && tiles >= 8 * most);
        // Whole tiles of the matrix kernel, and enough tasks for some threads.
        let block = if fused { tiles.div_ceil(TASKS).next_multiple_of(6).min(most) } else { pass.variant.tiles(48) };
        let kernels = fused || kernels <= MANY_KERNELS;
        let at_once = (MAPS / (4 * pass.variant.values() * channels * block)).max(1);
        let shares = if kernels { TASKS.div_ceil(pass.columns.div_ceil(64)) } else { 1 };
        Self { block, fused, kernels, at_once, shares }
    }
}

/// Bytes of transformed kernels that each task may read on its own: they come from the third-level cache again for each block.
const FEW_KERNELS: usize = 4 << 20;
/// Bytes of transformed kernels that are worth keeping: more would not stay in the third-level cache.
const MANY_KERNELS: usize = 12 << 20;
/// Bytes of transformed maps at a time, so that they stay in the third-level cache.
const MAPS: usize = 12 << 20;
/// Tasks for the threads to share, whatever their number.
const TASKS: usize = 16;

/// Memory that is written before it is read: large rooms from the arena that all share, small ones from the thread, which keeps what it used,
/// so that they are in its own caches.
enum Room {
    Shared(Buffer),
    Own { values: Vec<f32>, from: usize, len: usize },
}

thread_local! {
    static ROOMS: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Values up to which a room is the thread's own: as much as a second-level cache holds.
const OWN_ROOM: usize = 1 << 18;

impl Room {
    fn take(len: usize) -> Self {
        if len == 0 || len > OWN_ROOM {
            return Self::Shared(Buffer::new(len));
        }
        let need = len + LINE;
        let values = ROOMS.with_borrow_mut(|rooms| {
            let fits = (0..rooms.len()).filter(|&i| rooms[i].len() >= need).min_by_key(|&i| rooms[i].len());
            // The largest makes way for a larger one, so that no more stay than are used at once.
            let index = fits.or_else(|| (0..rooms.len()).max_by_key(|&i| rooms[i].len()));
            index.map(|index| rooms.swap_remove(index)).filter(|room| room.len() >= need)
        });
        let mut values = values.unwrap_or_else(|| vec![0.0; need]);
        if poisoned() {
            values.fill(f32::NAN);
        }
        // Values to the next multiple of 64 bytes.
        let from = values.as_ptr().align_offset(4 * LINE).min(LINE);
        Self::Own { values, from, len }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Self::Own { values, .. } = self {
            let values = std::mem::take(values);
            // At the end of a thread its rooms may be gone already.
            let _ = ROOMS.try_with(|rooms| rooms.borrow_mut().push(values));
        }
    }
}

impl Deref for Room {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Shared(buffer) => buffer,
            Self::Own { values, from, len } => &values[*from..from + len],
        }
    }
}

impl DerefMut for Room {
    fn deref_mut(&mut self) -> &mut [f32] {
        match self {
            Self::Shared(buffer) => buffer,
            Self::Own { values, from, len } => &mut values[*from..*from + *len],
        }
    }
}

/// A transform along one axis, which [`square`] applies on both.
trait Line<const A: usize, const B: usize> {
    fn line<L: Lanes>(values: [L; A]) -> [L; B];
}

/// The transforms at 0, 1, -1 and infinity.
mod two {
    use super::{Lanes, Line};

    /// `B^T`.
    pub struct Source;
    /// `G`.
    pub struct Kernel;
    /// `A^T`.
    pub struct Output;
    /// `A`.
    pub struct Gradient;
    /// `G^T`.
    pub struct KernelGradient;

    impl Line<4, 4> for Source {
        #[inline(always)]
        fn line<L: Lanes>([d0, d1, d2, d3]: [L; 4]) -> [L; 4] {
            [d0.sub(d2), d2.add(d1), d2.sub(d1), d3.sub(d1)]
        }
    }

    impl Line<3, 4> for Kernel {
        #[inline(always)]
        fn line<L: Lanes>([g0, g1, g2]: [L; 3]) -> [L; 4] {
            let half = L::splat(0.5);
            let (even, odd) = (g0.add(g2).mul(half), g1.mul(half));
            [g0, even.add(odd), even.sub(odd), g2]
        }
    }

    impl Line<4, 2> for Output {
        #[inline(always)]
        fn line<L: Lanes>([m0, m1, m2, m3]: [L; 4]) -> [L; 2] {
            [m0.add(m1.add(m2)), m1.sub(m2).add(m3)]
        }
    }

    impl Line<2, 4> for Gradient {
        #[inline(always)]
        fn line<L: Lanes>([y0, y1]: [L; 2]) -> [L; 4] {
            [y0, y0.add(y1), y0.sub(y1), y1]
        }
    }

    impl Line<4, 3> for KernelGradient {
        #[inline(always)]
        fn line<L: Lanes>([u0, u1, u2, u3]: [L; 4]) -> [L; 3] {
            let half = L::splat(0.5);
            let (even, odd) = (u1.add(u2), u1.sub(u2));
            [half.mul_add(even, u0), half.mul(odd), half.mul_add(even, u3)]
        }
    }
}

/// The transforms at 0, 5/8, -5/8, 3/2, -3/2 and infinity. A pair of points `p` and `-p` shares the sums of even and of odd powers.
mod four {
    use super::{Lanes, Line};

    /// The smaller pair of points.
    const A: f32 = 0.625;
    /// The larger pair.
    const B: f32 = 1.5;
    const A2: f32 = A * A;
    const B2: f32 = B * B;
    /// Product of the distances from point 0 to the others.
    const N0: f64 = A2 as f64 * B2 as f64;
    /// Product of the distances from a point of the smaller pair to the others.
    const NA: f64 = 2.0 * A2 as f64 * (A2 as f64 - B2 as f64);
    /// Product of the distances from a point of the larger pair to the others.
    const NB: f64 = 2.0 * B2 as f64 * (B2 as f64 - A2 as f64);
    /// Row 0 of `G`.
    const G0: f32 = (1.0 / N0) as f32;
    /// Rows of the smaller pair, powers 0 to 2.
    const GA: [f32; 3] = [(1.0 / NA) as f32, (A as f64 / NA) as f32, (A2 as f64 / NA) as f32];
    /// Rows of the larger pair.
    const GB: [f32; 3] = [(1.0 / NB) as f32, (B as f64 / NB) as f32, (B2 as f64 / NB) as f32];

    /// `B^T`: the coefficients of the polynomials that are zero at all points but one.
    pub struct Source;
    /// `G`: the kernel's polynomial at each point, over the product of the point's distances to the others.
    pub struct Kernel;
    /// `A^T`: the powers of the points.
    pub struct Output;
    /// `A`.
    pub struct Gradient;
    /// `G^T`.
    pub struct KernelGradient;

    impl Line<6, 6> for Source {
        #[inline(always)]
        fn line<L: Lanes>([d0, d1, d2, d3, d4, d5]: [L; 6]) -> [L; 6] {
            let (ends, middle) = (L::splat(A2 * B2), L::splat(-A2 - B2));
            let (even_a, odd_a) = (L::splat(-B2).mul_add(d2, d4), L::splat(A).mul(L::splat(-B2).mul_add(d1, d3)));
            let (even_b, odd_b) = (L::splat(-A2).mul_add(d2, d4), L::splat(B).mul(L::splat(-A2).mul_add(d1, d3)));
            [
                ends.mul_add(d0, middle.mul_add(d2, d4)),
                even_a.add(odd_a),
                even_a.sub(odd_a),
                even_b.add(odd_b),
                even_b.sub(odd_b),
                ends.mul_add(d1, middle.mul_add(d3, d5)),
            ]
        }
    }

    impl Line<3, 6> for Kernel {
        #[inline(always)]
        fn line<L: Lanes>([g0, g1, g2]: [L; 3]) -> [L; 6] {
            let (even_a, odd_a) = (L::splat(GA[0]).mul_add(g0, L::splat(GA[2]).mul(g2)), L::splat(GA[1]).mul(g1));
            let (even_b, odd_b) = (L::splat(GB[0]).mul_add(g0, L::splat(GB[2]).mul(g2)), L::splat(GB[1]).mul(g1));
            [L::splat(G0).mul(g0), even_a.add(odd_a), even_a.sub(odd_a), even_b.add(odd_b), even_b.sub(odd_b), g2]
        }
    }

    impl Line<6, 4> for Output {
        #[inline(always)]
        fn line<L: Lanes>([m0, m1, m2, m3, m4, m5]: [L; 6]) -> [L; 4] {
            let (even_a, odd_a, even_b, odd_b) = (m1.add(m2), m1.sub(m2), m3.add(m4), m3.sub(m4));
            [
                m0.add(even_a.add(even_b)),
                L::splat(A).mul_add(odd_a, L::splat(B).mul(odd_b)),
                L::splat(A2).mul_add(even_a, L::splat(B2).mul(even_b)),
                L::splat(A2 * A).mul_add(odd_a, L::splat(B2 * B).mul_add(odd_b, m5)),
            ]
        }
    }

    impl Line<4, 6> for Gradient {
        #[inline(always)]
        fn line<L: Lanes>([y0, y1, y2, y3]: [L; 4]) -> [L; 6] {
            let (even_a, odd_a) = (L::splat(A2).mul_add(y2, y0), L::splat(A).mul(L::splat(A2).mul_add(y3, y1)));
            let (even_b, odd_b) = (L::splat(B2).mul_add(y2, y0), L::splat(B).mul(L::splat(B2).mul_add(y3, y1)));
            [y0, even_a.add(odd_a), even_a.sub(odd_a), even_b.add(odd_b), even_b.sub(odd_b), y3]
        }
    }

    impl Line<6, 3> for KernelGradient {
        #[inline(always)]
        fn line<L: Lanes>([u0, u1, u2, u3, u4, u5]: [L; 6]) -> [L; 3] {
            let (even_a, odd_a, even_b, odd_b) = (u1.add(u2), u1.sub(u2), u3.add(u4), u3.sub(u4));
            [
                L::splat(G0).mul_add(u0, L::splat(GA[0]).mul_add(even_a, L::splat(GB[0]).mul(even_b))),
                L::splat(GA[1]).mul_add(odd_a, L::splat(GB[1]).mul(odd_b)),
                L::splat(GA[2]).mul_add(even_a, L::splat(GB[2]).mul_add(even_b, u5)),
            ]
        }
    }
}

/// A transform on both axes.
#[inline(always)]
fn square<L: Lanes, T: Line<A, B>, const A: usize, const B: usize>(tile: [[L; A]; A]) -> [[L; B]; B] {
    let mut half = [[L::zero(); A]; B];
    for x in 0..A {
        let mut column = [L::zero(); A];
        for y in 0..A {
            column[y] = tile[y][x];
        }
        let column = T::line(column);
        for y in 0..B {
            half[y][x] = column[y];
        }
    }
    let mut out = [[L::zero(); B]; B];
    for y in 0..B {
        out[y] = T::line(half[y]);
    }
    out
}

/// Which transform a map goes through.
#[derive(Debug, Clone, Copy)]
enum Side {
    /// The source's.
    Source,
    /// That of the output's gradient.
    Gradient,
}

/// Transforms the windows of a block of tiles.
struct Read<'a> {
    variant: Variant,
    side: Side,
    map: &'a Map,
    values: &'a [f32],
    /// A pixel outside the map.
    zeros: &'a [f32],
    tiles: Range<usize>,
    planes: Planes,
    out: &'a mut [f32],
}

impl Task for Read<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        match (self.variant, self.side) {
            (Variant::F2, Side::Source) => self.tiles::<L, two::Source, 4, 4>(),
            (Variant::F2, Side::Gradient) => self.tiles::<L, two::Gradient, 2, 4>(),
            (Variant::F4, Side::Source) => self.tiles::<L, four::Source, 6, 6>(),
            (Variant::F4, Side::Gradient) => self.tiles::<L, four::Gradient, 4, 6>(),
        }
    }
}

impl Read<'_> {
    #[inline(always)]
    fn tiles<L: Lanes, T: Line<A, B>, const A: usize, const B: usize>(self) {
        let Map { cut, size: [h, w], channels, padding } = *self.map;
        let full = channels / L::N * L::N;
        assert!(self.planes.row >= channels.next_multiple_of(L::N) && self.zeros.len() >= channels, "rows too short");
        assert!(self.planes.len <= self.out.len() && self.tiles.len() * self.planes.row <= self.planes.plane, "planes too short");
        assert!(self.values.len() >= cut.images * h * w * channels && self.tiles.end <= cut.count(), "map too short");
        for (index, tile) in self.tiles.clone().enumerate() {
            let (image, [top, left]) = cut.at(tile);
            let mut pixels = [[self.zeros.as_ptr(); A]; A];
            for i in 0..A {
                // What lies before the first line wraps around to far behind the last.
                let y = (top + i).wrapping_sub(padding);
                if y >= h {
                    continue;
                }
                for j in 0..A {
                    let x = (left + j).wrapping_sub(padding);
                    if x < w {
                        // SAFETY: the pixel lies in the map, whose size was compared above.
                        pixels[i][j] = unsafe { self.values.as_ptr().add(((image * h + y) * w + x) * channels) };
                    }
                }
            }
            // SAFETY: each pixel has `channels` values, the planes room for the tile's, in whole vectors.
            unsafe {
                let out = self.out.as_mut_ptr().add(index * self.planes.row);
                for channel in (0..full).step_by(L::N) {
                    vector::<L, T, A, B, false>(&pixels, channel, L::N, out.add(channel), self.planes.plane);
                }
                if full < channels {
                    vector::<L, T, A, B, true>(&pixels, full, channels - full, out.add(full), self.planes.plane);
                }
            }
        }
    }
}

/// Transforms a vector of channels of a window, `count` of them where `SOME`.
///
/// # Safety
/// `count` values can be read from each pixel's `channel` on, and a vector be written to each plane.
#[inline(always)]
unsafe fn vector<L: Lanes, T: Line<A, B>, const A: usize, const B: usize, const SOME: bool>(
    pixels: &[[*const f32; A]; A],
    channel: usize,
    count: usize,
    out: *mut f32,
    plane: usize,
) {
    let mut tile = [[L::zero(); A]; A];
    for y in 0..A {
        for x in 0..A {
            // SAFETY: the caller's.
            tile[y][x] = unsafe {
                let from = pixels[y][x].add(channel);
                if SOME { L::load_some(from, count) } else { L::load(from) }
            };
        }
    }
    let values = square::<L, T, A, B>(tile);
    for y in 0..B {
        for x in 0..B {
            // SAFETY: the caller's.
            unsafe { values[y][x].store(out.add((y * B + x) * plane)) };
        }
    }
}

/// Transforms the kernels of a panel's columns and some terms, to `[value][term][column]`.
struct Kernels<'a> {
    pass: &'a Pass,
    weights: &'a [f32],
    panel: Panel,
    terms: Range<usize>,
    /// The kernels of all terms of the panel. They are not a slice, since tasks share them.
    out: *mut f32,
}

impl Task for Kernels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        match self.pass.variant {
            Variant::F2 => self.kernels::<L, two::Kernel, 4>(),
            Variant::F4 => self.kernels::<L, four::Kernel, 6>(),
        }
    }
}

impl Kernels<'_> {
    #[inline(always)]
    fn kernels<L: Lanes, T: Line<3, B>, const B: usize>(self) {
        let Weights { column, term, turned } = self.pass.weights;
        let channels = self.pass.source.channels;
        let width = self.panel.vectors * L::N;
        assert_eq!(self.weights.len(), channels * self.pass.columns * TAPS, "weights of another size");
        assert!(self.terms.end <= channels && self.panel.from + self.panel.count <= self.pass.columns, "kernels beyond the last");
        let mut room = Room::take(PART * TAPS * width);
        let room = room.as_mut_ptr();
        for from in self.terms.clone().step_by(PART) {
            let count = PART.min(self.terms.end - from);
            // SAFETY: terms and columns are those of the weights, as asserted; the room holds `[term][tap][column]`, and the output `B * B`
            // planes of all terms and the panel's columns, of which these terms are this task's alone.
            unsafe {
                if term < column {
                    for c in 0..self.panel.count {
                        let kernels = self.weights.as_ptr().add((self.panel.from + c) * column + from * TAPS);
                        for value in 0..count * TAPS {
                            *room.add(value * width + c) = *kernels.add(value);
                        }
                        for line in 0..PART * TAPS / LINE {
                            prefetch(kernels.wrapping_add((PART * TAPS) + line * LINE));
                        }
                    }
                } else {
                    for k in 0..count {
                        let kernels = self.weights.as_ptr().add((from + k) * term + self.panel.from * TAPS);
                        for c in 0..self.panel.count {
                            prefetch(kernels.wrapping_add(PART * term + c * TAPS));
                            for tap in 0..TAPS {
                                *room.add((k * TAPS + tap) * width + c) = *kernels.add(c * TAPS + tap);
                            }
                        }
                    }
                }
                for k in 0..count {
                    for c in (0..width).step_by(L::N) {
                        let mut kernel = [[L::zero(); 3]; 3];
                        for y in 0..3 {
                            for x in 0..3 {
                                let tap = if turned { TAPS - 1 - (y * 3 + x) } else { y * 3 + x };
                                kernel[y][x] = L::load(room.add((k * TAPS + tap) * width + c));
                            }
                        }
                        let values = square::<L, T, 3, B>(kernel);
                        for y in 0..B {
                            for x in 0..B {
                                values[y][x].store(self.out.add((y * B + x) * (channels * width + GAP) + (from + k) * width + c));
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The matrix products of a block of tiles with a panel's kernels, one for each value of a transformed tile.
struct Product<'a> {
    pass: &'a Pass,
    values: &'a [f32],
    planes: Planes,
    kernels: &'a [f32],
    panel: Panel,
    tiles: Range<usize>,
    sums: Planes,
    out: &'a mut [f32],
}

impl Task for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        match self.panel.vectors {
            4 => self.planes::<L, 6, 4>(),
            2 => self.planes::<L, 6, 2>(),
            _ => self.planes::<L, 12, 1>(),
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn planes<L: Lanes, const M: usize, const V: usize>(self) {
        let (count, run) = (self.tiles.len(), self.pass.source.channels);
        let values = self.pass.variant.values();
        assert!(self.planes.row >= run && count * self.planes.row <= self.planes.plane, "rows too short");
        assert!(self.sums.row == V * L::N && count * self.sums.row <= self.sums.plane, "sums too short");
        assert!(values * self.planes.plane <= self.values.len() && values * self.sums.plane <= self.out.len(), "planes too short");
        assert_eq!(self.kernels.len(), values * (run * V * L::N + GAP), "kernels of another size");
        for value in 0..values {
            // SAFETY: planes, kernels and sums are as long as asserted.
            unsafe {
                let rows = self.values.as_ptr().add(value * self.planes.plane);
                let sums = self.out.as_mut_ptr().add(value * self.sums.plane);
                let panel = self.kernels.as_ptr().add(value * (run * V * L::N + GAP));
                // While one value's products run, the next value's kernels and then its rows move to the second-level cache.
                let next_panel = panel.wrapping_add(run * V * L::N + GAP);
                let next_rows = rows.wrapping_add(self.planes.plane);
                let lines = (V * L::N).div_ceil(LINE);
                for (index, row) in (0..count).step_by(M).enumerate() {
                    let ahead = if index < lines {
                        next_panel.wrapping_add(index * run * LINE)
                    } else {
                        next_rows.wrapping_add((index - lines) * run * LINE)
                    };
                    let (rows, sums) = (rows.add(row * self.planes.row), sums.add(row * V * L::N));
                    let count = M.min(count - row);
                    match count {
                        1 | 2 => product::<L, 2, V>(rows, self.planes.row, run, panel, sums, count, ahead),
                        3 | 4 => product::<L, 4, V>(rows, self.planes.row, run, panel, sums, count, ahead),
                        5 | 6 => product::<L, 6, V>(rows, self.planes.row, run, panel, sums, count, ahead),
                        _ => product::<L, M, V>(rows, self.planes.row, run, panel, sums, count, ahead),
                    }
                }
            }
        }
    }
}

/// The products of `count` rows, up to `M`, with a panel. Meanwhile `run` cache lines from `ahead` on are prefetched.
///
/// # Safety
/// `run` values can be read from each of the rows, `run * V` vectors from the panel, and `V` vectors be written for each row.
#[inline(always)]
unsafe fn product<L: Lanes, const M: usize, const V: usize>(
    rows: *const f32,
    row: usize,
    run: usize,
    panel: *const f32,
    out: *mut f32,
    count: usize,
    ahead: *const f32,
) {
    let mut from = [rows; M];
    let mut to = [out; M];
    for m in 0..M {
        // Rows behind the last repeat it.
        let index = m.min(count - 1);
        // SAFETY: the caller's.
        unsafe {
            from[m] = rows.add(index * row);
            to[m] = out.add(index * V * L::N);
        }
    }
    let mut sums = [[L::zero(); V]; M];
    // SAFETY: the caller's.
    unsafe {
        let whole = run / 4 * 4;
        for k in (0..whole).step_by(4) {
            for line in 0..4 {
                prefetch(ahead.wrapping_add((k + line) * LINE));
            }
            tiles::inner::<L, M, V>(&mut sums, from.map(|row| row.add(k)), 4, panel.add(k * V * L::N));
        }
        tiles::inner::<L, M, V>(&mut sums, from.map(|row| row.add(whole)), run - whole, panel.add(whole * V * L::N));
        tiles::store(sums, to, count, V * L::N);
    }
}

/// Transforms the sums of a block of tiles and a panel to pixels of the target.
struct Write<'a> {
    pass: &'a Pass,
    sums: &'a [f32],
    planes: Planes,
    panel: Panel,
    tiles: Range<usize>,
    out: &'a Shared<'a>,
}

impl Task for Write<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        match self.pass.variant {
            Variant::F2 => self.tiles::<L, two::Output, 4, 2>(),
            Variant::F4 => self.tiles::<L, four::Output, 6, 4>(),
        }
    }
}

impl Write<'_> {
    #[inline(always)]
    fn tiles<L: Lanes, T: Line<A, B>, const A: usize, const B: usize>(self) {
        let [height, width] = self.pass.target;
        let columns = self.pass.columns;
        let cut = self.pass.source.cut;
        assert!(A * A * self.planes.plane <= self.sums.len(), "planes too short");
        assert!(
            self.tiles.len() * self.planes.row <= self.planes.plane && self.planes.row == self.panel.vectors * L::N,
            "rows too short"
        );
        for (index, tile) in self.tiles.clone().enumerate() {
            let (image, [top, left]) = cut.at(tile);
            let (lines, row) = (B.min(height - top), B.min(width - left));
            // SAFETY: the pixels lie in the target, of which the tile's are this task's alone; the planes are as long as asserted.
            unsafe {
                let target = self.out.at(((image * height + top) * width + left) * columns + self.panel.from);
                for v in 0..self.panel.vectors {
                    let from = self.sums.as_ptr().add(index * self.planes.row + v * L::N);
                    let mut sums = [[L::zero(); A]; A];
                    for y in 0..A {
                        for x in 0..A {
                            sums[y][x] = L::load(from.add((y * A + x) * self.planes.plane));
                        }
                    }
                    let pixels = square::<L, T, A, B>(sums);
                    let count = self.panel.count.saturating_sub(v * L::N);
                    if count == 0 {
                        break;
                    }
                    for y in 0..lines {
                        for x in 0..row {
                            let to = target.add((y * width + x) * columns + v * L::N);
                            let pixel = pixels[y][x];
                            if count >= L::N {
                                if self.pass.add { pixel.add(L::load(to)).store(to) } else { pixel.store(to) }
                            } else if self.pass.add {
                                pixel.add(L::load_some(to, count)).store_some(to, count);
                            } else {
                                pixel.store_some(to, count);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The gradient with respect to the weights, from the input and the gradient with respect to the output.
///
/// # Panics
/// As [`forward`].
pub fn weight_gradient(conv: &Conv, variant: Variant, source: &[f32], gradient: &[f32], simd: Simd) -> Buffer {
    check(conv);
    assert_eq!(source.len(), conv.in_len(), "source of another size");
    assert_eq!(gradient.len(), conv.out_len(), "gradient of another size");
    let cut = Cut::new(conv, variant, conv.out_size());
    let source = Operand {
        values: source,
        side: Side::Source,
        map: Map { cut, size: conv.size, channels: conv.input, padding: conv.padding },
    };
    let gradient = Operand {
        values: gradient,
        side: Side::Gradient,
        map: Map { cut, size: conv.out_size(), channels: conv.output, padding: 0 },
    };
    let mut out = Buffer::zeros(conv.weights());
    if out.is_empty() || cut.count() == 0 {
        return out;
    }
    let (panels, padded) = tiles::panels(conv.output, simd);
    let zeros = vec![0.0f32; conv.input.max(conv.output)];
    let bytes = 4 * variant.values();
    if bytes * conv.input * padded <= FEW_PRODUCTS && cut.count() >= MANY_TILES {
        let block = variant.tiles(32);
        let rows = Planes::new(variant, block, conv.input.next_multiple_of(simd.lanes()));
        let columns = Planes::new(variant, block, padded);
        let blocks = cut.count().div_ceil(block);
        let sums = (cut.count() / TILES_OF_SUM).min(SUMS);
        let mut all = Room::take(sums * conv.weights());
        let parts = Shared::new(&mut all);
        (0..sums).into_par_iter().for_each(|sum| {
            let mut left = Room::take(rows.len);
            let mut right = Room::take(columns.len);
            let products = Planes::new(variant, conv.input, padded);
            let mut room = Room::take(products.len);
            let first = sum * blocks / sums;
            for index in first..(sum + 1) * blocks / sums {
                let tiles = index * block..((index + 1) * block).min(cut.count());
                source.read(variant, simd, tiles.clone(), rows, &zeros, &mut left);
                gradient.read(variant, simd, tiles.clone(), columns, &zeros, &mut right);
                for &panel in &panels {
                    simd.run(Correlate {
                        variant,
                        left: (&left, rows),
                        right: (&right, columns),
                        tiles: tiles.len(),
                        block,
                        terms: 0..conv.input,
                        panel,
                        add: index > first,
                        products,
                        at: panel.packed,
                        out: &mut room,
                    });
                }
            }
            // SAFETY: each task writes its own sums.
            let out = Shared::new(unsafe { parts.part(sum * conv.weights(), conv.weights()) });
            for &panel in &panels {
                let at = panel.packed;
                let terms = 0..conv.input;
                simd.run(Fold {
                    variant,
                    products: &room,
                    planes: products,
                    at,
                    terms,
                    panel,
                    input: conv.input,
                    add: false,
                    out: &out,
                });
            }
        });
        let len = out.len();
        out.par_chunks_mut(4096).enumerate().for_each(|(chunk, out)| {
            for part in all.chunks_exact(len) {
                out.iter_mut().zip(&part[chunk * 4096..]).for_each(|(sum, part)| *sum += part);
            }
        });
        return out;
    }
    let block = variant.tiles(32);
    let rows = Planes::new(variant, block, conv.input.next_multiple_of(simd.lanes()));
    let columns = Planes::new(variant, block, padded);
    let blocks = cut.count().div_ceil(block);
    let most = (MAPS / (4 * (rows.len + columns.len))).max(1);
    let rounds = blocks.div_ceil(most);
    let weights = Shared::new(&mut out);
    let group = (conv.input * panels.len()).div_ceil(TASKS / 2).next_multiple_of(12).min(GROUP);
    let groups = conv.input.div_ceil(group);
    for round in 0..rounds {
        let (from, end) = (round * blocks / rounds, (round + 1) * blocks / rounds);
        let mut left = Room::take((end - from) * rows.len);
        let mut right = Room::take((end - from) * columns.len);
        let (lefts, rights) = (Shared::new(&mut left), Shared::new(&mut right));
        (0..2 * (end - from)).into_par_iter().for_each(|task| {
            let index = task / 2;
            let tiles = (from + index) * block..((from + index + 1) * block).min(cut.count());
            // SAFETY: each task writes its own block.
            unsafe {
                if task % 2 == 0 {
                    source.read(variant, simd, tiles, rows, &zeros, lefts.part(index * rows.len, rows.len));
                } else {
                    gradient.read(variant, simd, tiles, columns, &zeros, rights.part(index * columns.len, columns.len));
                }
            }
        });
        let tiles = (end * block).min(cut.count()) - from * block;
        (0..panels.len() * groups).into_par_iter().for_each(|task| {
            let (panel, from) = (panels[task / groups], task % groups * group);
            let terms = from..(from + group).min(conv.input);
            let products = Planes::new(variant, terms.len(), panel.vectors * simd.lanes());
            let mut room = Room::take(products.len);
            simd.run(Correlate {
                variant,
                left: (&left, rows),
                right: (&right, columns),
                tiles,
                block,
                terms: terms.clone(),
                panel,
                add: false,
                products,
                at: 0,
                out: &mut room,
            });
            let add = round > 0;
            simd.run(Fold {
                variant,
                products: &room,
                planes: products,
                at: 0,
                terms,
                panel,
                input: conv.input,
                add,
                out: &weights,
            });
        });
    }
    out
}

/// Independent sums over which the tiles are spread where the weights are few, whatever the number of threads.
const SUMS: usize = 16;
/// Tiles of such a sum, at least: the transform of its products takes as long as the products of about sixteen tiles.
const TILES_OF_SUM: usize = 96;
/// Tiles from which on there are enough such sums.
const MANY_TILES: usize = 8 * TILES_OF_SUM;
/// Bytes of products, before they are transformed to weights, of which each of these sums may have its own.
const FEW_PRODUCTS: usize = 1 << 20;
/// Input channels of a task of the weights' gradient, at most.
const GROUP: usize = 48;

/// A map of the weights' gradient.
struct Operand<'a> {
    values: &'a [f32],
    side: Side,
    map: Map,
}

impl Operand<'_> {
    fn read(&self, variant: Variant, simd: Simd, tiles: Range<usize>, planes: Planes, zeros: &[f32], out: &mut [f32]) {
        simd.run(Read { variant, side: self.side, map: &self.map, values: self.values, zeros, tiles, planes, out });
    }
}

/// Sums the products of transformed windows and gradients over tiles, for some terms (input channels) and a panel of columns (output channels).
struct Correlate<'a> {
    variant: Variant,
    /// The source's blocks, one behind the other.
    left: (&'a [f32], Planes),
    /// The gradient's.
    right: (&'a [f32], Planes),
    /// Tiles of all blocks.
    tiles: usize,
    /// Tiles of a block; the last may have fewer.
    block: usize,
    terms: Range<usize>,
    panel: Panel,
    /// Whether the products are added to what is there.
    add: bool,
    /// Where the products lie: value, term, column.
    products: Planes,
    /// Value of the products at which the panel's begin.
    at: usize,
    out: &'a mut [f32],
}

impl Task for Correlate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        match self.panel.vectors {
            4 => self.planes::<L, 6, 4>(),
            2 => self.planes::<L, 6, 2>(),
            _ => self.planes::<L, 12, 1>(),
        }
    }
}

impl Correlate<'_> {
    #[inline(always)]
    fn planes<L: Lanes, const M: usize, const V: usize>(&mut self) {
        let blocks = self.tiles.div_ceil(self.block);
        let values = self.variant.values();
        let (left, right) = (self.left.1, self.right.1);
        assert!(blocks * left.len <= self.left.0.len() && blocks * right.len <= self.right.0.len(), "fewer blocks");
        assert!(left.row >= self.terms.end && right.row >= self.panel.packed + V * L::N, "rows too short");
        assert!(self.block * left.row + GAP <= left.plane && self.block * right.row <= right.plane, "planes too short");
        assert!(self.products.row >= self.at + V * L::N && self.terms.len() * self.products.row <= self.products.plane, "no room");
        assert!(values * self.products.plane <= self.out.len(), "no room");
        for value in 0..values {
            let mut term = 0;
            while term < self.terms.len() {
                let rest = self.terms.len() - term;
                // SAFETY: blocks and products are as long as asserted; a tile of fewer terms than its rows reads into the gap at most.
                unsafe {
                    match rest {
                        1 | 2 => self.tile::<L, 2, V>(value, term, rest, term / M),
                        3 | 4 => self.tile::<L, 4, V>(value, term, rest, term / M),
                        5 | 6 => self.tile::<L, 6, V>(value, term, rest, term / M),
                        _ => self.tile::<L, M, V>(value, term, rest.min(M), term / M),
                    }
                }
                term += M;
            }
        }
    }

    /// The sums of a value for `count` terms, up to `M`. The tile is number `share` of those of the value.
    ///
    /// # Safety
    /// See [`Self::planes`].
    #[inline(always)]
    unsafe fn tile<L: Lanes, const M: usize, const V: usize>(&mut self, value: usize, term: usize, count: usize, share: usize) {
        let (left, right) = (self.left.1, self.right.1);
        // SAFETY: the caller's.
        unsafe {
            let mut rows = [std::ptr::null_mut(); M];
            for m in 0..M {
                let term = term + m.min(count - 1);
                rows[m] = self.out.as_mut_ptr().add(value * self.products.plane + term * self.products.row + self.at);
            }
            let mut sums = if self.add { tiles::load(rows.map(<*mut f32>::cast_const), V * L::N) } else { [[L::zero(); V]; M] };
            let mut first = self.left.0.as_ptr().add(value * left.plane + self.terms.start);
            let mut from = first.add(term);
            let mut panel = self.right.0.as_ptr().add(value * right.plane + self.panel.packed);
            let mut tiles = self.tiles;
            loop {
                // The tiles of terms share the work of moving the next value's planes to the second-level cache: each asks for one line of
                // every row, of the gradient's first.
                let (ahead, step) = if share * LINE < V * L::N {
                    (panel.wrapping_add(right.plane + share * LINE), right.row)
                } else {
                    (first.wrapping_add(left.plane + (share - V * L::N / LINE) * LINE), left.row)
                };
                let count = tiles.min(self.block);
                let whole = count / 4 * 4;
                for k in (0..whole).step_by(4) {
                    for line in 0..4 {
                        prefetch(ahead.wrapping_add((k + line) * step));
                    }
                    let (from, panel) = (from.add(k * left.row), panel.add(k * right.row));
                    tiles::outer::<L, M, V>(&mut sums, (from, left.row), (panel, right.row), 4);
                }
                let (from_rest, panel_rest) = (from.add(whole * left.row), panel.add(whole * right.row));
                tiles::outer::<L, M, V>(&mut sums, (from_rest, left.row), (panel_rest, right.row), count - whole);
                if tiles <= self.block {
                    break;
                }
                tiles -= self.block;
                from = from.add(left.len);
                first = first.add(left.len);
                panel = panel.add(right.len);
            }
            tiles::store(sums, rows, count, V * L::N);
        }
    }
}

/// Transforms the products to the gradient of kernels.
struct Fold<'a> {
    variant: Variant,
    products: &'a [f32],
    planes: Planes,
    /// Value of the products at which the panel's begin.
    at: usize,
    terms: Range<usize>,
    panel: Panel,
    /// Input channels.
    input: usize,
    add: bool,
    out: &'a Shared<'a>,
}

impl Task for Fold<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        match self.variant {
            Variant::F2 => self.kernels::<L, two::KernelGradient, 4>(),
            Variant::F4 => self.kernels::<L, four::KernelGradient, 6>(),
        }
    }
}

impl Fold<'_> {
    #[inline(always)]
    fn kernels<L: Lanes, T: Line<A, 3>, const A: usize>(self) {
        let width = self.panel.vectors * L::N;
        assert!(A * A * self.planes.plane <= self.products.len() && self.planes.row >= self.at + width, "planes too short");
        assert!(self.terms.len() * self.planes.row <= self.planes.plane && self.terms.end <= self.input, "planes too short");
        let mut room = Room::take(PART * TAPS * width);
        let room = room.as_mut_ptr();
        for from in (0..self.terms.len()).step_by(PART) {
            let count = PART.min(self.terms.len() - from);
            // SAFETY: the planes are as long as asserted; the room holds `[term][tap][column]`; kernels of these terms and columns are this
            // task's alone.
            unsafe {
                for k in 0..count {
                    for c in (0..width).step_by(L::N) {
                        let products = self.products.as_ptr().add((from + k) * self.planes.row + self.at + c);
                        let mut tile = [[L::zero(); A]; A];
                        for y in 0..A {
                            for x in 0..A {
                                tile[y][x] = L::load(products.add((y * A + x) * self.planes.plane));
                            }
                        }
                        let kernel = square::<L, T, A, 3>(tile);
                        for y in 0..3 {
                            for x in 0..3 {
                                kernel[y][x].store(room.add((k * TAPS + y * 3 + x) * width + c));
                            }
                        }
                    }
                }
                for c in 0..self.panel.count {
                    let column = (self.panel.from + c) * self.input + self.terms.start + from;
                    let kernels = self.out.part(column * TAPS, count * TAPS);
                    for (value, out) in kernels.iter_mut().enumerate() {
                        let value = *room.add(value * width + c);
                        *out = if self.add { *out + value } else { value };
                    }
                }
            }
        }
    }
}
