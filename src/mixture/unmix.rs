//! The batch mixture of Un-Mix: one mixture of the first view per step and the weights of its two loss terms
//! (arXiv 2003.05438v2 and later, section 3). With more than two views, crops of SwAV, every other one from the first on is mixed, as in the
//! authors' program.

use super::config::{Boxed, MixtureConfig, Pairing};
use super::plan::{BatchMixture, Kind};
use super::policy::{Context, Planned, Policy};
use crate::rng::{Purpose, Stream};

/// Draws the batch mixture.
pub struct Unmix {
    prob: f64,
    beta: f64,
    region: Boxed,
    tau: [f64; 2],
    pairing: Pairing,
    per_sample: bool,
}

impl Unmix {
    /// Reads `prob`, `beta`, `box`, `tau`, `pairing` and `per_sample_lambda`.
    pub fn new(config: &MixtureConfig) -> Self {
        let MixtureConfig { prob, beta, boxed, tau, pairing, per_sample_lambda, .. } = *config;
        Self { prob, beta, region: boxed, tau, pairing, per_sample: per_sample_lambda }
    }
}

impl Policy for Unmix {
    fn plan(&self, ctx: &Context, samples: &[u32]) -> Planned {
        self.plan_views(ctx, samples, &[(ctx.height, ctx.width)])
    }

    /// Draws r, then lambda, cy, cx (once, or once per image), then the permutation if there is one. All mixed crops share kind, drawn lambda
    /// and pairs; each has a box, and so a kept area, of its own. The authors' program cuts each box for the kept area of the crop before it and
    /// weighs all crops by that of the last.
    fn plan_views(&self, ctx: &Context, samples: &[u32], sizes: &[(usize, usize)]) -> Planned {
        let n = samples.len();
        let mut stream = Stream::new(ctx.seed, Purpose::Unmix, &[ctx.epoch, ctx.step]);
        let kind = if stream.uniform() < self.prob { Kind::Blend } else { self.region.kind() };
        // The centre is drawn for a blend too, so that a permutation does not depend on the kind.
        let mut draw = || {
            let [low, high] = self.tau;
            let number = if kind == Kind::Resize { stream.range(low, high) } else { stream.beta(self.beta) };
            (number, stream.below(ctx.height as u64) as usize, stream.below(ctx.width as u64) as usize)
        };
        let draws = if self.per_sample { (0..n).map(|_| draw()).collect() } else { vec![draw(); n] };
        let partners = match self.pairing {
            Pairing::Flip => (0..n as u32).rev().collect(),
            Pairing::Permute => stream.permutation(n),
        };
        let mixture = |(view, &size): (usize, &(usize, usize))| {
            let further = (view > 0).then(|| self.recentred(ctx, view, size, &draws));
            let mixture = BatchMixture::new(kind, size, &partners, further.as_ref().unwrap_or(&draws));
            let mixture = mixture.expect("partners are a permutation");
            BatchMixture { views: [view, view], per_sample: self.per_sample, ..mixture }
        };
        Planned { mixtures: sizes.iter().enumerate().step_by(2).map(mixture).collect(), ..Planned::default() }
    }
}

impl Unmix {
    /// The draws with other centres, in a crop of `size`: cy, cx once, or once per image, from a stream of the view's own, so that they disturb
    /// none of the first crop's.
    fn recentred(
        &self,
        ctx: &Context,
        view: usize,
        (height, width): (usize, usize),
        draws: &[(f64, usize, usize)],
    ) -> Vec<(f64, usize, usize)> {
        let mut stream = Stream::new(ctx.seed, Purpose::Unmix, &[ctx.epoch, ctx.step, view as u64]);
        let mut centre = || (stream.below(height as u64) as usize, stream.below(width as u64) as usize);
        let all = if self.per_sample { draws.iter().map(|_| centre()).collect() } else { vec![centre(); draws.len()] };
        draws.iter().zip(all).map(|(&(lambda, ..), (cy, cx))| (lambda, cy, cx)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::mix::reference::mix;
    use crate::mixture::config::Name;
    use crate::mixture::{Row, policy};

    const CTX: Context = Context { seed: 11, epoch: 3, step: 0, height: 32, width: 20, dataset: 100, views: 2, mixed_views: 1 };

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

    /// ResizeMix: sides of 0.1 to 0.8 of the image's, so that an image of 32 x 20 keeps at least 1 - 24 x 14 / 640 of its pixels.
    #[test]
    fn a_resized_region_takes_its_side_from_tau() {
        let config = MixtureConfig { boxed: Boxed::Resize, beta: 0.2, ..config(0.3) };
        let drawn: Vec<_> = (0..2000).map(|step| draw(&config, step, 3)).collect();
        let regions: Vec<_> = drawn.iter().filter(|unmix| rows(unmix)[0].kind == Kind::Resize).collect();
        assert!((1280..1520).contains(&regions.len()) && drawn.iter().all(|unmix| rows(unmix)[0].kind != Kind::Paste));
        for unmix in &regions {
            let b = rows(unmix)[0].bbox;
            assert!(b.y1 - b.y0 <= 24 && b.x1 - b.x0 <= 14, "{b:?}");
            assert_eq!(unmix.lambda(), Some(1.0 - b.area() as f64 / 640.0));
        }
        let largest = regions.iter().map(|unmix| rows(unmix)[0].bbox.area()).max();
        assert_eq!(largest, Some(24 * 14));
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

    /// Two views of 32 x 20, three of 16 x 12, two of 8 x 8.
    const SIZES: [(usize, usize); 7] = [(32, 20), (32, 20), (16, 12), (16, 12), (16, 12), (8, 8), (8, 8)];

    /// One lambda, kind and pairing per step; one box per mixed crop, of its own size and place, and its exact kept area.
    #[test]
    fn every_other_crop_is_mixed_with_one_lambda_and_a_box_of_its_own() {
        for per_sample in [false, true] {
            let config = MixtureConfig { per_sample_lambda: per_sample, pairing: Pairing::Permute, ..config(0.3) };
            let (mut blends, mut apart) = (0, 0);
            for step in 0..60 {
                let mixtures = policy(&config).plan_views(&Context { step, ..CTX }, &[7; 6], &SIZES).mixtures;
                let views: Vec<[usize; 2]> = mixtures.iter().map(|mixture| mixture.views).collect();
                assert_eq!(views, [[0, 0], [2, 2], [4, 4], [6, 6]]);
                // The first is the mixture that there is without crops, draw for draw.
                assert_eq!(mixtures[0], draw(&config, step, 6));
                let first = rows(&mixtures[0]);
                for mixture in &mixtures {
                    let (height, width) = SIZES[mixture.views[0]];
                    mixture.plan.validate(6, height, width).unwrap();
                    assert_eq!((&mixture.partners, mixture.per_sample), (&mixtures[0].partners, per_sample));
                    for ((row, first), &lambda) in rows(mixture).iter().zip(first).zip(&mixture.lambdas) {
                        assert_eq!((row.kind, row.lambda, row.partner), (first.kind, first.lambda, first.partner));
                        match row.kind {
                            Kind::Blend => assert_eq!(lambda as f32, row.lambda),
                            _ => assert_eq!(lambda, 1.0 - row.bbox.area() as f64 / (height * width) as f64),
                        }
                    }
                    let boxes: std::collections::BTreeSet<[u32; 4]> = rows(mixture).iter().map(|row| row.bbox.into()).collect();
                    assert!(per_sample || boxes.len() == 1, "one box serves the batch");
                }
                blends += usize::from(first[0].kind == Kind::Blend);
                apart += usize::from(rows(&mixtures[1])[0].bbox != rows(&mixtures[2])[0].bbox);
            }
            assert!((8..30).contains(&blends), "{blends} of 60 at 0.3");
            assert!(apart > 20, "the boxes of two crops of one size differed in {apart} steps");
        }
    }

    /// Two views, or one: the first alone is mixed, as ever.
    #[test]
    fn without_further_crops_nothing_else_is_mixed() {
        for sizes in [&SIZES[..1], &SIZES[..2]] {
            for step in 0..8 {
                let planned = policy(&config(0.5)).plan_views(&Context { step, ..CTX }, &[3; 5], sizes);
                assert_eq!(planned.mixtures, [draw(&config(0.5), step, 5)]);
            }
        }
        // A policy of one size plans as it does for all.
        let im = MixtureConfig { name: Name::Im, ..Default::default() };
        assert_eq!(policy(&im).plan_views(&CTX, &[1, 2, 3], &SIZES[..2]), policy(&im).plan(&CTX, &[1, 2, 3]));
    }

    /// A change here changes what a resumed run would see.
    #[test]
    fn draws_of_further_crops_never_change() {
        let planned = policy(&config(0.0)).plan_views(&CTX, &[1; 4], &SIZES);
        let got: Vec<_> = planned
            .mixtures
            .iter()
            .map(|mixture| format!("{:?} {:?}", <[u32; 4]>::from(rows(mixture)[0].bbox), mixture.lambda()))
            .collect();
        assert_eq!(got, GOLDEN_CROPS, "{got:#?}");
    }

    const GOLDEN_CROPS: [&str; 4] = [
        "[2, 5, 28, 20] Some(0.390625)",
        "[6, 2, 16, 10] Some(0.5833333333333333)",
        "[0, 1, 6, 9] Some(0.75)",
        "[1, 4, 7, 8] Some(0.625)",
    ];

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
