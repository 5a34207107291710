//! `unmix compat`: the command lines of the first program of arXiv 2003.05438 (`train_moco_ins.py`, `train_CMC.py`).
//!
//! Every flag is accepted with its default. What it becomes in our config, and where we do something else on purpose, is printed before
//! the run starts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::pretrain::train;
use crate::config::{RunConfig, layer};
use crate::error::{Error, Result, nearest};

/// The two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Script {
    /// MoCo (`--moco`) and InsDis.
    #[value(name = "train_moco_ins", alias = "train_moco_ins.py")]
    MocoIns,
    /// CMC.
    #[value(name = "train_CMC", alias = "train_CMC.py")]
    Cmc,
}

/// Runs a command line of the authors' first program: `unmix compat train_moco_ins --moco --softmax --IM ... --data_folder DIR`.
///
/// Its flags are taken as they are. Two are ours: `--set KEY.PATH=VALUE` overrides a key of the config that comes out, `--dry-run`
/// prints it and stops.
#[derive(Debug, Args)]
pub struct Compat {
    /// The program.
    #[arg(value_enum)]
    script: Script,
    /// Its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
    flags: Vec<String>,
}

/// Flags without a value.
const SWITCHES: [&str; 7] = ["IM", "warm", "amp", "softmax", "moco", "cutout_inside", "dry-run"];

/// Flags with a value, and their defaults in both programs; `None`: must be given, or means nothing.
const VALUES: [(&str, Option<&str>); 45] = [
    ("print_freq", Some("10")),
    ("tb_freq", Some("500")),
    ("save_freq", Some("10")),
    ("batch_size", Some("128")),
    ("num_workers", Some("18")),
    ("epochs", Some("600")),
    ("learning_rate", Some("0.03")),
    ("lr_decay_epochs", Some("360,480,540")),
    ("lr_decay_rate", Some("0.1")),
    ("beta1", Some("0.5")),
    ("beta2", Some("0.999")),
    ("weight_decay", Some("1e-4")),
    ("momentum", Some("0.9")),
    ("crop", Some("0.1")),
    ("crop_low", Some("0.1")),
    ("dataset", None),
    ("data_folder", None),
    ("model_path", Some("./save_models")),
    ("tb_path", Some("./save_tb")),
    ("IM_type", Some("IM")),
    ("g_alpha", Some("1.0")),
    ("g_num", Some("2")),
    ("g_prob", Some("0.1")),
    ("r_beta", Some("1.0")),
    ("r_num", Some("2")),
    ("r_prob", Some("0.1")),
    ("r_pixel_decay", Some("1.0")),
    ("mask_size", Some("50")),
    ("cutout_p", Some("0.1")),
    ("mask_color", Some("0")),
    ("area_ratio_range", Some("0.02,0.4")),
    ("random_erasing_prob", Some("0.1")),
    ("min_aspect_ratio", Some("0.3")),
    ("max_attempt", Some("20")),
    ("resume", Some("")),
    ("aug", Some("CJ")),
    ("opt_level", Some("O2")),
    ("model", None),
    ("nce_k", Some("16384")),
    ("nce_t", Some("0.07")),
    ("nce_m", Some("0.5")),
    ("alpha", Some("0.999")),
    ("feat_dim", Some("128")),
    ("view", Some("Lab")),
    ("gpu", None),
];

impl Script {
    fn name(self) -> &'static str {
        if self == Self::Cmc { "train_CMC" } else { "train_moco_ins" }
    }

    /// Flags that only the other program has.
    fn lacks(self) -> &'static [&'static str] {
        match self {
            Self::MocoIns => &["crop_low", "feat_dim", "view"],
            Self::Cmc => &["moco", "crop"],
        }
    }

    fn default(self, flag: &str) -> Option<&'static str> {
        match (self, flag) {
            (Self::MocoIns, "dataset") => Some("imagenet100"),
            (Self::Cmc, "dataset") => Some("imagenet"),
            (Self::MocoIns, "model") => Some("resnet50"),
            (Self::Cmc, "model") => Some("alexnet"),
            _ => VALUES.iter().find(|(name, _)| *name == flag).and_then(|(_, default)| *default),
        }
    }
}

/// A parsed command line.
struct Given {
    script: Script,
    switches: Vec<&'static str>,
    values: BTreeMap<&'static str, String>,
    settings: Vec<String>,
}

impl Given {
    fn parse(script: Script, arguments: &[String]) -> Result<Self> {
        let mut given = Self { script, switches: Vec::new(), values: BTreeMap::new(), settings: Vec::new() };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let Some(flag) = argument.strip_prefix("--") else {
                return Err(
                    Error::input(format!("`{argument}` is no flag of {}", script.name())).hint("flags begin with two dashes")
                );
            };
            let (flag, inline) = flag.split_once('=').map_or((flag, None), |(flag, value)| (flag, Some(value.to_owned())));
            let mut value = || {
                let value = inline.clone().or_else(|| rest.next().cloned());
                value.ok_or_else(|| Error::input(format!("`--{flag}` has no value")).hint(format!("write --{flag} VALUE")))
            };
            if flag == "set" {
                given.settings.push(value()?);
                continue;
            }
            if script.lacks().contains(&flag) {
                return Err(Error::input(format!("{} has no `--{flag}`", script.name())).hint("the other program has it"));
            }
            if let Some(switch) = SWITCHES.into_iter().find(|name| *name == flag) {
                given.switches.push(switch);
            } else if let Some((name, _)) = VALUES.into_iter().find(|(name, _)| *name == flag) {
                given.values.insert(name, value()?);
            } else {
                let known = SWITCHES.into_iter().chain(VALUES.into_iter().map(|(name, _)| name));
                let known = known.filter(|name| !script.lacks().contains(name));
                return Err(Error::input(format!("{} has no `--{flag}`", script.name())).hint(nearest(flag, known)));
            }
        }
        Ok(given)
    }

    fn has(&self, switch: &str) -> bool {
        self.switches.contains(&switch)
    }

    fn text(&self, flag: &str) -> &str {
        self.values.get(flag).map(String::as_str).or_else(|| self.script.default(flag)).unwrap_or_default()
    }

    fn numbers(&self, flag: &str) -> Result<Vec<Value>> {
        let number = |text: &str| -> Result<Value> {
            let wrong = || Error::input(format!("`--{flag}` is `{text}`, expected a number")).hint("write it as 128 or 0.03");
            let text = text.trim().trim_start_matches(['(', '[']).trim_end_matches([')', ']']);
            match text.parse::<u64>() {
                Ok(whole) => Ok(whole.into()),
                Err(_) => Ok(text.parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(wrong)?.into()),
            }
        };
        self.text(flag).split(',').map(number).collect()
    }

    fn number(&self, flag: &str) -> Result<Value> {
        match &self.numbers(flag)?[..] {
            [one] => Ok(one.clone()),
            _ => Err(Error::input(format!("`--{flag}` is `{}`, expected one number", self.text(flag)))),
        }
    }

    fn one_of<'a>(&self, flag: &str, known: &[(&str, &'a str)]) -> Result<&'a str> {
        let got = self.text(flag);
        known
            .iter()
            .find(|(name, _)| *name == got)
            .map(|(_, ours)| *ours)
            .ok_or_else(|| Error::input(format!("`--{flag}` is `{got}`")).hint(nearest(got, known.iter().map(|(name, _)| *name))))
    }

    /// The config, and where it is not what the program would have done.
    fn config(&self) -> Result<(RunConfig, Vec<String>)> {
        let mut notes = Vec::new();
        let mut config = json!({
            "data": self.data()?, "views": self.views(&mut notes)?, "mixture": self.mixture()?, "method": self.method()?, "model": self.model()?,
            "optim": { "lr": self.number("learning_rate")?, "momentum": self.number("momentum")?, "weight_decay": self.number("weight_decay")? },
            "schedule": {
                "epochs": self.number("epochs")?, "kind": "multistep", "milestones": self.numbers("lr_decay_epochs")?,
                "factor": self.number("lr_decay_rate")?,
            },
            "log": { "every_steps": self.number("print_freq")? },
            "checkpoint": { "every_epochs": self.number("save_freq")? },
        });
        if let Some(gpu) = self.values.get("gpu") {
            config["device"] = format!("cuda:{gpu}").into();
        }
        let resume = self.text("resume");
        if resume.is_empty() {
            config["out"] = PathBuf::from(self.text("model_path")).join(self.run_name(&config)).to_string_lossy().into();
        } else {
            config["resume"] = resume.into();
        }
        self.notes(&mut notes);
        for setting in &self.settings {
            layer::set(&mut config, setting)?;
        }
        let config = RunConfig::from_value(config)?;
        Ok((config, notes))
    }

    /// What tells this run from others; the program leaves the mixture out and overwrites its baseline.
    fn run_name(&self, config: &Value) -> String {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let loss = if self.has("softmax") { "softmax" } else { "nce" };
        let method = word(&config["method"]["name"]);
        [&method, loss, &word(&config["mixture"]["name"]), self.text("dataset"), self.text("model"), self.text("nce_k")].join("_")
    }

    fn data(&self) -> Result<Value> {
        let folder = self.text("data_folder");
        if folder.is_empty() {
            return Err(Error::input("`--data_folder` is missing").hint("name the folder of the data set"));
        }
        // MoCo's split groups need whole batches; the others keep the last one, as the program does.
        Ok(json!({
            // The program reads all class folders of `train`, whatever they are called.
            "source": { "name": "folder", "root": folder, "train": "train" },
            "batch": self.number("batch_size")?, "workers": self.number("num_workers")?, "drop_last": self.has("moco"),
        }))
    }

    fn views(&self, notes: &mut Vec<String>) -> Result<Value> {
        let cmc = self.script == Script::Cmc;
        let flag = if cmc { "crop_low" } else { "crop" };
        let mut min_area = self.number(flag)?;
        // train_CMC does it for its ResNets alone.
        if self.text("dataset") == "imagenet" && !(cmc && self.text("model") == "alexnet") {
            notes.push(format!(
                "--{flag} becomes .08 for --dataset imagenet, as in the program (--set views.crop.min_area=... overrides it)"
            ));
            min_area = 0.08.into();
        }
        let mut views = json!({ "crop": { "min_area": min_area } });
        if cmc {
            views["recipe"] = "cmc".into();
            views["color_space"] = self.one_of("view", &[("Lab", "lab"), ("YCbCr", "ycbcr")])?.into();
        } else {
            views["recipe"] = self.one_of("aug", &[("CJ", "moco_v1"), ("NULL", "plain")])?.into();
        }
        Ok(views)
    }

    fn mixture(&self) -> Result<Value> {
        let types = [("IM", "im"), ("global", "global"), ("region", "region"), ("Cutout", "cutout"), ("RandomErasing", "erase")];
        let named = self.one_of("IM_type", &types)?;
        let name = if self.has("IM") { named } else { "none" };
        let mut mixture = json!({ "name": name });
        if ["im", "global"].contains(&name) {
            mixture["global"] =
                json!({ "alpha": self.number("g_alpha")?, "attempts": self.number("g_num")?, "prob": self.number("g_prob")? });
        }
        if ["im", "region"].contains(&name) {
            mixture["region"] = json!({
                "beta": self.number("r_beta")?, "attempts": self.number("r_num")?, "prob": self.number("r_prob")?,
                "decay": self.number("r_pixel_decay")?,
            });
        }
        if name == "cutout" {
            mixture["cutout"] = json!({
                "size": self.number("mask_size")?, "prob": self.number("cutout_p")?, "inside": self.has("cutout_inside"),
                "value": self.number("mask_color")?,
            });
        }
        if name == "erase" {
            mixture["erase"] = json!({
                "area": self.numbers("area_ratio_range")?, "prob": self.number("random_erasing_prob")?,
                "min_aspect": self.number("min_aspect_ratio")?, "attempts": self.number("max_attempt")?,
            });
        }
        Ok(mixture)
    }

    fn method(&self) -> Result<Value> {
        let (negatives, temperature) = (self.number("nce_k")?, self.number("nce_t")?);
        let loss = if self.has("softmax") { "softmax" } else { "nce" };
        if self.has("moco") {
            return Ok(json!({
                "name": "moco", "loss": loss, "temperature": temperature, "key_momentum": self.number("alpha")?,
                "memory": { "size": negatives, "init": "uniform" },
            }));
        }
        let name = if self.script == Script::Cmc { "cmc" } else { "insdis" };
        Ok(json!({
            "name": name, "loss": loss, "temperature": temperature, "negatives": negatives, "bank_momentum": self.number("nce_m")?,
        }))
    }

    fn model(&self) -> Result<Value> {
        let splits = if self.has("moco") { 8 } else { 1 };
        if self.script == Script::MocoIns {
            let width = self.one_of("model", &[("resnet50", "1"), ("resnet50x2", "2"), ("resnet50x4", "4")])?;
            let width: f64 = width.parse().expect("a number of this table");
            return Ok(json!({ "name": "resnet50", "stem": "imagenet", "width": width, "bn_splits": splits }));
        }
        let dim = json!({ "dim": self.number("feat_dim")? });
        let nets = ["resnet18", "resnet50", "resnet101"];
        let named = nets
            .iter()
            .flat_map(|net| [("v1", 0.5), ("v2", 1.0), ("v3", 2.0)].map(|(v, width)| (format!("{net}{v}"), *net, width)));
        let named: Vec<_> = named.collect();
        let got = self.text("model");
        if got == "alexnet" {
            return Ok(json!({ "name": "alexnet_half", "head": dim, "bn_splits": splits }));
        }
        let Some((_, net, width)) = named.iter().find(|(name, ..)| name == got) else {
            let known = named.iter().map(|(name, ..)| name.as_str()).chain(["alexnet"]);
            return Err(Error::input(format!("`--model` is `{got}`")).hint(nearest(got, known)));
        };
        Ok(json!({ "name": net, "stem": "imagenet", "width": width, "head": dim, "bn_splits": splits }))
    }

    /// Flags without effect, and what is done differently.
    fn notes(&self, notes: &mut Vec<String>) {
        let unused = [
            ("tb_freq", "the program never reads it"),
            ("beta1", "the program never reads it"),
            ("beta2", "the program never reads it"),
            ("opt_level", "there is no apex here"),
            ("tb_path", "events are in metrics.jsonl of the run's folder"),
        ];
        let given = unused.iter().filter(|(flag, _)| self.values.contains_key(flag));
        notes.extend(given.map(|(flag, why)| format!("--{flag} has no effect: {why}")));
        let elsewhere = [("aug", Script::Cmc, "CMC jitters no colours"), ("alpha", Script::Cmc, "there is no key encoder")];
        let given = elsewhere.iter().filter(|(flag, script, _)| self.script == *script && self.values.contains_key(flag));
        notes.extend(given.map(|(flag, _, why)| format!("--{flag} has no effect: {why}")));
        if self.has("warm") {
            notes.push("--warm has no effect: in the program it changes the run's name alone".into());
        }
        if self.has("amp") {
            notes.push("--amp: this version trains in f32".into());
        }
        let dataset = self.text("dataset");
        notes.push(format!(
            "--dataset {dataset} sets the crop and the run's name alone: every class folder of `train` is read, as in the program"
        ));
        notes.push("random draws depend on `seed` and position alone; the program's workers repeat theirs".into());
        if self.has("moco") {
            notes.push("8 groups of batch norm (model.bn_splits) stand for the program's devices; the last partial batch is dropped for them".into());
            if !self.has("softmax") {
                notes.push("the constant Z of NCE stays a fraction; the program cuts it to a whole number".into());
            }
        }
        if self.has("IM") && ["Cutout", "RandomErasing"].contains(&self.text("IM_type")) {
            notes.push("holes: the program swaps height and width, which shows in images that are not square".into());
        }
    }
}

impl Compat {
    /// Translates, prints, trains.
    pub fn run(&self) -> Result<ExitCode> {
        let given = Given::parse(self.script, &self.flags)?;
        let (config, notes) = given.config()?;
        let config = config.resolved();
        let text = serde_json::to_string_pretty(&config).map_err(|e| Error::run(format!("cannot print the config: {e}")))?;
        super::print(&text);
        notes.iter().for_each(|note| eprintln!("note: {note}"));
        if given.has("dry-run") {
            return Ok(ExitCode::SUCCESS);
        }
        train(config, &PathBuf::from(self.script.name()), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(script: Script, line: &str) -> Result<(RunConfig, Vec<String>)> {
        Given::parse(script, &line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())?.config()
    }

    /// The command of the first program's README.
    #[test]
    fn the_published_command_is_understood() {
        let line =
            "--moco --softmax --IM --IM_type IM --g_alpha 1.0 --g_num=3 --r_beta 0.5 --data_folder D --model_path P --tb_path T";
        let (config, notes) = config(Script::MocoIns, line).unwrap();
        let got = serde_json::to_value(config.resolved()).unwrap();
        assert_eq!(got["method"]["name"], "moco");
        assert_eq!(got["method"]["memory"], json!({ "size": 16384, "init": "uniform" }));
        assert_eq!((&got["mixture"]["global"]["attempts"], &got["mixture"]["region"]["beta"]), (&json!(3), &json!(0.5)));
        assert_eq!(got["schedule"]["milestones"], json!([360, 480, 540]));
        let source = &got["data"]["source"];
        assert_eq!((&source["name"], &source["root"], &source["train"]), (&json!("folder"), &json!("D"), &json!("train")));
        assert_eq!((&got["views"]["recipe"], &got["views"]["crop"]["min_area"]), (&json!("moco_v1"), &json!(0.1)));
        assert_eq!(got["out"], "P/moco_softmax_im_imagenet100_resnet50_16384");
        assert!(notes.iter().any(|note| note.starts_with("--tb_path has no effect")), "{notes:?}");
    }

    #[test]
    fn every_flag_of_either_program_is_accepted_with_its_default() {
        for script in [Script::MocoIns, Script::Cmc] {
            let mut line = String::from("--data_folder D");
            for (flag, _) in VALUES.into_iter().filter(|(flag, _)| !["data_folder", "resume", "gpu"].contains(flag)) {
                if let (Some(default), false) = (script.default(flag), script.lacks().contains(&flag)) {
                    line += &format!(" --{flag} {default}");
                }
            }
            let given = config(script, &line).unwrap().0;
            assert_eq!(given, config(script, "--data_folder D").unwrap().0, "{}", script.name());
        }
        let all = "--data_folder D --IM --warm --amp --softmax --cutout_inside --IM_type Cutout --gpu 1";
        assert_eq!(config(Script::Cmc, all).unwrap().0.device, "cuda:1");
    }

    #[test]
    fn models_and_datasets_of_both_programs() {
        let value = |script, line: &str| serde_json::to_value(config(script, line).unwrap().0).unwrap();
        let cmc = value(Script::Cmc, "--data_folder D --model resnet50v3 --view YCbCr");
        assert_eq!((&cmc["model"]["name"], &cmc["model"]["width"]), (&json!("resnet50"), &json!(2.0)));
        // Forced by the program for its ResNets on ImageNet, and not for AlexNet.
        assert_eq!((&cmc["views"]["crop"]["min_area"], &cmc["views"]["color_space"]), (&json!(0.08), &json!("ycbcr")));
        let alexnet = value(Script::Cmc, "--data_folder D");
        assert_eq!((&alexnet["model"]["name"], &alexnet["views"]["crop"]["min_area"]), (&json!("alexnet_half"), &json!(0.1)));
        assert_eq!((&alexnet["method"]["loss"], &alexnet["method"]["bank_momentum"]), (&json!("nce"), &json!(0.5)));
        let insdis = value(Script::MocoIns, "--data_folder D --model resnet50x4 --aug NULL --set seed=9");
        assert_eq!(
            (&insdis["method"]["name"], &insdis["model"]["width"], &insdis["seed"]),
            (&json!("insdis"), &json!(4.0), &json!(9))
        );
    }

    #[test]
    fn misspelt_flags_name_the_nearest() {
        let error = |script, line: &str| format!("{:?}", config(script, line).unwrap_err());
        assert!(error(Script::MocoIns, "--data_folder D --sofmax").contains("did you mean `softmax`?"));
        assert!(error(Script::MocoIns, "--data_folder D --IM_type Global").contains("did you mean `global`?"));
        assert!(error(Script::MocoIns, "--data_folder D --view Lab").contains("the other program has it"));
        assert!(error(Script::Cmc, "--data_folder D --model resnet50").contains("did you mean `resnet50v"));
        assert!(error(Script::Cmc, "--data_folder D --nce_k many").contains("expected a number"));
        assert!(error(Script::Cmc, "--nce_k 5").contains("--data_folder"));
    }
}
