//! Semi-supervised evaluation: the whole encoder is fine-tuned with a part of the labels (the protocol of SwAV,
//! arXiv 2006.09882, section 5.2, in the form of Un-Mix's programs).

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::features::{Extraction, Unreadable, stream, widths};
use super::knn::rank;
use super::label_list::named_images;
use super::labels::Labels;
use super::linear::{Course, Point};
use super::record::fnv;
use crate::augment::{Recipe, RecipeName};
use crate::data::{Item, Job, Loader, Source};
use crate::error::{Error, Result};
use crate::model::layers::Linear;
use crate::model::state;
use crate::model::{Encoder, Frozen, Pass, Trained};
use crate::optim::schedule::multistep;
use crate::optim::{OptimConfig, Optimizer};
use crate::rng::{Purpose, Stream};
use crate::unread::Unread;

/// `eval.finetune`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FinetuneConfig {
    /// Share of each class's training images whose labels are used.
    pub fraction: f64,
    /// In place of `fraction`: a text file with the names of the images whose labels are used, one per line, such as SimCLR's lists of ImageNet.
    pub labels_file: Option<PathBuf>,
    /// Length in epochs.
    pub epochs: u64,
    /// Images per step.
    pub batch: usize,
    /// Rate of the encoder.
    pub lr: f64,
    /// Rate of the classifier on top.
    pub head_lr: f64,
    /// Completed epochs after which both rates are multiplied by `factor`.
    pub milestones: Vec<u64>,
    /// Factor of the rates.
    pub factor: f64,
    /// Momentum of SGD.
    pub momentum: f64,
    /// L2 penalty.
    pub weight_decay: f64,
    /// Augmentation of the training images.
    pub recipe: RecipeName,
    /// Smallest share of the image's area in a random crop.
    pub crop_min_area: f64,
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        Self {
            fraction: 0.01,
            labels_file: None,
            epochs: 20,
            batch: 32,
            lr: 0.01,
            head_lr: 0.2,
            milestones: vec![12, 16],
            factor: 0.2,
            momentum: 0.9,
            weight_decay: 0.0,
            recipe: RecipeName::Plain,
            crop_min_area: 0.08,
        }
    }
}

impl FinetuneConfig {
    /// One line per value out of range.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        let mut require = |valid: bool, key: &str, value: &dyn std::fmt::Debug, rule: &str| {
            if !valid {
                out.push(format!("`{at}.{key}` is {value:?}, must be {rule}"));
            }
        };
        let positive = |x: f64| x > 0.0 && x.is_finite();
        require(self.fraction > 0.0 && self.fraction <= 1.0, "fraction", &self.fraction, "above 0, at most 1");
        require(self.epochs > 0, "epochs", &self.epochs, "at least 1");
        require(self.batch > 1, "batch", &self.batch, "at least 2");
        require(positive(self.lr), "lr", &self.lr, "above 0");
        require(positive(self.head_lr), "head_lr", &self.head_lr, "above 0");
        require(self.milestones.is_sorted(), "milestones", &self.milestones, "in ascending order");
        require(positive(self.factor), "factor", &self.factor, "above 0");
        require((0.0..1.0).contains(&self.momentum), "momentum", &self.momentum, "in [0, 1)");
        require(self.weight_decay >= 0.0 && self.weight_decay.is_finite(), "weight_decay", &self.weight_decay, "at least 0");
        require(self.crop_min_area > 0.0 && self.crop_min_area <= 1.0, "crop_min_area", &self.crop_min_area, "above 0, at most 1");
        let default = Self::default();
        let mut table = Unread::of(at, out);
        let (drawn, because) = (self.labels_file.is_none(), format!("`{at}.labels_file` names the images"));
        table.key("fraction", self.fraction != default.fraction, drawn, &because, "leave one of them out");
        let crops = !self.recipe.is_fixed();
        table.key("crop_min_area", self.crop_min_area != default.crop_min_area, crops, "the recipe crops nothing", "leave it out");
        let set = self.factor != default.factor;
        table.key("factor", set, !self.milestones.is_empty(), "there are no milestones", "leave it out, or set milestones");
    }
}

impl FinetuneConfig {
    /// The images whose labels are used, ascending: those of `labels_file`, or else a share drawn by the seed.
    ///
    /// # Errors
    /// Those of [`subset`] and [`named_images`].
    fn images(&self, source: &dyn Source, seed: u64) -> Result<Vec<u32>> {
        let Some(file) = &self.labels_file else { return subset(source, self.fraction, seed) };
        let images = named_images(source, file)?;
        let labelled = images.iter().all(|&index| source.label(index as usize).is_some());
        if labelled { Ok(images) } else { Err(super::features::unlabelled("fine-tuning")) }
    }
}

/// The images whose labels are used: of every class the same share, at least one, drawn by the seed; ascending.
///
/// # Errors
/// An image without label.
pub fn subset(source: &dyn Source, fraction: f64, seed: u64) -> Result<Vec<u32>> {
    let mut of_class: Vec<Vec<u32>> = vec![Vec::new(); source.classes().len()];
    for index in 0..source.len() {
        let label = source.label(index).ok_or_else(|| super::features::unlabelled("fine-tuning"))?;
        of_class[label as usize].push(index as u32);
    }
    let mut all = Vec::new();
    for (class, images) in of_class.iter().enumerate().filter(|(_, images)| !images.is_empty()) {
        let wanted = ((images.len() as f64 * fraction).round() as usize).clamp(1, images.len());
        let order = Stream::named(seed, Purpose::Probe, &format!("subset/{class}")).permutation(images.len());
        all.extend(order[..wanted].iter().map(|&at| images[at as usize]));
    }
    all.sort_unstable();
    Ok(all)
}

/// What fine-tuning needs.
pub struct Task<'a> {
    /// The pre-trained encoder, with plain batch norm: small batches cannot be split.
    pub encoder: &'a Frozen,
    /// Images of which a part is used to train.
    pub train: Arc<dyn Source>,
    /// Images to test on.
    pub test: Arc<dyn Source>,
    /// The protocol.
    pub config: FinetuneConfig,
    /// How test images reach the encoder.
    pub how: Extraction,
    /// Seed of the subset, shuffles, augmentation and initial classifier.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// One point per epoch; the layer is that before the head.
    pub course: Course,
    /// Labels used.
    pub labels: usize,
    /// Sixteen digits that stand for the images whose labels were used.
    pub chosen: String,
    /// Whether it was asked to stop before the end.
    pub interrupted: bool,
    /// Names of the images of either split that could not be read.
    pub unreadable: Vec<String>,
}

/// The nets, what part of the input each sees, and the classifier on their features.
struct Classifier {
    nets: Vec<Encoder>,
    channels: Vec<Range<usize>>,
    head: Linear,
}

impl Classifier {
    fn new(encoder: &Frozen, features: usize, classes: usize, seed: u64, device: &Device) -> Self {
        let mut head = Linear::new(features, classes, true, device);
        let mut stream = Stream::named(seed, Purpose::Probe, "finetune");
        let values: Vec<f32> = (0..features * classes).map(|_| (0.01 * stream.normal()) as f32).collect();
        let weight = Tensor::<2>::from_data(TensorData::new(values, [classes, features]), device);
        head.weight = burn::module::Param::from_tensor(weight);
        Self {
            nets: encoder.parts.iter().map(|(.., net)| state::with_graph(net.clone())).collect(),
            channels: encoder.parts.iter().map(|(_, channels, _)| channels.clone()).collect(),
            head: state::with_graph(head),
        }
    }

    /// Logits `[n, c]` of a training forward; its statistics go to the nets after the update.
    fn forward(&self, images: &Tensor<4>) -> (Tensor<2>, Vec<Pass>) {
        let both = self.nets.iter().zip(&self.channels).map(|(net, channels)| {
            let mut pass = Pass::train();
            let taps = net.taps(images.clone().narrow(1, channels.start, channels.len()), &mut pass);
            (taps.features(), pass)
        });
        let (features, passes): (Vec<_>, Vec<_>) = both.unzip();
        (self.head.forward(Tensor::cat(features, 1)), passes)
    }

    /// The nets without graph, and the classifier.
    fn frozen(&self, like: &Frozen) -> (Frozen, Linear) {
        let nets = like.parts.iter().zip(&self.nets);
        let parts = nets.map(|((name, channels, _), net)| (*name, channels.clone(), state::without_graph(net.clone()))).collect();
        (Frozen { parts }, state::without_graph(self.head.clone()))
    }
}

impl Task<'_> {
    /// Fine-tunes and tests after every epoch; `tell` hears of each.
    ///
    /// # Errors
    /// Unlabelled or mismatching data, those of the loader, a loss that is not finite.
    pub fn run(&self, stop: &AtomicBool, tell: &mut dyn FnMut(&Course)) -> Result<Outcome> {
        let labels = Labels::of(self.train.as_ref(), self.test.as_ref(), "fine-tuning")?;
        let images = self.config.images(self.train.as_ref(), self.seed)?;
        let layer = self.encoder.layers().features();
        let features = widths(self.encoder, &self.how, &[layer])[0];
        let mut model = Classifier::new(self.encoder, features, labels.classes.len(), self.seed, &self.how.device);
        let sgd = || {
            let (momentum, weight_decay) = (self.config.momentum, self.config.weight_decay);
            Optimizer::new(OptimConfig { momentum, weight_decay, ..OptimConfig::default() })
        };
        let (mut of_nets, mut of_head) = (sgd(), sgd());
        let mut loader = self.loader(images.clone());
        let (mut trained, mut tested) = (Unreadable::default(), Vec::new());
        let mut course = Course { layer, lr: self.config.lr, curve: Vec::new() };
        for epoch in 0..self.config.epochs {
            let share = multistep(1.0, &self.config.milestones, self.config.factor, epoch);
            let mut sum = 0.0;
            for _ in 0..self.steps(images.len()) {
                let batch = loader.next().ok_or_else(|| Error::run("the loader ended before the last epoch"))??;
                trained.add(&batch.broken);
                let truth: Vec<u32> = batch.labels.iter().flatten().copied().collect();
                let n = truth.len();
                let (logits, passes) = model.forward(&self.images(&batch.views[0]));
                let loss = cross_entropy(logits, &truth);
                let gradients = loss.backward();
                sum += n as f64 * f64::from(loss.inner().into_scalar::<f32>());
                let (nets, head) = (model.nets.gradients(&gradients), model.head.gradients(&gradients));
                of_nets.step(&mut model.nets, nets, share * self.config.lr);
                of_head.step(&mut model.head, head, share * self.config.head_lr);
                let update = of_nets.path(&self.how.device);
                model.nets.iter_mut().zip(passes).for_each(|(net, pass)| net.absorb(&pass.into_stats(), update));
                loader.recycle(batch.views);
            }
            let loss = sum / images.len() as f64;
            if !loss.is_finite() {
                return Err(Error::run(format!("the loss is {loss} in epoch {}", epoch + 1))
                    .hint("use lower rates: eval.finetune.lr, eval.finetune.head_lr"));
            }
            let (top1, top5, unreadable) = self.test(&model, &labels)?;
            tested = unreadable;
            course.curve.push(Point { epoch: epoch + 1, loss, top1, top5 });
            tell(&course);
            if stop.load(Ordering::SeqCst) && epoch + 1 < self.config.epochs {
                break;
            }
        }
        let interrupted = (course.curve.len() as u64) < self.config.epochs;
        let keys = images.iter().flat_map(|&index| (self.train.key(index as usize) + "\n").into_bytes());
        let chosen = format!("{:016x}", fnv(keys));
        Ok(Outcome { course, labels: images.len(), chosen, interrupted, unreadable: [trained.names(), tested].concat() })
    }

    /// Batches per epoch. A single image left over joins the batch before it: alone it has no statistics.
    fn steps(&self, images: usize) -> usize {
        let whole = images.div_ceil(self.config.batch);
        if whole > 1 && images % self.config.batch == 1 { whole - 1 } else { whole }
    }

    fn images(&self, bytes: &[u8]) -> Tensor<4> {
        self.how.images(bytes)
    }

    fn loader(&self, images: Vec<u32>) -> Loader<()> {
        let (seed, batch, epochs) = (self.seed, self.config.batch, self.config.epochs);
        let recipe = Recipe::new(self.config.recipe, self.how.transform.size(0), self.config.crop_min_area, 1.0);
        let steps = self.steps(images.len());
        let jobs = (0..epochs).flat_map(move |epoch| {
            let order = Stream::new(seed, Purpose::Probe, &[epoch, u64::MAX, 0]).permutation(images.len());
            let stream = move |index: u32| Stream::new(seed, Purpose::Probe, &[epoch, index.into(), 0]);
            let item = |&at: &u32| Item { index: images[at as usize], streams: vec![stream(images[at as usize])] };
            let part = |step: usize| &order[step * batch..if step + 1 == steps { order.len() } else { (step + 1) * batch }];
            (0..steps).map(|step| Job { items: part(step).iter().map(item).collect(), payload: () }).collect::<Vec<_>>()
        });
        Loader::start(self.train.clone(), Arc::new(recipe), self.how.loader, jobs)
    }

    /// Top-1 and top-5 on the test split, in percent, and the names of its images that could not be read, which do not count.
    fn test(&self, model: &Classifier, labels: &Labels) -> Result<(f64, f64, Vec<String>)> {
        let (encoder, head) = model.frozen(self.encoder);
        let layer = self.encoder.layers().features();
        let (mut hits, mut tested, mut unlabelled) = ([0, 0], 0, false);
        let speed = stream(&encoder, self.test.clone(), &self.how, &[layer], |part| {
            let logits = part.layers.into_iter().map(|rows| head.forward(rows)).next().expect("one layer");
            let classes = logits.dims()[1];
            let logits = logits.into_data().try_to_vec::<f32>().expect("logits are f32");
            tested += part.labels.len();
            for (row, label) in logits.chunks(classes).zip(part.labels) {
                let Some(label) = label.map(|label| labels.of_test_label(label) as usize) else {
                    unlabelled = true;
                    continue;
                };
                let rank = rank(row, label);
                hits = [hits[0] + usize::from(rank < 1), hits[1] + usize::from(rank < 5)];
            }
        })?;
        if unlabelled {
            return Err(super::features::unlabelled("fine-tuning"));
        }
        let percent = |hits: usize| 100.0 * hits as f64 / tested.max(1) as f64;
        Ok((percent(hits[0]), percent(hits[1]), speed.unreadable))
    }
}

/// Mean over the rows, `[1]`.
fn cross_entropy(logits: Tensor<2>, truth: &[u32]) -> Tensor<1> {
    let n = truth.len();
    let values: Vec<i32> = truth.iter().map(|&label| label as i32).collect();
    let labels = Tensor::<2, Int>::from_data(TensorData::new(values, [n, 1]), &logits.device());
    log_softmax(logits, 1).gather(1, labels).mean().neg()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::augment::ViewsConfig;
    use crate::data::synthetic::{Synthetic, SyntheticConfig};
    use crate::data::{LoaderOptions, Split};
    use crate::kernel::KernelPath;
    use crate::model::ModelConfig;

    fn source(split: Split) -> Arc<dyn Source> {
        let config = SyntheticConfig { count: 90, test_count: 30, classes: 4, height: 16, width: 16 };
        Arc::new(Synthetic::new(&config, split, 1))
    }

    #[test]
    fn every_class_gives_the_same_share_and_at_least_one_image() {
        let source = source(Split::Train);
        let count = |images: &[u32]| (0..4).map(|class| images.iter().filter(|&&i| i % 4 == class).count()).collect::<Vec<_>>();
        let tenth = subset(source.as_ref(), 0.1, 1).unwrap();
        // 23, 23, 22, 22 images.
        assert_eq!(count(&tenth), [2, 2, 2, 2]);
        assert!(tenth.is_sorted());
        assert_eq!(count(&subset(source.as_ref(), 0.001, 1).unwrap()), [1; 4]);
        assert_eq!(subset(source.as_ref(), 1.0, 1).unwrap(), (0..90).collect::<Vec<u32>>());
        assert_eq!(subset(source.as_ref(), 0.1, 1).unwrap(), tenth);
        assert_ne!(subset(source.as_ref(), 0.1, 2).unwrap(), tenth);
    }

    fn task<'a>(encoder: &'a Frozen, config: FinetuneConfig) -> Task<'a> {
        let views: ViewsConfig = serde_json::from_value(json!({"recipe": "cifar_moco", "crop": {"size": 16}})).unwrap();
        let how = Extraction {
            transform: Arc::new(views.eval_recipe()),
            norm: views.normalization(),
            device: Device::flex(),
            ingest: KernelPath::Flex,
            batch: 16,
            loader: LoaderOptions { workers: 2, prefetch: 3, max_broken: 0.0 },
            largest_tensor: None,
            stop: None,
        };
        Task { encoder, train: source(Split::Train), test: source(Split::Test), config, how, seed: 3 }
    }

    fn encoder() -> Frozen {
        let model = json!({"width": 0.125, "stem": "cifar", "stem_channels": 8, "bn_splits": 1});
        let model: ModelConfig = serde_json::from_value(model).unwrap();
        Frozen::one("query", model.init(3, 5, "query", &Device::flex()))
    }

    #[test]
    fn a_list_takes_the_place_of_the_share() {
        let (encoder, dir) = (encoder(), tempfile::tempdir().unwrap());
        let list = |name: &str, lines: &str| {
            let file = dir.path().join(name);
            std::fs::write(&file, lines).unwrap();
            FinetuneConfig { labels_file: Some(file), epochs: 1, batch: 4, ..FinetuneConfig::default() }
        };
        let config = list("a.txt", "7\n2\n81\n5\n8\n");
        assert_eq!(config.images(source(Split::Train).as_ref(), 1).unwrap(), [2, 5, 7, 8, 81]);
        let run = |config: FinetuneConfig| task(&encoder, config).run(&AtomicBool::new(false), &mut |_| ()).unwrap();
        let (first, other) = (run(config), run(list("b.txt", "7\n2\n81\n5\n9\n")));
        assert_eq!((first.labels, other.labels), (5, 5));
        assert!(first.chosen != other.chosen && first.course != other.course, "the images are others");
        let mut out = Vec::new();
        FinetuneConfig { fraction: 0.1, ..list("a.txt", "7") }.problems("eval.finetune", &mut out);
        assert!(out.len() == 1 && out[0].contains("`eval.finetune.fraction` is set, but `eval.finetune.labels_file`"), "{out:?}");
    }

    #[test]
    fn a_single_image_left_over_joins_the_batch_before_it() {
        let encoder = encoder();
        let steps = |images, batch| task(&encoder, FinetuneConfig { batch, ..FinetuneConfig::default() }).steps(images);
        assert_eq!([steps(64, 32), steps(65, 32), steps(66, 32), steps(33, 32), steps(1, 32), steps(5, 2)], [2, 2, 3, 1, 1, 2]);
    }

    #[test]
    fn encoder_and_classifier_are_both_trained_at_their_own_rates() {
        let encoder = encoder();
        let base = FinetuneConfig {
            fraction: 0.5,
            epochs: 10,
            batch: 11,
            head_lr: 0.03,
            milestones: vec![8],
            ..FinetuneConfig::default()
        };
        let run = |config: &FinetuneConfig| task(&encoder, config.clone()).run(&AtomicBool::new(false), &mut |_| ()).unwrap();
        let both = run(&base);
        assert_eq!((both.labels, both.course.curve.len(), both.unreadable.len()), (46, 10, 0));
        let losses: Vec<f64> = both.course.curve.iter().map(|point| point.loss).collect();
        assert!(losses[9] < 0.8 * losses[0], "{losses:?}");
        assert_eq!(run(&base), both, "nothing is left to chance");
        let slow_encoder = run(&FinetuneConfig { lr: 1e-9, ..base.clone() });
        let slow_head = run(&FinetuneConfig { head_lr: 1e-9, ..base.clone() });
        assert!(slow_encoder.course.curve[9].loss != losses[9] && slow_head.course.curve[9].loss != losses[9]);
        // The rates fall after the eighth epoch: with a factor of almost nothing, the weights stand still from there on.
        let stopped = run(&FinetuneConfig { factor: 1e-12, momentum: 0.0, ..base.clone() });
        let going = run(&FinetuneConfig { momentum: 0.0, ..base });
        assert_eq!(stopped.course.curve[..8], going.course.curve[..8]);
        assert_ne!(stopped.course.curve[9].loss, going.course.curve[9].loss);
    }
}
