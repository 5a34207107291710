//! Reading a JSON schema: what may stand where.

mod keys;

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use schemars::JsonSchema;
use serde_json::{Map, Value};

pub use keys::{Key, keys, keys_of, table};

/// The JSON schema of `T`, for editors and for the checks of this module.
pub fn schema<T: JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

/// The same, made once for each type.
pub(super) fn cached<T: JsonSchema + 'static>() -> &'static Value {
    static MADE: Mutex<BTreeMap<TypeId, &'static Value>> = Mutex::new(BTreeMap::new());
    // A schema is whole before it is put in: a panic elsewhere leaves nothing half made.
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry(TypeId::of::<T>()).or_insert_with(|| Box::leak(Box::new(schema::<T>())))
}

/// Follows `$ref` to the definition.
pub(super) fn follow<'a>(root: &'a Value, mut node: &'a Value) -> &'a Value {
    while let Some(target) = node.get("$ref").and_then(Value::as_str).and_then(|path| root.pointer(path.trim_start_matches('#'))) {
        node = target;
    }
    node
}

/// The forms a value may take: the branches of `anyOf` and `oneOf`, flattened, or the node itself.
pub(super) fn options<'a>(root: &'a Value, node: &'a Value) -> Vec<&'a Value> {
    let node = follow(root, node);
    match node.get("anyOf").or_else(|| node.get("oneOf")).and_then(Value::as_array) {
        Some(branches) => branches.iter().flat_map(|branch| options(root, branch)).collect(),
        None => vec![node],
    }
}

/// The type names of one form: `["integer", "null"]`; none for a form that accepts anything.
pub(super) fn types(form: &Value) -> Vec<&str> {
    match form.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The strings one form accepts, with their documentation, if it accepts only some.
pub(super) fn names(form: &Value) -> Vec<(&str, &str)> {
    let about = form.get("description").and_then(Value::as_str).unwrap_or_default();
    match (form.get("const"), form.get("enum")) {
        (Some(Value::String(name)), _) => vec![(name, about)],
        (_, Some(Value::Array(names))) => names.iter().filter_map(Value::as_str).map(|name| (name, "")).collect(),
        _ => Vec::new(),
    }
}

/// The properties of an object form.
pub(super) fn properties(form: &Value) -> Option<&Map<String, Value>> {
    form.get("properties").and_then(Value::as_object)
}

/// The key that tells the object forms apart, as in `#[serde(tag = "name")]`: the one that is a constant in all of them.
pub(super) fn tag<'a>(forms: &[&'a Value]) -> Option<&'a str> {
    let constant = |form: &Value, key: &str| form.pointer(&format!("/properties/{key}/const")).is_some();
    let (first, rest) = forms.split_first()?;
    let mut candidates = properties(first)?.keys().filter(|key| constant(first, key));
    candidates.find(|key| rest.iter().all(|form| constant(form, key))).map(String::as_str)
}

/// The tag's value in one object form.
pub(super) fn tag_value<'a>(form: &'a Value, tag: &str) -> &'a str {
    form.pointer(&format!("/properties/{tag}/const")).and_then(Value::as_str).unwrap_or_default()
}

/// The forms that a value at a dotted path may take in `config`: of tables with a name, those of the variant that it names, and of all variants
/// where it names none.
pub(super) fn forms_at<'a>(root: &'a Value, config: &Value, path: &str) -> Vec<&'a Value> {
    let (mut forms, mut place) = (options(root, root), Some(config));
    for segment in path.split('.') {
        let objects: Vec<&Value> = forms.iter().copied().filter(|form| properties(form).is_some()).collect();
        let named = tag(&objects).filter(|tag| *tag != segment).and_then(|tag| Some((tag, place?.get(tag)?.as_str()?)));
        if let Some((tag, name)) = named.filter(|(tag, name)| objects.iter().any(|form| tag_value(form, tag) == *name)) {
            forms = objects.into_iter().filter(|form| tag_value(form, tag) == name).collect();
        }
        let below = |form: &&'a Value| {
            let property = properties(form).and_then(|known| known.get(segment));
            property.or_else(|| form.get("items").filter(|_| segment.parse::<usize>().is_ok()))
        };
        forms = forms.iter().filter_map(below).flat_map(|node| options(root, node)).collect();
        place = place.and_then(|place| place.get(segment));
    }
    forms
}

/// `a.b` from `a` and `b`; the root's path is empty.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// What a node accepts, in words, for messages.
pub(super) fn expected(root: &Value, node: &Value) -> String {
    in_words(&options(root, node), false)
}

/// The forms in words; names are spelt out, or in `short` just called names.
pub(super) fn in_words(forms: &[&Value], short: bool) -> String {
    let names: Vec<String> = forms.iter().flat_map(|form| names(form)).map(|(name, _)| format!("`{name}`")).collect();
    let mut words: Vec<String> = match names.as_slice() {
        [] => Vec::new(),
        _ if short => vec!["a name".to_owned()],
        [one] => vec![one.clone()],
        several => vec![format!("one of {}", several.join(", "))],
    };
    for form in forms.iter().filter(|form| self::names(form).is_empty()) {
        words.extend(types(form).into_iter().map(|name| type_in_words(form, name)));
    }
    let mut seen = std::collections::HashSet::new();
    words.retain(|word| seen.insert(word.clone()));
    if words.is_empty() { "anything".to_owned() } else { words.join(" or ") }
}

fn type_in_words(form: &Value, name: &str) -> String {
    match name {
        "integer" => range(form),
        "array" => "an array".to_owned(),
        "object" => "an object".to_owned(),
        "boolean" => "true or false".to_owned(),
        "null" => "null".to_owned(),
        other => format!("a {other}"),
    }
}

/// The limits of an integer form: those stated, and those of its width.
pub(super) fn limits(form: &Value) -> (Option<i128>, Option<i128>) {
    let (low, high) = match form.get("format").and_then(Value::as_str) {
        Some("uint8") => (0, 255),
        Some("uint16") => (0, i128::from(u16::MAX)),
        Some("uint32") => (0, i128::from(u32::MAX)),
        Some("int32") => (i128::from(i32::MIN), i128::from(i32::MAX)),
        _ => (i128::MIN, i128::MAX),
    };
    let stated = |key| form.get(key).and_then(whole);
    let low = stated("minimum").unwrap_or(low).max(low);
    let high = stated("maximum").unwrap_or(high).min(high);
    ((low > i128::MIN).then_some(low), (high < i128::MAX).then_some(high))
}

/// A JSON number as an integer, if it is written as one.
pub(super) fn whole(value: &Value) -> Option<i128> {
    value.as_u64().map(i128::from).or_else(|| value.as_i64().map(i128::from))
}

fn range(form: &Value) -> String {
    match limits(form) {
        (Some(low), Some(high)) if high < 1 << 30 => format!("an integer from {low} to {high}"),
        (Some(low), _) if low > -(1 << 30) => format!("an integer of at least {low}"),
        _ => "an integer".to_owned(),
    }
}
