//! How plans are drawn: a policy per kind of mixture, all from counter-based streams.

use super::plan::{BatchMixture, MixturePlan};
use crate::rng::{Purpose, Stream};

/// Where a step stands and what its images look like.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// Seed of the run.
    pub seed: u64,
    /// Epoch, from 0.
    pub epoch: u64,
    /// Step, from 0. Mixtures of whole batches are keyed by it; the others are keyed by image.
    pub step: u64,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Images in the dataset.
    pub dataset: usize,
    /// Views of each image.
    pub views: usize,
    /// Views, from the first, of which a method that mixes each of them (i-Mix) wants a mixture.
    pub mixed_views: usize,
}

/// A partner image that the loader must add to the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// Its index in the dataset.
    pub index: u32,
    /// Stream key of the partner's augmentation: the epoch, the index of the image that asked for it, then which attempt asked (0 global | 1 region,
    /// number), once or twice. The view is appended later.
    pub path: Vec<u64>,
    /// The only view whose plan reads it; its image in other views may hold anything. `None`: every view reads it.
    pub view: Option<u32>,
}

impl Extra {
    /// The stream of its augmentation in `view`: the owner's, so that two owners of one partner see it differently.
    pub fn stream(&self, seed: u64, view: u64) -> Stream {
        let path: Vec<u64> = self.path.iter().copied().chain([view]).collect();
        Stream::new(seed, Purpose::MixPartner, &path)
    }
}

/// What one step mixes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Planned {
    /// Augmenting mixtures of T = N + `extras.len()` images: none, one for all views, or one per view. See [`Planned::plan_of`].
    pub plans: Vec<MixturePlan>,
    /// True where partners are of any view: the plan of a view then has the images of all V views, T of each, its own first and then the others in
    /// a ring. See [`Planned::sources_of`].
    pub across: bool,
    /// The M partner images, image N + m of the batch being `extras[m]`.
    pub extras: Vec<Extra>,
    /// Batch mixtures with their loss weights, in the order of the views they are of; the views themselves stay clean.
    pub mixtures: Vec<BatchMixture>,
}

impl Planned {
    /// The views, from 0, of `views` whose images the plan of a view is of, one view after the other: row `s T + i` is image i of the s-th.
    pub fn sources_of(&self, view: usize, views: usize) -> Vec<usize> {
        if self.across { (0..views).map(|step| (view + step) % views).collect() } else { vec![view] }
    }

    /// The plan of a view, if views are mixed.
    pub fn plan_of(&self, view: usize) -> Option<&MixturePlan> {
        if self.plans.len() == 1 { self.plans.first() } else { self.plans.get(view) }
    }
}

/// Draws the mixture of a step.
pub trait Policy: Send + Sync {
    /// The mixture of the batch `samples` (N dataset indices). A pure function: equal arguments give equal plans.
    fn plan(&self, ctx: &Context, samples: &[u32]) -> Planned;

    /// The mixture of views that may have sizes of their own: `sizes` are height and width of each view, those of the first being the
    /// context's. The default is for policies whose views are all of one size.
    fn plan_views(&self, ctx: &Context, samples: &[u32], _sizes: &[(usize, usize)]) -> Planned {
        self.plan(ctx, samples)
    }
}

/// The views to plan for: one plan for all, or one for each.
pub(super) fn views(ctx: &Context, shared: bool) -> Vec<Option<u32>> {
    if shared { vec![None] } else { (0..ctx.views as u32).map(Some).collect() }
}

/// Key of what happens to `sample`: epoch, sample, the view unless views share a plan, then `path`.
pub(super) fn key(ctx: &Context, sample: u32, view: Option<u32>, path: &[u64]) -> Vec<u64> {
    [ctx.epoch, u64::from(sample)].into_iter().chain(view.map(u64::from)).chain(path.iter().copied()).collect()
}
