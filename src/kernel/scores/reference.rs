//! Scores in slow, obvious loops on the host, in f64: what the other paths are compared with.

use burn::tensor::{Int, Tensor, TensorData};

/// See [`super::dots`].
pub fn dots(features: Tensor<2>, bank: Tensor<2>, rows: Tensor<2, Int>) -> Tensor<2> {
    let (device, [b, d], [_, r]) = (features.device(), features.dims(), rows.dims());
    let (features, bank, rows) = (floats(features), floats(bank), indices(rows));
    let mut out = vec![0.0f32; b * r];
    for i in 0..b {
        for k in 0..r {
            let row = &bank[rows[i * r + k] * d..][..d];
            out[i * r + k] = row.iter().zip(&features[i * d..]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32;
        }
    }
    Tensor::from_data(TensorData::new(out, [b, r]), &device)
}

/// See [`super::pull`].
pub fn pull(weights: Tensor<2>, bank: Tensor<2>, rows: Tensor<2, Int>) -> Tensor<2> {
    let (device, [b, r], [_, d]) = (weights.device(), weights.dims(), bank.dims());
    let (weights, bank, rows) = (floats(weights), floats(bank), indices(rows));
    let mut out = vec![0.0f32; b * d];
    for i in 0..b {
        for c in 0..d {
            let term = |k: usize| f64::from(weights[i * r + k]) * f64::from(bank[rows[i * r + k] * d + c]);
            out[i * d + c] = (0..r).map(term).sum::<f64>() as f32;
        }
    }
    Tensor::from_data(TensorData::new(out, [b, d]), &device)
}

fn floats(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_to_vec::<f32>().expect("features and banks are f32")
}

fn indices(rows: Tensor<2, Int>) -> Vec<usize> {
    let rows = rows.into_data().convert::<i32>().try_to_vec::<i32>().expect("just converted");
    rows.into_iter().map(|row| row as usize).collect()
}
