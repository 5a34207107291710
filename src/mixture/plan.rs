//! The plan of a mixture: plain data that every implementation executes.
//!
//! The host decides, the device does: a plan can be printed, stored, replayed and handed to the reference loops, to tensor
//! operations or to a shader.

use serde::{Deserialize, Serialize};

use super::bbox::{BBox, cut_box, kept_area, side_box};
use crate::error::{Error, Result};

/// What a row does to its own image, per channel and pixel, with `o = own_scale * own`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum Kind {
    /// `o`.
    #[default]
    Copy = 0,
    /// `lambda * o + (1 - lambda) * other`.
    Blend = 1,
    /// `other` inside the box, `o` outside; `other` is not scaled.
    Paste = 2,
    /// `fill_value` inside the box, `o` outside.
    Fill = 3,
    /// The whole of `other`, scaled to the box, and `o` outside; values of `other` are not scaled. Pixel (y, x) of the box is the one that
    /// [`BBox::shows`] there.
    Resize = 4,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Copy, Self::Blend, Self::Paste, Self::Fill, Self::Resize];

    /// True when rows of this kind read their partner.
    pub fn reads_partner(self) -> bool {
        matches!(self, Self::Blend | Self::Paste | Self::Resize)
    }
}

/// The longest side of images that `resize` scales: the products of [`shown`](super::bbox::shown) must fit 32 bits.
const MOST_RESIZED: usize = 65_535;

/// What happens to one image in one pass.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The rule.
    pub kind: Kind,
    /// Image that `other` is read from, as it was at the start of the stage. Below T; may be the image itself.
    pub partner: u32,
    /// Weight of the own image in 0..=1. Only `blend` reads it.
    pub lambda: f32,
    /// Where `paste`, `fill` and `resize` write.
    #[serde(rename = "box")]
    pub bbox: BBox,
    /// Factor of the own image, for every kind.
    pub own_scale: f32,
    /// What `fill` writes, in normalised units.
    pub fill_value: f32,
}

/// 32-bit words of a packed row.
pub const ROW_WORDS: usize = 9;

/// How a word of a packed row is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Unsigned integer.
    U32,
    /// The bits of an f32.
    F32,
}

/// The packed row, word by word. This table is the whole contract with the device kernels.
///
/// | word | name | type | meaning |
/// |---|---|---|---|
/// | 0 | `kind` | u32 | 0 copy, 1 blend, 2 paste, 3 fill, 4 resize ([`Kind`]) |
/// | 1 | `partner` | u32 | image that `other` is read from, in the input of the stage |
/// | 2 | `lambda` | f32 | weight of the own image (blend) |
/// | 3 | `y0` | u32 | first row of the box (paste, fill, resize) |
/// | 4 | `x0` | u32 | first column |
/// | 5 | `y1` | u32 | row after the last |
/// | 6 | `x1` | u32 | column after the last |
/// | 7 | `own_scale` | f32 | factor of the own image (every kind) |
/// | 8 | `fill_value` | f32 | written by fill |
///
/// Rows follow each other without padding, pass by pass: word `f` of image `i` in pass `p` is at `(p * T + i) * ROW_WORDS + f`.
pub const ROW_LAYOUT: [(&str, Word); ROW_WORDS] = [
    ("kind", Word::U32),
    ("partner", Word::U32),
    ("lambda", Word::F32),
    ("y0", Word::U32),
    ("x0", Word::U32),
    ("y1", Word::U32),
    ("x1", Word::U32),
    ("own_scale", Word::F32),
    ("fill_value", Word::F32),
];

impl Default for Row {
    /// A copy that changes nothing.
    fn default() -> Self {
        Self { kind: Kind::Copy, partner: 0, lambda: 1.0, bbox: BBox::default(), own_scale: 1.0, fill_value: 0.0 }
    }
}

impl Row {
    /// `lambda * own + (1 - lambda) * image[partner]`. `lambda` is rounded to f32 here and nowhere earlier.
    pub fn blend(partner: u32, lambda: f64) -> Self {
        Self { kind: Kind::Blend, partner, lambda: lambda as f32, ..Self::default() }
    }

    /// `image[partner]` inside the box. `lambda`, from which the box was cut, is kept for print-outs.
    pub fn paste(partner: u32, lambda: f64, bbox: BBox) -> Self {
        Self { kind: Kind::Paste, partner, lambda: lambda as f32, bbox, ..Self::default() }
    }

    /// The whole of `image[partner]`, scaled to the box.
    pub fn resize(partner: u32, bbox: BBox) -> Self {
        Self { kind: Kind::Resize, partner, bbox, ..Self::default() }
    }

    /// `fill_value` inside the box.
    pub fn fill(bbox: BBox, fill_value: f64) -> Self {
        Self { kind: Kind::Fill, bbox, fill_value: fill_value as f32, ..Self::default() }
    }

    /// True when the row certainly leaves every bit of its image as it was.
    pub fn is_identity(&self) -> bool {
        let writes = match self.kind {
            Kind::Copy => false,
            Kind::Blend => true,
            Kind::Paste | Kind::Fill | Kind::Resize => !self.bbox.is_empty(),
        };
        !writes && self.own_scale == 1.0
    }

    /// The words of [`ROW_LAYOUT`].
    pub fn pack(&self) -> [i32; ROW_WORDS] {
        let BBox { y0, x0, y1, x1 } = self.bbox;
        let (lambda, own_scale, fill_value) = (self.lambda.to_bits(), self.own_scale.to_bits(), self.fill_value.to_bits());
        [self.kind as u32, self.partner, lambda, y0, x0, y1, x1, own_scale, fill_value].map(|word| word as i32)
    }

    /// What is wrong with the row for `t` images of `h` x `w` pixels, if anything.
    fn problem(&self, t: usize, h: usize, w: usize) -> Option<String> {
        let BBox { y0, x0, y1, x1 } = self.bbox;
        if self.partner as usize >= t {
            Some(format!("partner {} of {t} images", self.partner))
        } else if y0 > y1 || x0 > x1 || y1 as usize > h || x1 as usize > w {
            Some(format!("box [{y0}, {x0}, {y1}, {x1}] in {h}x{w} pixels"))
        } else if self.kind == Kind::Resize && h.max(w) > MOST_RESIZED {
            Some(format!("resize of an image with more than {MOST_RESIZED} pixels in a line or column"))
        } else if !(0.0..=1.0).contains(&self.lambda) {
            Some(format!("lambda {} outside 0..=1", self.lambda))
        } else if !self.own_scale.is_finite() || !self.fill_value.is_finite() {
            Some(format!("own_scale {} and fill_value {} must be finite", self.own_scale, self.fill_value))
        } else {
            None
        }
    }
}

/// One row per image, T in all.
pub type Pass = Vec<Row>;

/// Passes that fold in order and all read `other` from the stage's input: with `acc_0 = input`,
/// `acc_{p+1}[i] = op(rows[p][i], own = acc_p[i], other = input[partner])`, and the output is the last `acc`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// The passes, first to last.
    pub passes: Vec<Pass>,
}

impl Stage {
    /// The rows as device kernels read them, see [`ROW_LAYOUT`]. Length: passes x T x [`ROW_WORDS`].
    pub fn pack(&self) -> Vec<i32> {
        self.passes.iter().flatten().flat_map(Row::pack).collect()
    }
}

/// A mixture of T images of which the first N are the batch and the rest partners only.
///
/// Each stage reads the previous one's output; after the last one the images `keep..T` are dropped.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixturePlan {
    /// The stages, first to last. None: nothing is mixed.
    pub stages: Vec<Stage>,
    /// N, the number of images in the result.
    pub keep: usize,
}

/// Rows that change something, as (image, row), per stage and pass.
pub type SparseStages = Vec<Vec<Vec<(usize, Row)>>>;

impl MixturePlan {
    /// The plan for `t` images of which `keep` are kept; images without a row are copied. Passes that change nothing and
    /// stages without a pass are left out.
    pub fn from_sparse(sparse: &SparseStages, t: usize, keep: usize) -> Self {
        let dense = |rows: &Vec<(usize, Row)>| {
            let mut pass = vec![Row::default(); t];
            rows.iter().for_each(|&(image, row)| pass[image] = row);
            pass
        };
        let stage = |passes: &Vec<Vec<(usize, Row)>>| Stage {
            passes: passes.iter().filter(|rows| rows.iter().any(|(_, row)| !row.is_identity())).map(dense).collect(),
        };
        Self { stages: sparse.iter().map(stage).filter(|stage| !stage.passes.is_empty()).collect(), keep }
    }

    /// True when the result is the first N images, bit by bit.
    pub fn is_identity(&self) -> bool {
        self.stages.iter().flat_map(|stage| &stage.passes).flatten().all(Row::is_identity)
    }

    /// Checks the plan against `t` images of `h` x `w` pixels.
    ///
    /// # Errors
    /// Names every pass without exactly `t` rows and the rows whose partner, box or numbers are out of range.
    pub fn validate(&self, t: usize, h: usize, w: usize) -> Result<()> {
        let mut problems = Vec::new();
        if self.keep > t {
            problems.push(format!("keeps {} of {t} images", self.keep));
        }
        for (s, stage) in self.stages.iter().enumerate() {
            for (p, pass) in stage.passes.iter().enumerate() {
                if pass.len() != t {
                    problems.push(format!("stage {s}, pass {p}: {} rows for {t} images", pass.len()));
                }
                let rows = pass.iter().enumerate();
                problems
                    .extend(rows.filter_map(|(i, row)| Some(format!("stage {s}, pass {p}, row {i}: {}", row.problem(t, h, w)?))));
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        let error = Error::input(format!("the mixture plan has {} problems for {t} images of {h}x{w} pixels", problems.len()));
        let hint = "a plan fits only the batch size and the image size that it was drawn for";
        Err(problems.into_iter().take(8).fold(error, Error::detail).hint(hint))
    }
}

/// A batch of mixtures beside the clean views, and what its loss terms weigh: mixture j counts `lambdas[j]` towards image j and the rest towards
/// image `partners[j]`.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchMixture {
    /// The views, from 0, that own images and partners are of.
    pub views: [usize; 2],
    /// One stage. Its images are those of the own view and, where the partners are of another one, then those of that: row N + i of such a plan is
    /// image i of the other view.
    pub plan: MixturePlan,
    /// Weight (blend) or exact kept area (paste, resize) of the own image, one per mixture; all equal unless weights are drawn per image.
    pub lambdas: Vec<f64>,
    /// Batch row of the partner of each mixture.
    pub partners: Vec<u32>,
    /// True when weights are drawn per image.
    pub per_sample: bool,
}

impl BatchMixture {
    /// The mixture of image i of the first view with image `partners[i]` of it, a permutation, from one `(number, cy, cx)` per image.
    ///
    /// `kind` is blend, paste or resize. The number is lambda, for which paste cuts its box; for resize it is the side of the box as a part of the
    /// image's. Where there is a box, the weight is the exact kept area.
    ///
    /// # Errors
    /// If `kind` is another or `partners` is no permutation of the length of `draws`.
    pub fn new(kind: Kind, (h, w): (usize, usize), partners: &[u32], draws: &[(f64, usize, usize)]) -> Result<Self> {
        if invert(partners).is_none_or(|inverse| inverse.len() != draws.len()) {
            let fact = format!("{} partners are no permutation of {} images", partners.len(), draws.len());
            return Err(Error::input(fact).hint("name every image of the batch exactly once"));
        }
        let mut lambdas = Vec::with_capacity(draws.len());
        let mut pass = Vec::with_capacity(draws.len());
        for (&partner, &(number, cy, cx)) in partners.iter().zip(draws) {
            let (row, used) = match kind {
                Kind::Blend => (Row::blend(partner, number), number),
                Kind::Paste => {
                    let bbox = cut_box(h, w, number, cy, cx).2;
                    (Row::paste(partner, number, bbox), kept_area(h, w, &bbox))
                }
                Kind::Resize => {
                    let bbox = side_box(h, w, number, cy, cx).2;
                    (Row::resize(partner, bbox), kept_area(h, w, &bbox))
                }
                Kind::Copy | Kind::Fill => {
                    let hint = "use Kind::Blend, Kind::Paste or Kind::Resize";
                    return Err(Error::input("a batch mixture blends, pastes or resizes").hint(hint));
                }
            };
            pass.push(row);
            lambdas.push(used);
        }
        let plan = MixturePlan { stages: vec![Stage { passes: vec![pass] }], keep: draws.len() };
        Ok(Self { views: [0, 0], plan, lambdas, partners: partners.to_vec(), per_sample: false })
    }

    /// The one weight of the batch; `None` when weights are drawn per image (or there is no image).
    pub fn lambda(&self) -> Option<f64> {
        if self.per_sample { None } else { self.lambdas.first().copied() }
    }

    /// The views whose images the plan is of, one view after the other.
    pub fn sources(&self) -> Vec<usize> {
        let [own, partner] = self.views;
        if own == partner { vec![own] } else { vec![own, partner] }
    }

    /// For each image the mixture in which it is the partner; `None` where partners are no permutation.
    pub fn inverse(&self) -> Option<Vec<u32>> {
        invert(&self.partners)
    }
}

/// The inverse of a permutation of 0..n, or `None` if it is none.
fn invert(permutation: &[u32]) -> Option<Vec<u32>> {
    let mut inverse = vec![None; permutation.len()];
    for (i, &image) in permutation.iter().enumerate() {
        let slot = inverse.get_mut(image as usize)?;
        if slot.replace(i as u32).is_some() {
            return None;
        }
    }
    inverse.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> MixturePlan {
        let paste = Row { own_scale: 0.9, ..Row::paste(2, 0.3, BBox { y0: 1, x0: 0, y1: 4, x1: 7 }) };
        let rows = vec![vec![(0, Row::blend(1, 0.1))], vec![]];
        let sparse = vec![rows, vec![vec![(1, paste), (2, Row::fill(paste.bbox, 1.0 / 3.0))]]];
        MixturePlan::from_sparse(&sparse, 3, 2)
    }

    #[test]
    fn passes_that_change_nothing_are_left_out() {
        let lens: Vec<usize> = plan().stages.iter().map(|stage| stage.passes.len()).collect();
        assert_eq!(lens, [1, 1]);
        let nothing = vec![vec![vec![(0, Row::paste(1, 1.0, BBox::default()))]]];
        let nothing = MixturePlan::from_sparse(&nothing, 2, 2);
        assert!(nothing.stages.is_empty() && nothing.is_identity() && !plan().is_identity());
    }

    #[test]
    fn a_printed_plan_reads_back_with_equal_bits() {
        let text = serde_json::to_string(&plan()).unwrap();
        assert!(
            text.contains(r#"{"kind":"paste","partner":2,"lambda":0.3,"box":[1,0,4,7],"own_scale":0.9,"fill_value":0.0}"#),
            "{text}"
        );
        let back: MixturePlan = serde_json::from_str(&text).unwrap();
        assert_eq!(back, plan());
        assert!(back.stages.iter().zip(&plan().stages).all(|(a, b)| a.pack() == b.pack()));
    }

    #[test]
    fn words_stand_where_the_table_says() {
        let row = Row { own_scale: 0.5, fill_value: -2.0, ..Row::paste(9, 0.25, BBox { y0: 1, x0: 2, y1: 3, x1: 4 }) };
        let word = |name: &str| row.pack()[ROW_LAYOUT.iter().position(|(n, _)| *n == name).unwrap()];
        let integers = ["kind", "partner", "y0", "x0", "y1", "x1"].map(word);
        assert_eq!(integers, [2, 9, 1, 2, 3, 4]);
        let floats = ["lambda", "own_scale", "fill_value"].map(|name| f32::from_bits(word(name) as u32));
        assert_eq!(floats, [0.25, 0.5, -2.0]);
        let stage = &plan().stages[1];
        assert_eq!(stage.pack()[ROW_WORDS..2 * ROW_WORDS], stage.passes[0][1].pack());
    }

    #[test]
    fn identity_rows_are_those_that_write_nothing() {
        let one = BBox { y0: 0, x0: 0, y1: 1, x1: 1 };
        assert!(Row::default().is_identity() && Row::fill(BBox::default(), 3.0).is_identity());
        assert!(!Row::fill(one, 0.0).is_identity() && !Row::blend(0, 1.0).is_identity());
        assert!(!Row { own_scale: 0.5, ..Row::paste(0, 1.0, BBox::default()) }.is_identity());
        assert!(Row::resize(1, BBox::default()).is_identity() && !Row::resize(1, one).is_identity());
    }

    #[test]
    fn all_problems_of_a_plan_are_reported() {
        assert_eq!(plan().validate(3, 4, 7), Ok(()));
        let message = |t, h, w| plan().validate(t, h, w).unwrap_err().to_string();
        assert!(message(3, 3, 7).contains("stage 1, pass 0, row 1: box [1, 0, 4, 7] in 3x7 pixels"));
        assert!(message(3, 4, 6).contains("row 2: box"));
        let wrong = message(1, 4, 7);
        for part in ["keeps 2 of 1", "stage 0, pass 0: 3 rows for 1", "row 0: partner 1 of 1", "row 1: partner 2 of 1"] {
            assert!(wrong.contains(part), "{part} not in {wrong}");
        }
        let mut nan = plan();
        nan.stages[0].passes[0][2].lambda = f32::NAN;
        assert!(nan.validate(3, 4, 7).unwrap_err().to_string().contains("lambda NaN"));
        let resized = |w| {
            MixturePlan::from_sparse(&vec![vec![vec![(0, Row::resize(1, BBox { y0: 0, x0: 0, y1: 1, x1: 1 }))]]], 2, 2)
                .validate(2, 1, w)
        };
        assert_eq!(resized(65_535), Ok(()));
        assert!(resized(65_536).unwrap_err().to_string().contains("resize of an image with more than 65535 pixels"));
    }
}
