//! The two layers with weights, in PyTorch's layout, so that a state dict needs no conversion.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::kernel::net::Convolution;

/// A square 2-D convolution without bias.
#[derive(Module, Debug)]
pub struct Conv {
    /// `[c_out, c_in, k, k]`.
    pub weight: Param<Tensor<4>>,
    stride: usize,
    padding: usize,
}

impl Conv {
    /// A zero convolution (see [`super::init`] for the weights); `kernel`, `stride` and zero `padding` are equal on both axes.
    pub fn new(channels: [usize; 2], kernel: usize, stride: usize, padding: usize, device: &Device) -> Self {
        let [input, output] = channels;
        Self { weight: Param::from_tensor(Tensor::zeros([output, input, kernel, kernel], device)), stride, padding }
    }

    /// How it moves over its input `[n, c_in, h, w]`; its output is `[n, c_out, h', w']`, `h' = (h + 2 padding - k) / stride + 1`.
    pub fn moves(&self) -> Convolution {
        Convolution { stride: self.stride, padding: self.padding }
    }
}

/// A fully connected layer, `y = x W^T + b`.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Param<Tensor<2>>,
    /// `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// A zero layer (see [`super::init`] for the weights).
    pub fn new(input: usize, output: usize, bias: bool, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::zeros([output, input], device)),
            bias: bias.then(|| Param::from_tensor(Tensor::zeros([output], device))),
        }
    }

    /// # Shapes
    /// - input `[n, in]`
    /// - output `[n, out]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let y = x.matmul(self.weight.val().transpose());
        match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        }
    }
}
