//! A run as its folder tells it: files only, no encoder and no device. What is missing or damaged is left out and said.

pub mod metrics;
pub mod record;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use metrics::Metrics;
use record::Record;

/// What a run left in its folder.
#[derive(Debug, Clone)]
pub struct Run {
    /// How the run is called in the report: the shortest end of its path that no other run has.
    pub name: String,
    /// Its folder, as it was named.
    pub path: PathBuf,
    /// `config.json`.
    pub config: Value,
    /// `summary.json`; `Null` while the run is unfinished.
    pub summary: Value,
    /// `metrics.jsonl`.
    pub metrics: Metrics,
    /// `preview.png`.
    pub preview: Option<Vec<u8>>,
    /// `eval/*.json`, by file name.
    pub records: Vec<Record>,
}

/// Reads runs and names them. A folder that is given twice is read once. Returns the runs and what the reader should know: files that
/// were skipped, a sentence each.
///
/// # Errors
/// No run at all, or a config that cannot be read.
pub fn read_all(paths: &[PathBuf]) -> Result<(Vec<Run>, Vec<String>)> {
    let (mut runs, mut known, mut notices) = (Vec::<Run>::new(), Vec::new(), Vec::new());
    for path in paths {
        let whole = fs::canonicalize(path).map_err(|error| Error::io("read", path, &error))?;
        if known.contains(&whole) {
            notices.push(format!("`{}` was given more than once; it is shown once", path.display()));
            continue;
        }
        known.push(whole);
        runs.push(Run::read(path, &mut notices)?);
    }
    if runs.is_empty() {
        return Err(Error::input("there is no run to report").hint("name the folders that `unmix pretrain` printed"));
    }
    for (run, name) in runs.iter_mut().zip(shortest_names(&known)) {
        run.name = name;
    }
    Ok((runs, notices))
}

impl Run {
    fn read(path: &Path, notices: &mut Vec<String>) -> Result<Self> {
        let file = path.join("config.json");
        let config = fs::read(&file).map_err(|error| Error::io("read", &file, &error))?;
        let config = serde_json::from_slice(&config).map_err(|error| {
            let fact = format!("`{}` is damaged: {error}", file.display());
            Error::input(fact).hint("leave the run out, or restore the file")
        })?;
        let summary =
            read_or(&path.join("summary.json"), notices, |bytes| serde_json::from_slice(bytes).map_err(|e| e.to_string()));
        let metrics = read_or(&path.join("metrics.jsonl"), notices, |bytes| Ok(Metrics::parse(bytes)));
        let metrics = metrics.unwrap_or_default();
        if metrics.damaged > 0 {
            let file = path.join("metrics.jsonl");
            let lines = if metrics.damaged == 1 { "line was" } else { "lines were" };
            notices.push(format!("`{}`: {} damaged {lines} skipped", file.display(), metrics.damaged));
        }
        Ok(Self {
            name: String::new(),
            path: path.into(),
            config,
            summary: summary.unwrap_or(Value::Null),
            metrics,
            preview: read_or(&path.join("preview.png"), notices, |bytes| Ok(bytes.to_vec())),
            records: record::read_folder(&path.join("eval"), notices)?,
        })
    }

    /// A value of the config; `Null` if it is not there.
    pub fn key(&self, pointer: &str) -> &Value {
        self.config.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// A word of the config, or a dash.
    pub fn word(&self, pointer: &str) -> &str {
        self.key(pointer).as_str().unwrap_or("–")
    }

    /// The method.
    pub fn method(&self) -> &str {
        self.word("/method/name")
    }

    /// The mixture.
    pub fn mixture(&self) -> &str {
        self.word("/mixture/name")
    }

    /// The encoder, with its width if that is not 1.
    pub fn model(&self) -> String {
        match self.key("/model/width").as_f64() {
            Some(width) if width != 1.0 => format!("{} × {width}", self.word("/model/name")),
            _ => self.word("/model/name").into(),
        }
    }

    /// Number of layers of the encoder, the embedding being the last: as the run wrote it down when it started. Runs of versions that did
    /// not are of two families.
    pub fn layers(&self) -> Option<u64> {
        if let Some(layers) = self.key("/run/layers").as_array() {
            return Some(layers.len() as u64);
        }
        match self.word("/model/name") {
            "alexnet_half" => Some(8),
            name if name.starts_with("resnet") => Some(7),
            _ => None,
        }
    }

    /// The pre-training budget in epochs.
    pub fn epochs(&self) -> Option<f64> {
        self.key("/schedule/epochs").as_f64()
    }

    /// Whether this is the baseline, without a mixture.
    pub fn is_baseline(&self) -> bool {
        self.mixture() == "none"
    }

    /// A number of the summary.
    pub fn result(&self, pointer: &str) -> Option<f64> {
        self.summary.pointer(pointer)?.as_f64()
    }

    /// The records of a kind, of the latest checkpoint that was evaluated: those of earlier ones would make saw-teeth of every figure.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Record> {
        let latest = self.records.iter().filter_map(Record::step).max();
        self.records.iter().filter(move |record| record.kind() == kind && (record.step().is_none() || record.step() == latest))
    }
}

/// What a file holds; `None` if there is none, or if it is damaged, which is noted.
fn read_or<T>(file: &Path, notices: &mut Vec<String>, parse: impl Fn(&[u8]) -> Result<T, String>) -> Option<T> {
    let bytes = match fs::read(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        other => other.map_err(|error| error.to_string()),
    };
    match bytes.and_then(|bytes| parse(&bytes)) {
        Ok(value) => Some(value),
        Err(error) => {
            notices.push(format!("`{}` was skipped: {error}", file.display()));
            None
        }
    }
}

/// For each path the fewest last parts that no other path ends with.
fn shortest_names(paths: &[PathBuf]) -> Vec<String> {
    let end = |path: &Path, parts: usize| {
        let all: Vec<_> = path.components().collect();
        let kept = &all[all.len().saturating_sub(parts)..];
        kept.iter().collect::<PathBuf>().to_string_lossy().into_owned()
    };
    let name = |path: &PathBuf| {
        let unique = |parts: &usize| paths.iter().filter(|other| end(other, *parts) == end(path, *parts)).count() == 1;
        (1..=path.components().count()).find(unique).map_or_else(|| path.to_string_lossy().into_owned(), |parts| end(path, parts))
    };
    paths.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_short_as_they_can_be() {
        let names = |paths: &[&str]| shortest_names(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(names(&["/runs/a/moco", "/runs/b/moco", "/runs/b/cmc"]), ["a/moco", "b/moco", "cmc"]);
        assert_eq!(names(&["/"]), ["/"]);
    }

    #[test]
    fn layers_are_those_that_the_run_wrote_down() {
        let dir = tempfile::tempdir().unwrap();
        let layers = |config: &str| {
            fs::write(dir.path().join("config.json"), config).unwrap();
            read_all(&[dir.path().into()]).unwrap().0[0].layers()
        };
        assert_eq!(layers(r#"{"model": {"name": "vit"}, "run": {"layers": ["rows", "features", "embedding"]}}"#), Some(3));
        assert_eq!(layers(r#"{"model": {"name": "resnet18"}, "run": {"version": "0.1.0"}}"#), Some(7), "an older run");
        assert_eq!(layers(r#"{"model": {"name": "vit"}}"#), None);
    }

    #[test]
    fn a_run_is_read_once_and_what_is_damaged_is_said() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("eval")).unwrap();
        fs::write(dir.path().join("config.json"), "{\"mixture\":{\"name\":\"im\"}}").unwrap();
        fs::write(dir.path().join("eval/bad.json"), "{").unwrap();
        fs::write(dir.path().join("summary.json"), "[").unwrap();
        let (runs, notices) = read_all(&[dir.path().into(), dir.path().join(".")]).unwrap();
        assert_eq!((runs.len(), runs[0].mixture(), runs[0].method()), (1, "im", "–"));
        for named in ["bad.json", "summary.json", "more than once"] {
            assert!(notices.iter().any(|notice| notice.contains(named)), "{notices:?}");
        }
        fs::write(dir.path().join("config.json"), "{").unwrap();
        let error = read_all(&[dir.path().into()]).unwrap_err();
        assert!(error.message().contains("config.json` is damaged"), "{error}");
    }
}
