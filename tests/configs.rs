//! What every shipped config comes to, against the published settings: the numbers in `configs/*.rs` beside this file are written out by hand from
//! the papers and programs, not read from the configs.

mod common;
#[path = "configs/pairs.rs"]
mod pairs;
#[path = "configs/rows.rs"]
mod rows;

use pairs::published;
use rows::{ALWAYS, demanded, row};
use serde_json::Value;
use unmix::config::RunConfig;

/// Numbers by value, so that 1 is 1.0; everything else as it is.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

fn files() -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(common::binary::root().join("configs")).unwrap();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "json")).collect()
}

fn stem(path: &std::path::Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}

#[test]
fn every_config_comes_to_the_published_settings() {
    let (mut wrong, mut values) = (Vec::new(), 0);
    for path in files() {
        let name = stem(&path);
        let Some(row) = row(name) else {
            wrong.push(format!("{name}: no row in this table"));
            continue;
        };
        let missing = ALWAYS.into_iter().chain(demanded(&row)).filter(|key| !row.0.contains_key(*key));
        wrong.extend(missing.map(|key| format!("{name}: its row does not say {key}")));
        let got = serde_json::to_value(RunConfig::load(&path, &[]).unwrap().resolved()).unwrap();
        for (key, want) in &row.0 {
            let got = got.pointer(key).unwrap_or(&Value::Null);
            values += 1;
            if !same(got, want) {
                wrong.push(format!("{name}: {key} is {got}, should be {want}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(values > 1000, "{values} values");
}

/// The rate of an epoch (from 0) of a shipped config.
fn rate(name: &str, epochs: u64, epoch: u64) -> f64 {
    let path = common::binary::root().join(format!("configs/{name}.json"));
    let config = RunConfig::load(&path, &[format!("schedule.epochs={epochs}")]).unwrap();
    config.schedule.lr(config.optim.lr, 10 * epoch, 10, 10 * epochs)
}

#[test]
fn rates_fall_where_the_programs_let_them_fall() {
    let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-12, "{got}, want {want}");
    for (epoch, want) in [(0, 0.03), (359, 0.03), (360, 0.003), (480, 3e-4), (540, 3e-5), (599, 3e-5)] {
        near(rate("imagenet100-moco-im", 600, epoch), want);
    }
    // From 1 to 1000: the first epoch is just below the base rate, the last one has none.
    assert!(rate("cifar10-moco-unmix-sym", 1000, 0) < 0.06);
    near(rate("cifar10-moco-unmix-sym", 1000, 499), 0.03);
    near(rate("cifar10-moco-unmix-sym", 1000, 999), 0.0);
    near(rate("imagenet-mocov2-unmix", 200, 0), 0.03);
    near(rate("imagenet-mocov2-unmix", 200, 100), 0.015);
    for (epoch, want) in [(6, 3e-3), (949, 3e-3), (950, 6e-4), (974, 6e-4), (975, 1.2e-4), (999, 1.2e-4)] {
        near(rate("cifar10-simclr-none", 1000, epoch), want);
        near(rate("cifar100-byol-unmix", 1000, epoch), want);
    }
    near(rate("cifar10-simsiam-none", 800, 0), 0.06);
    near(rate("cifar10-simsiam-none", 800, 400), 0.03);
}

/// The rate of a step (from 0) of a shipped config, of `images` images.
fn rate_of_step(name: &str, images: u64, step: u64) -> f64 {
    let config = RunConfig::load(&common::binary::root().join(format!("configs/{name}.json")), &[]).unwrap();
    let per_epoch = images / config.data.batch as u64;
    config.schedule.lr(config.optim.lr, step, per_epoch, config.schedule.total_steps(per_epoch))
}

#[test]
fn rates_warm_up_as_in_the_programs() {
    let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-12, "{got}, want {want}");
    let cifar = 50_000;
    // htdt: step s of the first 500 has (s + 1) / 500 of the rate.
    for (step, want) in [(0, 3e-3 / 500.0), (249, 1.5e-3), (498, 3e-3 * 499.0 / 500.0), (499, 3e-3), (500, 3e-3)] {
        near(rate_of_step("cifar10-byol-none", cifar, step), want);
    }
    // SwAV: from 0 to .6 in 5 epochs of 390 steps, both ends included; then a cosine to .0006.
    for (step, want) in [(0, 0.0), (1949, 0.6), (1950, 0.6), (1950 + 395 * 390 / 2, (0.6 + 0.0006) / 2.0)] {
        near(rate_of_step("cifar10-swav-unmix", cifar, step), want);
    }
    assert!((rate_of_step("cifar10-swav-unmix", cifar, 400 * 390 - 1) - 0.0006).abs() < 1e-8);
    near(rate_of_step("imagenet-swav-none", 1_281_167, 0), 0.6);
    // solo-learn: from 3e-5 to .3 in 10 epochs of 195 steps.
    for (step, want) in [(0, 3e-5), (1949, 0.3), (1950, 0.3)] {
        near(rate_of_step("cifar100-barlow-none", cifar, step), want);
    }
    // Mini-SSL: from 0 to .06 in 5 epochs of 195 steps.
    for (step, want) in [(0, 0.0), (974, 0.06), (975, 0.06), (975 + 195 * 195 / 2, 0.03)] {
        assert!((rate_of_step("cifar100-byol-unmix-minissl", cifar, step) - want).abs() < 3e-6);
    }
}

/// With Un-Mix a config is that without it, but for the mixture, what `about` says, and the momentum that stands for the three averages of
/// Mini-SSL's program.
#[test]
fn unmix_is_the_only_difference_to_the_baseline() {
    let resolved = |name: &str| {
        let config = RunConfig::load(&common::binary::root().join(format!("configs/{name}.json")), &[]).unwrap();
        let mut value = serde_json::to_value(config.resolved()).unwrap();
        let table = value.as_object_mut().unwrap();
        assert!(table.remove("about").is_some() && table.remove("mixture").is_some());
        value
    };
    let mut pairs = 0;
    for path in files() {
        let name = stem(&path);
        let of_pairs = name.split('-').any(|word| ["simclr", "byol", "swav", "simsiam", "barlow"].contains(&word));
        if !of_pairs || !name.contains("-unmix") {
            continue;
        }
        let (mut with, without) = (resolved(name), resolved(&name.replace("-unmix", "-none")));
        if name.ends_with("-minissl") {
            with["method"]["key_momentum"] = without["method"]["key_momentum"].clone();
        }
        assert_eq!(with, without, "{name}");
        pairs += 1;
    }
    assert_eq!(pairs, 14);
}

#[test]
fn expectations_quote_what_was_published() {
    let mut configs = 0;
    for path in files() {
        let name = stem(&path);
        let Some(parts) = published(name) else { continue };
        let said = RunConfig::load(&path, &[]).unwrap().about.expectation;
        parts.iter().for_each(|part| assert!(said.contains(part), "{name} does not say `{part}`: {said}"));
        assert!(said.ends_with("Not yet run here."), "{name}: {said}");
        configs += 1;
    }
    assert_eq!(configs, 33);
}

/// A file says what it is, how it is run, and what differs from the program that it names.
#[test]
fn every_config_names_its_source_and_its_deviations() {
    for path in files() {
        let name = stem(&path);
        let about = RunConfig::load(&path, &[]).unwrap().about;
        for (key, text) in
            [("source", &about.source), ("hardware", &about.hardware), ("time", &about.time), ("expectation", &about.expectation)]
        {
            assert!(!text.trim().is_empty(), "{name}: about.{key} says nothing");
        }
        assert!(about.command.contains(&format!("configs/{name}.json")), "{name}: {}", about.command);
        assert!(!about.expectation.contains("not part of this version"), "{name}: {}", about.expectation);
        let says: &[&str] = match name.split('-').collect::<Vec<_>>()[..] {
            ["cifar10" | "cifar100", "simclr", "unmix"] => &["never released", "issue 5", "mixture.anchor = view2"],
            ["cifar10" | "cifar100", "byol", "unmix"] => &["never released", "mixture.branch = both", "is said nowhere"],
            ["cifar10" | "cifar100", "simclr" | "byol", _] => &["htdt", "biases in front of norms", "shares of the length"],
            ["cifar10" | "cifar100", "swav", "unmix"] => &["issue 7", "method.legacy_flip"],
            ["cifar10" | "cifar100", "swav", _] => &["resnet26b", "method.memory.size = 0"],
            ["cifar10" | "cifar100", "simsiam" | "barlow", "unmix"] => &["carried over by us"],
            ["cifar10", "simsiam", _] => &["Taken over by us", "optim.predictor.constant"],
            ["cifar100", "simsiam", _] => &["Carried over by us to CIFAR-100"],
            ["cifar10" | "cifar100", "barlow", _] => &["solo-learn", "cifar_pad"],
            ["cifar10" | "cifar100", "byol", "unmix", "minissl"] | ["tiny", "imagenet", "byol", "unmix", "minissl"] => {
                &["three times per step", "mixture.anchor = view2", "exchanging their names"]
            }
            ["tiny", "imagenet", "byol", "none", "minissl"] => &["max pool", "no model.stem"],
            [.., "byol", "none", "minissl"] => &["Mini-SSL", "is presumed"],
            ["imagenet", "swav", "unmix"] => &["default is 0", "one draw holds for the batch"],
            ["imagenet", "swav", _] => &["plain batch norm"],
            ["cifar10", "cpu", "simclr" | "byol" | "swav" | "simsiam" | "barlow"] => &["Settings of our own"],
            ["imagenet100", "moco", _] => &["Crops from .1", "its README says 4096", "120, 160 and 200", "model.bn_splits"],
            ["imagenet100", ..] => &["Crops from .1", "its README says 4096", "120, 160 and 200", "statistics of the whole batch"],
            ["cifar10", "cmc", _] => &["Carried over", "from .1 of the area"],
            ["cifar10", "moco" | "insdis", _] => &["Carried over", "crops from .08"],
            ["imagenet", "mocov2", "unmix"] => &["one draw holds for the batch", "default is 0"],
            ["imagenet", "mocov1", _] => &["SplitBN groups"],
            ["stl10" | "tiny", ..] => &["carried over by us"],
            _ => &[],
        };
        says.iter().for_each(|part| assert!(about.source.contains(part), "{name} does not say `{part}`: {}", about.source));
    }
}
