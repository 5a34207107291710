//! The metrics file.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;

use crate::error::Result;
use crate::files::JsonlFile;
use crate::train::events::{Event, Sink};

/// An event as a line. Starts and ends say when they were, in UTC; all else is the same in every run of the same config, but for how long it took.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    event: &'a Event,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
}

/// Writes events to a file, one JSON object a line. Floats that are not finite become `null`.
///
/// While a checkpoint is being written, the lines that follow it wait: its own line comes before theirs, wherever the disk was slow, and a run has
/// the same lines in the same order however often it was stopped. What waits is of steps that a resume would train again.
#[derive(Debug)]
pub struct JsonLines {
    file: JsonlFile,
    every_steps: u64,
    /// Lines that wait for a checkpoint.
    held: Option<Vec<String>>,
}

impl JsonLines {
    /// Appends to `path`. Of the steps only the first, every `every_steps`-th and those with a loss that is not finite are
    /// written; which ones does not depend on where a run was interrupted.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn append(path: impl Into<PathBuf>, every_steps: u64) -> Result<Self> {
        Ok(Self { file: JsonlFile::append(path)?, every_steps: every_steps.max(1), held: None })
    }
}

impl Sink for JsonLines {
    fn on(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step { step, loss, .. } if *step != 1 && step % self.every_steps != 0 && loss.is_finite() => Ok(()),
            _ => {
                let dated = matches!(event, Event::Start { .. } | Event::End { .. });
                let time = dated.then(|| crate::time::utc(SystemTime::now()));
                let line = self.file.line(&Line { event, time })?;
                match &mut self.held {
                    Some(held) if !matches!(event, Event::Checkpoint { .. }) => {
                        held.push(line);
                        Ok(())
                    }
                    _ => self.file.push_line(&line).and(self.release()),
                }
            }
        }
    }

    fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    fn release(&mut self) -> Result<()> {
        let held = self.held.take().unwrap_or_default();
        // Each is kept by the file, whatever becomes of the others.
        held.iter().map(|line| self.file.push_line(line)).fold(Ok(()), Result::and)
    }

    fn sync(&mut self) -> Result<()> {
        self.file.sync()
    }
}
