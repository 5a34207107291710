//! Mean and standard deviation per channel of a data set: what `views.mean` and `views.std` are made from.

use std::sync::Arc;

use rayon::prelude::*;
use serde::Serialize;

use crate::colour::ColorSpace;
use crate::data::{Item, Job, Loader, LoaderOptions, Source, Transform};
use crate::error::Result;
use crate::rng::{Purpose, Stream};

/// Images per job of the loader.
const BATCH: usize = 64;

/// The statistics of all pixels of the images seen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChannelStats {
    /// Images seen.
    pub images: usize,
    /// How many of them could not be read and were replaced by the next readable one.
    pub broken: usize,
    /// Mean per channel in the colour space's units, RGB in 0..1.
    pub mean: [f64; 3],
    /// Standard deviation per channel in the same units, over all pixels of all images (divided by their number).
    pub std: [f64; 3],
}

/// The statistics of the views of `indices`, whatever the number of threads: sums are per image, and images are merged in order.
///
/// # Errors
/// Those of the loader.
pub fn channel_stats(
    source: Arc<dyn Source>,
    transform: Arc<dyn Transform>,
    space: ColorSpace,
    indices: Vec<u32>,
    options: LoaderOptions,
) -> Result<ChannelStats> {
    let (height, width) = transform.size(0);
    // The evaluation view draws nothing from its stream.
    let item = |index: &u32| Item { index: *index, streams: vec![Stream::new(0, Purpose::Probe, &[])] };
    let jobs = (0..indices.len()).step_by(BATCH).map(move |from| {
        let chunk = &indices[from..(from + BATCH).min(indices.len())];
        Job { items: chunk.iter().map(item).collect(), payload: () }
    });
    let mut loader = Loader::start(source, transform, options, jobs);
    let (mut all, mut images) = (Moments::default(), 0);
    while let Some(batch) = loader.next() {
        let batch = batch?;
        let each: Vec<Moments> = batch.views[0].par_chunks(3 * height * width).map(|view| Moments::of(view, space)).collect();
        all = each.iter().fold(all, Moments::and);
        images += each.len();
        loader.recycle(batch.views);
    }
    Ok(ChannelStats { images, broken: loader.broken(), mean: all.mean, std: all.squares.map(|sum| (sum / all.count).sqrt()) })
}

/// Number of pixels, their mean, and the sum of their squared distances from it, per channel.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: [f64; 3],
    squares: [f64; 3],
}

impl Moments {
    /// Of one view, `[3, H, W]`. In two passes: a difference of large sums would lose digits.
    fn of(view: &[u8], space: ColorSpace) -> Self {
        let area = view.len() / 3;
        let pixel = |at: usize| space.convert([view[at], view[area + at], view[2 * area + at]]);
        let pixels: Vec<[f64; 3]> = (0..area).map(pixel).collect();
        let count = area as f64;
        let mean = pixels.iter().fold([0.0; 3], |sum, value| add(sum, *value)).map(|sum| sum / count);
        let square = |value: &[f64; 3]| std::array::from_fn(|c| (value[c] - mean[c]).powi(2));
        let squares = pixels.iter().fold([0.0; 3], |sum, value| add(sum, square(value)));
        Self { count, mean, squares }
    }

    /// Of the pixels of both (Chan, Golub, LeVeque 1979).
    fn and(self, other: &Self) -> Self {
        let count = self.count + other.count;
        let share = other.count / count;
        let apart: [f64; 3] = std::array::from_fn(|c| other.mean[c] - self.mean[c]);
        Self {
            count,
            mean: std::array::from_fn(|c| self.mean[c] + apart[c] * share),
            squares: std::array::from_fn(|c| self.squares[c] + other.squares[c] + apart[c].powi(2) * self.count * share),
        }
    }
}

fn add(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|c| a[c] + b[c])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::ViewsConfig;
    use crate::data::synthetic::{Synthetic, SyntheticConfig};
    use crate::data::{Split, load};

    fn stats(space: ColorSpace, indices: Vec<u32>, workers: usize) -> ChannelStats {
        let source = Arc::new(Synthetic::new(&SyntheticConfig::default(), Split::Train, 1));
        let mut views = ViewsConfig::default();
        views.crop.size = 32;
        let options = LoaderOptions { workers, prefetch: 3, max_broken: 0.0 };
        channel_stats(source, Arc::new(views.eval_recipe()), space, indices, options).unwrap()
    }

    #[test]
    fn equal_to_the_definition_over_all_pixels() {
        let source = Synthetic::new(&SyntheticConfig::default(), Split::Train, 1);
        for space in [ColorSpace::Rgb, ColorSpace::Lab] {
            let got = stats(space, (0..100).collect(), 2);
            let pixels: Vec<[f64; 3]> = (0..100)
                .flat_map(|i| load(&source, i).unwrap().pixels.as_chunks::<3>().0.to_vec())
                .map(|rgb| space.convert(rgb))
                .collect();
            let count = pixels.len() as f64;
            for c in 0..3 {
                let mean = pixels.iter().map(|p| p[c]).sum::<f64>() / count;
                let variance = pixels.iter().map(|p| (p[c] - mean).powi(2)).sum::<f64>() / count;
                assert!((got.mean[c] - mean).abs() < 1e-12 * mean.abs().max(1.0), "{space:?} {c}");
                assert!((got.std[c] - variance.sqrt()).abs() < 1e-12 * variance.sqrt(), "{space:?} {c}");
            }
            assert_eq!((got.images, got.broken), (100, 0));
        }
    }

    #[test]
    fn equal_bits_from_any_number_of_threads() {
        let one = stats(ColorSpace::Lab, (0..150).collect(), 1);
        assert_eq!(one, stats(ColorSpace::Lab, (0..150).collect(), 3));
    }
}
