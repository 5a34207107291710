//! Where a run is and what it means: the validated part of a checkpoint that is text.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::train::identity::Identity;
use crate::train::meter::Totals;
use crate::train::summary::{Best, Knn};

/// Raised when a reader of an older form could misread a newer one. 2: the optimizer's tensors are named `optim.SLOT.PARAMETER`. 3: there is a
/// manifest, and the state says what the run is of.
pub const FORMAT: u32 = 3;

/// Where a run is. With the config and the tensors, everything that a resume needs: all randomness is a function of the position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Form of the folder.
    pub format: u32,
    /// Version of the program that wrote it.
    pub version: String,
    /// Completed steps.
    pub step: u64,
    /// Completed epochs.
    pub epoch: u64,
    /// Completed steps of the epoch that has begun; checkpoints of older programs do not say.
    #[serde(default)]
    pub step_in_epoch: Option<u64>,
    /// What the run is of; checkpoints of older programs do not say.
    #[serde(default)]
    pub identity: Option<Identity>,
    /// Name of the method.
    pub method: String,
    /// Seconds spent so far, over all starts.
    pub wall_s: f64,
    /// What the untrained encoder scored.
    pub untrained: Option<Knn>,
    /// Uses so far of images that could not be read, each replaced by another; kept for checkpoints of older programs.
    pub broken: u64,
    /// The images that could not be read so far, by index, in order and each once.
    #[serde(default)]
    pub broken_images: Vec<u32>,
    /// The loss of the last step; `null` before the first.
    #[serde(default = "unknown", deserialize_with = "crate::json::number")]
    pub last_loss: f64,
    /// Sums over the steps of the current epoch.
    pub epoch_sums: Sums,
    /// What the run has done and taken so far, over all starts; zeros in checkpoints of older programs.
    #[serde(default)]
    pub run: Totals,
    /// The same for the current epoch.
    #[serde(default)]
    pub epoch_run: Totals,
    /// The best kNN result of a monitored epoch so far.
    #[serde(default)]
    pub best: Option<Best>,
    /// The best result of a monitored epoch's linear probe so far.
    #[serde(default)]
    pub best_linear: Option<Best>,
    /// Steps up to which the encoder was looked at where that was due; checkpoints of older programs do not say.
    #[serde(default)]
    pub watched: Option<u64>,
    /// Whether the last monitored encoder had collapsed: it is said once, not at every epoch.
    #[serde(default)]
    pub collapsed: bool,
}

impl State {
    /// The state before the first step.
    pub fn start(method: &str, identity: Option<Identity>) -> Self {
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            step: 0,
            epoch: 0,
            step_in_epoch: Some(0),
            identity,
            method: method.into(),
            wall_s: 0.0,
            untrained: None,
            broken: 0,
            broken_images: Vec::new(),
            last_loss: f64::NAN,
            epoch_sums: Sums::default(),
            run: Totals::default(),
            epoch_run: Totals::default(),
            best: None,
            best_linear: None,
            watched: Some(0),
            collapsed: false,
        }
    }

    /// Reads the text of a state.
    ///
    /// # Errors
    /// No state, one of a newer form, or numbers that contradict each other.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(text).map_err(|error| Error::input(format!("the state is damaged: {error}")))?;
        // Before the rest is understood: a newer form may have other keys.
        if let Some(format) = value["format"].as_u64().filter(|&format| format > u64::from(FORMAT)) {
            let version = value["version"].as_str().unwrap_or("a newer version").escape_debug();
            return Err(Error::input(format!("it has form {format}, this program reads up to {FORMAT}"))
                .hint(format!("it was written by unmix {version}")));
        }
        let state: Self = serde_json::from_value(value).map_err(|error| Error::input(format!("the state is damaged: {error}")))?;
        state.consistent()
    }

    /// Counters that no run can have are damage, whatever the hashes say of an old checkpoint without any.
    fn consistent(self) -> Result<Self> {
        let damaged = |what: String| Err(Error::input(format!("the state is damaged: {what}")));
        if self.epoch > self.step {
            return damaged(format!("{} epochs after {} steps", self.epoch, self.step));
        }
        if self.step_in_epoch.is_some_and(|within| within > self.step) {
            return damaged(format!("step {} of an epoch after {} steps", self.step_in_epoch.unwrap_or(0), self.step));
        }
        let times = [&self.run, &self.epoch_run].map(|totals| [totals.seconds, totals.waited_s]);
        if times.as_flattened().iter().chain([&self.wall_s]).any(|seconds| !(seconds.is_finite() && *seconds >= 0.0)) {
            return damaged("a time that is negative or no number".to_owned());
        }
        Ok(self)
    }
}

fn unknown() -> f64 {
    f64::NAN
}

/// Sums over the steps of an epoch, for its means.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "AnySums")]
pub struct Sums {
    /// Steps summed up.
    pub steps: u64,
    /// Of the losses.
    pub loss: f64,
    /// Of the method's signals, in its order.
    pub signals: Vec<(String, f64)>,
}

/// [`Sums`], or what programs wrote that knew one signal: loss, positive probability, steps.
#[derive(Deserialize)]
#[serde(untagged)]
enum AnySums {
    Old(f64, f64, u64),
    Now { steps: u64, loss: f64, signals: Vec<(String, f64)> },
}

impl From<AnySums> for Sums {
    fn from(sums: AnySums) -> Self {
        match sums {
            AnySums::Old(loss, positive, steps) => {
                Self { steps, loss, signals: vec![(crate::method::POSITIVE.to_owned(), positive)] }
            }
            AnySums::Now { steps, loss, signals } => Self { steps, loss, signals },
        }
    }
}

impl Sums {
    /// One more step.
    pub fn add(&mut self, loss: f64, signals: &[(String, f64)]) {
        self.steps += 1;
        self.loss += loss;
        if self.signals.is_empty() {
            self.signals = signals.to_vec();
        } else {
            self.signals.iter_mut().zip(signals).for_each(|((_, sum), (_, value))| *sum += value);
        }
    }

    /// Mean loss and mean signals.
    pub fn means(&self) -> (f64, Vec<(String, f64)>) {
        let count = self.steps as f64;
        (self.loss / count, self.signals.iter().map(|(name, sum)| (name.clone(), sum / count)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State { last_loss: 1.5, ..State::start("moco", None) }
    }

    fn parse(value: &Value) -> Result<State> {
        State::parse(&serde_json::to_vec(value).unwrap())
    }

    /// Written before runs were monitored.
    #[test]
    fn a_state_without_monitors_is_read() {
        let mut value = serde_json::to_value(State { best: Some(Best { top1: 51.0, epoch: 3, step: None }), ..state() }).unwrap();
        let object = value.as_object_mut().unwrap();
        for key in ["best", "best_linear", "collapsed"] {
            assert!(object.remove(key).is_some(), "{key}");
        }
        assert_eq!(parse(&value).unwrap(), state());
    }

    /// Written when methods had one signal and runs counted seconds alone.
    #[test]
    fn a_state_of_the_first_form_is_read() {
        let mut value = serde_json::to_value(state()).unwrap();
        let object = value.as_object_mut().unwrap();
        object.insert("epoch_sums".into(), serde_json::json!([12.5, 0.75, 3]));
        object.insert("format".into(), 1.into());
        for key in ["run", "epoch_run", "identity", "step_in_epoch", "broken_images", "last_loss", "watched"] {
            assert!(object.remove(key).is_some(), "{key}");
        }
        let state = parse(&value).unwrap();
        let sums = Sums { steps: 3, loss: 12.5, signals: vec![("positive_prob".into(), 0.75)] };
        assert_eq!((state.epoch_sums, state.run, state.last_loss.is_nan()), (sums, Totals::default(), true));
    }

    #[test]
    fn a_newer_form_and_contradictions_are_refused() {
        let with = |key: &str, new: Value| {
            let mut value = serde_json::to_value(state()).unwrap();
            value[key] = new;
            parse(&value).unwrap_err().to_string()
        };
        assert!(with("format", 99.into()).contains("form 99"));
        assert!(with("epoch", 7.into()).contains("7 epochs after 0 steps"));
        assert!(with("step_in_epoch", 7.into()).contains("step 7 of an epoch"));
        assert!(with("wall_s", (-1.0).into()).contains("negative"));
        assert!(with("step", Value::Null).contains("damaged"));
        assert!(State::parse(b"{\"format\":").unwrap_err().to_string().contains("damaged"));
        assert!(State::parse(b"[]").is_err() && State::parse(b"").is_err());
    }

    #[test]
    fn a_loss_that_is_no_number_survives() {
        let text = serde_json::to_vec(&State::start("moco", None)).unwrap();
        assert!(State::parse(&text).unwrap().last_loss.is_nan());
    }

    #[test]
    fn sums_become_means() {
        let mut sums = Sums::default();
        let signals = |a: f64, b: f64| vec![("a".to_owned(), a), ("b".to_owned(), b)];
        sums.add(1.0, &signals(0.5, 4.0));
        sums.add(2.0, &signals(1.5, 2.0));
        assert_eq!(sums.means(), (1.5, signals(1.0, 3.0)));
        let text = serde_json::to_string(&sums).unwrap();
        assert_eq!(serde_json::from_str::<Sums>(&text).unwrap(), sums);
    }

    #[test]
    fn of_equal_results_the_earlier_is_the_best() {
        let [third, fifth] = [3, 5].map(|epoch| Best { top1: 51.0, epoch, step: None });
        assert_eq!([fifth.or(Some(third)), fifth.or(None)], [third, fifth]);
        let better = Best { top1: 51.5, epoch: 9, step: None };
        assert_eq!([better.or(Some(third)), Best { top1: 50.0, epoch: 9, step: None }.or(Some(third))], [better, third]);
    }
}
