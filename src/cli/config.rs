//! `unmix config`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::ConfigArgs;
use crate::config::{RunConfig, schema};
use crate::error::{Error, Result};

/// Shows, checks or describes configs.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Prints the config with every key, as a run would see it.
    Show(ConfigArgs),
    /// Checks config files and reports all their problems.
    Check {
        /// Config files (JSON).
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Overrides one key of each file.
        #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
        set: Vec<String>,
    },
    /// Prints the JSON schema of a config, or a table of all keys.
    Schema {
        /// One line per key: path, default, meaning.
        #[arg(long)]
        table: bool,
    },
}

impl Config {
    /// Runs the subcommand.
    pub fn run(&self) -> Result<ExitCode> {
        match self {
            Self::Show(args) => {
                let resolved = args.load()?.resolved();
                super::print(&pretty(&resolved)?);
            }
            Self::Check { files, set } => {
                let mut bad = 0;
                for file in files {
                    match RunConfig::load(file, set) {
                        Ok(_) => super::print(&format!("{}: ok", file.display())),
                        Err(error) => {
                            bad += 1;
                            eprintln!("{}: {error}", file.display());
                        }
                    }
                }
                if bad > 0 {
                    return Err(Error::input(format!("{bad} of {} configs cannot be used", files.len())));
                }
            }
            Self::Schema { table: false } => super::print(&pretty(&schema::schema::<RunConfig>())?),
            Self::Schema { table: true } => super::print(schema::table::<RunConfig>().trim_end()),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn pretty(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| Error::run(format!("cannot write JSON: {e}")))
}
