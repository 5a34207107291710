//! Configs, `--set` arguments and mixture plans out of damaged and made-up text: an answer or an error, never a panic, and in little memory.
//! `UNMIX_FUZZ_CASES` is the number of cases of each target, `UNMIX_FUZZ_SEED` where the draws begin.

mod common;

use std::time::Instant;

use common::setting;
use serde_json::{Value, json};
use unmix::config::{RunConfig, layer, saved, schema};
use unmix::device;
use unmix::mixture::MixturePlan;
use unmix::rng::{Purpose, Stream};
use unmix::train::summary::peak_rss_mib;

/// Cases of each target: a second or two where nothing is asked for.
fn cases() -> u64 {
    setting("UNMIX_FUZZ_CASES", 400)
}

/// What one case draws.
struct Draw(Stream);

impl Draw {
    fn of(target: &str, case: u64) -> Self {
        Self(Stream::named(setting("UNMIX_FUZZ_SEED", 1), Purpose::Probe, &format!("fuzz/{target}/{case}")))
    }

    fn below(&mut self, end: usize) -> usize {
        self.0.below(end as u64) as usize
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Numbers at the edges of everything, and words that are almost ours.
    fn scalar(&mut self) -> Value {
        const NUMBERS: [f64; 14] = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-308, 5e-324, 1e308, -1e308, 1e19, 2.5, 255.0, 1e9, -7.0];
        const WHOLE: [u64; 12] = [0, 1, 2, 3, 7, 8, 255, 65_536, 1 << 31, 1 << 32, 1 << 53, u64::MAX];
        const WORDS: [&str; 16] = [
            "",
            "auto",
            "moco",
            "cmc",
            "insdis",
            "im",
            "unmix",
            "region",
            "nce",
            "resnet50",
            "alexnet_half",
            "-1",
            "\u{0}",
            "é",
            "lab",
            "synthetic",
        ];
        match self.below(8) {
            0 => Value::Null,
            1 => Value::Bool(self.below(2) == 0),
            2 | 3 => json!(NUMBERS[self.below(NUMBERS.len())]),
            4 | 5 => json!(WHOLE[self.below(WHOLE.len())]),
            _ => json!(WORDS[self.below(WORDS.len())]),
        }
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(10) {
            0 if depth > 0 => (0..self.below(4)).map(|_| self.value(depth - 1)).collect(),
            1 if depth > 0 => (0..self.below(4)).map(|at| (format!("k{at}"), self.value(depth - 1))).collect(),
            _ => self.scalar(),
        }
    }

    /// The text with a few bytes changed, cut or repeated.
    fn damaged(&mut self, text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..1 + self.below(4) {
            let at = self.below(bytes.len().max(1)).min(bytes.len());
            match self.below(4) {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => bytes[at] = self.below(256) as u8,
                2 if at < bytes.len() => drop(bytes.remove(at)),
                _ => {
                    let end = (at + self.below(20)).min(bytes.len());
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Runs a target, and says what it took.
fn fuzz(target: &str, mut case: impl FnMut(&mut Draw)) {
    let (started, before) = (Instant::now(), peak_rss_mib().unwrap_or(0.0));
    for number in 0..cases() {
        case(&mut Draw::of(target, number));
    }
    let grown = peak_rss_mib().unwrap_or(0.0) - before;
    eprintln!("{target}: {} cases in {:.1} s, {grown:.0} MiB more", cases(), started.elapsed().as_secs_f64());
    assert!(grown < 512.0, "{target} took {grown} MiB");
}

/// All keys of the schema as `--set` writes them.
fn paths() -> Vec<String> {
    let keys = schema::keys::<RunConfig>();
    keys.iter().map(|key| key.path.replace("[]", ".0").replace('*', "x")).collect()
}

/// A config that passes is resolved, written, read again as itself, and weighed.
fn use_config(value: Value) {
    let _ = saved::readable(value.clone());
    let Ok(config) = RunConfig::from_value(value) else { return };
    let resolved = config.resolved();
    let again = RunConfig::from_value(serde_json::to_value(&resolved).unwrap());
    assert_eq!(again.as_ref().ok(), Some(&resolved), "{again:?}");
    let cpu = device::open("cpu").unwrap().info;
    for images in [1, 60_000, usize::MAX] {
        let _ = resolved.check_memory(images, &cpu);
    }
}

/// Keys that exist with values that may not.
#[test]
fn configs_of_any_values() {
    let paths = paths();
    fuzz("config", |draw| {
        let mut value = json!({"schedule": {"epochs": 1}});
        for _ in 0..1 + draw.below(6) {
            let path = draw.one(&paths).clone();
            let new = draw.value(2);
            let _ = layer::set(&mut value, &format!("{path}={new}"));
        }
        use_config(value);
    });
}

/// Any text as a config file.
#[test]
fn config_files_of_any_text() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "json"));
    files.sort();
    let texts: Vec<String> = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fuzz.json");
    fuzz("file", |draw| {
        let text = draw.one(&texts).clone();
        std::fs::write(&path, draw.damaged(&text)).unwrap();
        if let Ok(value) = layer::read(&path) {
            use_config(value);
        }
    });
    // Brackets without end are refused before they use up the stack.
    for open in ["[", "{\"a\":"] {
        std::fs::write(&path, open.repeat(100_000)).unwrap();
        assert!(layer::read(&path).is_err());
    }
}

/// Any text as an assignment.
#[test]
fn assignments_of_any_text() {
    let paths = paths();
    fuzz("set", |draw| {
        let mut value = json!({"schedule": {"epochs": 1}, "views": {"mean": [0.5, 0.5, 0.5]}});
        for _ in 0..1 + draw.below(3) {
            let (path, new) = (draw.one(&paths).clone(), draw.value(2).to_string());
            let assignment = draw.damaged(&format!("{path}={new}"));
            let before = value.clone();
            if layer::set(&mut value, &assignment).is_err() {
                assert_eq!(value, before, "a refused assignment left something behind: {assignment}");
            }
        }
        use_config(value);
    });
}

/// Plans of any numbers: what passes the check lies within its images.
#[test]
fn plans_of_any_numbers() {
    let row = json!({"kind": "paste", "partner": 1, "lambda": 0.5, "box": [1, 1, 3, 4], "own_scale": 1.0, "fill_value": 0.0});
    let first = serde_json::to_value(MixturePlan::default()).unwrap();
    assert!(first["stages"].is_array() && first["keep"].is_number());
    let keys = ["kind", "partner", "lambda", "box", "own_scale", "fill_value"];
    fuzz("plan", |draw| {
        let mut rows = Vec::new();
        for _ in 0..draw.below(5) {
            let mut row = row.clone();
            for _ in 0..draw.below(3) {
                let key = *draw.one(&keys);
                row[key] = match key {
                    "kind" => json!(*draw.one(&["copy", "blend", "paste", "fill", "resize", "else"])),
                    "box" => {
                        let side = |draw: &mut Draw| *draw.one(&[0u32, 1, 2, 5, 8, 9, u32::MAX]);
                        json!([side(draw), side(draw), side(draw), side(draw)])
                    }
                    _ => draw.scalar(),
                };
            }
            rows.push(row);
        }
        let text = json!({"stages": [{"passes": [rows]}], "keep": draw.below(5)}).to_string();
        let text = if draw.below(2) == 0 { draw.damaged(&text) } else { text };
        let Ok(plan) = serde_json::from_str::<MixturePlan>(&text) else { return };
        let (t, h, w) = (1 + draw.below(4), 1 + draw.below(8), 1 + draw.below(8));
        if plan.validate(t, h, w).is_ok() {
            for row in plan.stages.iter().flat_map(|stage| stage.passes.iter().flatten()) {
                let b = &row.bbox;
                assert!(
                    (row.partner as usize) < t && b.y1 as usize <= h && b.x1 as usize <= w && b.y0 <= b.y1 && b.x0 <= b.x1,
                    "{row:?}"
                );
                assert!((0.0..=1.0).contains(&row.lambda) && row.own_scale.is_finite() && row.fill_value.is_finite(), "{row:?}");
            }
            assert!(plan.keep <= t);
        }
    });
}
