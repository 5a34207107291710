//! An 8-bit image as three planes, the layout in which the pixel operations work and views are delivered.

use crate::data::RgbImage;
use crate::simd::widened;

/// `[3, height, width]`, red, green, blue.
#[derive(Debug)]
pub struct Planes<'a> {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    data: &'a mut [u8],
}

impl<'a> Planes<'a> {
    /// Views `data` as `[3, height, width]`. Panics if its length is another.
    pub fn new(height: usize, width: usize, data: &'a mut [u8]) -> Self {
        assert_eq!(data.len(), 3 * height * width, "a view of {height}x{width} pixels holds 3 x height x width bytes");
        Self { height, width, data }
    }

    /// All bytes, plane after plane.
    pub fn bytes(&mut self) -> &mut [u8] {
        self.data
    }

    /// The three planes, each `[height, width]`.
    pub fn channels(&mut self) -> [&mut [u8]; 3] {
        let (red, rest) = self.data.split_at_mut(self.height * self.width);
        let (green, blue) = rest.split_at_mut(self.height * self.width);
        [red, green, blue]
    }

    /// Overwrites row `y` of every plane with the interleaved pixels of `row`.
    pub fn set_row(&mut self, y: usize, row: &[u8]) {
        let span = y * self.width..(y + 1) * self.width;
        let [red, green, blue] = self.channels();
        split(row, &mut red[span.clone()], &mut green[span.clone()], &mut blue[span]);
    }

    /// The interleaved copy of the planes.
    pub fn to_image(&mut self) -> RgbImage {
        let mut pixels = vec![0; self.data.len()];
        let [red, green, blue] = self.channels();
        merge(red, green, blue, &mut pixels);
        RgbImage { height: self.height, width: self.width, pixels }
    }
}

/// Writes the planes of `image` into `out`, which is resized to fit.
pub fn planes_of<'a>(image: &RgbImage, out: &'a mut Vec<u8>) -> Planes<'a> {
    let area = image.height * image.width;
    out.resize(3 * area, 0);
    let (red, rest) = out.split_at_mut(area);
    let (green, blue) = rest.split_at_mut(area);
    split(&image.pixels, red, green, blue);
    Planes::new(image.height, image.width, out)
}

widened! {
    /// Interleaved pixels to planes.
    fn split(pixels: &[u8], red: &mut [u8], green: &mut [u8], blue: &mut [u8]) {
        for (((pixel, r), g), b) in pixels.as_chunks::<3>().0.iter().zip(red).zip(green).zip(blue) {
            [*r, *g, *b] = *pixel;
        }
    }
}

widened! {
    /// Planes to interleaved pixels.
    fn merge(red: &[u8], green: &[u8], blue: &[u8], pixels: &mut [u8]) {
        for (((pixel, r), g), b) in pixels.as_chunks_mut::<3>().0.iter_mut().zip(red).zip(green).zip(blue) {
            *pixel = [*r, *g, *b];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitting_and_merging_are_inverse() {
        for (height, width) in [(1, 1), (3, 5), (7, 64), (9, 33)] {
            let image = RgbImage { height, width, pixels: (0..3 * height * width).map(|i| (i * 7) as u8).collect() };
            let mut buffer = Vec::new();
            let mut planes = planes_of(&image, &mut buffer);
            assert_eq!(planes.to_image(), image);
            assert_eq!(planes.channels()[1][0], image.pixels[1]);
        }
    }
}
