//! Contact sheets: images in a grid with headers and captions, as a PNG that can go into an appendix.

mod layout;
mod text;

use std::io::Cursor;
use std::path::Path;

use image::imageops::{self, FilterType};

use crate::data::RgbImage;
use crate::error::{Error, Result};
use crate::files;

use layout::Layout;

/// An RGB colour.
pub type Colour = [u8; 3];

/// Colours for outlines that can be told apart, also by the colour-blind (Okabe and Ito): vermilion, blue, green, purple.
pub const OUTLINES: [Colour; 4] = [[213, 94, 0], [0, 114, 178], [0, 158, 115], [204, 121, 167]];

/// A grid of images.
#[derive(Debug, Clone, Default)]
pub struct Sheet {
    /// A line above everything; may be empty.
    pub title: String,
    /// A header for each column; may be fewer than there are columns.
    pub columns: Vec<String>,
    /// The rows, from the top.
    pub rows: Vec<SheetRow>,
}

/// One row of a sheet.
#[derive(Debug, Clone, Default)]
pub struct SheetRow {
    /// What stands to the left of the row; may have several lines, or be empty.
    pub caption: String,
    /// The images, from the left.
    pub cells: Vec<Cell>,
}

/// One image of a sheet.
#[derive(Debug, Clone)]
pub struct Cell {
    /// The image; `None` leaves the place free.
    pub image: Option<RgbImage>,
    /// What stands below it; may have several lines, or be empty. Long lines are broken at spaces.
    pub caption: String,
    /// Boxes to outline: y0, x0, y1, x1 in pixels of the image, half-open. Drawn at the sheet's resolution, so that a thin
    /// line stays thin on a small image.
    pub boxes: Vec<([usize; 4], Colour)>,
}

impl Cell {
    /// An image with its caption.
    pub fn new(image: RgbImage, caption: impl Into<String>) -> Self {
        Self { image: Some(image), caption: caption.into(), boxes: Vec::new() }
    }

    /// A free place with a caption.
    pub fn empty(caption: impl Into<String>) -> Self {
        Self { image: None, caption: caption.into(), boxes: Vec::new() }
    }

    /// Adds a box outline; `[y0, x0, y1, x1]` in pixels of the image, half-open.
    #[must_use]
    pub fn outlined(mut self, bounds: [usize; 4], colour: Colour) -> Self {
        self.boxes.push((bounds, colour));
        self
    }
}

/// How a sheet is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SheetOptions {
    /// The edge in pixels that small images are enlarged to, roughly: by a whole factor, so that every pixel stays a square.
    pub enlarge_to: usize,
    /// The longest edge in pixels; larger images are scaled down to it.
    pub at_most: usize,
    /// 1 for screens, 2 for print: multiplies text, spaces and both edges.
    pub scale: usize,
}

impl Default for SheetOptions {
    fn default() -> Self {
        Self { enlarge_to: 112, at_most: 160, scale: 1 }
    }
}

impl Sheet {
    /// Draws the sheet.
    ///
    /// # Panics
    /// An image whose pixels are not `[height, width, 3]`.
    pub fn render(&self, options: SheetOptions) -> RgbImage {
        let scale = options.scale.clamp(1, 2);
        let edges = SheetOptions { enlarge_to: options.enlarge_to * scale, at_most: options.at_most * scale, scale };
        Layout::new(self, edges).draw(self)
    }

    /// Draws the sheet into a PNG file, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_png(&self, path: impl AsRef<Path>, options: SheetOptions) -> Result<()> {
        let page = self.render(options);
        let mut png = Cursor::new(Vec::new());
        to_buffer(&page)
            .write_to(&mut png, image::ImageFormat::Png)
            .map_err(|error| Error::run(format!("cannot encode the contact sheet `{}`: {error}", path.as_ref().display())))?;
        files::write_atomic(path, png.get_ref())
    }
}

/// Draws the one-pixel outline of a box, y0, x0, y1, x1 half-open, just inside its border. An empty box draws nothing.
pub fn outline(image: &mut RgbImage, [y0, x0, y1, x1]: [usize; 4], colour: Colour) {
    let (y1, x1) = (y1.min(image.height), x1.min(image.width));
    for y in y0..y1 {
        for x in x0..x1 {
            if y == y0 || y + 1 == y1 || x == x0 || x + 1 == x1 {
                put(image, y, x, colour);
            }
        }
    }
}

/// An image at its final size with its outlines: enlarged by a whole factor, or scaled down with an antialiasing filter.
fn tile(cell: &Cell, edges: SheetOptions) -> Option<RgbImage> {
    let image = cell.image.as_ref()?;
    let longest = image.height.max(image.width).max(1);
    let factor = ((edges.enlarge_to as f64 / longest as f64).round() as usize).max(1);
    let longest_shown = if longest > edges.at_most { edges.at_most } else { longest * factor };
    let edge = |at: usize| ((at * longest_shown) as f64 / longest as f64).round() as usize;
    let (height, width) = (edge(image.height).max(1), edge(image.width).max(1));
    let filter = if longest_shown < longest { FilterType::Lanczos3 } else { FilterType::Nearest };
    let scaled = imageops::resize(&to_buffer(image), width as u32, height as u32, filter);
    let mut tile = RgbImage { height, width, pixels: scaled.into_raw() };
    for &(bounds, colour) in &cell.boxes {
        let [y0, x0, y1, x1] = bounds.map(edge);
        for inset in 0..edges.scale {
            outline(&mut tile, [y0 + inset, x0 + inset, y1.saturating_sub(inset), x1.saturating_sub(inset)], colour);
        }
    }
    Some(tile)
}

fn to_buffer(image: &RgbImage) -> image::RgbImage {
    let (width, height) = (image.width as u32, image.height as u32);
    image::RgbImage::from_raw(width, height, image.pixels.clone()).expect("an image's pixels are [height, width, 3]")
}

fn put(page: &mut RgbImage, y: usize, x: usize, colour: Colour) {
    let at = (y * page.width + x) * 3;
    page.pixels[at..at + 3].copy_from_slice(&colour);
}

#[cfg(test)]
mod tests;
