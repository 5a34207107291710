//! Evaluation of a frozen encoder.

pub mod features;
pub mod knn;
pub mod stats;
