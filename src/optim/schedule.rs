//! Learning rates, weight decays and momenta of moving averages as pure functions of the position, so that a resume needs no schedule state.
//!
//! Epochs and steps count from 0 unless a name says otherwise; rates are absolute.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::OptimConfig;
use crate::unread::Unread;

/// How the rate changes after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It does not.
    Constant,
    /// Multiplied by `factor` after each of `milestones` completed epochs.
    Multistep,
    /// Half a cosine from the base rate to `final_lr`.
    #[default]
    Cosine,
}

/// Length and learning rate of a run. Exactly one of `epochs` and `steps` must be given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleConfig {
    /// Length in epochs.
    pub epochs: Option<u64>,
    /// Length in steps. A cosine then runs over steps.
    pub steps: Option<u64>,
    /// constant, multistep or cosine.
    pub kind: Kind,
    /// Completed epochs after which a multistep rate is multiplied by `factor`.
    pub milestones: Vec<u64>,
    /// The same as shares of the whole length, so that `epochs` alone sets a run's budget: [0.6, 0.8, 0.9] of 240 epochs are 144, 192, 216.
    pub milestones_at: Vec<f64>,
    /// Factor of a multistep rate.
    pub factor: f64,
    /// First epoch of a cosine per epoch: 0, or 1, which starts just below the base rate and spends the last epoch at `final_lr`.
    pub epoch_base: u64,
    /// Change a cosine every step instead of every epoch.
    pub per_step: bool,
    /// Length of the linear warm-up in epochs; fractions are allowed.
    pub warmup_epochs: f64,
    /// Rate of the first warm-up step; the last one has the base rate. Left out, step s of W has (s + 1) / W of the base rate.
    pub warmup_start: Option<f64>,
    /// Where a cosine ends.
    pub final_lr: f64,
    /// Where weight decay ends: half a cosine over the steps of the run that begins at `optim.weight_decay` (DINO, arXiv 2104.14294, section 3.2).
    /// Default: it does not change.
    pub weight_decay_final: Option<f64>,
}

/// What the parameters move by in one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Learning rate as the schedule has it in this step.
    pub scheduled: f64,
    /// Learning rate without schedule and warm-up, for parts whose rate is constant.
    pub base: f64,
    /// Weight decay of this step; `None`: that of `optim.weight_decay`.
    pub weight_decay: Option<f64>,
}

/// One rate for all parts.
impl From<f64> for Rates {
    fn from(lr: f64) -> Self {
        Self { scheduled: lr, base: lr, weight_decay: None }
    }
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            epochs: None,
            steps: None,
            kind: Kind::Cosine,
            milestones: Vec::new(),
            milestones_at: Vec::new(),
            factor: 0.1,
            epoch_base: 0,
            per_step: false,
            warmup_epochs: 0.0,
            warmup_start: None,
            final_lr: 0.0,
            weight_decay_final: None,
        }
    }
}

impl ScheduleConfig {
    /// Steps of the whole run.
    pub fn total_steps(&self, steps_per_epoch: u64) -> u64 {
        self.steps.unwrap_or_else(|| self.epochs.unwrap_or(0).saturating_mul(steps_per_epoch))
    }

    /// The rate of `step` (from 0) in a run of `total_steps`, for the base rate `base_lr`.
    pub fn lr(&self, base_lr: f64, step: u64, steps_per_epoch: u64, total_steps: u64) -> f64 {
        let steps_per_epoch = steps_per_epoch.max(1);
        let warmup = (self.warmup_epochs * steps_per_epoch as f64).round() as u64;
        let epoch = step / steps_per_epoch;
        match self.kind {
            _ if step < warmup => self.warmup(base_lr, step, warmup),
            Kind::Constant => base_lr,
            Kind::Multistep => multistep(base_lr, &self.milestones_of(total_steps.div_ceil(steps_per_epoch)), self.factor, epoch),
            Kind::Cosine if self.is_per_step() => cosine(base_lr, self.final_lr, step - warmup, total_steps.saturating_sub(warmup)),
            Kind::Cosine => cosine(base_lr, self.final_lr, epoch + self.epoch_base, total_steps.div_ceil(steps_per_epoch)),
        }
    }

    /// What `step` (from 0) of a run of `total_steps` moves parameters by.
    pub fn rates(&self, optim: &OptimConfig, step: u64, steps_per_epoch: u64, total_steps: u64) -> Rates {
        Rates {
            scheduled: self.lr(optim.lr, step, steps_per_epoch, total_steps),
            base: optim.lr,
            weight_decay: self.weight_decay_final.map(|last| cosine(optim.weight_decay, last, step, total_steps)),
        }
    }

    /// Whether the rate is that of `optim.lr` in every step.
    pub fn is_constant(&self) -> bool {
        let falls = match self.kind {
            Kind::Constant => false,
            Kind::Multistep => !(self.milestones.is_empty() && self.milestones_at.is_empty()),
            Kind::Cosine => true,
        };
        !falls && self.warmup_epochs == 0.0
    }

    /// Completed epochs after which the rate changes, in a run of `epochs`.
    fn milestones_of(&self, epochs: u64) -> Vec<u64> {
        let shares = self.milestones_at.iter().map(|share| (share * epochs as f64).round() as u64);
        self.milestones.iter().copied().chain(shares).collect()
    }

    fn is_per_step(&self) -> bool {
        self.per_step || self.epochs.is_none()
    }

    fn warmup(&self, base_lr: f64, step: u64, warmup: u64) -> f64 {
        match self.warmup_start {
            Some(start) => warmup_inclusive(base_lr, start, step, warmup),
            None => warmup_next(base_lr, step, warmup),
        }
    }

    /// Pushes one line per value that is out of range or has no effect; `at` is the path of this table.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        match (self.epochs, self.steps) {
            (None, None) => out.push(format!("neither `{at}.epochs` nor `{at}.steps` is set, one of them must be")),
            (Some(_), Some(_)) => out.push(format!("`{at}.epochs` and `{at}.steps` are both set, only one of them may be")),
            (Some(0), None) => out.push(format!("`{at}.epochs` is 0, must be at least 1")),
            (None, Some(0)) => out.push(format!("`{at}.steps` is 0, must be at least 1")),
            _ => {}
        }
        let mut require = |valid: bool, key: &str, value: &dyn std::fmt::Debug, rule: &str| {
            if !valid {
                out.push(format!("`{at}.{key}` is {value:?}, must be {rule}"));
            }
        };
        let not_negative = |x: f64| x >= 0.0 && x.is_finite();
        require(self.factor > 0.0 && self.factor.is_finite(), "factor", &self.factor, "above 0");
        require(self.epoch_base <= 1, "epoch_base", &self.epoch_base, "0 or 1");
        require(not_negative(self.final_lr), "final_lr", &self.final_lr, "at least 0");
        let decay = self.weight_decay_final;
        require(decay.is_none_or(not_negative), "weight_decay_final", &decay.unwrap_or(0.0), "at least 0");
        require(not_negative(self.warmup_epochs), "warmup_epochs", &self.warmup_epochs, "at least 0");
        require(self.warmup_start.is_none_or(not_negative), "warmup_start", &self.warmup_start.unwrap_or(0.0), "at least 0");
        require(self.milestones.is_sorted(), "milestones", &self.milestones, "in ascending order");
        let shares = &self.milestones_at;
        let valid = shares.is_sorted() && shares.iter().all(|share| *share > 0.0 && *share < 1.0);
        require(valid, "milestones_at", shares, "shares between 0 and 1 in ascending order");
        require(shares.is_empty() || self.milestones.is_empty(), "milestones_at", shares, "empty where `milestones` is set");
        if let Some(epochs) = self.epochs {
            require(
                self.warmup_epochs <= epochs as f64,
                "warmup_epochs",
                &self.warmup_epochs,
                &format!("at most the {epochs} epochs"),
            );
        }
        self.unread(at, out);
    }

    fn unread(&self, at: &str, out: &mut Vec<String>) {
        let default = Self::default();
        let (steps, cosine, warms_up) = (self.kind == Kind::Multistep, self.kind == Kind::Cosine, self.warmup_epochs > 0.0);
        let kind = match self.kind {
            Kind::Constant => "constant",
            Kind::Multistep => "multistep",
            Kind::Cosine => "cosine",
        };
        let mut table = Unread::of(at, out);
        table.variant("milestones", !self.milestones.is_empty(), "kind", kind, &["multistep"]);
        table.variant("milestones_at", !self.milestones_at.is_empty(), "kind", kind, &["multistep"]);
        table.variant("factor", self.factor != default.factor, "kind", kind, &["multistep"]);
        table.variant("final_lr", self.final_lr != default.final_lr, "kind", kind, &["cosine"]);
        table.variant("per_step", self.per_step, "kind", kind, &["cosine"]);
        let milestones = !(self.milestones.is_empty() && self.milestones_at.is_empty());
        table.key("factor", steps && self.factor != default.factor, milestones, "there are no milestones", "set `milestones_at`");
        let per_epoch = cosine && !self.is_per_step();
        table.key(
            "epoch_base",
            self.epoch_base != default.epoch_base,
            per_epoch,
            "only a cosine per epoch reads it",
            "leave it out",
        );
        let because = format!("`{at}.warmup_epochs` is 0");
        table.key("warmup_start", self.warmup_start.is_some(), warms_up, &because, "leave it out, or set both");
        if per_epoch && warms_up {
            out.push(format!("`{at}.warmup_epochs` with a cosine needs `{at}.per_step` = true"));
        }
    }
}

/// How the momentum of a moving average changes from a base to a final value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MomentumSchedule {
    /// It does not.
    #[default]
    Constant,
    /// Half a cosine per step, the first average at the base value (BYOL, arXiv 2006.07733, section 3.3).
    Cosine,
    /// The same per epoch (htdt/self-supervised).
    CosineEpoch,
    /// Half a cosine per step that is one step ahead, so that the last average has the final value (i-Mix, arXiv 2010.08887).
    CosineNext,
}

impl MomentumSchedule {
    /// The momentum of the average that follows `step` (from 0) of a run of `total_steps`, on the way from `base` to `last`.
    pub fn at(self, base: f64, last: f64, step: u64, steps_per_epoch: u64, total_steps: u64) -> f64 {
        match self {
            Self::Constant => base,
            Self::Cosine => ema_cosine_step(base, last, step, total_steps),
            Self::CosineNext => ema_cosine_step_next(base, last, step, total_steps),
            Self::CosineEpoch => {
                let steps_per_epoch = steps_per_epoch.max(1);
                ema_cosine_epoch(base, last, step / steps_per_epoch, total_steps.div_ceil(steps_per_epoch))
            }
        }
    }
}

/// `last - (last - base)(1 + cos(pi step / total)) / 2`, `step` being the steps done before this one.
pub fn ema_cosine_step(base: f64, last: f64, step: u64, total: u64) -> f64 {
    cosine(base, last, step, total)
}

/// The same with `step + 1` in place of `step`.
pub fn ema_cosine_step_next(base: f64, last: f64, step: u64, total: u64) -> f64 {
    cosine(base, last, step.saturating_add(1), total)
}

/// The same with epochs in place of steps, `epoch` from 0.
pub fn ema_cosine_epoch(base: f64, last: f64, epoch: u64, epochs: u64) -> f64 {
    cosine(base, last, epoch, epochs)
}

/// `lr * factor^(milestones <= epoch)`, epochs from 0: a milestone m acts after m completed epochs.
pub fn multistep(lr: f64, milestones: &[u64], factor: f64, epoch: u64) -> f64 {
    milestones.iter().filter(|&&milestone| milestone <= epoch).fold(lr, |lr, _| lr * factor)
}

/// `lr * factor^(milestones < epoch)`, epochs from 1: the older way of counting. Agrees with [`multistep`] epoch by epoch.
pub fn multistep_legacy(lr: f64, milestones: &[u64], factor: f64, epoch: u64) -> f64 {
    milestones.iter().filter(|&&milestone| milestone < epoch).fold(lr, |lr, _| lr * factor)
}

/// Half a cosine from `lr` to 0 over `epochs`, for an epoch in 0..epochs.
pub fn cosine_epoch_0based(lr: f64, epoch: u64, epochs: u64) -> f64 {
    cosine(lr, 0.0, epoch, epochs)
}

/// The same for an epoch in 1..=epochs: the last one has rate 0.
pub fn cosine_epoch_1based(lr: f64, epoch: u64, epochs: u64) -> f64 {
    cosine(lr, 0.0, epoch, epochs)
}

/// Warm-up to `lr` over `warmup` of `total` steps, step s having `(s + 1) / warmup` of it, then half a cosine to `final_lr`.
pub fn cosine_step_warmup_next(lr: f64, final_lr: f64, step: u64, warmup: u64, total: u64) -> f64 {
    if step < warmup { warmup_next(lr, step, warmup) } else { cosine(lr, final_lr, step - warmup, total.saturating_sub(warmup)) }
}

/// Warm-up from `start` at step 0 to `lr` at step `warmup - 1`, then half a cosine to `final_lr` (arXiv 2006.09882).
pub fn cosine_step_warmup_inclusive(lr: f64, start: f64, final_lr: f64, step: u64, warmup: u64, total: u64) -> f64 {
    if step < warmup {
        warmup_inclusive(lr, start, step, warmup)
    } else {
        cosine(lr, final_lr, step - warmup, total.saturating_sub(warmup))
    }
}

fn warmup_next(lr: f64, step: u64, warmup: u64) -> f64 {
    lr * (step + 1) as f64 / warmup as f64
}

fn warmup_inclusive(lr: f64, start: f64, step: u64, warmup: u64) -> f64 {
    // A single step has no room for both ends and takes the start.
    start + (lr - start) * step as f64 / warmup.saturating_sub(1).max(1) as f64
}

/// `last + (first - last)(1 + cos(pi at / length)) / 2`; stays at `last` beyond the end.
fn cosine(first: f64, last: f64, at: u64, length: u64) -> f64 {
    let part = at.min(length) as f64 / length.max(1) as f64;
    // libm: the same bits on every platform.
    last + (first - last) * (0.5 * (1.0 + libm::cos(std::f64::consts::PI * part)))
}

#[cfg(test)]
mod tests;
