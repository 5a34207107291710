//! Shapes as a run has them, value by value on every path: lines in whole vectors, images of several workgroups, and one to four vectors per
//! invocation. The small shapes of the other tests have few vectors per image, which one invocation of a direct path may handle alone.

use crate::colour::{ColorSpace, Normalization};
use crate::device::Opened;
use crate::kernel::mix::reference;
use crate::kernel::{Ingest, KernelPath, Op, ingest, ingest_mix, mix};
use crate::mixture::plan::{Kind, MixturePlan, Row, Stage};
use crate::mixture::{BBox, kept_area};
use burn::tensor::Tensor;

use super::kernels::{U, stream, tensor, values};
use super::{Tally, common};

/// Images `[t, c, h, w]`: one and several workgroups, whose last one is full or not.
const SHAPES: [[usize; 4]; 6] =
    [[3, 3, 32, 32], [2, 3, 224, 224], [2, 3, 28, 28], [2, 6, 20, 52], [2, 3, 29, 116], [2, 3, 17, 100]];

/// Weights of the own image whose complement is exact in f32: multiples of 2^-12.
const WEIGHTS: [f64; 3] = [1229.0 / 4096.0, 0.75, 3001.0 / 4096.0];

/// Boxes of every image: the whole of it, lines and columns that begin and end inside a vector, single lines and columns at the edges, none.
fn boxes(h: usize, w: usize) -> [BBox; 6] {
    let (h, w) = (h as u32, w as u32);
    [
        BBox { y0: 0, x0: 0, y1: h, x1: w },
        BBox { y0: 3, x0: 5, y1: h - 2, x1: w - 3 },
        BBox { y0: 0, x0: 0, y1: 1, x1: w },
        BBox { y0: h - 1, x0: 2, y1: h, x1: 3 },
        BBox { y0: 1, x0: w - 1, y1: h - 1, x1: w },
        BBox { y0: 4, x0: 7, y1: 4, x1: 9 },
    ]
}

/// Plans with rows of one kind alone, each image with another partner, weight and box.
fn plans(kind: Kind, [t, _, h, w]: [usize; 4]) -> Vec<MixturePlan> {
    let row = |i: usize, bbox: BBox| {
        let partner = ((i + 1) % t) as u32;
        match kind {
            Kind::Copy => Row { own_scale: [1.0, 0.5, -2.0][i % 3], ..Row::default() },
            Kind::Blend => Row::blend(partner, WEIGHTS[i % 3]),
            Kind::Paste => Row::paste(partner, kept_area(h, w, &bbox), bbox),
            Kind::Fill => Row::fill(bbox, [-1.5, 0.3, 0.0][i % 3]),
            Kind::Resize => Row::resize(partner, bbox),
        }
    };
    let boxes = boxes(h, w);
    (0..boxes.len())
        .map(|first| {
            let rows = (0..t).map(|i| row(i, boxes[(first + i) % boxes.len()])).collect();
            MixturePlan { stages: vec![Stage { passes: vec![rows] }], keep: t }
        })
        .take(if matches!(kind, Kind::Copy | Kind::Blend) { 1 } else { boxes.len() })
        .collect()
}

/// Positive for blends, so that no sum cancels: the error is then a number of units of the result.
fn images(kind: Kind, shape: [usize; 4]) -> Vec<f32> {
    let drawn = values(&mut stream(5_000_000), shape.iter().product());
    if kind == Kind::Blend { drawn.into_iter().map(f32::abs).collect() } else { drawn }
}

/// The largest distance from the reference, which is correctly rounded, in units of the last place.
///
/// A blend of positive values rounds both products and their sum, each by half a unit of the result at most, and the reference rounds by half a
/// unit: two in all. The other kinds write a value that is there, or its product with a power of two.
fn allowed(kind: Kind) -> i64 {
    if kind == Kind::Blend { 2 } else { 0 }
}

fn check(opened: &Opened, path: KernelPath, kind: Kind, shape: [usize; 4]) {
    let images = images(kind, shape);
    for plan in plans(kind, shape) {
        let got = common::values(mix(tensor(&images, shape, &opened.device), &plan, path));
        let want = reference::mix(&images, shape, &plan);
        assert_eq!(got.len(), want.len());
        for (at, (got, want)) in got.iter().zip(&want).enumerate() {
            let units = (i64::from(got.to_bits()) - i64::from(want.to_bits())).abs();
            let about = || format!("{kind:?} {shape:?} on {} {}, {plan:?}", opened.info.name, path.name());
            assert!(units <= allowed(kind), "value {at}: {got}, want {want}, {units} units apart, {}", about());
        }
    }
}

/// Mixtures.
pub fn every_kind_on_every_shape(opened: &Opened, tally: &mut Tally) {
    common::on_all_paths(opened, tally, |opened, path| {
        for kind in Kind::ALL {
            for shape in SHAPES {
                common::asserting_path(Op::Mix, path, || check(opened, path, kind, shape));
            }
        }
    });
}

/// A batch of bytes of a shape.
fn bytes([n, _, h, w]: [usize; 4]) -> (Vec<u8>, Ingest) {
    let how = Ingest::new([n, h, w], Normalization::of(ColorSpace::Rgb));
    let mut draw = stream(6_000_000);
    ((0..how.bytes()).map(|_| draw.below(256) as u8).collect(), how)
}

/// Compares with the reference's values; the tests of small shapes in `kernels.rs` argue for the bounds.
fn close(got: Tensor<4>, want: &[f32], most: f64, about: &str) {
    let got = common::values(got);
    assert_eq!(got.len(), want.len(), "{about}");
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        let off = f64::from(got - want).abs();
        assert!(off <= most, "{about}: value {at} is {got}, want {want}");
    }
}

/// Ingest, and ingest with mixtures.
pub fn bytes_of_every_shape_become_images_and_mixtures(opened: &Opened, tally: &mut Tally) {
    common::on_all_paths(opened, tally, |opened, path| {
        for shape in SHAPES.into_iter().filter(|shape| shape[1] == 3) {
            let (bytes, how) = bytes(shape);
            let about = format!("{shape:?} on {} {}", opened.info.name, path.name());
            let images = reference_images(&bytes, &how);
            let made = common::asserting_path(Op::Ingest, path, || ingest(&bytes, &how, &opened.device, path));
            close(made, &images, 12.0 * U * 8.0, &about);
            let op = if Op::IngestMix.has(path) { Op::IngestMix } else { Op::Mix };
            for kind in Kind::ALL {
                for plan in plans(kind, shape) {
                    let mixed = common::asserting_path(op, path, || ingest_mix(&bytes, &how, &plan, &opened.device, path));
                    // Twice the bound of `ingest_and_mix_in_one_pass_are_those_in_two`: copies scale an image by two.
                    close(mixed, &reference::mix(&images, shape, &plan), 1e-5, &format!("{kind:?} {about}"));
                }
            }
        }
    });
}

fn reference_images(bytes: &[u8], how: &Ingest) -> Vec<f32> {
    crate::kernel::ingest::reference::ingest(bytes, how)
}

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use std::collections::BTreeSet;

    use super::SHAPES;
    use crate::kernel::backend::wgsl::{RUN, WORKGROUP, run_for};

    /// The shapes are worth their name: an invocation makes every possible number of vectors on them, and images have several workgroups.
    #[test]
    fn the_shapes_meet_every_number_of_vectors_per_invocation() {
        let vectors = SHAPES.map(|[_, c, h, w]| {
            assert!(w % 4 == 0, "a line of {w} values has no whole vectors");
            c * h * w / 4
        });
        let runs = vectors.map(run_for);
        let several = vectors.iter().zip(runs).filter(|(vectors, run)| vectors.div_ceil(run * WORKGROUP) > 1).count();
        assert!(several >= 4, "{several} shapes of several workgroups");
        assert_eq!(BTreeSet::from(runs), (1..=RUN).collect());
    }
}
