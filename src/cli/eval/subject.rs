//! What is evaluated: the encoder of a run or of a file, on its own data or on others.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use crate::config::{RunConfig, layer};
use crate::data::{Source, Split};
use crate::device::{self, Opened};
use crate::error::{Error, Result, nearest};
use crate::eval::features::{Extraction, unreadable_warning};
use crate::eval::labels::same_images;
use crate::eval::record::{Context, DataInfo, SubjectInfo, digest};
use crate::method::Setup;
use crate::model::{Frozen, weights};
use crate::train::checkpoint::{Which, find};

/// Arguments of every evaluation.
#[derive(Debug, Clone, Args)]
pub struct SubjectArgs {
    /// Folder of the run.
    #[arg(long, value_name = "DIR", required_unless_present = "weights", conflicts_with = "weights")]
    run: Option<PathBuf>,
    /// Which checkpoint of the run: `last`, `best` (by the monitored kNN) or the one after so many steps.
    #[arg(long, value_name = "last|best|STEP", default_value = "last", conflicts_with = "weights")]
    checkpoint: Which,
    /// Weights instead of a run: `.safetensors`, `.pth` or `.pt`. Files of `unmix export` say what they are; others need --config.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Config of the model, the views and the data that belong to --weights.
    #[arg(long, value_name = "FILE", requires = "weights")]
    config: Option<PathBuf>,
    /// Other images than those of the config: a folder, NAME=ROOT with a name of `data.source`, or that table as JSON.
    #[arg(long, value_name = "DATA")]
    data: Option<String>,
    /// Overrides one key of the config, for example eval.knn.k=20; the last one wins.
    #[arg(long = "set", value_name = "KEY.PATH=VALUE")]
    set: Vec<String>,
    /// auto, cpu, wgpu, wgpu-cpu, cuda or cuda:INDEX.
    #[arg(long)]
    device: Option<String>,
    /// Folder of the results. By default `eval` in the run's folder, or `NAME-eval` beside the weights.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// One JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    /// Plain batch norm in the place of groups.
    #[arg(skip)]
    plain_norms: bool,
}

/// An encoder ready to be evaluated.
pub struct Subject {
    /// The config with everything laid over it.
    pub config: RunConfig,
    /// The device.
    pub opened: Opened,
    /// The encoder.
    pub encoder: Frozen,
    /// Its last layer that has weights: the embedding, or where a file has no head the features.
    pub last_layer: usize,
    /// Images to train on, or the bank.
    pub train: Arc<dyn Source>,
    /// Images to test on.
    pub test: Arc<dyn Source>,
    /// What every result says.
    pub context: Context,
    /// Where results go.
    pub out: PathBuf,
}

impl SubjectArgs {
    /// A run on its own data, with its own settings.
    pub fn of_run(run: &Path, device: Option<&str>) -> Self {
        let device = device.map(str::to_owned);
        Self {
            run: Some(run.to_owned()),
            weights: None,
            config: None,
            data: None,
            set: Vec::new(),
            device,
            out: None,
            checkpoint: Which::Newest,
            json: false,
            plain_norms: false,
        }
    }

    /// Refuses `--out` where nothing is written there.
    ///
    /// # Errors
    /// It was given.
    pub fn refuse_out(&self, hint: &str) -> Result<()> {
        match &self.out {
            None => Ok(()),
            Some(_) => Err(Error::input("--out names a folder of results, and this writes none").hint(hint)),
        }
    }

    /// The same with plain batch norm, whatever the config says, for batches that are too small for groups.
    pub fn with_plain_norms(&self) -> Self {
        Self { plain_norms: true, ..self.clone() }
    }

    /// Opens everything. `settings` come before those of the command line.
    ///
    /// # Errors
    /// No run, no checkpoint, weights of another model, no device, no data.
    pub fn open(&self, settings: &[String]) -> Result<Subject> {
        let settings: Vec<String> = settings.iter().chain(&self.set).cloned().collect();
        let (config, own) = self.config(&settings)?;
        let opened = device::open(self.device.as_deref().unwrap_or(&config.device))?.with_kernels(&config.kernels)?;
        let (train, test) = (config.data.open(Split::Train, config.seed)?, config.data.open(Split::Test, config.seed)?);
        let (encoder, last_layer, mut subject) = match (&self.run, &self.weights) {
            (Some(run), _) => of_run((run, self.checkpoint), &config, own.as_ref().unwrap_or(&config), &opened)?,
            (None, Some(file)) => of_weights(file, &config, &opened)?,
            (None, None) => unreachable!("the arguments require one of them"),
        };
        let data = DataInfo {
            train: train.describe(),
            train_images: train.len(),
            test: test.describe(),
            test_images: test.len(),
            classes: train.classes().len(),
            transfer: own.map(|own| own.data.source != config.data.source),
        };
        if same_images(train.as_ref(), test.as_ref()) {
            eprintln!(
                "warning: the test images are the training images ({}): every query finds itself, and no accuracy says anything of others",
                test.describe()
            );
        }
        subject.digest = digest(&encoder);
        let resolved = config.views.clone().resolved();
        let views = json!({
            "size": resolved.crop.size, "color_space": resolved.color_space, "mean": resolved.mean, "std": resolved.std,
        });
        let context = Context { subject, data, views, layers: encoder.layers(), device: opened.info.name.clone() };
        Ok(Subject { config, opened, encoder, last_layer, train, test, context, out: self.out() })
    }

    /// The config of the evaluation, and that of the run itself, if there is one.
    fn config(&self, settings: &[String]) -> Result<(RunConfig, Option<RunConfig>)> {
        let mut value = match (&self.run, &self.weights, &self.config) {
            (Some(run), ..) => crate::cli::run_value(run)?,
            (_, _, Some(file)) => layer::read(file)?,
            (_, Some(file), None) => of_metadata(file)?,
            _ => unreachable!("the arguments require one of them"),
        };
        let own = self.run.as_ref().map(|_| RunConfig::from_value(value.clone())).transpose()?;
        match &self.data {
            Some(data) => value["data"]["source"] = source(data)?,
            None if self.weights.is_some() && self.config.is_none() => {
                return Err(
                    Error::input("the weights come without images").hint("name them with --data, or give a --config that does")
                );
            }
            None => {}
        }
        for setting in settings {
            layer::set(&mut value, setting)?;
        }
        let mut config = RunConfig::from_value(value)?;
        if self.plain_norms {
            // Set after the check: keys about groups, which pre-training had, say nothing here.
            config.model.bn_splits = 1;
        }
        Ok((config, own))
    }

    fn out(&self) -> PathBuf {
        match (&self.out, &self.run, &self.weights) {
            (Some(out), ..) => out.clone(),
            (None, Some(run), _) => run.join("eval"),
            (None, None, Some(file)) => {
                file.with_file_name(format!("{}-eval", file.file_stem().unwrap_or_default().to_string_lossy()))
            }
            _ => unreachable!("the arguments require one of them"),
        }
    }
}

impl Subject {
    /// How un-augmented images reach the encoder.
    pub fn extraction(&self) -> Extraction {
        Extraction::new(&self.config.views, self.config.eval.batch, self.config.data.loader_options(), &self.opened)
    }

    /// The same for a single pass, which a signal may end: there is nothing to go on from.
    ///
    /// # Errors
    /// The system does not let the program listen.
    pub fn single_pass(&self) -> Result<Extraction> {
        Ok(Extraction { stop: Some(crate::cli::signals::stop_flag("this batch")?), ..self.extraction() })
    }

    /// The encoder of a run as it was before the first step. `None` where it did not start from fresh weights, and for weights of no run.
    pub fn untrained(&self) -> Option<Frozen> {
        let (config, subject) = (&self.config, &self.context.subject);
        let fresh = subject.run.is_some() && config.init_from.is_none() && config.model.weights.is_none();
        // The evaluation's own seed may be another.
        let setup = Setup::new(&self.opened, &config.model, 0, subject.seed.filter(|_| fresh)?);
        let nets = config.method.demands().nets.iter().filter(|net| net.trained);
        let parts = nets.map(|net| (net.name, net.channels.clone(), setup.net(net.channels.len(), net.name))).collect();
        Some(Frozen { parts })
    }

    /// Tells of images that could not be read.
    pub fn tell_unreadable(&self, names: &[String]) {
        unreadable_warning(names).iter().for_each(|warning| eprintln!("warning: {warning}"));
    }

    /// Refuses layers that have no weights.
    ///
    /// # Errors
    /// The embedding of a file without head.
    pub fn check_head(&self, layers: &[usize], key: &str) -> Result<()> {
        match layers.iter().find(|&&layer| layer > self.last_layer && layer <= self.encoder.layers().embedding()) {
            None => Ok(()),
            Some(layer) => Err(Error::input(format!("`{key}` is {layer}, the embedding, but the weights have no head that fits"))
                .hint(format!("{} is the layer before the head", self.last_layer))),
        }
    }
}

/// The encoder of a run as `config` has it; what is said of its pre-training comes from the run's `own` config.
fn of_run(
    (run, which): (&Path, Which),
    config: &RunConfig,
    own: &RunConfig,
    opened: &Opened,
) -> Result<(Frozen, usize, SubjectInfo)> {
    let checkpoint = find(&run.join("checkpoint"), which)?.told();
    let encoder = config.method.frozen(&Setup::new(opened, &config.model, 0, config.seed), &checkpoint.learnt())?;
    let state = checkpoint.state;
    let info = SubjectInfo {
        run: Some(run.display().to_string()),
        weights: None,
        method: Some(own.method.name().into()),
        mixture: Some(own.mixture.name.text().into()),
        model: model(own),
        epochs: Some(state.epoch),
        step: Some(state.step),
        seed: Some(own.seed),
        digest: String::new(),
    };
    let layers = encoder.layers().embedding();
    Ok((encoder, layers, info))
}

fn of_weights(file: &Path, config: &RunConfig, opened: &Opened) -> Result<(Frozen, usize, SubjectInfo)> {
    if config.method.splits_views() {
        return Err(Error::input("a file holds one encoder, CMC has two").hint("name the run with --run"));
    }
    let fresh = Setup::new(opened, &config.model, 1, config.seed).net(3, "query");
    let (encoder, report) = weights::load_into(fresh, file, false)?;
    let layers = encoder.layers().embedding();
    let info = SubjectInfo { weights: Some(file.display().to_string()), model: model(config), ..SubjectInfo::default() };
    Ok((Frozen::one("weights", encoder), layers - usize::from(report.head.is_some()), info))
}

/// `resnet18`, or with a width `resnet18 x0.125`.
fn model(config: &RunConfig) -> String {
    let name = config.model.name.text();
    if config.model.width == 1.0 { name.to_owned() } else { format!("{name} x{}", config.model.width) }
}

/// The config that a file of `unmix export` or `unmix import` describes.
fn of_metadata(file: &Path) -> Result<Value> {
    let about = weights::about(file)?.ok_or_else(|| {
        Error::input(format!("`{}` does not say which model it holds", file.display()))
            .hint("give the config of the model with --config FILE")
    })?;
    let mut value = json!({"schedule": {"epochs": 1}, "data": {}});
    for (key, place) in [
        ("model", "model.name"),
        ("width", "model.width"),
        ("stem", "model.stem"),
        ("stem_channels", "model.stem_channels"),
        ("head", "model.head"),
        ("image_size", "views.crop.size"),
        ("color_space", "views.color_space"),
        ("mean", "views.mean"),
        ("std", "views.std"),
    ] {
        if let Some(known) = about.get(key).filter(|known| !known.is_null()) {
            layer::set(&mut value, &format!("{place}={known}"))?;
        }
    }
    Ok(value)
}

/// A folder, `NAME=ROOT`, a name, or the table of a source.
fn source(text: &str) -> Result<Value> {
    const NAMES: [&str; 10] =
        ["embedded", "idx", "cifar10", "cifar100", "stl10", "tiny_imagenet", "imagenet", "imagenet100", "folder", "synthetic"];
    if text.starts_with('{') {
        return serde_json::from_str(text).map_err(|e| {
            Error::input(format!("--data is no JSON: {e}")).hint("for example {\"name\": \"cifar10\", \"root\": \"/data\"}")
        });
    }
    match text.split_once('=') {
        Some((name, root)) if NAMES.contains(&name) => Ok(json!({"name": name, "root": root})),
        _ if NAMES.contains(&text) => Ok(json!({"name": text})),
        _ if Path::new(text).is_dir() => Ok(json!({"name": "folder", "root": text})),
        Some((name, _)) => Err(Error::input(format!("--data names no data set: `{name}`")).hint(nearest(name, NAMES))),
        None => Err(Error::input(format!("--data: `{text}` is no folder and no name of a data set"))
            .hint("give a folder, or NAME=ROOT with a name of `data.source`")
            .hint(nearest(text, NAMES))),
    }
}
