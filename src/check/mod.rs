//! Is a device right? Suites of checks that run on any device, for `unmix devices --check` and for the tests of this repository.
//!
//! A check is an assertion: it panics with what it got, what it wanted and how far off that is. A suite catches the panic of each of its cases
//! ([`Tally`]), so that one failure hides no other and a device that panics inside Burn is a failed suite. What ran on which kernel path is
//! counted inside the kernels ([`crate::kernel::runs`]), never claimed. A suite without a single case is a failure.

pub mod common;
mod first_losses;
mod golden;
mod gradients;
mod kernels;
mod net;
mod production;
mod rows;
mod scores;
mod suites;
mod tally;
mod update;
mod upload;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

pub use suites::{Group, SUITES};
pub use tally::{Tally, capture_panics};

use crate::device::Opened;
use crate::error::{Error, Result, nearest};
use crate::kernel::registry::OPS;
use crate::kernel::{KernelPath, Op, runs};

/// How a suite is run.
#[derive(Debug, Clone, Copy)]
pub enum Body {
    /// With the folder of golden numbers.
    Golden(fn(&Path, &Opened, &mut Tally)),
    /// With the device alone.
    Device(fn(&Opened, &mut Tally)),
}

/// A named set of checks.
#[derive(Debug, Clone, Copy)]
pub struct Suite {
    /// Its name: of a golden suite the stem of its files.
    pub name: &'static str,
    /// What it belongs to.
    pub group: Group,
    /// What it compares with what.
    pub about: &'static str,
    /// Runs it.
    pub body: Body,
}

/// What came of a suite on one device.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The suite.
    pub name: &'static str,
    /// Its group.
    pub group: Group,
    /// What it compares with what.
    pub about: &'static str,
    /// False where it could not start; `reason` says why.
    pub ran: bool,
    /// It ran, looked at something, and nothing failed.
    pub passed: bool,
    /// Why it did not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Cases looked at.
    pub cases: usize,
    /// Cases that failed.
    pub failed: usize,
    /// Starts of our kernels by operation and path, as the kernels counted them.
    pub paths: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    /// Wall-clock time.
    pub seconds: f64,
    /// The texts of the first failures.
    pub failures: Vec<String>,
    /// What was left out and why.
    pub notes: Vec<String>,
}

/// The suites of a name or of a group's name.
///
/// # Errors
/// There is none; the hint names the nearest.
pub fn find(name: &str) -> Result<Vec<&'static Suite>> {
    let found: Vec<&Suite> = SUITES.iter().filter(|suite| suite.name == name || suite.group.name() == name).collect();
    if found.is_empty() {
        let names = Group::ALL.iter().map(|group| group.name()).chain(SUITES.iter().map(|suite| suite.name));
        return Err(Error::input(format!("there is no suite `{name}`")).hint(nearest(name, names)));
    }
    Ok(found)
}

/// Runs a suite. `fixtures` is the folder of golden numbers (`tests/fixtures` of the repository, or one of the same form); without it the
/// suites that need one do not run, and their outcome says so.
///
/// Kernels' outputs are filled with NaN first, from now on and for the whole process.
pub fn run(suite: &'static Suite, opened: &Opened, fixtures: Option<&Path>) -> Outcome {
    let (mut tally, before, started) = (Tally::default(), starts(), Instant::now());
    let reason = match (suite.body, fixtures) {
        (Body::Golden(_), None) => Some("it needs the folder of golden numbers (--fixtures DIR)".to_owned()),
        (Body::Golden(body), Some(dir)) => {
            tally.within(suite.name, |tally| body(dir, opened, tally));
            None
        }
        (Body::Device(body), _) => {
            tally.within(suite.name, |tally| body(opened, tally));
            None
        }
    };
    let ran = reason.is_none();
    if ran && tally.cases == 0 && tally.failed == 0 {
        tally.within(suite.name, |_| panic!("no case was looked at"));
    }
    Outcome {
        name: suite.name,
        group: suite.group,
        about: suite.about,
        ran,
        passed: ran && tally.failed == 0,
        reason,
        cases: tally.cases,
        failed: tally.failed,
        paths: difference(&before, &starts()),
        seconds: started.elapsed().as_secs_f64(),
        failures: tally.failures,
        notes: tally.notes,
    }
}

/// Starts of every kernel by this thread.
type Starts = Vec<(Op, KernelPath, u64)>;

fn starts() -> Starts {
    let all = OPS.iter().flat_map(|spec| KernelPath::ALL.map(|path| (spec.op, path)));
    all.map(|(op, path)| (op, path, runs(op, path))).collect()
}

/// What was started in between.
fn difference(before: &Starts, after: &Starts) -> BTreeMap<&'static str, BTreeMap<&'static str, u64>> {
    let mut paths: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for ((op, path, before), (_, _, after)) in before.iter().zip(after).filter(|(before, after)| after.2 > before.2) {
        paths.entry(op.name()).or_default().insert(path.name(), after - before);
    }
    paths
}

impl Outcome {
    /// `passed`, `FAILED` or `not run`.
    pub fn word(&self) -> &'static str {
        match (self.ran, self.passed) {
            (false, _) => "not run",
            (true, true) => "passed",
            (true, false) => "FAILED",
        }
    }

    /// The paths and their starts in words: `mix: flex 20, tensor 20`.
    fn ways(&self) -> String {
        let of = |(op, paths): (&&str, &BTreeMap<&str, u64>)| {
            let paths: Vec<String> = paths.iter().map(|(path, count)| format!("{path} {count}")).collect();
            format!("{op}: {}", paths.join(", "))
        };
        self.paths.iter().map(of).collect::<Vec<_>>().join("; ")
    }
}

/// One line, then the failures and notes, indented.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:9} {:16} {}", self.group.name(), self.name, self.word())?;
        match &self.reason {
            Some(reason) => write!(f, ": {reason}")?,
            None => write!(f, ", {} cases, {:.1} s", self.cases, self.seconds)?,
        }
        if !self.paths.is_empty() {
            write!(f, " ({})", self.ways())?;
        }
        if self.failed > 0 {
            write!(f, "\n  {} failed; {} compares {}", self.failed, self.name, self.about)?;
        }
        for text in &self.failures {
            write!(f, "\n  - {}", text.replace('\n', "\n    "))?;
        }
        self.notes.iter().try_for_each(|note| write!(f, "\n  left out: {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;

    fn outcome(body: Body, fixtures: Option<&Path>) -> Outcome {
        let suite = Box::leak(Box::new(Suite { name: "made_up", group: Group::Golden, about: "this with that", body }));
        run(suite, &device::open("cpu").unwrap(), fixtures)
    }

    #[test]
    fn a_suite_that_looks_at_nothing_fails() {
        let nothing = outcome(Body::Device(|_, _| ()), None);
        assert!(nothing.ran && !nothing.passed && nothing.failures[0].contains("no case"), "{nothing}");
    }

    #[test]
    fn a_suite_without_its_folder_does_not_run_and_does_not_pass() {
        let absent = outcome(Body::Golden(|_, _, _| panic!("it ran")), None);
        assert!(!absent.ran && !absent.passed && absent.to_string().contains("not run: it needs the folder"), "{absent}");
    }

    #[test]
    fn a_device_that_panics_is_a_failed_suite() {
        let lost = outcome(Body::Device(|_, _| panic!("the device is lost")), None);
        assert!(lost.ran && !lost.passed && lost.failed == 1 && lost.to_string().contains("the device is lost"), "{lost}");
    }

    #[test]
    fn names_are_unique_and_no_name_of_a_group() {
        for suite in SUITES {
            assert_eq!(find(suite.name).unwrap().len(), 1, "{}", suite.name);
        }
        assert!(
            Group::ALL
                .iter()
                .all(|group| find(group.name()).unwrap().len() > 1 || *group == Group::Scores || *group == Group::Training)
        );
        assert!(find("kernel").unwrap_err().to_string().contains("did you mean `kernels`"));
    }
}
