//! Evaluation of a frozen encoder.

pub mod features;
pub mod knn;
pub mod map;
pub mod measures;
pub mod monitor;
pub mod stats;
