//! The mixture in slow, obvious loops: what every faster path is compared with.

use crate::mixture::plan::{Kind, MixturePlan, Row, Stage};

/// Runs one stage on the host.
///
/// # Shapes
/// - `images`, result: `[T, C, H, W]` row-major, `shape` = `[T, C, H, W]`
///
/// # Panics
/// If `images` has not the length of `shape` or a pass has not T rows. Call [`MixturePlan::validate`] on foreign plans first.
pub fn mix_stage(images: &[f32], shape: [usize; 4], stage: &Stage) -> Vec<f32> {
    let [t, c, h, w] = shape;
    assert_eq!(images.len(), t * c * h * w, "images do not have the shape {shape:?}");
    let mut result = images.to_vec();
    for pass in &stage.passes {
        assert_eq!(pass.len(), t, "a pass needs one row per image");
        for (i, row) in pass.iter().enumerate() {
            for channel in 0..c {
                for y in 0..h {
                    for x in 0..w {
                        let at = |image: usize, (y, x): (usize, usize)| ((image * c + channel) * h + y) * w + x;
                        let own = at(i, (y, x));
                        // Every other kind reads its partner at its own place.
                        let place = if row.kind == Kind::Resize { row.bbox.shows((h, w), (y, x)) } else { (y, x) };
                        // Partners are read from the stage's input, never from an earlier pass.
                        let other = images[at(row.partner as usize, place)];
                        result[own] = pixel(row, result[own], other, row.bbox.contains(y, x));
                    }
                }
            }
        }
    }
    result
}

/// The rule of a row for one value.
fn pixel(row: &Row, own: f32, other: f32, inside: bool) -> f32 {
    let own = row.own_scale * own;
    match row.kind {
        Kind::Copy => own,
        // In f64 and rounded once, so that every other path is compared with the correctly rounded value.
        Kind::Blend => (f64::from(row.lambda) * f64::from(own) + (1.0 - f64::from(row.lambda)) * f64::from(other)) as f32,
        Kind::Paste | Kind::Resize if inside => other,
        Kind::Fill if inside => row.fill_value,
        Kind::Paste | Kind::Resize | Kind::Fill => own,
    }
}

/// Runs a plan on the host and drops the images that were partners only.
///
/// # Shapes
/// - `images`: `[T, C, H, W]` = `shape`; result: `[N, C, H, W]` with N = `plan.keep`
///
/// # Panics
/// As [`mix_stage`], or if the plan keeps more than T images.
pub fn mix(images: &[f32], shape: [usize; 4], plan: &MixturePlan) -> Vec<f32> {
    let [t, c, h, w] = shape;
    assert!(plan.keep <= t, "the plan keeps {} of {t} images", plan.keep);
    let mut result = plan.stages.iter().fold(images.to_vec(), |input, stage| mix_stage(&input, shape, stage));
    result.truncate(plan.keep * c * h * w);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::bbox::BBox;

    const SHAPE: [usize; 4] = [3, 1, 1, 2];
    const IMAGES: [f32; 6] = [1.0, 2.0, 10.0, 20.0, 100.0, 200.0];

    fn stage(passes: Vec<Vec<(usize, Row)>>) -> Stage {
        MixturePlan::from_sparse(&vec![passes], 3, 3).stages.remove(0)
    }

    #[test]
    fn passes_fold_but_partners_come_from_the_input_of_the_stage() {
        let swap = vec![(0, Row::blend(1, 0.5)), (1, Row::blend(0, 0.5))];
        let twice = stage(vec![swap.clone(), swap]);
        assert_eq!(mix_stage(&IMAGES, SHAPE, &twice), [7.75, 15.5, 3.25, 6.5, 100.0, 200.0]);
    }

    #[test]
    fn a_stage_reads_the_output_of_the_one_before() {
        let first = stage(vec![vec![(1, Row::blend(2, 0.5))]]);
        let second = stage(vec![vec![(0, Row::paste(1, 0.0, BBox { y0: 0, x0: 1, y1: 1, x1: 2 }))]]);
        let plan = MixturePlan { stages: vec![first, second], keep: 1 };
        assert_eq!(mix(&IMAGES, SHAPE, &plan), [1.0, 110.0]);
    }

    /// Four lines of two pixels, scaled to boxes that are not square.
    #[test]
    fn a_resize_shows_the_whole_partner_in_its_box() {
        let images: Vec<f32> = [vec![0.0; 8], (1..=8).map(|v| v as f32).collect()].concat();
        let resized = |bbox: BBox| {
            let plan = MixturePlan::from_sparse(&vec![vec![vec![(0, Row::resize(1, bbox))]]], 2, 1);
            mix(&images, [2, 1, 4, 2], &plan)
        };
        assert_eq!(resized(BBox { y0: 0, x0: 0, y1: 4, x1: 2 }), images[8..]);
        assert_eq!(resized(BBox { y0: 1, x0: 0, y1: 3, x1: 2 }), [0.0, 0.0, 1.0, 2.0, 5.0, 6.0, 0.0, 0.0]);
        assert_eq!(resized(BBox { y0: 1, x0: 1, y1: 4, x1: 2 }), [0.0, 0.0, 0.0, 1.0, 0.0, 3.0, 0.0, 5.0]);
    }

    #[test]
    fn own_scale_acts_on_every_kind_but_never_on_what_is_written() {
        let right = BBox { y0: 0, x0: 1, y1: 1, x1: 2 };
        let scaled = |row: Row| mix_stage(&IMAGES, SHAPE, &stage(vec![vec![(0, Row { own_scale: 0.5, ..row })]]))[..2].to_vec();
        assert_eq!(scaled(Row::default()), [0.5, 1.0]);
        assert_eq!(scaled(Row::blend(1, 0.5)), [5.25, 10.5]);
        assert_eq!(scaled(Row::paste(1, 0.5, right)), [0.5, 20.0]);
        assert_eq!(scaled(Row::fill(right, -3.0)), [0.5, -3.0]);
        assert_eq!(scaled(Row::resize(1, right)), [0.5, 10.0]);
        assert_eq!(scaled(Row::paste(1, 0.5, BBox::default())), [0.5, 1.0]);
    }
}
