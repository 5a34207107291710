//! The places of everything on a sheet, and the drawing of it.

use super::text::{self, Weight};
use super::{Colour, Sheet, SheetOptions, put, tile};
use crate::data::RgbImage;

const INK: Colour = [32, 33, 36];
const FAINT: Colour = [95, 99, 104];
const RULE: Colour = [218, 220, 224];
const PAPER: Colour = [255, 255, 255];

/// Lengths in pixels of the sheet.
#[derive(Clone, Copy)]
struct Unit {
    scale: usize,
    /// Between cells.
    gap: usize,
    /// Around the page.
    margin: usize,
    /// Between an image and its caption.
    pad: usize,
}

/// Where everything goes, in pixels of the page.
pub(super) struct Layout {
    unit: Unit,
    /// The images of each row at their final size.
    tiles: Vec<Vec<Option<RgbImage>>>,
    /// The lines of the header of each column.
    headers: Vec<Vec<String>>,
    /// The lines to the left of each row.
    labels: Vec<Vec<String>>,
    /// The lines below each image.
    captions: Vec<Vec<Vec<String>>>,
    /// Left edge of each column.
    lefts: Vec<usize>,
    width: usize,
    header_top: usize,
    /// Top of each row.
    tops: Vec<usize>,
    height: usize,
}

/// The longest line to the left of a row, and the narrowest column, in characters.
const LABEL: usize = 22;
const COLUMN: usize = 12;

impl Layout {
    /// Plans the page; `edges` are the options with the scale already multiplied in.
    pub(super) fn new(sheet: &Sheet, edges: SheetOptions) -> Self {
        let scale = edges.scale;
        let unit = Unit { scale, gap: 14 * scale, margin: 24 * scale, pad: 5 * scale };
        let tiles: Vec<Vec<Option<RgbImage>>> =
            sheet.rows.iter().map(|row| row.cells.iter().map(|cell| tile(cell, edges)).collect()).collect();
        let glyph = text::glyph_width(scale);
        let widths = column_widths(sheet, &tiles, COLUMN * glyph);
        let wrap = |(column, text): (usize, &String)| text::wrap(text, widths[column] / glyph);
        let captions =
            sheet.rows.iter().map(|row| row.cells.iter().map(|cell| &cell.caption).enumerate().map(wrap).collect()).collect();
        let headers = sheet.columns.iter().enumerate().map(wrap).collect();
        let labels = sheet.rows.iter().map(|row| text::wrap(&row.caption, LABEL)).collect();
        let mut layout =
            Self { unit, tiles, headers, labels, captions, lefts: vec![], width: 0, header_top: 0, tops: vec![], height: 0 };
        layout.place_columns(&widths, sheet.title.chars().count() * glyph);
        layout.place_rows(!sheet.title.is_empty());
        layout
    }

    fn place_columns(&mut self, widths: &[usize], title: usize) {
        let Unit { margin, gap, scale, .. } = self.unit;
        let label = self.labels.iter().flatten().map(|line| line.chars().count()).max().unwrap_or(0) * text::glyph_width(scale);
        let mut left = margin + if label > 0 { label + gap } else { 0 };
        for width in widths {
            self.lefts.push(left);
            left += width + gap;
        }
        self.width = (left - gap).max(margin + title) + margin;
    }

    fn place_rows(&mut self, title: bool) {
        let Unit { margin, gap, pad, scale } = self.unit;
        let line = text::line_height(scale);
        self.header_top = margin + if title { line + gap } else { 0 };
        let mut top = self.header_top + if self.headers.is_empty() { 0 } else { most_lines(&self.headers) * line + 2 * gap };
        for row in 0..self.tiles.len() {
            self.tops.push(top);
            let below = most_lines(&self.captions[row]) * line;
            let cells = self.tile_height(row) + if below > 0 { pad + below } else { 0 };
            top += cells.max(self.labels[row].len() * line) + 2 * gap;
        }
        self.height = top.saturating_sub(2 * gap).max(self.header_top) + margin;
    }

    fn tile_height(&self, row: usize) -> usize {
        self.tiles[row].iter().flatten().map(|tile| tile.height).max().unwrap_or(0)
    }

    /// Draws the page.
    pub(super) fn draw(&self, sheet: &Sheet) -> RgbImage {
        let Unit { margin, gap, scale, .. } = self.unit;
        let mut page = RgbImage { height: self.height, width: self.width, pixels: PAPER.repeat(self.height * self.width) };
        text::draw(&mut page, [margin, margin], &sheet.title, Weight::Bold, INK, scale);
        for (header, &left) in self.headers.iter().zip(&self.lefts) {
            // Headers stand on the rule, whatever their number of lines.
            let top = self.header_top + (most_lines(&self.headers) - header.len()) * text::line_height(scale);
            self.lines(&mut page, [top, left], header, Weight::Bold, INK);
        }
        for row in 0..self.tiles.len() {
            if row > 0 || !self.headers.is_empty() {
                let colour = if row == 0 { FAINT } else { RULE };
                let y = self.tops[row] - gap;
                fill(&mut page, [y, margin, y + scale, self.width - margin], colour);
            }
            self.row(&mut page, row);
        }
        page
    }

    fn row(&self, page: &mut RgbImage, row: usize) {
        let Unit { margin, pad, scale, .. } = self.unit;
        let top = self.tops[row];
        self.lines(page, [top, margin], &self.labels[row], Weight::Regular, INK);
        for (column, tile) in self.tiles[row].iter().enumerate() {
            let left = self.lefts[column];
            if let Some(tile) = tile {
                // A hairline around it, or a white image would have no edge.
                fill(page, [top - scale, left - scale, top + tile.height + scale, left + tile.width + scale], RULE);
                paste(page, [top, left], tile);
            }
            let below = top + self.tile_height(row) + pad;
            self.lines(page, [below, left], &self.captions[row][column], Weight::Regular, FAINT);
        }
    }

    fn lines(&self, page: &mut RgbImage, [top, left]: [usize; 2], lines: &[String], weight: Weight, colour: Colour) {
        for (number, line) in lines.iter().enumerate() {
            let y = top + number * text::line_height(self.unit.scale);
            text::draw(page, [y, left], line, weight, colour, self.unit.scale);
        }
    }
}

/// Each column is as wide as its widest image, and no narrower than `least`.
fn column_widths(sheet: &Sheet, tiles: &[Vec<Option<RgbImage>>], least: usize) -> Vec<usize> {
    let count = tiles.iter().map(Vec::len).max().unwrap_or(0).max(sheet.columns.len());
    let widest = |column: usize| tiles.iter().filter_map(|row| row.get(column)?.as_ref()).map(|tile| tile.width).max();
    (0..count).map(|column| widest(column).unwrap_or(0).max(least)).collect()
}

fn most_lines(texts: &[Vec<String>]) -> usize {
    texts.iter().map(Vec::len).max().unwrap_or(0)
}

fn fill(page: &mut RgbImage, [y0, x0, y1, x1]: [usize; 4], colour: Colour) {
    for y in y0..y1.min(page.height) {
        for x in x0..x1.min(page.width) {
            put(page, y, x, colour);
        }
    }
}

fn paste(page: &mut RgbImage, [top, left]: [usize; 2], tile: &RgbImage) {
    for (row, pixels) in tile.pixels.chunks_exact(tile.width * 3).enumerate() {
        let at = ((top + row) * page.width + left) * 3;
        page.pixels[at..at + pixels.len()].copy_from_slice(pixels);
    }
}
