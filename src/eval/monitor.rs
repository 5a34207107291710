//! What is watched while an encoder trains: is it collapsing, does it spread images, does it hold views of one image together?

use std::sync::Arc;

use burn::tensor::Tensor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::features::{Extraction, Unreadable, own_rows, select};
use super::measures::{Rows, alignment, feature_std, lidar, rankme, uniformity};
use crate::data::{Item, Job, Loader, Source, Transform, epoch_order};
use crate::error::{Error, Result};
use crate::model::Frozen;
use crate::rng::{Purpose, Stream};
use crate::unread::Unread;

/// `eval.monitor`: what is measured during training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MonitorConfig {
    /// After every so many epochs; null never.
    pub every_epochs: Option<u64>,
    /// Test images looked at, drawn once by the seed; training images where there is no test split.
    pub images: usize,
    /// Also weighted kNN with the whole bank, where labels and a test split exist and `eval.enabled` is true.
    pub knn: bool,
    /// Also a linear probe of the features (`linear-htdt`: computed once, Adam, 500 epochs), under the same conditions.
    pub linear: bool,
    /// Training images that the probe learns from, drawn once by the seed; null all of them.
    pub linear_images: Option<usize>,
}

impl Default for MonitorConfig {
    fn default() -> Self {
        Self { every_epochs: Some(10), images: 1024, knn: true, linear: false, linear_images: None }
    }
}

impl MonitorConfig {
    /// One line per value out of range; `at` is `eval.monitor`.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        if self.every_epochs == Some(0) {
            out.push(format!("`{at}.every_epochs` is 0, must be at least 1, or null for never"));
        }
        if self.images < 2 {
            out.push(format!("`{at}.images` is {}, must be at least 2: distances need a pair", self.images));
        }
        if let Some(images @ ..2) = self.linear_images {
            out.push(format!(
                "`{at}.linear_images` is {images}, must be at least 2, or null for all: classes differ only in pairs"
            ));
        }
        let (default, watches) = (Self::default(), self.every_epochs.is_some());
        let because = format!("`{at}.every_epochs` = null measures nothing during training");
        let mut table = Unread::of(at, out);
        table.key("images", self.images != default.images, watches, &because, "leave it out");
        table.key("knn", self.knn != default.knn, watches, &because, "leave it out");
        table.key("linear", self.linear, watches, &because, "leave it out");
        let because = format!("`{at}.linear` = false probes nothing");
        table.key("linear_images", self.linear_images.is_some(), self.linear, &because, "leave it out");
    }

    /// Whether the end of this epoch (counted from 1) is measured.
    pub fn due(&self, epoch: u64) -> bool {
        self.every_epochs.is_some_and(|every| epoch.is_multiple_of(every))
    }
}

/// The measures of one encoder. Of features that are not finite none is a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Monitored {
    /// Names of the images that could not be read, and were left out.
    pub unreadable: Vec<String>,
    /// Whether all features are finite.
    pub finite: bool,
    /// Images looked at.
    pub images: usize,
    /// Width d of the embedding.
    pub dim: usize,
    /// See [`feature_std`]; of the embedding.
    pub feature_std: f64,
    /// See [`rankme`]; of the embedding.
    pub rankme: f64,
    /// The same of the features before the head, as unit rows.
    pub rankme_features: f64,
    /// See [`lidar()`]; embeddings of ten augmented views.
    pub lidar: f64,
    /// See [`alignment`]; embeddings of the first two of them.
    pub alignment: f64,
    /// See [`uniformity`]; of the embedding.
    pub uniformity: f64,
}

impl Monitored {
    /// The share of the isotropic spread (1/sqrt(d)) below which an embedding counts as collapsed.
    const LEAST_SPREAD: f64 = 0.1;
    /// The effective rank below which it does.
    const LEAST_RANK: f64 = 1.5;
    /// Fewer images, or dimensions, cannot tell.
    const LEAST_ROWS: usize = 8;

    /// What to tell the user if the features say nothing, since they are not finite.
    pub fn diverged(&self) -> Option<String> {
        (!self.finite).then(|| {
            "features are not finite: the net has diverged though its loss has not, since a training forward normalises by the batch and \
             an evaluation by running statistics; start anew with a lower optim.lr"
                .to_owned()
        })
    }

    /// What to tell the user if the embedding has collapsed: all images in one place, or on one line. `cure` is what to try beside a lower rate.
    pub fn collapse(&self, cure: &str) -> Option<String> {
        let spread = self.feature_std * (self.dim as f64).sqrt();
        let judged = self.finite && self.images.min(self.dim) >= Self::LEAST_ROWS;
        (judged && (spread < Self::LEAST_SPREAD || self.rankme < Self::LEAST_RANK)).then(|| {
            format!(
                "the encoder has collapsed: its embeddings have {:.1} % of an isotropic spread and effective rank {:.2} of {}; \
                 try a lower optim.lr, or {cure}",
                100.0 * spread,
                self.rankme,
                self.images.min(self.dim)
            )
        })
    }
}

/// Augmented views of each image, from which its scatter is told. LiDAR's authors take 50 of about as many images; ten of 1024 give the
/// covariance within images 9,216 degrees of freedom, many times the width of an embedding, for a fifth of the time.
const VIEWS: usize = 10;

/// Measures `encoder` on at most `images` of `source`, by its running statistics: plain views as `how` says, and for LiDAR and the alignment
/// views by `recipe`. Equal arguments give equal numbers, so that epochs can be compared.
///
/// # Errors
/// Those of the loader.
pub fn monitor(
    encoder: &Frozen,
    source: &Arc<dyn Source>,
    recipe: Arc<dyn Transform>,
    how: &Extraction,
    images: usize,
    seed: u64,
) -> Result<Monitored> {
    let n = source.len();
    // The first images of a folder would all be of one class.
    let indices: Vec<u32> = epoch_order(seed, 0, n).into_iter().take(images).collect();
    let view = move |index: u32, view: u64| Stream::new(seed, Purpose::Monitor, &[u64::from(index), view]);
    // As many views at a time as in a pass with one view of each image.
    let augmented = Extraction { transform: recipe, batch: how.batch.div_ceil(VIEWS), ..how.clone() };
    let ([plain], unreadable) = views(encoder, source, how, &indices, move |index| [view(index, 0)])?;
    let streams = move |index| std::array::from_fn(|number| view(index, number as u64));
    let (scattered, _) = views::<VIEWS>(encoder, source, &augmented, &indices, streams)?;
    let (features, embedding) = (Rows::of(&plain.features), Rows::of(&plain.embedding));
    let scattered = scattered.map(|view| Rows::of(&view.embedding));
    let finite = [&features, &embedding].into_iter().chain(&scattered).all(|rows| rows.iter().flatten().all(|v| v.is_finite()));
    let number = |measure: &dyn Fn() -> f64| if finite { measure() } else { f64::NAN };
    Ok(Monitored {
        unreadable,
        finite,
        images: embedding.len(),
        dim: embedding.width(),
        feature_std: number(&|| feature_std(&embedding)),
        rankme: number(&|| rankme(&embedding)),
        rankme_features: number(&|| rankme(&features)),
        lidar: number(&|| lidar(&scattered)),
        alignment: number(&|| alignment(&scattered[0], &scattered[1])),
        uniformity: number(&|| uniformity(&embedding)),
    })
}

/// Unit rows of one view of all images.
struct View {
    /// `[n, f]`.
    features: Tensor<2>,
    /// `[n, d]`.
    embedding: Tensor<2>,
}

/// Each of `V` views of the given images, drawn from a stream of its own, and the names of the images that cannot be read.
fn views<const V: usize>(
    encoder: &Frozen,
    source: &Arc<dyn Source>,
    how: &Extraction,
    indices: &[u32],
    streams: impl Fn(u32) -> [Stream; V] + Send + 'static,
) -> Result<([View; V], Vec<String>)> {
    let batches: Vec<Vec<u32>> = indices.chunks(how.batch).map(<[u32]>::to_vec).collect();
    let item = move |index| Item { index, streams: streams(index).into() };
    let jobs = batches.into_iter().map(move |batch| Job { items: batch.iter().copied().map(&item).collect(), payload: batch });
    let mut loader = Loader::start(source.clone(), how.transform.clone(), how.loader, jobs);
    let mut rows: [(Vec<_>, Vec<_>); V] = std::array::from_fn(|_| Default::default());
    let mut unreadable = Unreadable::default();
    while let Some(batch) = loader.next() {
        let batch = batch?;
        unreadable.add(&batch.broken);
        let own = own_rows(&batch.index, &batch.payload);
        for ((features, embeddings), view) in rows.iter_mut().zip(&batch.views).filter(|_| !own.is_empty()) {
            let rows = encoder.rows(how.images(view));
            features.push(select(rows.features, &own));
            embeddings.push(select(rows.embedding, &own));
        }
        loader.recycle(batch.views);
    }
    if rows[0].0.is_empty() {
        return Err(Error::input("none of the monitor's images can be read").hint("look at the files of data.source"));
    }
    let whole =
        rows.map(|(features, embeddings)| View { features: Tensor::cat(features, 0), embedding: Tensor::cat(embeddings, 0) });
    Ok((whole, unreadable.names()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(feature_std: f64, rankme: f64) -> Monitored {
        let finite = feature_std.is_finite();
        let unreadable = Vec::new();
        Monitored {
            unreadable,
            finite,
            images: 1024,
            dim: 128,
            feature_std,
            rankme,
            rankme_features: 9.0,
            lidar: 40.0,
            alignment: 0.2,
            uniformity: -2.0,
        }
    }

    #[test]
    fn one_place_and_one_line_are_a_collapse() {
        let isotropic = 128f64.powf(-0.5);
        assert_eq!(seen(isotropic, 60.0).collapse("x"), None);
        assert_eq!(seen(0.101 * isotropic, 1.51).collapse("x"), None);
        let place = seen(0.099 * isotropic, 60.0).collapse("x").unwrap();
        assert!(place.contains("9.9 % of an isotropic spread and effective rank 60.00 of 128"), "{place}");
        assert!(seen(isotropic, 1.49).collapse("x").is_some());
    }

    /// Every comparison with NaN is false: it is told by a rule of its own.
    #[test]
    fn what_is_no_number_is_told_and_is_no_collapse() {
        let diverged = seen(f64::NAN, f64::NAN);
        assert!(diverged.collapse("x").is_none() && diverged.diverged().unwrap().starts_with("features are not finite"));
        assert_eq!(seen(0.1, 60.0).diverged(), None);
    }

    #[test]
    fn every_nth_epoch_is_due_or_none() {
        let due =
            |every_epochs| (1..=6).filter(|&e| MonitorConfig { every_epochs, ..Default::default() }.due(e)).collect::<Vec<_>>();
        assert_eq!((due(Some(1)).len(), due(Some(3)), due(None)), (6, vec![3, 6], vec![]));
    }
}
