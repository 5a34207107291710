//! What a suite did: the cases it looked at, those that failed, and why.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

/// Failures whose text is kept; the others are counted. A device that is broken fails every case in the same way.
const TEXTS: usize = 5;
/// Characters kept of a failure's text: a mixture plan in words can be long.
const LONGEST: usize = 3000;

/// Panics heard by the hook of [`capture_panics`] since the last look, with the place they come from.
static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From now on a panic prints nothing; its message and place are kept for the suite that fails by it. For the whole process.
pub fn capture_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, |at| format!(" ({at})"));
        let thread = std::thread::current();
        // The device's own threads panic too, and theirs is then the message that says what happened.
        let thread = thread.name().filter(|name| *name != "main").map_or_else(String::new, |name| format!(" [thread {name}]"));
        HEARD.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{}{place}{thread}", words(info.payload())));
    }));
}

/// Counts of one suite on one device.
#[derive(Debug, Default)]
pub struct Tally {
    /// Cases looked at.
    pub cases: usize,
    /// Cases (or groups of them) that failed.
    pub failed: usize,
    /// The texts of the first failures.
    pub failures: Vec<String>,
    /// What was left out and why, for example a type that the device does not have.
    pub notes: Vec<String>,
    /// Where we are, from the outside to the inside.
    at: Vec<String>,
}

impl Tally {
    /// Looks at one case: a panic of `body` is a failure of this case, and the next one follows.
    pub fn case(&mut self, what: &str, body: impl FnOnce()) {
        self.cases += 1;
        self.within(what, |_| body());
    }

    /// Does a group of cases, whose failures then say that they belong to `what`. A panic of `body` outside a case is a failure too.
    pub fn within(&mut self, what: &str, body: impl FnOnce(&mut Self)) {
        self.at.push(what.to_owned());
        drop(heard());
        let depth = self.at.len();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| body(self))) {
            let heard = heard();
            let text = if heard.is_empty() { words(payload.as_ref()) } else { heard.join("\n") };
            // A panic leaves inner groups open.
            self.at.truncate(depth);
            self.fail(&text);
        }
        self.at.pop();
    }

    /// Says what was left out.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    fn fail(&mut self, text: &str) {
        self.failed += 1;
        if self.failures.len() < TEXTS {
            let whole = self.at.iter().filter(|at| !text.starts_with(at.as_str())).cloned().chain([text.to_owned()]);
            self.failures.push(whole.collect::<Vec<_>>().join(": ").chars().take(LONGEST).collect());
        }
    }
}

/// The panics heard since the last call.
fn heard() -> Vec<String> {
    std::mem::take(&mut *HEARD.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The message of a panic.
fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_case_is_named_with_its_group_and_the_next_one_runs() {
        let mut tally = Tally::default();
        tally.within("path cube", |tally| {
            tally.case("first", || assert_eq!(1, 2, "off by one"));
            tally.case("second", || ());
        });
        assert_eq!((tally.cases, tally.failed), (2, 1));
        assert!(tally.failures[0].starts_with("path cube: first: ") && tally.failures[0].contains("off by one"), "{tally:?}");
    }

    #[test]
    fn a_panic_between_cases_fails_and_leaves_no_group_open() {
        let mut tally = Tally::default();
        tally.within("outer", |tally| tally.within("inner", |_| panic!("lost the device")));
        tally.case("after", || panic!("again"));
        assert_eq!(tally.failures, ["outer: inner: lost the device", "after: again"]);
    }

    #[test]
    fn texts_are_few_and_short() {
        let mut tally = Tally::default();
        (0..20).for_each(|i| tally.case(&format!("case {i}"), || panic!("{}", "long ".repeat(2000))));
        assert_eq!((tally.failed, tally.failures.len()), (20, TEXTS));
        assert!(tally.failures.iter().all(|text| text.chars().count() == LONGEST));
    }
}
