//! Updates of the weights: schedules as pure functions of the step, and optimizers as rules on one tensor.
//!
//! A [`Rule`] sees one parameter, its gradient and its slots (what it remembers of that parameter, such as a velocity). [`Optimizer`] walks
//! over all parameters, keeps the slots by name, and knows which [`Role`] each has.

pub mod schedule;
pub mod sgd;

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kernel::{KernelPath, update};
use crate::model::Role;
use crate::model::state::{AnyTensor, NamedGradients, StateDict, Taken, Trained, spoilt};
use crate::model::tensors::{SANE, bad_value};
use crate::unread::Unread;

pub use schedule::ScheduleConfig;
pub use sgd::Sgd;

/// Which parameters weight decay leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoDecay {
    /// Scale and shift of the norms.
    Norm,
    /// All biases, the norms' shifts included.
    Bias,
}

/// `optim`: SGD as in the programs of 2003.05438 and MoCo (momentum .9, no dampening, no Nesterov, decay on all parameters).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OptimConfig {
    /// Base learning rate; `schedule` scales it.
    pub lr: f64,
    /// Momentum.
    pub momentum: f64,
    /// L2 penalty, added to the gradient before the momentum.
    pub weight_decay: f64,
    /// What weight decay leaves out; the references leave out nothing.
    pub no_decay: Vec<NoDecay>,
    /// Largest norm of the gradient over all parameters: a larger gradient is scaled down to it, as PyTorch's `clip_grad_norm_` does,
    /// before decay and momentum. Default: no limit.
    pub clip_norm: Option<f64>,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self { lr: 0.03, momentum: 0.9, weight_decay: 1e-4, no_decay: Vec::new(), clip_norm: None }
    }
}

impl OptimConfig {
    /// One line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            out.push(format!("`{at}.lr` is {}, must be above 0", self.lr));
        }
        if !(0.0..1.0).contains(&self.momentum) {
            out.push(format!("`{at}.momentum` is {}, must be in [0, 1)", self.momentum));
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            out.push(format!("`{at}.weight_decay` is {}, must not be negative", self.weight_decay));
        }
        let (because, decays) = (format!("`{at}.weight_decay` is 0"), self.weight_decay != 0.0);
        Unread::of(at, out).key("no_decay", !self.no_decay.is_empty(), decays, &because, "leave it out");
        if let Some(norm) = self.clip_norm.filter(|norm| !(*norm > 0.0 && norm.is_finite())) {
            out.push(format!("`{at}.clip_norm` is {norm}, must be above 0"));
        }
    }

    /// The rule that the config names.
    fn rule(&self) -> Box<dyn Rule> {
        Box::new(Sgd { momentum: self.momentum })
    }

    /// The factor on all gradients whose norm over all parameters is `norm`: `min(1, clip_norm / (norm + 1e-6))`.
    pub fn clip(&self, norm: f64) -> f64 {
        self.clip_norm.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0))
    }

    /// Whether weight decay applies to a parameter of this role.
    fn decays(&self, role: Role) -> bool {
        !self.no_decay.iter().any(|left_out| match left_out {
            NoDecay::Norm => matches!(role, Role::Scale | Role::Shift),
            NoDecay::Bias => matches!(role, Role::Bias | Role::Shift),
        })
    }
}

/// A parameter on its way through a step. All tensors are flat, of equal length, and outside any graph.
#[derive(Debug, Clone)]
pub struct Moving {
    /// Its value.
    pub weight: Tensor<1>,
    /// Its gradient.
    pub gradient: Tensor<1>,
    /// What the rule remembers of it, in the order of [`Rule::slots`]; `None` before its first step.
    pub slots: Option<Vec<Tensor<1>>>,
    /// L2 penalty of this parameter, 0 where weight decay leaves it out.
    pub weight_decay: f64,
}

/// How parameters move.
pub trait Rule: Send {
    /// Names of what it remembers of a parameter; a checkpoint holds `optim.SLOT.PARAMETER`.
    fn slots(&self) -> &'static [&'static str];

    /// The next weight of each parameter, and the next values of its slots, at the learning rate `lr`. `path` is the implementation of the
    /// update.
    fn step(&self, moving: Vec<Moving>, lr: f64, path: KernelPath) -> Vec<(Tensor<1>, Vec<Tensor<1>>)>;
}

/// A rule with what it remembers of every parameter.
pub struct Optimizer {
    config: OptimConfig,
    rule: Box<dyn Rule>,
    slots: BTreeMap<String, Vec<AnyTensor>>,
    /// The implementation of the updates; that of the parameters' device by default.
    path: Option<KernelPath>,
}

/// Prefix of the optimizer's tensors in a checkpoint.
const PREFIX: &str = "optim.";
/// The prefix of checkpoints written before there were rules: the velocities of SGD.
const OLD_PREFIX: &str = "velocity.";

/// Whether a tensor of a checkpoint is the optimizer's.
pub fn is_slot(name: &str) -> bool {
    name.starts_with(PREFIX) || name.starts_with(OLD_PREFIX)
}

impl Optimizer {
    /// Without memory of any parameter.
    pub fn new(config: OptimConfig) -> Self {
        Self { rule: config.rule(), config, slots: BTreeMap::new(), path: None }
    }

    /// The same with a path of its updates asked for.
    #[must_use]
    pub fn on_path(mut self, path: KernelPath) -> Self {
        self.path = Some(path);
        self
    }

    /// The implementation of updates on a device.
    pub fn path(&self, device: &Device) -> KernelPath {
        self.path.unwrap_or_else(|| update::fastest(device))
    }

    /// Moves every parameter that has a gradient; the others stay as they are.
    pub fn step(&mut self, trained: &mut dyn Trained, mut gradients: NamedGradients, lr: f64) {
        let Some(device) = gradients.values().next().map(Tensor::device) else { return };
        let path = self.path(&device);
        let Self { config, rule, slots, .. } = self;
        trained.edit(&mut |taken| {
            let (mut moving, mut moved, mut next) = (Vec::new(), Vec::new(), Vec::new());
            for (at, Taken { name, role, value }) in taken.into_iter().enumerate() {
                let Some(gradient) = gradients.remove(&name) else {
                    next.push(Some(value));
                    continue;
                };
                let known = slots.remove(&name).map(|slots| slots.into_iter().map(|slot| slot.0).collect());
                let weight_decay = if config.decays(role) { config.weight_decay } else { 0.0 };
                moving.push(Moving { weight: value.0, gradient, slots: known, weight_decay });
                moved.push((at, name));
                next.push(None);
            }
            for ((at, name), (weight, kept)) in moved.into_iter().zip(rule.step(moving, lr, path)) {
                slots.insert(name, kept.into_iter().map(AnyTensor).collect());
                next[at] = Some(AnyTensor(weight));
            }
            next.into_iter().map(|value| value.expect("a rule moves every parameter it gets")).collect()
        });
    }

    /// What it remembers, flat, as `optim.SLOT.PARAMETER`.
    pub fn state(&self) -> StateDict {
        let named = |name: &String, values: &Vec<AnyTensor>| -> Vec<_> {
            let slots = self.rule.slots().iter().zip(values);
            slots.map(|(slot, value)| (format!("{PREFIX}{slot}.{name}"), value.0.to_data())).collect()
        };
        self.slots.iter().flat_map(|(name, values)| named(name, values)).collect()
    }

    /// Puts what a checkpoint says back, onto `device`. Other tensors of the checkpoint are passed over; those of programs before there were
    /// rules (`velocity.PARAMETER`) are the slot `v`.
    ///
    /// # Errors
    /// A slot of a parameter that is not trained, or of another size, with a value that is not finite, or without its companions.
    pub fn restore(&mut self, state: &StateDict, trained: &dyn Trained, device: &Device) -> Result<()> {
        let sizes = trained.sizes();
        let wrong = |fact: String| {
            Err(Error::input(format!("the checkpoint's optimizer does not fit the run: {fact}")).hint(
                "`model`, `method` and `optim` must be those of the checkpoint; `model.weights` starts a new run from its weights",
            ))
        };
        let mut found: BTreeMap<String, BTreeMap<String, AnyTensor>> = BTreeMap::new();
        for (key, data) in state {
            let slot_and_name = match (key.strip_prefix(PREFIX), key.strip_prefix(OLD_PREFIX)) {
                (Some(rest), _) => rest.split_once('.'),
                (None, Some(name)) => Some(("v", name)),
                (None, None) => continue,
            };
            let Some((slot, name)) = slot_and_name else { return wrong(format!("`{key}` names no parameter")) };
            match sizes.get(name) {
                None => return wrong(format!("`{key}` belongs to no trained parameter")),
                Some(size) if *size != data.num_elements() => {
                    return wrong(format!("`{key}` has {} values, the parameter {size}", data.num_elements()));
                }
                Some(_) if let Some(what) = bad_value(data, SANE) => return Err(spoilt(key, &what)),
                Some(_) => found.entry(name.to_owned()).or_default().insert(slot.to_owned(), AnyTensor::from_data(data, device)),
            };
        }
        let mut all = BTreeMap::new();
        for (name, mut slots) in found {
            let wanted: Option<Vec<AnyTensor>> = self.rule.slots().iter().map(|slot| slots.remove(*slot)).collect();
            match wanted.filter(|_| slots.is_empty()) {
                Some(values) => all.insert(name, values),
                None => return wrong(format!("of `{name}` it needs {:?} and nothing else", self.rule.slots())),
            };
        }
        self.slots = all;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
