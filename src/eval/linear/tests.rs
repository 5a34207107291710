use serde_json::json;

use super::*;
use crate::augment::ViewsConfig;
use crate::data::synthetic::{Synthetic, SyntheticConfig};
use crate::data::{LoaderOptions, Split, epoch_order};
use crate::eval::linear::config::Facts;
use crate::eval::splits::Splits;
use crate::kernel::KernelPath;
use crate::model::ModelConfig;

fn facts() -> Facts {
    Facts { pair: false, shape: ModelConfig { width: 0.125, ..ModelConfig::default() }.shape(3), classes: 10, size: 16 }
}

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
        largest_tensor: None,
        stop: None,
        loader: LoaderOptions { workers, prefetch: 3, max_broken: 0.0 },
    };
    Task {
        encoder,
        train: Arc::new(Synthetic::new(&config, Split::Train, 1)),
        test: Arc::new(Synthetic::new(&config, Split::Test, 1)),
        plan: serde_json::from_str::<LinearConfig>(plan).unwrap().plan(&facts()).unwrap(),
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
        let straight = run(&task(&encoder, plan, &dir.path().join("unused"), 2), None);
        assert!(straight.interrupted.is_none());
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
        assert!(rest.wall_s > part.wall_s, "the time of all calls counts");
    }
}

#[test]
fn features_that_are_not_kept_give_the_same_accuracies() {
    let (encoder, dir) = (encoder(), tempfile::tempdir().unwrap());
    let (mut kept, mut live) = (task(&encoder, FIXED, dir.path(), 2), task(&encoder, UNKEPT, dir.path(), 2));
    (kept.plan.epochs, live.plan.epochs) = (30, 30);
    assert_eq!(widths(&encoder, &kept.how, &kept.plan.layers), [8 * 36, 64]);
    let (a, b) = (run(&kept, None), run(&live, None));
    assert!(a.cached && !b.cached);
    // The same batches in the same order; a product of matrices may round differently for another number of rows, which may move one of the
    // 35 test images (2.9 %).
    for (a, b) in a.courses.iter().zip(&b.courses) {
        for (a, b) in a.curve.iter().zip(&b.curve) {
            assert!((a.loss - b.loss).abs() < 1e-3 * a.loss.max(1.0) && (a.top1 - b.top1).abs() < 3.0, "{a:?} {b:?}");
        }
    }
}

/// Both splits of a task, as a monitor has them.
fn splits(task: &Task) -> Splits {
    Splits::of(task.encoder, (&task.train, &task.test), &task.how, &[7, 6], "a linear probe").unwrap()
}

/// The bits of the whole evaluation's last epoch, and those of a training split of the drawn images alone.
#[test]
fn a_monitors_probe_is_the_last_epoch_of_the_evaluation() {
    let (encoder, dir) = (encoder(), tempfile::tempdir().unwrap());
    let plan = r#"{"protocol": "htdt", "epochs": 9, "batch": 32}"#;
    let mut task = task(&encoder, plan, dir.path(), 2);
    let splits = splits(&task);
    let last = run(&task, None).courses[0].last();
    let probed = probe_rows(&splits, 1, &task.plan, None, task.seed, None).unwrap();
    let expected = Probed { protocol: task.plan.tag.clone(), layer: 6, images: 90, top1: last.top1, top5: last.top5 };
    assert_eq!((&probed, probed.protocol.as_str()), (&expected, "linear-htdt-modified"));
    assert_eq!(probe_rows(&splits, 1, &task.plan, Some(90), task.seed, None).unwrap(), expected);

    let drawn = epoch_order(task.seed, 0, 90)[..40].iter().map(|&image| image as usize).collect();
    task.train = crate::data::source::Picked::of(task.train.clone(), drawn);
    let last = run(&task, None).courses[0].last();
    let capped = probe_rows(&splits, 1, &task.plan, Some(40), task.seed, None).unwrap();
    assert_eq!((capped.images, capped.top1, capped.top5), (40, last.top1, last.top5));
}

#[test]
fn a_monitors_probe_ends_when_it_is_asked_to_and_where_its_loss_is_no_number() {
    let (encoder, dir) = (encoder(), tempfile::tempdir().unwrap());
    let task = task(&encoder, r#"{"protocol": "htdt", "lr": [1e38], "epochs": 9}"#, dir.path(), 2);
    let (splits, stop) = (splits(&task), AtomicBool::new(true));
    let error = probe_rows(&splits, 1, &task.plan, None, task.seed, Some(&stop)).unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::Interrupted);
    let error = probe_rows(&splits, 1, &task.plan, None, task.seed, None).unwrap_err();
    assert!(crate::eval::features::is_not_finite(&error), "{error}");
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

/// What scikit-learn 1.9's LogisticRegression (C = 1 / (0.01 n), no intercept, a column of ones appended) makes of the features of the kNN
/// fixtures: classes, its predictions for the queries, the mean loss over the bank.
const SCIKIT_LEARN: [(&str, usize, &[i32], f64); 4] = [
    ("knn_0", 5, &[3, 4, 4, 3, 2, 4, 0, 2, 3, 4, 1, 0, 2, 3, 4, 4, 2], 0.479516),
    ("knn_1", 10, &[5, 4, 5, 9, 4, 2, 9, 0, 1, 7, 0, 8, 1, 0, 1, 0, 8, 8, 5, 7, 8, 8, 4, 4, 7, 1, 6, 4, 1, 8, 9], 1.660494),
    ("knn_2", 4, &[0, 0, 0, 1, 3, 3, 3, 1, 2], 0.409121),
    ("knn_3", 8, &[2, 0, 0, 0, 2, 2, 1, 2, 6, 0, 5, 0], 0.828585),
];

#[test]
fn a_converged_probe_is_that_of_scikit_learn() {
    let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/knn.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let device = burn::tensor::Device::flex();
    let rows = |name: &str| {
        let view = file.tensor(name).unwrap();
        let values: Vec<f32> = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        Tensor::<2>::from_data(TensorData::new(values, view.shape().to_vec()), &device)
    };
    let labels = |name: &str| -> Vec<i32> {
        let data = file.tensor(name).unwrap().data().to_vec();
        data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as i32).collect()
    };
    let tensor = |labels: &[i32]| Tensor::<1, Int>::from_data(TensorData::new(labels.to_vec(), [labels.len()]), &device);
    for (name, classes, predicted, loss) in SCIKIT_LEARN {
        let plan = serde_json::from_value::<LinearConfig>(json!({
            "protocol": "htdt", "lr": [0.1], "epochs": 3000, "weight_decay": 0.01
        }));
        let plan = plan.unwrap().plan(&facts()).unwrap();
        let (bank, known) = (rows(&format!("{name}.bank")), tensor(&labels(&format!("{name}.labels"))));
        let mut probe = Probe::init(bank.dims()[1], classes, 6, &plan, 1, &device);
        for epoch in 0..plan.epochs {
            probe.take_loss();
            probe.step(bank.clone(), &known, plan.share(epoch), &plan);
        }
        let query = rows(&format!("{name}.query"));
        let n = predicted.len() as u64;
        assert_eq!(probe.hits(query.clone(), &tensor(predicted)).top1, [n], "{name}: the predictions");
        let got = probe.take_loss()[0];
        assert!((got - loss).abs() < 1e-4, "{name}: loss {got}, scikit-learn {loss}");
    }
}

#[test]
fn a_rate_that_diverges_is_not_the_result_and_does_not_end_the_others() {
    let (encoder, dir) = (encoder(), tempfile::tempdir().unwrap());
    let plan = FIXED.replace("[0.01, 0.1]", "[0.01, 1e38]");
    let outcome = run(&task(&encoder, &plan, &dir.path().join("a"), 2), None);
    for courses in outcome.courses.chunks(2) {
        let [good, bad] = courses else { unreachable!("two rates") };
        assert!(good.is_finite() && !bad.is_finite());
        assert!(bad.last().top1 == 0.0 && bad.last().top5 == 0.0, "{:?}", bad.last());
    }
    // Such a course survives the file of an interrupted evaluation.
    let state = dir.path().join("b");
    assert_eq!(run(&task(&encoder, &plan, &state, 2), Some(3)).interrupted, Some(3));
    assert_eq!(run(&task(&encoder, &plan, &state, 2), None).courses[0], outcome.courses[0]);
    let all = FIXED.replace("[0.01, 0.1]", "[1e38]");
    let error = task(&encoder, &all, &dir.path().join("c"), 2).run(&AtomicBool::new(false), &mut |_| ()).unwrap_err();
    assert!(error.message().contains("not finite") && error.hints()[0].contains("eval.linear.lr"), "{error}");
}

#[test]
fn another_normalisation_reaches_both_splits() {
    let (encoder, dir) = (encoder(), tempfile::tempdir().unwrap());
    let plan = |norm: &str| FIXED.replace("\"epochs\": 5", &format!("\"epochs\": 5, {norm}"));
    let with = plan(r#""norm": {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.4, 0.3]}"#);
    let as_views = {
        let mut task = task(&encoder, FIXED, &dir.path().join("a"), 2);
        (task.how.norm.mean, task.how.norm.std) = ([0.1, 0.2, 0.3], [0.5, 0.4, 0.3]);
        run(&task, None)
    };
    assert_eq!(run(&task(&encoder, &with, &dir.path().join("b"), 2), None).courses, as_views.courses);
    assert_ne!(run(&task(&encoder, FIXED, &dir.path().join("c"), 2), None).courses, as_views.courses);
}
