//! Multinomial logistic regression for several learning rates at once. The gradient is written out, so nothing here needs a graph:
//! for logits z of b images, dz = (softmax(z) - onehot) / b, dW = x^T dz, db = sum of dz.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::config::{Optimizer, Plan};
use crate::model::StateDict;
use crate::model::state::AnyTensor;
use crate::rng::{Purpose, Stream};

/// Standard deviation of the initial weights.
const INITIAL_STD: f64 = 0.01;
/// Added to Adam's denominator, as in PyTorch.
const ADAM_EPSILON: f64 = 1e-8;

/// The probes of one layer: one per learning rate, side by side, so that a step is one product of matrices forward and one back.
///
/// Letters: f features, c classes, r rates; column `k c + i` belongs to class i at rate k.
#[derive(Debug, Clone)]
pub struct Probe {
    /// `[f, r c]`.
    weight: Trained,
    /// `[1, r c]`.
    bias: Trained,
    /// Base rate of each column, `[1, r c]`.
    rates: Tensor<2>,
    classes: usize,
    /// Sum of the loss over the images seen since it was last read, `[r]`.
    loss: Tensor<1>,
    seen: usize,
}

/// Correct first guesses, and images whose class is among the first five, per rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hits {
    /// Per rate.
    pub top1: Vec<u64>,
    /// Per rate.
    pub top5: Vec<u64>,
}

impl Hits {
    /// Those of both.
    pub fn and(&self, other: &Self) -> Self {
        let sum = |a: &[u64], b: &[u64]| a.iter().zip(b).map(|(a, b)| a + b).collect();
        Self { top1: sum(&self.top1, &other.top1), top5: sum(&self.top5, &other.top5) }
    }
}

impl Probe {
    /// Weights N(0, .01), the same for every rate; biases 0.
    pub fn init(features: usize, classes: usize, layer: usize, plan: &Plan, seed: u64, device: &Device) -> Self {
        let rates = plan.lr.len();
        let mut stream = Stream::named(seed, Purpose::Probe, &format!("linear/{layer}"));
        let values: Vec<f32> = (0..features * classes).map(|_| (INITIAL_STD * stream.normal()) as f32).collect();
        let weight = Tensor::<2>::from_data(TensorData::new(values, [features, classes]), device).repeat(&[1, rates]);
        let columns: Vec<f32> = plan.lr.iter().flat_map(|&lr| vec![lr as f32; classes]).collect();
        Self {
            weight: Trained::new(weight),
            bias: Trained::new(Tensor::zeros([1, rates * classes], device)),
            rates: Tensor::from_data(TensorData::new(columns, [1, rates * classes]), device),
            classes,
            loss: Tensor::zeros([rates], device),
            seen: 0,
        }
    }

    /// Number of rates r.
    fn count(&self) -> usize {
        self.rates.dims()[1] / self.classes
    }

    /// `[b, r, c]`.
    fn logits(&self, x: Tensor<2>) -> Tensor<3> {
        let b = x.dims()[0];
        (x.matmul(self.weight.value.clone()) + self.bias.value.clone()).reshape([b, self.count(), self.classes])
    }

    /// One update of all rates, each times `share`.
    ///
    /// # Shapes
    /// - `x` `[b, f]`, `labels` `[b]` below the number of classes
    pub fn step(&mut self, x: Tensor<2>, labels: &Tensor<1, Int>, share: f64, plan: &Plan) {
        let (b, r, c) = (x.dims()[0], self.count(), self.classes);
        let log_p = log_softmax(self.logits(x.clone()), 2);
        let truth: Tensor<3> = self.one_hot(labels);
        self.loss = self.loss.clone() - (log_p.clone() * truth.clone()).sum_dim(2).sum_dim(0).reshape([r]);
        self.seen += b;
        let dz = (log_p.exp() - truth).div_scalar(b as f64).reshape([b, r * c]);
        let rates = self.rates.clone().mul_scalar(share);
        self.weight.update(x.transpose().matmul(dz.clone()), &rates, plan);
        self.bias.update(dz.sum_dim(0), &rates, plan);
    }

    /// `[b, 1, c]`. Burn's own reads the labels back to check them, which would stall a GPU in every step.
    fn one_hot(&self, labels: &Tensor<1, Int>) -> Tensor<3> {
        let b = labels.dims()[0];
        let classes = Tensor::<1, Int>::arange(0..self.classes as i64, &labels.device()).reshape([1, 1, self.classes]);
        classes.expand([b, 1, self.classes]).equal(labels.clone().reshape([b, 1, 1]).expand([b, 1, self.classes])).float()
    }

    /// Mean loss per rate over the images since the last call.
    pub fn take_loss(&mut self) -> Vec<f64> {
        let sums = self.loss.to_data().try_to_vec::<f32>().expect("losses are f32");
        self.loss = self.loss.zeros_like();
        let seen = std::mem::take(&mut self.seen).max(1) as f64;
        sums.into_iter().map(|sum| f64::from(sum) / seen).collect()
    }

    /// Counts what the probes get right. Of equal logits the smaller class comes first; a logit that is not a number is never right.
    ///
    /// # Shapes
    /// - `x` `[b, f]`, `labels` `[b]`
    pub fn hits(&self, x: Tensor<2>, labels: &Tensor<1, Int>) -> Hits {
        let (b, r, c) = (x.dims()[0], self.count(), self.classes);
        let logits = self.logits(x);
        let label: Tensor<3, Int> = labels.clone().reshape([b, 1, 1]);
        let own = logits.clone().gather(2, label.clone().repeat(&[1, r, 1]));
        let device = logits.device();
        let smaller = Tensor::<1, Int>::arange(0..c as i64, &device).reshape([1, 1, c]).lower(label);
        let ahead = logits.clone().greater(own.clone().expand([b, r, c])).int();
        let level = logits.equal(own.clone().expand([b, r, c])).int() * smaller.int().expand([b, r, c]);
        let undefined = own.clone().not_equal(own).int().mul_scalar(c as i64 + 5);
        let rank = ((ahead + level).sum_dim(2) + undefined).reshape([b, r]);
        let count = |below: i64| -> Vec<u64> {
            let hits = rank.clone().lower_elem(below).int().sum_dim(0).into_data();
            hits.iter::<i64>().map(|hits| hits as u64).collect()
        };
        Hits { top1: count(1), top5: count(5) }
    }

    /// Weights and moments, named below `prefix`.
    pub fn state(&self, prefix: &str) -> StateDict {
        let named = [("weight", &self.weight), ("bias", &self.bias)];
        named.into_iter().flat_map(|(name, trained)| trained.state(&format!("{prefix}{name}"))).collect()
    }

    /// Puts a saved state back; `updates` is how many had been made. False if it is not one of this probe.
    pub fn restore(&mut self, state: &StateDict, prefix: &str, updates: u64) -> bool {
        self.weight.restore(state, &format!("{prefix}weight"), updates)
            && self.bias.restore(state, &format!("{prefix}bias"), updates)
    }

    /// Updates made so far.
    pub fn updates(&self) -> u64 {
        self.weight.updates
    }
}

/// A matrix and what its optimizer remembers.
#[derive(Debug, Clone)]
struct Trained {
    value: Tensor<2>,
    /// Velocity of SGD, first moment of Adam.
    first: Option<Tensor<2>>,
    /// Second moment of Adam.
    second: Option<Tensor<2>>,
    updates: u64,
}

impl Trained {
    fn new(value: Tensor<2>) -> Self {
        Self { value, first: None, second: None, updates: 0 }
    }

    /// PyTorch's SGD (no dampening: the first velocity is the plain gradient) or Adam, with one rate per column, `[1, r c]`.
    fn update(&mut self, gradient: Tensor<2>, rates: &Tensor<2>, plan: &Plan) {
        self.updates += 1;
        let gradient = match plan.weight_decay {
            0.0 => gradient,
            decay => gradient + self.value.clone().mul_scalar(decay),
        };
        let direction = match plan.optimizer {
            Optimizer::Sgd => {
                let velocity = match self.first.take() {
                    Some(old) => old.mul_scalar(plan.momentum) + gradient,
                    None => gradient,
                };
                self.first = Some(velocity.clone());
                velocity
            }
            Optimizer::Adam => self.adam(gradient, plan.betas),
        };
        self.value = self.value.clone() - direction * rates.clone();
    }

    /// Kingma and Ba, arXiv 1412.6980, algorithm 1.
    fn adam(&mut self, gradient: Tensor<2>, betas: [f64; 2]) -> Tensor<2> {
        let moved = |old: Option<Tensor<2>>, new: Tensor<2>, beta: f64| {
            let new = new.mul_scalar(1.0 - beta);
            old.map_or(new.clone(), |old| old.mul_scalar(beta) + new)
        };
        let first = moved(self.first.take(), gradient.clone(), betas[0]);
        let second = moved(self.second.take(), gradient.square(), betas[1]);
        (self.first, self.second) = (Some(first.clone()), Some(second.clone()));
        let [first_bias, second_bias] = betas.map(|beta| 1.0 - beta.powf(self.updates as f64));
        first.div_scalar(first_bias) / (second.div_scalar(second_bias).sqrt().add_scalar(ADAM_EPSILON))
    }

    fn state(&self, name: &str) -> Vec<(String, TensorData)> {
        let parts = [("", Some(&self.value)), (".first", self.first.as_ref()), (".second", self.second.as_ref())];
        parts
            .into_iter()
            .filter_map(|(part, tensor)| Some((format!("{name}{part}"), crate::model::state::now(tensor?.clone()))))
            .collect()
    }

    fn restore(&mut self, state: &StateDict, name: &str, updates: u64) -> bool {
        let (shape, device) = (self.value.dims(), self.value.device());
        let read = |part: &str| {
            let data = state.get(&format!("{name}{part}"))?;
            (data.shape().to_vec() == shape).then(|| AnyTensor::from_data(data, &device).shaped(shape))
        };
        let Some(value) = read("") else { return false };
        *self = Self { value, first: read(".first"), second: read(".second"), updates };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::linear::config::{Facts, LinearConfig};
    use crate::model::ModelConfig;

    fn plan(json: &str) -> Plan {
        let facts = Facts { pair: false, shape: ModelConfig::default().shape(3), classes: 3, size: 32 };
        serde_json::from_str::<LinearConfig>(json).unwrap().plan(&facts).unwrap()
    }

    fn rows<const N: usize>(values: [[f32; 2]; N]) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.concat(), [N, 2]), &Device::flex())
    }

    fn labels<const N: usize>(values: [i32; N]) -> Tensor<1, Int> {
        Tensor::from_data(TensorData::new(values.to_vec(), [N]), &Device::flex())
    }

    fn weights(probe: &Probe) -> Vec<f32> {
        probe.weight.value.to_data().try_to_vec::<f32>().unwrap()
    }

    /// Losses and updates in f64, one rate, straight from the definition.
    struct ByHand {
        w: [[f64; 3]; 3],
        moments: [[[f64; 3]; 3]; 2],
        t: i32,
    }

    impl ByHand {
        fn step(&mut self, x: &[[f32; 2]], y: &[i32], lr: f64, plan: &Plan) -> f64 {
            let (mut gradient, mut loss) = ([[0.0; 3]; 3], 0.0);
            for (x, &y) in x.iter().zip(y) {
                let x = [f64::from(x[0]), f64::from(x[1]), 1.0];
                let z: [f64; 3] = std::array::from_fn(|i| (0..3).map(|f| x[f] * self.w[f][i]).sum());
                let sum: f64 = z.iter().map(|z| z.exp()).sum();
                loss += sum.ln() - z[y as usize];
                for i in 0..3 {
                    let dz = z[i].exp() / sum - f64::from(u8::from(i as i32 == y));
                    (0..3).for_each(|f| gradient[f][i] += dz * x[f]);
                }
            }
            self.t += 1;
            for f in 0..3 {
                for i in 0..3 {
                    let g = gradient[f][i] / y.len() as f64 + plan.weight_decay * self.w[f][i];
                    let [m, v] = &mut self.moments;
                    let direction = if plan.optimizer == Optimizer::Sgd {
                        m[f][i] = plan.momentum * m[f][i] + g;
                        m[f][i]
                    } else {
                        let [a, b] = plan.betas;
                        (m[f][i], v[f][i]) = (a * m[f][i] + (1.0 - a) * g, b * v[f][i] + (1.0 - b) * g * g);
                        m[f][i] / (1.0 - a.powi(self.t)) / ((v[f][i] / (1.0 - b.powi(self.t))).sqrt() + 1e-8)
                    };
                    self.w[f][i] -= lr * direction;
                }
            }
            loss / y.len() as f64
        }
    }

    #[test]
    fn several_rates_at_once_are_each_the_definition() {
        let x = [[0.5, -1.0], [1.5, 0.25], [-0.75, 2.0], [0.1, 0.2], [2.0, -0.5]];
        let y = [0, 2, 1, 1, 0];
        for json in [
            r#"{"protocol": "moco", "lr": [0.5, 2, 0.01], "weight_decay": 0.01}"#,
            r#"{"protocol": "htdt", "lr": [0.5, 2, 0.01], "weight_decay": 0.01}"#,
        ] {
            let plan = plan(json);
            let mut probe = Probe::init(2, 3, 6, &plan, 7, &Device::flex());
            let start = weights(&probe);
            let mut expected: Vec<ByHand> = (0..3)
                .map(|k| {
                    let w = |f: usize, i: usize| if f < 2 { f64::from(start[f * 9 + k * 3 + i]) } else { 0.0 };
                    ByHand { w: std::array::from_fn(|f| std::array::from_fn(|i| w(f, i))), moments: [[[0.0; 3]; 3]; 2], t: 0 }
                })
                .collect();
            assert_eq!(expected[0].w, expected[2].w, "all rates start alike");
            for (step, part) in [0..3, 3..5, 0..2, 1..5].into_iter().enumerate() {
                let share = 1.0 - 0.2 * step as f64;
                let (xs, ys) = (&x[part.clone()], &y[part.clone()]);
                let n = ys.len();
                let data = Tensor::from_data(TensorData::new(xs.concat(), [n, 2]), &Device::flex());
                let truth = Tensor::from_data(TensorData::new(ys.to_vec(), [n]), &Device::flex());
                probe.step(data, &truth, share, &plan);
                let losses = probe.take_loss();
                let got = weights(&probe);
                for (k, by_hand) in expected.iter_mut().enumerate() {
                    let loss = by_hand.step(xs, ys, plan.lr[k] * share, &plan);
                    assert!((loss - losses[k]).abs() < 1e-5, "{json} step {step} rate {k}: {} want {loss}", losses[k]);
                    for f in 0..2 {
                        for i in 0..3 {
                            let (got, want) = (f64::from(got[f * 9 + k * 3 + i]), by_hand.w[f][i]);
                            assert!(
                                (got - want).abs() < 2e-5 * want.abs().max(1.0),
                                "{json} step {step} rate {k}: {got} want {want}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn hits_are_counted_per_rate_and_ties_go_to_the_smaller_class() {
        let plan = plan(r#"{"protocol": "moco", "lr": [1, 2]}"#);
        let mut probe = Probe::init(2, 3, 6, &plan, 1, &Device::flex());
        // Rate 0: logits (x0, x1, 0). Rate 1: all equal.
        let values = vec![1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        probe.weight.value = Tensor::from_data(TensorData::new(values, [2, 6]), &Device::flex());
        let x = rows([[1.0, 0.5], [0.5, 1.0], [-1.0, -1.0], [1.0, 1.0]]);
        assert_eq!(probe.hits(x.clone(), &labels([0, 1, 2, 0])), Hits { top1: vec![4, 2], top5: vec![4, 4] });
        assert_eq!(probe.hits(x.clone(), &labels([1, 0, 0, 1])).top1, [0, 2]);
        // Rate 0 has diverged.
        probe.weight.value = probe
            .weight
            .value
            .clone()
            .mul(Tensor::from_data(TensorData::new(vec![f32::NAN, f32::NAN, f32::NAN, 1.0, 1.0, 1.0], [1, 6]), &Device::flex()));
        assert_eq!(probe.hits(x, &labels([0, 0, 2, 0])), Hits { top1: vec![0, 3], top5: vec![0, 4] });
    }

    #[test]
    fn a_restored_probe_goes_on_with_the_same_bits() {
        for json in [r#"{"protocol": "moco", "lr": [1, 30]}"#, r#"{"protocol": "htdt"}"#] {
            let plan = plan(json);
            let fresh = || Probe::init(2, 3, 6, &plan, 3, &Device::flex());
            let step = |probe: &mut Probe| {
                probe.step(rows([[1.0, 2.0], [0.5, -1.0], [3.0, 0.1]]), &labels([0, 1, 2]), 1.0, &plan);
            };
            let (mut straight, mut first, mut second) = (fresh(), fresh(), fresh());
            (0..5).for_each(|_| step(&mut straight));
            (0..2).for_each(|_| step(&mut first));
            assert!(second.restore(&first.state("p."), "p.", first.updates()));
            (0..3).for_each(|_| step(&mut second));
            assert_eq!(weights(&straight), weights(&second), "{json}");
            assert!(!second.restore(&StateDict::new(), "p.", 0));
        }
    }
}
