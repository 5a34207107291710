//! InputMix: weighted sums of an image with several others of any view, as augmentation (arXiv 2010.08887, and `inputmix` of
//! its program).

use super::config::MixtureConfig;
use super::imix::own_share;
use super::plan::{MixturePlan, Row, Stage};
use super::policy::{Context, Planned, Policy};
use crate::rng::{Purpose, Stream};

/// Draws weights per image of each view, and a permutation of the images of all views per partner.
pub struct InputMix {
    partners: usize,
    alpha: f64,
}

impl InputMix {
    /// Reads `partners` and `alpha`.
    pub fn new(config: &MixtureConfig) -> Self {
        Self { partners: config.partners as usize, alpha: config.alpha }
    }

    /// Weights of the own image and of its partners, which sum to 1; the own one is at least a half.
    fn weights(&self, stream: &mut Stream) -> Vec<f64> {
        if self.partners == 1 {
            let own = own_share(stream, self.alpha);
            return vec![own, 1.0 - own];
        }
        let mut weights: Vec<f64> = stream.dirichlet(self.alpha, self.partners + 1).iter().map(|weight| 0.5 * weight).collect();
        weights[0] += 0.5;
        weights
    }
}

/// The stage whose result for image i is the sum of `weights[i][0]` of itself and `weights[i][1 + p]` of image `partners[p][i]`: a pass per partner. Pass
/// p keeps of what is there the share that its weights have of the sum with the next one, `s_p / s_(p + 1)`, s being the running sums.
pub fn weighted(weights: &[Vec<f64>], partners: &[Vec<u32>]) -> Stage {
    let row = |image: usize, pass: usize| {
        let sum = |count: usize| weights[image][..count].iter().sum::<f64>();
        Row::blend(partners[pass][image], sum(pass + 1) / sum(pass + 2))
    };
    Stage { passes: (0..partners.len()).map(|pass| (0..weights.len()).map(|image| row(image, pass)).collect()).collect() }
}

/// The plan of one view: images are counted from its first one on, and the first `n` are kept.
fn seen_from(stage: &Stage, view: usize, n: usize) -> MixturePlan {
    let passes = stage.passes.iter().map(|pass| {
        let (all, first) = (pass.len(), view * n);
        let renumbered = |row: &Row| Row { partner: ((row.partner as usize + all - first) % all) as u32, ..*row };
        (0..all).map(|image| renumbered(&pass[(image + first) % all])).collect()
    });
    MixturePlan { stages: vec![Stage { passes: passes.collect() }], keep: n }
}

impl Policy for InputMix {
    /// Draws the weights of the images of the first view, of the next, and so on, then the permutations.
    fn plan(&self, ctx: &Context, samples: &[u32]) -> Planned {
        let (n, all) = (samples.len(), samples.len() * ctx.views);
        let mut stream = Stream::new(ctx.seed, Purpose::InputMix, &[ctx.epoch, ctx.step]);
        let weights: Vec<_> = (0..all).map(|_| self.weights(&mut stream)).collect();
        let partners: Vec<_> = (0..self.partners).map(|_| stream.permutation(all)).collect();
        let stage = weighted(&weights, &partners);
        Planned { plans: (0..ctx.views).map(|view| seen_from(&stage, view, n)).collect(), across: true, ..Planned::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::mix::reference::mix;
    use crate::mixture::config::Name;
    use crate::mixture::policy;

    const CTX: Context = Context { seed: 4, epoch: 1, step: 6, height: 2, width: 3, dataset: 100, views: 2, mixed_views: 1 };

    fn config(partners: u32) -> MixtureConfig {
        MixtureConfig { name: Name::Inputmix, partners, ..Default::default() }
    }

    fn draw(config: &MixtureConfig, ctx: &Context, n: usize) -> Planned {
        let planned = policy(config).plan(ctx, &vec![0; n]);
        assert!(planned.across && planned.mixtures.is_empty() && planned.extras.is_empty() && planned.plans.len() == ctx.views);
        planned.plans.iter().for_each(|plan| plan.validate(ctx.views * n, ctx.height, ctx.width).unwrap());
        planned
    }

    /// The weight of every image in every result, by mixing the columns of a unit matrix: `[result, image]`, images in the order of the plan.
    fn shares(plan: &MixturePlan, all: usize) -> Vec<Vec<f32>> {
        let unit: Vec<f32> = (0..all * all).map(|at| f32::from(u8::from(at / all == at % all))).collect();
        mix(&unit, [all, 1, 1, all], plan).chunks(all).map(<[f32]>::to_vec).collect()
    }

    #[test]
    fn passes_give_each_image_its_weight() {
        let weights = [vec![0.5, 0.2, 0.3], vec![0.6, 0.4, 0.0], vec![0.1, 0.1, 0.8]];
        let stage = weighted(&weights, &[vec![1, 2, 0], vec![2, 0, 1]]);
        let got = shares(&MixturePlan { stages: vec![stage], keep: 3 }, 3);
        let want = [[0.5, 0.2, 0.3], [0.0, 0.6, 0.4], [0.1, 0.8, 0.1]];
        for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
            assert!((got - want).abs() < 1e-6, "{got}, want {want}");
        }
    }

    #[test]
    fn an_image_keeps_at_least_half_and_partners_are_of_any_view() {
        for (partners, views) in [(1, 2), (3, 2), (2, 1), (2, 3)] {
            let (n, ctx) = (16, Context { views, ..CTX });
            let planned = draw(&config(partners), &ctx, n);
            let mut of_others = 0;
            for plan in &planned.plans {
                assert_eq!((plan.stages.len(), plan.stages[0].passes.len(), plan.keep), (1, partners as usize, n));
                for (image, shares) in shares(plan, views * n).iter().enumerate() {
                    assert!(shares[image] >= 0.499_999 && (shares.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{shares:?}");
                    of_others += shares[n..].iter().filter(|&&share| share > 0.0).count();
                }
            }
            assert!((of_others > 0) == (views > 1), "{of_others} shares of other views");
        }
    }

    /// What the second view sees is the same mixture, counted from its own first image on.
    #[test]
    fn plans_of_views_are_one_mixture_of_all_images() {
        let planned = draw(&config(2), &CTX, 5);
        let [first, second] = &planned.plans[..] else { panic!("two views") };
        for (pass, other) in first.stages[0].passes.iter().zip(&second.stages[0].passes) {
            let partners: std::collections::BTreeSet<u32> = pass.iter().map(|row| row.partner).collect();
            assert_eq!(partners.len(), 10, "a permutation of the images of both views");
            for image in 0..10 {
                assert_eq!(pass[image].partner, (other[(image + 5) % 10].partner + 5) % 10);
                assert_eq!(pass[image].lambda, other[(image + 5) % 10].lambda);
            }
        }
        assert_eq!(
            (planned.sources_of(0, 2), planned.sources_of(1, 2), planned.sources_of(1, 3)),
            (vec![0, 1], vec![1, 0], vec![1, 2, 0])
        );
    }

    /// max(b, 1 - b) of one partner has the mean 3/4; half of Dirichlet(1, 1, 1, 1) and a half have 1/2 + 1/8.
    #[test]
    fn weights_have_the_means_of_their_distributions() {
        for (partners, want) in [(1, 0.75), (3, 0.625)] {
            let mut stream = Stream::new(1, Purpose::Probe, &[]);
            let policy = InputMix::new(&config(partners));
            let mean = (0..4000).map(|_| policy.weights(&mut stream)[0]).sum::<f64>() / 4000.0;
            assert!((mean - want).abs() < 0.01, "{mean} of {partners} partners");
        }
    }

    /// A change here changes what a resumed run would see.
    #[test]
    fn draws_never_change() {
        let said = |partners: u32| {
            let planned = draw(&config(partners), &CTX, 2);
            let rows: Vec<_> = planned.plans[1].stages[0].passes.iter().map(|pass| (pass[0].partner, pass[0].lambda)).collect();
            format!("{rows:?}")
        };
        let got = [1, 3].map(said);
        assert_eq!(got, GOLDEN, "{got:#?}");
    }

    const GOLDEN: [&str; 2] = ["[(3, 0.8839119)]", "[(3, 0.67117625), (2, 0.8531132), (0, 0.9780901)]"];
}
