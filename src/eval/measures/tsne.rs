//! t-SNE (van der Maaten and Hinton 2008; Barnes-Hut form 2014).

use bhtsne::{Neighbor, tSNE};
use rayon::prelude::*;

use super::{Pca, Rows, pca, squared_distance};

/// A layout on the plane.
#[derive(Debug, Clone, PartialEq)]
pub struct Tsne {
    /// A place per row, in its own units, `[n]`.
    pub points: Vec<[f64; 2]>,
    /// Effective number of neighbours of each row.
    pub perplexity: f64,
}

/// Fewer rows have no neighbourhoods worth drawing.
const LEAST: usize = 10;
/// Components to which rows are reduced first.
const REDUCED: usize = 50;
/// Accuracy of the far forces.
const THETA: f64 = 0.5;

/// Lays out `[n, d]` rows, reduced to their first 50 principal components, by perplexity min(30, (n - 1) / 3). `None` for fewer than 10
/// rows, for rows that are all equal, and where a value is not finite.
///
/// Nothing is drawn: the layout starts at the first two components, scaled to a standard deviation of 1e-4, which also keeps more of the
/// global structure than a random start (Kobak and Berens 2019, <https://doi.org/10.1038/s41467-019-13056-x>). Equal rows give equal layouts.
pub fn tsne(rows: &Rows) -> Option<Tsne> {
    let n = rows.len();
    if n < LEAST {
        return None;
    }
    let reduced = pca(rows, REDUCED)?;
    let start = start(&reduced)?;
    let perplexity = ((n - 1) as f64 / 3.0).min(30.0);
    let neighbours = neighbours(&reduced, (3.0 * perplexity) as usize);
    // One thread: the library's parallel sums depend on who comes first, and a thousand iterations carry a last bit anywhere.
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().ok()?;
    let places = alone.install(|| {
        // The library asks the data only for its length, since the neighbours are given.
        let data = vec![(); n];
        let mut layout = tSNE::<f64, (), 2>::new(&data);
        layout.perplexity(perplexity).initial_embedding(start).barnes_hut_with_neighbors(THETA, &neighbours);
        layout.embedding()
    });
    Some(Tsne { points: places.as_chunks::<2>().0.to_vec(), perplexity })
}

/// The first two components, the first with standard deviation 1e-4, row-major `[n, 2]`; `None` where it has none.
fn start(reduced: &Pca) -> Option<Vec<f64>> {
    let n = reduced.scores.len() / reduced.components;
    let deviation = (reduced.iter().map(|row| row[0].powi(2)).sum::<f64>() / n as f64).sqrt();
    (deviation > 0.0).then(|| reduced.iter().flat_map(|row| [row[0], row[1]]).map(|v| v / deviation * 1e-4).collect())
}

/// The `k` nearest rows of each, nearest first; ties go to the smaller index. Compares all with all: n is small, and the library's
/// own search draws random numbers.
fn neighbours(reduced: &Pca, k: usize) -> Vec<Vec<Neighbor<f64>>> {
    let rows: Vec<&[f64]> = reduced.iter().collect();
    let of_row = |i: usize| {
        let others = (0..rows.len()).filter(|&j| j != i);
        let mut all: Vec<(f64, usize)> = others.map(|j| (squared_distance(rows[i], rows[j]), j)).collect();
        let nearer = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if k < all.len() {
            all.select_nth_unstable_by(k - 1, nearer);
            all.truncate(k);
        }
        all.sort_unstable_by(nearer);
        all.into_iter().map(|(square, index)| Neighbor { index, distance: square.sqrt() }).collect()
    };
    (0..rows.len()).into_par_iter().map(of_row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::normal_rows;
    use super::*;

    /// `n` rows around three far corners, in turn.
    fn clusters(n: usize) -> Rows {
        let noise = normal_rows(n, 12, false);
        let near = |i: usize, j: usize| noise.row(i)[j] + if j == i % 3 { 30.0 } else { 0.0 };
        Rows::new((0..n * 12).map(|at| near(at / 12, at % 12)).collect(), 12)
    }

    #[test]
    fn clusters_stay_together_and_the_layout_repeats() {
        let rows = clusters(90);
        let got = tsne(&rows).unwrap();
        assert_eq!((got.points.len(), got.perplexity), (90, 89.0 / 3.0));
        assert_eq!(got, tsne(&rows).unwrap(), "equal rows, equal layout");
        for (i, point) in got.points.iter().enumerate() {
            let others = (0..90).filter(|&j| j != i);
            let near = |&a: &usize, &b: &usize| {
                squared_distance(point, &got.points[a]).total_cmp(&squared_distance(point, &got.points[b]))
            };
            let nearest = others.min_by(near).unwrap();
            assert_eq!(nearest % 3, i % 3, "the nearest of {i} is {nearest}");
        }
    }

    #[test]
    fn few_equal_or_broken_rows_have_no_layout() {
        assert_eq!(tsne(&normal_rows(9, 4, false)), None);
        assert_eq!(tsne(&Rows::new([0.5, 0.25].repeat(40), 2)), None);
        assert_eq!(tsne(&Rows::new([0.5, f32::NAN].repeat(40), 2)), None);
    }

    #[test]
    fn the_smallest_set_duplicates_and_one_dimension_stay_finite() {
        let line = Rows::new((0..40).map(|i| (i / 4) as f32).collect(), 1);
        for (rows, n) in [(normal_rows(10, 4, true), 10), (line, 40)] {
            let got = tsne(&rows).unwrap();
            assert_eq!(got.points.len(), n);
            assert!(got.points.iter().flatten().all(|v| v.is_finite()), "{got:?}");
        }
    }
}
