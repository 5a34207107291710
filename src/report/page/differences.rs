//! What differs between the configs of the runs.

use std::collections::BTreeMap;

use super::html::{Html, code, paragraph, table};
use super::records::flatten;
use super::section::{Scene, Section};
use crate::report::run::Run;

/// The keys whose values differ between the runs.
pub fn section(scene: &Scene) -> Section {
    let mut section = Section::new("differences", "Differences between the configs");
    if scene.runs.len() < 2 {
        return section;
    }
    let configs: Vec<BTreeMap<String, String>> = scene.runs.iter().map(config).collect();
    let mut keys: Vec<&String> = configs.iter().flat_map(BTreeMap::keys).collect();
    keys.sort();
    keys.dedup();
    keys.retain(|key| configs.iter().any(|config| config.get(*key) != configs[0].get(*key)));
    if keys.is_empty() {
        section.push(paragraph("The configs of these runs do not differ."));
        return section;
    }
    let cell = |value: Option<&String>| value.map_or_else(|| Html::text("–"), code);
    let rows = keys.iter().map(|key| [code(key)].into_iter().chain(configs.iter().map(|config| cell(config.get(*key)))).collect());
    let head: Vec<&str> = ["Key"].into_iter().chain(scene.runs.iter().map(|run| run.name.as_str())).collect();
    section.push(table("Differences between the configs", &head, rows));
    section
}

/// What makes an experiment, by dotted key.
pub fn config(run: &Run) -> BTreeMap<String, String> {
    let mut pairs = Vec::new();
    for (key, value) in run.config.as_object().into_iter().flatten() {
        if !["about", "run", "out"].contains(&key.as_str()) {
            flatten(key, value, &mut pairs);
        }
    }
    pairs.into_iter().collect()
}
