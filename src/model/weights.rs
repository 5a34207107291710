//! Weights from other programs: which tensors of a file are the model's, whatever they are called there, and files for other programs.
//!
//! A file may wrap the encoder in anything (`state_dict`, `module.encoder_q`, `model.encoder.module`): the prefix is the one below which
//! the whole backbone is found, name by name and shape by shape. The head may be absent or another one.

mod file;
mod pytorch;
mod sequential;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use burn::module::Module;
use safetensors::{Dtype, tensor::TensorView};

use self::file::Stored;
use super::state::{self, StateDict};
use crate::error::{Error, Result};
use crate::files;

/// The head's names in a state dict begin so.
const HEAD: &str = "fc.";
/// PyTorch's count of updates of a norm, an integer. Only a norm without a momentum reads it.
const COUNTER: &str = "num_batches_tracked";
/// A wrapper whose name holds one of these words is a slowly moving copy: taken only where there is nothing else.
const COPIES: [&str; 6] = ["k", "key", "ema", "momentum", "teacher", "target"];
/// The most names listed in an error.
const LISTED: usize = 10;

/// What was taken from a file, and what was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What stood before the names in the file, for example `state_dict.module.encoder_q.`.
    pub prefix: String,
    /// How many tensors were taken.
    pub used: usize,
    /// How many of them were stored in another floating-point type and converted to f32.
    pub converted: usize,
    /// Why the head was left as it was, if it was.
    pub head: Option<String>,
    /// What the file holds besides, by the first part of the name that tells it apart, with the number of tensors.
    pub ignored: Vec<(String, usize)>,
    /// Classes beside the weights, of which nothing was read or run.
    pub foreign: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = if self.prefix.is_empty() { String::new() } else { format!(" below `{}`", self.prefix) };
        let part = if self.head.is_some() { "the backbone" } else { "backbone and head" };
        write!(f, "{} tensors{below}: {part}", self.used)?;
        if self.converted > 0 {
            write!(f, ", {} of them converted to f32", self.converted)?;
        }
        if let Some(why) = &self.head {
            write!(f, "\nthe head is left as it was: {why}")?;
        }
        if !self.ignored.is_empty() {
            let names: Vec<String> = self.ignored.iter().map(|(name, count)| format!("{name} ({count})")).collect();
            write!(f, "\nnot used: {}", names.join(", "))?;
        }
        if !self.foreign.is_empty() {
            let more = self.foreign.len().saturating_sub(LISTED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            write!(f, "\npassed over, not run: {}{more}", self.foreign[..self.foreign.len().min(LISTED)].join(", "))?;
        }
        Ok(())
    }
}

/// Puts the weights of a `.safetensors`, `.pth` or `.pt` file into a module. The backbone must fit exactly; a head that does not is left
/// as it is, or with `strict` an error, as is everything else below the encoder's prefix. Nothing in the file is run.
///
/// # Errors
/// A missing, damaged or foreign file; a backbone that lacks tensors, has others, or has them in other shapes; values that are not finite.
pub fn load_into<M: Module>(module: M, path: &Path, strict: bool) -> Result<(M, Report)> {
    let mut values = state::collect(&module);
    let (found, report) = read(path, &values, strict)?;
    values.extend(found);
    Ok((state::load(module, &values)?, report))
}

/// The tensors of a file that a model with the state dict `own` takes, by the model's names: its backbone, and its head if that fits.
///
/// # Errors
/// As [`load_into`].
pub fn read(path: &Path, own: &StateDict, strict: bool) -> Result<(StateDict, Report)> {
    let file::Contents { tensors: mut stored, foreign } = file::open(path)?;
    let mut prefix = prefix(own, &stored);
    if !backbone_problems(own, &stored, &prefix).is_empty()
        && let Some(below) = sequential::name(own, &mut stored)
    {
        prefix = below;
    }
    let at = |name: &str| stored.get(&format!("{prefix}{name}"));
    let problems = backbone_problems(own, &stored, &prefix);
    if !problems.is_empty() {
        return Err(file::passed_over(unfit(path, &stored, own, &prefix, problems), &foreign));
    }
    let head = head_problem(own, &stored, &prefix);
    let mut used: BTreeSet<&str> = own.keys().map(String::as_str).collect();
    if head.is_some() {
        used.retain(|name| !name.starts_with(HEAD));
    }
    let below = |name: &'_ str| name.strip_prefix(&prefix).is_some_and(|rest| !used.contains(rest));
    let ignored: Vec<&String> = stored.keys().filter(|name| !name.ends_with(COUNTER)).collect();
    let ignored: Vec<&String> = ignored.into_iter().filter(|name| below(name) || !name.starts_with(&prefix)).collect();
    if strict {
        let extra = ignored.iter().filter(|name| below(name)).map(|name| format!("not in the model: {name}"));
        let problems: Vec<String> = head.iter().map(|why| format!("the head: {why}")).chain(extra).collect();
        if !problems.is_empty() {
            return Err(listing(format!("`{}` does not fit the model exactly", path.display()), problems)
                .hint("without `strict` a head that does not fit is left at its initial values, and the rest is ignored"));
        }
    }

    let mut values = StateDict::new();
    for name in &used {
        let data = at(name).expect("the names were compared").values().map_err(|what| file::damaged(path, &what))?;
        if !data.iter::<f32>().all(f32::is_finite) {
            return Err(Error::input(format!("`{prefix}{name}` in `{}` holds values that are not finite", path.display()))
                .hint("the training that wrote it had diverged: take an earlier checkpoint of it"));
        }
        values.insert((*name).to_owned(), data);
    }
    let converted = used.iter().filter(|name| at(name).is_some_and(|stored| stored.needs_conversion())).count();
    let report = Report { used: values.len(), converted, head, ignored: grouped(&ignored, &prefix), prefix, foreign };
    Ok((values, report))
}

/// What stands before the model's names: of the prefixes below which the whole backbone fits, the longest of those that do not belong to
/// a copy. If none fits, the one with the most names in common.
fn prefix(own: &StateDict, stored: &BTreeMap<String, Stored>) -> String {
    let mut candidates = BTreeSet::new();
    for file_name in stored.keys() {
        for name in backbone(own).map(|(name, _)| name) {
            if let Some(before) = file_name.strip_suffix(name.as_str()).filter(|p| p.is_empty() || p.ends_with('.')) {
                candidates.insert(before);
            }
        }
    }
    let rank = |prefix: &&str| {
        let common = backbone(own).filter(|(name, _)| stored.contains_key(&format!("{prefix}{name}"))).count();
        (backbone_problems(own, stored, prefix).is_empty(), common, !is_copy(prefix), prefix.len())
    };
    candidates.into_iter().max_by_key(rank).unwrap_or_default().to_owned()
}

fn is_copy(prefix: &str) -> bool {
    prefix.split(['.', '_']).any(|word| COPIES.contains(&word))
}

/// The model's tensors without its head.
fn backbone(own: &StateDict) -> impl Iterator<Item = (&String, &burn::tensor::TensorData)> {
    own.iter().filter(|(name, _)| !name.starts_with(HEAD))
}

/// One line for every tensor of the backbone that is missing, of another shape or type, or too many.
fn backbone_problems(own: &StateDict, stored: &BTreeMap<String, Stored>, prefix: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, value) in backbone(own) {
        let want = value.shape().to_vec();
        match stored.get(&format!("{prefix}{name}")) {
            None => problems.push(format!("missing: {prefix}{name} {want:?}")),
            Some(found) if found.shape != want => {
                problems.push(format!("shape of {prefix}{name}: the file has {:?}, the model {want:?}", found.shape));
            }
            Some(found) if !found.is_float() => problems.push(format!("type of {prefix}{name}: {}", found.kind)),
            Some(_) => {}
        }
    }
    let first = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let parts: BTreeSet<String> = backbone(own).map(|(name, _)| first(name)).collect();
    for (full, rest) in stored.keys().filter_map(|full| Some((full, full.strip_prefix(prefix)?))) {
        if parts.contains(&first(rest)) && !own.contains_key(rest) && !rest.ends_with(COUNTER) {
            problems.push(format!("not in the model: {full}"));
        }
    }
    problems
}

/// Why the model's head cannot be taken from the file.
fn head_problem(own: &StateDict, stored: &BTreeMap<String, Stored>, prefix: &str) -> Option<String> {
    let start = format!("{prefix}{HEAD}");
    let in_file: Vec<(&str, &Stored)> = stored
        .iter()
        .filter(|(name, _)| name.starts_with(&start) && !name.ends_with(COUNTER))
        .map(|(name, found)| (&name[prefix.len()..], found))
        .collect();
    let in_model: Vec<(&str, Vec<usize>)> =
        own.iter().filter(|(name, _)| name.starts_with(HEAD)).map(|(name, data)| (name.as_str(), data.shape().to_vec())).collect();
    let same = in_file.len() == in_model.len()
        && in_file.iter().zip(&in_model).all(|((a, found), (b, want))| a == b && found.shape == *want && found.is_float());
    if same {
        return None;
    }
    let weights = |names: Vec<(&str, &[usize])>| {
        let shown: Vec<String> =
            names.iter().filter(|(name, _)| name.ends_with("weight")).map(|(name, shape)| format!("{name} {shape:?}")).collect();
        if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
    };
    Some(format!(
        "the file has {}, the model {}",
        weights(in_file.iter().map(|(name, found)| (*name, found.shape.as_slice())).collect()),
        weights(in_model.iter().map(|(name, shape)| (*name, shape.as_slice())).collect())
    ))
}

/// Names with their number, by the part that first differs from the prefix.
fn grouped(names: &[&String], prefix: &str) -> Vec<(String, usize)> {
    let mut groups = BTreeMap::new();
    for name in names {
        let ends = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
        let group = ends.map(|end| &name[..end]).find(|start| !prefix.starts_with(&format!("{start}."))).unwrap_or(name);
        *groups.entry(group.to_owned()).or_insert(0) += 1;
    }
    groups.into_iter().collect()
}

fn unfit(path: &Path, stored: &BTreeMap<String, Stored>, own: &StateDict, prefix: &str, problems: Vec<String>) -> Error {
    let common = backbone(own).filter(|(name, _)| stored.contains_key(&format!("{prefix}{name}"))).count();
    if common == 0 {
        let names = stored.iter().map(|(name, found)| format!("it holds: {name} {:?}", found.shape)).collect();
        return listing(format!("`{}` holds no tensor of the model's backbone", path.display()), names)
            .hint("the names must end as in torchvision: conv1.weight, bn1.running_mean, layer1.0.conv1.weight, ...");
    }
    let below = if prefix.is_empty() { String::new() } else { format!(" (names below `{prefix}`)") };
    listing(format!("the weights in `{}` do not fit the model{below}", path.display()), problems)
        .hint("`model.name`, `model.width`, `model.stem` and `model.stem_channels` must be those the weights were trained with")
}

/// An error with its first details.
fn listing(what: String, lines: Vec<String>) -> Error {
    let more = lines.len().saturating_sub(LISTED);
    let error = lines.into_iter().take(LISTED).fold(Error::input(what), Error::detail);
    if more > 0 { error.detail(format!("... and {more} more")) } else { error }
}

/// What [`write()`] noted in the file; `None` for files of other programs.
///
/// # Errors
/// The file cannot be read.
pub fn about(path: &Path) -> Result<Option<serde_json::Value>> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read the weights", path, &e))?;
    let Ok((_, header)) = safetensors::SafeTensors::read_metadata(&bytes) else { return Ok(None) };
    let text = header.metadata().as_ref().and_then(|entries| entries.get("unmix"));
    Ok(text.and_then(|text| serde_json::from_str(text).ok()))
}

/// Writes a state dict for other programs: safetensors with PyTorch's `num_batches_tracked` (0) beside every running mean, and `about` as
/// JSON text in the metadata entry `unmix`.
///
/// # Errors
/// Those of the disk.
pub fn write(path: &Path, tensors: &StateDict, about: &serde_json::Value) -> Result<()> {
    const ZERO: [u8; 8] = 0i64.to_le_bytes();
    let broken = |e: &dyn fmt::Display| Error::run(format!("cannot write `{}`: {e}", path.display()));
    let view = |kind, shape: &[usize], bytes| TensorView::new(kind, shape.to_vec(), bytes).map_err(|e| broken(&e));
    let bytes: BTreeMap<&String, (Vec<usize>, &[u8])> =
        tensors.iter().map(|(name, data)| (name, (data.shape().to_vec(), data.as_bytes()))).collect();
    let mut views = Vec::new();
    for (name, (shape, bytes)) in &bytes {
        views.push(((*name).clone(), view(Dtype::F32, shape, bytes)?));
        if let Some(norm) = name.strip_suffix("running_mean") {
            views.push((format!("{norm}{COUNTER}"), view(Dtype::I64, &[], &ZERO)?));
        }
    }
    // One entry: several would be written in an order of chance.
    let metadata = [("unmix".to_owned(), about.to_string())].into();
    let packed = safetensors::serialize(views, Some(metadata)).map_err(|e| broken(&e))?;
    files::write_atomic(path, &packed)
}

#[cfg(test)]
mod made_tests;
#[cfg(test)]
mod tests;
