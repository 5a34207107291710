//! Errors that say what happened and what to try.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

/// The result type of everything that can fail on the user's input.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the command's exit status tells a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request cannot be carried out as given: a file, a key, a value, a device. Exit status 2.
    Input,
    /// The run itself went wrong: a non-finite loss, a device failure. Exit status 1.
    Run,
    /// Someone asked for the end before there was a result. The exit status is that of the signal.
    Interrupted,
}

/// A failure with the fact, optional details (one line each) and optional hints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    message: String,
    details: Vec<String>,
    hints: Vec<String>,
}

impl Error {
    /// An error in what was asked for; `message` states the fact in lower case without a final full stop.
    pub fn input(message: impl Into<String>) -> Self {
        Self { kind: Kind::Input, message: tame(message.into()), details: Vec::new(), hints: Vec::new() }
    }

    /// A failure of the run itself.
    pub fn run(message: impl Into<String>) -> Self {
        Self { kind: Kind::Run, ..Self::input(message) }
    }

    /// The work was to end before it had a result.
    pub fn interrupted() -> Self {
        Self { kind: Kind::Interrupted, ..Self::input("stopped before there was a result") }
    }

    /// An I/O failure on a path. Its hint follows from the kind of failure.
    pub fn io(doing: &str, path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        let base = Self::input(format!("cannot {doing} {}: {error}", shown_path(path)));
        match error.kind() {
            K::NotFound => base.hint("check the path; relative paths start at the current directory"),
            K::PermissionDenied => base.hint("check the permissions of the file and of its folder"),
            K::StorageFull | K::QuotaExceeded => base.hint("free some space, or choose another folder with --out"),
            K::NotADirectory => base.hint("a file stands where a folder should be: check the path"),
            K::IsADirectory => base.hint("a folder stands where a file should be: check the path"),
            K::ReadOnlyFilesystem => base.hint("choose a writable folder with --out"),
            _ => base,
        }
    }

    /// Adds one suggestion, printed as `hint: ...`.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(tame(hint.into()));
        self
    }

    /// Adds one line of detail, printed indented below the fact.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.details.push(tame(detail.into()));
        self
    }

    /// The fact alone.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The lines below the fact.
    pub fn details(&self) -> &[String] {
        &self.details
    }

    /// The suggestions.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Fact and hints in one line, for a list of problems.
    pub fn in_a_line(&self) -> String {
        std::iter::once(&self.message).chain(&self.hints).map(String::as_str).collect::<Vec<_>>().join("; ")
    }

    /// Whose fault it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The process exit status: 2 for a bad request, 1 for a failed run, 130 for an interrupted one.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Input => 2,
            Kind::Run => 1,
            // Ctrl-C, as shells report it.
            Kind::Interrupted => 130,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        for detail in &self.details {
            write!(f, "\n  {detail}")?;
        }
        for hint in &self.hints {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// A text from outside, such as the name of a file, for a message: what would break the line, move the cursor, colour the terminal or turn
/// the direction of writing is written as an escape (`\\n`, `\\u{1b}`).
pub fn shown(text: &str) -> Cow<'_, str> {
    // The bidirectional overrides are no control characters to Unicode, but they are to a reader.
    let acts = |c: char| {
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
    };
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if acts(c) { c.escape_default().to_string() } else { c.to_string() }).collect())
}

/// A path in backticks, as [`shown`] writes it.
pub fn shown_path(path: &Path) -> String {
    format!("`{}`", shown(&path.to_string_lossy()))
}

/// Keeps a text from outside that was not [`shown`] from acting on the terminal; line ends may be meant.
fn tame(text: String) -> String {
    let lines = text.trim_end_matches('\n').split('\n').map(shown);
    lines.collect::<Vec<_>>().join("\n")
}

/// `; did you mean ...` for the nearest of `known`, or all of them if none is near.
pub fn nearest<'a>(got: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let best = known.iter().map(|k| (strsim::normalized_damerau_levenshtein(got, k), *k)).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((score, name)) if score >= 0.5 => format!("did you mean `{name}`?"),
        _ => format!("known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_fact_details_and_hints_in_that_order() {
        let error = Error::input("it broke").hint("mend it").detail("at the seam");
        assert_eq!(error.to_string(), "it broke\n  at the seam\nhint: mend it");
        assert_eq!(error.exit_code(), 2);
        assert_eq!(Error::run("x").exit_code(), 1);
    }

    #[test]
    fn names_from_outside_do_not_reach_the_terminal_raw() {
        assert_eq!(shown("a\n\x1b[31mb\r\t\u{9b}c.jpg"), "a\\n\\u{1b}[31mb\\r\\t\\u{9b}c.jpg");
        assert_eq!(shown("кот 猫 é.jpg"), "кот 猫 é.jpg");
        assert_eq!(shown("a\u{202e}gpj"), "a\\u{202e}gpj");
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = Error::io("read", Path::new("x\ny"), &missing).detail("\x1b[2J").hint("\x07");
        assert!(error.to_string().starts_with("cannot read `x\\ny`: "), "{error}");
        assert!(!error.to_string().contains(['\x1b', '\x07']), "{error}");
        assert_eq!(Error::input("two\nlines\n").message(), "two\nlines");
    }

    #[test]
    fn names_the_nearest_or_all() {
        assert_eq!(nearest("temperatur", ["temperature", "momentum"]), "did you mean `temperature`?");
        assert_eq!(nearest("zzz", ["a", "b"]), "known here: a, b");
    }
}
