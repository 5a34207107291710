//! The batch mixture of Un-Mix: one mixture of the first view per step and the weights of its two loss terms
//! (arXiv 2003.05438v2 and later, section 3).

use super::config::{MixtureConfig, Pairing};
use super::plan::{BatchMixture, Kind};
use super::policy::{Context, Planned, Policy};
use crate::rng::{Purpose, Stream};

/// Draws the batch mixture.
pub struct Unmix {
    prob: f64,
    beta: f64,
    pairing: Pairing,
    per_sample: bool,
}

impl Unmix {
    /// Reads `prob`, `beta`, `pairing` and `per_sample_lambda`.
    pub fn new(config: &MixtureConfig) -> Self {
        Self { prob: config.prob, beta: config.beta, pairing: config.pairing, per_sample: config.per_sample_lambda }
    }
}

impl Policy for Unmix {
    /// Draws r, then lambda, cy, cx (once, or once per image), then the permutation if there is one.
    fn plan(&self, ctx: &Context, samples: &[u32]) -> Planned {
        let n = samples.len();
        let mut stream = Stream::new(ctx.seed, Purpose::Unmix, &[ctx.epoch, ctx.step]);
        let kind = if stream.uniform() < self.prob { Kind::Blend } else { Kind::Paste };
        // The centre is drawn for a blend too, so that a permutation does not depend on the kind.
        let mut draw = || {
            let lambda = stream.beta(self.beta);
            (lambda, stream.below(ctx.height as u64) as usize, stream.below(ctx.width as u64) as usize)
        };
        let draws = if self.per_sample { (0..n).map(|_| draw()).collect() } else { vec![draw(); n] };
        let partners = match self.pairing {
            Pairing::Flip => (0..n as u32).rev().collect(),
            Pairing::Permute => stream.permutation(n),
        };
        let unmix = BatchMixture::new(kind, (ctx.height, ctx.width), &partners, &draws).expect("partners are a permutation");
        Planned { mixtures: vec![BatchMixture { per_sample: self.per_sample, ..unmix }], ..Planned::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::mix::reference::mix;
    use crate::mixture::config::Name;
    use crate::mixture::{Row, policy};

    const CTX: Context = Context { seed: 11, epoch: 3, step: 0, height: 32, width: 20, dataset: 100, views: 2 };

    fn config(prob: f64) -> MixtureConfig {
        MixtureConfig { name: Name::Unmix, prob, ..Default::default() }
    }

    fn draw(config: &MixtureConfig, step: u64, n: u32) -> BatchMixture {
        let planned = policy(config).plan(&Context { step, ..CTX }, &(100..100 + n).collect::<Vec<_>>());
        assert!(planned.plans.is_empty() && planned.extras.is_empty());
        let [unmix] = <[BatchMixture; 1]>::try_from(planned.mixtures).unwrap();
        unmix.plan.validate(n as usize, CTX.height, CTX.width).unwrap();
        unmix
    }

    fn rows(unmix: &BatchMixture) -> &[Row] {
        &unmix.plan.stages[0].passes[0]
    }

    #[test]
    fn one_weight_and_box_serve_the_batch_and_pairs_are_mirrored() {
        for step in 0..40 {
            let unmix = draw(&config(0.5), step, 5);
            let partners: Vec<_> = rows(&unmix).iter().map(|row| row.partner).collect();
            assert_eq!(partners, [4, 3, 2, 1, 0]);
            assert_eq!(unmix.inverse().unwrap(), [4, 3, 2, 1, 0]);
            let first = Row { partner: 0, ..rows(&unmix)[0] };
            assert!(rows(&unmix).iter().all(|row| Row { partner: 0, ..*row } == first));
            assert!(unmix.lambdas.iter().all(|&lambda| Some(lambda) == unmix.lambda()));
        }
    }

    #[test]
    fn the_weight_of_a_region_is_the_exact_kept_area() {
        let (mut empty, mut changed) = (0, 0);
        for step in 0..2000 {
            let unmix = draw(&config(0.0), step, 2);
            let row = rows(&unmix)[0];
            assert_eq!(row.kind, Kind::Paste);
            assert_eq!(unmix.lambda(), Some(1.0 - row.bbox.area() as f64 / 640.0));
            empty += u32::from(row.bbox.is_empty() && unmix.lambda() == Some(1.0));
            changed += u32::from(unmix.lambda() != Some(f64::from(row.lambda)));
        }
        assert!(empty > 0 && changed > 1900);
    }

    #[test]
    fn the_weight_of_a_blend_is_the_drawn_one() {
        let lambdas: Vec<f64> = (0..2000)
            .map(|step| draw(&config(1.0), step, 2))
            .map(|unmix| {
                assert_eq!((rows(&unmix)[0].kind, rows(&unmix)[0].lambda), (Kind::Blend, unmix.lambda().unwrap() as f32));
                unmix.lambda().unwrap()
            })
            .collect();
        let mean = lambdas.iter().sum::<f64>() / 2000.0;
        assert!((mean - 0.5).abs() < 0.03, "{mean}");
        let blends = (0..4000).filter(|&step| rows(&draw(&config(0.3), step, 1))[0].kind == Kind::Blend).count();
        assert!((1080..1320).contains(&blends), "{blends} of 4000 at 0.3");
    }

    /// Gathering the mixtures by `inverse` puts image i into the partner's role of row i, for any pairing.
    #[test]
    fn the_inverse_finds_the_mixture_in_which_an_image_is_the_partner() {
        let permuted = MixtureConfig { pairing: Pairing::Permute, ..config(1.0) };
        for (config, n) in [(config(1.0), 6), (permuted.clone(), 7)] {
            let unmix = draw(&config, 5, n);
            let images: Vec<f32> = (0..n).map(|i| (i * i) as f32).collect();
            let mixed = mix(&images, [n as usize, 1, 1, 1], &unmix.plan);
            for (i, row) in unmix.inverse().unwrap().into_iter().enumerate() {
                assert_eq!(rows(&unmix)[row as usize].partner as usize, i);
                let want = unmix.lambdas[row as usize] as f32 * images[row as usize]
                    + (1.0 - unmix.lambdas[row as usize]) as f32 * images[i];
                assert!((mixed[row as usize] - want).abs() < 1e-4);
            }
        }
        assert_ne!(draw(&permuted, 1, 64).partners, draw(&permuted, 2, 64).partners);
    }

    #[test]
    fn weights_per_image_differ() {
        let config = MixtureConfig { per_sample_lambda: true, pairing: Pairing::Permute, ..config(0.0) };
        let unmix = draw(&config, 4, 16);
        assert_eq!(unmix.lambda(), None);
        let distinct: std::collections::BTreeSet<u64> = unmix.lambdas.iter().map(|l| l.to_bits()).collect();
        assert!(distinct.len() > 12);
    }

    #[test]
    fn steps_differ_and_samples_do_not_matter() {
        assert_ne!(draw(&config(0.5), 0, 4), draw(&config(0.5), 1, 4));
        let other = policy(&config(0.5)).plan(&CTX, &[1, 2, 3, 4]).mixtures;
        assert_eq!(other, [draw(&config(0.5), 0, 4)]);
    }

    /// A change here changes what a resumed run would see.
    #[test]
    fn draws_never_change() {
        let config = MixtureConfig { pairing: Pairing::Permute, ..config(0.5) };
        let got: Vec<_> = [0, 1, 6]
            .map(|step| draw(&config, step, 4))
            .iter()
            .map(|unmix| {
                let row = rows(unmix)[0];
                format!(
                    "{:?} {} {:?} {:?} {:?}",
                    row.kind,
                    row.lambda,
                    <[u32; 4]>::from(row.bbox),
                    unmix.lambda(),
                    unmix.inverse().unwrap()
                )
            })
            .collect();
        assert_eq!(got, GOLDEN, "{got:#?}");
    }

    const GOLDEN: [&str; 3] = [
        "Paste 0.33242574 [2, 5, 28, 20] Some(0.390625) [0, 1, 2, 3]",
        "Paste 0.3491048 [0, 6, 22, 20] Some(0.51875) [2, 3, 1, 0]",
        "Blend 0.12402054 [0, 0, 0, 0] Some(0.1240205423513907) [1, 2, 3, 0]",
    ];

    #[test]
    fn partners_must_be_a_permutation() {
        let new = |kind, partners: &[u32]| BatchMixture::new(kind, (4, 4), partners, &[(0.5, 1, 1), (0.5, 1, 1)]);
        assert!(new(Kind::Blend, &[1, 0]).is_ok());
        for partners in [&[0, 0][..], &[0, 2], &[0], &[2, 1, 0]] {
            assert!(new(Kind::Blend, partners).is_err(), "{partners:?}");
        }
        assert!(new(Kind::Fill, &[1, 0]).is_err());
    }
}
