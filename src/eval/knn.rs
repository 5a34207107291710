//! Weighted k-nearest-neighbour classification (Wu et al. 2018, arXiv 1805.01978, section 3.4; the protocol of the MoCo notebook and of
//! the figures that Un-Mix publishes for CIFAR).

use std::sync::Arc;

use burn::tensor::Tensor;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::features::{Extraction, Speed, extract_unit};
use super::labels::Labels;
use crate::data::Source;
use crate::error::{Error, Result};
use crate::model::Frozen;

/// `eval.knn`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KnnConfig {
    /// Neighbours that vote (all of the bank if it is smaller).
    pub k: usize,
    /// Temperature T of a vote's weight exp(similarity / T).
    pub temperature: f64,
    /// Layer of the features, from 1: of a ResNet 7 is the embedding, 6 what comes before, 1 to 5 the maps (AlexNet: 8, 7, 1 to 5). Pre-training
    /// measures the last two, `unmix eval knn` this one and any others.
    pub layer: usize,
}

impl Default for KnnConfig {
    fn default() -> Self {
        Self { k: 200, temperature: 0.1, layer: 7 }
    }
}

impl KnnConfig {
    /// The published protocol that kNN of `layer` is, where `last` is the embedding, or `knn` (semantics section 7.2).
    pub fn tag(&self, layer: usize, last: usize) -> &'static str {
        let published = self.k == 200 && self.temperature == 0.1;
        match layer {
            layer if published && layer == last => "knn-unmix",
            layer if published && layer + 1 == last => "knn-lightly",
            _ => "knn",
        }
    }

    /// One line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        if self.k == 0 {
            out.push(format!("`{at}.k` is 0, must be at least 1"));
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            out.push(format!("`{at}.temperature` is {}, must be above 0", self.temperature));
        }
        if !(1..=8).contains(&self.layer) {
            out.push(format!("`{at}.layer` is {}, must be 1 to 7 (of AlexNet 1 to 8)", self.layer));
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

    /// Share of the queries of each class whose class is predicted; `None` for a class without queries.
    pub fn per_class(&self, truth: &[u32]) -> Vec<Option<f64>> {
        let (mut hits, mut of) = (vec![0; self.classes], vec![0; self.classes]);
        for (&predicted, &truth) in self.predicted.iter().zip(truth) {
            of[truth as usize] += 1;
            hits[truth as usize] += usize::from(predicted == truth);
        }
        hits.into_iter().zip(of).map(|(hits, of)| (of > 0).then(|| share(hits, of))).collect()
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

/// The result of one layer, in percent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// The layer.
    pub layer: usize,
    /// Neighbours that voted.
    pub k: usize,
    /// Share of correct first guesses.
    pub top1: f64,
    /// Share of images whose class is among the first five.
    pub top5: f64,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Share of correct first guesses of each class; `None` for a class without test images.
    pub per_class: Vec<Option<f64>>,
}

/// Weighted kNN of `layers` (from 1) of an encoder, all from one pass: the bank is the training split without augmentation.
///
/// # Errors
/// Unlabelled data, classes that do not match, a layer that the encoder does not have, those of the loader.
pub fn measure(
    encoder: &Frozen,
    (bank, queries): (&Arc<dyn Source>, &Arc<dyn Source>),
    how: &Extraction,
    config: &KnnConfig,
    layers: &[usize],
) -> Result<(Vec<Measured>, Speed)> {
    let labels = Labels::of(bank.as_ref(), queries.as_ref(), "kNN")?;
    check_layers(layers, encoder, "eval.knn.layer")?;
    let (bank, queries) = (extract_unit(encoder, bank.clone(), how, layers)?, extract_unit(encoder, queries.clone(), how, layers)?);
    let (known, truth) = (bank.known("kNN")?, labels.of_test(&queries, "kNN")?);
    let measured = layers.iter().enumerate().map(|(at, &layer)| {
        let votes = classify(&bank.layers[at], &queries.layers[at], &known, labels.classes.len(), config);
        let percent = |share: f64| 100.0 * share;
        Measured {
            layer,
            k: config.k.min(known.len()),
            top1: percent(votes.top1(&truth)),
            top5: percent(votes.top5(&truth)),
            classes: labels.classes.clone(),
            per_class: votes.per_class(&truth).into_iter().map(|share| share.map(percent)).collect(),
        }
    });
    Ok((measured.collect(), Speed { images_per_s: bank.images_per_s, data_wait: bank.data_wait }))
}

/// Refuses layers that the encoder does not have; `key` is where they were asked for.
///
/// # Errors
/// A layer out of range.
pub fn check_layers(layers: &[usize], encoder: &Frozen, key: &str) -> Result<()> {
    let last = encoder.layers();
    match layers.iter().find(|layer| !(1..=last).contains(*layer)) {
        None => Ok(()),
        Some(layer) => Err(Error::input(format!("`{key}` is {layer}, but this encoder has layers 1 to {last}"))
            .hint(format!("{last} is the embedding, {} the features before the head", last - 1))),
    }
}
