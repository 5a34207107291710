//! Text in a bitmap font: Noto Sans Mono, antialiased, at two sizes.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::Colour;
use crate::data::RgbImage;

/// Stroke weight of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Captions.
    Regular,
    /// Headers.
    Bold,
}

fn raster(scale: usize) -> RasterHeight {
    if scale > 1 { RasterHeight::Size32 } else { RasterHeight::Size16 }
}

/// Width in pixels of every character.
pub(super) fn glyph_width(scale: usize) -> usize {
    get_raster_width(FontWeight::Regular, raster(scale))
}

/// Distance in pixels from one line to the next.
pub(super) fn line_height(scale: usize) -> usize {
    raster(scale).val() + scale
}

/// Draws one line with its top left corner at `[y, x]`, clipped to the page. A character the font lacks becomes `?`.
pub(super) fn draw(page: &mut RgbImage, [top, left]: [usize; 2], text: &str, weight: Weight, colour: Colour, scale: usize) {
    let weight = match weight {
        Weight::Regular => FontWeight::Regular,
        Weight::Bold => FontWeight::Bold,
    };
    for (index, character) in text.chars().enumerate() {
        let glyph = get_raster(character, weight, raster(scale)).or_else(|| get_raster('?', weight, raster(scale)));
        for (row, line) in glyph.iter().flat_map(|glyph| glyph.rows()).enumerate() {
            for (column, &ink) in line.iter().enumerate() {
                blend(page, top + row, left + index * line.len() + column, colour, ink);
            }
        }
    }
}

fn blend(page: &mut RgbImage, y: usize, x: usize, colour: Colour, ink: u8) {
    if y < page.height && x < page.width {
        let at = (y * page.width + x) * 3;
        for (pixel, ink_colour) in page.pixels[at..at + 3].iter_mut().zip(colour) {
            let (paper, ink_colour, ink) = (u32::from(*pixel), u32::from(ink_colour), u32::from(ink));
            *pixel = ((paper * (255 - ink) + ink_colour * ink + 127) / 255) as u8;
        }
    }
}

/// The lines of a text, broken at spaces so that none is longer than `width` characters; a longer word is cut.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let mut word: Vec<char> = word.chars().collect();
            if !line.is_empty() && line.chars().count() + 1 + word.len() > width {
                lines.push(std::mem::take(&mut line));
            }
            while word.len() > width {
                lines.push(word.drain(..width).collect());
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.extend(word);
        }
        lines.push(line);
    }
    lines
}
