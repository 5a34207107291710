//! Files written by PyTorch (tests/data, made by scripts/make_weight_fixtures.py), files of our own, and damage to both.

use std::path::PathBuf;

use burn::tensor::{DType, Device, TensorData};
use serde_json::json;

use super::*;
use crate::device;
use crate::model::head::Head;
use crate::model::layers::Conv;
use crate::model::norm::BatchNorm;

/// The net of the fixtures.
#[derive(Module, Debug)]
pub(super) struct Tiny {
    pub conv1: Conv,
    pub bn1: BatchNorm,
    pub fc: Head,
}

pub(super) fn cpu() -> Device {
    device::open("cpu").unwrap().device
}

pub(super) fn tiny() -> Tiny {
    let device = cpu();
    Tiny { conv1: Conv::new([3, 2], 3, 1, 1, &device), bn1: BatchNorm::new(2, 1, &device), fc: Head::linear(2, 4, &device) }
}

/// In the order of the fixtures: the tensor with number n starts at (shift + n) / 8 and grows by 1/8.
const NAMES: [(&str, &[usize]); 7] = [
    ("conv1.weight", &[2, 3, 3, 3]),
    ("bn1.weight", &[2]),
    ("bn1.bias", &[2]),
    ("bn1.running_mean", &[2]),
    ("bn1.running_var", &[2]),
    ("fc.weight", &[4, 2]),
    ("fc.bias", &[4]),
];

pub(super) fn expected(shift: usize) -> StateDict {
    let value = |(number, (name, shape)): (usize, &(&str, &[usize]))| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| (shift + number + i) as f32 / 8.0).collect();
        (name.to_string(), TensorData::new(values, shape.to_vec()))
    };
    NAMES.iter().enumerate().map(value).collect()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A safetensors file in a fresh folder.
pub(super) fn saved(tensors: &StateDict) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    write(&path, tensors, &json!({})).unwrap();
    (dir, path)
}

fn prefixed(prefix: &str, tensors: StateDict) -> StateDict {
    tensors.into_iter().map(|(name, data)| (format!("{prefix}{name}"), data)).collect()
}

#[test]
fn the_query_encoder_of_a_checkpoint_of_moco() {
    let (net, report) = load_into(tiny(), &fixture("moco.pth"), true).unwrap();
    assert_eq!(state::collect(&net), expected(0));
    assert_eq!((report.prefix.as_str(), report.used, report.converted), ("state_dict.module.encoder_q.", 7, 0));
    let ignored =
        [("optimizer", 7), ("state_dict.module.encoder_k", 7), ("state_dict.module.queue", 1), ("state_dict.module.queue_ptr", 1)];
    assert_eq!(report.ignored, ignored.map(|(name, count)| (name.to_owned(), count)));
}

#[test]
fn the_old_format_with_every_type_and_another_head() {
    let before = state::collect(&tiny());
    let (net, report) = load_into(tiny(), &fixture("legacy.pth"), false).unwrap();
    let mut want = expected(0);
    want.extend(before.into_iter().filter(|(name, _)| name.starts_with(HEAD)));
    assert_eq!(state::collect(&net), want);
    assert_eq!((report.used, report.converted), (5, 3));
    assert_eq!(report.head.as_deref(), Some("the file has fc.weight [10, 2], the model fc.weight [4, 2]"));
    let error = load_into(tiny(), &fixture("legacy.pth"), true).unwrap_err();
    assert!(error.details()[0].contains("the head: the file has fc.weight [10, 2]"), "{error}");
}

#[test]
fn a_pickle_with_a_command_is_refused_and_not_run() {
    let error = load_into(tiny(), &fixture("command.pth"), false).unwrap_err();
    assert!(error.message().contains("is refused") && error.message().contains("system`"), "{error}");
    assert!(!Path::new("unmix-ran-this").exists());
}

#[test]
fn every_prefix_is_found_and_copies_come_last() {
    for prefix in ["", "module.", "encoder.module.", "model.encoder.module.", "encoder_q.", "net.backbone.", "student.what.ever."] {
        let (_dir, path) = saved(&prefixed(prefix, expected(3)));
        let (net, report) = load_into(tiny(), &path, true).unwrap();
        assert_eq!((state::collect(&net), report.prefix.as_str()), (expected(3), prefix));
    }
    for copy in ["model_ema.", "key.", "encoder_k.", "a.much.longer.teacher."] {
        let mut both = prefixed("query.", expected(1));
        both.extend(prefixed(copy, expected(2)));
        let (_dir, path) = saved(&both);
        let (net, report) = load_into(tiny(), &path, true).unwrap();
        assert_eq!((state::collect(&net), report.prefix.as_str()), (expected(1), "query."), "{copy}");
        let (_dir, path) = saved(&prefixed(copy, expected(2)));
        assert_eq!(state::collect(&load_into(tiny(), &path, true).unwrap().0), expected(2), "a copy is better than nothing");
    }
}

#[test]
fn what_is_written_is_read_with_the_same_bits() {
    let mut tensors = expected(0);
    let bits = [f32::MIN_POSITIVE / 3.0, -0.0, f32::MAX, 1.0 + f32::EPSILON];
    tensors.insert("fc.bias".into(), TensorData::new(bits.to_vec(), [4]));
    let (_dir, path) = saved(&tensors);
    let (back, report) = read(&path, &tensors, true).unwrap();
    assert!(tensors.iter().all(|(name, data)| data.as_bytes() == back[name].as_bytes()));
    assert_eq!((report.converted, report.ignored), (0, Vec::new()), "the counter of updates is passed over");
    let bytes = std::fs::read(&path).unwrap();
    write(&path, &tensors, &json!({})).unwrap();
    assert_eq!(bytes, std::fs::read(&path).unwrap());
}

#[test]
fn the_backbone_must_fit_exactly() {
    let refusal = |edit: &dyn Fn(&mut StateDict)| {
        let mut tensors = prefixed("module.", expected(0));
        edit(&mut tensors);
        let (_dir, path) = saved(&tensors);
        load_into(tiny(), &path, false).unwrap_err().to_string()
    };
    let three = TensorData::new(vec![0f32; 3], [3]);
    let insert = |name: &'static str| move |t: &mut StateDict| drop(t.insert(name.into(), TensorData::new(vec![0f32; 3], [3])));
    assert!(refusal(&|t| drop(t.remove("module.bn1.bias"))).contains("missing: module.bn1.bias [2]"));
    assert!(refusal(&insert("module.bn1.bias")).contains("shape of module.bn1.bias: the file has [3], the model [2]"));
    assert!(refusal(&insert("module.bn1.extra")).contains("not in the model: module.bn1.extra"));
    assert!(
        refusal(&|t| *t = [("a".to_owned(), three.clone())].into())
            .contains("no tensor of the model's backbone\n  it holds: a [3]")
    );
    let endless = TensorData::new(vec![f32::NAN, 1.0], [2]);
    let said = refusal(&|t| drop(t.insert("module.bn1.running_var".into(), endless.clone())));
    assert!(said.contains("`module.bn1.running_var`") && said.contains("not finite"), "{said}");

    let mut more = expected(0);
    more.insert("projector.weight".into(), three.clone());
    let (_dir, path) = saved(&more);
    assert_eq!(load_into(tiny(), &path, false).unwrap().1.ignored, [("projector".to_owned(), 1)]);
    assert!(load_into(tiny(), &path, true).unwrap_err().to_string().contains("not in the model: projector.weight"));
    more.retain(|name, _| !name.starts_with(HEAD));
    let (_dir, path) = saved(&more);
    assert_eq!(load_into(tiny(), &path, false).unwrap().1.head.unwrap(), "the file has none, the model fc.weight [4, 2]");
}

#[test]
fn types_of_safetensors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let tensors = expected(0);
    for (kind, stored) in [(DType::F16, Dtype::F16), (DType::BF16, Dtype::BF16), (DType::F64, Dtype::F64), (DType::I32, Dtype::I32)]
    {
        let converted: Vec<(String, TensorData)> =
            tensors.iter().map(|(name, data)| (name.clone(), data.clone().convert_dtype(kind))).collect();
        let views =
            converted.iter().map(|(name, data)| (name, TensorView::new(stored, data.shape().to_vec(), data.as_bytes()).unwrap()));
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        if kind == DType::I32 {
            assert!(read(&path, &tensors, false).unwrap_err().to_string().contains("type of bn1.bias: I32"));
        } else {
            let (values, report) = read(&path, &tensors, true).unwrap();
            assert_eq!((values, report.converted), (tensors.clone(), 7), "{kind:?}");
        }
    }
}

/// Cut anywhere, a file is an error that names it; changed anywhere, it is an error or other values. Neither is a panic.
#[test]
fn damaged_files() {
    let (_dir, own) = saved(&expected(0));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.pth");
    for (file, step) in [(fixture("moco.pth"), 97), (fixture("legacy.pth"), 13), (own, 7)] {
        let bytes = std::fs::read(&file).unwrap();
        // The old format ends with the head, which is another one and not read.
        for length in (0..bytes.len() - 200).step_by(step) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let error = load_into(tiny(), &path, false).unwrap_err();
            assert!(
                error.message().contains("damaged.pth") && !error.hints().is_empty(),
                "{length} of {}: {error}",
                file.display()
            );
        }
        for at in (0..bytes.len()).step_by(step) {
            let mut changed = bytes.clone();
            changed[at] ^= 0xFF;
            std::fs::write(&path, &changed).unwrap();
            let _ = load_into(tiny(), &path, false);
        }
    }
}

#[test]
fn what_is_no_file_of_weights() {
    let dir = tempfile::tempdir().unwrap();
    let said = |path: &Path| load_into(tiny(), path, false).unwrap_err().to_string();
    assert!(said(dir.path()).contains("is no regular file"));
    assert!(said(&dir.path().join("absent.pth")).contains("absent.pth"));
    let path = dir.path().join("x.pth");
    for bytes in [&b""[..], b"<html>", b"\x08\0\0\0\0\0\0\0{\"a\": 1}", b"\x80\x02}q\0."] {
        std::fs::write(&path, bytes).unwrap();
        let error = said(&path);
        assert!(error.contains("x.pth") && error.contains("hint: "), "{error}");
    }
}
