//! The same training on two devices: its first losses beside those of the CPU.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::Value;

use super::Tally;
use crate::config::{RunConfig, layer};
use crate::data::Split;
use crate::device::{self, Opened};
use crate::error::Result;
use crate::train::{Event, Identity, Requests, RunDir, Said, Session, Sink, Sinks};

/// Steps that are compared.
const STEPS: usize = 5;
/// Allowed difference, relative to the CPU's loss. The bound is that of the project's promise, and about what TF32 (10 bits of mantissa) may
/// cost where CUDA's tuner picks it; at the rate below the observed difference grows from 1e-6 to some 1e-4 over the five steps (docs/LOG.md).
const ALLOWED: f64 = 1e-3;
/// The smoke config at about half its learning rate: at its own the net multiplies differences in the last bit a thousandfold in five steps on
/// some processors (docs/LOG.md), which says nothing about the devices.
const SETTINGS: [&str; 5] = ["schedule.steps=5", "optim.lr=0.002", "log.every_steps=1", "log.preview=0", "eval.enabled=false"];

/// Both kinds of mixture: the CPU repeats its bits, and the device stays within 1e-3 of it.
pub fn check(opened: &Opened, tally: &mut Tally) {
    for mixture in ["im", "unmix"] {
        tally.case(mixture, || compare(opened, mixture));
    }
}

fn compare(opened: &Opened, mixture: &str) {
    let cpu = device::open("cpu").unwrap_or_else(|error| panic!("there is no CPU to compare with: {error}"));
    let want = losses(&cpu, mixture, 2);
    if opened.info.name == "cpu" {
        assert_eq!(want, losses(&cpu, mixture, 1), "the CPU does not repeat itself");
        return;
    }
    let got = losses(opened, mixture, 2);
    for (step, (got, want)) in got.iter().zip(&want).enumerate() {
        let off = (got - want).abs() / want.abs();
        assert!(
            off <= ALLOWED,
            "step {} on {}: loss {got}, on the CPU {want}, off by {off:e}, allowed {ALLOWED:e}",
            step + 1,
            opened.info.name
        );
    }
}

/// The losses of the first steps, with so many loader threads.
fn losses(opened: &Opened, mixture: &str, workers: usize) -> Vec<f64> {
    let losses =
        run(opened, mixture, workers).unwrap_or_else(|error| panic!("the training on {} failed: {error}", opened.info.name));
    assert_eq!(losses.len(), STEPS, "the training on {} ended early", opened.info.name);
    losses
}

/// Nobody asks anything of these runs.
static NONE: Requests = Requests::new();

fn run(opened: &Opened, mixture: &str, workers: usize) -> Result<Vec<f64>> {
    let mut value: Value = serde_json::from_str(include_str!("../../configs/smoke.json")).expect("the smoke config is JSON");
    let more = [format!("mixture.name={mixture}"), format!("data.workers={workers}")];
    for setting in SETTINGS.iter().copied().chain(more.iter().map(String::as_str)) {
        layer::set(&mut value, setting)?;
    }
    let config = RunConfig::from_value(value)?.resolved();
    let train = config.data.open(Split::Train, config.seed)?;
    let scratch = tempfile::tempdir().expect("a folder for temporary files");
    let dir = RunDir::create(scratch.path().join("run"))?;
    let losses = Losses::default();
    let sinks = Sinks(vec![Box::new(losses.clone())]);
    let identity = Identity::of(&config, train.as_ref())?;
    Session { config, device: opened.clone(), train, test: None, dir, sinks, identity, requests: &NONE, said: Said::default() }
        .run(None)?;
    Ok(losses.0.take())
}

/// Keeps the loss of every step.
#[derive(Clone, Default)]
struct Losses(Rc<RefCell<Vec<f64>>>);

impl Sink for Losses {
    fn on(&mut self, event: &Event) -> Result<()> {
        if let Event::Step { loss, .. } = event {
            self.0.borrow_mut().push(*loss);
        }
        Ok(())
    }
}
