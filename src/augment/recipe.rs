//! A recipe is data: the random operations of a view and their order. Parameters are drawn first and applied after.

use serde::{Deserialize, Serialize};

use super::blur::RandomBlur;
use super::crop::RandomResizedCrop;
use super::flip::RandomFlip;
use super::gray::RandomGray;
use super::jitter::ColorJitter;
use super::planes::{Planes, planes_of};
use super::resample::{Filter, Window, resample};
use super::resize::{centre_window, whole_window};
use super::solarize::RandomSolarize;
use super::step::{Scratch, Step};
use crate::data::{RgbImage, Transform};
use crate::rng::Stream;

/// The recipes of the reference programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecipeName {
    /// Random resized crop, flip.
    Plain,
    /// Crop, gray .2, colour jitter (.4, .4, .4, .4) always, flip: MoCo v1, and "CJ" of the v1 program.
    MocoV1,
    /// Crop, colour jitter (.4, .4, .4, .1) with .8, gray .2, blur with radius .1-2 with .5, flip: MoCo v2, Un-Mix on ImageNet.
    MocoV2,
    /// Crop, flip, colour jitter (.4, .4, .4, .1) with .8, gray .2: MoCo and Un-Mix on CIFAR.
    CifarMoco,
    /// Random resized crop, flip (the colour conversion follows on the device): CMC.
    Cmc,
    /// Colour jitter (.4, .4, .4, .1) with .8, gray .1, bicubic crop, flip: SimCLR and BYOL on CIFAR.
    HtdtCifar,
    /// Crop, flip, colour jitter (.8, .8, .8, .2) with .8, gray .2, blur with .5: SwAV.
    Swav,
    /// Crop, flip, colour jitter (.4, .4, .4, .1) with .8, gray .2: SwAV on CIFAR.
    SwavCifar,
    /// Bicubic crop, colour jitter (.8, .8, .8, .2) with .8, gray .2, blur with .5, flip: SimCLR and SwAV on CIFAR in solo-learn.
    SoloSymmetric,
    /// Bicubic crop, colour jitter (.4, .4, .4, .1) with .8, gray .2, blur with .5, flip: SimSiam and MoCo on CIFAR in solo-learn.
    SoloSymmetricWeak,
    /// Bicubic crop, colour jitter (.4, .4, .2, .1) with .8, gray .2, flip: view 1 of BYOL and Barlow Twins on CIFAR in solo-learn.
    #[serde(rename = "solo_asymmetric_1")]
    SoloAsymmetric1,
    /// Bicubic crop, colour jitter (.4, .4, .2, .1) with .8, gray .2, solarization .2, flip: view 2 beside `solo_asymmetric_1`.
    #[serde(rename = "solo_asymmetric_2")]
    SoloAsymmetric2,
    /// Bicubic crop, flip, colour jitter (.4, .4, .2, .1) with .8, gray .2, blur always: view 1 of BYOL (arXiv 2006.07733) and Barlow
    /// Twins (2103.03230) on ImageNet.
    #[serde(rename = "byol_1")]
    Byol1,
    /// Bicubic crop, flip, colour jitter (.4, .4, .2, .1) with .8, gray .2, blur with .1, solarization .2: view 2 beside `byol_1`.
    #[serde(rename = "byol_2")]
    Byol2,
    /// Shorter side resized to 8/7 of the view, centre crop; nothing random. For evaluation.
    Center,
    /// The whole image resized to the view; nothing random. For evaluation.
    Resize,
}

impl RecipeName {
    /// Whether nothing in it is random, so that an image always becomes the same view.
    pub fn is_fixed(self) -> bool {
        matches!(self, RecipeName::Center | RecipeName::Resize)
    }

    /// The smallest share of the image's area that a crop has in the reference program of the recipe.
    pub fn default_min_area(self) -> f64 {
        match self {
            RecipeName::Plain | RecipeName::MocoV1 | RecipeName::Cmc => 0.1,
            RecipeName::MocoV2 | RecipeName::HtdtCifar => 0.2,
            RecipeName::CifarMoco
            | RecipeName::SoloSymmetric
            | RecipeName::SoloSymmetricWeak
            | RecipeName::SoloAsymmetric1
            | RecipeName::SoloAsymmetric2
            | RecipeName::Byol1
            | RecipeName::Byol2 => 0.08,
            RecipeName::Swav | RecipeName::SwavCifar => 0.14,
            RecipeName::Center | RecipeName::Resize => 1.0,
        }
    }
}

/// How the part of the image that becomes the view is chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum Geometry {
    /// A random part.
    RandomCrop(RandomResizedCrop),
    /// See [`centre_window`].
    Centre,
    /// See [`whole_window`].
    Whole,
}

/// A random operation that keeps the size.
#[derive(Debug, Clone, PartialEq)]
pub enum Draw {
    /// Brightness, contrast, saturation, hue.
    Jitter(ColorJitter),
    /// Conversion to grey.
    Gray(RandomGray),
    /// Gaussian blur.
    Blur(RandomBlur),
    /// Horizontal mirror.
    Flip(RandomFlip),
    /// Inversion of bright pixels.
    Solarize(RandomSolarize),
}

impl Draw {
    fn sample(&self, stream: &mut Stream, steps: &mut Vec<Step>) {
        match self {
            Draw::Jitter(jitter) => jitter.sample(stream, steps),
            Draw::Gray(gray) => gray.sample(stream, steps),
            Draw::Blur(blur) => blur.sample(stream, steps),
            Draw::Flip(flip) => flip.sample(stream, steps),
            Draw::Solarize(solarize) => solarize.sample(stream, steps),
        }
    }
}

/// Everything about one view of one image, drawn and ready to print, store or render.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViewParams {
    /// Steps on the whole image.
    pub before: Vec<Step>,
    /// The part of the image that becomes the view.
    pub window: Window,
    /// Steps on the view.
    pub after: Vec<Step>,
}

/// The random description of a view of `size` = (height, width).
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// Height and width of the view.
    pub size: (usize, usize),
    /// Operations on the whole image.
    pub before: Vec<Draw>,
    /// Choice of the part of the image.
    pub geometry: Geometry,
    /// Operations on the view.
    pub after: Vec<Draw>,
}

const FLIP: Draw = Draw::Flip(RandomFlip { prob: 0.5 });
/// The jitter of BYOL, weaker in the saturation.
const BYOL_JITTER: Draw = Draw::Jitter(ColorJitter { prob: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.2, hue: 0.1 });
/// Levels from half of the range on, as in PIL's `solarize`.
const SOLARIZE: Draw = Draw::Solarize(RandomSolarize { prob: 0.2, threshold: 128 });

fn blur(prob: f64) -> Draw {
    Draw::Blur(RandomBlur { prob, min_radius: 0.1, max_radius: 2.0 })
}

fn gray(prob: f64) -> Draw {
    Draw::Gray(RandomGray { prob })
}

fn jitter(prob: f64, strength: f64, hue: f64) -> Draw {
    Draw::Jitter(ColorJitter { prob, brightness: strength, contrast: strength, saturation: strength, hue })
}

impl Recipe {
    /// The recipe `name` for views of `size` (height, width); crops have `min_area..max_area` of the image's area.
    pub fn new(name: RecipeName, size: (usize, usize), min_area: f64, max_area: f64) -> Self {
        use RecipeName as R;
        let filter = match name {
            R::HtdtCifar | R::SoloSymmetric | R::SoloSymmetricWeak | R::SoloAsymmetric1 | R::SoloAsymmetric2 => Filter::Bicubic,
            R::Byol1 | R::Byol2 => Filter::Bicubic,
            _ => Filter::Bilinear,
        };
        let geometry = match name {
            R::Center => Geometry::Centre,
            R::Resize => Geometry::Whole,
            _ => Geometry::RandomCrop(RandomResizedCrop { min_area, max_area, filter }),
        };
        let (before, after) = match name {
            R::Plain | R::Cmc => (vec![], vec![FLIP]),
            R::MocoV1 => (vec![], vec![gray(0.2), jitter(1.0, 0.4, 0.4), FLIP]),
            R::MocoV2 => (vec![], vec![jitter(0.8, 0.4, 0.1), gray(0.2), blur(0.5), FLIP]),
            R::CifarMoco | R::SwavCifar => (vec![], vec![FLIP, jitter(0.8, 0.4, 0.1), gray(0.2)]),
            R::HtdtCifar => (vec![jitter(0.8, 0.4, 0.1), gray(0.1)], vec![FLIP]),
            R::Swav => (vec![], vec![FLIP, jitter(0.8, 0.8, 0.2), gray(0.2), blur(0.5)]),
            R::SoloSymmetric => (vec![], vec![jitter(0.8, 0.8, 0.2), gray(0.2), blur(0.5), FLIP]),
            R::SoloSymmetricWeak => (vec![], vec![jitter(0.8, 0.4, 0.1), gray(0.2), blur(0.5), FLIP]),
            R::SoloAsymmetric1 => (vec![], vec![BYOL_JITTER, gray(0.2), FLIP]),
            R::SoloAsymmetric2 => (vec![], vec![BYOL_JITTER, gray(0.2), SOLARIZE, FLIP]),
            R::Byol1 => (vec![], vec![FLIP, BYOL_JITTER, gray(0.2), blur(1.0)]),
            R::Byol2 => (vec![], vec![FLIP, BYOL_JITTER, gray(0.2), blur(0.1), SOLARIZE]),
            R::Center | R::Resize => (vec![], vec![]),
        };
        Self { size, before, geometry, after }
    }

    /// Draws the parameters for one view of an image of `height` x `width` pixels, in the order of the recipe.
    pub fn sample(&self, stream: &mut Stream, height: usize, width: usize) -> ViewParams {
        let all = |draws: &[Draw], stream: &mut Stream| {
            let mut steps = Vec::with_capacity(8);
            draws.iter().for_each(|draw| draw.sample(stream, &mut steps));
            steps
        };
        let before = all(&self.before, stream);
        let window = match &self.geometry {
            Geometry::RandomCrop(crop) => crop.window(stream, (height, width), self.size),
            Geometry::Centre => centre_window((height, width), self.size),
            Geometry::Whole => whole_window((height, width), self.size),
        };
        ViewParams { before, window, after: all(&self.after, stream) }
    }

    /// Renders `params` of `image` into `out`, u8 `[3, height, width]`.
    ///
    /// Panics if `out` has another length, or if the parameters were drawn for an image or a view of another size.
    pub fn render(&self, params: &ViewParams, image: &RgbImage, out: &mut [u8]) {
        let mut view = Planes::new(self.size.0, self.size.1, out);
        Scratch::with(|scratch| {
            if params.before.is_empty() {
                resample(image, &params.window, &mut view, &mut scratch.resample);
            } else {
                let mut buffer = std::mem::take(&mut scratch.source);
                let mut planes = planes_of(image, &mut buffer);
                params.before.iter().for_each(|step| step.run(&mut planes, scratch));
                resample(&planes.to_image(), &params.window, &mut view, &mut scratch.resample);
                scratch.source = buffer;
            }
            params.after.iter().for_each(|step| step.run(&mut view, scratch));
        });
    }
}

/// The same recipe for every view.
impl Transform for Recipe {
    fn apply(&self, _view: usize, image: &RgbImage, stream: &mut Stream, out: &mut [u8]) {
        let params = self.sample(stream, image.height, image.width);
        self.render(&params, image, out);
    }

    fn size(&self, _view: usize) -> (usize, usize) {
        self.size
    }
}

/// A recipe for each view.
impl Transform for Vec<Recipe> {
    fn apply(&self, view: usize, image: &RgbImage, stream: &mut Stream, out: &mut [u8]) {
        self[view].apply(view, image, stream, out);
    }

    fn size(&self, view: usize) -> (usize, usize) {
        self[view].size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;
    use RecipeName as R;

    const ALL: [R; 16] = [
        R::Plain,
        R::MocoV1,
        R::MocoV2,
        R::CifarMoco,
        R::Cmc,
        R::HtdtCifar,
        R::Swav,
        R::SwavCifar,
        R::SoloSymmetric,
        R::SoloSymmetricWeak,
        R::SoloAsymmetric1,
        R::SoloAsymmetric2,
        R::Byol1,
        R::Byol2,
        R::Center,
        R::Resize,
    ];

    fn pattern(height: usize, width: usize) -> RgbImage {
        RgbImage { height, width, pixels: (0..3 * height * width).map(|i| ((i * i * 37 + 11 * i) % 251) as u8).collect() }
    }

    fn stream(view: u64) -> Stream {
        Stream::new(9, Purpose::View, &[0, 1, view])
    }

    fn recipe(name: R, size: (usize, usize)) -> Recipe {
        Recipe::new(name, size, 0.2, 1.0)
    }

    #[test]
    fn drawing_storing_and_rendering_equals_applying_at_once() {
        let image = pattern(23, 31);
        for name in ALL {
            let recipe = recipe(name, (13, 17));
            for view in 0..20 {
                let [mut at_once, mut again, mut stored] = [(); 3].map(|()| vec![0; 3 * 13 * 17]);
                recipe.apply(0, &image, &mut stream(view), &mut at_once);
                recipe.apply(0, &image, &mut stream(view), &mut again);
                assert_eq!(at_once, again, "{name:?}");
                let params = recipe.sample(&mut stream(view), 23, 31);
                let text = serde_json::to_string(&params).unwrap();
                recipe.render(&serde_json::from_str(&text).unwrap(), &image, &mut stored);
                assert_eq!(at_once, stored, "{name:?} {text}");
            }
        }
    }

    #[test]
    fn images_of_any_shape_fill_views_of_any_shape() {
        for name in ALL {
            for (height, width) in [(1, 1), (1, 64), (64, 1), (2, 3), (7, 5), (33, 18)] {
                for size in [(1, 1), (8, 8), (5, 19), (32, 17)] {
                    for view in 0..6 {
                        let out = &mut vec![0; 3 * size.0 * size.1];
                        recipe(name, size).apply(0, &pattern(height, width), &mut stream(view), out);
                    }
                }
            }
        }
    }

    /// Share of 4000 views with a step of the kind; the bound is five standard errors of the least certain gate.
    #[test]
    fn gates_open_as_often_as_the_recipe_says() {
        let recipe = recipe(R::MocoV2, (8, 8));
        let mut stream = stream(0);
        let views: Vec<ViewParams> = (0..4000).map(|_| recipe.sample(&mut stream, 40, 50)).collect();
        let share = |is: fn(&Step) -> bool| views.iter().filter(|view| view.after.iter().any(is)).count() as f64 / 4000.0;
        for (got, want) in [
            (share(|s| matches!(s, Step::Hue(_))), 0.8),
            (share(|s| matches!(s, Step::Gray)), 0.2),
            (share(|s| matches!(s, Step::Blur { .. })), 0.5),
            (share(|s| matches!(s, Step::Flip)), 0.5),
        ] {
            assert!((got - want).abs() < 0.04, "{got}, want {want}");
        }
        let first = |is: fn(&Step) -> bool| views.iter().filter(|view| view.after.first().is_some_and(is)).count();
        assert!(first(|s| matches!(s, Step::Hue(_))).abs_diff(800) < 130, "each of the four comes first in a quarter of .8");
    }

    /// The step lists of solo-learn (`scripts/pretrain/cifar/augmentations`), of the BYOL paper's table of augmentations (arXiv
    /// 2006.07733, appendix B) and of Barlow Twins' program, written out.
    #[test]
    fn recipes_of_pair_methods_have_the_steps_of_their_programs() {
        let jitter = |strength, saturation, hue| {
            Draw::Jitter(ColorJitter { prob: 0.8, brightness: strength, contrast: strength, saturation, hue })
        };
        let blur = |prob| Draw::Blur(RandomBlur { prob, min_radius: 0.1, max_radius: 2.0 });
        let gray = || Draw::Gray(RandomGray { prob: 0.2 });
        let flip = || Draw::Flip(RandomFlip { prob: 0.5 });
        let solarize = || Draw::Solarize(RandomSolarize { prob: 0.2, threshold: 128 });
        let (strong, weak, byol) = (jitter(0.8, 0.8, 0.2), jitter(0.4, 0.4, 0.1), jitter(0.4, 0.2, 0.1));
        for (text, name, after) in [
            ("solo_symmetric", R::SoloSymmetric, vec![strong, gray(), blur(0.5), flip()]),
            ("solo_symmetric_weak", R::SoloSymmetricWeak, vec![weak, gray(), blur(0.5), flip()]),
            ("solo_asymmetric_1", R::SoloAsymmetric1, vec![byol.clone(), gray(), flip()]),
            ("solo_asymmetric_2", R::SoloAsymmetric2, vec![byol.clone(), gray(), solarize(), flip()]),
            ("byol_1", R::Byol1, vec![flip(), byol.clone(), gray(), blur(1.0)]),
            ("byol_2", R::Byol2, vec![flip(), byol.clone(), gray(), blur(0.1), solarize()]),
        ] {
            assert_eq!(serde_json::to_value(name).unwrap(), text);
            let recipe = Recipe::new(name, (8, 8), name.default_min_area(), 1.0);
            let crop = RandomResizedCrop { min_area: 0.08, max_area: 1.0, filter: Filter::Bicubic };
            let want = Recipe { size: (8, 8), before: vec![], geometry: Geometry::RandomCrop(crop), after };
            assert_eq!(recipe, want, "{text}");
        }
    }

    /// Each view of a list has its own recipe and size.
    #[test]
    fn a_list_of_recipes_has_one_for_each_view() {
        let image = pattern(23, 31);
        let list = vec![recipe(R::MocoV2, (13, 17)), recipe(R::SoloAsymmetric2, (6, 5))];
        for (view, one) in list.iter().enumerate() {
            let (height, width) = list.size(view);
            assert_eq!((height, width), one.size);
            let [mut of_list, mut of_recipe] = [(); 2].map(|()| vec![0; 3 * height * width]);
            list.apply(view, &image, &mut stream(7), &mut of_list);
            one.apply(0, &image, &mut stream(7), &mut of_recipe);
            assert_eq!(of_list, of_recipe);
        }
    }

    #[test]
    fn factors_stay_in_their_ranges() {
        let recipe = recipe(R::Swav, (8, 8));
        let mut stream = stream(1);
        let steps = (0..2000).flat_map(|_| recipe.sample(&mut stream, 40, 50).after);
        let (mut least, mut most) = (f64::MAX, f64::MIN);
        for step in steps {
            match step {
                Step::Brightness(f) | Step::Contrast(f) | Step::Saturation(f) => {
                    assert!((0.2..1.8).contains(&f), "{f}");
                    (least, most) = (least.min(f), most.max(f));
                }
                Step::Hue(turns) => assert!((-0.2..0.2).contains(&turns), "{turns}"),
                Step::Blur { radius } => assert!((0.1..2.0).contains(&radius), "{radius}"),
                _ => {}
            }
        }
        assert!(least < 0.21 && most > 1.79, "{least} {most}");
    }

    #[test]
    fn an_image_of_the_size_of_the_view_is_evaluated_as_it_is() {
        let image = pattern(6, 4);
        for name in [R::Center, R::Resize] {
            let mut view = vec![0; 72];
            recipe(name, (6, 4)).apply(0, &image, &mut stream(0), &mut view);
            assert!((0..72).all(|i| view[i] == image.pixels[i % 24 * 3 + i / 24]));
        }
    }

    /// Golden sums over the levels v_i of torchvision 0.29's `Resize(round(8/7 size))`, `CenterCrop(size)` on a PIL image:
    /// of v_i and of v_i (i mod 9973), interleaved.
    #[test]
    fn the_centre_is_that_of_torchvision() {
        for (image, edge, sum, weighted) in [
            ((37, 53), 28, 298819, 350746049),
            ((60, 41), 28, 296376, 347011218),
            ((375, 500), 224, 19117362, 94803104018),
            ((20, 31), 42, 668623, 1777297893),
        ] {
            let mut view = vec![0; 3 * edge * edge];
            recipe(R::Center, (edge, edge)).apply(0, &pattern(image.0, image.1), &mut stream(0), &mut view);
            let levels = Planes::new(edge, edge, &mut view).to_image().pixels;
            assert_eq!(levels.iter().map(|&v| u64::from(v)).sum::<u64>(), sum, "{image:?}");
            assert_eq!(
                levels.iter().enumerate().map(|(i, &v)| u64::from(v) * (i as u64 % 9973)).sum::<u64>(),
                weighted,
                "{image:?}"
            );
        }
    }
}
