//! `unmix eval flatness`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::subject::{Subject, SubjectArgs};
use crate::cli;
use crate::data::file_list::FileList;
use crate::data::{Encoded, Source, decode};
use crate::error::{Error, Result};
use crate::eval::features::stream;
use crate::eval::measures::{Flatness, FlatnessMeter, Rows};
use crate::eval::record::{Record, fnv};

/// `unmix eval flatness`.
#[derive(Debug, Args)]
pub struct MeasureFlatness {
    #[command(flatten)]
    subject: SubjectArgs,
    /// Image files to measure one by one, as in the paper, in place of the mean over the test split.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    image: Vec<PathBuf>,
}

impl MeasureFlatness {
    /// Runs the subcommand.
    pub fn run(&self) -> Result<ExitCode> {
        let subject = self.subject.open(&[])?;
        if !self.image.is_empty() {
            return self.run_on_images(&subject);
        }
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

    fn run_on_images(&self, subject: &Subject) -> Result<ExitCode> {
        let (record, images) = measure_images(subject, &self.image)?;
        record.write(&subject.out)?;
        if self.subject.json {
            cli::print_json(&json!({"results": [record]}))?;
            return Ok(ExitCode::SUCCESS);
        }
        for (name, Flatness { width, entropy, entropy_max, largest, .. }) in images {
            cli::print(&format!(
                "{name}: softmax over the {width} pooled features: entropy {entropy:.4} of {entropy_max:.4} nats, largest probability {largest:.5}"
            ));
        }
        cli::print(&format!("result in {}", subject.out.display()));
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

/// The same of single image files, each by itself, with its name.
///
/// # Errors
/// A file that is no image; those of the encoder.
fn measure_images(subject: &Subject, files: &[PathBuf]) -> Result<(Record, Vec<(String, Flatness)>)> {
    let started = Instant::now();
    let source = Arc::new(FileList::new(files.to_vec()));
    let layer = subject.encoder.layers().features();
    let digests = (0..source.len()).map(|index| digest(source.as_ref(), index)).collect::<Result<Vec<String>>>()?;
    let mut images = Vec::new();
    stream(&subject.encoder, source.clone(), &subject.single_pass()?, &[layer], |part| {
        let rows = Rows::of(&part.layers[0]);
        images.extend(part.images.iter().enumerate().map(|(at, &index)| {
            let mut meter = FlatnessMeter::default();
            meter.add_rows(&rows.select(&[at]));
            (source.name(index as usize), meter.finish())
        }));
    })?;
    let named = |((name, flatness), digest): (&(String, Flatness), &String)| {
        let mut value = json!(flatness);
        (value["name"], value["digest"]) = (name.as_str().into(), digest.as_str().into());
        value
    };
    let protocol = json!({
        "tag": "flatness-image", "layer": layer, "temperature": 1.0, "images": "single files without augmentation", "digests": digests,
        "features": "pooled, not normalised",
    });
    let result = json!({ "images": images.iter().zip(&digests).map(named).collect::<Vec<_>>() });
    let record = subject.context.record("flatness_image", "flatness-image", protocol, result, started.elapsed().as_secs_f64());
    Ok((record, images))
}

/// Sixteen digits that stand for the bytes of an image, which must be one: named by hand, none is left out.
fn digest(source: &FileList, index: usize) -> Result<String> {
    let Encoded::File(bytes) = source.encoded(index)? else { unreachable!("a list of files has files") };
    decode(&bytes).map_err(|error| {
        Error::input(format!("`{}` is no image: {}", source.name(index), error.message()))
            .hint("name JPEG, PNG or other image files")
    })?;
    Ok(format!("{:016x}", fnv(bytes.iter().copied())))
}
