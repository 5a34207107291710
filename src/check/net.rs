//! Blocks of the nets on every path, with every algorithm and every instruction set of this processor, against plain f64 loops: outputs,
//! statistics, and gradients by central differences; and against each other on the shapes of runs.

use burn::tensor::{Device, Tensor, TensorData};

use super::{Tally, common};
use crate::device::Opened;
use crate::kernel::choice::paths;
use crate::kernel::net::simd::Simd;
use crate::kernel::net::{
    self, Block, Convolution, Convolver, EPSILON, Groups, Shortcut, Statistics, Unit, Ways, Window, Winograd,
};
use crate::kernel::{KernelPath, Op};
use crate::rng::{Purpose, Stream};

/// Unit roundoff of f32.
const ROUNDING: f64 = 6e-8;

/// A block with its sizes.
#[derive(Debug, Clone)]
struct Case {
    n: usize,
    size: [usize; 2],
    input: usize,
    /// Of each convolution, the shortcut's last: output channels and kernel side.
    units: Vec<(usize, usize)>,
    block: Block,
    groups: usize,
}

/// Weights, gamma, beta, mean and variance of a unit, as the references read them.
#[derive(Debug, Clone)]
struct Values {
    weight: Vec<f64>,
    gamma: Vec<f64>,
    beta: Vec<f64>,
    mean: Vec<f64>,
    variance: Vec<f64>,
}

/// Everything a block computes from.
#[derive(Debug, Clone)]
struct Inputs {
    x: Vec<f64>,
    units: Vec<Values>,
}

/// `(output channels, kernel, stride)`; the padding keeps the size where the stride is 1.
type Conv = (usize, usize, usize);

fn moves((_, kernel, stride): Conv) -> Convolution {
    Convolution { stride, padding: kernel / 2 }
}

/// A block of 3x3 convolutions or whatever `path` says, beside `shortcut`: none, the input, or a convolution.
fn case(n: usize, size: [usize; 2], input: usize, path: &[Conv], shortcut: Option<Option<Conv>>, groups: usize) -> Case {
    let beside = shortcut.flatten();
    let units = path.iter().chain(&beside).map(|&(channels, kernel, _)| (channels, kernel)).collect();
    let shortcut = match shortcut {
        None => Shortcut::None,
        Some(None) => Shortcut::Identity,
        Some(Some(conv)) => Shortcut::Convolution(moves(conv)),
    };
    Case { n, size, input, units, block: Block { path: path.iter().map(|conv| moves(*conv)).collect(), shortcut }, groups }
}

/// Sizes at the edges: one channel, three, numbers that fill no vector; odd, single and unequal sides; strides and kernels of 1 to 7; one image;
/// every form of block; groups.
fn small() -> Vec<Case> {
    const NOTHING: Option<Option<Conv>> = None;
    const IDENTITY: Option<Option<Conv>> = Some(None);
    vec![
        case(2, [5, 7], 3, &[(24, 3, 1)], NOTHING, 1),
        case(1, [1, 7], 1, &[(3, 3, 1)], NOTHING, 1),
        case(4, [7, 1], 5, &[(17, 3, 1)], NOTHING, 2),
        case(2, [9, 11], 3, &[(16, 7, 2)], NOTHING, 1),
        case(3, [8, 5], 24, &[(20, 3, 2)], NOTHING, 3),
        case(2, [6, 6], 24, &[(24, 3, 1), (24, 3, 1)], IDENTITY, 2),
        case(4, [5, 4], 8, &[(8, 3, 1), (8, 3, 1)], IDENTITY, 1),
        case(2, [7, 5], 16, &[(40, 3, 2), (40, 3, 1)], Some(Some((40, 1, 2))), 1),
        case(6, [4, 4], 70, &[(70, 3, 1), (70, 3, 1)], IDENTITY, 3),
        case(2, [5, 6], 33, &[(12, 1, 1), (12, 3, 2), (48, 1, 1)], Some(Some((48, 1, 2))), 2),
        case(2, [4, 5], 64, &[(16, 1, 1), (16, 3, 1), (64, 1, 1)], IDENTITY, 1),
        case(1, [13, 10], 2, &[(9, 5, 3)], NOTHING, 1),
        case(2, [3, 3], 130, &[(3, 1, 1)], NOTHING, 1),
        case(8, [3, 5], 6, &[(9, 3, 1), (6, 3, 1)], IDENTITY, 4),
    ]
}

impl Case {
    fn name(&self) -> String {
        let units: Vec<String> = self.units.iter().map(|(channels, kernel)| format!("{channels}k{kernel}")).collect();
        let [h, w] = self.size;
        format!("{}x{}x{h}x{w} {} {:?} in {} groups", self.n, self.input, units.join(" "), self.block.shortcut, self.groups)
    }

    /// Random inputs, exact in f32.
    fn inputs(&self, seed: u64) -> Inputs {
        let mut draw = Stream::new(seed, Purpose::Synthetic, &[self.n as u64, self.input as u64]);
        let mut normal = |count: usize, scale: f64, about: f64| -> Vec<f64> {
            (0..count).map(|_| f64::from((about + scale * draw.normal()) as f32)).collect()
        };
        let x = normal(self.n * self.input * self.size[0] * self.size[1], 1.0, 0.3);
        let mut input = self.input;
        let path = self.block.path.len();
        let mut units = Vec::new();
        for (at, &(channels, kernel)) in self.units.iter().enumerate() {
            input = if at == path { self.input } else { input };
            let terms = input * kernel * kernel;
            units.push(Values {
                weight: normal(channels * terms, (2.0 / terms as f64).sqrt(), 0.0),
                gamma: normal(channels, 0.2, 1.0),
                beta: normal(channels, 0.3, 0.1),
                mean: normal(channels, 0.2, 0.1),
                variance: normal(channels, 0.2, 1.0).into_iter().map(|v| f64::from(v.abs().max(0.1) as f32)).collect(),
            });
            input = channels;
        }
        Inputs { x, units }
    }

    /// Terms of the longest sum of a convolution.
    fn terms(&self) -> f64 {
        let inputs = std::iter::once(self.input).chain(self.units.iter().map(|(channels, _)| *channels));
        self.units.iter().zip(inputs).map(|((_, kernel), input)| input.max(self.input) * kernel * kernel).max().unwrap_or(1) as f64
    }
}

/// A map in f64, `[n, c, h, w]`.
#[derive(Clone)]
struct Plane {
    values: Vec<f64>,
    channels: usize,
    size: [usize; 2],
}

fn convolve(
    x: &Plane,
    n: usize,
    weight: &[f64],
    (channels, kernel): (usize, usize),
    Convolution { stride, padding }: Convolution,
) -> Plane {
    let out = x.size.map(|side| (side + 2 * padding - kernel) / stride + 1);
    let [h, w] = x.size;
    let mut values = Vec::with_capacity(n * channels * out[0] * out[1]);
    for image in 0..n {
        for o in 0..channels {
            for y in 0..out[0] {
                for column in 0..out[1] {
                    let mut sum = 0.0;
                    for c in 0..x.channels {
                        for ky in 0..kernel {
                            for kx in 0..kernel {
                                let (iy, ix) = (y * stride + ky, column * stride + kx);
                                if iy >= padding && ix >= padding && iy - padding < h && ix - padding < w {
                                    let pixel = ((image * x.channels + c) * h + iy - padding) * w + ix - padding;
                                    sum += x.values[pixel] * weight[((o * x.channels + c) * kernel + ky) * kernel + kx];
                                }
                            }
                        }
                    }
                    values.push(sum);
                }
            }
        }
    }
    Plane { values, channels, size: out }
}

/// Mean and biased variance of `of`.
fn moments(of: &[f64]) -> (f64, f64) {
    let mean = of.iter().sum::<f64>() / of.len() as f64;
    (mean, of.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / of.len() as f64)
}

/// Mean and unbiased variance of each group, per channel.
type Seen = Vec<Vec<(f64, f64)>>;

/// Normalises by the batch's groups, and tells what they showed; or by what was kept.
fn normalise(z: &mut Plane, n: usize, unit: &Values, groups: Option<usize>) -> Seen {
    let pixels = z.size[0] * z.size[1];
    let mut seen = Vec::new();
    for c in 0..z.channels {
        let places = |image: usize| (image * z.channels + c) * pixels..(image * z.channels + c + 1) * pixels;
        let mut of_groups = Vec::new();
        let all = groups.unwrap_or(1);
        for group in 0..all {
            let members: Vec<usize> = (group..n).step_by(all).flat_map(places).collect();
            let of: Vec<f64> = members.iter().map(|at| z.values[*at]).collect();
            let (m, v) = if groups.is_some() { moments(&of) } else { (unit.mean[c], unit.variance[c]) };
            for at in members {
                z.values[at] = (z.values[at] - m) / (v + EPSILON).sqrt() * unit.gamma[c] + unit.beta[c];
            }
            let count = of.len() as f64;
            of_groups.push((m, v * if count > 1.0 { count / (count - 1.0) } else { 1.0 }));
        }
        seen.push(of_groups);
    }
    seen
}

/// The block by its definition, in training or in evaluation: its output, and what each norm saw.
fn reference(case: &Case, inputs: &Inputs, training: bool) -> (Vec<f64>, Vec<Seen>) {
    let groups = training.then_some(case.groups);
    let x = Plane { values: inputs.x.clone(), channels: case.input, size: case.size };
    let mut seen = Vec::new();
    let mut unit = |x: &Plane, at: usize, of: Convolution| {
        let mut z = convolve(x, case.n, &inputs.units[at].weight, case.units[at], of);
        seen.push(normalise(&mut z, case.n, &inputs.units[at], groups));
        z
    };
    let mut y = x.clone();
    for (at, of) in case.block.path.iter().enumerate() {
        if at > 0 {
            y.values.iter_mut().for_each(|v| *v = v.max(0.0));
        }
        y = unit(&y, at, *of);
    }
    let beside = match case.block.shortcut {
        Shortcut::None => None,
        Shortcut::Identity => Some(x),
        Shortcut::Convolution(of) => Some(unit(&x, case.block.path.len(), of)),
    };
    if let Some(beside) = beside {
        y.values.iter_mut().zip(beside.values).for_each(|(y, more)| *y += more);
    }
    (y.values.into_iter().map(|v| v.max(0.0)).collect(), seen)
}

fn tensor<const D: usize>(values: &[f64], dims: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.iter().map(|v| *v as f32).collect::<Vec<_>>(), dims), device)
}

/// The tensors of a case, ready for [`net::block`].
fn tensors(case: &Case, inputs: &Inputs, device: &Device) -> (Tensor<4>, Vec<(Unit, Statistics)>) {
    let x = tensor(&inputs.x, [case.n, case.input, case.size[0], case.size[1]], device);
    let units = inputs.units.iter().zip(&case.units).map(|(values, &(channels, kernel))| {
        let input = values.weight.len() / (channels * kernel * kernel);
        let vector = |values: &[f64]| tensor(values, [channels], device);
        let weight = tensor(&values.weight, [channels, input, kernel, kernel], device);
        let unit = Unit { weight, gamma: vector(&values.gamma), beta: vector(&values.beta) };
        (unit, Statistics { mean: vector(&values.mean), variance: vector(&values.variance) })
    });
    (x, units.collect())
}

/// Every way in which this device can compute a block.
fn ways(opened: &Opened) -> Vec<Ways> {
    let of = |path: KernelPath| -> Vec<Ways> {
        match path {
            KernelPath::Flex => Winograd::ALL
                .into_iter()
                .flat_map(|winograd| {
                    Simd::ALL.into_iter().filter(|simd| simd.runs()).map(move |simd| Ways {
                        path,
                        winograd,
                        simd,
                        ..Ways::portable()
                    })
                })
                .collect(),
            KernelPath::Cube => {
                [Convolver::Own, Convolver::Burn].map(|convolver| Ways { path, convolver, ..Ways::portable() }).into()
            }
            _ => vec![Ways { path, ..Ways::portable() }],
        }
    };
    paths(Op::Net, &opened.info.compiler).into_iter().flat_map(of).collect()
}

fn named(ways: Ways) -> String {
    match ways.path {
        KernelPath::Flex => format!("flex {} winograd {}", ways.simd.name(), ways.winograd.name()),
        KernelPath::Cube => format!("cube convolution {}", ways.convolver.name()),
        path => path.name().to_owned(),
    }
}

/// What a way may err by, relative to values of about 1. A sum of K products of values of about 1 over its spread errs like a random walk, by
/// some sqrt(K) roundings; F(4x4) errs up to four times as much by its transforms (the error table of docs/numbers.md), and the largest of
/// thousands of values lies beyond four deviations. A norm behind it divides by the spread of a small batch, which can be a quarter of
/// the mean one.
fn allowed(case: &Case, ways: Ways) -> f64 {
    let algorithm = if matches!(ways.winograd, Winograd::Off | Winograd::F2) { 1.0 } else { 4.0 };
    ROUNDING * (4.0 + case.terms().sqrt()) * 4.0 * 4.0 * algorithm
}

fn assert_close(what: &str, got: &[f32], want: &[f64], allowed: f64) {
    assert_eq!(got.len(), want.len(), "{what}: number of values");
    let largest = want.iter().fold(1.0f64, |largest, w| largest.max(w.abs()));
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let off = (f64::from(*got) - want).abs();
        assert!(off <= allowed * largest, "{what}[{i}] is {got}, want {want}, off by {off:e}, allowed {:e}", allowed * largest);
    }
}

/// Outputs and statistics, in training and in evaluation.
pub fn blocks_are_what_their_definition_says(opened: &Opened, tally: &mut Tally) {
    for case in small() {
        let inputs = case.inputs(1);
        let (trained, seen) = reference(&case, &inputs, true);
        let (evaluated, _) = reference(&case, &inputs, false);
        for ways in ways(opened) {
            tally.case(&format!("{}, {}", case.name(), named(ways)), || {
                let (x, units) = tensors(&case, &inputs, &opened.device);
                let allowed = allowed(&case, ways);
                // As groups of one forward, as forwards of one group each, and between.
                let forwards = (1..=case.groups).filter(|forwards| case.groups.is_multiple_of(*forwards));
                for groups in forwards.map(|forwards| Groups { forwards, splits: case.groups / forwards }) {
                    let only = units.iter().map(|(unit, _)| unit.clone()).collect();
                    let (y, statistics) =
                        common::asserting_path(Op::Net, ways.path, || net::block(x.clone(), only, &case.block, groups, ways));
                    assert_close("training", &common::values(y), &trained, allowed);
                    assert_eq!(statistics.len(), seen.len());
                    for (unit, (statistics, seen)) in statistics.into_iter().zip(&seen).enumerate() {
                        assert_eq!(statistics.len(), groups.forwards);
                        for (forward, Statistics { mean, variance }) in statistics.into_iter().enumerate() {
                            let own = forward * groups.splits..(forward + 1) * groups.splits;
                            let over = |of: fn(&(f64, f64)) -> f64| -> Vec<f64> {
                                let mean = |groups_of: &Vec<(f64, f64)>| groups_of[own.clone()].iter().map(of).sum::<f64>();
                                seen.iter().map(|groups_of| mean(groups_of) / groups.splits as f64).collect()
                            };
                            let what = format!("of unit {unit} in forward {forward}");
                            assert_close(&format!("mean {what}"), &common::values(mean), &over(|seen| seen.0), allowed);
                            assert_close(&format!("variance {what}"), &common::values(variance), &over(|seen| seen.1), allowed);
                        }
                    }
                }
                let y = common::asserting_path(Op::Net, ways.path, || net::block_in_evaluation(x, units, &case.block, ways));
                assert_close("evaluation", &common::values(y), &evaluated, allowed);
            });
        }
    }
}

/// Step of the central differences: they err by its square times a third derivative, and by `1e-16 f / STEP`.
const STEP: f64 = 1e-5;
/// Elements of each input whose derivatives are compared.
const ELEMENTS: usize = 12;

/// Derivatives of `sum(y * cotangent)` with respect to some elements of the input and of every parameter.
pub fn blocks_have_the_gradients_of_their_definition(opened: &Opened, tally: &mut Tally) {
    for case in small() {
        let inputs = case.inputs(2);
        let outputs = reference(&case, &inputs, true).0.len();
        let mut draw = Stream::new(3, Purpose::Synthetic, &[outputs as u64]);
        let cotangent: Vec<f64> = (0..outputs).map(|_| f64::from(draw.normal() as f32)).collect();
        let wanted = differences(&case, &inputs, &cotangent);
        assert!(wanted.iter().map(Vec::len).sum::<usize>() >= 3 * wanted.len(), "{}: too few derivatives", case.name());
        for ways in ways(opened) {
            tally.case(&format!("{}, {}", case.name(), named(ways)), || {
                let (x, units) = tensors(&case, &inputs, &opened.device);
                let got = gradients(&case, x, units, &cotangent, ways);
                for (at, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
                    let largest = got.iter().fold(1.0f64, |largest, v| largest.max(f64::from(v.abs())));
                    for (element, want) in wanted {
                        let off = (f64::from(got[*element]) - want).abs();
                        // The difference itself errs by less than 1e-6 of the largest.
                        let allowed = largest * (4.0 * allowed(&case, ways) + 1e-6);
                        assert!(
                            off <= allowed,
                            "input {at}, element {element}: {}, want {want}, off {off:e}, allowed {allowed:e}",
                            got[*element]
                        );
                    }
                }
            });
        }
    }
}

/// The gradients of the input and of every parameter, in the order of the units.
fn gradients(case: &Case, x: Tensor<4>, units: Vec<(Unit, Statistics)>, cotangent: &[f64], ways: Ways) -> Vec<Vec<f32>> {
    let device = x.device();
    let x = x.autodiff().require_grad();
    let units: Vec<Unit> = units
        .into_iter()
        .map(|(Unit { weight, gamma, beta }, _)| Unit {
            weight: weight.autodiff().require_grad(),
            gamma: gamma.autodiff().require_grad(),
            beta: beta.autodiff().require_grad(),
        })
        .collect();
    common::asserting_path(Op::Net, ways.path, || {
        let (y, _) = net::block(x.clone(), units.clone(), &case.block, Groups::of(case.groups), ways);
        let cotangent = tensor(cotangent, y.dims(), &device);
        let found = (y * cotangent).sum().backward();
        let mut all = vec![common::values(x.grad(&found).expect("a gradient of the input"))];
        for Unit { weight, gamma, beta } in units {
            all.push(common::values(weight.grad(&found).expect("a gradient of the weights")));
            all.push(common::values(gamma.grad(&found).expect("a gradient of gamma")));
            all.push(common::values(beta.grad(&found).expect("a gradient of beta")));
        }
        all
    })
}

/// Some elements of each input in the order of [`gradients`] with their central differences; those at a kink of a ReLU are left out.
fn differences(case: &Case, inputs: &Inputs, cotangent: &[f64]) -> Vec<Vec<(usize, f64)>> {
    let objective = |inputs: &Inputs| -> f64 { reference(case, inputs, true).0.iter().zip(cotangent).map(|(y, by)| y * by).sum() };
    let moved = |at: usize, element: usize, by: f64| {
        let mut inputs = inputs.clone();
        input_of(&mut inputs, at)[element] += by;
        objective(&inputs)
    };
    let mut draw = Stream::new(4, Purpose::Synthetic, &[inputs.x.len() as u64]);
    (0..=3 * inputs.units.len())
        .map(|at| {
            let len = input_of(&mut inputs.clone(), at).len();
            let mut found = Vec::new();
            for _ in 0..ELEMENTS {
                let element = draw.below(len as u64) as usize;
                let slope = |step: f64| (moved(at, element, step) - moved(at, element, -step)) / (2.0 * step);
                let (near, far) = (slope(STEP / 4.0), slope(STEP));
                if (near - far).abs() <= 1e-6 * far.abs().max(1.0) {
                    found.push((element, far));
                }
            }
            found
        })
        .collect()
}

/// Input `at` in the order of [`gradients`].
fn input_of(inputs: &mut Inputs, at: usize) -> &mut Vec<f64> {
    if at == 0 {
        return &mut inputs.x;
    }
    let unit = &mut inputs.units[(at - 1) / 3];
    match (at - 1) % 3 {
        0 => &mut unit.weight,
        1 => &mut unit.gamma,
        _ => &mut unit.beta,
    }
}

/// Blocks of the shapes of a run, on every way beside the path `tensor`: outputs, statistics and all gradients.
pub fn blocks_of_the_shapes_of_a_run(opened: &Opened, tally: &mut Tally) {
    const BASIC: Option<Option<Conv>> = Some(None);
    let cases = [
        case(8, [32, 24], 3, &[(64, 3, 1)], None, 2),
        case(8, [32, 32], 64, &[(64, 3, 1), (64, 3, 1)], BASIC, 8),
        case(8, [32, 32], 64, &[(128, 3, 2), (128, 3, 1)], Some(Some((128, 1, 2))), 1),
        case(16, [4, 4], 512, &[(512, 3, 1), (512, 3, 1)], BASIC, 2),
        case(2, [112, 96], 3, &[(64, 7, 2)], None, 1),
        case(2, [28, 20], 256, &[(128, 1, 1), (128, 3, 1), (512, 1, 1)], Some(Some((512, 1, 1))), 1),
        case(2, [14, 18], 512, &[(256, 1, 1), (256, 3, 2), (1024, 1, 1)], Some(Some((1024, 1, 2))), 2),
    ];
    let best = Simd::best();
    let plain = Ways { path: KernelPath::Tensor, ..Ways::portable() };
    let mut others: Vec<Ways> =
        ways(opened).into_iter().filter(|ways| ways.path != KernelPath::Tensor && ways.simd == best).collect();
    let (mut device, mut all) = (opened.device.clone(), cases.len());
    if others.is_empty() {
        // With tensor operations alone there is the CPU to compare with, on a case that software Vulkan computes in seconds.
        match crate::device::open("cpu") {
            Ok(cpu) => (device, others, all) = (cpu.device, vec![plain], 1),
            Err(why) => return tally.note(format!("nothing to compare tensor operations with: {why}")),
        }
    }
    for case in &cases[..all] {
        let inputs = case.inputs(5);
        let out = |device: &Device, ways: Ways| {
            let (x, units) = tensors(case, &inputs, device);
            let only = units.iter().map(|(unit, _)| unit.clone()).collect();
            let (y, _) = net::block(x.clone(), only, &case.block, Groups::of(case.groups), ways);
            let count = y.dims().iter().product();
            let y = common::values(y);
            let mut draw = Stream::new(6, Purpose::Synthetic, &[count as u64]);
            let cotangent: Vec<f64> = (0..count).map(|_| f64::from(draw.normal() as f32)).collect();
            (y, gradients(case, x, units, &cotangent, ways))
        };
        let (want, want_gradients) = out(&device, plain);
        for &ways in &others {
            tally.case(&format!("{}, {}", case.name(), named(ways)), || {
                let (got, got_gradients) = out(&opened.device, ways);
                let allowed = allowed(case, ways);
                let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|v| f64::from(*v)).collect() };
                assert_close("output", &got, &wide(&want), allowed);
                for (at, (got, want)) in got_gradients.iter().zip(&want_gradients).enumerate() {
                    // A value within an error of 0 opens a ReLU on one way and not on the other. Such are about a share `allowed` of all
                    // values, each with its whole gradient: of the norm they are the root of that share.
                    let off: f64 = got.iter().zip(want).map(|(got, want)| f64::from(got - want).powi(2)).sum();
                    let all: f64 = want.iter().map(|want| f64::from(*want).powi(2)).sum();
                    let relative = (off / all).sqrt();
                    assert!(relative <= allowed.sqrt(), "gradient {at} is off by {relative:e} of its norm");
                }
            });
        }
    }
}

/// The largest values of windows, and where their gradients go, on every path: exactly, since nothing is rounded but the sum of the gradients of
/// windows that overlap, of small integers here. A value that is not a number is the largest.
pub fn pooled_maps_are_the_largest_values(opened: &Opened, tally: &mut Tally) {
    let windows =
        [(3, 2, 1), (3, 2, 0), (2, 2, 0), (3, 1, 1), (5, 3, 2)].map(|(side, stride, padding)| Window { side, stride, padding });
    for window in windows {
        for ([n, c, h, w], path) in [[2, 3, 9, 6], [1, 17, 5, 7], [3, 1, 6, 5], [1, 64, 13, 8]]
            .into_iter()
            .flat_map(|dims| paths(Op::Net, &opened.info.compiler).into_iter().map(move |path| (dims, path)))
        {
            tally.case(&format!("{n}x{c}x{h}x{w} {window:?}, path {}", path.name()), || {
                pooled(opened, [n, c, h, w], window, Ways { path, ..Ways::portable() });
            });
        }
    }
}

fn pooled(opened: &Opened, [n, c, h, w]: [usize; 4], window: Window, ways: Ways) {
    let Window { side, stride, padding } = window;
    // A permutation: no two values of a map are equal, so that every window has one largest value.
    let mut draw = Stream::new(8, Purpose::Synthetic, &[h as u64, side as u64]);
    let values: Vec<f64> = draw.permutation(n * c * h * w).into_iter().map(|value| f64::from(value) - 50.0).collect();
    let (out_h, out_w) = (window.outputs(h), window.outputs(w));
    let (mut largest, mut gradient) = (Vec::new(), vec![0.0; values.len()]);
    let cotangent = |at: usize| (at % 7) as f64 - 3.0;
    for map in 0..n * c {
        for (y, x) in (0..out_h).flat_map(|y| (0..out_w).map(move |x| (y, x))) {
            let inside = (0..side * side).filter_map(|i| {
                let (y, x) = ((y * stride + i / side).checked_sub(padding)?, (x * stride + i % side).checked_sub(padding)?);
                (y < h && x < w).then_some((map * h + y) * w + x)
            });
            let at = inside.max_by(|a, b| values[*a].total_cmp(&values[*b])).expect("a window has a pixel");
            gradient[at] += cotangent(largest.len());
            largest.push(values[at]);
        }
    }
    let x = tensor(&values, [n, c, h, w], &opened.device).autodiff().require_grad();
    let (y, plain) = common::asserting_path(Op::Net, ways.path, || {
        (net::max_pool(x.clone(), window, ways), net::max_pool(x.clone().inner(), window, ways))
    });
    let cotangents: Vec<f64> = (0..largest.len()).map(cotangent).collect();
    let found = (y.clone() * tensor(&cotangents, y.dims(), &opened.device)).sum().backward();
    let narrow = |values: &[f64]| -> Vec<f32> { values.iter().map(|value| *value as f32).collect() };
    assert_eq!(common::values(y), narrow(&largest));
    assert_eq!(common::values(plain), narrow(&largest), "without a graph");
    assert_eq!(common::values(x.grad(&found).expect("a gradient of the input")), narrow(&gradient));
    if ways.path == KernelPath::Flex {
        let mut spoilt = values.clone();
        spoilt[0] = f64::NAN;
        let y = common::values(net::max_pool(tensor(&spoilt, [n, c, h, w], &opened.device), window, ways));
        assert!(y[0].is_nan() && y[1..].iter().any(|value| value.is_finite()), "a value that is not a number is hidden");
    }
}
