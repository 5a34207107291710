//! One step of any method, for the loop, for `bench step` and for golden traces alike.
//!
//! A method encodes, contrasts and follows up; in between this driver takes the gradients of its rows back through the nets (*pull*), shard by
//! shard. A loss sees its rows as leaves, so that no graph but that of one shard exists at a time, and gradients of several shards are
//! those of the whole batch: exact accumulation, where the loss is a sum over rows (MoCo, InsDis, CMC) as where it is not (the rows of all
//! shards are encoded without graph first, after Gao et al., arXiv 2101.06983).

use burn::tensor::{Gradients, Tensor, TensorData, Transaction};

use crate::error::{Error, Result};
use crate::kernel::KernelPath;
use crate::kernel::update::square_sum;
use crate::method::{At, Done, Encoded, Facts, Forward, Images, Inputs, Method, Outcome, Rows, Shard, Span, Target};
use crate::model::{BatchStats, NamedGradients};
use crate::optim::{Optimizer, Rates};

/// Told the name of the phase that just ended; `bench step` waits for the device there.
pub type Border<'a> = dyn FnMut(&'static str) -> Result<()> + 'a;

/// The phases in the order in which a step of one shard goes through them.
pub const PHASES: [&str; 4] = ["forward", "backward", "update", "follow_up"];

/// A step of which nothing is updated yet.
pub struct Computed {
    outcome: Outcome,
    /// Of the whole batch.
    gradients: NamedGradients,
    /// Trained rows and targets of the whole batch, without graph.
    rows: Rows,
    seen: Vec<Forward>,
    facts: Facts,
}

/// The numbers of a step, read back from the device in one transfer.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// The loss.
    pub loss: f64,
    /// Norm of the gradient over all parameters, before clipping.
    pub gradient_norm: f64,
    /// The method's signals.
    pub signals: Vec<(String, f64)>,
    /// The loss's parts.
    pub parts: Vec<(String, f64)>,
}

/// Computes the loss and the gradients of a batch in `shards` equal parts: whole SplitBN groups, see [`Span`].
///
/// # Errors
/// Those of `border`.
pub fn compute(method: &mut dyn Method, mut inputs: Inputs, shards: usize, border: &mut Border) -> Result<Computed> {
    let facts = &mut inputs.facts;
    if facts.draws.is_none() {
        facts.draws = Some(method.draw(&facts.images, facts.position));
    }
    let (targets, mut seen) = targets(method, &inputs, shards);
    let coupled = shards > 1 && method.couples_rows();
    let (outcome, gradients, rows, trained_seen) = if coupled {
        in_two_passes(method, &inputs, &targets, shards, border)?
    } else {
        in_one_pass(method, &inputs, &targets, shards, border)?
    };
    let rows = Rows(rows.0.into_iter().chain(targets.0).collect());
    seen.extend(trained_seen);
    Ok(Computed { outcome, gradients, rows, seen, facts: inputs.facts })
}

/// A loss with its gradients, the trained rows of the whole batch, and what the trained nets' norms saw.
type Pulled = (Outcome, NamedGradients, Rows, Vec<Forward>);

/// Each shard is encoded, contrasted and pulled before the next one begins.
fn in_one_pass(method: &mut dyn Method, inputs: &Inputs, targets: &Rows, shards: usize, border: &mut Border) -> Result<Pulled> {
    let (mut outcomes, mut gradients, mut encoded) = (Vec::new(), NamedGradients::new(), Vec::new());
    for span in Span::all(shards) {
        let Encoded { rows, seen } = method.encode(&shard(inputs, span));
        let (outcome, upstream) = contrast(method, &rows, targets, At { facts: &inputs.facts, span });
        border("forward")?;
        add(&mut gradients, method.trained().gradients(&pull(&rows, &upstream)), shards);
        border("backward")?;
        outcomes.push(outcome);
        encoded.push(Encoded { rows: rows.map(Tensor::inner), seen });
    }
    let (rows, seen) = join(encoded);
    Ok((mean(outcomes), gradients, rows, seen))
}

/// The loss of all rows needs all rows: they are encoded without keeping a graph, and once more with it when their gradients are known.
fn in_two_passes(method: &mut dyn Method, inputs: &Inputs, targets: &Rows, shards: usize, border: &mut Border) -> Result<Pulled> {
    let without_graph = |span| {
        let Encoded { rows, seen } = method.encode(&shard(inputs, span));
        Encoded { rows: rows.map(Tensor::inner), seen }
    };
    let (rows, seen) = join(Span::all(shards).map(without_graph).collect());
    let (outcome, upstream) = contrast(method, &rows, targets, At { facts: &inputs.facts, span: Span::WHOLE });
    border("forward")?;
    let mut gradients = NamedGradients::new();
    for span in Span::all(shards) {
        // Its statistics are those of the first pass again.
        let Encoded { rows, .. } = method.encode(&shard(inputs, span));
        let upstream: Vec<_> = upstream.iter().map(|rows| rows.as_ref().map(|rows| span.pick(rows))).collect();
        border("forward")?;
        add(&mut gradients, method.trained().gradients(&pull(&rows, &upstream)), 1);
        border("backward")?;
    }
    Ok((outcome, gradients, rows, seen))
}

/// Rows of all target forwards over the whole batch, in its order, and what the norms saw.
fn targets(method: &dyn Method, inputs: &Inputs, shards: usize) -> (Rows, Vec<Forward>) {
    let all = method.targets();
    if all.is_empty() {
        return (Rows::default(), Vec::new());
    }
    let device = inputs.views[0].device();
    let shuffles = inputs.facts.draws.as_ref().map(|draws| draws.shuffles.as_slice()).unwrap_or_default();
    let images = |(at, Target { name, of }): (usize, Target)| {
        let images = match of {
            Images::View(view) => inputs.views[view].clone(),
            Images::Mixtures(which) => inputs.mixed[which].clone(),
        };
        let shuffled = |order: &Vec<u32>| images.clone().select(0, crate::method::index(order, &device));
        (name, shuffles.get(at).map_or_else(|| images.clone(), shuffled))
    };
    let images: Vec<(&'static str, Tensor<4>)> = all.into_iter().enumerate().map(images).collect();
    let encode =
        |span: Span| method.encode_targets(images.iter().map(|(name, images)| (*name, span.pick(images))).collect(), shards);
    let (rows, seen) = join(Span::all(shards).map(encode).collect());
    let in_order = |(at, (name, rows)): (usize, (&'static str, Tensor<2>))| match shuffles.get(at) {
        Some(order) => (name, rows.select(0, crate::method::index(&undone(order), &device))),
        None => (name, rows),
    };
    (Rows(rows.0.into_iter().enumerate().map(in_order).collect()), seen)
}

/// The inverse of a permutation.
fn undone(order: &[u32]) -> Vec<u32> {
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(at, &from)| back[from as usize] = at as u32);
    back
}

fn shard(inputs: &Inputs, span: Span) -> Shard<'_> {
    Shard {
        views: inputs.views.iter().map(|view| span.pick(view)).collect(),
        mixed: inputs.mixed.iter().map(|mixed| span.pick(mixed)).collect(),
        of: span.of,
        facts: &inputs.facts,
    }
}

/// The loss of rows, seen as leaves, and its gradient with respect to each of them; `None` for rows that it does not use.
fn contrast(method: &dyn Method, rows: &Rows, targets: &Rows, at: At) -> (Outcome, Vec<Option<Tensor<2>>>) {
    let leaves = rows.map(|rows| rows.inner().autodiff().require_grad());
    let all = Rows(leaves.0.iter().chain(&targets.0).cloned().collect());
    let outcome = method.contrast(&all, &at);
    let gradients = outcome.loss.backward();
    let upstream = leaves.0.iter().map(|(_, leaf)| leaf.grad(&gradients)).collect();
    (Outcome { loss: outcome.loss.inner(), ..outcome }, upstream)
}

/// The gradients of a loss of which those of its rows are known: `sum(rows * upstream)` has them.
fn pull(rows: &Rows, upstream: &[Option<Tensor<2>>]) -> Gradients {
    let used = rows.0.iter().zip(upstream).filter_map(|((_, rows), upstream)| Some((rows, upstream.as_ref()?)));
    let terms = used.map(|(rows, upstream)| (rows.clone() * upstream.clone()).sum_dim(1).sum_dim(0).reshape([1]));
    let surrogate: Tensor<1> = terms.reduce(|a, b| a + b).expect("a loss is made of rows");
    surrogate.backward()
}

/// Adds the gradients of a mean over one of `shards` equal parts of a batch.
fn add(all: &mut NamedGradients, of_shard: NamedGradients, shards: usize) {
    for (name, gradient) in of_shard {
        let gradient = if shards == 1 { gradient } else { gradient.div_scalar(shards as f64) };
        let sum = match all.remove(&name) {
            Some(sum) => sum + gradient,
            None => gradient,
        };
        all.insert(name, sum);
    }
}

/// Rows of the batch and what the norms saw over it, from those of its shards.
fn join(shards: Vec<Encoded>) -> (Rows, Vec<Forward>) {
    let names: Vec<&str> = shards[0].rows.0.iter().map(|(name, _)| *name).collect();
    let rows =
        names.into_iter().map(|name| (name, Span::join(shards.iter().map(|shard| shard.rows.get(name)).collect()))).collect();
    let forward = |at: usize| {
        let Forward { name, stats } = &shards[0].seen[at];
        let of_norm = |norm: usize| shards.iter().map(|shard| shard.seen[at].stats[norm].clone()).collect::<Vec<_>>();
        Forward { name, stats: (0..stats.len()).map(|norm| BatchStats::mean_of(&of_norm(norm))).collect() }
    };
    let seen = (0..shards[0].seen.len()).map(forward).collect();
    (Rows(rows), seen)
}

/// The outcome of a batch from those of its equal shards. Constants are the same in all: a loss that measures one couples its rows.
fn mean(mut shards: Vec<Outcome>) -> Outcome {
    if shards.len() == 1 {
        return shards.remove(0);
    }
    let count = shards.len() as f64;
    let over = |values: Vec<Tensor<1>>| values.into_iter().reduce(|a, b| a + b).expect("a batch has a shard").div_scalar(count);
    let named = |of: fn(&Outcome) -> &Vec<(&'static str, Tensor<1>)>| {
        let names = of(&shards[0]).iter().map(|(name, _)| *name).enumerate();
        names.map(|(at, name)| (name, over(shards.iter().map(|shard| of(shard)[at].1.clone()).collect()))).collect()
    };
    Outcome {
        loss: over(shards.iter().map(|shard| shard.loss.clone()).collect()),
        parts: named(|shard| &shard.parts),
        signals: named(|shard| &shard.signals),
        constants: shards[0].constants.clone(),
    }
}

impl Computed {
    /// Loss, gradient norm, signals and parts in one transfer, which waits for the backward pass. `update` is the kernel that sums the squares
    /// of the gradient.
    ///
    /// # Errors
    /// A failing device.
    pub fn read(&self, update: KernelPath) -> Result<Read> {
        let Outcome { loss, parts, signals, .. } = &self.outcome;
        let numbers = [loss.clone(), self.gradient_norm(update)].into_iter();
        let all = numbers.chain(signals.iter().chain(parts).map(|(_, value)| value.clone()));
        let read = all.fold(Transaction::default(), Transaction::register).try_execute();
        let read = read.map_err(|e| Error::run(format!("the device failed: {e:?}")))?;
        let one = |data: TensorData| match data.try_to_vec::<f32>() {
            Ok(values) => Ok(values[0]),
            Err(e) => Err(Error::run(format!("the device returned no f32: {e:?}"))),
        };
        let values = read.into_iter().map(one).collect::<Result<Vec<f32>>>()?;
        let named = |names: &[(&'static str, Tensor<1>)], values: &[f32]| {
            names.iter().zip(values).map(|((name, _), &value)| ((*name).to_owned(), f64::from(value))).collect()
        };
        let (signal_values, part_values) = values[2..].split_at(signals.len());
        Ok(Read {
            loss: values[0].into(),
            gradient_norm: values[1].into(),
            signals: named(signals, signal_values),
            parts: named(parts, part_values),
        })
    }

    /// L2 norm over all parameters, `[1]`.
    fn gradient_norm(&self, update: KernelPath) -> Tensor<1> {
        square_sum(self.gradients.values().cloned().collect(), update).sqrt()
    }

    /// The gradients, flat, by the parameters' names.
    pub fn gradients(&self) -> &NamedGradients {
        &self.gradients
    }

    /// Trained rows and targets of the whole batch.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Moves the weights at these rates, by gradients times `factor`, and lets the method follow up.
    ///
    /// # Errors
    /// Those of `border`.
    pub fn apply(
        self,
        method: &mut dyn Method,
        optimizer: &mut Optimizer,
        rates: impl Into<Rates>,
        factor: f64,
        border: &mut Border,
    ) -> Result<()> {
        let scaled = |gradient: Tensor<1>| if factor == 1.0 { gradient } else { gradient.mul_scalar(factor) };
        let gradients = self.gradients.into_iter().map(|(name, gradient)| (name, scaled(gradient))).collect();
        optimizer.step(method.trained(), gradients, rates);
        border("update")?;
        let update = optimizer.path(&self.outcome.loss.device());
        let constants = &self.outcome.constants;
        method.follow(&Done { rows: &self.rows, seen: &self.seen, constants, facts: &self.facts, update });
        border("follow_up")
    }
}

impl Read {
    /// Stops before an update that would destroy the weights.
    ///
    /// # Errors
    /// A number that is not finite, by its name; `step` is the step it belongs to, from 1.
    pub fn refuse_non_finite(&self, step: u64) -> Result<()> {
        let parts = self.parts.iter().map(|(name, value)| (name.as_str(), *value));
        let all = [("loss", self.loss)].into_iter().chain(parts).chain([("gradient norm", self.gradient_norm)]);
        match all.into_iter().find(|(_, value)| !value.is_finite()) {
            None => Ok(()),
            Some((name, value)) => Err(Error::run(format!("`{name}` is {value} at step {step}; the weights were not updated")).hint(
                "the last checkpoint is whole: resume from it with a lower optim.lr or a limit for the gradient (optim.clip_norm); without one, start over",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_finite_is_named_with_its_step() {
        let fine = Read { loss: 1.0, gradient_norm: 2.0, signals: Vec::new(), parts: vec![("clean".to_owned(), 1.0)] };
        fine.refuse_non_finite(7).unwrap();
        let refused = |read: Read| read.refuse_non_finite(7).unwrap_err().to_string();
        assert!(refused(Read { loss: f64::NAN, ..fine.clone() }).contains("`loss` is NaN at step 7; the weights were not updated"));
        assert!(refused(Read { gradient_norm: f64::INFINITY, ..fine.clone() }).contains("`gradient norm` is inf at step 7"));
        assert!(refused(Read { parts: vec![("mix".to_owned(), f64::NEG_INFINITY)], ..fine }).contains("`mix` is -inf"));
    }

    #[test]
    fn a_permutation_is_undone() {
        assert_eq!(undone(&[2, 0, 3, 1]), [1, 3, 0, 2]);
    }
}
