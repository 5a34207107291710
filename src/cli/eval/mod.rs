//! `unmix eval`.

mod complete;
mod feature_file;
mod features;
mod finetune;
mod flatness;
mod knn;
mod linear;
mod map;
mod progress;
mod subject;
mod weights;

use std::process::ExitCode;

use clap::Subcommand;

pub use complete::complete;
pub use subject::SubjectArgs;

use crate::error::Result;

/// Evaluates the encoder of a run, or weights.
#[derive(Debug, Subcommand)]
pub enum Eval {
    /// Weighted k-nearest neighbours; the bank is the training split without augmentation.
    Knn(knn::Knn),
    /// Linear evaluation: logistic regression on frozen features.
    Linear(linear::Linear),
    /// Semi-supervised: fine-tunes the whole encoder with a part of the labels.
    Finetune(finetune::Finetune),
    /// How flat the softmax over the pooled features is (figure 3 of the paper).
    Flatness(flatness::MeasureFlatness),
    /// Histograms of the weights by layer, trained and untrained (figure 5 of the paper).
    Weights(weights::MeasureWeights),
    /// Where test images lie by their features: PCA, t-SNE, thumbnails.
    Map(map::DrawMap),
    /// Writes the features of both splits to a file.
    Features(features::WriteFeatures),
}

impl Eval {
    /// Runs the subcommand.
    pub fn run(&self) -> Result<ExitCode> {
        match self {
            Self::Knn(command) => command.run(),
            Self::Linear(command) => command.run(),
            Self::Finetune(command) => command.run(),
            Self::Flatness(command) => command.run(),
            Self::Weights(command) => command.run(),
            Self::Map(command) => command.run(),
            Self::Features(command) => command.run(),
        }
    }
}
