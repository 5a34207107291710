use serde_json::json;

use super::*;
use crate::data::synthetic::{Synthetic, SyntheticConfig};
use crate::data::{Encoded, Split};
use crate::eval::knn::{KnnConfig, measure};
use crate::model::ModelConfig;
use crate::model::state::{AnyTensor, Taken, Trained};

/// A source of which some images cannot be read.
struct Damaged(Synthetic, Vec<usize>);

impl Damaged {
    fn of(split: Split, broken: &[usize]) -> Arc<dyn Source> {
        let config = SyntheticConfig { count: 40, test_count: 20, classes: 4, height: 16, width: 16 };
        Arc::new(Self(Synthetic::new(&config, split, 1), broken.to_vec()))
    }
}

impl Source for Damaged {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn classes(&self) -> &[String] {
        self.0.classes()
    }
    fn label(&self, index: usize) -> Option<u32> {
        self.0.label(index)
    }
    fn encoded(&self, index: usize) -> Result<Encoded<'_>> {
        if self.1.contains(&index) { Err(Error::input("damaged")) } else { self.0.encoded(index) }
    }
    fn name(&self, index: usize) -> String {
        format!("image {index}")
    }
    fn describe(&self) -> String {
        self.0.describe()
    }
}

fn how(max_broken: f64) -> Extraction {
    let views: ViewsConfig = serde_json::from_value(json!({"recipe": "cifar_moco", "crop": {"size": 16}})).unwrap();
    let opened = crate::device::open("cpu").unwrap();
    Extraction::new(&views, 8, LoaderOptions { workers: 2, prefetch: 3, max_broken }, &opened)
}

fn encoder() -> Frozen {
    let model = json!({"width": 0.125, "stem": "cifar", "stem_channels": 8, "bn_splits": 1});
    let model: ModelConfig = serde_json::from_value(model).unwrap();
    Frozen::one("query", model.init(3, 5, "query", &Device::flex()))
}

fn rows(tensor: &Tensor<2>) -> Vec<Vec<f32>> {
    let width = tensor.dims()[1];
    tensor.clone().into_data().try_to_vec::<f32>().unwrap().chunks(width).map(<[f32]>::to_vec).collect()
}

/// In the middle, at the end, and a whole batch of eight: the other rows are those of the undamaged source.
#[test]
fn an_image_that_cannot_be_read_has_no_row() {
    let (encoder, how) = (encoder(), how(0.9));
    let whole = extract(&encoder, Damaged::of(Split::Test, &[]), &how, &[7]).unwrap();
    for broken in [vec![3], vec![19], vec![0, 1, 2, 3, 4, 5, 6, 7], vec![7, 8, 18, 19]] {
        let got = extract(&encoder, Damaged::of(Split::Test, &broken), &how, &[7]).unwrap();
        let kept: Vec<usize> = (0..20).filter(|index| !broken.contains(index)).collect();
        assert_eq!(got.images, kept.iter().map(|&index| index as u32).collect::<Vec<_>>());
        assert_eq!(got.labels, kept.iter().map(|&index| whole.labels[index]).collect::<Vec<_>>());
        let (got_rows, all) = (rows(&got.layers[0]), rows(&whole.layers[0]));
        assert!(got_rows.iter().zip(&kept).all(|(row, &index)| *row == all[index]), "{broken:?}");
        assert_eq!(got.speed.unreadable, broken.iter().map(|index| format!("image {index}")).collect::<Vec<_>>());
    }
}

/// The accuracy is that of the readable images, as if the others were not there.
#[test]
fn damaged_images_are_neither_neighbours_nor_queries() {
    let (encoder, how, config) = (encoder(), how(0.9), KnnConfig { k: 5, ..KnnConfig::default() });
    let bank = Damaged::of(Split::Train, &[5]);
    let damaged = measure(&encoder, (&bank, &Damaged::of(Split::Test, &[0, 9])), &how, &config, &[7]).unwrap();
    let picked = |split, broken: &[usize], n: usize| {
        crate::data::source::Picked::of(Damaged::of(split, &[]), (0..n).filter(|index| !broken.contains(index)).collect())
    };
    let (bank, queries) = (picked(Split::Train, &[5], 40), picked(Split::Test, &[0, 9], 20));
    let without = measure(&encoder, (&bank, &queries), &how, &config, &[7]).unwrap();
    assert_eq!((damaged.layers, damaged.bank, damaged.queries), (without.layers, 39, 18));
    assert_eq!(damaged.unreadable, ["image 5", "image 0", "image 9"]);
    assert!(unreadable_warning(&damaged.unreadable).unwrap().starts_with("3 images could not be read"));
    assert_eq!(unreadable_warning(&without.unreadable), None);
}

#[test]
fn a_warning_names_some_and_hides_no_escape() {
    let names: Vec<String> = (0..9).map(|i| format!("a\u{1b}[2J{i}\n")).collect();
    let text = unreadable_warning(&names).unwrap();
    assert!(text.contains("9 images") && text.contains("and 4 more") && !text.contains('\u{1b}') && !text.contains('\n'), "{text}");
}

/// NaN and infinity in one value of one layer.
#[test]
fn features_that_are_not_finite_are_an_error() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut encoder = encoder();
        let spoilt = |one: Taken| match one.name.as_str() {
            "fc.bias" => AnyTensor(one.value.0.slice_fill(3..4, value)),
            _ => one.value,
        };
        encoder.parts[0].2.edit(&mut |all| all.into_iter().map(spoilt).collect());
        let run = |layers: &[usize]| extract(&encoder, Damaged::of(Split::Test, &[]), &how(0.0), layers).map(drop);
        run(&[5, 6]).unwrap();
        let error = run(&[6, 7]).unwrap_err();
        assert!(is_not_finite(&error) && error.message().contains("layer 7") && !error.hints().is_empty(), "{error}");
    }
}
