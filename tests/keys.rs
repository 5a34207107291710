//! No key of the config is dead: changing one changes what a run does, or is refused. The table below walks the schema, so that a new key
//! does not pass before somebody says how it shows.

mod common;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::binary::{text, unmix};
use serde_json::{Value, json};
use unmix::config::{RunConfig, layer, schema};
use unmix::eval::linear::config::Facts;

/// How a key shows.
#[derive(Debug, Clone, Copy)]
enum Shows {
    /// A run of a few steps ends otherwise: its losses, rates, results, files or the bits of its checkpoint.
    Run,
    /// The plan of a linear probe is another.
    Probe,
    /// Nothing reads it yet, or it only repeats what another key says: any other value is refused.
    Refused,
    /// Not by anything that can be seen cheaply here, for the reason given.
    Elsewhere(&'static str),
}
use Shows::{Elsewhere, Probe, Refused, Run};

/// A key, the settings under which it is read, what is set, and how it shows.
type Entry = (&'static str, &'static [&'static str], &'static str, Shows);

const NOTE: Shows = Elsewhere("a note of the experiment, which the report shows");
const FILES: Shows = Elsewhere("names files on a disk: tests/hostile.rs and the tests of src/data");
const SPEED: Shows = Elsewhere("speed alone: the bits are the same, which tests/pretrain.rs asserts");
const PATHS: Shows = Elsewhere("another path to the same numbers: tests/kernels.rs, tests/scores.rs and tests/net.rs");
const SAVES: Shows = Elsewhere("how often the state is saved: tests/pretrain.rs stops and resumes runs");
const KEPT: Shows = Elsewhere("which checkpoints stay: tests/recovery.rs and the tests of src/train/checkpoint");
const TUNES: Shows = Elsewhere("part of the protocol of `unmix eval finetune`: tests/eval.rs");

const IM: &[&str] = &["mixture.name=im"];
const CUTOUT: &[&str] = &["mixture.name=cutout", "mixture.cutout.size=6", "mixture.cutout.prob=0.5"];
const ERASE: &[&str] = &["mixture.name=erase", "mixture.erase={\"prob\": 0.9, \"area\": [0.4, 0.9]}"];
const UNMIX: &[&str] = &["mixture.name=unmix"];
const REGION: &[&str] = &["mixture.name=unmix", "mixture.prob=0"];
const RESIZED: &[&str] = &["mixture.name=unmix", "mixture.prob=0", "mixture.box=resize"];
const IMIX: &[&str] = &["mixture.name=imix"];
const SYMMETRIC: &[&str] = &["mixture.name=unmix", "method.symmetric=true"];
const BANK: &[&str] = &["method={\"name\": \"insdis\", \"negatives\": 24, \"loss\": \"softmax\"}", "model.bn_splits=1"];
const ADAM: &[&str] = &["optim.name=adam"];
const LARS: &[&str] = &["optim.name=lars"];
const BYOL: &[&str] = &["method={\"name\": \"byol\", \"predictor\": {\"hidden\": 12}}"];
const BYOL_UNMIX: &[&str] = &[BYOL[0], "mixture.name=unmix"];
const SIMSIAM: &[&str] = &["method={\"name\": \"simsiam\", \"predictor\": {\"hidden\": 12}}"];
const BARLOW: &[&str] = &["method={\"name\": \"barlow\"}"];
const SWAV: &[&str] = &["method={\"name\": \"swav\", \"prototypes\": 12, \"freeze_prototypes_steps\": 1}"];
const SWAV_UNMIX: &[&str] = &[SWAV[0], "mixture.name=unmix"];
const SWAV_QUEUE: &[&str] = &[SWAV[0], "method.memory={\"size\": 24, \"start_epoch\": 0}"];
const SWAV_CROPS: &[&str] = &[SWAV[0], "views.crops=[{\"count\": 2}, {\"count\": 1, \"size\": 8}]"];
const MLP: &[&str] = &["model.head.name=mlp"];
const STEPS: &[&str] = &["schedule.kind=multistep", "schedule.milestones=[1]"];
const KNN: &[&str] = &["eval.enabled=true"];
const WATCH: &[&str] = &["eval.enabled=true", "eval.monitor.every_epochs=1"];
const PROBE: &[&str] = &["eval.enabled=true", "eval.monitor.every_epochs=1", "eval.monitor.linear=true"];

const TABLE: &[Entry] = &[
    ("about.source", &[], "", NOTE),
    ("about.command", &[], "", NOTE),
    ("about.hardware", &[], "", NOTE),
    ("about.time", &[], "", NOTE),
    ("about.expectation", &[], "", NOTE),
    ("seed", &[], "seed=2", Run),
    ("device", &[], "", Elsewhere("needs another device: tests/devices.rs")),
    ("out", &[], "", Elsewhere("the folder itself: tests/pretrain.rs")),
    ("resume", &[], "", Elsewhere("needs an earlier run: tests/pretrain.rs")),
    ("init_from", &[], "", Elsewhere("needs an earlier run: tests/recovery.rs")),
    ("precision", &[], "", Elsewhere("has one value")),
    ("run", &[], "", Elsewhere("is written by the program and never read")),
    ("data.source.name", &[], "data.source={\"name\": \"embedded\"}", Run),
    ("data.source.count", &[], "data.source.count=64", Run),
    ("data.source.test_count", KNN, "data.source.test_count=12", Run),
    ("data.source.classes", &[], "data.source.classes=3", Run),
    ("data.source.height", &[], "data.source.height=24", Run),
    ("data.source.width", &[], "data.source.width=24", Run),
    ("data.source.root", &[], "", FILES),
    ("data.source.train", &[], "", FILES),
    ("data.source.test", &[], "", FILES),
    ("data.batch", &[], "data.batch=8", Run),
    ("data.micro_batch", &[], "", Elsewhere("memory alone: the numbers are the same, which tests/accumulation.rs asserts")),
    ("data.workers", &[], "", SPEED),
    ("data.prefetch", &[], "", SPEED),
    ("data.drop_last", &["model.bn_splits=1", "data.source.count=40"], "data.drop_last=false", Run),
    ("data.max_broken", &[], "", Elsewhere("needs damaged images: tests/hostile.rs")),
    ("data.limit", &[], "data.limit=32", Run),
    ("views.recipe", &[], "views.recipe=plain", Run),
    ("views.second_recipe", &[], "views.second_recipe=plain", Run),
    ("views.crop.size", &[], "views.crop.size=12", Run),
    ("views.crop.min_area", &[], "views.crop.min_area=0.5", Run),
    ("views.crop.max_area", &[], "views.crop.max_area=0.5", Run),
    ("views.crops", SWAV, "views.crops=[{\"count\": 3}]", Run),
    ("views.crops[].count", SWAV_CROPS, "views.crops=[{\"count\": 2}, {\"count\": 2, \"size\": 8}]", Run),
    ("views.crops[].size", SWAV_CROPS, "views.crops=[{\"count\": 2}, {\"count\": 1, \"size\": 9}]", Run),
    ("views.crops[].min_area", SWAV_CROPS, "views.crops=[{\"count\": 2}, {\"count\": 1, \"size\": 8, \"min_area\": 0.5}]", Run),
    ("views.crops[].max_area", SWAV_CROPS, "views.crops=[{\"count\": 2}, {\"count\": 1, \"size\": 8, \"max_area\": 0.3}]", Run),
    ("views.crops[].recipe", SWAV_CROPS, "views.crops=[{\"count\": 2}, {\"count\": 1, \"size\": 8, \"recipe\": \"plain\"}]", Run),
    ("views.mean", &[], "views.mean=[0.1, 0.2, 0.3]", Run),
    ("views.std", &[], "views.std=[0.1, 0.2, 0.3]", Run),
    ("views.color_space", &[], "views.color_space=ycbcr", Run),
    ("mixture.name", &[], "mixture.name=im", Run),
    ("mixture.global.alpha", IM, "mixture.global.alpha=0.3", Run),
    ("mixture.global.attempts", IM, "mixture.global.attempts=1", Run),
    ("mixture.global.prob", IM, "mixture.global.prob=0.9", Run),
    ("mixture.region.beta", IM, "mixture.region.beta=0.3", Run),
    ("mixture.region.attempts", IM, "mixture.region.attempts=1", Run),
    ("mixture.region.prob", IM, "mixture.region.prob=0.9", Run),
    ("mixture.region.decay", IM, "mixture.region.decay=0.5", Run),
    ("mixture.cutout.size", CUTOUT, "mixture.cutout.size=9", Run),
    ("mixture.cutout.prob", CUTOUT, "mixture.cutout.prob=0.9", Run),
    ("mixture.cutout.inside", CUTOUT, "mixture.cutout.inside=true", Run),
    ("mixture.cutout.value", CUTOUT, "mixture.cutout.value=1", Run),
    ("mixture.erase.area", ERASE, "mixture.erase.area=[0.1, 0.2]", Run),
    ("mixture.erase.prob", ERASE, "mixture.erase.prob=0.2", Run),
    ("mixture.erase.min_aspect", ERASE, "mixture.erase.min_aspect=0.9", Run),
    ("mixture.erase.attempts", ERASE, "mixture.erase.attempts=1", Run),
    ("mixture.fill", ERASE, "mixture.fill=0.25", Run),
    ("mixture.partner", IM, "mixture.partner=batch", Run),
    ("mixture.share_views", IM, "mixture.share_views=false", Run),
    ("mixture.prob", UNMIX, "mixture.prob=0", Run),
    ("mixture.beta", UNMIX, "mixture.beta=0.2", Run),
    ("mixture.pairing", UNMIX, "mixture.pairing=permute", Run),
    ("mixture.per_sample_lambda", UNMIX, "mixture.per_sample_lambda=true", Run),
    ("mixture.box", REGION, "mixture.box=resize", Run),
    ("mixture.tau", RESIZED, "mixture.tau=[0.4, 0.5]", Run),
    ("mixture.kind", IMIX, "mixture.kind=cutmix", Run),
    ("mixture.alpha", IMIX, "mixture.alpha=0.2", Run),
    ("mixture.partners", &["mixture.name=inputmix"], "mixture.partners=3", Run),
    ("mixture.per_rank", UNMIX, "mixture.per_rank=false", Refused),
    ("mixture.branch", BYOL_UNMIX, "mixture.branch=online", Run),
    ("mixture.anchor", BYOL_UNMIX, "mixture.anchor=view1", Run),
    ("kernels.mix", &[], "", PATHS),
    ("kernels.ingest", &[], "", PATHS),
    ("kernels.scores", &[], "", PATHS),
    ("kernels.net", &[], "", PATHS),
    ("kernels.update", &[], "", PATHS),
    ("kernels.winograd", &[], "", PATHS),
    ("kernels.convolution", &[], "", PATHS),
    ("method.name", &[], "method={\"name\": \"insdis\", \"negatives\": 24}", Run),
    ("method.temperature", &[], "method.temperature=0.2", Run),
    ("method.loss", &[], "method.loss=nce", Run),
    ("method.nce_z", &[], "", Elsewhere("has one value, which old configs name")),
    ("method.key_momentum", &[], "method.key_momentum=0.5", Run),
    ("method.symmetric", &[], "method.symmetric=true", Run),
    ("method.memory.size", &[], "method.memory.size=32", Run),
    ("method.memory.init", &[], "method.memory.init=uniform", Run),
    ("method.shuffle_bn", &[], "method.shuffle_bn=false", Run),
    ("method.replay_mixture_stats", SYMMETRIC, "method.replay_mixture_stats=false", Run),
    ("method.clean_stats_only", UNMIX, "method.clean_stats_only=true", Run),
    ("method.mask_same_index", &[], "method.mask_same_index=true", Run),
    ("method.in_batch_negatives", &[], "method.in_batch_negatives=true", Run),
    ("method.negatives", BANK, "method.negatives=12", Run),
    ("method.key_momentum_schedule", BYOL, "method.key_momentum_schedule=constant", Run),
    ("method.key_momentum_final", BYOL, "method.key_momentum_final=0.995", Run),
    ("method.directions", BYOL, "method.directions=mean", Run),
    ("method.predictor.hidden", BYOL, "method.predictor.hidden=9", Run),
    ("method.predictor.norm", BYOL, "method.predictor.norm=false", Run),
    ("method.stop_gradient", SIMSIAM, "method.stop_gradient=false", Run),
    ("method.off_diagonal", BARLOW, "method.off_diagonal=0.1", Run),
    ("method.standardise", BARLOW, "method.standardise=unit_std", Run),
    ("method.scale", BARLOW, "method.scale=0.1", Run),
    ("method.prototypes", SWAV, "method.prototypes=7", Run),
    ("method.epsilon", SWAV, "method.epsilon=0.2", Run),
    ("method.sinkhorn_iterations", SWAV, "method.sinkhorn_iterations=1", Run),
    ("method.assign_crops", SWAV, "method.assign_crops=[0]", Run),
    ("method.freeze_prototypes_steps", SWAV, "method.freeze_prototypes_steps=0", Run),
    ("method.memory.start_epoch", SWAV_QUEUE, "method.memory.start_epoch=1", Run),
    ("method.legacy_flip", SWAV_UNMIX, "method.legacy_flip=true", Run),
    ("method.mix_scale", &[BARLOW[0], "mixture.name=mixed_barlow"], "method.mix_scale=2", Run),
    ("method.mix_temperature", &["mixture.name=mixco"], "method.mix_temperature=0.5", Run),
    ("method.mix_weight", &["mixture.name=mixco"], "method.mix_weight=0.5", Run),
    ("method.bank_momentum", BANK, "method.bank_momentum=0.9", Run),
    ("method.mask_self", BANK, "method.mask_self=true", Run),
    ("method.shared_negatives", BANK, "method.shared_negatives=true", Run),
    ("model.name", &[], "model.name=resnet34", Run),
    ("model.width", &[], "model.width=0.25", Run),
    ("model.stem", &[], "model.stem=cifar_pad", Run),
    ("model.stem_channels", &[], "model.stem_channels=16", Run),
    ("model.head.name", &[], "model.head.name=mlp", Run),
    ("model.head.dim", &[], "model.head.dim=64", Run),
    ("model.head.layers", MLP, "model.head.layers=3", Run),
    ("model.head.hidden", MLP, "model.head.hidden=24", Run),
    ("model.head.hidden_norm", MLP, "model.head.hidden_norm=true", Run),
    ("model.head.last_norm", MLP, "model.head.last_norm=affine", Run),
    ("model.head.last_bias", MLP, "model.head.last_bias=false", Run),
    ("model.zero_init_residual", &[], "model.zero_init_residual=true", Run),
    ("model.split_views", &[], "model.split_views=true", Refused),
    ("model.bn_splits", &[], "model.bn_splits=4", Run),
    ("model.weights", &[], "", Elsewhere("needs a file of weights: the tests of src/model/weights")),
    ("optim.lr", &[], "optim.lr=0.06", Run),
    ("optim.name", &[], "optim.name=adam", Run),
    ("optim.momentum", &[], "optim.momentum=0.5", Run),
    ("optim.nesterov", &[], "optim.nesterov=true", Run),
    ("optim.betas", ADAM, "optim.betas=[0.5, 0.9]", Run),
    ("optim.eps", ADAM, "optim.eps=0.01", Run),
    ("optim.trust", LARS, "optim.trust=0.02", Run),
    ("optim.lars_clip", LARS, "optim.lars_clip=true", Run),
    ("optim.lars_exclude", LARS, "optim.lars_exclude=[\"norm\"]", Run),
    ("optim.lars_norm", LARS, "optim.lars_norm=decayed", Run),
    ("optim.weight_decay", &[], "optim.weight_decay=0.01", Run),
    ("optim.no_decay", &[], "optim.no_decay=[\"norm\"]", Run),
    ("optim.clip_norm", &[], "optim.clip_norm=0.1", Run),
    ("optim.bias_lr", &[], "optim.bias_lr=0.5", Run),
    ("optim.backbone.lr", &[], "optim.backbone.lr=0.5", Run),
    ("optim.backbone.constant", &[], "optim.backbone.constant=true", Run),
    ("optim.head.lr", &[], "optim.head.lr=0.5", Run),
    ("optim.head.constant", &[], "optim.head.constant=true", Run),
    ("optim.predictor.lr", &[], "optim.predictor.lr=0.5", Refused),
    ("optim.predictor.constant", &[], "optim.predictor.constant=true", Refused),
    ("schedule.epochs", &[], "schedule.epochs=3", Run),
    ("schedule.steps", &["schedule.epochs=null", "schedule.steps=5"], "schedule.steps=4", Run),
    ("schedule.kind", &[], "schedule.kind=constant", Run),
    ("schedule.milestones", STEPS, "schedule.milestones=[2]", Run),
    ("schedule.milestones_at", &["schedule.kind=multistep"], "schedule.milestones_at=[0.5]", Run),
    ("schedule.factor", STEPS, "schedule.factor=0.5", Run),
    ("schedule.epoch_base", &[], "schedule.epoch_base=1", Run),
    ("schedule.per_step", &[], "schedule.per_step=true", Run),
    ("schedule.warmup_epochs", &["schedule.kind=constant"], "schedule.warmup_epochs=1", Run),
    ("schedule.warmup_start", &["schedule.kind=constant", "schedule.warmup_epochs=1"], "schedule.warmup_start=0.001", Run),
    ("schedule.final_lr", &[], "schedule.final_lr=0.01", Run),
    ("schedule.weight_decay_final", &[], "schedule.weight_decay_final=0.1", Run),
    ("checkpoint.every_steps", &[], "", SAVES),
    ("checkpoint.every_epochs", &[], "", SAVES),
    ("checkpoint.keep.last", &[], "", KEPT),
    ("checkpoint.keep.every_epochs", &[], "", KEPT),
    ("checkpoint.keep.best", &[], "", KEPT),
    ("log.every_steps", &[], "log.every_steps=2", Run),
    ("log.preview", &[], "log.preview=2", Run),
    ("eval.batch", &[], "", Elsewhere("images per forward pass: memory and speed alone")),
    ("eval.enabled", &[], "eval.enabled=true", Run),
    ("eval.knn.k", KNN, "eval.knn.k=3", Run),
    ("eval.knn.temperature", KNN, "eval.knn.temperature=5", Run),
    ("eval.knn.layer", KNN, "eval.knn.layer=features", Run),
    ("eval.monitor.every_epochs", &[], "eval.monitor.every_epochs=1", Run),
    ("eval.monitor.images", WATCH, "eval.monitor.images=8", Run),
    ("eval.monitor.knn", WATCH, "eval.monitor.knn=false", Run),
    ("eval.monitor.linear", WATCH, "eval.monitor.linear=true", Run),
    ("eval.monitor.linear_images", PROBE, "eval.monitor.linear_images=8", Run),
    ("eval.linear.protocol", &[], "eval.linear.protocol=htdt", Probe),
    ("eval.linear.layer", &[], "eval.linear.layer=[2, \"embedding\"]", Probe),
    ("eval.linear.lr", &[], "eval.linear.lr=[1, 2]", Probe),
    ("eval.linear.epochs", &[], "eval.linear.epochs=7", Probe),
    ("eval.linear.batch", &[], "eval.linear.batch=7", Probe),
    ("eval.linear.momentum", &[], "eval.linear.momentum=0.5", Probe),
    ("eval.linear.weight_decay", &[], "eval.linear.weight_decay=0.5", Probe),
    ("eval.linear.betas", &["eval.linear.optimizer=adam"], "eval.linear.betas=[0.1, 0.2]", Probe),
    ("eval.linear.optimizer", &[], "eval.linear.optimizer=adam", Probe),
    ("eval.linear.schedule", &[], "eval.linear.schedule=constant", Probe),
    ("eval.linear.milestones", &["eval.linear.protocol=moco"], "eval.linear.milestones=[1, 2]", Probe),
    ("eval.linear.factor", &["eval.linear.protocol=moco"], "eval.linear.factor=0.5", Probe),
    ("eval.linear.final_lr", &[], "eval.linear.final_lr=0.5", Probe),
    ("eval.linear.recipe", &[], "eval.linear.recipe=center", Probe),
    ("eval.linear.crop_min_area", &[], "eval.linear.crop_min_area=0.5", Probe),
    ("eval.linear.norm.mean", &[], "eval.linear.norm={\"mean\": [1, 2, 3], \"std\": [1, 1, 1]}", Probe),
    ("eval.linear.norm.std", &[], "eval.linear.norm={\"mean\": [0, 0, 0], \"std\": [1, 2, 3]}", Probe),
    ("eval.linear.cache_mib", &["eval.linear.recipe=center"], "eval.linear.cache_mib=7", Probe),
    ("eval.finetune.fraction", &[], "", TUNES),
    ("eval.finetune.labels_file", &[], "", TUNES),
    ("eval.finetune.epochs", &[], "", TUNES),
    ("eval.finetune.batch", &[], "", TUNES),
    ("eval.finetune.lr", &[], "", TUNES),
    ("eval.finetune.head_lr", &[], "", TUNES),
    ("eval.finetune.milestones", &[], "", TUNES),
    ("eval.finetune.factor", &[], "", TUNES),
    ("eval.finetune.momentum", &[], "", TUNES),
    ("eval.finetune.weight_decay", &[], "", TUNES),
    ("eval.finetune.recipe", &[], "", TUNES),
    ("eval.finetune.crop_min_area", &[], "", TUNES),
];

/// A run of six steps on images of 20 x 20 pixels.
fn base() -> Value {
    json!({
        "data": {"source": {"name": "synthetic", "count": 48, "test_count": 16, "classes": 4, "height": 20, "width": 20}, "batch": 16, "workers": 1},
        "views": {"recipe": "cifar_moco", "crop": {"size": 16}},
        "method": {"name": "moco", "memory": {"size": 64}},
        "model": {"width": 0.125, "stem_channels": 8, "bn_splits": 2},
        "schedule": {"epochs": 2},
        "log": {"every_steps": 1, "preview": 0},
        "eval": {"enabled": false, "monitor": {"every_epochs": null}},
        "device": "cpu",
    })
}

fn config(settings: &[&str]) -> unmix::error::Result<RunConfig> {
    let mut value = base();
    settings.iter().for_each(|setting| layer::set(&mut value, setting).unwrap());
    RunConfig::from_value(value)
}

/// Everything about a run's end that does not depend on the clock, in one number; the message where it was refused.
fn end_of(dir: &Path, name: &str, settings: &[&str]) -> Result<u64, String> {
    let mut args = vec!["pretrain", "--config", "base.json", "--quiet", "--out", name];
    settings.iter().for_each(|setting| args.extend(["--set", setting]));
    let output = unmix(dir, &args).output().unwrap();
    if !output.status.success() {
        return Err(text(&output));
    }
    let run = dir.join(name);
    let mut seen = Vec::new();
    for line in std::fs::read_to_string(run.join("metrics.jsonl")).unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let kept = ["event", "step", "loss", "lr", "top1", "images", "rankme", "linear"].map(|key| event[key].to_string());
        seen.extend(kept.concat().into_bytes());
    }
    seen.extend(common::binary::json(&run.join("summary.json"))["knn"].to_string().into_bytes());
    seen.extend(std::fs::read(run.join("checkpoint/tensors.safetensors")).unwrap());
    seen.extend(std::fs::read(run.join("preview.png")).unwrap_or_default());
    Ok(seen.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// Runs that were made, so that entries share what they start from.
struct Runs<'a> {
    dir: &'a Path,
    made: Mutex<HashMap<Vec<&'static str>, Result<u64, String>>>,
    count: AtomicUsize,
}

impl Runs<'_> {
    fn end(&self, settings: Vec<&'static str>) -> Result<u64, String> {
        if let Some(made) = self.made.lock().unwrap().get(&settings) {
            return made.clone();
        }
        let name = format!("run-{}", self.count.fetch_add(1, Ordering::Relaxed));
        let end = end_of(self.dir, &name, &settings);
        self.made.lock().unwrap().insert(settings, end.clone());
        end
    }

    /// What is wrong with an entry, if anything.
    fn check(&self, &(key, under, setting, shows): &Entry) -> Option<String> {
        let with = [under, &[setting]].concat();
        let refused = |result: Result<(), String>, word: &str| match result {
            Err(error) if error.contains(word) => None,
            other => Some(format!("{key}: {setting} should be refused, got {other:?}")),
        };
        match shows {
            Elsewhere(reason) => reason.is_empty().then(|| format!("{key}: no reason")),
            Refused => refused(config(&with).map(drop).map_err(|error| error.to_string()), key),
            Probe => match (config(under), config(&with)) {
                (Ok(before), Ok(after)) => (plan(&before) == plan(&after)).then(|| format!("{key}: {setting} changes no probe")),
                (before, after) => Some(format!("{key}: {:?} {:?}", before.err(), after.err())),
            },
            Run => match (self.end(under.to_vec()), self.end(with)) {
                (Ok(before), Ok(after)) => (before == after).then(|| format!("{key}: {setting} changes nothing")),
                (before, after) => Some(format!("{key}: {:?} {:?}", before.err(), after.err())),
            },
        }
    }
}

fn plan(config: &RunConfig) -> Value {
    let facts = Facts { classes: 10, ..config.probed() };
    serde_json::to_value(config.eval.linear.plan(&facts).unwrap()).unwrap()
}

#[test]
fn every_key_has_an_entry() {
    let keys: BTreeSet<String> = schema::keys::<RunConfig>().into_iter().filter(|key| !key.section).map(|key| key.path).collect();
    let table: BTreeSet<String> = TABLE.iter().map(|entry| entry.0.to_owned()).collect();
    assert_eq!(keys.difference(&table).collect::<Vec<_>>(), Vec::<&String>::new(), "keys of the schema without an entry");
    assert_eq!(table.difference(&keys).collect::<Vec<_>>(), Vec::<&String>::new(), "entries of keys that are gone");
    assert_eq!(table.len(), TABLE.len(), "an entry stands twice");
}

#[test]
fn changing_a_key_shows_or_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("base.json"), base().to_string()).unwrap();
    let runs = Runs { dir: dir.path(), made: Mutex::default(), count: AtomicUsize::new(0) };
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(entry) = TABLE.get(next.fetch_add(1, Ordering::Relaxed)) {
            wrong.lock().unwrap().extend(runs.check(entry));
        }
    };
    std::thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(work))));
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Nothing may make two runs differ but the settings.
    assert_eq!(end_of(dir.path(), "again", &[]), end_of(dir.path(), "and-again", &[]));
}

/// A key that can change nothing under the other settings is refused, in one wording for all tables.
#[test]
fn a_key_that_nothing_reads_is_refused() {
    const IDLE: &[(&[&str], &str)] = &[
        (IM, "mixture.beta=0.5"),
        (UNMIX, "mixture.share_views=false"),
        (UNMIX, "mixture.anchor=view1"),
        (UNMIX, "mixture.branch=online"),
        (IM, "mixture.anchor=view1"),
        (SWAV_UNMIX, "mixture.anchor=view1"),
        (SWAV, "method.legacy_flip=true"),
        (SWAV, "method.memory.start_epoch=1"),
        (BYOL, "method.clean_stats_only=true"),
        (&["method={\"name\": \"byol\", \"key_momentum_schedule\": \"constant\"}"], "method.key_momentum_final=0.995"),
        (&[], "method.key_momentum_final=0.995"),
        (&[], "model.head.hidden=8"),
        (&[], "model.head.last_norm=affine"),
        (&[MLP[0], "model.head.last_norm=plain"], "model.head.last_bias=false"),
        (UNMIX, "mixture.tau=[0.2, 0.3]"),
        (IMIX, "mixture.box=resize"),
        (IMIX, "mixture.prob=0.3"),
        (&["mixture.name=inputmix", BANK[0], BANK[1]], "mixture.share_views=false"),
        (&["mixture.name=im", BANK[0], BANK[1]], "mixture.share_views=false"),
        (&["method.loss=nce"], "method.mask_same_index=true"),
        (&["method.loss=nce"], "method.in_batch_negatives=true"),
        (&["method={\"name\": \"insdis\"}"], "method.mask_self=true"),
        (&["model.bn_splits=1"], "method.shuffle_bn=false"),
        (&[], "method.clean_stats_only=true"),
        (IM, "method.clean_stats_only=true"),
        (UNMIX, "method.replay_mixture_stats=false"),
        (&[], "kernels.scores=tensor"),
        (&["views.crop.size=224", "model.name=alexnet_half", "model.stem_channels=64"], "model.width=0.125"),
        (&["views.crop.size=224", "model.name=alexnet_half", "model.width=1"], "model.stem_channels=8"),
        (&["views.crop.size=224", "model.name=alexnet_half", "model.width=1", "model.stem_channels=64"], "model.stem=imagenet"),
        (&["optim.weight_decay=0"], "optim.no_decay=[\"norm\"]"),
        (&[], "optim.betas=[0.5, 0.9]"),
        (&[], "optim.lars_exclude=[\"bias\"]"),
        (ADAM, "optim.momentum=0.5"),
        (LARS, "optim.nesterov=true"),
        (&["optim.name=lars", "optim.lars_norm=decayed"], "optim.eps=0.01"),
        (&[], "optim.predictor.lr=0.5"),
        (&["schedule.kind=constant"], "optim.head.constant=true"),
        (&[], "schedule.milestones=[1]"),
        (&[], "schedule.factor=0.5"),
        (&["schedule.kind=multistep"], "schedule.factor=0.5"),
        (STEPS, "schedule.final_lr=0.1"),
        (&["schedule.kind=constant"], "schedule.epoch_base=1"),
        (&[], "schedule.warmup_start=0.1"),
        (&["views.recipe=center"], "views.crop.max_area=0.5"),
        (&["views.crops=[{\"count\": 2, \"max_area\": 0.9}]"], "views.crop.max_area=0.5"),
        (&["views.crops=[{\"count\": 2}]"], "views.second_recipe=plain"),
        (BANK, "views.second_recipe=plain"),
        (&[], "views.crops=[{\"count\": 2}]"),
        (&[], "eval.monitor.images=8"),
        (&["eval.enabled=true"], "eval.monitor.linear=true"),
        (&["eval.monitor.every_epochs=1"], "eval.monitor.linear=true"),
        (WATCH, "eval.monitor.linear_images=8"),
        (&[], "eval.linear.betas=[0.1, 0.2]"),
        (&["eval.linear.optimizer=adam"], "eval.linear.momentum=0.5"),
        (&[], "eval.linear.milestones=[1]"),
        (&["eval.linear.protocol=moco"], "eval.linear.final_lr=0.5"),
        (&[], "eval.linear.cache_mib=7"),
        (&["eval.linear.recipe=center"], "eval.linear.crop_min_area=0.5"),
        (&["eval.finetune.recipe=center"], "eval.finetune.crop_min_area=0.5"),
        (&["eval.finetune.milestones=[]"], "eval.finetune.factor=0.5"),
        (&["eval.finetune.labels_file=list.txt"], "eval.finetune.fraction=0.5"),
    ];
    for (under, setting) in IDLE {
        let key = setting.split('=').next().unwrap();
        let error = config(&[*under, &[setting]].concat()).expect_err(setting).to_string();
        assert!(error.contains(&format!("`{key}` is set, but ")), "{under:?} {setting}: {error}");
    }
    // Why a method has no use for crops, and what else is wrong with them, together.
    let crops = "views.crops=[{\"count\": 1}, {\"count\": 2, \"size\": 8}]";
    let error = config(&["mixture.name=im", crops]).unwrap_err().to_string();
    for part in [
        "`views.crops` is set, but `method.name` = moco is defined on 2 views of an image; leave it out",
        "`views.crops.0.count` is 1, but `method.name` = moco compares 2 views of full size",
        "`mixture.name` = im mixes views of one size, but `views.crops` has 16 and 8: choose unmix or none",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let error = config(&["views.crops=[{\"size\": 8}, {\"count\": 0.5}]"]).unwrap_err().to_string();
    assert!(error.contains("`views.crops.0.count` is missing") && error.contains("`views.crops.1.count`: got 0.5"), "{error}");
    // The moving average of NCE's constant, which no source defines.
    assert!(config(&["method.loss=nce", "method.nce_z=ema"]).unwrap_err().to_string().contains("method.nce_z"));
    assert!(config(&["method.loss=nce", "method.nce_z=first"]).is_ok(), "old configs name it");
}
