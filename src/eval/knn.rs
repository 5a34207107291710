//! Weighted k-nearest-neighbour classification (Wu et al. 2018, arXiv 1805.01978, section 3.4; the protocol of the MoCo notebook and of
//! the figures that Un-Mix publishes for CIFAR).

use burn::tensor::Tensor;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `eval.knn`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KnnConfig {
    /// Neighbours that vote (all of the bank if it is smaller).
    pub k: usize,
    /// Temperature T of a vote's weight exp(similarity / T).
    pub temperature: f64,
    /// Layer of the features: 7 the embedding and 6 what comes before (AlexNet: 8 and 7). Both are measured; this one is the result.
    pub layer: usize,
}

impl Default for KnnConfig {
    fn default() -> Self {
        Self { k: 200, temperature: 0.1, layer: 7 }
    }
}

impl KnnConfig {
    /// One line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        if self.k == 0 {
            out.push(format!("`{at}.k` is 0, must be at least 1"));
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            out.push(format!("`{at}.temperature` is {}, must be above 0", self.temperature));
        }
        if !(6..=8).contains(&self.layer) {
            out.push(format!("`{at}.layer` is {}, must be 6 (features) or 7 (embedding), for AlexNet 7 or 8", self.layer));
        }
    }
}

/// What the neighbours say about each query.
#[derive(Debug, Clone, PartialEq)]
pub struct Votes {
    /// Summed weights, row-major `[queries, classes]`.
    pub votes: Vec<f32>,
    /// The class with most votes; ties go to the smaller label.
    pub predicted: Vec<u32>,
    /// The most similar bank row.
    pub nearest: Vec<u32>,
    classes: usize,
}

impl Votes {
    /// Share of the queries whose class is predicted.
    pub fn top1(&self, truth: &[u32]) -> f64 {
        share(self.predicted.iter().zip(truth).filter(|(p, t)| p == t).count(), truth.len())
    }

    /// True where the query's class is among the five (or all, if fewer) with most votes.
    pub fn top5_hits(&self, truth: &[u32]) -> Vec<bool> {
        let rows = self.votes.chunks(self.classes).zip(truth);
        rows.map(|(row, &t)| rank(row, t as usize) < 5.min(self.classes)).collect()
    }

    /// Share of the queries whose class is among the first five.
    pub fn top5(&self, truth: &[u32]) -> f64 {
        share(self.top5_hits(truth).into_iter().filter(|&hit| hit).count(), truth.len())
    }
}

fn share(hits: usize, of: usize) -> f64 {
    hits as f64 / of.max(1) as f64
}

/// Classes with more votes, or as many and a smaller label.
fn rank(row: &[f32], class: usize) -> usize {
    row.iter().enumerate().filter(|&(c, v)| *v > row[class] || (*v == row[class] && c < class)).count()
}

/// Queries per tile: bounds the similarity matrix to this many rows.
const TILE: usize = 256;

/// Classifies `query` `[q, d]` by `bank` `[n, d]` (unit rows both, without graph) with the bank's `labels` `[n]`, each below `classes`.
pub fn classify(bank: &Tensor<2>, query: &Tensor<2>, labels: &[u32], classes: usize, config: &KnnConfig) -> Votes {
    let ([n, _], [q, d]) = (bank.dims(), query.dims());
    assert_eq!(n, labels.len(), "one label per bank row");
    let k = config.k.min(n);
    let transposed = bank.clone().transpose();
    let mut out = Votes { votes: Vec::with_capacity(q * classes), predicted: Vec::new(), nearest: Vec::new(), classes };
    for start in (0..q).step_by(TILE) {
        let tile = query.clone().slice([start..(start + TILE).min(q), 0..d]);
        let similarity = tile.matmul(transposed.clone()).into_data().try_to_vec::<f32>().expect("features are f32");
        let rows: Vec<(Vec<f32>, u32)> =
            similarity.par_chunks(n).map(|row| vote(row, labels, classes, k, config.temperature)).collect();
        for (votes, nearest) in rows {
            let best = (0..classes).find(|&c| rank(&votes, c) == 0).unwrap_or(0);
            out.predicted.push(best as u32);
            out.nearest.push(nearest);
            out.votes.extend(votes);
        }
    }
    out
}

/// The k largest similarities vote; ties at the border go to the smaller index.
fn vote(similarity: &[f32], labels: &[u32], classes: usize, k: usize, temperature: f64) -> (Vec<f32>, u32) {
    let mut order: Vec<u32> = (0..similarity.len() as u32).collect();
    let closer = |a: &u32, b: &u32| similarity[*b as usize].total_cmp(&similarity[*a as usize]).then(a.cmp(b));
    if k < order.len() {
        order.select_nth_unstable_by(k - 1, closer);
        order.truncate(k);
    }
    // Sum from the smallest weight up, in f64: exp(1 / 0.1) spans four decades.
    order.sort_unstable_by(closer);
    let mut votes = vec![0.0f64; classes];
    for &i in order.iter().rev() {
        votes[labels[i as usize] as usize] += (f64::from(similarity[i as usize]) / temperature).exp();
    }
    (votes.into_iter().map(|v| v as f32).collect(), order[0])
}
