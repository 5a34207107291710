//! Image mixtures: what is mixed is decided here, as data; kernels only execute it.
//!
//! [`config`] says which mixture, a [`policy::Policy`] draws a [`plan::MixturePlan`] per step from counter-based streams, and
//! [`crate::kernel`] runs it. One file per family of policies: [`v1`] (global, region, and both: image mixture), [`holes`]
//! (cutout, random erasing), [`unmix`] (the batch mixture with its loss weights).

pub mod bbox;
pub mod config;
pub mod holes;
pub mod plan;
pub mod policies;
pub mod policy;
pub mod unmix;
pub mod v1;

pub use bbox::{BBox, cut_box, kept_area};
pub use config::{MixtureConfig, Name};
pub use plan::{BatchMixture, Kind, MixturePlan, ROW_LAYOUT, ROW_WORDS, Row, Stage};
pub use policies::policy;
pub use policy::{Context, Extra, Planned, Policy};
