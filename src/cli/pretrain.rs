//! `unmix pretrain`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::ConfigArgs;
use crate::config::RunConfig;
use crate::error::Result;
use crate::train::sinks::Terminal;
use crate::train::{Ended, Opening, Session, Summary};

/// Trains an encoder.
#[derive(Debug, Args)]
pub struct Pretrain {
    #[command(flatten)]
    config: ConfigArgs,
    /// auto, cpu, wgpu, wgpu-cpu, cuda or cuda:INDEX; short for --set device=...
    #[arg(long, overrides_with = "device")]
    device: Option<String>,
    /// Folder of the run; a new one under runs/ by default.
    #[arg(long, overrides_with = "out")]
    out: Option<PathBuf>,
    /// `auto` goes on if the run folder holds a checkpoint, a path goes on from that run, `never` starts anew.
    #[arg(long, value_name = "auto|PATH|never", overrides_with = "resume")]
    resume: Option<String>,
    /// Starts a new run with the nets of this one, memories and optimizer aside.
    #[arg(long, value_name = "RUN", overrides_with = "init_from")]
    init_from: Option<PathBuf>,
    /// No progress on the terminal, only the result.
    #[arg(long)]
    quiet: bool,
}

impl Pretrain {
    /// Opens everything, trains, prints the result.
    pub fn run(&self) -> Result<ExitCode> {
        let mut config = self.config.load()?;
        config.device = self.device.clone().unwrap_or(config.device);
        config.out = self.out.clone().or(config.out);
        config.resume = self.resume.clone().unwrap_or(config.resume);
        config.init_from = self.init_from.clone().or(config.init_from);
        train(config.resolved(), &self.config.config, self.quiet)
    }
}

/// Trains as a resolved config says; a new run folder without a name of its own is named after `file`.
pub fn train(config: RunConfig, file: &Path, quiet: bool) -> Result<ExitCode> {
    let requests = super::signals::run_requests("this step")?;
    let (session, checkpoint) = match Session::open(config, file, vec![Box::new(Terminal::new(quiet))], requests)? {
        Opening::Ready(opened) => *opened,
        Opening::Complete { folder, summary } => {
            super::print(&format!("{} is complete at step {}; nothing was changed", folder.display(), summary.steps));
            super::print(&result(&summary, &folder));
            return Ok(ExitCode::SUCCESS);
        }
    };
    let folder = session.dir.path().to_owned();
    quiet_panics();
    let ended = session.run(checkpoint)?;
    Ok(match ended {
        Ended::Finished(summary) => {
            super::print(&result(&summary, &folder));
            ExitCode::SUCCESS
        }
        Ended::Interrupted(0) => {
            super::print("stopped before the first step: nothing was trained");
            ExitCode::from(super::signals::status())
        }
        Ended::Interrupted(step) => {
            super::print(&format!("stopped after step {step}; the state is saved in {}", folder.display()));
            super::print(&format!("go on with: --out {} --resume auto", folder.display()));
            ExitCode::from(super::signals::status())
        }
    })
}

/// A run reports a panic as an error of its own: the message of the thread that failed would only come on top. With RUST_BACKTRACE it is shown.
fn quiet_panics() {
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        std::panic::set_hook(Box::new(|_| ()));
    }
}

/// What a user sees at the end.
fn result(summary: &Summary, folder: &Path) -> String {
    let mut out = format!(
        "{} steps ({} epochs) in {:.0} s, {:.0} images/s, data wait {:.1} %, last loss {:.4}\n",
        summary.steps,
        summary.epochs,
        summary.wall_s,
        summary.images_per_s,
        100.0 * summary.data_wait,
        summary.loss_last
    );
    if let Some(knn) = &summary.knn {
        let t = &knn.trained;
        out += &format!(
            "weighted kNN top-1 (k {}, T {}, layer {}): trained {:.2} %, untrained {:.2} % ({:+.2} points)\n",
            t.k,
            t.temperature,
            t.layer,
            t.top1,
            knn.untrained_top1,
            t.top1 - knn.untrained_top1
        );
        out += &format!(
            "             the same on layer {}: trained {:.2} %, untrained {:.2} %\n",
            t.other_layer, t.other_top1, knn.untrained_other_top1
        );
    }
    out + &format!("everything is in {}", folder.display())
}
