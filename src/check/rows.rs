//! Rows of unit length and the softmax loss of the first column, with their gradients, on every path, against f64 loops.

use burn::tensor::{Tensor, TensorData};

use super::{Tally, common};
use crate::device::Opened;
use crate::kernel::choice::paths;
use crate::kernel::{KernelPath, Op, rows};
use crate::rng::{Purpose, Stream};

/// Rows and columns: single ones, odd numbers, as many as a part of a sum has and one more, the shapes of queues.
const SHAPES: [[usize; 2]; 8] = [[1, 1], [3, 2], [5, 63], [2, 65], [7, 128], [4, 257], [64, 1025], [3, 4097]];

fn drawn(count: usize, stream: u64) -> Vec<f32> {
    let mut draw = Stream::new(11, Purpose::Synthetic, &[stream, count as u64]);
    (0..count).map(|_| (3.0 * draw.normal()) as f32).collect()
}

/// Errors are relative to values of about 1; a sum of c terms of one sign errs by less than c roundings of it, of random signs by their root.
fn assert_close(what: &str, got: &[f32], want: &[f64], columns: usize) {
    assert_eq!(got.len(), want.len(), "{what}");
    let allowed = 6e-8 * (16.0 + columns as f64);
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let off = (f64::from(*got) - want).abs();
        assert!(off <= allowed * want.abs().max(1.0), "{what}[{i}] is {got}, want {want}, off by {off:e}, allowed {allowed:e}");
    }
}

/// Values and gradients.
pub fn every_path_treats_rows_as_the_loops_do(opened: &Opened, tally: &mut Tally) {
    for path in paths(Op::Rows, &opened.info.compiler) {
        for [n, c] in SHAPES {
            tally.case(&format!("{n} x {c}, path {}", path.name()), || {
                check_units(opened, [n, c], path);
                check_losses(opened, [n, c], path);
            });
        }
    }
}

/// The last of several rows is all zeros.
fn check_units(opened: &Opened, [n, c]: [usize; 2], path: KernelPath) {
    let (mut x, slopes) = (drawn(n * c, 1), drawn(n * c, 2));
    if n > 1 {
        x[(n - 1) * c..].fill(0.0);
    }
    let tensor = |values: &[f32]| Tensor::<2>::from_data(TensorData::new(values.to_vec(), [n, c]), &opened.device);
    let leaf = tensor(&x).autodiff().require_grad();
    let (y, plain) =
        common::asserting_path(Op::Rows, path, || (rows::unit(leaf.clone(), path), rows::unit(leaf.clone().inner(), path)));
    let gradients = (y.clone() * tensor(&slopes)).sum().backward();
    let got = common::values(leaf.grad(&gradients).expect("a gradient"));
    let (mut units, mut wanted) = (Vec::new(), Vec::new());
    for (row, slopes) in x.chunks(c).zip(slopes.chunks(c)) {
        let [row, slopes] = [row, slopes].map(|values| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
        let square: f64 = row.iter().map(|v| v * v).sum();
        let norm = square.max(1e-24).sqrt();
        let along = if square < 1e-24 { 0.0 } else { row.iter().zip(&slopes).map(|(x, g)| x * g).sum::<f64>() / square };
        units.extend(row.iter().map(|v| v / norm));
        // A row of zeros has slopes of 1e12: they are compared where the others are.
        let size = if square < 1e-24 { 1e12 } else { 1.0 };
        wanted.extend(row.iter().zip(&slopes).map(|(x, g)| (g - x * along) / norm / size));
    }
    let zeros = if n > 1 { (n - 1) * c } else { n * c };
    let got: Vec<f32> = got.iter().enumerate().map(|(i, v)| if i < zeros { *v } else { v * 1e-12 }).collect();
    assert_close("unit rows", &common::values(y), &units, c);
    assert_close("unit rows without a graph", &common::values(plain), &units, c);
    assert_close("their gradient", &got, &wanted, c);
}

/// Some columns but the first do not count.
fn check_losses(opened: &Opened, [n, c]: [usize; 2], path: KernelPath) {
    let (mut logits, slopes) = (drawn(n * c, 3), drawn(n, 4));
    (0..n * c).filter(|at| at % c > 0 && at % 5 == 2).for_each(|at| logits[at] = f32::NEG_INFINITY);
    let leaf = Tensor::<2>::from_data(TensorData::new(logits.clone(), [n, c]), &opened.device).autodiff().require_grad();
    let (loss, plain) = common::asserting_path(Op::Rows, path, || {
        (rows::softmax_loss(leaf.clone(), path), rows::softmax_loss(leaf.clone().inner(), path))
    });
    let weights = Tensor::<1>::from_data(TensorData::new(slopes.clone(), [n]), &opened.device);
    let gradients = (loss.clone() * weights).sum().backward();
    let got = common::values(leaf.grad(&gradients).expect("a gradient"));
    let (mut losses, mut wanted) = (Vec::new(), Vec::new());
    for (row, slope) in logits.chunks(c).zip(&slopes) {
        let row: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum = largest + row.iter().map(|v| (v - largest).exp()).sum::<f64>().ln();
        losses.push(sum - row[0]);
        wanted.extend(row.iter().enumerate().map(|(i, v)| ((v - sum).exp() - f64::from(i == 0)) * f64::from(*slope)));
    }
    assert_close("losses", &common::values(loss), &losses, c);
    assert_close("losses without a graph", &common::values(plain), &losses, c);
    assert_close("their gradient", &got, &wanted, c);
}
