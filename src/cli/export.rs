//! `unmix export`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::method::Net;
use crate::model::resnet::{BlockKind, ResNetConfig, Stem};
use crate::model::tensors::{SANE, first_bad};
use crate::model::{HeadName, Shape, StateDict, Step, state, weights};
use crate::train::checkpoint::{Checkpoint, Which, find};

/// Writes the encoder of a run under the names of other libraries.
#[derive(Debug, Args)]
pub struct Export {
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Which checkpoint of the run: `last`, `best` (by the monitored kNN) or the one after so many steps.
    #[arg(long, value_name = "last|best|STEP", default_value = "last")]
    checkpoint: Which,
    /// The library that will load it. Both call the tensors of a ResNet alike; the commands printed differ.
    #[arg(long, value_enum, default_value_t = Naming::Torchvision)]
    naming: Naming,
    /// The safetensors file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Which encoder of the run, for example query or key; by default the trained one.
    #[arg(long)]
    which: Option<String>,
    /// Whether the projection head is written, as `fc`.
    #[arg(long, value_enum, default_value_t = HeadChoice::Drop)]
    head: HeadChoice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Naming {
    Torchvision,
    Timm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HeadChoice {
    Drop,
    Keep,
}

impl Export {
    /// Runs the subcommand.
    pub fn run(&self) -> Result<ExitCode> {
        let config = super::run_config(&self.run)?;
        refuse_ending(&self.out, "--out")?;
        let Checkpoint { state: at, tensors } = find(&self.run.join("checkpoint"), self.checkpoint)?.told();
        let net = choose(config.method.demands().nets, self.which.as_deref())?;
        let (which, mut encoder) = (net.name, part(&tensors, net.name));
        let shape = config.model.shape(net.channels.len());
        let Shape::ResNet(resnet) = &shape else {
            let what = format!("`{which}` of `{}` is no ResNet, so no library has its names", self.run.display());
            return Err(Error::input(what).hint("its tensors are in checkpoint/tensors.safetensors of the run"));
        };
        if self.head == HeadChoice::Drop {
            encoder.retain(|name, _| !name.starts_with("fc."));
        }
        if let Some((name, what)) = first_bad(&encoder, SANE) {
            return Err(state::spoilt(&name, &what));
        }
        let mut about = about(&config, &shape, self.head == HeadChoice::Keep);
        (about["which"], about["method"], about["step"]) = (which.into(), at.method.into(), at.step.into());
        weights::write(&self.out, &encoder, &about)?;
        super::print(&format!("{} tensors of `{which}` after step {} in {}", encoder.len(), at.step, self.out.display()));
        super::print(&self.recipe(&config, resnet));
        Ok(ExitCode::SUCCESS)
    }

    /// The Python that loads the file.
    fn recipe(&self, config: &RunConfig, shape: &ResNetConfig) -> String {
        let model = &config.model;
        let timm = self.naming == Naming::Timm;
        let name = if timm { shape.timm() } else { shape.torchvision() };
        if shape.stem_channels != 64 || !timm && model.width != 1.0 {
            let library = if timm { "timm" } else { "torchvision" };
            let hint = if !timm && shape.stem_channels == 64 { "; timm has, see --naming timm" } else { "" };
            return format!(
                "{library} has no ResNet with `model.width` {} and `model.stem_channels` {}{hint}",
                model.width, shape.stem_channels
            );
        }
        let keep = self.head == HeadChoice::Keep;
        let (features, dim) = (shape.features(), model.head.dim);
        let mut lines = vec!["from safetensors.torch import load_file".to_owned()];
        match name {
            Some(name) if timm => {
                let [a, b, c, d] = shape.planes;
                let channels = if model.width == 1.0 { String::new() } else { format!(", channels=({a}, {b}, {c}, {d})") };
                lines.extend(["import timm, torch".into(), format!("m = timm.create_model(\"{name}\", num_classes=0{channels})")]);
            }
            Some(name) => lines.extend(["import torch, torchvision".into(), format!("m = torchvision.models.{name}()")]),
            // The library has the blocks, and no name for this many of them.
            None => {
                let block = if shape.block == BlockKind::Basic { "BasicBlock" } else { "Bottleneck" };
                let module = if timm { "timm.models" } else { "torchvision.models" };
                lines.extend(["import torch".into(), format!("from {module}.resnet import {block}, ResNet")]);
                lines.push(format!("m = ResNet({block}, {:?})", shape.layers));
            }
        }
        let padding = match shape.stem {
            Stem::Imagenet => None,
            Stem::Cifar => Some(1),
            Stem::CifarPad => Some(2),
        };
        let channels = shape.input_channels;
        if let Some(padding) = padding {
            lines.push(format!("m.conv1 = torch.nn.Conv2d({channels}, 64, 3, 1, {padding}, bias=False)"));
            lines.push("m.maxpool = torch.nn.Identity()".into());
        } else if channels != 3 {
            lines.push(format!("m.conv1 = torch.nn.Conv2d({channels}, 64, 7, 2, 3, bias=False)"));
        }
        match (keep, model.head.name) {
            (false, _) if timm => {}
            (false, _) => lines.push("m.fc = torch.nn.Identity()".into()),
            (true, HeadName::Linear) => lines.push(format!("m.fc = torch.nn.Linear({features}, {dim})")),
            (true, HeadName::Mlp) => {
                let module = |step: &Step| match *step {
                    Step::Linear { input, output, bias: true } => format!("torch.nn.Linear({input}, {output})"),
                    Step::Linear { input, output, bias: false } => format!("torch.nn.Linear({input}, {output}, bias=False)"),
                    Step::Norm { width, affine: true } => format!("torch.nn.BatchNorm1d({width})"),
                    Step::Norm { width, affine: false } => format!("torch.nn.BatchNorm1d({width}, affine=False)"),
                    Step::Relu => "torch.nn.ReLU()".to_owned(),
                };
                let modules: Vec<String> = model.head.steps(features).iter().map(module).collect();
                lines.push(format!("m.fc = torch.nn.Sequential({})", modules.join(", ")));
            }
        }
        lines.push(format!("m.load_state_dict(load_file(\"{}\"), strict=True)", self.out.display()));
        lines.join("\n")
    }
}

/// Refuses to write safetensors under the name of another format. A file of the system, such as /dev/stdout, has no ending.
///
/// # Errors
/// Another ending than `.safetensors`, or none.
pub(super) fn refuse_ending(out: &Path, flag: &str) -> Result<()> {
    let ending = out.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    if ending.as_deref() == Some("safetensors") || std::fs::metadata(out).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return Ok(());
    }
    let hint = match ending.as_deref() {
        Some("onnx") => "ONNX is exported from PyTorch: write .safetensors, load it with the printed lines, then torch.onnx.export",
        Some("pth" | "pt" | "bin" | "ckpt") => {
            "PyTorch loads .safetensors with the printed lines; torch.save(m.state_dict(), \"x.pth\") then writes its own format"
        }
        _ => "name a file that ends in .safetensors",
    };
    Err(Error::input(format!("{flag} `{}`: weights are written as .safetensors and nothing else", out.display())).hint(hint))
}

/// The net that is asked for, or else the one that is trained.
fn choose(nets: &'static [Net], wanted: Option<&str>) -> Result<&'static Net> {
    let listed = || nets.iter().map(|net| net.name).collect::<Vec<_>>().join(", ");
    let trained: Vec<&Net> = nets.iter().filter(|net| net.trained).collect();
    match (wanted, &trained[..]) {
        (Some(wanted), _) => nets
            .iter()
            .find(|net| net.name == wanted)
            .ok_or_else(|| Error::input(format!("the run has no encoder `{wanted}`")).hint(format!("--which: {}", listed()))),
        (None, [one]) => Ok(one),
        (None, several) => {
            Err(Error::input(format!("the run has {} encoders: {}", several.len(), listed())).hint("name one of them with --which"))
        }
    }
}

/// The tensors of one encoder, without its own name.
fn part(tensors: &StateDict, which: &str) -> StateDict {
    let own = |name: &str| name.strip_prefix(which)?.strip_prefix('.').map(str::to_owned);
    tensors.iter().filter_map(|(name, data)| Some((own(name)?, data.clone()))).collect()
}

/// What whoever loads the weights must know of the model and its input.
pub(super) fn about(config: &RunConfig, shape: &Shape, head: bool) -> Value {
    let (model, norm) = (&config.model, config.views.clone().resolved());
    let resnet = match shape {
        Shape::ResNet(resnet) => Some(resnet),
        Shape::AlexNet(_) => None,
    };
    json!({
        "program": concat!("unmix ", env!("CARGO_PKG_VERSION")),
        "model": model.name,
        "block": resnet.map(|shape| if shape.block == BlockKind::Basic { "basic" } else { "bottleneck" }),
        "layers": resnet.map(|shape| shape.layers),
        "planes": resnet.map(|shape| shape.planes),
        "input_channels": shape.input_channels(),
        "width": model.width,
        "stem": model.stem,
        "stem_channels": model.stem_channels,
        "features": shape.features(),
        "head": head.then(|| json!(model.head)),
        "image_size": config.views.crop.size,
        "color_space": config.views.color_space,
        "mean": norm.mean,
        "std": norm.std,
    })
}
