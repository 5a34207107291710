//! The batch mixture of Un-Mix: one mixture of the first view per step and the weights of its two loss terms
//! (arXiv 2003.05438v2 and later, section 3).

use super::bbox::{cut_box, kept_area};
use super::config::{MixtureConfig, Pairing};
use super::plan::{Kind, MixturePlan, Row, Stage};
use super::policy::{Context, Planned, Policy};
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};

/// The mixture of the first view and what its loss terms weigh.
///
/// With `f` the features of the mixture, row i of `f` counts `lambdas[i]` towards image i, and row i of the gather
/// `f[inverse]`, the mixture in which image i is the partner, counts `partner_weights()[i]`. No second forward is needed.
#[derive(Debug, Clone, PartialEq)]
pub struct UnmixPlan {
    /// N images, one stage, one pass.
    pub plan: MixturePlan,
    /// Weight (blend) or exact kept area (paste) of the own image, one per image; all equal unless weights are drawn per image.
    pub lambdas: Vec<f64>,
    /// Gather index: image i is the partner of image `inverse[i]`. Reversal for the flip.
    pub inverse: Vec<u32>,
    /// True when weights are drawn per image.
    pub per_sample: bool,
}

impl UnmixPlan {
    /// The mixture of image i with image `partners[i]`, a permutation, from one `(lambda, cy, cx)` per image.
    ///
    /// `kind` is blend or paste; for paste the box is cut for lambda, which then becomes the exact kept area.
    ///
    /// # Errors
    /// If `kind` is another or `partners` is no permutation of the length of `draws`.
    pub fn new(kind: Kind, (h, w): (usize, usize), partners: &[u32], draws: &[(f64, usize, usize)]) -> Result<Self> {
        let inverse = invert(partners).filter(|inverse| inverse.len() == draws.len());
        let inverse = inverse.ok_or_else(|| {
            let fact = format!("{} partners are no permutation of {} images", partners.len(), draws.len());
            Error::input(fact).hint("name every image of the batch exactly once")
        })?;
        let mut lambdas = Vec::with_capacity(draws.len());
        let mut pass = Vec::with_capacity(draws.len());
        for (&partner, &(lambda, cy, cx)) in partners.iter().zip(draws) {
            let (row, used) = match kind {
                Kind::Blend => (Row::blend(partner, lambda), lambda),
                Kind::Paste => {
                    let bbox = cut_box(h, w, lambda, cy, cx).2;
                    (Row::paste(partner, lambda, bbox), kept_area(h, w, &bbox))
                }
                Kind::Copy | Kind::Fill => {
                    return Err(Error::input("a batch mixture blends or pastes").hint("use Kind::Blend or Kind::Paste"));
                }
            };
            pass.push(row);
            lambdas.push(used);
        }
        let plan = MixturePlan { stages: vec![Stage { passes: vec![pass] }], keep: draws.len() };
        Ok(Self { plan, lambdas, inverse, per_sample: false })
    }

    /// The one weight of the batch; `None` when weights are drawn per image (or there is no image).
    pub fn lambda(&self) -> Option<f64> {
        if self.per_sample { None } else { self.lambdas.first().copied() }
    }

    /// What row i of the gathered features weighs: the part of image i in the mixture where it is the partner.
    pub fn partner_weights(&self) -> Vec<f64> {
        self.inverse.iter().map(|&row| 1.0 - self.lambdas[row as usize]).collect()
    }
}

/// The inverse of a permutation of 0..n, or `None` if it is none.
fn invert(permutation: &[u32]) -> Option<Vec<u32>> {
    let mut inverse = vec![None; permutation.len()];
    for (i, &image) in permutation.iter().enumerate() {
        let slot = inverse.get_mut(image as usize)?;
        if slot.replace(i as u32).is_some() {
            return None;
        }
    }
    inverse.into_iter().collect()
}

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
        let unmix = UnmixPlan::new(kind, (ctx.height, ctx.width), &partners, &draws).expect("partners are a permutation");
        Planned { unmix: Some(UnmixPlan { per_sample: self.per_sample, ..unmix }), ..Planned::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::mix::reference::mix;
    use crate::mixture::config::Name;
    use crate::mixture::policy::policy;

    const CTX: Context = Context { seed: 11, epoch: 3, step: 0, height: 32, width: 20, dataset: 100, views: 2 };

    fn config(prob: f64) -> MixtureConfig {
        MixtureConfig { name: Name::Unmix, prob, ..Default::default() }
    }

    fn draw(config: &MixtureConfig, step: u64, n: u32) -> UnmixPlan {
        let planned = policy(config).plan(&Context { step, ..CTX }, &(100..100 + n).collect::<Vec<_>>());
        assert!(planned.plans.is_empty() && planned.extras.is_empty());
        let unmix = planned.unmix.unwrap();
        unmix.plan.validate(n as usize, CTX.height, CTX.width).unwrap();
        unmix
    }

    fn rows(unmix: &UnmixPlan) -> &[Row] {
        &unmix.plan.stages[0].passes[0]
    }

    #[test]
    fn one_weight_and_box_serve_the_batch_and_pairs_are_mirrored() {
        for step in 0..40 {
            let unmix = draw(&config(0.5), step, 5);
            let partners: Vec<_> = rows(&unmix).iter().map(|row| row.partner).collect();
            assert_eq!(partners, [4, 3, 2, 1, 0]);
            assert_eq!(unmix.inverse, [4, 3, 2, 1, 0]);
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
            for (i, &row) in unmix.inverse.iter().enumerate() {
                assert_eq!(rows(&unmix)[row as usize].partner as usize, i);
                let want =
                    unmix.lambdas[row as usize] as f32 * images[row as usize] + unmix.partner_weights()[i] as f32 * images[i];
                assert!((mixed[row as usize] - want).abs() < 1e-4);
            }
        }
        assert_ne!(draw(&permuted, 1, 64).inverse, draw(&permuted, 2, 64).inverse);
    }

    #[test]
    fn weights_per_image_differ_and_follow_the_gather() {
        let config = MixtureConfig { per_sample_lambda: true, pairing: Pairing::Permute, ..config(0.0) };
        let unmix = draw(&config, 4, 16);
        assert_eq!(unmix.lambda(), None);
        let distinct: std::collections::BTreeSet<u64> = unmix.lambdas.iter().map(|l| l.to_bits()).collect();
        assert!(distinct.len() > 12);
        let weights = unmix.partner_weights();
        assert!((0..16).all(|i| weights[rows(&unmix)[i].partner as usize] == 1.0 - unmix.lambdas[i]));
    }

    #[test]
    fn steps_differ_and_samples_do_not_matter() {
        assert_ne!(draw(&config(0.5), 0, 4), draw(&config(0.5), 1, 4));
        let other = policy(&config(0.5)).plan(&CTX, &[1, 2, 3, 4]).unmix.unwrap();
        assert_eq!(other, draw(&config(0.5), 0, 4));
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
                format!("{:?} {} {:?} {:?} {:?}", row.kind, row.lambda, <[u32; 4]>::from(row.bbox), unmix.lambda(), unmix.inverse)
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
        let new = |kind, partners: &[u32]| UnmixPlan::new(kind, (4, 4), partners, &[(0.5, 1, 1), (0.5, 1, 1)]);
        assert!(new(Kind::Blend, &[1, 0]).is_ok());
        for partners in [&[0, 0][..], &[0, 2], &[0], &[2, 1, 0]] {
            assert!(new(Kind::Blend, partners).is_err(), "{partners:?}");
        }
        assert!(new(Kind::Fill, &[1, 0]).is_err());
    }
}
