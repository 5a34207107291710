//! Scores in slow, obvious loops on the host, in f64: what the other paths are compared with.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{TensorData, read_sync};

/// See [`super::dots`].
pub fn dots<B: Backend>(features: FloatTensor<B>, bank: FloatTensor<B>, rows: IntTensor<B>) -> FloatTensor<B> {
    let (device, [b, d], [_, r]) = (features.device(), features.shape().dims(), rows.shape().dims());
    let (features, bank, rows) = (floats::<B>(features), floats::<B>(bank), indices::<B>(rows));
    let mut out = vec![0.0f32; b * r];
    for i in 0..b {
        for k in 0..r {
            let row = &bank[rows[i * r + k] * d..][..d];
            out[i * r + k] = row.iter().zip(&features[i * d..]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32;
        }
    }
    B::float_from_data(TensorData::new(out, [b, r]), &device)
}

/// See [`super::pull`].
pub fn pull<B: Backend>(weights: FloatTensor<B>, bank: FloatTensor<B>, rows: IntTensor<B>) -> FloatTensor<B> {
    let (device, [b, r], [_, d]) = (weights.device(), weights.shape().dims(), bank.shape().dims());
    let (weights, bank, rows) = (floats::<B>(weights), floats::<B>(bank), indices::<B>(rows));
    let mut out = vec![0.0f32; b * d];
    for i in 0..b {
        for c in 0..d {
            let term = |k: usize| f64::from(weights[i * r + k]) * f64::from(bank[rows[i * r + k] * d + c]);
            out[i * d + c] = (0..r).map(term).sum::<f64>() as f32;
        }
    }
    B::float_from_data(TensorData::new(out, [b, d]), &device)
}

fn floats<B: Backend>(tensor: FloatTensor<B>) -> Vec<f32> {
    let data = read_sync(B::float_into_data(tensor)).expect("the device gives its tensors back");
    data.try_to_vec::<f32>().expect("features and banks are f32")
}

fn indices<B: Backend>(rows: IntTensor<B>) -> Vec<usize> {
    let data = read_sync(B::int_into_data(rows)).expect("the device gives its tensors back");
    let rows = data.convert::<i32>().try_to_vec::<i32>().expect("just converted");
    rows.into_iter().map(|row| row as usize).collect()
}
