//! ResNet (He et al. 2016) with torchvision's names, the stride of a bottleneck on its 3x3 convolution.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::block::{self, Beside, ConvNorm};
use super::layer::Layers;
use super::layers::Conv;
use super::norm::{BatchNorm, Pass};
use super::pooling::{self, Pool};
use crate::kernel::net::{Ways, Window, max_pool};

/// The residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// Two 3x3 convolutions; expansion 1.
    Basic,
    /// 1x1, 3x3, 1x1; expansion 4.
    Bottleneck,
}

impl BlockKind {
    /// Output channels per plane.
    pub fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// What comes before the first stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stem {
    /// 7x7 stride 2 and a 3x3 stride 2 max pool.
    Imagenet,
    /// 3x3 stride 1, no pool.
    Cifar,
    /// One more pixel of zero padding before `cifar`: 32x32 becomes 34x34 (the SwAV CIFAR net of Un-Mix).
    CifarPad,
}

impl Stem {
    /// Kernel, stride and padding of its convolution.
    pub(super) fn convolution(self) -> (usize, usize, usize) {
        match self {
            Self::Imagenet => (7, 2, 3),
            Self::Cifar => (3, 1, 1),
            Self::CifarPad => (3, 1, 2),
        }
    }
}

/// Everything that determines the shape of a [`ResNet`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResNetConfig {
    /// Residual block.
    pub block: BlockKind,
    /// Stem.
    pub stem: Stem,
    /// Channels of the input image.
    pub input_channels: usize,
    /// Channels after the stem.
    pub stem_channels: usize,
    /// Planes of the four stages; a stage puts out `planes * expansion` channels.
    pub planes: [usize; 4],
    /// Blocks per stage.
    pub layers: [usize; 4],
    /// SplitBN groups of every norm; 1 is plain batch norm.
    pub bn_splits: usize,
}

impl ResNetConfig {
    /// Width of the pooled features.
    pub fn features(&self) -> usize {
        self.planes[3] * self.block.expansion()
    }

    /// What torchvision calls the net, whatever its stem and width, where it has one.
    pub fn torchvision(&self) -> Option<&'static str> {
        match (self.block, self.layers) {
            (BlockKind::Basic, [2, 2, 2, 2]) => Some("resnet18"),
            (BlockKind::Basic, [3, 4, 6, 3]) => Some("resnet34"),
            (BlockKind::Bottleneck, [3, 4, 6, 3]) => Some("resnet50"),
            (BlockKind::Bottleneck, [3, 4, 23, 3]) => Some("resnet101"),
            (BlockKind::Basic | BlockKind::Bottleneck, _) => None,
        }
    }

    /// What timm calls the net, whatever its stem and width, where it has one.
    pub fn timm(&self) -> Option<&'static str> {
        match (self.block, self.layers) {
            (BlockKind::Bottleneck, [2, 2, 2, 2]) => Some("resnet26"),
            _ => self.torchvision(),
        }
    }

    /// A net with zero convolutions (see [`super::init`]).
    pub fn init(&self, device: &Device) -> ResNet {
        let (kernel, stride, padding) = self.stem.convolution();
        let mut channels = self.stem_channels;
        let mut stage = |index: usize| -> Vec<Block> {
            let blocks = 0..self.layers[index];
            blocks
                .map(|i| {
                    let stride = if i == 0 && index > 0 { 2 } else { 1 };
                    let block = Block::new(self.block, channels, self.planes[index], stride, self.bn_splits, device);
                    channels = self.planes[index] * self.block.expansion();
                    block
                })
                .collect()
        };
        ResNet {
            conv1: Conv::new([self.input_channels, self.stem_channels], kernel, stride, padding, device),
            bn1: BatchNorm::new(self.stem_channels, self.bn_splits, device),
            layer1: stage(0),
            layer2: stage(1),
            layer3: stage(2),
            layer4: stage(3),
            pool: self.stem == Stem::Imagenet,
            ways: Ways::on(device),
        }
    }
}

/// One residual block of either kind; `conv3` exists in bottlenecks.
#[derive(Module, Debug)]
pub struct Block {
    conv1: Conv,
    bn1: BatchNorm,
    conv2: Conv,
    bn2: BatchNorm,
    conv3: Option<Conv>,
    bn3: Option<BatchNorm>,
    downsample: Option<(Conv, BatchNorm)>,
}

impl Block {
    fn new(kind: BlockKind, input: usize, planes: usize, stride: usize, splits: usize, device: &Device) -> Self {
        let output = planes * kind.expansion();
        let norm = |channels| BatchNorm::new(channels, splits, device);
        let (conv1, conv2, last) = match kind {
            BlockKind::Basic => {
                (Conv::new([input, planes], 3, stride, 1, device), Conv::new([planes, planes], 3, 1, 1, device), None)
            }
            BlockKind::Bottleneck => (
                Conv::new([input, planes], 1, 1, 0, device),
                Conv::new([planes, planes], 3, stride, 1, device),
                Some(Conv::new([planes, output], 1, 1, 0, device)),
            ),
        };
        let shortcut = stride != 1 || input != output;
        Self {
            conv1,
            bn1: norm(planes),
            conv2,
            bn2: norm(planes),
            bn3: last.is_some().then(|| norm(output)),
            conv3: last,
            downsample: shortcut.then(|| (Conv::new([input, output], 1, stride, 0, device), norm(output))),
        }
    }

    fn forward(&self, x: Tensor<4>, pass: &mut Pass, ways: Ways) -> Tensor<4> {
        let last = self.conv3.as_ref().zip(self.bn3.as_ref());
        let path: Vec<ConvNorm> = [(&self.conv1, &self.bn1), (&self.conv2, &self.bn2)].into_iter().chain(last).collect();
        let beside = match &self.downsample {
            Some((conv, bn)) => Beside::Convolution((conv, bn)),
            None => Beside::Input,
        };
        block::forward(x, &path, beside, pass, ways)
    }

    /// In the order of [`Block::forward`].
    fn norms(&mut self) -> Vec<&mut BatchNorm> {
        let Self { bn1, bn2, bn3, downsample, .. } = self;
        [bn1, bn2].into_iter().chain(bn3.as_mut()).chain(downsample.as_mut().map(|d| &mut d.1)).collect()
    }
}

/// Sides to which CMC's probes average the first maps; the fifth stays as it is.
const PROBED: [usize; 4] = [8, 6, 4, 3];

/// The backbone: stem and four stages.
#[derive(Module, Debug)]
pub struct ResNet {
    conv1: Conv,
    bn1: BatchNorm,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    layer3: Vec<Block>,
    layer4: Vec<Block>,
    pool: bool,
    /// How its blocks are computed.
    #[module(skip)]
    pub ways: Ways,
}

impl ResNet {
    /// 1 after the stem, 2-5 after the stages, 6 the features, pooled, 7 the embedding.
    pub fn layers() -> Layers {
        let pooled = PROBED.map(|side| Some(Pool { side, window: pooling::Window::Mean }));
        Layers::new(pooled.into_iter().chain([None]), 1)
    }

    /// The maps after the stem (and its pool) and after each of the four stages.
    ///
    /// # Shapes
    /// - input `[n, c, h, w]`
    /// - output five maps `[n, c_i, h_i, w_i]`; stages 2-4 halve the size
    pub fn forward(&self, x: Tensor<4>, pass: &mut Pass) -> Vec<Tensor<4>> {
        let mut x = block::forward(x, &[(&self.conv1, &self.bn1)], Beside::Nothing, pass, self.ways);
        if self.pool {
            x = max_pool(x, Window { side: 3, stride: 2, padding: 1 }, self.ways);
        }
        let mut maps = vec![x];
        for stage in [&self.layer1, &self.layer2, &self.layer3, &self.layer4] {
            let x = maps[maps.len() - 1].clone();
            maps.push(stage.iter().fold(x, |x, block| block.forward(x, pass, self.ways)));
        }
        maps
    }

    /// SplitBN groups of one of `shards` equal parts of a batch.
    pub fn splits(&self, shards: usize) -> usize {
        self.bn1.splits(shards)
    }

    /// Gives the last norm of every block the scale 0.
    pub fn zero_residuals(&mut self) {
        let Self { layer1, layer2, layer3, layer4, .. } = self;
        for Block { bn2, bn3, .. } in [layer1, layer2, layer3, layer4].into_iter().flatten() {
            let last = bn3.as_mut().unwrap_or(bn2);
            let scale = last.weight.val();
            last.weight = Param::from_tensor(Tensor::zeros(scale.dims(), &scale.device()));
        }
    }

    /// All norms in the order in which a forward meets them.
    pub fn norms(&mut self) -> Vec<&mut BatchNorm> {
        let Self { bn1, layer1, layer2, layer3, layer4, .. } = self;
        let blocks = [layer1, layer2, layer3, layer4].into_iter().flatten();
        std::iter::once(bn1).chain(blocks.flat_map(Block::norms)).collect()
    }
}
