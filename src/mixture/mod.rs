//! Image mixtures: what is mixed is decided here, as data; kernels only execute it.
//!
//! [`config`] says which mixture, a [`policy::Policy`] draws a [`plan::MixturePlan`] per step from counter-based streams, and
//! [`crate::kernel`] runs it. One file per family of policies. Mixtures of views: [`v1`] (global, region, and both: image mixture), [`holes`]
//! (cutout, random erasing), [`inputmix`]. Mixtures beside the views, with weights for a loss: [`unmix`], [`imix`], [`mixco`], [`mixed_barlow`];
//! [`regioncl`] has the plan of another, which no method trains on yet.

pub mod bbox;
pub mod config;
pub mod holes;
pub mod imix;
pub mod inputmix;
pub mod mixco;
pub mod mixed_barlow;
pub mod plan;
pub mod policies;
pub mod policy;
pub mod regioncl;
mod tables;
pub mod unmix;
pub mod v1;

pub use bbox::{BBox, cut_box, kept_area, side_box};
pub use config::{Form, MixtureConfig, Name};
pub use plan::{BatchMixture, Kind, MixturePlan, ROW_LAYOUT, ROW_WORDS, Row, Stage};
pub use policies::policy;
pub use policy::{Context, Extra, Planned, Policy};
