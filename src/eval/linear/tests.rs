use serde_json::json;

use super::*;
use crate::augment::ViewsConfig;
use crate::data::synthetic::{Synthetic, SyntheticConfig};
use crate::data::{LoaderOptions, Split};
use crate::eval::linear::config::Facts;
use crate::kernel::KernelPath;
use crate::model::{ModelConfig, ModelName};

const FACTS: Facts = Facts { pair: false, model: ModelName::Resnet18, width: 0.125, layers: 7, classes: 10, size: 16 };

fn views() -> ViewsConfig {
    serde_json::from_value(json!({"recipe": "cifar_moco", "crop": {"size": 16}})).unwrap()
}

fn encoder() -> Frozen {
    let model: ModelConfig =
        serde_json::from_value(json!({"width": 0.125, "stem": "cifar", "stem_channels": 8, "bn_splits": 1})).unwrap();
    Frozen::one("query", model.init(3, 5, "query", &burn::tensor::Device::flex()))
}

fn task<'a>(encoder: &'a Frozen, plan: &str, state: &std::path::Path, workers: usize) -> Task<'a> {
    let config = SyntheticConfig { count: 90, test_count: 35, height: 20, width: 16, ..SyntheticConfig::default() };
    let how = Extraction {
        transform: Arc::new(views().eval_recipe()),
        norm: views().normalization(),
        device: burn::tensor::Device::flex(),
        ingest: KernelPath::Flex,
        batch: 16,
        loader: LoaderOptions { workers, prefetch: 3, max_broken: 0.0 },
    };
    Task {
        encoder,
        train: Arc::new(Synthetic::new(&config, Split::Train, 1)),
        test: Arc::new(Synthetic::new(&config, Split::Test, 1)),
        plan: serde_json::from_str::<LinearConfig>(plan).unwrap().plan(&FACTS),
        how,
        seed: 3,
        state: state.to_owned(),
        identity: json!(plan),
    }
}

fn run(task: &Task, stop_after: Option<u64>) -> Outcome {
    let stop = AtomicBool::new(false);
    let mut tell = |courses: &[Course]| {
        if stop_after == Some(courses[0].last().epoch) {
            stop.store(true, Ordering::SeqCst);
        }
    };
    task.run(&stop, &mut tell).unwrap()
}

const AUGMENTED: &str = r#"{"protocol": "moco", "layer": [2, 6], "lr": [0.1, 1], "epochs": 5, "batch": 32}"#;
const FIXED: &str = r#"{"protocol": "htdt", "layer": [2, 6], "lr": [0.01, 0.1], "epochs": 5, "batch": 32}"#;
/// Nothing may be kept, so un-augmented features are computed in every epoch.
const UNKEPT: &str = r#"{"protocol": "htdt", "layer": [2, 6], "lr": [0.01, 0.1], "epochs": 5, "batch": 32, "cache_mib": 0}"#;

#[test]
fn an_interrupted_probe_goes_on_with_the_same_bits() {
    let (encoder, dir) = (encoder(), tempfile::tempdir().unwrap());
    for (at, plan) in [AUGMENTED, FIXED].into_iter().enumerate() {
        let state = dir.path().join(format!("deep/{at}.state"));
        let straight = run(&task(&encoder, plan, &state, 2), None);
        assert!(straight.interrupted.is_none() && !state.exists());
        assert_eq!(straight.courses.len(), 4);
        assert!(straight.courses.iter().all(|course| course.curve.len() == 5));
        assert_eq!(straight.cached, plan == FIXED);
        let part = run(&task(&encoder, plan, &state, 1), Some(2));
        assert_eq!((part.interrupted, part.courses[0].curve.len(), state.exists()), (Some(2), 2, true));
        // Another evaluation does not take this state for its own.
        let other = Task { identity: json!("other"), ..task(&encoder, plan, &state, 2) };
        assert_eq!(run(&other, Some(1)).interrupted, Some(1));
        let part = run(&task(&encoder, plan, &state, 2), Some(3));
        assert_eq!(part.interrupted, Some(3), "it began anew, since the state is another's");
        let rest = run(&task(&encoder, plan, &state, 2), None);
        assert_eq!(rest.courses, straight.courses, "{plan}");
        assert!(!state.exists());
    }
}

#[test]
fn features_that_are_not_kept_give_the_same_accuracies() {
    let (encoder, dir) = (encoder(), tempfile::tempdir().unwrap());
    let (mut kept, mut live) = (task(&encoder, FIXED, dir.path(), 2), task(&encoder, UNKEPT, dir.path(), 2));
    (kept.plan.epochs, live.plan.epochs) = (30, 30);
    assert_eq!(feed::widths(&encoder, &kept.how, &kept.plan.layers), [8 * 36, 64]);
    let (a, b) = (run(&kept, None), run(&live, None));
    assert!(a.cached && !b.cached);
    // The same batches in the same order; a product of matrices may round differently for another number of rows.
    for (a, b) in a.courses.iter().zip(&b.courses) {
        for (a, b) in a.curve.iter().zip(&b.curve) {
            assert!((a.loss - b.loss).abs() < 1e-3 * a.loss.max(1.0) && (a.top1 - b.top1).abs() < 3.0, "{a:?} {b:?}");
        }
    }
}

#[test]
fn probes_learn_and_best_stands_beside_last() {
    let (encoder, dir) = (encoder(), tempfile::tempdir().unwrap());
    let mut task = task(&encoder, FIXED, dir.path(), 2);
    task.plan.epochs = 60;
    task.test = task.train.clone();
    let outcome = run(&task, None);
    let trained = outcome.courses.iter().map(|course| course.last().top1).fold(0.0, f64::max);
    assert!(trained > 90.0, "a probe of 90 training images: {trained} %");
    for course in &outcome.courses {
        let (best, last) = (course.best(), course.last());
        assert!(best.top1 >= last.top1 && last.epoch == 60);
        assert!(course.curve[..best.epoch as usize - 1].iter().all(|point| point.top1 < best.top1));
    }
}
