//! The layers of an encoder: what each puts out, how a probe reads it, and the names by which configs, flags and results call it.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pooling::Pool;
use crate::error::{Error, Result, nearest};

/// What one layer puts out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// A map `[n, c, h, w]`. A probe reads it pooled, or flattened as it is where there is no pooling.
    Map(Option<Pool>),
    /// Rows `[n, f]`, which are read as they are.
    Rows,
    /// Unit rows `[n, d]`: the output of the head.
    Embedding,
}

/// The layers of a backbone and its head in the order of a forward, numbered from 1: maps, then rows, then the embedding. The last rows
/// are the features, that is, what the head gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers(Vec<Layer>);

impl Layers {
    /// Of a backbone with these `maps` and this number of `rows`, at least one.
    pub fn new(maps: impl IntoIterator<Item = Option<Pool>>, rows: usize) -> Self {
        assert!(rows > 0, "every backbone has features");
        let rows = std::iter::repeat_n(Layer::Rows, rows);
        Self(maps.into_iter().map(Layer::Map).chain(rows).chain([Layer::Embedding]).collect())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Number of the embedding, the last layer.
    pub fn embedding(&self) -> usize {
        self.count()
    }

    /// Number of the features, the layer before the head.
    pub fn features(&self) -> usize {
        self.count() - 1
    }

    /// What layer `number` (from 1) puts out; `None` where there is no such layer.
    pub fn get(&self, number: usize) -> Option<Layer> {
        self.0.get(number.checked_sub(1)?).copied()
    }

    /// What layer `number` is called: `map`, `rows`, `features` or `embedding`.
    pub fn name(&self, number: usize) -> &'static str {
        match self.get(number) {
            Some(Layer::Embedding) => "embedding",
            Some(Layer::Rows) if number == self.features() => "features",
            Some(Layer::Rows) => "rows",
            Some(Layer::Map(_)) => "map",
            None => "no layer",
        }
    }

    /// The number in words for a reader: `6 (features)`, or just `2` for a layer without a name of its own.
    pub fn shown(&self, number: usize) -> String {
        match self.name(number) {
            name @ ("features" | "embedding") => format!("{number} ({name})"),
            _ => number.to_string(),
        }
    }

    /// Refuses numbers of layers that do not exist; `key` is where they were asked for.
    ///
    /// # Errors
    /// A number that is 0 or above that of the embedding; the error lists what there is.
    pub fn require(&self, numbers: &[usize], key: &str) -> Result<()> {
        match numbers.iter().find(|number| self.get(**number).is_none()) {
            None => Ok(()),
            Some(number) => Err(self.missing(key, number)),
        }
    }

    fn missing(&self, key: &str, asked: &dyn fmt::Display) -> Error {
        let (features, last) = (self.features(), self.embedding());
        Error::input(format!("`{key}` is {asked}, but this encoder has layers 1 to {last}"))
            .hint(format!("{last} is the embedding, {features} the features before the head; -1 counts from the end"))
    }
}

impl Serialize for Layers {
    /// As the list of their names, the first one being layer 1.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((1..=self.count()).map(|number| self.name(number)))
    }
}

/// The layers that have a name in every backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NamedLayer {
    /// What the head gets: the pooled map of a ResNet, the second hidden layer of AlexNet.
    Features,
    /// The output of the head, as unit rows.
    Embedding,
}

/// How a config or a flag calls a layer: `features`, `embedding`, or a number from 1, where -1 is the last layer. A name means the same in
/// every backbone, a number does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LayerName {
    /// By its name.
    Named(NamedLayer),
    /// By its number from 1, or from the end if it is negative.
    Number(i64),
}

impl LayerName {
    /// What the head gets.
    pub const FEATURES: Self = Self::Named(NamedLayer::Features);
    /// The output of the head.
    pub const EMBEDDING: Self = Self::Named(NamedLayer::Embedding);

    /// The number (from 1) of this layer among `layers`; `key` is where it was asked for.
    ///
    /// # Errors
    /// There is no such layer; the error lists what there is.
    pub fn resolve(self, layers: &Layers, key: &str) -> Result<usize> {
        let count = layers.count() as i64;
        match self {
            Self::Named(NamedLayer::Features) => Ok(layers.features()),
            Self::Named(NamedLayer::Embedding) => Ok(layers.embedding()),
            Self::Number(number) if (1..=count).contains(&number) => Ok(number as usize),
            Self::Number(number) if (-count..0).contains(&number) => Ok((count + 1 + number) as usize),
            Self::Number(number) => Err(layers.missing(key, &number)),
        }
    }

    /// The numbers of several layers, each asked for once.
    ///
    /// # Errors
    /// There is no such layer, or one is named twice.
    pub fn resolve_all(names: &[Self], layers: &Layers, key: &str) -> Result<Vec<usize>> {
        let numbers = names.iter().map(|name| name.resolve(layers, key)).collect::<Result<Vec<usize>>>()?;
        let again = numbers.iter().enumerate().find(|(at, number)| numbers[..*at].contains(number));
        match again {
            None => Ok(numbers),
            Some((_, number)) => Err(Error::input(format!("`{key}` names layer {} more than once", layers.shown(*number)))
                .hint("name each layer once; `features` and `embedding` are the last two")),
        }
    }
}

impl fmt::Display for LayerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(NamedLayer::Features) => f.write_str("features"),
            Self::Named(NamedLayer::Embedding) => f.write_str("embedding"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl FromStr for LayerName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "features" => Ok(Self::FEATURES),
            "embedding" => Ok(Self::EMBEDDING),
            number => number.parse().map(Self::Number).map_err(|_| {
                format!("`{text}` is no layer; {}, or a number from 1 (-1 is the last)", nearest(text, ["features", "embedding"]))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resnet() -> Layers {
        Layers::new([None; 5], 1)
    }

    #[test]
    fn names_mean_the_same_in_every_backbone_and_negative_numbers_count_from_the_end() {
        let alexnet = Layers::new([None; 5], 2);
        let number = |name: &str, layers: &Layers| name.parse::<LayerName>().unwrap().resolve(layers, "layer").unwrap();
        assert_eq!([number("features", &resnet()), number("features", &alexnet)], [6, 7]);
        assert_eq!([number("embedding", &resnet()), number("-1", &alexnet)], [7, 8]);
        assert_eq!([number("1", &resnet()), number("-7", &resnet()), number("-2", &alexnet)], [1, 1, 7]);
        assert_eq!(serde_json::to_string(&alexnet).unwrap().matches("map").count(), 5);
        assert!(serde_json::to_string(&alexnet).unwrap().ends_with(r#""rows","features","embedding"]"#));
    }

    #[test]
    fn a_layer_that_is_not_there_is_an_error_that_lists_what_is() {
        for wrong in [0, 8, -8] {
            let error = LayerName::Number(wrong).resolve(&resnet(), "eval.knn.layer").unwrap_err();
            assert!(error.message().contains("layers 1 to 7") && error.hints()[0].contains("7 is the embedding"), "{error:?}");
        }
        let twice = [LayerName::FEATURES, LayerName::Number(6)];
        assert!(LayerName::resolve_all(&twice, &resnet(), "layer").unwrap_err().message().contains("6 (features) more than once"));
        assert!("featurs".parse::<LayerName>().unwrap_err().contains("features"));
    }

    #[test]
    fn a_config_holds_a_name_or_a_number() {
        for (json, name) in [("\"features\"", LayerName::FEATURES), ("7", LayerName::Number(7)), ("-1", LayerName::Number(-1))] {
            assert_eq!(serde_json::from_str::<LayerName>(json).unwrap(), name);
            assert_eq!(serde_json::to_string(&name).unwrap(), json);
        }
        assert!(serde_json::from_str::<LayerName>("\"pooled\"").is_err());
    }
}
