//! `unmix devices`.

mod check;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::device;
use crate::error::Result;

/// Lists the devices, or checks that they compute what they should.
#[derive(Debug, Args)]
pub struct Devices {
    /// Runs the suites of checks. Exit status 1 if one of them fails.
    #[arg(long)]
    check: bool,
    /// With --check: this device alone (cpu, wgpu, wgpu-cpu, cuda or cuda:INDEX; auto for the first that works). By default every one that can
    /// be used but software Vulkan, which is slow and has to be named.
    #[arg(long, requires = "check")]
    device: Option<String>,
    /// With --check: the folder of golden numbers, tests/fixtures of the repository. Without it the golden suites are listed as not run.
    #[arg(long, requires = "check", value_name = "DIR")]
    fixtures: Option<PathBuf>,
    /// With --check: only this suite or group of suites (golden, kernels, scores, gradients, training); may be repeated.
    #[arg(long, requires = "check", value_name = "NAME")]
    suite: Vec<String>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

impl Devices {
    /// Surveys and prints, or checks.
    pub fn run(&self) -> Result<ExitCode> {
        if self.check {
            return check::run(self);
        }
        let (usable, unusable) = device::survey();
        if self.json {
            super::print_json(&serde_json::json!({ "usable": usable, "unusable": unusable }))?;
            return Ok(ExitCode::SUCCESS);
        }
        for info in usable {
            super::print(&format!("{}: {}", info.name, info.description));
            super::print(&format!("  compiler: {}", info.compiler));
            if let Some(driver) = info.driver {
                super::print(&format!("  driver: {driver}"));
            }
            for choice in info.kernels.all() {
                super::print(&format!("  {:9} path `{}`: {}", format!("{}:", choice.op.name()), choice.path.name(), choice.reason));
            }
            for (limit, value) in info.limits {
                super::print(&format!("  {limit}: {value}"));
            }
        }
        for missing in unusable {
            super::print(&format!("{}: not usable: {}", missing.name, missing.reason.replace('\n', "\n  ")));
        }
        Ok(ExitCode::SUCCESS)
    }
}
