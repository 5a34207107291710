//! Bytes to images in slow, obvious loops: what every faster path is compared with.

use super::Ingest;

/// Converts and normalises in f64, rounded once.
///
/// # Shapes
/// - `bytes` of `how.dims` images in `how.layout`; result `[n, 3, h, w]` row-major
pub fn ingest(bytes: &[u8], how: &Ingest) -> Vec<f32> {
    let [n, h, w] = how.dims;
    let plane = h * w;
    let (pixel_step, channel_step) = how.steps();
    let mut result = vec![0.0; n * 3 * plane];
    for image in 0..n {
        for pixel in 0..plane {
            let byte = |channel: usize| bytes[image * 3 * plane + pixel * pixel_step + channel * channel_step];
            let value = how.norm.space.convert([byte(0), byte(1), byte(2)]);
            for channel in 0..3 {
                let (mean, std) = (f64::from(how.norm.mean[channel]), f64::from(how.norm.std[channel]));
                result[(image * 3 + channel) * plane + pixel] = ((value[channel] - mean) / std) as f32;
            }
        }
    }
    result
}
