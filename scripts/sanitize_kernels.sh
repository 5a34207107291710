#!/usr/bin/env bash
# The CPU's kernels under the address sanitizer: every read and write beyond a map, and every sum that plain loops in f64 do not confirm, ends
# the run with the shape and the call.
#
#   scripts/sanitize_kernels.sh
#   KERNELS=src/kernel/net             the kernels: a folder with simd.rs, sizes.rs and flex/
#   TOOLCHAIN=nightly                  a toolchain with -Zsanitizer
#   SANITIZE_TARGET_DIR=(temporary)    where the build may stay for the next time
#
# A crate of its own includes the files as they are. Every buffer is a Vec<f32> of exactly the asked length that begins as NaN, in place of the
# arena's memory; Winograd's rooms, which a thread otherwise keeps, are such buffers, too (the one expression that is edited), and once more as
# they are. Convolutions and their gradients get small integers, so that all but F(4x4) must be exact. Simd and Winograd's forms: all that this
# processor has. First the program makes sure that the sanitizer sees a read and a write of each kind one value too far.
#
# Without such a toolchain: a line "skipped: ..." and status 0.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -ne 0 ]; then
  echo "usage: scripts/sanitize_kernels.sh" >&2
  exit 2
fi
toolchain=${TOOLCHAIN:-nightly} root=$PWD
kernels=$(realpath "${KERNELS:-src/kernel/net}")
for file in simd sizes flex/{conv,grid,lanes,norm,shared,tiles,winograd}; do
  [ -f "$kernels/$file.rs" ] || { echo "error: there is no $kernels/$file.rs" >&2; exit 2; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The folder's own settings have no say, and a toolchain that is not there is not fetched.
unset CARGO_ENCODED_RUSTFLAGS RUSTC_WORKSPACE_WRAPPER CARGO_BUILD_TARGET RUSTFLAGS
export RUSTUP_AUTO_INSTALL=0

if ! cargo "+$toolchain" --version >"$work/log" 2>&1 || ! rustc "+$toolchain" -vV >"$work/version" 2>"$work/log"; then
  echo "skipped: there is no toolchain \`$toolchain\` ($(head -n 1 "$work/log"))"
  exit 0
fi
host=$(sed -n 's/^host: //p' "$work/version")
echo 'fn main() { println!("{}", std::env::args().count()); }' >"$work/probe.rs"
if ! rustc "+$toolchain" -Zsanitizer=address --target "$host" -o "$work/probe" "$work/probe.rs" >"$work/log" 2>&1 \
  || ! ASAN_OPTIONS=detect_leaks=0 "$work/probe" >"$work/log" 2>&1; then
  echo "skipped: \`$toolchain\` makes no programs with the address sanitizer for $host ($(grep -m 1 . "$work/log"))"
  exit 0
fi

mkdir -p "$work/crate/src"
cp Cargo.lock "$work/crate/"
cat >"$work/crate/Cargo.toml" <<'TOML'
[package]
name = "sanitize-kernels"
version = "0.0.0"
edition = "2024"

[dependencies]
rayon = "1"
serde = { version = "1", features = ["derive"] }

[profile.release]
debug = "line-tables-only"
debug-assertions = true
overflow-checks = true

[workspace]
TOML

# Rooms of a thread are longer than what was asked for.
sed 's/len > OWN_ROOM/len > crate::own_room(OWN_ROOM)/' "$kernels/flex/winograd.rs" >"$work/crate/src/winograd.rs"
if [ "$(grep -c 'crate::own_room(OWN_ROOM)' "$work/crate/src/winograd.rs")" != 1 ]; then
  echo "error: winograd.rs does not ask once for \`len > OWN_ROOM\` any more: change this script with it" >&2
  exit 2
fi

main=$(cat <<'RUST'
#![allow(dead_code, clippy::needless_range_loop)]

//! See scripts/sanitize_kernels.sh.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rayon::prelude::*;

use kernel::net::flex::lanes::{Lanes, Task};
use kernel::net::flex::norm::{self, Joined, Moments, Normed};
use kernel::net::flex::winograd::{Variant, choose};
use kernel::net::flex::conv;
use kernel::net::simd::Simd;
use kernel::net::sizes::{Conv, Map};
use kernel::net::{EPSILON, Ways, Winograd};

mod kernel {
    pub mod path {
        pub fn poisoned() -> bool {
            true
        }
    }

    pub mod net {
        pub const EPSILON: f64 = 1e-5;

        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Winograd {
            Auto,
            Off,
            F2,
            F4,
        }

        #[derive(Debug, Clone, Copy)]
        pub struct Ways {
            pub winograd: Winograd,
            pub simd: self::simd::Simd,
        }

        #[path = "@KERNELS@/simd.rs"]
        pub mod simd;
        #[path = "@KERNELS@/sizes.rs"]
        pub mod sizes;

        pub mod flex {
            #[path = "@KERNELS@/flex/conv.rs"]
            pub mod conv;
            #[path = "@KERNELS@/flex/grid.rs"]
            pub mod grid;
            #[path = "@KERNELS@/flex/lanes.rs"]
            pub mod lanes;
            #[path = "@KERNELS@/flex/norm.rs"]
            pub mod norm;
            #[path = "@KERNELS@/flex/shared.rs"]
            pub mod shared;
            #[path = "@KERNELS@/flex/tiles.rs"]
            pub mod tiles;
            #[path = "@CRATE@/winograd.rs"]
            pub mod winograd;

            pub mod buffer {
                use std::ops::{Deref, DerefMut};

                pub struct Buffer(Vec<f32>);

                impl Buffer {
                    pub fn new(len: usize) -> Self {
                        Self(crate::exactly(vec![f32::NAN; len]))
                    }

                    pub fn zeros(len: usize) -> Self {
                        Self(crate::exactly(vec![0.0; len]))
                    }
                }

                impl Deref for Buffer {
                    type Target = [f32];

                    fn deref(&self) -> &[f32] {
                        &self.0
                    }
                }

                impl DerefMut for Buffer {
                    fn deref_mut(&mut self) -> &mut [f32] {
                        &mut self.0
                    }
                }
            }
        }
    }
}

/// Memory that ends with its last value.
fn exactly(values: Vec<f32>) -> Vec<f32> {
    assert_eq!(values.capacity(), values.len());
    values
}

/// Whether Winograd's rooms are those that a thread keeps.
static OWN_ROOMS: AtomicBool = AtomicBool::new(false);

fn own_room(usual: usize) -> usize {
    if OWN_ROOMS.load(Relaxed) { usual } else { 0 }
}

// --- what is said where it ends

static CALL: Mutex<String> = Mutex::new(String::new());

fn tell() {
    match CALL.try_lock() {
        Ok(call) if !call.is_empty() => eprintln!("FAILED: {call}"),
        _ => {}
    }
}

extern "C" fn died() {
    tell();
}

unsafe extern "C" {
    fn __sanitizer_set_death_callback(callback: extern "C" fn());
}

/// Counts calls of kernels.
#[derive(Default)]
struct Log {
    calls: Cell<usize>,
    /// The largest error of F(4x4), as part of the tolerance.
    worst: Cell<f64>,
}

impl Log {
    /// Says what is called next.
    fn call(&self, what: String) {
        *CALL.lock().unwrap() = what;
        self.calls.set(self.calls.get() + 1);
    }

    /// Compares with what is expected at some places, and all values with numbers.
    fn same(&self, got: &[f32], want: &[(usize, f64)], tolerance: f64) {
        if let Some(at) = got.iter().position(|value| !value.is_finite()) {
            panic!("value {at} of {} is {}", got.len(), got[at]);
        }
        for &(at, want) in want {
            let off = (f64::from(got[at]) - want).abs();
            if off > tolerance {
                panic!("value {at} of {} is {} instead of {want} (tolerance {tolerance})", got.len(), got[at]);
            }
            if tolerance > 0.0 {
                self.worst.set(self.worst.get().max(off / tolerance));
            }
        }
    }

    /// Compares each value with what is expected and what its error may be.
    fn near(&self, name: &str, got: &[f32], want: impl Fn(usize) -> (f64, f64)) {
        for (at, got) in got.iter().enumerate() {
            let (want, tolerance) = want(at);
            let off = (f64::from(*got) - want).abs();
            assert!(off <= tolerance, "{name}: value {at} is {got} instead of {want} (tolerance {tolerance})");
        }
    }
}

// --- inputs

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[(self.next() % choices.len() as u64) as usize]
    }

    /// Integers up to 8.
    fn values(&mut self, len: usize) -> Vec<f32> {
        exactly((0..len).map(|_| (self.next() % 17) as f32 - 8.0).collect())
    }

    /// Numbers up to 8, with so many bits that the rounding errors of a sum are not all the same.
    fn reals(&mut self, len: usize) -> Vec<f32> {
        exactly((0..len).map(|_| (self.next() % (1 << 20)) as f32 / 65_536.0 - 8.0).collect())
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

// --- convolutions

/// Products of the plain loops, at most: of larger sums only some values are compared.
const PRODUCTS: usize = 1 << 20;

/// Some places of an output of so many values, with what they are to be; the last always.
fn at_some(len: usize, terms: usize, value: impl Fn(usize) -> f64 + Sync) -> Vec<(usize, f64)> {
    let every = (len * terms).div_ceil(PRODUCTS).max(1) as u64;
    (0..len)
        .into_par_iter()
        .with_min_len(256)
        .filter(|at| *at + 16 >= len || mix(*at as u64).is_multiple_of(every))
        .map(|at| (at, value(at)))
        .collect()
}

/// The place that a kernel position reads from, in the map.
fn source(at: usize, tap: usize, conv: &Conv, side: usize) -> Option<usize> {
    (at * conv.stride + tap).checked_sub(conv.padding).filter(|place| *place < side)
}

fn forward(conv: &Conv, x: &[f32], weights: &[f32]) -> Vec<(usize, f64)> {
    let ([h, w], [oh, ow], k) = (conv.size, conv.out_size(), conv.kernel);
    at_some(conv.out_len(), k * k * conv.input, |at| {
        let (pixel, o) = (at / conv.output, at % conv.output);
        let (n, a, b) = (pixel / ow / oh, pixel / ow % oh, pixel % ow);
        let mut sum = 0.0;
        for i in 0..k {
            let Some(y) = source(a, i, conv, h) else { continue };
            for j in 0..k {
                let Some(x_at) = source(b, j, conv, w) else { continue };
                let pixel = &x[((n * h + y) * w + x_at) * conv.input..][..conv.input];
                for (c, value) in pixel.iter().enumerate() {
                    sum += f64::from(*value) * f64::from(weights[((o * conv.input + c) * k + i) * k + j]);
                }
            }
        }
        sum
    })
}

fn input_gradient(conv: &Conv, g: &[f32], weights: &[f32]) -> Vec<(usize, f64)> {
    let ([h, w], [oh, ow], k) = (conv.size, conv.out_size(), conv.kernel);
    at_some(conv.in_len(), k * k * conv.output, |at| {
        let (pixel, c) = (at / conv.input, at % conv.input);
        let (n, y, x) = (pixel / w / h, pixel / w % h, pixel % w);
        // The output that reads this pixel with a tap.
        let reader = |at: usize, tap: usize, outputs: usize| {
            let from = (at + conv.padding).checked_sub(tap)?;
            (from.is_multiple_of(conv.stride) && from / conv.stride < outputs).then_some(from / conv.stride)
        };
        let mut sum = 0.0;
        for i in 0..k {
            let Some(a) = reader(y, i, oh) else { continue };
            for j in 0..k {
                let Some(b) = reader(x, j, ow) else { continue };
                let pixel = &g[((n * oh + a) * ow + b) * conv.output..][..conv.output];
                for (o, value) in pixel.iter().enumerate() {
                    sum += f64::from(*value) * f64::from(weights[((o * conv.input + c) * k + i) * k + j]);
                }
            }
        }
        sum
    })
}

fn weight_gradient(conv: &Conv, x: &[f32], g: &[f32]) -> Vec<(usize, f64)> {
    let ([h, w], [oh, ow], k) = (conv.size, conv.out_size(), conv.kernel);
    at_some(conv.weights(), conv.n * oh * ow, |at| {
        let (kernel, tap) = (at / (k * k), at % (k * k));
        let (o, c, i, j) = (kernel / conv.input, kernel % conv.input, tap / k, tap % k);
        let mut sum = 0.0;
        for n in 0..conv.n {
            for a in 0..oh {
                let Some(y) = source(a, i, conv, h) else { continue };
                for b in 0..ow {
                    let Some(x_at) = source(b, j, conv, w) else { continue };
                    let value = x[((n * h + y) * w + x_at) * conv.input + c];
                    sum += f64::from(value) * f64::from(g[((n * oh + a) * ow + b) * conv.output + o]);
                }
            }
        }
        sum
    })
}

/// The error that F(4x4) may have in a sum of so many products of integers up to 8: the largest that was seen is a fifth of it.
fn tolerance(variant: Option<Variant>, terms: usize) -> f64 {
    if variant == Some(Variant::F4) { 1.5e-3 * (terms as f64).sqrt() } else { 0.0 }
}

fn convolution(conv: &Conv, simds: &[Simd], random: &mut Random, log: &Log) {
    log.call(format!("plain loops, {conv:?}"));
    log.calls.set(log.calls.get() - 1);
    let (x, g, weights) = (random.values(conv.in_len()), random.values(conv.out_len()), random.values(conv.weights()));
    let before = random.values(conv.in_len());
    let want_y = forward(conv, &x, &weights);
    let want_x = input_gradient(conv, &g, &weights);
    let want_more: Vec<_> = want_x.iter().map(|(at, value)| (*at, value + f64::from(before[*at]))).collect();
    let want_w = weight_gradient(conv, &x, &g);
    let area = conv.kernel * conv.kernel;
    let positions = conv.n * conv.out_size().iter().product::<usize>();

    let applies = conv.kernel == 3 && conv.stride == 1 && conv.padding <= 2;
    let forms: &[Winograd] =
        if applies { &[Winograd::Off, Winograd::F2, Winograd::F4, Winograd::Auto] } else { &[Winograd::Off, Winograd::Auto] };
    for &simd in simds {
        for &winograd in forms {
            let ways = Ways { winograd, simd };
            let variants = match winograd {
                _ if !applies => [None; 3],
                Winograd::Off => [None; 3],
                Winograd::F2 => [Some(Variant::F2); 3],
                Winograd::F4 => [Some(Variant::F4); 3],
                Winograd::Auto => choose(conv),
            };
            let said = |call: &str| format!("{call}, {} {winograd:?}, {conv:?}", simd.name());

            log.call(said("conv::forward"));
            let mut out = exactly(vec![f32::NAN; conv.out_len()]);
            conv::forward(conv, &x, &weights, ways, &mut out);
            log.same(&out, &want_y, tolerance(variants[0], area * conv.input));

            log.call(said("conv::input_gradient"));
            let mut out = exactly(vec![f32::NAN; conv.in_len()]);
            conv::input_gradient(conv, &g, &weights, ways, false, &mut out);
            log.same(&out, &want_x, tolerance(variants[1], area * conv.output));

            log.call(said("conv::input_gradient with add"));
            let mut out = exactly(before.clone());
            conv::input_gradient(conv, &g, &weights, ways, true, &mut out);
            log.same(&out, &want_more, tolerance(variants[1], area * conv.output));

            log.call(said("conv::weight_gradient"));
            let out = conv::weight_gradient(conv, &x, &g, ways);
            assert_eq!(out.len(), conv.weights());
            log.same(&out, &want_w, tolerance(variants[2], positions));
        }
    }
}

const CHANNELS: [usize; 14] = [1, 3, 8, 16, 17, 24, 33, 40, 47, 48, 64, 70, 100, 130];

/// Every pair of channels with Winograd's kernels and padding, and with others of all forms in turn; then shapes for each order of work.
fn convolutions(random: &mut Random) -> Vec<Conv> {
    let sides = [1, 2, 5, 7, 1, 2, 5, 7, 3, 4, 6, 9, 10, 13, 18, 23];
    let mut forms = Vec::new();
    for kernel in [1, 3, 5, 7] {
        for stride in [1, 2, 3] {
            for padding in 0..4 {
                if kernel != 3 || stride != 1 || padding == 3 {
                    forms.push((kernel, stride, padding));
                }
            }
        }
    }
    let mut out = Vec::new();
    let mut next = 0;
    for input in CHANNELS {
        for output in CHANNELS {
            let mut add = |(kernel, stride, padding): (usize, usize, usize)| {
                let n = random.of(&[1, 2, 3]);
                let mut found: Vec<Conv> = Vec::new();
                // With many channels what is left over of a map is what matters, not its size.
                let cost = |conv: &Conv| (conv.out_len() * input * kernel * kernel).max(2_000_000);
                while found.len() < 12 {
                    let size = [random.of(&sides), random.of(&sides)];
                    if size[0] != size[1] && size.iter().all(|side| side + 2 * padding >= kernel) {
                        found.push(Conv { n, size, input, output, kernel, stride, padding });
                    }
                }
                out.push(found.into_iter().min_by_key(cost).expect("there are some"));
            };
            for padding in 0..3 {
                add((3, 1, padding));
            }
            for _ in 0..3 {
                add(forms[next % forms.len()]);
                next += 1;
            }
        }
    }
    let conv = |n, size, input, output, kernel, stride, padding| Conv { n, size, input, output, kernel, stride, padding };
    out.extend([
        // Many positions: all panels of some are a task; long lines; few channels by rows.
        conv(3, [41, 39], 3, 17, 3, 1, 1),
        conv(3, [41, 39], 17, 40, 1, 1, 0),
        conv(2, [3, 131], 8, 24, 5, 1, 2),
        conv(1, [150, 1], 33, 17, 3, 1, 1),
        conv(2, [61, 67], 3, 47, 7, 2, 3),
        // Winograd's kernels beyond what all tasks read again: F(4x4), then F(2x2), too; then beyond what is kept.
        conv(2, [5, 7], 200, 190, 3, 1, 1),
        conv(2, [7, 5], 270, 260, 3, 1, 0),
        conv(1, [5, 2], 300, 310, 3, 1, 2),
        conv(1, [2, 5], 450, 447, 3, 1, 1),
        // More blocks than are transformed at once.
        conv(1, [29, 27], 2000, 45, 3, 1, 1),
        conv(1, [27, 29], 45, 2000, 3, 1, 1),
        // The weights' gradient as independent sums, and in rounds.
        conv(3, [61, 67], 3, 8, 3, 1, 1),
        conv(3, [65, 63], 17, 24, 3, 1, 0),
        conv(3, [38, 41], 130, 130, 3, 1, 1),
    ]);
    out
}

// --- norms

fn norms(map: &Map, simds: &[Simd], random: &mut Random, log: &Log) {
    let (c, size) = (map.channels, map.size());
    let z: [Vec<f32>; 2] = [random.reals(size), random.reals(size)];
    // Some of the values of a ReLU are 0.
    let (y, dy) = (random.values(size), random.reals(size));
    let mut params = || exactly(random.reals(c).iter().map(|value| value / 8.0).collect());
    let (gamma, beta) = ([params(), params()], [params(), params()]);
    // Group and channel of a value, and the values of a group's channel.
    let place = |at: usize| at / c / map.pixels % map.groups * c + at % c;
    let values_of = |place: usize| {
        let (group, channel) = (place / c, place % c);
        (group..map.n).step_by(map.groups).flat_map(move |n| (0..map.pixels).map(move |p| (n * map.pixels + p) * c + channel))
    };
    let count = map.count() as f64;
    let exact: Vec<[(f64, f64); 2]> = (0..map.groups * c)
        .map(|place| {
            [0, 1].map(|which| {
                let mean = values_of(place).map(|at| f64::from(z[which][at])).sum::<f64>() / count;
                (mean, values_of(place).map(|at| (f64::from(z[which][at]) - mean).powi(2)).sum::<f64>() / count)
            })
        })
        .collect();

    for &simd in simds {
        let said = |call: &str| format!("{call}, {}, {map:?}", simd.name());
        let mut moments = Vec::new();
        let mut affines = Vec::new();
        for which in 0..2 {
            log.call(said("Moments::of"));
            let seen = Moments::of(&z[which], map, simd);
            let seen = Moments { mean: exactly(seen.mean), variance: exactly(seen.variance) };
            assert_eq!((seen.mean.len(), seen.variance.len()), (map.groups * c, map.groups * c));
            log.near("mean", &seen.mean, |at| (exact[at][which].0, 1e-5));
            log.near("variance", &seen.variance, |at| (exact[at][which].1, 1e-5 * (exact[at][which].1 + 1.0)));
            log.call(said("Moments::affine"));
            let affine = seen.affine(&gamma[which], &beta[which]);
            log.near("scale", &affine.scale, |at| {
                let scale = f64::from(gamma[which][at % c]) / (f64::from(seen.variance[at]) + EPSILON).sqrt();
                (scale, 1e-6 * scale.abs())
            });
            log.near("shift", &affine.shift, |at| {
                let product = f64::from(seen.mean[at]) * f64::from(affine.scale[at]);
                (f64::from(beta[which][at % c]) - product, 1e-6 * (product.abs() + 1.0))
            });
            affines.push(norm::Affine { scale: exactly(affine.scale.clone()), shift: exactly(affine.shift.clone()) });
            moments.push(seen);
        }

        let joins = [Joined::Nothing, Joined::Map(&z[1]), Joined::Normed(&z[1], &affines[1])];
        for (kind, joined) in joins.into_iter().enumerate() {
            for relu in [false, true] {
                let want = |at: usize| {
                    let other = f64::from(z[1][at]);
                    let by = |which: usize| (f64::from(affines[which].scale[place(at)]), f64::from(affines[which].shift[place(at)]));
                    let ((scale, shift), (factor, more)) = (by(0), [(0.0, 0.0), (1.0, 0.0), by(1)][kind]);
                    let terms = [f64::from(z[0][at]) * scale, shift, other * factor, more];
                    let sum = terms.iter().sum::<f64>();
                    (if relu { sum.max(0.0) } else { sum }, 1e-6 * terms.iter().map(|term| term.abs()).sum::<f64>())
                };
                log.call(said(&format!("norm::apply, kind {kind} of what joins, relu {relu}")));
                let mut out = exactly(vec![f32::NAN; size]);
                norm::apply(&z[0], map, &affines[0], joined, relu, simd, &mut out);
                log.near("apply", &out, want);
                log.call(said(&format!("norm::apply_in_place, kind {kind} of what joins, relu {relu}")));
                let mut out = exactly(z[0].clone());
                norm::apply_in_place(&mut out, map, &affines[0], joined, relu, simd);
                log.near("apply_in_place", &out, want);
            }
        }

        let normed: Vec<Normed> = (0..2).map(|which| Normed { z: &z[which], moments: &moments[which], gamma: &gamma[which] }).collect();
        for number in [1, 2] {
            for y in [None, Some(&y[..])] {
                log.call(said(&format!("norm::reduce, {number} norms, {} y", if y.is_some() { "with" } else { "without" })));
                let mut g = exactly(dy.clone());
                let backs = norm::reduce(&mut g, y, &normed[..number], map, simd);
                log.near("g", &g, |at| (if y.is_none_or(|y| y[at] > 0.0) { f64::from(dy[at]) } else { 0.0 }, 0.0));
                assert_eq!(backs.len(), number);
                for (which, back) in backs.iter().enumerate() {
                    let mut rows = Vec::new();
                    for place in 0..map.groups * c {
                        let mean = f64::from(moments[which].mean[place]);
                        let (mut sum, mut size, mut product, mut products) = (0.0, 0.0, 0.0, 0.0);
                        for at in values_of(place) {
                            let (g, off) = (f64::from(g[at]), f64::from(z[which][at]) - mean);
                            (sum, size, product, products) = (sum + g, size + g.abs(), product + g * off, products + (g * off).abs());
                        }
                        let inverse = 1.0 / (f64::from(moments[which].variance[place]) + EPSILON).sqrt();
                        let scale = f64::from(gamma[which][place % c]) * inverse;
                        let by = -scale * inverse * inverse * product / count;
                        let by_size = (scale * inverse * inverse * products / count).abs();
                        let plus = -scale * sum / count - by * mean;
                        let plus_size = (scale * size / count).abs() + by_size * mean.abs();
                        rows.push([(scale, scale.abs()), (by, by_size), (plus, plus_size), (product * inverse, products * inverse), (sum, size)]);
                    }
                    let near = |(value, size): (f64, f64)| (value, 1e-5 * size + 1e-30);
                    log.near("scale", &back.gradient.scale, |at| near(rows[at][0]));
                    log.near("by", &back.input.scale, |at| near(rows[at][1]));
                    let shifts = back.gradient.shift.iter().zip(&back.input.shift);
                    let plus: Vec<f32> = shifts.map(|(gradient, input)| gradient + input).collect();
                    log.near("plus", &plus, |at| near(rows[at][2]));
                    let all = |channel: usize, of: usize| {
                        let groups = (0..map.groups).map(|group| rows[group * c + channel][of]);
                        near(groups.fold((0.0, 0.0), |(a, b), (value, size)| (a + value, b + size)))
                    };
                    log.near("gamma", &back.gamma, |channel| all(channel, 3));
                    log.near("beta", &back.beta, |channel| all(channel, 4));

                    let of = |affine: &norm::Affine| norm::Affine {
                        scale: exactly(affine.scale.clone()),
                        shift: exactly(affine.shift.clone()),
                    };
                    let back = norm::Back { gradient: of(&back.gradient), input: of(&back.input), ..back.clone() };
                    let want = |at: usize| {
                        let place = place(at);
                        let terms = [
                            f64::from(g[at]) * f64::from(back.gradient.scale[place]),
                            f64::from(back.gradient.shift[place]),
                            f64::from(z[which][at]) * f64::from(back.input.scale[place]),
                            f64::from(back.input.shift[place]),
                        ];
                        (terms.iter().sum(), 1e-6 * terms.iter().map(|term| term.abs()).sum::<f64>() + 1e-30)
                    };
                    log.call(said("norm::spread"));
                    let mut out = exactly(vec![f32::NAN; size]);
                    norm::spread(&g, &z[which], &back, map, simd, &mut out);
                    log.near("spread", &out, want);
                    log.call(said("norm::spread_in_place"));
                    let mut out = exactly(g.clone());
                    norm::spread_in_place(&mut out, &z[which], &back, map, simd);
                    log.near("spread_in_place", &out, want);
                }
            }
        }
    }
}

/// Every number of channels with maps of one part and of more, in all groups.
fn maps() -> Vec<Map> {
    let mut out = Vec::new();
    for channels in CHANNELS {
        for (n, groups) in [(1, 1), (2, 1), (2, 2), (3, 1), (3, 3), (4, 2)] {
            for pixels in [1, 2, 5, 35] {
                out.push(Map { n, pixels, channels, groups });
            }
        }
        for pixels in [1023, 1024, 1025, 2100] {
            out.push(Map { n: 2, pixels, channels, groups: if pixels % 2 == 0 { 1 } else { 2 } });
        }
    }
    out
}

// --- whether the sanitizer sees what it should

const OPERATIONS: [&str; 4] = ["load", "store", "load_some", "store_some"];

/// A vector, or the last two values of one, one value too far.
struct Beyond<'a> {
    operation: &'a str,
    memory: &'a mut [f32],
}

impl Task for Beyond<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self) -> f32 {
        let (at, mut out) = (self.memory.as_mut_ptr(), [0.0f32; 16]);
        // SAFETY: none; this is what is to be seen.
        unsafe {
            let value = match self.operation {
                "load" => L::load(at.add(self.memory.len() + 1 - L::N)),
                "load_some" => L::load_some(at.add(self.memory.len() - 1), black_box(2)),
                _ => L::splat(1.0),
            };
            match self.operation {
                "store" => value.store(at.add(self.memory.len() + 1 - L::N)),
                "store_some" => value.store_some(at.add(self.memory.len() - 1), black_box(2)),
                _ => {}
            }
            value.store(out.as_mut_ptr());
        }
        black_box(out)[0]
    }
}

fn sees(simds: &[Simd]) {
    for simd in simds {
        for operation in OPERATIONS {
            let options = format!("{}:symbolize=0", std::env::var("ASAN_OPTIONS").unwrap_or_default());
            let program = std::env::current_exe().expect("this program");
            let child = std::process::Command::new(program).args([simd.name(), operation]).env("ASAN_OPTIONS", options).output();
            let child = child.expect("this program once more");
            let report = String::from_utf8_lossy(&child.stderr).into_owned();
            if child.status.success() || !report.contains("AddressSanitizer: heap-buffer-overflow") {
                eprintln!("FAILED: the sanitizer does not see a {operation} of {} one value too far: {} {report}", simd.name(), child.status);
                std::process::exit(1);
            }
        }
    }
}

fn main() {
    let simds: Vec<Simd> = Simd::ALL.into_iter().filter(|simd| simd.runs()).collect();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [name, operation] = &args[..] {
        let simd = simds.iter().find(|simd| simd.name() == name).expect("a name");
        let mut memory = exactly(vec![0.0; 32]);
        println!("{}", simd.run(Beyond { operation, memory: black_box(&mut memory) }));
        return;
    }
    // SAFETY: the callback lives as long as the program.
    unsafe { __sanitizer_set_death_callback(died) };
    std::panic::set_hook(Box::new(|info| {
        eprintln!("{info}");
        tell();
        std::process::exit(1);
    }));
    sees(&simds);
    println!("the sanitizer sees every kind of access: {}", simds.iter().map(|simd| simd.name()).collect::<Vec<_>>().join(", "));
    // One of the pool's threads goes through all calls: none has to be handed over.
    rayon::scope(|_| all(&simds));
    CALL.lock().unwrap().clear();
}

fn all(simds: &[Simd]) {
    let began = std::time::Instant::now();
    let (log, mut random) = (Log::default(), Random(1));
    let shapes = convolutions(&mut random);
    for conv in &shapes {
        convolution(conv, simds, &mut random, &log);
    }
    println!(
        "{} shapes of convolutions, {} calls, {:.1} s; the largest error of F(4x4) was {:.2} of its tolerance",
        shapes.len(), log.calls.take(), began.elapsed().as_secs_f64(), log.worst.get(),
    );

    let began = std::time::Instant::now();
    OWN_ROOMS.store(true, Relaxed);
    let again = shapes.iter().filter(|conv| conv.kernel == 3 && conv.stride == 1 && conv.padding <= 2);
    let again: Vec<&Conv> = again.step_by(9).collect();
    for conv in &again {
        convolution(conv, simds, &mut random, &log);
    }
    println!("{} of them with a thread's own rooms, {} calls, {:.1} s", again.len(), log.calls.take(), began.elapsed().as_secs_f64());

    let began = std::time::Instant::now();
    let maps = maps();
    for map in &maps {
        norms(map, simds, &mut random, &log);
    }
    println!("{} maps of norms, {} calls, {:.1} s", maps.len(), log.calls.take(), began.elapsed().as_secs_f64());
}
RUST
)
main=${main//@KERNELS@/$kernels}
printf '%s\n' "${main//@CRATE@/$work/crate/src}" >"$work/crate/src/main.rs"

target=${SANITIZE_TARGET_DIR:-$work/target}
mkdir -p "$target"
target=$(realpath "$target")
echo "building with $(head -n 1 "$work/version") for $host"
if ! (cd "$work/crate" && RUSTFLAGS="-Zsanitizer=address -Awarnings" CARGO_TARGET_DIR=$target \
  cargo "+$toolchain" build --quiet --offline --release --target "$host"); then
  echo "error: the kernels do not build on their own; what $root needs has to be there (cargo fetch)" >&2
  exit 1
fi
# Wide rooms between what is allocated, so that a whole line of pixels too far is seen, too; leaks are no concern here.
export ASAN_OPTIONS=detect_leaks=0:redzone=2048:allow_addr2line=1
if ! "$target/$host/release/sanitize-kernels"; then
  echo "FAILED: kernels of $kernels" >&2
  exit 1
fi
echo "passed: kernels of $kernels"
