//! `unmix bench net`: what this processor can do, and how near the convolutions of the nets come to it.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::kernel::KernelPath;
use crate::kernel::net::flex::buffer::Buffer;
use crate::kernel::net::flex::conv::{forward, input_gradient, weight_gradient};
use crate::kernel::net::flex::lanes::{Lanes, Task};
use crate::kernel::net::flex::tiles;
use crate::kernel::net::sizes::Conv;
use crate::kernel::net::{Ways, Winograd, simd::Simd};
use crate::rng::{Purpose, Stream};

/// The CPU's convolutions, layer by layer, beside the peak of the processor. `RAYON_NUM_THREADS` sets the threads.
#[derive(Debug, Args)]
pub struct Net {
    /// Images of a batch.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Rounds of each measurement.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Also the errors of all algorithms against sums in f64, for two images.
    #[arg(long)]
    errors: bool,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Side of the map, input and output channels, kernel, stride: the layers of ResNet-18 for CIFAR, and a few of ResNet-50 at 224 pixels.
const LAYERS: [(usize, usize, usize, usize, usize); 13] = [
    (32, 3, 64, 3, 1),
    (32, 64, 64, 3, 1),
    (32, 64, 128, 3, 2),
    (16, 128, 128, 3, 1),
    (16, 128, 256, 3, 2),
    (8, 256, 256, 3, 1),
    (8, 256, 512, 3, 2),
    (4, 512, 512, 3, 1),
    (56, 64, 64, 3, 1),
    (28, 512, 128, 1, 1),
    (14, 256, 256, 3, 1),
    (14, 1024, 256, 1, 1),
    (7, 512, 512, 3, 1),
];

/// Chains of multiply-adds that do not wait for each other: enough for any processor's latency.
const CHAINS: usize = 12;
/// Links of each chain.
const LINKS: usize = 20_000_000;

/// Multiply-adds in registers.
struct Peak;

impl Task for Peak {
    type Output = f32;

    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "a loop of constant length unrolls into registers")]
    fn run<L: Lanes>(self) -> f32 {
        let mut sums = [L::splat(1.0); CHAINS];
        let (by, plus) = (L::splat(1.000_000_1), L::splat(1e-9));
        for _ in 0..LINKS {
            for chain in 0..CHAINS {
                sums[chain] = sums[chain].mul_add(by, plus);
            }
        }
        let mut sum = sums[0];
        for chain in 1..CHAINS {
            sum = sum.add(sums[chain]);
        }
        let mut out = [0.0f32; 16];
        // SAFETY: a vector has no more than 16 values.
        unsafe { sum.store(out.as_mut_ptr()) };
        out[0]
    }
}

/// The matrix kernel alone, on the sums of a layer: rows of `terms` values with a panel, part by part as in [`multiply`].
///
/// [`multiply`]: crate::kernel::net::flex::grid::multiply
struct Alone<'a> {
    terms: usize,
    rows: &'a [f32],
    panel: &'a [f32],
    out: &'a mut [f32],
}

/// Rows that a panel meets.
const ROWS: usize = 252;
/// Terms of a part, whose panel stays in a second-level cache.
const PART: usize = 768;

impl Task for Alone<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        if L::N == 16 { self.tiles::<L, 6, 4>() } else { self.tiles::<L, 6, 2>() }
    }
}

impl Alone<'_> {
    #[inline(always)]
    fn tiles<L: Lanes, const M: usize, const V: usize>(self) {
        let width = V * L::N;
        assert!(self.rows.len() >= ROWS * self.terms && self.panel.len() >= self.terms * width && self.out.len() >= ROWS * width);
        for from in (0..self.terms).step_by(PART) {
            let run = PART.min(self.terms - from);
            for row in (0..ROWS / M * M).step_by(M) {
                let (mut left, mut out) = ([std::ptr::null(); M], [std::ptr::null_mut(); M]);
                for m in 0..M {
                    left[m] = self.rows[(row + m) * self.terms + from..].as_ptr();
                    out[m] = self.out[(row + m) * width..].as_mut_ptr();
                }
                // SAFETY: rows, panel and output are as long as asserted.
                unsafe {
                    let mut sums = tiles::load::<L, M, V>(out.map(<*mut f32>::cast_const), width);
                    tiles::inner(&mut sums, left, run, self.panel[from * width..].as_ptr());
                    tiles::store(sums, out, M, width);
                }
            }
        }
    }
}

/// Floating-point operations per second of the matrix kernel on all threads.
fn alone(simd: Simd, terms: usize) -> f64 {
    const PASSES: usize = 40;
    let columns = tiles::widest(simd) * simd.lanes();
    let rates = rayon::broadcast(|_| {
        let (rows, panel, mut out) = (vec![1e-3f32; ROWS * terms], vec![1.0f32; terms * columns], vec![0.0f32; ROWS * columns]);
        let mut pass = || simd.run(Alone { terms, rows: &rows, panel: &panel, out: &mut out });
        pass();
        let start = Instant::now();
        (0..PASSES).for_each(|_| pass());
        (2 * PASSES * ROWS * terms * columns) as f64 / start.elapsed().as_secs_f64()
    });
    rates.into_iter().sum()
}

impl Net {
    /// Measures and prints.
    pub fn run(&self) -> Result<ExitCode> {
        if self.batch == 0 || self.rounds == 0 {
            return Err(Error::input("--batch and --rounds must be at least 1"));
        }
        let (simd, threads) = (Simd::best(), rayon::current_num_threads());
        let flops = peak(simd);
        let (copy, read) = bandwidth();
        // The sums of stages 1 and 4 of ResNet-18.
        let kernel = [9 * 64, 9 * 512].map(|terms| (terms, 100.0 * alone(simd, terms) / flops));
        let layers: Vec<Value> = LAYERS.iter().map(|layer| self.layer(*layer, simd, flops)).collect();
        let errors: Vec<Value> =
            if self.errors { LAYERS.iter().filter_map(|layer| errors(*layer, simd)).collect() } else { Vec::new() };
        if self.json {
            super::super::print_json(&json!({
                "simd": simd.name(), "threads": threads, "peak_gflops": flops / 1e9, "copy_gb_s": copy / 1e9, "read_gb_s": read / 1e9, "kernel_percent_of_peak": kernel,
                "batch": self.batch, "layers": layers, "errors": errors, "version": env!("CARGO_PKG_VERSION"),
            }))?;
            return Ok(ExitCode::SUCCESS);
        }
        super::super::print(&format!(
            "{} on {threads} threads: {:.0} Gflop/s in registers; memory: copies {:.1} GB/s (read and written), reads {:.1} GB/s",
            simd.name(),
            flops / 1e9,
            copy / 1e9,
            read / 1e9
        ));
        for (terms, percent) in kernel {
            super::super::print(&format!("the matrix kernel alone, sums of {terms} terms: {percent:.0} % of that"));
        }
        super::super::print(&format!("batch {}: milliseconds of forward, input gradient, weight gradient", self.batch));
        for layer in &layers {
            let times = |key: &str| -> String {
                let times = layer[key].as_array().into_iter().flatten().filter_map(Value::as_f64);
                times.map(|ms| format!("{ms:6.1}")).collect::<Vec<_>>().join(" ")
            };
            super::super::print(&format!(
                "  {:28} off {} ({:3.0} % of the peak)  f2 {}  f4 {}  auto {}",
                layer["layer"].as_str().unwrap_or_default(),
                times("off"),
                layer["percent_of_peak"].as_f64().unwrap_or(f64::NAN),
                times("f2"),
                times("f4"),
                times("auto")
            ));
        }
        for error in &errors {
            super::super::print(&format!("  {error}"));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The times of a layer, and the share of the peak that the plain sums of its forward pass reach.
    fn layer(&self, layer: (usize, usize, usize, usize, usize), simd: Simd, peak: f64) -> Value {
        let conv = conv(layer, self.batch);
        let (x, w, g) = (normal(conv.in_len(), 1), normal(conv.weights(), 2), normal(conv.out_len(), 3));
        let (mut y, mut dx) = (Buffer::new(conv.out_len()), Buffer::new(conv.in_len()));
        let mut out = json!({ "layer": name(layer) });
        for winograd in Winograd::ALL {
            let ways = Ways { path: KernelPath::Flex, winograd, simd, ..Ways::portable() };
            let times = [
                self.median(|| forward(&conv, &x, &w, ways, &mut y)),
                self.median(|| input_gradient(&conv, &g, &w, ways, false, &mut dx)),
                self.median(|| drop(weight_gradient(&conv, &x, &g, ways))),
            ];
            if winograd == Winograd::Off {
                let [h, w] = conv.out_size();
                let flops = 2.0 * (conv.n * h * w * conv.weights()) as f64;
                out["percent_of_peak"] = (100.0 * flops / times[0] / peak).into();
            }
            out[winograd.name()] = times.map(|seconds| 1e3 * seconds).to_vec().into();
        }
        out
    }

    fn median(&self, mut work: impl FnMut()) -> f64 {
        work();
        let times = (0..self.rounds).map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        });
        super::spread(times.collect()).0
    }
}

fn conv((side, input, output, kernel, stride): (usize, usize, usize, usize, usize), n: usize) -> Conv {
    Conv { n, size: [side; 2], input, output, kernel, stride, padding: kernel / 2 }
}

fn name((side, input, output, kernel, stride): (usize, usize, usize, usize, usize)) -> String {
    format!("{side}x{side} {input}->{output} {kernel}x{kernel}/{stride}")
}

fn normal(count: usize, stream: u64) -> Vec<f32> {
    let mut draw = Stream::new(1, Purpose::Synthetic, &[stream]);
    (0..count).map(|_| draw.normal() as f32).collect()
}

/// Floating-point operations per second of all threads, in registers.
fn peak(simd: Simd) -> f64 {
    let start = Instant::now();
    let sums = rayon::broadcast(|_| simd.run(Peak));
    let all = (sums.len() * CHAINS * LINKS * simd.lanes() * 2) as f64;
    let rate = all / start.elapsed().as_secs_f64();
    std::hint::black_box(sums);
    rate
}

/// Bytes per second of all threads: of copies (what is read and what is written), and of reads.
fn bandwidth() -> (f64, f64) {
    const VALUES: usize = 32 << 20;
    const PASSES: usize = 5;
    let copies = rayon::broadcast(|_| {
        let (from, mut to) = (vec![1.0f32; VALUES], vec![2.0f32; VALUES]);
        let start = Instant::now();
        for _ in 0..PASSES {
            to.copy_from_slice(&from);
            std::hint::black_box(&mut to);
        }
        (8 * VALUES * PASSES) as f64 / start.elapsed().as_secs_f64()
    });
    let reads = rayon::broadcast(|_| {
        let from = vec![1.0f32; VALUES];
        let start = Instant::now();
        for _ in 0..PASSES {
            let mut sums = [0.0f32; 64];
            for values in from.chunks_exact(64) {
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
            std::hint::black_box(sums);
        }
        (4 * VALUES * PASSES) as f64 / start.elapsed().as_secs_f64()
    });
    (copies.into_iter().sum(), reads.into_iter().sum())
}

/// Root mean square errors of the three passes for each algorithm, relative to the spread of the right values.
fn errors(layer: (usize, usize, usize, usize, usize), simd: Simd) -> Option<Value> {
    let (_, _, _, kernel, stride) = layer;
    if (kernel, stride) != (3, 1) {
        return None;
    }
    let conv = conv(layer, 2);
    // As behind a ReLU and as He et al. initialise.
    let x: Vec<f32> = normal(conv.in_len(), 1).into_iter().map(|value| value.max(0.0)).collect();
    let spread = (2.0 / (9 * conv.input) as f32).sqrt();
    let w: Vec<f32> = normal(conv.weights(), 2).into_iter().map(|value| value * spread).collect();
    let g = normal(conv.out_len(), 3);
    let (want_y, want_dw) = (in_f64(&conv, &x, &w), weights_in_f64(&conv, &x, &g));
    let mut out = json!({ "layer": name(layer) });
    for winograd in [Winograd::Off, Winograd::F2, Winograd::F4] {
        let ways = Ways { path: KernelPath::Flex, winograd, simd, ..Ways::portable() };
        let mut y = Buffer::new(conv.out_len());
        forward(&conv, &x, &w, ways, &mut y);
        let dw = weight_gradient(&conv, &x, &g, ways);
        out[winograd.name()] = json!({ "forward": relative(&y, &want_y), "weight_gradient": relative(&dw, &want_dw) });
    }
    Some(out)
}

fn relative(got: &[f32], want: &[f64]) -> f64 {
    let mean = want.iter().sum::<f64>() / want.len() as f64;
    let spread: f64 = want.iter().map(|value| (value - mean).powi(2)).sum();
    let off: f64 = got.iter().zip(want).map(|(got, want)| (f64::from(*got) - want).powi(2)).sum();
    (off / spread).sqrt()
}

/// Calls `each(x, y, w)` with every product of a 3x3 convolution: the places of input, output and weight.
fn products(conv: &Conv, mut each: impl FnMut(usize, usize, usize)) {
    let ([h, w], [c, o]) = (conv.size, [conv.input, conv.output]);
    for n in 0..conv.n {
        for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
            for (ky, kx) in (0..3).flat_map(|ky| (0..3).map(move |kx| (ky, kx))) {
                let (iy, ix) = (y + ky, x + kx);
                if iy == 0 || ix == 0 || iy > h || ix > w {
                    continue;
                }
                let (from, to) = (((n * h + iy - 1) * w + ix - 1) * c, ((n * h + y) * w + x) * o);
                for output in 0..o {
                    for input in 0..c {
                        each(from + input, to + output, (output * c + input) * 9 + ky * 3 + kx);
                    }
                }
            }
        }
    }
}

fn in_f64(conv: &Conv, x: &[f32], w: &[f32]) -> Vec<f64> {
    let mut out = vec![0.0; conv.out_len()];
    products(conv, |from, to, weight| out[to] += f64::from(x[from]) * f64::from(w[weight]));
    out
}

fn weights_in_f64(conv: &Conv, x: &[f32], g: &[f32]) -> Vec<f64> {
    let mut out = vec![0.0; conv.weights()];
    products(conv, |from, to, weight| out[weight] += f64::from(x[from]) * f64::from(g[to]));
    out
}
