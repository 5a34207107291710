use burn::module::Module;
use burn::tensor::TensorData;

use super::*;
use crate::model::layers::Linear;
use crate::model::{Encoder, HeadConfig, ModelConfig, ModelName, StateDict, Trained, state};

/// Names of the parameters that a config leaves out of weight decay: with zero gradients and no momentum only decay moves a weight.
fn undecayed(name: ModelName, no_decay: Vec<OneAxis>) -> Vec<String> {
    let device = crate::device::test_device();
    let head = HeadConfig { dim: 4, ..HeadConfig::default() };
    let model = ModelConfig { name, width: 0.125, stem_channels: 8, bn_splits: 1, head, ..ModelConfig::default() };
    let mut net = model.init(3, 1, "query", &device);
    // Shifts start at zero, which decay would leave where it is.
    net.edit(&mut |all| all.into_iter().map(|one| AnyTensor(one.value.0.add_scalar(0.5))).collect());
    let before = state::collect(&net);
    let zero = |(name, size): (String, usize)| (name, Tensor::<1>::zeros([size], &device));
    let gradients = Trained::sizes(&net).into_iter().map(zero).collect();
    let config = OptimConfig { momentum: 0.0, weight_decay: 0.1, no_decay, ..OptimConfig::default() };
    Optimizer::new(config).step(&mut net, gradients, 1.0);
    let after = state::collect(&net);
    before.into_iter().filter(|(name, data)| !state::is_buffer(name) && *data == after[name]).map(|(name, _)| name).collect()
}

/// What a parameter is for is known from its layer: AlexNet's norms have no "bn" in their names.
#[test]
fn decay_leaves_out_norms_and_biases_of_every_backbone() {
    let norms = undecayed(ModelName::AlexnetHalf, vec![OneAxis::Norm]);
    let mut want: Vec<String> = (0..5).flat_map(|i| [format!("convs.{i}.1.bias"), format!("convs.{i}.1.weight")]).collect();
    want.extend((0..2).flat_map(|i| [format!("hidden.{i}.1.bias"), format!("hidden.{i}.1.weight")]));
    assert_eq!(norms, want);
    let biases = undecayed(ModelName::AlexnetHalf, vec![OneAxis::Bias]);
    assert_eq!(biases.iter().filter(|name| name.ends_with(".bias")).count(), biases.len());
    assert!(biases.contains(&"fc.bias".to_owned()) && biases.contains(&"hidden.0.0.bias".to_owned()) && biases.len() == 7 + 3);

    let norms = undecayed(ModelName::Resnet18, vec![OneAxis::Norm]);
    assert!(norms.contains(&"layer2.0.downsample.1.weight".to_owned()) && norms.contains(&"bn1.bias".to_owned()));
    assert!(!norms.contains(&"fc.bias".to_owned()) && norms.len() == 2 * 20);
    assert_eq!(undecayed(ModelName::Resnet18, vec![]), [""; 0]);
}

fn small() -> (impl Trained, StateDict) {
    let device = crate::device::test_device();
    let layer = crate::model::layers::Linear::new(2, 3, true, &device);
    let values = |n: usize| TensorData::new(vec![0.5f32; n], [n]);
    (layer, [("optim.v.weight".to_owned(), values(6)), ("optim.v.bias".to_owned(), values(3))].into())
}

#[test]
fn a_saved_state_goes_back_and_one_of_the_first_programs_too() {
    let device = crate::device::test_device();
    let (layer, state) = small();
    let mut optimizer = Optimizer::new(OptimConfig::default());
    let foreign = [("query.weight".to_owned(), TensorData::new(vec![1.0f32], [1]))];
    optimizer.restore(&state.iter().map(|(k, v)| (k.clone(), v.clone())).chain(foreign).collect(), &layer, &device).unwrap();
    assert_eq!(optimizer.state(), state);
    let old = state.iter().map(|(name, data)| (name.replace("optim.v.", "velocity."), data.clone())).collect();
    let mut from_old = Optimizer::new(OptimConfig::default());
    from_old.restore(&old, &layer, &device).unwrap();
    assert_eq!(from_old.state(), state);
}

#[test]
fn a_state_that_does_not_fit_is_refused() {
    let device = crate::device::test_device();
    let (layer, state) = small();
    let refused = |change: &dyn Fn(&mut StateDict)| {
        let mut state = state.clone();
        change(&mut state);
        let error = Optimizer::new(OptimConfig::default()).restore(&state, &layer, &device).unwrap_err();
        assert!(error.hints()[0].contains("model.weights"));
        error.to_string()
    };
    let data = |n: usize| TensorData::new(vec![0.0f32; n], [n]);
    assert!(refused(&|state| drop(state.insert("optim.v.other".into(), data(2)))).contains("belongs to no trained parameter"));
    assert!(refused(&|state| drop(state.insert("optim.v.bias".into(), data(4)))).contains("has 4 values, the parameter 3"));
    assert!(refused(&|state| drop(state.insert("optim.m.bias".into(), data(3)))).contains("of `bias` it needs [\"v\"]"));
    assert!(refused(&|state| drop(state.insert("optim.v".into(), data(3)))).contains("names no parameter"));
}

/// A velocity that is not finite would destroy the weights in one step.
#[test]
fn a_velocity_that_is_not_finite_is_named() {
    let device = crate::device::test_device();
    let (layer, state) = small();
    for value in [f32::NAN, f32::INFINITY, 1e27] {
        let mut state = state.clone();
        state.insert("optim.v.bias".into(), TensorData::new(vec![0.0, value, 0.0], [3]));
        let error = Optimizer::new(OptimConfig::default()).restore(&state, &layer, &device).unwrap_err().to_string();
        assert!(error.contains("`optim.v.bias`") && error.contains("value 1 is") && error.contains("hint:"), "{error}");
    }
}

/// Every optimizer, with the settings that change what it remembers or how.
fn all() -> [OptimConfig; 6] {
    let of = |name| OptimConfig { name, weight_decay: 0.01, ..OptimConfig::default() };
    [
        of(Name::Sgd),
        OptimConfig { nesterov: true, ..of(Name::Sgd) },
        OptimConfig { lars_clip: true, lars_exclude: vec![OneAxis::Norm], ..of(Name::Lars) },
        OptimConfig { lars_norm: LarsNorm::Decayed, ..of(Name::Lars) },
        of(Name::Adam),
        of(Name::Adamw),
    ]
}

/// Gradients of step `t`; the bias has none in the first two steps.
fn gradients_of(t: usize, device: &Device) -> NamedGradients {
    let values = |count: usize| -> Vec<f32> { (0..count).map(|i| ((7 * t + i) as f32).sin()).collect() };
    let all = [("weight", 6), ("bias", 3)].into_iter().filter(|(name, _)| t >= 2 || *name == "weight");
    all.map(|(name, count)| (name.to_owned(), Tensor::from_data(TensorData::new(values(count), [count]), device))).collect()
}

/// Whatever a rule remembers, in the checkpoint's f32: the steps after a resume have the bits of those of a run that went on. The bias is moved
/// less often than the weight.
#[test]
fn every_optimizer_goes_on_from_its_state_as_if_nothing_had_been() {
    let device = crate::device::test_device();
    for config in all() {
        for stop in [0, 1, 3, 5] {
            let first = Linear::new(2, 3, true, &device);
            let first = state::load(first, &[("weight", vec![6, 1]), ("bias", vec![3])].map(weights).into()).unwrap();
            let (mut unbroken, mut resumed) = (first.clone(), first);
            let mut optimizer = Optimizer::new(config.clone());
            (0..7).for_each(|t| optimizer.step(&mut unbroken, gradients_of(t, &device), 0.1 / (t + 1) as f64));
            let mut second = Optimizer::new(config.clone());
            for t in 0..7 {
                if t == stop {
                    let saved = second.state();
                    second = Optimizer::new(config.clone());
                    second.restore(&saved, &resumed, &device).unwrap();
                    assert_eq!(second.state(), saved);
                }
                second.step(&mut resumed, gradients_of(t, &device), 0.1 / (t + 1) as f64);
            }
            assert_eq!(state::collect(&resumed), state::collect(&unbroken), "{config:?} from step {stop}");
            assert_eq!(second.state(), optimizer.state(), "{config:?} from step {stop}");
        }
    }
}

/// Weights `[3, 2]` or `[3]` that are no zeros.
fn weights((name, shape): (&str, Vec<usize>)) -> (String, TensorData) {
    let shape = if shape.len() == 2 { vec![3, 2] } else { shape };
    let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| 0.3 + i as f32 / 8.0).collect();
    (name.to_owned(), TensorData::new(values, shape))
}

#[test]
fn a_state_of_adam_without_its_count_or_with_a_wrong_one_is_refused() {
    let device = crate::device::test_device();
    let layer = Linear::new(2, 3, true, &device);
    let config = OptimConfig { name: Name::Adam, ..OptimConfig::default() };
    let mut optimizer = Optimizer::new(config.clone());
    (0..3).for_each(|t| optimizer.step(&mut layer.clone(), gradients_of(t, &device), 0.1));
    let state = optimizer.state();
    assert_eq!(state["optim.t.weight"].try_to_vec::<f32>().unwrap(), [3.0]);
    assert_eq!(state["optim.t.bias"].try_to_vec::<f32>().unwrap(), [1.0]);
    let refused = |config: &OptimConfig, change: &dyn Fn(&mut StateDict)| {
        let mut state = state.clone();
        change(&mut state);
        let error = Optimizer::new(config.clone()).restore(&state, &layer, &device).unwrap_err();
        assert!(!error.hints().is_empty(), "{error}");
        error.to_string()
    };
    let one = |value: f32| TensorData::new(vec![value], [1]);
    assert!(refused(&config, &|state| drop(state.remove("optim.t.weight"))).contains("of `weight` it needs [\"m\", \"v\", \"t\"]"));
    assert!(refused(&config, &|state| drop(state.remove("optim.v.bias"))).contains("of `bias` it needs"));
    for value in [0.0, 2.5, -1.0, 16_777_218.0] {
        let said = refused(&config, &|state| drop(state.insert("optim.t.bias".into(), one(value))));
        assert!(said.contains(&format!("`optim.t.bias` is {value}, no number of updates")), "{said}");
    }
    assert!(refused(&config, &|state| drop(state.insert("optim.t.bias".into(), one(f32::NAN)))).contains("`optim.t.bias`"));
    let three = TensorData::new(vec![1.0f32; 3], [3]);
    assert!(
        refused(&config, &|state| drop(state.insert("optim.t.bias".into(), three.clone()))).contains("has 3 values, a count 1")
    );
    let infinite = TensorData::new(vec![0.0, f32::INFINITY, 0.0], [3]);
    assert!(refused(&config, &|state| drop(state.insert("optim.m.bias".into(), infinite.clone()))).contains("value 1 is inf"));
    // Another optimizer remembers something else.
    assert!(refused(&OptimConfig::default(), &|_| ()).contains("it needs [\"v\"] and nothing else"));
}

/// Beyond the largest count a run goes on and its checkpoint is read.
#[test]
fn counts_end_where_f32_would_be_inexact() {
    let device = crate::device::test_device();
    let mut layer = Linear::new(2, 3, true, &device);
    let config = OptimConfig { name: Name::Adamw, ..OptimConfig::default() };
    let mut optimizer = Optimizer::new(config.clone());
    optimizer.step(&mut layer, gradients_of(2, &device), 0.1);
    let mut state = optimizer.state();
    state.insert("optim.t.bias".into(), TensorData::new(vec![MOST_UPDATES as f32], [1]));
    optimizer.restore(&state, &layer, &device).unwrap();
    optimizer.step(&mut layer, gradients_of(3, &device), 0.1);
    let state = optimizer.state();
    assert_eq!(state["optim.t.bias"].try_to_vec::<f32>().unwrap(), [MOST_UPDATES as f32]);
    Optimizer::new(config).restore(&state, &layer, &device).unwrap();
}

/// What methods with a predictor train.
#[derive(Module, Debug)]
struct Pair {
    query: Encoder,
    predictor: Linear,
    prototypes: Linear,
}

/// With gradients of one and neither momentum nor decay, every weight moves by its own rate.
#[test]
fn parts_and_roles_have_rates_of_their_own() {
    let device = crate::device::test_device();
    let head = HeadConfig { dim: 4, ..HeadConfig::default() };
    let model = ModelConfig { width: 0.125, stem_channels: 8, bn_splits: 1, head, ..ModelConfig::default() };
    let linear = || Linear::new(4, 3, true, &device);
    let mut net = Pair { query: model.init(3, 1, "query", &device), predictor: linear(), prototypes: linear() };
    let part = |lr, constant| PartConfig { lr, constant };
    let config = OptimConfig {
        momentum: 0.0,
        weight_decay: 0.0,
        bias_lr: Some(0.25),
        backbone: part(3.0, false),
        head: part(0.5, false),
        predictor: part(2.0, true),
        ..OptimConfig::default()
    };
    let before = state::collect(&net);
    let ones = |(name, size): (String, usize)| (name, Tensor::<1>::ones([size], &device));
    let gradients = Trained::sizes(&net).into_iter().map(ones).collect();
    let rates = Rates { scheduled: 0.125, base: 0.5, weight_decay: None };
    Optimizer::new(config).step(&mut net, gradients, rates);
    let after = state::collect(&net);
    let one_axis = |name: &str| name.ends_with(".bias") || name.contains("bn") || name.contains("downsample.1");
    let mut seen = [0; 3];
    for (name, before) in before.iter().filter(|(name, _)| !state::is_buffer(name)) {
        let (part, rate) = match name {
            name if name.starts_with("predictor") => (0, 2.0 * 0.5),
            name if name.starts_with("prototypes") || name.starts_with("query.fc") => (1, 0.5 * 0.125),
            _ => (2, 3.0 * 0.125),
        };
        seen[part] += 1;
        let want = if one_axis(name) { rate * 0.25 } else { rate };
        let [before, after] = [before, &after[name]].map(|data| data.try_to_vec::<f32>().unwrap());
        for (before, after) in before.iter().zip(&after) {
            // A rounding of the difference of two numbers of about 1.
            assert!((f64::from(before - after) - want).abs() <= 2e-7, "{name} moves by {}, want {want}", before - after);
        }
    }
    assert!(seen[0] == 2 && seen[1] == 4 && seen[2] > 50, "{seen:?}");
}

/// Decay by the schedule takes the place of that of the config, and roles are left out of it all the same.
#[test]
fn the_decay_of_a_step_is_that_of_the_schedule() {
    let config = OptimConfig { weight_decay: 0.5, no_decay: vec![OneAxis::Bias], ..OptimConfig::default() };
    let scheduled = Rates { weight_decay: Some(0.125), ..Rates::from(1.0) };
    let decays = |rates| [Role::Weight, Role::Scale, Role::Shift, Role::Bias].map(|role| config.decay(role, rates));
    assert_eq!(decays(scheduled), [0.125, 0.125, 0.0, 0.0]);
    assert_eq!(decays(1.0.into()), [0.5, 0.5, 0.0, 0.0]);
}
