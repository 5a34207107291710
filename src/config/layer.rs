//! A config in layers: the type's defaults, then a file, then `--set` arguments; the last one wins.

use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::check::{self, Problem};
use super::schema;
use crate::error::{Error, Result, nearest};

/// Reads a JSON file.
///
/// # Errors
/// No such file (a similar name beside it is suggested), or not JSON, a key given twice included; with line and column.
pub fn read(path: impl AsRef<Path>) -> Result<Value> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|error| {
        let base = Error::io("read", path, &error);
        similar(path).map_or(base.clone(), |hint| base.hint(hint))
    })?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::input(format!("`{}` is not a text file", path.display())))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    parse(text).map_err(|error| {
        let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default().trim();
        Error::input(format!("`{}` is not valid JSON: {error}", path.display()))
            .detail(format!("line {}: {line}", error.line()))
            .hint("JSON has no comments, no comma before a closing bracket, and each key once; free text goes in `about`")
    })
}

/// Applies one `--set` argument, `key.path=value`. The value is JSON, or what people write for it: `.1`, `+5`, `1e4` where a number is wanted,
/// `True`, `None`; where a text is wanted it is the text, digits included. Objects on the way are created; a number in the path is an array's index.
///
/// # Errors
/// No `=`, an empty key, a path through something that holds no keys, an index past the end.
pub fn set(value: &mut Value, assignment: &str) -> Result<()> {
    let bad = |fact: String| Error::input(format!("--set {assignment}: {fact}"));
    let (path, text) = assignment
        .split_once('=')
        .ok_or_else(|| bad("no `=` in it".to_owned()).hint("write --set key.path=value, for example --set optim.lr=0.06"))?;
    let path = path.trim();
    if path.split('.').any(str::is_empty) {
        return Err(bad(format!("`{path}` is not a key path")).hint("write --set key.path=value"));
    }
    // A failed assignment leaves nothing half created.
    let mut changed = value.clone();
    let mut place = &mut changed;
    let mut walked = String::new();
    for segment in path.split('.') {
        place = enter(place, segment, &walked).map_err(bad)?;
        walked = schema::join(&walked, segment);
    }
    *place = written(&schema::forms_at(schema::cached::<super::RunConfig>(), value, path), text);
    *value = changed;
    Ok(())
}

/// The value that a text stands for where one of `forms` is wanted.
fn written(forms: &[&Value], text: &str) -> Value {
    let fits = |value: &Value| forms.iter().any(|form| check::fits(form, value));
    let parsed = parse(text).ok();
    let exact = parsed.clone().filter(|value| value.is_object() || value.is_array() || value.is_string() || fits(value));
    let as_text = || Some(Value::String(text.to_owned())).filter(&fits);
    exact
        .or_else(as_text)
        .or_else(|| loosely(text).into_iter().find(&fits))
        .or(parsed)
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// What a text that is no JSON may mean.
fn loosely(text: &str) -> Vec<Value> {
    let word = match text.trim().to_lowercase().as_str() {
        "true" | "yes" | "on" => Some(Value::Bool(true)),
        "false" | "no" | "off" => Some(Value::Bool(false)),
        "none" | "null" => Some(Value::Null),
        _ => None,
    };
    let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    // Beyond 2^53 a float is no longer the integer that was written.
    let whole =
        number.filter(|number| number.fract() == 0.0 && (0.0..9e15).contains(number)).map(|number| Value::from(number as u64));
    word.into_iter().chain(whole).chain(number.map(Value::from)).collect()
}

/// The place of one path segment, created if it is a new key.
fn enter<'a>(place: &'a mut Value, segment: &str, walked: &str) -> Result<&'a mut Value, String> {
    if place.is_null() {
        if segment.parse::<usize>().is_ok() {
            return Err(format!("`{walked}` is not in the config, so it has no entry {segment}; set the whole array"));
        }
        *place = Value::Object(Map::new());
    }
    match place {
        Value::Object(map) => Ok(map.entry(segment).or_insert(Value::Null)),
        Value::Array(items) => {
            let count = items.len();
            let index: usize = segment.parse().map_err(|_| format!("`{walked}` is an array, `{segment}` is not an index"))?;
            items.get_mut(index).ok_or_else(|| format!("`{walked}` has {count} entries, so there is no entry {segment}"))
        }
        _ => Err(format!("`{walked}` is a single value and has no `{segment}`")),
    }
}

/// Checks a value against the type and turns it into one. A top-level `$schema`, by which editors find the schema, is ignored.
///
/// # Errors
/// All unknown keys and wrong values, one detail line each.
pub fn resolve<T: DeserializeOwned + JsonSchema + 'static>(value: Value) -> Result<T> {
    let (resolved, problems) = resolve_rest(value)?;
    if problems.is_empty() { Ok(resolved) } else { Err(refusal(problems.into_iter().map(|problem| problem.line).collect())) }
}

/// As [`resolve`], with defaults in the place of what is wrong, which comes beside it.
///
/// # Errors
/// What is left is no config either.
pub fn resolve_rest<T: DeserializeOwned + JsonSchema + 'static>(mut value: Value) -> Result<(T, Vec<Problem>)> {
    if let Some(map) = value.as_object_mut() {
        map.shift_remove("$schema");
    }
    let problems = check::problems(schema::cached::<T>(), &mut value);
    problems.iter().for_each(|problem| remove(&mut value, &problem.path));
    match serde_json::from_value(value) {
        Ok(resolved) => Ok((resolved, problems)),
        Err(_) if !problems.is_empty() => Err(refusal(problems.into_iter().map(|problem| problem.line).collect())),
        Err(error) => Err(Error::input(format!("the config cannot be used: {error}"))),
    }
}

/// One error of all problems.
pub fn refusal(problems: Vec<String>) -> Error {
    let count = if problems.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", problems.len()) };
    let error = problems.into_iter().fold(Error::input(format!("the config has {count}")), Error::detail);
    error.hint("`unmix config schema --table` lists every key with its default")
}

/// Takes the key at a path away. An entry of an array cannot go alone: the array does.
pub fn remove(value: &mut Value, path: &str) {
    let (key, rest) = path.split_once('.').unwrap_or((path, ""));
    let entry = rest.split('.').next().is_some_and(|next| next.parse::<usize>().is_ok());
    match value.as_object_mut() {
        Some(map) if rest.is_empty() || entry => drop(map.shift_remove(key)),
        Some(map) => map.get_mut(key).into_iter().for_each(|inner| remove(inner, rest)),
        None if path.is_empty() => *value = Value::Object(Map::new()),
        None => {}
    }
}

/// A suggestion for a file that is not there: the nearest name of the same folder.
fn similar(path: &Path) -> Option<String> {
    if path.exists() {
        return None;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let names: Vec<String> = entries.filter(|name| name.ends_with(".json")).collect();
    let name = path.file_name()?.to_str()?;
    (!names.is_empty()).then(|| format!("in `{}`: {}", folder.display(), nearest(name, names.iter().map(String::as_str))))
}

fn parse(text: &str) -> serde_json::Result<Value> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Reads any JSON value, but refuses a key given twice, of which the usual reader keeps the last without a word.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key `{key}` is given twice")));
            }
            map.insert(key, entries.next_value_seed(Strict)?);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests;
