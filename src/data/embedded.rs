//! A class-balanced part of Fashion-MNIST inside the program (assets/fashion-mnist, made by scripts/make_embedded.py).

use flate2::read::GzDecoder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::idx::Idx;
use crate::data::source::Split;
use crate::error::Result;

/// The embedded data set has nothing to set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddedConfig {}

const CLASSES: [&str; 10] =
    ["t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"];

/// 6,000 training images (600 of each class) or 1,000 test images (100 of each), 28x28 grey as RGB.
pub fn open(split: Split) -> Result<Idx> {
    let (images, labels): (&[u8], &[u8]) = match split {
        Split::Train => (
            include_bytes!("../../assets/fashion-mnist/train-images-idx3-ubyte.gz"),
            include_bytes!("../../assets/fashion-mnist/train-labels-idx1-ubyte.gz"),
        ),
        Split::Test => (
            include_bytes!("../../assets/fashion-mnist/t10k-images-idx3-ubyte.gz"),
            include_bytes!("../../assets/fashion-mnist/t10k-labels-idx1-ubyte.gz"),
        ),
    };
    let images = (&mut GzDecoder::new(images) as &mut dyn std::io::Read, &"embedded images" as &dyn std::fmt::Display);
    let labels = (&mut GzDecoder::new(labels) as &mut dyn std::io::Read, &"embedded labels" as &dyn std::fmt::Display);
    Ok(Idx::read(images, labels, format!("embedded {split}"))?.with_classes(&CLASSES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Source, load};

    #[test]
    fn both_splits_hold_every_class_equally_often() {
        for (split, per_class) in [(Split::Train, 600), (Split::Test, 100)] {
            let source = open(split).unwrap();
            let mut counts = [0; 10];
            (0..source.len()).for_each(|i| counts[source.label(i).unwrap() as usize] += 1);
            assert_eq!(counts, [per_class; 10]);
            assert_eq!(source.classes()[9], "ankle boot");
        }
    }

    /// The first training image of Fashion-MNIST is an ankle boot, the first test image as well.
    #[test]
    fn images_are_grey_and_not_shifted() {
        let source = open(Split::Train).unwrap();
        assert_eq!((source.label(0), source.name(0).as_str()), (Some(9), "embedded train image 0"));
        let image = load(&source, 0).unwrap();
        assert_eq!((image.height, image.width, image.pixels.len()), (28, 28, 28 * 28 * 3));
        let sum: u32 = image.pixels.iter().map(|&p| u32::from(p)).sum();
        assert_eq!(sum, FIRST_SUM, "three times the sum of the grey values");
    }

    const FIRST_SUM: u32 = 228_741;
}
