//! `eval.linear` of the config: the published protocols, and every value of them to change.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::augment::RecipeName;
use crate::error::Result;
use crate::model::{LayerName, Shape};
use crate::optim::ScheduleConfig;
use crate::optim::schedule::Kind;
use crate::unread::Unread;

/// A published recipe of linear evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// `linear-v1`: the probes of CMC and of the first version of 2003.05438, for MoCo, InsDis and CMC, every layer. 60 epochs, batch 256.
    Cmc,
    /// `linear-moco`: MoCo's, and Un-Mix's on ImageNet. 100 epochs, batch 256, rate 30.
    Moco,
    /// `linear-swav-cifar`: Un-Mix's on CIFAR. 100 epochs, batch 32, rate .3 to 0 by a cosine.
    Cifar,
    /// `linear-htdt`: features computed once, Adam, 500 epochs.
    Htdt,
}

impl Protocol {
    /// The name under which results are published.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Cmc => "linear-v1",
            Self::Moco => "linear-moco",
            Self::Cifar => "linear-swav-cifar",
            Self::Htdt => "linear-htdt",
        }
    }
}

/// What updates the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Optimizer {
    /// SGD with momentum.
    Sgd,
    /// Adam, with the weight decay added to the gradient.
    Adam,
}

/// How the rate falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Multiplied by `factor` after each of `milestones` completed epochs.
    Multistep,
    /// Half a cosine, one value per epoch, to `final_lr` (as a share of the rate).
    Cosine,
    /// A straight line of logarithms, one value per epoch, to `final_lr` (as a share of the rate) in the last epoch.
    Exponential,
    /// It does not.
    Constant,
}

/// `eval.linear`. What is left out is the protocol's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LinearConfig {
    /// cmc, moco, cifar or htdt. Left out: cmc for CMC, cifar for views of up to 64 pixels, else moco.
    pub protocol: Option<Protocol>,
    /// Layers to probe, all in one pass: `features`, `embedding` or numbers from 1 (-1 is the last). Left out: the features.
    pub layer: Vec<LayerName>,
    /// Learning rates to train side by side. Left out: the protocol's one.
    pub lr: Vec<f64>,
    /// Length in epochs.
    pub epochs: Option<u64>,
    /// Images per step.
    pub batch: Option<usize>,
    /// Momentum of SGD.
    pub momentum: Option<f64>,
    /// L2 penalty, of the bias too.
    pub weight_decay: Option<f64>,
    /// Adam's two factors.
    pub betas: Option<[f64; 2]>,
    /// sgd or adam.
    pub optimizer: Option<Optimizer>,
    /// multistep, cosine, exponential or constant.
    pub schedule: Option<Decay>,
    /// Completed epochs after which a multistep rate is multiplied by `factor`.
    pub milestones: Option<Vec<u64>>,
    /// Factor of a multistep rate.
    pub factor: Option<f64>,
    /// Where a cosine or exponential rate ends, as a share of the rate.
    pub final_lr: Option<f64>,
    /// Augmentation of the training images; `center` has none, and the features are computed once.
    pub recipe: Option<RecipeName>,
    /// Smallest share of the image's area in a random crop.
    pub crop_min_area: Option<f64>,
    /// Normalisation of the images other than that of pre-training.
    pub norm: Option<NormConfig>,
    /// Most memory for features that are computed once, in MiB; beyond it they are computed anew in every epoch.
    pub cache_mib: Option<usize>,
}

/// `eval.linear.norm`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NormConfig {
    /// Mean per channel.
    pub mean: [f64; 3],
    /// Standard deviation per channel.
    pub std: [f64; 3],
}

/// What a protocol's values depend on.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Whether the encoder is a pair of nets (CMC).
    pub pair: bool,
    /// The backbone of each.
    pub shape: Shape,
    /// Classes of the data.
    pub classes: usize,
    /// Side of the views in pixels.
    pub size: usize,
}

/// All values of a probe: the whole protocol, as it is stored with the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The protocol's name, with `-modified` where a value is not the protocol's.
    pub tag: String,
    /// The layers probed, from 1.
    pub layers: Vec<usize>,
    /// Rates trained side by side.
    pub lr: Vec<f64>,
    /// Epochs.
    pub epochs: u64,
    /// Images per step.
    pub batch: usize,
    /// sgd or adam.
    pub optimizer: Optimizer,
    /// Momentum of SGD.
    pub momentum: f64,
    /// L2 penalty.
    pub weight_decay: f64,
    /// Adam's two factors.
    pub betas: [f64; 2],
    /// How the rate falls.
    pub schedule: Decay,
    /// Of a multistep rate.
    pub milestones: Vec<u64>,
    /// Of a multistep rate.
    pub factor: f64,
    /// Of a cosine or exponential rate, as a share.
    pub final_lr: f64,
    /// Augmentation of the training images.
    pub recipe: RecipeName,
    /// Smallest share of the area in a random crop.
    pub crop_min_area: f64,
    /// Another normalisation than that of pre-training.
    pub norm: Option<NormConfig>,
    /// Limit of the cache in MiB.
    pub cache_mib: usize,
}

/// From so many classes on the data is ImageNet-1k, for which the first program of 2003.05438 uses another crop and another rate than for its
/// subsets.
const IMAGENET: usize = 1000;

impl Plan {
    /// The published values.
    pub fn of(protocol: Protocol, facts: &Facts) -> Self {
        let base = Self {
            tag: protocol.tag().to_owned(),
            layers: vec![facts.shape.layers().features()],
            lr: vec![30.0],
            epochs: 100,
            batch: 256,
            optimizer: Optimizer::Sgd,
            momentum: 0.9,
            weight_decay: 0.0,
            betas: [0.5, 0.999],
            schedule: Decay::Multistep,
            milestones: vec![60, 80],
            factor: 0.1,
            final_lr: 0.0,
            recipe: RecipeName::Plain,
            crop_min_area: 0.08,
            norm: None,
            cache_mib: 4096,
        };
        match protocol {
            Protocol::Moco => base,
            Protocol::Cmc => Self {
                lr: vec![Self::rate_of_v1(facts)],
                epochs: 60,
                milestones: vec![30, 40, 50],
                factor: 0.2,
                // CMC has no colour jitter.
                recipe: if facts.pair { RecipeName::Cmc } else { RecipeName::MocoV1 },
                crop_min_area: if facts.classes >= IMAGENET { 0.08 } else { 0.2 },
                ..base
            },
            Protocol::Cifar => Self { lr: vec![0.3], batch: 32, weight_decay: 1e-6, schedule: Decay::Cosine, ..base },
            Protocol::Htdt => Self {
                lr: vec![0.01],
                epochs: 500,
                batch: 1000,
                optimizer: Optimizer::Adam,
                weight_decay: 5e-6,
                betas: [0.9, 0.999],
                schedule: Decay::Exponential,
                final_lr: 1e-4,
                recipe: RecipeName::Center,
                crop_min_area: 1.0,
                ..base
            },
        }
    }

    fn rate_of_v1(facts: &Facts) -> f64 {
        match &facts.shape {
            Shape::AlexNet(_) => 0.1,
            // v3 is the pair of double width.
            Shape::ResNet(net) if facts.pair && net.planes[0] >= 128 => 50.0,
            Shape::ResNet(_) if facts.pair || facts.classes >= IMAGENET => 30.0,
            Shape::ResNet(_) => 10.0,
        }
    }

    /// The rate of an epoch (from 0) as a share of the base rate.
    pub fn share(&self, epoch: u64) -> f64 {
        let schedule = |kind| ScheduleConfig {
            epochs: Some(self.epochs),
            kind,
            milestones: self.milestones.clone(),
            factor: self.factor,
            final_lr: self.final_lr,
            ..ScheduleConfig::default()
        };
        match self.schedule {
            Decay::Constant => 1.0,
            Decay::Multistep => schedule(Kind::Multistep).lr(1.0, epoch, 1, self.epochs),
            Decay::Cosine => schedule(Kind::Cosine).lr(1.0, epoch, 1, self.epochs),
            Decay::Exponential => self.final_lr.powf(epoch as f64 / self.epochs.saturating_sub(1).max(1) as f64),
        }
    }

    /// True where the training images have no augmentation, so that their features can be computed once.
    pub fn is_fixed(&self) -> bool {
        self.recipe.is_fixed()
    }
}

impl LinearConfig {
    /// The protocol that is asked for, or else the usual one for such an encoder.
    pub fn protocol(&self, facts: &Facts) -> Protocol {
        self.protocol.unwrap_or(match facts {
            Facts { pair: true, .. } => Protocol::Cmc,
            Facts { size: ..=64, .. } => Protocol::Cifar,
            _ => Protocol::Moco,
        })
    }

    /// The numbers of the layers to probe; of none the features'.
    fn layers(&self, facts: &Facts, key: &str) -> Result<Vec<usize>> {
        let layers = facts.shape.layers();
        if self.layer.is_empty() { Ok(vec![layers.features()]) } else { LayerName::resolve_all(&self.layer, &layers, key) }
    }

    /// The protocol with this config's values over it.
    ///
    /// # Errors
    /// A layer that the encoder does not have, or one named twice.
    pub fn plan(&self, facts: &Facts) -> Result<Plan> {
        let protocol = self.protocol(facts);
        let published = Plan::of(protocol, facts);
        let schedule = self.schedule.unwrap_or(published.schedule);
        // The v1 program's optional cosine ends at .1 of the rate after three of its steps.
        let ends = match (protocol, published.schedule == schedule) {
            (Protocol::Cmc, false) if schedule == Decay::Cosine => self.factor.unwrap_or(published.factor).powi(3) * 0.1,
            _ => published.final_lr,
        };
        let list = |own: &Vec<f64>, other: &Vec<f64>| if own.is_empty() { other.clone() } else { own.clone() };
        let recipe = self.recipe.unwrap_or(published.recipe);
        let fixed = recipe.is_fixed();
        let mut plan = Plan {
            tag: published.tag.clone(),
            layers: self.layers(facts, "eval.linear.layer")?,
            lr: list(&self.lr, &published.lr),
            epochs: self.epochs.unwrap_or(published.epochs),
            batch: self.batch.unwrap_or(published.batch),
            optimizer: self.optimizer.unwrap_or(published.optimizer),
            momentum: self.momentum.unwrap_or(published.momentum),
            weight_decay: self.weight_decay.unwrap_or(published.weight_decay),
            betas: self.betas.unwrap_or(published.betas),
            schedule,
            milestones: self.milestones.clone().unwrap_or_else(|| published.milestones.clone()),
            factor: self.factor.unwrap_or(published.factor),
            final_lr: self.final_lr.unwrap_or(ends),
            recipe,
            crop_min_area: self.crop_min_area.unwrap_or(if fixed { 1.0 } else { published.crop_min_area }),
            norm: self.norm.or(published.norm),
            cache_mib: self.cache_mib.unwrap_or(published.cache_mib),
        };
        // Which layers are read and how much memory may be used is no part of a protocol.
        let same = Plan { layers: plan.layers.clone(), cache_mib: plan.cache_mib, ..published } == plan;
        if !same {
            plan.tag += "-modified";
        }
        Ok(plan)
    }

    /// One line per value out of range, for an encoder with these facts.
    pub fn problems(&self, at: &str, facts: &Facts, out: &mut Vec<String>) {
        out.extend(self.layers(facts, &format!("{at}.layer")).err().map(|error| error.in_a_line()));
        let mut require = |valid: bool, key: &str, value: &dyn std::fmt::Debug, rule: &str| {
            if !valid {
                out.push(format!("`{at}.{key}` is {value:?}, must be {rule}"));
            }
        };
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let unit = |x: &f64| (0.0..1.0).contains(x);
        require(self.lr.iter().all(|&lr| positive(lr)), "lr", &self.lr, "above 0");
        require(self.epochs != Some(0), "epochs", &0, "at least 1");
        require(self.batch != Some(0), "batch", &0, "at least 1");
        require(self.momentum.as_ref().is_none_or(unit), "momentum", &self.momentum, "in [0, 1)");
        require(self.weight_decay.is_none_or(|x| x >= 0.0 && x.is_finite()), "weight_decay", &self.weight_decay, "at least 0");
        require(self.betas.iter().flatten().all(unit), "betas", &self.betas, "in [0, 1)");
        require(self.milestones.as_ref().is_none_or(|m| m.is_sorted()), "milestones", &self.milestones, "in ascending order");
        require(self.factor.is_none_or(positive), "factor", &self.factor, "above 0");
        require(self.final_lr.is_none_or(|x| x >= 0.0 && x.is_finite()), "final_lr", &self.final_lr, "at least 0");
        require(self.crop_min_area.is_none_or(|x| x > 0.0 && x <= 1.0), "crop_min_area", &self.crop_min_area, "above 0, at most 1");
        let valid = self.norm.is_none_or(|norm| norm.std.iter().all(|&x| positive(x)) && norm.mean.iter().all(|x| x.is_finite()));
        require(valid, "norm", &self.norm, "finite, with a standard deviation above 0");
        self.unread(at, facts, out);
    }

    /// Refuses keys that the optimizer, the schedule or the augmentation does not read, whether they are the protocol's or set as well.
    fn unread(&self, at: &str, facts: &Facts, out: &mut Vec<String>) {
        let published = Plan::of(self.protocol(facts), facts);
        let (schedule, recipe) = (self.schedule.unwrap_or(published.schedule), self.recipe.unwrap_or(published.recipe));
        let sgd = self.optimizer.unwrap_or(published.optimizer) == Optimizer::Sgd;
        let multistep = schedule == Decay::Multistep;
        // The first version's optional cosine ends where its steps would have.
        let derived = schedule == Decay::Cosine && self.protocol(facts) == Protocol::Cmc && self.final_lr.is_none();
        let ends = matches!(schedule, Decay::Cosine | Decay::Exponential);
        let keys = [
            ("momentum", self.momentum.is_some_and(|x| x != published.momentum), sgd, "the optimizer is adam"),
            ("betas", self.betas.is_some_and(|x| x != published.betas), !sgd, "the optimizer is sgd"),
            (
                "milestones",
                self.milestones.as_ref().is_some_and(|x| *x != published.milestones),
                multistep,
                "the schedule has no steps",
            ),
            ("factor", self.factor.is_some_and(|x| x != published.factor), multistep || derived, "the schedule has no steps"),
            ("final_lr", self.final_lr.is_some_and(|x| x != published.final_lr), ends, "the schedule has no last rate"),
            (
                "crop_min_area",
                self.crop_min_area.is_some_and(|x| x != 1.0),
                !recipe.is_fixed(),
                "the recipe crops nothing at random",
            ),
            (
                "cache_mib",
                self.cache_mib.is_some_and(|x| x != published.cache_mib),
                recipe.is_fixed(),
                "augmented features are not kept",
            ),
        ];
        let mut table = Unread::of(at, out);
        keys.into_iter().for_each(|(key, set, read, because)| table.key(key, set, read, because, "leave it out"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::model::{ModelConfig, ModelName};

    fn resnet() -> Facts {
        let model = ModelConfig { name: ModelName::Resnet50, ..ModelConfig::default() };
        Facts { pair: false, shape: model.shape(3), classes: 100, size: 224 }
    }

    fn plan(json: &str, facts: &Facts) -> Plan {
        serde_json::from_str::<LinearConfig>(json).unwrap().plan(facts).unwrap()
    }

    #[test]
    fn the_rates_of_the_first_version_depend_on_net_and_data() {
        let rate = |facts: Facts| plan(r#"{"protocol": "cmc"}"#, &facts).lr[0];
        assert_eq!(rate(resnet()), 10.0);
        assert_eq!(rate(Facts { classes: 1000, ..resnet() }), 30.0);
        let pair = || Facts { pair: true, ..resnet() };
        let shape = |model: ModelConfig| Facts { shape: model.shape(1), ..pair() };
        let wide = shape(ModelConfig { width: 2.0, ..ModelConfig::default() });
        assert_eq!((rate(pair()), rate(wide)), (30.0, 50.0));
        assert_eq!(rate(shape(ModelConfig { name: ModelName::AlexnetHalf, ..ModelConfig::default() })), 0.1);
        let crop = |classes| plan(r#"{"protocol": "cmc"}"#, &Facts { classes, ..resnet() }).crop_min_area;
        assert_eq!((crop(100), crop(1000)), (0.2, 0.08));
        let recipe = |facts| plan(r#"{"protocol": "cmc"}"#, &facts).recipe;
        assert_eq!((recipe(resnet()), recipe(pair())), (RecipeName::MocoV1, RecipeName::Cmc));
    }

    #[test]
    fn the_protocol_follows_from_method_and_size() {
        assert_eq!(plan("{}", &resnet()).tag, "linear-moco");
        assert_eq!(plan("{}", &Facts { size: 32, ..resnet() }).tag, "linear-swav-cifar");
        assert_eq!(plan("{}", &Facts { size: 32, pair: true, ..resnet() }).tag, "linear-v1");
    }

    #[test]
    fn a_changed_value_changes_the_name() {
        assert_eq!(plan(r#"{"protocol": "moco", "layer": [1, 6], "epochs": 100}"#, &resnet()).tag, "linear-moco");
        assert_eq!(plan(r#"{"protocol": "moco", "lr": [10]}"#, &resnet()).tag, "linear-moco-modified");
        assert_eq!(plan(r#"{"protocol": "moco", "recipe": "center"}"#, &resnet()).tag, "linear-moco-modified");
    }

    #[test]
    fn rates_fall_as_published() {
        let shares = |json: &str, epochs: [u64; 4]| epochs.map(|epoch| plan(json, &resnet()).share(epoch));
        let close = |a: [f64; 4], b: [f64; 4]| assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12), "{a:?}");
        close(shares(r#"{"protocol": "cmc"}"#, [29, 30, 40, 59]), [1.0, 0.2, 0.04, 0.008]);
        close(shares(r#"{"protocol": "moco"}"#, [59, 60, 80, 99]), [1.0, 0.1, 0.01, 0.01]);
        close(shares(r#"{"protocol": "cifar"}"#, [0, 50, 100, 0]), [1.0, 0.5, 0.0, 1.0]);
        close(shares(r#"{"protocol": "htdt"}"#, [0, 499, 0, 499]), [1.0, 1e-4, 1.0, 1e-4]);
        let cosine = plan(r#"{"protocol": "cmc", "schedule": "cosine"}"#, &resnet());
        assert!((cosine.final_lr - 0.0008).abs() < 1e-15);
        assert!((plan(r#"{"protocol": "cmc", "schedule": "cosine", "factor": 0.1}"#, &resnet()).final_lr - 1e-4).abs() < 1e-15);
    }

    #[test]
    fn values_out_of_range_are_named() {
        let config: LinearConfig = serde_json::from_str(
            r#"{"layer": [0], "lr": [0], "epochs": 0, "batch": 0, "momentum": 1, "weight_decay": -1, "betas": [1, 0],
                "milestones": [3, 1], "factor": 0, "final_lr": -1, "crop_min_area": 0, "norm": {"mean": [0, 0, 0], "std": [0, 1, 1]}}"#,
        )
        .unwrap();
        let mut out = Vec::new();
        config.problems("eval.linear", &resnet(), &mut out);
        // Twelve values, and two keys that the protocol's SGD and steps do not read.
        assert_eq!(out.len(), 14, "{out:#?}");
    }
}
