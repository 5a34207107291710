//! The largest value of each window, by Burn's kernels, which are channels-last already.

use burn::backend::ops::ModuleOps;
use burn::tensor::IntDType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use crate::kernel::net::Window;

/// What the backward pass needs.
#[derive(Debug)]
pub struct Kept {
    x: CubeTensor,
    indices: CubeTensor,
    window: Window,
}

/// See [`crate::kernel::net::max_pool`]; with `keep` what [`backward`] needs.
pub fn forward(x: CubeTensor, window: Window, keep: bool) -> (CubeTensor, Option<Kept>) {
    let Window { side, stride, padding } = window;
    let [side, stride, padding, dilation] = [side, stride, padding, 1].map(|n| [n; 2]);
    if !keep {
        return (CubeBackend::max_pool2d(x, side, stride, padding, dilation, false), None);
    }
    let found = CubeBackend::max_pool2d_with_indices(x.clone(), side, stride, padding, dilation, false, IntDType::I32);
    (found.output, Some(Kept { x, indices: found.indices, window }))
}

/// The gradient of the input.
pub fn backward(gradient: CubeTensor, kept: &Kept) -> CubeTensor {
    let Window { side, stride, padding } = kept.window;
    let [side, stride, padding, dilation] = [side, stride, padding, 1].map(|n| [n; 2]);
    let (x, indices) = (kept.x.clone(), kept.indices.clone());
    CubeBackend::max_pool2d_with_indices_backward(x, side, stride, padding, dilation, false, gradient, indices).x_grad
}
