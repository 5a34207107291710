//! i-Mix: a mixture in place of each view that is trained, whose label is soft (arXiv 2010.08887, and `mixup` and `cutmix` of its
//! program).

use super::config::{Boxed, ImixKind, MixtureConfig};
use super::plan::{BatchMixture, Kind};
use super::policy::{Context, Planned, Policy};
use crate::rng::{Purpose, Stream};

/// Draws a mixture per trained view.
pub struct Imix {
    kind: ImixKind,
    alpha: f64,
    region: Boxed,
    tau: [f64; 2],
}

impl Imix {
    /// Reads `kind`, `alpha`, `box` and `tau`.
    pub fn new(config: &MixtureConfig) -> Self {
        let MixtureConfig { kind, alpha, boxed, tau, .. } = *config;
        Self { kind, alpha, region: boxed, tau }
    }

    /// Draws the weights (mixup: one per image; cutmix: lambda, or the side of a resized region, then cy, cx), then the permutation.
    fn mixture(&self, ctx: &Context, view: usize, n: usize) -> BatchMixture {
        let mut stream = Stream::new(ctx.seed, Purpose::Imix, &[ctx.epoch, ctx.step, view as u64]);
        let mixup = self.kind == ImixKind::Mixup;
        let kind = if mixup { Kind::Blend } else { self.region.kind() };
        let draws = if mixup {
            (0..n).map(|_| (own_share(&mut stream, self.alpha), 0, 0)).collect()
        } else {
            let [low, high] = self.tau;
            let number = if kind == Kind::Resize { stream.range(low, high) } else { own_share(&mut stream, self.alpha) };
            vec![(number, stream.below(ctx.height as u64) as usize, stream.below(ctx.width as u64) as usize); n]
        };
        let partners = stream.permutation(n);
        let mixture = BatchMixture::new(kind, (ctx.height, ctx.width), &partners, &draws).expect("partners are a permutation");
        BatchMixture { views: [view, view], per_sample: mixup, ..mixture }
    }
}

/// A weight of Beta(alpha, alpha) or its complement, whichever is larger: the own image keeps at least half.
pub(super) fn own_share(stream: &mut Stream, alpha: f64) -> f64 {
    let lambda = stream.beta(alpha);
    lambda.max(1.0 - lambda)
}

impl Policy for Imix {
    fn plan(&self, ctx: &Context, samples: &[u32]) -> Planned {
        Planned {
            mixtures: (0..ctx.mixed_views).map(|view| self.mixture(ctx, view, samples.len())).collect(),
            ..Planned::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::config::Name;
    use crate::mixture::{Row, policy};

    const CTX: Context = Context { seed: 11, epoch: 3, step: 0, height: 32, width: 20, dataset: 100, views: 2, mixed_views: 2 };

    fn config(kind: ImixKind) -> MixtureConfig {
        MixtureConfig { name: Name::Imix, kind, ..Default::default() }
    }

    fn draw(config: &MixtureConfig, step: u64, n: u32) -> [BatchMixture; 2] {
        let planned = policy(config).plan(&Context { step, ..CTX }, &(0..n).collect::<Vec<_>>());
        assert!(planned.plans.is_empty() && planned.extras.is_empty());
        let both = <[BatchMixture; 2]>::try_from(planned.mixtures).unwrap();
        both.iter().for_each(|mixture| mixture.plan.validate(n as usize, CTX.height, CTX.width).unwrap());
        both
    }

    fn rows(mixture: &BatchMixture) -> &[Row] {
        &mixture.plan.stages[0].passes[0]
    }

    #[test]
    fn mixup_has_a_weight_of_at_least_half_per_image_and_a_permutation_per_view() {
        let [first, second] = draw(&config(ImixKind::Mixup), 0, 64);
        assert_eq!((first.views, second.views, first.sources(), second.sources()), ([0, 0], [1, 1], vec![0], vec![1]));
        assert!(first.partners != second.partners && first.lambdas != second.lambdas, "each view has its own draws");
        let distinct: std::collections::BTreeSet<u64> = first.lambdas.iter().map(|l| l.to_bits()).collect();
        assert!(distinct.len() > 60 && first.lambda().is_none());
        for (mixture, (row, lambda)) in [&first, &second].iter().flat_map(|m| rows(m).iter().zip(&m.lambdas).map(move |r| (m, r))) {
            assert!((0.5..=1.0).contains(lambda) && mixture.inverse().is_some());
            assert_eq!((row.kind, row.lambda), (Kind::Blend, *lambda as f32));
        }
        // max(l, 1 - l) of a uniform l is uniform in 0.5..1.
        let mean = (0..200).flat_map(|step| draw(&config(ImixKind::Mixup), step, 20)[0].lambdas.clone()).sum::<f64>() / 4000.0;
        assert!((mean - 0.75).abs() < 0.01, "{mean}");
    }

    #[test]
    fn cutmix_has_one_box_that_keeps_at_least_half() {
        for step in 0..300 {
            let [mixture, _] = draw(&config(ImixKind::Cutmix), step, 5);
            let (row, lambda) = (rows(&mixture)[0], mixture.lambda().unwrap());
            assert!(rows(&mixture).iter().all(|other| Row { partner: row.partner, ..*other } == row));
            assert_eq!((row.kind, lambda), (Kind::Paste, 1.0 - row.bbox.area() as f64 / 640.0));
            // The box is never larger than what was drawn.
            assert!(lambda >= f64::from(row.lambda) - 1e-7 && row.lambda >= 0.5);
        }
        let resized = MixtureConfig { boxed: Boxed::Resize, ..config(ImixKind::Cutmix) };
        assert!((0..50).all(|step| rows(&draw(&resized, step, 3)[0])[0].kind == Kind::Resize));
    }

    #[test]
    fn one_view_is_mixed_where_one_is_trained() {
        let ctx = Context { mixed_views: 1, ..CTX };
        let [mixture] = <[BatchMixture; 1]>::try_from(policy(&config(ImixKind::Mixup)).plan(&ctx, &[7, 8, 9]).mixtures).unwrap();
        assert_eq!(mixture, draw(&config(ImixKind::Mixup), 0, 3)[0], "the first view draws what it draws beside a second");
    }

    /// A change here changes what a resumed run would see.
    #[test]
    fn draws_never_change() {
        let said = |mixture: &BatchMixture| {
            let row = rows(mixture)[1];
            format!("{:?} {} {:?} {:?}", row.kind, mixture.lambdas[1], <[u32; 4]>::from(row.bbox), mixture.partners)
        };
        let resized = MixtureConfig { boxed: Boxed::Resize, ..config(ImixKind::Cutmix) };
        let configs = [config(ImixKind::Mixup), config(ImixKind::Cutmix), resized];
        let got: Vec<String> = configs.iter().flat_map(|config| draw(config, 2, 4)).map(|mixture| said(&mixture)).collect();
        assert_eq!(got, GOLDEN, "{got:#?}");
    }

    const GOLDEN: [&str; 6] = [
        "Blend 0.7562917389429187 [0, 0, 0, 0] [0, 1, 3, 2]",
        "Blend 0.8494574194422775 [0, 0, 0, 0] [0, 3, 1, 2]",
        "Paste 0.7 [0, 3, 16, 15] [0, 2, 3, 1]",
        "Paste 0.859375 [17, 0, 32, 6] [3, 0, 2, 1]",
        "Resize 0.90625 [2, 6, 12, 12] [0, 2, 3, 1]",
        "Resize 0.8984375 [19, 0, 32, 5] [3, 0, 2, 1]",
    ];
}
