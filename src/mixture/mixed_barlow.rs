//! The mixture of Mixed Barlow Twins: one view with the other (arXiv 2312.02151, and `main.py` of its program).

use super::plan::{BatchMixture, MixturePlan, Row, Stage};
use super::policy::{Context, Planned, Policy};
use crate::rng::{Purpose, Stream};

/// Draws one weight U(0, 1) and a permutation per batch.
pub struct MixedBarlow;

/// `lambda` of image i of the first view and the rest of image `partners[i]` of the second, for `partners.len()` = N images. The plan has 2N images:
/// those of the first view, of which the mixtures are made, and those of the second.
pub fn across(lambda: f64, partners: &[u32]) -> BatchMixture {
    let n = partners.len();
    let mut pass: Vec<Row> = partners.iter().map(|&partner| Row::blend(n as u32 + partner, lambda)).collect();
    pass.resize(2 * n, Row::default());
    let plan = MixturePlan { stages: vec![Stage { passes: vec![pass] }], keep: n };
    BatchMixture { views: [0, 1], plan, lambdas: vec![lambda; n], partners: partners.to_vec(), per_sample: false }
}

impl Policy for MixedBarlow {
    /// Draws lambda, then the permutation.
    fn plan(&self, ctx: &Context, samples: &[u32]) -> Planned {
        let mut stream = Stream::new(ctx.seed, Purpose::MixedBarlow, &[ctx.epoch, ctx.step]);
        let lambda = stream.beta(1.0);
        Planned { mixtures: vec![across(lambda, &stream.permutation(samples.len()))], ..Planned::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::mix::reference::mix;

    const CTX: Context = Context { seed: 4, epoch: 1, step: 6, height: 2, width: 3, dataset: 100, views: 2, mixed_views: 1 };

    fn draw(step: u64, n: usize) -> BatchMixture {
        let [mixture] = <[BatchMixture; 1]>::try_from(MixedBarlow.plan(&Context { step, ..CTX }, &vec![0; n]).mixtures).unwrap();
        mixture.plan.validate(2 * n, CTX.height, CTX.width).unwrap();
        mixture
    }

    #[test]
    fn own_images_are_of_the_first_view_and_partners_of_the_second() {
        let mixture = draw(0, 5);
        assert_eq!((mixture.views, mixture.sources(), mixture.plan.keep), ([0, 1], vec![0, 1], 5));
        let views: Vec<f32> = (0..10).map(|image| if image < 5 { image as f32 } else { 100.0 * (image - 4) as f32 }).collect();
        let mixed = mix(&views, [10, 1, 1, 1], &mixture.plan);
        let lambda = mixture.lambda().unwrap();
        assert!(mixture.inverse().is_some());
        for (i, got) in mixed.iter().enumerate() {
            let want = lambda * i as f64 + (1.0 - lambda) * 100.0 * f64::from(mixture.partners[i] + 1);
            assert!((f64::from(*got) - want).abs() < 1e-3, "{got}, want {want}");
        }
    }

    #[test]
    fn weights_are_uniform_and_steps_differ() {
        let lambdas: Vec<f64> = (0..4000).map(|step| draw(step, 2).lambda().unwrap()).collect();
        let below = lambdas.iter().filter(|&&lambda| lambda < 0.25).count();
        assert!((900..1100).contains(&below), "{below} of 4000");
        assert_ne!(draw(1, 64).partners, draw(2, 64).partners);
    }

    /// A change here changes what a resumed run would see.
    #[test]
    fn draws_never_change() {
        let mixture = draw(6, 6);
        assert_eq!(format!("{:?} {:?}", mixture.lambda(), mixture.partners), "Some(0.014821539625770153) [2, 1, 4, 0, 5, 3]");
    }
}
