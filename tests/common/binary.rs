//! Running the real binary in a fresh directory.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use super::Tensors;

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The smoke config.
pub fn smoke() -> PathBuf {
    root().join("configs/smoke.json")
}

/// The command, in `dir`, on the CPU unless the arguments say otherwise.
pub fn unmix(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unmix"));
    command.current_dir(dir).args(args);
    command
}

/// `pretrain` with the smoke config on the CPU and further arguments.
pub fn pretrain(dir: &Path, args: &[&str]) -> Command {
    let mut command = unmix(dir, &["pretrain", "--device", "cpu", "--config"]);
    command.arg(smoke()).args(args);
    command
}

/// Runs to the end and expects success.
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", text(&output));
    output
}

/// Runs to the end and expects exit status 2, a message with `fact` and a hint with `hint`.
pub fn refuse(command: &mut Command, fact: &str, hint: &str) -> String {
    let output = command.output().unwrap();
    let text = text(&output);
    assert_eq!(output.status.code(), Some(2), "{command:?}\n{text}");
    assert!(text.contains("error: "), "{text}");
    assert!(text.contains(fact), "no `{fact}` in\n{text}");
    let hints: Vec<&str> = text.lines().filter(|line| line.trim_start().starts_with("hint: ")).collect();
    assert!(hints.iter().any(|line| line.contains(hint)), "no hint with `{hint}` in\n{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// stdout and stderr.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The records of `metrics.jsonl` with a given `event`.
pub fn events(run: &Path, event: &str) -> Vec<serde_json::Value> {
    let lines = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let records = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    records.filter(|record| record["event"] == event).collect()
}

/// A JSON file.
pub fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

/// Both runs ended with the same bits in every tensor of their checkpoints.
pub fn same_tensors(a: &Path, b: &Path) {
    let read = |run: &Path| Tensors::read(&run.join("checkpoint/tensors.safetensors")).floats;
    let (a, b) = (read(a), read(b));
    assert_eq!(a.len(), b.len());
    for (name, (shape, values)) in &a {
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!((shape, bits(values)), (&b[name].0, bits(&b[name].1)), "{name}");
    }
}

/// Waits for something that a running command does.
pub fn wait_for(child: &mut Child, ready: impl Fn() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended too early");
        assert!(start.elapsed() < Duration::from_secs(120), "the run does not get going");
        std::thread::sleep(Duration::from_millis(10));
    }
}
