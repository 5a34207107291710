//! The config of a run that has been: an earlier version of the program may have read keys that this one does not.

use serde_json::{Value, json};

use super::{RunConfig, layer};
use crate::error::{Error, Result};
use crate::unread;

/// What training alone reads. Nothing of it changes what a trained encoder says of an image.
const OF_TRAINING: [&str; 12] = [
    "about",
    "mixture",
    "method",
    "kernels",
    "optim",
    "schedule",
    "checkpoint",
    "log",
    "data.batch",
    "data.micro_batch",
    "data.prefetch",
    "data.workers",
];

/// The most keys that are left out one after the other.
const ROUNDS: usize = 100;

/// The config of a saved run for an evaluation, a report or an export, without the keys that this version refuses and does not need for
/// that, whose paths come beside it. Never to be trained with: it would be another run.
///
/// # Errors
/// What is wrong concerns the encoder, its images or an evaluation.
pub fn readable(mut value: Value) -> Result<(Value, Vec<String>)> {
    let mut dropped: Vec<String> = Vec::new();
    for _ in 0..ROUNDS {
        let refused = match layer::resolve_rest::<RunConfig>(value.clone()) {
            Err(error) => return Err(unreadable(&error)),
            Ok((config, wrong)) if wrong.is_empty() => match config.problems() {
                problems if problems.is_empty() => return Ok((value, dropped)),
                problems => problems.iter().map(|line| of_line(line)).collect::<Option<Vec<_>>>(),
            },
            Ok((_, wrong)) => wrong.iter().map(|one| (one.unknown || of_training(&one.path)).then(|| one.path.clone())).collect(),
        };
        let Some(refused) = refused else { break };
        for path in refused {
            match path.split('.').next() {
                // A schedule without a length is none.
                Some("schedule") => value["schedule"] = json!({"epochs": 1}),
                _ => layer::remove(&mut value, &path),
            }
            if !dropped.contains(&path) {
                dropped.push(path);
            }
        }
    }
    RunConfig::from_value(value.clone()).map(|_| (value, dropped)).map_err(|error| unreadable(&error))
}

/// The key that a problem is about, if it may be left out.
fn of_line(line: &str) -> Option<String> {
    let key = unread::key_of(line).or_else(|| line.split('`').nth(1).filter(|key| of_training(key)));
    key.map(str::to_owned)
}

/// Names decide what a run is: they are never left out.
fn of_training(path: &str) -> bool {
    let below = |table: &str| path.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    !["method", "method.name", "mixture.name"].contains(&path) && OF_TRAINING.iter().any(|table| below(table))
}

fn unreadable(error: &Error) -> Error {
    let saved = Error::input(format!("the config of the run: {}", error.message()));
    let saved = error.details().iter().fold(saved, |saved, detail| saved.detail(detail));
    saved.hint("it was written by another version of the program, or changed by hand")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> (RunConfig, Vec<String>) {
        let (value, dropped) = readable(value).unwrap();
        (RunConfig::from_value(value).unwrap(), dropped)
    }

    /// Keys that older versions took, or ignored.
    #[test]
    fn what_this_version_refuses_is_left_out_and_named() {
        let (config, dropped) = read(json!({
            "schedule": {"epochs": 3}, "seed": 7, "mixture": {"name": "im"},
            "method": {"name": "moco", "loss": "nce", "nce_z": "ema", "mask_same_index": true, "in_batch_negatives": true},
        }));
        assert_eq!(dropped, ["method.nce_z", "method.mask_same_index", "method.in_batch_negatives"]);
        assert_eq!((config.seed, config.schedule.epochs, config.mixture.name.text()), (7, Some(3), "im"));
        let (config, dropped) = read(json!({
            "schedule": {"epochs": 3, "milestones": [1]}, "model": {"name": "alexnet_half", "width": 0.5, "stem": "imagenet"},
            "method": {"name": "cmc"}, "views": {"color_space": "ycbcr"}, "unheard": {"of": 1}, "log": {"colour": 1},
        }));
        assert_eq!(config.model.name.text(), "alexnet_half");
        let has = |key: &str| dropped.iter().any(|path| path == key);
        assert!(["unheard", "log.colour", "model.width", "model.stem"].into_iter().all(has), "{dropped:?}");
    }

    #[test]
    fn a_run_of_today_loses_nothing() {
        let value = serde_json::to_value(RunConfig::from_value(json!({"schedule": {"epochs": 3}})).unwrap().resolved()).unwrap();
        assert_eq!(readable(value.clone()).unwrap(), (value, vec![]));
    }

    /// A net or a data set that this version cannot make is none that could be evaluated.
    #[test]
    fn what_decides_the_encoder_is_never_left_out() {
        for bad in [
            json!({"model": {"name": "resnet9"}}),
            json!({"model": {"width": 17}}),
            json!({"views": {"crop": {"size": "large"}}}),
            json!({"method": {"name": "dino"}}),
            json!({"mixture": {"name": "cutmix"}}),
            json!({"data": {"source": {"name": "coco"}}}),
        ] {
            let mut value = json!({"schedule": {"epochs": 3}});
            value.as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
            let error = readable(value).unwrap_err();
            assert!(error.message().contains("config of the run") && !error.hints().is_empty(), "{bad}: {error}");
        }
    }

    /// Trained anew, the same file is refused as before.
    #[test]
    fn training_is_not_lenient() {
        assert!(RunConfig::from_value(json!({"schedule": {"epochs": 3}, "method": {"name": "moco", "nce_z": "ema"}})).is_err());
    }
}
