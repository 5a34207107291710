//! The plan of RegionCL: two images of a batch swap a region that lies on the encoder's grid (arXiv 2111.12309; its
//! program puts corners off the grid at the border, which is not followed).
//!
//! Its loss compares the region and the canvas around it apart, by features that are averaged inside and outside of the box. The encoder has no such
//! pooling yet, so no `mixture.name` stands for it.

use std::ops::Range;

use super::bbox::{BBox, kept_area};
use super::plan::{BatchMixture, MixturePlan, Row, Stage};
use crate::rng::Stream;

/// A box of whole cells of `grid` pixels, the encoder's stride, in images of `h` x `w` pixels: sides of `cells` cells each, U{3, 4, 5} in the paper, or of as
/// many as there are; then the corner, uniform over the cells where the box lies in the image.
///
/// Draws the rows of cells, the columns, y0, x0.
///
/// # Panics
/// No cell fits the image, or `cells` is empty or begins at 0.
pub fn grid_box(stream: &mut Stream, (h, w): (usize, usize), grid: usize, cells: Range<u64>) -> BBox {
    let most = [h, w].map(|size| (size / grid) as u64);
    assert!(most.iter().all(|&count| count > 0) && cells.start > 0, "cells of {grid} pixels, {cells:?} of them, in {h}x{w} pixels");
    let sides = most.map(|count| (cells.start + stream.below(cells.end - cells.start)).min(count));
    let corners = [0, 1].map(|axis| stream.below(most[axis] - sides[axis] + 1));
    let pixels = |count: u64| (count * grid as u64) as u32;
    BBox { y0: pixels(corners[0]), x0: pixels(corners[1]), y1: pixels(corners[0] + sides[0]), x1: pixels(corners[1] + sides[1]) }
}

/// Image i and image n - 1 - i of the first view, of n images of `h` x `w` pixels, swap what is in the box. The weight is the kept area.
pub fn swap(n: usize, (h, w): (usize, usize), bbox: BBox) -> BatchMixture {
    let kept = kept_area(h, w, &bbox);
    let partners: Vec<u32> = (0..n as u32).rev().collect();
    let pass = partners.iter().map(|&partner| Row::paste(partner, kept, bbox)).collect();
    let plan = MixturePlan { stages: vec![Stage { passes: vec![pass] }], keep: n };
    BatchMixture { views: [0, 0], plan, lambdas: vec![kept; n], partners, per_sample: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::mix::reference::mix;
    use crate::rng::Purpose;

    #[test]
    fn boxes_lie_on_the_grid_and_reach_every_border() {
        let mut stream = Stream::new(3, Purpose::Probe, &[]);
        let boxes: Vec<BBox> = (0..2000).map(|_| grid_box(&mut stream, (224, 200), 32, 3..6)).collect();
        for b in &boxes {
            assert!([b.y0, b.x0, b.y1, b.x1].iter().all(|v| v % 32 == 0) && b.y1 <= 224 && b.x1 <= 192, "{b:?}");
            assert!([b.y1 - b.y0, b.x1 - b.x0].iter().all(|side| [96, 128, 160].contains(side)), "{b:?}");
        }
        let largest = |of: fn(&BBox) -> u32| boxes.iter().map(of).max().unwrap();
        assert_eq!((largest(|b| b.y0), largest(|b| b.x0), largest(|b| b.y1), largest(|b| b.x1)), (128, 96, 224, 192));
        assert_eq!(grid_box(&mut stream, (32, 64), 32, 3..6), BBox { y0: 0, x0: 0, y1: 32, x1: 64 }, "as many cells as there are");
    }

    #[test]
    fn images_swap_their_regions() {
        let images: Vec<f32> = (0..3 * 8).map(|v| v as f32).collect();
        let swapped = swap(3, (2, 4), BBox { y0: 0, x0: 2, y1: 2, x1: 4 });
        let mixed = mix(&images, [3, 1, 2, 4], &swapped.plan);
        let want = [[0, 1, 18, 19, 4, 5, 22, 23], [8, 9, 10, 11, 12, 13, 14, 15], [16, 17, 2, 3, 20, 21, 6, 7]];
        assert_eq!(mixed, want.concat().iter().map(|&v| v as f32).collect::<Vec<_>>());
        assert_eq!((swapped.lambda(), swapped.inverse()), (Some(0.5), Some(vec![2, 1, 0])));
    }
}
