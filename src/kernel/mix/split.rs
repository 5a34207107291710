//! Batches larger than one tensor of the device can be: executed in parts of whole images.
//!
//! wgpu refuses a buffer above the device's binding limit (128 MiB on software Vulkan and many laptops), and dataset partners make a
//! batch of N images one of T > N. Such a batch is a list of tensors. A part of the result needs its own images and their
//! partners; these are gathered into one tensor, the rows are renumbered, and any path executes them as usual.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{StageJob, run_stage};
use crate::kernel::KernelPath;
use crate::mixture::plan::{MixturePlan, Stage};

/// Executes a plan on images that come, and go, as parts of at most `most` images.
///
/// # Shapes
/// - `parts` `[t_i, c, h, w]`, t = sum of t_i; output likewise with the sum `plan.keep`
///
/// # Panics
/// As [`mix`](super::mix), or if a part of one image and its partners exceeds `most` (at most one more image per pass).
pub fn mix_parts(parts: Vec<Tensor<4>>, plan: &MixturePlan, path: KernelPath, most: usize) -> Vec<Tensor<4>> {
    let t: usize = parts.iter().map(|part| part.dims()[0]).sum();
    let [_, _, h, w] = parts.first().expect("at least one part").dims();
    plan.validate(t, h, w).unwrap_or_else(|error| panic!("{error}"));
    let last = plan.stages.len().saturating_sub(1);
    let mixed = plan.stages.iter().enumerate().fold(parts, |parts, (s, stage)| {
        let keep = if s == last { plan.keep } else { t };
        cuts(stage, keep, most)
            .into_iter()
            .map(|own| {
                let (images, job) = restrict(stage, own);
                run_stage(gather(&parts, &images), job, path)
            })
            .collect()
    });
    if plan.stages.is_empty() {
        let kept: Vec<u32> = (0..plan.keep as u32).collect();
        return kept.chunks(most).map(|images| gather(&mixed, images)).collect();
    }
    mixed
}

/// Ranges of own images that have, with their partners, at most `most` images each.
fn cuts(stage: &Stage, keep: usize, most: usize) -> Vec<Range<usize>> {
    let (mut cuts, mut from) = (Vec::new(), 0);
    while from < keep {
        let mut to = from + 1;
        assert!(needed(stage, from..to).len() <= most, "an image and its partners are more than the device can hold at once");
        // Halving steps: the number of images grows with the range.
        let mut step = most;
        while step > 0 {
            while to + step <= keep && needed(stage, from..to + step).len() <= most {
                to += step;
            }
            step /= 2;
        }
        cuts.push(from..to);
        from = to;
    }
    cuts
}

/// The images that a part of the result is made of: its own, then partners from elsewhere, each once.
fn needed(stage: &Stage, own: Range<usize>) -> Vec<u32> {
    let rows = stage.passes.iter().flat_map(|pass| &pass[own.clone()]);
    let mut partners: Vec<u32> =
        rows.filter(|row| row.kind.reads_partner() && !own.contains(&(row.partner as usize))).map(|row| row.partner).collect();
    partners.sort_unstable();
    partners.dedup();
    (own.start as u32..own.end as u32).chain(partners).collect()
}

/// The images of a part, and the part's job with partners renumbered to places among them.
fn restrict(stage: &Stage, own: Range<usize>) -> (Vec<u32>, StageJob) {
    let images = needed(stage, own.clone());
    let place = |image: u32| match (image as usize).checked_sub(own.start) {
        Some(at) if at < own.len() => at as u32,
        _ => (own.len() + images[own.len()..].binary_search(&image).expect("partners are needed")) as u32,
    };
    let passes = stage.passes.iter().map(|pass| {
        let mut rows = pass[own.clone()].to_vec();
        for row in &mut rows {
            row.partner = if row.kind.reads_partner() { place(row.partner) } else { 0 };
        }
        // Partners from elsewhere end here: what becomes of them does not matter.
        rows.resize(images.len(), Default::default());
        rows
    });
    let stage = Stage { passes: passes.collect() };
    (images, StageJob { stage: Arc::new(stage), keep: own.len() })
}

/// Images by their number over all parts, in one tensor.
fn gather(parts: &[Tensor<4>], images: &[u32]) -> Tensor<4> {
    let mut found = Vec::new();
    let mut rest = images;
    while let Some(&first) = rest.first() {
        let (part, start) = part_of(parts, first);
        let end = start + parts[part].dims()[0] as u32;
        let run = rest.iter().take_while(|&&image| (start..end).contains(&image)).count();
        let local: Vec<i32> = rest[..run].iter().map(|&image| (image - start) as i32).collect();
        found.push(select(&parts[part], local));
        rest = &rest[run..];
    }
    Tensor::cat(found, 0)
}

/// The part that holds an image, and the number of its first image.
fn part_of(parts: &[Tensor<4>], image: u32) -> (usize, u32) {
    let mut start = 0;
    for (index, part) in parts.iter().enumerate() {
        let end = start + part.dims()[0] as u32;
        if image < end {
            return (index, start);
        }
        start = end;
    }
    panic!("image {image} of {start}");
}

fn select(part: &Tensor<4>, rows: Vec<i32>) -> Tensor<4> {
    let [t, c, h, w] = part.dims();
    let ascending = rows.windows(2).all(|pair| pair[1] == pair[0] + 1);
    if let (true, Some(&first)) = (ascending, rows.first()) {
        let (first, count) = (first as usize, rows.len());
        return if count == t { part.clone() } else { part.clone().slice([first..first + count, 0..c, 0..h, 0..w]) };
    }
    let device: Device = part.device();
    let count = rows.len();
    part.clone().select(0, Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &device))
}
