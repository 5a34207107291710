//! The tables `mixture.global`, `mixture.region`, `mixture.cutout` and `mixture.erase`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Global mixture (Mixup).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GlobalConfig {
    /// The weight of the own image is drawn from Beta(alpha, alpha). Above 0.
    pub alpha: f64,
    /// Attempts per image; each may mix once more into the result of the one before.
    pub attempts: u32,
    /// Probability of each attempt.
    pub prob: f64,
}

impl Default for GlobalConfig {
    fn default() -> Self {
        Self { alpha: 1.0, attempts: 2, prob: 0.1 }
    }
}

/// Region mixture (CutMix).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RegionConfig {
    /// The box is cut for a weight drawn from Beta(beta, beta). 0 or below switches region mixtures off.
    pub beta: f64,
    /// Attempts per image.
    pub attempts: u32,
    /// Probability of each attempt.
    pub prob: f64,
    /// Factor of the own image when the first attempt takes place. 1 is off.
    pub decay: f64,
}

impl Default for RegionConfig {
    fn default() -> Self {
        Self { beta: 1.0, attempts: 2, prob: 0.1, decay: 1.0 }
    }
}

/// Cutout (arXiv 1708.04552).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CutoutConfig {
    /// Side of the square hole in pixels.
    pub size: u32,
    /// Probability of a hole.
    pub prob: f64,
    /// Keep the whole hole inside the image; otherwise it may reach over the border.
    pub inside: bool,
    /// What the hole is filled with, in normalised units (0 is the mean colour).
    pub value: f64,
}

impl Default for CutoutConfig {
    fn default() -> Self {
        Self { size: 50, prob: 0.1, inside: false, value: 0.0 }
    }
}

/// Random erasing (arXiv 1708.04896).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EraseConfig {
    /// Smallest and largest area of the hole as a part of the image.
    pub area: [f64; 2],
    /// Probability of a hole.
    pub prob: f64,
    /// The aspect (height / width) is uniform between this and its inverse.
    pub min_aspect: f64,
    /// Tries to find a hole that fits; after the last one nothing is erased.
    pub attempts: u32,
}

impl Default for EraseConfig {
    fn default() -> Self {
        Self { area: [0.02, 0.4], prob: 0.1, min_aspect: 0.3, attempts: 20 }
    }
}
