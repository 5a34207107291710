//! What a person sees of a run.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::Result;
use crate::eval::linear::Probed;
use crate::method::{POSITIVE, POSITIVE_SCORE};
use crate::time::duration;
use crate::train::events::{Event, Outcome, Sink};

/// Without a terminal, the least time between two step lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// So many unreadable images are named one by one; thousands would bury everything else.
const BROKEN_SHOWN: u64 = 10;

/// Shows a run to a person: a progress bar on a terminal, plain lines elsewhere, on standard error.
pub struct Terminal {
    out: Box<dyn Write>,
    /// Whether there is a terminal to show a bar on; `bar` exists from the start to the end of the run.
    tty: bool,
    bar: Option<ProgressBar>,
    quiet: bool,
    line_every: Duration,
    last_line: Option<Instant>,
    steps: u64,
    epochs: u64,
    broken: u64,
}

impl Terminal {
    /// The view for this process's standard error; `quiet` leaves warnings only.
    pub fn new(quiet: bool) -> Self {
        let tty = !quiet && std::io::stderr().is_terminal();
        Self { tty, quiet, ..Self::lines(std::io::stderr(), LINE_EVERY) }
    }

    /// Plain lines to any writer; a step line at most every `line_every`.
    pub fn lines(out: impl Write + 'static, line_every: Duration) -> Self {
        let (out, tty, bar, quiet, last_line) = (Box::new(out), false, None, false, None);
        Self { out, tty, bar, quiet, line_every, last_line, steps: 0, epochs: 0, broken: 0 }
    }

    /// A lost terminal (a closed pipe, a dropped connection) must not end a run of days, so this one failure is let pass:
    /// everything shown here is in the metrics file too.
    fn say(&mut self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => drop(writeln!(self.out, "{line}").and_then(|()| self.out.flush())),
        }
    }

    fn start(&mut self, lines: &str, step: u64) {
        if !self.quiet {
            self.say(lines);
        }
        if self.tty {
            let style = ProgressStyle::with_template("{bar:10.cyan/dim} {pos}/{len}  {wide_msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─");
            let bar = ProgressBar::with_draw_target(Some(self.steps), ProgressDrawTarget::stderr()).with_style(style);
            self.bar = Some(bar.with_position(step));
        }
    }

    fn step(&mut self, step: u64, epoch: u64, numbers: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(step);
            bar.set_message(numbers.to_owned());
        } else if !self.quiet && self.last_line.is_none_or(|at| at.elapsed() >= self.line_every) {
            self.last_line = Some(Instant::now());
            let line = format!("step {step}/{}  epoch {epoch}/{}  {numbers}", self.steps, self.epochs);
            self.say(&line);
        }
    }

    fn end(&mut self, line: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if !self.quiet {
            self.say(line);
        }
    }

    fn broken(&mut self, line: &str) {
        self.broken += 1;
        if self.broken <= BROKEN_SHOWN {
            self.say(line);
        } else if self.broken == BROKEN_SHOWN + 1 {
            self.say("warning: further unreadable images are listed in metrics.jsonl only");
        }
    }
}

impl Sink for Terminal {
    fn on(&mut self, event: &Event) -> Result<()> {
        if let Event::Start { steps, epochs, .. } = event {
            (self.steps, self.epochs) = (*steps, *epochs);
        }
        let text = text(event, self.epochs);
        match event {
            Event::Start { step, .. } => self.start(&text, *step),
            Event::Step { step, epoch, .. } => self.step(*step, *epoch, &text),
            Event::Broken { .. } => self.broken(&text),
            Event::Warning { .. } => self.say(&text),
            Event::End { .. } => self.end(&text),
            Event::Checkpoint { .. } if self.bar.is_some() => {}
            _ if self.quiet => {}
            _ => self.say(&text),
        }
        Ok(())
    }
}

/// The event in words; `pos` is the probability of the positive, `score` its unnormalised score, `wait` the share of the time spent waiting for data. Of a
/// step only the numbers, short enough for a bar on 80 columns.
fn text(event: &Event, epochs: u64) -> String {
    match event {
        Event::Start { run, method, mixture, device, kernels, train, test, images, step, steps, epochs, parameters } => {
            let resumed = if *step > 0 { format!(", resumed at step {step}") } else { String::new() };
            let kernels: String =
                kernels.iter().map(|k| format!("\n  {:8} {}: {}", k.op.name(), k.path.name(), k.reason)).collect();
            let test = test.as_ref().map_or("none, so no kNN", String::as_str);
            format!(
                "{method} with mixture {mixture} on {device}\n  run      {run}{resumed}{kernels}\n  train    {train}\n  test     {test}\n  \
                 work     {} images, {} epochs, {} steps, {} parameters",
                grouped(*images),
                grouped(*epochs),
                grouped(*steps),
                grouped(*parameters)
            )
        }
        Event::Step { loss, signals, images_per_s, data_wait, eta_s, .. } => format!(
            "loss {loss:.4}  {}{} img/s  wait {:.0}%  ETA {}",
            headline(signals),
            rate(*images_per_s),
            data_wait * 100.0,
            duration(*eta_s)
        ),
        Event::Epoch { epoch, loss, signals, wall_s, images_per_s, data_wait, lr, .. } => format!(
            "epoch {epoch}/{epochs}  loss {loss:.4}  {}lr {lr:.3e}  {} img/s  wait {:.0}%  {}",
            headline(signals),
            rate(*images_per_s),
            data_wait * 100.0,
            duration(*wall_s)
        ),
        Event::Broken { name, reason, replaced_by } => {
            format!("warning: `{name}` cannot be used ({reason}); `{replaced_by}` takes its place")
        }
        Event::Checkpoint { step, path, bytes, seconds, .. } => {
            let size = if *bytes > 0 {
                format!(" ({:.1} MiB, {})", *bytes as f64 / f64::from(1 << 20), duration(*seconds))
            } else {
                String::new()
            };
            format!("checkpoint of step {step}: {path}{size}")
        }
        Event::Warning { message } => format!("warning: {message}"),
        Event::Knn { epoch, protocol, k, top1, best, wall_s, .. } => {
            format!("{protocol} (k {k}) after epoch {epoch}: {:.2} % top-1, best {:.2} %, {}", top1, best, duration(*wall_s))
        }
        Event::Monitor { epoch, feature_std, rankme, rankme_features, lidar, alignment, uniformity, linear, wall_s, .. } => {
            format!(
                "monitor after epoch {epoch}: feature std {feature_std:.4}, RankMe {rankme:.1} (features {rankme_features:.1}), LiDAR {lidar:.1}, \
             alignment {alignment:.3}, uniformity {uniformity:.2}, {}{}",
                linear.as_ref().map_or_else(String::new, probed),
                duration(*wall_s)
            )
        }
        Event::End { outcome, step, loss, wall_s, images_per_s, .. } => {
            let (took, rate) = (duration(*wall_s), rate(*images_per_s));
            match outcome {
                Outcome::Finished => format!("finished {} steps in {took}: loss {loss:.4}, {rate} img/s", grouped(*step)),
                Outcome::Interrupted => format!("interrupted at step {step} after {took}; continue with --resume auto"),
                Outcome::Failed => format!("failed after step {step}, {took} from the start"),
            }
        }
    }
}

/// `linear-htdt 85.10 % top-1, 99.20 % top-5, `
fn probed(linear: &Probed) -> String {
    format!("{} {:.2} % top-1, {:.2} % top-5, ", linear.protocol, linear.top1, linear.top5)
}

/// The first signal, if the method has one, with room behind it.
fn headline(signals: &[(String, f64)]) -> String {
    let short = |name: &str| match name {
        POSITIVE => "pos".to_owned(),
        POSITIVE_SCORE => "score".to_owned(),
        other => other.replace('_', " "),
    };
    signals.first().map_or_else(String::new, |(name, value)| format!("{} {value:.3}  ", short(name)))
}

/// `12,345`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn rate(per_s: f64) -> String {
    if per_s >= 100.0 && per_s.is_finite() { grouped(per_s.round() as u64) } else { format!("{per_s:.1}") }
}

#[cfg(test)]
mod tests;
