//! The start of a run: fresh, from given weights, or from a checkpoint.

use std::path::Path;
use std::time::Instant;

use super::checkpoint::{Checkpoint, State};
use super::events::{Event, Sink};
use super::jobs::Length;
use super::meter::{Meter, Totals};
use super::run::{Running, Session};
use crate::error::{Error, Result};
use crate::method::{Method, Net, Setup};
use crate::optim::Optimizer;

impl Session {
    /// What the loop carries, as `checkpoint` says, or new.
    pub(super) fn start(&mut self, checkpoint: Option<Checkpoint>) -> Result<Running> {
        let config = &self.config;
        let mut method = config.method.init(&Setup::new(&self.device, &config.model, self.train.len(), config.seed));
        let mut optimizer = Optimizer::new(config.optim.clone());
        let state = match checkpoint {
            None => {
                if let Some(path) = &config.model.weights {
                    let message = start_from(method.as_mut(), config.method.demands().nets, path)?;
                    self.sinks.on(&Event::Warning { message })?;
                }
                State::start(config.method.name())
            }
            Some(checkpoint) => {
                method.restore(&checkpoint.learnt())?;
                optimizer.restore(&checkpoint.tensors, method.trained(), &self.device.device)?;
                checkpoint.state
            }
        };
        let meter = Meter::new(self.counted(&state), state.epoch_run, Instant::now());
        Ok(Running { method, optimizer, first: state.step, state, meter, last_loss: f64::NAN, measured: None })
    }

    /// What a checkpoint says was done; those of older programs know only the seconds.
    fn counted(&self, state: &State) -> Totals {
        match state.run.images {
            0 => Totals { images: state.step * self.config.data.batch as u64, seconds: state.wall_s, waited_s: 0.0 },
            _ => state.run,
        }
    }

    pub(super) fn announce(&mut self, run: &Running, length: Length) -> Result<()> {
        let info = &self.device.info;
        self.sinks.on(&Event::Start {
            run: self.dir.path().display().to_string(),
            method: self.config.method.name().into(),
            mixture: self.config.mixture.name.text().into(),
            device: format!("{}: {} [{}]", info.name, info.description, info.compiler),
            kernels: info.kernels.all().to_vec(),
            images: self.train.len() as u64,
            step: run.state.step,
            steps: length.steps,
            epochs: length.epochs(),
            parameters: run.method.encoder().parameters(),
        })?;
        for message in self.config.method.warnings(self.train.len()) {
            self.sinks.on(&Event::Warning { message })?;
        }
        Ok(())
    }

    /// Checks that the device can hold the memory of negatives in one tensor.
    pub(super) fn check_memory(&self) -> Result<()> {
        let (rows, dim) = (self.config.method.memory_rows(self.train.len()), self.config.model.head.dim);
        let (bytes, limit) = (4 * (rows * dim) as u64, self.device.info.largest_tensor().unwrap_or(u64::MAX));
        if bytes <= limit {
            return Ok(());
        }
        let what = format!(
            "the memory of {rows} rows of width {dim} has {} MiB, but the device holds at most {} MiB in a tensor",
            bytes >> 20,
            limit >> 20
        );
        Err(Error::input(what).hint("use a smaller memory or width (`model.head.dim`), or a device without that limit (cpu, cuda)"))
    }
}

/// Gives all encoders of a method, trained or averaged, the weights of a file; what it says of them is returned.
///
/// # Errors
/// A damaged file, or weights of another model.
fn start_from(method: &mut dyn Method, nets: &[Net], path: &Path) -> Result<String> {
    let mut state = method.state();
    let first = nets.first().expect("every method has a net").name;
    let own = state.iter().filter_map(|(name, data)| Some((name.strip_prefix(first)?.strip_prefix('.')?.to_owned(), data.clone())));
    let (values, report) = crate::model::weights::read(path, &own.collect(), false)?;
    for (name, data) in values {
        for net in nets {
            if let Some(slot) = state.get_mut(&format!("{}.{name}", net.name)) {
                *slot = data.clone();
            }
        }
    }
    method.restore(&state)?;
    Ok(format!("starts from given weights: {report}"))
}
