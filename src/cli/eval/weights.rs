//! `unmix eval weights`.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::subject::{Subject, SubjectArgs};
use crate::cli;
use crate::error::Result;
use crate::eval::measures::histogram::{BINS, REACH};
use crate::eval::record::Record;
use crate::eval::weights::{LayerWeights, by_layer};

/// `unmix eval weights`.
#[derive(Debug, Args)]
pub struct MeasureWeights {
    #[command(flatten)]
    subject: SubjectArgs,
}

impl MeasureWeights {
    /// Runs the subcommand.
    pub fn run(&self) -> Result<ExitCode> {
        let subject = self.subject.open(&[])?;
        let (record, layers) = measure(&subject);
        record.write(&subject.out)?;
        if self.subject.json {
            cli::print_json(&json!({"results": [record]}))?;
            return Ok(ExitCode::SUCCESS);
        }
        for LayerWeights { name, trained, untrained } in &layers {
            let before = untrained.as_ref().map_or_else(String::new, |before| format!(" ({:.5} untrained)", before.std));
            let (count, std, outside) = (trained.count, trained.std, trained.outside);
            cli::print(&format!("{name}: {count} weights, standard deviation {std:.5}{before}, {outside} beyond {REACH} of it"));
        }
        cli::print(&format!("result in {}", subject.out.display()));
        Ok(ExitCode::SUCCESS)
    }
}

/// The weights by layer (figure 5 of arXiv 2003.05438), of a run beside those of its encoder before the first step.
pub fn measure(subject: &Subject) -> (Record, Vec<LayerWeights>) {
    let started = Instant::now();
    let layers = by_layer(&subject.encoder, subject.untrained().as_ref());
    let protocol = json!({
        "tag": "weights", "values": "weights of convolutions and linear layers, without biases and norms", "bins": BINS,
        "reach": REACH, "range": "that many standard deviations on either side of the mean",
    });
    let result = json!({ "layers": layers });
    (subject.context.record("weights", "weights", protocol, result, started.elapsed().as_secs_f64()), layers)
}
