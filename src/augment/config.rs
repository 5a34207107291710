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
/// Solo-learn's for CIFAR-10: the deviation over all pixels, where the programs above have the mean of the images' own.
const SOLO: (Channels, Channels) = ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]);

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

/// An entry of `views.crops`: views that are alike. What it leaves out is that of `views.crop` and `views.recipe`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CropGroup {
    /// Views of an image that are made so.
    pub count: usize,
    /// Edge of these square views in pixels. Left out: `views.crop.size`, which is that of the first group.
    #[serde(default)]
    pub size: Option<usize>,
    /// Smallest share of the image's area in these crops, above 0. Left out: that of `views.crop`.
    #[serde(default)]
    pub min_area: Option<f64>,
    /// Largest share of the image's area in these crops, at most 1. Left out: that of `views.crop`.
    #[serde(default)]
    pub max_area: Option<f64>,
    /// The augmentations of these views. Left out: `views.recipe`.
    #[serde(default)]
    pub recipe: Option<RecipeName>,
}

/// `views`: how an image becomes the views that the encoder sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ViewsConfig {
    /// The augmentations and their order.
    pub recipe: RecipeName,
    /// The augmentations of view 2 where they are not those of view 1 (BYOL, Barlow Twins); crop and normalisation are those of view 1. Left
    /// out: `recipe`.
    pub second_recipe: Option<RecipeName>,
    /// Size and area of the crops.
    pub crop: CropConfig,
    /// Multi-crop (arXiv 2006.09882): groups `{count, size, min_area, max_area, recipe}` of views, those of full size first. Left out: as many
    /// views as the method compares, all as `crop` says.
    pub crops: Option<Vec<CropGroup>>,
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
        Self {
            recipe: RecipeName::MocoV2,
            second_recipe: None,
            crop: CropConfig::default(),
            crops: None,
            mean: None,
            std: None,
            color_space: ColorSpace::Rgb,
        }
    }
}

impl ViewsConfig {
    /// Smallest share of the image's area in a random crop, unless a group of `crops` has its own.
    pub fn min_area(&self) -> f64 {
        self.crop.min_area.unwrap_or_else(|| self.recipe.default_min_area())
    }

    /// The recipes of the training views of an image, in their order: those of all groups of `crops`, or else of `views` views.
    pub fn recipes(&self, views: usize) -> Vec<Recipe> {
        match &self.crops {
            Some(groups) => groups.iter().flat_map(|group| vec![self.of_group(group); group.count]).collect(),
            None => (0..views).map(|view| self.named(self.second_recipe.filter(|_| view == 1).unwrap_or(self.recipe))).collect(),
        }
    }

    /// The recipe of view 1.
    pub fn recipe(&self) -> Recipe {
        let first = self.crops.iter().flatten().next();
        first.map_or_else(|| self.named(self.recipe), |group| self.of_group(group))
    }

    /// The recipe of the evaluation views: the centre of the image, or the image itself where it has the size of a view.
    pub fn eval_recipe(&self) -> Recipe {
        self.named(RecipeName::Center)
    }

    fn of_group(&self, group: &CropGroup) -> Recipe {
        let edge = group.size.unwrap_or(self.crop.size);
        let (least, most) = (group.min_area.unwrap_or_else(|| self.min_area()), group.max_area.unwrap_or(self.crop.max_area));
        Recipe::new(group.recipe.unwrap_or(self.recipe), (edge, edge), least, most)
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
            RecipeName::SoloSymmetric
            | RecipeName::SoloSymmetricWeak
            | RecipeName::SoloAsymmetric1
            | RecipeName::SoloAsymmetric2 => Some(SOLO),
            _ => ColorSpace::Rgb.normalization(),
        }
    }

    /// Pushes one line per value out of range; `at` is the name of this part, `views`.
    pub fn problems(&self, at: &str, out: &mut Vec<String>) {
        let crop = &self.crop;
        size_problem(&format!("{at}.crop.size"), crop.size, out);
        let areas = [(format!("{at}.crop.min_area"), self.min_area()), (format!("{at}.crop.max_area"), crop.max_area)];
        area_problems(&areas, out);
        self.crops_problems(at, out);
        let (set, crops) = (self.min_area() != self.recipe.default_min_area(), !self.recipe.is_fixed());
        let groups = self.crops.as_deref().unwrap_or_default();
        let own = |has: fn(&CropGroup) -> bool| !groups.is_empty() && groups.iter().all(has);
        let (own_min, own_max) = (own(|group| group.min_area.is_some()), own(|group| group.max_area.is_some()));
        let mut table = Unread::of(at, out);
        table.key("crop.min_area", set, crops, "the recipe crops nothing at random", "leave it out");
        table.key("crop.max_area", crop.max_area != 1.0, crops, "the recipe crops nothing at random", "leave it out");
        let because = format!("every group of `{at}.crops` has its own");
        table.key("crop.min_area", set, !own_min, &because, "leave it out");
        table.key("crop.max_area", crop.max_area != 1.0, !own_max, &because, "leave it out");
        let because = format!("the groups of `{at}.crops` say the recipe of each view");
        table.key("second_recipe", self.second_recipe.is_some(), self.crops.is_none(), &because, "make it the `recipe` of a group");
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

    /// One line per value of `crops` that is out of range or contradicts another.
    fn crops_problems(&self, at: &str, out: &mut Vec<String>) {
        let Some(groups) = &self.crops else { return };
        if groups.is_empty() {
            out.push(format!("`{at}.crops` has no group: name one, or leave it out"));
        }
        let views = groups.iter().fold(0, |sum: usize, group| sum.saturating_add(group.count));
        if views > MAX_VIEWS {
            out.push(format!("`{at}.crops` makes {views} views of an image, must be at most {MAX_VIEWS}"));
        }
        let full = self.crop.size;
        if let Some(size) = groups.first().and_then(|group| group.size).filter(|&size| size != full) {
            out.push(format!(
                "`{at}.crops.0.size` is {size}, but the first group has the size of the evaluation views, `{at}.crop.size` {full}: set that, and \
                 leave this out"
            ));
        }
        for (number, group) in groups.iter().enumerate() {
            let here = format!("{at}.crops.{number}");
            if group.count == 0 {
                out.push(format!("`{here}.count` is 0, must be at least 1: leave the group out"));
            }
            group.size.into_iter().for_each(|size| size_problem(&format!("{here}.size"), size, out));
            // What a group inherits is named where it stands.
            let area = |own: Option<f64>, inherited: f64, key: &str| match own {
                Some(area) => (format!("{here}.{key}"), area),
                None => (format!("{at}.crop.{key}"), inherited),
            };
            let least = area(group.min_area, self.min_area(), "min_area");
            area_problems(&[least, area(group.max_area, self.crop.max_area, "max_area")], out);
            let crops = !group.recipe.unwrap_or(self.recipe).is_fixed();
            let mut table = Unread::of(&here, out);
            table.key("min_area", group.min_area.is_some(), crops, "the recipe crops nothing at random", "leave it out");
            table.key("max_area", group.max_area.is_some(), crops, "the recipe crops nothing at random", "leave it out");
        }
    }
}

/// One line if no view has such an edge.
fn size_problem(key: &str, size: usize, out: &mut Vec<String>) {
    if !(1..=MAX_SIZE).contains(&size) {
        out.push(format!("`{key}` is {size}, must be 1 to {MAX_SIZE}"));
    }
}

/// One line per share, of the smallest and of the largest crop, that is none, or one if they are the wrong way round; each comes with its key. A
/// line that is there is not said again: several groups may inherit one value.
fn area_problems([(min_key, min), (max_key, max)]: &[(String, f64); 2], out: &mut Vec<String>) {
    let mut say = |line: String| {
        if !out.contains(&line) {
            out.push(line);
        }
    };
    let share = |area: f64| area > 0.0 && area <= 1.0;
    if !share(*min) {
        say(format!("`{min_key}` is {min}, must be above 0 and at most 1"));
    }
    if !share(*max) {
        say(format!("`{max_key}` is {max}, must be above 0 and at most 1"));
    } else if min > max {
        say(format!("`{max_key}` is {max}, must be at least `{min_key}`, {min}"));
    }
}

/// Far above what fits a device, far below what overflows a length.
const MAX_SIZE: usize = 1 << 14;
/// Views of an image: eight times those of SwAV on ImageNet.
const MAX_VIEWS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::recipe::Geometry;

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

    fn views(text: &str) -> ViewsConfig {
        serde_json::from_str(text).unwrap()
    }

    fn problems(text: &str) -> Vec<String> {
        let mut out = Vec::new();
        views(text).problems("views", &mut out);
        out
    }

    /// Size, smallest and largest area, and whether the steps are those of the named recipe.
    fn made(recipe: &Recipe, name: RecipeName) -> ((usize, usize), f64, f64, bool) {
        let Geometry::RandomCrop(crop) = &recipe.geometry else { panic!("{recipe:?} crops nothing") };
        let named = Recipe::new(name, recipe.size, crop.min_area, crop.max_area);
        (recipe.size, crop.min_area, crop.max_area, *recipe == named)
    }

    /// SwAV's views on ImageNet, and what a group does not say.
    #[test]
    fn groups_are_expanded_in_order_and_inherit_what_they_leave_out() {
        let swav = views(
            r#"{"recipe": "swav", "crops": [
                {"count": 2, "size": 224, "min_area": 0.14}, {"count": 6, "size": 96, "min_area": 0.05, "max_area": 0.14}]}"#,
        );
        let recipes = swav.recipes(2);
        assert_eq!(recipes.len(), 8);
        for (view, recipe) in recipes.iter().enumerate() {
            let want = if view < 2 { ((224, 224), 0.14, 1.0, true) } else { ((96, 96), 0.05, 0.14, true) };
            assert_eq!(made(recipe, RecipeName::Swav), want, "view {view}");
        }
        assert_eq!((swav.recipe(), swav.eval_recipe().size), (recipes[0].clone(), (224, 224)));
        assert_eq!(problems(&serde_json::to_string(&swav).unwrap()), Vec::<String>::new());

        let bare = views(
            r#"{"recipe": "cifar_moco", "crop": {"size": 32, "max_area": 0.9},
                "crops": [{"count": 1}, {"count": 1, "recipe": "solo_asymmetric_2"}, {"count": 2, "size": 16}]}"#,
        );
        let got: Vec<_> = bare.recipes(2).iter().map(|recipe| made(recipe, RecipeName::CifarMoco)).collect();
        let (full, small) = (((32, 32), 0.08, 0.9), ((16, 16), 0.08, 0.9));
        let want = [(full, true), (full, false), (small, true), (small, true)].map(|((size, min, max), own)| (size, min, max, own));
        assert_eq!(got, want);
        assert!(made(&bare.recipes(2)[1], RecipeName::SoloAsymmetric2).3);
        // What is written out is the same views again, without a problem.
        let resolved = bare.clone().resolved();
        assert_eq!(resolved.recipes(2), bare.recipes(2));
        assert_eq!(problems(&serde_json::to_string(&resolved).unwrap()), Vec::<String>::new());
    }

    #[test]
    fn view_2_has_a_recipe_of_its_own() {
        let byol = views(r#"{"recipe": "byol_1", "second_recipe": "byol_2"}"#);
        let recipes = byol.recipes(2);
        assert_eq!(made(&recipes[0], RecipeName::Byol1), ((224, 224), 0.08, 1.0, true));
        assert_eq!(made(&recipes[1], RecipeName::Byol2), ((224, 224), 0.08, 1.0, true));
        assert_eq!((byol.recipe(), byol.recipes(1).len()), (recipes[0].clone(), 1));
        assert_eq!(views("{}").recipes(2), vec![views("{}").recipe(); 2]);
        let twice = problems(r#"{"second_recipe": "byol_2", "crops": [{"count": 2}]}"#);
        let [problem] = twice.as_slice() else { panic!("{twice:?}") };
        assert!(problem.starts_with("`views.second_recipe` is set, but the groups of `views.crops` say"), "{problem}");
    }

    #[test]
    fn all_problems_of_groups_are_reported() {
        let got = problems(
            r#"{"crop": {"size": 32}, "crops": [
                {"count": 0, "size": 16}, {"count": 70, "size": 0, "min_area": 0.5, "max_area": 0.25}, {"count": 1, "max_area": 0.1},
                {"count": 1, "min_area": -1}, {"count": 1, "recipe": "center", "max_area": 0.5}]}"#,
        );
        let want = [
            "`views.crops` makes 73 views of an image, must be at most 64",
            "`views.crops.0.size` is 16, but the first group has the size of the evaluation views, `views.crop.size` 32: set that, and leave \
             this out",
            "`views.crops.0.count` is 0, must be at least 1: leave the group out",
            "`views.crops.1.size` is 0, must be 1 to 16384",
            "`views.crops.1.max_area` is 0.25, must be at least `views.crops.1.min_area`, 0.5",
            "`views.crops.2.max_area` is 0.1, must be at least `views.crop.min_area`, 0.2",
            "`views.crops.3.min_area` is -1, must be above 0 and at most 1",
            "`views.crops.4.max_area` is set, but the recipe crops nothing at random; leave it out",
        ];
        assert_eq!(got, want, "{got:#?}");
        assert_eq!(problems(r#"{"crops": []}"#), ["`views.crops` has no group: name one, or leave it out"]);
        // An area that several groups inherit is said once, and one that none does is not read.
        let inherited = problems(r#"{"crop": {"max_area": 2}, "crops": [{"count": 2}, {"count": 2}]}"#);
        assert_eq!(inherited, ["`views.crop.max_area` is 2, must be above 0 and at most 1"]);
        let unread = problems(r#"{"crop": {"min_area": 0.3}, "crops": [{"count": 2, "min_area": 0.14}]}"#);
        assert_eq!(unread, ["`views.crop.min_area` is set, but every group of `views.crops` has its own; leave it out"]);
        assert!(serde_json::from_str::<ViewsConfig>(r#"{"crops": [{"size": 32}]}"#).unwrap_err().to_string().contains("count"));
        assert!(serde_json::from_str::<ViewsConfig>(r#"{"crops": [{"count": 2, "min_scale": 0.1}]}"#).is_err());
    }

    #[test]
    fn the_recipes_of_solo_learn_have_its_constants() {
        for name in ["solo_symmetric", "solo_symmetric_weak", "solo_asymmetric_1", "solo_asymmetric_2"] {
            let norm = views(&format!(r#"{{"recipe": "{name}"}}"#)).normalization();
            assert_eq!((norm.mean, norm.std), ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]));
        }
    }
}
