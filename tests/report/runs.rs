//! Made-up run folders, as `unmix pretrain` and `unmix eval` leave them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Names that would break a page that trusts them.
pub const HOSTILE: &str = "<script>alert('x')<b>\"&";

const CLASSES: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// A run to make up.
#[derive(Debug, Clone, Copy)]
pub struct Made<'a> {
    /// Its folder.
    pub name: &'a str,
    /// Its mixture.
    pub mixture: &'a str,
    /// Its budget.
    pub epochs: u64,
    /// Its seed.
    pub seed: u64,
    /// How good it is, in percent.
    pub top1: f64,
}

/// Numbers between 0 and 1 that are the same in every test.
pub struct Noise(pub u64);

impl Noise {
    /// The next one.
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / (1u64 << 31) as f64
    }

    /// Roughly normal, with deviation 1.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next()).sum::<f64>() - 6.0
    }
}

/// Three runs that differ in their mixture, with everything a run can have.
pub fn full(dir: &Path) -> Vec<PathBuf> {
    let made = [("moco-none-20", "none", 71.2), ("moco-im-20", "im", 74.9), ("moco-unmix-20", "unmix", 76.1)];
    let whole = |(name, mixture, top1)| {
        let made = Made { name, mixture, epochs: 20, seed: 1, top1 };
        let run = trained(dir, made);
        evaluated(&run, made);
        run
    };
    made.into_iter().map(whole).collect()
}

/// Runs of two mixtures and three budgets, one of them with two seeds, each with a linear probe.
pub fn budgets(dir: &Path) -> Vec<PathBuf> {
    let mut runs = Vec::new();
    for (mixture, base) in [("none", 66.0), ("im", 67.0)] {
        for (at, epochs) in [100, 200, 400].into_iter().enumerate() {
            for seed in [1, 2] {
                let gain = if mixture == "im" { 3.0 } else { 1.6 };
                let name = format!("{mixture}-{epochs}-s{seed}");
                let top1 = base + at as f64 * gain + seed as f64 * 0.4;
                let made = Made { name: &name, mixture, epochs, seed, top1 };
                runs.push(trained(dir, made));
                write(&runs[runs.len() - 1].join("eval/linear-moco-l6.json"), &linear(made));
            }
        }
    }
    runs
}

/// A run that was stopped, whose metrics end in the middle of a line.
pub fn unfinished(dir: &Path) -> PathBuf {
    let run = trained(dir, Made { name: "stopped", mixture: "im", epochs: 20, seed: 1, top1: 50.0 });
    fs::remove_file(run.join("summary.json")).unwrap();
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let half = metrics.len() / 2;
    fs::write(run.join("metrics.jsonl"), &metrics[..half]).unwrap();
    run
}

/// A run that has only just been started, another whose losses are no numbers, and one with thousands of epochs.
pub fn odd(dir: &Path) -> Vec<PathBuf> {
    let made = |name, epochs| Made { name, mixture: "none", epochs, seed: 1, top1: 10.0 };
    let bare = trained(dir, made("bare", 5));
    fs::write(bare.join("metrics.jsonl"), "").unwrap();
    fs::remove_file(bare.join("summary.json")).unwrap();
    fs::remove_file(bare.join("preview.png")).unwrap();
    let nan = trained(dir, made("nan", 6));
    let epoch = |epoch: u64| epoch_event(epoch, if epoch == 3 { Value::Null } else { json!(1.0 / epoch as f64) });
    fs::write(nan.join("metrics.jsonl"), (1..=6).map(epoch).map(|event| format!("{event}\n")).collect::<String>()).unwrap();
    vec![bare, nan, trained(dir, made("long", 5000))]
}

/// A run in which every word that can be chosen is hostile, and in whose eval folder two files are damaged.
pub fn hostile(dir: &Path) -> PathBuf {
    let made = Made { name: HOSTILE, mixture: "im", epochs: 3, seed: 1, top1: 40.0 };
    let run = trained(dir, made);
    evaluated(&run, made);
    let path = run.join("eval/map.json");
    let mut map: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    map["result"]["classes"][0] = json!(HOSTILE);
    map["protocol"]["tag"] = json!(HOSTILE);
    write(&path, &map);
    fs::write(run.join("eval/knn-l7.json"), "{ \"format\": 1, ").unwrap();
    fs::write(run.join("eval/map.png"), "no image").unwrap();
    let warning = json!({ "event": "warning", "message": HOSTILE });
    let broken = json!({ "event": "broken", "name": HOSTILE, "reason": "truncated", "replaced_by": "b.png" });
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    fs::write(run.join("metrics.jsonl"), format!("{metrics}{warning}\nnot json\n{broken}\n")).unwrap();
    run
}

/// A finished run without evaluations.
pub fn trained(dir: &Path, made: Made) -> PathBuf {
    let run = dir.join(made.name);
    fs::create_dir_all(run.join("eval")).unwrap();
    write(&run.join("config.json"), &config(made));
    let knn = json!({ "k": 200, "temperature": 0.1, "layer": 7, "top1": made.top1, "top5": made.top1 + 20.0, "other_layer": 6,
        "other_top1": made.top1 - 1.0, "untrained_top1": 28.4, "untrained_other_top1": 27.9, "bank": 50_000, "queries": 10_000 });
    let summary = json!({ "method": "moco", "mixture": made.mixture, "device": "cpu", "steps": made.epochs * 390, "epochs": made.epochs,
        "wall_s": 5_000.0 + made.top1, "images_per_s": 412.7, "data_wait": 0.013, "loss_last": 5.1, "broken_images": 0,
        "peak_rss_mib": 1432.2, "knn": knn });
    write(&run.join("summary.json"), &summary);
    fs::write(run.join("metrics.jsonl"), metrics(made)).unwrap();
    image::RgbImage::from_fn(900, 300, |x, y| image::Rgb([x as u8, y as u8, 120])).save(run.join("preview.png")).unwrap();
    run
}

fn config(made: Made) -> Value {
    let kernels =
        [("mix", "flex", "the fastest here"), ("ingest", "flex", "the fastest here"), ("scores", "tensor", "the only one")];
    let kernels: Vec<Value> =
        kernels.iter().map(|(op, path, reason)| json!({ "op": op, "path": path, "reason": reason })).collect();
    json!({
        "about": { "source": "a test" }, "seed": made.seed, "device": "cpu", "out": null,
        "data": { "source": { "name": "cifar10", "root": "/data/cifar" }, "batch": 128 },
        "mixture": { "name": made.mixture }, "method": { "name": "moco", "temperature": 0.1 },
        "model": { "name": "resnet18", "width": 1.0 }, "schedule": { "epochs": made.epochs },
        "run": { "version": "0.1.0", "kernels": kernels, "command": ["unmix", "pretrain", "--config", "my config.json"],
            "device": { "name": "cpu", "description": "2 cores", "compiler": "flex", "limits": [] } },
    })
}

fn metrics(made: Made) -> String {
    let mut noise = Noise(made.seed + made.mixture.len() as u64);
    let mut events = vec![json!({ "event": "start", "run": made.name, "method": "moco", "mixture": made.mixture, "device": "cpu",
        "kernels": [], "images": 50_000, "step": 0, "steps": made.epochs * 390, "epochs": made.epochs, "parameters": 11_173_962 })];
    for epoch in 1..=made.epochs {
        let done = epoch as f64 / made.epochs as f64;
        events.push(json!({ "event": "step", "step": epoch * 390, "epoch": epoch, "lr": 0.06, "loss": 8.0 - done, "parts": {},
            "positive_prob": 0.1, "images_per_s": 400.0, "data_wait": 0.0, "eta_s": 1.0 }));
        let level = if made.mixture == "none" { 5.2 } else { 5.6 };
        let mut event = epoch_event(epoch, json!(level + 3.0 * (-4.0 * done).exp() + 0.05 * noise.normal()));
        event["lr"] = json!(0.03 * (1.0 + (std::f64::consts::PI * done).cos()));
        event["positive_prob"] = json!(0.3 * (1.0 - (-3.0 * done).exp()) + 0.005 * noise.normal().abs());
        events.push(event);
        events.push(
            json!({ "event": "monitor", "epoch": epoch, "step": epoch * 390, "images": 1024, "feature_std": 0.02 + 0.06 * done,
            "rankme": 20.0 + 60.0 * done + noise.normal(), "rankme_features": 40.0 + 150.0 * done, "lidar": 10.0 + 40.0 * done,
            "alignment": 0.9 - 0.4 * done,
            "uniformity": -1.0 - 2.0 * done, "wall_s": 1.0, "linear": { "protocol": "linear-htdt", "layer": 6, "images": 50_000,
            "top1": made.top1 * done, "top5": 60.0 + 30.0 * done } }),
        );
        if epoch % 2 == 0 {
            let top1 = (28.0 + (made.top1 - 28.0) * (1.0 - (-3.0 * done).exp()) + noise.normal()) / 100.0;
            events.push(
                json!({ "event": "knn", "epoch": epoch, "step": epoch * 390, "protocol": "knn-unmix", "k": 200, "top1": top1,
                "best": top1, "wall_s": 9.0 }),
            );
        }
    }
    events.push(json!({ "event": "later", "unknown": true }));
    events.push(json!({ "event": "end", "outcome": "finished", "step": made.epochs * 390, "epoch": made.epochs, "loss": 5.1,
        "wall_s": 5_000.0, "images_per_s": 412.7 }));
    events.iter().map(|event| format!("{event}\n")).collect()
}

fn epoch_event(epoch: u64, loss: Value) -> Value {
    json!({ "event": "epoch", "epoch": epoch, "step": epoch * 390, "loss": loss, "positive_prob": 0.2, "wall_s": 250.0,
        "images_per_s": 400.0 + 10.0 * (epoch as f64).sin(), "data_wait": 0.01 + 0.004 * (epoch as f64).cos(), "lr": 0.06 })
}

/// One record of each kind.
fn evaluated(run: &Path, made: Made) {
    let mut noise = Noise(made.top1 as u64);
    let write = |name: &str, value: Value| write(&run.join("eval").join(name), &value);
    write("linear-moco-l6.json", linear(made));
    let mut earlier = linear(made);
    (earlier["name"], earlier["subject"]["step"]) = ("linear-moco-l6-earlier".into(), 1.into());
    earlier["result"]["top1_last"] = 11.11.into();
    write("linear-moco-l6-earlier.json", earlier);
    for layer in [2, 5, 7] {
        let mut other = linear(made);
        (other["name"], other["protocol"]["layer"]) = (format!("linear-moco-l{layer}").into(), layer.into());
        other["result"]["top1_last"] = (40 + layer).into();
        write(&format!("linear-moco-l{layer}.json"), other);
    }
    let per_class: Vec<f64> =
        CLASSES.iter().enumerate().map(|(at, _)| made.top1 - 9.0 + 2.0 * at as f64 + noise.normal()).collect();
    for layer in [6, 7] {
        let result = json!({ "top1": made.top1 - 0.5 * f64::from(layer), "top5": 97.5, "k": 200, "classes": CLASSES, "per_class": per_class });
        let protocol = json!({ "tag": "knn-unmix", "layer": layer, "k": 200, "temperature": 0.1, "bank": "train" });
        write(&format!("knn-l{layer}.json"), record(made, "knn", protocol, result));
    }
    let result =
        json!({ "top1_last": made.top1 - 8.0, "top5_last": 95.0, "top1_best": made.top1 - 7.0, "best_epoch": 30, "labels": 500 });
    write("finetune-1.json", record(made, "finetune", json!({ "tag": "finetune", "fraction": 0.01, "epochs": 60 }), result));
    write("flatness.json", record(made, "flatness", json!({ "tag": "flatness", "layer": 6 }), flatness(made)));
    let image = |name: &str| {
        let mut value = flatness(made);
        (value["name"], value["images"]) = (name.into(), 1.into());
        value
    };
    let result = json!({ "images": [image("photos/frog.png"), image("photos/ship.png")] });
    write("flatness-image.json", record(made, "flatness_image", json!({ "tag": "flatness-image", "layer": 6 }), result));
    write("weights.json", record(made, "weights", json!({ "tag": "weights", "bins": 64 }), weights(made)));
    write("map.json", record(made, "map", json!({ "tag": "map", "layer": 6, "seed": 0 }), map(&run.join("eval/map.png"))));
}

fn record(made: Made, kind: &str, protocol: Value, result: Value) -> Value {
    json!({
        "format": 1, "kind": kind, "name": protocol["tag"], "protocol": protocol,
        "subject": { "run": format!("runs/{}", made.name), "weights": null, "method": "moco", "mixture": made.mixture,
            "model": "resnet18", "epochs": made.epochs, "step": made.epochs * 390, "seed": made.seed },
        "data": { "train": "cifar10", "train_images": 50_000, "test": "cifar10", "test_images": 10_000, "classes": 10, "transfer": false },
        "program": "unmix 0.1.0", "commit": "abc1234", "device": "cpu", "date": "2026-11-25T17:00:00Z", "wall_s": 12.3, "result": result,
    })
}

fn linear(made: Made) -> Value {
    let top1 = |epoch: u64| made.top1 + 9.0 - 20.0 * (-0.06 * epoch as f64).exp();
    let curve: Vec<Value> =
        (1..=100).map(|epoch| json!({ "epoch": epoch, "loss": 1.0, "top1": top1(epoch), "top5": 98.0 })).collect();
    let rates: Vec<Value> = [1.0, 10.0, 30.0]
        .map(|lr| json!({ "lr": lr, "top1_last": made.top1 + 8.0, "top1_best": made.top1 + 9.0, "best_epoch": 90 }))
        .into();
    let result = json!({ "top1_last": top1(100), "top5_last": 98.7, "top1_best": top1(100) + 0.1, "best_epoch": 97, "lr": 30.0,
        "curve": curve, "rates": rates });
    let protocol =
        json!({ "tag": "linear-moco", "layer": 6, "epochs": 100, "batch": 256, "milestones": [60, 80], "augment": true });
    record(made, "linear", protocol, result)
}

fn flatness(made: Made) -> Value {
    let slope = if made.mixture == "none" { 1.3 } else { 0.8 };
    let raw: Vec<f64> = (1..=512).map(|rank| f64::from(rank).powf(-slope)).collect();
    let sum: f64 = raw.iter().sum();
    let sorted: Vec<f64> = raw.iter().map(|v| v / sum).collect();
    let entropy: f64 = sorted.iter().map(|p| -p * p.ln()).sum();
    json!({ "width": 512, "images": 10_000, "mean_sorted": sorted, "entropy": entropy, "entropy_max": 512f64.ln(), "largest": sorted[0] })
}

/// Bell curves, narrower after training; the untrained ones of all runs are the same.
fn weights(made: Made) -> Value {
    let histogram = |std: f64| {
        let bins: Vec<u64> =
            (0..64).map(|bin| (-0.5 * ((f64::from(bin) - 31.5) / 8.0).powi(2)).exp()).map(|v| (5000.0 * v) as u64).collect();
        json!({ "count": 100_000, "mean": 0.0, "std": std, "low": -4.0 * std, "high": 4.0 * std, "bins": bins, "outside": 10 })
    };
    let layer = |(at, name): (usize, &str)| {
        let untrained = 0.08 / (at + 1) as f64;
        json!({ "name": name, "trained": histogram(untrained * (1.0 - made.top1 / 200.0)), "untrained": histogram(untrained) })
    };
    let names = ["conv1", "layer1", "layer2", "layer3", "layer4", "fc"];
    json!({ "layers": names.into_iter().enumerate().map(layer).collect::<Vec<_>>() })
}

/// Ten clouds of points, and an atlas of tiles in the colours of their classes.
fn map(atlas: &Path) -> Value {
    const IMAGES: u32 = 1000;
    let mut noise = Noise(7);
    let labels: Vec<u32> = (0..IMAGES).map(|index| index % 10).collect();
    let mut cloud = |spread: f64| -> Vec<[f64; 2]> {
        let centre = |label: u32| [f64::from(label % 4) * 4.0, f64::from(label / 4) * 5.0 + f64::from(label % 3)];
        labels.iter().map(|label| centre(*label).map(|at| at + spread * noise.normal())).collect()
    };
    let (pca, tsne) = (cloud(1.2), cloud(0.5));
    let tile = |x: u32, y: u32| (y / 32 * 40 + x / 32) % 10;
    let pixel = |x: u32, y: u32| image::Rgb([(tile(x, y) * 25) as u8, (x % 32 * 8) as u8, (y % 32 * 8) as u8]);
    image::RgbImage::from_fn(40 * 32, 25 * 32, pixel).save(atlas).unwrap();
    json!({ "layer": 6, "images": IMAGES, "pca": pca, "explained": [0.213, 0.118], "tsne": tsne, "perplexity": 30, "labels": labels,
        "classes": CLASSES, "thumbnails": "map.png", "tile": 32, "columns": 40 })
}

fn write(path: &Path, value: &Value) {
    fs::write(path, serde_json::to_vec_pretty(value).unwrap()).unwrap();
}
