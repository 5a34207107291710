//! What every shipped config comes to, against the published settings: the numbers below are written out by hand from the papers and
//! programs, not read from the configs.

mod common;

use serde_json::{Map, Value, json};
use unmix::config::RunConfig;

/// The settings of a config: JSON pointers into the resolved config, and what stands there.
struct Row(Map<String, Value>);

impl Row {
    fn of(table: Value) -> Self {
        match table {
            Value::Object(map) => Self(map),
            other => panic!("not a table: {other}"),
        }
    }

    /// The same with further or other settings.
    fn and(mut self, table: Value) -> Self {
        self.0.extend(Self::of(table).0);
        self
    }
}

/// What every row must say, beside what its method and mixture have.
const ALWAYS: [&str; 18] = [
    "/data/batch",
    "/data/drop_last",
    "/views/recipe",
    "/views/crop/size",
    "/views/crop/min_area",
    "/views/color_space",
    "/mixture/name",
    "/method/name",
    "/method/loss",
    "/method/temperature",
    "/model/name",
    "/model/width",
    "/model/stem",
    "/model/head/name",
    "/model/bn_splits",
    "/optim/lr",
    "/optim/weight_decay",
    "/schedule/kind",
];

/// The rest that a row must say because of its method or mixture.
fn demanded(row: &Row) -> Vec<&'static str> {
    let word = |key: &str| row.0[key].as_str().unwrap();
    let mut keys = match word("/method/name") {
        "moco" => vec!["/method/memory/size", "/method/memory/init", "/method/key_momentum", "/method/symmetric"],
        _ => vec!["/method/negatives", "/method/bank_momentum"],
    };
    keys.extend(match word("/mixture/name") {
        "im" => vec!["/mixture/global", "/mixture/region", "/mixture/partner", "/mixture/share_views"],
        "global" => vec!["/mixture/global", "/mixture/partner"],
        "region" => vec!["/mixture/region", "/mixture/partner"],
        "cutout" => vec!["/mixture/cutout"],
        "erase" => vec!["/mixture/erase", "/mixture/fill"],
        "unmix" => vec!["/mixture/prob", "/mixture/beta", "/mixture/pairing"],
        _ => vec![],
    });
    keys
}

/// Every mixture with its published numbers.
fn mixture(name: &str) -> Value {
    let global = json!({"alpha": 1.0, "attempts": 2, "prob": 0.1});
    let region = json!({"beta": 1.0, "attempts": 2, "prob": 0.1, "decay": 1.0});
    match name {
        "none" => json!({"/mixture/name": "none"}),
        "im" => json!({
            "/mixture/name": "im", "/mixture/global": global, "/mixture/region": region, "/mixture/partner": "dataset",
            "/mixture/share_views": true,
        }),
        "global" => json!({"/mixture/name": "global", "/mixture/global": global, "/mixture/partner": "dataset"}),
        "region" => json!({"/mixture/name": "region", "/mixture/region": region, "/mixture/partner": "dataset"}),
        "cutout" => json!({"/mixture/name": "cutout", "/mixture/cutout": {"size": 50, "prob": 0.1, "inside": false, "value": 0.0}}),
        "erase" => json!({
            "/mixture/name": "erase", "/mixture/erase": {"area": [0.02, 0.4], "prob": 0.1, "min_aspect": 0.3, "attempts": 20},
            "/mixture/fill": "scalar",
        }),
        "unmix" => json!({
            "/mixture/name": "unmix", "/mixture/prob": 0.5, "/mixture/beta": 1.0, "/mixture/pairing": "flip",
            "/mixture/per_sample_lambda": false,
        }),
        other => panic!("no mixture {other}"),
    }
}

/// The trainers of the first version: SGD .03 and 1e-4, .1 after 60, 80 and 90 % of 600 epochs, of which 240 is the shortest published
/// budget. Softmax, as the commands of its README ask for; nets without ReLU in the head.
fn first_version(method: &str) -> Row {
    let row = Row::of(json!({
        "/data/batch": 128, "/data/drop_last": false, "/views/recipe": "moco_v1", "/views/crop/size": 224, "/views/crop/min_area": 0.1,
        "/views/color_space": "rgb", "/method/name": method, "/method/loss": "softmax", "/method/temperature": 0.07,
        "/model/name": "resnet50", "/model/width": 1.0, "/model/stem": "imagenet", "/model/stem_channels": 64,
        "/model/head/name": "linear", "/model/head/dim": 128, "/model/bn_splits": 1, "/optim/lr": 0.03, "/optim/momentum": 0.9,
        "/optim/weight_decay": 1e-4, "/optim/no_decay": [], "/schedule/epochs": 240, "/schedule/kind": "multistep",
        "/schedule/milestones_at": [0.6, 0.8, 0.9], "/schedule/factor": 0.1, "/schedule/warmup_epochs": 0.0,
    }));
    match method {
        // Eight groups stand for the devices over which the program shuffles, and groups take no partial batch.
        "moco" => row.and(json!({
            "/method/memory/size": 16384, "/method/memory/init": "uniform", "/method/key_momentum": 0.999, "/method/symmetric": false,
            "/method/shuffle_bn": true, "/model/bn_splits": 8, "/data/drop_last": true,
        })),
        "insdis" => row.and(json!({"/method/negatives": 16384, "/method/bank_momentum": 0.5})),
        // Two nets of half width over YCbCr, without colour jitter.
        "cmc" => row.and(json!({
            "/method/negatives": 16384, "/method/bank_momentum": 0.5, "/model/width": 0.5, "/model/split_views": true,
            "/views/recipe": "cmc", "/views/color_space": "ycbcr", "/views/mean": [116.151, 121.080, 132.342],
            "/views/std": [109.500, 111.855, 111.964],
        })),
        other => panic!("no method {other}"),
    }
}

/// The same, carried over to 32 x 32 pixels: no program has these settings.
fn first_version_small(method: &str) -> Row {
    let row = first_version(method).and(json!({
        "/views/crop/size": 32, "/model/name": "resnet18", "/model/stem": "cifar", "/method/temperature": 0.1,
    }));
    match method {
        "cmc" => row.and(json!({"/method/negatives": 4096})),
        "insdis" => row.and(json!({"/method/negatives": 4096, "/views/recipe": "cifar_moco", "/views/crop/min_area": 0.08})),
        _ => row.and(json!({"/method/memory/size": 4096, "/views/recipe": "cifar_moco", "/views/crop/min_area": 0.08})),
    }
}

/// Un-Mix's program for CIFAR: ResNet-18 on 32 x 32, batch 512, K 4096, temperature .1, momentum .99, SGD .06 and 5e-4, a cosine that
/// counts epochs from 1, eight groups of batch norm; 200 of its 1000 epochs.
fn unmix_cifar(symmetric: bool) -> Row {
    Row::of(json!({
        "/data/batch": 512, "/data/drop_last": true, "/views/recipe": "cifar_moco", "/views/crop/size": 32, "/views/crop/min_area": 0.08,
        "/views/color_space": "rgb", "/views/mean": [0.4914, 0.4822, 0.4465], "/views/std": [0.2023, 0.1994, 0.2010],
        "/method/name": "moco", "/method/loss": "softmax", "/method/temperature": 0.1, "/method/key_momentum": 0.99,
        "/method/symmetric": symmetric, "/method/memory/size": 4096, "/method/memory/init": "normal_unit",
        "/method/replay_mixture_stats": true, "/method/clean_stats_only": false, "/method/shuffle_bn": true,
        "/model/name": "resnet18", "/model/width": 1.0, "/model/stem": "cifar", "/model/stem_channels": 64, "/model/head/name": "linear",
        "/model/head/dim": 128, "/model/bn_splits": 8, "/optim/lr": 0.06, "/optim/momentum": 0.9, "/optim/weight_decay": 5e-4,
        "/optim/no_decay": [], "/schedule/epochs": 200, "/schedule/kind": "cosine", "/schedule/epoch_base": 1,
        "/schedule/per_step": false, "/schedule/final_lr": 0.0, "/schedule/warmup_epochs": 0.0,
        "/eval/knn": {"k": 200, "temperature": 0.1, "layer": "embedding"},
    }))
}

/// MoCo v2 on ImageNet, and Un-Mix's program for it, with the probability of its command.
fn moco_v2() -> Row {
    Row::of(json!({
        "/data/batch": 256, "/data/drop_last": true, "/views/recipe": "moco_v2", "/views/crop/size": 224, "/views/crop/min_area": 0.2,
        "/views/color_space": "rgb", "/views/mean": [0.485, 0.456, 0.406], "/views/std": [0.229, 0.224, 0.225],
        "/method/name": "moco", "/method/loss": "softmax", "/method/temperature": 0.2, "/method/key_momentum": 0.999,
        "/method/symmetric": false, "/method/memory/size": 65536, "/method/memory/init": "normal_unit", "/method/shuffle_bn": true,
        "/model/name": "resnet50", "/model/width": 1.0, "/model/stem": "imagenet", "/model/stem_channels": 64, "/model/head/name": "mlp",
        "/model/head/dim": 128, "/model/bn_splits": 8, "/optim/lr": 0.03, "/optim/momentum": 0.9, "/optim/weight_decay": 1e-4,
        "/schedule/epochs": 200, "/schedule/kind": "cosine", "/schedule/epoch_base": 0, "/schedule/per_step": false,
        "/schedule/final_lr": 0.0, "/schedule/warmup_epochs": 0.0,
    }))
}

/// MoCo v1 on ImageNet, as its program is: .03 falls to a tenth after 120 and after 160 epochs.
fn moco_v1() -> Row {
    moco_v2().and(json!({
        "/views/recipe": "moco_v1", "/method/temperature": 0.07, "/model/head/name": "linear", "/schedule/kind": "multistep",
        "/schedule/milestones": [120, 160], "/schedule/milestones_at": [], "/schedule/factor": 0.1, "/eval/enabled": false,
    }))
}

/// Un-Mix's recipe for CIFAR with views of 64 pixels, and other images' mean and deviation: settings of our own.
fn unmix_larger(mean: [f64; 3], std: [f64; 3]) -> Row {
    unmix_cifar(true).and(json!({"/views/crop/size": 64, "/views/mean": mean, "/views/std": std}))
}

/// Un-Mix's recipe for CIFAR cut down to two CPU cores: an eighth of the width, views of 16 pixels, two epochs. Settings of our own.
fn small_cpu(method: &str) -> Row {
    let row = unmix_cifar(false).and(json!({
        "/data/batch": 128, "/views/crop/size": 16, "/views/crop/min_area": 0.2, "/model/width": 0.125, "/model/stem_channels": 8,
        "/method/memory/size": 1024, "/schedule/epochs": 2, "/schedule/epoch_base": 0, "/schedule/per_step": true,
    }));
    if method == "moco" {
        return row;
    }
    let mut row = row.and(json!({
        "/method/name": method, "/method/negatives": 4096, "/method/bank_momentum": 0.5, "/model/bn_splits": 1,
    }));
    let queue = ["memory/size", "memory/init", "key_momentum", "symmetric", "replay_mixture_stats", "shuffle_bn"];
    queue.iter().for_each(|key| drop(row.0.remove(&format!("/method/{key}"))));
    match method {
        "cmc" => row.and(json!({
            "/views/recipe": "cmc", "/views/color_space": "lab", "/views/mean": [50.0, 6.025, -6.6895], "/views/std": [50.0, 92.208, 101.1675],
        })),
        _ => row,
    }
}

/// The embedded images on a small CPU: settings of our own.
fn embedded() -> Row {
    let grey = json!({"/views/mean": [0.287, 0.287, 0.287], "/views/std": [0.354, 0.354, 0.354]});
    small_cpu("moco").and(grey).and(json!({
        "/data/batch": 64, "/views/crop/min_area": 0.4, "/method/memory/size": 256, "/model/bn_splits": 4, "/schedule/epochs": 20,
    }))
}

fn smoke() -> Row {
    embedded().and(json!({
        "/data/batch": 32, "/data/limit": 512, "/views/crop/size": 28, "/views/crop/min_area": 0.08, "/method/memory/size": 1024,
        "/model/bn_splits": 2, "/optim/lr": 0.00375, "/schedule/epochs": null, "/schedule/steps": 40, "/schedule/per_step": false,
        "/eval/knn": {"k": 50, "temperature": 0.1, "layer": "embedding"},
    }))
}

/// The row of a file; none means that whoever adds a config must write down here where its numbers come from.
fn row(name: &str) -> Option<Row> {
    let words: Vec<&str> = name.split('-').collect();
    Some(match words[..] {
        ["imagenet100", method, mix] => first_version(method).and(mixture(mix)),
        // A hole of 50 pixels would be more than the image.
        ["cifar10", method, "cutout"] => first_version_small(method)
            .and(mixture("cutout"))
            .and(json!({"/mixture/cutout": {"size": 16, "prob": 0.1, "inside": false, "value": 0.0}})),
        ["cifar10", "cpu"] => small_cpu("moco").and(mixture("none")),
        ["cifar10", "cpu", method] => small_cpu(method).and(mixture("none")),
        ["cifar10", method, mix] => first_version_small(method).and(mixture(mix)),
        ["cifar10", "moco", mix, form @ ("sym" | "asym")] => unmix_cifar(form == "sym").and(mixture(mix)),
        ["cifar100", "moco", mix, form @ ("sym" | "asym")] => unmix_cifar(form == "sym").and(mixture(mix)),
        ["stl10", "moco", mix] => unmix_larger([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).and(mixture(mix)),
        ["tiny", "imagenet", "moco", mix] => unmix_larger([0.4802, 0.4481, 0.3975], [0.2302, 0.2265, 0.2262]).and(mixture(mix)),
        ["imagenet", "mocov1", mix] => moco_v1().and(mixture(mix)),
        ["imagenet", "mocov2", mix] => moco_v2().and(mixture(mix)),
        ["quickstart"] => embedded().and(mixture("im")),
        ["smoke"] => smoke().and(mixture("im")),
        _ => return None,
    })
}

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
