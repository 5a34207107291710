//! The instruction sets of the CPU's kernels, and the choice between them at run time.

use serde::{Deserialize, Serialize};

/// The instruction set that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Simd {
    /// Sixteen lanes.
    Avx512,
    /// Eight lanes, with fused multiply-add.
    Avx2,
    /// Four lanes in plain Rust, which the compiler vectorises for the build's baseline (NEON on ARM, SSE2 on x86-64).
    Portable,
}

impl Simd {
    /// All forms, widest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Portable];

    /// Its name in configs and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// Whether this processor can execute it.
    pub fn runs(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => std::arch::is_x86_feature_detected!("avx512f") && Self::Avx2.runs(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::Avx2 => false,
            Self::Portable => true,
        }
    }

    /// The widest that this processor executes.
    pub fn best() -> Self {
        *Self::ALL.iter().find(|simd| simd.runs()).expect("the portable form runs everywhere")
    }

    /// Lanes of a vector.
    pub fn lanes(self) -> usize {
        match self {
            Self::Avx512 => 16,
            Self::Avx2 => 8,
            Self::Portable => 4,
        }
    }

    /// The narrowest form that still has a lane for each of so many columns: half an empty vector is half the work for nothing.
    pub(super) fn no_wider_than(self, columns: usize) -> Self {
        if self == Self::Avx512 && columns <= Self::Avx2.lanes() { Self::Avx2 } else { self }
    }
}
