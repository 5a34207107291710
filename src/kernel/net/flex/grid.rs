//! Convolutions as sums over taps, without copies of the image: which source pixel each tap of each output pixel reads.
//!
//! All maps are channels-last, `[n, h, w, c]`. A [`Grid`] describes a forward convolution, or one parity class of the gradient with respect to
//! its input; [`multiply`] and [`correlate`] work for every grid.

use std::ops::Range;

use rayon::prelude::*;

use super::buffer::Buffer;
use super::lanes::{Lanes, Task, prefetch};
use super::shared::Shared;
use super::tiles::{self, MOST_ROWS, Panel};
use crate::kernel::net::simd::Simd;
use crate::kernel::net::sizes::Conv;

/// Output positions `(n, a, b)`, and the source pixel `(n, a step + dy, b step + dx)` that tap `(dy, dx)` reads there; pixels outside the source
/// are zero. The position is written to pixel `(n, a spread + at.0, b spread + at.1)` of the target.
#[derive(Debug, Clone)]
pub struct Grid {
    /// Images.
    pub images: usize,
    /// Positions on both axes.
    pub positions: [usize; 2],
    /// Source pixels from one position to the next.
    pub step: usize,
    /// Offsets of the taps.
    pub taps: Vec<[isize; 2]>,
    /// Height and width of the source.
    pub source: [usize; 2],
    /// Values of a source pixel.
    pub pixel: usize,
    /// Values that a tap reads from its source pixel on: the pixel's, or those of several pixels of a padded source.
    pub run: usize,
    /// Height and width of the target.
    pub target: [usize; 2],
    /// Target pixels from one position to the next.
    pub spread: usize,
    /// Target pixel of the first position.
    pub at: [usize; 2],
}

impl Grid {
    /// The forward convolution.
    pub fn forward(conv: &Conv) -> Self {
        let (k, p) = (conv.kernel as isize, conv.padding as isize);
        Self {
            images: conv.n,
            positions: conv.out_size(),
            step: conv.stride,
            taps: (0..k).flat_map(|y| (0..k).map(move |x| [y - p, x - p])).collect(),
            source: conv.size,
            pixel: conv.input,
            run: conv.input,
            target: conv.out_size(),
            spread: 1,
            at: [0, 0],
        }
    }

    /// The forward convolution over a source that is padded already, all taps of a kernel row in one run: for few channels.
    pub fn forward_by_rows(conv: &Conv) -> Self {
        let taps = (0..conv.kernel as isize).map(|y| [y, 0]).collect();
        let source = conv.size.map(|side| side + 2 * conv.padding);
        Self { taps, source, run: conv.kernel * conv.input, ..Self::forward(conv) }
    }

    /// The gradient with respect to the input at pixels `(stride a + y, stride b + x)`, with the output's gradient as source, and for each tap
    /// the kernel position whose weights it takes.
    pub fn backward(conv: &Conv, [y, x]: [usize; 2]) -> (Self, Vec<usize>) {
        let (k, s) = (conv.kernel, conv.stride);
        // Output o reads input `s o + i - padding` at kernel position i: input `s a + y` is read by `o = a + (y + padding - i) / s`.
        let along = |from: usize| -> Vec<(usize, isize)> {
            let offset = |i: usize| (from + conv.padding) as isize - i as isize;
            (0..k).filter(|&i| offset(i).rem_euclid(s as isize) == 0).map(|i| (i, offset(i).div_euclid(s as isize))).collect()
        };
        let (rows, columns) = (along(y), along(x));
        let pairs = || rows.iter().flat_map(|r| columns.iter().map(move |c| (*r, *c)));
        let grid = Self {
            images: conv.n,
            positions: [conv.size[0].saturating_sub(y).div_ceil(s), conv.size[1].saturating_sub(x).div_ceil(s)],
            step: 1,
            taps: pairs().map(|((_, dy), (_, dx))| [dy, dx]).collect(),
            source: conv.out_size(),
            pixel: conv.output,
            run: conv.output,
            target: conv.size,
            spread: s,
            at: [y, x],
        };
        (grid, pairs().map(|((i, _), (j, _))| i * k + j).collect())
    }

    /// Refuses what would read or write beyond a map: the kernels trust a grid that has passed.
    ///
    /// # Panics
    /// A run that leaves its line of the source, or a position outside the target.
    fn check(&self) {
        let [height, width] = self.positions;
        if height == 0 || width == 0 {
            return;
        }
        let last = |count: usize| (count - 1) * self.spread;
        assert!(
            last(height) + self.at[0] < self.target[0] && last(width) + self.at[1] < self.target[1],
            "a position beyond the target"
        );
        // A run within a pixel is where the pixel is, and pixels outside the source are left out; a longer one must fit in its line.
        let ends = |dx: isize| {
            ((width - 1) * self.step)
                .checked_add_signed(dx)
                .is_some_and(|x| x * self.pixel + self.run <= self.source[1] * self.pixel)
        };
        assert!(self.run <= self.pixel || self.taps.iter().all(|[_, dx]| *dx >= 0 && ends(*dx)), "a run beyond its line");
    }

    /// Positions of all images.
    pub fn rows(&self) -> usize {
        self.images * self.positions[0] * self.positions[1]
    }

    /// Terms of the sum at a position.
    pub fn terms(&self) -> usize {
        self.taps.len() * self.run
    }

    /// Terms of a run that are summed before the next part of the runs, so that their part of a panel stays in a core's second-level cache.
    pub fn part(&self, vectors: usize, simd: Simd) -> usize {
        let bytes = self.taps.len().max(1) * vectors * simd.lanes() * 4;
        (PANEL_BYTES / bytes).clamp(1, self.run.max(1))
    }
}

/// Bytes of packed weights that are used again and again: part of a second-level cache.
const PANEL_BYTES: usize = 192 << 10;
/// Positions of a task.
const TASK_ROWS: usize = 252;

/// Weights as [`multiply`] reads them: panel by panel, in a panel part by part of the runs, then tap by tap.
pub struct Packed {
    values: Buffer,
    panels: Vec<Panel>,
    columns: usize,
    simd: Simd,
}

/// Packs weights: `value(tap, k, column)` is the factor of term k of that tap's run.
pub fn pack(grid: &Grid, columns: usize, simd: Simd, value: impl Fn(usize, usize, usize) -> f32 + Sync) -> Packed {
    let simd = simd.no_wider_than(columns);
    let (panels, padded) = tiles::panels(columns, simd);
    let terms = grid.terms();
    let mut values = Buffer::new(padded * terms);
    let mut rooms = Vec::new();
    let mut rest = &mut values[..];
    for panel in &panels {
        let (room, behind) = rest.split_at_mut(panel.vectors * simd.lanes() * terms);
        rooms.push((*panel, room));
        rest = behind;
    }
    rooms.into_par_iter().for_each(|(panel, room)| {
        let width = panel.vectors * simd.lanes();
        let part = grid.part(panel.vectors, simd);
        let mut rows = room.chunks_exact_mut(width);
        for from in (0..grid.run).step_by(part) {
            for tap in 0..grid.taps.len() {
                for k in from..(from + part).min(grid.run) {
                    let row = rows.next().expect("one row per term");
                    for (column, out) in row[..panel.count].iter_mut().enumerate() {
                        *out = value(tap, k, panel.from + column);
                    }
                    row[panel.count..].fill(0.0);
                }
            }
        }
    });
    Packed { values, panels, columns, simd }
}

/// The sums of a grid: `target[position] = sum over taps and runs of source x packed`, added to what is there with `add`.
///
/// # Panics
/// Source, weights and target are not of the grid's size, or the grid leaves them.
pub fn multiply(grid: &Grid, source: &[f32], packed: &Packed, add: bool, target: &mut [f32]) {
    let Packed { columns, simd, .. } = *packed;
    grid.check();
    assert_eq!(source.len(), grid.images * grid.source[0] * grid.source[1] * grid.pixel, "source of another size");
    assert_eq!(target.len(), grid.images * grid.target[0] * grid.target[1] * columns, "target of another size");
    assert!(packed.values.len() >= columns * grid.terms(), "weights of another size");
    let zeros = vec![0.0f32; grid.run];
    let out = Shared::new(target);
    let chunks = grid.rows().div_ceil(TASK_ROWS);
    // Of few positions each panel is a task, of many all panels of some positions.
    let apart = if chunks < 16 { packed.panels.len() } else { 1 };
    (0..chunks * apart).into_par_iter().for_each(|task| {
        let (chunk, slice) = (task / apart, task % apart);
        let panels = if apart == 1 { &packed.panels[..] } else { &packed.panels[slice..=slice] };
        let from = chunk * TASK_ROWS;
        let count = TASK_ROWS.min(grid.rows() - from);
        simd.run(Multiply { grid, source, packed, panels, columns, zeros: &zeros, out: &out, from, count, add, simd });
    });
}

struct Multiply<'a> {
    grid: &'a Grid,
    source: &'a [f32],
    packed: &'a Packed,
    panels: &'a [Panel],
    columns: usize,
    zeros: &'a [f32],
    out: &'a Shared<'a>,
    from: usize,
    count: usize,
    add: bool,
    simd: Simd,
}

impl Task for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let tables = self.tables();
        let grid = self.grid;
        for panel in self.panels {
            let width = panel.vectors * L::N;
            let part = grid.part(panel.vectors, self.simd);
            let values = &self.packed.values[panel.packed * grid.terms()..][..width * grid.terms()];
            for from in (0..grid.run).step_by(part) {
                let run = part.min(grid.run - from);
                let values = values[from * grid.taps.len() * width..].as_ptr();
                let add = self.add || from > 0;
                match panel.vectors {
                    4 => self.tiles::<L, 6, 4>(&tables, panel, from, run, values, add),
                    2 => self.tiles::<L, 6, 2>(&tables, panel, from, run, values, add),
                    _ => self.tiles::<L, 12, 1>(&tables, panel, from, run, values, add),
                }
            }
        }
    }
}

/// Where the positions of a task read and write: `sources[tap * rows + row]`, `targets[row]`. Rows behind the last repeat it.
struct Tables {
    rows: usize,
    sources: Vec<*const f32>,
    targets: Vec<usize>,
}

impl Multiply<'_> {
    #[inline(always)]
    fn tiles<L: Lanes, const M: usize, const V: usize>(
        &self,
        tables: &Tables,
        panel: &Panel,
        from: usize,
        run: usize,
        values: *const f32,
        add: bool,
    ) {
        let taps = self.grid.taps.len();
        for row in (0..self.count).step_by(M) {
            // SAFETY: the tables hold pixels of source and target, the target's of this task alone; `multiply` compared all sizes.
            unsafe {
                let mut targets = [std::ptr::null_mut(); M];
                for m in 0..M {
                    targets[m] = self.out.at(tables.targets[row + m] + panel.from);
                }
                let mut sums =
                    if add { tiles::load(targets.map(<*mut f32>::cast_const), panel.count) } else { [[L::zero(); V]; M] };
                let mut values = values;
                for tap in 0..taps {
                    let pixels = tables.sources.as_ptr().add(tap * tables.rows + row);
                    let mut rows = [std::ptr::null(); M];
                    for m in 0..M {
                        rows[m] = (*pixels.add(m)).add(from);
                    }
                    tiles::inner::<L, M, V>(&mut sums, rows, run, values);
                    values = values.add(run * V * L::N);
                }
                tiles::store(sums, targets, self.count - row, panel.count);
            }
        }
    }

    fn tables(&self) -> Tables {
        let Grid { positions: [height, width], step, source: [h, w], pixel, target: [_, tw], spread, at, .. } = *self.grid;
        let rows = self.count.next_multiple_of(MOST_ROWS);
        let taps = self.grid.taps.len();
        let mut sources = vec![self.zeros.as_ptr(); taps * rows];
        let mut targets = vec![0usize; rows];
        let mut row = 0;
        while row < self.count {
            let position = self.from + row;
            let (line, b) = (position / width, position % width);
            let (n, a) = (line / height, line % height);
            let count = (width - b).min(self.count - row);
            let first = ((n * self.grid.target[0] + a * spread + at[0]) * tw + at[1]) * self.columns;
            for i in 0..count {
                targets[row + i] = first + (b + i) * spread * self.columns;
            }
            for (tap, [dy, dx]) in self.grid.taps.iter().enumerate() {
                let y = (a * step) as isize + dy;
                if y < 0 || y >= h as isize {
                    continue;
                }
                let line = &self.source[(n * h + y as usize) * w * pixel..];
                let inside = valid(b..b + count, step, *dx, w);
                let out = &mut sources[tap * rows + row + inside.start - b..][..inside.len()];
                for (out, b) in out.iter_mut().zip(inside) {
                    let x = ((b * step) as isize + dx) as usize;
                    *out = line[x * pixel..].as_ptr();
                }
            }
            row += count;
        }
        for tap in 0..taps {
            let last = sources[tap * rows + self.count - 1];
            sources[tap * rows + self.count..(tap + 1) * rows].fill(last);
        }
        let last = targets[self.count - 1];
        targets[self.count..].fill(last);
        Tables { rows, sources, targets }
    }
}

/// The positions of `all` whose source pixel `b step + offset` lies in `0..size`.
fn valid(all: Range<usize>, step: usize, offset: isize, size: usize) -> Range<usize> {
    let from = |bound: isize| (bound - offset).max(0) as usize;
    let first = from(0).div_ceil(step).clamp(all.start, all.end);
    let end = from(size as isize).div_ceil(step).clamp(first, all.end);
    first..end
}

/// Values of a cache line.
const LINE: usize = 16;
/// Positions whose gradients stay in the caches while all terms meet them.
const CHUNK_ROWS: usize = 128;
/// Independent sums over which the positions are spread where the weights are few, whatever the number of threads.
const SUMS: usize = 16;

/// The gradient with respect to the weights: `sum over positions of source[tap's pixel][k] gradient[position][column]`, as
/// `[tap][k][column]`. The order of the sums is fixed by the shape.
///
/// # Panics
/// Source and gradient are not of the grid's size.
pub fn correlate(grid: &Grid, source: &[f32], gradient: &[f32], columns: usize, simd: Simd) -> Buffer {
    assert_eq!(source.len(), grid.images * grid.source[0] * grid.source[1] * grid.pixel, "source of another size");
    assert_eq!(gradient.len(), grid.rows() * columns, "gradient of another size");
    grid.check();
    assert!(grid.spread == 1 && grid.at == [0, 0], "gradients of a forward convolution alone lie as its positions do");
    let simd = simd.no_wider_than(columns);
    let (panels, _) = tiles::panels(columns, simd);
    let sums = (SUMS / panels.len()).clamp(1, grid.images);
    let len = grid.terms() * columns;
    let mut all = Buffer::new(sums * len);
    let out = Shared::new(&mut all);
    let shares = (2 * SUMS).div_ceil(sums * panels.len()).min(grid.terms().div_ceil(MOST_ROWS));
    (0..sums * panels.len() * shares).into_par_iter().for_each(|task| {
        let (sum, rest) = (task / (panels.len() * shares), task % (panels.len() * shares));
        let (panel, share) = (panels[rest / shares], rest % shares);
        let images = sum * grid.images / sums..(sum + 1) * grid.images / sums;
        simd.run(Correlate { grid, source, gradient, columns, panel, images, share, shares, out: &out, at: sum * len });
    });
    if sums == 1 {
        return all;
    }
    let mut total = Buffer::new(len);
    total.par_chunks_mut(4096).enumerate().for_each(|(chunk, total)| {
        let count = total.len();
        let mut parts = all.chunks_exact(len).map(|part| &part[chunk * 4096..][..count]);
        total.copy_from_slice(parts.next().expect("there is one"));
        parts.for_each(|part| total.iter_mut().zip(part).for_each(|(sum, part)| *sum += part));
    });
    total
}

struct Correlate<'a> {
    grid: &'a Grid,
    source: &'a [f32],
    gradient: &'a [f32],
    columns: usize,
    panel: Panel,
    images: Range<usize>,
    share: usize,
    shares: usize,
    out: &'a Shared<'a>,
    at: usize,
}

/// Terms `from .. from + count` of a tap.
#[derive(Clone, Copy)]
struct Terms {
    tap: usize,
    from: usize,
    count: usize,
}

impl Task for Correlate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let width = self.panel.vectors * L::N;
        let [height, row] = self.grid.positions;
        // Whole lines of positions, so that a tap reads the pixels of a line one behind the other.
        let lines = (CHUNK_ROWS / row.max(1)).max(1);
        let mut room = vec![0.0f32; lines * row * width];
        let all = self.images.start * height..self.images.end * height;
        for from in all.clone().step_by(lines) {
            let chunk = from..(from + lines).min(all.end);
            for (out, position) in room.chunks_exact_mut(width).zip(chunk.start * row..chunk.end * row) {
                out[..self.panel.count]
                    .copy_from_slice(&self.gradient[position * self.columns + self.panel.from..][..self.panel.count]);
            }
            match self.panel.vectors {
                4 => self.chunk::<L, 6, 4>(chunk, &room, from == all.start),
                2 => self.chunk::<L, 6, 2>(chunk, &room, from == all.start),
                _ => self.chunk::<L, 12, 1>(chunk, &room, from == all.start),
            }
        }
    }
}

impl Correlate<'_> {
    /// What the taps of some lines of positions read, without the lines above and below.
    fn source_of(&self, lines: Range<usize>) -> &[f32] {
        let Grid { positions: [height, _], step, source: [h, w], pixel, .. } = *self.grid;
        let value = |line: usize| ((line / height * h + (line % height * step).min(h)) * w * pixel).min(self.source.len());
        let end = self.images.end * height;
        &self.source[value(lines.start.min(end))..value(lines.end.min(end))]
    }

    #[inline(always)]
    fn chunk<L: Lanes, const M: usize, const V: usize>(&self, lines: Range<usize>, room: &[f32], first: bool) {
        let run = self.grid.run;
        let tiles = run.div_ceil(M);
        let all = self.grid.taps.len() * tiles;
        let own = self.share * all / self.shares..(self.share + 1) * all / self.shares;
        let ahead = self.source_of(lines.end..lines.end + lines.len());
        let count = own.len();
        for (at, tile) in own.enumerate() {
            // The pixels of the next lines move to the second-level cache meanwhile: a tile reads a few values of each pixel, which no processor
            // foresees.
            for line in ahead.len() / LINE * at / count..ahead.len() / LINE * (at + 1) / count {
                prefetch(ahead[line * LINE..].as_ptr());
            }
            let (tap, from) = (tile / tiles, tile % tiles * M);
            let terms = Terms { tap, from, count: M.min(run - from) };
            if terms.count == M {
                self.tile::<L, M, V>(lines.clone(), room, terms, first);
            } else if terms.count == 4 {
                self.tile::<L, 4, V>(lines.clone(), room, terms, first);
            } else {
                for from in from..run {
                    self.tile::<L, 1, V>(lines.clone(), room, Terms { tap, from, count: 1 }, first);
                }
            }
        }
    }

    #[inline(always)]
    fn tile<L: Lanes, const M: usize, const V: usize>(
        &self,
        lines: Range<usize>,
        room: &[f32],
        Terms { tap, from, .. }: Terms,
        first: bool,
    ) {
        let Grid { positions: [height, row], step, source: [h, w], pixel, .. } = *self.grid;
        let [dy, dx] = self.grid.taps[tap];
        let inside = valid(0..row, step, dx, w);
        let x = ((inside.start * step) as isize + dx).max(0) as usize;
        // SAFETY: the terms are of this task alone; `inside` holds the positions whose pixels lie in a line of the source.
        unsafe {
            let mut rows = [std::ptr::null_mut(); M];
            for m in 0..M {
                rows[m] = self.out.at(self.at + (tap * self.grid.run + from + m) * self.columns + self.panel.from);
            }
            let mut sums =
                if first { [[L::zero(); V]; M] } else { tiles::load(rows.map(<*mut f32>::cast_const), self.panel.count) };
            for (i, line) in lines.enumerate() {
                let (n, a) = (line / height, line % height);
                let y = (a * step) as isize + dy;
                if y < 0 || y >= h as isize || inside.is_empty() {
                    continue;
                }
                let left = self.source.as_ptr().add(((n * h + y as usize) * w + x) * pixel + from);
                let right = room.as_ptr().add((i * row + inside.start) * V * L::N);
                tiles::outer::<L, M, V>(&mut sums, (left, step * pixel), (right, V * L::N), inside.len());
            }
            tiles::store(sums, rows, M, self.panel.count);
        }
    }
}
