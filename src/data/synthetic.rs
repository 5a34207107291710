//! Generated images with learnable classes, for tests and benchmarks.
//!
//! A class is a colour and the direction of a grating; a sample shifts the grating and adds noise. Pixels are a pure function
//! of (seed, split, sample), equal on every platform.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::f64::consts::{PI, TAU};

use crate::data::decode::RgbImage;
use crate::data::source::{Encoded, Source, Split};
use crate::error::Result;
use crate::rng::{Purpose, Stream};

/// Half the range of the uniform noise added to every value.
const NOISE: f64 = 40.0;

/// How many images to generate, and of what size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SyntheticConfig {
    /// Training images.
    pub count: usize,
    /// Test images.
    pub test_count: usize,
    /// Classes; image `i` belongs to class `i % classes`.
    pub classes: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
}

impl Default for SyntheticConfig {
    fn default() -> Self {
        Self { count: 2048, test_count: 512, classes: 10, height: 32, width: 32 }
    }
}

impl SyntheticConfig {
    /// Pushes one line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        let most = u32::MAX as usize;
        for (key, value, most) in [
            ("count", self.count, most),
            ("test_count", self.test_count, most),
            ("classes", self.classes, most),
            ("height", self.height, 4096),
            ("width", self.width, 4096),
        ] {
            if value == 0 || value > most {
                out.push(format!("`{at}.{key}` is {value}, must be between 1 and {most}"));
            }
        }
    }
}

/// One split of the generated images; nothing is stored.
#[derive(Debug)]
pub struct Synthetic {
    config: SyntheticConfig,
    split: Split,
    seed: u64,
    classes: Vec<String>,
}

impl Synthetic {
    /// The images of one split. The splits share their classes, never a sample.
    pub fn new(config: &SyntheticConfig, split: Split, seed: u64) -> Self {
        let classes = (0..config.classes).map(|class| format!("pattern {class}")).collect();
        Self { config: config.clone(), split, seed, classes }
    }
}

impl Source for Synthetic {
    fn len(&self) -> usize {
        if self.split == Split::Train { self.config.count } else { self.config.test_count }
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> Option<u32> {
        (index < self.len()).then(|| (index % self.config.classes) as u32)
    }

    fn encoded(&self, index: usize) -> Result<Encoded<'_>> {
        let mut stream = Stream::new(self.seed, Purpose::Synthetic, &[(self.split == Split::Test) as u64, index as u64]);
        let share = (index % self.config.classes) as f64 / self.config.classes as f64;
        // Half a turn brings a grating back to itself, a whole turn a hue.
        let (row_step, column_step) = (libm::sin(PI * share) * TAU / 8.0, libm::cos(PI * share) * TAU / 8.0);
        let colour = [0.0, 1.0, 2.0].map(|channel| 128.0 + 50.0 * libm::cos(TAU * (share + channel / 3.0)));
        let phase = stream.range(0.0, TAU);
        let (height, width) = (self.config.height, self.config.width);
        let mut pixels = Vec::with_capacity(height * width * 3);
        for y in 0..height {
            for x in 0..width {
                let wave = 30.0 * libm::sin(y as f64 * row_step + x as f64 * column_step + phase);
                pixels.extend(colour.map(|base| (base + wave + stream.range(-NOISE, NOISE)) as u8));
            }
        }
        Ok(Encoded::Pixels(RgbImage { height, width, pixels }))
    }

    fn name(&self, index: usize) -> String {
        format!("synthetic {} image {index}", self.split)
    }

    fn describe(&self) -> String {
        let (height, width) = (self.config.height, self.config.width);
        format!("synthetic {}: {} images of {height}x{width}, {} classes", self.split, self.len(), self.config.classes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::load;

    fn source(split: Split, seed: u64) -> Synthetic {
        Synthetic::new(&SyntheticConfig { count: 100, test_count: 50, ..SyntheticConfig::default() }, split, seed)
    }

    #[test]
    fn an_image_depends_on_seed_split_and_sample() {
        let base = load(&source(Split::Train, 1), 3).unwrap();
        assert_eq!(base, load(&source(Split::Train, 1), 3).unwrap());
        for other in [load(&source(Split::Train, 2), 3), load(&source(Split::Test, 1), 3), load(&source(Split::Train, 1), 13)] {
            assert_ne!(base, other.unwrap());
        }
        assert!(load(&source(Split::Test, 1), 50).is_err());
    }

    #[test]
    fn the_nearest_training_image_tells_the_class() {
        let (train, test) = (source(Split::Train, 1), source(Split::Test, 1));
        let images: Vec<RgbImage> = (0..train.len()).map(|i| load(&train, i).unwrap()).collect();
        let far = |a: &RgbImage, b: &RgbImage| -> u64 {
            a.pixels.iter().zip(&b.pixels).map(|(&p, &q)| u64::from(p.abs_diff(q)).pow(2)).sum()
        };
        let right = (0..test.len()).filter(|&i| {
            let image = load(&test, i).unwrap();
            let nearest = (0..train.len()).min_by_key(|&j| far(&image, &images[j])).unwrap();
            train.label(nearest) == test.label(i)
        });
        assert!(right.count() >= 40, "8 in 10 of 50, where chance is 1 in 10");
    }
}
