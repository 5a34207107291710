//! MixCo: mixtures of one half of a batch with the other, whose label is soft (arXiv 2010.06300, and `img_mixer` of its
//! program).

use super::plan::{BatchMixture, MixturePlan, Row, Stage};
use super::policy::{Context, Planned, Policy};
use crate::rng::{Purpose, Stream};

/// Draws a weight U(0, 1) per mixture.
pub struct Mixco;

/// The mixtures of image i with image i + m of the first view, i < m, where m is the number of `lambdas`, for a batch of `n` images, 2m of them at
/// least. The plan has n images, of which the first m become mixtures and the rest end.
pub fn halves(lambdas: &[f64], n: usize) -> BatchMixture {
    let half = lambdas.len();
    let partners: Vec<u32> = (half..2 * half).map(|image| image as u32).collect();
    let mut pass: Vec<Row> = partners.iter().zip(lambdas).map(|(&partner, &lambda)| Row::blend(partner, lambda)).collect();
    pass.resize(n, Row::default());
    let plan = MixturePlan { stages: vec![Stage { passes: vec![pass] }], keep: half };
    BatchMixture { views: [0, 0], plan, lambdas: lambdas.to_vec(), partners, per_sample: true }
}

impl Policy for Mixco {
    /// Draws the weights in the order of the images.
    fn plan(&self, ctx: &Context, samples: &[u32]) -> Planned {
        let n = samples.len();
        let mut stream = Stream::new(ctx.seed, Purpose::Mixco, &[ctx.epoch, ctx.step]);
        let lambdas: Vec<f64> = (0..n / 2).map(|_| stream.uniform()).collect();
        Planned { mixtures: vec![halves(&lambdas, n)], ..Planned::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::mix::reference::mix;

    const CTX: Context = Context { seed: 4, epoch: 1, step: 6, height: 2, width: 3, dataset: 100, views: 2, mixed_views: 1 };

    #[test]
    fn the_first_half_is_mixed_with_the_second() {
        for n in [6, 7] {
            let [mixture] = <[BatchMixture; 1]>::try_from(Mixco.plan(&CTX, &vec![0; n]).mixtures).unwrap();
            mixture.plan.validate(n, CTX.height, CTX.width).unwrap();
            assert_eq!((mixture.partners.as_slice(), mixture.lambdas.len(), mixture.plan.keep), (&[3, 4, 5][..], 3, 3));
            assert!(mixture.inverse().is_none() && mixture.lambda().is_none());
            let images: Vec<f32> = (0..n).map(|image| (image * image) as f32).collect();
            let mixed = mix(&images, [n, 1, 1, 1], &mixture.plan);
            for (i, (got, lambda)) in mixed.iter().zip(&mixture.lambdas).enumerate() {
                let want = lambda * f64::from(images[i]) + (1.0 - lambda) * f64::from(images[i + 3]);
                assert!((f64::from(*got) - want).abs() < 1e-5, "{got}, want {want}");
            }
        }
    }

    #[test]
    fn weights_are_uniform() {
        let lambdas: Vec<f64> =
            (0..100).flat_map(|step| Mixco.plan(&Context { step, ..CTX }, &[0; 80]).mixtures[0].lambdas.clone()).collect();
        let mean = lambdas.iter().sum::<f64>() / 4000.0;
        let below = lambdas.iter().filter(|&&lambda| lambda < 0.25).count();
        assert!((mean - 0.5).abs() < 0.02 && (900..1100).contains(&below), "{mean}, {below}");
    }

    /// A change here changes what a resumed run would see.
    #[test]
    fn draws_never_change() {
        let got = format!("{:?}", Mixco.plan(&CTX, &[0; 6]).mixtures[0].lambdas);
        assert_eq!(got, "[0.27394565906842205, 0.3256707991901362, 0.8668860115791899]");
    }
}
