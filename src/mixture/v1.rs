//! Global, region and image mixtures as augmentation: labels and losses stay as they are (arXiv 2003.05438v1).

use super::bbox::cut_box;
use super::config::{GlobalConfig, MixtureConfig, Partner, RegionConfig};
use super::plan::{MixturePlan, Row, SparseStages};
use super::policy::{Context, Extra, Planned, Policy, key, views};
use crate::rng::{Purpose, Stream};

/// First word of a step on the path of attempts to a partner image.
const GLOBAL: u64 = 0;
const REGION: u64 = 1;

/// Region mixtures over global mixtures; either part may be absent.
///
/// Stage 1 mixes globally, stage 2 pastes regions, so that the partner of a region mixture is itself a global mixture.
/// Attempts are independent and chain: attempt a is pass a.
pub struct V1 {
    global: Option<GlobalConfig>,
    region: Option<RegionConfig>,
    partner: Partner,
    share_views: bool,
}

impl V1 {
    /// `global` and `region` say which parts take place. A region part with beta <= 0 does not.
    pub fn new(config: &MixtureConfig, global: bool, region: bool) -> Self {
        Self {
            global: global.then(|| config.global.clone()),
            region: (region && config.region.beta > 0.0).then(|| config.region.clone()),
            partner: config.partner(),
            share_views: config.share_views,
        }
    }
}

impl Policy for V1 {
    fn plan(&self, ctx: &Context, samples: &[u32]) -> Planned {
        let mut extras = Vec::new();
        let mut drawn = Vec::new();
        for view in views(ctx, self.share_views) {
            let mut draw = Draw { policy: self, ctx, view, n: samples.len(), extras: &mut extras, stages: self.empty_stages() };
            for (image, &sample) in samples.iter().enumerate() {
                draw.global(image, sample, &[]);
                draw.region(image, sample);
            }
            drawn.push(draw.stages);
        }
        // T counts the extras of all views, so that every view's batch has the same length.
        let (n, t) = (samples.len(), samples.len() + extras.len());
        let plans = drawn.iter().map(|stages| MixturePlan::from_sparse(stages, t, n)).collect();
        Planned { plans, extras, ..Planned::default() }
    }
}

impl V1 {
    fn empty_stages(&self) -> SparseStages {
        let attempts = [self.global.as_ref().map_or(0, |g| g.attempts), self.region.as_ref().map_or(0, |r| r.attempts)];
        attempts.map(|count| vec![Vec::new(); count as usize]).into()
    }
}

/// The drawing of one plan.
struct Draw<'a> {
    policy: &'a V1,
    ctx: &'a Context,
    view: Option<u32>,
    n: usize,
    extras: &'a mut Vec<Extra>,
    stages: SparseStages,
}

impl Draw<'_> {
    /// Global attempts of `image`, which belongs to `owner`; `path` = [region attempt] when it is the partner of one.
    fn global(&mut self, image: usize, owner: u32, path: &[u64]) {
        let Some(config) = &self.policy.global else { return };
        for attempt in 0..u64::from(config.attempts) {
            let mut stream = self.stream(Purpose::MixGlobal, owner, &[path, &[attempt]].concat());
            if !stream.gate(config.prob) {
                continue;
            }
            let lambda = stream.beta(config.alpha);
            let steps: Vec<u64> = path.iter().flat_map(|&a| [REGION, a]).chain([GLOBAL, attempt]).collect();
            let partner = self.partner(&mut stream, owner, &steps);
            self.stages[0][attempt as usize].push((image, Row::blend(partner, lambda)));
        }
    }

    /// Region attempts of the batch image `image`. The weight only sizes the box and is never adjusted to it.
    fn region(&mut self, image: usize, owner: u32) {
        let Some(config) = &self.policy.region else { return };
        for attempt in 0..u64::from(config.attempts) {
            let mut stream = self.stream(Purpose::MixRegion, owner, &[attempt]);
            if !stream.gate(config.prob) {
                continue;
            }
            let lambda = stream.beta(config.beta);
            let partner = self.partner(&mut stream, owner, &[REGION, attempt]);
            let (h, w) = (self.ctx.height, self.ctx.width);
            let (cy, cx) = (stream.below(h as u64) as usize, stream.below(w as u64) as usize);
            // Only the first attempt ever dims the own image, and not for a later one that happens alone.
            let own_scale = if attempt == 0 { config.decay as f32 } else { 1.0 };
            let row = Row { own_scale, ..Row::paste(partner, lambda, cut_box(h, w, lambda, cy, cx).2) };
            self.stages[1][attempt as usize].push((image, row));
            if self.policy.partner == Partner::Dataset {
                self.global(partner as usize, owner, &[attempt]);
            }
        }
    }

    /// Draws a partner (the own image allowed) and says which image of the batch it is.
    fn partner(&mut self, stream: &mut Stream, owner: u32, steps: &[u64]) -> u32 {
        match self.policy.partner {
            Partner::Batch => stream.below(self.n as u64) as u32,
            Partner::Dataset => {
                let index = stream.below(self.ctx.dataset as u64) as u32;
                self.extras.push(Extra { index, path: key(self.ctx, owner, None, steps), view: self.view });
                (self.n + self.extras.len() - 1) as u32
            }
        }
    }

    fn stream(&self, purpose: Purpose, owner: u32, path: &[u64]) -> Stream {
        Stream::new(self.ctx.seed, purpose, &key(self.ctx, owner, self.view, path))
    }
}

#[cfg(test)]
#[path = "v1_tests.rs"]
mod tests;
