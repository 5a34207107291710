//! The only source of randomness: counter-based streams drawn on the host (docs/ARCHITECTURE.md, "Boundaries").
//!
//! A stream is a pure function of `(seed, purpose, path)`. Nothing depends on the number of workers or on what was drawn
//! elsewhere, so a resume needs only the position (epoch, step). The generator is Philox4x32-10 (Salmon et al., "Parallel
//! random numbers: as easy as 1, 2, 3", SC 2011). Transcendental functions come from `libm`, so that the draws are equal on
//! every platform.

/// What a stream is for. The discriminant is part of the key: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Permutation of the dataset; path: epoch.
    Order = 1,
    /// Augmentation of one view; path: epoch, sample, view.
    View = 2,
    /// Global mixture; path: epoch, sample, attempt.
    MixGlobal = 3,
    /// Region mixture; path: epoch, sample, attempt.
    MixRegion = 4,
    /// A partner's own fresh augmentation; path: epoch, sample, attempts..., view.
    MixPartner = 5,
    /// Cutout; path: epoch, sample, attempt.
    Cutout = 6,
    /// Random erasing; path: epoch, sample, attempt.
    Erase = 7,
    /// Un-Mix batch mixture; path: epoch, step, and for the centres of a crop after the first its view.
    Unmix = 8,
    /// Permutation of the key batch; path: epoch, step, number of the forward.
    ShuffleBn = 9,
    /// Bank indices; path: epoch, step.
    Negatives = 10,
    /// Initial weights and memories; path: hash of the tensor's name.
    Init = 11,
    /// Shuffles of an evaluation probe.
    Probe = 12,
    /// Pixels of the synthetic source; path: sample.
    Synthetic = 13,
    /// Augmentation of a view of a monitor; path: sample, view. The same at every epoch.
    Monitor = 14,
    /// Mixture of i-Mix; path: epoch, step, view.
    Imix = 15,
    /// Mixtures of MixCo; path: epoch, step.
    Mixco = 16,
    /// InputMix; path: epoch, step.
    InputMix = 17,
    /// Mixture of Mixed Barlow Twins; path: epoch, step.
    MixedBarlow = 18,
}

/// A random stream. Equal keys give equal draws, different keys independent ones.
#[derive(Debug, Clone)]
pub struct Stream {
    key: [u32; 2],
    counter: u64,
    block: [u32; 4],
    used: usize,
}

impl Stream {
    /// The stream of `(seed, purpose, path)`; `path` as listed at [`Purpose`].
    pub fn new(seed: u64, purpose: Purpose, path: &[u64]) -> Self {
        // The key absorbs one word per Philox call; position and length enter the counter, so [1] and [1, 0] differ.
        let mut key = seed;
        for (position, &word) in std::iter::once(&(purpose as u64)).chain(path).enumerate() {
            let [a, b, ..] = philox([lo(word), hi(word), position as u32, path.len() as u32], [lo(key), hi(key)]);
            key = u64::from(a) | u64::from(b) << 32;
        }
        Self { key: [lo(key), hi(key)], counter: 0, block: [0; 4], used: 4 }
    }

    /// The stream of a named thing, for example a weight tensor (path: FNV-1a hash of the name).
    pub fn named(seed: u64, purpose: Purpose, name: &str) -> Self {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        Self::new(seed, purpose, &[hash])
    }

    /// 32 uniform bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox([lo(self.counter), hi(self.counter), 0, u32::MAX], self.key);
            self.counter += 1;
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) | u64::from(self.next_u32()) << 32
    }

    /// U[0, 1) with 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// U[low, high).
    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Uniform integer in 0..n, without bias (Lemire 2019). `n` > 0.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "an integer below 0 was asked for");
        loop {
            let wide = u128::from(self.next_u64()) * u128::from(n);
            if wide as u64 >= n.wrapping_neg() % n {
                return (wide >> 64) as u64;
            }
        }
    }

    /// The stream from its draw number `draw` of 64 bits on, for streams that only draw such: threads may then share one.
    pub fn from_draw(&self, draw: u64) -> Self {
        let mut stream = Self { key: self.key, counter: draw / 2, block: [0; 4], used: 4 };
        if draw % 2 == 1 {
            stream.next_u64();
        }
        stream
    }

    /// Integer in 0..n from exactly one draw of 64 bits: of [`Stream::below`]'s distribution to within n / 2^64.
    pub fn scaled(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// True with probability `p`: the gate `u <= p` in front of an attempt of the first program of arXiv 2003.05438, here closed for p = 0.
    pub fn gate(&mut self, p: f64) -> bool {
        let u = self.uniform();
        p > 0.0 && u <= p
    }

    /// Standard normal (Box-Muller, one of the pair).
    pub fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform()));
        radius * libm::cos(2.0 * std::f64::consts::PI * self.uniform())
    }

    /// Beta(a, a) in [0, 1]; a > 0. Beta(1, 1) is one uniform draw.
    pub fn beta(&mut self, a: f64) -> f64 {
        if a == 1.0 {
            return self.uniform();
        }
        // In logarithms, so that a small `a` does not underflow to 0/0.
        let (x, y) = (self.ln_gamma_variate(a), self.ln_gamma_variate(a));
        1.0 / (1.0 + libm::exp(y - x))
    }

    /// Dirichlet(a, ..., a): `parts` numbers that sum to 1; a > 0.
    pub fn dirichlet(&mut self, a: f64, parts: usize) -> Vec<f64> {
        let logs: Vec<f64> = (0..parts).map(|_| self.ln_gamma_variate(a)).collect();
        // In logarithms as in `beta`; the largest part becomes 1.
        let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let shares: Vec<f64> = logs.iter().map(|log| libm::exp(log - top)).collect();
        let sum: f64 = shares.iter().sum();
        shares.iter().map(|share| share / sum).collect()
    }

    /// ln of a Gamma(shape, 1) variate (Marsaglia & Tsang 2000; shape < 1 by their boost).
    fn ln_gamma_variate(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            return self.ln_gamma_variate(shape + 1.0) + libm::log(1.0 - self.uniform()) / shape;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / libm::sqrt(9.0 * d);
        loop {
            let x = self.normal();
            let v = 1.0 + c * x;
            if v <= 0.0 {
                continue;
            }
            let (ln_v3, u) = (3.0 * libm::log(v), 1.0 - self.uniform());
            if libm::log(u) < 0.5 * x * x + d - d * v * v * v + d * ln_v3 {
                return libm::log(d) + ln_v3;
            }
        }
    }

    /// A uniform permutation of 0..n (Fisher-Yates).
    pub fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i as u64 + 1) as usize);
        }
        order
    }
}

fn lo(x: u64) -> u32 {
    x as u32
}

fn hi(x: u64) -> u32 {
    (x >> 32) as u32
}

/// Philox4x32 with ten rounds.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [hi(b) ^ counter[1] ^ key[0], lo(b), hi(a) ^ counter[3] ^ key[1], lo(a)];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_known_answers_of_random123() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        assert_eq!(philox(pi, [0xa409_3822, 0x299f_31d0]), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn streams_differ_by_seed_purpose_path_and_path_length() {
        let first = |seed, purpose, path: &[u64]| Stream::new(seed, purpose, path).next_u64();
        let base = first(1, Purpose::View, &[2, 3]);
        assert_eq!(base, first(1, Purpose::View, &[2, 3]));
        for other in [
            first(2, Purpose::View, &[2, 3]),
            first(1, Purpose::Order, &[2, 3]),
            first(1, Purpose::View, &[3, 2]),
            first(1, Purpose::View, &[2, 3, 0]),
            first(1, Purpose::View, &[2]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn integers_cover_their_range_evenly() {
        let mut stream = Stream::new(5, Purpose::Probe, &[]);
        let mut counts = [0u32; 7];
        (0..70_000).for_each(|_| counts[stream.below(7) as usize] += 1);
        assert!(counts.iter().all(|&c| (c as i64 - 10_000).abs() < 500), "{counts:?}");
    }

    /// Mean 1/2 and variance 1/(4(2a+1)); the bound is five standard errors of each.
    #[test]
    fn beta_has_the_right_moments() {
        for a in [0.05, 0.3, 1.0, 2.5, 8.0] {
            let mut stream = Stream::new(7, Purpose::Probe, &[(a * 100.0) as u64]);
            let n = 40_000;
            let draws: Vec<f64> = (0..n).map(|_| stream.beta(a)).collect();
            assert!(draws.iter().all(|x| (0.0..=1.0).contains(x)));
            let mean = draws.iter().sum::<f64>() / n as f64;
            let var = draws.iter().map(|x| (x - 0.5).powi(2)).sum::<f64>() / n as f64;
            let want = 1.0 / (4.0 * (2.0 * a + 1.0));
            let error = 5.0 * (want / n as f64).sqrt();
            assert!((mean - 0.5).abs() < error, "mean {mean} of Beta({a})");
            assert!((var - want).abs() < error, "variance {var} of Beta({a}), want {want}");
        }
    }

    /// Golden values: a change of the sampler would break the resume of old runs.
    #[test]
    fn draws_never_change() {
        let mut stream = Stream::new(42, Purpose::MixRegion, &[3, 17, 0]);
        let got = (stream.next_u32(), stream.below(1000), stream.uniform(), stream.beta(0.3), stream.beta(2.0), stream.normal());
        assert_eq!(format!("{got:?}"), GOLDEN);
        assert_eq!(Stream::new(42, Purpose::Order, &[1]).permutation(8), GOLDEN_ORDER);
    }

    const GOLDEN: &str = "(2746322877, 552, 0.06251096502297693, 0.8506205526336954, 0.2886208258088477, -1.391001488058191)";
    const GOLDEN_ORDER: [u32; 8] = [2, 4, 0, 5, 7, 6, 1, 3];

    #[test]
    fn a_permutation_holds_every_index_once() {
        let mut order = Stream::new(1, Purpose::Order, &[0]).permutation(101);
        order.sort_unstable();
        assert_eq!(order, (0..101).collect::<Vec<u32>>());
    }
}
