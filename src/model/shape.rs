//! The backbones, and every fact about them that something else asks for. Each `match` names all families, so that a new one does not
//! compile before all its facts are told.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::alexnet::{AlexNetConfig, AlexNetHalf};
use super::layer::Layers;
use super::norm::{BatchNorm, Pass};
use super::resnet::{ResNet, ResNetConfig};
use crate::kernel::net::Ways;

/// What determines a backbone, before there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// A residual net.
    ResNet(ResNetConfig),
    /// The half-width AlexNet of CMC.
    AlexNet(AlexNetConfig),
}

impl Shape {
    /// A backbone with zero weights (see [`super::init`]).
    pub fn init(&self, device: &Device) -> Backbone {
        match self {
            Self::ResNet(config) => Backbone::ResNet(config.init(device)),
            Self::AlexNet(config) => Backbone::AlexNet(config.init(device)),
        }
    }

    /// Channels of the images that it takes.
    pub fn input_channels(&self) -> usize {
        match self {
            Self::ResNet(config) => config.input_channels,
            Self::AlexNet(config) => config.input_channels,
        }
    }

    /// Width f of the features, which the head gets.
    pub fn features(&self) -> usize {
        match self {
            Self::ResNet(config) => config.features(),
            Self::AlexNet(_) => super::alexnet::HIDDEN,
        }
    }

    /// Its layers, the head's embedding included.
    pub fn layers(&self) -> Layers {
        match self {
            Self::ResNet(_) => ResNet::layers(),
            Self::AlexNet(_) => AlexNetHalf::layers(),
        }
    }

    /// Whether it normalises by statistics of the batch, so that `model.bn_splits` has a meaning.
    pub fn has_batch_norm(&self) -> bool {
        match self {
            Self::ResNet(_) | Self::AlexNet(_) => true,
        }
    }

    /// Whether images of `height` x `width` pixels fit; where they do not, the sizes that do in words.
    pub fn accepts(&self, height: usize, width: usize) -> Result<(), &'static str> {
        match self {
            // Every convolution is padded, and the features are a global mean.
            Self::ResNet(_) => Ok(()),
            Self::AlexNet(_) if [height, width].into_iter().all(AlexNetHalf::accepts) => Ok(()),
            Self::AlexNet(_) => Err("it is made for 224: use a ResNet for smaller images"),
        }
    }
}

/// What comes before the head.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "one or two exist per run")]
pub enum Backbone {
    /// Residual net; its features are the global mean of the last map.
    ResNet(ResNet),
    /// Half-width AlexNet; its features are the second hidden layer.
    AlexNet(AlexNetHalf),
}

impl Backbone {
    /// The outputs of the backbone's layers: maps `[n, c_i, h_i, w_i]`, then rows `[n, f_i]`, of which the last are the features.
    ///
    /// # Shapes
    /// - input `[n, c, h, w]`, normalised
    pub fn forward(&self, x: Tensor<4>, pass: &mut Pass) -> (Vec<Tensor<4>>, Vec<Tensor<2>>) {
        match self {
            Self::ResNet(net) => {
                let maps = net.forward(x, pass);
                let last = maps.last().expect("a ResNet has five maps").clone();
                let [n, c, h, w] = last.dims();
                (maps, vec![last.reshape([n, c, h * w]).mean_dim(2).reshape([n, c])])
            }
            Self::AlexNet(net) => net.forward(x, pass),
        }
    }

    /// SplitBN groups of one of `shards` equal parts of a batch.
    pub fn splits(&self, shards: usize) -> usize {
        match self {
            Self::ResNet(net) => net.splits(shards),
            Self::AlexNet(net) => net.splits(shards),
        }
    }

    /// All norms in the order in which a forward meets them.
    pub fn norms(&mut self) -> Vec<&mut BatchNorm> {
        match self {
            Self::ResNet(net) => net.norms(),
            Self::AlexNet(net) => net.norms(),
        }
    }

    /// Lets every residual block start as its shortcut; a net without residual blocks stays as it is.
    pub fn zero_residuals(&mut self) {
        match self {
            Self::ResNet(net) => net.zero_residuals(),
            Self::AlexNet(_) => {}
        }
    }

    /// Says how its blocks are computed; at first they are as fast as the device allows.
    pub fn compute_by(&mut self, ways: Ways) {
        match self {
            Self::ResNet(net) => net.ways = ways,
            Self::AlexNet(net) => net.ways = ways,
        }
    }

    /// Its layers, the head's embedding included: those of [`Shape::layers`].
    pub fn layers(&self) -> Layers {
        match self {
            Self::ResNet(_) => ResNet::layers(),
            Self::AlexNet(_) => AlexNetHalf::layers(),
        }
    }
}
