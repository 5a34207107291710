//! The two matrix kernels: a tile of the output stays in registers while its sum runs.
//!
//! A tile is `M` rows of `V` vectors. [`panels`] cuts a number of columns into panels of 4, 2 or 1 vectors, with which go 6, 6 or 12 rows: they
//! leave registers for the operands, and of one vector alone so many that its sums do not wait for each other.

use super::lanes::{Lanes, read, write};
use crate::kernel::net::simd::Simd;

/// The most rows of a tile.
pub const MOST_ROWS: usize = 12;

/// Vectors of the widest panel: with 32 registers four, with 16 two.
pub fn widest(simd: Simd) -> usize {
    match simd {
        Simd::Avx512 => 4,
        Simd::Avx2 => 2,
        Simd::Portable => {
            if cfg!(target_arch = "aarch64") {
                4
            } else {
                2
            }
        }
    }
}

/// A panel: columns `from .. from + count`, in `vectors` vectors, the last of which may be partly filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Panel {
    /// First column.
    pub from: usize,
    /// Columns.
    pub count: usize,
    /// Vectors.
    pub vectors: usize,
    /// Columns of all panels before this one with their padding: where it begins in packed rows, per row.
    pub packed: usize,
}

/// The panels of `columns` columns, and their number with padding.
pub fn panels(columns: usize, simd: Simd) -> (Vec<Panel>, usize) {
    let (lanes, mut vectors) = (simd.lanes(), widest(simd));
    let (mut from, mut packed, mut out) = (0, 0, Vec::new());
    while from < columns {
        let left = columns - from;
        while vectors > 1 && left <= vectors / 2 * lanes {
            vectors /= 2;
        }
        let count = left.min(vectors * lanes);
        out.push(Panel { from, count, vectors, packed });
        from += count;
        packed += vectors * lanes;
    }
    (out, packed)
}

/// A tile of sums.
pub type Sums<L, const M: usize, const V: usize> = [[L; V]; M];

/// `sums[m] += sum_k rows[m][k] panel[k]`: rows lie anywhere, the panel's lie one behind the other.
///
/// # Safety
/// `run` values can be read from each row, `run * V` vectors from `panel`.
#[inline(always)]
pub unsafe fn inner<L: Lanes, const M: usize, const V: usize>(
    sums: &mut Sums<L, M, V>,
    rows: [*const f32; M],
    run: usize,
    panel: *const f32,
) {
    let mut panel = panel;
    for k in 0..run {
        let mut columns = [L::zero(); V];
        for v in 0..V {
            // SAFETY: the caller's.
            columns[v] = unsafe { L::load(panel.add(v * L::N)) };
        }
        for m in 0..M {
            // SAFETY: the caller's.
            let value = L::splat(unsafe { *rows[m].add(k) });
            for v in 0..V {
                sums[m][v] = value.mul_add(columns[v], sums[m][v]);
            }
        }
        // SAFETY: at most one past the end.
        panel = unsafe { panel.add(V * L::N) };
    }
}

/// `sums[m] += sum_k left[k][m] right[k]`: the products of `count` pairs of rows, `M` values of the left and `V` vectors of the right.
///
/// # Safety
/// `M` values can be read from `left + k * left_step` and `V` vectors from `right + k * right_step` for all k below `count`.
#[inline(always)]
pub unsafe fn outer<L: Lanes, const M: usize, const V: usize>(
    sums: &mut Sums<L, M, V>,
    (left, left_step): (*const f32, usize),
    (right, right_step): (*const f32, usize),
    count: usize,
) {
    for k in 0..count {
        let mut columns = [L::zero(); V];
        for v in 0..V {
            // SAFETY: the caller's.
            columns[v] = unsafe { L::load(right.add(k * right_step + v * L::N)) };
        }
        for m in 0..M {
            // SAFETY: the caller's.
            let value = L::splat(unsafe { *left.add(k * left_step + m) });
            for v in 0..V {
                sums[m][v] = value.mul_add(columns[v], sums[m][v]);
            }
        }
    }
}

/// Reads a tile from `M` rows of which the last vector may be partly filled.
///
/// # Safety
/// `columns` values, at most `V` vectors, can be read from each row.
#[inline(always)]
pub unsafe fn load<L: Lanes, const M: usize, const V: usize>(rows: [*const f32; M], columns: usize) -> Sums<L, M, V> {
    let mut sums = [[L::zero(); V]; M];
    for m in 0..M {
        // SAFETY: the caller's.
        sums[m] = unsafe { read(rows[m], columns) };
    }
    sums
}

/// Writes the first `count` rows of a tile, of which the last vector may be partly filled.
///
/// # Safety
/// `columns` values, at most `V` vectors, can be written to each of the rows.
#[inline(always)]
pub unsafe fn store<L: Lanes, const M: usize, const V: usize>(
    sums: Sums<L, M, V>,
    rows: [*mut f32; M],
    count: usize,
    columns: usize,
) {
    for m in 0..M {
        if m >= count {
            return;
        }
        // SAFETY: the caller's.
        unsafe { write(sums[m], rows[m], columns) };
    }
}
