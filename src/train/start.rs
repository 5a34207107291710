//! The start of a run: fresh, from given weights, or from a checkpoint.

use std::path::Path;
use std::time::Instant;

use super::checkpoint::{self, Checkpoint, State, Which};
use super::events::Event;
use super::jobs::Length;
use super::meter::{Meter, Totals};
use super::run::{Running, Session};
use super::save::Saving;
use crate::error::Result;
use crate::eval::labels::same_images;
use crate::kernel::Op;
use crate::method::{BESIDE, Method, Net};
use crate::optim::Optimizer;

impl Session {
    /// What the loop carries, as `checkpoint` says, or new.
    pub(super) fn start(&mut self, checkpoint: Option<Checkpoint>) -> Result<Running> {
        let config = &self.config;
        let length = Length::of(config, self.train.len())?;
        let mut method = config.method.init(&length.setup(config, &self.device, self.train.len()));
        let mut optimizer = Optimizer::new(config.optim.clone()).on_path(self.device.info.kernels.path(Op::Update));
        let state = match checkpoint {
            None => {
                let nets = config.method.demands().nets;
                let given = match (&config.init_from, &config.model.weights) {
                    (Some(run), _) => Some(start_from_run(method.as_mut(), nets, run)?),
                    (None, Some(path)) => Some(start_from(method.as_mut(), nets, path)?),
                    (None, None) => None,
                };
                given.into_iter().for_each(|message| self.warn(message));
                State::start(self.config.method.name(), Some(self.identity.clone()))
            }
            Some(checkpoint) => {
                method.restore(&checkpoint.learnt())?;
                optimizer.restore(&checkpoint.tensors, method.trained(), &self.device.device)?;
                checkpoint.state
            }
        };
        let meter = Meter::new(self.counted(&state), state.epoch_run, Instant::now());
        let (first, last_loss) = (state.step, state.last_loss);
        let saving = Saving::new(self.dir.checkpoint(), (first > 0).then_some(first));
        Ok(Running { method, optimizer, first, state, meter, saving, last_loss, measured: None })
    }

    /// What a checkpoint says was done; those of older programs know only the seconds.
    fn counted(&self, state: &State) -> Totals {
        match state.run.images {
            0 => Totals { images: state.step * self.config.data.batch as u64, seconds: state.wall_s, waited_s: 0.0 },
            _ => state.run,
        }
    }

    pub(super) fn announce(&mut self, run: &Running, length: Length) {
        let info = &self.device.info;
        let start = Event::Start {
            run: self.dir.path().display().to_string(),
            method: self.config.method.name().into(),
            mixture: self.config.mixture.name.text().into(),
            device: format!("{}: {} [{}]", info.name, info.description, info.compiler),
            kernels: info.kernels.all().to_vec(),
            train: self.train.describe(),
            test: self.test.as_ref().map(|test| test.describe()),
            images: self.train.len() as u64,
            step: run.state.step,
            steps: length.steps,
            epochs: length.epochs(),
            parameters: run.method.encoder().parameters(),
        };
        self.tell(&start);
        if let Some(test) = self.test.as_ref().filter(|test| same_images(self.train.as_ref(), test.as_ref())) {
            let what = format!(
                "the test images are the training images ({}): every query finds itself, and its kNN says nothing of others",
                test.describe()
            );
            self.warn(what);
        }
        let whole = crate::method::Length { per_epoch: length.per_epoch, steps: length.steps };
        self.config
            .method
            .warnings(self.train.len(), self.config.data.batch, whole)
            .into_iter()
            .for_each(|message| self.warn(message));
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

/// Gives all nets of a method the weights and running statistics that the nets of another run have in its newest checkpoint, and its predictor and
/// prototypes where they fit. Memories and the optimizer begin anew. A run of another method gives its trained encoder to all nets, head included where it fits.
///
/// # Errors
/// No run, no whole checkpoint, or another model.
fn start_from_run(method: &mut dyn Method, nets: &[Net], run: &Path) -> Result<String> {
    let found = checkpoint::find(&run.join("checkpoint"), Which::Newest)?;
    let mut state = method.state();
    let of_nets = |name: &String| nets.iter().any(|net| name.strip_prefix(net.name).is_some_and(|rest| rest.starts_with('.')));
    let wanted: Vec<String> = state.keys().filter(|name| of_nets(name)).cloned().collect();
    let given = &found.checkpoint.tensors;
    let fits = |name: &String| given.get(name).is_some_and(|data| data.shape() == state[name].shape());
    if !wanted.iter().all(fits) {
        // Another method or model: by the rules for foreign weights, which say what does not fit.
        return start_from(method, nets, &found.folder.join("tensors.safetensors"));
    }
    let beside = |name: &&String| BESIDE.iter().any(|part| name.strip_prefix(part).is_some_and(|rest| rest.starts_with('.')));
    let beside: Vec<String> = state.keys().filter(beside).filter(|name| fits(name)).cloned().collect();
    for name in wanted.into_iter().chain(beside) {
        state.insert(name.clone(), given[&name].clone());
    }
    method.restore(&state)?;
    Ok(format!(
        "starts from the nets of `{}` at step {}; memories and the optimizer begin anew",
        run.display(),
        found.checkpoint.state.step
    ))
}
