//! `unmix bench mixture`: the mixture and the ingest on every path of a device, against a plain copy of the same tensor.

use std::process::ExitCode;
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use clap::Args;
use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;

use crate::colour::{ColorSpace, Normalization};
use crate::device::{self, Opened};
use crate::error::{Error, Result};
use crate::kernel::choice::paths;
use crate::kernel::mix::copy;
use crate::kernel::{Ingest, KernelPath, Op, ingest, ingest_mix, mix};
use crate::mixture::plan::{MixturePlan, Row};
use crate::mixture::{BBox, Stage};
use crate::rng::{Purpose, Stream};

/// Mixture plans and the ingest, per path: time, bandwidth, ratio to a copy and to tensor operations.
#[derive(Debug, Args)]
pub struct MixtureBench {
    /// auto, cpu, wgpu, wgpu-cpu, cuda or cuda:INDEX.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Images of a batch; with --size one shape instead of the two usual ones (256 of 224x224, 512 of 32x32).
    #[arg(long, requires = "size")]
    batch: Option<usize>,
    /// Edge of the images in pixels.
    #[arg(long, requires = "batch")]
    size: Option<usize>,
    /// Only these paths (reference, tensor, flex, wgsl, cube); may be repeated.
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<String>,
    /// Seconds spent on each kind and shape, shared by its paths (at least 3 rounds are measured).
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// One line of the result.
#[derive(Debug, Clone, Serialize)]
struct Line {
    path: &'static str,
    kind: &'static str,
    shape: [usize; 4],
    median_ms: f64,
    min_ms: f64,
    max_ms: f64,
    rounds: usize,
    /// Bytes that must move: every input value read once, every output value written once.
    bytes: usize,
    gb_per_s: f64,
    /// Time over that of a copy that moves as many bytes.
    ratio_to_copy: f64,
    /// Time of the tensor path over this one's.
    ratio_to_tensor: Option<f64>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Blend,
    Paste,
    Fill,
    Resize,
    /// Two global passes, then two region passes, on every image.
    Im,
    Ingest,
    IngestBlend,
}

impl Kind {
    const ALL: [Self; 7] = [Self::Blend, Self::Paste, Self::Fill, Self::Resize, Self::Im, Self::Ingest, Self::IngestBlend];

    fn name(self) -> &'static str {
        match self {
            Self::Blend => "blend",
            Self::Paste => "paste",
            Self::Fill => "fill",
            Self::Resize => "resize",
            Self::Im => "im",
            Self::Ingest => "ingest",
            Self::IngestBlend => "ingest_blend",
        }
    }

    /// Bytes read and written per value.
    fn bytes_per_value(self) -> usize {
        match self {
            Self::Ingest | Self::IngestBlend => 5,
            Self::Im => 16,
            Self::Blend | Self::Paste | Self::Fill | Self::Resize => 8,
        }
    }

    /// The plan for `n` images of `size`. The batch form of Un-Mix for blend and paste, with the constants of the PyTorch baseline.
    fn plan(self, n: usize, size: usize) -> MixturePlan {
        let (low, high) = (size as u32 / 4, 3 * size as u32 / 4);
        let bbox = BBox { y0: low, x0: low, y1: high, x1: high };
        let pass = |row: &dyn Fn(u32) -> Row| (0..n as u32).map(row).collect::<Vec<_>>();
        let (rev, next) = (|i: u32| n as u32 - 1 - i, |i: u32| (i + 7) % n as u32);
        let stages = match self {
            Self::Blend | Self::IngestBlend => vec![vec![pass(&|i| Row::blend(rev(i), 0.3))]],
            Self::Paste => vec![vec![pass(&|i| Row::paste(rev(i), 0.75, bbox))]],
            Self::Fill => vec![vec![pass(&|_| Row::fill(bbox, 0.0))]],
            Self::Resize => vec![vec![pass(&|i| Row::resize(rev(i), bbox))]],
            Self::Im => vec![
                vec![pass(&|i| Row::blend(rev(i), 0.3)), pass(&|i| Row::blend(next(i), 0.6))],
                vec![pass(&|i| Row::paste(rev(i), 0.75, bbox)), pass(&|i| Row::paste(next(i), 0.75, bbox))],
            ],
            Self::Ingest => Vec::new(),
        };
        MixturePlan { stages: stages.into_iter().map(|passes| Stage { passes }).collect(), keep: n }
    }
}

impl MixtureBench {
    /// Measures and prints.
    pub fn run(&self) -> Result<ExitCode> {
        if self.batch == Some(0) || self.size == Some(0) || self.seconds.is_nan() || self.seconds <= 0.0 {
            return Err(Error::input("--batch and --size must be at least 1, --seconds above 0"));
        }
        let opened = device::open(&self.device)?;
        let paths = self.chosen(&opened)?;
        let shapes = match (self.batch, self.size) {
            (Some(n), Some(size)) => vec![(n, size)],
            _ => vec![(256, 224), (512, 32)],
        };
        let mut lines = Vec::new();
        for (wanted, size) in shapes {
            let most = opened.target().most(&bytes_of(1, size));
            let n = wanted.min(most);
            if n < wanted {
                eprintln!("{wanted} images of {size}x{size} are more than a tensor of this device holds: measuring {n}");
            }
            lines.extend(self.shape(&opened, &paths, n, size)?);
        }
        self.print(&opened, &lines)
    }

    fn chosen(&self, opened: &Opened) -> Result<Vec<KernelPath>> {
        let all = paths(Op::Mix, &opened.info.compiler);
        let names: Vec<&str> = all.iter().map(|path| path.name()).collect();
        if let Some(wrong) = self.paths.iter().find(|name| !names.contains(&name.as_str())) {
            return Err(Error::input(format!("the path `{wrong}` does not run on {}", opened.info.name))
                .hint(format!("this device has {}", names.join(", "))));
        }
        Ok(all.into_iter().filter(|path| self.paths.is_empty() || self.paths.iter().any(|name| name == path.name())).collect())
    }

    /// All kinds on one shape.
    fn shape(&self, opened: &Opened, paths: &[KernelPath], n: usize, size: usize) -> Result<Vec<Line>> {
        let how = bytes_of(n, size);
        let mut stream = Stream::new(1, Purpose::Synthetic, &[0]);
        let bytes: Vec<u8> = (0..how.bytes()).map(|_| stream.below(256) as u8).collect();
        let images = ingest(&bytes, &how, &opened.device, KernelPath::Tensor);
        let mut copier = Copier::new(opened, &images);
        let mut lines = Vec::new();
        for kind in Kind::ALL {
            let plan = kind.plan(n, size);
            let mut times: Vec<Vec<f64>> = vec![Vec::new(); paths.len() + 1];
            let (start, mut round) = (Instant::now(), 0);
            // The first round warms up: kernels are compiled, memory is reserved.
            while round < 4 || (start.elapsed().as_secs_f64() < self.seconds && round < 200) {
                for (slot, times) in times.iter_mut().enumerate() {
                    let path = slot.checked_sub(1).map(|at| paths[at]);
                    let seconds = timed(&opened.device, || match (path, kind) {
                        (None, _) => copier.run(&images),
                        (Some(path), Kind::Ingest) => Some(ingest(&bytes, &how, &opened.device, path)),
                        (Some(path), Kind::IngestBlend) => Some(ingest_mix(&bytes, &how, &plan, &opened.device, path)),
                        (Some(path), _) => Some(mix(images.clone(), &plan, path)),
                    })?;
                    if round > 0 {
                        times.push(seconds);
                    }
                }
                round += 1;
            }
            lines.extend(summarise(kind, how.shape(), paths, times));
        }
        Ok(lines)
    }

    fn print(&self, opened: &Opened, lines: &[Line]) -> Result<ExitCode> {
        let info = &opened.info;
        if self.json {
            let threads = rayon::current_num_threads();
            super::super::print_json(&json!({
                "device": info.name, "description": info.description, "compiler": info.compiler, "threads": threads,
                "paths": lines, "version": env!("CARGO_PKG_VERSION"),
            }))?;
            return Ok(ExitCode::SUCCESS);
        }
        super::super::print(&format!("{}: {} [{}]", info.name, info.description, info.compiler));
        super::super::print("kind          path       shape              median ms      GB/s   / copy   x tensor");
        for line in lines {
            let [n, c, h, w] = line.shape;
            super::super::print(&format!(
                "{:13} {:10} {:18} {:9.3} {:9.1} {:8.2} {:>10}",
                line.kind,
                line.path,
                format!("{n}x{c}x{h}x{w}"),
                line.median_ms,
                line.gb_per_s,
                line.ratio_to_copy,
                line.ratio_to_tensor.map_or("-".to_owned(), |ratio| format!("{ratio:.1}"))
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A batch of square RGB images with ImageNet's normalisation.
fn bytes_of(n: usize, size: usize) -> Ingest {
    Ingest::new([n, size, size], Normalization::of(ColorSpace::Rgb))
}

/// Seconds of a call, until the device is idle again. What it returns is dropped outside the timed region.
fn timed<T>(device: &Device, run: impl FnOnce() -> T) -> Result<f64> {
    let start = Instant::now();
    let result = run();
    device.sync().map_err(|error| Error::run(format!("the device failed: {error:?}")))?;
    let seconds = start.elapsed().as_secs_f64();
    drop(result);
    Ok(seconds)
}

/// A plain copy of the images: on the CPU a memcpy by all threads into memory that is in use already, so that no page has to be
/// fetched; on other devices the backend's copy kernel.
enum Copier {
    Host { from: Vec<f32>, to: Vec<f32> },
    Device,
}

impl Copier {
    fn new(opened: &Opened, images: &Tensor<4>) -> Self {
        if !opened.info.on_host() {
            return Self::Device;
        }
        let data: TensorData = images.clone().into_data();
        let from = data.try_to_vec::<f32>().expect("images are f32");
        let to = vec![1.0; from.len()];
        Self::Host { from, to }
    }

    fn run(&mut self, images: &Tensor<4>) -> Option<Tensor<4>> {
        match self {
            Self::Device => Some(copy(images.clone())),
            Self::Host { from, to } => {
                let part = from.len().div_ceil(rayon::current_num_threads());
                to.par_chunks_mut(part).zip(from.par_chunks(part)).for_each(|(to, from)| to.copy_from_slice(from));
                None
            }
        }
    }
}

/// One line per path; the first times are the copy's.
fn summarise(kind: Kind, shape: [usize; 4], paths: &[KernelPath], times: Vec<Vec<f64>>) -> Vec<Line> {
    let rounds = times[0].len();
    let spreads: Vec<(f64, f64, f64)> = times.into_iter().map(super::spread).collect();
    let values: usize = shape.iter().product();
    let bytes = values * kind.bytes_per_value();
    // A copy reads and writes four bytes per value.
    let copy = spreads[0].0 * bytes as f64 / (8 * values) as f64;
    let tensor = paths.iter().position(|&path| path == KernelPath::Tensor).map(|at| spreads[at + 1].0);
    paths
        .iter()
        .zip(&spreads[1..])
        .map(|(path, &(median, min, max))| Line {
            path: path.name(),
            kind: kind.name(),
            shape,
            median_ms: 1e3 * median,
            min_ms: 1e3 * min,
            max_ms: 1e3 * max,
            rounds,
            bytes,
            gb_per_s: bytes as f64 / median / 1e9,
            ratio_to_copy: median / copy,
            ratio_to_tensor: tensor.map(|tensor| tensor / median),
        })
        .collect()
}
