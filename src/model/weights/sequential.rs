//! Backbones whose children were put into a `Sequential`, as lightly and many tutorials do: `nn.Sequential(*list(resnet.children())[:-1])`
//! names them by number.

use std::collections::{BTreeMap, BTreeSet};

use super::file::Stored;
use super::{StateDict, backbone, backbone_problems};

/// Gives the children of a `Sequential` in `stored` the names of a ResNet, if it fits the model by them, and returns what stands before the
/// names. Child 0 is the convolution of the stem, 1 its norm, and those with blocks are the layers, in order: the others (activation, pooling)
/// have no weights.
pub(super) fn name(own: &StateDict, stored: &mut BTreeMap<String, Stored>) -> Option<String> {
    if !backbone(own).any(|(name, _)| name.starts_with("layer1.")) {
        return None;
    }
    let stems = stored.keys().filter_map(|name| name.strip_suffix("0.weight")).filter(|p| p.is_empty() || p.ends_with('.'));
    let prefixes: Vec<String> = stems.map(str::to_owned).collect();
    // Copies that follow slowly come last, as they do by other names.
    let (copies, first): (Vec<String>, Vec<String>) = prefixes.into_iter().partition(|prefix| super::is_copy(prefix));
    first.into_iter().chain(copies).find_map(|prefix| fit(own, stored, &prefix).then_some(prefix))
}

fn fit(own: &StateDict, stored: &mut BTreeMap<String, Stored>, prefix: &str) -> bool {
    let child = |name: &str| -> Option<(usize, String)> {
        let (number, rest) = name.strip_prefix(prefix)?.split_once('.')?;
        Some((number.parse().ok()?, rest.to_owned()))
    };
    let blocks =
        |rest: &str| rest.split_once('.').is_some_and(|(block, rest)| block.parse::<usize>().is_ok() && rest.contains('.'));
    let layers: BTreeSet<usize> =
        stored.keys().filter_map(|name| child(name)).filter(|(_, rest)| blocks(rest)).map(|(number, _)| number).collect();
    let layers: Vec<usize> = layers.into_iter().collect();
    let named = |name: &str| -> Option<String> {
        let (number, rest) = child(name)?;
        let part = match number {
            0 => "conv1".to_owned(),
            1 => "bn1".to_owned(),
            other => format!("layer{}", layers.iter().position(|&layer| layer == other)? + 1),
        };
        Some(format!("{prefix}{part}.{rest}"))
    };
    let renames: Vec<(String, String)> = stored.keys().filter_map(|name| Some((name.clone(), named(name)?))).collect();
    if renames.is_empty() || renames.iter().any(|(_, new)| stored.contains_key(new)) {
        return false;
    }
    rename(stored, &renames);
    let fits = backbone_problems(own, stored, prefix).is_empty();
    if !fits {
        let back: Vec<(String, String)> = renames.into_iter().map(|(old, new)| (new, old)).collect();
        rename(stored, &back);
    }
    fits
}

fn rename(stored: &mut BTreeMap<String, Stored>, renames: &[(String, String)]) {
    for (old, new) in renames {
        if let Some(tensor) = stored.remove(old) {
            stored.insert(new.clone(), tensor);
        }
    }
}
