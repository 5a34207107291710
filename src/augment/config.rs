//! `views.*` of the config.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::recipe::{Recipe, RecipeName};
use crate::colour::{ColorSpace, Normalization};
use crate::unread::Unread;

/// Mean and standard deviation of pixel/255, red, green, blue.
type Channels = [f64; 3];

/// SwAV's programs for ImageNet have .228 for red.
const SWAV: (Channels, Channels) = ([0.485, 0.456, 0.406], [0.228, 0.224, 0.225]);
const CIFAR: (Channels, Channels) = ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]);

/// `views.crop`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CropConfig {
    /// Edge of the square views in pixels.
    pub size: usize,
    /// Smallest share of the image's area in a random crop, above 0. Left out: what the recipe's reference program has.
    pub min_area: Option<f64>,
    /// Largest share of the image's area in a random crop, at most 1.
    pub max_area: f64,
}

impl Default for CropConfig {
    fn default() -> Self {
        Self { size: 224, min_area: None, max_area: 1.0 }
    }
}

/// `views`: how an image becomes the views that the encoder sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ViewsConfig {
    /// The augmentations and their order.
    pub recipe: RecipeName,
    /// Size and area of the crops.
    pub crop: CropConfig,
    /// Mean per channel, in RGB of pixel/255, else in the colour space's units. Left out: that of the recipe (CIFAR or ImageNet) or of the
    /// colour space (CMC's; only `lab` and `ycbcr` have one).
    pub mean: Option<Channels>,
    /// Standard deviation per channel, likewise.
    pub std: Option<Channels>,
    /// The space in which the encoder sees the colours. Left out: lab for CMC, else rgb.
    pub color_space: ColorSpace,
}

impl Default for ViewsConfig {
    fn default() -> Self {
        Self { recipe: RecipeName::MocoV2, crop: CropConfig::default(), mean: None, std: None, color_space: ColorSpace::Rgb }
    }
}

impl ViewsConfig {
    /// Smallest share of the image's area in a random crop.
    pub fn min_area(&self) -> f64 {
        self.crop.min_area.unwrap_or_else(|| self.recipe.default_min_area())
    }

    /// The recipe of the training views.
    pub fn recipe(&self) -> Recipe {
        self.named(self.recipe)
    }

    /// The recipe of the evaluation views: the centre of the image, or the image itself where it has the size of a view.
    pub fn eval_recipe(&self) -> Recipe {
        self.named(RecipeName::Center)
    }

    fn named(&self, name: RecipeName) -> Recipe {
        Recipe::new(name, (self.crop.size, self.crop.size), self.min_area(), self.crop.max_area)
    }

    /// The colour space, and the mean and standard deviation by which it is normalised: none (0 and 1) where nothing gives them, which
    /// [`problems`](Self::problems) reports.
    pub fn normalization(&self) -> Normalization {
        let (mean, std) = self.recipe_normalization().unwrap_or(([0.0; 3], [1.0; 3]));
        let narrow = |values: Channels| values.map(|v| v as f32);
        Normalization { space: self.color_space, mean: narrow(self.mean.unwrap_or(mean)), std: narrow(self.std.unwrap_or(std)) }
    }

    /// The same views with the recipe's own values written out.
    pub fn resolved(mut self) -> Self {
        let (mean, std) = self.recipe_normalization().unzip();
        self.crop.min_area = Some(self.min_area());
        (self.mean, self.std) = (self.mean.or(mean), self.std.or(std));
        self
    }

    fn recipe_normalization(&self) -> Option<(Channels, Channels)> {
        match self.recipe {
            _ if self.color_space != ColorSpace::Rgb => self.color_space.normalization(),
            RecipeName::CifarMoco | RecipeName::HtdtCifar | RecipeName::SwavCifar => Some(CIFAR),
            RecipeName::Swav => Some(SWAV),
            _ => ColorSpace::Rgb.normalization(),
        }
    }

    /// Pushes one line per value out of range; `at` is the name of this part, `views`.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        let crop = &self.crop;
        if !(1..=MAX_SIZE).contains(&crop.size) {
            out.push(format!("`{at}.crop.size` is {}, must be 1 to {MAX_SIZE}", crop.size));
        }
        if let Some(area) = crop.min_area.filter(|&area| !(area > 0.0 && area <= 1.0)) {
            out.push(format!("`{at}.crop.min_area` is {area}, must be above 0 and at most 1"));
        }
        if !(crop.max_area > 0.0 && crop.max_area <= 1.0) {
            out.push(format!("`{at}.crop.max_area` is {}, must be above 0 and at most 1", crop.max_area));
        } else if self.min_area() > crop.max_area {
            out.push(format!(
                "`{at}.crop.max_area` is {}, must be at least `{at}.crop.min_area`, {}",
                crop.max_area,
                self.min_area()
            ));
        }
        let (set, crops) = (self.min_area() != self.recipe.default_min_area(), !self.recipe.is_fixed());
        let mut table = Unread::of(at, out);
        table.key("crop.min_area", set, crops, "the recipe crops nothing at random", "leave it out");
        table.key("crop.max_area", crop.max_area != 1.0, crops, "the recipe crops nothing at random", "leave it out");
        if self.recipe_normalization().is_none() && (self.mean.is_none() || self.std.is_none()) {
            out.push(format!(
                "`{at}.color_space` = \"{}\" has no constants of its own: set `{at}.mean` and `{at}.std` (`unmix stats --config FILE` \
                 computes them)",
                self.color_space.text()
            ));
        }
        if let Some(mean) = self.mean.filter(|mean| !mean.iter().all(|v| v.is_finite())) {
            out.push(format!("`{at}.mean` is {mean:?}, must be finite"));
        }
        if let Some(std) = self.std.filter(|std| !std.iter().all(|&v| v.is_finite() && v > 0.0)) {
            out.push(format!("`{at}.std` is {std:?}, must be above 0"));
        }
    }
}

/// Far above what fits a device, far below what overflows a length.
const MAX_SIZE: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_reported_at_once() {
        let text = r#"{"crop": {"size": 0, "min_area": -1.0, "max_area": 1.5}, "mean": [0, 0, 0], "std": [1, 0, 1]}"#;
        let views: ViewsConfig = serde_json::from_str(text).unwrap();
        let mut problems = Vec::new();
        views.problems("views", &mut problems);
        assert_eq!(problems.len(), 4, "{problems:#?}");
        assert!(problems.iter().all(|p| p.starts_with("`views.")));
        ViewsConfig::default().problems("views", &mut problems);
        assert_eq!(problems.len(), 4);
    }

    #[test]
    fn an_area_below_the_default_minimum_of_the_recipe_is_a_problem() {
        let views = ViewsConfig { crop: CropConfig { max_area: 0.15, ..Default::default() }, ..Default::default() };
        let mut problems = Vec::new();
        views.problems("views", &mut problems);
        assert_eq!(problems, ["`views.crop.max_area` is 0.15, must be at least `views.crop.min_area`, 0.2"]);
    }

    #[test]
    fn normalization_follows_the_recipe_unless_given() {
        let mut views = ViewsConfig { recipe: RecipeName::CifarMoco, ..Default::default() };
        let pair = |views: &ViewsConfig| (views.normalization().mean, views.normalization().std);
        assert_eq!(pair(&views), ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]));
        views.std = Some([0.5; 3]);
        assert_eq!(pair(&views), ([0.4914, 0.4822, 0.4465], [0.5; 3]));
        assert_eq!(ViewsConfig::default().normalization().mean, [0.485, 0.456, 0.406]);
        let lab = ViewsConfig { color_space: ColorSpace::Lab, ..Default::default() };
        assert_eq!(pair(&lab), ([50.0, 6.025, -6.6895], [50.0, 92.208, 101.1675]));
    }

    #[test]
    fn a_space_without_constants_needs_them() {
        let mut views = ViewsConfig { color_space: ColorSpace::Hsv, mean: Some([0.5; 3]), ..Default::default() };
        // Neither the fallback nor what is written out hides that they are missing.
        assert_eq!((views.normalization().mean, views.normalization().std), ([0.5; 3], [1.0; 3]));
        for views in [views.clone(), views.clone().resolved()] {
            let mut problems = Vec::new();
            views.problems("views", &mut problems);
            let [problem] = problems.as_slice() else { panic!("{problems:?}") };
            assert!(
                problem.starts_with("`views.color_space` = \"hsv\" has no constants of its own: set `views.mean`"),
                "{problem}"
            );
        }
        views.std = Some([0.25; 3]);
        let mut problems = Vec::new();
        views.problems("views", &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
    }
}
