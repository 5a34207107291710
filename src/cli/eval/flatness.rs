//! `unmix eval flatness`.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::subject::{Subject, SubjectArgs};
use crate::cli;
use crate::error::{Error, Result};
use crate::eval::features::stream;
use crate::eval::measures::{Flatness, FlatnessMeter};
use crate::eval::record::Record;

/// `unmix eval flatness`.
#[derive(Debug, Args)]
pub struct MeasureFlatness {
    #[command(flatten)]
    subject: SubjectArgs,
}

impl MeasureFlatness {
    /// Runs the subcommand.
    pub fn run(&self) -> Result<ExitCode> {
        let subject = self.subject.open(&[])?;
        let (record, flatness) = measure(&subject)?;
        record.write(&subject.out)?;
        if self.subject.json {
            cli::print_json(&json!({"results": [record]}))?;
        } else {
            cli::print(&format!(
                "softmax over the {} pooled features of {} images: mean entropy {:.4} of {:.4} nats, mean largest probability {:.5}",
                flatness.width, flatness.images, flatness.entropy, flatness.entropy_max, flatness.largest
            ));
            cli::print(&format!("result in {}", subject.out.display()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The flatness of the features before the head over the test split (figure 3 of arXiv 2003.05438).
pub fn measure(subject: &Subject) -> Result<(Record, Flatness)> {
    let started = Instant::now();
    let layer = subject.encoder.layers().features();
    let mut meter = FlatnessMeter::default();
    let speed = stream(&subject.encoder, subject.test.clone(), &subject.extraction(), &[layer], |rows, _| {
        rows.iter().for_each(|rows| meter.add(rows));
    })?;
    subject.tell_broken(speed.broken);
    let flatness = meter.finish();
    if !flatness.entropy.is_finite() {
        return Err(
            Error::input(format!("features of layer {layer} are not finite")).hint("the run has diverged: use an earlier one")
        );
    }
    let protocol = json!({
        "tag": "flatness", "layer": layer, "temperature": 1.0, "images": "test split without augmentation", "features": "pooled, not normalised",
    });
    let record = subject.context.record("flatness", "flatness", protocol, json!(flatness), started.elapsed().as_secs_f64());
    Ok((record, flatness))
}
