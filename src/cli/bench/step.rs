//! `unmix bench step`: one MoCo step is query forward and backward, key forward, SGD, moving average, enqueue.

use std::process::ExitCode;
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use clap::Args;
use serde_json::{Map, json};

use crate::config::Precision;
use crate::device::{self, Opened};
use crate::error::{Error, Result};
use crate::method::moco::{MemoryConfig, MocoConfig};
use crate::method::{Inputs, Method, MethodConfig, Position, Setup};
use crate::model::resnet::Stem;
use crate::model::{ModelConfig, ModelName};
use crate::optim::{Sgd, SgdConfig};
use crate::rng::{Purpose, Stream};
use crate::train::summary::peak_rss_mib;

/// Whole MoCo steps on synthetic tensors.
#[derive(Debug, Args)]
pub struct Step {
    /// Backbone and stem: resnet18-cifar, resnet50 (ImageNet stem), ...
    #[arg(long, default_value = "resnet18-cifar")]
    arch: String,
    /// Factor on the planes of the stages.
    #[arg(long, default_value_t = 1.0)]
    width: f64,
    /// Source images per step; each has two views.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Edge of a view in pixels.
    #[arg(long, default_value_t = 32)]
    size: usize,
    /// Rows of the queue.
    #[arg(long, default_value_t = 4096)]
    queue: usize,
    /// SplitBN groups, by default those of `model.bn_splits`, which is what runs have; the PyTorch baseline has plain batch norm (1).
    #[arg(long, default_value_t = ModelConfig::default().bn_splits)]
    splits: usize,
    /// f32.
    #[arg(long, default_value = "f32")]
    precision: String,
    /// auto, cpu, wgpu, wgpu-cpu, cuda or cuda:INDEX.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Timed steps.
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// Steps before the clock starts.
    #[arg(long, default_value_t = 3)]
    warmup: usize,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// In the order of a step.
const PHASES: [&str; 4] = ["forward", "backward", "update", "follow_up"];

impl Step {
    /// Measures and prints.
    pub fn run(&self) -> Result<ExitCode> {
        let model = self.model()?;
        let precision: Precision = serde_json::from_value(self.precision.clone().into())
            .map_err(|_| Error::input(format!("there is no precision `{}`", self.precision)).hint("known here: f32"))?;
        if self.steps == 0
            || self.batch == 0
            || self.size == 0
            || self.splits == 0
            || !self.batch.is_multiple_of(self.splits.max(1))
        {
            return Err(Error::input("--steps, --batch, --size and --splits must be at least 1, and --splits must divide --batch"));
        }
        let opened = device::open(&self.device)?;
        let config = MocoConfig {
            memory: MemoryConfig { size: self.queue, ..MemoryConfig::default() },
            temperature: 0.2,
            ..MocoConfig::default()
        };
        let mut method = MethodConfig::Moco(config).init(&Setup::new(&opened, &model, self.batch, 1));
        let mut optimizer = Sgd::new(SgdConfig::default());
        let views: Vec<Tensor<4>> = (0..2).map(|view| self.images(view, &opened.device)).collect();

        let (mut whole, mut phases) = (Vec::new(), vec![Vec::new(); PHASES.len()]);
        for step in 0..self.warmup + self.steps {
            let times = one_step(method.as_mut(), &mut optimizer, views.clone(), step as u64, &opened)?;
            if step >= self.warmup {
                whole.push(times.iter().sum());
                phases.iter_mut().zip(times).for_each(|(all, time)| all.push(time));
            }
        }
        let (median, min, max) = super::spread(whole);
        let phases: Map<_, _> =
            PHASES.iter().zip(phases).map(|(name, times)| ((*name).to_owned(), super::spread(times).0.into())).collect();
        let images_per_s = self.batch as f64 / median;
        if self.json {
            super::super::print_json(&json!({
                "images_per_s": images_per_s, "median_s": median, "min_s": min, "max_s": max, "peak_mib": peak_mib(&opened),
                "phases": phases, "device": opened.info.name, "description": opened.info.description, "compiler": opened.info.compiler,
                "arch": self.arch, "width": self.width, "batch": self.batch, "size": self.size, "queue": self.queue, "splits": self.splits,
                "precision": precision, "steps": self.steps, "version": env!("CARGO_PKG_VERSION"),
            }))?;
        } else {
            super::super::print(&format!(
                "{} batch {} size {} on {}: {images_per_s:.1} images/s, median {median:.4} s (min {min:.4}, max {max:.4}), peak {} MiB",
                self.arch,
                self.batch,
                self.size,
                opened.info.name,
                peak_mib(&opened).map_or("unknown".to_owned(), |mib| format!("{mib:.0}"))
            ));
            phases
                .iter()
                .for_each(|(name, time)| super::super::print(&format!("  {name:10} {:.4} s", time.as_f64().unwrap_or(f64::NAN))));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn model(&self) -> Result<ModelConfig> {
        let (name, stem) = match self.arch.split_once('-') {
            Some((name, "cifar")) => (name, Stem::Cifar),
            None => (self.arch.as_str(), Stem::Imagenet),
            Some((_, stem)) => {
                return Err(
                    Error::input(format!("`{stem}` is no stem")).hint("write resnet18-cifar, or resnet18 for the ImageNet stem")
                );
            }
        };
        let name: ModelName = serde_json::from_value(name.into()).map_err(|_| {
            Error::input(format!("there is no backbone `{name}`"))
                .hint(crate::error::nearest(name, ["resnet18", "resnet34", "resnet50", "resnet101", "resnet26b"]))
        })?;
        let model = ModelConfig { name, stem, width: self.width, bn_splits: self.splits, ..ModelConfig::default() };
        let mut problems = Vec::new();
        model.problems("model", &mut problems);
        match problems.first() {
            Some(problem) => Err(Error::input(problem.clone())),
            None => Ok(model),
        }
    }

    fn images(&self, view: u64, device: &Device) -> Tensor<4> {
        let mut stream = Stream::new(1, Purpose::Synthetic, &[view]);
        let dims = [self.batch, 3, self.size, self.size];
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| stream.normal() as f32).collect();
        Tensor::from_data(TensorData::new(values, dims), device)
    }
}

/// Seconds of each phase; the device is idle at every border.
fn one_step(method: &mut dyn Method, optimizer: &mut Sgd, views: Vec<Tensor<4>>, step: u64, opened: &Opened) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(PHASES.len());
    let mut mark = Instant::now();
    let mut border = |times: &mut Vec<f64>| -> Result<()> {
        opened.device.sync().map_err(|e| Error::run(format!("the device failed: {e:?}")))?;
        times.push(mark.elapsed().as_secs_f64());
        mark = Instant::now();
        Ok(())
    };
    let images = (0..views[0].dims()[0] as u32).collect();
    let outcome = method.step(Inputs { views, mixed: None, images, position: Position { seed: 1, epoch: 0, step }, draws: None });
    border(&mut times)?;
    let gradients = outcome.loss.backward();
    border(&mut times)?;
    method.update(&gradients, optimizer, 0.03);
    border(&mut times)?;
    method.after_update();
    border(&mut times)?;
    Ok(times)
}

/// Memory of the device where it tells, otherwise of the process.
fn peak_mib(opened: &Opened) -> Option<f64> {
    if opened.info.on_host() {
        peak_rss_mib()
    } else {
        opened.device.memory_pool_usage().map(|usage| usage.bytes_reserved as f64 / f64::from(1 << 20))
    }
}
