use burn::tensor::TensorData;

use super::*;
use crate::train::summary::Best;

const ALL: Keep = Keep { last: usize::MAX, every_steps: None, best: None };

fn checkpoint(step: u64) -> Checkpoint {
    let tensors = [("a".to_owned(), TensorData::new(vec![step as f32; 5_000], [5_000]))].into();
    Checkpoint { state: State { step, ..State::start("moco", None) }, tensors }
}

fn run() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let current = dir.path().join("checkpoint");
    (dir, current)
}

fn save(current: &Path, steps: impl IntoIterator<Item = u64>, keep: &Keep) {
    for step in steps {
        write(&checkpoint(step), current).unwrap();
        prune(current, keep).unwrap();
    }
}

/// All steps that can be read, the newest first.
fn whole(current: &Path) -> Vec<u64> {
    let found = generations(current).unwrap();
    found.iter().filter_map(|generation| Checkpoint::open(&generation.folder).ok()).map(|found| found.state.step).collect()
}

fn newest(current: &Path) -> u64 {
    let found = find(current, Which::Newest).unwrap();
    let (step, values) = (found.checkpoint.state.step, found.checkpoint.tensors["a"].try_to_vec::<f32>().unwrap());
    assert!(values.iter().all(|&value| value == step as f32), "step {step} has the weights of another");
    step
}

#[test]
fn the_newest_stands_in_its_place_and_as_many_as_asked_for_beside_it() {
    let (_dir, current) = run();
    save(&current, 1..=9, &Keep { last: 3, every_steps: None, best: None });
    assert_eq!(whole(&current), [9, 8, 7]);
    assert_eq!(Checkpoint::open(&current).unwrap().state.step, 9);
    let (_dir, current) = run();
    save(&current, 1..=9, &Keep { last: 1, every_steps: Some(4), best: Some(3) });
    assert_eq!(whole(&current), [9, 8, 4, 3]);
    let (_dir, current) = run();
    save(&current, 1..=3, &Keep { last: 0, every_steps: None, best: None });
    assert_eq!(whole(&current), [3], "the newest always stays");
}

#[test]
fn a_wanted_generation_is_found_or_those_there_are_named() {
    let (_dir, current) = run();
    save(&current, [10, 20, 30], &ALL);
    let step = |which| find(&current, which).map(|found| found.checkpoint.state.step);
    assert_eq!((step(Which::Newest).unwrap(), step(Which::Step(20)).unwrap()), (30, 20));
    let error = step(Which::Step(25)).unwrap_err();
    assert!(error.message().contains("step 25") && error.hints()[0].contains("30, 20, 10"), "{error}");
    assert!(step(Which::Best).unwrap_err().hints()[0].contains("eval.monitor"));
    let best = Some(Best { top1: 40.0, epoch: 2, step: Some(20) });
    let with_best = Checkpoint { state: State { best, ..checkpoint(40).state }, ..checkpoint(40) };
    write(&with_best, &current).unwrap();
    assert_eq!(find(&current, Which::Best).unwrap().checkpoint.state.step, 20);
    assert_eq!(step_of(&current).unwrap(), 40);
}

/// Of the three files, every truncation at 4 KiB and some odd places, and a thousand single bits.
#[test]
fn damage_is_named_and_the_generation_before_is_read() {
    let (_dir, current) = run();
    save(&current, [1, 2], &ALL);
    let mut draw = crate::rng::Stream::new(1, crate::rng::Purpose::Probe, &[]);
    for name in ["tensors.safetensors", "state.json", "manifest.json"] {
        let path = current.join(name);
        let good = fs::read(&path).unwrap();
        let refused = |bytes: &[u8], what: &str| {
            fs::write(&path, bytes).unwrap();
            let found = attempt(&current, Which::Newest).unwrap();
            assert_eq!(found.checkpoint.state.step, 1, "{name}: {what} is not noticed");
            assert!(found.passed_over[0].contains("checkpoint`"), "{:?}", found.passed_over);
        };
        let lengths = (0..good.len()).step_by(4096).chain([1, 7, good.len() - 1]);
        lengths.filter(|&length| length < good.len()).for_each(|length| refused(&good[..length], &format!("a cut at {length}")));
        refused(&[&good[..], b"0"].concat(), "a byte more");
        for _ in 0..340 {
            let bit = draw.below(8 * good.len() as u64) as usize;
            let mut flipped = good.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            refused(&flipped, &format!("bit {bit}"));
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(attempt(&current, Which::Newest).unwrap().checkpoint.state.step, 1, "{name} is missing");
        fs::write(&path, &good).unwrap();
        assert_eq!(newest(&current), 2);
    }
    for folder in generations(&current).unwrap() {
        fs::write(folder.folder.join("tensors.safetensors"), "").unwrap();
    }
    let error = find(&current, Which::Newest).unwrap_err();
    assert!(error.message().contains("no checkpoint that is whole") && error.details().len() == 2, "{error}");
}

/// A run that goes on from an older generation leaves the damaged one where nobody takes it for a part of its history.
#[test]
fn a_resumed_run_has_one_history() {
    let (_dir, current) = run();
    save(&current, [1, 2], &ALL);
    fs::write(current.join("state.json"), "").unwrap();
    let found = find(&current, Which::Newest).unwrap();
    assert_eq!(found.checkpoint.state.step, 1);
    fs::create_dir(current.with_file_name("checkpoint.tmp-x")).unwrap();
    settle(&current, &found.folder).unwrap();
    assert!(!current.exists() && current.with_file_name("checkpoints").join("damaged-1").is_dir());
    assert!(!current.with_file_name("checkpoint.tmp-x").exists());
    assert_eq!((newest(&current), find(&current, Which::Newest).unwrap().passed_over), (1, vec![]));
    save(&current, [2, 3], &Keep { last: 1, ..ALL });
    assert_eq!(whole(&current), [3]);
}

#[test]
fn every_crash_point_leaves_a_whole_generation() {
    let stage = || {
        let (dir, current) = run();
        save(&current, [1, 2], &ALL);
        (dir, current)
    };
    // While the new one was filled.
    let (_dir, current) = stage();
    let scratch = files::scratch_dir(&current).unwrap();
    fs::write(scratch.join("tensors.safetensors"), "half").unwrap();
    std::mem::forget(scratch);
    assert_eq!(newest(&current), 2);
    // Between the renames.
    let (_dir, current) = stage();
    set_aside(&current).unwrap();
    assert!(!current.exists());
    assert_eq!(newest(&current), 2);
    settle(&current, &find(&current, Which::Newest).unwrap().folder).unwrap();
    save(&current, [3], &Keep { last: 2, ..ALL });
    assert_eq!(whole(&current), [3, 2]);
    // While an old one was removed.
    let (_dir, current) = stage();
    let old = generations(&current).unwrap().pop().unwrap().folder;
    fs::remove_file(old.join("manifest.json")).unwrap();
    assert_eq!(newest(&current), 2);
}

#[test]
fn a_reader_of_a_run_in_training_gets_whole_checkpoints_and_disturbs_nothing() {
    let (_dir, current) = run();
    save(&current, [0], &ALL);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| save(&current, 1..=40, &Keep { last: 2, ..ALL }));
        while !writer.is_finished() {
            newest(&current);
        }
        writer.join().unwrap();
    });
    assert_eq!(newest(&current), 40);
}

/// Before there were manifests, a checkpoint was two files, and the one before it might stand in `checkpoint.old`.
#[test]
fn checkpoints_of_older_programs_are_read_and_moved_on_from() {
    let (dir, current) = run();
    let old = dir.path().join("checkpoint.old");
    fs::create_dir(&old).unwrap();
    let Checkpoint { state, tensors } = checkpoint(3);
    fs::write(old.join("tensors.safetensors"), crate::model::tensors::pack_tensors(&tensors).unwrap()).unwrap();
    let text = |format: u32| serde_json::to_vec(&State { format, ..state.clone() }).unwrap();
    fs::write(old.join("state.json"), text(2)).unwrap();
    assert_eq!((newest(&current), step_of(&current).unwrap()), (3, 3));
    assert!(old.is_dir() && !current.exists(), "reading changes nothing");
    fs::rename(&old, &current).unwrap();
    save(&current, [4], &ALL);
    assert_eq!(whole(&current), [4, 3]);
    // A folder of the present form without its manifest was not written to its end.
    fs::remove_file(current.join("manifest.json")).unwrap();
    assert_eq!(newest(&current), 3);
    fs::write(current.join("state.json"), text(99)).unwrap();
    let found = find(&current, Which::Newest).unwrap();
    assert!(found.passed_over[0].contains("form 99"), "{:?}", found.passed_over);
}

#[test]
fn nothing_is_said_as_such() {
    let (_dir, current) = run();
    assert!(find(&current, Which::Newest).unwrap_err().message().contains("holds no checkpoint"));
    assert!(!any(&current) && step_of(&current).is_err());
    prune(&current, &ALL).unwrap();
    settle(&current, &current).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_checkpoint_that_cannot_be_written_leaves_those_before() {
    let (dir, current) = run();
    save(&current, [1], &ALL);
    // A file where the kept ones are to go.
    fs::write(dir.path().join("checkpoints"), "").unwrap();
    assert!(write(&checkpoint(2), &current).is_err());
    assert_eq!(newest(&current), 1);
    assert!(fs::read_dir(dir.path()).unwrap().all(|entry| !entry.unwrap().file_name().to_string_lossy().contains("tmp")));
}
