//! `summary.json`: what a finished run amounts to.

use serde::{Deserialize, Serialize};

use super::events::Outcome;
use crate::eval::linear::Probed;

/// A weighted-kNN result with its protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Knn {
    /// Neighbours.
    pub k: usize,
    /// Temperature of the votes.
    pub temperature: f64,
    /// Layer of the features.
    pub layer: usize,
    /// Share of correct first guesses, in percent.
    pub top1: f64,
    /// Share of images whose class is among the first five, in percent.
    pub top5: f64,
    /// The same on the other of the last two layers, features and embedding, top-1 in percent.
    pub other_layer: usize,
    /// Top-1 there.
    pub other_top1: f64,
    /// Images in the bank; 0 in checkpoints of older programs.
    #[serde(default)]
    pub bank: usize,
    /// Number of queries.
    #[serde(default)]
    pub queries: usize,
    /// Names of the images of either split that could not be read: they are neither in the bank nor queries.
    #[serde(default)]
    pub unreadable: Vec<String>,
}

/// The best result of a run's monitored epochs. Chosen on the test images, so it is never the result: it stands beside the last one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Share of correct first guesses, in percent.
    pub top1: f64,
    /// The epoch after which it was measured.
    pub epoch: u64,
    /// Completed steps then; runs of older programs did not say.
    #[serde(default)]
    pub step: Option<u64>,
}

impl Best {
    /// The better of two; of equals the earlier.
    pub fn or(self, other: Option<Self>) -> Self {
        other.filter(|other| other.top1 >= self.top1).unwrap_or(self)
    }
}

/// The kNN entry of the summary: trained beside untrained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnnSummary {
    /// The trained encoder at the last step.
    #[serde(flatten)]
    pub trained: Knn,
    /// Top-1 of the same encoder before the first step, in percent.
    pub untrained_top1: f64,
    /// The same on the other layer.
    pub untrained_other_top1: f64,
    /// Top-1 of the best of all measured epochs, the last one among them, in percent.
    pub best_top1: f64,
    /// Which epoch that was.
    pub best_epoch: u64,
}

/// The linear entry of the summary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinearSummary {
    /// The probe of the trained encoder at the last step.
    #[serde(flatten)]
    pub trained: Probed,
    /// Top-1 of the best of all measured epochs, the last one among them, in percent. Chosen on the test images, so it is not the result.
    pub best_top1: f64,
    /// Which epoch that was.
    pub best_epoch: u64,
}

/// The whole summary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How the run ended; `finished` in runs of older programs, which wrote no other summaries.
    #[serde(default = "finished")]
    pub outcome: Outcome,
    /// Name of the method.
    pub method: String,
    /// Name of the mixture.
    pub mixture: String,
    /// Name of the device.
    pub device: String,
    /// Completed steps.
    pub steps: u64,
    /// Completed epochs.
    pub epochs: u64,
    /// Seconds of training, over all starts, evaluation excluded.
    pub wall_s: f64,
    /// Source images per second while training.
    pub images_per_s: f64,
    /// Share of the training time spent waiting for images.
    pub data_wait: f64,
    /// Loss of the last step; `null` if it is not known.
    #[serde(deserialize_with = "crate::json::number")]
    pub loss_last: f64,
    /// Images of both splits that could not be read, each counted once: others took their places in training, evaluations left them out.
    pub broken_images: u64,
    /// Largest resident set of the process, in MiB, if the system tells.
    pub peak_rss_mib: Option<f64>,
    /// Accuracy; `null` without labels, with `eval.enabled` = false, or of features that are not finite.
    pub knn: Option<KnnSummary>,
    /// Accuracy of a linear probe; `null` without `eval.monitor.linear`, and where `knn` is.
    #[serde(default)]
    pub linear: Option<LinearSummary>,
}

fn finished() -> Outcome {
    Outcome::Finished
}

/// The largest resident set of this process so far, in MiB.
pub fn peak_rss_mib() -> Option<f64> {
    #[cfg(unix)]
    {
        // SAFETY: an all-zero rusage is a valid value, and getrusage only writes to it.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        let status = unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
        let unit = if cfg!(target_os = "macos") { 1.0 } else { 1024.0 };
        (status == 0).then(|| usage.ru_maxrss as f64 * unit / f64::from(1 << 20))
    }
    #[cfg(not(unix))]
    None
}
