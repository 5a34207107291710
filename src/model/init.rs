//! Initial weights from host streams, one per tensor name, so that they are the same on every device.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

use super::state::{AnyTensor, Parameter, Path, map_values};
use crate::rng::{Purpose, Stream};
use std::collections::HashMap;

/// Convolutions N(0, sqrt(2 / (k^2 c_out))), linear layers PyTorch's default U(-1/sqrt(in), 1/sqrt(in)) for weight and bias;
/// norms keep scale 1 and shift 0. `role` separates the nets of one run ("query", "probe").
pub fn randomise<M: Module>(module: M, seed: u64, role: &str) -> M {
    let mut shapes = Shapes { path: Path::default(), fan_in: HashMap::new(), dims: HashMap::new() };
    module.visit(&mut shapes);
    map_values(module, &mut |Parameter { name, .. }, old| {
        let Some(dims) = shapes.dims.get(name) else { return old };
        let mut stream = Stream::named(seed, Purpose::Init, &format!("{role}/{name}"));
        let n = dims.iter().product();
        let values: Vec<f32> = match dims[..] {
            [c_out, _, kh, kw] => {
                let std = (2.0 / (kh * kw * c_out) as f64).sqrt();
                (0..n).map(|_| (std * stream.normal()) as f32).collect()
            }
            _ => {
                let bound = 1.0 / (shapes.fan_in[&layer(name)] as f64).sqrt();
                (0..n).map(|_| stream.range(-bound, bound) as f32).collect()
            }
        };
        AnyTensor(Tensor::from_data(TensorData::new(values, [n]), &old.0.device()))
    })
}

fn layer(name: &str) -> String {
    name.rsplit_once('.').map_or_else(String::new, |(layer, _)| layer.to_owned())
}

/// Which tensors get random values: all of rank 4 and 2, and the biases of layers whose weight has rank 2.
struct Shapes {
    path: Path,
    fan_in: HashMap<String, usize>,
    dims: HashMap<String, Vec<usize>>,
}

impl ModuleVisitor for Shapes {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let (name, dims) = (self.path.name(), param.val().dims());
        if D == 2 {
            self.fan_in.insert(layer(&name), dims[1]);
        }
        // A layer's weight comes before its bias.
        if D > 1 || self.fan_in.contains_key(&layer(&name)) {
            self.dims.insert(name, dims.to_vec());
        }
    }
}
