//! What passes between a method and the step that drives it: batches, shards, named rows, what norms saw, losses.

use burn::tensor::{Device, Tensor, TensorData};

use crate::kernel::KernelPath;
use crate::loss::nt_xent::Mates;
use crate::loss::unmix::MixtureTerms;
use crate::model::{BatchStats, Encoder};

/// A batch as a step gets it: images on the device, outside any graph, and what the host knows of them.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// One batch per view, `[n, 3, h, w]`, normalised, input mixtures already applied.
    pub views: Vec<Tensor<4>>,
    /// Batches of mixtures, `[m, 3, h, w]` each; `facts.mixtures` says what they are made of.
    pub mixed: Vec<Tensor<4>>,
    /// What the host knows.
    pub facts: Facts,
}

/// What the host knows of a batch of n images: plain data.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Which images of the dataset they are, n.
    pub images: Vec<u32>,
    /// What the batches of mixtures are made of.
    pub mixtures: Vec<Mixture>,
    /// Where in the run this is.
    pub position: Position,
    /// What the step draws besides its images. `None` until the step begins; golden traces bring their own.
    pub draws: Option<Draws>,
}

/// A batch of mixtures: row j is image j of the batch with the weight `lambda[j]` and image `partners[j]` with the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture {
    /// The view, from 0, that it is made of.
    pub view: usize,
    /// Weight of the own image per row, m.
    pub lambda: Vec<f32>,
    /// The other image per row, m of 0..n.
    pub partners: Vec<u32>,
}

/// Keys of the random streams of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The run's seed.
    pub seed: u64,
    /// Completed epochs.
    pub epoch: u64,
    /// Completed steps.
    pub step: u64,
}

/// What a step draws besides its images: plain data, made on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draws {
    /// ShuffleBN: row i of the j-th target forward is image `shuffles[j][i]` of the batch. Empty: the batch keeps its order.
    pub shuffles: Vec<Vec<u32>>,
    /// Rows of a memory bank.
    pub negatives: Negatives,
}

/// The rows of a memory bank that a batch of n images meets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Negatives {
    /// There is no bank.
    #[default]
    None,
    /// `[n, 1 + k]`, column 0 the images' own rows.
    Each(Vec<i32>),
    /// `[k]`, the same for every image.
    Shared(Vec<i32>),
}

/// One of `of` equal parts of a batch: rows `index`, `index + of`, `index + 2 of` and so on. These are whole SplitBN groups, because row i
/// belongs to group i mod s and `of` divides s. The whole batch is the one shard of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Which shard, from 0.
    pub index: usize,
    /// How many there are.
    pub of: usize,
}

impl Span {
    /// The whole batch.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// All shards of a batch.
    pub fn all(of: usize) -> impl Iterator<Item = Self> {
        (0..of).map(move |index| Self { index, of })
    }

    /// Which of n rows these are, ascending.
    pub fn rows(self, n: usize) -> Vec<u32> {
        (self.index..n).step_by(self.of).map(|row| row as u32).collect()
    }

    /// These rows of a batch, `[n, ...]` to `[n / of, ...]`.
    pub fn pick<const D: usize>(self, batch: &Tensor<D>) -> Tensor<D> {
        if self.of == 1 {
            return batch.clone();
        }
        let mut dims = batch.dims();
        let (n, rest) = (dims[0], dims[1..].iter().product::<usize>());
        assert!(n.is_multiple_of(self.of), "a batch of {n} has no {} equal shards", self.of);
        let rows: Tensor<3> = batch.clone().reshape([n / self.of, self.of, rest]).narrow(1, self.index, 1);
        dims[0] = n / self.of;
        rows.reshape(dims)
    }

    /// The batch `[n, d]` of the rows of all its shards, in their order.
    pub fn join(shards: Vec<Tensor<2>>) -> Tensor<2> {
        let (of, [n, d]) = (shards.len(), shards[0].dims());
        if of == 1 { shards.into_iter().next().expect("there is one") } else { Tensor::cat(shards, 1).reshape([n * of, d]) }
    }
}

/// A shard of a batch, ready to be encoded.
#[derive(Debug, Clone)]
pub struct Shard<'a> {
    /// One batch per view, `[m, 3, h, w]`.
    pub views: Vec<Tensor<4>>,
    /// Its mixtures, `[m, 3, h, w]` each.
    pub mixed: Vec<Tensor<4>>,
    /// How many shards the batch has: norms split this one into as many fewer groups.
    pub of: usize,
    /// What the host knows of the whole batch.
    pub facts: &'a Facts,
}

/// Rows by name, each `[m, d]`.
#[derive(Debug, Clone, Default)]
pub struct Rows(pub Vec<(&'static str, Tensor<2>)>);

impl Rows {
    /// The rows of a name.
    ///
    /// # Panics
    /// Nobody encoded them.
    pub fn get(&self, name: &str) -> Tensor<2> {
        let found = self.0.iter().find(|(own, _)| *own == name);
        found.unwrap_or_else(|| panic!("no forward of this step gave rows `{name}`")).1.clone()
    }

    /// Each of them changed.
    pub fn map(&self, change: impl Fn(Tensor<2>) -> Tensor<2>) -> Self {
        Self(self.0.iter().map(|(name, rows)| (*name, change(rows.clone()))).collect())
    }
}

/// What the norms of one net saw in one forward.
#[derive(Debug, Clone)]
pub struct Forward {
    /// The name of the rows that came of it.
    pub name: &'static str,
    /// In the order of the norms.
    pub stats: Vec<BatchStats>,
}

/// What encoding a shard gives.
#[derive(Debug, Clone, Default)]
pub struct Encoded {
    /// On the graph of the trained nets.
    pub rows: Rows,
    /// In the order of the forwards.
    pub seen: Vec<Forward>,
}

impl Encoded {
    /// Forwards of `net`, all of them together, each on images of a batch with `of` shards: unit rows of the forward's name, and what its norms saw.
    pub fn forward(&mut self, net: &Encoder, forwards: Vec<(&'static str, Tensor<4>)>, of: usize) {
        if forwards.is_empty() {
            return;
        }
        let (names, images): (Vec<_>, Vec<_>) = forwards.into_iter().unzip();
        for (name, (rows, stats)) in names.into_iter().zip(net.embed_together(images, of)) {
            self.rows.0.push((name, rows));
            self.seen.push(Forward { name, stats });
        }
    }
}

/// A forward whose rows are constants of the loss: keys of MoCo, targets of BYOL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The name of its rows.
    pub name: &'static str,
    /// What it encodes.
    pub of: Images,
}

/// Images of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Images {
    /// A view, from 0.
    View(usize),
    /// A batch of mixtures, from 0.
    Mixtures(usize),
}

/// What a loss is computed against, besides rows.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// The batch.
    pub facts: &'a Facts,
    /// Which of its rows the trained rows are; targets are those of the whole batch.
    pub span: Span,
}

/// A batch of mixtures as a loss sees it, for m trained rows.
#[derive(Debug, Clone)]
pub struct Mixed {
    /// For each mixture the weight of its own image, `[m]`.
    pub lambda: Tensor<1>,
    /// For each mixture the batch row of its partner.
    pub partners: Vec<u32>,
    /// For each image the mixture in which it is the partner.
    pub back: Vec<u32>,
    /// For each image its weight in that mixture, `[m]`.
    pub back_weight: Tensor<1>,
}

impl At<'_> {
    /// Batch rows of the trained rows.
    pub fn own(&self) -> Vec<u32> {
        self.span.rows(self.facts.images.len())
    }

    /// Rows `[n, d]` of the whole batch, such as targets, where the trained rows are.
    pub fn own_of(&self, rows: Tensor<2>) -> Tensor<2> {
        self.span.pick(&rows)
    }

    /// Batch rows `which` of `[n, d]`.
    pub fn rows_of(&self, rows: Tensor<2>, which: &[u32]) -> Tensor<2> {
        let device = rows.device();
        rows.select(0, super::index(which, &device))
    }

    /// A batch of mixtures of which every image is the partner once.
    ///
    /// # Panics
    /// Partners that are no permutation.
    pub fn mixed(&self, which: usize, device: &Device) -> Option<Mixed> {
        let Mixture { lambda, partners, .. } = self.facts.mixtures.get(which)?;
        let inverse = Mates::new(partners).inverse();
        let own = self.own();
        let weights = |of: &dyn Fn(usize) -> f32| {
            let values: Vec<f32> = own.iter().map(|&row| of(row as usize)).collect();
            Tensor::from_data(TensorData::new(values, [own.len()]), device)
        };
        Some(Mixed {
            lambda: weights(&|row| lambda[row]),
            back_weight: weights(&|row| 1.0 - lambda[inverse[row] as usize]),
            partners: own.iter().map(|&row| partners[row as usize]).collect(),
            back: own.iter().map(|&row| inverse[row as usize]).collect(),
        })
    }

    /// The mixture of the first view, for the trained rows: weights `[m]` of the own images, and the partners' batch rows.
    pub fn mixture(&self, device: &Device) -> Option<(Tensor<1>, Vec<u32>)> {
        let Mixture { lambda, partners, .. } = self.facts.mixtures.first()?;
        let own = self.own();
        let weights: Vec<f32> = own.iter().map(|&row| lambda[row as usize]).collect();
        let weights = Tensor::from_data(TensorData::new(weights, [own.len()]), device);
        Some((weights, own.iter().map(|&row| partners[row as usize]).collect()))
    }
}

/// What a loss came to, as means over the trained rows.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The loss, `[1]`, on the graph of the trained rows.
    pub loss: Tensor<1>,
    /// Named summands of the loss before their weights, each `[1]`, without graph, for the log.
    pub parts: Vec<(&'static str, Tensor<1>)>,
    /// What else is worth watching, each `[1]`, without graph. The first is the run's headline.
    pub signals: Vec<(&'static str, Tensor<1>)>,
    /// Constants that this step found and later ones use, each `[1]`, without graph.
    pub constants: Vec<(&'static str, Tensor<1>)>,
}

impl Outcome {
    /// A loss of one part.
    pub fn of(name: &'static str, loss: Tensor<1>) -> Self {
        Self { parts: vec![(name, loss.clone().inner())], loss, signals: Vec::new(), constants: Vec::new() }
    }

    /// Adds a term to the loss.
    pub fn add(&mut self, name: &'static str, term: Tensor<1>) {
        self.parts.push((name, term.clone().inner()));
        self.loss = self.loss.clone() + term;
    }

    /// Adds the two terms of a mixture, `names` being those of own and partner.
    pub fn add_mixture(&mut self, names: [&'static str; 2], terms: MixtureTerms) {
        self.parts.extend(names.into_iter().zip([terms.own.inner(), terms.partner.inner()]));
        self.loss = self.loss.clone() + terms.total;
    }
}

/// What a method follows up: everything that the step saw, for the whole batch and without graph.
#[derive(Debug, Clone)]
pub struct Done<'a> {
    /// Trained rows and targets.
    pub rows: &'a Rows,
    /// What the norms of all nets saw: means over the shards.
    pub seen: &'a [Forward],
    /// [`Outcome::constants`].
    pub constants: &'a [(&'static str, Tensor<1>)],
    /// The batch.
    pub facts: &'a Facts,
    /// The implementation of moving averages.
    pub update: KernelPath,
}

impl Done<'_> {
    /// What the norms saw in the forward that gave the rows `name`; `None` if there was none.
    pub fn seen(&self, name: &str) -> Option<&[BatchStats]> {
        self.seen.iter().find(|forward| forward.name == name).map(|forward| forward.stats.as_slice())
    }

    /// A constant of the loss.
    pub fn constant(&self, name: &str) -> Option<Tensor<1>> {
        self.constants.iter().find(|(own, _)| *own == name).map(|(_, value)| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_rows_modulo_their_number_and_join_again() {
        let device = crate::device::test_device();
        let batch = Tensor::<2>::from_data(TensorData::new((0..24).map(|v| v as f32).collect(), [12, 2]), &device);
        for of in [1, 2, 3, 4, 6, 12] {
            let shards: Vec<_> = Span::all(of).map(|span| span.pick(&batch)).collect();
            for (span, shard) in Span::all(of).zip(&shards) {
                let want: Vec<f32> = span.rows(12).iter().flat_map(|&row| [2.0 * row as f32, 2.0 * row as f32 + 1.0]).collect();
                assert_eq!(shard.to_data().try_to_vec::<f32>().unwrap(), want, "{span:?}");
                assert!(span.rows(12).iter().all(|row| *row as usize % of == span.index));
            }
            assert_eq!(Span::join(shards).into_data(), batch.to_data());
        }
    }

    #[test]
    fn a_shard_knows_its_part_of_the_mixture() {
        let device = crate::device::test_device();
        let facts = Facts {
            images: vec![7; 4],
            mixtures: vec![Mixture { view: 0, lambda: vec![0.25, 0.5, 0.75, 1.0], partners: vec![3, 2, 1, 0] }],
            position: Position { seed: 0, epoch: 0, step: 0 },
            draws: None,
        };
        let at = At { facts: &facts, span: Span { index: 1, of: 2 } };
        let (own, rows) = at.mixture(&device).unwrap();
        assert_eq!(own.into_data().try_to_vec::<f32>().unwrap(), [0.5, 1.0]);
        assert_eq!((rows, at.own()), (vec![2, 0], vec![1, 3]));
    }
}
