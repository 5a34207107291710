//! Colour spaces of the encoder's input: definitions in f64, and the constants that the device paths share.
//!
//! A conversion acts on the 8-bit crop and gives the space's natural units (Lab: L 0..100; YCbCr: 16..240), as in scikit-image: sRGB in,
//! D65 white, 2 degree observer. Only the normalisation that follows makes it an input.

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
}

/// XYZ of linear sRGB.
const XYZ_FROM_RGB: [[f64; 3]; 3] =
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]];
/// D65, 2 degree observer.
const WHITE: [f64; 3] = [0.95047, 1.0, 1.08883];
/// YCbCr of pixel/255.
const YCBCR_FROM_RGB: [[f64; 3]; 3] = [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]];
const YCBCR_OFFSET: [f64; 3] = [16.0, 128.0, 128.0];
/// Where the cube root of Lab gives way to a line, and that line.
pub(super) const LAB_KNEE: f64 = 0.008856;
pub(super) const LAB_SLOPE: f64 = 7.787;
pub(super) const LAB_OFFSET: f64 = 16.0 / 116.0;

impl ColorSpace {
    /// Mean and standard deviation per channel in the space's units. RGB's are ImageNet's, of pixel/255; the others CMC's.
    pub fn normalization(self) -> ([f64; 3], [f64; 3]) {
        match self {
            Self::Rgb => ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            Self::Lab => ([50.0, 6.025, -6.6895], [50.0, 92.208, 101.1675]),
            Self::YCbCr => ([116.151, 121.080, 132.342], [109.500, 111.855, 111.964]),
        }
    }

    /// A pixel in the units of the space: RGB in 0..=1, Lab and YCbCr as the module says.
    pub fn convert(self, rgb: [u8; 3]) -> [f64; 3] {
        let unit = rgb.map(|byte| f64::from(byte) / 255.0);
        match self {
            Self::Rgb => unit,
            Self::YCbCr => std::array::from_fn(|c| dot(YCBCR_FROM_RGB[c], unit) + YCBCR_OFFSET[c]),
            Self::Lab => {
                let linear = unit.map(linear);
                let [x, y, z] = std::array::from_fn(|c| lab_curve(dot(XYZ_FROM_RGB[c], linear) / WHITE[c]));
                [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
            }
        }
    }

    /// The nearest 8-bit pixel: the way back, for pictures.
    pub fn invert(self, value: [f64; 3]) -> [u8; 3] {
        let unit = match self {
            Self::Rgb => value,
            Self::YCbCr => solve(YCBCR_FROM_RGB, std::array::from_fn(|c| value[c] - YCBCR_OFFSET[c])),
            Self::Lab => {
                let y = (value[0] + 16.0) / 116.0;
                let curve = [y + value[1] / 500.0, y, y - value[2] / 200.0];
                let back = |f: f64| if f.powi(3) > LAB_KNEE { f.powi(3) } else { (f - LAB_OFFSET) / LAB_SLOPE };
                solve(XYZ_FROM_RGB, std::array::from_fn(|c| back(curve[c]) * WHITE[c])).map(gamma)
            }
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
/// RGB and YCbCr are affine in the bytes: `out_c = matrix[c] . (r, g, b, 1)`. For Lab, `matrix[c] . (linear r, g, b, 1)` is XYZ over white,
/// `f` its curve, and `out = (f_y, f_x - f_y, f_y - f_z) * gain + shift`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constants {
    /// One row per output channel (Lab: per X, Y, Z); the last column is added.
    pub matrix: [[f32; 4]; 3],
    /// Lab only.
    pub gain: [f32; 3],
    /// Lab only.
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
        let (mean, std) = (self.mean.map(f64::from), self.std.map(f64::from));
        let affine = |from_rgb: [[f64; 3]; 3], offset: [f64; 3]| {
            std::array::from_fn(|c| {
                let [r, g, b] = from_rgb[c].map(|weight| (weight / (255.0 * std[c])) as f32);
                [r, g, b, ((offset[c] - mean[c]) / std[c]) as f32]
            })
        };
        let (none, identity) = ([0.0; 3], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);
        match self.space {
            ColorSpace::Rgb => Constants { matrix: affine(identity, none), gain: [0.0; 3], shift: [0.0; 3] },
            ColorSpace::YCbCr => Constants { matrix: affine(YCBCR_FROM_RGB, YCBCR_OFFSET), gain: [0.0; 3], shift: [0.0; 3] },
            ColorSpace::Lab => Constants {
                matrix: std::array::from_fn(|c| {
                    let [r, g, b] = XYZ_FROM_RGB[c].map(|weight| (weight / WHITE[c]) as f32);
                    [r, g, b, 0.0]
                }),
                gain: [116.0 / std[0], 500.0 / std[1], 200.0 / std[2]].map(|v| v as f32),
                shift: [(-16.0 - mean[0]) / std[0], -mean[1] / std[1], -mean[2] / std[2]].map(|v| v as f32),
            },
        }
    }
}

/// Linear light of an sRGB value in 0..=1.
pub(super) fn linear(unit: f64) -> f64 {
    if unit <= 0.04045 { unit / 12.92 } else { ((unit + 0.055) / 1.055).powf(2.4) }
}

/// sRGB of linear light.
fn gamma(linear: f64) -> f64 {
    if linear <= 0.04045 / 12.92 { linear * 12.92 } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 }
}

fn lab_curve(t: f64) -> f64 {
    if t > LAB_KNEE { t.cbrt() } else { LAB_SLOPE * t + LAB_OFFSET }
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

    #[test]
    fn a_pixel_goes_to_each_space_and_back() {
        for space in [ColorSpace::Rgb, ColorSpace::Lab, ColorSpace::YCbCr] {
            let (mean, std) = space.normalization();
            let norm = Normalization { space, mean: mean.map(|v| v as f32), std: std.map(|v| v as f32) };
            for rgb in [[0, 0, 0], [255, 255, 255], [255, 0, 0], [1, 2, 3], [10, 11, 9], [17, 200, 99], [128, 127, 250]] {
                assert_eq!(space.invert(space.convert(rgb)), rgb, "{space:?}");
                let value = space.convert(rgb);
                let normalised = std::array::from_fn(|c| ((value[c] - mean[c]) / std[c]) as f32);
                assert_eq!(norm.invert(normalised), rgb, "{space:?}");
            }
        }
    }

    #[test]
    fn white_is_the_end_of_each_scale() {
        let near = |got: [f64; 3], want: [f64; 3]| got.iter().zip(want).all(|(g, w)| (g - w).abs() < 0.02);
        assert!(near(ColorSpace::Lab.convert([255; 3]), [100.0, 0.0, 0.0]));
        assert!(near(ColorSpace::YCbCr.convert([255; 3]), [235.0, 128.0, 128.0]));
    }
}
