//! The metrics file.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;

use crate::error::Result;
use crate::files::JsonlFile;
use crate::train::events::{Event, Sink};

/// An event with the time at which it was written, in UTC.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    event: &'a Event,
    time: String,
}

/// Writes events to a file, one JSON object a line. Floats that are not finite become `null`.
#[derive(Debug)]
pub struct JsonLines {
    file: JsonlFile,
    every_steps: u64,
}

impl JsonLines {
    /// Appends to `path`. Of the steps only the first, every `every_steps`-th and those with a loss that is not finite are
    /// written; which ones does not depend on where a run was interrupted.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn append(path: impl Into<PathBuf>, every_steps: u64) -> Result<Self> {
        Ok(Self { file: JsonlFile::append(path)?, every_steps: every_steps.max(1) })
    }
}

impl Sink for JsonLines {
    fn on(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step { step, loss, .. } if *step != 1 && step % self.every_steps != 0 && loss.is_finite() => Ok(()),
            _ => self.file.push(&Line { event, time: crate::time::utc(SystemTime::now()) }),
        }
    }

    fn sync(&mut self) -> Result<()> {
        self.file.sync()
    }
}
