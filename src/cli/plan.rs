//! `unmix plan`.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::ConfigArgs;
use crate::config::RunConfig;
use crate::config::memory::{Part, size};
use crate::data::{Source, Split};
use crate::device::{self, Opened};
use crate::error::{Error, Result};
use crate::model::LayerCost;
use crate::train::jobs::Length;
use crate::train::trial::{Trial, trial};

/// Bytes of an f32.
const F32: u128 = 4;

/// Says what a run of a config would cost, before it is started: parameters, maps, memories and their bytes, what the device limits, the time of
/// the schedule by a few measured steps, and the size of a checkpoint. Writes nothing.
#[derive(Debug, Args)]
pub struct Plan {
    #[command(flatten)]
    config: ConfigArgs,
    /// auto, cpu, wgpu, wgpu-cpu, cuda or cuda:INDEX; short for --set device=...
    #[arg(long)]
    device: Option<String>,
    /// Images of the dataset, where it is not on this machine: no step is measured then.
    #[arg(long, value_name = "COUNT")]
    images: Option<usize>,
    /// Steps to measure, the first of which prepares; 0 measures none.
    #[arg(long, default_value_t = 4)]
    steps: usize,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Everything that is said.
struct Said<'a> {
    config: &'a RunConfig,
    images: usize,
    device: &'a Opened,
    length: Length,
    trial: Option<Trial>,
}

impl Plan {
    /// Counts, measures, prints.
    pub fn run(&self) -> Result<ExitCode> {
        let mut config = self.config.load()?;
        config.device = self.device.clone().unwrap_or(config.device);
        let config = config.resolved();
        let source: Option<Arc<dyn Source>> = match self.images {
            Some(0) => return Err(Error::input("--images is 0").hint("say how many images the dataset has")),
            Some(_) => None,
            None => Some(
                config
                    .data
                    .open(Split::Train, config.seed)
                    .map_err(|error| error.hint("without the dataset, --images COUNT plans a run on so many images"))?,
            ),
        };
        let images = source.as_ref().map_or(self.images.unwrap_or(0), |source| source.len());
        let device = device::open(&config.device)?.with_kernels(&config.kernels)?;
        let length = Length::of(&config, images)?;
        let refused = config.check_memory(images, &device.info).err();
        let trial = match (&source, &refused) {
            (Some(source), None) if self.steps > 0 => Some(trial(&config, source, &device, self.steps)?),
            _ => None,
        };
        let said = Said { config: &config, images, device: &device, length, trial };
        if self.json {
            super::print_json(&said.json(refused.as_ref()))?;
        } else {
            said.text().iter().for_each(|line| super::print(line));
        }
        refused.map_or(Ok(ExitCode::SUCCESS), Err)
    }
}

impl Said<'_> {
    /// The nets with the parts of each on a view of `size`; equal ones stand together.
    fn nets(&self, size: (usize, usize)) -> Vec<(Vec<&'static str>, Vec<LayerCost>)> {
        let mut all: Vec<(Vec<&'static str>, Vec<LayerCost>)> = Vec::new();
        for net in self.config.method.demands().nets {
            let layers = self.config.model.cost(net.channels.len(), size).layers;
            match all.iter_mut().find(|(_, known)| *known == layers) {
                Some((names, _)) => names.push(net.name),
                None => all.push((vec![net.name], layers)),
            }
        }
        all
    }

    fn micro_batch(&self) -> usize {
        self.config.data.batch / self.config.shards().max(1)
    }

    fn tensors(&self) -> Vec<Part> {
        let mut tensors = self.config.tensors(self.images);
        tensors.sort_by_key(|part| std::cmp::Reverse(part.bytes));
        tensors
    }

    /// A table of each net, with `views.crops` for each size of views.
    fn nets_in_words(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for ((height, width), views) in self.config.forwards() {
            let crops =
                self.config.views.crops.as_ref().map_or(String::new(), |_| format!(" on {views} views of {height} x {width}"));
            for (names, layers) in self.nets((height, width)) {
                let weights: u128 = layers.iter().map(|layer| layer.weights).sum();
                let each = if names.len() > 1 { ", each" } else { "" };
                lines.push(format!("{}{each}{crops}: {weights} weights and statistics, {}", names.join(", "), size(weights * F32)));
                lines.push(format!("  {:12} {:>16} {:>12} {:>24}", "part", "output", "weights", "kept of a forward, at least"));
                for LayerCost { name, map: [c, h, w], weights, kept } in layers {
                    let kept = size(kept * F32 * (self.micro_batch() * views) as u128);
                    lines.push(format!("  {name:12} {:>16} {weights:>12} {kept:>24}", format!("{c} x {h} x {w}")));
                }
            }
        }
        lines
    }

    fn text(&self) -> Vec<String> {
        let Self { config, images, device, length, trial } = self;
        let mut lines = self.nets_in_words();
        let parts = config.parts(*images);
        let all: u128 = parts.iter().map(|part| part.bytes).sum();
        lines.push(format!("memory, at least: {}", size(all)));
        lines.extend(parts.iter().map(|part| format!("  {:>10}  {}", size(part.bytes), part.what)));
        let there = device.info.memory().map_or("not known".to_owned(), |bytes| size(bytes.into()));
        lines.push(format!("device {}: {}; memory {there}", device.info.name, device.info.description));
        let largest = &self.tensors()[0];
        let limit = device.info.largest_tensor().map_or("no limit of its own".to_owned(), |bytes| size(bytes.into()));
        lines.push(format!("largest tensor: {} ({}); the device takes {limit}", size(largest.bytes), largest.what));
        lines.push(match config.largest_micro_batch(*images, &device.info) {
            Some(micro) if micro == config.data.batch => "the whole batch can fit at once".to_owned(),
            Some(micro) => format!("the largest `data.micro_batch` that can fit is {micro}"),
            None => "no `data.micro_batch` fits".to_owned(),
        });
        lines.push(format!("a checkpoint: {}", size(config.checkpoint_bytes(*images))));
        lines.push(format!(
            "schedule: {} steps of {} images, {} in an epoch, {} epochs",
            length.steps,
            config.data.batch,
            length.per_epoch,
            length.epochs()
        ));
        match trial {
            None => lines.push("no step was measured".to_owned()),
            Some(Trial { first_s, step_s, data_wait, peak_mib }) => {
                let peak = peak_mib.map_or("unknown".to_owned(), |mib| format!("{mib:.0} MiB"));
                lines.push(format!(
                    "measured: {step_s:.3} s a step ({:.0} images/s, {:.0} % of it waiting for images), the first {first_s:.2} s, peak {peak}",
                    config.data.batch as f64 / step_s,
                    100.0 * data_wait
                ));
                lines.push(format!(
                    "the schedule takes about {}, measurements of the encoder not counted",
                    duration(length.steps as f64 * step_s)
                ));
            }
        }
        lines
    }

    fn json(&self, refused: Option<&Error>) -> serde_json::Value {
        let Self { config, images, device, length, trial } = self;
        let bytes = |parts: Vec<Part>| {
            parts.into_iter().map(|part| json!({ "what": part.what, "bytes": part.bytes as u64 })).collect::<Vec<_>>()
        };
        // A net stands there once for each size of its views.
        let nets = config.forwards().into_iter().flat_map(|(size, views)| {
            let nets = self.nets(size).into_iter();
            nets.map(move |(names, layers)| json!({ "names": names, "size": [size.0, size.1], "views": views, "parts": layers }))
        });
        json!({
            "nets": nets.collect::<Vec<_>>(),
            "images": images, "batch": config.data.batch, "micro_batch": self.micro_batch(),
            "memory": bytes(config.parts(*images)), "tensors": bytes(self.tensors()),
            "device": { "name": device.info.name, "memory": device.info.memory(), "largest_tensor": device.info.largest_tensor() },
            "largest_micro_batch": config.largest_micro_batch(*images, &device.info),
            "checkpoint_bytes": config.checkpoint_bytes(*images) as u64,
            "steps": length.steps, "steps_per_epoch": length.per_epoch, "epochs": length.epochs(),
            "measured": trial.as_ref().map(|trial| json!({
                "step_s": trial.step_s, "first_s": trial.first_s, "data_wait": trial.data_wait, "peak_mib": trial.peak_mib,
                "images_per_s": config.data.batch as f64 / trial.step_s, "schedule_s": length.steps as f64 * trial.step_s,
            })),
            "refused": refused.map(ToString::to_string),
        })
    }
}

/// Seconds in words.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn times_are_said_in_their_own_units() {
        assert_eq!(
            [duration(9.6), duration(600.0), duration(9000.0), duration(864_000.0)],
            ["10 s", "10 min", "2.5 h", "10.0 days"]
        );
    }
}
