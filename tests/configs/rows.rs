//! Rows of the systems of 2003.05438v1, of MoCo and of the small ones, and what every row must say.

use serde_json::{Map, Value, json};

use super::pairs::{imagenet_swav, minissl, pairs, small_cpu_pairs, unmix_pairs};

/// The settings of a config: JSON pointers into the resolved config, and what stands there.
pub struct Row(pub Map<String, Value>);

impl Row {
    pub fn of(table: Value) -> Self {
        match table {
            Value::Object(map) => Self(map),
            other => panic!("not a table: {other}"),
        }
    }

    /// The same with further or other settings.
    pub fn and(self, table: Value) -> Self {
        self.with(Self::of(table))
    }

    /// The same with the settings of another row.
    pub fn with(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The same without what does not apply.
    pub fn without(mut self, keys: &[&str]) -> Self {
        keys.iter().for_each(|key| drop(self.0.remove(*key)));
        self
    }
}

/// What every row must say, beside what its method, head, mixture, optimizer and schedule have.
pub const ALWAYS: [&str; 19] = [
    "/data/batch",
    "/data/drop_last",
    "/views/recipe",
    "/views/crop/size",
    "/views/crop/min_area",
    "/views/color_space",
    "/mixture/name",
    "/method/name",
    "/model/name",
    "/model/width",
    "/model/stem",
    "/model/head/name",
    "/model/head/dim",
    "/model/bn_splits",
    "/optim/name",
    "/optim/lr",
    "/optim/weight_decay",
    "/schedule/kind",
    "/schedule/warmup_epochs",
];

/// The rest that a row must say because of what its words choose.
pub fn demanded(row: &Row) -> Vec<&'static str> {
    let word = |key: &str| row.0.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| row.0.get(key).and_then(Value::as_f64).unwrap_or_default();
    let mut keys = of_method(word("/method/name"));
    if number("/method/memory/size") > 0.0 && word("/method/name") == "swav" {
        keys.push("/method/memory/start_epoch");
    }
    if word("/method/name") == "byol" && word("/method/key_momentum_schedule") != "constant" {
        keys.push("/method/key_momentum_final");
    }
    let mlp =
        ["/model/head/layers", "/model/head/hidden", "/model/head/hidden_norm", "/model/head/last_norm", "/model/head/last_bias"];
    keys.extend(mlp.into_iter().filter(|_| word("/model/head/name") == "mlp"));
    keys.extend(match word("/mixture/name") {
        "im" => vec!["/mixture/global", "/mixture/region", "/mixture/partner", "/mixture/share_views"],
        "global" => vec!["/mixture/global", "/mixture/partner"],
        "region" => vec!["/mixture/region", "/mixture/partner"],
        "cutout" => vec!["/mixture/cutout"],
        "erase" => vec!["/mixture/erase", "/mixture/fill"],
        "unmix" => of_unmix(word("/method/name")),
        _ => vec![],
    });
    keys.extend(match word("/optim/name") {
        "sgd" => vec!["/optim/momentum", "/optim/no_decay"],
        "lars" => vec![
            "/optim/momentum",
            "/optim/trust",
            "/optim/lars_clip",
            "/optim/lars_exclude",
            "/optim/lars_norm",
            "/optim/no_decay",
        ],
        "adam" | "adamw" => vec!["/optim/betas", "/optim/eps", "/optim/no_decay"],
        other => panic!("no optimizer {other}"),
    });
    keys.extend(match word("/schedule/kind") {
        "cosine" => vec!["/schedule/per_step", "/schedule/final_lr", "/schedule/epoch_base"],
        "multistep" => vec!["/schedule/milestones_at", "/schedule/factor"],
        other => panic!("no schedule {other}"),
    });
    keys
}

fn of_method(name: &str) -> Vec<&'static str> {
    match name {
        "moco" => vec![
            "/method/loss",
            "/method/temperature",
            "/method/memory/size",
            "/method/memory/init",
            "/method/key_momentum",
            "/method/symmetric",
        ],
        "insdis" | "cmc" => vec!["/method/loss", "/method/temperature", "/method/negatives", "/method/bank_momentum"],
        "simclr" => vec!["/method/loss", "/method/temperature"],
        "byol" => vec![
            "/method/predictor",
            "/method/key_momentum",
            "/method/key_momentum_schedule",
            "/method/directions",
            "/method/shuffle_bn",
            "/optim/predictor",
        ],
        "swav" => vec![
            "/views/crops",
            "/method/prototypes",
            "/method/temperature",
            "/method/epsilon",
            "/method/sinkhorn_iterations",
            "/method/assign_crops",
            "/method/freeze_prototypes_steps",
            "/method/memory/size",
        ],
        "simsiam" => vec!["/method/predictor", "/method/stop_gradient", "/model/zero_init_residual", "/optim/predictor"],
        "barlow" => vec!["/views/second_recipe", "/method/off_diagonal", "/method/standardise", "/method/scale"],
        other => panic!("no method {other}"),
    }
}

/// What Un-Mix leaves to choose under a method.
fn of_unmix(method: &str) -> Vec<&'static str> {
    let mut keys = vec!["/mixture/prob", "/mixture/beta", "/mixture/pairing", "/mixture/per_sample_lambda"];
    keys.extend(match method {
        "byol" | "simsiam" => vec!["/mixture/anchor", "/mixture/branch", "/method/clean_stats_only"],
        "simclr" | "barlow" => vec!["/mixture/anchor", "/method/clean_stats_only"],
        "swav" => vec!["/method/legacy_flip"],
        _ => vec![],
    });
    keys
}

/// Every mixture with its published numbers.
pub fn mixture(name: &str) -> Value {
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
        "/model/head/name": "linear", "/model/head/dim": 128, "/model/bn_splits": 1, "/optim/name": "sgd", "/optim/lr": 0.03,
        "/optim/momentum": 0.9, "/optim/weight_decay": 1e-4, "/optim/no_decay": [], "/schedule/epochs": 240, "/schedule/kind": "multistep",
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
        "/model/head/dim": 128, "/model/bn_splits": 8, "/optim/name": "sgd", "/optim/lr": 0.06, "/optim/momentum": 0.9,
        "/optim/weight_decay": 5e-4,
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
        "/model/head/layers": 2, "/model/head/hidden": null, "/model/head/hidden_norm": false, "/model/head/last_norm": "none",
        "/model/head/last_bias": true, "/model/head/dim": 128, "/model/bn_splits": 8, "/optim/name": "sgd", "/optim/lr": 0.03,
        "/optim/momentum": 0.9, "/optim/weight_decay": 1e-4, "/optim/no_decay": [], "/schedule/epochs": 200, "/schedule/kind": "cosine", "/schedule/epoch_base": 0, "/schedule/per_step": false,
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
    let row = row.and(json!({
        "/method/name": method, "/method/negatives": 4096, "/method/bank_momentum": 0.5, "/model/bn_splits": 1,
    }));
    let row = row.without(&[
        "/method/memory/size",
        "/method/memory/init",
        "/method/key_momentum",
        "/method/symmetric",
        "/method/replay_mixture_stats",
        "/method/shuffle_bn",
    ]);
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
pub fn row(name: &str) -> Option<Row> {
    let words: Vec<&str> = name.split('-').collect();
    Some(match words[..] {
        ["imagenet100", method, mix] => first_version(method).and(mixture(mix)),
        // A hole of 50 pixels would be more than the image.
        ["cifar10", method, "cutout"] => first_version_small(method)
            .and(mixture("cutout"))
            .and(json!({"/mixture/cutout": {"size": 16, "prob": 0.1, "inside": false, "value": 0.0}})),
        [data @ ("cifar10" | "cifar100"), method @ ("simclr" | "byol" | "swav" | "simsiam" | "barlow"), mix] => {
            pairs(data, method).with(unmix_pairs(method, mix))
        }
        [data @ ("cifar10" | "cifar100"), "byol", mix, "minissl"] => minissl(data, mix).with(unmix_pairs("byol", mix)),
        ["tiny", "imagenet", "byol", mix, "minissl"] => minissl("tiny_imagenet", mix).with(unmix_pairs("byol", mix)),
        ["cifar10", "cpu", method @ ("simclr" | "byol" | "swav" | "simsiam" | "barlow")] => {
            small_cpu_pairs(method).and(mixture("none"))
        }
        // The script of the program passes no probability, and its default is 0.
        ["imagenet", "swav", "unmix"] => imagenet_swav().with(unmix_pairs("swav", "unmix")).and(json!({"/mixture/prob": 0.0})),
        ["imagenet", "swav", mix] => imagenet_swav().with(unmix_pairs("swav", mix)),
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
