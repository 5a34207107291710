//! Both splits through a frozen encoder, once, for every classifier of one measurement.

use std::sync::Arc;

use super::features::{Extraction, Features, extract};
use super::labels::Labels;
use crate::data::Source;
use crate::error::Result;
use crate::model::Frozen;

/// Rows of the readable images of both splits, not normalised, and their labels.
pub struct Splits {
    /// The layers (from 1) whose rows both splits have, in this order.
    pub layers: Vec<usize>,
    /// Names of the classes, by label.
    pub classes: Vec<String>,
    /// The training split without augmentation: the bank of kNN, and what a probe learns.
    pub train: Features,
    /// The test split.
    pub test: Features,
    /// Label of each row of `train`.
    pub known: Vec<u32>,
    /// Label of each row of `test`, in the training split's numbers.
    pub truth: Vec<u32>,
}

impl Splits {
    /// One pass over each split; `what` is the evaluation, for messages.
    ///
    /// # Errors
    /// Unlabelled data, classes that do not match, features that are not finite, those of the loader.
    pub fn of(
        encoder: &Frozen,
        (train, test): (&Arc<dyn Source>, &Arc<dyn Source>),
        how: &Extraction,
        layers: &[usize],
        what: &str,
    ) -> Result<Self> {
        let labels = Labels::of(train.as_ref(), test.as_ref(), what)?;
        let (train, test) = (extract(encoder, train.clone(), how, layers)?, extract(encoder, test.clone(), how, layers)?);
        let (known, truth) = (train.known(what)?, labels.of_test(&test, what)?);
        Ok(Self { layers: layers.to_vec(), classes: labels.classes, train, test, known, truth })
    }

    /// Names of the images of either split that could not be read.
    pub fn unreadable(&self) -> Vec<String> {
        [&self.train, &self.test].iter().flat_map(|split| split.speed.unreadable.iter().cloned()).collect()
    }
}
