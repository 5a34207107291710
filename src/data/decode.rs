//! From the bytes of an image file to 8-bit RGB.
//!
//! The colour rules are those of PIL's `convert("RGB")`, which the reference programs load with: grey is replicated,
//! a palette is looked up, alpha is dropped without blending, CMYK is converted. 16-bit samples are scaled to 8 bits. The
//! EXIF orientation is applied. A file that ends early is an error and not a picture with a grey rest.

mod exif;
mod jpeg;
mod png;

use std::any::Any;
use std::borrow::Cow;
use std::io::Cursor;
use std::panic::catch_unwind;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

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

/// Decodes a JPEG, PNG, BMP, WebP, TIFF or PNM file; the format is told from its first bytes, whatever the file is called.
///
/// # Errors
/// Another format, damage, a size beyond [`MAX_SIDE`] or [`MAX_PIXELS`], and a panic inside a decoder.
pub fn decode(bytes: &[u8]) -> Result<RgbImage> {
    if bytes.is_empty() {
        return Err(Error::input("the file is empty (0 bytes)"));
    }
    let rgb = catch_unwind(|| decoded(bytes)).unwrap_or_else(|panic| Err(panicked(&*panic)))?;
    let (width, height) = rgb.dimensions();
    Ok(RgbImage { height: height as usize, width: width as usize, pixels: rgb.into_raw() })
}

/// A decoder is foreign code that reads foreign data: its panic is a fault of this one file.
fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    Error::input(format!("the decoder panicked: {}", text.unwrap_or("no message")))
}

/// The image turned upright.
fn decoded(bytes: &[u8]) -> Result<image::RgbImage> {
    if bytes.starts_with(&[0xFF, 0xD8]) {
        return of_jpeg(bytes);
    }
    match image::guess_format(bytes).ok().filter(|_| !bytes.starts_with(b"P7")) {
        Some(ImageFormat::Png) => through_image(&png::ended(bytes), ImageFormat::Png, None),
        Some(format @ (ImageFormat::Bmp | ImageFormat::WebP | ImageFormat::Tiff | ImageFormat::Pnm)) => {
            through_image(bytes, format, None)
        }
        _ => {
            let start = &bytes[..bytes.len().min(4)];
            let what = format!("the bytes are no JPEG, PNG, BMP, WebP, TIFF or PNM image (they start with {start:02x?})");
            Err(Error::input(what))
        }
    }
}

fn of_jpeg(bytes: &[u8]) -> Result<image::RgbImage> {
    let layout = jpeg::Layout::of(bytes);
    layout.check(bytes)?;
    let turned = layout.exif(bytes).map_or(Orientation::NoTransforms, exif::orientation);
    let whole: Cow<[u8]> = layout.without_stray(bytes);
    if layout.usual() {
        return through_image(&whole, ImageFormat::Jpeg, Some(turned));
    }
    let mut image = DynamicImage::from(layout.decode_unusual(&whole)?);
    image.apply_orientation(turned);
    Ok(image.into_rgb8())
}

/// Decodes with `image`, which takes the orientation from the file where none is given.
fn through_image(bytes: &[u8], format: ImageFormat, turned: Option<Orientation>) -> Result<image::RgbImage> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits());
    let mut decoder = reader.into_decoder().map_err(refused)?;
    check_size(decoder.dimensions())?;
    let turned = turned.unwrap_or_else(|| match decoder.exif_metadata() {
        Ok(Some(block)) => exif::orientation(&block),
        // TIFF files keep it among their tags.
        _ => decoder.orientation().unwrap_or(Orientation::NoTransforms),
    });
    let mut image = DynamicImage::from_decoder(decoder).map_err(refused)?;
    image.apply_orientation(turned);
    Ok(image.into_rgb8())
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

#[cfg(test)]
mod tests {
    use super::*;

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
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP, ImageFormat::Tiff] {
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
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff] {
            let file = encode(halves(), format);
            // The chunk that ends a PNG holds nothing.
            for length in 0..file.len() - 12 {
                assert!(decode(&file[..length]).is_err(), "{length} of {} bytes of {format:?}", file.len());
            }
        }
        assert!(decode(b"").unwrap_err().message().contains("empty (0 bytes)"));
        assert!(decode(b"GIF8").is_err());
        assert!(decode(b"<html>").unwrap_err().message().contains("no JPEG, PNG, BMP, WebP, TIFF or PNM"));
        assert!(decode(b"P7\nWIDTH 1\n").is_err(), "a PAM");
    }

    /// libpng and PIL read such a file; it is whole but for a chunk without content.
    #[test]
    fn a_png_may_lack_its_end_but_no_pixels() {
        let file = encode(halves(), ImageFormat::Png);
        let whole = decode(&file).unwrap();
        let pixels_end = file.len() - 12;
        for length in pixels_end..file.len() {
            assert_eq!(decode(&file[..length]).unwrap(), whole, "{length} of {} bytes", file.len());
        }
        let lost_text = [&file[..pixels_end], b"\0\0\x01\0tEXtcut short"].concat();
        assert_eq!(decode(&lost_text).unwrap(), whole);
        // The chunk is whole and the stream inside it is not.
        let data = file.windows(4).position(|name| name == b"IDAT").unwrap();
        let length = u32::from_be_bytes(file[data - 4..data].try_into().unwrap()) as usize;
        let mut short = file[..data + 4 + length - 8].to_vec();
        short[data - 4..data].copy_from_slice(&(length as u32 - 8).to_be_bytes());
        let mut crc = flate2::Crc::new();
        crc.update(&short[data..]);
        short.extend(crc.sum().to_be_bytes());
        assert!(decode(&short).is_err(), "pixels are missing");
    }

    /// libjpeg passes over bytes that stand between segments, and over a segment too short to hold its own length.
    #[test]
    fn stray_bytes_between_segments_of_a_jpeg() {
        let file = encode(halves(), ImageFormat::Jpeg);
        let whole = decode(&file).unwrap();
        let segments: Vec<usize> = (2..file.len() - 1)
            .filter(|&at| file[at] == 0xFF && matches!(file[at + 1], 0xC0 | 0xC4 | 0xDA | 0xDB | 0xE0))
            .collect();
        assert!(segments.len() >= 5, "{segments:?}");
        for &at in &segments {
            for stray in
                [&b"\0"[..], b"\x12\x34", b"ab\xFF\0cd", b"\xFF\xFF\xFF", b"\xFF\xEE\0\x01", b"\xFF\xFE\0\0 xx", b"\xFF\x01"]
            {
                let file = [&file[..at], stray, &file[at..]].concat();
                assert_eq!(decode(&file).as_ref(), Ok(&whole), "{stray:02x?} at {at}");
            }
        }
    }

    /// Files that zune-jpeg 0.5.15 turns into garbage, and three pixels of each as PIL has them. `tests/jpeg.rs` has the rest.
    #[test]
    fn layouts_for_the_second_decoder() {
        let scans: &[u8] = include_bytes!("../../tests/data/three_scans.jpg");
        let fine: &[u8] = include_bytes!("../../tests/data/fine_chroma.jpg");
        let inks: &[u8] = include_bytes!("../../tests/data/ycck_four_scans.jpg");
        for (file, want) in [
            (scans, [[131, 116, 173], [81, 10, 52], [199, 194, 136]]),
            (fine, [[160, 147, 203], [91, 24, 68], [206, 201, 146]]),
            (inks, [[109, 88, 119], [203, 102, 203], [95, 65, 21]]),
        ] {
            let got = decode(file).unwrap();
            assert_eq!((got.height, got.width), (13, 19));
            for ((y, x), want) in [(0, 0), (6, 9), (12, 18)].into_iter().zip(want) {
                let at = 3 * (y * got.width + x);
                let near = got.pixels[at..at + 3].iter().zip(want).all(|(got, want)| got.abs_diff(want) <= 6);
                assert!(near, "{:?} at {y}, {x}, libjpeg {want:?}", &got.pixels[at..at + 3]);
            }
        }
    }

    #[test]
    fn jpegs_that_are_not_read_are_named() {
        let jpeg = encode(halves(), ImageFormat::Jpeg);
        let frame = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
        for (marker, word) in [(0xC3, "lossless"), (0xC5, "hierarchical"), (0xC9, "arithmetic"), (0xCA, "arithmetic")] {
            let mut other = jpeg.clone();
            other[frame + 1] = marker;
            let error = decode(&other).unwrap_err();
            assert!(error.message().contains(word), "{error}");
        }
    }

    #[test]
    fn tiff_with_every_sample_size_and_its_orientation() {
        let colour = image::RgbImage::from_fn(5, 3, |x, y| image::Rgb([40 * x as u8, 80 * y as u8, 7]));
        let file = encode(colour.clone(), ImageFormat::Tiff);
        assert_eq!(decode(&file).unwrap().pixels, colour.clone().into_raw());
        let deep = image::ImageBuffer::from_pixel(2, 2, image::Luma([0x8080u16]));
        assert_eq!(decode(&encode(deep, ImageFormat::Tiff)).unwrap().pixels[..3], [128; 3]);
        let clear = image::RgbaImage::from_pixel(2, 2, image::Rgba([10, 20, 30, 0]));
        assert_eq!(decode(&encode(clear, ImageFormat::Tiff)).unwrap().pixels[..3], [10, 20, 30]);
    }

    #[test]
    fn pnm_with_every_largest_sample() {
        let pixels = |file: &[u8]| decode(file).unwrap().pixels;
        assert_eq!(pixels(b"P6 2 1 255\n\x01\x02\x03\xFE\xFD\xFC"), [1, 2, 3, 254, 253, 252]);
        assert_eq!(pixels(b"P5\n# a comment\n2 1\n255\n\x07\xFF"), [7, 7, 7, 255, 255, 255]);
        assert_eq!(pixels(b"P5 3 1 100\n\x00\x32\x64"), [0, 0, 0, 128, 128, 128, 255, 255, 255], "50 of 100 is half");
        assert_eq!(pixels(b"P5 2 1 65535\n\x80\x80\xFF\xFF"), [128, 128, 128, 255, 255, 255]);
        assert_eq!(pixels(b"P5 2 1 1000\n\x01\xF4\x03\xE8"), [128, 128, 128, 255, 255, 255]);
        assert_eq!(pixels(b"P2 2 1 15\n0 15\n"), [0, 0, 0, 255, 255, 255]);
        assert_eq!(pixels(b"P3 1 1 255\n1 2 3\n"), [1, 2, 3]);
        assert_eq!(pixels(b"P4 8 1\n\x0F")[9..15], [255, 255, 255, 0, 0, 0], "1 is black");
        for short in [&b"P6 2 1 255\n\x01\x02\x03"[..], b"P5 2 1 65535\n\x80", b"P6 2", b"P6 0 1 255\n", b"P6 60000 60000 255\n"] {
            assert!(decode(short).is_err(), "{}", String::from_utf8_lossy(short));
        }
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
}
