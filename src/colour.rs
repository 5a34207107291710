//! Colour spaces of the encoder's input: definitions in f64, and the constants that the device paths share.
//!
//! A conversion acts on the 8-bit crop and gives the space's natural units (Lab: L 0..100; YCbCr: 16..240), as in scikit-image: sRGB in,
//! D65 white, 2 degree observer. Only the normalisation that follows makes it an input.
//!
//! Every conversion is a function of each byte, a matrix, and a function of the pixel; [`Curve`] says which functions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The space in which the encoder sees the colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ColorSpace {
    /// pixel/255, normalised by `views.mean` and `views.std`.
    #[default]
    Rgb,
    /// CIE L*a*b*, in its natural units (CMC's default; arXiv 1906.05849).
    Lab,
    /// Luma and chroma of ITU-R BT.601, in 16..235 and 16..240.
    YCbCr,
    /// Hue in turns, saturation and value, in 0..1.
    Hsv,
    /// Optical densities of haematoxylin, eosin and DAB (Ruifrok and Johnston 2001), at least 0, in units of 6 ln 10.
    Hed,
    /// CIE L*u*v*, in its natural units: L 0..100.
    Luv,
    /// Luma 0..1 and the chroma of analogue PAL.
    Yuv,
    /// CIE 1931 XYZ: linear light, the Y of white is 1.
    Xyz,
    /// Luma 0..1 and the chroma of SECAM, within 1.333 of 0.
    YDbDr,
    /// Luma 0..1 and the chroma of analogue component video, within .5 of 0.
    YPbPr,
    /// Luma 0..1 and the chroma of NTSC.
    Yiq,
    /// CIE 1931 RGB as scikit-image has it: a matrix of pixel/255, not of linear light.
    RgbCie,
}

/// What a conversion does besides its matrix. Kernels are compiled for one; `shaders/ingest.wgsl` knows them by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Curve {
    /// Nothing: RGB and the spaces that are affine in its bytes.
    Affine,
    /// XYZ: the matrix is of linear light.
    Light,
    /// Linear light before it; cube roots and their differences after it.
    Lab,
    /// Linear light before it; the cube root of Y, and chromaticities after it.
    Luv,
    /// The rule of HSV after it.
    Hsv,
    /// Optical density before it; no negative values after it.
    Hed,
}

/// XYZ of linear sRGB.
const XYZ_FROM_RGB: [[f64; 3]; 3] =
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]];
/// D65, 2 degree observer.
const WHITE: [f64; 3] = [0.95047, 1.0, 1.08883];
/// u' and v' of white.
pub(super) const WHITE_UV: [f64; 2] = [
    4.0 * WHITE[0] / (WHITE[0] + 15.0 * WHITE[1] + 3.0 * WHITE[2]),
    9.0 * WHITE[1] / (WHITE[0] + 15.0 * WHITE[1] + 3.0 * WHITE[2]),
];
/// The affine spaces, of pixel/255.
const YCBCR_FROM_RGB: [[f64; 3]; 3] = [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]];
const YCBCR_OFFSET: [f64; 3] = [16.0, 128.0, 128.0];
const LUMA: [f64; 3] = [0.299, 0.587, 0.114];
const YUV_FROM_RGB: [[f64; 3]; 3] = [LUMA, [-0.14714119, -0.28886916, 0.43601035], [0.61497538, -0.51496512, -0.10001026]];
const YDBDR_FROM_RGB: [[f64; 3]; 3] = [LUMA, [-0.45, -0.883, 1.333], [-1.333, 1.116, 0.217]];
const YPBPR_FROM_RGB: [[f64; 3]; 3] = [LUMA, [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]];
const YIQ_FROM_RGB: [[f64; 3]; 3] = [LUMA, [0.59590059, -0.27455667, -0.32134392], [0.21153661, -0.52273617, 0.31119955]];
const RGBCIE_FROM_RGB: [[f64; 3]; 3] = [
    [0.13725336022997064, 0.026293779059952442, -0.014661535711969898],
    [0.016385623785966662, 0.14980089868815039, 0.016694458060926863],
    [0.0032905876183235683, 0.019793511336483324, 0.1696916440498896],
];
/// Stains of optical density. (scikit-image multiplies from the left, so its `hed_from_rgb` is the transpose.)
const HED_FROM_DENSITY: [[f64; 3]; 3] = [
    [1.8779827368521356, -0.06590806222356334, -0.6019073634392891],
    [-1.0076786862855642, 1.1347303724996625, -0.4804141884970579],
    [-0.5561158181996246, -0.13552179862837116, 1.5735880719641926],
];
const IDENTITY: [[f64; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
/// Where the cube root of Lab gives way to a line, and that line. L of LUV has the same knee.
pub(super) const LAB_KNEE: f64 = 0.008856;
pub(super) const LAB_SLOPE: f64 = 7.787;
pub(super) const LAB_OFFSET: f64 = 16.0 / 116.0;
/// L of LUV below the knee, over Y.
pub(super) const LUV_SLOPE: f64 = 903.3;
/// The least light of which HED takes the logarithm: its density is 1.
pub(super) const LEAST_LIGHT: f64 = 1e-6;

impl Curve {
    /// All curves, in the order of their numbers.
    pub const ALL: [Self; 6] = [Self::Affine, Self::Light, Self::Lab, Self::Luv, Self::Hsv, Self::Hed];

    /// True if the matrix gives the values of the space, up to an offset.
    pub(super) fn ends_with_matrix(self) -> bool {
        matches!(self, Self::Affine | Self::Light)
    }

    /// What the matrix takes of a channel: pixel/255 (as it is for affine spaces), linear light or optical density.
    pub(super) fn input(self, unit: f64) -> f64 {
        match self {
            Self::Affine | Self::Hsv => unit,
            Self::Light | Self::Lab | Self::Luv => linear(unit),
            Self::Hed => unit.max(LEAST_LIGHT).ln() / LEAST_LIGHT.ln(),
        }
    }
}

impl ColorSpace {
    /// All spaces.
    pub const ALL: [Self; 12] = [
        Self::Rgb,
        Self::Lab,
        Self::YCbCr,
        Self::Hsv,
        Self::Hed,
        Self::Luv,
        Self::Yuv,
        Self::Xyz,
        Self::YDbDr,
        Self::YPbPr,
        Self::Yiq,
        Self::RgbCie,
    ];

    /// The name in a config.
    pub fn text(self) -> &'static str {
        match self {
            Self::Rgb => "rgb",
            Self::Lab => "lab",
            Self::YCbCr => "ycbcr",
            Self::Hsv => "hsv",
            Self::Hed => "hed",
            Self::Luv => "luv",
            Self::Yuv => "yuv",
            Self::Xyz => "xyz",
            Self::YDbDr => "ydbdr",
            Self::YPbPr => "ypbpr",
            Self::Yiq => "yiq",
            Self::RgbCie => "rgbcie",
        }
    }

    /// Mean and standard deviation per channel in the space's units. RGB's are ImageNet's, of pixel/255; those of Lab and YCbCr are CMC's. The
    /// others have none that are published: they depend on the data.
    pub fn normalization(self) -> Option<([f64; 3], [f64; 3])> {
        match self {
            Self::Rgb => Some(([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])),
            Self::Lab => Some(([50.0, 6.025, -6.6895], [50.0, 92.208, 101.1675])),
            Self::YCbCr => Some(([116.151, 121.080, 132.342], [109.500, 111.855, 111.964])),
            _ => None,
        }
    }

    /// What the conversion does besides its matrix.
    pub fn curve(self) -> Curve {
        match self {
            Self::Xyz => Curve::Light,
            Self::Lab => Curve::Lab,
            Self::Luv => Curve::Luv,
            Self::Hsv => Curve::Hsv,
            Self::Hed => Curve::Hed,
            Self::Rgb | Self::YCbCr | Self::Yuv | Self::YDbDr | Self::YPbPr | Self::Yiq | Self::RgbCie => Curve::Affine,
        }
    }

    fn matrix(self) -> [[f64; 3]; 3] {
        match self {
            Self::Rgb | Self::Hsv => IDENTITY,
            Self::Xyz | Self::Lab | Self::Luv => XYZ_FROM_RGB,
            Self::Hed => HED_FROM_DENSITY,
            Self::YCbCr => YCBCR_FROM_RGB,
            Self::Yuv => YUV_FROM_RGB,
            Self::YDbDr => YDBDR_FROM_RGB,
            Self::YPbPr => YPBPR_FROM_RGB,
            Self::Yiq => YIQ_FROM_RGB,
            Self::RgbCie => RGBCIE_FROM_RGB,
        }
    }

    /// Added to what the matrix gives.
    fn offset(self) -> [f64; 3] {
        if self == Self::YCbCr { YCBCR_OFFSET } else { [0.0; 3] }
    }

    /// A pixel in the units of the space, as its variant says.
    pub fn convert(self, rgb: [u8; 3]) -> [f64; 3] {
        let curve = self.curve();
        let input = rgb.map(|byte| curve.input(f64::from(byte) / 255.0));
        let pixel: [f64; 3] = std::array::from_fn(|c| dot(self.matrix()[c], input) + self.offset()[c]);
        match curve {
            Curve::Affine | Curve::Light => pixel,
            Curve::Lab => {
                let [x, y, z] = std::array::from_fn(|c| lab_curve(pixel[c] / WHITE[c]));
                [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
            }
            Curve::Luv => {
                let [x, y, z] = pixel;
                let sum = x + 15.0 * y + 3.0 * z;
                if sum == 0.0 {
                    return [0.0; 3];
                }
                let lightness = if y > LAB_KNEE { 116.0 * y.cbrt() - 16.0 } else { LUV_SLOPE * y };
                let [u, v] = [4.0 * x / sum - WHITE_UV[0], 9.0 * y / sum - WHITE_UV[1]];
                [lightness, 13.0 * lightness * u, 13.0 * lightness * v]
            }
            Curve::Hsv => hsv(pixel),
            Curve::Hed => pixel.map(|stain| stain.max(0.0)),
        }
    }

    /// The nearest 8-bit pixel: the way back, for pictures. HED cuts negative stains off: a pixel that had one comes back without it.
    pub fn invert(self, value: [f64; 3]) -> [u8; 3] {
        let solved = |pixel: [f64; 3]| solve(self.matrix(), pixel);
        let unit = match self.curve() {
            Curve::Affine => solved(std::array::from_fn(|c| value[c] - self.offset()[c])),
            Curve::Light => solved(value).map(gamma),
            Curve::Lab => {
                let y = (value[0] + 16.0) / 116.0;
                let curve = [y + value[1] / 500.0, y, y - value[2] / 200.0];
                let back = |f: f64| if f.powi(3) > LAB_KNEE { f.powi(3) } else { (f - LAB_OFFSET) / LAB_SLOPE };
                solved(std::array::from_fn(|c| back(curve[c]) * WHITE[c])).map(gamma)
            }
            Curve::Luv => {
                let lightness = value[0];
                if lightness <= 0.0 {
                    return [0; 3];
                }
                let cube = ((lightness + 16.0) / 116.0).powi(3);
                let y = if cube > LAB_KNEE { cube } else { lightness / LUV_SLOPE };
                let [u, v] = [value[1] / (13.0 * lightness) + WHITE_UV[0], value[2] / (13.0 * lightness) + WHITE_UV[1]];
                solved([9.0 * u / (4.0 * v) * y, y, (12.0 - 3.0 * u - 20.0 * v) / (4.0 * v) * y]).map(gamma)
            }
            Curve::Hsv => rgb_of_hsv(value),
            Curve::Hed => solved(value).map(|density| (density * LEAST_LIGHT.ln()).exp()),
        };
        unit.map(|v| (v * 255.0).round().clamp(0.0, 255.0) as u8)
    }
}

/// Mean and standard deviation per channel, in the units of a colour space: what turns bytes into inputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalization {
    /// The space to convert to first.
    pub space: ColorSpace,
    /// Mean per channel; RGB of pixel/255, others in natural units.
    pub mean: [f32; 3],
    /// Standard deviation per channel, likewise.
    pub std: [f32; 3],
}

/// The constants with which every path but the reference converts and normalises a pixel, in the order in which kernels read them:
/// three rows of `matrix`, then `gain`, then `shift`.
///
/// `matrix[c] . (r, g, b, 1)` of bytes, linear light or optical densities is the result where the space's curve is [`Curve::Affine`] or
/// [`Curve::Light`]. For the others the result is `value * gain + shift`, with these values of that product, `p`:
///
/// | curve | `p` | values |
/// |---|---|---|
/// | Lab | XYZ over white, `f` its curve | `f_y`, `f_x - f_y`, `f_y - f_z` |
/// | LUV | XYZ | `L`, `L (u' - white's)`, `L (v' - white's)` |
/// | HSV | bytes | hue in sixths of a turn, saturation, the largest byte |
/// | HED | stains | at least 0 |
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constants {
    /// One row per channel; the last column is added.
    pub matrix: [[f32; 4]; 3],
    /// Unused where the matrix is all.
    pub gain: [f32; 3],
    /// Unused where the matrix is all.
    pub shift: [f32; 3],
}

/// 32-bit words of [`Constants`] in a kernel's buffer.
pub const CONSTANT_WORDS: usize = 18;

impl Constants {
    /// The words in the order that kernels read.
    pub fn words(&self) -> [f32; CONSTANT_WORDS] {
        let mut words = [0.0; CONSTANT_WORDS];
        let all = self.matrix.iter().flatten().chain(&self.gain).chain(&self.shift);
        words.iter_mut().zip(all).for_each(|(word, value)| *word = *value);
        words
    }
}

impl Normalization {
    /// A space with its own constants; one that has none is left in its units.
    pub fn of(space: ColorSpace) -> Self {
        let (mean, std) = space.normalization().unwrap_or(([0.0; 3], [1.0; 3]));
        Self { space, mean: mean.map(|v| v as f32), std: std.map(|v| v as f32) }
    }

    /// The nearest 8-bit pixel of a normalised one.
    pub fn invert(&self, value: [f32; 3]) -> [u8; 3] {
        self.space.invert(std::array::from_fn(|c| f64::from(value[c]) * f64::from(self.std[c]) + f64::from(self.mean[c])))
    }

    /// RGB as `byte * scale + shift` per channel; `None` for spaces that mix channels.
    pub fn affine(&self) -> Option<[(f32, f32); 3]> {
        let Constants { matrix, .. } = self.constants();
        (self.space == ColorSpace::Rgb).then(|| std::array::from_fn(|c| (matrix[c][c], matrix[c][3])))
    }

    /// The constants of the device paths: everything is combined in f64 and rounded once.
    pub fn constants(&self) -> Constants {
        let (mean, std, curve) = (self.mean.map(f64::from), self.std.map(f64::from), self.space.curve());
        let divisor = match curve {
            Curve::Affine => std.map(|std| 255.0 * std),
            Curve::Light => std,
            Curve::Lab => WHITE,
            Curve::Luv | Curve::Hsv | Curve::Hed => [1.0; 3],
        };
        let (units, zero) = match curve {
            Curve::Affine | Curve::Light | Curve::Hed => ([1.0; 3], self.space.offset()),
            Curve::Lab => ([116.0, 500.0, 200.0], [-16.0, 0.0, 0.0]),
            Curve::Luv => ([1.0, 13.0, 13.0], [0.0; 3]),
            Curve::Hsv => ([1.0 / 6.0, 1.0, 1.0 / 255.0], [0.0; 3]),
        };
        let shift = std::array::from_fn(|c| ((zero[c] - mean[c]) / std[c]) as f32);
        let matrix = std::array::from_fn(|c| {
            let [r, g, b] = self.space.matrix()[c].map(|weight| (weight / divisor[c]) as f32);
            [r, g, b, if curve.ends_with_matrix() { shift[c] } else { 0.0 }]
        });
        Constants { matrix, gain: std::array::from_fn(|c| (units[c] / std[c]) as f32), shift }
    }
}

/// Linear light of an sRGB value in 0..=1.
fn linear(unit: f64) -> f64 {
    if unit <= 0.04045 { unit / 12.92 } else { ((unit + 0.055) / 1.055).powf(2.4) }
}

/// sRGB of linear light.
fn gamma(linear: f64) -> f64 {
    if linear <= 0.04045 / 12.92 { linear * 12.92 } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 }
}

fn lab_curve(t: f64) -> f64 {
    if t > LAB_KNEE { t.cbrt() } else { LAB_SLOPE * t + LAB_OFFSET }
}

/// Hue in turns, saturation and value of red, green and blue in 0..=1. Where channels tie for the largest all their sectors give the same hue.
fn hsv([r, g, b]: [f64; 3]) -> [f64; 3] {
    let top = r.max(g).max(b);
    let spread = top - r.min(g).min(b);
    if spread == 0.0 {
        return [0.0, 0.0, top];
    }
    let sixths = if b == top {
        4.0 + (r - g) / spread
    } else if g == top {
        2.0 + (b - r) / spread
    } else {
        (g - b) / spread
    };
    [(sixths / 6.0).rem_euclid(1.0), spread / top, top]
}

/// The way back: over a turn each channel rises and falls within a sixth and stays for two, red from a sixth before hue 0.
fn rgb_of_hsv([hue, saturation, value]: [f64; 3]) -> [f64; 3] {
    [5.0, 3.0, 1.0].map(|start| {
        let sixths = (6.0 * hue + start).rem_euclid(6.0);
        value - value * saturation * sixths.min(4.0 - sixths).clamp(0.0, 1.0)
    })
}

fn dot(row: [f64; 3], v: [f64; 3]) -> f64 {
    row.iter().zip(v).map(|(a, b)| a * b).sum()
}

/// x with `m x = v`, by Cramer's rule.
fn solve(m: [[f64; 3]; 3], v: [f64; 3]) -> [f64; 3] {
    let det = |m: [[f64; 3]; 3]| {
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
            + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
    };
    std::array::from_fn(|c| {
        let mut replaced = m;
        (0..3).for_each(|r| replaced[r][c] = v[r]);
        det(replaced) / det(m)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pixels without a negative stain, which HED brings back too.
    const STAINED: [[u8; 3]; 5] = [[255, 255, 255], [90, 60, 140], [200, 120, 180], [128, 100, 130], [150, 90, 80]];
    const OTHERS: [[u8; 3]; 10] = [
        [0, 0, 0],
        [1, 1, 1],
        [0, 0, 1],
        [255, 0, 0],
        [1, 2, 3],
        [10, 11, 9],
        [17, 200, 99],
        [128, 127, 250],
        [255, 255, 0],
        [60, 60, 60],
    ];

    #[test]
    fn a_pixel_goes_to_each_space_and_back() {
        for space in ColorSpace::ALL {
            let own = Normalization::of(space);
            let other = Normalization { space, mean: [0.5, -0.25, 0.125], std: [0.25, 2.0, 0.5] };
            let others = OTHERS.iter().filter(|_| space != ColorSpace::Hed);
            for &rgb in STAINED.iter().chain(others) {
                let value = space.convert(rgb);
                assert_eq!(space.invert(value), rgb, "{space:?} {value:?}");
                for norm in [own, other] {
                    let normalised =
                        std::array::from_fn(|c| ((value[c] - f64::from(norm.mean[c])) / f64::from(norm.std[c])) as f32);
                    assert_eq!(norm.invert(normalised), rgb, "{space:?} {value:?}");
                }
            }
        }
    }

    #[test]
    fn a_negative_stain_is_lost_and_the_others_stay() {
        for rgb in [[60, 60, 60], [128, 127, 250]] {
            let kept = ColorSpace::Hed.convert(rgb);
            assert!(kept.contains(&0.0), "{rgb:?}: {kept:?}");
            let back = ColorSpace::Hed.convert(ColorSpace::Hed.invert(kept));
            assert!(kept.iter().zip(&back).all(|(kept, back)| (kept - back).abs() < 0.002), "{rgb:?}: {kept:?}, {back:?}");
        }
    }

    #[test]
    fn the_names_are_those_of_the_config() {
        for space in ColorSpace::ALL {
            assert_eq!(serde_json::to_value(space).unwrap(), space.text());
        }
        let forms = schemars::schema_for!(ColorSpace).to_value();
        assert_eq!(forms["oneOf"].as_array().unwrap().len(), ColorSpace::ALL.len());
    }

    #[test]
    fn white_is_the_end_of_each_scale() {
        for (space, want) in [
            (ColorSpace::Lab, [100.0, 0.0, 0.0]),
            (ColorSpace::YCbCr, [235.0, 128.0, 128.0]),
            (ColorSpace::Hsv, [0.0, 0.0, 1.0]),
            (ColorSpace::Hed, [0.0; 3]),
            (ColorSpace::Luv, [100.0, 0.0, 0.0]),
            (ColorSpace::Yuv, [1.0, 0.0, 0.0]),
            (ColorSpace::Xyz, WHITE),
            (ColorSpace::YDbDr, [1.0, 0.0, 0.0]),
            (ColorSpace::YPbPr, [1.0, 0.0, 0.0]),
            (ColorSpace::Yiq, [1.0, 0.0, 0.0]),
        ] {
            let got = space.convert([255; 3]);
            assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() < 0.02), "{space:?}: {got:?}");
        }
    }
}
