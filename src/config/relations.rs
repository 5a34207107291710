//! Values of a config that are fine alone and not together.

use super::RunConfig;
use crate::augment::CropGroup;
use crate::colour::ColorSpace;
use crate::kernel::Op;
use crate::method::Under;
use crate::method::swav::MOST_SIZES;
use crate::mixture::config::Form;
use crate::mixture::{MixtureConfig, Name as MixtureName};
use crate::optim::PartConfig;
use crate::unread::Unread;

impl RunConfig {
    /// One line per pair of values that contradict each other, and per key that another table keeps from being read.
    pub(super) fn relations(&self, out: &mut Vec<String>) {
        self.batches(out);
        self.nets(out);
        self.mixtures(out);
        self.views(out);
        self.unread(out);
        self.rates(out);
    }

    /// Number and sizes of the views.
    fn views(&self, out: &mut Vec<String>) {
        let groups = self.views.crops.as_deref().unwrap_or_default();
        let own = |(number, group): (usize, &CropGroup)| Some((format!("views.crops.{number}.size"), group.size?));
        let mut sizes = vec![("views.crop.size".to_owned(), self.views.crop.size)];
        sizes.extend(groups.iter().enumerate().filter_map(own).filter(|(_, size)| *size != self.views.crop.size));
        for (key, size) in &sizes {
            if let Err(why) = self.model.shape(3).accepts(*size, *size) {
                let name = self.model.name.text();
                out.push(format!("`{key}` is {size}, but `model.name` = {name} does not take it: {why}"));
            }
        }
        let mut seen: Vec<(usize, usize)> = Vec::new();
        for one in self.view_sizes().chunk_by(|a, b| a == b).map(|same| same[0]) {
            if seen.contains(&one) {
                out.push(format!(
                    "`views.crops` comes back to views of {}: put all groups of one size together, they share a forward",
                    one.0
                ));
            }
            seen.push(one);
        }
        if seen.len() > MOST_SIZES {
            out.push(format!("`views.crops` has views of {} sizes, at most {MOST_SIZES} may be", seen.len()));
        }
        let (name, views) = (self.method.name(), self.method.views());
        if let Some(count) = groups.first().map(|group| group.count).filter(|count| (1..views).contains(count)) {
            out.push(format!("`views.crops.0.count` is {count}, but `method.name` = {name} compares {views} views of full size"));
        }
        // A plan's boxes are of one size; only Un-Mix says what is mixed where there are several.
        if let (Some((_, size)), false) = (sizes.get(1), matches!(self.mixture.name, MixtureName::None | MixtureName::Unmix)) {
            out.push(format!(
                "`mixture.name` = {} mixes views of one size, but `views.crops` has {} and {size}: choose unmix or none, or views of one size",
                self.mixture.name.text(),
                self.views.crop.size
            ));
        }
    }

    /// Groups of batch norm: 1 where the backbone has none.
    fn groups(&self) -> usize {
        if self.model.shape(3).has_batch_norm() { self.model.bn_splits.max(1) } else { 1 }
    }

    /// Batches and groups.
    fn batches(&self, out: &mut Vec<String>) {
        let (batch, splits) = (self.data.batch, self.groups());
        if batch > 0 && !batch.is_multiple_of(splits) {
            let below = batch / splits * splits;
            let fitting = if below == 0 { splits.to_string() } else { format!("{below} or {}", below + splits) };
            out.push(format!(
                "`data.batch` {batch} is not a multiple of `model.bn_splits` {splits}: use {fitting}, or other groups (1 is plain batch norm, \
                 with which MoCo leaks on one device)"
            ));
        }
        if batch > 0 && batch / splits < 2 && splits > 1 {
            out.push(format!("`model.bn_splits` {splits} leaves {} image per group of `data.batch` {batch}", batch / splits));
        }
        out.extend(self.data.micro_batch.and_then(|micro| shard_problem(batch, micro, splits)));
        if self.data.micro_batch.is_some_and(|micro| micro != batch) && !self.method.takes_parts(&self.model.head) {
            out.push(
                "`data.micro_batch` is set, but norms in the head or the predictor take their statistics from the whole batch: no accumulation \
                 equals it; leave it out, or use a head without norms"
                    .into(),
            );
        }
        if splits > 1 && !self.data.drop_last {
            out.push("`data.drop_last` = false needs `model.bn_splits` = 1: a last batch of any size cannot be split".into());
        }
        let (form, name) = (self.mixture.form(), self.mixture.name.text());
        if batch == 1 && self.method.needs_two(&self.model.head) {
            let name = self.method.name();
            out.push(format!(
                "`data.batch` is 1, but `method.name` = {name} compares images of a batch, or normalises over them: use at least 2"
            ));
        }
        if !matches!(form, Form::None | Form::Input) && batch < 2 {
            out.push(format!("`mixture.name` = \"{name}\" needs `data.batch` of at least 2"));
        }
        if form == Form::Mixco && !batch.is_multiple_of(2) {
            let fact = format!("`mixture.name` = \"{name}\" mixes one half of a batch with the other, but `data.batch` is {batch}");
            out.push(format!("{fact}: use {} or {}", batch - 1, batch + 1));
        }
        if form == Form::Mixco && !self.data.drop_last {
            out.push(format!(
                "`data.drop_last` = false may leave an odd last batch, of which `mixture.name` = \"{name}\" has no halves"
            ));
        }
    }

    /// What the method demands of model and views.
    fn nets(&self, out: &mut Vec<String>) {
        let (name, splits) = (self.method.name(), self.method.splits_views());
        let split_views = self.model.split_views.unwrap_or(splits);
        if split_views != splits {
            out.push(format!(
                "`model.split_views` is {split_views}, but the method `{name}` trains {}",
                if split_views { "one net" } else { "two nets, each on its own channels" }
            ));
        }
        if splits && self.model.weights.is_some() {
            out.push(format!("`model.weights` holds one encoder, `method.name` = \"{name}\" trains several: leave it out"));
        }
        if self.method.demands().splits_colours && self.views.color_space == ColorSpace::Rgb {
            out.push(format!(
                "`method.name` = \"{name}\" needs a colour space to split: `views.color_space` = \"rgb\" is none, lab (the default) and ycbcr \
                 are"
            ));
        }
    }

    /// Whether the method has terms for the mixture, and the batch the rows.
    fn mixtures(&self, out: &mut Vec<String>) {
        let (mixture, method, batch, splits) = (self.mixture.name.text(), self.method.name(), self.data.batch, self.groups());
        if let Some(why) = self.method.refuses(self.mixture.form()) {
            out.push(format!("`mixture.name` = {mixture} means nothing to `method.name` = {method}: {why}"));
        }
        if self.mixture.form() == Form::Mixco {
            if batch.is_multiple_of(2) && !(batch / 2 * 3).is_multiple_of(splits) {
                out.push(format!(
                    "`mixture.name` = mixco encodes a batch and its mixtures at once, {} rows of `data.batch` {batch}, which is no multiple of \
                     `model.bn_splits` {splits}",
                    batch / 2 * 3
                ));
            }
            if self.shards() > 1 {
                out.push(
                    "`data.micro_batch` is set, but MixCo encodes images and mixtures of the whole batch at once: leave it out"
                        .into(),
                );
            }
        }
        if self.mixture.name == MixtureName::Unmix && self.mixture.per_sample_lambda && !self.method.weighs_rows() {
            out.push(format!(
                "`mixture.per_sample_lambda` is set, but the loss of `method.name` = {method} is no mean over images, which could have weights of \
                 their own: leave it out"
            ));
        }
        let views = self.crops();
        if let Some(most) = self.method.assigning().iter().max().filter(|most| **most >= views[0]) {
            out.push(format!(
                "`method.assign_crops` names crop {most}, but there are {} of the largest size, counted from 0",
                views[0]
            ));
        }
    }

    /// Keys that another table keeps from being read.
    fn unread(&self, out: &mut Vec<String>) {
        let (form, unmix) = (self.mixture.form(), self.mixture.name == MixtureName::Unmix);
        let under = Under { form, unmix, bn_groups: self.groups() > 1 };
        self.method.unread("method", &under, out);
        let because = format!("`method.name` = {} has one view", self.method.name());
        let (pair, crops) = (self.method.views() > 1, self.method.takes_crops());
        let several = pair || !self.mixture.may_share_views();
        Unread::of("mixture", out).key("share_views", !self.mixture.share_views, several, &because, "leave it out");
        let (default, baseline) = (MixtureConfig::default(), self.mixture.name == MixtureName::None);
        let choices = [
            (
                "branch",
                self.mixture.branch != default.branch,
                self.method.has_branches(),
                "only BYOL and SimSiam have two branches",
            ),
            ("anchor", self.mixture.anchor != default.anchor, self.method.has_anchor(), "the method leaves no choice of it"),
        ];
        for (key, set, has, because) in choices {
            let read = baseline || under.unmix && has;
            let because = if under.unmix { because } else { "only `mixture.name` = unmix reads it" };
            Unread::of("mixture", out).key(key, set, read, because, "leave it out");
        }
        let off = "`eval.enabled` = false asks nothing of labels";
        Unread::of("eval.monitor", out).key("linear", self.eval.monitor.linear, self.eval.enabled, off, "leave it out");
        Unread::of("views", out).key("second_recipe", self.views.second_recipe.is_some(), pair, &because, "leave it out");
        let because = format!("`method.name` = {} is defined on {} of an image", self.method.name(), counted(self.method.views()));
        Unread::of("views", out).key(
            "crops",
            self.views.crops.is_some(),
            crops,
            &because,
            "leave it out: `views.crop` is what they are like",
        );
        let because = "the method compares no features with drawn rows of a bank";
        let scores = self.method.demands().scores_rows;
        Unread::of("kernels", out).key("scores", self.kernels.of(Op::Bank).is_some(), scores, because, "leave it out");
    }

    /// Rates and decays that schedule or method keep from being read.
    fn rates(&self, out: &mut Vec<String>) {
        let (optim, schedule) = (&self.optim, &self.schedule);
        let decays = optim.weight_decay != 0.0 || schedule.weight_decay_final.is_some_and(|last| last != 0.0);
        let no_predictor = format!("the method `{}` has no predictor", self.method.name());
        let mut table = Unread::of("optim", out);
        table.key("no_decay", !optim.no_decay.is_empty(), decays, "`optim.weight_decay` is 0", "leave it out");
        for (part, PartConfig { lr, constant }) in optim.parts() {
            let there = part != "predictor" || self.method.demands().predictor;
            table.key(&format!("{part}.lr"), lr != 1.0, there, &no_predictor, "leave it out");
            table.key(&format!("{part}.constant"), constant, there, &no_predictor, "leave it out");
            let idle = constant && there;
            table.key(
                &format!("{part}.constant"),
                idle,
                !schedule.is_constant(),
                "no rate changes under `schedule`",
                "leave it out",
            );
        }
    }
}

/// So many views in words.
fn counted(views: usize) -> String {
    if views == 1 { "one view".to_owned() } else { format!("{views} views") }
}

/// Why micro-batches of `micro` images are not the batch, if they are not: exact accumulation needs whole SplitBN groups.
pub fn shard_problem(batch: usize, micro: usize, splits: usize) -> Option<String> {
    let group = batch / splits;
    if micro == 0 {
        return Some("`data.micro_batch` is 0, must be at least 1 (null: the whole batch at once)".into());
    }
    if splits == 1 && micro != batch {
        return Some(format!(
            "`data.micro_batch` is {micro}, but with `model.bn_splits` = 1 every image is normalised by the whole batch of {batch}: no \
             accumulation equals it; set model.bn_splits to at least {}",
            batch.div_ceil(micro)
        ));
    }
    let whole = batch.is_multiple_of(micro) && splits.is_multiple_of(batch / micro);
    (!whole).then(|| {
        let fitting: Vec<String> = (1..=splits).filter(|of| splits.is_multiple_of(*of)).map(|of| (batch / of).to_string()).collect();
        format!(
            "`data.micro_batch` is {micro}, but a micro-batch must be whole SplitBN groups ({splits} groups of {group} images, equally many in \
             each): use {}",
            fitting.join(", ")
        )
    })
}
