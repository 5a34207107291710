//! The keys `mixture.*`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::unread::Unread;

/// Which mixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    /// Nothing is mixed.
    #[default]
    None,
    /// Region mixtures of global mixtures (arXiv 2003.05438v1).
    Im,
    /// Weighted sums of two images (Mixup) as augmentation.
    Global,
    /// A box of another image (CutMix) as augmentation.
    Region,
    /// A square hole of one value.
    Cutout,
    /// A rectangular hole of random area and aspect.
    Erase,
    /// One batch mixture with an extra, weighted loss (arXiv 2003.05438v2 and later, "Un-Mix").
    Unmix,
}

impl Name {
    /// The name as it is written in a configuration.
    pub fn text(self) -> &'static str {
        match self {
            Name::None => "none",
            Name::Im => "im",
            Name::Global => "global",
            Name::Region => "region",
            Name::Cutout => "cutout",
            Name::Erase => "erase",
            Name::Unmix => "unmix",
        }
    }
}

/// Where partner images come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Partner {
    /// Uniform over the dataset, loaded with a fresh augmentation: the paper's distribution.
    Dataset,
    /// Uniform over the batch; nothing more is loaded.
    Batch,
}

/// How `unmix` pairs the images of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// Image i with image N - 1 - i.
    #[default]
    Flip,
    /// A random permutation per step.
    Permute,
}

/// Which branches of a two-network method see the mixture of `unmix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Branch {
    /// Online and target network.
    #[default]
    Both,
    /// The online network only.
    Online,
}

/// Which clean view the mixture of `unmix` is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// The view that is not in the mixture.
    #[default]
    View2,
    /// The view that the mixture is made of.
    View1,
}

/// What random erasing writes: `"scalar"` for one U(0, 1) per hole, or a fixed number (normalised units).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Fill {
    /// One random number per hole.
    Random(Scalar),
    /// Always this number.
    Value(f64),
}

/// The word `scalar`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scalar {
    /// One U(0, 1) per hole.
    Scalar,
}

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

/// Image mixtures. A key that the named mixture does not read must keep its default, except under `none`, so that a baseline
/// is one changed key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MixtureConfig {
    /// none, im, global, region, cutout, erase or unmix.
    pub name: Name,
    /// Global mixtures (im, global).
    pub global: GlobalConfig,
    /// Region mixtures (im, region).
    pub region: RegionConfig,
    /// Square holes (cutout).
    pub cutout: CutoutConfig,
    /// Rectangular holes (erase).
    pub erase: EraseConfig,
    /// What erase writes: `"scalar"` (one U(0, 1) per hole) or a number in normalised units.
    pub fill: Fill,
    /// Where partners come from; by default dataset for im, global and region, batch for unmix.
    pub partner: Option<Partner>,
    /// One plan for all views of an image (default) or one per view. unmix mixes the first view only.
    pub share_views: bool,
    /// Probability that unmix mixes globally; otherwise it mixes a region.
    pub prob: f64,
    /// unmix draws its weight from Beta(beta, beta). Above 0.
    pub beta: f64,
    /// How unmix pairs the images of a batch: flip or permute.
    pub pairing: Pairing,
    /// unmix draws one weight and box per image instead of one per batch.
    pub per_sample_lambda: bool,
    /// With several devices, each one draws its own unmix mixture. Refused until a run can have several.
    pub per_rank: bool,
    /// Whether both networks of a two-network method see the mixture of unmix: both or online. Refused until there is BYOL, which alone has
    /// the choice.
    pub branch: Branch,
    /// The clean view that the mixture of unmix is compared with: view2 or view1. Refused until there is SimCLR, BYOL or SwAV, which have
    /// the choice.
    pub anchor: Anchor,
}

impl Default for MixtureConfig {
    fn default() -> Self {
        Self {
            name: Name::None,
            global: GlobalConfig::default(),
            region: RegionConfig::default(),
            cutout: CutoutConfig::default(),
            erase: EraseConfig::default(),
            fill: Fill::Random(Scalar::Scalar),
            partner: None,
            share_views: true,
            prob: 0.5,
            beta: 1.0,
            pairing: Pairing::Flip,
            per_sample_lambda: false,
            per_rank: true,
            branch: Branch::Both,
            anchor: Anchor::View2,
        }
    }
}

impl MixtureConfig {
    /// Where partners come from, with the default of the named mixture filled in.
    pub fn partner(&self) -> Partner {
        self.partner.unwrap_or(if self.name == Name::Unmix { Partner::Batch } else { Partner::Dataset })
    }

    /// Pushes one line per value that is out of range or has no effect; `at` is the path of this table.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        self.ranges(at, out);
        if self.name == Name::Unmix && self.partner == Some(Partner::Dataset) {
            out.push(format!("`{at}.partner` is dataset, but unmix pairs the images of the batch: use batch"));
        }
        self.unread(at, out);
    }

    fn ranges(&self, at: &str, out: &mut Vec<String>) {
        let mut probability = |key: &str, p: f64| {
            if !(0.0..=1.0).contains(&p) {
                out.push(format!("`{at}.{key}` is {p}, must be between 0 and 1"));
            }
        };
        probability("prob", self.prob);
        probability("global.prob", self.global.prob);
        probability("region.prob", self.region.prob);
        probability("cutout.prob", self.cutout.prob);
        probability("erase.prob", self.erase.prob);
        let mut require = |valid: bool, key: &str, value: &dyn std::fmt::Debug, rule: &str| {
            if !valid {
                out.push(format!("`{at}.{key}` is {value:?}, must be {rule}"));
            }
        };
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let EraseConfig { area, min_aspect, .. } = self.erase;
        require(positive(self.beta), "beta", &self.beta, "above 0");
        require(positive(self.global.alpha), "global.alpha", &self.global.alpha, "above 0");
        require(self.region.beta.is_finite(), "region.beta", &self.region.beta, "a number (0 or below: no region mixtures)");
        require(self.region.decay.is_finite(), "region.decay", &self.region.decay, "a number");
        require(self.cutout.size > 0, "cutout.size", &self.cutout.size, "at least 1 pixel");
        require(self.cutout.value.is_finite(), "cutout.value", &self.cutout.value, "a number");
        require(
            0.0 <= area[0] && area[0] <= area[1] && area[1] <= 1.0,
            "erase.area",
            &area,
            "two parts of the image, smaller one first",
        );
        require(min_aspect > 0.0 && min_aspect <= 1.0, "erase.min_aspect", &min_aspect, "above 0 and at most 1");
        require(!matches!(self.fill, Fill::Value(v) if !v.is_finite()), "fill", &self.fill, "\"scalar\" or a number");
        for (key, attempts) in [("global", self.global.attempts), ("region", self.region.attempts), ("erase", self.erase.attempts)]
        {
            require(attempts <= MAX_ATTEMPTS, &format!("{key}.attempts"), &attempts, &format!("at most {MAX_ATTEMPTS}"));
        }
    }

    /// Refuses keys that the named mixture does not read. A baseline, `none`, may keep the keys of the mixture that it stands beside, and so
    /// differs from it by one key.
    fn unread(&self, at: &str, out: &mut Vec<String>) {
        let default = Self::default();
        let mut table = Unread::of(at, out);
        let partners = ["im", "global", "region", "unmix"];
        let keys: [(&str, bool, &[&str]); 11] = [
            ("global", self.global != default.global, &["im", "global"]),
            ("region", self.region != default.region, &["im", "region"]),
            ("cutout", self.cutout != default.cutout, &["cutout"]),
            ("erase", self.erase != default.erase, &["erase"]),
            ("fill", self.fill != default.fill, &["erase"]),
            ("partner", self.partner != default.partner, &partners),
            ("share_views", self.share_views != default.share_views, &["im", "global", "region", "cutout", "erase"]),
            ("prob", self.prob != default.prob, &["unmix"]),
            ("beta", self.beta != default.beta, &["unmix"]),
            ("pairing", self.pairing != default.pairing, &["unmix"]),
            ("per_sample_lambda", self.per_sample_lambda, &["unmix"]),
        ];
        for (key, set, readers) in keys.into_iter().filter(|_| self.name != Name::None) {
            table.variant(key, set, "name", self.name.text(), readers);
        }
        let later = [
            ("per_rank", self.per_rank != default.per_rank, "a run has one device"),
            ("branch", self.branch != default.branch, "only BYOL has two branches to choose from, and it is not there yet"),
            ("anchor", self.anchor != default.anchor, "only SimCLR, BYOL and SwAV have a choice of it, and they are not there yet"),
        ];
        later.into_iter().for_each(|(key, set, because)| table.key(key, set, false, because, "leave it out"));
    }
}

/// More attempts than this would let a batch ask for thousands of partners per image.
const MAX_ATTEMPTS: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(json: &str) -> Vec<String> {
        let mut out = Vec::new();
        serde_json::from_str::<MixtureConfig>(json).unwrap().problems("mixture", &mut out);
        out
    }

    #[test]
    fn every_name_is_valid_with_its_defaults() {
        for name in [Name::None, Name::Im, Name::Global, Name::Region, Name::Cutout, Name::Erase, Name::Unmix] {
            assert!(problems(&format!(r#"{{"name": "{}"}}"#, name.text())).is_empty(), "{name:?}");
        }
    }

    #[test]
    fn all_values_out_of_range_are_reported_together() {
        let got = problems(
            r#"{"name": "im", "global": {"alpha": 0, "prob": 1.5, "attempts": 101}, "region": {"prob": -0.1, "beta": -1}}"#,
        );
        let want = [
            "`mixture.global.prob` is 1.5, must be between 0 and 1",
            "`mixture.region.prob` is -0.1, must be between 0 and 1",
            "`mixture.global.alpha` is 0.0, must be above 0",
            "`mixture.global.attempts` is 101, must be at most 100",
        ];
        assert_eq!(got, want);
        assert_eq!(problems(r#"{"name": "erase", "erase": {"area": [0.4, 0.02], "min_aspect": 0}}"#).len(), 2);
        assert_eq!(problems(r#"{"name": "cutout", "cutout": {"size": 0}}"#).len(), 1);
    }

    #[test]
    fn keys_without_effect_are_refused_but_not_in_a_baseline() {
        let got = problems(r#"{"name": "im", "prob": 0.3}"#);
        assert_eq!(got, ["`mixture.prob` is set, but `mixture.name` = im does not read it; leave it out, or choose unmix"]);
        assert_eq!(problems(r#"{"name": "unmix", "partner": "dataset", "share_views": false}"#).len(), 2);
        assert!(problems(r#"{"name": "none", "prob": 0.3, "pairing": "permute"}"#).is_empty());
        for dead in [r#""per_rank": false"#, r#""branch": "online""#, r#""anchor": "view1""#] {
            for name in ["none", "unmix"] {
                assert_eq!(problems(&format!(r#"{{"name": "{name}", {dead}}}"#)).len(), 1, "{name} {dead}");
            }
        }
    }

    #[test]
    fn fill_is_a_word_or_a_number() {
        let fill = |json: &str| serde_json::from_str::<MixtureConfig>(json).map(|config| config.fill);
        assert_eq!(fill(r#"{"fill": "scalar"}"#).unwrap(), Fill::Random(Scalar::Scalar));
        assert_eq!(fill(r#"{"fill": 0.25}"#).unwrap(), Fill::Value(0.25));
        assert!(fill(r#"{"fill": "pixel"}"#).is_err());
        let config = MixtureConfig { fill: Fill::Value(0.25), ..Default::default() };
        assert_eq!(serde_json::to_value(&config).unwrap()["fill"], 0.25);
    }

    #[test]
    fn the_default_partner_follows_the_name() {
        let of = |name| MixtureConfig { name, ..Default::default() }.partner();
        assert_eq!((of(Name::Im), of(Name::Unmix)), (Partner::Dataset, Partner::Batch));
        assert!(serde_json::from_str::<MixtureConfig>(r#"{"probb": 0.3}"#).is_err());
    }
}
