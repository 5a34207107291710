//! The state of an interrupted linear evaluation: a folder that appears and disappears as a whole.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Course;
use crate::error::{Error, Result};
use crate::files;
use crate::model::StateDict;
use crate::model::tensors::{read_tensors, write_tensors};

const STATE: &str = "state.json";
const TENSORS: &str = "tensors.safetensors";

/// What a resume needs; shuffles and augmentations follow from the epoch.
pub struct Saved {
    /// Completed epochs.
    pub epoch: u64,
    /// Updates made.
    pub updates: u64,
    /// Seconds spent.
    pub wall_s: f64,
    /// What was measured so far.
    pub courses: Vec<Course>,
    /// Weights and moments.
    pub tensors: StateDict,
}

#[derive(Serialize, Deserialize)]
struct Head {
    identity: Value,
    epoch: u64,
    updates: u64,
    wall_s: f64,
    courses: Vec<Course>,
}

impl Saved {
    /// The state in `folder`, if there is one and it belongs to this evaluation.
    ///
    /// # Errors
    /// A damaged state.
    pub fn read(folder: &Path, identity: &Value) -> Result<Option<Self>> {
        files::recover_dir(folder)?;
        let path = folder.join(STATE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path, &error)),
        };
        let head: Head = serde_json::from_slice(&text).map_err(|e| {
            Error::input(format!("`{}` is damaged: {e}", path.display())).hint("remove its folder to start the evaluation anew")
        })?;
        if head.identity != *identity {
            return Ok(None);
        }
        let tensors = read_tensors(&folder.join(TENSORS))?;
        Ok(Some(Self { epoch: head.epoch, updates: head.updates, wall_s: head.wall_s, courses: head.courses, tensors }))
    }

    /// Writes the folder: a reader sees the previous state or this one.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write(self, folder: &Path, identity: &Value) -> Result<()> {
        if let Some(parent) = folder.parent() {
            std::fs::create_dir_all(parent).map_err(|error| Error::io("create", parent, &error))?;
        }
        let scratch = files::scratch_dir(folder)?;
        write_tensors(&scratch.join(TENSORS), &self.tensors)?;
        let (epoch, updates, wall_s, courses) = (self.epoch, self.updates, self.wall_s, self.courses);
        let head = Head { identity: identity.clone(), epoch, updates, wall_s, courses };
        let text = serde_json::to_vec(&head).map_err(|e| Error::run(format!("cannot write the state: {e}")))?;
        files::write_atomic(scratch.join(STATE), &text)?;
        files::replace_dir(&scratch, folder)
    }

    /// Removes the folder, if it is there.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn remove(folder: &Path) -> Result<()> {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", folder, &error)),
            _ => Ok(()),
        }
    }
}
