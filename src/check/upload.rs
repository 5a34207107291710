//! From a loaded batch to a method's inputs, against plain loops in f64: which image a value comes from, not only how it is computed.

use crate::colour::{ColorSpace, Normalization};
use crate::data::Batch;
use crate::kernel::inputs::Target;
use crate::mixture::plan::{BatchMixture, Kind, MixturePlan, Row, Stage};
use crate::mixture::{BBox, Extra, Planned, mixco, mixed_barlow};
use crate::train::jobs::StepPlan;
use crate::train::upload::Upload;

use super::kernels::stream;
use super::{Tally, common};
use crate::device::Opened;

const H: usize = 6;
const W: usize = 8;
/// Height and width of each view where there are two.
const PAIR: [(usize, usize); 2] = [(H, W); 2];

/// Views of `images` images, of which the first `own` are the batch's.
fn batch(sizes: &[(usize, usize)], images: usize, own: usize, planned: Planned) -> Batch<StepPlan> {
    let mut draw = stream(7_000_000);
    let mut view = |&(h, w): &(usize, usize)| (0..images * 3 * h * w).map(|_| draw.below(256) as u8).collect();
    Batch {
        views: sizes.iter().map(&mut view).collect(),
        index: (0..images as u32).map(|image| 100 + 7 * image).collect(),
        labels: vec![None; images],
        broken: Vec::new(),
        payload: StepPlan { epoch: 2, step: 11, own, planned },
    }
}

fn norm() -> Normalization {
    Normalization { space: ColorSpace::Rgb, mean: [0.4, 0.5, 0.25], std: [0.2, 0.25, 0.5] }
}

/// Value `at` = (channel, y, x) of an image of a view of `h` x `w` pixels.
fn value(view: &[u8], (h, w): (usize, usize), image: usize, (channel, y, x): (usize, usize, usize)) -> f64 {
    let byte = f64::from(view[((image * 3 + channel) * h + y) * w + x]);
    (byte / 255.0 - f64::from(norm().mean[channel])) / f64::from(norm().std[channel])
}

/// The first `own` images of a view of `h` x `w` pixels, each after its row of `rows`. Several views may follow each other.
fn mixed(view: &[u8], (h, w): (usize, usize), own: usize, rows: &[Row]) -> Vec<f64> {
    let mut out = Vec::new();
    for image in 0..own {
        for channel in 0..3 {
            for y in 0..h {
                for x in 0..w {
                    let row = rows.get(image).copied().unwrap_or_default();
                    let at = |image, (y, x)| value(view, (h, w), image, (channel, y, x));
                    let (partner, lambda) = (row.partner as usize, f64::from(row.lambda));
                    let (own, other) = (at(image, (y, x)), at(partner, (y, x)));
                    let [y0, x0, y1, x1] = <[u32; 4]>::from(row.bbox).map(|place| place as usize);
                    let inside = (y0..y1).contains(&y) && (x0..x1).contains(&x);
                    out.push(match (row.kind, inside) {
                        (Kind::Blend, _) => lambda * own + (1.0 - lambda) * other,
                        (Kind::Paste, true) => other,
                        (Kind::Resize, true) => at(partner, ((y - y0) * H / (y1 - y0), (x - x0) * W / (x1 - x0))),
                        (Kind::Fill, true) => f64::from(row.fill_value),
                        _ => own,
                    });
                }
            }
        }
    }
    out
}

/// Normalised values stay below 3.1; both sides round them, and a blend, by a few units of 2^-23 of that.
fn close(what: &str, got: &[f32], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}: number of values");
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*got) - want).abs() <= 5e-6, "{what}: value {at} is {got}, want {want}");
    }
}

/// The inputs of a batch of views of `sizes` on every path of every device.
fn on_every_path(
    opened: &Opened,
    tally: &mut Tally,
    sizes: &[(usize, usize)],
    batch: &Batch<StepPlan>,
    check: impl Fn(&str, crate::method::Inputs),
) {
    common::on_all_paths(opened, tally, |opened, path| {
        let target = Target { device: opened.device.clone(), mix: path, ingest: path, largest_tensor: None };
        let upload = Upload { target, norm: norm(), sizes: sizes.to_vec(), seed: 5 };
        let inputs = upload.inputs(batch);
        let at = format!("{} {}", opened.info.name, path.name());
        assert_eq!(inputs.facts.images, batch.index[..batch.payload.own], "{at}");
        let position = inputs.facts.position;
        assert_eq!((position.seed, position.epoch, position.step), (5, 2, 11), "{at}");
        check(&at, inputs);
    });
}

fn plan(rows: Vec<Row>, keep: usize) -> MixturePlan {
    MixturePlan { stages: vec![Stage { passes: vec![rows] }], keep }
}

/// Own images, partners, a plan for each view.
pub fn own_images_come_first_and_partners_end_with_the_mixture(opened: &Opened, tally: &mut Tally) {
    let bbox = BBox { y0: 1, x0: 3, y1: 5, x1: 8 };
    // Five images, two of them partners; a plan for each view.
    let rest = || vec![Row::default(); 2];
    let first = [vec![Row::blend(3, 0.3), Row::paste(4, 0.5, bbox), Row::default()], rest()].concat();
    let second = [vec![Row::fill(bbox, 0.75), Row::blend(0, 0.9), Row::paste(3, 0.5, bbox)], rest()].concat();
    let extra = |index, view| Extra { index, path: vec![2, 1], view: Some(view) };
    let planned = Planned {
        plans: vec![plan(first.clone(), 3), plan(second.clone(), 3)],
        extras: vec![extra(121, 0), extra(128, 1)],
        ..Planned::default()
    };
    let batch = batch(&PAIR, 5, 3, planned);
    on_every_path(opened, tally, &PAIR, &batch, |at, inputs| {
        assert!(inputs.mixed.is_empty() && inputs.views.len() == 2, "{at}");
        for (view, rows) in [&first, &second].into_iter().enumerate() {
            let got = inputs.views[view].clone();
            assert_eq!(got.dims(), [3, 3, H, W], "{at}");
            close(&format!("view {view} on {at}"), &common::values(got), &mixed(&batch.views[view], (H, W), 3, rows));
        }
    });
}

/// One plan, or none.
pub fn one_plan_serves_every_view_and_no_plan_changes_nothing(opened: &Opened, tally: &mut Tally) {
    let rows = [vec![Row::blend(2, 0.25), Row::blend(3, 0.5)], vec![Row::default(); 2]].concat();
    for plans in [Vec::new(), vec![plan(rows.clone(), 2)]] {
        let used = if plans.is_empty() { Vec::new() } else { rows.clone() };
        let batch = batch(&PAIR, 4, 2, Planned { plans, ..Planned::default() });
        on_every_path(opened, tally, &PAIR, &batch, |at, inputs| {
            for view in 0..2 {
                let want = mixed(&batch.views[view], (H, W), 2, &used);
                close(&format!("view {view} on {at}"), &common::values(inputs.views[view].clone()), &want);
            }
        });
    }
}

/// Partners that are no reversal, and a weight per image.
pub fn the_batch_mixture_is_of_the_first_view_and_the_views_stay_clean(opened: &Opened, tally: &mut Tally) {
    let (partners, lambdas) = ([2, 0, 3, 1], [0.25, 0.5, 0.875, 0.125]);
    for kind in [Kind::Blend, Kind::Paste, Kind::Resize] {
        let draws: Vec<(f64, usize, usize)> = lambdas.iter().enumerate().map(|(i, &lambda)| (lambda, 1 + i, 6 - i)).collect();
        let unmix = BatchMixture { per_sample: true, ..BatchMixture::new(kind, (H, W), &partners, &draws).unwrap() };
        let rows = unmix.plan.stages[0].passes[0].clone();
        let batch = batch(&PAIR, 4, 4, Planned { mixtures: vec![unmix], ..Planned::default() });
        on_every_path(opened, tally, &PAIR, &batch, |at, inputs| {
            for view in 0..2 {
                let want = mixed(&batch.views[view], (H, W), 4, &[]);
                close(&format!("view {view} on {at}"), &common::values(inputs.views[view].clone()), &want);
            }
            let got = inputs.mixed[0].clone();
            close(&format!("{kind:?} on {at}"), &common::values(got), &mixed(&batch.views[0], (H, W), 4, &rows));
            let mixture = inputs.facts.mixtures[0].clone();
            assert_eq!(mixture.partners, partners, "{at}");
            // The weight of the own image is the drawn one, or the share of its pixels outside the box.
            let kept = |row: &Row| 1.0 - f64::from((row.bbox.y1 - row.bbox.y0) * (row.bbox.x1 - row.bbox.x0)) / (H * W) as f64;
            let weights: Vec<f64> = match kind {
                Kind::Blend => lambdas.to_vec(),
                _ => rows.iter().map(kept).collect(),
            };
            close(&format!("weights of {kind:?} on {at}"), &mixture.lambda, &weights);
        });
    }
}

/// Views of two sizes, and a mixture of each other one with a box of its size.
pub fn crops_of_two_sizes_and_their_mixtures(opened: &Opened, tally: &mut Tally) {
    let sizes = [(H, W), (H, W), (4, 5), (4, 5), (4, 5)];
    let (partners, lambda) = ([2, 0, 3, 1], 0.4);
    for kind in [Kind::Blend, Kind::Paste] {
        let mixture = |view: usize| {
            let made = BatchMixture::new(kind, sizes[view], &partners, &[(lambda, 1 + view / 2, 2); 4]).unwrap();
            BatchMixture { views: [view, view], ..made }
        };
        let mixtures: Vec<BatchMixture> = [0, 2, 4].into_iter().map(mixture).collect();
        let batch = batch(&sizes, 4, 4, Planned { mixtures: mixtures.clone(), ..Planned::default() });
        on_every_path(opened, tally, &sizes, &batch, |at, inputs| {
            assert_eq!((inputs.views.len(), inputs.mixed.len()), (5, 3), "{at}");
            for (view, images) in inputs.views.iter().enumerate() {
                assert_eq!(images.dims(), [4, 3, sizes[view].0, sizes[view].1], "{at}");
                let want = mixed(&batch.views[view], sizes[view], 4, &[]);
                close(&format!("view {view} on {at}"), &common::values(images.clone()), &want);
            }
            for (number, mixture) in mixtures.iter().enumerate() {
                let view = mixture.views[0];
                let want = mixed(&batch.views[view], sizes[view], 4, &mixture.plan.stages[0].passes[0]);
                close(&format!("{kind:?} of view {view} on {at}"), &common::values(inputs.mixed[number].clone()), &want);
                let facts = &inputs.facts.mixtures[number];
                assert_eq!((facts.view, &facts.partners[..]), (view, &partners[..]), "{at}");
                close(&format!("weights of view {view} on {at}"), &facts.lambda, &mixture.lambdas);
            }
        });
    }
}

/// Partners of the other view: the plan of a view counts images from its own first one on.
pub fn views_are_mixed_with_each_other(opened: &Opened, tally: &mut Tally) {
    let bbox = BBox { y0: 1, x0: 2, y1: 6, x1: 5 };
    let first =
        vec![Row::blend(4, 0.25), Row::resize(5, bbox), Row::blend(2, 0.75), Row::default(), Row::default(), Row::default()];
    let second =
        vec![Row::paste(3, 0.5, bbox), Row::blend(1, 0.5), Row::blend(4, 0.125), Row::default(), Row::default(), Row::default()];
    let planned = Planned { plans: vec![plan(first.clone(), 3), plan(second.clone(), 3)], across: true, ..Planned::default() };
    let batch = batch(&PAIR, 3, 3, planned);
    let (a, b) = (batch.views[0].clone(), batch.views[1].clone());
    on_every_path(opened, tally, &PAIR, &batch, |at, inputs| {
        for (view, (bytes, rows)) in [([a.clone(), b.clone()], &first), ([b.clone(), a.clone()], &second)].iter().enumerate() {
            let got = inputs.views[view].clone();
            assert_eq!(got.dims(), [3, 3, H, W], "{at}");
            close(&format!("view {view} on {at}"), &common::values(got), &mixed(&bytes.concat(), (H, W), 3, rows));
        }
    });
}

/// A mixture of the second view, one of the first view with the second, and one of half as many rows as images.
pub fn batch_mixtures_are_of_their_views_and_may_be_fewer_than_the_images(opened: &Opened, tally: &mut Tally) {
    let second = BatchMixture::new(Kind::Resize, (H, W), &[3, 2, 0, 1], &[(0.7, 2, 3); 4]).unwrap();
    let mixtures = vec![
        BatchMixture { views: [1, 1], ..second },
        mixed_barlow::across(0.375, &[2, 0, 3, 1]),
        mixco::halves(&[0.25, 0.875], 4),
    ];
    let batch = batch(&PAIR, 4, 4, Planned { mixtures: mixtures.clone(), ..Planned::default() });
    let sources = [batch.views[1].clone(), batch.views.concat(), batch.views[0].clone()];
    on_every_path(opened, tally, &PAIR, &batch, |at, inputs| {
        for view in 0..2 {
            let want = mixed(&batch.views[view], (H, W), 4, &[]);
            close(&format!("view {view} on {at}"), &common::values(inputs.views[view].clone()), &want);
        }
        assert_eq!((inputs.mixed.len(), inputs.facts.mixtures.len()), (3, 3), "{at}");
        for (number, (mixture, keep)) in mixtures.iter().zip([4, 4, 2]).enumerate() {
            let got = inputs.mixed[number].clone();
            assert_eq!(got.dims(), [keep, 3, H, W], "{at}");
            let rows = &mixture.plan.stages[0].passes[0];
            close(&format!("mixture {number} on {at}"), &common::values(got), &mixed(&sources[number], (H, W), keep, rows));
            let fact = &inputs.facts.mixtures[number];
            assert_eq!((fact.view, &fact.partners), ([1, 0, 0][number], &mixture.partners), "{at}");
            close(&format!("weights {number} on {at}"), &fact.lambda, &mixture.lambdas);
        }
    });
}
