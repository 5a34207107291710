//! A map of the embedding: where images lie by their features, with thumbnails to see what lies together.

use std::collections::BTreeMap;
use std::io::Cursor;

use serde::{Deserialize, Serialize};

use super::measures::{Rows, pca, tsne};
use crate::augment::{CropBox, Filter, resized_crop};
use crate::data::{self, RgbImage, Source};
use crate::error::{Error, Result};

/// Images on a map when nothing else is asked for.
pub const IMAGES: usize = 1500;
/// Edge of a thumbnail in pixels.
pub const TILE: usize = 32;
/// Thumbnails beside each other.
pub const COLUMNS: usize = 40;
/// What stands where an image cannot be read.
const MISSING: u8 = 128;

/// Where the images lie, and where their thumbnails are: image i is tile i, row by row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Map {
    /// Layer of the features.
    pub layer: usize,
    /// Number of images n.
    pub images: usize,
    /// First two principal components, `[n]` of x, y.
    pub pca: Vec<[f32; 2]>,
    /// Their shares of the variance.
    pub explained: [f64; 2],
    /// t-SNE, `[n]` of x, y; `None` for fewer than 10 images or where all features are equal.
    pub tsne: Option<Vec<[f32; 2]>>,
    /// Its perplexity.
    pub perplexity: Option<f64>,
    /// Label of each image, `[n]`, an index into `classes`; `None` in unlabelled data.
    pub labels: Vec<Option<u32>>,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// File of the thumbnails, beside this one.
    pub thumbnails: String,
    /// Edge of a thumbnail in pixels.
    pub tile: usize,
    /// Thumbnails beside each other.
    pub columns: usize,
}

/// At most `most` images, evenly over the classes: the first of every class, then the second of every class, and so on. Ascending.
pub fn choose(labels: &[Option<u32>], most: usize) -> Vec<usize> {
    let mut classes: BTreeMap<Option<u32>, Vec<usize>> = BTreeMap::new();
    labels.iter().enumerate().for_each(|(index, label)| classes.entry(*label).or_default().push(index));
    let deepest = classes.values().map(Vec::len).max().unwrap_or(0);
    let turns = (0..deepest).flat_map(|turn| classes.values().filter_map(move |images| images.get(turn)));
    let mut chosen: Vec<usize> = turns.take(most).copied().collect();
    chosen.sort_unstable();
    chosen
}

/// Lays out `[n, d]` features of the chosen images, one label each; `thumbnails` is the file name of their [`atlas`].
///
/// # Errors
/// No image, or features that are not finite.
pub fn map(layer: usize, features: &Rows, labels: Vec<Option<u32>>, classes: &[String], thumbnails: &str) -> Result<Map> {
    assert_eq!(features.len(), labels.len(), "one label per image");
    let not_finite =
        || Error::input(format!("features of layer {layer} are not finite")).hint("the run has diverged: use an earlier one");
    let plane = pca(features, 2).ok_or_else(not_finite)?;
    if features.is_empty() {
        return Err(Error::input("there is no image to put on a map").hint("choose at least one image"));
    }
    let narrow = |point: &[f64]| [point[0] as f32, point[1] as f32];
    let (tsne, perplexity) = tsne(features).map(|t| (t.points.iter().map(|p| narrow(p)).collect(), t.perplexity)).unzip();
    Ok(Map {
        layer,
        images: features.len(),
        pca: plane.iter().map(narrow).collect(),
        explained: [plane.explained[0], plane.explained[1]],
        tsne,
        perplexity,
        labels,
        classes: classes.to_vec(),
        thumbnails: thumbnails.to_owned(),
        tile: TILE,
        columns: COLUMNS,
    })
}

/// The thumbnails of `images` of `source`, [`COLUMNS`] beside each other: the centre square of each, scaled to [`TILE`] pixels. An image
/// that cannot be read leaves a grey tile.
pub fn atlas(source: &dyn Source, images: &[usize]) -> RgbImage {
    let (height, width) = (images.len().div_ceil(COLUMNS) * TILE, COLUMNS * TILE);
    let mut page = RgbImage { height, width, pixels: vec![255; 3 * height * width] };
    for (at, &index) in images.iter().enumerate() {
        let tile = data::load(source, index).map_or_else(|_| vec![MISSING; 3 * TILE * TILE], |image| thumbnail(&image));
        let (top, left) = (at / COLUMNS * TILE, at % COLUMNS * TILE);
        for (y, row) in tile.chunks_exact(3 * TILE).enumerate() {
            let start = 3 * ((top + y) * width + left);
            page.pixels[start..start + row.len()].copy_from_slice(row);
        }
    }
    page
}

/// The centre square, `[TILE, TILE, 3]`.
fn thumbnail(image: &RgbImage) -> Vec<u8> {
    let side = image.height.min(image.width);
    let square = CropBox::at((image.height - side) / 2, (image.width - side) / 2, side, side);
    resized_crop(image, square, (TILE, TILE), Filter::Bilinear).pixels
}

/// An image as the bytes of a PNG file.
///
/// # Errors
/// An image too large for the format.
pub fn png(image: &RgbImage) -> Result<Vec<u8>> {
    let mut out = Cursor::new(Vec::new());
    let (width, height) = (image.width as u32, image.height as u32);
    image::write_buffer_with_format(&mut out, &image.pixels, width, height, image::ColorType::Rgb8, image::ImageFormat::Png)
        .map_err(|error| Error::run(format!("cannot encode {width}x{height} pixels as PNG: {error}")))?;
    Ok(out.into_inner())
}

#[cfg(test)]
mod tests {
    use super::super::measures::tests::normal_rows;
    use super::*;
    use crate::data::synthetic::{Synthetic, SyntheticConfig};
    use crate::data::{Encoded, Split};

    #[test]
    fn images_are_chosen_evenly_over_the_classes() {
        let labels: Vec<Option<u32>> = [0, 0, 0, 0, 0, 1, 2, 2].map(Some).to_vec();
        assert_eq!(choose(&labels, 3), [0, 5, 6]);
        assert_eq!(choose(&labels, 6), [0, 1, 2, 5, 6, 7]);
        assert_eq!(choose(&labels, 100), (0..8).collect::<Vec<_>>());
        assert_eq!(choose(&[None; 4], 2), [0, 1]);
        assert!(choose(&[], 2).is_empty());
    }

    #[test]
    fn the_names_in_json_are_fixed() {
        let map = map(6, &normal_rows(12, 3, true), vec![Some(0); 12], &["cat".to_owned()], "map-l6.png").unwrap();
        let json = serde_json::to_value(&map).unwrap();
        let names: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let wanted = "layer images pca explained tsne perplexity labels classes thumbnails tile columns";
        assert_eq!(names, wanted.split(' ').collect::<Vec<_>>());
        assert_eq!(
            (json["layer"].as_u64(), json["images"].as_u64(), json["thumbnails"].as_str()),
            (Some(6), Some(12), Some("map-l6.png"))
        );
        assert_eq!((json["pca"].as_array().unwrap().len(), json["tsne"].as_array().unwrap().len()), (12, 12));
        assert_eq!((json["tsne"][3].as_array().unwrap().len(), json["labels"][3].as_u64()), (2, Some(0)));
        assert_eq!((json["tile"].as_u64(), json["columns"].as_u64()), (Some(32), Some(40)));
        assert_eq!(json["perplexity"].as_f64().unwrap(), 11.0 / 3.0);
    }

    #[test]
    fn few_images_have_a_map_without_tsne_and_broken_features_none() {
        let few = map(7, &normal_rows(3, 2, true), vec![None; 3], &[], "x.png").unwrap();
        assert_eq!((few.tsne, few.perplexity, few.pca.len()), (None, None, 3));
        let error = map(7, &Rows::new(vec![f32::NAN], 1), vec![None], &[], "x.png").unwrap_err();
        assert!(error.message().contains("layer 7") && !error.hints().is_empty(), "{error}");
        assert!(map(7, &Rows::new(vec![], 1), vec![], &[], "x.png").is_err());
    }

    #[test]
    fn tiles_stand_row_by_row_and_keep_the_centre() {
        /// Image i is white with a square in its middle of level i, but the last one cannot be read.
        struct Wide(Vec<String>);
        impl Source for Wide {
            fn len(&self) -> usize {
                43
            }
            fn classes(&self) -> &[String] {
                &self.0
            }
            fn label(&self, _: usize) -> Option<u32> {
                None
            }
            fn encoded(&self, index: usize) -> Result<Encoded<'_>> {
                if index == 42 {
                    return Err(Error::input("torn"));
                }
                let level = |x: usize| if (48..112).contains(&x) { index as u8 } else { 255 };
                let pixels = (0..64 * 160).flat_map(|at| [level(at % 160); 3]).collect();
                Ok(Encoded::Pixels(RgbImage { height: 64, width: 160, pixels }))
            }
            fn name(&self, index: usize) -> String {
                index.to_string()
            }
            fn describe(&self) -> String {
                "test".to_owned()
            }
        }
        let images: Vec<usize> = (0..43).collect();
        let page = atlas(&Wide(Vec::new()), &images);
        assert_eq!((page.height, page.width), (64, 1280));
        let at = |y: usize, x: usize| page.pixels[3 * (y * page.width + x)];
        for (i, want) in images.iter().map(|&i| if i == 42 { MISSING } else { i as u8 }).enumerate() {
            let (top, left) = (i / 40 * 32, i % 40 * 32);
            assert_eq!([at(top, left), at(top + 31, left + 31), at(top + 16, left)], [want; 3], "tile {i}");
        }
        assert_eq!(at(32, 3 * 32), 255, "beyond the last tile");
    }

    #[test]
    fn a_png_holds_the_pixels() {
        let source = Synthetic::new(&SyntheticConfig::default(), Split::Test, 1);
        let page = atlas(&source, &[0, 7]);
        let back = image::load_from_memory(&png(&page).unwrap()).unwrap().to_rgb8();
        assert_eq!((back.width() as usize, back.height() as usize, back.into_raw()), (page.width, page.height, page.pixels));
    }
}
