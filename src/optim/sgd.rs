//! SGD with momentum and L2 weight decay, in PyTorch's form. The velocities are named like the weights they belong to, so that
//! a checkpoint holds them without private identifiers.

use burn::module::Module;
use burn::tensor::{Gradients, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

use crate::model::state::{AnyTensor, Path, StateDict, is_buffer, map_values};
use crate::unread::Unread;

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
pub struct SgdConfig {
    /// Base learning rate; `schedule` scales it.
    pub lr: f64,
    /// Momentum.
    pub momentum: f64,
    /// L2 penalty, added to the gradient before the momentum.
    pub weight_decay: f64,
    /// What weight decay leaves out; the references leave out nothing.
    pub no_decay: Vec<NoDecay>,
}

impl Default for SgdConfig {
    fn default() -> Self {
        Self { lr: 0.03, momentum: 0.9, weight_decay: 1e-4, no_decay: Vec::new() }
    }
}

impl SgdConfig {
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
    }
}

/// The optimizer and its velocities.
#[derive(Debug, Clone)]
pub struct Sgd {
    config: SgdConfig,
    velocity: BTreeMap<String, AnyTensor>,
}

impl Sgd {
    /// Without velocities: the first one is the plain gradient, as in PyTorch.
    pub fn new(config: SgdConfig) -> Self {
        Self { config, velocity: BTreeMap::new() }
    }

    /// `v <- momentum v + (g + weight_decay w)`, `w <- w - lr v`. Parameters without a gradient stay as they are.
    ///
    /// `gradients` must come from a backward pass through this very `model`.
    pub fn step<M: Module>(&mut self, model: M, gradients: &Gradients, lr: f64) -> M {
        let mut found = named_gradients(&model, gradients);
        let (momentum, decay) = (self.config.momentum, self.config.weight_decay);
        map_values(model, &mut |name, weight| {
            let Some(gradient) = found.remove(name) else { return weight };
            let gradient = if decay > 0.0 && self.decays(name) { gradient + weight.0.clone().mul_scalar(decay) } else { gradient };
            let velocity = match self.velocity.remove(name) {
                Some(old) => old.0.mul_scalar(momentum) + gradient,
                None => gradient,
            };
            self.velocity.insert(name.to_owned(), AnyTensor(velocity.clone()));
            AnyTensor(weight.0 - velocity.mul_scalar(lr))
        })
    }

    fn decays(&self, name: &str) -> bool {
        let norm = name.split('.').any(|part| part.starts_with("bn")) || name.contains("downsample.1.");
        let bias = name.ends_with(".bias");
        !self.config.no_decay.iter().any(|rule| match rule {
            NoDecay::Norm => norm,
            NoDecay::Bias => bias,
        })
    }

    /// The velocities, flat, by weight name.
    pub fn state(&self) -> StateDict {
        self.velocity.iter().map(|(name, v)| (name.clone(), v.0.to_data())).collect()
    }

    /// Puts saved velocities back, onto the device of `like`.
    pub fn restore(&mut self, state: &StateDict, device: &burn::tensor::Device) {
        self.velocity = state.iter().map(|(name, data)| (name.clone(), AnyTensor::from_data(data, device))).collect();
    }
}

/// The gradient of every parameter that has one, flat, by name.
pub fn named_gradients<M: Module>(model: &M, gradients: &Gradients) -> HashMap<String, Tensor<1>> {
    struct Visit<'a> {
        path: Path,
        gradients: &'a Gradients,
        found: HashMap<String, Tensor<1>>,
    }
    impl burn::module::ModuleVisitor for Visit<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            let name = self.path.name();
            if is_buffer(&name) {
                return;
            }
            if let Some(gradient) = param.val().grad(self.gradients) {
                self.found.insert(name, AnyTensor::new(gradient).0);
            }
        }
    }
    let mut visit = Visit { path: Path::default(), gradients, found: HashMap::new() };
    model.visit(&mut visit);
    visit.found
}
