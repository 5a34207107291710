//! `unmix bench features`.

use std::process::ExitCode;
use std::time::Instant;

use burn::tensor::Tensor;
use clap::Args;
use serde_json::json;

use crate::cli::eval::SubjectArgs;
use crate::data::Loader;
use crate::data::{Item, Job};
use crate::error::{Error, Result};
use crate::eval::features::stream;
use crate::rng::{Purpose, Stream};

/// The forward passes of an encoder alone, on images that are there already, and the features of a whole split from its files: the second
/// should be as fast as the first.
#[derive(Debug, Args)]
pub struct FeaturesBench {
    #[command(flatten)]
    subject: SubjectArgs,
    /// Rounds, each of both.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of forward passes per round.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

impl FeaturesBench {
    /// Measures and prints.
    pub fn run(&self) -> Result<ExitCode> {
        if self.rounds == 0 || !(self.seconds > 0.0 && self.seconds.is_finite()) {
            return Err(Error::input("--rounds must be at least 1 and --seconds above 0"));
        }
        self.subject.refuse_out("leave it away: what is measured is printed")?;
        let subject = self.subject.open(&[])?;
        let (how, layers) = (subject.extraction(), [subject.encoder.layers().features()]);
        let n = how.batch.min(subject.train.len());
        let items = (0..n as u32).map(|index| Item { index, streams: vec![Stream::new(0, Purpose::Probe, &[])] }).collect();
        let jobs = std::iter::once(Job { items, payload: () });
        let mut loader = Loader::start(subject.train.clone(), how.transform.clone(), how.loader, jobs);
        let batch = loader.next().ok_or_else(|| Error::run("the loader gave no batch"))??;
        let images = how.images(&batch.views[0]);
        let sync = || how.device.sync().map_err(|error| Error::run(format!("the device failed: {error:?}")));
        let forward = |images: &Tensor<4>| -> Result<()> {
            subject.encoder.layer_rows(images.clone(), &layers);
            sync()
        };
        forward(&images)?;
        let (mut alone, mut extracted, mut waits) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let (started, mut passes) = (Instant::now(), 0);
            while started.elapsed().as_secs_f64() < self.seconds {
                forward(&images)?;
                passes += 1;
            }
            alone.push((passes * n) as f64 / started.elapsed().as_secs_f64());
            let speed = stream(&subject.encoder, subject.train.clone(), &how, &layers, |_| {})?;
            extracted.push(speed.images_per_s);
            waits.push(speed.data_wait);
        }
        let [alone, extracted, waits] = [alone, extracted, waits].map(|values| super::spread(values).0);
        if self.subject.json {
            super::super::print_json(&json!({
                "forward_images_per_s": alone, "extract_images_per_s": extracted, "ratio": extracted / alone, "data_wait": waits,
                "images": subject.train.len(), "batch": n, "rounds": self.rounds, "device": subject.context.device,
            }))?;
        } else {
            super::super::print(&format!(
                "forward alone {alone:.0} images/s; features of {} images {extracted:.0} images/s ({:.2} of it), data wait {:.1} %; medians of {}",
                subject.train.len(),
                extracted / alone,
                100.0 * waits,
                self.rounds
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}
