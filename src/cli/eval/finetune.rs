//! `unmix eval finetune`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::progress::Progress;
use super::subject::SubjectArgs;
use crate::cli;
use crate::error::{Error, Result, shown_path};
use crate::eval::finetune::{FinetuneConfig, Task};
use crate::report::plot::figure::slug;

/// `unmix eval finetune`.
#[derive(Debug, Args)]
pub struct Finetune {
    #[command(flatten)]
    subject: SubjectArgs,
    /// Share of the labels, for example 1% or 0.1 (`eval.finetune.fraction`).
    #[arg(long, value_name = "SHARE")]
    labels: Option<String>,
    /// A text file with the names of the images whose labels are used, one per line, such as SimCLR's 1 % and 10 % of ImageNet
    /// (`eval.finetune.labels_file`).
    #[arg(long, value_name = "FILE", conflicts_with = "labels")]
    labels_file: Option<PathBuf>,
}

impl Finetune {
    /// Runs the subcommand.
    pub fn run(&self) -> Result<ExitCode> {
        let started = Instant::now();
        let share = self.labels.as_deref().map(share).transpose()?;
        let share = share.map(|share| format!("eval.finetune.fraction={share}"));
        let file = self.labels_file.as_ref().map(|file| format!("eval.finetune.labels_file={}", json!(file)));
        let settings: Vec<String> = share.into_iter().chain(file).collect();
        // Batches are too small for groups.
        let subject = self.subject.with_plain_norms().open(&settings)?;
        let config = subject.config.eval.finetune.clone();
        let task = Task {
            encoder: &subject.encoder,
            train: subject.train.clone(),
            test: subject.test.clone(),
            config: config.clone(),
            how: subject.extraction(),
            seed: subject.config.seed,
        };
        let mut progress = Progress::new(self.subject.json, config.epochs);
        let stop = cli::signals::stop_flag("this epoch")?;
        let outcome = task.run(stop, &mut |course| progress.tell(std::slice::from_ref(course)))?;
        progress.end();
        if outcome.interrupted {
            cli::print("stopped; nothing was written");
            return Ok(ExitCode::from(cli::signals::status()));
        }
        let labels = config.labels_file.clone();
        // Which labels are used has no published value: it is what the results of the protocol differ by.
        let published =
            FinetuneConfig { fraction: config.fraction, labels_file: labels.clone(), ..FinetuneConfig::default() } == config;
        let tag = if published { "finetune-swav" } else { "finetune-swav-modified" };
        let mut protocol = json!(config);
        if let Some(table) = protocol.as_object_mut() {
            // Of the two only what was read; the file may change its name and its contents.
            if labels.is_some() {
                table.shift_remove("fraction");
                table.insert("labels_digest".into(), outcome.chosen.into());
            } else {
                table.shift_remove("labels_file");
            }
            table.insert("tag".into(), tag.into());
            table.insert("layer".into(), outcome.course.layer.into());
            table.insert("seed".into(), subject.config.seed.into());
        }
        let (last, best) = (outcome.course.last(), outcome.course.best());
        let result = json!({
            "labels": outcome.labels, "top1_last": last.top1, "top5_last": last.top5, "loss_last": last.loss, "top1_best": best.top1,
            "best_epoch": best.epoch, "curve": outcome.course.curve, "broken_images": outcome.unreadable.len(),
            "unreadable": outcome.unreadable,
        });
        subject.tell_unreadable(&outcome.unreadable);
        let list = labels.as_deref().map(|file| file.file_stem().unwrap_or_default().to_string_lossy());
        let stem = format!("{tag}-{}", list.as_deref().map_or_else(|| config.fraction.to_string(), slug));
        let record = subject.context.record("finetune", &stem, protocol, result, started.elapsed().as_secs_f64());
        record.write(&subject.out)?;
        if self.subject.json {
            cli::print_json(&json!({"results": [record]}))?;
        } else {
            cli::print(&format!(
                "{tag} with {} labels ({}): top-1 {:.2} %, top-5 {:.2} % at the last epoch; best top-1 {:.2} % at epoch {}",
                outcome.labels,
                match &labels {
                    Some(file) => format!("those of {}", shown_path(file)),
                    None => format!("{} % of each class", 100.0 * config.fraction),
                },
                last.top1,
                last.top5,
                best.top1,
                best.epoch
            ));
            cli::print(&format!("{:.1} s; result in {}", record.wall_s, subject.out.display()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// `1%` or `0.01`.
fn share(text: &str) -> Result<f64> {
    // Divided, so that 57% is 0.57 to the last bit.
    let (number, of) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    let share = number.trim().parse::<f64>().map(|number| number / of);
    share.map_err(|_| Error::input(format!("--labels is no share: `{text}`")).hint("for example 1% or 0.1"))
}
