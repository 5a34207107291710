//! Our device operations, one body over all paths of a device, against the obvious loops.
//!
//! Outputs are full of NaN before a kernel runs, and the larger suites assert which path ran.

use super::{Tally, common};
use crate::colour::Curve;
use crate::colour::{ColorSpace, Normalization};
use crate::device::Opened;
use crate::kernel::inputs::Target;
use crate::kernel::mix::{reference, split::mix_parts};
use crate::kernel::{ByteLayout, Ingest, KernelPath, Op, ingest, ingest_mix, mix};
use crate::mixture::plan::{Kind, MixturePlan, Row, Stage};
use crate::mixture::{BBox, cut_box, kept_area};
use crate::rng::{Purpose, Stream};
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

/// Half a unit in the last place of 1: the largest relative error of one correctly rounded f32 operation.
pub(super) const U: f64 = 1.0 / (1u64 << 24) as f64;
/// Plans in the random tests of each path. Software Vulkan takes a millisecond for each.
const PLANS: u64 = 10_000;

pub(super) fn stream(case: u64) -> Stream {
    Stream::new(99, Purpose::Synthetic, &[case])
}

pub(super) fn tensor(values: &[f32], shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// Values in -2..2, never so small that a device which flushes denormal numbers would differ.
pub(super) fn values(draw: &mut Stream, count: usize) -> Vec<f32> {
    let value = |draw: &mut Stream| (draw.below(1 << 22) as f32 - (1 << 21) as f32 + 0.5) / (1 << 20) as f32;
    (0..count).map(|_| value(draw)).collect()
}

fn pick<T: Copy>(draw: &mut Stream, from: &[T]) -> T {
    from[draw.below(from.len() as u64) as usize]
}

/// A random batch and plan: T >= N images, odd, even and single-pixel sizes, every kind, chained passes and stages.
fn random(case: u64) -> (Vec<f32>, [usize; 4], MixturePlan) {
    let mut draw = stream(case);
    let t = 1 + draw.below(7) as usize;
    let keep = 1 + draw.below(t as u64) as usize;
    let c = pick(&mut draw, &[1, 2, 3, 6]);
    let (h, w) = (pick(&mut draw, &[1, 2, 3, 5, 8, 13]), pick(&mut draw, &[1, 2, 3, 4, 7, 8, 12, 33]));
    let stages = 1 + draw.below(2);
    let row = |draw: &mut Stream| -> Row {
        let side = |draw: &mut Stream, size: usize| {
            let (a, b) = (draw.below(size as u64 + 1) as u32, draw.below(size as u64 + 1) as u32);
            (a.min(b), a.max(b))
        };
        let ((y0, y1), (x0, x1)) = (side(draw, h), side(draw, w));
        let bbox = BBox { y0, x0, y1, x1 };
        let (partner, lambda) = (draw.below(t as u64) as u32, pick(draw, &[0.0, 1.0, 0.25, draw_unit(case)]));
        let row = match draw.below(5) {
            0 => Row::default(),
            1 => Row::blend(partner, lambda),
            2 => Row::paste(partner, lambda, bbox),
            3 => Row::resize(partner, bbox),
            _ => Row::fill(bbox, pick(draw, &[0.0, -1.5, 0.3])),
        };
        Row { own_scale: pick(draw, &[1.0, 1.0, 1.0, 0.5, 0.9]), ..row }
    };
    let stages = (0..stages)
        .map(|_| Stage { passes: (0..1 + draw.below(3)).map(|_| (0..t).map(|_| row(&mut draw)).collect()).collect() })
        .collect();
    let images = values(&mut draw, t * c * h * w);
    (images, [t, c, h, w], MixturePlan { stages, keep })
}

fn draw_unit(case: u64) -> f64 {
    Stream::new(7, Purpose::Synthetic, &[case]).uniform()
}

/// The largest difference that two correct f32 executions of a plan may have from each other, per value of the result, 0 where they must be
/// equal bit by bit.
///
/// The reference rounds once per blend; a path rounds `lambda * own`, `1 - lambda`, its product with `other`, and the sum (or fuses some
/// of these, which rounds less): with exact inputs it is off by at most `U (|lambda own| + 2 |(1 - lambda) other| + |result|)`, the
/// reference by `U |result|`. Errors of the inputs go through with their weights. Copies and pastes round nothing, a product with
/// `own_scale` once on both sides, so it adds nothing to exact inputs and `2 U` to others.
fn bounds(images: &[f32], [t, c, h, w]: [usize; 4], plan: &MixturePlan) -> Vec<f64> {
    let (mut values, mut errors) = (images.to_vec(), vec![0.0f64; images.len()]);
    for stage in &plan.stages {
        let (source, source_errors) = (values.clone(), errors.clone());
        for pass in &stage.passes {
            for (at, (value, error)) in values.iter_mut().zip(&mut errors).enumerate() {
                let (image, rest) = (at / (c * h * w), at % (c * h * w));
                let (y, x) = (rest % (h * w) / w, rest % w);
                let row = &pass[image];
                let place = if row.kind == Kind::Resize { row.bbox.shows((h, w), (y, x)) } else { (y, x) };
                let from = row.partner as usize * c * h * w + rest / (h * w) * (h * w) + place.0 * w + place.1;
                let own = row.own_scale * *value;
                let own_error =
                    if *error == 0.0 { 0.0 } else { f64::from(row.own_scale) * *error + 2.0 * U * f64::from(own.abs()) };
                let lambda = f64::from(row.lambda);
                (*value, *error) = match row.kind {
                    Kind::Copy => (own, own_error),
                    Kind::Blend => {
                        let (a, b) = (lambda * f64::from(own), (1.0 - lambda) * f64::from(source[from]));
                        let rounding = U * (a.abs() + 2.0 * b.abs() + 2.0 * (a + b).abs());
                        // Second-order terms and magnitudes that differ by the errors so far.
                        ((a + b) as f32, 1.01 * (lambda * own_error + (1.0 - lambda) * source_errors[from] + rounding))
                    }
                    Kind::Paste | Kind::Resize if row.bbox.contains(y, x) => (source[from], source_errors[from]),
                    Kind::Fill if row.bbox.contains(y, x) => (row.fill_value, 0.0),
                    Kind::Paste | Kind::Resize | Kind::Fill => (own, own_error),
                };
            }
        }
    }
    assert_eq!(t * c * h * w, images.len());
    errors.truncate(plan.keep * c * h * w);
    errors
}

/// Compares a result with the reference's: equal bits where nothing is rounded, otherwise within the bound.
fn compare(got: &[f32], images: &[f32], shape: [usize; 4], plan: &MixturePlan, about: &dyn Fn() -> String) {
    let (want, bounds) = (reference::mix(images, shape, plan), bounds(images, shape, plan));
    assert_eq!((got.len(), bounds.len()), (want.len(), want.len()), "{}", about());
    for (at, ((got, want), bound)) in got.iter().zip(&want).zip(bounds).enumerate() {
        let off = f64::from(*got) - f64::from(*want);
        let fine = if bound == 0.0 { got == want } else { off.abs() <= bound };
        assert!(fine, "value {at}: {got}, want {want}, off by {off:e}, allowed {bound:e}\n{}", about());
    }
}

/// Thousands of random plans, bit by bit where nothing is rounded.
pub fn random_plans_give_what_the_reference_gives(opened: &Opened, tally: &mut Tally) {
    common::on_all_paths(opened, tally, |opened, path| {
        common::asserting_path(Op::Mix, path, || {
            for case in 0..PLANS {
                let (images, shape, plan) = random(case);
                let got = common::values(mix(tensor(&images, shape, &opened.device), &plan, path));
                let about = || format!("case {case} on {} {}: {shape:?} {plan:?}", opened.info.name, path.name());
                compare(&got, &images, shape, &plan, &about);
            }
        });
    });
}

/// The flip of Un-Mix with a box, on shapes that no square, even or single image stands in for.
pub fn shapes_at_the_edges(opened: &Opened, tally: &mut Tally) {
    let shapes = [[1, 1, 1, 1], [1, 3, 1, 9], [2, 6, 7, 1], [5, 2, 3, 4], [3, 3, 31, 33], [70_001, 1, 1, 1], [66_000, 1, 1, 4]];
    common::on_all_paths(opened, tally, |opened, path| {
        for shape in shapes {
            let [t, c, h, w] = shape;
            let images = values(&mut stream(t as u64), t * c * h * w);
            let flip = |i: usize| (t - 1 - i) as u32;
            let bbox = BBox { y0: 0, x0: 0, y1: h as u32, x1: (w as u32).div_ceil(2) };
            let passes =
                vec![(0..t).map(|i| Row::blend(flip(i), 0.3)).collect(), (0..t).map(|i| Row::paste(flip(i), 0.5, bbox)).collect()];
            let plan = MixturePlan { stages: vec![Stage { passes }], keep: t.div_ceil(2) };
            let got = common::values(mix(tensor(&images, shape, &opened.device), &plan, path));
            compare(&got, &images, shape, &plan, &|| format!("{shape:?} on {} {}", opened.info.name, path.name()));
        }
    });
}

/// Strides and offsets that are not those of a fresh tensor.
pub fn channels_last_images_and_slices_of_larger_tensors_are_mixed_like_any_other(opened: &Opened, tally: &mut Tally) {
    common::on_all_paths(opened, tally, |opened, path| {
        for case in 0..20 {
            let (images, [t, c, h, w], plan) = random(case);
            let about = || format!("case {case} on {} {}", opened.info.name, path.name());
            let channels_last: Vec<f32> = (0..t * h * w * c)
                .map(|at| {
                    let (image, y, x, channel) = (at / (h * w * c), at / (w * c) % h, at / c % w, at % c);
                    images[((image * c + channel) * h + y) * w + x]
                })
                .collect();
            let permuted = tensor(&channels_last, [t, h, w, c], &opened.device).permute([0, 3, 1, 2]);
            compare(&common::values(mix(permuted, &plan, path)), &images, [t, c, h, w], &plan, &about);
            let longer: Vec<f32> = [vec![9.0; c * h * w], images.clone(), vec![7.0; c * h * w]].concat();
            let slice = tensor(&longer, [t + 2, c, h, w], &opened.device).slice([1..t + 1, 0..c, 0..h, 0..w]);
            compare(&common::values(mix(slice, &plan, path)), &images, [t, c, h, w], &plan, &about);
        }
    });
}

/// An image that others hold must not change under them.
pub fn the_input_is_left_as_it_was(opened: &Opened, tally: &mut Tally) {
    common::on_all_paths(opened, tally, |opened, path| {
        let (images, shape, plan) = random(3);
        let input = tensor(&images, shape, &opened.device);
        let _ = common::values(mix(input.clone(), &plan, path));
        assert_eq!(common::values(input), images, "{} {}", opened.info.name, path.name());
    });
}

/// Half-precision images: the sum is made in f32 and rounded once more at the end, so the result is within a unit of the type of the
/// reference on the same values.
pub fn half_precision_images(opened: &Opened, tally: &mut Tally) {
    let mut lacking = Vec::new();
    common::on_all_paths(opened, tally, |opened, path| {
        for (dtype, float, unit) in [(DType::F16, FloatDType::F16, 1.0 / 1024.0), (DType::BF16, FloatDType::BF16, 1.0 / 128.0)] {
            let shader = path == KernelPath::Wgsl && dtype == DType::BF16;
            if shader || !opened.device.supports_dtype(dtype) {
                lacking.push(format!("path {}: no {dtype:?}", path.name()));
                continue;
            }
            for case in 0..40 {
                let (images, shape, mut plan) = random(case);
                plan.stages.truncate(1);
                plan.stages[0].passes.truncate(1);
                let narrow = tensor(&images, shape, &opened.device).cast(float);
                let images = common::values(narrow.clone().cast(FloatDType::F32));
                let mixed = mix(narrow, &plan, path);
                assert_eq!(mixed.dtype(), dtype);
                let got = common::values(mixed.cast(FloatDType::F32));
                for (got, want) in got.iter().zip(reference::mix(&images, shape, &plan)) {
                    // The tensor path also rounds weights and products to the type: three more roundings of values below 4.
                    let most = unit * if path == KernelPath::Tensor { 4.0 * 4.0 } else { f64::from(want.abs()) } + 1e-6;
                    let off = f64::from(got - want).abs();
                    assert!(off <= most, "case {case} {dtype:?} on {} {}: {got}, want {want}", opened.info.name, path.name());
                }
            }
        }
    });
    lacking.into_iter().for_each(|what| tally.note(what));
}

/// As few images at a time as the passes of a plan allow.
pub fn batches_in_parts_are_those_in_one(opened: &Opened, tally: &mut Tally) {
    common::on_all_paths(opened, tally, |opened, path| {
        for case in 0..60 {
            let (images, shape, plan) = random(case);
            let [t, c, h, w] = shape;
            let passes = plan.stages.iter().map(|stage| stage.passes.len()).max().unwrap();
            for most in [passes + 1, passes + 2, 50] {
                let parts =
                    images.chunks(most * c * h * w).map(|part| tensor(part, [part.len() / (c * h * w), c, h, w], &opened.device));
                let mixed = mix_parts(parts.collect(), &plan, path, most);
                assert!(mixed.iter().all(|part| part.dims()[0] <= most));
                let got: Vec<f32> = mixed.into_iter().flat_map(common::values).collect();
                let about = || format!("case {case}, {t} images by {most} on {} {}", opened.info.name, path.name());
                compare(&got, &images, shape, &plan, &about);
            }
        }
    });
}

/// A batch that with its partners is larger than the device's largest tensor: 240 images of 224x224 are 138 MiB, the limit of
/// software Vulkan is 128. Devices without a limit, or with a higher one, get one that this batch exceeds.
pub fn a_batch_above_the_binding_limit_goes_in_parts(opened: &Opened, tally: &mut Tally) {
    const LIMIT: u64 = 128 << 20;
    let how = Ingest::new([240, 224, 224], Normalization::of(ColorSpace::Rgb));
    let bytes: Vec<u8> = (0..how.bytes()).map(|at| (at * 7 + at / 150_528 * 31) as u8).collect();
    let rows = |keep: usize| (0..240).map(|i| if i < keep { Row::blend(239 - i as u32, 0.25) } else { Row::default() }).collect();
    let plan = MixturePlan { stages: vec![Stage { passes: vec![rows(4)] }], keep: 4 };
    common::on_all_paths(opened, tally, |opened, path| {
        let limit = opened.info.largest_tensor().map_or(LIMIT, |own| own.min(LIMIT));
        let target = Target { device: opened.device.clone(), mix: path, ingest: path, largest_tensor: Some(limit) };
        assert!(target.most(&how) < 240);
        let got = common::values(target.images(&bytes, &how, &plan));
        let image = 3 * 224 * 224;
        let chosen: Vec<u8> =
            [0, 1, 2, 3, 236, 237, 238, 239].iter().flat_map(|i| bytes[i * image..(i + 1) * image].to_vec()).collect();
        let few = Ingest { dims: [8, 224, 224], ..how };
        let images = crate::kernel::ingest::reference::ingest(&chosen, &few);
        let mut passes: Vec<Row> = (0..4).map(|i| Row::blend(7 - i, 0.25)).collect();
        passes.resize(8, Row::default());
        let small = MixturePlan { stages: vec![Stage { passes: vec![passes] }], keep: 4 };
        let want = reference::mix(&images, [8, 3, 224, 224], &small);
        assert!(got.iter().zip(&want).all(|(got, want)| (got - want).abs() <= 1e-6), "{} {}", opened.info.name, path.name());
    });
}

/// The space's own constants, or some that make values of the size of an input.
fn normalization(space: ColorSpace) -> Normalization {
    let scale = if space == ColorSpace::Luv { 100.0 } else { 1.0 };
    let some = Normalization { space, mean: [0.5, 0.125, -0.0625].map(|v| v * scale), std: [0.25, 0.375, 0.5].map(|v| v * scale) };
    if space.normalization().is_some() { Normalization::of(space) } else { some }
}

/// A random ingest with its bytes.
fn random_bytes(case: u64, space: ColorSpace) -> (Vec<u8>, Ingest) {
    let mut draw = stream(1_000_000 + case);
    let (n, h, w) = (1 + draw.below(4) as usize, pick(&mut draw, &[1, 2, 3, 5, 8, 13]), pick(&mut draw, &[1, 3, 4, 7, 8, 33]));
    let layout = pick(&mut draw, &[ByteLayout::Chw, ByteLayout::Hwc]);
    let how = Ingest { layout, ..Ingest::new([n, h, w], normalization(space)) };
    ((0..how.bytes()).map(|_| draw.below(256) as u8).collect(), how)
}

/// Random bytes in both orders, in every colour space.
pub fn bytes_become_the_images_of_the_reference(opened: &Opened, tally: &mut Tally) {
    common::on_all_paths(opened, tally, |opened, path| {
        common::asserting_path(Op::Ingest, path, || {
            for case in 0..1200 {
                let space = ColorSpace::ALL[case as usize % 12];
                // Affine spaces are a few products of rounded constants, of sums below 8: 12 roundings. The others divide, or take powers
                // and logarithms that are as good as the device's; the golden numbers allow 1e-4 of Lab's view and 1e-5 of the rest, here
                // divided by a quarter.
                let most = match space.curve() {
                    Curve::Affine => 12.0 * U * 8.0,
                    Curve::Lab | Curve::Luv => 1e-4,
                    Curve::Light | Curve::Hsv | Curve::Hed => 4e-5,
                };
                let (bytes, how) = random_bytes(case, space);
                let got = common::values(ingest(&bytes, &how, &opened.device, path));
                let want = crate::kernel::ingest::reference::ingest(&bytes, &how);
                assert_eq!(got.len(), want.len());
                for (got, want) in got.iter().zip(&want) {
                    let off = f64::from(got - want).abs();
                    assert!(off <= most, "case {case} {how:?} on {} {}: {got}, want {want}", opened.info.name, path.name());
                }
            }
        });
    });
}

/// The same in types of 16 bits, within a unit of the type.
pub fn bytes_become_half_precision_images(opened: &Opened, tally: &mut Tally) {
    let mut lacking = Vec::new();
    common::on_all_paths(opened, tally, |opened, path| {
        for (dtype, unit) in [(DType::F16, 1.0 / 1024.0), (DType::BF16, 1.0 / 128.0)] {
            if (path == KernelPath::Wgsl && dtype == DType::BF16) || !opened.device.supports_dtype(dtype) {
                lacking.push(format!("path {}: no {dtype:?}", path.name()));
                continue;
            }
            for case in 0..120 {
                let (bytes, how) = random_bytes(case, ColorSpace::ALL[case as usize % 12]);
                let images = ingest(&bytes, &Ingest { dtype, ..how }, &opened.device, path);
                assert_eq!(images.dtype(), dtype);
                let got = common::values(images.cast(FloatDType::F32));
                for (got, want) in got.iter().zip(crate::kernel::ingest::reference::ingest(&bytes, &how)) {
                    let off = f64::from(got - want).abs();
                    assert!(
                        off <= unit * f64::from(want.abs()) + 2e-4,
                        "case {case} on {} {}: {got}, want {want}",
                        opened.info.name,
                        path.name()
                    );
                }
            }
        }
    });
    lacking.into_iter().for_each(|what| tally.note(what));
}

/// Both at once are the two one after the other: the values that are mixed are within a few roundings of the same.
pub fn ingest_and_mix_in_one_pass_are_those_in_two(opened: &Opened, tally: &mut Tally) {
    common::on_all_paths(opened, tally, |opened, path| {
        let fused = matches!(path, KernelPath::Flex | KernelPath::Wgsl | KernelPath::Cube);
        let run = || {
            for case in 0..300 {
                let mut draw = stream(2_000_000 + case);
                let (_, [t, _, h, w], plan) = random(case);
                let layout = pick(&mut draw, &[ByteLayout::Chw, ByteLayout::Hwc]);
                let how = Ingest { layout, ..Ingest::new([t, h, w], Normalization::of(ColorSpace::Rgb)) };
                let bytes: Vec<u8> = (0..how.bytes()).map(|_| draw.below(256) as u8).collect();
                let got = common::values(ingest_mix(&bytes, &how, &plan, &opened.device, path));
                let images = crate::kernel::ingest::reference::ingest(&bytes, &how);
                let want = reference::mix(&images, how.shape(), &plan);
                assert_eq!(got.len(), want.len());
                // Normalised values stay below 2.7 (and byte * scale below 4.5). The two ingests differ by at most 17 U: products and scale
                // round 4.5, the shift 2.1, both results 2.7. Each of up to six chained blends adds at most 4 U 2.7 (see `bounds`). In all 4.9e-6.
                for (got, want) in got.iter().zip(&want) {
                    let off = f64::from(got - want).abs();
                    assert!(off <= 5e-6, "case {case} on {} {}: {got}, want {want}", opened.info.name, path.name());
                }
            }
        };
        if fused { common::asserting_path(Op::IngestMix, path, run) } else { common::asserting_path(Op::Mix, path, run) }
    });
}

/// A colour space that mixes channels is not fused, and gives the same.
pub fn lab_images_are_mixed_after_their_conversion(opened: &Opened, tally: &mut Tally) {
    common::on_all_paths(opened, tally, |opened, path| {
        let (bytes, how) = random_bytes(5, ColorSpace::Lab);
        let [n, h, w] = how.dims;
        let rows = (0..n).map(|i| Row::blend((n - 1 - i) as u32, 0.4)).collect();
        let plan = MixturePlan { stages: vec![Stage { passes: vec![rows] }], keep: n };
        let got = common::asserting_path(Op::Mix, path, || common::values(ingest_mix(&bytes, &how, &plan, &opened.device, path)));
        let want = reference::mix(&crate::kernel::ingest::reference::ingest(&bytes, &how), [n, 3, h, w], &plan);
        assert!(got.iter().zip(&want).all(|(got, want)| (got - want).abs() <= 1e-4), "{} {}", opened.info.name, path.name());
    });
}

/// Outside its box a paste changes no bit, and the weight of the own image is the exact share of the pixels it kept.
pub fn a_paste_keeps_what_is_outside_its_box(opened: &Opened, tally: &mut Tally) {
    common::on_all_paths(opened, tally, |opened, path| {
        for case in 0..50 {
            let mut draw = stream(3_000_000 + case);
            let (h, w) = (5 + draw.below(30) as usize, 4 + draw.below(30) as usize);
            let (lambda, cy, cx) = (draw.uniform(), draw.below(h as u64) as usize, draw.below(w as u64) as usize);
            let bbox = cut_box(h, w, lambda, cy, cx).2;
            // All own values are 1, all of the partner 0: the mean of the mixture is the share that was kept.
            let images: Vec<f32> = [vec![1.0; h * w], vec![0.0; h * w]].concat();
            let rows = vec![Row::paste(1, lambda, bbox), Row::default()];
            let plan = MixturePlan { stages: vec![Stage { passes: vec![rows] }], keep: 1 };
            let got = common::values(mix(tensor(&images, [2, 1, h, w], &opened.device), &plan, path));
            let inside = |at: usize| bbox.contains(at / w, at % w);
            assert!(got.iter().enumerate().all(|(at, &v)| v == if inside(at) { 0.0 } else { 1.0 }));
            let kept = got.iter().map(|&v| f64::from(v)).sum::<f64>() / (h * w) as f64;
            assert!((kept - kept_area(h, w, &bbox)).abs() <= 1e-15, "{kept} {bbox:?}");
        }
    });
}

/// `blend(l) + blend(1 - l) = own + other`.
pub fn a_blend_and_its_complement_sum_to_both_images(opened: &Opened, tally: &mut Tally) {
    common::on_all_paths(opened, tally, |opened, path| {
        for case in 0..50 {
            let mut draw = stream(4_000_000 + case);
            // A multiple of 2^-12 and its complement are both exact in f32.
            let lambda = draw.below(4097) as f64 / 4096.0;
            let images = values(&mut draw, 2 * 15);
            let blend = |lambda: f64| {
                let plan =
                    MixturePlan { stages: vec![Stage { passes: vec![vec![Row::blend(1, lambda), Row::default()]] }], keep: 1 };
                common::values(mix(tensor(&images, [2, 1, 3, 5], &opened.device), &plan, path))
            };
            for (at, (a, b)) in blend(lambda).iter().zip(blend(1.0 - lambda)).enumerate() {
                let want = f64::from(images[at]) + f64::from(images[15 + at]);
                // Two blends of values below 2 with weights that sum to 1: six roundings of at most 2 U each.
                assert!((f64::from(*a) + f64::from(b) - want).abs() <= 12.0 * U, "{lambda}");
            }
        }
    });
}

/// A plan that went through JSON mixes the very same images.
pub fn a_plan_printed_parsed_and_replayed_gives_equal_bits(opened: &Opened, tally: &mut Tally) {
    common::on_all_paths(opened, tally, |opened, path| {
        for case in 0..50 {
            let (images, shape, plan) = random(case);
            let back: MixturePlan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
            let run = |plan: &MixturePlan| common::values(mix(tensor(&images, shape, &opened.device), plan, path));
            let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            assert_eq!(bits(run(&back)), bits(run(&plan)), "case {case} on {} {}", opened.info.name, path.name());
        }
    });
}
