//! The command line: one file per subcommand.

mod bench;
mod compat;
mod config;
mod devices;
mod eval;
mod export;
mod import;
mod plan;
mod pretrain;
mod preview;
mod report;
mod signals;
mod stats;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{RunConfig, layer, saved};
use crate::error::{Error, Kind, Result};
use crate::train::RunDir;

/// Pre-trains image encoders without labels, with image mixtures (arXiv 2003.05438).
#[derive(Debug, Parser)]
#[command(name = "unmix", version = env!("UNMIX_VERSION"), about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Trains an encoder as a config file says.
    Pretrain(pretrain::Pretrain),
    /// Runs a command line of the authors' first program.
    Compat(compat::Compat),
    /// Evaluates the encoder of a run.
    #[command(subcommand)]
    Eval(eval::Eval),
    /// Writes the encoder of a run for torchvision or timm.
    Export(export::Export),
    /// Takes over weights of other programs.
    Import(import::Import),
    /// Says what a run would cost: memory, time, disk.
    Plan(plan::Plan),
    /// Draws the images of a config's first batch, and what the mixture makes of them.
    Preview(preview::Preview),
    /// Lays out one or several runs as a page of figures and tables.
    Report(report::Report),
    /// Measures mean and standard deviation per channel of the images, for `views.mean` and `views.std`.
    Stats(stats::Stats),
    /// Lists the devices that can be used, and what is missing for the others.
    Devices(devices::Devices),
    /// Shows, checks or describes configs.
    #[command(subcommand)]
    Config(config::Config),
    /// Measures speed.
    #[command(subcommand)]
    Bench(bench::Bench),
}

/// A config file and what is laid over it.
#[derive(Debug, Clone, Args)]
struct ConfigArgs {
    /// Config file (JSON).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Overrides one key of the config; may be repeated, the last one wins.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    set: Vec<String>,
}

impl ConfigArgs {
    fn load(&self) -> Result<RunConfig> {
        RunConfig::load(&self.config, &self.set)
    }
}

/// The config of a run's folder, as far as it says what was trained.
fn run_config(run: &Path) -> Result<RunConfig> {
    RunConfig::from_value(run_value(run)?)
}

/// The same as JSON; keys that an earlier version read and this one does not are left out, with a warning.
fn run_value(run: &Path) -> Result<serde_json::Value> {
    let file = run_file(run)?;
    let (value, dropped) = saved::readable(layer::read(&file)?)?;
    if !dropped.is_empty() {
        eprintln!("warning: `{}` says more than this version reads; left out: {}", file.display(), dropped.join(", "));
    }
    Ok(value)
}

/// The config file of a run's folder.
fn run_file(run: &Path) -> Result<PathBuf> {
    let file = run.join("config.json");
    if !RunDir::holds_run(run) || !file.exists() {
        return Err(Error::input(format!("`{}` holds no run", run.display())).hint("name the folder that `unmix pretrain` printed"));
    }
    Ok(file)
}

/// Parses the arguments, runs the command, reports a failure on stderr. Exit status: 0 done, 1 the run failed, 2 bad input,
/// 130 or 143 ended early on Ctrl-C or SIGTERM.
pub fn main() -> ExitCode {
    keep_freed_memory();
    let outcome = match Cli::parse().command {
        Command::Pretrain(command) => command.run(),
        Command::Compat(command) => command.run(),
        Command::Eval(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Import(command) => command.run(),
        Command::Plan(command) => command.run(),
        Command::Preview(command) => command.run(),
        Command::Report(command) => command.run(),
        Command::Stats(command) => command.run(),
        Command::Devices(command) => command.run(),
        Command::Config(command) => command.run(),
        Command::Bench(command) => command.run(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) if error.kind() == Kind::Interrupted => {
            eprintln!("{error}");
            ExitCode::from(signals::status())
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Tells the C library's allocator to keep freed memory. By default it gives every large block back to the system, and on the CPU each
/// step then fetches its activations page by page again: a mixture of 256 images takes four times as long, a training step a tenth more.
/// The resident set stays at its peak instead of going up and down.
fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: plain settings of the allocator, made before any other thread runs.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// Prints to stdout; a reader that went away (`unmix ... | head`) is no error.
fn print(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints one JSON object on one line.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|e| Error::run(format!("cannot write JSON: {e}")))?;
    print(&text);
    Ok(())
}
