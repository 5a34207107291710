//! The mixture on the CPU backend's own memory.
//!
//! Only `resize` moves pixels: otherwise a value depends only on the values at the same place of other images. So the work is cut into some
//! lines *across many images*, and these images are visited along their partner chains: a partner's values are still in a cache when they
//! are read again, and memory sees one read and one write per value. `resize` reads the lines of its partner that it shows.

use std::mem::MaybeUninit;
use std::ops::Range;

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Bytes, DType, TensorData, bf16, f16};
use rayon::prelude::*;

use super::StageJob;
use crate::kernel::backend::cpu::{Output, Stored, fence, lines_of, tasks};
use crate::kernel::path::ran;
use crate::kernel::{KernelPath, Op};
use crate::mixture::bbox::shown;
use crate::mixture::plan::{Kind, Row, Stage};
use crate::simd::widened;

/// A tensor of the CPU backend.
pub type FlexTensor = FloatTensor<Flex>;

/// Where a stage finds its images.
pub trait Images: Sync {
    /// Values `range` of an image `[c, h, w]`, borrowed or put into `room`.
    fn read<'a>(&'a self, image: usize, range: Range<usize>, room: &'a mut [f32]) -> &'a [f32];
}

/// Images as they are in memory.
struct Slice<'a, S> {
    values: &'a [S],
    per_image: usize,
}

impl<S: Stored> Images for Slice<'_, S> {
    fn read<'a>(&'a self, image: usize, range: Range<usize>, room: &'a mut [f32]) -> &'a [f32] {
        let from = image * self.per_image;
        S::read(&self.values[from + range.start..from + range.end], room)
    }
}

/// One stage of `[t, c, h, w]` images.
pub fn mix_stage(images: FlexTensor, job: &StageJob) -> FlexTensor {
    ran(Op::Mix, KernelPath::Flex);
    match images.dtype() {
        DType::F32 => mix_stored::<f32>(images, job),
        DType::F16 => mix_stored::<f16>(images, job),
        DType::BF16 => mix_stored::<bf16>(images, job),
        other => panic!("images are {other:?}, the flex path mixes f32, f16 and bf16"),
    }
}

fn mix_stored<S: Stored + bytemuck::Pod>(images: FlexTensor, job: &StageJob) -> FlexTensor {
    let images = images.to_contiguous();
    let dims = dims(&images);
    let values = images.as_slice::<S>().expect("contiguous images of their own type");
    let per_image = dims[1..].iter().product();
    let mixed = run::<S>(&Slice { values, per_image }, dims, job);
    FlexTensor::from_data(data(mixed, [job.keep, dims[1], dims[2], dims[3]]))
}

/// A copy, tile by tile like the mixture.
pub fn copy(images: &FlexTensor) -> FlexTensor {
    let images = images.to_contiguous();
    let dims = dims(&images);
    let values = images.as_slice::<f32>().expect("contiguous images in f32");
    let per_image = dims[1..].iter().product();
    let output = Output::<f32>::new(dims[0], per_image);
    (0..dims[0]).into_par_iter().for_each(|image| {
        // SAFETY: every image is written once.
        unsafe { output.write(image, 0..per_image, &values[image * per_image..][..per_image]) };
        fence();
    });
    // SAFETY: all images are written.
    FlexTensor::from_data(data(unsafe { output.finish(dims[0]) }, dims))
}

/// `[n, c, h, w]` of a tensor.
fn dims(images: &FlexTensor) -> [usize; 4] {
    use burn::backend::TensorMetadata;
    images.shape().as_slice().try_into().expect("images have four dimensions")
}

/// Values as data that the backend takes over without a copy.
pub fn data<S: Stored>(values: Vec<S>, dims: [usize; 4]) -> TensorData {
    TensorData::from_bytes(Bytes::from_elems(values), dims, S::DTYPE)
}

/// Runs a stage on any images `dims` = `[t, c, h, w]`.
pub fn run<S: Stored>(images: &impl Images, [_, c, h, w]: [usize; 4], job: &StageJob) -> Vec<S> {
    let output = Output::<S>::new(job.keep, c * h * w);
    let order = visiting_order(&job.stage, job.keep);
    let rows: Vec<_> = (0..job.keep).map(|image| first_two(job.stage.passes.iter().map(|pass| &pass[image]))).collect();
    let reads_others = rows.iter().flatten().flatten().any(|row| row.kind.reads_partner());
    let block = lines_of(if reads_others { BLOCK } else { COPY_BLOCK }, w);
    tasks(c * h, w, order.len()).par_iter().for_each_init(
        || [(); 3].map(|()| vec![0.0f32; block * w]),
        |[own, other, acc], (lines, part)| {
            // Two by two, block by block: an image and its partner are read from memory once, at an even pace with the writes.
            for pair in order[part.clone()].chunks(2) {
                for from in lines.clone().step_by(block) {
                    let tile = Tile { lines: from..(from + block).min(lines.end), height: h, width: w };
                    for &image in pair {
                        let clean = images.read(image, tile.range(), own);
                        // SAFETY: this task alone writes these lines of these images, each once.
                        let place = unsafe { output.place(image, tile.range()) };
                        let mixed = match (rows[image], place) {
                            ([None, _], _) => clean,
                            // The common case, one row: no need to gather the result first.
                            ([Some(row), None], Some(place)) => {
                                tile.write_row(row, images, clean, other, place);
                                continue;
                            }
                            _ => tile.fold(images, image, &job.stage, clean, other, acc),
                        };
                        // SAFETY: as above; `place` is not used any more.
                        unsafe { output.write(image, tile.range(), mixed) };
                    }
                }
            }
            fence();
        },
    );
    // SAFETY: the tasks cover all lines of all kept images; the loop has ended.
    unsafe { output.finish(job.keep) }
}

/// The first two rows that do something.
fn first_two<'a>(rows: impl Iterator<Item = &'a Row>) -> [Option<&'a Row>; 2] {
    let mut active = rows.filter(|row| !row.is_identity());
    [active.next(), active.next()]
}

/// Values that are folded at a time: three blocks share the first-level cache.
const BLOCK: usize = 1024;

/// The same where no image is read twice: `memcpy` moves pieces of this size past the first cache, without reading what was there.
const COPY_BLOCK: usize = 4096;

/// Kept images, each followed by the partner that it reads if that is still to come.
fn visiting_order(stage: &Stage, keep: usize) -> Vec<usize> {
    let (mut seen, mut order) = (vec![false; keep], Vec::with_capacity(keep));
    for start in 0..keep {
        let mut next = start;
        while next < keep && !seen[next] {
            seen[next] = true;
            order.push(next);
            let reads = stage.passes.iter().map(|pass| &pass[next]).find(|row| row.kind.reads_partner());
            next = reads.map_or(next, |row| row.partner as usize);
        }
    }
    order
}

/// Widest images that are pasted into by a mask instead of line by line.
const MASKED: usize = 128;

/// Some lines of an image `[c * h, w]`.
struct Tile {
    lines: Range<usize>,
    height: usize,
    width: usize,
}

impl Tile {
    /// Its values in the image.
    fn range(&self) -> Range<usize> {
        self.lines.start * self.width..self.lines.end * self.width
    }

    /// Folds the rows of an image over its own values into `acc`.
    fn fold<'a>(
        &self,
        images: &impl Images,
        image: usize,
        stage: &Stage,
        own: &[f32],
        other: &mut [f32],
        acc: &'a mut [f32],
    ) -> &'a [f32] {
        let acc = &mut acc[..own.len()];
        let mut rows = stage.passes.iter().map(|pass| &pass[image]).filter(|row| !row.is_identity());
        match rows.next() {
            Some(row) => self.write_row(row, images, own, other, uninit(acc)),
            None => acc.copy_from_slice(own),
        }
        for row in rows {
            if row.kind == Kind::Blend {
                let weights = [row.own_scale, row.lambda, 1.0 - row.lambda];
                blend_in_place(acc, images.read(row.partner as usize, self.range(), other), weights);
                continue;
            }
            if row.own_scale != 1.0 {
                acc.iter_mut().for_each(|value| *value *= row.own_scale);
            }
            self.write_box(row, images, other, uninit(acc));
        }
        acc
    }

    /// Writes what one row makes of the own values, every value of `out`.
    fn write_row(&self, row: &Row, images: &impl Images, own: &[f32], other: &mut [f32], out: &mut [MaybeUninit<f32>]) {
        if row.kind == Kind::Blend {
            let weights = [row.own_scale, row.lambda, 1.0 - row.lambda];
            blend(out, own, images.read(row.partner as usize, self.range(), other), weights);
            return;
        }
        if row.kind == Kind::Paste && row.own_scale == 1.0 && self.width <= MASKED && self.meets(row) {
            self.paste(row, own, images.read(row.partner as usize, self.range(), other), out);
            return;
        }
        if row.own_scale == 1.0 {
            out.write_copy_of_slice(own);
        } else {
            out.iter_mut().zip(own).for_each(|(out, own)| _ = out.write(row.own_scale * own));
        }
        self.write_box(row, images, other, out);
    }

    /// A paste into narrow images: every value is written once, and the partner's lines are read whole. A call of `memcpy` for each line of
    /// the box costs more than the lines.
    fn paste(&self, row: &Row, own: &[f32], partner: &[f32], out: &mut [MaybeUninit<f32>]) {
        let mut mask = [0u32; MASKED];
        mask[row.bbox.x0 as usize..row.bbox.x1 as usize].fill(!0);
        let mut done = 0;
        self.bands(row, |lines| {
            let band = lines.start * self.width..lines.end * self.width;
            out[done..band.start].write_copy_of_slice(&own[done..band.start]);
            select(&mut out[band.clone()], &own[band.clone()], &partner[band.clone()], &mask[..self.width]);
            done = band.end;
        });
        out[done..].write_copy_of_slice(&own[done..]);
    }

    /// Writes the part of a row that lies in its box.
    fn write_box(&self, row: &Row, images: &impl Images, other: &mut [f32], out: &mut [MaybeUninit<f32>]) {
        match row.kind {
            Kind::Paste if self.meets(row) => {
                let partner = images.read(row.partner as usize, self.range(), other);
                self.boxed(row, |span| _ = out[span.clone()].write_copy_of_slice(&partner[span]));
            }
            Kind::Fill => self.boxed(row, |span| out[span].fill(MaybeUninit::new(row.fill_value))),
            Kind::Resize if !row.bbox.is_empty() => self.resize(row, images, other, out),
            Kind::Copy | Kind::Blend | Kind::Paste | Kind::Resize => {}
        }
    }

    /// Writes the partner, scaled to the row's box, which is not empty: each line of the box is made of one line of the partner.
    fn resize(&self, row: &Row, images: &impl Images, other: &mut [f32], out: &mut [MaybeUninit<f32>]) {
        let (height, width) = (self.height, self.width);
        let columns = row.bbox.x0 as usize..row.bbox.x1 as usize;
        self.bands(row, |lines| {
            for line in lines {
                let (channel, y) = ((self.lines.start + line) / height, (self.lines.start + line) % height);
                let from = channel * height + shown(y as u32, row.bbox.y0, row.bbox.y1, height as u32) as usize;
                let partner = images.read(row.partner as usize, from * width..(from + 1) * width, other);
                sample(&mut out[line * width + columns.start..line * width + columns.end], partner);
            }
        });
    }

    /// Whether a line of the tile may lie in the row's box. A tile that reaches over the end of a channel may.
    fn meets(&self, row: &Row) -> bool {
        let (first, last) = (self.lines.start % self.height, (self.lines.end - 1) % self.height);
        first > last || (first < row.bbox.y1 as usize && last >= row.bbox.y0 as usize) || self.lines.len() >= self.height
    }

    /// Calls `write` with each part of the tile that lies in the row's box.
    fn boxed(&self, row: &Row, mut write: impl FnMut(Range<usize>)) {
        let (x0, x1) = (row.bbox.x0 as usize, row.bbox.x1 as usize);
        self.bands(row, |lines| lines.for_each(|line| write(line * self.width + x0..line * self.width + x1)));
    }

    /// Calls `each` with the lines of the tile, counted from its first, that the row's box meets: one band per channel.
    fn bands(&self, row: &Row, mut each: impl FnMut(Range<usize>)) {
        let (first, end) = (self.lines.start, self.lines.end);
        // From channel to channel: a division for each line would cost more than its copy.
        let mut top = first / self.height * self.height;
        while top < end {
            let (from, to) = (first.max(top + row.bbox.y0 as usize), end.min(top + row.bbox.y1 as usize));
            if from < to {
                each(from - first..to - first);
            }
            top += self.height;
        }
    }
}

/// Written values as values to be written.
fn uninit(values: &mut [f32]) -> &mut [MaybeUninit<f32>] {
    // SAFETY: the layouts are equal, and this file writes only whole values through it.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut [MaybeUninit<f32>]) }
}

/// Value `k` is value `floor(k from.len() / out.len())` of `from`, counted on without a division for each. `out` is not empty.
fn sample(out: &mut [MaybeUninit<f32>], from: &[f32]) {
    let (step, rest, count) = (from.len() / out.len(), from.len() % out.len(), out.len());
    let (mut at, mut part) = (0, 0);
    for value in out {
        value.write(from[at]);
        (at, part) = (at + step, part + rest);
        if part >= count {
            (at, part) = (at + 1, part - count);
        }
    }
}

widened! {
    /// Lines of `mask.len()` values: `other` where the mask is all ones, `own` where it is 0. Equal to copying bits.
    fn select(out: &mut [MaybeUninit<f32>], own: &[f32], other: &[f32], mask: &[u32]) {
        let width = mask.len();
        for ((out, own), other) in out.chunks_exact_mut(width).zip(own.chunks_exact(width)).zip(other.chunks_exact(width)) {
            for (((out, own), other), mask) in out.iter_mut().zip(own).zip(other).zip(mask) {
                out.write(f32::from_bits((own.to_bits() & !mask) | (other.to_bits() & mask)));
            }
        }
    }
}

widened! {
    /// `acc = lambda * (scale * own) + rest * other`; weights are scale, lambda, rest.
    fn blend(acc: &mut [MaybeUninit<f32>], own: &[f32], other: &[f32], weights: [f32; 3]) {
        let [scale, lambda, rest] = weights;
        for ((acc, own), other) in acc.iter_mut().zip(own).zip(other) {
            acc.write(lambda * (scale * own) + rest * other);
        }
    }
}

widened! {
    /// [`blend`] with `acc` as the own image.
    fn blend_in_place(acc: &mut [f32], other: &[f32], weights: [f32; 3]) {
        let [scale, lambda, rest] = weights;
        for (acc, other) in acc.iter_mut().zip(other) {
            *acc = lambda * (scale * *acc) + rest * other;
        }
    }
}
