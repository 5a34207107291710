//! Stem `knn`: weighted votes, predictions, nearest rows, top-1 and top-5.

use std::path::Path;

use crate::eval::knn::{KnnConfig, classify};
use burn::tensor::Device;

use crate::check::Tally;
use crate::check::common::{Sheet, Tensors};

/// All cases.
pub fn check(dir: &Path, device: &Device, tally: &mut Tally) {
    let sheet = Sheet::read(dir, "knn");
    for case in sheet.cases() {
        tally.case(case.name(), || {
            let unsigned = |values: Vec<i64>| -> Vec<u32> { values.into_iter().map(|v| v as u32).collect() };
            let (labels, truth) = (unsigned(case.input_integers("labels")), unsigned(case.input_integers("truth")));
            let config = KnnConfig { k: case.number("k") as usize, temperature: case.number("T"), ..KnnConfig::default() };
            let classes = case.number("classes") as usize;
            let got = classify(&case.input("bank", device), &case.input("query", device), &labels, classes, &config);

            let output = |key: &str| case.json["outputs"][key].as_str().unwrap().to_owned();
            let integers = |tensors: &Tensors, key: &str| tensors.integer(&output(key)).1.clone();
            let signed = |values: &[u32]| -> Vec<i64> { values.iter().map(|&v| i64::from(v)).collect() };
            assert_eq!(signed(&got.predicted), integers(case.tensors, "predicted"), "{}", case.name());
            assert_eq!(signed(&got.nearest), integers(case.tensors, "nearest"), "{}", case.name());
            let hits: Vec<i64> = got.top5_hits(&truth).into_iter().map(i64::from).collect();
            assert_eq!(hits, integers(case.tensors, "top5_hit"), "{}", case.name());
            let tolerance = case.number("votes_tol_relative");
            for (got, &want) in got.weights().into_iter().zip(&case.tensors.float(&output("votes")).1) {
                let want = f64::from(want);
                assert!((got - want).abs() <= tolerance * want.abs(), "{}: {got} votes, want {want}", case.name());
            }
            assert!(
                (got.top1(&truth) / 100.0 - case.number("top1")).abs() < 1e-12
                    && (got.top5(&truth) / 100.0 - case.number("top5")).abs() < 1e-12
            );
            assert_eq!(case.json["outputs"].as_object().unwrap().len(), 4);
        });
    }
}
