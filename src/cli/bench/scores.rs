//! `unmix bench scores`.

use std::process::ExitCode;
use std::time::Instant;

use burn::tensor::{Int, Tensor, TensorData};
use clap::Args;
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::device::{self, Opened};
use crate::error::{Error, Result};
use crate::kernel::choice::paths;
use crate::kernel::{KernelPath, Op, bank};
use crate::rng::{Purpose, Stream};

/// Features against drawn rows of a memory bank and back: each kernel path, and the gather of all rows that the reference programs do.
#[derive(Debug, Args)]
pub struct Scores {
    /// auto, cpu, wgpu, wgpu-cpu, cuda or cuda:INDEX.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Features per batch.
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// Negatives per feature.
    #[arg(long, default_value_t = 16384)]
    negatives: usize,
    /// Width of a row.
    #[arg(long, default_value_t = 128)]
    dim: usize,
    /// Rows of the bank: images of the dataset.
    #[arg(long, default_value_t = 50_000)]
    images: usize,
    /// Measured rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Leave the gather out: it needs batch x negatives x dim x 4 bytes, twice.
    #[arg(long)]
    no_gather: bool,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Path(KernelPath),
    /// `[b, 1 + k, d]` rows in one tensor, as the programs of InsDis and CMC have them.
    Gather,
}

struct Inputs {
    features: Tensor<2>,
    bank: Tensor<2>,
    weights: Tensor<2>,
    /// As our methods draw them: sorted behind column 0.
    rows: Tensor<2, Int>,
    /// As the reference programs draw them.
    unsorted: Tensor<2, Int>,
    sort_s: f64,
}

impl Scores {
    /// Measures and prints.
    pub fn run(&self) -> Result<ExitCode> {
        if [self.batch, self.negatives, self.dim, self.images, self.rounds].contains(&0) {
            return Err(Error::input("--batch, --negatives, --dim, --images and --rounds must be at least 1"));
        }
        let opened = device::open(&self.device)?;
        let inputs = self.inputs(&opened);
        let direct = paths(Op::Bank, &opened.info.compiler).into_iter().filter(|&path| path != KernelPath::Reference).rev();
        // What needs least memory first, so that each peak is its own.
        let gathered = 4 * (self.batch * (1 + self.negatives) * self.dim) as u64;
        let fits = opened.info.largest_tensor().is_none_or(|limit| gathered <= limit);
        if !fits && !self.no_gather {
            eprintln!("the gather needs a tensor of {} MiB, more than this device holds: left out", gathered >> 20);
        }
        let ways: Vec<Way> = direct.map(Way::Path).chain((fits && !self.no_gather).then_some(Way::Gather)).collect();
        let mut lines = Vec::new();
        for way in ways {
            let (before, mut times) = (Memory::mark(&opened), Vec::new());
            for round in 0..=self.rounds {
                let start = Instant::now();
                let results = way.run(&inputs);
                opened.device.sync().map_err(|e| Error::run(format!("the device failed: {e:?}")))?;
                // The first round warms up: kernels are compiled, memory is reserved.
                if round > 0 {
                    times.push(start.elapsed().as_secs_f64());
                }
                drop(results);
            }
            let (median, min, max) = super::spread(times);
            lines.push(json!({
                "path": way.name(), "median_ms": 1e3 * median, "min_ms": 1e3 * min, "max_ms": 1e3 * max, "extra_mib": before.extra_mib(&opened),
            }));
        }
        self.print(&opened, lines, inputs.sort_s)
    }

    fn inputs(&self, opened: &Opened) -> Inputs {
        let mut stream = Stream::new(1, Purpose::Synthetic, &[]);
        let mut floats = |rows: usize, columns: usize| {
            let values: Vec<f32> = (0..rows * columns).map(|_| stream.range(-0.15, 0.15) as f32).collect();
            Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), &opened.device)
        };
        let columns = 1 + self.negatives;
        let (features, bank, weights) = (floats(self.batch, self.dim), floats(self.images, self.dim), floats(self.batch, columns));
        let mut drawn: Vec<i32> = (0..self.batch * columns).map(|_| stream.scaled(self.images as u64) as i32).collect();
        let unsorted = bank::rows(drawn.clone(), [self.batch, columns], &opened.device);
        let start = Instant::now();
        drawn.par_chunks_mut(columns).for_each(|rows| rows[1..].sort_unstable());
        let sort_s = start.elapsed().as_secs_f64();
        Inputs { features, bank, weights, rows: bank::rows(drawn, [self.batch, columns], &opened.device), unsorted, sort_s }
    }

    fn print(&self, opened: &Opened, lines: Vec<Value>, sort_s: f64) -> Result<ExitCode> {
        let Self { batch, negatives, dim, images, .. } = self;
        if self.json {
            super::super::print_json(&json!({
                "device": opened.info.name, "description": opened.info.description, "batch": batch, "negatives": negatives, "dim": dim,
                "images": images, "paths": lines, "sort_ms": 1e3 * sort_s, "version": env!("CARGO_PKG_VERSION"),
            }))?;
            return Ok(ExitCode::SUCCESS);
        }
        super::super::print(&format!(
            "{}: {batch} features of width {dim}, {negatives} negatives of {images} rows",
            opened.info.name
        ));
        super::super::print("path        median ms  (min, max)             extra memory MiB");
        let gather = lines.iter().find(|line| line["path"] == "gather").and_then(|line| line["median_ms"].as_f64());
        for line in &lines {
            let number = |key: &str| line[key].as_f64().unwrap_or(f64::NAN);
            let faster = gather.map_or(String::new(), |gather| format!("  gather / this: {:.2}", gather / number("median_ms")));
            super::super::print(&format!(
                "{:10} {:10.1}  ({:.1}, {:.1})  {:10.0}{faster}",
                line["path"].as_str().unwrap_or_default(),
                number("median_ms"),
                number("min_ms"),
                number("max_ms"),
                number("extra_mib"),
            ));
        }
        super::super::print(&format!("sorting the drawn rows, once per step and not in these times: {:.1} ms", 1e3 * sort_s));
        Ok(ExitCode::SUCCESS)
    }
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Path(path) => path.name(),
            Self::Gather => "gather",
        }
    }

    /// Scores, and a gradient's way back.
    fn run(self, inputs: &Inputs) -> (Tensor<2>, Tensor<2>) {
        let Inputs { features, bank, weights, rows, unsorted, .. } = inputs;
        match self {
            Self::Path(path) => (
                bank::dots(features.clone(), bank.clone(), rows.clone(), path),
                bank::pull(weights.clone(), bank.clone(), rows.clone(), path),
            ),
            Self::Gather => {
                let rows = unsorted;
                let ([b, r], [_, d]) = (rows.dims(), bank.dims());
                let gathered = bank.clone().select(0, rows.clone().reshape([b * r])).reshape([b, r, d]);
                (
                    gathered.clone().matmul(features.clone().reshape([b, d, 1])).reshape([b, r]),
                    weights.clone().reshape([b, 1, r]).matmul(gathered).reshape([b, d]),
                )
            }
        }
    }
}

/// Memory in use at a moment: of the process where the device is the CPU, software Vulkan included, otherwise of the device's pool.
struct Memory(Option<f64>);

impl Memory {
    /// Starts a new peak where the system can.
    fn mark(opened: &Opened) -> Self {
        // Resets the process's peak (proc(5)). Where that is refused there is no number: the peak would be that of the whole process.
        let reset = !in_process(opened) || std::fs::write("/proc/self/clear_refs", "5").is_ok();
        Self(now_mib(opened, "VmRSS:").filter(|_| reset))
    }

    /// Peak since the mark, above what was in use then.
    fn extra_mib(&self, opened: &Opened) -> Option<f64> {
        Some(now_mib(opened, "VmHWM:")? - self.0?)
    }
}

/// True where the device's memory is the process's own.
fn in_process(opened: &Opened) -> bool {
    ["cpu", "wgpu-cpu"].contains(&opened.info.name.as_str())
}

fn now_mib(opened: &Opened, key: &str) -> Option<f64> {
    if !in_process(opened) {
        return opened.device.memory_pool_usage().map(|usage| usage.bytes_reserved as f64 / f64::from(1 << 20));
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()? / 1024.0)
}
