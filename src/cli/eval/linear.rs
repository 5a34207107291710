//! `unmix eval linear`.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::progress::Progress;
use super::subject::{Subject, SubjectArgs};
use crate::cli;
use crate::error::{Error, Result};
use crate::eval::linear::config::Facts;
use crate::eval::linear::saved::Saved;
use crate::eval::linear::{Course, Outcome, Plan, Protocol, Task};
use crate::eval::record::Record;
use crate::model::LayerName;

/// `unmix eval linear`.
#[derive(Debug, Args)]
pub struct Linear {
    #[command(flatten)]
    subject: SubjectArgs,
    /// Layers to probe, separated by commas, or `all`; all in one pass: features, embedding, or numbers from 1 (-1 is the last). By default
    /// the features before the head.
    #[arg(long, value_name = "LAYERS", allow_hyphen_values = true)]
    layer: Option<String>,
    /// The published recipe: cmc (linear-v1), moco, cifar or htdt.
    #[arg(long, value_enum)]
    protocol: Option<Protocol>,
    /// Learning rates, separated by commas, trained side by side.
    #[arg(long, value_name = "RATES", value_delimiter = ',')]
    lr: Vec<f64>,
    /// Length in epochs.
    #[arg(long)]
    epochs: Option<u64>,
    /// Train without augmentation: features are computed once, which is fast and not the published recipe.
    #[arg(long)]
    fast: bool,
    /// Start anew where an interrupted evaluation could be resumed.
    #[arg(long)]
    restart: bool,
}

impl Linear {
    /// Runs the subcommand.
    pub fn run(&self) -> Result<ExitCode> {
        let subject = self.subject.open(&self.settings()?)?;
        let plan = self.plan(&subject)?;
        let head: Vec<usize> = plan.layers.clone();
        subject.check_head(&head, "eval.linear.layer")?;
        let whole = json!({"plan": plan, "seed": subject.config.seed});
        let (identity, name) = (subject.context.identity(&whole), subject.context.name(&plan.tag, &whole));
        let task = Task {
            encoder: &subject.encoder,
            train: subject.train.clone(),
            test: subject.test.clone(),
            plan,
            how: subject.extraction(),
            seed: subject.config.seed,
            state: subject.out.join(format!("{name}.state")),
            identity,
        };
        if self.restart {
            Saved::remove(&task.state)?;
        }
        let mut progress = Progress::new(self.subject.json, task.plan.epochs);
        let outcome = task.run(cli::signals::stop_flag("this epoch")?, &mut |courses| progress.tell(courses))?;
        progress.end();
        if let Some(epoch) = outcome.interrupted {
            cli::print(&format!("stopped after epoch {epoch}; the same command goes on from there"));
            return Ok(ExitCode::from(cli::signals::status()));
        }
        let records = records(&subject, &task.plan, &outcome);
        subject.tell_unreadable(&outcome.unreadable);
        for record in &records {
            record.write(&subject.out)?;
        }
        Saved::remove(&task.state)?;
        if self.subject.json {
            cli::print_json(&json!({"results": records}))?;
        } else {
            cli::print(&text(&records, &outcome, &subject));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The flags as settings of the config.
    fn settings(&self) -> Result<Vec<String>> {
        let mut out = Vec::new();
        match self.layer.as_deref() {
            None | Some("all") => {}
            Some(names) => out.push(format!("eval.linear.layer={}", json!(layers(names)?))),
        }
        let protocol = self.protocol.map(|protocol| json!(protocol).as_str().unwrap_or_default().to_owned());
        out.extend(protocol.map(|name| format!("eval.linear.protocol={name}")));
        if !self.lr.is_empty() {
            out.push(format!("eval.linear.lr={}", json!(self.lr)));
        }
        out.extend(self.epochs.map(|epochs| format!("eval.linear.epochs={epochs}")));
        out.extend(self.fast.then(|| "eval.linear.recipe=center".to_owned()));
        Ok(out)
    }

    fn plan(&self, subject: &Subject) -> Result<Plan> {
        let config = &subject.config;
        let facts = Facts { classes: subject.train.classes().len(), ..config.probed() };
        let mut plan = config.eval.linear.plan(&facts)?;
        if self.layer.as_deref() == Some("all") {
            plan.layers = (1..=subject.last_layer).collect();
        }
        Ok(plan)
    }
}

/// The layers of a flag, separated by commas.
fn layers(names: &str) -> Result<Vec<LayerName>> {
    let layer = |name: &str| {
        name.parse().map_err(|fact: String| Error::input(format!("--layer: {fact}")).hint("for example --layer 2,features"))
    };
    names.split(',').map(layer).collect()
}

/// One record per layer. Of several rates the one with the highest last accuracy is the result, and the record says so.
fn records(subject: &Subject, plan: &Plan, outcome: &Outcome) -> Vec<Record> {
    let of_layer = |layer: usize| {
        let rates: Vec<&Course> = outcome.courses.iter().filter(|course| course.layer == layer).collect();
        let finite = rates.iter().copied().filter(|course| course.is_finite());
        let chosen = finite.reduce(|a, b| if b.last().top1 > a.last().top1 { b } else { a }).unwrap_or(rates[0]);
        let mut protocol = json!(plan);
        if let Some(table) = protocol.as_object_mut() {
            table.shift_remove("layers");
            table.insert("layer".into(), layer.into());
            table.insert("seed".into(), subject.config.seed.into());
        }
        let one = |course: &Course| {
            let (last, best) = (course.last(), course.best());
            json!({
                "lr": course.lr, "top1_last": last.top1, "top5_last": last.top5, "loss_last": last.loss,
                "top1_best": best.top1, "best_epoch": best.epoch,
            })
        };
        let mut result = one(chosen);
        result["rates"] = rates.iter().map(|course| one(course)).collect::<Value>();
        result["rate_chosen_by"] = if rates.len() > 1 { json!("top-1 of the last epoch on the test split") } else { Value::Null };
        result["curve"] = json!(chosen.curve);
        result["cached"] = outcome.cached.into();
        (result["images_per_s"], result["data_wait"]) = (outcome.images_per_s.into(), outcome.data_wait.into());
        (result["epochs_s"], result["broken_images"]) = (outcome.epochs_s.into(), outcome.unreadable.len().into());
        result["unreadable"] = json!(outcome.unreadable);
        subject.context.record("linear", &format!("{}-l{layer}", plan.tag), protocol, result, outcome.wall_s)
    };
    plan.layers.iter().map(|&layer| of_layer(layer)).collect()
}

/// The layer of a record, with its name if it has one of its own.
fn shown(protocol: &Value) -> String {
    match protocol["layer_name"].as_str() {
        Some(name @ ("features" | "embedding")) => format!("{} ({name})", protocol["layer"]),
        _ => protocol["layer"].to_string(),
    }
}

fn text(records: &[Record], outcome: &Outcome, subject: &Subject) -> String {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let mut out = String::new();
    for Record { protocol, result, .. } in records {
        out += &format!(
            "{} layer {} (lr {}{}, {} epochs): top-1 {:.2} %, top-5 {:.2} % at the last epoch; best top-1 {:.2} % at epoch {}\n",
            protocol["tag"].as_str().unwrap_or_default(),
            shown(protocol),
            result["lr"],
            match result["rates"].as_array().map_or(0, Vec::len) {
                0 | 1 => String::new(),
                rates => format!(", the best of {rates} on the test split"),
            },
            protocol["epochs"],
            number(&result["top1_last"]),
            number(&result["top5_last"]),
            number(&result["top1_best"]),
            result["best_epoch"]
        );
    }
    out + &format!(
        "{:.1} s, features {} at {:.0} images/s, data wait {:.1} %; results in {}",
        outcome.wall_s,
        if outcome.cached { "computed once" } else { "computed in every epoch" },
        outcome.images_per_s,
        100.0 * outcome.data_wait,
        subject.out.display()
    )
}
