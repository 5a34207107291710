//! Rows of SimCLR, BYOL, SwAV, SimSiam and Barlow Twins, and what was published for them.

use serde_json::{Value, json};

use super::rows::{Row, mixture};

/// Views of CIFAR's images, with the mean and the deviation that all programs but solo-learn's and Mini-SSL's have for both data sets.
fn small_views(data: &str) -> Row {
    Row::of(json!({
        "/data/source/name": data, "/data/drop_last": true, "/views/crop/size": 32, "/views/crop/max_area": 1.0, "/views/crops": null,
        "/views/second_recipe": null, "/views/color_space": "rgb", "/views/mean": [0.4914, 0.4822, 0.4465],
        "/views/std": [0.2023, 0.1994, 0.2010],
    }))
}

/// ResNet-18 with the stem for small images and plain batch norm, and a head of two layers with one between.
fn small_net(hidden: u64, dim: u64) -> Row {
    Row::of(json!({
        "/model/name": "resnet18", "/model/width": 1.0, "/model/stem": "cifar", "/model/stem_channels": 64, "/model/bn_splits": 1,
        "/model/zero_init_residual": false, "/model/head/name": "mlp", "/model/head/layers": 2, "/model/head/hidden": hidden,
        "/model/head/hidden_norm": true, "/model/head/last_norm": "none", "/model/head/last_bias": true, "/model/head/dim": dim,
    }))
}

/// Adam of htdt's self-supervised: 3e-3 with an L2 penalty of 1e-6 on everything.
fn htdt_adam() -> Value {
    json!({
        "/optim/name": "adam", "/optim/lr": 3e-3, "/optim/betas": [0.9, 0.999], "/optim/eps": 1e-8, "/optim/weight_decay": 1e-6,
        "/optim/no_decay": [],
    })
}

/// htdt's self-supervised with `--epoch 1000 --lr 3e-3 --emb 64`, and its defaults: batch 512, head of 1024, crops from .2, rates .2 times as
/// high from 50 and from 25 epochs before the end on, a warm-up of 500 steps of 97 per epoch.
fn htdt(data: &str) -> Row {
    small_views(data).with(small_net(1024, 64)).and(htdt_adam()).and(json!({
        "/data/batch": 512, "/views/recipe": "htdt_cifar", "/views/crop/min_area": 0.2, "/schedule/epochs": 1000,
        "/schedule/kind": "multistep", "/schedule/milestones_at": [0.95, 0.975], "/schedule/factor": 0.2,
        "/schedule/warmup_epochs": 5.1546, "/schedule/warmup_start": null,
    }))
}

/// LARC of NVIDIA's apex around SGD, as SwAV's programs call it: eta .001, no clip, nothing excluded; .6 to .0006.
fn larc() -> Value {
    json!({
        "/optim/name": "lars", "/optim/lr": 0.6, "/optim/momentum": 0.9, "/optim/trust": 0.001, "/optim/lars_clip": false,
        "/optim/lars_exclude": [], "/optim/lars_norm": "sum", "/optim/no_decay": [], "/optim/weight_decay": 1e-6,
        "/schedule/kind": "cosine", "/schedule/per_step": true, "/schedule/epoch_base": 0, "/schedule/final_lr": 0.0006,
    })
}

/// What is alike in all programs of SwAV.
fn assignments() -> Value {
    json!({
        "/method/name": "swav", "/method/temperature": 0.1, "/method/epsilon": 0.05, "/method/sinkhorn_iterations": 3,
        "/method/assign_crops": [0, 1], "/method/freeze_prototypes_steps": 5005,
    })
}

/// A method on CIFAR by the program that it is known from.
pub fn pairs(data: &str, method: &str) -> Row {
    match method {
        "simclr" => htdt(data).and(json!({
            "/method/name": "simclr", "/method/loss": "nt_xent", "/method/temperature": 0.5, "/model/head/last_norm": "affine",
        })),
        "byol" => htdt(data).and(json!({
            "/method/name": "byol", "/method/predictor": {"hidden": 1024, "norm": true}, "/method/key_momentum": 0.99,
            "/method/key_momentum_schedule": "cosine_epoch", "/method/key_momentum_final": 1.0, "/method/directions": "sum",
            "/method/shuffle_bn": false, "/optim/predictor": {"lr": 1.0, "constant": false},
        })),
        // Un-Mix's script: batch 128, crops from .14, 100 prototypes, a queue of 120 rows, which is no whole batch and therefore none.
        "swav" => small_views(data).with(small_net(512, 128)).and(larc()).and(assignments()).and(json!({
            "/data/batch": 128, "/views/recipe": "swav_cifar", "/views/crop/min_area": 0.14, "/model/name": "resnet26b",
            "/model/stem": "cifar_pad", "/method/prototypes": 100, "/method/memory/size": 0, "/schedule/epochs": 400,
            "/schedule/warmup_epochs": 5.0, "/schedule/warmup_start": 0.0,
        })),
        // SGD .03 for a batch of 256; a head of two layers; no blur.
        "simsiam" => small_views(data).with(small_net(2048, 2048)).and(json!({
            "/data/batch": 512, "/views/recipe": "cifar_moco", "/views/crop/min_area": 0.2, "/method/name": "simsiam",
            "/method/predictor": {"hidden": 512, "norm": true}, "/method/stop_gradient": true, "/model/zero_init_residual": true,
            "/model/head/last_norm": "plain", "/optim/name": "sgd", "/optim/lr": 0.06, "/optim/momentum": 0.9,
            "/optim/weight_decay": 5e-4, "/optim/no_decay": [], "/optim/predictor": {"lr": 1.0, "constant": true},
            "/schedule/epochs": 800, "/schedule/kind": "cosine", "/schedule/per_step": false, "/schedule/epoch_base": 0,
            "/schedule/final_lr": 0.0, "/schedule/warmup_epochs": 0.0,
        })),
        "barlow" => barlow(data),
        other => panic!("no method {other}"),
    }
}

/// solo-learn's `scripts/pretrain/cifar/barlow.yaml` with `augmentations/asymmetric.yaml`.
fn barlow(data: &str) -> Row {
    let row = small_views(data).with(small_net(2048, 2048)).and(json!({
        "/data/batch": 256, "/views/recipe": "solo_asymmetric_1", "/views/second_recipe": "solo_asymmetric_2",
        "/views/crop/min_area": 0.08, "/method/name": "barlow", "/method/off_diagonal": 0.0051, "/method/standardise": "batch_norm",
        "/method/scale": 0.1, "/model/stem": "cifar_pad", "/model/head/layers": 3, "/optim/name": "lars", "/optim/lr": 0.3,
        "/optim/momentum": 0.9, "/optim/trust": 0.02, "/optim/lars_clip": true, "/optim/lars_exclude": ["norm", "bias"],
        "/optim/lars_norm": "sum", "/optim/no_decay": [], "/optim/weight_decay": 1e-4, "/schedule/epochs": 1000,
        "/schedule/kind": "cosine", "/schedule/per_step": true, "/schedule/epoch_base": 0, "/schedule/final_lr": 0.0,
        "/schedule/warmup_epochs": 10.0, "/schedule/warmup_start": 3e-5,
    }));
    match data {
        "cifar10" => row.and(json!({"/views/std": [0.2470, 0.2435, 0.2616]})),
        _ => row.and(json!({"/views/mean": [0.5071, 0.4865, 0.4409], "/views/std": [0.2673, 0.2564, 0.2762]})),
    }
}

/// BYOL of Mini-SSL: 200 epochs of SGD .06 at batch 256, a warm-up of five epochs from 0, eight groups of batch norm in the backbone, the target's
/// batch shuffled, the mean of both directions. Under Un-Mix its program averages the target three times per step.
pub fn minissl(data: &str, mix: &str) -> Row {
    let (size, mean, std, momenta) = match data {
        "cifar10" => (32, [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010], [0.99, 0.9703]),
        "cifar100" => (32, [0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761], [0.99, 0.9703]),
        _ => (64, [0.4802, 0.4481, 0.3975], [0.2302, 0.2265, 0.2262], [0.996, 0.988]),
    };
    let momentum = momenta[usize::from(mix == "unmix")];
    small_views(data).with(small_net(2048, 128)).and(json!({
        "/data/batch": 256, "/views/recipe": "moco_v2", "/views/crop/size": size, "/views/crop/min_area": 0.2, "/views/mean": mean,
        "/views/std": std, "/method/name": "byol", "/method/predictor": {"hidden": 2048, "norm": true},
        "/method/key_momentum": momentum, "/method/key_momentum_schedule": "constant", "/method/directions": "mean",
        "/method/shuffle_bn": true, "/model/bn_splits": 8, "/optim/name": "sgd", "/optim/lr": 0.06, "/optim/momentum": 0.9,
        "/optim/weight_decay": 5e-4, "/optim/no_decay": [], "/optim/predictor": {"lr": 1.0, "constant": false},
        "/schedule/epochs": 200, "/schedule/kind": "cosine", "/schedule/per_step": true, "/schedule/epoch_base": 0,
        "/schedule/final_lr": 0.0, "/schedule/warmup_epochs": 5.0, "/schedule/warmup_start": 0.0,
        "/eval/knn": {"k": 200, "temperature": 0.1, "layer": "features"},
    }))
}

/// SwAV's `swav_200ep_bs256_pretrain.sh`.
pub fn imagenet_swav() -> Row {
    small_net(2048, 128).and(larc()).and(assignments()).and(json!({
        "/data/batch": 256, "/data/drop_last": true, "/views/recipe": "swav", "/views/second_recipe": null, "/views/crop/size": 224,
        "/views/crop/min_area": 0.14,
        "/views/crops": [
            {"count": 2, "size": null, "min_area": 0.14, "max_area": null, "recipe": null},
            {"count": 6, "size": 96, "min_area": 0.05, "max_area": 0.14, "recipe": null},
        ],
        "/views/color_space": "rgb", "/views/mean": [0.485, 0.456, 0.406], "/views/std": [0.228, 0.224, 0.225],
        "/model/name": "resnet50", "/model/stem": "imagenet", "/method/prototypes": 3000, "/method/memory/size": 3840,
        "/method/memory/start_epoch": 15, "/schedule/epochs": 200, "/schedule/warmup_epochs": 0.0, "/eval/enabled": false,
    }))
}

/// Un-Mix under a method of pairs or crops: the view that is not in the mixture, both branches, its author's formula.
pub fn unmix_pairs(method: &str, mix: &str) -> Row {
    let row = Row::of(mixture(mix));
    match (mix, method) {
        ("none", _) => row,
        (_, "byol" | "simsiam") => row.and(json!({
            "/mixture/anchor": "view2", "/mixture/branch": "both", "/method/clean_stats_only": false,
        })),
        (_, "swav") => row.and(json!({"/method/legacy_flip": false})),
        _ => row.and(json!({"/mixture/anchor": "view2", "/method/clean_stats_only": false})),
    }
}

/// A method of pairs or crops at the size of `cifar10-cpu.json`: settings of our own, with the rates and losses of the larger ones.
pub fn small_cpu_pairs(method: &str) -> Row {
    let schedule = json!({
        "/schedule/epochs": 2, "/schedule/kind": "cosine", "/schedule/per_step": true, "/schedule/epoch_base": 0,
        "/schedule/final_lr": 0.0, "/schedule/warmup_epochs": 0.0, "/schedule/warmup_start": null, "/schedule/milestones_at": [],
        "/schedule/factor": 0.1,
    });
    let (hidden, dim) = if matches!(method, "simsiam" | "barlow") { (256, 256) } else { (128, 64) };
    let row = pairs("folder", method).and(schedule).and(json!({
        "/data/batch": 128, "/views/recipe": "cifar_moco", "/views/second_recipe": null, "/views/crop/size": 16,
        "/views/crop/min_area": 0.2, "/views/mean": [0.4914, 0.4822, 0.4465], "/views/std": [0.2023, 0.1994, 0.2010],
        "/model/name": "resnet18", "/model/width": 0.125, "/model/stem": "cifar", "/model/stem_channels": 8,
        "/model/head/hidden": hidden, "/model/head/dim": dim,
    }));
    match method {
        "byol" => row.and(json!({"/method/predictor": {"hidden": 128, "norm": true}, "/method/key_momentum_schedule": "cosine"})),
        "swav" => {
            row.and(htdt_adam()).without(&["/optim/momentum", "/optim/trust", "/optim/lars_clip", "/optim/lars_norm"]).and(json!({
                "/optim/lr": 1e-3, "/method/freeze_prototypes_steps": 100,
            }))
        }
        "simsiam" => row.and(json!({"/method/predictor": {"hidden": 64, "norm": true}, "/optim/lr": 0.03})),
        _ => row,
    }
}

/// What was published for a config, percent: its expectation has to name all of it. Nothing: it has to say that there is nothing.
pub fn published(name: &str) -> Option<&'static [&'static str]> {
    let words: Vec<&str> = name.split('-').collect();
    Some(match words[..] {
        ["cifar10", "simclr", _] => &["91.8 % without", "92.3 % with", "1000 epochs", "htdt"],
        ["cifar100", "simclr", _] => &["67.7 % without", "68.7 % with", "1000 epochs", "htdt"],
        ["cifar10", "byol", _] => &["92.4 % without", "94.1 % with", "1000 epochs", "htdt"],
        ["cifar100", "byol", _] => &["65.9 % without", "71.4 % with", "1000 epochs", "htdt"],
        ["cifar10", "swav", _] => &[
            "84.9 / 88.8 / 90.1 / 90.8 / 91.5 % without",
            "86.8 / 90.4 / 92.0 / 92.5 / 93.0 % with",
            "200 / 400 / 600 / 800 / 1000",
        ],
        ["cifar100", "swav", _] => &[
            "57.9 / 64.5 / 65.7 / 67.2 / 67.5 % without",
            "61.1 / 66.1 / 68.5 / 69.1 / 69.9 % with",
            "200 / 400 / 600 / 800 / 1000",
        ],
        ["cifar10", "simsiam", "none"] => &["91.8 %", "800 epochs"],
        ["cifar10", "simsiam", "unmix"] => &["Nothing is published", "91.8 %", "800 epochs"],
        ["cifar100", "simsiam", _] => &["othing is published for these settings", "66.04 %"],
        ["cifar10", "barlow", "none"] => &["92.10 %", "1000 epochs"],
        ["cifar10", "barlow", "unmix"] => &["Nothing is published", "92.10 %"],
        ["cifar100", "barlow", "none"] => &["70.90 %", "1000 epochs"],
        ["cifar100", "barlow", "unmix"] => &["Nothing is published", "70.90 %"],
        ["cifar10", "byol", _, "minissl"] => &["87.54 / 89.54 % without", "87.99 / 90.37 % with", "200 epochs", "one seed"],
        ["cifar100", "byol", _, "minissl"] => &["57.24 / 63.16 % without", "59.11 / 65.30 % with", "200 epochs", "one seed"],
        ["tiny", "imagenet", "byol", _, "minissl"] => {
            &["37.65 / 45.29 % without", "38.65 / 47.29 % with", "200 epochs", "one seed"]
        }
        ["imagenet", "swav", "none"] => &["72.7 %", "200 epochs"],
        ["imagenet", "swav", "unmix"] => &["Nothing is published", "72.7 %", "200 epochs"],
        ["cifar10", "cpu", "simclr" | "byol" | "swav" | "simsiam" | "barlow"] => &["Nothing is published"],
        _ => return None,
    })
}
