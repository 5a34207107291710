//! `optim`: which optimizer, its settings, and the rates and decays of single parameters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schedule::Rates;
use super::{Adam, Lars, Rule, Sgd};
use crate::model::Role;
use crate::unread::Unread;

/// The optimizers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    /// SGD with momentum; the L2 penalty is added to the gradient.
    #[default]
    Sgd,
    /// SGD on gradients that are scaled, layer by layer, by the ratio of the norms of weight and gradient (arXiv 1708.03888).
    Lars,
    /// Adam (arXiv 1412.6980); the L2 penalty is added to the gradient.
    Adam,
    /// Adam with decoupled weight decay (arXiv 1711.05101).
    Adamw,
}

impl Name {
    /// The word of the config.
    pub fn text(self) -> &'static str {
        match self {
            Self::Sgd => "sgd",
            Self::Lars => "lars",
            Self::Adam => "adam",
            Self::Adamw => "adamw",
        }
    }
}

/// Parameters with one axis, by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OneAxis {
    /// Scale and shift of the norms.
    Norm,
    /// All biases, the norms' shifts included.
    Bias,
}

impl OneAxis {
    /// Whether a parameter of this role is one of these.
    pub fn holds(self, role: Role) -> bool {
        match self {
            Self::Norm => matches!(role, Role::Scale | Role::Shift),
            Self::Bias => matches!(role, Role::Bias | Role::Shift),
        }
    }
}

/// What LARS divides the norm of a weight by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LarsNorm {
    /// The norm of the gradient plus weight decay times that of the weight (LARC of NVIDIA's apex, SwAV, solo-learn).
    #[default]
    Sum,
    /// The norm of the gradient with weight decay added (Barlow Twins, SimCLR).
    Decayed,
}

/// The rate of a part of what is trained.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PartConfig {
    /// Factor on the learning rate of this part.
    pub lr: f64,
    /// Whether the rate of this part stays at `optim.lr` times the factor instead of following the schedule, as that of SimSiam's predictor
    /// (arXiv 2011.10566, section 4.2).
    pub constant: bool,
}

impl Default for PartConfig {
    fn default() -> Self {
        Self { lr: 1.0, constant: false }
    }
}

/// A part of what is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The encoder up to its features.
    Backbone,
    /// From the features to the embedding, prototypes included.
    Head,
    /// From the embedding to a prediction of another one.
    Predictor,
}

impl Part {
    /// The part of a parameter, by the fields of the modules that hold it: `predictor.0.weight`, `prototypes.weight`, `query.fc.weight` of several
    /// modules, `fc.weight` of an encoder that is trained alone.
    fn of(name: &str) -> Self {
        let mut fields = name.split('.');
        match (fields.next(), fields.next()) {
            (Some("predictor"), _) => Self::Predictor,
            (Some("prototypes" | "fc"), _) | (_, Some("fc")) => Self::Head,
            _ => Self::Backbone,
        }
    }
}

/// `optim`: by default SGD as in the programs of 2003.05438 and MoCo (momentum .9, no dampening, no Nesterov, decay on all parameters).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OptimConfig {
    /// sgd, lars, adam or adamw.
    pub name: Name,
    /// Base learning rate; `schedule` scales it.
    pub lr: f64,
    /// Momentum of SGD and LARS.
    pub momentum: f64,
    /// Nesterov's momentum: SGD moves a weight by the gradient plus momentum times the new velocity.
    pub nesterov: bool,
    /// Adam's two factors: of the mean of the gradients and of the mean of their squares.
    pub betas: [f64; 2],
    /// What keeps a division from one by zero: added to the root of Adam's second moment, and to the denominator of LARS.
    pub eps: f64,
    /// Factor of LARS on the ratio of the norms (eta).
    pub trust: f64,
    /// Whether LARS bounds the rate of a layer by the learning rate, so that it never scales a gradient up.
    pub lars_clip: bool,
    /// Parameters of which LARS takes the gradient as it is, without weight decay.
    pub lars_exclude: Vec<OneAxis>,
    /// What LARS divides the norm of a weight by.
    pub lars_norm: LarsNorm,
    /// Weight decay: with sgd, lars and adam an L2 penalty, added to the gradient; with adamw the share of a weight that a step at rate 1 takes away.
    pub weight_decay: f64,
    /// What weight decay leaves out; the programs of SGD leave out nothing.
    pub no_decay: Vec<OneAxis>,
    /// Largest norm of the gradient over all parameters: a larger gradient is scaled down to it, as PyTorch's `clip_grad_norm_` does,
    /// before decay and momentum. Default: no limit.
    pub clip_norm: Option<f64>,
    /// Factor on the learning rate of biases and norms, as Barlow Twins has one (arXiv 2103.03230, section 2.2: 0.0048 for 0.2). Default: 1.
    pub bias_lr: Option<f64>,
    /// The rate of the backbone.
    pub backbone: PartConfig,
    /// The rate of the head and of prototypes.
    pub head: PartConfig,
    /// The rate of the predictor of a method that has one.
    pub predictor: PartConfig,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            name: Name::Sgd,
            lr: 0.03,
            momentum: 0.9,
            nesterov: false,
            betas: [0.9, 0.999],
            eps: 1e-8,
            trust: 0.001,
            lars_clip: false,
            lars_exclude: Vec::new(),
            lars_norm: LarsNorm::Sum,
            weight_decay: 1e-4,
            no_decay: Vec::new(),
            clip_norm: None,
            bias_lr: None,
            backbone: PartConfig::default(),
            head: PartConfig::default(),
            predictor: PartConfig::default(),
        }
    }
}

/// Adam counts 2^24 updates, beyond which its corrections `1 - beta^t` stay as they are. Up to this beta they are 1 in f32 by then.
const LARGEST_BETA: f64 = 0.999_999;

impl OptimConfig {
    /// One line per value that is out of range or has no effect.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        let mut require = |valid: bool, key: &str, value: &dyn std::fmt::Debug, rule: &str| {
            if !valid {
                out.push(format!("`{at}.{key}` is {value:?}, must be {rule}"));
            }
        };
        let above_zero = |x: f64| x > 0.0 && x.is_finite();
        require(above_zero(self.lr), "lr", &self.lr, "above 0");
        require((0.0..1.0).contains(&self.momentum), "momentum", &self.momentum, "in [0, 1)");
        let betas = self.betas.iter().all(|beta| (0.0..=LARGEST_BETA).contains(beta));
        require(betas, "betas", &self.betas, &format!("in [0, {LARGEST_BETA}]"));
        require(above_zero(self.eps), "eps", &self.eps, "above 0");
        require(above_zero(self.trust), "trust", &self.trust, "above 0");
        require(self.weight_decay >= 0.0 && self.weight_decay.is_finite(), "weight_decay", &self.weight_decay, "at least 0");
        require(self.clip_norm.is_none_or(above_zero), "clip_norm", &self.clip_norm.unwrap_or(0.0), "above 0");
        require(self.bias_lr.is_none_or(above_zero), "bias_lr", &self.bias_lr.unwrap_or(0.0), "above 0");
        for (part, PartConfig { lr, .. }) in self.parts() {
            require(above_zero(lr), &format!("{part}.lr"), &lr, "above 0");
        }
        self.unread(at, out);
    }

    /// The parts with a rate of their own, by their keys.
    pub fn parts(&self) -> [(&'static str, PartConfig); 3] {
        [("backbone", self.backbone), ("head", self.head), ("predictor", self.predictor)]
    }

    fn unread(&self, at: &str, out: &mut Vec<String>) {
        let (default, name) = (Self::default(), self.name.text());
        let mut table = Unread::of(at, out);
        let mut of = |readers: &[&str], key: &str, set: bool| table.variant(key, set, "name", name, readers);
        of(&["sgd", "lars"], "momentum", self.momentum != default.momentum);
        of(&["sgd"], "nesterov", self.nesterov);
        of(&["adam", "adamw"], "betas", self.betas != default.betas);
        of(&["lars", "adam", "adamw"], "eps", self.eps != default.eps);
        of(&["lars"], "trust", self.trust != default.trust);
        of(&["lars"], "lars_clip", self.lars_clip);
        of(&["lars"], "lars_exclude", !self.lars_exclude.is_empty());
        of(&["lars"], "lars_norm", self.lars_norm != default.lars_norm);
        let (sgd, lars) = (self.name == Name::Sgd, self.name == Name::Lars);
        let because = format!("`{at}.momentum` is 0");
        table.key("nesterov", sgd && self.nesterov, self.momentum > 0.0, &because, "leave it out");
        let because = format!("`{at}.lars_norm` = decayed has no such term");
        table.key("eps", lars && self.eps != default.eps, self.lars_norm == LarsNorm::Sum, &because, "leave it out");
        let [excluded, left_out] = [&self.lars_exclude, &self.no_decay];
        let more = [Role::Bias, Role::Scale, Role::Shift].into_iter().any(|role| holds(left_out, role) && !holds(excluded, role));
        let because = format!("`{at}.lars_exclude` leaves out the decay of the same parameters");
        table.key("no_decay", lars && !left_out.is_empty(), more, &because, "leave it out");
    }

    /// The rule that the config names.
    pub(super) fn rule(&self) -> Box<dyn Rule> {
        let adam = |decoupled| Adam { betas: self.betas, eps: self.eps, decoupled };
        match self.name {
            Name::Sgd => Box::new(Sgd { momentum: self.momentum, nesterov: self.nesterov }),
            Name::Lars => Box::new(Lars {
                momentum: self.momentum,
                trust: self.trust,
                eps: self.eps,
                clip: self.lars_clip,
                exclude: self.lars_exclude.clone(),
                norm: self.lars_norm,
            }),
            Name::Adam => Box::new(adam(false)),
            Name::Adamw => Box::new(adam(true)),
        }
    }

    /// How many values it remembers per trained value.
    pub fn slots(&self) -> usize {
        self.rule().slots().len()
    }

    /// The factor on all gradients whose norm over all parameters is `norm`: `min(1, clip_norm / (norm + 1e-6))`.
    pub fn clip(&self, norm: f64) -> f64 {
        self.clip_norm.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0))
    }

    /// The learning rate of a parameter in a step of these `rates`.
    pub fn rate(&self, name: &str, role: Role, rates: Rates) -> f64 {
        let part = match Part::of(name) {
            Part::Backbone => self.backbone,
            Part::Head => self.head,
            Part::Predictor => self.predictor,
        };
        let rate = if part.constant { rates.base } else { rates.scheduled };
        let of_role = if role == Role::Weight { 1.0 } else { self.bias_lr.unwrap_or(1.0) };
        rate * part.lr * of_role
    }

    /// The weight decay of a parameter of this role in a step of these `rates`.
    pub fn decay(&self, role: Role, rates: Rates) -> f64 {
        if holds(&self.no_decay, role) { 0.0 } else { rates.weight_decay.unwrap_or(self.weight_decay) }
    }
}

/// Whether a parameter of this role is in a list.
pub(super) fn holds(list: &[OneAxis], role: Role) -> bool {
    list.iter().any(|some| some.holds(role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_is_bounded_as_pytorch_bounds_it() {
        let clip = |clip_norm, norm| OptimConfig { clip_norm, ..OptimConfig::default() }.clip(norm);
        assert_eq!([clip(None, 1e9), clip(Some(2.0), 1.5), clip(Some(2.0), 0.0)], [1.0, 1.0, 1.0]);
        assert!((clip(Some(2.0), 8.0) - 2.0 / (8.0 + 1e-6)).abs() < 1e-15);
    }

    #[test]
    fn parts_are_known_whether_an_encoder_is_trained_alone_or_among_others() {
        let of = |names: &[&str], part| names.iter().for_each(|name| assert_eq!(Part::of(name), part, "{name}"));
        of(&["conv1.weight", "query.layer1.0.conv1.weight", "l.convs.0.1.bias", "query.bn1.bias"], Part::Backbone);
        of(&["fc.weight", "fc.0.bias", "query.fc.2.weight", "ab.fc.weight", "prototypes.weight"], Part::Head);
        of(&["predictor.0.weight", "predictor.1.bias"], Part::Predictor);
    }

    fn problems(json: &str) -> Vec<String> {
        let mut out = Vec::new();
        serde_json::from_str::<OptimConfig>(json).unwrap().problems("optim", &mut out);
        out
    }

    #[test]
    fn values_out_of_range_are_named() {
        let json = r#"{"name": "adam", "lr": 0, "momentum": 1, "betas": [0.9, 1], "eps": 0, "trust": -1, "weight_decay": -1, "clip_norm": 0,
            "bias_lr": -2, "backbone": {"lr": 0}, "head": {"lr": -1}, "predictor": {"lr": 0}}"#;
        let said = problems(json);
        let keys = [
            "lr",
            "momentum",
            "betas",
            "eps",
            "trust",
            "weight_decay",
            "clip_norm",
            "bias_lr",
            "backbone.lr",
            "head.lr",
            "predictor.lr",
        ];
        for key in keys {
            assert!(
                said.iter().any(|line| line.starts_with(&format!("`optim.{key}` is ")) && line.contains("must be")),
                "{key}: {said:#?}"
            );
        }
        assert_eq!(problems("{}"), [""; 0]);
    }

    #[test]
    fn a_key_that_the_optimizer_does_not_read_is_refused() {
        let cases: &[(&str, &[&str])] = &[
            (r#"{"betas": [0.5, 0.9], "eps": 1e-3, "trust": 0.02, "lars_clip": true}"#, &["betas", "eps", "trust", "lars_clip"]),
            (r#"{"lars_exclude": ["norm"], "lars_norm": "decayed"}"#, &["lars_exclude", "lars_norm"]),
            (r#"{"nesterov": true, "momentum": 0}"#, &["nesterov"]),
            (r#"{"name": "lars", "nesterov": true, "betas": [0, 0]}"#, &["nesterov", "betas"]),
            (r#"{"name": "lars", "lars_norm": "decayed", "eps": 1e-3}"#, &["eps"]),
            (r#"{"name": "lars", "lars_exclude": ["norm", "bias"], "no_decay": ["bias"]}"#, &["no_decay"]),
            (r#"{"name": "lars", "lars_exclude": ["norm"], "no_decay": ["bias"]}"#, &[]),
            (r#"{"name": "adam", "momentum": 0.5, "nesterov": true, "trust": 0.1}"#, &["momentum", "nesterov", "trust"]),
            (r#"{"name": "adamw", "lars_exclude": ["bias"], "betas": [0.5, 0.9], "eps": 1e-3}"#, &["lars_exclude"]),
            (r#"{"name": "lars", "trust": 0.02, "lars_clip": true, "eps": 1e-6, "momentum": 0.8, "no_decay": ["norm"]}"#, &[]),
        ];
        for (json, keys) in cases {
            let said = problems(json);
            let refused: Vec<&str> = said.iter().map(|line| crate::unread::key_of(line).unwrap()).collect();
            let want: Vec<String> = keys.iter().map(|key| format!("optim.{key}")).collect();
            assert_eq!(refused, want, "{json}");
        }
    }
}
