//! Projection heads and predictors, named by position as PyTorch's `Sequential` names them: `fc.weight` (linear), `fc.0.weight` and `fc.2.weight` (MLP
//! of MoCo v2), `fc.1.running_mean` (a norm behind the first layer).

use burn::module::Module;
use burn::nn::Relu;
use burn::tensor::{Device, Tensor};

use super::layers::Linear;
use super::norm::{BatchNorm, Pass, PlainNorm, Running};

/// A step of a head, before there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A fully connected layer.
    Linear {
        /// Width of its input.
        input: usize,
        /// Width of its output.
        output: usize,
        /// Whether it has a bias. Before a norm a bias has no effect and no gradient but rounding.
        bias: bool,
    },
    /// Batch norm over the rows of a forward.
    Norm {
        /// Width.
        width: usize,
        /// Whether it has scale and shift.
        affine: bool,
    },
    /// ReLU.
    Relu,
}

impl Step {
    /// Number of its values, running statistics included.
    pub fn values(self) -> u128 {
        match self {
            Self::Linear { input, output, bias } => (input as u128 + u128::from(bias)) * output as u128,
            Self::Norm { width, affine } => width as u128 * if affine { 4 } else { 2 },
            Self::Relu => 0,
        }
    }
}

/// A step of a head.
#[derive(Module, Debug)]
pub enum Part {
    /// A fully connected layer.
    Linear(Linear),
    /// Batch norm with scale and shift.
    Norm(BatchNorm),
    /// Batch norm without.
    Plain(PlainNorm),
    /// ReLU.
    Relu(Relu),
}

/// From rows to rows: the projection from features to the embedding, or the predictor of BYOL and SimSiam.
#[derive(Module, Debug)]
pub enum Head {
    /// One layer with bias (MoCo v1, InsDis, CMC, Un-Mix), without a position in its name.
    Linear(Linear),
    /// Any steps in a row.
    Steps(Vec<Part>),
}

impl Head {
    /// A linear head.
    pub fn linear(features: usize, dim: usize, device: &Device) -> Self {
        Self::Linear(Linear::new(features, dim, true, device))
    }

    /// A head of these steps.
    pub fn new(steps: &[Step], device: &Device) -> Self {
        let part = |step: &Step| match *step {
            Step::Linear { input, output, bias } => Part::Linear(Linear::new(input, output, bias, device)),
            // SplitBN stands for devices of the backbone; a norm of a head sees all rows of its forward.
            Step::Norm { width, affine: true } => Part::Norm(BatchNorm::new(width, 1, device)),
            Step::Norm { width, affine: false } => Part::Plain(PlainNorm::new(width, device)),
            Step::Relu => Part::Relu(Relu::new()),
        };
        Self::Steps(steps.iter().map(part).collect())
    }

    /// # Shapes
    /// - input `[n, f]`
    /// - output `[n, d]`, not normalised
    pub fn forward(&self, x: Tensor<2>, pass: &mut Pass) -> Tensor<2> {
        match self {
            Self::Linear(layer) => layer.forward(x),
            Self::Steps(parts) => parts.iter().fold(x, |x, part| match part {
                Part::Linear(layer) => layer.forward(x),
                Part::Norm(norm) => norm.forward(x, pass),
                Part::Plain(norm) => norm.forward(x, pass),
                Part::Relu(relu) => relu.forward(x),
            }),
        }
    }

    /// Whether its rows hang on the other rows of their forward in training.
    pub fn has_norms(&self) -> bool {
        match self {
            Self::Linear(_) => false,
            Self::Steps(parts) => parts.iter().any(|part| matches!(part, Part::Norm(_) | Part::Plain(_))),
        }
    }

    /// The running statistics of its norms in their order.
    pub fn norms(&mut self) -> Vec<Running<'_>> {
        let parts = match self {
            Self::Linear(_) => return Vec::new(),
            Self::Steps(parts) => parts.iter_mut(),
        };
        parts
            .filter_map(|part| match part {
                Part::Norm(norm) => Some(norm.running()),
                Part::Plain(norm) => Some(norm.running()),
                Part::Linear(_) | Part::Relu(_) => None,
            })
            .collect()
    }
}
