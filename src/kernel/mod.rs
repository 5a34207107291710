//! Our own device operations. Each has a slow, obvious reference and a portable tensor form; further paths join here.

pub mod ingest;
pub mod reference;
pub mod tensor;

use burn::tensor::{Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mixture::MixturePlan;

/// Which implementation executes a mixture plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MixPath {
    /// Plain loops on the host (reads the images back).
    Reference,
    /// Tensor operations of the backend.
    Tensor,
}

impl MixPath {
    /// The name that is printed and stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Tensor => "tensor",
        }
    }
}

/// Executes a plan.
///
/// # Shapes
/// - `images` `[t, c, h, w]`, outside any graph
/// - output `[n, c, h, w]`, n = `plan.keep`
pub fn mix(images: Tensor<4>, plan: &MixturePlan, path: MixPath) -> Tensor<4> {
    match path {
        MixPath::Tensor => tensor::mix(images, plan),
        MixPath::Reference => {
            let (dims, device) = (images.dims(), images.device());
            let host = images.into_data().try_to_vec::<f32>().expect("images are f32");
            let [_, c, h, w] = dims;
            let mixed = reference::mix(&host, dims, plan);
            Tensor::from_data(TensorData::new(mixed, [plan.keep, c, h, w]), &device)
        }
    }
}
