//! Checking a config against its schema: every unknown key and every wrong value at once, each with its path.

use std::cell::OnceCell;

use serde_json::{Map, Value};

use super::schema::{self, join};
use crate::error::nearest;

/// A key that is unknown or of the wrong type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its path.
    pub path: String,
    /// What is wrong with it, in a line.
    pub line: String,
    /// Whether nobody knows the key, rather than that its value is wrong.
    pub unknown: bool,
}

/// The problems of `value` under the schema `root`. An absent tag (`method.name`) is filled in from the default,
/// as every other absent key is by the type itself.
pub fn problems(root: &Value, value: &mut Value) -> Vec<Problem> {
    let mut walk = Walk { root, keys: OnceCell::new(), problems: Vec::new() };
    walk.node(root, value, "");
    walk.problems
}

/// What other programs call our keys.
const KEYS: [(&str, &str); 24] = [
    ("learning_rate", "optim.lr"),
    ("base_lr", "optim.lr"),
    ("wd", "optim.weight_decay"),
    ("batch_size", "data.batch"),
    ("bs", "data.batch"),
    ("accumulation_steps", "data.micro_batch"),
    ("num_workers", "data.workers"),
    ("dataset", "data.source.name"),
    ("data_dir", "data.source.root"),
    ("arch", "model.name"),
    ("backbone", "model.name"),
    ("feature_dim", "model.head.dim"),
    ("proj_dim", "model.head.dim"),
    ("image_size", "views.crop.size"),
    ("img_size", "views.crop.size"),
    ("crop_size", "views.crop.size"),
    ("num_crops", "views.crops"),
    ("nmb_crops", "views.crops"),
    ("queue_size", "method.memory.size"),
    ("nce_k", "method.memory.size"),
    ("nce_t", "method.temperature"),
    ("tau", "method.temperature"),
    ("ema", "method.key_momentum"),
    ("output_dir", "out"),
];

/// What other programs and papers call our values.
const VALUES: [(&str, &str); 12] = [
    ("cutmix", "region"),
    ("mixup", "global"),
    ("random_erasing", "erase"),
    ("erasing", "erase"),
    ("un_mix", "unmix"),
    ("imagemix", "im"),
    ("infonce", "softmax"),
    ("info_nce", "softmax"),
    ("step", "multistep"),
    ("cos", "cosine"),
    ("imagefolder", "folder"),
    ("fashion_mnist", "embedded"),
];

fn synonym(word: &str, of: &[(&str, &'static str)]) -> Option<&'static str> {
    let plain = |word: &str| word.to_lowercase().replace(['-', '_'], "");
    of.iter().find(|(theirs, _)| plain(theirs) == plain(word)).map(|(_, ours)| *ours)
}

/// The one of `known` that `name` stands for elsewhere, or the nearest.
fn suggested<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match synonym(name, &VALUES).filter(|ours| known.contains(ours)) {
        Some(ours) => format!("did you mean `{ours}`?"),
        None => nearest(name, known),
    }
}

struct Walk<'a> {
    root: &'a Value,
    /// All keys, listed when one is sought.
    keys: OnceCell<Vec<schema::Key>>,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    fn wrong_at(&mut self, path: &str, line: String) {
        self.problems.push(Problem { path: path.to_owned(), line, unknown: false });
    }

    fn node(&mut self, node: &Value, value: &mut Value, path: &str) {
        let forms = schema::options(self.root, node);
        if forms.iter().any(|form| schema::types(form).is_empty() && schema::names(form).is_empty()) {
            return;
        }
        let of_type = |name| forms.iter().copied().filter(|form| schema::types(form).contains(&name)).collect::<Vec<_>>();
        match value {
            Value::Object(map) if !of_type("object").is_empty() => self.object(node, &of_type("object"), map, path),
            Value::Array(items) if !of_type("array").is_empty() => self.array(of_type("array")[0], items, path),
            _ if forms.iter().any(|form| fits(form, value)) => {}
            _ => self.wrong(node, &forms, value, path),
        }
    }

    fn object(&mut self, node: &Value, forms: &[&Value], map: &mut Map<String, Value>, path: &str) {
        let Some(form) = self.form_of(node, forms, map, path) else { return };
        let empty = Map::new();
        let known = schema::properties(form).unwrap_or(&empty);
        let rest = form.get("additionalProperties");
        for (key, value) in map.iter_mut() {
            match (known.get(key), rest) {
                (Some(property), _) => self.node(property, value, &join(path, key)),
                (None, Some(other @ Value::Object(_))) => self.node(other, value, &join(path, key)),
                (None, Some(Value::Bool(true))) => {}
                (None, _) => self.unknown(forms, form, key, path),
            }
        }
        for key in form.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !map.contains_key(key) {
                self.wrong_at(path, format!("`{}` is missing", join(path, key)));
            }
        }
    }

    /// The form the object takes, chosen by its tag if it has one; nothing when the tag is wrong.
    fn form_of<'b>(&mut self, node: &Value, forms: &[&'b Value], map: &mut Map<String, Value>, path: &str) -> Option<&'b Value> {
        let Some(tag) = schema::tag(forms) else {
            let takes_all =
                |form: &&&Value| schema::properties(form).is_some_and(|known| map.keys().all(|k| known.contains_key(k)));
            return forms.iter().find(takes_all).or(forms.first()).copied();
        };
        let default = node.get("default").and_then(|default| default.get(tag));
        if let (false, Some(default)) = (map.contains_key(tag), default) {
            map.insert(tag.to_owned(), default.clone());
        }
        let names = || forms.iter().map(|form| schema::tag_value(form, tag));
        let at = join(path, tag);
        let problem = match map.get(tag) {
            Some(Value::String(name)) => match forms.iter().find(|form| schema::tag_value(form, tag) == name) {
                Some(form) => return Some(form),
                None => format!("`{at}`: unknown value \"{name}\"; {}", suggested(name, names())),
            },
            Some(other) => format!("`{at}`: got {}, expected one of {}", shown(other), names().collect::<Vec<_>>().join(", ")),
            None => format!("`{at}` is missing; {}", nearest("", names())),
        };
        self.wrong_at(path, problem);
        None
    }

    fn array(&mut self, form: &Value, items: &mut [Value], path: &str) {
        let limit = |key| form.get(key).and_then(Value::as_u64);
        let (least, most) = (limit("minItems").unwrap_or(0), limit("maxItems").unwrap_or(u64::MAX));
        if !(least..=most).contains(&(items.len() as u64)) {
            let wanted = if least == most { least.to_string() } else { format!("{least} to {most}") };
            self.wrong_at(path, format!("`{path}`: has {} entries, expected {wanted}", items.len()));
        }
        let prefix = form.get("prefixItems").and_then(Value::as_array);
        for (index, item) in items.iter_mut().enumerate() {
            if let Some(node) = prefix.and_then(|prefix| prefix.get(index)).or_else(|| form.get("items")) {
                self.node(node, item, &join(path, &index.to_string()));
            }
        }
    }

    fn wrong(&mut self, node: &Value, forms: &[&Value], value: &Value, path: &str) {
        let names: Vec<&str> = forms.iter().flat_map(|form| schema::names(form)).map(|(name, _)| name).collect();
        let only_names = forms.iter().all(|form| !schema::names(form).is_empty() || schema::types(form) == ["null"]);
        let line = match value {
            Value::String(name) if only_names => format!("`{path}`: unknown value \"{name}\"; {}", suggested(name, names)),
            _ if path.is_empty() => format!("the config is {}, expected {}", shown(value), schema::expected(self.root, node)),
            _ => format!("`{path}`: got {}, expected {}", shown(value), schema::expected(self.root, node)),
        };
        self.wrong_at(path, line);
    }

    /// An unknown key: it may belong to another variant, to another section, or be misspelt.
    fn unknown(&mut self, forms: &[&Value], form: &Value, key: &str, path: &str) {
        let at = join(path, key);
        let has = |form: &&&Value| schema::properties(form).is_some_and(|known| known.contains_key(key));
        let others: Vec<&&Value> = forms.iter().filter(has).collect();
        let elsewhere = self.elsewhere(key, path);
        let advice = match (schema::tag(forms), others.is_empty()) {
            (Some(tag), false) => {
                let names: Vec<String> = others.iter().map(|form| format!("\"{}\"", schema::tag_value(form, tag))).collect();
                let (tag_path, own) = (join(path, tag), schema::tag_value(form, tag));
                format!("it goes with `{tag_path}` = {}, not with \"{own}\"", names.join(", "))
            }
            _ if !elsewhere.is_empty() => format!("did you mean {}?", elsewhere.join(" or ")),
            _ if let Some(meant) = self.meant(key) => format!("did you mean `{meant}`?"),
            _ => match schema::properties(form) {
                Some(known) if !known.is_empty() => nearest(key, known.keys().map(String::as_str)),
                _ => "no key is known here".to_owned(),
            },
        };
        self.problems.push(Problem { line: format!("`{at}`: unknown key; {advice}"), path: at, unknown: true });
    }

    fn keys(&self) -> &[schema::Key] {
        self.keys.get_or_init(|| schema::keys_of(self.root))
    }

    /// The key that other programs call `key`.
    fn meant(&self, key: &str) -> Option<&str> {
        let own = synonym(key, &KEYS)?;
        self.keys().iter().map(|known| known.path.as_str()).find(|path| *path == own)
    }

    /// Up to three places elsewhere that have a key of this name, those of the same section first.
    fn elsewhere(&self, key: &str, path: &str) -> Vec<String> {
        let ends = format!(".{key}");
        let mut found: Vec<&str> = self.keys().iter().map(|known| known.path.as_str()).collect();
        found.retain(|known| *known == key || known.ends_with(&ends));
        found.dedup();
        found.sort_by_key(|known| path.is_empty() || !known.starts_with(&format!("{path}.")));
        found.truncate(3);
        found.iter().map(|known| format!("`{known}`")).collect()
    }
}

/// Whether a value without parts has this form.
pub(super) fn fits(form: &Value, value: &Value) -> bool {
    let names = schema::names(form);
    if !names.is_empty() {
        return names.iter().any(|(name, _)| value == name);
    }
    schema::types(form).iter().any(|name| match (*name, value) {
        ("null", Value::Null) | ("boolean", Value::Bool(_)) | ("string", Value::String(_)) | ("number", Value::Number(_)) => true,
        ("integer", Value::Number(_)) => {
            let (low, high) = schema::limits(form);
            schema::whole(value).is_some_and(|n| low.is_none_or(|low| n >= low) && high.is_none_or(|high| n <= high))
        }
        _ => false,
    })
}

/// A value in a message: scalars as written, the rest by type.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::String(text) => format!("the string \"{text}\""),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        scalar => scalar.to_string(),
    }
}
