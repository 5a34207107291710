//! `unmix bench step`: a step of MoCo or Un-Mix, or the forward pass of features. One MoCo step is query forward and backward, key forward, SGD, moving average, enqueue.

use std::process::ExitCode;
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::config::Precision;
use crate::device::{self, Opened};
use crate::error::{Error, Result};
use crate::kernel::backend::launches::{Launches, watched};
use crate::kernel::net::profile::{self, Kind};
use crate::kernel::{KernelPath, KernelsConfig, Op};
use crate::method::moco::{MemoryConfig, MocoConfig};
use crate::method::{Facts, Inputs, Method, MethodConfig, Mixture, Position, Setup};
use crate::model::resnet::Stem;
use crate::model::{Frozen, ModelConfig, ModelName};
use crate::optim::{OptimConfig, Optimizer};
use crate::rng::{Purpose, Stream};
use crate::train::step::{PHASES, compute};
use crate::train::trial::peak_mib;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    /// A step of MoCo: query forward and backward, key forward, SGD, moving average, enqueue.
    Moco,
    /// A symmetric step of Un-Mix: three query forwards (both views and the mixture) and two key forwards.
    Unmix,
    /// Features: the forward pass of a frozen encoder.
    Features,
}

/// Whole steps on synthetic tensors.
#[derive(Debug, Args)]
pub struct Step {
    /// What a step is.
    #[arg(long, value_enum, default_value_t = Work::Moco)]
    work: Work,
    /// Backbone and stem: resnet18-cifar, resnet50 (ImageNet stem), ...
    #[arg(long, default_value = "resnet18-cifar")]
    arch: String,
    /// Factor on the planes of the stages.
    #[arg(long, default_value_t = 1.0)]
    width: f64,
    /// Channels after the stem, which does not scale.
    #[arg(long, default_value_t = ModelConfig::default().stem_channels)]
    stem_channels: usize,
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
    /// Images computed at a time (exact accumulation); by default all of the batch.
    #[arg(long, value_name = "IMAGES")]
    micro_batch: Option<usize>,
    /// Path of the nets' blocks: auto, tensor, flex or cube.
    #[arg(long, default_value = "auto")]
    net: String,
    /// Algorithm of 3x3 convolutions on the path flex: auto, off, f2 or f4.
    #[arg(long, default_value = "auto")]
    winograd: String,
    /// Convolutions on the path cube: auto, own or burn.
    #[arg(long, default_value = "auto")]
    convolution: String,
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
    /// Also where the time of a step goes, by kind of work.
    #[arg(long)]
    profile: bool,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Rate of the updates, small enough for any number of steps on noise.
const LR: f64 = 0.03;
/// Steps whose phases are measured apart, after the timed ones: waiting at every border costs a device that works on its own.
const PHASED: usize = 5;

impl Step {
    /// Measures and prints.
    pub fn run(&self) -> Result<ExitCode> {
        let model = self.model()?;
        let precision: Precision = serde_json::from_value(self.precision.clone().into())
            .map_err(|_| Error::input(format!("there is no precision `{}`", self.precision)).hint("known here: f32"))?;
        self.check()?;
        let kernels: KernelsConfig =
            serde_json::from_value(json!({ "net": self.net, "winograd": self.winograd, "convolution": self.convolution }))
                .map_err(|e| {
                    Error::input(format!("--net {} --winograd {} --convolution {}: {e}", self.net, self.winograd, self.convolution))
                .hint("--net is auto, tensor, flex or cube; --winograd is auto, off, f2 or f4; --convolution is auto, own or burn")
                })?;
        let opened = device::open(&self.device)?.with_kernels(&kernels)?;
        let config = MocoConfig {
            memory: MemoryConfig { size: self.queue, ..MemoryConfig::default() },
            temperature: 0.2,
            symmetric: self.work == Work::Unmix,
            ..MocoConfig::default()
        };
        if self.work == Work::Features {
            return self.features(&model, &opened);
        }
        let mut method = MethodConfig::Moco(config).init(&Setup::new(&opened, &model, self.batch, 1));
        let mut optimizer = Optimizer::new(OptimConfig::default());
        let views: Vec<Tensor<4>> = (0..2).map(|view| self.images(view, &opened.device)).collect();

        let inputs = |step: usize| {
            let position = Position { seed: 1, epoch: 0, step: step as u64 };
            let partners: Vec<u32> = (0..self.batch as u32).rev().collect();
            let mixture = (self.work == Work::Unmix).then(|| Mixture { view: 0, lambda: vec![0.3; self.batch], partners });
            // What the mixture is made of changes no time: the kernels of mixtures have a benchmark of their own.
            let mixed = mixture.iter().map(|_| views[1].clone()).collect();
            let facts =
                Facts { images: (0..self.batch as u32).collect(), mixtures: mixture.into_iter().collect(), position, draws: None };
            Inputs { views: views.clone(), mixed, facts }
        };
        let (mut whole, mut host) = (Vec::new(), Vec::new());
        for step in 0..self.warmup + self.steps {
            let (seconds, queued) = self.as_in_training(method.as_mut(), &mut optimizer, inputs(step), &opened)?;
            if step >= self.warmup {
                whole.push(seconds);
                host.push(queued);
            }
        }
        let mut phases = vec![Vec::new(); PHASES.len()];
        let mut kinds = vec![Vec::new(); Kind::ALL.len()];
        profile::watch(self.profile);
        for step in 0..self.steps.min(PHASED) {
            profile::take();
            let times = self.by_phase(method.as_mut(), &mut optimizer, inputs(step), &opened)?;
            phases.iter_mut().zip(times).for_each(|(all, time)| all.push(time));
            kinds.iter_mut().zip(profile::take()).for_each(|(all, (_, time))| all.push(time));
        }
        profile::watch(false);
        let (median, min, max) = super::spread(whole);
        let host = super::spread(host).0;
        let phases: Map<_, _> =
            PHASES.iter().zip(phases).map(|(name, times)| ((*name).to_owned(), super::spread(times).0.into())).collect();
        let images_per_s = self.batch as f64 / median;
        let split = match (self.profile, opened.info.on_host()) {
            (true, true) => split(&phases, kinds, &opened)?,
            _ => Vec::new(),
        };
        let launches = self.launches(method.as_mut(), &mut optimizer, &inputs(0), &opened)?;
        if self.json {
            super::super::print_json(&json!({
                "images_per_s": images_per_s, "median_s": median, "min_s": min, "max_s": max, "host_s": host, "peak_mib": peak_mib(&opened),
                "phases": phases, "device": opened.info.name, "description": opened.info.description, "compiler": opened.info.compiler,
                "arch": self.arch, "width": self.width, "batch": self.batch, "size": self.size, "queue": self.queue, "splits": self.splits, "shards": self.shards(),
                "precision": precision, "convolution": self.convolution, "steps": self.steps, "version": env!("CARGO_PKG_VERSION"), "work": if self.work == Work::Unmix { "unmix" } else { "moco" },
                "profile": split.iter().map(|(name, time)| ((*name).to_owned(), (*time).into())).collect::<Map<_, _>>(),
                "kernels": opened.info.kernels,
                "launches": launches.as_ref().map(|launches| launches.iter().map(|one| one.count).sum::<usize>()),
                "launches_by_kernel": launches.map(|launches| launches.iter().map(|one| json!([one.kernel, one.count, one.seconds])).collect::<Vec<_>>()),
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
            super::super::print(&format!("  host       {host:.4} s to queue forward and backward, of the whole step"));
            phases
                .iter()
                .for_each(|(name, time)| super::super::print(&format!("  {name:10} {:.4} s", time.as_f64().unwrap_or(f64::NAN))));
            let all: f64 = split.iter().map(|(_, time)| time).sum();
            for (name, time) in &split {
                super::super::print(&format!("    {name:20} {time:.4} s  {:4.1} %", 100.0 * time / all));
            }
            for line in launches.iter().flat_map(|launches| self.about(launches)) {
                super::super::print(&line);
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// What one more step launches, on a device that is launched at; with --profile timed.
    fn launches(
        &self,
        method: &mut dyn Method,
        optimizer: &mut Optimizer,
        inputs: &Inputs,
        opened: &Opened,
    ) -> Result<Option<Vec<Launches>>> {
        if opened.info.on_host() {
            return Ok(None);
        }
        let mut step = |timed| {
            let work = || self.as_in_training(method, optimizer, inputs.clone(), opened);
            let (done, launches) = watched(timed, work);
            done.map(|_| launches)
        };
        // The first timed launch of each kernel would count its preparation.
        if self.profile {
            step(true)?;
        }
        step(self.profile).map(Some)
    }

    /// Launches as text: how many, and with --profile the kernels by their time.
    fn about(&self, launches: &[Launches]) -> Vec<String> {
        let all: usize = launches.iter().map(|one| one.count).sum();
        let mut lines = vec![format!("  launches   {all} per step, of {} kernels", launches.len())];
        if self.profile {
            let mut sorted = launches.to_vec();
            sorted.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
            let seconds: f64 = sorted.iter().map(|one| one.seconds).sum();
            lines.extend(sorted.iter().map(|Launches { kernel, count, seconds: time }| {
                format!("    {count:4} x {kernel:50} {time:.4} s  {:4.1} %", 100.0 * time / seconds)
            }));
        }
        lines
    }

    /// Forward passes of a frozen encoder, each read back.
    fn features(&self, model: &ModelConfig, opened: &Opened) -> Result<ExitCode> {
        let frozen = Frozen::one("query", Setup::new(opened, model, self.batch, 1).net(3, "query"));
        let images = self.images(0, &opened.device);
        let mut times = Vec::new();
        for step in 0..self.warmup + self.steps {
            let start = Instant::now();
            frozen.rows(images.clone()).features.into_data();
            if step >= self.warmup {
                times.push(start.elapsed().as_secs_f64());
            }
        }
        let (median, min, max) = super::spread(times);
        let images_per_s = self.batch as f64 / median;
        if self.json {
            super::super::print_json(&json!({
                "images_per_s": images_per_s, "median_s": median, "min_s": min, "max_s": max, "peak_mib": peak_mib(opened), "work": "features",
                "arch": self.arch, "width": self.width, "batch": self.batch, "size": self.size, "steps": self.steps,
                "device": opened.info.name, "kernels": opened.info.kernels, "version": env!("CARGO_PKG_VERSION"),
            }))?;
        } else {
            super::super::print(&format!(
                "features of {} batch {} size {} on {}: {images_per_s:.1} images/s, median {median:.4} s (min {min:.4}, max {max:.4})",
                self.arch, self.batch, self.size, opened.info.name
            ));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Seconds of a step as training makes it, and of those the ones in which the host queued its forward and backward passes. On a device that
    /// works on its own the difference is the time that the host waits.
    fn as_in_training(
        &self,
        method: &mut dyn Method,
        optimizer: &mut Optimizer,
        inputs: Inputs,
        opened: &Opened,
    ) -> Result<(f64, f64)> {
        let free = &mut |_: &'static str| Ok(());
        let start = Instant::now();
        let computed = compute(method, inputs, self.shards(), free)?;
        let queued = start.elapsed().as_secs_f64();
        // The numbers are looked at before they move the weights.
        computed.read(opened.info.kernels.path(Op::Update))?.refuse_non_finite(1)?;
        computed.apply(method, optimizer, LR, 1.0, free)?;
        synced(opened)?;
        Ok((start.elapsed().as_secs_f64(), queued))
    }

    /// Seconds of each of [`PHASES`] of a step; the device is idle at every border.
    fn by_phase(&self, method: &mut dyn Method, optimizer: &mut Optimizer, inputs: Inputs, opened: &Opened) -> Result<Vec<f64>> {
        let mut times = vec![0.0; PHASES.len()];
        let mut mark = Instant::now();
        let mut border = |phase: &'static str| -> Result<()> {
            synced(opened)?;
            let at = PHASES.iter().position(|name| *name == phase).expect("the step names its phases");
            times[at] += mark.elapsed().as_secs_f64();
            mark = Instant::now();
            Ok(())
        };
        let computed = compute(method, inputs, self.shards(), &mut border)?;
        computed.apply(method, optimizer, LR, 1.0, &mut border)?;
        Ok(times)
    }

    fn check(&self) -> Result<()> {
        let counts = [self.steps, self.batch, self.size, self.splits, self.micro_batch.unwrap_or(1)];
        if counts.contains(&0) || !self.batch.is_multiple_of(self.splits) {
            return Err(Error::input(
                "--steps, --batch, --size, --splits and --micro-batch must be at least 1, and --splits must divide --batch",
            ));
        }
        let problem = self.micro_batch.and_then(|micro| crate::config::shard_problem(self.batch, micro, self.splits));
        problem.map_or(Ok(()), |problem| Err(Error::input(problem)))
    }

    fn shards(&self) -> usize {
        self.micro_batch.map_or(1, |micro| self.batch / micro)
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
        let (stem_channels, bn_splits) = (self.stem_channels, self.splits);
        let model = ModelConfig { name, stem, stem_channels, width: self.width, bn_splits, ..ModelConfig::default() };
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

/// Seconds of each kind of work in a step: those inside the blocks, and what is left of the phases.
///
/// # Errors
/// The blocks have a path that is not ours, and tells nothing.
fn split(phases: &Map<String, Value>, kinds: Vec<Vec<f64>>, opened: &Opened) -> Result<Vec<(&'static str, f64)>> {
    let path = opened.info.kernels.path(Op::Net);
    if path != KernelPath::Flex {
        return Err(Error::input(format!("--profile tells what our own blocks do, but `net` runs on the path {}", path.name()))
            .hint("leave --profile out, or measure on --device cpu"));
    }
    let phase = |name: &str| phases[name].as_f64().unwrap_or(f64::NAN);
    let inside: Vec<(&'static str, f64)> =
        Kind::ALL.iter().zip(kinds).map(|(kind, times)| (kind.name(), super::spread(times).0)).collect();
    let rest = phase("forward") + phase("backward") - inside.iter().map(|(_, time)| time).sum::<f64>();
    let update = [("optimizer", phase("update")), ("moving average, queue", phase("follow_up")), ("head, loss, rest", rest)];
    Ok(inside.into_iter().chain(update).collect())
}

fn synced(opened: &Opened) -> Result<()> {
    opened.device.sync().map_err(|e| Error::run(format!("the device failed: {e:?}")))
}
