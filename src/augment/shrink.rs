//! The pass of the resampling along the rows, where most of the time of a crop goes.

use super::resample::{HALF, Taps, level};

/// Bytes that follow the pixels of a source row, so that a read of a whole register never passes the end.
pub(super) const PADDING: usize = 8;

/// Resamples two rows at once: interleaved pixels, the sources followed by [`PADDING`] bytes, the results by at least one byte.
pub(super) fn shrink_rows(sources: [&[u8]; 2], taps: &Taps, results: [&mut [u8]; 2]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the feature was detected on this processor.
        return unsafe { avx2::shrink_rows(sources, taps, results) };
    }
    sources.into_iter().zip(results).for_each(|(source, result)| shrink_row(source, taps, result));
}

/// The portable form, one row.
fn shrink_row(source: &[u8], taps: &Taps, result: &mut [u8]) {
    for (x, (&start, weights)) in taps.starts.iter().zip(taps.weights.chunks_exact(taps.count)).enumerate() {
        let pixels = source[3 * start..].as_chunks::<3>().0;
        let mut sums = [HALF; 3];
        for (pixel, &weight) in pixels.iter().zip(weights) {
            sums = std::array::from_fn(|c| sums[c] + weight * i32::from(pixel[c]));
        }
        result[3 * x..3 * x + 3].copy_from_slice(&sums.map(level));
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::super::resample::{HALF, PRECISION, SPLIT, Taps};

    /// Two rows in the two halves of a register, two taps per multiplication. 16-bit multiplications of the high and low
    /// parts of the weights give the same sums as the 32-bit ones of the portable form.
    #[target_feature(enable = "avx2")]
    pub(super) fn shrink_rows([a, b]: [&[u8]; 2], taps: &Taps, [out_a, out_b]: [&mut [u8]; 2]) {
        // Two pixels r0 g0 b0 r1 g1 b1 to the 16-bit numbers r0 r1 g0 g1 b0 b1 0 0.
        let order = _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1);
        let order = _mm256_broadcastsi128_si256(order);
        for (x, (&start, pairs)) in taps.starts.iter().zip(taps.pairs.chunks_exact(taps.count.div_ceil(2))).enumerate() {
            let span = 3 * start..3 * start + 6 * pairs.len() + 2;
            let (a, b) = (&a[span.clone()], &b[span]);
            let (mut high, mut low) = (_mm256_setzero_si256(), _mm256_set1_epi32(HALF));
            for (k, pair) in pairs.iter().enumerate() {
                let pixels = _mm256_shuffle_epi8(_mm256_set_m128i(eight(b, 6 * k), eight(a, 6 * k)), order);
                high = _mm256_add_epi32(high, _mm256_madd_epi16(pixels, _mm256_set1_epi32(pair[0])));
                low = _mm256_add_epi32(low, _mm256_madd_epi16(pixels, _mm256_set1_epi32(pair[1])));
            }
            let sums = _mm256_add_epi32(_mm256_slli_epi32::<{ SPLIT as i32 }>(high), low);
            // Both packings saturate, which clips to 0..=255.
            let levels = _mm256_srai_epi32::<{ PRECISION as i32 }>(sums);
            let words = _mm256_packs_epi32(levels, levels);
            let bytes = _mm256_packus_epi16(words, words);
            out_a[3 * x..3 * x + 4].copy_from_slice(&_mm_cvtsi128_si32(_mm256_castsi256_si128(bytes)).to_le_bytes());
            out_b[3 * x..3 * x + 4].copy_from_slice(&_mm_cvtsi128_si32(_mm256_extracti128_si256::<1>(bytes)).to_le_bytes());
        }
    }

    #[inline(always)]
    fn eight(row: &[u8], at: usize) -> __m128i {
        let bytes: [u8; 8] = *row[at..].first_chunk().expect("a span holds two bytes more than its pixels");
        // SAFETY: SSE2 belongs to every x86-64 processor.
        unsafe { _mm_cvtsi64_si128(i64::from_le_bytes(bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::Filter;

    /// On a processor without AVX2 both sides are the portable form.
    #[test]
    fn the_wide_form_equals_the_portable_one() {
        for (size, out) in [(1, 1), (1, 5), (2, 9), (7, 7), (9, 4), (50, 3), (60, 47), (31, 64)] {
            for filter in [Filter::Bilinear, Filter::Bicubic] {
                let mut taps = Taps::default();
                taps.fill(size, out, 0..out, filter);
                let row =
                    |seed: usize| (0..3 * size + PADDING).map(|i| ((i + seed) * (i + 91) * 37 % 256) as u8).collect::<Vec<_>>();
                let rows = [row(1), row(5)];
                let [mut a, mut b, mut want] = std::array::from_fn(|_| vec![0; 3 * out + 1]);
                shrink_rows([&rows[0], &rows[1]], &taps, [&mut a, &mut b]);
                for (row, result) in rows.iter().zip([&a, &b]) {
                    shrink_row(row, &taps, &mut want);
                    assert_eq!(result[..3 * out], want[..3 * out], "{size} to {out}, {filter:?}");
                }
            }
        }
    }
}
