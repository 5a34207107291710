//! Pieces of a method's saved state.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use crate::error::{Error, Result};
use crate::model::state::{self, StateDict};
use crate::model::tensors::{SANE, first_bad};

/// All tensors of a module, their names behind `prefix` and a dot.
pub fn module<M: Module>(prefix: &str, module: &M) -> StateDict {
    state::collect(module).into_iter().map(|(name, data)| (format!("{prefix}.{name}"), data)).collect()
}

/// The tensors behind a prefix (with its dot), without it.
pub fn part(state: &StateDict, prefix: &str) -> StateDict {
    state.iter().filter_map(|(name, data)| Some((name.strip_prefix(prefix)?.to_owned(), data.clone()))).collect()
}

/// Checks every tensor of a saved state before any of it is put back: its name is one of `names` or belongs to one of `nets`, and every value
/// is finite.
///
/// # Errors
/// Names the tensor.
pub fn check(state: &StateDict, nets: &[&str], names: &[&str]) -> Result<()> {
    let of_net = |name: &str| name.split_once('.').is_some_and(|(net, _)| nets.contains(&net));
    if let Some(other) = state.keys().find(|name| !names.contains(&name.as_str()) && !of_net(name)) {
        return Err(foreign(format!("the checkpoint's `{other}` belongs to nothing that the method has")));
    }
    first_bad(state, SANE).map_or(Ok(()), |(name, what)| Err(state::spoilt(&name, &what)))
}

/// The tensor `name` of the shape `want`.
///
/// # Errors
/// There is none, or one of another shape.
pub fn tensor<'a>(state: &'a StateDict, name: &str, want: &[usize]) -> Result<&'a TensorData> {
    let data = state.get(name).ok_or_else(|| foreign(format!("the checkpoint holds no `{name}`")))?;
    if data.shape().to_vec() != want {
        return Err(Error::input(format!("the checkpoint's `{name}` is {:?}, the run's {want:?}", data.shape().to_vec()))
            .hint("the dataset, `method.memory.size` and `model.head.dim` must be those of the checkpoint"));
    }
    Ok(data)
}

/// Whole numbers from `least` to below `end`, saved as floats, `[n]`.
///
/// # Errors
/// As [`tensor`], and a value that is no such number.
pub fn whole(state: &StateDict, name: &str, n: usize, least: i64, end: usize) -> Result<Vec<i64>> {
    let values = tensor(state, name, &[n])?.try_to_vec::<f32>().expect("a state dict holds f32 tensors");
    let fits = |value: &f32| value.fract() == 0.0 && (*value as i64) >= least && (*value as i64) < end as i64;
    match values.iter().position(|value| !fits(value)) {
        None => Ok(values.into_iter().map(|value| value as i64).collect()),
        Some(at) => {
            let want = format!("value {at} is {}, not a whole number from {least} to {}", values[at], end.saturating_sub(1));
            Err(state::spoilt(name, &want))
        }
    }
}

fn foreign(fact: String) -> Error {
    Error::input(fact).hint("it was written by another method or with other keys: `method` must be that of the checkpoint")
}

/// Saves an optional number.
pub fn put(all: &mut StateDict, name: &str, value: Option<&Tensor<1>>) {
    if let Some(value) = value {
        all.insert(name.to_owned(), state::now(value.clone()));
    }
}

/// The constant of NCE, `[1]`, where one was measured.
///
/// # Errors
/// It is no number above 0.
pub fn constant(state: &StateDict, name: &str, device: &Device) -> Result<Option<Tensor<1>>> {
    if !state.contains_key(name) {
        return Ok(None);
    }
    let data = tensor(state, name, &[1])?;
    match data.as_slice::<f32>() {
        Ok([z]) if *z > 0.0 && z.is_finite() => Ok(Some(Tensor::from_data(data.clone(), device))),
        other => Err(state::spoilt(name, &format!("it is {other:?}, not a number above 0"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Opened;
    use crate::method::{Method, MethodConfig, Setup};
    use crate::model::{HeadConfig, ModelConfig, ModelName};

    fn method(config: serde_json::Value, opened: &Opened) -> Box<dyn Method> {
        let config: MethodConfig = serde_json::from_value(config).unwrap();
        let head = HeadConfig { dim: 4, ..HeadConfig::default() };
        let name = ModelName::Resnet18;
        let model = ModelConfig { name, width: 0.125, stem_channels: 8, bn_splits: 1, head, ..ModelConfig::default() };
        config.init(&Setup::new(opened, &model, 6, 1))
    }

    fn one(value: f32) -> TensorData {
        TensorData::new(vec![value], [1])
    }

    /// Every tensor of every method: spoilt, of another shape, gone, or one too many. Each time the error names it.
    #[test]
    fn a_state_goes_back_whole_or_not_at_all() {
        let opened = crate::device::open("cpu").unwrap();
        for (config, extra) in [
            (serde_json::json!({"name": "moco", "memory": {"size": 5}, "mask_same_index": true}), vec!["nce_z"]),
            (serde_json::json!({"name": "insdis", "negatives": 3}), vec!["nce_z"]),
            (serde_json::json!({"name": "cmc", "negatives": 3}), vec!["nce_z_l", "nce_z_ab"]),
            (serde_json::json!({"name": "simclr"}), vec![]),
            (serde_json::json!({"name": "byol", "predictor": {"hidden": 3}}), vec![]),
            (serde_json::json!({"name": "simsiam", "predictor": {"hidden": 3}}), vec![]),
            (serde_json::json!({"name": "barlow"}), vec![]),
            (serde_json::json!({"name": "swav", "prototypes": 3, "memory": {"size": 5}}), vec![]),
        ] {
            let fresh = || method(config.clone(), &opened);
            let mut good = fresh().state();
            good.extend(extra.iter().map(|name| ((*name).to_owned(), one(3.0))));
            let mut back = fresh();
            back.restore(&good).unwrap();
            assert_eq!(back.state(), good, "{config}");
            let refused = |name: &str, change: Option<TensorData>| {
                let mut state = good.clone();
                match change {
                    Some(data) => drop(state.insert(name.to_owned(), data)),
                    None => drop(state.remove(name)),
                }
                let error = fresh().restore(&state).expect_err(name).to_string();
                let short = name.split_once('.').map_or(name, |(_, rest)| rest);
                assert!(error.contains(short) && error.contains("hint:"), "{name}: {error}");
            };
            for (name, data) in &good {
                let mut values = data.try_to_vec::<f32>().unwrap();
                *values.last_mut().unwrap() = f32::NAN;
                refused(name, Some(TensorData::new(values, data.shape().to_vec())));
                refused(name, Some(TensorData::new(vec![0.5f32; 77], [77])));
                if !extra.contains(&name.as_str()) {
                    refused(name, None);
                }
            }
            refused("velvet", Some(one(0.0)));
            extra.iter().for_each(|name| refused(name, Some(one(0.0))));
        }
    }

    #[test]
    fn a_position_is_a_whole_number_in_range() {
        let opened = crate::device::open("cpu").unwrap();
        let config = serde_json::json!({"name": "moco", "memory": {"size": 5}, "mask_same_index": true});
        let good = method(config.clone(), &opened).state();
        for (name, value) in [("queue_cursor", 5.0f32), ("queue_cursor", -1.0), ("queue_cursor", 1.5), ("queue_images", 6.0)] {
            let mut state = good.clone();
            let n = state[name].num_elements();
            state.insert(name.to_owned(), TensorData::new(vec![value; n], [n]));
            let error = method(config.clone(), &opened).restore(&state).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("whole number"), "{error}");
        }
    }
}
