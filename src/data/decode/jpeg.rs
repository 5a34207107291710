//! JPEG files: what their markers tell before anything is decoded, and which decoder reads them.
//!
//! The fast decoder, zune-jpeg through `image`, is taken for the layouts that cameras and programs write. It makes garbage of others without
//! a word (sequential files with several scans, chroma sampled finer than luma), or refuses them; those go to `jpeg-decoder`, which is slower
//! and right. `tests/jpeg.rs` compares both with libjpeg.

use std::borrow::Cow;
use std::ops::Range;

use image::RgbImage;

use super::{MAX_PIXELS, check_size};
use crate::error::{Error, Result};

/// What the marker segments before the first scan tell.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Where the first EXIF block lies, without its `Exif\0\0`.
    exif: Option<Range<usize>>,
    frame: Option<Frame>,
    /// Components of the first scan.
    scanned: usize,
    /// Bytes between the segments that belong to none. libjpeg passes over them.
    stray: Vec<Range<usize>>,
    /// The entropy-coded data is followed by an end marker. A decoder would fill what is missing with grey.
    complete: bool,
}

#[derive(Debug)]
struct Frame {
    marker: u8,
    width: u32,
    height: u32,
    /// Horizontal and vertical sampling factor of each component.
    sampling: Vec<(u8, u8)>,
}

impl Layout {
    pub fn of(bytes: &[u8]) -> Self {
        let mut layout = Self::default();
        let mut at = 2;
        while let Some(start) = next_marker(bytes, at) {
            if start > at {
                layout.stray.push(at..start);
            }
            let body = start + 2;
            at = match bytes[start + 1] {
                // These stand alone, and mean nothing here.
                0x01 | 0xD0..=0xD8 => {
                    layout.stray.push(start..body);
                    body
                }
                0xD9 => return layout,
                marker => match segment(bytes, body) {
                    Some(segment) if marker == 0xDA => {
                        layout.scanned = usize::from(bytes.get(body + 2).copied().unwrap_or_default());
                        // Inside entropy-coded data 0xFF is followed by 0 or a restart number, so this pair is the end. A thumbnail
                        // with an end of its own lies before.
                        layout.complete = bytes[segment.end.min(bytes.len())..].windows(2).rev().any(|pair| pair == [0xFF, 0xD9]);
                        return layout;
                    }
                    Some(segment) => {
                        layout.read(marker, bytes, segment.clone());
                        segment.end
                    }
                    // Too short to hold its own length.
                    None => {
                        layout.stray.push(start..body + 2);
                        body + 2
                    }
                },
            };
        }
        layout
    }

    fn read(&mut self, marker: u8, bytes: &[u8], segment: Range<usize>) {
        let Some(body) = bytes.get(segment.clone()) else { return };
        match marker {
            0xE1 if self.exif.is_none() && body.starts_with(b"Exif\0\0") => self.exif = Some(segment.start + 6..segment.end),
            0xC0..=0xCF if ![0xC4, 0xC8, 0xCC].contains(&marker) => self.frame = self.frame.take().or(Frame::of(marker, body)),
            _ => {}
        }
    }

    /// The EXIF block.
    pub fn exif<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes.get(self.exif.clone()?)
    }

    /// Refuses what no decoder here reads, and files that end early.
    pub fn check(&self, bytes: &[u8]) -> Result<()> {
        let refused =
            |what: &str| Err(Error::input(what).hint("save it anew as an ordinary JPEG, for example with `jpegtran -optimize`"));
        match self.frame.as_ref().map_or(0, |frame| frame.marker) {
            0xC3 => return refused("the JPEG is a lossless one, which is not read"),
            0xC5..=0xC7 => return refused("the JPEG is a hierarchical one, which is not read"),
            0xC9..=0xCF => return refused("the JPEG has arithmetic coding, which is not read"),
            _ => {}
        }
        if self.complete {
            return Ok(());
        }
        Err(Error::input(format!("the JPEG data is truncated ({} bytes, no end marker)", bytes.len())))
    }

    /// Whether the fast decoder is right.
    pub fn usual(&self) -> bool {
        let Some(Frame { marker, sampling, .. }) = &self.frame else { return true };
        let Some((luma, chroma)) = sampling.split_first() else { return true };
        let plain = chroma.iter().all(|&factors| factors == (1, 1)) && matches!(luma, (1 | 2, 1 | 2));
        let one_pass = *marker == PROGRESSIVE || self.scanned == sampling.len();
        chroma.is_empty() || plain && one_pass
    }

    /// The file without the bytes that belong to no segment.
    pub fn without_stray<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        if self.stray.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let (mut kept, mut at) = (Vec::with_capacity(bytes.len()), 0);
        for stray in &self.stray {
            kept.extend_from_slice(&bytes[at..stray.start.max(at)]);
            at = stray.end.min(bytes.len());
        }
        kept.extend_from_slice(&bytes[at..]);
        Cow::Owned(kept)
    }

    /// Decodes with the slower decoder.
    pub fn decode_unusual(&self, bytes: &[u8]) -> Result<RgbImage> {
        if let Some(frame) = &self.frame {
            check_size((frame.width, frame.height))?;
        }
        let mut decoder = jpeg_decoder::Decoder::new(bytes);
        decoder.set_max_decoding_buffer_size(4 * MAX_PIXELS as usize);
        let failed = |e: jpeg_decoder::Error| Error::input(e.to_string());
        let samples = decoder.decode().map_err(failed)?;
        let info = decoder.info().ok_or_else(|| Error::input("the JPEG has no frame"))?;
        let pixels = match info.pixel_format {
            jpeg_decoder::PixelFormat::RGB24 => samples,
            jpeg_decoder::PixelFormat::L8 => samples.into_iter().flat_map(|grey| [grey; 3]).collect(),
            jpeg_decoder::PixelFormat::CMYK32 => samples.chunks_exact(4).flat_map(rgb_of_inks).collect(),
            jpeg_decoder::PixelFormat::L16 => return Err(Error::input("the JPEG has 16-bit samples, which are not read")),
        };
        let (width, height) = (u32::from(info.width), u32::from(info.height));
        RgbImage::from_raw(width, height, pixels).ok_or_else(|| Error::input("the JPEG decoder gave another size than it said"))
    }
}

const PROGRESSIVE: u8 = 0xC2;

impl Frame {
    /// Reads a frame header: precision, height, width, number of components, three bytes each.
    fn of(marker: u8, body: &[u8]) -> Option<Self> {
        let &[_, h1, h0, w1, w0, count, ref components @ ..] = body else { return None };
        let (height, width) = (u16::from_be_bytes([h1, h0]).into(), u16::from_be_bytes([w1, w0]).into());
        let sampling = components.chunks_exact(3).take(count.into()).map(|one| (one[1] >> 4, one[1] & 15)).collect();
        Some(Self { marker, width, height, sampling })
    }
}

/// Where the next marker stands: a 0xFF that is followed by something other than 0 (a stuffed byte) and 0xFF (a fill byte).
fn next_marker(bytes: &[u8], from: usize) -> Option<usize> {
    let pairs = bytes.get(from..)?.windows(2);
    pairs.enumerate().find(|(_, pair)| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xFF)).map(|(at, _)| from + at)
}

/// The segment whose length stands at `at`, without that length; `None` where it is below 2.
fn segment(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let length = bytes.get(at..at + 2).map_or(2, |two| usize::from(u16::from_be_bytes([two[0], two[1]])));
    (length >= 2).then(|| at + 2..at + length)
}

/// RGB of cyan, magenta, yellow and black, of which 255 is the most ink, as PIL converts them.
fn rgb_of_inks(inks: &[u8]) -> [u8; 3] {
    let light = |ink: u8| u32::from(255 - ink);
    [0, 1, 2].map(|at| ((light(inks[at]) * light(inks[3]) + 127) / 255) as u8)
}
