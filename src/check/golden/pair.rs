//! Stem `trace_pair`: whole steps of SimCLR, BYOL, SwAV, SimSiam, Barlow Twins, i-Mix and MixCo, every intermediate result.

use std::collections::BTreeSet;
use std::path::Path;

use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use serde_json::Value;

use super::encoder::shape;
use super::optim::settings;
use super::trace::{Play, plan, play_step, rate, schedule, step_of};
use crate::check::Tally;
use crate::check::common::{Case, Sheet, values};
use crate::device::Opened;
use crate::kernel::{KernelPath, mix};
use crate::loss::barlow::correlation;
use crate::loss::{PairLoss, Standardise};
use crate::memory::Queue;
use crate::method::byol::{Byol, ByolConfig};
use crate::method::moco::{Moco, MocoConfig};
use crate::method::swav::{AssignedConfig, Swav, SwavConfig};
use crate::method::{
    Barlow, BarlowConfig, Draws, Facts, Inputs, Length, Method, Mixing, Mixture, Nets, Position, Setup, Simclr, SimclrConfig,
    Simsiam, SimsiamConfig,
};
use crate::mixture::config::{Anchor, Branch, Form};
use crate::mixture::{MixturePlan, Row, Stage};
use crate::model::head::{Head, Step};
use crate::model::layers::Linear;
use crate::model::{Backbone, Encoder, ModelConfig, StateDict, state};
use crate::optim::config::PartConfig;
use crate::optim::{MomentumSchedule, Optimizer, Rates};

/// All cases.
pub fn check(dir: &Path, opened: &Opened, tally: &mut Tally) {
    let sheet = Sheet::read(dir, "trace_pair");
    let mut seen = BTreeSet::new();
    for case in sheet.cases() {
        tally.case(&format!("{} rates", case.name()), || schedule(&case));
        tally.case(case.name(), || match case.kind() {
            "simclr" => simclr(&sheet, &case, opened),
            "byol" => byol(&sheet, &case, opened),
            "swav" => swav(&sheet, &case, opened),
            "simsiam" => simsiam(&sheet, &case, opened),
            "barlow" => barlow(&sheet, &case, opened),
            "imix" => soft(&sheet, &case, Form::Imix, opened),
            "mixco" => soft(&sheet, &case, Form::Mixco, opened),
            other => panic!("{}: unknown kind {other}", case.name()),
        });
        seen.insert(case.kind().to_owned());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["barlow", "byol", "imix", "mixco", "simclr", "simsiam", "swav"]);
}

/// What the file says of a case's nets.
fn architecture<'a>(sheet: &'a Sheet, case: &Case) -> &'a Value {
    &sheet.doc["architectures"][case.json["architecture"].as_str().expect("a case names its architecture")]
}

/// Our name of a parameter or buffer in the state dict of [`Nets`]: the backbone has no name of its own in the file.
fn named(name: &str) -> String {
    match name.split_once('.') {
        Some(("head", rest)) => format!("query.fc.{rest}"),
        Some(("predictor" | "prototypes", _)) => name.to_owned(),
        _ => format!("query.{name}"),
    }
}

/// The steps that a list of layers describes.
fn steps(layers: &Value) -> Vec<Step> {
    let layer = |layer: &Value| {
        let size = |at: usize| layer[at].as_u64().expect("a size") as usize;
        match layer[0].as_str() {
            Some("linear") => {
                Step::Linear { input: size(1), output: size(2), bias: layer[3].as_bool().expect("whether it has a bias") }
            }
            Some("norm") => Step::Norm { width: size(1), affine: layer[2].as_bool().expect("whether it is affine") },
            Some("relu") => Step::Relu,
            other => panic!("unknown layer {other:?}"),
        }
    };
    layers.as_array().expect("a list of layers").iter().map(layer).collect()
}

/// The initial nets of a case.
fn nets(sheet: &Sheet, case: &Case, opened: &Opened) -> Nets {
    let (about, device) = (architecture(sheet, case), &opened.device);
    let resnet = shape(&sheet.doc["spec"], 3, 1);
    let mut backbone = Backbone::ResNet(resnet.init(device));
    backbone.compute_by(opened.info.kernels.ways());
    let prototypes = about["prototypes"].as_u64().map(|count| {
        let dim = sheet.doc["spec"]["dim"].as_u64().expect("a width of the embedding") as usize;
        Linear { weight: Param::from_tensor(Tensor::zeros([count as usize, dim], device)), bias: None }
    });
    let fresh = Nets {
        query: Encoder { backbone, fc: Head::new(&steps(&about["head"]), device) },
        predictor: about.get("predictor").filter(|layers| !layers.is_null()).map(|layers| Head::new(&steps(layers), device)),
        prototypes,
    };
    let prefix = format!("{}.", about["prefix"].as_str().expect("where the weights are"));
    let mut all = state::collect(&fresh);
    let buffers = |name: &String| state::is_buffer(name);
    all.retain(|name, _| buffers(name));
    let given = sheet.tensors.floats.keys().filter_map(|name| Some((named(name.strip_prefix(&prefix)?), sheet.tensors.data(name))));
    all.extend(given);
    state::load(fresh, &all).unwrap_or_else(|error| panic!("{}: {error}", case.name()))
}

/// What a method is made for: no more than the case says.
fn setup<'a>(model: &'a ModelConfig, opened: &'a Opened, mixing: Mixing, length: Length, crops: Vec<usize>) -> Setup<'a> {
    Setup { mixing, length, crops, ..Setup::new(opened, model, 1, 0) }
}

/// A config of which the methods read the width of the embedding alone.
fn model(sheet: &Sheet) -> ModelConfig {
    let mut model = ModelConfig { bn_splits: 1, ..ModelConfig::default() };
    model.head.dim = sheet.doc["spec"]["dim"].as_u64().expect("a width of the embedding") as usize;
    model
}

fn mixing(case: &Case, form: Form) -> Mixing {
    let params = &case.json["params"];
    let mixes = params.get("plan").is_some_and(|plan| !plan.is_null());
    Mixing {
        form: if mixes { form } else { Form::None },
        anchor: if params["anchor"] == "view1" { Anchor::View1 } else { Anchor::View2 },
        branch: if params["branch"] == "online" { Branch::Online } else { Branch::Both },
    }
}

/// The keys that whoever plays a case reads itself.
const OTHERS: [&str; 29] = [
    "steps",
    "n",
    "lr",
    "schedule",
    "T",
    "loss",
    "anchor",
    "plan",
    "ema",
    "branch",
    "epsilon",
    "iterations",
    "freeze",
    "crops",
    "queue",
    "lr_predictor",
    "lr_biases",
    "lambda",
    "l2",
    "std",
    "mix_scale",
    "m",
    "method",
    "T_mix",
    "mix_weight",
    "splits",
    "shuffle_bn",
    "dampening",
    "sgd_momentum",
];

/// The optimizer of a case with the rates of its steps.
struct Moves {
    optimizer: Optimizer,
    base: f64,
}

impl Moves {
    fn of(case: &Case) -> Self {
        let params = &case.json["params"];
        let mut config = settings(params, &OTHERS);
        let base = params["schedule"]["lr"].as_f64().unwrap_or_else(|| rate(case, 0));
        config.lr = base;
        if let Some(constant) = params["lr_predictor"].as_f64() {
            config.predictor = PartConfig { lr: constant / base, constant: true };
        }
        if let Some(rates) = params["lr_biases"].as_array() {
            let ratio = |step: usize| rates[step].as_f64().expect("a rate") / rate(case, step);
            config.bias_lr = Some(ratio(0));
            assert!(
                (0..rates.len()).all(|step| (ratio(step) / ratio(0) - 1.0).abs() < 1e-12),
                "{}: one factor on biases",
                case.name()
            );
        }
        Self { optimizer: Optimizer::new(config), base }
    }

    fn rates(&self, case: &Case, step: usize) -> Rates {
        Rates { base: self.base, ..Rates::from(rate(case, step)) }
    }
}

/// The names of all views that a case can have, each `[steps, n, 3, h, w]`.
const VIEWS: [&str; 4] = ["x1", "x2", "s1", "s2"];

/// A case and its views.
struct Pair<'a> {
    play: Play<'a>,
    views: Vec<Tensor<5>>,
}

impl<'a> Pair<'a> {
    fn new(sheet: &'a Sheet, case: &'a Case, opened: &Opened) -> Self {
        let views = VIEWS.iter().filter(|name| case.has_input(name)).map(|name| case.input::<5>(name, &opened.device)).collect();
        Self { play: Play::new(sheet, case), views }
    }

    fn steps(&self) -> usize {
        self.views[0].dims()[0]
    }

    /// The batches of mixtures of step `t`, of the views that the plan names.
    fn mixed(&self, t: usize) -> Vec<(Tensor<4>, Mixture)> {
        let Some(plans) = self.play.case.json["params"].get("plan").filter(|plans| !plans.is_null()) else { return Vec::new() };
        let step = &plans[t];
        match step.get("kind") {
            Some(_) => vec![self.mixture(step, 0, t)],
            None => {
                let crops = step.as_object().expect("plans of crops").iter();
                crops.map(|(crop, plan)| self.mixture(plan, crop.trim_start_matches("crop").parse().expect("a crop"), t)).collect()
            }
        }
    }

    fn mixture(&self, json: &Value, view: usize, t: usize) -> (Tensor<4>, Mixture) {
        let images = step_of(&self.views[view], t);
        let [n, _, h, w] = images.dims();
        let numbers: Vec<u32> = serde_json::from_value(json["partner"].clone()).expect("partners");
        let kind = self.play.case.kind();
        if kind == "mixco" {
            // Half of the batch, with the other half.
            let lambda: Vec<f64> = serde_json::from_value(json["lambda_used"].clone()).expect("a weight per mixture");
            let rows = numbers.iter().zip(&lambda).map(|(&partner, &lambda)| Row::blend(partner, lambda));
            let rows = rows.chain(std::iter::repeat_n(Row::default(), n - numbers.len())).collect();
            let plan = MixturePlan { stages: vec![Stage { passes: vec![rows] }], keep: numbers.len() };
            let lambda = lambda.into_iter().map(|lambda| lambda as f32).collect();
            return (mix(images, &plan, KernelPath::Tensor), Mixture { view, lambda, partners: numbers });
        }
        if kind == "barlow" {
            // Partners are of the second view.
            let lambda = json["lambda_used"].as_f64().expect("a weight");
            let rows = numbers.iter().map(|&partner| Row::blend(n as u32 + partner, lambda));
            let rows = rows.chain(std::iter::repeat_n(Row::default(), n)).collect();
            let plan = MixturePlan { stages: vec![Stage { passes: vec![rows] }], keep: n };
            let both = Tensor::cat(vec![images, step_of(&self.views[1], t)], 0);
            return (mix(both, &plan, KernelPath::Tensor), Mixture { view, lambda: vec![lambda as f32; n], partners: numbers });
        }
        let drawn = plan(json, n, (h, w));
        let lambda = drawn.lambdas.iter().map(|&lambda| lambda as f32).collect();
        (mix(images, &drawn.plan, KernelPath::Tensor), Mixture { view, lambda, partners: drawn.partners })
    }

    fn inputs(&self, t: usize) -> Inputs {
        let views: Vec<Tensor<4>> = self.views.iter().map(|view| step_of(view, t)).collect();
        let n = views[0].dims()[0];
        let (mixed, mixtures) = self.mixed(t).into_iter().unzip();
        let position = Position { seed: 0, epoch: 0, step: t as u64 };
        Inputs { views, mixed, facts: Facts { images: vec![0; n], mixtures, position, draws: Some(Draws::default()) } }
    }

    /// All running statistics of a net as one vector, in the order of the file.
    fn running(&mut self, about: &Value, at: &str, net: &StateDict, named: impl Fn(&str) -> String) {
        for statistic in ["mean", "var"] {
            let norms = about["norms"].as_array().expect("a list of norms");
            let own = |norm: &&Value| net.contains_key(&named(&format!("{}.running_mean", norm[0].as_str().expect("a name"))));
            let of = |norm: &Value| floats(&net[&named(&format!("{}.running_{statistic}", norm[0].as_str().expect("a name")))]);
            let all: Vec<f32> = norms.iter().filter(own).flat_map(of).collect();
            self.play.check(&format!("{at}_running_{statistic}"), &all);
        }
    }

    /// What an optimizer remembers, each slot as one vector in the order of the file.
    fn remembered(&mut self, about: &Value, moves: &Moves, named: impl Fn(&str) -> String) {
        let all = moves.optimizer.state();
        for (slot, key) in [("v", "final_velocity"), ("m", "final_m"), ("v", "final_v")] {
            if self.play.case.expects(key) {
                let parameters = about["parameters"].as_array().expect("a list of parameters");
                let of =
                    |parameter: &Value| floats(&all[&format!("optim.{slot}.{}", named(parameter[0].as_str().expect("a name")))]);
                let flat: Vec<f32> = parameters.iter().flat_map(of).collect();
                self.play.check(key, &flat);
            }
        }
    }

    /// The last weights, by the file's names.
    fn last(&mut self, about: &Value, prefix: &str, net: &StateDict, named: impl Fn(&str) -> String) {
        for parameter in about["parameters"].as_array().expect("a list of parameters") {
            let name = parameter[0].as_str().expect("a name");
            if let Some(data) = net.get(&named(name)) {
                self.play.check(&format!("{prefix}.{name}"), &floats(data));
            }
        }
    }
}

fn floats(data: &TensorData) -> Vec<f32> {
    data.try_to_vec::<f32>().expect("a state dict holds f32 tensors")
}

/// Plays all steps of a method of [`Nets`]; `after` compares what is its own, given the rows of the step.
fn play(
    pair: &mut Pair,
    sheet: &Sheet,
    case: &Case,
    method: &mut dyn Method,
    mut after: impl FnMut(&mut Pair, usize, &mut dyn Method),
) {
    let about = architecture(sheet, case);
    let mut moves = Moves::of(case);
    for t in 0..pair.steps() {
        let inputs = pair.inputs(t);
        let rates = moves.rates(case, t);
        play_step(&mut pair.play, t, method, &mut moves.optimizer, inputs, 1, rates);
        pair.running(about, &format!("step{t}.net"), &method.state(), named);
        after(pair, t, method);
    }
    pair.last(about, "final", &method.state(), named);
    pair.remembered(about, &moves, named);
}

fn simclr(sheet: &Sheet, case: &Case, opened: &Opened) {
    let loss = match case.json["params"]["loss"].as_str() {
        Some("ntxent") => PairLoss::NtXent,
        Some("dcl") => PairLoss::Dcl,
        Some("dclw") => PairLoss::Dclw,
        other => panic!("{}: unknown loss {other:?}", case.name()),
    };
    let config = SimclrConfig { temperature: case.param("T"), loss, clean_stats_only: case.flag("clean_stats_only") };
    let mut method = Simclr::new(config, nets(sheet, case, opened).query, mixing(case, Form::Unmix).anchor);
    let mut pair = Pair::new(sheet, case, opened);
    play(&mut pair, sheet, case, &mut method, |_, _, _| {});
    pair.play.finish();
}

fn byol(sheet: &Sheet, case: &Case, opened: &Opened) {
    let (ema, model) = (&case.json["params"]["ema"], model(sheet));
    let whole = |key: &str| ema[key].as_u64().unwrap_or(1);
    let schedule = match ema["kind"].as_str() {
        Some("cosine_step") => MomentumSchedule::Cosine,
        Some("cosine_step_next") => MomentumSchedule::CosineNext,
        Some("cosine_epoch") => MomentumSchedule::CosineEpoch,
        Some("constant") => MomentumSchedule::Constant,
        other => panic!("{}: unknown average {other:?}", case.name()),
    };
    let per_epoch = whole("steps_per_epoch");
    let length = Length { per_epoch, steps: ema["total_steps"].as_u64().unwrap_or_else(|| whole("epochs") * per_epoch) };
    let config = ByolConfig {
        key_momentum: ema["base"].as_f64().expect("a momentum"),
        key_momentum_schedule: schedule,
        key_momentum_final: ema["final"].as_f64().unwrap_or(1.0),
        clean_stats_only: case.flag("clean_stats_only"),
        ..ByolConfig::default()
    };
    let setup = setup(&model, opened, mixing(case, Form::Unmix), length, vec![2]);
    let mut method = Byol::new(config, nets(sheet, case, opened), &setup);
    let mut pair = Pair::new(sheet, case, opened);
    let about = architecture(sheet, case);
    let of_target = |name: &str| named(name).replacen("query.", "target.", 1);
    for t in 0..pair.steps() {
        let position = Position { seed: 0, epoch: 0, step: t as u64 };
        pair.play.check(&format!("step{t}.m"), &[method.momentum(position) as f32]);
    }
    play(&mut pair, sheet, case, &mut method, |pair, t, method| {
        let targets: StateDict = method.state().into_iter().filter(|(name, _)| name.starts_with("target.")).collect();
        pair.running(about, &format!("step{t}.target"), &targets, of_target);
    });
    let targets: StateDict = method.state().into_iter().filter(|(name, _)| name.starts_with("target.")).collect();
    pair.last(about, "final_target", &targets, of_target);
    pair.play.finish();
}

fn simsiam(sheet: &Sheet, case: &Case, opened: &Opened) {
    let model = model(sheet);
    let setup = setup(&model, opened, mixing(case, Form::Unmix), Length::default(), vec![2]);
    let config = SimsiamConfig { clean_stats_only: case.flag("clean_stats_only"), ..SimsiamConfig::default() };
    let mut method = Simsiam::new(config, nets(sheet, case, opened), &setup);
    let mut pair = Pair::new(sheet, case, opened);
    play(&mut pair, sheet, case, &mut method, |_, _, _| {});
    pair.play.finish();
}

fn barlow(sheet: &Sheet, case: &Case, opened: &Opened) {
    let (params, model) = (&case.json["params"], model(sheet));
    let standardise = match (case.flag("l2"), params["std"].as_str()) {
        (false, Some("biased")) => Standardise::BatchNorm,
        (true, Some("unbiased")) => Standardise::UnitStd,
        other => panic!("{}: unknown standardisation {other:?}", case.name()),
    };
    let config = BarlowConfig {
        off_diagonal: case.param("lambda"),
        standardise,
        mix_scale: params["mix_scale"].as_f64().unwrap_or(0.0),
        ..BarlowConfig::default()
    };
    let setup = setup(&model, opened, mixing(case, Form::MixedBarlow), Length::default(), vec![2]);
    let mut method = Barlow::new(config, nets(sheet, case, opened).query, &setup);
    let mut pair = Pair::new(sheet, case, opened);
    play(&mut pair, sheet, case, &mut method, |pair, t, _| {
        let [a, b] = ["z1", "z2"].map(|name| standardise.apply(pair.play.rows(name)));
        pair.play.check(&format!("step{t}.correlation"), &values(correlation(a, b)));
    });
    pair.play.finish();
}

fn swav(sheet: &Sheet, case: &Case, opened: &Opened) {
    let model = model(sheet);
    let (size, crops) = (case.param("queue") as usize, case.param("crops") as usize);
    let config = SwavConfig {
        temperature: case.param("T"),
        epsilon: case.param("epsilon"),
        sinkhorn_iterations: case.param("iterations") as usize,
        freeze_prototypes_steps: case.param("freeze") as u64,
        memory: AssignedConfig { size, start_epoch: 0 },
        ..SwavConfig::default()
    };
    let sizes = if crops == 2 { vec![2] } else { vec![2, crops - 2] };
    let setup = setup(&model, opened, mixing(case, Form::Unmix), Length::default(), sizes.clone());
    let mut method = Swav::new(config, nets(sheet, case, opened), &setup);
    let mut pair = Pair::new(sheet, case, opened);
    if size > 0 {
        let rows = case.input::<3>("queue", &opened.device);
        let [queues, _, dim] = rows.dims();
        let mut start = method.state();
        for queue in 0..queues {
            let own: Tensor<2> = rows.clone().slice([queue..queue + 1, 0..size, 0..dim]).reshape([size, dim]);
            start.insert(format!("queue_{}", queue + 1), own.into_data());
        }
        method.restore(&start).expect("a state of its own");
        pair.play.check("step0.queue_used", &[0.0]);
    }
    // The assignments of a step read the queues and prototypes from before it.
    let mut before = state_of(&method);
    play(&mut pair, sheet, case, &mut method, |pair, t, method| {
        let scores = pair.play.rows("scores");
        let mut then = Swav::new(before.0.clone(), nets(sheet, case, opened), &setup);
        then.restore(&before.1).expect("a state of its own");
        let mixtures = usize::from(pair.play.case.expects(&format!("step{t}.assign_m")));
        let ([_, p], n) = (scores.dims(), pair.views[0].dims()[1]);
        let part = |at: usize| scores.clone().slice([at * n..(at + 1) * n, 0..p]);
        // Views 1 and 2 come first, then the mixture of view 1.
        for (which, key) in ["assign0", "assign1"].into_iter().enumerate() {
            pair.play.check(&format!("step{t}.{key}"), &values(then.assign(part(which), which)));
        }
        if mixtures == 1 {
            pair.play.check(&format!("step{t}.assign_m"), &values(then.assign(part(2), 0)));
        }
        pair.play.check(&format!("step{t}.queue_used"), &[f32::from(u8::from(then.reads_queues()))]);
        let after = method.state();
        if size > 0 {
            let all: Vec<f32> = (1..=2).flat_map(|queue| floats(&after[&format!("queue_{queue}")])).collect();
            pair.play.check(&format!("step{t}.queue_after"), &all);
        }
        before.1 = after;
    });
    pair.play.finish();
}

/// Config and state of a method as they are.
fn state_of(method: &Swav) -> (SwavConfig, StateDict) {
    (method.config().clone(), method.state())
}

/// i-Mix and MixCo.
fn soft(sheet: &Sheet, case: &Case, form: Form, opened: &Opened) {
    let about = architecture(sheet, case);
    let config = MocoConfig {
        temperature: case.param("T"),
        key_momentum: case.param("m"),
        mix_temperature: case.json["params"]["T_mix"].as_f64().unwrap_or(1.0),
        mix_weight: case.json["params"]["mix_weight"].as_f64().unwrap_or(1.0),
        ..MocoConfig::default()
    };
    let queue = Queue::restore(case.input("queue", &opened.device), 0);
    let mut method = Moco::new(config, nets(sheet, case, opened).query, queue, 1, 1).mixing(form);
    let mut pair = Pair::new(sheet, case, opened);
    let mut moves = Moves::of(case);
    let own = |name: &str| named(name).trim_start_matches("query.").to_owned();
    for t in 0..pair.steps() {
        let inputs = pair.inputs(t);
        let rates = moves.rates(case, t);
        play_step(&mut pair.play, t, &mut method, &mut moves.optimizer, inputs, 1, rates);
        pair.play.check(&format!("step{t}.cursor_after"), &[method.queue().cursor() as f32]);
        pair.play.check(&format!("step{t}.queue_after"), &values(method.queue().rows()));
        pair.running(about, &format!("step{t}.q"), &state::collect(&method.encoder().parts[0].2), own);
        pair.running(about, &format!("step{t}.k"), &state::collect(method.key()), own);
    }
    pair.last(about, "final_q", &state::collect(&method.encoder().parts[0].2), own);
    pair.last(about, "final_k", &state::collect(method.key()), own);
    pair.remembered(about, &moves, own);
    pair.play.finish();
}
