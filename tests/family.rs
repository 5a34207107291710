//! Every method with every form of mixture, end to end with the real binary: two epochs, and the same bits when they are interrupted. And what the
//! methods that could collapse do when they must.

mod common;

use std::path::Path;

use common::binary::{events, json, refuse, same_tensors, succeed, unmix};
use serde_json::{Value, json};

/// Two epochs of 96 images of the embedded set, on a net of width 1/16.
fn config(method: &Value, mixture: &str) -> Value {
    let name = method["name"].as_str().unwrap();
    let groups = if name == "moco" { 2 } else { 1 };
    let mut method = method.clone();
    let head = method.as_object_mut().unwrap().remove("head").unwrap_or(json!({ "dim": 16 }));
    let views = if name == "cmc" {
        json!({ "color_space": "lab" })
    } else {
        json!({ "mean": [0.287, 0.287, 0.287], "std": [0.354, 0.354, 0.354] })
    };
    let mut views = views;
    views["recipe"] = json!(if name == "cmc" { "cmc" } else { "cifar_moco" });
    views["crop"] = json!({ "size": 16 });
    let data = match name {
        // Its views need colours.
        "cmc" => {
            json!({ "batch": 16, "limit": 48, "source": { "name": "synthetic", "count": 48, "test_count": 16, "height": 20, "width": 20, "classes": 4 } })
        }
        _ => json!({ "batch": 16, "limit": 48 }),
    };
    json!({
        "device": "cpu", "data": data, "views": views, "mixture": { "name": mixture }, "method": method,
        "model": { "width": 0.0625, "stem_channels": 4, "bn_splits": groups, "head": head },
        "optim": { "lr": 0.01 }, "schedule": { "epochs": 2 }, "eval": { "enabled": false, "monitor": { "every_epochs": null } },
        "log": { "preview": 2, "every_steps": 1 }, "checkpoint": { "every_steps": 1 },
    })
}

/// A head with norms.
fn mlp(last: &str) -> Value {
    json!({ "name": "mlp", "dim": 16, "hidden": 24, "hidden_norm": true, "last_norm": last })
}

/// The methods as small as they go.
fn methods() -> Vec<Value> {
    vec![
        json!({ "name": "moco", "temperature": 0.2, "memory": { "size": 40 }, "key_momentum_schedule": "cosine" }),
        json!({ "name": "insdis", "loss": "softmax", "negatives": 10 }),
        json!({ "name": "cmc", "loss": "softmax", "negatives": 10 }),
        json!({ "name": "simclr", "head": mlp("affine") }),
        json!({ "name": "byol", "head": mlp("none"), "predictor": { "hidden": 24 } }),
        json!({ "name": "swav", "head": mlp("none"), "prototypes": 10, "freeze_prototypes_steps": 2, "memory": { "size": 20, "start_epoch": 0 } }),
        json!({ "name": "simsiam", "head": mlp("plain"), "predictor": { "hidden": 8 } }),
        json!({ "name": "barlow", "head": mlp("none") }),
    ]
}

fn write(dir: &Path, name: &str, config: &Value) {
    std::fs::write(dir.join(name), config.to_string()).unwrap();
}

/// Two epochs at once, and in two starts with another number of workers.
fn trained_and_resumed(method: &Value, mixture: &str) {
    let dir = tempfile::tempdir().unwrap();
    let whole = config(method, mixture);
    write(dir.path(), "whole.json", &whole);
    succeed(&mut unmix(dir.path(), &["pretrain", "--quiet", "--config", "whole.json", "--out", "whole"]));
    let steps = events(&dir.path().join("whole"), "step");
    let at = format!("{} with {mixture}", method["name"]);
    assert_eq!(steps.len(), 6, "{at}");
    assert!(steps.iter().all(|step| step["loss"].as_f64().is_some_and(f64::is_finite)), "{at}: {steps:?}");

    // Ended by a signal that the run gives itself: after a limit of steps there is a checkpoint of each.
    let part = dir.path().join("part");
    succeed(&mut unmix(dir.path(), &["pretrain", "--quiet", "--config", "whole.json", "--out", "part"]));
    // Back to the checkpoint before the last: what a kill in the last step leaves.
    let kept = part.join("checkpoints/step-0000000005");
    assert!(kept.is_dir(), "{at}: no checkpoint of step 5");
    std::fs::remove_dir_all(part.join("checkpoint")).unwrap();
    std::fs::rename(&kept, part.join("checkpoint")).unwrap();
    let resume = ["pretrain", "--quiet", "--config", "whole.json", "--out", "part", "--resume", "auto", "--set", "data.workers=3"];
    succeed(&mut unmix(dir.path(), &resume));
    same_tensors(&dir.path().join("whole"), &part);
}

#[test]
fn every_method_trains_and_resumes_without_a_mixture() {
    methods().iter().for_each(|method| trained_and_resumed(method, "none"));
}

#[test]
fn every_method_trains_and_resumes_with_image_mixture() {
    methods().iter().for_each(|method| trained_and_resumed(method, "im"));
}

#[test]
fn every_method_trains_and_resumes_with_unmix() {
    methods().iter().for_each(|method| trained_and_resumed(method, "unmix"));
}

/// The loss forms of i-Mix, MixCo and Mixed Barlow Twins, and InputMix.
#[test]
fn the_zoo_trains_and_resumes() {
    let all = methods();
    let mut moco = all[0].clone();
    for mixture in ["imix", "mixco", "inputmix"] {
        trained_and_resumed(&moco, mixture);
    }
    moco["symmetric"] = json!(true);
    trained_and_resumed(&moco, "imix");
    let barlow = all.iter().find(|method| method["name"] == "barlow").unwrap();
    trained_and_resumed(barlow, "mixed_barlow");
}

/// Crops of two sizes with mixtures and a queue; and `unmix plan` measures such a run, and one of every method with Un-Mix.
#[test]
fn crops_train_and_every_method_is_planned() {
    let dir = tempfile::tempdir().unwrap();
    let all = methods();
    let swav = all.iter().find(|method| method["name"] == "swav").unwrap();
    let mut crops = config(swav, "unmix");
    crops["views"]["crops"] = json!([{ "count": 2 }, { "count": 3, "size": 8, "max_area": 0.5 }]);
    write(dir.path(), "crops.json", &crops);
    succeed(&mut unmix(dir.path(), &["pretrain", "--quiet", "--config", "crops.json", "--out", "run"]));
    let steps = events(&dir.path().join("run"), "step");
    assert!(steps.len() == 6 && steps.iter().all(|step| step["loss"].as_f64().is_some_and(f64::is_finite)), "{steps:?}");
    let plan = |name: &str| {
        let output = succeed(&mut unmix(dir.path(), &["plan", "--config", name, "--device", "cpu", "--json"]));
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(said.to_string().contains("images_per_s"), "{name}: {said}");
    };
    plan("crops.json");
    for (at, method) in all.iter().enumerate() {
        let name = format!("plan-{at}.json");
        write(dir.path(), &name, &config(method, "unmix"));
        plan(&name);
    }
    write(dir.path(), "mixco.json", &config(&all[0], "mixco"));
    plan("mixco.json");
}

/// A run whose monitors look at the encoder after every epoch; what they say of a collapse.
fn collapses(method: Value, lr: f64) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&method, "none");
    config["data"] = json!({ "batch": 32, "limit": 256 });
    config["optim"] = json!({ "lr": lr });
    config["schedule"] = json!({ "epochs": 8, "kind": "constant" });
    config["checkpoint"] = json!({ "every_epochs": 8 });
    config["eval"]["monitor"] = json!({ "every_epochs": 8, "images": 128, "knn": false });
    write(dir.path(), "config.json", &config);
    succeed(&mut unmix(dir.path(), &["pretrain", "--quiet", "--config", "config.json", "--out", "run"]));
    let said = events(&dir.path().join("run"), "warning");
    let seen = events(&dir.path().join("run"), "monitor");
    println!("{}: {:?}", json!(method), seen.iter().map(|one| (&one["feature_std"], &one["rankme"])).collect::<Vec<_>>());
    said.iter().any(|warning| warning["message"].as_str().is_some_and(|text| text.contains("collapsed")))
}

/// Without a predictor or with gradients through the target nothing keeps embeddings apart: the monitors say so. As they are meant to be, the methods
/// are not flagged.
#[test]
fn a_collapse_is_flagged_and_its_cure_is_not() {
    let byol = |predictor: Value| json!({ "name": "byol", "head": mlp("none"), "predictor": predictor, "key_momentum": 0.9 });
    let simsiam = |predictor: Value, stop: bool| json!({ "name": "simsiam", "head": mlp("plain"), "predictor": predictor, "stop_gradient": stop });
    let hidden = || json!({ "hidden": 24 });
    assert!(!collapses(byol(hidden()), 0.05), "BYOL is flagged");
    assert!(collapses(byol(Value::Null), 0.5), "BYOL without a predictor is not flagged");
    assert!(!collapses(simsiam(hidden(), true), 0.05), "SimSiam is flagged");
    assert!(collapses(simsiam(hidden(), false), 0.5), "SimSiam with gradients through its targets is not flagged");
}

/// What means nothing is refused with the reason.
#[test]
fn combinations_without_a_meaning_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let all = methods();
    let method = |name: &str| all.iter().find(|method| method["name"] == name).unwrap();
    let check = |method: &Value, mixture: &str, change: &dyn Fn(&mut Value), fact: &str, hint: &str| {
        let mut config = config(method, mixture);
        change(&mut config);
        write(dir.path(), "config.json", &config);
        refuse(&mut unmix(dir.path(), &["pretrain", "--config", "config.json", "--out", "run"]), fact, hint);
        assert!(!dir.path().join("run").exists());
    };
    check(method("barlow"), "unmix", &|c| c["mixture"]["per_sample_lambda"] = json!(true), "is no mean over images", "");
    check(method("simclr"), "unmix", &|c| c["mixture"]["branch"] = json!("online"), "only BYOL and SimSiam have two branches", "");
    check(method("swav"), "unmix", &|c| c["mixture"]["anchor"] = json!("view1"), "leaves no choice", "");
    check(method("swav"), "none", &|c| c["method"]["assign_crops"] = json!([0, 2]), "names crop 2", "");
    let parts = |c: &mut Value| {
        c["data"]["micro_batch"] = json!(8);
        c["model"]["bn_splits"] = json!(2);
    };
    check(method("simclr"), "none", &parts, "norms in the head or the predictor", "");
    check(method("simclr"), "none", &|c| c["data"]["batch"] = json!(1), "`data.batch` is 1", "");
    let rest = |c: &mut Value| {
        c["data"]["batch"] = json!(47);
        c["data"]["drop_last"] = json!(false);
    };
    check(method("byol"), "none", &rest, "the last batch of an epoch would have one image", "data.drop_last=true");
    check(
        method("swav"),
        "none",
        &|c| c["views"]["crops"] = json!([{ "count": 2 }, { "count": 1, "size": 8 }, { "count": 1 }]),
        "comes back to views of 16",
        "",
    );
    let sizes: Vec<Value> = (0..9).map(|at| json!({ "count": if at == 0 { 2 } else { 1 }, "size": 16 - at })).collect();
    check(method("swav"), "none", &|c| c["views"]["crops"] = json!(sizes), "views of 9 sizes", "");
    check(method("insdis"), "imix", &|_| {}, "means nothing to `method.name` = insdis", "");
    check(method("byol"), "mixco", &|_| {}, "means nothing to `method.name` = byol", "");
    check(method("simclr"), "mixed_barlow", &|_| {}, "means nothing to `method.name` = simclr", "");
    check(method("moco"), "mixco", &|c| c["model"]["bn_splits"] = json!(16), "no multiple of `model.bn_splits` 16", "");
    let one = |c: &mut Value| c["model"]["head"] = json!({ "name": "mlp", "layers": 1, "hidden": 8 });
    check(method("barlow"), "none", &one, "`model.head.layers` = 1 has no hidden layer", "");
    let bad = json!({ "name": "swav", "prototypes": 1, "epsilon": 0, "sinkhorn_iterations": 0, "assign_crops": [1, 0] });
    check(&bad, "none", &|_| {}, "`method.prototypes` is 1", "");
    let bad = json!({ "name": "byol", "predictor": { "hidden": 0 }, "key_momentum": 1.5 });
    check(&bad, "none", &|_| {}, "`method.predictor.hidden` is 0", "");
    check(method("moco"), "none", &|c| c["model"]["head"] = json!({ "hidden": 3 }), "`model.head.hidden` is set", "");
}

/// A head with norms goes out and comes in again, and a new run from another has its predictor and prototypes, too.
#[test]
fn heads_predictors_and_prototypes_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let all = methods();
    for (name, part) in [("simsiam", "predictor."), ("swav", "prototypes."), ("byol", "predictor.")] {
        let method = all.iter().find(|method| method["name"] == name).unwrap();
        let mut config = config(method, "none");
        write(dir.path(), "first.json", &config);
        succeed(&mut unmix(dir.path(), &["pretrain", "--quiet", "--config", "first.json", "--out", name]));
        let out = format!("{name}.safetensors");
        let export = ["export", "--run", name, "--head", "keep", "--out", &out];
        succeed(&mut unmix(dir.path(), &export));
        // A step so small that nothing moves by more than rounding.
        config["optim"]["lr"] = json!(1e-12);
        config["schedule"] = json!({ "steps": 1, "kind": "constant" });
        write(dir.path(), "again.json", &config);
        let weights = format!("model.weights={out}");
        let from = format!("{name}-from");
        let said = succeed(&mut unmix(dir.path(), &["pretrain", "--config", "again.json", "--out", &from, "--set", &weights]));
        assert!(common::binary::text(&said).contains("backbone and head"), "{}", common::binary::text(&said));
        let next = format!("{name}-next");
        succeed(&mut unmix(dir.path(), &["pretrain", "--quiet", "--config", "again.json", "--out", &next, "--init-from", name]));
        let read = |run: &str| common::Tensors::read(&dir.path().join(run).join("checkpoint/tensors.safetensors")).floats;
        let (was, is) = (read(name), read(&next));
        let mut compared = 0;
        for (tensor, (_, values)) in was.iter().filter(|(tensor, _)| tensor.starts_with(part) && !tensor.contains("running")) {
            let off = values.iter().zip(&is[tensor].1).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-5, "{name}: {tensor} is off by {off}");
            compared += 1;
        }
        assert!(compared > 0, "{name} has no {part}");
    }
}

/// The sum of a run is written for the new methods as for the old: their signals are in every step, and a summary ends it.
#[test]
fn signals_and_summary_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let swav = methods().into_iter().find(|method| method["name"] == "swav").unwrap();
    write(dir.path(), "config.json", &config(&swav, "unmix"));
    succeed(&mut unmix(dir.path(), &["pretrain", "--quiet", "--config", "config.json", "--out", "run"]));
    let run = dir.path().join("run");
    for step in events(&run, "step") {
        for key in ["pair_cosine", "spread", "prototypes_used", "clean", "mix_weighted", "mix_rev_weighted"] {
            assert!(step[key].is_number() || step["parts"][key].is_number(), "no {key} in {step}");
        }
    }
    assert_eq!(json(&run.join("summary.json"))["method"], "swav");
}
