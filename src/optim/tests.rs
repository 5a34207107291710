use burn::tensor::TensorData;

use super::*;
use crate::model::{HeadConfig, ModelConfig, ModelName, StateDict, Trained, state};

/// Names of the parameters that a config leaves out of weight decay: with zero gradients and no momentum only decay moves a weight.
fn undecayed(name: ModelName, no_decay: Vec<NoDecay>) -> Vec<String> {
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
    let norms = undecayed(ModelName::AlexnetHalf, vec![NoDecay::Norm]);
    let mut want: Vec<String> = (0..5).flat_map(|i| [format!("convs.{i}.1.bias"), format!("convs.{i}.1.weight")]).collect();
    want.extend((0..2).flat_map(|i| [format!("hidden.{i}.1.bias"), format!("hidden.{i}.1.weight")]));
    assert_eq!(norms, want);
    let biases = undecayed(ModelName::AlexnetHalf, vec![NoDecay::Bias]);
    assert_eq!(biases.iter().filter(|name| name.ends_with(".bias")).count(), biases.len());
    assert!(biases.contains(&"fc.bias".to_owned()) && biases.contains(&"hidden.0.0.bias".to_owned()) && biases.len() == 7 + 3);

    let norms = undecayed(ModelName::Resnet18, vec![NoDecay::Norm]);
    assert!(norms.contains(&"layer2.0.downsample.1.weight".to_owned()) && norms.contains(&"bn1.bias".to_owned()));
    assert!(!norms.contains(&"fc.bias".to_owned()) && norms.len() == 2 * 20);
    assert_eq!(undecayed(ModelName::Resnet18, vec![]), [""; 0]);
}

#[test]
fn the_norm_is_bounded_as_pytorch_bounds_it() {
    let clip = |clip_norm, norm| OptimConfig { clip_norm, ..OptimConfig::default() }.clip(norm);
    assert_eq!([clip(None, 1e9), clip(Some(2.0), 1.5), clip(Some(2.0), 0.0)], [1.0, 1.0, 1.0]);
    assert!((clip(Some(2.0), 8.0) - 2.0 / (8.0 + 1e-6)).abs() < 1e-15);
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
