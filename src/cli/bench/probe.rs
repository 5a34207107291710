//! `unmix bench probe`.

use std::process::ExitCode;
use std::time::Instant;

use burn::tensor::{Int, Tensor, TensorData};
use clap::Args;
use serde_json::json;

use crate::device;
use crate::error::{Error, Result};
use crate::eval::linear::config::Facts;
use crate::eval::linear::feed::{order, shuffled};
use crate::eval::linear::probe::Probe;
use crate::eval::linear::{LinearConfig, Plan, Protocol};
use crate::model::ModelConfig;
use crate::rng::{Purpose, Stream};

/// A whole linear probe on features that are already computed: random ones around one centre per class.
#[derive(Debug, Args)]
pub struct ProbeBench {
    /// auto, cpu, wgpu, wgpu-cpu, cuda or cuda:INDEX.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Rows of features.
    #[arg(long, default_value_t = 50_000)]
    images: usize,
    /// Their width.
    #[arg(long, default_value_t = 512)]
    features: usize,
    /// Classes.
    #[arg(long, default_value_t = 100)]
    classes: usize,
    /// The published recipe, without its augmentation.
    #[arg(long, value_enum, default_value_t = Protocol::Moco)]
    protocol: Protocol,
    /// Learning rates trained side by side.
    #[arg(long, value_delimiter = ',')]
    lr: Vec<f64>,
    /// Epochs; by default the recipe's.
    #[arg(long)]
    epochs: Option<u64>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

impl ProbeBench {
    /// Measures and prints.
    pub fn run(&self) -> Result<ExitCode> {
        if [self.images, self.features, self.classes].contains(&0) || self.epochs == Some(0) {
            return Err(Error::input("--images, --features, --classes and --epochs must be at least 1"));
        }
        if !self.lr.iter().all(|&lr| lr > 0.0 && lr.is_finite()) {
            return Err(Error::input(format!("--lr is {:?}, must be above 0", self.lr)));
        }
        let device = device::open(&self.device)?.device;
        let plan = self.plan()?;
        let labels: Vec<u32> = (0..self.images).map(|i| (i % self.classes) as u32).collect();
        let rows = Tensor::<2>::from_data(TensorData::new(self.rows(&labels), [self.images, self.features]), &device);
        let mut probe = Probe::init(self.features, self.classes, 6, &plan, 1, &device);
        let started = Instant::now();
        let mut loss = Vec::new();
        for epoch in 0..plan.epochs {
            let order = order(1, epoch, self.images);
            shuffled(std::slice::from_ref(&rows), &labels, &order, plan.batch, &mut |rows, seen| {
                let truth: Vec<i32> = seen.iter().map(|&label| label as i32).collect();
                let truth = Tensor::<1, Int>::from_data(TensorData::new(truth, [seen.len()]), &device);
                rows.into_iter().for_each(|rows| probe.step(rows, &truth, plan.share(epoch), &plan));
            });
            // Reads back from the device, so that nothing is still under way.
            loss = probe.take_loss();
        }
        let seconds = started.elapsed().as_secs_f64();
        let per_s = self.images as f64 * plan.epochs as f64 / seconds;
        if self.json {
            super::super::print_json(&json!({
                "images": self.images, "features": self.features, "classes": self.classes, "tag": plan.tag, "epochs": plan.epochs,
                "batch": plan.batch, "lr": plan.lr, "seconds": seconds, "rows_per_s": per_s, "loss": loss,
            }))?;
        } else {
            super::super::print(&format!(
                "{} epochs of {} rows of width {}, {} classes, batch {}, {} rates: {seconds:.1} s, {per_s:.0} rows/s (last loss {loss:.3?})",
                plan.epochs,
                self.images,
                self.features,
                self.classes,
                plan.batch,
                plan.lr.len()
            ));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn plan(&self) -> Result<Plan> {
        let facts = Facts { pair: false, shape: ModelConfig::default().shape(3), classes: self.classes, size: 224 };
        LinearConfig { protocol: Some(self.protocol), lr: self.lr.clone(), epochs: self.epochs, ..LinearConfig::default() }
            .plan(&facts)
    }

    /// A centre per class, and noise.
    fn rows(&self, labels: &[u32]) -> Vec<f32> {
        let centre = |class: u32| Stream::new(1, Purpose::Probe, &[u64::MAX, class.into()]);
        let row = |(image, &label): (usize, &u32)| {
            let (mut centre, mut noise) = (centre(label), Stream::new(1, Purpose::Probe, &[u64::MAX, 0, image as u64]));
            (0..self.features).map(|_| (centre.range(0.0, 1.0) + noise.range(-1.0, 1.0)) as f32).collect::<Vec<_>>()
        };
        labels.iter().enumerate().flat_map(row).collect()
    }
}
