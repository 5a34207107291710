//! Runs that meet trouble: stopped in every way, resumed with something changed, with damaged checkpoints and a failing disk. Nothing is lost, and
//! what cannot be gone on with is refused before anything is touched.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::binary::{events, json, pretrain, refuse, same_tensors, succeed, text, unmix, wait_for};

/// Settings of a run of a few steps that measures nothing.
const SHORT: [&str; 7] = ["--quiet", "--set", "eval.enabled=false", "--set", "log.every_steps=1", "--set", "log.preview=0"];

fn short(dir: &Path, out: &str, more: &[&str]) -> Command {
    let mut command = pretrain(dir, &["--out", out]);
    command.args(SHORT).args(more);
    command
}

/// Every file of a run and its content, the lock aside.
fn contents(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![run.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with(".lock") {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn step_of(run: &Path) -> u64 {
    json(&run.join("checkpoint/state.json"))["step"].as_u64().unwrap()
}

/// A run that is killed with the test that started it: an endless one would outlive a failure.
struct Run(Option<Child>);

impl std::ops::Deref for Run {
    type Target = Child;
    fn deref(&self) -> &Child {
        self.0.as_ref().unwrap()
    }
}

impl std::ops::DerefMut for Run {
    fn deref_mut(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Run {
    /// Waits for its end.
    fn output(mut self) -> std::process::Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

/// Starts a run and waits until its metrics have so many steps.
fn start(mut command: Command, run: &Path, steps: usize) -> Run {
    let mut child = Run(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()));
    wait_for(&mut child, || run.join("metrics.jsonl").exists() && lines(run, "step") >= steps);
    child
}

/// Whole lines of a kind in a file that is being written.
fn lines(run: &Path, event: &str) -> usize {
    let wanted = format!("{{\"event\":\"{event}\"");
    fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default().lines().filter(|line| line.starts_with(&wanted)).count()
}

#[cfg(unix)]
fn signal(child: &Child, signal: i32) {
    // SAFETY: the process is our child and has not been waited for.
    unsafe { libc::kill(child.id() as i32, signal) };
}

/// Job scripts with `--resume auto` start a run again that is long finished.
#[test]
fn a_finished_run_says_so_and_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let args = ["--out", "run", "--set", "schedule.steps=4", "--set", "log.preview=0"];
    succeed(&mut pretrain(dir.path(), &args));
    let before = contents(&run);
    let output = succeed(pretrain(dir.path(), &args).args(["--resume", "auto"]));
    assert!(text(&output).contains("complete at step 4") && text(&output).contains("nothing was changed"), "{}", text(&output));
    succeed(pretrain(dir.path(), &args[2..]).args(["--resume", "run"]));
    assert_eq!(before, contents(&run));

    let shorter = ["--resume", "auto", "--set", "schedule.steps=3"];
    let said = refuse(pretrain(dir.path(), &args).args(shorter), "already at step 4", "schedule.steps");
    assert!(said.contains("has 3 steps"), "{said}");
    assert_eq!(before, contents(&run), "after a schedule that is too short");

    // A longer one goes on, and the counters are those of the whole run.
    succeed(pretrain(dir.path(), &args).args(["--resume", "auto", "--set", "schedule.steps=6"]));
    let (summary, state) = (json(&run.join("summary.json")), json(&run.join("checkpoint/state.json")));
    assert_eq!((summary["steps"].as_u64(), state["run"]["images"].as_u64()), (Some(6), Some(6 * 32)));
    assert!(summary["loss_last"].is_number() && summary["images_per_s"].as_f64().unwrap() > 0.0, "{summary}");
    assert_eq!(summary["outcome"], "finished");
    let starts: Vec<serde_json::Value> =
        fs::read_to_string(run.join("starts.jsonl")).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(starts.iter().map(|start| start["step"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 4]);
    assert!(starts[1]["said"][0].as_str().unwrap().contains("`schedule.steps` was 4 and is 6 now"), "{}", starts[1]["said"]);
    assert_eq!(json(&run.join("config.json"))["schedule"]["steps"], 6, "the config is that of the last start");
}

/// Killed after the last checkpoint and before the summary: what is left is to measure.
#[test]
fn a_run_without_its_end_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--out", "run", "--set", "schedule.steps=3", "--quiet"];
    succeed(&mut pretrain(dir.path(), &args));
    let summary = dir.path().join("run/summary.json");
    let before = json(&summary);
    fs::remove_file(&summary).unwrap();
    succeed(pretrain(dir.path(), &args).args(["--resume", "auto"]));
    let after = json(&summary);
    for key in ["steps", "loss_last", "knn", "wall_s", "images_per_s", "outcome"] {
        assert_eq!(before[key], after[key], "{key}");
    }
}

#[test]
fn a_run_without_a_checkpoint_starts_over() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let command = |more: &[&str]| {
        short(dir.path(), "run", &[&["--set", "checkpoint.every_epochs=null", "--set", "schedule.steps=100000"], more].concat())
    };
    let mut child = start(command(&[]), &run, 2);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!run.join("checkpoint").exists());
    // Its steps are thrown away only if that is asked for.
    refuse(&mut command(&[]), "already holds a run", "--resume auto");
    refuse(&mut command(&["--resume", "run"]), "no checkpoint", "first");
    let said = succeed(&mut command(&["--resume", "auto", "--set", "schedule.steps=3"]));
    assert!(text(&said).contains("the run starts over"), "{}", text(&said));
    assert_eq!(events(&run, "step").len(), 3);
    assert_eq!(step_of(&run), 3);
}

/// A start that fails leaves nothing in the way of the next one, and what can be checked beforehand leaves no folder at all.
#[test]
fn a_failed_start_is_no_run() {
    let dir = tempfile::tempdir().unwrap();
    for (split, class) in [("train", "cat"), ("train", "dog"), ("test", "bird"), ("test", "fish")] {
        let folder = dir.path().join("data").join(split).join(class);
        fs::create_dir_all(&folder).unwrap();
        for n in 0..20u8 {
            image::RgbImage::from_fn(28, 28, |x, y| image::Rgb([x as u8 * n, y as u8, n]))
                .save(folder.join(format!("{n}.png")))
                .unwrap();
        }
    }
    let source = "data.source={\"name\":\"folder\",\"root\":\"data\"}";
    let args = [
        "--out",
        "run",
        "--quiet",
        "--set",
        source,
        "--set",
        "data.limit=null",
        "--set",
        "data.batch=8",
        "--set",
        "schedule.steps=2",
    ];
    refuse(&mut pretrain(dir.path(), &args), "do not match", "eval.enabled=false");
    refuse(
        pretrain(dir.path(), &args).args(["--set", "data.batch=800", "--set", "eval.enabled=false"]),
        "`data.batch` is 800",
        "at most 40",
    );
    assert!(!dir.path().join("run").exists(), "a folder was made");
    for (from, to) in [("bird", "cat"), ("fish", "dog")] {
        fs::rename(dir.path().join("data/test").join(from), dir.path().join("data/test").join(to)).unwrap();
    }
    // What an earlier start left that came to nothing.
    fs::create_dir(dir.path().join("run")).unwrap();
    fs::write(dir.path().join("run/config.json"), "{}").unwrap();
    fs::write(dir.path().join("run/metrics.jsonl"), "{\"event\":\"start\",\"step\":0}\n").unwrap();
    succeed(&mut pretrain(dir.path(), &args));
    assert_eq!(events(&dir.path().join("run"), "start").len(), 1);
}

/// Whatever gives positions or numbers another meaning is another run.
#[test]
fn another_run_is_not_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    for n in 0..24u8 {
        let folder = dir.path().join("data").join(if n % 2 == 0 { "cat" } else { "dog" });
        fs::create_dir_all(&folder).unwrap();
        image::RgbImage::from_fn(28, 28, |x, y| image::Rgb([x as u8 * n, y as u8, n]))
            .save(folder.join(format!("{n:02}.png")))
            .unwrap();
    }
    let common = [
        "--set",
        "data.source={\"name\":\"folder\",\"root\":\"data\"}",
        "--set",
        "data.limit=null",
        "--set",
        "data.batch=4",
        "--set",
        "method={\"name\":\"insdis\",\"negatives\":8}",
        "--set",
        "model.bn_splits=1",
    ];
    let command = |more: &[&str]| {
        short(
            dir.path(),
            "run",
            &[&common[..], &["--set", "schedule.epochs=2", "--set", "schedule.steps=null", "--resume", "auto"], more].concat(),
        )
    };
    succeed(&mut command(&[]));
    let before = contents(&run);
    let longer = ["--set", "schedule.epochs=4"];
    for (setting, fact) in [
        ("data.batch=8", "`data.batch` was 4 and is 8 now"),
        ("data.drop_last=false", "`data.drop_last` was true and is false now"),
        ("data.limit=20", "were 24 and are 20 now"),
        ("seed=2", "`seed` was 1 and is 2 now"),
        ("mixture.name=none", "`mixture.name` was \"im\" and is \"none\" now"),
        ("method.negatives=9", "`method.negatives` was 8 and is 9 now"),
        ("method.temperature=0.3", "`method.temperature`"),
        ("model.head.dim=64", "`model.head.dim` was 128 and is 64 now"),
        ("views.crop.min_area=0.5", "`views.crop.min_area`"),
    ] {
        let said = refuse(command(&longer).args(["--set", setting]), fact, "--init-from");
        assert!(said.contains("another run"), "{said}");
    }
    // Other images under the same numbers.
    let rename =
        |from: &str, to: &str| fs::rename(dir.path().join("data/cat").join(from), dir.path().join("data/cat").join(to)).unwrap();
    rename("22.png", "01.png");
    refuse(&mut command(&longer), "other names", "--init-from");
    rename("01.png", "22.png");
    fs::copy(dir.path().join("data/cat/22.png"), dir.path().join("data/cat/30.png")).unwrap();
    refuse(&mut command(&longer), "were 24 and are 25 now", "--init-from");
    fs::remove_file(dir.path().join("data/cat/30.png")).unwrap();
    assert_eq!(before, contents(&run), "a refused start changed something");
    // The same images elsewhere, other threads, another rate: the same run.
    fs::rename(dir.path().join("data"), dir.path().join("moved")).unwrap();
    let moved =
        ["--set", "data.source.root=moved", "--set", "data.workers=3", "--set", "optim.lr=0.001", "--set", "log.every_steps=2"];
    let said = text(&succeed(command(&longer).args(moved)));
    assert!(said.contains("`optim.lr` was") && !said.contains("workers"), "{said}");
    assert_eq!(step_of(&run), 24);
}

/// A new run may begin where another one is.
#[test]
fn a_new_run_starts_from_the_weights_of_another() {
    let dir = tempfile::tempdir().unwrap();
    succeed(&mut short(dir.path(), "a", &["--set", "schedule.steps=3"]));
    // A rate of almost nothing leaves the weights as they came.
    let said = text(&succeed(&mut short(
        dir.path(),
        "b",
        &["--init-from", "a", "--set", "schedule.steps=1", "--set", "optim.lr=1e-30", "--set", "seed=9"],
    )));
    assert!(said.contains("starts from the nets of `a` at step 3"), "{said}");
    let read = |run: &str| common::Tensors::read(&dir.path().join(run).join("checkpoint/tensors.safetensors")).floats;
    let (a, b) = (read("a"), read("b"));
    for name in ["query.conv1.weight", "query.fc.weight"] {
        assert_eq!(a[name], b[name], "{name}");
    }
    assert_ne!(a["queue"], b["queue"]);
    assert_eq!(step_of(&dir.path().join("b")), 1);
    refuse(&mut short(dir.path(), "c", &["--init-from", "nothing"]), "holds no checkpoint", "first");
    // Another method takes the encoder.
    let other = [
        "--init-from",
        "a",
        "--set",
        "schedule.steps=1",
        "--set",
        "method={\"name\":\"insdis\",\"negatives\":8}",
        "--set",
        "optim.lr=1e-30",
    ];
    succeed(&mut short(dir.path(), "d", &other));
    assert_eq!(read("d")["query.conv1.weight"], a["query.conv1.weight"]);
}

/// A run is where its folder is, however the path is written.
#[test]
fn a_moved_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    succeed(&mut short(dir.path(), "old", &["--set", "schedule.steps=2"]));
    fs::rename(dir.path().join("old"), dir.path().join("new")).unwrap();
    let config = json(&dir.path().join("new/config.json"));
    assert!(config.get("out").is_none() && config.get("resume").is_none(), "{config}");
    let mut from_saved =
        unmix(dir.path(), &["pretrain", "--quiet", "--config", "new/config.json", "--resume", "new", "--set", "schedule.steps=3"]);
    succeed(&mut from_saved);
    let absolute = fs::canonicalize(dir.path().join("new")).unwrap();
    succeed(short(dir.path(), "./new", &["--resume", "new", "--set", "schedule.steps=4"]).current_dir(dir.path()));
    succeed(&mut short(dir.path(), absolute.to_str().unwrap(), &["--resume", "new", "--set", "schedule.steps=5"]));
    assert_eq!(step_of(&absolute), 5);
    refuse(&mut short(dir.path(), "old", &["--resume", "new", "--set", "schedule.steps=6"]), "two different folders", "--out");
    assert!(!dir.path().join("old").exists());
}

/// Folders are named by the second; a second start in it takes the next name.
#[test]
fn two_starts_in_one_second_get_two_folders() {
    let dir = tempfile::tempdir().unwrap();
    let mut children: Vec<Child> = (0..3)
        .map(|_| {
            let mut command = pretrain(dir.path(), &["--set", "schedule.steps=1"]);
            command.args(SHORT).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let failed: Vec<String> = children
        .drain(..)
        .map(|child| child.wait_with_output().unwrap())
        .filter(|output| !output.status.success())
        .map(|output| text(&output))
        .collect();
    assert_eq!(failed, Vec::<String>::new());
    assert_eq!(fs::read_dir(dir.path().join("runs")).unwrap().count(), 3);
}

/// A state that training has destroyed is not saved over a good one.
#[test]
fn a_destroyed_state_is_never_saved() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let every = ["--set", "checkpoint.every_steps=1", "--set", "schedule.steps=6", "--resume", "auto"];
    let destroy = |more: &[&str]| {
        let output = short(dir.path(), "run", &[&every[..], &["--set", "optim.lr=1e30"], more].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        text(&output)
    };
    // From the first step on.
    let said = destroy(&[]);
    assert!(said.contains("is damaged after step 1") && said.contains("hint: start over"), "{said}");
    assert_eq!(events(&run, "end").last().unwrap()["outcome"], "failed");
    assert!(!run.join("checkpoint").exists());
    // After two good steps.
    fs::remove_dir_all(&run).unwrap();
    succeed(&mut short(dir.path(), "run", &["--set", "checkpoint.every_steps=1", "--set", "schedule.steps=2"]));
    let said = destroy(&[]);
    assert!(said.contains("is damaged after step 3") && said.contains("the checkpoint of step 2 is whole"), "{said}");
    assert_eq!(step_of(&run), 2);
    succeed(&mut short(dir.path(), "run", &every));
    assert_eq!(step_of(&run), 6);
    let finite = common::Tensors::read(&run.join("checkpoint/tensors.safetensors"));
    assert!(finite.floats.values().all(|(_, values)| values.iter().all(|value| value.abs() < 1e15)));
}

/// The generation before stands in, and the run ends as if nothing had happened.
#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let command = |out: &str, steps: &str| {
        short(
            dir.path(),
            out,
            &["--set", "checkpoint.every_steps=2", "--set", "schedule.kind=constant", "--set", steps, "--resume", "auto"],
        )
    };
    succeed(&mut command("whole", "schedule.steps=8"));
    succeed(&mut command("cut", "schedule.steps=4"));
    let tensors = dir.path().join("cut/checkpoint/tensors.safetensors");
    let mut bytes = fs::read(&tensors).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&tensors, bytes).unwrap();
    let said = text(&succeed(&mut command("cut", "schedule.steps=8")));
    assert!(said.contains("damaged checkpoint was passed over") && said.contains("tensors.safetensors"), "{said}");
    same_tensors(&dir.path().join("whole"), &dir.path().join("cut"));
    let steps = |run: &str| {
        events(&dir.path().join(run), "step").iter().map(|step| (step["step"].as_u64(), step["loss"].as_f64())).collect::<Vec<_>>()
    };
    assert_eq!(steps("whole"), steps("cut"));
    // Nothing whole is left: nothing is started over in silence.
    for state in fs::read_dir(dir.path().join("cut/checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .chain([dir.path().join("cut/checkpoint")])
    {
        fs::write(state.join("state.json"), "{").unwrap();
    }
    let said = refuse(&mut command("cut", "schedule.steps=9"), "no checkpoint that is whole", "copy");
    assert!(said.contains("state.json"), "{said}");
}

/// Each signal ends the run after its step with the status that shells expect; SIGUSR1 saves and goes on.
#[cfg(unix)]
#[test]
fn signals_are_heeded() {
    let dir = tempfile::tempdir().unwrap();
    let endless = ["--set", "schedule.steps=100000", "--set", "checkpoint.every_epochs=null"];
    for (name, number, status) in [("int", libc::SIGINT, 130), ("term", libc::SIGTERM, 143), ("hup", libc::SIGHUP, 129)] {
        let run = dir.path().join(name);
        let child = start(short(dir.path(), name, &endless), &run, 2);
        signal(&child, number);
        if name == "term" {
            // A launcher delivers it twice: to the process and to its group.
            std::thread::sleep(Duration::from_millis(20));
            signal(&child, number);
        }
        let output = child.output();
        assert_eq!(output.status.code(), Some(status), "{name}: {}", text(&output));
        assert!(text(&output).contains("--resume auto"), "{}", text(&output));
        let summary = json(&run.join("summary.json"));
        assert_eq!(
            (summary["outcome"].as_str(), summary["steps"].as_u64()),
            (Some("interrupted"), Some(step_of(&run))),
            "{summary}"
        );
        assert!(summary["loss_last"].is_number(), "{summary}");
    }
    // Twice, not at the same moment: at once.
    let run = dir.path().join("twice");
    let child = start(short(dir.path(), "twice", &endless), &run, 2);
    // The step is long enough that the second signal meets it; a run that was quicker has ended after its step.
    signal(&child, libc::SIGINT);
    std::thread::sleep(Duration::from_millis(250));
    signal(&child, libc::SIGTERM);
    let status = child.output().status.code();
    assert!([Some(130), Some(143)].contains(&status), "{status:?}");

    let run = dir.path().join("usr1");
    let mut child = start(short(dir.path(), "usr1", &endless), &run, 2);
    signal(&child, libc::SIGUSR1);
    wait_for(&mut child, || lines(&run, "checkpoint") == 1);
    let saved = lines(&run, "step");
    wait_for(&mut child, || lines(&run, "step") > saved + 1);
    child.kill().unwrap();
    child.wait().unwrap();
    succeed(&mut short(dir.path(), "usr1", &["--resume", "auto", "--set", &format!("schedule.steps={}", step_of(&run) + 1)]));
}

/// A disk that takes nothing for a while: the run goes on, says so, and saves as soon as it can.
#[test]
fn trouble_with_the_disk_does_not_end_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let endless = ["--set", "schedule.steps=100000", "--set", "checkpoint.every_steps=1"];
    let mut child = start(short(dir.path(), "run", &endless), &run, 2);
    wait_for(&mut child, || lines(&run, "checkpoint") >= 2);
    // A file stands where the older checkpoints go; this works for the superuser too, who may write everywhere.
    fs::rename(run.join("checkpoints"), run.join("away")).unwrap_or(());
    while fs::write(run.join("checkpoints"), "").is_err() {
        let _ = fs::rename(run.join("checkpoints"), run.join("away"));
    }
    // The last line may be on its way.
    let warnings = || -> Vec<String> {
        let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines.filter(|line| line["event"] == "warning").map(|line| line["message"].to_string()).collect()
    };
    let said = |what: &str| warnings().iter().any(|warning| warning.contains(what));
    wait_for(&mut child, || said("was not written"));
    assert!(said("the last good one is of step"), "{:?}", warnings());
    let steps = lines(&run, "step");
    wait_for(&mut child, || lines(&run, "step") > steps + 2);
    fs::remove_file(run.join("checkpoints")).unwrap();
    let saved = lines(&run, "checkpoint");
    wait_for(&mut child, || lines(&run, "checkpoint") > saved);
    // The whole folder goes: it is made again.
    while run.exists() {
        let _ = fs::remove_dir_all(&run);
    }
    wait_for(&mut child, || run.join("checkpoint/manifest.json").exists());
    assert!(said("the run's folder was gone"), "{:?}", warnings());
    child.kill().unwrap();
    child.wait().unwrap();
    let at = step_of(&run);
    succeed(&mut short(dir.path(), "run", &["--resume", "auto", "--set", &format!("schedule.steps={}", at + 1)]));
    assert_eq!(step_of(&run), at + 1);
}

/// Only a last checkpoint that cannot be written is an error.
#[test]
fn a_last_checkpoint_that_cannot_be_written_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    succeed(&mut short(dir.path(), "run", &["--set", "schedule.steps=2"]));
    fs::write(run.join("checkpoints"), "").unwrap();
    let output = short(dir.path(), "run", &["--resume", "auto", "--set", "schedule.steps=3"]).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("the last step (3) could not be written") && said.contains("go on from step 2"), "{said}");
    assert_eq!((step_of(&run), events(&run, "end").last().unwrap()["outcome"].as_str()), (2, Some("failed")));
    fs::remove_file(run.join("checkpoints")).unwrap();
    succeed(&mut short(dir.path(), "run", &["--resume", "auto", "--set", "schedule.steps=3"]));
    assert_eq!(events(&run, "step").len(), 3, "no line is missing or twice");
}

/// The epoch with the best monitored kNN stays, whatever comes after it, and so do those of every so many epochs.
#[test]
fn the_best_weights_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "--out",
        "run",
        "--quiet",
        "--set",
        "data.limit=64",
        "--set",
        "schedule.steps=null",
        "--set",
        "schedule.epochs=7",
        "--set",
        "eval.monitor.every_epochs=1",
        "--set",
        "eval.monitor.images=16",
        "--set",
        "checkpoint.keep.last=1",
        "--set",
        "checkpoint.keep.every_epochs=3",
        "--set",
        "checkpoint.every_epochs=2",
        "--set",
        "eval.knn.k=5",
    ];
    succeed(&mut pretrain(dir.path(), &args));
    let run = dir.path().join("run");
    let best = json(&run.join("checkpoint/state.json"))["best"].clone();
    let measured = events(&run, "knn");
    let top = measured.iter().map(|knn| knn["top1"].as_f64().unwrap()).fold(0.0, f64::max);
    let first = measured.iter().find(|knn| knn["top1"].as_f64() == Some(top)).unwrap();
    assert_eq!(best["step"], first["step"]);
    let mut kept: Vec<u64> = fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().strip_prefix("step-").unwrap().parse().unwrap())
        .collect();
    kept.push(step_of(&run));
    kept.sort_unstable();
    // Two steps an epoch; every second epoch is saved, so epoch 6 is the one of both rules.
    let mut wanted = vec![12, 14, best["step"].as_u64().unwrap()];
    wanted.sort_unstable();
    wanted.dedup();
    assert_eq!(kept, wanted);
}

/// One file, however often its turn comes.
#[test]
fn an_unreadable_image_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data/all");
    fs::create_dir_all(&folder).unwrap();
    for n in 0..24u8 {
        image::RgbImage::from_fn(28, 28, |x, y| image::Rgb([x as u8 * n, y as u8, n]))
            .save(folder.join(format!("{n:02}.png")))
            .unwrap();
    }
    fs::write(folder.join("05.png"), "").unwrap();
    let args = [
        "--set",
        "data.source={\"name\":\"folder\",\"root\":\"data\"}",
        "--set",
        "data.limit=null",
        "--set",
        "data.batch=8",
        "--set",
        "data.max_broken=0.1",
        "--set",
        "schedule.steps=null",
        "--set",
        "checkpoint.every_steps=1",
    ];
    succeed(&mut short(dir.path(), "run", &[&args[..], &["--set", "schedule.epochs=3"]].concat()));
    succeed(&mut short(dir.path(), "run", &[&args[..], &["--set", "schedule.epochs=5", "--resume", "auto"]].concat()));
    let run = dir.path().join("run");
    assert_eq!(json(&run.join("summary.json"))["broken_images"], 1);
    assert_eq!(events(&run, "broken").len(), 1);
}

/// Devices report many failures by a panic, on whatever thread: the run ends with an error and its last event, and what was saved stays.
#[test]
fn a_panic_is_an_error_and_an_end() {
    use std::sync::{Arc, Mutex};
    use unmix::config::RunConfig;
    use unmix::data::Split;
    use unmix::train::{Event, Identity, Requests, RunDir, Said, Session, Sink, Sinks};

    static REQUESTS: Requests = Requests::new();
    struct Failing(Arc<Mutex<Vec<Event>>>);
    impl Sink for Failing {
        fn on(&mut self, event: &Event) -> unmix::error::Result<()> {
            self.0.lock().unwrap().push(event.clone());
            assert!(!matches!(event, Event::Step { step: 3, .. }), "out of memory\nwhile allocating 7 GiB");
            Ok(())
        }
    }
    let settings =
        ["schedule.steps=9", "checkpoint.every_steps=2", "eval.enabled=false", "device=cpu", "log.preview=0"].map(str::to_owned);
    let config = RunConfig::load(&common::binary::smoke(), &settings).unwrap().resolved();
    let train = config.data.open(Split::Train, config.seed).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let session = Session {
        device: unmix::device::open("cpu").unwrap(),
        identity: Identity::of(&config, train.as_ref()).unwrap(),
        config,
        train,
        test: None,
        dir: RunDir::create(dir.path().join("run")).unwrap(),
        sinks: Sinks(vec![Box::new(Failing(heard.clone()))]),
        requests: &REQUESTS,
        said: Said::default(),
    };
    let error = session.run(None).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.message().ends_with("failed: out of memory") && error.details() == ["while allocating 7 GiB"], "{error}");
    assert!(error.hints().iter().any(|hint| hint.contains("data.micro_batch")), "{error}");
    let heard = heard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    assert!(matches!(heard.last(), Some(Event::End { outcome: unmix::train::events::Outcome::Failed, .. })), "{:?}", heard.last());
    assert_eq!(step_of(&dir.path().join("run")), 2);
}
