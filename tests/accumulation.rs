//! Exact accumulation: a batch in shards is the batch at once, for every method. (tests/fixtures.rs compares both with an independent oracle where
//! SplitBN has two or four groups; here it has eight, and the memories' methods have groups too.)

mod common;

use burn::tensor::{Tensor, TensorData};
use unmix::device::Opened;
use unmix::kernel::KernelPath;
use unmix::method::{BankConfig, Facts, Inputs, Length, Method, MethodConfig, Mixing, Mixture, MocoConfig, Position, Setup};
use unmix::mixture::config::Form;
use unmix::model::{HeadConfig, ModelConfig, StateDict};
use unmix::optim::{OptimConfig, Optimizer};
use unmix::rng::{Purpose, Stream};
use unmix::train::step::{Read, compute};

const BATCH: usize = 32;
const SPLITS: usize = 8;
const SIDE: (usize, usize) = (10, 12);
const STEPS: u64 = 3;
/// Small enough that a step with NCE, whose gradients are large, does not multiply roundings.
const LR: f64 = 0.005;

/// Random images `[n, 3, h, w]`.
fn images(seed: u64, step: u64, view: u64, opened: &Opened) -> Tensor<4> {
    let mut stream = Stream::new(seed, Purpose::Synthetic, &[step, view]);
    let dims = [BATCH, 3, SIDE.0, SIDE.1];
    let values: Vec<f32> = (0..dims.iter().product()).map(|_| stream.normal() as f32).collect();
    Tensor::from_data(TensorData::new(values, dims), &opened.device)
}

fn inputs(seed: u64, step: u64, method: &MethodConfig, unmix: bool, opened: &Opened) -> Inputs {
    let views = (0..method.views() as u64).map(|view| images(seed, step, view, opened)).collect();
    let mut stream = Stream::new(seed, Purpose::Synthetic, &[step]);
    // A permutation and one lambda per image: every way in which shards could mix up their rows shows.
    let mixture = unmix.then(|| Mixture {
        view: 0,
        lambda: (0..BATCH).map(|_| stream.uniform() as f32).collect(),
        partners: stream.permutation(BATCH),
    });
    let position = Position { seed: 5, epoch: 0, step };
    let facts = Facts {
        images: (0..BATCH as u32).map(|i| (i * 7 + step as u32) % 50).collect(),
        mixtures: mixture.into_iter().collect(),
        position,
        draws: None,
    };
    Inputs { views, mixed: unmix.then(|| images(seed, step, 9, opened)).into_iter().collect(), facts }
}

/// What was read in each step, and the state at the end with the optimizer's.
type Trained = (Vec<Read>, StateDict);

/// Three steps.
fn train(seed: u64, config: &MethodConfig, unmix: bool, shards: usize, opened: &Opened) -> Trained {
    let model = ModelConfig {
        width: 0.0625,
        stem_channels: 4,
        bn_splits: SPLITS,
        head: HeadConfig { dim: 16, ..HeadConfig::default() },
        ..ModelConfig::default()
    };
    let mixing = Mixing { form: if unmix { Form::Unmix } else { Form::None }, ..Mixing::default() };
    let setup = Setup { mixing, length: Length { per_epoch: 2, steps: STEPS }, ..Setup::new(opened, &model, 50, 7) };
    let mut method: Box<dyn Method> = config.init(&setup);
    let mut optimizer = Optimizer::new(OptimConfig::default());
    let free = &mut |_: &'static str| Ok(());
    let mut reads = Vec::new();
    for step in 0..STEPS {
        let computed = compute(method.as_mut(), inputs(seed, step, config, unmix, opened), shards, free).unwrap();
        reads.push(computed.read(KernelPath::Tensor).unwrap());
        computed.apply(method.as_mut(), &mut optimizer, LR, 1.0, free).unwrap();
    }
    let mut state = method.state();
    state.extend(optimizer.state());
    (reads, state)
}

/// The largest difference of two tensors, over the largest value, which counts as at least .1.
fn off(got: &TensorData, want: &TensorData) -> f32 {
    let [got, want] = [got, want].map(|data| data.try_to_vec::<f32>().unwrap());
    let largest = want.iter().fold(0.1f32, |largest, w| largest.max(w.abs()));
    got.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max) / largest
}

/// The tensor of a state that is off the most, and by how much.
fn worst<'a>(got: &StateDict, want: &'a StateDict) -> (f32, &'a str) {
    assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    let all = want.iter().map(|(name, data)| (off(&got[name], data), name.as_str()));
    all.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

/// The bound of `trace_production`, for three steps: they multiply roundings.
const BOUND: f64 = 1e-4;
/// Where a ReLU sits within rounding, the order of a sum decides about a gradient: the golden traces are of draws without such places. A mistake
/// moves every draw by far more than the bound (the margins of `trace_production`), a ReLU only some of these.
const DRAWS: u64 = 8;

/// The loss of the first step within 1e-6, which is a few roundings of a mean, in every draw; everything else, in all three steps and in the state
/// after them, within the bound in one of the draws.
fn check(name: &str, config: &MethodConfig, unmix: bool) {
    for opened in common::devices() {
        let at = format!("{name} on {}", opened.info.name);
        let mut found = Vec::new();
        let within = (0..DRAWS).any(|seed| {
            let (want, state) = train(seed, config, unmix, 1, &opened);
            found.push([2, 4, 8].map(|shards| {
                let (got, sharded) = train(seed, config, unmix, shards, &opened);
                let difference = (got[0].loss - want[0].loss).abs();
                let allowed = 1e-6 * want[0].loss.abs().max(1.0);
                assert!(difference <= allowed, "{at}, {shards} shards: the first loss is off by {difference:e}");
                let (tensors, tensor) = worst(&sharded, &state);
                let numbers = got.iter().zip(&want).map(|(got, want)| numbers_off(got, want)).fold(0.0, f64::max);
                (f64::from(tensors).max(numbers), tensor.to_owned())
            }));
            found.last().unwrap().iter().all(|(off, _)| *off <= BOUND)
        });
        assert!(within, "{at}: in no draw do 2, 4 and 8 shards come to what one does: {found:?}");
        println!("{at}: off by {:?}, {} draws", found.last().unwrap(), found.len());
    }
}

/// The largest difference of the numbers of a step, relative to each, which counts as at least .1.
fn numbers_off(got: &Read, want: &Read) -> f64 {
    let all = |read: &Read| {
        let own = [("loss".to_owned(), read.loss), ("gradient norm".to_owned(), read.gradient_norm)];
        // A deviation over fewer rows is another number: the log has the mean over the parts.
        let signals = read.signals.iter().filter(|(name, _)| name != "spread").cloned();
        own.into_iter().chain(read.parts.clone()).chain(signals).collect::<Vec<_>>()
    };
    let (got, want) = (all(got), all(want));
    assert_eq!(got.iter().map(|(name, _)| name).collect::<Vec<_>>(), want.iter().map(|(name, _)| name).collect::<Vec<_>>());
    got.iter().zip(&want).map(|((_, got), (_, want))| (got - want).abs() / want.abs().max(0.1)).fold(0.0, f64::max)
}

fn moco(config: MocoConfig) -> MethodConfig {
    let memory = serde_json::from_str(r#"{"size": 70}"#).unwrap();
    MethodConfig::Moco(MocoConfig { memory, temperature: 0.2, key_momentum: 0.9, ..config })
}

fn nce() -> unmix::loss::LossName {
    unmix::loss::LossName::Nce
}

#[test]
fn moco_softmax_and_nce() {
    check("moco", &moco(MocoConfig::default()), false);
    check("moco with NCE", &moco(MocoConfig { loss: nce(), ..MocoConfig::default() }), false);
}

#[test]
fn moco_in_both_directions() {
    check("symmetric moco", &moco(MocoConfig { symmetric: true, ..MocoConfig::default() }), false);
}

#[test]
fn unmix_in_one_and_both_directions() {
    check("unmix", &moco(MocoConfig::default()), true);
    check("symmetric unmix", &moco(MocoConfig { symmetric: true, ..MocoConfig::default() }), true);
    let masked = MocoConfig { mask_same_index: true, in_batch_negatives: true, ..MocoConfig::default() };
    check("unmix with masks", &moco(masked), true);
}

#[test]
fn insdis_and_cmc_with_every_kind_of_negatives() {
    let bank = BankConfig { negatives: 20, temperature: 0.2, ..BankConfig::default() };
    for (name, of) in [("insdis", MethodConfig::Insdis as fn(BankConfig) -> MethodConfig), ("cmc", MethodConfig::Cmc)] {
        check(&format!("{name} with NCE"), &of(BankConfig { loss: nce(), ..bank.clone() }), true);
        let softmax = BankConfig { loss: unmix::loss::LossName::Softmax, ..bank.clone() };
        check(name, &of(softmax.clone()), true);
        check(&format!("{name}, shared"), &of(BankConfig { shared_negatives: true, mask_self: true, ..softmax }), true);
    }
}

/// Methods whose losses couple the rows of the batch, and those whose targets are of the whole batch. Their heads have no norms here: with norms a
/// batch cannot be computed in parts, and a config that asks for it is refused.
#[test]
fn methods_of_pairs_with_every_mixture() {
    for json in [
        r#"{"name": "simclr", "temperature": 0.5}"#,
        r#"{"name": "simclr", "loss": "dclw"}"#,
        r#"{"name": "byol", "predictor": {"hidden": 8, "norm": false}, "key_momentum": 0.9}"#,
        r#"{"name": "byol", "predictor": {"hidden": 8, "norm": false}, "key_momentum": 0.9, "shuffle_bn": true, "directions": "mean"}"#,
        r#"{"name": "simsiam", "predictor": {"hidden": 8, "norm": false}}"#,
        r#"{"name": "barlow", "off_diagonal": 0.01, "scale": 0.1}"#,
        r#"{"name": "swav", "prototypes": 6, "epsilon": 0.2, "freeze_prototypes_steps": 1, "memory": {"size": 20, "start_epoch": 0}}"#,
    ] {
        let config: MethodConfig = serde_json::from_str(json).unwrap();
        for unmix in [false, true] {
            if let (MethodConfig::Barlow(_), true) = (&config, unmix) {
                // One weight per batch: the inputs here have one per image.
                continue;
            }
            check(&format!("{json}{}", if unmix { " with unmix" } else { "" }), &config, unmix);
        }
    }
}
