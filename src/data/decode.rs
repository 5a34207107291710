//! From the bytes of an image file to 8-bit RGB.
//!
//! The colour rules are those of PIL's `convert("RGB")`, which the reference programs load with: grey is replicated,
//! a palette is looked up, alpha is dropped without blending, CMYK is converted. 16-bit samples are scaled to 8 bits. The
//! EXIF orientation is applied. A file that ends early is an error and not a picture with a grey rest.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, metadata::Orientation};

use crate::data::source::{Encoded, Source};
use crate::error::{Error, Result};

/// The largest height or width accepted.
pub const MAX_SIDE: u32 = 30_000;
/// The most pixels accepted in one image.
pub const MAX_PIXELS: u64 = 100_000_000;

/// 8-bit RGB, interleaved: `pixels.len() == height * width * 3`, row-major `[H, W, 3]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// R, G, B of each pixel, rows from the top.
    pub pixels: Vec<u8>,
}

/// Reads and decodes image `index` of `source`. Every error names the image.
pub fn load(source: &dyn Source, index: usize) -> Result<RgbImage> {
    if index >= source.len() {
        return Err(Error::input(format!("image {index} was asked for, but {} has {} images", source.describe(), source.len())));
    }
    match source.encoded(index)? {
        Encoded::Pixels(image) => Ok(image),
        Encoded::File(bytes) => {
            decode(&bytes).map_err(|e| Error::input(format!("cannot decode {}: {}", source.name(index), e.message())))
        }
    }
}

/// Decodes a JPEG, PNG, BMP or WebP file; the format is told from its first bytes, whatever the file is called.
pub fn decode(bytes: &[u8]) -> Result<RgbImage> {
    if bytes.is_empty() {
        return Err(Error::input("the file is empty (0 bytes)"));
    }
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| Error::input(e.to_string()))?;
    let Some(format) = reader.format() else {
        let start = &bytes[..bytes.len().min(4)];
        return Err(Error::input(format!("the bytes are no JPEG, PNG, BMP or WebP image (they start with {start:02x?})")));
    };
    let mut may_turn = true;
    if format == ImageFormat::Jpeg {
        let layout = JpegLayout::of(bytes);
        if !layout.complete {
            return Err(Error::input(format!("the JPEG data is truncated ({} bytes, no end marker)", bytes.len())));
        }
        may_turn = layout.exif;
    }
    reader.limits(limits());
    let mut decoder = reader.into_decoder().map_err(refused)?;
    check_size(decoder.dimensions())?;
    // Damaged EXIF data leaves the pixels readable, so it means "not turned" as it does to a viewer.
    let orientation = if may_turn { decoder.orientation().unwrap_or(Orientation::NoTransforms) } else { Orientation::NoTransforms };
    let mut image = DynamicImage::from_decoder(decoder).map_err(refused)?;
    image.apply_orientation(orientation);
    let rgb = image.into_rgb8();
    let (width, height) = rgb.dimensions();
    Ok(RgbImage { height: height as usize, width: width as usize, pixels: rgb.into_raw() })
}

/// Bounds what a decoder may allocate: 8 bytes a pixel (16-bit RGBA) and as much again for its own tables.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_alloc = Some(16 * MAX_PIXELS);
    limits
}

/// Refuses sizes beyond [`MAX_SIDE`] and [`MAX_PIXELS`], before anything of that size is allocated.
fn check_size((width, height): (u32, u32)) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(Error::input(format!("the image is {height}x{width} (height x width) and has no pixels")));
    }
    if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        let bound = format!("{MAX_SIDE} a side and {} megapixels are the most accepted", MAX_PIXELS / 1_000_000);
        return Err(Error::input(format!("the image is {height}x{width} (height x width); {bound}")));
    }
    Ok(())
}

fn refused(error: image::ImageError) -> Error {
    Error::input(match error {
        image::ImageError::Limits(_) => format!("the image is larger than {MAX_SIDE} pixels a side or needs too much memory"),
        other => other.to_string(),
    })
}

/// What the marker segments of a JPEG file tell without decoding it.
struct JpegLayout {
    /// An APP1 segment with EXIF data is present; only then is the orientation worth a second parse.
    exif: bool,
    /// The entropy-coded data is followed by an end marker. The decoder itself fills what is missing with grey.
    complete: bool,
}

impl JpegLayout {
    fn of(bytes: &[u8]) -> Self {
        let mut layout = Self { exif: false, complete: false };
        let mut at = 2;
        while let Some(&[0xFF, marker, high, low]) = bytes.get(at..at + 4) {
            match marker {
                0xFF => at += 1, // fill byte
                0xDA => {
                    // Inside entropy-coded data 0xFF is followed by 0 or a restart number, so this pair is the end. A thumbnail
                    // with an end of its own lies before `at`.
                    layout.complete = bytes[at..].windows(2).rev().any(|pair| pair == [0xFF, 0xD9]);
                    return layout;
                }
                _ => {
                    layout.exif |= marker == 0xE1 && bytes[at + 4..].starts_with(b"Exif\0");
                    at += 2 + usize::from(u16::from_be_bytes([high, low]));
                }
            }
        }
        layout
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        image.into().write_to(&mut out, format).unwrap();
        out.into_inner()
    }

    /// 8 rows, 16 columns; the left half is black, the right half white.
    fn halves() -> image::RgbImage {
        image::RgbImage::from_fn(16, 8, |x, _| image::Rgb([if x < 8 { 0 } else { 255 }; 3]))
    }

    /// An EXIF segment that holds the orientation alone.
    fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
        let tiff =
            [b"Exif\0\0II*\0", &[8u8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0, 0, 0, 0, 0][..]].concat();
        let head = [0xFF, 0xE1, 0, tiff.len() as u8 + 2];
        [&jpeg[..2], &head, &tiff, &jpeg[2..]].concat()
    }

    #[test]
    fn every_format_keeps_height_width_and_colour() {
        let image = image::RgbImage::from_pixel(5, 3, image::Rgb([200, 100, 40]));
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
            let got = decode(&encode(image.clone(), format)).unwrap();
            assert_eq!((got.height, got.width, got.pixels.len()), (3, 5, 45));
            let near = got.pixels.chunks(3).all(|p| p.iter().zip([200u8, 100, 40]).all(|(a, b)| a.abs_diff(b) <= 2));
            assert!(near, "{format:?} {:?}", &got.pixels[..3]);
        }
    }

    #[test]
    fn grey_is_replicated_alpha_dropped_and_16_bits_scaled() {
        let grey = image::GrayImage::from_pixel(8, 8, image::Luma([77]));
        assert_eq!(decode(&encode(grey, ImageFormat::Jpeg)).unwrap().pixels[..3], [77; 3]);
        let clear = image::RgbaImage::from_pixel(2, 2, image::Rgba([10, 20, 30, 0]));
        assert_eq!(decode(&encode(clear, ImageFormat::Png)).unwrap().pixels[..3], [10, 20, 30]);
        let deep = image::ImageBuffer::from_pixel(2, 2, image::Rgb([0u16, 0x8080, 0xFFFF]));
        assert_eq!(decode(&encode(deep, ImageFormat::Png)).unwrap().pixels[..3], [0, 128, 255]);
    }

    #[test]
    fn exif_orientation_is_applied() {
        let jpeg = encode(halves(), ImageFormat::Jpeg);
        let corners = |orientation| {
            let got = decode(&with_orientation(&jpeg, orientation)).unwrap();
            (got.height, got.width, got.pixels[0] > 128, got.pixels[3 * (got.width - 1)] > 128)
        };
        assert_eq!(corners(1), (8, 16, false, true));
        assert_eq!(corners(3), (8, 16, true, false), "half a turn");
        assert_eq!(corners(6), (16, 8, false, false), "a quarter turn clockwise: black on top");
        assert_eq!(corners(8), (16, 8, true, true), "a quarter turn back: white on top");
    }

    #[test]
    fn files_that_end_early_are_refused() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp] {
            let file = encode(halves(), format);
            for length in 0..file.len() - 12 {
                assert!(decode(&file[..length]).is_err(), "{length} of {} bytes of {format:?}", file.len());
            }
        }
        assert!(decode(b"").unwrap_err().message().contains("empty (0 bytes)"));
        assert!(decode(b"GIF8").is_err());
        assert!(decode(b"<html>").unwrap_err().message().contains("no JPEG, PNG, BMP or WebP"));
    }

    #[test]
    fn an_end_marker_inside_a_thumbnail_does_not_count() {
        let jpeg = encode(halves(), ImageFormat::Jpeg);
        let thumbnail = [&jpeg[..2], &[0xFF, 0xE2, 0, 6, 0xFF, 0xD9, 0xFF, 0xD9], &jpeg[2..jpeg.len() - 2]].concat();
        assert!(decode(&thumbnail).unwrap_err().message().contains("truncated"));
    }

    #[test]
    fn giant_headers_are_refused_before_allocation() {
        let jpeg = encode(halves(), ImageFormat::Jpeg);
        let frame = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
        for (height, width) in [(20_000u16, 20_000u16), (10, 40_000), (40_000, 10)] {
            let mut giant = jpeg.clone();
            giant[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
            giant[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
            let error = decode(&giant).unwrap_err();
            assert!(error.message().contains("30000"), "{height}x{width}: {error}");
        }
    }

    proptest! {
        /// Damage ends in an image or in an error, never in a panic.
        #[test]
        fn damaged_bytes_do_not_panic(format in 0usize..4, damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
            let mut file = encode(halves(), [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP][format]);
            for (at, byte) in damage {
                let at = at.index(file.len());
                file[at] = byte;
            }
            if let Ok(image) = decode(&file) {
                prop_assert_eq!(image.pixels.len(), image.height * image.width * 3);
            }
        }
    }
}
