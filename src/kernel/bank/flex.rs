//! Scores on the CPU backend's memory: every drawn row is read where it lies, once, and never copied.

use std::ops::Range;

use burn::backend::Flex;
use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{Bytes, DType, TensorData};
use rayon::prelude::*;

use crate::kernel::path::ran;
use crate::kernel::{KernelPath, Op};
use crate::simd::widened;

/// Bytes of the bank that all features of a task are compared with before the next part: half of a core's second-level cache.
const TILE_BYTES: usize = 512 << 10;
/// Rows that are summed before the sum joins the others: a sum of thousands of terms loses less that way.
const PART: usize = 1024;

/// See [`super::dots`].
pub fn dots(features: FloatTensor<Flex>, bank: FloatTensor<Flex>, rows: IntTensor<Flex>) -> FloatTensor<Flex> {
    ran(Op::Bank, KernelPath::Flex);
    let (features, bank, rows) = (features.to_contiguous(), bank.to_contiguous(), rows.to_contiguous());
    let ([b, d], [_, r]) = (dims(&features), dims(&rows));
    let (features, bank, rows) = (floats(&features), floats(&bank), numbers(&rows));
    let mut out = vec![0.0f32; b * r];
    let group = b.div_ceil(rayon::current_num_threads()).max(1);
    out.par_chunks_mut((group * r).max(1)).zip(rows.par_chunks((group * r).max(1))).enumerate().for_each(|(g, (out, rows))| {
        sweep(rows, r, d, |i, part| {
            let feature = &features[(g * group + i) * d..][..d];
            let part = i * r + part.start..i * r + part.end;
            dot_rows(&mut out[part.clone()], bank, &rows[part], feature);
        });
    });
    tensor(out, [b, r])
}

/// See [`super::pull`].
pub fn pull(weights: FloatTensor<Flex>, bank: FloatTensor<Flex>, rows: IntTensor<Flex>) -> FloatTensor<Flex> {
    ran(Op::Bank, KernelPath::Flex);
    let (weights, bank, rows) = (weights.to_contiguous(), bank.to_contiguous(), rows.to_contiguous());
    let ([b, r], [_, d]) = (dims(&weights), dims(&bank));
    let (weights, bank, rows) = (floats(&weights), floats(&bank), numbers(&rows));
    let mut out = vec![0.0f32; b * d];
    let group = b.div_ceil(rayon::current_num_threads()).max(1);
    out.par_chunks_mut((group * d).max(1)).zip(rows.par_chunks((group * r).max(1))).enumerate().for_each(|(g, (out, rows))| {
        let mut sum = vec![0.0f32; d];
        sweep(rows, r, d, |i, part| {
            let weights = &weights[(g * group + i) * r..][..r];
            for from in part.clone().step_by(PART) {
                let part = from..(from + PART).min(part.end);
                sum.fill(0.0);
                add_rows(&mut sum, bank, &rows[i * r + part.start..i * r + part.end], &weights[part]);
                out[i * d..][..d].iter_mut().zip(&sum).for_each(|(out, sum)| *out += sum);
            }
        });
    });
    tensor(out, [b, d])
}

/// Calls `each(i, part)` until every feature i has met all its rows `rows[i r..(i + 1) r]`.
///
/// Where these ascend behind column 0 (the negatives of a set have no order, so whoever draws them may sort them), all features meet one
/// part of the bank after the other: it is then read from memory once, not once per feature.
fn sweep(rows: &[i32], r: usize, d: usize, mut each: impl FnMut(usize, Range<usize>)) {
    let b = rows.len() / r.max(1);
    let ascends = |i: usize| rows[i * r + 1..(i + 1) * r].is_sorted();
    if r < 2 || !(0..b).all(ascends) {
        (0..b).for_each(|i| each(i, 0..r));
        return;
    }
    (0..b).for_each(|i| each(i, 0..1));
    let step = (TILE_BYTES / (4 * d).max(1)).max(1);
    let mut done = vec![1; b];
    let mut end = 0;
    while done.iter().any(|&done| done < r) {
        end += step;
        for (i, done) in done.iter_mut().enumerate() {
            let left = &rows[i * r + *done..(i + 1) * r];
            let count = left.partition_point(|&row| (row as usize) < end);
            if count > 0 {
                each(i, *done..*done + count);
                *done += count;
            }
        }
    }
}

fn dims(tensor: &FloatTensor<Flex>) -> [usize; 2] {
    tensor.shape().as_slice().try_into().expect("features, banks and rows have two dimensions")
}

fn floats(tensor: &FloatTensor<Flex>) -> &[f32] {
    tensor.as_slice::<f32>().expect("features and banks are contiguous f32")
}

fn numbers(tensor: &IntTensor<Flex>) -> &[i32] {
    tensor.as_slice::<i32>().expect("rows are contiguous i32")
}

fn tensor(values: Vec<f32>, dims: [usize; 2]) -> FloatTensor<Flex> {
    FloatTensor::<Flex>::from_data(TensorData::from_bytes(Bytes::from_elems(values), dims, DType::F32))
}

/// Rows that are asked for ahead of their use. Drawn rows lie anywhere: without this each waits for memory.
const AHEAD: usize = 6;

#[inline(always)]
fn prefetch(bank: &[f32], row: usize, d: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..d).step_by(16) {
        if let Some(value) = bank.get(row * d + line) {
            // SAFETY: SSE is part of the architecture; a prefetch reads nothing.
            unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(std::ptr::from_ref(value).cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bank, row, d);
}

/// Partial sums of a dot product: what one vector register, or a few, hold.
const LANES: usize = 32;

widened! {
    /// One dot product per row.
    fn dot_rows(out: &mut [f32], bank: &[f32], rows: &[i32], feature: &[f32]) {
        let d = feature.len();
        for (k, (out, &row)) in out.iter_mut().zip(rows).enumerate() {
            if let Some(&next) = rows.get(k + AHEAD) {
                prefetch(bank, next as usize, d);
            }
            let row = &bank[row as usize * d..][..d];
            let mut sums = [0.0f32; LANES];
            let (whole, rest) = (row.chunks_exact(LANES), row.chunks_exact(LANES).remainder());
            for (row, feature) in whole.zip(feature.chunks_exact(LANES)) {
                for lane in 0..LANES {
                    sums[lane] += row[lane] * feature[lane];
                }
            }
            let tail: f32 = rest.iter().zip(&feature[d - rest.len()..]).map(|(a, b)| a * b).sum();
            let mut width = LANES;
            while width > 1 {
                width /= 2;
                for lane in 0..width {
                    sums[lane] += sums[lane + width];
                }
            }
            *out = sums[0] + tail;
        }
    }
}

widened! {
    /// `sum += weight * row` for each row.
    fn add_rows(sum: &mut [f32], bank: &[f32], rows: &[i32], weights: &[f32]) {
        let d = sum.len();
        for (k, (&row, &weight)) in rows.iter().zip(weights).enumerate() {
            if let Some(&next) = rows.get(k + AHEAD) {
                prefetch(bank, next as usize, d);
            }
            let row = &bank[row as usize * d..][..d];
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
        }
    }
}
