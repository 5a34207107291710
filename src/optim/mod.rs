//! Updates of the weights: schedules as pure functions of the step, and optimizers as rules on flat tensors.
//!
//! A [`Rule`] sees parameters, their gradients, rates and slots (what it remembers of a parameter, such as a velocity). [`Optimizer`] walks
//! over all parameters, keeps the slots by name, and knows the [`Role`] of each, and with it its rate and its decay.

pub mod adam;
pub mod config;
pub mod lars;
pub mod schedule;
pub mod sgd;

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};

use crate::error::{Error, Result};
use crate::kernel::{KernelPath, update};
use crate::model::Role;
use crate::model::state::{AnyTensor, NamedGradients, StateDict, Taken, Trained, spoilt};
use crate::model::tensors::{SANE, bad_value};

pub use adam::Adam;
pub use config::{LarsNorm, Name, OneAxis, OptimConfig, PartConfig};
pub use lars::Lars;
pub use schedule::{MomentumSchedule, Rates, ScheduleConfig};
pub use sgd::Sgd;

/// A parameter on its way through a step. All tensors are flat, of equal length, and outside any graph.
#[derive(Debug, Clone)]
pub struct Moving {
    /// Its value.
    pub weight: Tensor<1>,
    /// Its gradient.
    pub gradient: Tensor<1>,
    /// What the rule remembers of it, in the order of [`Rule::slots`]; `None` before its first step.
    pub slots: Option<Vec<Tensor<1>>>,
    /// What it is for.
    pub role: Role,
    /// Its learning rate in this step.
    pub lr: f64,
    /// Its weight decay in this step, 0 where weight decay leaves it out.
    pub weight_decay: f64,
    /// The number of this update of it, from 1; 0 where the rule does not count them ([`Rule::counts`]).
    pub update: u64,
}

/// How parameters move.
pub trait Rule: Send {
    /// Names of what it remembers of a parameter; a checkpoint holds `optim.SLOT.PARAMETER`.
    fn slots(&self) -> &'static [&'static str];

    /// Whether it needs to know how often a parameter was moved; a checkpoint then holds `optim.t.PARAMETER`, too.
    fn counts(&self) -> bool {
        false
    }

    /// The next weight of each parameter, and the next values of its slots. `path` is the implementation of the update, where there are several.
    fn step(&self, moving: Vec<Moving>, path: KernelPath) -> Vec<(Tensor<1>, Vec<Tensor<1>>)>;
}

/// What a rule remembers of a parameter.
struct Memory {
    /// In the order of [`Rule::slots`].
    slots: Vec<AnyTensor>,
    /// Updates of it so far, where the rule counts them.
    updates: u64,
}

/// A rule with what it remembers of every parameter.
pub struct Optimizer {
    config: OptimConfig,
    rule: Box<dyn Rule>,
    memories: BTreeMap<String, Memory>,
    /// The implementation of the updates; that of the parameters' device by default.
    path: Option<KernelPath>,
}

/// Prefix of the optimizer's tensors in a checkpoint.
const PREFIX: &str = "optim.";
/// The number of updates of a parameter, among the slots of a checkpoint.
const COUNT: &str = "t";
/// The largest count: checkpoints hold f32, which is exact up to here. More updates do not change what Adam reads from it.
const MOST_UPDATES: u64 = 1 << 24;
/// The prefix of checkpoints written before there were rules: the velocities of SGD.
const OLD_PREFIX: &str = "velocity.";

/// Whether a tensor of a checkpoint is the optimizer's.
pub fn is_slot(name: &str) -> bool {
    name.starts_with(PREFIX) || name.starts_with(OLD_PREFIX)
}

impl Optimizer {
    /// Without memory of any parameter.
    pub fn new(config: OptimConfig) -> Self {
        Self { rule: config.rule(), config, memories: BTreeMap::new(), path: None }
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

    /// Moves every parameter that has a gradient; the others stay as they are: no decay, no momentum, no count.
    pub fn step(&mut self, trained: &mut dyn Trained, mut gradients: NamedGradients, rates: impl Into<Rates>) {
        let Some(device) = gradients.values().next().map(Tensor::device) else { return };
        let (path, rates) = (self.path(&device), rates.into());
        let Self { config, rule, memories, .. } = self;
        trained.edit(&mut |taken| {
            let (mut moving, mut moved, mut next) = (Vec::new(), Vec::new(), Vec::new());
            for (at, Taken { name, role, value }) in taken.into_iter().enumerate() {
                let Some(gradient) = gradients.remove(&name) else {
                    next.push(Some(value));
                    continue;
                };
                let (slots, before) = memories.remove(&name).map(|known| (known.slots, known.updates)).unzip();
                let slots = slots.map(|slots: Vec<AnyTensor>| slots.into_iter().map(|slot| slot.0).collect());
                let update = if rule.counts() { (before.unwrap_or(0) + 1).min(MOST_UPDATES) } else { 0 };
                let (lr, weight_decay) = (config.rate(&name, role, rates), config.decay(role, rates));
                moving.push(Moving { weight: value.0, gradient, slots, role, lr, weight_decay, update });
                moved.push((at, name, update));
                next.push(None);
            }
            for ((at, name, updates), (weight, kept)) in moved.into_iter().zip(rule.step(moving, path)) {
                memories.insert(name, Memory { slots: kept.into_iter().map(AnyTensor).collect(), updates });
                next[at] = Some(AnyTensor(weight));
            }
            next.into_iter().map(|value| value.expect("a rule moves every parameter it gets")).collect()
        });
    }

    /// What it remembers, flat, as `optim.SLOT.PARAMETER`.
    pub fn state(&self) -> StateDict {
        let mut state = StateDict::new();
        for (name, Memory { slots, updates }) in &self.memories {
            for (slot, value) in self.rule.slots().iter().zip(slots) {
                state.insert(format!("{PREFIX}{slot}.{name}"), crate::model::state::now(value.0.clone()));
            }
            if self.rule.counts() {
                state.insert(format!("{PREFIX}{COUNT}.{name}"), TensorData::new(vec![*updates as f32], [1]));
            }
        }
        state
    }

    /// Puts what a checkpoint says back, onto `device`. Other tensors of the checkpoint are passed over; those of programs before there were
    /// rules (`velocity.PARAMETER`) are the slot `v`.
    ///
    /// # Errors
    /// A slot of a parameter that is not trained, or of another size, with a value that is not finite, or without its companions; a count that
    /// is none.
    pub fn restore(&mut self, state: &StateDict, trained: &dyn Trained, device: &Device) -> Result<()> {
        let sizes = trained.sizes();
        let mut found: BTreeMap<&str, Saved> = BTreeMap::new();
        for (key, data) in state {
            let slot_and_name = match (key.strip_prefix(PREFIX), key.strip_prefix(OLD_PREFIX)) {
                (Some(rest), _) => rest.split_once('.'),
                (None, Some(name)) => Some(("v", name)),
                (None, None) => continue,
            };
            let Some((slot, name)) = slot_and_name else { return Err(unfit(format!("`{key}` names no parameter"))) };
            if !sizes.contains_key(name) {
                return Err(unfit(format!("`{key}` belongs to no trained parameter")));
            }
            found.entry(name).or_default().insert(slot, (key, data));
        }
        let memory = |(name, saved): (&str, Saved)| Ok((name.to_owned(), self.memory(name, &saved, sizes[name], device)?));
        self.memories = found.into_iter().map(memory).collect::<Result<_>>()?;
        Ok(())
    }

    /// What a checkpoint says of one parameter of `size` values.
    ///
    /// # Errors
    /// Other slots than those of the rule, or one of another size or with a value that it cannot have.
    fn memory(&self, name: &str, saved: &Saved, size: usize, device: &Device) -> Result<Memory> {
        let count = self.rule.counts().then_some(COUNT);
        let needs: Vec<&str> = self.rule.slots().iter().copied().chain(count).collect();
        if saved.len() != needs.len() || !needs.iter().all(|slot| saved.contains_key(slot)) {
            return Err(unfit(format!("of `{name}` it needs {needs:?} and nothing else")));
        }
        for (slot, (key, data)) in saved {
            let (whose, size) = if count == Some(*slot) { ("a count", 1) } else { ("the parameter", size) };
            if data.num_elements() != size {
                return Err(unfit(format!("`{key}` has {} values, {whose} {size}", data.num_elements())));
            }
            if let Some(what) = bad_value(data, SANE) {
                return Err(spoilt(key, &what));
            }
        }
        let slots = self.rule.slots().iter().map(|slot| AnyTensor::from_data(saved[slot].1, device)).collect();
        let updates = count.map_or(Ok(0), |count| updates(saved[count]))?;
        Ok(Memory { slots, updates })
    }
}

/// The tensors of a checkpoint that belong to one parameter, by their slots, with their whole names.
type Saved<'a> = BTreeMap<&'a str, (&'a str, &'a TensorData)>;

/// Why a checkpoint is not that of this run.
fn unfit(fact: String) -> Error {
    Error::input(format!("the checkpoint's optimizer does not fit the run: {fact}"))
        .hint("`model`, `method` and `optim` must be those of the checkpoint; `model.weights` starts a new run from its weights")
}

/// The number of updates that a tensor of a checkpoint says, one finite value.
///
/// # Errors
/// No whole number from 1 on, or one beyond what is ever saved.
fn updates((key, data): (&str, &TensorData)) -> Result<u64> {
    let value = data.as_slice::<f32>().map_or(f32::NAN, |values| values[0]);
    let valid = value.fract() == 0.0 && (1.0..=MOST_UPDATES as f32).contains(&value);
    if valid { Ok(value as u64) } else { Err(unfit(format!("`{key}` is {value}, no number of updates"))) }
}

#[cfg(test)]
mod tests;
