//! Encoders: backbones with layer taps, heads, our own batch norm with explicit state, the moving average, and the state dict.
//!
//! Letters: n batch, c channel, h height, w width, f pooled features, d embedding.

pub mod alexnet;
pub mod block;
pub mod config;
pub mod cost;
pub mod ema;
pub mod encoder;
pub mod frozen;
pub mod head;
pub mod init;
pub mod layer;
pub mod layers;
pub mod norm;
pub mod pooling;
pub mod resnet;
pub mod shape;
pub mod state;
pub mod tensors;
pub mod weights;

pub use config::{HeadConfig, HeadName, LastNorm, ModelConfig, ModelName};
pub use cost::{Cost, LayerCost};
pub use encoder::{Encoder, Taps};
pub use frozen::Frozen;
pub use head::{Head, Step};
pub use layer::{Layer, LayerName, Layers};
pub use norm::{BatchNorm, BatchStats, Pass};
pub use shape::{Backbone, Shape};
pub use state::{NamedGradients, Parameter, Role, StateDict, Trained};
