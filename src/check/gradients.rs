//! Values and gradients of every loss against plain f64 loops and their central differences.

use super::{Tally, common};
use crate::device::Opened;
use crate::kernel::choice::paths;
use crate::kernel::{KernelPath, Op, bank as kernel};
use crate::loss::barlow::{Standardise, barlow, correlation, mixed};
use crate::loss::byol::half_negative_cosines;
use crate::loss::nt_xent::{Compared, Mates};
use crate::loss::unmix::mixture_terms;
use crate::loss::{Criterion, LossName, PairLoss, byol, info_nce, nt_xent, sinkhorn, swapped_prediction, unit_rows};
use crate::rng::{Purpose, Stream};
use burn::tensor::{Tensor, TensorData};

/// A matrix as the references read it.
type Rows = Vec<Vec<f64>>;

/// Step of the central differences. They err by `h² f''' / 6`, about 2e-9 where the exponents have the slope 1 / T = 5, and by the
/// rounding `2e-16 f / h`, about 1e-10.
const STEP: f64 = 1e-5;
/// Allowed difference, relative to the largest component of the gradient, and of values relative to at least 1.
///
/// Inputs are f32 values, the same for both sides. A logit of unit rows is a sum of d ≤ 6 products divided by T ≥ 0.2: with u = 6e-8
/// it errs by at most `(d + 2) u / T` = 2.4e-6, and so, relatively, do the exponential and the softmax weight. The gradient is a sum
/// of rows with such weights. The loose exponential that WGSL allows (3 + 2|x| ulp) adds no more than that again, and a
/// normalisation a few u.
const TOLERANCE: f64 = 1e-5;

/// Compares a loss and the gradients of its first `leaves` inputs with those of `reference`. The other inputs are constants.
fn check_gradient<const N: usize>(
    (opened, tally): (&Opened, &mut Tally),
    name: &str,
    leaves: usize,
    inputs: [Rows; N],
    reference: impl Fn(&[Rows; N]) -> f64,
    loss: impl Fn([Tensor<2>; N]) -> Tensor<1>,
) {
    check_gradient_on_paths((opened, tally), name, leaves, inputs, None, reference, |_, inputs| loss(inputs));
}

/// The same on every path of an operation, which alone runs, forwards and backwards.
fn check_gradient_on_paths<const N: usize>(
    (opened, tally): (&Opened, &mut Tally),
    name: &str,
    leaves: usize,
    inputs: [Rows; N],
    op: Option<Op>,
    reference: impl Fn(&[Rows; N]) -> f64,
    loss: impl Fn(KernelPath, [Tensor<2>; N]) -> Tensor<1>,
) {
    let want = reference(&inputs);
    let differences: Vec<Vec<f64>> = (0..leaves).map(|leaf| central_differences(&inputs, leaf, &reference)).collect();
    let check = |path: KernelPath| {
        let at = format!("{name} on {} {}", opened.info.name, path.name());
        let tensors: [Tensor<2>; N] = std::array::from_fn(|i| {
            let tensor = Tensor::from_data(data(&inputs[i]), &opened.device);
            if i < leaves { tensor.autodiff().require_grad() } else { tensor }
        });
        let got = loss(path, tensors.clone());
        assert_close(&format!("{at}: value"), &common::values(got.clone()), &[want], 1.0);
        let gradients = got.backward();
        for (leaf, want) in differences.iter().enumerate() {
            let got = tensors[leaf].grad(&gradients).unwrap_or_else(|| panic!("{at}: no gradient of input {leaf}"));
            // The floor is for gradients that vanish, such as that of one image alone: terms of about 1 cancel there, a few u are left.
            assert_close(&format!("{at}: gradient of input {leaf}"), &common::values(got), want, 0.05);
        }
    };
    match op {
        None => tally.case(name, || check(KernelPath::Tensor)),
        Some(op) => paths(op, &opened.info.compiler).into_iter().for_each(|path| {
            tally.case(&format!("{name}, path {}", path.name()), || common::asserting_path(op, path, || check(path)));
        }),
    }
}

/// Element by element, within `TOLERANCE` of the largest wanted value, which counts as at least `floor`.
fn assert_close(what: &str, got: &[f32], want: &[f64], floor: f64) {
    assert_eq!(got.len(), want.len(), "{what}: number of values");
    let allowed = TOLERANCE * want.iter().fold(floor, |largest, w| largest.max(w.abs()));
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let off = (f64::from(*got) - want).abs();
        assert!(off <= allowed, "{what}[{i}] is {got}, want {want}, off by {off:e}, allowed {allowed:e}");
    }
}

fn central_differences<const N: usize>(inputs: &[Rows; N], leaf: usize, f: impl Fn(&[Rows; N]) -> f64) -> Vec<f64> {
    let moved = |row: usize, column: usize, by: f64| {
        let mut inputs = inputs.clone();
        inputs[leaf][row][column] += by;
        f(&inputs)
    };
    let places = inputs[leaf].iter().enumerate().flat_map(|(row, values)| (0..values.len()).map(move |column| (row, column)));
    places.map(|(row, column)| (moved(row, column, STEP) - moved(row, column, -STEP)) / (2.0 * STEP)).collect()
}

fn data(rows: &Rows) -> TensorData {
    TensorData::new(rows.iter().flatten().map(|&v| v as f32).collect::<Vec<_>>(), [rows.len(), rows[0].len()])
}

fn stream(case: u64) -> Stream {
    Stream::new(5, Purpose::Synthetic, &[case])
}

/// Normal values, all exact in f32.
fn raw(draw: &mut Stream, n: usize, d: usize) -> Rows {
    (0..n).map(|_| (0..d).map(|_| exact(draw.normal())).collect()).collect()
}

/// Unit rows, rounded to f32.
fn units(draw: &mut Stream, n: usize, d: usize) -> Rows {
    raw(draw, n, d).iter().map(|row| unit(row).into_iter().map(exact).collect()).collect()
}

fn exact(value: f64) -> f64 {
    f64::from(value as f32)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn unit(row: &[f64]) -> Vec<f64> {
    let norm = dot(row, row).sqrt();
    row.iter().map(|v| v / norm).collect()
}

fn mean(terms: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = terms.len() as f64;
    terms.sum::<f64>() / count
}

/// `-log softmax(logits)[0]`.
fn cross_entropy_of_first(logits: &[f64]) -> f64 {
    logits.iter().map(|l| l.exp()).sum::<f64>().ln() - logits[0]
}

/// `-log softmax` of the key among key and memory, for one query.
fn info_nce_of(query: &[f64], key: &[f64], memory: &Rows, temperature: f64) -> f64 {
    let logits: Vec<f64> =
        std::iter::once(key).chain(memory.iter().map(Vec::as_slice)).map(|k| dot(query, k) / temperature).collect();
    cross_entropy_of_first(&logits)
}

/// (n, d, k, T): odd sizes, one query, one negative.
const AGAINST_MEMORY: [(usize, usize, usize, f64); 4] = [(5, 6, 7, 0.2), (1, 3, 5, 0.5), (3, 5, 1, 0.2), (1, 4, 1, 1.0)];

/// Softmax against a queue.
pub fn info_nce_has_the_gradient_of_its_definition(opened: &Opened, tally: &mut Tally) {
    for (case, (n, d, k, t)) in (0..).zip(AGAINST_MEMORY) {
        let mut draw = stream(case);
        let inputs = [units(&mut draw, n, d), units(&mut draw, n, d), units(&mut draw, k, d)];
        check_gradient(
            (opened, &mut *tally),
            &format!("info_nce {n} x {d}, {k} negatives"),
            1,
            inputs,
            |[queries, keys, memory]| mean((0..n).map(|i| info_nce_of(&queries[i], &keys[i], memory, t))),
            |[queries, keys, memory]| info_nce(queries, keys, memory, t).loss(),
        );
    }
}

/// Lambda per sample and partners that are no reversal: more than the published program has.
pub fn mixture_terms_have_the_gradient_of_their_definition(opened: &Opened, tally: &mut Tally) {
    for (case, (n, d, k, t)) in (10..).zip(AGAINST_MEMORY) {
        let mut draw = stream(case);
        let inverse: Vec<i64> = draw.permutation(n).into_iter().map(i64::from).collect();
        let lambda = vec![(0..n).map(|_| exact(draw.uniform())).collect::<Vec<_>>()];
        let inputs = [units(&mut draw, n, d), units(&mut draw, n, d), units(&mut draw, k, d), lambda];
        check_gradient(
            (opened, &mut *tally),
            &format!("mixture_terms {n} x {d}, {k} negatives"),
            1,
            inputs,
            |[queries, keys, memory, lambda]| {
                let own = |i: usize| lambda[0][i] * info_nce_of(&queries[i], &keys[i], memory, t);
                // Image i is the partner in mixture `m`, with what the mixture's own image left.
                let partner = |i: usize, m: usize| (1.0 - lambda[0][m]) * info_nce_of(&queries[m], &keys[i], memory, t);
                mean((0..n).map(|i| own(i) + partner(i, inverse[i] as usize)))
            },
            |[queries, keys, memory, lambda]| {
                // The key of the partner in each mixture.
                let partner = |m: usize| inverse.iter().position(|&row| row as usize == m).unwrap() as i64;
                let partners = keys.clone().select(0, common::indices(&(0..n).map(partner).collect::<Vec<_>>(), &keys.device()));
                let per_query = |keys| info_nce(queries.clone(), keys, memory.clone(), t).per_query;
                mixture_terms(per_query(keys), per_query(partners), lambda.reshape([n])).total
            },
        );
    }
}

/// SimCLR's loss, both views as leaves.
pub fn nt_xent_has_the_gradient_of_its_definition(opened: &Opened, tally: &mut Tally) {
    for (case, (n, d, t)) in (20..).zip([(5, 6, 0.2), (3, 5, 0.5), (2, 3, 0.2), (1, 4, 0.5)]) {
        let mut draw = stream(case);
        check_gradient(
            (opened, &mut *tally),
            &format!("nt_xent {n} x {d}"),
            2,
            [raw(&mut draw, n, d), raw(&mut draw, n, d)],
            |[first, second]| {
                let views: Rows = first.iter().chain(second).map(|row| unit(row)).collect();
                let of = |i: usize| {
                    let mate = (i + n) % (2 * n);
                    let others = (0..2 * n).filter(|&j| j != i && j != mate);
                    let logits: Vec<f64> = std::iter::once(mate).chain(others).map(|j| dot(&views[i], &views[j]) / t).collect();
                    cross_entropy_of_first(&logits)
                };
                mean((0..2 * n).map(of))
            },
            |[first, second]| nt_xent(first, second, t),
        );
    }
}

/// BYOL's loss, whose targets are constants.
pub fn byol_has_the_gradient_of_its_definition(opened: &Opened, tally: &mut Tally) {
    for (case, (n, d)) in (30..).zip([(5, 6), (3, 5), (1, 3), (4, 2)]) {
        let mut draw = stream(case);
        check_gradient(
            (opened, &mut *tally),
            &format!("byol {n} x {d}"),
            1,
            [raw(&mut draw, n, d), raw(&mut draw, n, d)],
            |[predictions, targets]| mean((0..n).map(|i| 2.0 - 2.0 * dot(&unit(&predictions[i]), &unit(&targets[i])))),
            // A target with a graph must not pull at the prediction's.
            |[predictions, targets]| byol(predictions, targets.autodiff().require_grad()),
        );
    }
}

/// How much the positive of each image counts under DCLW, from the views of `first` and `second`, which is constant.
fn dclw_weights(first: &Rows, second: &Rows) -> Vec<f64> {
    let cosines: Vec<f64> = first.iter().zip(second).map(|(a, b)| dot(&unit(a), &unit(b)) / 0.5).collect();
    let sum: f64 = cosines.iter().map(|c| c.exp()).sum();
    cosines.iter().map(|c| 2.0 - cosines.len() as f64 * c.exp() / sum).collect()
}

/// The decoupled losses, and pairs that belong together in another order with a weight for each.
pub fn decoupled_losses_have_the_gradient_of_their_definition(opened: &Opened, tally: &mut Tally) {
    for (case, (n, d, t)) in (50..).zip([(5, 6, 0.5), (4, 5, 0.5), (2, 3, 0.2)]) {
        for form in [PairLoss::NtXent, PairLoss::Dcl, PairLoss::Dclw] {
            let mut draw = stream(case);
            let of: Vec<u32> = draw.permutation(n);
            let weights: Vec<f32> = (0..n).map(|_| draw.uniform() as f32).collect();
            let inputs = [raw(&mut draw, n, d), raw(&mut draw, n, d)];
            let mates: Rows = of.iter().map(|&row| inputs[0][row as usize].clone()).collect();
            let constant = dclw_weights(&mates, &inputs[1]);
            check_gradient(
                (opened, &mut *tally),
                &format!("{form:?} {n} x {d}"),
                2,
                inputs,
                |[first, second]| {
                    let views: Rows = first.iter().chain(second).map(|row| unit(row)).collect();
                    let mate = |i: usize| match i < n {
                        true => n + of.iter().position(|&row| row as usize == i).unwrap(),
                        false => of[i - n] as usize,
                    };
                    let one = |i: usize| {
                        let pair = if i < n { mate(i) - n } else { i - n };
                        let kept = |j: &usize| *j != i && (form == PairLoss::NtXent || *j != mate(i));
                        let sum: f64 = (0..2 * n).filter(kept).map(|j| (dot(&views[i], &views[j]) / t).exp()).sum();
                        // The weights are constants of the step: those of where it is differentiated.
                        let weight = if form == PairLoss::Dclw { constant[pair] } else { 1.0 };
                        f64::from(weights[pair]) * (sum.ln() - weight * dot(&views[i], &views[mate(i)]) / t)
                    };
                    mean((0..2 * n).map(one))
                },
                |[first, second]| {
                    let (mates, device) = (Mates::new(&of), first.device().inner());
                    (Compared::new(first, second, t).losses(&mates, form) * mates.weights(&weights, &device)).mean()
                },
            );
        }
    }
}

/// SimSiam's loss, whose targets are constants.
pub fn simsiam_has_the_gradient_of_its_definition(opened: &Opened, tally: &mut Tally) {
    for (case, (n, d)) in (60..).zip([(5, 6), (1, 3), (4, 2)]) {
        let mut draw = stream(case);
        check_gradient(
            (opened, &mut *tally),
            &format!("simsiam {n} x {d}"),
            1,
            [raw(&mut draw, n, d), raw(&mut draw, n, d)],
            |[predictions, targets]| mean((0..n).map(|i| -0.5 * dot(&unit(&predictions[i]), &unit(&targets[i])))),
            |[predictions, targets]| half_negative_cosines(predictions, targets.autodiff().require_grad()).mean(),
        );
    }
}

/// Columns of mean 0 and variance 1.
fn standardised(rows: &Rows, how: Standardise) -> Rows {
    let rows: Rows = if how == Standardise::UnitStd { rows.iter().map(|row| unit(row)).collect() } else { rows.clone() };
    let n = rows.len() as f64;
    let mut out = rows.clone();
    for column in 0..rows[0].len() {
        let mean = rows.iter().map(|row| row[column]).sum::<f64>() / n;
        let squares: f64 = rows.iter().map(|row| (row[column] - mean).powi(2)).sum();
        let deviation = if how == Standardise::UnitStd { (squares / (n - 1.0)).sqrt() } else { (squares / n + 1e-5).sqrt() };
        out.iter_mut().for_each(|row| row[column] = (row[column] - mean) / deviation);
    }
    out
}

fn correlations(a: &Rows, b: &Rows) -> Rows {
    let at = |i: usize, j: usize| a.iter().zip(b).map(|(a, b)| a[i] * b[j]).sum::<f64>() / a.len() as f64;
    (0..a[0].len()).map(|i| (0..b[0].len()).map(|j| at(i, j)).collect()).collect()
}

/// Barlow Twins with both ways to standardise, and the regulariser of its mixed form, through its target too.
pub fn barlow_has_the_gradient_of_its_definition(opened: &Opened, tally: &mut Tally) {
    const OFF: f64 = 0.25;
    for (case, (n, d)) in (70..).zip([(6, 4), (5, 3), (4, 1)]) {
        for how in [Standardise::BatchNorm, Standardise::UnitStd] {
            if how == Standardise::UnitStd && d == 1 {
                // Unit rows of one number are signs, which have no gradient.
                continue;
            }
            let mut draw = stream(case);
            let (partners, lambda) = (draw.permutation(n), exact(draw.uniform()));
            let inputs = [raw(&mut draw, n, d), raw(&mut draw, n, d), raw(&mut draw, n, d)];
            check_gradient(
                (opened, &mut *tally),
                &format!("barlow {n} x {d}, {how:?}"),
                3,
                inputs,
                |[a, b, m]| {
                    let [a, b, m] = [a, b, m].map(|rows| standardised(rows, how));
                    let c = correlations(&a, &b);
                    let clean: f64 = (0..d)
                        .flat_map(|i| (0..d).map(move |j| (i, j)))
                        .map(|(i, j)| if i == j { (c[i][j] - 1.0).powi(2) } else { OFF * c[i][j].powi(2) })
                        .sum();
                    let target = |i: usize, k: usize| lambda * a[i][k] + (1.0 - lambda) * b[partners[i] as usize][k];
                    let missing: Rows = (0..n).map(|i| (0..d).map(|k| m[i][k] - target(i, k)).collect()).collect();
                    let squares = |view: &Rows| correlations(&missing, view).iter().flatten().map(|v| v * v).sum::<f64>();
                    clean + squares(&a) + squares(&b)
                },
                |[a, b, m]| {
                    let [a, b, m] = [a, b, m].map(|rows| how.apply(rows));
                    let rows: Vec<i64> = partners.iter().map(|&row| i64::from(row)).collect();
                    let partner = b.clone().select(0, common::indices(&rows, &b.device()));
                    let target = a.clone().mul_scalar(lambda) + partner.mul_scalar(1.0 - lambda);
                    barlow(correlation(a.clone(), b.clone()), OFF) + mixed(m, target, a, b)
                },
            );
        }
    }
}

/// (n, d, p, T, epsilon): odd sizes, one sample, fewer prototypes than samples, one prototype.
const PROTOTYPES: [(usize, usize, usize, f64, f64); 4] =
    [(5, 6, 7, 0.2, 0.2), (1, 4, 5, 0.5, 0.2), (5, 3, 3, 0.2, 0.5), (3, 5, 1, 0.5, 0.2)];
const ROUNDS: usize = 3;

fn scores(features: &Rows, prototypes: &Rows) -> Rows {
    features.iter().map(|z| prototypes.iter().map(|c| dot(z, c)).collect()).collect()
}

/// Sinkhorn as the paper writes it, on the exponentials themselves.
fn assignments(scores: &Rows, epsilon: f64) -> Rows {
    let (n, p) = (scores.len(), scores[0].len());
    let mut q: Rows = scores.iter().map(|row| row.iter().map(|s| (s / epsilon).exp()).collect()).collect();
    for _ in 0..ROUNDS {
        for column in 0..p {
            let sum: f64 = q.iter().map(|row| row[column]).sum();
            q.iter_mut().for_each(|row| row[column] /= sum * p as f64);
        }
        for row in &mut q {
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|value| *value /= sum * n as f64);
        }
    }
    q.iter_mut().flatten().for_each(|value| *value *= n as f64);
    q
}

/// Gradients go through the prediction alone: the reference holds the assignments of the point where it is differentiated, and the
/// loss computes them from scores that have a graph.
pub fn swapped_predictions_have_the_gradient_of_their_definition(opened: &Opened, tally: &mut Tally) {
    for (case, (n, d, p, t, epsilon)) in (40..).zip(PROTOTYPES) {
        let mut draw = stream(case);
        let inputs = [units(&mut draw, n, d), units(&mut draw, n, d), units(&mut draw, p, d)];
        let held = [0, 1].map(|view| assignments(&scores(&inputs[view], &inputs[2]), epsilon));
        check_gradient(
            (opened, &mut *tally),
            &format!("swav {n} x {d}, {p} prototypes"),
            3,
            inputs,
            |[first, second, prototypes]| {
                let predict = |assigned: &Rows, features: &Rows| {
                    let logits: Rows = scores(features, prototypes).iter().map(|row| row.iter().map(|s| s / t).collect()).collect();
                    let log_sum = |row: &[f64]| row.iter().map(|l| l.exp()).sum::<f64>().ln();
                    let of = |i: usize| -(0..p).map(|c| assigned[i][c] * (logits[i][c] - log_sum(&logits[i]))).sum::<f64>();
                    mean((0..n).map(of))
                };
                predict(&held[0], second) + predict(&held[1], first)
            },
            |[first, second, prototypes]| {
                let [first, second] = [first, second].map(|z| z.matmul(prototypes.clone().transpose()));
                let assign = |scores: &Tensor<2>| sinkhorn(scores.clone(), epsilon, ROUNDS);
                swapped_prediction(assign(&first), second.clone(), t) + swapped_prediction(assign(&second), first, t)
            },
        );
    }
}

/// Assignments of SwAV, also of scores whose exponentials no f32 holds.
pub fn sinkhorn_is_its_definition_and_overflows_nowhere(opened: &Opened, tally: &mut Tally) {
    for (case, (n, _, p, _, epsilon)) in (50..).zip(PROTOTYPES) {
        let drawn = units(&mut stream(case), n, p);
        // 4000 is far above what an exponential in f32 can hold; a constant changes no assignment.
        for shift in [0.0, 4000.0] {
            let shifted: Rows = drawn.iter().map(|row| row.iter().map(|s| exact(s + shift * epsilon)).collect()).collect();
            let centred: Rows = shifted.iter().map(|row| row.iter().map(|s| s - shift * epsilon).collect()).collect();
            let want: Vec<f64> = assignments(&centred, epsilon).into_iter().flatten().collect();
            tally.case(&format!("sinkhorn {n} x {p}, scores moved by {shift} epsilon"), || {
                let got = common::values(sinkhorn(Tensor::from_data(data(&shifted), &opened.device), epsilon, ROUNDS));
                // The division by epsilon rounds relative to the scaled score.
                let allowed = TOLERANCE.max(shift * f64::from(f32::EPSILON));
                assert!(
                    got.iter().zip(&want).all(|(got, want)| (f64::from(*got) - want).abs() <= allowed),
                    "{got:?}, want {want:?}"
                );
            });
        }
    }
}

/// A row of zeros, such as a dead output gives, must not poison the step.
pub fn rows_of_zeros_have_finite_gradients(opened: &Opened, tally: &mut Tally) {
    tally.case("rows of zeros", || {
        let rows = |rows: Rows| Tensor::<2>::from_data(data(&rows), &opened.device).autodiff().require_grad();
        let x = rows(vec![vec![0.0, 0.0, 0.0], vec![1.0, 2.0, -1.0]]);
        let y = rows(vec![vec![0.5, 1.0, 0.0], vec![0.0, 0.0, 0.0]]);
        assert_eq!(common::values(unit_rows(x.clone()))[..3], [0.0; 3]);
        let gradients = (nt_xent(x.clone(), y.clone(), 0.5) + byol(x.clone(), y.clone())).backward();
        for leaf in [x, y] {
            let gradient = common::values(leaf.grad(&gradients).unwrap());
            assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?} on {}", opened.info.name);
        }
    });
}

/// NCE of one query from its logits, column 0 the positive.
fn nce_of(logits: &[f64], z: f64, images: f64) -> f64 {
    let c = (logits.len() - 1) as f64 / images;
    let p = |logit: f64| logit.exp() / z;
    let positive = p(logits[0]) / (p(logits[0]) + c + 1e-7);
    let negatives = logits[1..].iter().map(|&logit| (c / (p(logit) + c + 1e-7)).ln()).sum::<f64>();
    -positive.ln() - negatives
}

/// Both losses against drawn rows of a bank, on every path: rows repeat, and a negative may be the positive.
pub fn bank_losses_have_the_gradient_of_their_definition(opened: &Opened, tally: &mut Tally) {
    for (case, (n, d, k, t)) in (50..).zip(AGAINST_MEMORY) {
        let mut draw = stream(case);
        let images = 4;
        let drawn: Vec<usize> = (0..n * (1 + k)).map(|_| draw.below(images as u64) as usize).collect();
        let z = exact(draw.range(5.0, 50.0));
        for loss in [LossName::Softmax, LossName::Nce] {
            let inputs = [units(&mut draw, n, d), units(&mut draw, images, d)];
            check_gradient_on_paths(
                (opened, &mut *tally),
                &format!("{loss:?} {n} x {d}, {k} rows of a bank"),
                1,
                inputs,
                Some(Op::Bank),
                |[features, bank]| {
                    mean((0..n).map(|i| {
                        let rows = &drawn[i * (1 + k)..][..1 + k];
                        let logits: Vec<f64> = rows.iter().map(|&row| dot(&bank[row], &features[i]) / t).collect();
                        match loss {
                            LossName::Softmax => cross_entropy_of_first(&logits),
                            LossName::Nce => nce_of(&logits, z, images as f64),
                        }
                    }))
                },
                |path, [features, bank]| {
                    let device = bank.device();
                    let rows = kernel::rows(drawn.iter().map(|&row| row as i32).collect(), [n, 1 + k], &device);
                    let logits = kernel::dots(features, bank, rows, path).div_scalar(t);
                    let z = Tensor::<1>::from_data(TensorData::new(vec![z as f32], [1]), &device);
                    let criterion = Criterion::of(loss, Some(&z), &logits, images);
                    criterion.per_query(logits).mean()
                },
            );
        }
    }
}
