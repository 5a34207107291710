//! Weighted k-nearest-neighbour classification (Wu et al. 2018, arXiv 1805.01978, section 3.4; the protocol of the MoCo notebook and of
//! the figures that Un-Mix publishes for CIFAR).

use std::sync::Arc;

use burn::tensor::Tensor;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::features::Extraction;
use super::splits::Splits;
use crate::data::Source;
use crate::error::Result;
use crate::loss::unit_rows;
use crate::model::{Frozen, LayerName, Layers};

/// `eval.knn`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KnnConfig {
    /// Neighbours that vote (all of the bank if it is smaller).
    pub k: usize,
    /// Temperature T of a vote's weight exp(similarity / T).
    pub temperature: f64,
    /// `features`, `embedding` or a number from 1 (-1 is the last layer). Pre-training measures this one and the other of the last two,
    /// `unmix eval knn` any.
    pub layer: LayerName,
}

impl Default for KnnConfig {
    fn default() -> Self {
        Self { k: 200, temperature: 0.1, layer: LayerName::EMBEDDING }
    }
}

impl KnnConfig {
    /// The published protocol that kNN of layer `layer` (from 1) of `layers` is, or `knn`: Un-Mix's measures the embedding, lightly's the
    /// features.
    pub fn tag(&self, layer: usize, layers: &Layers) -> &'static str {
        let published = self.k == 200 && self.temperature == 0.1;
        match layer {
            layer if published && layer == layers.embedding() => "knn-unmix",
            layer if published && layer == layers.features() => "knn-lightly",
            _ => "knn",
        }
    }

    /// The layer that is asked for and the other one of the last two, as numbers.
    ///
    /// # Errors
    /// The encoder has no such layer.
    pub fn both(&self, layers: &Layers) -> Result<[usize; 2]> {
        let asked = self.layer.resolve(layers, "eval.knn.layer")?;
        Ok([asked, if asked == layers.embedding() { layers.features() } else { layers.embedding() }])
    }

    /// One line per value out of range, for an encoder of these `layers`.
    pub fn problems(&self, at: &str, layers: &Layers, out: &mut Vec<String>) {
        if self.k == 0 {
            out.push(format!("`{at}.k` is 0, must be at least 1"));
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            out.push(format!("`{at}.temperature` is {}, must be above 0", self.temperature));
        }
        out.extend(self.layer.resolve(layers, &format!("{at}.layer")).err().map(|error| error.in_a_line()));
    }
}

/// What the neighbours say about each query.
#[derive(Debug, Clone, PartialEq)]
pub struct Votes {
    /// Summed weights exp((s - s_nearest) / T), row-major `[queries, classes]`: relative to the nearest neighbour, so that no temperature is too
    /// small for them.
    pub votes: Vec<f64>,
    /// Similarity of the nearest neighbour over T, `[queries]`.
    pub scale: Vec<f64>,
    /// The class with most votes; ties go to the smaller label.
    pub predicted: Vec<u32>,
    /// The most similar bank row.
    pub nearest: Vec<u32>,
    classes: usize,
}

impl Votes {
    /// Summed weights exp(s / T), row-major `[queries, classes]`, as the protocol defines them; infinite for a small T.
    pub fn weights(&self) -> Vec<f64> {
        let rows = self.votes.chunks(self.classes).zip(&self.scale);
        rows.flat_map(|(row, scale)| row.iter().map(|vote| vote * scale.exp())).collect()
    }

    /// Queries whose class is predicted, in percent.
    pub fn top1(&self, truth: &[u32]) -> f64 {
        percent(self.predicted.iter().zip(truth).filter(|(p, t)| p == t).count(), truth.len())
    }

    /// True where the query's class is among the five (or all, if fewer) with most votes.
    pub fn top5_hits(&self, truth: &[u32]) -> Vec<bool> {
        let rows = self.votes.chunks(self.classes).zip(truth);
        rows.map(|(row, &t)| rank(row, t as usize) < 5.min(self.classes)).collect()
    }

    /// Queries of each class whose class is predicted, in percent; `None` for a class without queries.
    pub fn per_class(&self, truth: &[u32]) -> Vec<Option<f64>> {
        let (mut hits, mut of) = (vec![0; self.classes], vec![0; self.classes]);
        for (&predicted, &truth) in self.predicted.iter().zip(truth) {
            of[truth as usize] += 1;
            hits[truth as usize] += usize::from(predicted == truth);
        }
        hits.into_iter().zip(of).map(|(hits, of)| (of > 0).then(|| percent(hits, of))).collect()
    }

    /// Queries whose class is among the first five, in percent.
    pub fn top5(&self, truth: &[u32]) -> f64 {
        percent(self.top5_hits(truth).into_iter().filter(|&hit| hit).count(), truth.len())
    }
}

/// One division, so that 103 of 500 is 20.6 and not 20.599999999999998.
fn percent(hits: usize, of: usize) -> f64 {
    100.0 * hits as f64 / of.max(1) as f64
}

/// Classes with more votes, or as many and a smaller label. A vote that is not a number comes last.
pub fn rank<T: Copy + PartialOrd>(row: &[T], class: usize) -> usize {
    if row[class].partial_cmp(&row[class]).is_none() {
        return row.len().max(5);
    }
    row.iter().enumerate().filter(|&(c, v)| *v > row[class] || (*v == row[class] && c < class)).count()
}

/// Most queries per tile.
const TILE: usize = 256;
/// Most similarities per tile: 128 MiB.
const SIMILARITIES: usize = 32 << 20;

/// Classifies `query` `[q, d]` by `bank` `[n, d]` (unit rows both, without graph) with the bank's `labels` `[n]`, each below `classes`.
pub fn classify(bank: &Tensor<2>, query: &Tensor<2>, labels: &[u32], classes: usize, config: &KnnConfig) -> Votes {
    let ([n, _], [q, d]) = (bank.dims(), query.dims());
    assert_eq!(n, labels.len(), "one label per bank row");
    let k = config.k.min(n);
    let transposed = bank.clone().transpose();
    let mut out =
        Votes { votes: Vec::with_capacity(q * classes), scale: Vec::new(), predicted: Vec::new(), nearest: Vec::new(), classes };
    let tile_rows = (SIMILARITIES / n.max(1)).clamp(1, TILE);
    for start in (0..q).step_by(tile_rows) {
        let tile = query.clone().slice([start..(start + tile_rows).min(q), 0..d]);
        let similarity = tile.matmul(transposed.clone()).into_data().try_to_vec::<f32>().expect("features are f32");
        let rows: Vec<(Vec<f64>, f64, u32)> =
            similarity.par_chunks(n).map(|row| vote(row, labels, classes, k, config.temperature)).collect();
        for (votes, scale, nearest) in rows {
            let best = (0..classes).find(|&c| rank(&votes, c) == 0).unwrap_or(0);
            out.predicted.push(best as u32);
            out.nearest.push(nearest);
            out.scale.push(scale);
            out.votes.extend(votes);
        }
    }
    out
}

/// The k largest similarities vote; ties at the border go to the smaller index.
fn vote(similarity: &[f32], labels: &[u32], classes: usize, k: usize, temperature: f64) -> (Vec<f64>, f64, u32) {
    let mut order: Vec<u32> = (0..similarity.len() as u32).collect();
    let closer = |a: &u32, b: &u32| similarity[*b as usize].total_cmp(&similarity[*a as usize]).then(a.cmp(b));
    if k < order.len() {
        order.select_nth_unstable_by(k - 1, closer);
        order.truncate(k);
    }
    // Sum from the smallest weight up, in f64: exp(1 / 0.1) spans four decades.
    order.sort_unstable_by(closer);
    let mut votes = vec![0.0f64; classes];
    let nearest = f64::from(similarity[order[0] as usize]);
    for &i in order.iter().rev() {
        votes[labels[i as usize] as usize] += ((f64::from(similarity[i as usize]) - nearest) / temperature).exp();
    }
    (votes, nearest / temperature, order[0])
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

/// What one pass over both splits came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// One per layer that was asked for.
    pub layers: Vec<Measured>,
    /// Rows of the bank.
    pub bank: usize,
    /// Queries.
    pub queries: usize,
    /// Names of the images of either split that could not be read: they are neither in the bank nor queries.
    pub unreadable: Vec<String>,
    /// Images of the bank per second.
    pub images_per_s: f64,
    /// Share of that time spent waiting for the loader.
    pub data_wait: f64,
}

/// Weighted kNN of `layers` (from 1) of an encoder, all from one pass: the bank is the training split without augmentation.
///
/// # Errors
/// Unlabelled data, classes that do not match, a layer that the encoder does not have, features that are not finite, those of the loader.
pub fn measure(
    encoder: &Frozen,
    sources: (&Arc<dyn Source>, &Arc<dyn Source>),
    how: &Extraction,
    config: &KnnConfig,
    layers: &[usize],
) -> Result<Measurement> {
    encoder.layers().require(layers, "eval.knn.layer")?;
    Ok(measure_splits(Splits::of(encoder, sources, how, layers, "kNN")?, config))
}

/// Weighted kNN of all layers of rows that are there already. Takes them, so that rows and unit rows of a large bank need not be held together.
pub fn measure_splits(splits: Splits, config: &KnnConfig) -> Measurement {
    let unreadable = splits.unreadable();
    let Splits { layers, classes, train, test, known, truth } = splits;
    let rows = train.layers.into_iter().zip(test.layers);
    let measured = layers.into_iter().zip(rows).map(|(layer, (bank, queries))| {
        let votes = classify(&unit_rows(bank), &unit_rows(queries), &known, classes.len(), config);
        Measured {
            layer,
            k: config.k.min(known.len()),
            top1: votes.top1(&truth),
            top5: votes.top5(&truth),
            classes: classes.clone(),
            per_class: votes.per_class(&truth),
        }
    });
    Measurement {
        layers: measured.collect(),
        bank: known.len(),
        queries: truth.len(),
        unreadable,
        images_per_s: train.speed.images_per_s,
        data_wait: train.speed.data_wait,
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    fn unit(rows: &[[f32; 2]]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(rows.concat(), [rows.len(), 2]), &Device::flex())
    }

    #[test]
    fn no_temperature_is_too_small() {
        // Towards class 1 by one very near row, towards class 0 by three that are less near.
        let bank = unit(&[[0.8, 0.6], [0.8, 0.6], [0.8, 0.6], [1.0, 0.0]]);
        let votes = |temperature| {
            let config = KnnConfig { k: 4, temperature, ..KnnConfig::default() };
            classify(&bank, &unit(&[[1.0, 0.0]]), &[0, 0, 0, 1], 2, &config)
        };
        // exp(1 / T) would be infinite for the last three, in f64 for the last.
        for temperature in [0.1, 0.01, 0.005, 0.0005] {
            let got = votes(temperature);
            assert_eq!(got.predicted, [1], "T {temperature}");
            assert!((got.votes[1] - 1.0).abs() < 1e-12 && got.votes[0] < 1.0);
        }
        assert_eq!(votes(1.0).predicted, [0]);
        let weights = votes(0.1).weights();
        assert!(
            (weights[1] / 10f64.exp() - 1.0).abs() < 1e-6 && (weights[0] / (3.0 * 8f64.exp()) - 1.0).abs() < 1e-6,
            "{weights:?}"
        );
    }

    #[test]
    fn published_protocols_have_names() {
        let layers = Layers::new([None; 5], 1);
        let of = |k, temperature, layer| KnnConfig { k, temperature, ..KnnConfig::default() }.tag(layer, &layers);
        assert_eq!([of(200, 0.1, 7), of(200, 0.1, 6), of(200, 0.1, 5), of(20, 0.1, 7)], ["knn-unmix", "knn-lightly", "knn", "knn"]);
    }

    #[test]
    fn a_percentage_has_no_digits_that_nobody_counted() {
        assert_eq!((1..=500).map(|hits| percent(hits, 500).to_string()).map(|text| text.len()).max(), Some(4));
        assert_eq!((percent(103, 500), percent(0, 0)), (20.6, 0.0));
    }

    #[test]
    fn a_vote_that_is_no_number_is_never_right() {
        assert_eq!([rank(&[f32::NAN, 1.0], 0), rank(&[f32::NAN, 1.0], 1), rank(&[2.0, 2.0, 3.0], 1)], [5, 0, 2]);
    }
}
