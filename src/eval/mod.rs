//! Evaluation of a frozen encoder.
//!
//! [`features`] runs it over a split; [`knn`] and [`linear`] classify by what comes out; [`record`] keeps every result with its protocol.

pub mod features;
pub mod finetune;
pub mod knn;
pub mod label_list;
pub mod labels;
pub mod linear;
pub mod map;
pub mod measures;
pub mod monitor;
pub mod record;
pub mod splits;
pub mod stats;
pub mod weights;
