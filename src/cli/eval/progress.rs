//! The progress of an evaluation, on standard error.

use std::io::{IsTerminal, Write};

use crate::eval::linear::Course;

/// One line per epoch on a terminal, rewritten; elsewhere a line now and then.
pub struct Progress {
    quiet: bool,
    tty: bool,
    epochs: u64,
}

impl Progress {
    /// For `epochs`; `quiet` shows nothing.
    pub fn new(quiet: bool, epochs: u64) -> Self {
        Self { quiet, tty: std::io::stderr().is_terminal(), epochs }
    }

    /// Shows the best course after an epoch.
    pub fn tell(&mut self, courses: &[Course]) {
        let Some(best) = courses.iter().filter(|course| course.is_finite()).max_by(|a, b| a.last().top1.total_cmp(&b.last().top1))
        else {
            return;
        };
        let point = best.last();
        let due = self.tty || point.epoch == self.epochs || point.epoch.is_multiple_of((self.epochs / 10).max(1));
        if self.quiet || !due {
            return;
        }
        let line = format!(
            "epoch {}/{}: layer {} lr {}: loss {:.4}, top-1 {:.2} %",
            point.epoch, self.epochs, best.layer, best.lr, point.loss, point.top1
        );
        let (start, end) = if self.tty { ("\r\x1b[K", "") } else { ("", "\n") };
        // A lost terminal must not end an evaluation of hours.
        let _ = write!(std::io::stderr(), "{start}{line}{end}");
    }

    /// Ends the line.
    pub fn end(&self) {
        if self.tty && !self.quiet {
            let _ = writeln!(std::io::stderr());
        }
    }
}
