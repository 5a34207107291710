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
    let speed = stream(&subject.encoder, subject.test.clone(), &subject.single_pass()?, &[layer], |part| {
        part.layers.iter().for_each(|rows| meter.add(rows));
    })?;
    subject.tell_unreadable(&speed.unreadable);
    let flatness = meter.finish();
    if flatness.images == 0 {
        return Err(Error::input("no test image can be read").detail(subject.test.describe()));
    }
    let protocol = json!({
        "tag": "flatness", "layer": layer, "temperature": 1.0, "images": "test split without augmentation", "features": "pooled, not normalised",
    });
    let mut result = json!(flatness);
    (result["broken_images"], result["unreadable"]) = (speed.unreadable.len().into(), json!(speed.unreadable));
    let record = subject.context.record("flatness", "flatness", protocol, result, started.elapsed().as_secs_f64());
    Ok((record, flatness))
}
