//! Values of a config that are fine alone and not together.

use super::RunConfig;
use crate::colour::ColorSpace;
use crate::kernel::Op;
use crate::method::Under;
use crate::mixture::Name as MixtureName;
use crate::unread::Unread;

impl RunConfig {
    /// One line per pair of values that contradict each other, and per key that another table keeps from being read.
    pub(super) fn relations(&self, out: &mut Vec<String>) {
        self.batches(out);
        self.nets(out);
        let (height, width) = self.view_size();
        if let Err(why) = self.model.shape(3).accepts(height, width) {
            let name = self.model.name.text();
            out.push(format!("`views.crop.size` is {height}, but `model.name` = {name} does not take it: {why}"));
        }
        self.unread(out);
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
        if splits > 1 && !self.data.drop_last {
            out.push("`data.drop_last` = false needs `model.bn_splits` = 1: a last batch of any size cannot be split".into());
        }
        if self.mixture.name == MixtureName::Unmix && batch < 2 {
            out.push("`mixture.name` = \"unmix\" needs `data.batch` of at least 2".into());
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

    /// Keys that another table keeps from being read.
    fn unread(&self, out: &mut Vec<String>) {
        let under = Under { unmix: self.mixture.name == MixtureName::Unmix, bn_groups: self.groups() > 1 };
        self.method.unread("method", &under, out);
        let because = format!("`method.name` = {} has one view", self.method.name());
        let several = self.method.views() > 1 || under.unmix || self.mixture.name == MixtureName::None;
        Unread::of("mixture", out).key("share_views", !self.mixture.share_views, several, &because, "leave it out");
        let because = "the method compares no features with drawn rows of a bank";
        let scores = self.method.demands().scores_rows;
        Unread::of("kernels", out).key("scores", self.kernels.of(Op::Bank).is_some(), scores, because, "leave it out");
    }
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
