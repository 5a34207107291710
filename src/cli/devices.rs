//! `unmix devices`.

use std::process::ExitCode;

use clap::Args;

use crate::device;
use crate::error::Result;

/// Lists the devices.
#[derive(Debug, Args)]
pub struct Devices {
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

impl Devices {
    /// Surveys and prints.
    pub fn run(&self) -> Result<ExitCode> {
        let (usable, unusable) = device::survey();
        if self.json {
            super::print_json(&serde_json::json!({ "usable": usable, "unusable": unusable }))?;
            return Ok(ExitCode::SUCCESS);
        }
        for info in usable {
            super::print(&format!("{}: {}", info.name, info.description));
            super::print(&format!("  compiler: {}", info.compiler));
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
