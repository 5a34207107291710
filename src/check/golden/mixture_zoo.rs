//! Further mixtures against `mixture_zoo.json` and `mixture_zoo.safetensors`: from what is drawn to the plan, and from the plan to the images.

use std::path::Path;

use crate::check::Tally;
use crate::device::Opened;
use crate::mixture::plan::{Kind, MixturePlan, Row, Stage};
use crate::mixture::{BatchMixture, inputmix, mixco, mixed_barlow, regioncl};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::Value;

use super::mixture::{Case, Executor, compare, on_every_path, read, tensor};

#[derive(Deserialize)]
struct Sheet {
    cases: Vec<Value>,
}

/// What leads to the plan of a case: what was drawn, and what must come of it besides.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Rule {
    /// The plan is all there is.
    Plan,
    /// A box of the side `tau`; the partner of i is n - 1 - i.
    Resizemix {
        tau: f64,
        cy: usize,
        cx: usize,
        #[serde(rename = "box")]
        bbox: [u32; 4],
        lambda_used: f64,
    },
    /// A box on a grid; the partner of i is n - 1 - i.
    RegionSwap {
        grid: u32,
        #[serde(rename = "box")]
        bbox: [u32; 4],
        lambda_used: f64,
    },
    /// Numbers per image.
    UnmixPerSample {
        lambda_drawn: Vec<f64>,
        cy: Vec<usize>,
        cx: Vec<usize>,
        partner: Vec<u32>,
        lambda_used: Vec<f64>,
        inverse: Vec<u32>,
        weight_rev: Vec<f64>,
    },
    /// `[n][1 + k]` weights and k permutations.
    Inputmix { weights: Vec<Vec<f64>>, partners: Vec<Vec<u32>> },
    /// A weight for each of n mixtures, whose partners are n images further.
    Mixco { lambda_used: Vec<f64> },
    /// One weight and a permutation of the second half of the images.
    MixedBarlow { lambda_used: f64, partner: Vec<u32> },
}

/// The loops themselves, then every path of the device.
pub fn check(dir: &Path, opened: &Opened, tally: &mut Tally) {
    on_every_path(opened, tally, |run, tally| check_with(dir, run, tally));
}

/// Checks every case with `run`.
fn check_with(dir: &Path, run: Executor, tally: &mut Tally) {
    let text = String::from_utf8(read(dir, "mixture_zoo.json")).expect("mixture_zoo.json is UTF-8");
    let sheet: Sheet = serde_json::from_str(&text).unwrap_or_else(|error| panic!("fixture mixture_zoo.json: {error}"));
    assert!(!sheet.cases.is_empty(), "no cases in mixture_zoo.json");
    let bytes = read(dir, "mixture_zoo.safetensors");
    let tensors = SafeTensors::deserialize(&bytes).unwrap_or_else(|error| panic!("fixture mixture_zoo.safetensors: {error}"));
    for value in &sheet.cases {
        let name = value["name"].as_str().unwrap_or("a case without a name");
        tally.case(name, || {
            let case: Case = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
            let rule: Rule = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
            let Case { t, n, c, h, w, .. } = case;
            let stored = case.plan();
            let plan = rule.plan(name, &case, &stored);
            plan.validate(t, h, w).unwrap_or_else(|error| panic!("{name}: {error}"));
            same_plan(name, &plan, &stored);
            let images = tensor(&tensors, &case.images, [t, c, h, w]);
            compare(name, &run(&images, [t, c, h, w], &plan), &tensor(&tensors, &case.output, [n, c, h, w]), case.tol);
        });
    }
}

impl Rule {
    /// The plan that our code makes of what was drawn; weights and boxes are compared with the file's on the way.
    fn plan(&self, name: &str, case: &Case, stored: &MixturePlan) -> MixturePlan {
        let (n, size) = (case.n, (case.h, case.w));
        match self {
            Self::Plan => stored.clone(),
            &Self::Resizemix { tau, cy, cx, bbox, lambda_used } => {
                let flip: Vec<u32> = (0..n as u32).rev().collect();
                let mixture =
                    BatchMixture::new(Kind::Resize, size, &flip, &vec![(tau, cy, cx); n]).expect("a flip is a permutation");
                assert!(rows(&mixture.plan).all(|row| <[u32; 4]>::from(row.bbox) == bbox), "{name}: boxes");
                weights(name, &mixture.lambdas, &vec![lambda_used; n]);
                mixture.plan
            }
            &Self::RegionSwap { grid, bbox, lambda_used } => {
                assert!(bbox.iter().all(|place| place.is_multiple_of(grid)), "{name}: the box is off the grid");
                let mixture = regioncl::swap(n, size, bbox.into());
                weights(name, &mixture.lambdas, &vec![lambda_used; n]);
                mixture.plan
            }
            Self::UnmixPerSample { lambda_drawn, cy, cx, partner, lambda_used, inverse, weight_rev } => {
                let kind = rows(stored).next().unwrap_or_else(|| panic!("{name}: no row")).kind;
                let draws: Vec<_> = (0..n).map(|i| (lambda_drawn[i], cy[i], cx[i])).collect();
                let mixture = BatchMixture::new(kind, size, partner, &draws).unwrap_or_else(|error| panic!("{name}: {error}"));
                weights(name, &mixture.lambdas, lambda_used);
                let found = mixture.inverse().expect("partners are a permutation");
                assert_eq!(&found, inverse, "{name}: mixtures in which an image is the partner");
                let back: Vec<f64> = found.iter().map(|&row| 1.0 - mixture.lambdas[row as usize]).collect();
                weights(name, &back, weight_rev);
                mixture.plan
            }
            Self::Inputmix { weights, partners } => MixturePlan { stages: vec![inputmix::weighted(weights, partners)], keep: n },
            Self::Mixco { lambda_used } => {
                let mixture = mixco::halves(lambda_used, case.t);
                weights(name, &mixture.lambdas, lambda_used);
                let partners: Vec<u32> = (n as u32..2 * n as u32).collect();
                assert_eq!(mixture.partners, partners, "{name}: partners");
                mixture.plan
            }
            Self::MixedBarlow { lambda_used, partner } => {
                let mixture = mixed_barlow::across(*lambda_used, partner);
                assert_eq!((mixture.views, mixture.sources().len() * n), ([0, 1], case.t), "{name}: views");
                weights(name, &mixture.lambdas, &vec![*lambda_used; n]);
                mixture.plan
            }
        }
    }
}

/// All rows of a plan.
fn rows(plan: &MixturePlan) -> impl Iterator<Item = &Row> {
    plan.stages.iter().flat_map(|stage: &Stage| stage.passes.iter().flatten())
}

/// Weights in f64: areas are quotients of whole numbers.
fn weights(name: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{name}: number of weights");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= 1e-15, "{name}: weight {i} is {got}, want {want}");
    }
}

/// Equal in all that an executor reads. Weights of blends may be a unit of f32 apart, since their sums may be formed in another order.
fn same_plan(name: &str, got: &MixturePlan, want: &MixturePlan) {
    let shape = |plan: &MixturePlan| -> Vec<Vec<usize>> {
        plan.stages.iter().map(|stage| stage.passes.iter().map(Vec::len).collect()).collect()
    };
    assert_eq!((got.keep, shape(got)), (want.keep, shape(want)), "{name}: images, stages, passes and rows");
    for (at, (got, want)) in rows(got).zip(rows(want)).enumerate() {
        let place = |row: &Row| (row.kind, row.own_scale.to_bits(), row.kind.reads_partner().then_some(row.partner));
        let boxed =
            |row: &Row| matches!(row.kind, Kind::Paste | Kind::Fill | Kind::Resize).then_some((row.bbox, row.fill_value.to_bits()));
        assert_eq!((place(got), boxed(got)), (place(want), boxed(want)), "{name}: row {at}");
        let apart = (got.lambda - want.lambda).abs();
        assert!(
            got.kind != Kind::Blend || apart <= f32::EPSILON / 2.0,
            "{name}: lambda of row {at} is {}, want {}",
            got.lambda,
            want.lambda
        );
    }
}
