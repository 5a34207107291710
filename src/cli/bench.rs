//! `unmix bench`: speed, measured in one way everywhere: warm-up excluded, device synchronised, medians.

mod features;
mod loader;
mod mixture;
#[cfg(feature = "flex")]
mod net;
mod probe;
mod scores;
mod step;

use std::process::ExitCode;

use clap::Subcommand;

use crate::error::Result;

/// Measures speed.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Whole MoCo steps on synthetic tensors, split by phase.
    Step(step::Step),
    /// JPEG files to two augmented views.
    Loader(loader::LoaderBench),
    /// Mixture plans and the ingest on every kernel path.
    Mixture(mixture::MixtureBench),
    /// Features against rows of a memory bank (InsDis, CMC), with and without the gather.
    Scores(scores::Scores),
    /// A whole linear probe on features that are already computed.
    Probe(probe::ProbeBench),
    /// The CPU's convolutions layer by layer, beside the peak of the processor.
    #[cfg(feature = "flex")]
    Net(net::Net),
    /// The forward passes of a run's encoder alone, and the features of its training split from files.
    Features(features::FeaturesBench),
}

impl Bench {
    /// Runs the subcommand.
    pub fn run(&self) -> Result<ExitCode> {
        match self {
            Self::Step(step) => step.run(),
            Self::Loader(loader) => loader.run(),
            Self::Mixture(mixture) => mixture.run(),
            Self::Scores(scores) => scores.run(),
            Self::Probe(probe) => probe.run(),
            #[cfg(feature = "flex")]
            Self::Net(net) => net.run(),
            Self::Features(features) => features.run(),
        }
    }
}

/// Median, minimum and maximum of some durations in seconds.
fn spread(mut seconds: Vec<f64>) -> (f64, f64, f64) {
    seconds.sort_by(f64::total_cmp);
    let n = seconds.len();
    let median = if n % 2 == 1 { seconds[n / 2] } else { (seconds[n / 2 - 1] + seconds[n / 2]) / 2.0 };
    (median, seconds[0], seconds[n - 1])
}
