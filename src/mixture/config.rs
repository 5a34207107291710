//! The keys `mixture.*`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan::Kind;
pub use super::tables::{CutoutConfig, EraseConfig, GlobalConfig, RegionConfig};
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
    /// Weighted sums of several images of any view as augmentation (i-Mix, arXiv 2010.08887, "InputMix").
    Inputmix,
    /// One batch mixture with an extra, weighted loss (arXiv 2003.05438v2 and later, "Un-Mix").
    Unmix,
    /// A mixture in place of each view that is trained, with a soft label per image (arXiv 2010.08887).
    Imix,
    /// Half a batch of mixtures with a loss of soft labels (arXiv 2010.06300).
    Mixco,
    /// Mixtures of one view with the other, with a regulariser on their cross-correlations (arXiv 2312.02151).
    MixedBarlow,
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
            Name::Inputmix => "inputmix",
            Name::Unmix => "unmix",
            Name::Imix => "imix",
            Name::Mixco => "mixco",
            Name::MixedBarlow => "mixed_barlow",
        }
    }
}

/// What a mixture asks of a method: who reads it, and as what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Nothing: no image is mixed.
    #[default]
    None,
    /// Nothing: the views are mixed before the method sees them, and its loss is its own.
    Input,
    /// The terms of Un-Mix beside the loss of the clean views, for the one mixture of the first view.
    Unmix,
    /// Soft labels for the mixtures that stand in place of the trained views, the first or (symmetric) each of them.
    Imix,
    /// Soft labels for the mixtures of one half of the first view's batch with the other, beside the loss of the clean views.
    Mixco,
    /// The regulariser of Mixed Barlow Twins on the mixture of the first view with the second.
    MixedBarlow,
}

/// What `imix` makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImixKind {
    /// Weighted sums, with a weight per image.
    #[default]
    Mixup,
    /// A box of another image, one box per batch.
    Cutmix,
}

/// What `unmix` and `imix` put into the box of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Boxed {
    /// The partner's pixels at the same place (CutMix).
    #[default]
    Paste,
    /// The whole partner, scaled to the box (ResizeMix, arXiv 2012.11101).
    Resize,
}

impl Boxed {
    /// The rule of a row that does this.
    pub fn kind(self) -> Kind {
        match self {
            Boxed::Paste => Kind::Paste,
            Boxed::Resize => Kind::Resize,
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

/// Image mixtures. A key that the named mixture does not read must keep its default, except under `none`, so that a baseline
/// is one changed key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MixtureConfig {
    /// none, im, global, region, cutout, erase, inputmix, unmix, imix, mixco or mixed_barlow.
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
    /// One plan for all views of an image (default) or one per view. Only im, global, region, cutout and erase have the choice.
    pub share_views: bool,
    /// Probability that unmix mixes globally; otherwise it mixes a region.
    pub prob: f64,
    /// unmix draws its weight from Beta(beta, beta). Above 0.
    pub beta: f64,
    /// How unmix pairs the images of a batch: flip or permute.
    pub pairing: Pairing,
    /// What unmix and imix (cutmix) put into the box of a region: paste, the partner's pixels there, or resize, the whole partner scaled to it.
    #[serde(rename = "box")]
    pub boxed: Boxed,
    /// Smallest and largest side of the box of `box` = resize as a part of the image's: the scale rate tau, drawn uniformly. The weight is the kept
    /// area, and no lambda is drawn.
    pub tau: [f64; 2],
    /// What imix makes at every step: mixup, a weighted sum with a weight per image, or cutmix, a region with one box per batch.
    pub kind: ImixKind,
    /// imix draws its weight from Beta(alpha, alpha) and takes the larger of it and its complement; so does inputmix with one partner. With more,
    /// inputmix halves weights of Dirichlet(alpha, ..., alpha) and gives the own image the other half. Above 0.
    pub alpha: f64,
    /// Partners of each image (inputmix).
    pub partners: u32,
    /// unmix draws one weight and box per image instead of one per batch.
    pub per_sample_lambda: bool,
    /// With several devices, each one draws its own unmix mixture. Refused until a run can have several.
    pub per_rank: bool,
    /// Whether both branches of BYOL and SimSiam see the mixture of unmix, or the one that predicts alone: both or online.
    pub branch: Branch,
    /// The clean view that the mixture of unmix is compared with in SimCLR, BYOL, SimSiam and Barlow Twins: view2 or view1.
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
            boxed: Boxed::Paste,
            tau: [0.1, 0.8],
            kind: ImixKind::Mixup,
            alpha: 1.0,
            partners: 1,
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

    /// What the named mixture asks of a method.
    pub fn form(&self) -> Form {
        match self.name {
            Name::None => Form::None,
            Name::Im | Name::Global | Name::Region | Name::Cutout | Name::Erase | Name::Inputmix => Form::Input,
            Name::Unmix => Form::Unmix,
            Name::Imix => Form::Imix,
            Name::Mixco => Form::Mixco,
            Name::MixedBarlow => Form::MixedBarlow,
        }
    }

    /// True when the named mixture has a plan for all views or one for each, as `share_views` says.
    pub fn may_share_views(&self) -> bool {
        matches!(self.name, Name::Im | Name::Global | Name::Region | Name::Cutout | Name::Erase)
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
        let ordered = |[low, high]: [f64; 2]| 0.0 <= low && low <= high && high <= 1.0;
        let EraseConfig { area, min_aspect, .. } = self.erase;
        require(positive(self.beta), "beta", &self.beta, "above 0");
        require(positive(self.alpha), "alpha", &self.alpha, "above 0");
        require(ordered(self.tau), "tau", &self.tau, "two parts of the image's side, smaller one first");
        require(self.partners > 0, "partners", &self.partners, "at least 1");
        require(positive(self.global.alpha), "global.alpha", &self.global.alpha, "above 0");
        require(self.region.beta.is_finite(), "region.beta", &self.region.beta, "a number (0 or below: no region mixtures)");
        require(self.region.decay.is_finite(), "region.decay", &self.region.decay, "a number");
        require(self.cutout.size > 0, "cutout.size", &self.cutout.size, "at least 1 pixel");
        require(self.cutout.value.is_finite(), "cutout.value", &self.cutout.value, "a number");
        require(ordered(area), "erase.area", &area, "two parts of the image, smaller one first");
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
        let keys: [(&str, bool, &[&str]); 16] = [
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
            ("box", self.boxed != default.boxed, &["unmix", "imix"]),
            ("tau", self.tau != default.tau, &["unmix", "imix"]),
            ("kind", self.kind != default.kind, &["imix"]),
            ("alpha", self.alpha != default.alpha, &["imix", "inputmix"]),
            ("partners", self.partners != default.partners, &["inputmix"]),
        ];
        for (key, set, readers) in keys.into_iter().filter(|_| self.name != Name::None) {
            table.variant(key, set, "name", self.name.text(), readers);
        }
        let (imix, resizes) = (self.name == Name::Imix, self.boxed == Boxed::Resize);
        let boxes = self.name == Name::Unmix || (imix && self.kind == ImixKind::Cutmix);
        if imix {
            table.variant("box", resizes, "kind", if boxes { "cutmix" } else { "mixup" }, &["cutmix"]);
            let because = format!("`{at}.box` = resize draws its sides from `{at}.tau`");
            table.key("alpha", self.alpha != default.alpha, !(boxes && resizes), &because, "leave it out");
        }
        if boxes {
            table.variant("tau", self.tau != default.tau, "box", if resizes { "resize" } else { "paste" }, &["resize"]);
        }
        // `branch` and `anchor` hang on the method, and are checked with it.
        let later = [("per_rank", self.per_rank != default.per_rank, "a run has one device")];
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
        let before = [Name::None, Name::Im, Name::Global, Name::Region, Name::Cutout, Name::Erase, Name::Inputmix];
        for name in before.into_iter().chain([Name::Unmix, Name::Imix, Name::Mixco, Name::MixedBarlow]) {
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
        assert_eq!(problems(r#"{"name": "inputmix", "partners": 0, "alpha": 0}"#).len(), 2);
        assert_eq!(
            problems(r#"{"name": "unmix", "box": "resize", "tau": [0.8, 0.1]}"#),
            ["`mixture.tau` is [0.8, 0.1], must be two parts of the image's side, smaller one first"]
        );
    }

    #[test]
    fn keys_without_effect_are_refused_but_not_in_a_baseline() {
        let got = problems(r#"{"name": "im", "prob": 0.3}"#);
        assert_eq!(got, ["`mixture.prob` is set, but `mixture.name` = im does not read it; leave it out, or choose unmix"]);
        assert_eq!(problems(r#"{"name": "unmix", "partner": "dataset", "share_views": false}"#).len(), 2);
        assert!(problems(r#"{"name": "none", "prob": 0.3, "pairing": "permute", "tau": [0.2, 0.3], "kind": "cutmix"}"#).is_empty());
        for (unread, readers) in [
            (r#"{"name": "mixco", "alpha": 0.3}"#, "imix, inputmix"),
            (r#"{"name": "unmix", "kind": "cutmix"}"#, "imix"),
            (r#"{"name": "unmix", "tau": [0.2, 0.3]}"#, "resize"),
            (r#"{"name": "imix", "box": "resize"}"#, "cutmix"),
            (r#"{"name": "imix", "kind": "cutmix", "box": "resize", "alpha": 0.5}"#, ""),
            (r#"{"name": "mixed_barlow", "partners": 2}"#, "inputmix"),
        ] {
            let got = problems(unread);
            assert!(got.len() == 1 && got[0].ends_with(readers), "{unread}: {got:?}");
        }
        assert!(problems(r#"{"name": "imix", "kind": "cutmix", "box": "resize", "tau": [0.2, 0.3]}"#).is_empty());
        for dead in [r#""per_rank": false"#] {
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
