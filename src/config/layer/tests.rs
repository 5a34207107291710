use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::*;
use crate::config::schema::{keys, table};

/// A run, shaped like the real one: sections, tagged enums, options, arrays, an enum that also takes a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Run {
    /// Free text.
    about: Value,
    seed: u64,
    out: Option<PathBuf>,
    /// The method.
    method: Method,
    mixture: Mixture,
    /// What the model
    /// looks like.
    ///
    /// Second paragraph.
    model: Model,
    views: Vec<Crop>,
    eval: Option<Knn>,
}

impl Default for Run {
    fn default() -> Self {
        let (method, mixture) = (Method::Moco(Moco::default()), Mixture::None);
        let (about, model, views) = (Value::Null, Model::default(), vec![Crop::default()]);
        Self { about, seed: 7, out: None, method, mixture, model, views, eval: None }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
enum Method {
    /// Momentum contrast.
    Moco(Moco),
    /// A memory bank.
    Insdis(Insdis),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Moco {
    /// Divides the logits.
    temperature: f32,
    key_momentum: f64,
}

impl Default for Moco {
    fn default() -> Self {
        Self { temperature: 0.07, key_momentum: 0.99 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Insdis {
    /// Divides the logits.
    temperature: f32,
    negatives: usize,
}

impl Default for Insdis {
    fn default() -> Self {
        Self { temperature: 0.07, negatives: 16384 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
enum Mixture {
    None,
    Im {
        #[serde(default)]
        partner: Partner,
        #[serde(default)]
        fill: Fill,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Partner {
    /// From anywhere.
    #[default]
    Dataset,
    Batch,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Fill {
    #[default]
    Scalar,
    #[serde(untagged)]
    Value(f32),
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Model {
    width: u8,
    mean: [f32; 3],
    pretrained: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Crop {
    size: u32,
}

impl Default for Crop {
    fn default() -> Self {
        Self { size: 32 }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Knn {
    k: usize,
}

fn problems(value: Value) -> Vec<String> {
    resolve::<Run>(value).unwrap_err().details().to_vec()
}

#[test]
fn nothing_gives_the_defaults() {
    assert_eq!(resolve::<Run>(json!({})).unwrap(), Run::default());
}

#[test]
fn what_was_resolved_resolves_to_itself() {
    let run = Run {
        eval: Some(Knn { k: 3 }),
        mixture: Mixture::Im { partner: Partner::Batch, fill: Fill::Value(0.5) },
        ..Run::default()
    };
    assert_eq!(resolve::<Run>(serde_json::to_value(&run).unwrap()).unwrap(), run);
}

#[test]
fn every_form_is_accepted() {
    let value = json!({
        "$schema": "./schema.json", "about": {"source": ["any", 1]}, "out": "runs/a", "eval": {"k": 20},
        "method": {"name": "insdis", "negatives": 4}, "mixture": {"name": "im", "fill": 1, "partner": "batch"},
        "model": {"width": 255, "mean": [0, 0.5, 1e-3], "pretrained": true}, "views": [{}, {"size": 96}],
    });
    let run = resolve::<Run>(value).unwrap();
    assert_eq!(run.method, Method::Insdis(Insdis { temperature: 0.07, negatives: 4 }));
    assert_eq!(run.views, [Crop { size: 32 }, Crop { size: 96 }]);
    assert_eq!((run.seed, run.model.width, run.model.mean), (7, 255, [0.0, 0.5, 1e-3]));
    assert_eq!(run.mixture, Mixture::Im { partner: Partner::Batch, fill: Fill::Value(1.0) });
    let nulls = resolve::<Run>(json!({"out": null, "eval": null})).unwrap();
    assert_eq!(nulls, Run::default());
}

#[test]
fn an_absent_tag_is_the_default_one() {
    let run = resolve::<Run>(json!({"method": {"temperature": 0.2}})).unwrap();
    assert_eq!(run.method, Method::Moco(Moco { temperature: 0.2, ..Moco::default() }));
}

#[test]
fn all_problems_come_together_with_their_paths() {
    let value = json!({
        "temperature": 0.1, "sede": 3, "seed": -1, "out": 5, "partner": "batch",
        "method": {"name": "moco", "negatives": 5, "temprature": 0.1, "temperature": "hot"},
        "mixture": {"name": "im", "partner": "batchs", "fill": "scaler"},
        "model": {"width": 256, "mean": [0, 1], "pretrained": 1},
        "views": [{"size": 32.5}, {"szie": 1}, 7], "eval": {"k": null},
    });
    assert_eq!(
        problems(value),
        [
            "`temperature`: unknown key; did you mean `method.temperature`?",
            "`sede`: unknown key; did you mean `seed`?",
            "`seed`: got -1, expected an integer of at least 0",
            "`out`: got 5, expected a string or null",
            "`partner`: unknown key; did you mean `mixture.partner`?",
            "`method.negatives`: unknown key; it goes with `method.name` = \"insdis\", not with \"moco\"",
            "`method.temprature`: unknown key; did you mean `temperature`?",
            "`method.temperature`: got the string \"hot\", expected a number",
            "`mixture.partner`: unknown value \"batchs\"; did you mean `batch`?",
            "`mixture.fill`: got the string \"scaler\", expected `scalar` or a number",
            "`model.width`: got 256, expected an integer from 0 to 255",
            "`model.mean`: has 2 entries, expected 3",
            "`model.pretrained`: got 1, expected true or false",
            "`views.0.size`: got 32.5, expected an integer of at least 0",
            "`views.1.szie`: unknown key; did you mean `size`?",
            "`views.2`: got 7, expected an object",
            "`eval.k`: got null, expected an integer of at least 0",
        ]
    );
}

#[test]
fn the_error_counts_and_hints() {
    let error = resolve::<Run>(json!({"a": 1, "b": 2})).unwrap_err();
    assert_eq!(error.message(), "the config has 2 problems");
    assert!(error.hints()[0].contains("config schema --table"));
    assert_eq!(resolve::<Run>(json!({"a": 1})).unwrap_err().message(), "the config has 1 problem");
    assert_eq!(problems(json!([1])), ["the config is an array, expected an object"]);
}

#[test]
fn a_wrong_tag_is_one_problem() {
    assert_eq!(
        problems(json!({"method": {"name": "mocco", "x": 1}})),
        ["`method.name`: unknown value \"mocco\"; did you mean `moco`?"]
    );
    assert_eq!(problems(json!({"method": {"name": 3}})), ["`method.name`: got 3, expected one of moco, insdis"]);
    assert_eq!(problems(json!({"method": "moco"})), ["`method`: got the string \"moco\", expected an object"]);
}

#[test]
fn a_variant_without_keys_takes_none() {
    let lines = problems(json!({"mixture": {"name": "none", "fill": 1, "nothing": 2}}));
    assert_eq!(lines[0], "`mixture.fill`: unknown key; it goes with `mixture.name` = \"im\", not with \"none\"");
    assert_eq!(lines[1], "`mixture.nothing`: unknown key; known here: name");
}

#[test]
fn set_creates_overrides_and_indexes() {
    let mut value = json!({"views": [{"size": 32}, {}], "seed": 1});
    for assignment in
        ["seed=2", "seed=3", "method.name=insdis", "method.temperature=0.2", "views.1.size=96", "out=runs/a=b", "eval=null"]
    {
        set(&mut value, assignment).unwrap();
    }
    let expected = json!({
        "views": [{"size": 32}, {"size": 96}], "seed": 3, "method": {"name": "insdis", "temperature": 0.2}, "out": "runs/a=b", "eval": null
    });
    assert_eq!(value, expected);
    set(&mut value, "views=[{\"size\": 1}]").unwrap();
    assert_eq!(value["views"], json!([{"size": 1}]));
    let mut empty = Value::Null;
    set(&mut empty, "optim.lr=1e-1").unwrap();
    assert_eq!(empty, json!({"optim": {"lr": 0.1}}));
}

#[test]
fn set_says_what_is_wrong() {
    let mut value = json!({"views": [{"size": 32}], "seed": 1});
    let before = value.clone();
    for (assignment, fact) in [
        ("seed", "no `=`"),
        ("=3", "`` is not a key path"),
        ("a..b=3", "`a..b` is not a key path"),
        ("seed.x=3", "`seed` is a single value and has no `x`"),
        ("views.1.size=3", "`views` has 1 entries, so there is no entry 1"),
        ("views.first.size=3", "`first` is not an index"),
        ("crops.0.size=3", "set the whole array"),
    ] {
        let error = set(&mut value, assignment).unwrap_err();
        assert!(error.message().contains(fact), "{error}");
    }
    assert_eq!(value, before);
}

#[test]
fn read_says_where_the_text_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("im.json");
    for (text, fact) in [
        ("{\n  \"a\": 1,\n}", "trailing comma at line 3"),
        ("{\"a\": 1,\n \"b\": {\"a\": 2, \"a\": 3}}", "the key `a` is given twice at line 2"),
        ("{} {}", "trailing characters"),
        ("", "EOF"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.message().contains(fact) && error.message().contains("im.json"), "{error}");
    }
    std::fs::write(&path, "\u{feff}{\"a\": [1, 2.5, \"x\", true, null, -3]}").unwrap();
    assert_eq!(read(&path).unwrap(), json!({"a": [1, 2.5, "x", true, null, -3]}));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(read(&path).unwrap_err().message().ends_with("is not a text file"));
}

#[test]
fn read_suggests_a_name_beside_the_missing_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("moco-im.json"), "{}").unwrap();
    let error = read(dir.path().join("moco_im.json")).unwrap_err();
    assert!(error.hints().iter().any(|hint| hint.contains("did you mean `moco-im.json`?")), "{error}");
}

#[test]
fn keys_are_listed_with_kind_default_and_description() {
    let keys = keys::<Run>();
    let find = |path: &str| keys.iter().find(|key| key.path == path).unwrap_or_else(|| panic!("{path}"));
    assert_eq!(find("method.temperature").default, Some(json!(0.07)), "single precision is shown as written");
    assert_eq!(find("method.temperature").about, "Divides the logits.");
    assert_eq!(find("method.temperature").only_with, None, "both variants have it");
    assert_eq!(find("method.negatives").only_with, Some(("method.name".to_owned(), vec!["insdis".to_owned()])));
    assert_eq!(find("method.name").values[0], ("moco".to_owned(), "Momentum contrast.".to_owned()));
    assert_eq!(find("method.name").default, Some(json!("moco")));
    assert_eq!(find("model").about, "What the model looks like.");
    assert!(find("model").section && !find("model.width").section);
    assert_eq!(find("views[].size").kind, "an integer of at least 0");
    assert_eq!(find("mixture.partner").values.len(), 2);
    assert_eq!(find("mixture.fill").kind, "a name or a number");
    assert_eq!(keys.iter().filter(|key| key.path == "method.temperature").count(), 1);
}

#[test]
fn the_table_has_a_line_for_every_key() {
    let text = table::<Run>();
    for key in keys::<Run>().iter().filter(|key| !key.section) {
        assert_eq!(
            text.lines().filter(|line| line.split_whitespace().next() == Some(key.path.as_str())).count(),
            1,
            "{}",
            key.path
        );
    }
    assert!(text.contains("= dataset: From anywhere.\n") && text.contains("[method.name = insdis]"), "{text}");
}

/// A folder that is called 2024, a rate as people write it: the key says what is meant.
#[test]
fn set_takes_what_people_write() {
    for (assignment, key, want) in [
        ("data.source.root=2024", "/data/source/root", json!("2024")),
        ("data.source.root=1e3", "/data/source/root", json!("1e3")),
        ("data.source.root=true", "/data/source/root", json!("true")),
        ("data.source.train=007", "/data/source/train", json!("007")),
        ("data.source.classes=2024", "/data/source/classes", json!("2024")),
        ("data.source.classes=[\"a\"]", "/data/source/classes", json!(["a"])),
        ("out=2024", "/out", json!("2024")),
        ("out=null", "/out", json!(null)),
        ("about.time=3", "/about/time", json!("3")),
        ("device=0", "/device", json!("0")),
        ("optim.lr=.1", "/optim/lr", json!(0.1)),
        ("optim.lr=1.", "/optim/lr", json!(1)),
        ("optim.lr=+.5e-2", "/optim/lr", json!(0.005)),
        ("optim.lr=5", "/optim/lr", json!(5)),
        ("method.negatives=1e4", "/method/negatives", json!(10000)),
        ("data.batch=+64", "/data/batch", json!(64)),
        ("data.batch=064", "/data/batch", json!(64)),
        ("seed=18446744073709551615", "/seed", json!(u64::MAX)),
        ("data.drop_last=False", "/data/drop_last", json!(false)),
        ("eval.monitor.every_epochs=None", "/eval/monitor/every_epochs", json!(null)),
        ("eval.knn.layer=features", "/eval/knn/layer", json!("features")),
        ("eval.knn.layer=-1", "/eval/knn/layer", json!(-1)),
        ("mixture.fill=.5", "/mixture/fill", json!(0.5)),
        ("views.mean=[0.5,0.5,0.5]", "/views/mean", json!([0.5, 0.5, 0.5])),
    ] {
        let mut value = json!({"data": {"source": {"name": "folder"}}});
        set(&mut value, assignment).unwrap();
        assert_eq!(value.pointer(key), Some(&want), "{assignment}");
    }
}

/// What is no number stays as it was written, so that the refusal shows it.
#[test]
fn set_makes_no_number_of_words() {
    for (assignment, want) in [("optim.lr=inf", json!("inf")), ("optim.lr=0,1", json!("0,1")), ("data.batch=6.5", json!(6.5))] {
        let mut value = json!({});
        set(&mut value, assignment).unwrap();
        let (table, key) = assignment.split_once('=').unwrap().0.split_once('.').unwrap();
        assert_eq!(value[table][key], want, "{assignment}");
        value["schedule"] = json!({"steps": 1});
        let error = crate::config::RunConfig::from_value(value).unwrap_err().to_string();
        assert!(error.contains(&format!("`{table}.{key}`: got")), "{error}");
    }
}

fn refused(settings: &[&str]) -> Vec<String> {
    let mut value = json!({"schedule": {"steps": 1}});
    settings.iter().for_each(|setting| set(&mut value, setting).unwrap());
    crate::config::RunConfig::from_value(value).unwrap_err().details().to_vec()
}

/// The words of other programs and papers.
#[test]
fn other_programs_words_lead_to_ours() {
    for (setting, ours) in [
        ("mixture.name=cutmix", "`region`"),
        ("mixture.name=mixup", "`global`"),
        ("mixture.name=RandomErasing", "`erase`"),
        ("learning_rate=0.1", "`optim.lr`"),
        ("optim.learning_rate=0.1", "`optim.lr`"),
        ("batch_size=64", "`data.batch`"),
        ("data.batch_size=64", "`data.batch`"),
        ("data.batch-size=64", "`data.batch`"),
        ("num_workers=2", "`data.workers`"),
        ("arch=\"resnet50\"", "`model.name`"),
        ("method.queue_size=64", "`method.memory.size`"),
        ("epochs=3", "`schedule.epochs`"),
        ("optim.momentun=0.5", "`momentum`"),
    ] {
        let said = refused(&[setting]);
        assert!(said.len() == 1 && said[0].contains(&format!("did you mean {ours}")), "{setting}: {said:?}");
    }
}

#[test]
fn types_and_values_are_told_together() {
    let said = refused(&["optim.momentum=1.5", "model.width=\"wide\"", "data.max_broken=7", "nothing=1"]);
    for part in ["`model.width`: got", "`nothing`: unknown key", "`optim.momentum` is 1.5", "`data.max_broken` is 7"] {
        assert!(said.iter().any(|line| line.contains(part)), "no {part} in {said:?}");
    }
    assert_eq!(said.len(), 4, "{said:?}");
    // What a default comes to in the place of a wrong value is no problem of the file.
    assert_eq!(refused(&["data.batch=\"many\"", "model.bn_splits=5"]).len(), 1);
}

#[test]
fn a_batch_that_does_not_divide_names_those_that_do() {
    let said = refused(&["data.batch=25"]);
    assert!(said[0].contains("use 24 or 32"), "{said:?}");
    assert!(refused(&["data.batch=3"])[0].contains("use 8,"));
}

#[test]
fn a_key_goes_wherever_it_stands() {
    let whole = json!({"a": {"b": [1, 2], "c": 3}, "d": 4});
    for (path, want) in [
        ("a.c", json!({"a": {"b": [1, 2]}, "d": 4})),
        ("a.b.1", json!({"a": {"c": 3}, "d": 4})),
        ("a", json!({"d": 4})),
        ("a.x.y", whole.clone()),
        ("", whole.clone()),
    ] {
        let mut value = whole.clone();
        super::remove(&mut value, path);
        assert_eq!(value, want, "{path}");
    }
    let mut list = json!([1]);
    super::remove(&mut list, "");
    assert_eq!(list, json!({}));
}
