//! Backbone, features and head: what a method trains.

use burn::module::Module;
use burn::tensor::Tensor;

use super::head::Head;
use super::layer::Layers;
use super::norm::{BatchStats, Pass, Running, absorb};
use super::shape::Backbone;
use crate::kernel::KernelPath;
use crate::loss::unit_rows;

/// An encoder. In a state dict the backbone's names have no prefix and the head is `fc`, as in torchvision.
#[derive(Module, Debug)]
pub struct Encoder {
    /// From images to maps and features.
    pub backbone: Backbone,
    /// Features to the embedding.
    pub fc: Head,
}

/// The outputs of all layers in the order of [`Layers`]: first the maps, then the rows, then the embedding.
#[derive(Debug, Clone)]
pub struct Taps {
    /// `[n, c_i, h_i, w_i]`.
    pub maps: Vec<Tensor<4>>,
    /// `[n, f_i]`; the last are the features.
    pub rows: Vec<Tensor<2>>,
    /// Unit rows, `[n, d]`.
    pub embedding: Tensor<2>,
}

impl Taps {
    /// What the head gets, `[n, f]`.
    pub fn features(&self) -> Tensor<2> {
        self.rows.last().expect("every backbone has features").clone()
    }
}

impl Encoder {
    /// All layers of one forward.
    ///
    /// # Shapes
    /// - input `[n, c, h, w]`, normalised
    pub fn taps(&self, x: Tensor<4>, pass: &mut Pass) -> Taps {
        let (maps, rows) = self.backbone.forward(x, pass);
        let embedding = unit_rows(self.fc.forward(rows.last().expect("every backbone has features").clone(), pass));
        Taps { maps, rows, embedding }
    }

    /// The embedding: unit rows `[n, d]`.
    pub fn embed(&self, x: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        self.taps(x, pass).embedding
    }

    /// The embeddings of several batches of equal shape, each of which is one of `shards` equal parts of its own batch, and what the norms saw of
    /// each. They go through the net together (see [`Encoder::features_together`]); what each gives is what it would give alone.
    ///
    /// # Shapes
    /// - `batches` `[n, c, h, w]` each; embeddings `[n, d]`, unit rows
    pub fn embed_together(&self, batches: Vec<Tensor<4>>, shards: usize) -> Vec<(Tensor<2>, Vec<BatchStats>)> {
        if !self.fc.has_norms() {
            // Rows are independent: the head takes those of all batches as they come.
            return self.together(batches, shards, |x, pass| self.embed(x, pass));
        }
        let project = |(features, stats): (Tensor<2>, Vec<BatchStats>)| {
            let (rows, head) = self.project(features);
            (unit_rows(rows), [stats, head].concat())
        };
        self.features_together(batches, shards).into_iter().map(project).collect()
    }

    /// The features of several batches of equal shape, each of which is one of `shards` equal parts of its own batch, and what the backbone's norms
    /// saw of each. They go through the backbone together, as SplitBN groups of a larger batch: what each gives is what it would give alone, and
    /// weights are read and kernels are started once for all.
    ///
    /// # Shapes
    /// - `batches` `[n, c, h, w]` each; features `[n, f]`
    pub fn features_together(&self, batches: Vec<Tensor<4>>, shards: usize) -> Vec<(Tensor<2>, Vec<BatchStats>)> {
        self.together(batches, shards, |x, pass| self.features(x, pass))
    }

    /// Rows of all batches by one forward, whose groups alternate.
    fn together(
        &self,
        batches: Vec<Tensor<4>>,
        shards: usize,
        rows: impl Fn(Tensor<4>, &mut Pass) -> Tensor<2>,
    ) -> Vec<(Tensor<2>, Vec<BatchStats>)> {
        let (forwards, splits, [n, c, h, w]) = (batches.len(), self.backbone.splits(shards), batches[0].dims());
        let mut pass = Pass::together(forwards, shards);
        if let [only] = batches.as_slice() {
            return vec![(rows(only.clone(), &mut pass), pass.into_stats())];
        }
        // Image i of a batch belongs to its group i mod splits: groups of all batches alternate.
        let groups = |batch: Tensor<4>| batch.reshape([n / splits, splits, c * h * w]);
        let all: Tensor<3> = Tensor::cat(batches.into_iter().map(groups).collect(), 1);
        let rows = rows(all.reshape([forwards * n, c, h, w]), &mut pass);
        let [_, d] = rows.dims();
        let rows: Tensor<3> = rows.reshape([n / splits, forwards * splits, d]);
        let of = |forward: usize| rows.clone().narrow(1, forward * splits, splits).reshape([n, d]);
        (0..forwards).map(of).zip(pass.into_each()).collect()
    }

    /// What the head gets, `[n, f]`.
    fn features(&self, x: Tensor<4>, pass: &mut Pass) -> Tensor<2> {
        self.backbone.forward(x, pass).1.pop().expect("every backbone has features")
    }

    /// The head in training, over all rows of one forward, and what its norms saw.
    ///
    /// # Shapes
    /// - features `[n, f]`; output `[n, d]`, not normalised
    pub fn project(&self, features: Tensor<2>) -> (Tensor<2>, Vec<BatchStats>) {
        let mut pass = Pass::train();
        (self.fc.forward(features, &mut pass), pass.into_stats())
    }

    /// Moves all running statistics by what one training forward saw, the backbone's first; `update` is the implementation of the update.
    pub fn absorb(&mut self, stats: &[BatchStats], update: KernelPath) {
        absorb(self.norms(), stats, update);
    }

    /// The running statistics of all its norms in the order in which a forward meets them.
    pub fn norms(&mut self) -> Vec<Running<'_>> {
        self.backbone.norms().into_iter().map(|norm| norm.running()).chain(self.fc.norms()).collect()
    }

    /// [`Encoder::absorb`] of a forward that ended before the head.
    pub fn absorb_features(&mut self, stats: &[BatchStats], update: KernelPath) {
        absorb(self.backbone.norms().into_iter().map(|norm| norm.running()).collect(), stats, update);
    }

    /// [`Encoder::absorb`] of a forward of the head.
    pub fn absorb_head(&mut self, stats: &[BatchStats], update: KernelPath) {
        absorb(self.fc.norms(), stats, update);
    }

    /// Its layers, the embedding being the last.
    pub fn layers(&self) -> Layers {
        self.backbone.layers()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::model::{HeadConfig, ModelConfig, ModelName};
    use crate::rng::{Purpose, Stream};

    /// What goes through together comes out as if it went alone, rows and statistics, whatever the groups and shards.
    #[test]
    fn batches_together_are_what_each_is_alone() {
        let device = crate::device::test_device();
        for (name, splits, shards, side) in
            [(ModelName::Resnet18, 1, 1, 9), (ModelName::Resnet18, 4, 2, 9), (ModelName::Resnet50, 2, 1, 8)]
        {
            let head = HeadConfig { dim: 12, ..HeadConfig::default() };
            let model = ModelConfig { name, width: 0.125, stem_channels: 8, bn_splits: splits, head, ..ModelConfig::default() };
            let net = model.init(3, 1, "query", &device);
            let batch = |at: u64| {
                let mut draw = Stream::new(at, Purpose::Synthetic, &[]);
                let values: Vec<f32> = (0..8 * 3 * side * side).map(|_| (at as f64 + draw.normal()) as f32).collect();
                Tensor::<4>::from_data(TensorData::new(values, [8, 3, side, side]), &device)
            };
            let together = net.embed_together((0..3).map(batch).collect(), shards);
            assert_eq!(together.len(), 3);
            for (at, (rows, stats)) in together.into_iter().enumerate() {
                let mut pass = Pass::shard(shards);
                let alone = net.embed(batch(at as u64), &mut pass);
                let values = |t: Tensor<1>| t.into_data().try_to_vec::<f32>().unwrap();
                let close = |a: Tensor<1>, b: Tensor<1>, what: &str| {
                    let (a, b) = (values(a), values(b));
                    // Thirty layers of sums of up to some hundred terms, in another order.
                    let far = a.iter().zip(&b).find(|(a, b)| (**a - **b).abs() > 1e-4 * b.abs().max(1.0));
                    assert!(a.len() == b.len() && far.is_none(), "{name:?}, batch {at}, {what}: {far:?}");
                };
                close(rows.flatten(0, 1), alone.flatten(0, 1), "rows");
                for (layer, (got, want)) in stats.into_iter().zip(pass.into_stats()).enumerate() {
                    close(got.mean, want.mean, &format!("mean of norm {layer}"));
                    close(got.variance, want.variance, &format!("variance of norm {layer}"));
                }
            }
        }
    }
}
