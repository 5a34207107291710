//! The list of all keys of a config, from its schema.

use schemars::JsonSchema;
use serde_json::Value;

use super::{follow, in_words, join, names, options, properties, schema, tag, tag_value, types};

/// One key a config may hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Dotted path; `[]` stands for an array's index and `*` for a free name.
    pub path: String,
    /// What it accepts, in words: "a number".
    pub kind: String,
    /// The value it has when absent, if it may be.
    pub default: Option<Value>,
    /// The first paragraph of its documentation.
    pub about: String,
    /// The names it accepts, each with its own documentation (empty for anything but enums).
    pub values: Vec<(String, String)>,
    /// The tag, and the values of the tag, without which the key does not exist: `method.name`, `[moco]`.
    pub only_with: Option<(String, Vec<String>)>,
    /// Whether it is a section, that is, has keys of its own.
    pub section: bool,
}

/// Every key of `T` in the order of declaration.
pub fn keys<T: JsonSchema>() -> Vec<Key> {
    keys_of(&schema::<T>())
}

/// [`keys`] of a schema at hand.
pub fn keys_of(root: &Value) -> Vec<Key> {
    let mut keys = Vec::new();
    Keys { root, keys: &mut keys }.below(root, "", None, 0);
    merge(keys)
}

/// All keys as aligned columns: path, kind, default, description; the names an enum accepts follow it, indented.
pub fn table<T: JsonSchema>() -> String {
    let keys: Vec<Key> = keys::<T>().into_iter().filter(|key| !key.section).collect();
    let shown = |key: &Key| key.default.as_ref().map_or("required".to_owned(), Value::to_string);
    let width = |of: &dyn Fn(&Key) -> usize| keys.iter().map(of).max().unwrap_or(0);
    let (paths, kinds) = (width(&|key| key.path.len()), width(&|key| key.kind.len()).min(32));
    let defaults = width(&|key| shown(key).len()).min(20);
    let mut out = String::new();
    for key in &keys {
        let only = key.only_with.as_ref().map_or(String::new(), |(tag, values)| format!("[{tag} = {}]", values.join(", ")));
        let line = format!("{:paths$}  {:kinds$}  {:defaults$}  {} {only}", key.path, key.kind, shown(key), key.about);
        out.push_str(line.trim_end());
        out.push('\n');
        for (name, about) in &key.values {
            let line = format!("{:paths$}  = {name}: {about}", "");
            out.push_str(line.trim_end().trim_end_matches(':'));
            out.push('\n');
        }
    }
    out
}

/// Collects the keys of a schema.
struct Keys<'a> {
    root: &'a Value,
    keys: &'a mut Vec<Key>,
}

/// Types that contain themselves would be listed without end.
const DEEPEST: usize = 12;

impl Keys<'_> {
    /// Lists the keys below `node`, which stands at `path`.
    fn below(&mut self, node: &Value, path: &str, only: Option<(String, Vec<String>)>, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        let forms = options(self.root, node);
        let objects: Vec<&Value> = forms.iter().copied().filter(|form| types(form).contains(&"object")).collect();
        let tag = tag(&objects);
        if let Some(tag) = tag {
            self.keys.push(self.tag_key(node, &objects, path, tag, only.clone()));
        }
        for form in objects {
            let only = match tag {
                Some(tag) => Some((join(path, tag), vec![tag_value(form, tag).to_owned()])),
                None => only.clone(),
            };
            for (name, property) in properties(form).into_iter().flatten().filter(|(name, _)| Some(name.as_str()) != tag) {
                self.at(property, join(path, name), only.clone(), depth + 1);
            }
            if let Some(rest) = form.get("additionalProperties").filter(|rest| rest.is_object()) {
                self.below(rest, &join(path, "*"), only, depth + 1);
            }
        }
        for items in forms.iter().filter_map(|form| form.get("items")) {
            self.below(items, &format!("{path}[]"), only.clone(), depth + 1);
        }
    }

    /// Lists the key at `path` and those below it.
    fn at(&mut self, node: &Value, path: String, only: Option<(String, Vec<String>)>, depth: usize) {
        let forms = options(self.root, node);
        let named: Vec<_> = forms.iter().flat_map(|form| names(form)).map(|(n, a)| (n.to_owned(), paragraph(a))).collect();
        self.keys.push(Key {
            kind: in_words(&forms, true),
            default: default_of(node, &forms),
            about: about(self.root, node),
            values: named,
            only_with: only.clone(),
            section: forms.iter().any(|form| properties(form).is_some()),
            path: path.clone(),
        });
        self.below(node, &path, only, depth);
    }

    fn tag_key(&self, node: &Value, forms: &[&Value], path: &str, tag: &str, only: Option<(String, Vec<String>)>) -> Key {
        let doc = |form: &Value| paragraph(form.get("description").and_then(Value::as_str).unwrap_or_default());
        Key {
            path: join(path, tag),
            kind: "a name".to_owned(),
            default: node.get("default").and_then(|default| default.get(tag)).cloned(),
            about: about(self.root, node),
            values: forms.iter().map(|form| (tag_value(form, tag).to_owned(), doc(form))).collect(),
            only_with: only,
            section: false,
        }
    }
}

/// A default as one would write it: single precision is widened in the schema, which shows digits nobody wrote.
fn default_of(node: &Value, forms: &[&Value]) -> Option<Value> {
    let default = node.get("default")?;
    let single = forms.iter().any(|form| form.get("format").and_then(Value::as_str) == Some("float"));
    match default.as_f64() {
        Some(number) if single && default.is_f64() => (number as f32).to_string().parse::<f64>().ok().map(Value::from),
        _ => Some(default.clone()),
    }
}

fn about(root: &Value, node: &Value) -> String {
    let text = |node: &Value| node.get("description").and_then(Value::as_str).map(paragraph);
    text(node).or_else(|| text(follow(root, node))).unwrap_or_default()
}

/// The first paragraph on one line.
fn paragraph(text: &str) -> String {
    text.split("\n\n").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Joins the rows of one key that several variants share; a key of all variants depends on none.
fn merge(keys: Vec<Key>) -> Vec<Key> {
    let mut merged: Vec<Key> = Vec::new();
    for key in keys {
        let same = |other: &&mut Key| {
            other.path == key.path && other.kind == key.kind && other.default == key.default && other.about == key.about
        };
        match (merged.iter_mut().find(same), key.only_with.clone()) {
            (Some(Key { only_with: Some((_, values)), .. }), Some((_, more))) => {
                more.into_iter().for_each(|value| {
                    if !values.contains(&value) {
                        values.push(value)
                    }
                });
            }
            (Some(_), _) => {}
            (None, _) => merged.push(key),
        }
    }
    let tags: Vec<(String, usize)> = merged.iter().map(|key| (key.path.clone(), key.values.len())).collect();
    for key in &mut merged {
        if key.only_with.as_ref().is_some_and(|(tag, values)| tags.contains(&(tag.clone(), values.len()))) {
            key.only_with = None;
        }
    }
    merged
}
