//! What a run is of: everything that gives its position and its numbers their meaning. A resume that would change it is another run.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::RunConfig;
use crate::data::Source;
use crate::error::{Error, Result};

/// The keys that define what is computed. All others may change from start to start, and say so.
const DEFINING: [&str; 9] =
    ["seed", "precision", "data.batch", "data.micro_batch", "data.drop_last", "data.limit", "views", "mixture", "method"];
/// The model, without where its weights came from: that was read when the run began.
const MODEL: &str = "model";
const FIRST_WEIGHTS: &str = "weights";
/// What may differ without a word: it changes where a run computes and what it tells, never what comes out, or it is not read.
const INDIFFERENT: [&str; 9] = ["about", "run", "out", "resume", "init_from", "device", "kernels", "data.workers", "data.prefetch"];
/// The most differences listed in an error.
const LISTED: usize = 12;

/// The fingerprint of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The values of the defining keys, as a part of the config.
    pub config: Value,
    /// Images in the training split.
    pub images: u64,
    /// BLAKE3 of their names, in their order: a bank's rows and the order of an epoch belong to these very images.
    pub names: String,
}

impl Identity {
    /// Of a resolved config and its training images.
    ///
    /// # Errors
    /// A config that has no JSON form.
    pub fn of(config: &RunConfig, train: &dyn Source) -> Result<Self> {
        let all = serde_json::to_value(config).map_err(|e| Error::run(format!("cannot read the config: {e}")))?;
        let mut hasher = blake3::Hasher::new();
        for index in 0..train.len() {
            hasher.update(train.key(index).as_bytes());
            hasher.update(b"\0");
        }
        Ok(Self { config: defining(&all), images: train.len() as u64, names: hasher.finalize().to_string() })
    }

    /// Stops where `self`, what is to be resumed, was another run than `now`.
    ///
    /// # Errors
    /// One line per difference, with both values.
    pub fn refuse_other(&self, now: &Self) -> Result<()> {
        let mut lines: Vec<String> = differences(&self.config, &now.config);
        if self.images != now.images {
            lines.push(format!("the training images were {} and are {} now", self.images, now.images));
        } else if self.names != now.names {
            lines.push(format!(
                "the training images have other names (digest {:.12}, now {:.12}): files were renamed, removed or added",
                self.names, now.names
            ));
        }
        refuse(lines)
    }
}

/// The same for a checkpoint of an older program, which says nothing of its images: by the `saved` config of the run alone.
///
/// # Errors
/// As [`Identity::refuse_other`].
pub fn refuse_other_config(saved: &Value, now: &Identity) -> Result<()> {
    refuse(differences(&defining(saved), &now.config))
}

fn refuse(mut lines: Vec<String>) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let more = lines.len().saturating_sub(LISTED);
    lines.truncate(LISTED);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    let error = Error::input("the run cannot be resumed: it would be another run");
    Err(lines
        .into_iter()
        .fold(error, Error::detail)
        .hint("put these back to what they were")
        .hint("or start a new run from its weights: --init-from RUN, with another --out"))
}

/// Keys outside the identity in which a start differs from the one before, one line each; the new values hold from here on.
pub fn changes(saved: &Value, now: &Value) -> Vec<String> {
    let strip = |value: &Value| {
        let mut value = value.clone();
        for key in DEFINING.iter().chain(&INDIFFERENT).chain(&[MODEL]) {
            remove(&mut value, key);
        }
        value
    };
    differences(&strip(saved), &strip(now))
}

/// The defining part of a config.
fn defining(all: &Value) -> Value {
    let mut out = Value::Object(Map::new());
    for key in DEFINING.iter().chain(&[MODEL]) {
        if let Some(value) = all.pointer(&format!("/{}", key.replace('.', "/"))) {
            insert(&mut out, key, value.clone());
        }
    }
    if let Some(model) = out.get_mut(MODEL).and_then(Value::as_object_mut) {
        model.remove(FIRST_WEIGHTS);
    }
    out
}

fn insert(root: &mut Value, path: &str, value: Value) {
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    let at = parents.split('.').filter(|part| !part.is_empty()).fold(root, |node, part| {
        let map = node.as_object_mut().expect("parents of keys are objects");
        map.entry(part).or_insert_with(|| Value::Object(Map::new()))
    });
    at.as_object_mut().expect("parents of keys are objects").insert(last.to_owned(), value);
}

fn remove(root: &mut Value, path: &str) {
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    let parent = parents.split('.').filter(|part| !part.is_empty()).try_fold(root, |node, part| node.get_mut(part));
    if let Some(map) = parent.and_then(Value::as_object_mut) {
        map.remove(last);
    }
}

/// Leaves that both have, with other values. A key that only one of them has belongs to another version of the program, which had its own way
/// of doing what the key now says.
fn differences(was: &Value, now: &Value) -> Vec<String> {
    let mut out = Vec::new();
    compare("", was, now, &mut out);
    out
}

fn compare(at: &str, was: &Value, now: &Value, out: &mut Vec<String>) {
    match (was, now) {
        (Value::Object(was), Value::Object(now)) => {
            for (key, value) in was {
                let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                if let Some(now) = now.get(key) {
                    compare(&path, value, now, out);
                }
            }
        }
        (was, now) if !same(was, now) => out.push(format!("`{at}` was {was} and is {now} now")),
        _ => {}
    }
}

/// Equal as values: 1 and 1.0 are one number.
fn same(a: &Value, b: &Value) -> bool {
    a == b || (a.is_number() && b.is_number() && a.as_f64() == b.as_f64())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn identity(config: Value, images: u64, names: &str) -> Identity {
        Identity { config: defining(&config), images, names: names.into() }
    }

    #[test]
    fn another_run_is_named_with_both_values() {
        let saved =
            json!({"seed": 1, "data": {"batch": 4, "workers": 2}, "model": {"width": 1, "weights": "a"}, "optim": {"lr": 0.1}});
        let was = identity(saved.clone(), 40, "abc");
        let now =
            json!({"seed": 1, "data": {"batch": 8, "workers": 9}, "model": {"width": 1.0, "weights": null}, "optim": {"lr": 0.2}});
        let error = was.refuse_other(&identity(now.clone(), 50, "abd")).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("`data.batch` was 4 and is 8 now") && said.contains("were 40 and are 50"), "{said}");
        assert!(said.contains("--init-from"), "{said}");
        assert_eq!(error.details().len(), 2, "{said}");
        assert!(was.refuse_other(&identity(saved.clone(), 40, "abd")).unwrap_err().to_string().contains("other names"));
        was.refuse_other(&was).unwrap();
        assert!(refuse_other_config(&saved, &identity(now.clone(), 50, "x")).is_err());
        refuse_other_config(&saved, &identity(saved.clone(), 50, "x")).unwrap();
        assert_eq!(changes(&saved, &now), ["`optim.lr` was 0.1 and is 0.2 now"]);
    }

    /// A key that a later version adds is no difference.
    #[test]
    fn keys_of_another_version_are_no_difference() {
        let was = identity(json!({"method": {"name": "moco", "gone": 1}}), 4, "a");
        was.refuse_other(&identity(json!({"method": {"name": "moco", "new": 2}}), 4, "a")).unwrap();
    }
}
