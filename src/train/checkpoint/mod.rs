//! A checkpoint: a folder with `state.json` (where the run is), `tensors.safetensors` (everything it has learnt) and `manifest.json` (what both
//! must be, to the byte).
//!
//! A run has several, its *generations*: the newest in `checkpoint/`, those that are kept besides in `checkpoints/step-N/`. `store` puts them
//! there and takes them away, `saver` does so on a thread of its own, and [`Checkpoint::read`] finds the newest that is whole.

pub mod manifest;
mod saver;
mod state;
mod store;

use std::path::Path;

use crate::error::{Error, Result};
use crate::model::StateDict;
use crate::model::tensors::{pack_tensors, unpack_tensors};
use crate::optim::is_slot;

use manifest::Manifest;

pub use saver::{Saved, Saver};
pub use state::{State, Sums};
pub use store::{Found, Keep, Which, any, find, settle, step_of};

const TENSORS: &str = "tensors.safetensors";
const STATE: &str = "state.json";

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

    /// The newest whole generation of a run, from the path of its folder `checkpoint`. Nothing is changed there: the run may be in training.
    ///
    /// # Errors
    /// There is none, all are damaged, or one is of a newer form.
    pub fn read(folder: &Path) -> Result<Self> {
        Ok(find(folder, Which::Newest)?.checkpoint)
    }

    /// Fills an empty folder and makes it durable; returns what it must hold.
    ///
    /// # Errors
    /// Those of the disk.
    fn fill(&self, folder: &Path) -> Result<(Manifest, u64)> {
        let tensors = pack_tensors(&self.tensors)?;
        let state = serde_json::to_vec_pretty(&self.state).map_err(|e| Error::run(format!("cannot write the state: {e}")))?;
        let contents = [(TENSORS, &tensors[..]), (STATE, &state[..])];
        let manifest = Manifest::of(self.state.step, contents);
        for (name, bytes) in contents {
            crate::files::write_atomic(folder.join(name), bytes)?;
        }
        manifest.write(folder)?;
        Ok((manifest, (tensors.len() + state.len()) as u64))
    }

    /// Reads one generation, and checks it against its manifest. Programs before form 3 wrote none.
    fn open(folder: &Path) -> Result<Self> {
        let Some(manifest) = Manifest::read(folder)? else {
            let state = State::parse(&read_file(folder, STATE)?)?;
            if state.format >= manifest::FIRST {
                return Err(Error::input(format!("it has no `{}`: it was not written to its end", manifest::MANIFEST)));
            }
            return Ok(Self { state, tensors: unpack_tensors(&read_file(folder, TENSORS)?)? });
        };
        let state = State::parse(&manifest.open(folder, STATE)?)?;
        if state.step != manifest.step() {
            return Err(Error::input(format!("its state is of step {}, its manifest of step {}", state.step, manifest.step())));
        }
        Ok(Self { state, tensors: unpack_tensors(&manifest.open(folder, TENSORS)?)? })
    }
}

fn read_file(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let path = folder.join(name);
    std::fs::read(&path).map_err(|error| Error::io("read", &path, &error))
}
