//! Augmentation: from a decoded image to one view, u8 `[3, height, width]`.
//!
//! A [`Recipe`] is data. [`Recipe::sample`] draws all parameters of a view on the host from a [`Stream`](crate::rng::Stream) and
//! [`Recipe::render`] carries them out; as a [`Transform`](crate::data::Transform) it does both. One file per transform holds
//! its distribution and its pixels. The pixel rules are those of PIL and torchvision on 8-bit images, to the bit.
//!
//! ```text
//! image [H0, W0, 3] -> before: steps on all pixels -> window: crop, resize -> after: steps on the view -> [3, H, W]
//! ```

pub mod blur;
pub mod config;
pub mod crop;
pub mod flip;
pub mod gray;
pub mod hue;
pub mod jitter;
pub mod planes;
pub mod recipe;
pub mod resample;
pub mod resize;
mod shrink;
pub mod solarize;
pub mod step;

pub use config::{CropConfig, CropGroup, ViewsConfig};
pub use crop::CropBox;
pub use recipe::{Recipe, RecipeName, ViewParams};
pub use resample::{Filter, Window};
pub use step::{Step, adjusted, resized_crop};
