//! A checkpoint: the folder `checkpoint/` with `state.json` (where the run is) and `tensors.safetensors` (everything it has learnt).

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files;
use crate::model::StateDict;
use crate::model::tensors::{read_tensors, write_tensors};
use crate::optim::is_slot;
use crate::train::meter::Totals;
use crate::train::summary::{Best, Knn};

const TENSORS: &str = "tensors.safetensors";
const STATE: &str = "state.json";
/// Attempts while a writer is swapping the folder.
const AWAY: usize = 5;
/// Attempts while a writer keeps replacing the folder under the reader.
const REPLACED: usize = 50;
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);
/// Raised when a reader of an older form could misread a newer one. 2: the optimizer's tensors are named `optim.SLOT.PARAMETER`.
const FORMAT: u32 = 2;

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
    /// Name of the method.
    pub method: String,
    /// Seconds spent so far, over all starts.
    pub wall_s: f64,
    /// What the untrained encoder scored.
    pub untrained: Option<Knn>,
    /// Images replaced so far because they could not be read.
    pub broken: u64,
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
    /// Whether the last monitored encoder had collapsed: it is said once, not at every epoch.
    #[serde(default)]
    pub collapsed: bool,
}

impl State {
    /// The state before the first step.
    pub fn start(method: &str) -> Self {
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            step: 0,
            epoch: 0,
            method: method.into(),
            wall_s: 0.0,
            untrained: None,
            broken: 0,
            epoch_sums: Sums::default(),
            run: Totals::default(),
            epoch_run: Totals::default(),
            best: None,
            collapsed: false,
        }
    }
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

/// A checkpoint in memory.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Position and counters.
    pub state: State,
    /// Weights, running statistics, memories, and what the optimizer remembers (`optim.*`).
    pub tensors: StateDict,
}

impl Checkpoint {
    /// What the method has learnt: the tensors without those of the optimizer.
    pub fn learnt(&self) -> StateDict {
        self.tensors.iter().filter(|(name, _)| !is_slot(name)).map(|(name, data)| (name.clone(), data.clone())).collect()
    }

    /// Writes the folder as a whole: a reader sees the previous checkpoint or this one.
    ///
    /// # Errors
    /// The disk is full or not writable; the previous checkpoint is then still in place.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let scratch = files::scratch_dir(folder)?;
        write_tensors(&scratch.join(TENSORS), &self.tensors)?;
        let text = serde_json::to_vec_pretty(&self.state).map_err(|e| Error::run(format!("cannot write the state: {e}")))?;
        files::write_atomic(scratch.join(STATE), &text)?;
        files::replace_dir(&scratch, folder)
    }

    /// Reads the folder and changes nothing there: the run may be in training, and replace it meanwhile.
    ///
    /// # Errors
    /// No checkpoint there, a damaged one, or one of a newer form.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let read = files::standing_dir(folder).and_then(|place| {
                let state = read_state(&place)?;
                Ok(Self { state, tensors: read_tensors(&place.join(TENSORS))? })
            });
            // Both files are of one checkpoint if none took its place while they were read.
            let unchanged = |read: &Self| step_of(folder).is_ok_and(|step| step == read.state.step);
            match read {
                Ok(read) if unchanged(&read) => return Ok(read),
                Err(error) if attempts >= AWAY => return Err(error),
                Ok(_) if attempts >= REPLACED => {
                    return Err(Error::run(format!("`{}` is replaced faster than it can be read", folder.display()))
                        .hint("wait for the run's end, or save less often (`checkpoint.every_steps`)"));
                }
                _ => std::thread::sleep(PAUSE),
            }
        }
    }
}

/// Where the run of a checkpoint is.
fn read_state(folder: &Path) -> Result<State> {
    let path = folder.join(STATE);
    let text = std::fs::read(&path)
        .map_err(|e| Error::io("read", &path, &e).hint("a run writes its first checkpoint at its first interval"))?;
    let state: State = serde_json::from_slice(&text)
        .map_err(|e| Error::input(format!("`{}` is damaged: {e}", path.display())).hint("start the run anew"))?;
    if state.format > FORMAT {
        return Err(Error::input(format!("`{}` has form {}, this program reads up to {FORMAT}", folder.display(), state.format))
            .hint(format!("it was written by unmix {}", state.version)));
    }
    Ok(state)
}

/// Completed steps of the checkpoint in a folder.
///
/// # Errors
/// As [`Checkpoint::read`].
pub fn step_of(folder: &Path) -> Result<u64> {
    Ok(read_state(&files::standing_dir(folder)?)?.step)
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    fn checkpoint(step: u64) -> Checkpoint {
        let tensors = [("a".to_owned(), TensorData::new(vec![step as f32; 50_000], [50_000]))].into();
        Checkpoint { state: State { step, ..State::start("moco") }, tensors }
    }

    #[test]
    fn a_reader_of_a_run_in_training_gets_whole_checkpoints_and_disturbs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("checkpoint");
        checkpoint(0).write(&folder).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (1..=40).try_for_each(|step| checkpoint(step).write(&folder)));
            while !writer.is_finished() {
                let read = Checkpoint::read(&folder).unwrap();
                let values = read.tensors["a"].try_to_vec::<f32>().unwrap();
                assert!(values.iter().all(|&value| value == read.state.step as f32), "step {}", read.state.step);
            }
            writer.join().unwrap().unwrap();
        });
        assert_eq!(Checkpoint::read(&folder).unwrap().state.step, 40);
    }

    #[test]
    fn what_a_crash_left_is_read_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("checkpoint");
        checkpoint(3).write(&folder).unwrap();
        std::fs::rename(&folder, dir.path().join("checkpoint.old")).unwrap();
        std::fs::create_dir(dir.path().join("checkpoint.tmp-1")).unwrap();
        assert_eq!((Checkpoint::read(&folder).unwrap().state.step, step_of(&folder).unwrap()), (3, 3));
        assert!(dir.path().join("checkpoint.old").is_dir() && dir.path().join("checkpoint.tmp-1").is_dir() && !folder.exists());
        assert!(Checkpoint::read(&dir.path().join("none")).unwrap_err().message().contains("state.json"));
    }

    /// Written before runs were monitored.
    #[test]
    fn a_state_without_monitors_is_read() {
        let mut state = serde_json::to_value(State { best: Some(Best { top1: 51.0, epoch: 3 }), ..State::start("moco") }).unwrap();
        let object = state.as_object_mut().unwrap();
        assert!(object.remove("best").is_some() && object.remove("collapsed").is_some());
        assert_eq!(serde_json::from_value::<State>(state).unwrap(), State::start("moco"));
    }

    /// Written when methods had one signal and runs counted seconds alone.
    #[test]
    fn a_state_of_the_first_form_is_read() {
        let mut state = serde_json::to_value(State::start("moco")).unwrap();
        let object = state.as_object_mut().unwrap();
        object.insert("epoch_sums".into(), serde_json::json!([12.5, 0.75, 3]));
        object.insert("format".into(), 1.into());
        assert!(object.remove("run").is_some() && object.remove("epoch_run").is_some());
        let state: State = serde_json::from_value(state).unwrap();
        let sums = Sums { steps: 3, loss: 12.5, signals: vec![("positive_prob".into(), 0.75)] };
        assert_eq!((state.epoch_sums, state.run), (sums, Totals::default()));
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
        let [third, fifth] = [3, 5].map(|epoch| Best { top1: 51.0, epoch });
        assert_eq!([fifth.or(Some(third)), fifth.or(None)], [third, fifth]);
        let better = Best { top1: 51.5, epoch: 9 };
        assert_eq!([better.or(Some(third)), Best { top1: 50.0, epoch: 9 }.or(Some(third))], [better, third]);
    }
}
