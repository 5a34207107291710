//! `unmix devices --check`: the suites of [`crate::check`] on one device or on all, with a line per suite on stderr while they run.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::Devices;
use crate::check::{self, Outcome, SUITES, Suite, Tally};
use crate::device::{self, DeviceInfo, Opened};
use crate::error::{Error, Result};

/// All suites of one device.
#[derive(Debug, Serialize)]
struct Report {
    /// The name to ask for it by.
    device: String,
    /// What is known about it; absent where it could not be opened.
    #[serde(flatten)]
    info: Option<DeviceInfo>,
    /// Nothing failed; suites that did not run are no failures.
    passed: bool,
    /// Why the device could not be opened at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    suites: Vec<Outcome>,
}

/// Everything that was asked for.
#[derive(Debug, Serialize)]
struct Whole {
    version: &'static str,
    /// The commit of this program, where it was built in a repository.
    commit: Option<&'static str>,
    system: String,
    /// Nothing failed; suites that did not run are no failures.
    passed: bool,
    /// Suites over all devices.
    ran: usize,
    failed: usize,
    not_run: usize,
    devices: Vec<Report>,
}

/// Checks and prints.
pub fn run(args: &Devices) -> Result<ExitCode> {
    let suites = wanted(&args.suite)?;
    let fixtures = args.fixtures.as_deref();
    if let Some(folder) = fixtures {
        refuse_other_folder(folder)?;
    }
    check::capture_panics();
    let devices = devices(args.device.as_deref())?;
    let reports: Vec<Report> = devices.into_iter().map(|found| report(found, &suites, fixtures)).collect();
    let whole = Whole::of(reports);
    if args.json {
        crate::cli::print_json(&whole)?;
    } else {
        crate::cli::print(&whole.text());
    }
    Ok(if whole.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The suites that were named, in the order of the list; all by default.
fn wanted(names: &[String]) -> Result<Vec<&'static Suite>> {
    let mut chosen = Vec::new();
    for name in names {
        chosen.extend(check::find(name)?.into_iter().map(|suite| suite.name));
    }
    Ok(SUITES.iter().filter(|suite| names.is_empty() || chosen.contains(&suite.name)).collect())
}

/// A folder without any golden number is a mistake worth stopping for; one that lacks a file fails the suite of that file.
fn refuse_other_folder(folder: &Path) -> Result<()> {
    std::fs::read_dir(folder).map_err(|error| Error::io("read the folder", folder, &error))?;
    let golden = SUITES.iter().filter(|suite| matches!(suite.body, check::Body::Golden(_)));
    if golden.into_iter().any(|suite| folder.join(format!("{}.json", suite.name)).exists()) {
        return Ok(());
    }
    Err(Error::input(format!("`{}` holds no golden numbers", folder.display()))
        .hint("name the folder tests/fixtures of the repository, or one of the same form"))
}

/// An opened device, or the name and the reason of one that panicked.
type Found = std::result::Result<Opened, (String, String)>;

/// The device that was named; otherwise all that can be used but software Vulkan.
fn devices(name: Option<&str>) -> Result<Vec<Found>> {
    if let Some(name) = name {
        return Ok(vec![open(name).map_or_else(|panic| Ok(Err((name.to_owned(), panic))), |opened| opened.map(Ok))?]);
    }
    let names = device::NAMES.iter().filter(|name| !["auto", "wgpu-cpu"].contains(name));
    let found: Vec<Found> = names
        .filter_map(|name| match open(name) {
            Ok(Ok(opened)) => Some(Ok(opened)),
            // Not part of this build or machine.
            Ok(Err(_)) => None,
            Err(panic) => Some(Err(((*name).to_owned(), panic))),
        })
        .collect();
    if found.is_empty() {
        return Err(Error::input("no device can be used").hint("`unmix devices` says what is missing for each"));
    }
    Ok(found)
}

/// Opens a device; a panic inside Burn or a driver is text.
fn open(name: &str) -> std::result::Result<Result<Opened>, String> {
    let (mut tally, mut opened) = (Tally::default(), None);
    tally.within("opening the device", |_| opened = Some(device::open(name)));
    opened.ok_or_else(|| tally.failures.join("\n"))
}

fn report(found: Found, suites: &[&'static Suite], fixtures: Option<&Path>) -> Report {
    let opened = match found {
        Ok(opened) => opened,
        Err((device, error)) => return Report { device, info: None, passed: false, error: Some(error), suites: Vec::new() },
    };
    let count = suites.len();
    let one = |(i, suite): (usize, &&'static Suite)| {
        // Without the end of the line: what is left behind by a driver that kills the process names the suite.
        eprint!("[{}/{count}] {} {}: ", i + 1, opened.info.name, suite.name);
        let outcome = check::run(suite, &opened, fixtures);
        eprintln!("{} in {:.1} s", outcome.word(), outcome.seconds);
        outcome
    };
    let suites: Vec<Outcome> = suites.iter().enumerate().map(one).collect();
    let passed = suites.iter().all(|suite| suite.passed || !suite.ran);
    Report { device: opened.info.name.clone(), info: Some(opened.info), passed, error: None, suites }
}

impl Whole {
    fn of(devices: Vec<Report>) -> Self {
        let count = |which: fn(&Outcome) -> bool| devices.iter().flat_map(|report| &report.suites).filter(|s| which(s)).count();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("UNMIX_COMMIT"),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            passed: devices.iter().all(|report| report.passed),
            ran: count(|s| s.ran),
            failed: count(|s| s.ran && !s.passed),
            not_run: count(|s| !s.ran),
            devices,
        }
    }

    fn text(&self) -> String {
        let mut lines: Vec<String> = self.devices.iter().map(Report::text).collect();
        let commit = self.commit.map_or_else(String::new, |commit| format!(" ({commit})"));
        lines.push(format!(
            "unmix {}{commit}, {}: {} suites ran, {} failed, {} not run",
            self.version, self.system, self.ran, self.failed, self.not_run
        ));
        lines.join("\n")
    }
}

impl Report {
    fn text(&self) -> String {
        let Some(info) = &self.info else {
            return format!("{}: FAILED: {}", self.device, self.error.as_deref().unwrap_or("it cannot be opened"));
        };
        let driver = info.driver.as_ref().map_or_else(String::new, |driver| format!(", driver {driver}"));
        let head = format!("{}: {}\n  compiler {}{driver}", info.name, info.description, info.compiler);
        let suites = self.suites.iter().map(|outcome| format!("  {}", outcome.to_string().replace('\n', "\n  ")));
        std::iter::once(head).chain(suites).collect::<Vec<_>>().join("\n")
    }
}
