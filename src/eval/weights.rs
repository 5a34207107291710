//! The weights of an encoder, layer by layer: the fifth figure of arXiv 2003.05438.

use serde::{Deserialize, Serialize};

use super::measures::Histogram;
use crate::model::Frozen;
use crate::model::state;

/// The weights of one layer before and after training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerWeights {
    /// The layer, by the beginning of its parameters' names: `conv1`, `layer3`, `fc`.
    pub name: String,
    /// After training.
    pub trained: Histogram,
    /// Of the same encoder before the first step, where that is known.
    pub untrained: Option<Histogram>,
}

/// Histograms of the weights of convolutions and linear layers, in the order of a forward as far as names tell it: the backbone's layers by name,
/// then the head's. Biases and norms, which have one axis, are left out. `untrained` is an encoder of the same form.
pub fn by_layer(trained: &Frozen, untrained: Option<&Frozen>) -> Vec<LayerWeights> {
    let before = untrained.map(layers);
    let layer = |(at, (name, trained)): (usize, (String, Vec<f32>))| LayerWeights {
        name,
        trained: Histogram::of(trained.into_iter()),
        untrained: before.as_ref().map(|layers| Histogram::of(layers[at].1.iter().copied())),
    };
    layers(trained).into_iter().enumerate().map(layer).collect()
}

/// Name and weights of each layer.
fn layers(encoder: &Frozen) -> Vec<(String, Vec<f32>)> {
    let mut layers: Vec<(String, Vec<f32>)> = Vec::new();
    for (part, _, net) in &encoder.parts {
        let backbone = state::collect(&net.backbone);
        let (first, last): (Vec<_>, Vec<_>) = state::collect(net).into_iter().partition(|(name, _)| backbone.contains_key(name));
        for (name, data) in first.into_iter().chain(last).filter(|(_, data)| data.shape().len() > 1) {
            let layer = layer_of(&name);
            // Of a pair of nets each has its own.
            let layer = if encoder.parts.len() > 1 { format!("{part}.{layer}") } else { layer.to_owned() };
            let values = data.as_slice::<f32>().expect("weights are f32");
            match layers.last_mut().filter(|(last, _)| *last == layer) {
                Some((_, all)) => all.extend_from_slice(values),
                None => layers.push((layer, values.to_vec())),
            }
        }
    }
    layers
}

/// The beginning of a parameter's name up to its first number: `layer1` of `layer1.0.conv2.weight`, `fc.2` of `fc.2.weight`, `fc` of `fc.weight`.
fn layer_of(name: &str) -> &str {
    let mut end = 0;
    for part in name.split('.') {
        if part == "weight" {
            break;
        }
        end += part.len() + usize::from(end > 0);
        if part.ends_with(|c: char| c.is_ascii_digit()) {
            break;
        }
    }
    &name[..end]
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::model::{HeadName, ModelConfig};

    #[test]
    fn a_layer_is_named_by_the_beginning_of_its_parameters() {
        let names = [
            "conv1.weight",
            "layer1.0.conv2.weight",
            "layer4.1.downsample.0.weight",
            "fc.weight",
            "fc.2.weight",
            "convs.3.0.weight",
        ];
        assert_eq!(names.map(layer_of), ["conv1", "layer1", "layer4", "fc", "fc.2", "convs.3"]);
    }

    /// Every weight is in one layer, the layers are in their order, and an untrained encoder stands beside itself.
    #[test]
    fn all_weights_are_counted_by_layer() {
        let model = ModelConfig { width: 0.125, stem_channels: 8, ..ModelConfig::default() };
        let model = ModelConfig { head: crate::model::HeadConfig { name: HeadName::Mlp, ..model.head.clone() }, ..model };
        let encoder = |seed| Frozen::one("query", model.init(3, seed, "query", &Device::flex()));
        let (one, other) = (encoder(1), encoder(2));
        let found = by_layer(&one, Some(&other));
        let names: Vec<&str> = found.iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!(names, ["conv1", "layer1", "layer2", "layer3", "layer4", "fc.0", "fc.2"]);
        let all = state::collect(&one.parts[0].2);
        let weights: usize = all.values().filter(|data| data.shape().len() > 1).map(|data| data.num_elements()).sum();
        assert_eq!(found.iter().map(|layer| layer.trained.count).sum::<usize>(), weights);
        assert!(found.iter().all(|layer| layer.untrained.as_ref().is_some_and(|other| *other != layer.trained)));
        assert!(by_layer(&one, Some(&one)).iter().all(|layer| layer.untrained.as_ref() == Some(&layer.trained)));
        assert_eq!(by_layer(&one, None)[0].untrained, None);
    }
}
