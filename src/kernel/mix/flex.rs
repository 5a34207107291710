//! The mixture on the CPU backend's own memory.
//!
//! A plan moves no pixel: a value depends only on the values at the same place of other images. So the work is cut into tiles of
//! some lines *across all images*, and within a tile images are visited along their partner chains: a partner's values are still in the cache
//! when they are read again, and memory sees one read and one write per value.

use std::ops::Range;

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Bytes, DType, TensorData, bf16, f16};
use rayon::prelude::*;

use super::StageJob;
use crate::augment::simd::widened;
use crate::kernel::host::{Output, Stored, fence, tiles};
use crate::kernel::path::ran;
use crate::kernel::{KernelPath, Op};
use crate::mixture::plan::{Kind, Row, Stage};

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
    let (order, rows) = (visiting_order(&job.stage, job.keep), active_rows(&job.stage, job.keep));
    let tiles = tiles(c * h, w);
    let room = tiles.iter().map(Range::len).max().unwrap_or(0) * w;
    tiles.par_iter().for_each_init(
        || [vec![0.0f32; room], vec![0.0f32; room], vec![0.0f32; room]],
        |[own, other, acc], lines| {
            let tile = Tile { lines: lines.clone(), height: h, width: w };
            for &image in &order {
                let clean = images.read(image, tile.range(), own);
                let mixed = if rows[image].is_empty() { clean } else { tile.fold(images, &rows[image], clean, other, acc) };
                // SAFETY: this task alone writes these lines, each kept image once.
                unsafe { output.write(image, tile.range(), mixed) };
            }
            fence();
        },
    );
    // SAFETY: the tiles cover all lines and the order all kept images; the loop has ended.
    unsafe { output.finish(job.keep) }
}

/// Kept images, each followed by the partner that it reads if that is still to come.
fn visiting_order(stage: &Stage, keep: usize) -> Vec<usize> {
    let (mut seen, mut order) = (vec![false; keep], Vec::with_capacity(keep));
    for start in 0..keep {
        let mut next = start;
        while next < keep && !seen[next] {
            seen[next] = true;
            order.push(next);
            let reads = stage.passes.iter().map(|pass| &pass[next]).find(|row| matches!(row.kind, Kind::Blend | Kind::Paste));
            next = reads.map_or(next, |row| row.partner as usize);
        }
    }
    order
}

/// The rows of each kept image that do something, pass by pass.
fn active_rows(stage: &Stage, keep: usize) -> Vec<Vec<Row>> {
    (0..keep).map(|image| stage.passes.iter().map(|pass| pass[image]).filter(|row| !row.is_identity()).collect()).collect()
}

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

    /// Folds `rows` over the own values into `acc`.
    fn fold<'a>(
        &self,
        images: &impl Images,
        rows: &[Row],
        own: &[f32],
        other: &mut [f32],
        acc: &'a mut [f32],
    ) -> &'a [f32] {
        let acc = &mut acc[..own.len()];
        let mut first = Some(own);
        for row in rows {
            let partner = |other| images.read(row.partner as usize, self.range(), other);
            match row.kind {
                Kind::Blend => {
                    let weights = [row.own_scale, row.lambda, 1.0 - row.lambda];
                    match first.take() {
                        Some(own) => blend(acc, own, partner(other), weights),
                        None => blend_in_place(acc, partner(other), weights),
                    }
                }
                Kind::Copy | Kind::Paste | Kind::Fill => {
                    if let Some(own) = first.take() {
                        acc.copy_from_slice(own);
                    }
                    if row.own_scale != 1.0 {
                        acc.iter_mut().for_each(|value| *value *= row.own_scale);
                    }
                    if row.kind == Kind::Paste {
                        let partner = partner(other);
                        self.boxed(row, |span| acc[span.clone()].copy_from_slice(&partner[span]));
                    } else if row.kind == Kind::Fill {
                        self.boxed(row, |span| acc[span].fill(row.fill_value));
                    }
                }
            }
        }
        acc
    }

    /// Calls `write` with each part of the tile that lies in the row's box.
    fn boxed(&self, row: &Row, mut write: impl FnMut(Range<usize>)) {
        let (x0, x1) = (row.bbox.x0 as usize, row.bbox.x1 as usize);
        for (number, line) in self.lines.clone().enumerate() {
            let y = (line % self.height) as u32;
            if (row.bbox.y0..row.bbox.y1).contains(&y) {
                write(number * self.width + x0..number * self.width + x1);
            }
        }
    }
}

widened! {
    /// `acc = lambda * (scale * own) + rest * other`; weights are scale, lambda, rest.
    fn blend(acc: &mut [f32], own: &[f32], other: &[f32], weights: [f32; 3]) {
        let [scale, lambda, rest] = weights;
        for ((acc, own), other) in acc.iter_mut().zip(own).zip(other) {
            *acc = lambda * (scale * own) + rest * other;
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
