//! `model.*` of the config.

use std::path::PathBuf;

use burn::tensor::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::alexnet::AlexNetConfig;
use super::encoder::Encoder;
use super::head::{Head, Step};
use super::init;
use super::layer::Layers;
use super::resnet::{BlockKind, ResNetConfig, Stem};
use super::shape::Shape;
use crate::unread::Unread;

/// The backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelName {
    /// Basic blocks 2-2-2-2, 512 features.
    Resnet18,
    /// Basic blocks 3-4-6-3, 512 features.
    Resnet34,
    /// Bottleneck blocks 3-4-6-3, 2048 features.
    Resnet50,
    /// Bottleneck blocks 3-4-23-3, 2048 features.
    Resnet101,
    /// Bottleneck blocks 2-2-2-2, 2048 features: what Un-Mix's SwAV program for CIFAR calls "resnet18".
    Resnet26b,
    /// Half-width AlexNet, 2048 features, for views of 224x224; it does not read `width`, `stem` and `stem_channels`.
    AlexnetHalf,
}

impl ModelName {
    /// The name as it is written in a config.
    pub fn text(self) -> &'static str {
        match self {
            Self::Resnet18 => "resnet18",
            Self::Resnet34 => "resnet34",
            Self::Resnet50 => "resnet50",
            Self::Resnet101 => "resnet101",
            Self::Resnet26b => "resnet26b",
            Self::AlexnetHalf => "alexnet_half",
        }
    }
}

/// The projection head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadName {
    /// One linear layer (MoCo v1, InsDis, CMC, Un-Mix on CIFAR).
    Linear,
    /// Linear layers with ReLU between them: two without norms (MoCo v2), or as `layers`, `hidden` and the norms say.
    Mlp,
}

/// Batch norm behind the last layer of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LastNorm {
    /// None.
    #[default]
    None,
    /// With scale and shift (SimCLR).
    Affine,
    /// Without scale and shift (SimSiam).
    Plain,
}

/// `model.head`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeadConfig {
    /// `linear` or `mlp`.
    pub name: HeadName,
    /// Width d of the embedding.
    pub dim: usize,
    /// Linear layers of an mlp.
    pub layers: usize,
    /// Width of an mlp's hidden layers. Left out: that of the features.
    pub hidden: Option<usize>,
    /// Batch norm behind the hidden layers, which then have no bias. It takes the statistics of all rows of a forward, whatever `bn_splits`.
    pub hidden_norm: bool,
    /// Batch norm behind the last layer, which then has no bias: none, affine or plain (without scale and shift).
    pub last_norm: LastNorm,
    /// Whether a last layer without a norm has a bias.
    pub last_bias: bool,
}

impl Default for HeadConfig {
    fn default() -> Self {
        Self {
            name: HeadName::Linear,
            dim: 128,
            layers: 2,
            hidden: None,
            hidden_norm: false,
            last_norm: LastNorm::None,
            last_bias: true,
        }
    }
}

impl HeadConfig {
    /// The steps from `features` to the embedding.
    pub fn steps(&self, features: usize) -> Vec<Step> {
        let affine = match self.last_norm {
            LastNorm::None => None,
            LastNorm::Affine => Some(true),
            LastNorm::Plain => Some(false),
        };
        let layers = if self.name == HeadName::Linear { 1 } else { self.layers.max(1) };
        let hidden = self.hidden.unwrap_or(features);
        let mut steps = Vec::new();
        for layer in 0..layers {
            let (first, last) = (layer == 0, layer + 1 == layers);
            let (input, output) = (if first { features } else { hidden }, if last { self.dim } else { hidden });
            let norm = if last { affine } else { self.hidden_norm.then_some(true) };
            steps.push(Step::Linear { input, output, bias: norm.is_none() && (!last || self.last_bias) });
            steps.extend(norm.map(|affine| Step::Norm { width: output, affine }));
            steps.extend((!last).then_some(Step::Relu));
        }
        steps
    }

    /// Whether a row of it hangs on the other rows of its forward in training.
    pub fn has_norms(&self) -> bool {
        self.name == HeadName::Mlp && (self.hidden_norm && self.layers > 1 || self.last_norm != LastNorm::None)
    }

    fn problems(&self, at: &str, out: &mut Vec<String>) {
        if !(1..=MOST_LAYERS).contains(&self.layers) {
            out.push(format!("`{at}.layers` is {}, must be 1 to {MOST_LAYERS}", self.layers));
        }
        if self.hidden == Some(0) {
            out.push(format!("`{at}.hidden` is 0, must be at least 1"));
        }
        let (default, mlp) = (Self::default(), self.name == HeadName::Mlp);
        let because = format!("`{at}.name` = linear has one layer with bias and no norm");
        let mut table = Unread::of(at, out);
        let keys = [
            ("layers", self.layers != default.layers),
            ("hidden", self.hidden.is_some()),
            ("hidden_norm", self.hidden_norm),
            ("last_norm", self.last_norm != default.last_norm),
            ("last_bias", !self.last_bias),
        ];
        keys.into_iter().for_each(|(key, set)| table.key(key, set, mlp, &because, "leave it out, or use mlp"));
        let because = format!("`{at}.layers` = 1 has no hidden layer");
        for (key, set) in [("hidden", self.hidden.is_some()), ("hidden_norm", self.hidden_norm)] {
            table.key(key, set, !mlp || self.layers > 1, &because, "leave it out");
        }
        let because = format!("`{at}.last_norm` takes the bias away");
        table.key("last_bias", !self.last_bias, !mlp || self.last_norm == LastNorm::None, &because, "leave it out");
    }
}

/// Layers of a head: more is a slip.
const MOST_LAYERS: usize = 16;

/// `model`: the encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// The backbone.
    pub name: ModelName,
    /// Factor on the planes of the four stages. The stem does not scale with it (as in the v1 programs): see `stem_channels`.
    pub width: f64,
    /// `imagenet` (7x7 stride 2, max pool), `cifar` (3x3 stride 1) or `cifar_pad`.
    pub stem: Stem,
    /// Channels after the stem.
    pub stem_channels: usize,
    /// The projection head.
    pub head: HeadConfig,
    /// Two nets of this shape, one for the first channel of the colour space and one for the other two: CMC, and only CMC.
    /// Left out: what the method needs.
    pub split_views: Option<bool>,
    /// SplitBN groups: on one device they stand for the devices over which batch norm statistics are separate. 1 is plain batch
    /// norm, with which MoCo on one device leaks (the query and its key share their statistics).
    pub bn_splits: usize,
    /// Let the last norm of every residual block start with scale 0, so that each block starts as its shortcut (SimSiam, arXiv 1706.02677).
    pub zero_init_residual: bool,
    /// Start from the weights of a `.safetensors`, `.pth` or `.pt` file, relative to the current folder, instead of random ones. The
    /// backbone must fit; a head that does not starts anew.
    pub weights: Option<PathBuf>,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            name: ModelName::Resnet18,
            width: 1.0,
            stem: Stem::Cifar,
            stem_channels: 64,
            head: HeadConfig::default(),
            split_views: None,
            bn_splits: 8,
            zero_init_residual: false,
            weights: None,
        }
    }
}

impl ModelConfig {
    /// The shape of the backbone for images of `input_channels`.
    pub fn shape(&self, input_channels: usize) -> Shape {
        match self.name {
            ModelName::Resnet18 => self.resnet(BlockKind::Basic, [2, 2, 2, 2], input_channels),
            ModelName::Resnet34 => self.resnet(BlockKind::Basic, [3, 4, 6, 3], input_channels),
            ModelName::Resnet50 => self.resnet(BlockKind::Bottleneck, [3, 4, 6, 3], input_channels),
            ModelName::Resnet101 => self.resnet(BlockKind::Bottleneck, [3, 4, 23, 3], input_channels),
            ModelName::Resnet26b => self.resnet(BlockKind::Bottleneck, [2, 2, 2, 2], input_channels),
            ModelName::AlexnetHalf => Shape::AlexNet(AlexNetConfig { input_channels, bn_splits: self.bn_splits }),
        }
    }

    fn resnet(&self, block: BlockKind, layers: [usize; 4], input_channels: usize) -> Shape {
        let planes = [64.0, 128.0, 256.0, 512.0].map(|p| ((p * self.width).round() as usize).max(1));
        let (stem, stem_channels, bn_splits) = (self.stem, self.stem_channels, self.bn_splits);
        Shape::ResNet(ResNetConfig { block, stem, input_channels, stem_channels, planes, layers, bn_splits })
    }

    /// The layers of the encoder.
    pub fn layers(&self) -> Layers {
        self.shape(3).layers()
    }

    /// The encoder of images of `input_channels` with its initial weights, a pure function of the seed and `role` ("query" for the net that
    /// is trained).
    pub fn init(&self, input_channels: usize, seed: u64, role: &str, device: &Device) -> Encoder {
        let shape = self.shape(input_channels);
        let (mut backbone, features) = (shape.init(device), shape.features());
        if self.zero_init_residual {
            backbone.zero_residuals();
        }
        let fc = match self.head.name {
            HeadName::Linear => Head::linear(features, self.head.dim, device),
            HeadName::Mlp => Head::new(&self.head.steps(features), device),
        };
        init::randomise(Encoder { backbone, fc }, seed, role)
    }

    /// One line per value that is out of range or that the backbone does not read.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        if !(self.width > 0.0 && self.width <= 16.0) {
            out.push(format!("`{at}.width` is {}, must be in (0, 16]", self.width));
        }
        for (key, value) in [("stem_channels", self.stem_channels), ("head.dim", self.head.dim), ("bn_splits", self.bn_splits)] {
            if value == 0 {
                out.push(format!("`{at}.{key}` is 0, must be at least 1"));
            }
        }
        self.head.problems(&format!("{at}.head"), out);
        self.unread(at, out);
    }

    fn unread(&self, at: &str, out: &mut Vec<String>) {
        let (default, shape) = (Self::default(), self.shape(3));
        let resnet = match shape {
            Shape::ResNet(_) => true,
            Shape::AlexNet(_) => false,
        };
        let because = format!("`{at}.name` = {} does not read it", self.name.text());
        let mut table = Unread::of(at, out);
        let keys = [
            ("width", self.width != default.width, resnet),
            ("stem", self.stem != default.stem, resnet),
            ("stem_channels", self.stem_channels != default.stem_channels, resnet),
            ("bn_splits", self.bn_splits != default.bn_splits, shape.has_batch_norm()),
            ("zero_init_residual", self.zero_init_residual, resnet),
        ];
        keys.into_iter().for_each(|(key, set, read)| table.key(key, set, read, &because, "leave it out, or choose a ResNet"));
    }
}
