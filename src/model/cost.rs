//! What a net costs, computed before there is one: in 128 bits, so that no size overflows.
//!
//! All counts are of f32 values, and none is a guess: a training step holds at least as many.

use super::alexnet::AlexNetConfig;
use super::config::ModelConfig;
use super::head::Step;
use super::resnet::{BlockKind, ResNetConfig, Stem};
use super::shape::Shape;
use serde::Serialize;

/// A part of a net, a block or a single layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerCost {
    /// Its name in the state dict.
    pub name: String,
    /// Channels, height and width of what comes out of it.
    pub map: [u128; 3],
    /// Weights and running statistics.
    pub weights: u128,
    /// Of one image, what a training forward keeps for its backward pass.
    pub kept: u128,
}

/// Counts of f32 values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cost {
    /// Weights and running statistics.
    pub weights: u128,
    /// Of one image, what a training forward keeps for its backward pass: the inputs of all convolutions.
    pub kept: u128,
    /// Of one image, the largest map of a layer.
    pub largest_map: u128,
    /// The same by the net's parts, in their order.
    pub layers: Vec<LayerCost>,
}

/// A map on its way through a net, and what it has cost so far.
struct Walk {
    cost: Cost,
    channels: u128,
    sides: [u128; 2],
}

impl Walk {
    fn new(channels: usize, (height, width): (usize, usize)) -> Self {
        Self { cost: Cost::default(), channels: channels as u128, sides: [height as u128, width as u128] }
    }

    fn map(&self) -> u128 {
        self.channels * self.sides[0] * self.sides[1]
    }

    /// What came since the last call is the part of this name.
    fn part(&mut self, name: String) {
        let before = |of: fn(&LayerCost) -> u128, layers: &[LayerCost]| layers.iter().map(of).sum::<u128>();
        let Cost { weights, kept, layers, .. } = &mut self.cost;
        let (weights, kept) = (*weights - before(|layer| layer.weights, layers), *kept - before(|layer| layer.kept, layers));
        layers.push(LayerCost { name, map: [self.channels, self.sides[0], self.sides[1]], weights, kept });
    }

    /// A convolution without bias, and its norm with scale, shift, mean and variance.
    fn conv(&mut self, output: usize, kernel: usize, stride: usize, padding: usize) {
        self.cost.kept += self.map();
        self.weigh(self.channels, output, kernel);
        self.channels = output as u128;
        self.shrink(kernel, stride, padding);
        self.cost.largest_map = self.cost.largest_map.max(self.map());
    }

    /// The weights of one, beside the way of the map.
    fn weigh(&mut self, input: u128, output: usize, kernel: usize) {
        let (output, kernel) = (output as u128, kernel as u128);
        self.cost.weights += input * output * kernel * kernel + 4 * output;
    }

    fn shrink(&mut self, kernel: usize, stride: usize, padding: usize) {
        let (kernel, stride, padding) = (kernel as u128, stride as u128, padding as u128);
        self.sides = self.sides.map(|side| (side + 2 * padding).saturating_sub(kernel) / stride + 1);
    }
}

impl ModelConfig {
    /// The cost of the net for images of `input_channels` and `size` (height, width).
    pub fn cost(&self, input_channels: usize, size: (usize, usize)) -> Cost {
        let shape = self.shape(input_channels);
        let mut cost = match &shape {
            Shape::ResNet(config) => resnet(config, size),
            Shape::AlexNet(config) => alexnet(config, size),
        };
        let (features, dim) = (shape.features(), self.head.dim as u128);
        let head = self.head.steps(features).into_iter().map(Step::values).fold(0, u128::saturating_add);
        cost.weights += head;
        cost.layers.push(LayerCost { name: "fc".into(), map: [dim, 1, 1], weights: head, kept: 0 });
        cost
    }
}

fn resnet(config: &ResNetConfig, size: (usize, usize)) -> Cost {
    let mut walk = Walk::new(config.input_channels, size);
    let (kernel, stride, padding) = config.stem.convolution();
    walk.conv(config.stem_channels, kernel, stride, padding);
    if config.stem == Stem::Imagenet {
        walk.shrink(3, 2, 1);
    }
    walk.part("conv1".into());
    for (stage, (&planes, &blocks)) in config.planes.iter().zip(&config.layers).enumerate() {
        for block in 0..blocks {
            let stride = if block == 0 && stage > 0 { 2 } else { 1 };
            let (input, output) = (walk.channels, planes * config.block.expansion());
            match config.block {
                BlockKind::Basic => {
                    walk.conv(planes, 3, stride, 1);
                    walk.conv(planes, 3, 1, 1);
                }
                BlockKind::Bottleneck => {
                    walk.conv(planes, 1, 1, 0);
                    walk.conv(planes, 3, stride, 1);
                    walk.conv(output, 1, 1, 0);
                }
            }
            // The shortcut's convolution has the block's input, which is counted.
            if stride != 1 || input != output as u128 {
                walk.weigh(input, output, 1);
            }
            walk.part(format!("layer{}.{block}", stage + 1));
        }
    }
    walk.cost
}

fn alexnet(config: &AlexNetConfig, size: (usize, usize)) -> Cost {
    let mut walk = Walk::new(config.input_channels, size);
    for (at, (output, kernel, stride, padding, pool)) in super::alexnet::CONVS.into_iter().enumerate() {
        walk.conv(output, kernel, stride, padding);
        if pool {
            walk.shrink(3, 2, 0);
        }
        walk.part(format!("convs.{at}"));
    }
    let hidden = super::alexnet::HIDDEN;
    for (at, input) in [super::alexnet::flat(), hidden].into_iter().enumerate() {
        // A bias, and the norm's four.
        walk.cost.weights += ((input + 1) * hidden + 4 * hidden) as u128;
        (walk.channels, walk.sides) = (hidden as u128, [1, 1]);
        walk.part(format!("hidden.{at}"));
    }
    walk.cost
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;

    use super::*;
    use crate::model::{HeadConfig, HeadName, LastNorm, ModelName, Pass, state};

    /// Against nets that exist: every family, stem and head, and the maps of a forward.
    #[test]
    fn equal_to_the_counts_of_real_nets() {
        let device = crate::device::test_device();
        let head = |name| HeadConfig { name, dim: 24, ..HeadConfig::default() };
        let base = ModelConfig { width: 0.25, stem_channels: 16, bn_splits: 1, ..ModelConfig::default() };
        let resnets = [ModelName::Resnet18, ModelName::Resnet34, ModelName::Resnet50, ModelName::Resnet26b];
        let stems = [Stem::Imagenet, Stem::Cifar, Stem::CifarPad];
        let mut cases: Vec<(ModelConfig, usize, usize)> = Vec::new();
        for (at, name) in resnets.into_iter().enumerate() {
            let head = head(if at % 2 == 0 { HeadName::Linear } else { HeadName::Mlp });
            cases.push((ModelConfig { name, stem: stems[at % 3], head, ..base.clone() }, 3, 33));
        }
        cases.push((
            ModelConfig { name: ModelName::AlexnetHalf, head: head(HeadName::Linear), bn_splits: 1, ..ModelConfig::default() },
            2,
            224,
        ));
        let norms = HeadConfig { hidden: Some(40), hidden_norm: true, layers: 3, ..head(HeadName::Mlp) };
        for last_norm in [LastNorm::None, LastNorm::Affine, LastNorm::Plain] {
            cases.push((ModelConfig { head: HeadConfig { last_norm, ..norms.clone() }, ..base.clone() }, 3, 32));
        }
        cases.push((ModelConfig { head: HeadConfig { last_bias: false, ..norms }, ..base.clone() }, 3, 32));
        for (model, channels, side) in cases {
            let cost = model.cost(channels, (side, side));
            let net = model.init(channels, 1, "query", &device);
            let values: usize = state::collect(&net).values().map(|data| data.num_elements()).sum();
            assert_eq!(cost.weights, values as u128, "{:?}", model.name);
            let (maps, _) = net.backbone.forward(Tensor::zeros([1, channels, side, side], &device), &mut Pass::Eval);
            let largest = maps.iter().map(|map| map.dims().iter().product::<usize>()).max().unwrap();
            // A pool of 3 x 3 with stride 2 before the tap leaves about a quarter, of odd sides a little less.
            assert!(cost.largest_map >= largest as u128 && cost.largest_map <= 5 * largest as u128, "{:?}", model.name);
            assert!(cost.kept >= cost.largest_map);
            // The parts make the whole, and bear the names of the tensors in them.
            let sum = |of: fn(&LayerCost) -> u128| cost.layers.iter().map(of).sum::<u128>();
            assert_eq!([sum(|layer| layer.weights), sum(|layer| layer.kept)], [cost.weights, cost.kept], "{:?}", model.name);
            for layer in &cost.layers {
                let own = |name: &&String| name.starts_with(&format!("{}.", layer.name));
                assert!(state::collect(&net).keys().any(|name| own(&name)), "{:?}: {}", model.name, layer.name);
            }
        }
    }

    #[test]
    fn no_size_overflows() {
        let most = HeadConfig { dim: usize::MAX, name: HeadName::Mlp, ..HeadConfig::default() };
        let model = ModelConfig { stem_channels: usize::MAX, width: 16.0, head: most, ..ModelConfig::default() };
        assert!(model.cost(3, (1 << 20, 1 << 20)).kept > 1 << 60);
    }
}
