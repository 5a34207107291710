//! Runs that are killed at random moments, again and again until they reach their end, and must then be the run that was never stopped: weights,
//! memories, every line of the metrics and the kNN. `UNMIX_KILL_ROUNDS` is the number of kills (default 8; `scripts/kill_test.sh` takes 100),
//! `UNMIX_KILL_SEED` draws their moments. On a device whose sums have no fixed order, `UNMIX_KILL_DEVICE` compares within what two unbroken runs
//! differ.

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::binary::{json, succeed, text, unmix};
use common::{Tensors, setting};
use serde_json::Value;
use unmix::rng::{Purpose, Stream};

/// Method and mixture of each kind of run.
const RUNS: [(&str, &str); 4] = [
    ("moco", "\"method\": {\"name\": \"moco\", \"memory\": {\"size\": 64}}, \"mixture\": {\"name\": \"im\"}"),
    (
        "unmix",
        "\"method\": {\"name\": \"moco\", \"symmetric\": true, \"memory\": {\"size\": 64}}, \"mixture\": {\"name\": \"unmix\"}",
    ),
    ("insdis", "\"method\": {\"name\": \"insdis\", \"negatives\": 33}, \"mixture\": {\"name\": \"region\"}"),
    ("cmc", "\"method\": {\"name\": \"cmc\", \"negatives\": 33, \"loss\": \"softmax\"}, \"mixture\": {\"name\": \"none\"}"),
];
/// Steps of a run: 8 epochs of 5, across warm-up and milestones, saved after every step so that many kills hit a save.
const STEPS: u64 = 40;
/// Threads of the loader, in turn.
const WORKERS: [&str; 3] = ["1", "2", "8"];
/// A run of that many starts is not getting anywhere.
const MOST_STARTS: u64 = 400;

#[test]
fn a_killed_run_ends_as_the_one_that_was_never_stopped() {
    let (rounds, seed) = (setting::<u64>("UNMIX_KILL_ROUNDS", 8), setting::<u64>("UNMIX_KILL_SEED", 1));
    let device = setting("UNMIX_KILL_DEVICE", "cpu".to_owned());
    let dir = tempfile::tempdir().unwrap();
    let (mut kills, mut hits) = (0, 0);
    let kinds = RUNS.len() as u64;
    for (kind, (name, settings)) in RUNS.iter().enumerate() {
        let config = format!("{name}.json");
        std::fs::write(dir.path().join(&config), config_of(settings)).unwrap();
        let pretrain = |out: &str, workers: &str| {
            let workers = format!("data.workers={workers}");
            let mut command =
                unmix(dir.path(), &["pretrain", "--quiet", "--device", &device, "--resume", "auto", "--config", &config]);
            command.args(["--out", out, "--set", &workers]);
            command
        };
        let whole = format!("{name}-whole");
        let start = Instant::now();
        succeed(&mut pretrain(&whole, "2"));
        let took = start.elapsed();
        let slack = if device == "cpu" {
            0.0
        } else {
            succeed(&mut pretrain(&format!("{name}-again"), "2"));
            difference(&dir.path().join(&whole), &dir.path().join(format!("{name}-again")))
        };
        // The share of this kind, at least one kill each.
        let wanted = (rounds / kinds + u64::from((kind as u64) < rounds % kinds)).max(1);
        let (mut done, mut run) = (0, 0);
        while done < wanted {
            let mut draw = Stream::new(seed, Purpose::Probe, &[kind as u64, run]);
            let out = format!("{name}-{run}");
            // Several kills per run; the last start is left alone.
            let of_this_run = (1 + draw.below(4)).min(wanted - done);
            for nth in 0..MOST_STARTS {
                let mut command = pretrain(&out, WORKERS[(nth as usize + run as usize) % WORKERS.len()]);
                let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
                if nth < of_this_run {
                    // From the first instruction to a little after the end.
                    std::thread::sleep(
                        took.mul_f64(1.05 * draw.uniform() / of_this_run as f64) + Duration::from_millis(draw.below(30)),
                    );
                    child.kill().unwrap();
                    done += 1;
                    kills += 1;
                }
                let output = child.wait_with_output().unwrap();
                // A run that had reached its end was not killed.
                hits += u64::from(nth < of_this_run && output.status.code().is_none());
                if nth >= of_this_run {
                    assert!(output.status.success(), "{out}, start {nth}: {}", text(&output));
                    break;
                }
            }
            compare(&dir.path().join(&whole), &dir.path().join(&out), slack);
            run += 1;
        }
    }
    assert!(2 * hits > kills, "only {hits} of {kills} kills met a run");
    eprintln!("{kills} kills on {device}, {hits} of a run that was at work: every run ended as the one that was never stopped");
}

fn config_of(settings: &str) -> String {
    format!(
        "{{\"data\": {{\"source\": {{\"name\": \"synthetic\", \"count\": 85, \"test_count\": 20, \"height\": 16, \"width\": 16}}, \"batch\": 16}}, \
         \"views\": {{\"crop\": {{\"size\": 16}}}}, {settings}, \
         \"model\": {{\"width\": 0.125, \"stem_channels\": 8, \"bn_splits\": 1}}, \
         \"optim\": {{\"lr\": 0.02}}, \
         \"schedule\": {{\"epochs\": 8, \"kind\": \"multistep\", \"milestones\": [4, 6], \"warmup_epochs\": 2}}, \
         \"checkpoint\": {{\"every_steps\": 1, \"keep\": {{\"every_epochs\": 3}}}}, \"log\": {{\"every_steps\": 1, \"preview\": 0}}, \
         \"eval\": {{\"knn\": {{\"k\": 5}}, \"monitor\": {{\"every_epochs\": 1, \"images\": 16}}}}}}"
    )
}

/// Tensors bit by bit (or within `slack`), states and metrics but for times, and the kNN of the summary.
fn compare(whole: &Path, cut: &Path, slack: f64) {
    let off = difference(whole, cut);
    assert!(off <= slack, "{}: tensors differ by {off:e}, allowed {slack:e}", cut.display());
    if slack > 0.0 {
        return;
    }
    for (file, dropped) in [
        ("checkpoint/state.json", &["wall_s", "run", "epoch_run"][..]),
        ("summary.json", &["wall_s", "images_per_s", "data_wait", "peak_rss_mib"]),
    ] {
        let [a, b] = [whole, cut].map(|run| without(json(&run.join(file)), dropped));
        assert_eq!(a, b, "{}: {file}", cut.display());
    }
    let [a, b] = [whole, cut].map(metrics);
    assert_eq!(a.len(), b.len(), "{}: lines of the metrics\n{a:#?}\n{b:#?}", cut.display());
    a.iter().zip(&b).for_each(|(a, b)| assert_eq!(a, b, "{}", cut.display()));
    // As many images were trained on, however many starts it took.
    let images = |run: &Path| json(&run.join("checkpoint/state.json"))["run"]["images"].as_u64();
    assert_eq!(images(whole), Some(16 * STEPS));
    assert_eq!(images(cut), Some(16 * STEPS));
    let kept = |run: &Path| {
        let mut names: Vec<_> = std::fs::read_dir(run.join("checkpoints")).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(kept(whole), kept(cut), "{}", cut.display());
    assert!(kept(whole).iter().any(|name| name == "step-0000000015"), "{:?}", kept(whole));
}

/// The largest difference of two values of the same name and place.
fn difference(a: &Path, b: &Path) -> f64 {
    let read = |run: &Path| Tensors::read(&run.join("checkpoint/tensors.safetensors")).floats;
    let (folder, a, b) = (b, read(a), read(b));
    let names = |state: &std::collections::HashMap<String, (Vec<usize>, Vec<f32>)>| {
        state.keys().cloned().collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names(&a), names(&b), "{}", folder.display());
    let pairs = a.iter().flat_map(|(name, (shape, values))| {
        assert_eq!(shape, &b[name].0, "{name}");
        values.iter().zip(&b[name].1)
    });
    pairs
        .map(|(a, b)| if a.to_bits() == b.to_bits() { 0.0 } else { f64::from((a - b).abs()).max(f64::MIN_POSITIVE) })
        .fold(0.0, f64::max)
}

/// Every line of what was trained, measured and saved, in order. Starts and ends differ by design; times always do.
fn metrics(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told = lines.filter(|line| !["start", "end", "warning"].contains(&line["event"].as_str().unwrap()));
    let times = ["time", "wall_s", "images_per_s", "data_wait", "eta_s", "seconds", "waited_s", "bytes", "path"];
    told.map(|line| without(line, &times)).collect()
}

fn without(mut value: Value, keys: &[&str]) -> Value {
    let object = value.as_object_mut().unwrap();
    keys.iter().for_each(|key| drop(object.remove(*key)));
    value
}
