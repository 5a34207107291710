//! The largest value of every size. Beyond it arithmetic overflows or an allocation aborts, long before anything is trained; below it
//! [`RunConfig::check_memory`] decides.

use serde_json::Value;

use super::RunConfig;

/// The largest value of each size, by its key. Where several variants have a key of this name, it holds for all.
const MOST: [(&str, u64); 42] = [
    // Images are numbered in 32 bits, and a batch has to fit one tensor.
    ("data.batch", 1 << 20),
    ("data.micro_batch", 1 << 20),
    ("data.prefetch", 1 << 12),
    // More threads than any machine has.
    ("data.workers", 1 << 12),
    ("data.source.count", 1 << 30),
    ("data.source.test_count", 1 << 30),
    ("data.source.classes", 1 << 20),
    ("data.source.height", 1 << 14),
    ("data.source.width", 1 << 14),
    ("views.crop.size", 1 << 13),
    ("views.crops[].count", 1 << 6),
    ("views.crops[].size", 1 << 13),
    ("mixture.global.attempts", 1000),
    ("mixture.region.attempts", 1000),
    ("mixture.erase.attempts", 1 << 20),
    ("mixture.cutout.size", 1 << 16),
    // A pass over the images for each.
    ("mixture.partners", 1000),
    // The cursor of a queue is saved in 24 bits.
    ("method.memory.size", 1 << 24),
    ("method.negatives", 1 << 24),
    ("method.prototypes", 1 << 20),
    ("method.sinkhorn_iterations", 1000),
    ("method.predictor.hidden", 1 << 16),
    // Times the steps of an epoch.
    ("method.memory.start_epoch", 1 << 31),
    ("method.freeze_prototypes_steps", 1 << 50),
    ("model.stem_channels", 1 << 14),
    ("model.head.dim", 1 << 16),
    ("model.head.layers", 16),
    ("model.head.hidden", 1 << 16),
    ("model.bn_splits", 1 << 16),
    // Times the steps of an epoch, which number images in 32 bits.
    ("schedule.epochs", 1 << 31),
    ("schedule.steps", 1 << 50),
    ("log.preview", 1 << 12),
    ("eval.batch", 1 << 20),
    ("eval.knn.k", 1 << 30),
    ("eval.linear.epochs", 1 << 31),
    ("eval.linear.batch", 1 << 20),
    ("eval.linear.cache_mib", 1 << 30),
    ("eval.finetune.epochs", 1 << 31),
    ("eval.finetune.batch", 1 << 20),
    ("eval.monitor.images", 1 << 30),
    ("eval.monitor.linear_images", 1 << 30),
    // Times the steps of an epoch.
    ("checkpoint.keep.every_epochs", 1 << 31),
];

/// Integers of which any value is harmless: a seed, an interval that nothing reaches, the most of what there is, and what is 0 or 1.
#[cfg(test)]
const ANY: [&str; 8] = [
    "seed",
    "data.limit",
    "schedule.epoch_base",
    "checkpoint.every_steps",
    "checkpoint.every_epochs",
    "checkpoint.keep.last",
    "log.every_steps",
    "eval.monitor.every_epochs",
];

impl RunConfig {
    /// One line per size that no machine could have.
    pub(super) fn too_large(&self) -> Vec<String> {
        let Ok(value) = serde_json::to_value(self) else { return Vec::new() };
        let over = MOST.iter().flat_map(|&(key, most)| at(&value, key).into_iter().map(move |(key, value)| (key, most, value)));
        over.filter(|(_, most, value)| value > most)
            .map(|(key, most, value)| format!("`{key}` is {value}, must be at most {most}"))
            .collect()
    }
}

/// The whole numbers at a key, in which `[]` stands for every entry of a list, each with its own key.
fn at(config: &Value, key: &str) -> Vec<(String, u64)> {
    let number = |key: &str| Some((key.to_owned(), config.pointer(&format!("/{}", key.replace('.', "/")))?.as_u64()?));
    let Some((list, rest)) = key.split_once("[]") else { return number(key).into_iter().collect() };
    let entries = config.pointer(&format!("/{}", list.replace('.', "/"))).and_then(Value::as_array).map_or(0, Vec::len);
    (0..entries).filter_map(|entry| number(&format!("{list}.{entry}{rest}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema;

    /// Whoever adds a key of whole numbers says how large it may be, or that it may be anything.
    #[test]
    fn every_integer_of_the_schema_has_its_bound() {
        let keys = schema::keys::<RunConfig>();
        let integers = keys.iter().filter(|key| key.kind.contains("integer") && !key.kind.contains("name"));
        let without: Vec<&str> = integers
            .map(|key| key.path.as_str())
            .filter(|path| !ANY.contains(path) && !MOST.iter().any(|(known, _)| known == path))
            .collect();
        assert!(without.is_empty(), "{without:?}");
        let gone: Vec<&str> = MOST.iter().map(|(key, _)| *key).filter(|known| !keys.iter().any(|key| key.path == *known)).collect();
        assert!(gone.is_empty(), "{gone:?}");
    }

    /// All sizes at their largest: whatever the answer is, it comes without overflow and in no time.
    #[test]
    fn one_more_than_the_most_is_refused_and_the_most_overflows_nothing() {
        for (key, most) in MOST {
            for value in [most, most + 1, u64::MAX] {
                let mut config = serde_json::json!({"schedule": {"steps": 1}});
                let variant = match key {
                    "method.negatives" => "method.name=insdis",
                    "method.predictor.hidden" => "method.name=byol",
                    "method.prototypes"
                    | "method.sinkhorn_iterations"
                    | "method.memory.start_epoch"
                    | "method.freeze_prototypes_steps" => "method.name=swav",
                    key if key.starts_with("data.source") => "data.source.name=synthetic",
                    "mixture.cutout.size" => "mixture.name=cutout",
                    "mixture.partners" => "mixture.name=inputmix",
                    key if key.starts_with("mixture.erase") => "mixture.name=erase",
                    key if key.starts_with("mixture.") => "mixture.name=im",
                    _ => "seed=1",
                };
                super::super::layer::set(&mut config, variant).unwrap();
                let setting = match key.split_once("[].") {
                    Some((list, "count")) => format!("{list}=[{{\"count\": {value}}}]"),
                    Some((list, name)) => format!("{list}=[{{\"count\": 1, \"{name}\": {value}}}]"),
                    None => format!("{key}={value}"),
                };
                super::super::layer::set(&mut config, &setting).unwrap();
                let key = key.replace("[]", ".0");
                let said = RunConfig::from_value(config).err().map(|error| error.details().join("\n")).unwrap_or_default();
                // Some types end before 64 bits do.
                let refused = said.contains(&format!("`{key}` is {value}, must be at most {most}"))
                    || said.contains(&format!("`{key}`: got {value}"));
                assert_eq!(refused, value > most, "{key} = {value}: {said}");
            }
        }
    }
}
