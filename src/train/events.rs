//! What a run tells the world: typed events, and the sinks that listen to them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Result;
use crate::eval::linear::Probed;
use crate::kernel::Choice;

/// Something that happened in a run. In JSON the kind is the key `event`, in snake case.
///
/// `step` counts completed optimiser steps from the start of the run, also after a resume; `epoch` counts from 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Training begins, or goes on after a resume.
    Start {
        /// The run folder.
        run: String,
        /// Name of the method.
        method: String,
        /// Name of the mixture.
        mixture: String,
        /// The device, in words.
        device: String,
        /// The paths of our kernels, with their reasons.
        kernels: Vec<Choice>,
        /// The training images in words; empty where older programs did not say.
        #[serde(default)]
        train: String,
        /// The test images in words, if there are any.
        #[serde(default)]
        test: Option<String>,
        /// Images in the dataset.
        images: u64,
        /// Steps already done: 0, or where the run resumed.
        step: u64,
        /// Steps of the whole run.
        steps: u64,
        /// Epochs of the whole run.
        epochs: u64,
        /// Trainable parameters.
        parameters: u64,
    },
    /// One optimiser step is done.
    Step {
        /// Completed steps.
        step: u64,
        /// The epoch the step belongs to.
        epoch: u64,
        /// Learning rate of this step.
        #[serde(deserialize_with = "crate::json::number")]
        lr: f64,
        /// The loss.
        #[serde(deserialize_with = "crate::json::number")]
        loss: f64,
        /// The loss's named parts, in the method's order; an object in JSON.
        #[serde(with = "pairs")]
        parts: Vec<(String, f64)>,
        /// L2 norm of the gradient over all parameters, before clipping.
        #[serde(default = "unknown", deserialize_with = "crate::json::number")]
        gradient_norm: f64,
        /// What else the method watches, in its order; keys of their own in JSON, such as `positive_prob`.
        #[serde(flatten, with = "pairs")]
        signals: Vec<(String, f64)>,
        /// Source images per second.
        #[serde(deserialize_with = "crate::json::number")]
        images_per_s: f64,
        /// Share of the time spent waiting for data, 0 to 1.
        #[serde(deserialize_with = "crate::json::number")]
        data_wait: f64,
        /// Estimated seconds to the end of the run.
        #[serde(deserialize_with = "crate::json::number")]
        eta_s: f64,
    },
    /// One epoch is done. To be emitted before the checkpoint of the same step, so that a resume keeps it.
    Epoch {
        /// The epoch.
        epoch: u64,
        /// Completed steps.
        step: u64,
        /// Mean loss over the epoch.
        #[serde(deserialize_with = "crate::json::number")]
        loss: f64,
        /// Means of [`Event::Step::signals`] over the epoch.
        #[serde(flatten, with = "pairs")]
        signals: Vec<(String, f64)>,
        /// Seconds it took.
        #[serde(deserialize_with = "crate::json::number")]
        wall_s: f64,
        /// Source images per second.
        #[serde(deserialize_with = "crate::json::number")]
        images_per_s: f64,
        /// Share of the time spent waiting for data, 0 to 1.
        #[serde(deserialize_with = "crate::json::number")]
        data_wait: f64,
        /// Learning rate of the last step.
        #[serde(deserialize_with = "crate::json::number")]
        lr: f64,
    },
    /// An image could not be read and another took its place.
    Broken {
        /// The file or record.
        name: String,
        /// What is wrong with it.
        reason: String,
        /// What was read instead.
        replaced_by: String,
    },
    /// A checkpoint is safely on disk.
    Checkpoint {
        /// Completed steps.
        step: u64,
        /// Its folder.
        path: String,
        /// Its size in bytes; 0 where older programs did not say.
        #[serde(default)]
        bytes: u64,
        /// Seconds it took to write, sync and verify it, while training went on.
        #[serde(default = "unknown", deserialize_with = "crate::json::number")]
        seconds: f64,
        /// Seconds that training stood still for it.
        #[serde(default = "unknown", deserialize_with = "crate::json::number")]
        waited_s: f64,
    },
    /// Something the user should know that does not stop the run.
    Warning {
        /// The fact, in lower case, without a final full stop.
        message: String,
    },
    /// A nearest-neighbour evaluation.
    Knn {
        /// The epoch after which it was made.
        epoch: u64,
        /// Completed steps.
        step: u64,
        /// The protocol, such as `knn-unmix`.
        protocol: String,
        /// Neighbours asked.
        k: u64,
        /// [`PERCENT`], the unit of both accuracies; empty in files of older versions, which wrote shares from 0 to 1.
        #[serde(default)]
        unit: String,
        /// Top-1 accuracy.
        #[serde(deserialize_with = "crate::json::number")]
        top1: f64,
        /// The best accuracy of this run so far.
        #[serde(deserialize_with = "crate::json::number")]
        best: f64,
        /// Seconds it took.
        #[serde(deserialize_with = "crate::json::number")]
        wall_s: f64,
    },
    /// What the encoder looks like, see [`crate::eval::monitor`]. Emitted before the checkpoint of the same step, as an epoch is.
    Monitor {
        /// The epoch after which it was measured.
        epoch: u64,
        /// Completed steps.
        step: u64,
        /// Images looked at.
        images: u64,
        /// Mean standard deviation of the embedding's dimensions; 1/sqrt(d) is isotropic, 0 collapsed.
        #[serde(deserialize_with = "crate::json::number")]
        feature_std: f64,
        /// Effective rank of the embedding.
        #[serde(deserialize_with = "crate::json::number")]
        rankme: f64,
        /// Effective rank of the features before the head.
        #[serde(deserialize_with = "crate::json::number")]
        rankme_features: f64,
        /// Effective rank of what tells images apart beyond what augmentation changes; `null` in files of older versions.
        #[serde(default = "unknown", deserialize_with = "crate::json::number")]
        lidar: f64,
        /// Mean squared distance of two views of an image.
        #[serde(deserialize_with = "crate::json::number")]
        alignment: f64,
        /// Logarithm of the mean Gaussian potential of all pairs.
        #[serde(deserialize_with = "crate::json::number")]
        uniformity: f64,
        /// A linear probe of the features, with `eval.monitor.linear`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        linear: Option<Probed>,
        /// Seconds it took, the updates of the linear probe among them.
        #[serde(deserialize_with = "crate::json::number")]
        wall_s: f64,
    },
    /// The run is over.
    End {
        /// How it ended.
        outcome: Outcome,
        /// Completed steps.
        step: u64,
        /// Completed epochs.
        epoch: u64,
        /// The last loss.
        #[serde(deserialize_with = "crate::json::number")]
        loss: f64,
        /// Seconds this process trained.
        #[serde(deserialize_with = "crate::json::number")]
        wall_s: f64,
        /// Source images per second over that time.
        #[serde(deserialize_with = "crate::json::number")]
        images_per_s: f64,
    },
}

/// The unit of accuracies, in every file.
pub const PERCENT: &str = "percent";

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All steps were done.
    Finished,
    /// A signal asked for the end; the checkpoint holds the state.
    Interrupted,
    /// An error ended it.
    Failed,
}

/// A listener: terminal, metrics file, a test.
pub trait Sink {
    /// Takes one event.
    ///
    /// # Errors
    /// The event could not be recorded, for example because the disk is full.
    fn on(&mut self, event: &Event) -> Result<()>;

    /// A checkpoint is on its way to the disk: what is heard from here on comes after its event, or after [`Sink::release`].
    fn hold(&mut self) {}

    /// No checkpoint is on its way any more.
    ///
    /// # Errors
    /// As [`Sink::on`].
    fn release(&mut self) -> Result<()> {
        Ok(())
    }

    /// Makes durable what was heard so far, before a checkpoint claims it.
    ///
    /// # Errors
    /// Something could not be recorded yet.
    fn sync(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Several listeners as one.
#[derive(Default)]
pub struct Sinks(pub Vec<Box<dyn Sink>>);

impl Sink for Sinks {
    /// Hands the event to all, also after one failed, and returns the first error.
    fn on(&mut self, event: &Event) -> Result<()> {
        let results: Vec<Result<()>> = self.0.iter_mut().map(|sink| sink.on(event)).collect();
        results.into_iter().collect()
    }

    fn hold(&mut self) {
        self.0.iter_mut().for_each(|sink| sink.hold());
    }

    fn release(&mut self) -> Result<()> {
        let results: Vec<Result<()>> = self.0.iter_mut().map(|sink| sink.release()).collect();
        results.into_iter().collect()
    }

    fn sync(&mut self) -> Result<()> {
        self.0.iter_mut().try_for_each(|sink| sink.sync())
    }
}

/// What events of older versions do not say.
fn unknown() -> f64 {
    f64::NAN
}

/// Ordered pairs as a JSON object.
mod pairs {
    use super::*;

    pub fn serialize<S: Serializer>(pairs: &[(String, f64)], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, f64)>, D::Error> {
        let map = serde_json::Map::deserialize(deserializer)?;
        // Flattened among the fields of an event, pairs are whatever numbers nobody else claims.
        let numbers = map.into_iter().filter(|(_, value)| value.is_number() || value.is_null());
        Ok(numbers.map(|(name, value)| (name, value.as_f64().unwrap_or(f64::NAN))).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::error::Error;

    struct Recorder(Rc<RefCell<Vec<Event>>>, Option<&'static str>);

    impl Sink for Recorder {
        fn on(&mut self, event: &Event) -> Result<()> {
            self.0.borrow_mut().push(event.clone());
            self.1.map_or(Ok(()), |fact| Err(Error::run(fact)))
        }
    }

    #[test]
    fn all_sinks_hear_an_event_and_the_first_error_is_returned() {
        let heard = Rc::new(RefCell::new(Vec::new()));
        let errors = [None, Some("full"), Some("late"), None];
        let mut sinks = Sinks(errors.map(|error| Box::new(Recorder(heard.clone(), error)) as Box<dyn Sink>).into());
        let event = Event::Warning { message: "x".to_owned() };
        assert_eq!(sinks.on(&event).unwrap_err().message(), "full");
        assert_eq!(*heard.borrow(), vec![event; 4]);
    }

    #[test]
    fn events_survive_json_and_parts_keep_their_order() {
        let parts = vec![("plain".to_owned(), 0.5), ("flip".to_owned(), 0.1 + 0.2)];
        let event = Event::Step {
            step: 3,
            epoch: 1,
            lr: 0.06,
            loss: 0.8,
            parts,
            gradient_norm: 2.5,
            signals: vec![("positive_prob".to_owned(), 0.1), ("positive_l".to_owned(), 0.2)],
            images_per_s: 9.5,
            data_wait: 0.0,
            eta_s: 7.0,
        };
        let text = serde_json::to_string(&event).unwrap();
        assert!(text.starts_with("{\"event\":\"step\",\"step\":3,"), "{text}");
        assert!(text.contains("\"parts\":{\"plain\":0.5,\"flip\":0.30000000000000004}"), "{text}");
        assert!(text.contains("\"positive_prob\":0.1,\"positive_l\":0.2"), "{text}");
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
        // Written before gradients were measured.
        let old = text.replace("\"gradient_norm\":2.5,", "");
        assert!(matches!(serde_json::from_str(&old).unwrap(), Event::Step { gradient_norm, .. } if gradient_norm.is_nan()));
    }
}
