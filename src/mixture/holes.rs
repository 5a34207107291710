//! Cutout and random erasing, the baselines: one hole of one value per image, in normalised units. Views share it by default.

use super::bbox::BBox;
use super::config::{CutoutConfig, EraseConfig, Fill, MixtureConfig};
use super::plan::{MixturePlan, Row};
use super::policy::{Context, Planned, Policy, key, views};
use crate::rng::{Purpose, Stream};

/// A square hole (arXiv 1708.04552).
pub struct Cutout {
    config: CutoutConfig,
    share_views: bool,
}

impl Cutout {
    /// Reads `cutout.*` and `share_views`.
    pub fn new(config: &MixtureConfig) -> Self {
        Self { config: config.cutout.clone(), share_views: config.share_views }
    }

    /// First and last pixel + 1 of the hole along an axis of `length` pixels, clipped to it.
    ///
    /// Inside mode keeps the hole whole; one that is longer than the axis covers the axis.
    fn span(&self, stream: &mut Stream, length: usize) -> (u32, u32) {
        let (length, size) = (length as u64, u64::from(self.config.size));
        let half = size / 2;
        // An even hole has no centre pixel, hence one more place.
        let places = length + u64::from(size % 2 == 0);
        let centre =
            if self.config.inside { half + stream.below(places.saturating_sub(2 * half).max(1)) } else { stream.below(places) };
        // The end follows from the unclipped start.
        let end = (centre + size).saturating_sub(half).min(length);
        (centre.saturating_sub(half) as u32, end as u32)
    }
}

impl Policy for Cutout {
    fn plan(&self, ctx: &Context, samples: &[u32]) -> Planned {
        let hole = |stream: &mut Stream| {
            let ((y0, y1), (x0, x1)) = (self.span(stream, ctx.height), self.span(stream, ctx.width));
            Some(Row::fill(BBox { y0, x0, y1, x1 }, self.config.value))
        };
        plan_holes(ctx, samples, self.share_views, Purpose::Cutout, self.config.prob, &hole)
    }
}

/// A rectangular hole (arXiv 1708.04896), with a uniform aspect and corners that never let it touch the last row or column.
pub struct Erase {
    config: EraseConfig,
    fill: Fill,
    share_views: bool,
}

impl Erase {
    /// Reads `erase.*`, `fill` and `share_views`.
    pub fn new(config: &MixtureConfig) -> Self {
        Self { config: config.erase.clone(), fill: config.fill, share_views: config.share_views }
    }

    /// Draws area and aspect until a hole fits, at most `attempts` times; then its corner and its value.
    fn hole(&self, stream: &mut Stream, h: usize, w: usize) -> Option<Row> {
        let EraseConfig { area: [low, high], min_aspect, attempts, .. } = self.config;
        for _ in 0..attempts {
            let area = stream.range(low, high) * (h * w) as f64;
            let aspect = stream.range(min_aspect, 1.0 / min_aspect);
            let (hole_h, hole_w) = ((area * aspect).sqrt() as usize, (area / aspect).sqrt() as usize);
            if hole_h >= h || hole_w >= w {
                continue;
            }
            let (y0, x0) = (stream.below((h - hole_h) as u64) as u32, stream.below((w - hole_w) as u64) as u32);
            let value = match self.fill {
                Fill::Random(_) => stream.uniform(),
                Fill::Value(value) => value,
            };
            return Some(Row::fill(BBox { y0, x0, y1: y0 + hole_h as u32, x1: x0 + hole_w as u32 }, value));
        }
        None
    }
}

impl Policy for Erase {
    fn plan(&self, ctx: &Context, samples: &[u32]) -> Planned {
        let hole = |stream: &mut Stream| self.hole(stream, ctx.height, ctx.width);
        plan_holes(ctx, samples, self.share_views, Purpose::Erase, self.config.prob, &hole)
    }
}

/// One pass with the holes of the images whose gate opens. All draws of an image come from its attempt 0.
fn plan_holes(
    ctx: &Context,
    samples: &[u32],
    shared: bool,
    purpose: Purpose,
    prob: f64,
    hole: &dyn Fn(&mut Stream) -> Option<Row>,
) -> Planned {
    let n = samples.len();
    let row = |sample: u32, view: Option<u32>| {
        let mut stream = Stream::new(ctx.seed, purpose, &key(ctx, sample, view, &[0]));
        if stream.gate(prob) { hole(&mut stream) } else { None }
    };
    let plan = |view: Option<u32>| {
        let rows = samples.iter().enumerate().filter_map(|(image, &sample)| Some((image, row(sample, view)?)));
        MixturePlan::from_sparse(&vec![vec![rows.collect()]], n, n)
    };
    Planned { plans: views(ctx, shared).into_iter().map(plan).collect(), ..Planned::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::config::Name;
    use crate::mixture::plan::Kind;
    use crate::mixture::policy;

    const CTX: Context = Context { seed: 5, epoch: 1, step: 0, height: 12, width: 17, dataset: 100, views: 2, mixed_views: 1 };

    fn plan(config: &MixtureConfig, n: u32) -> Vec<Row> {
        let planned = policy(config).plan(&CTX, &(0..n).collect::<Vec<_>>());
        assert!(planned.extras.is_empty() && planned.mixtures.is_empty());
        planned.plans[0].validate(n as usize, CTX.height, CTX.width).unwrap();
        planned.plans[0].stages.first().map_or(Vec::new(), |stage| stage.passes[0].clone())
    }

    fn cutout(size: u32, inside: bool, prob: f64) -> MixtureConfig {
        MixtureConfig { name: Name::Cutout, cutout: CutoutConfig { size, prob, inside, value: 0.0 }, ..Default::default() }
    }

    /// Starts and ends that occur along rows and columns.
    fn ranges(rows: &[Row]) -> [(u32, u32); 4] {
        let range = |get: fn(&BBox) -> u32| {
            let values = rows.iter().map(|row| get(&row.bbox));
            (values.clone().min().unwrap(), values.max().unwrap())
        };
        [range(|b| b.y0), range(|b| b.y1), range(|b| b.x0), range(|b| b.x1)]
    }

    #[test]
    fn holes_inside_are_whole_and_reach_both_borders_of_both_axes() {
        for size in [4, 5] {
            let rows = plan(&cutout(size, true, 1.0), 3000);
            assert!(rows.iter().all(|r| r.kind == Kind::Fill && r.bbox.area() == u64::from(size * size)));
            assert_eq!(ranges(&rows), [(0, 12 - size), (size, 12), (0, 17 - size), (size, 17)], "size {size}");
        }
    }

    #[test]
    fn holes_outside_are_clipped_at_the_border() {
        // Size 4: centres 0..=12, so the hole starts at -2 and ends at 14 before it is clipped; at centre 12 two rows are left.
        assert_eq!(ranges(&plan(&cutout(4, false, 1.0), 3000)), [(0, 10), (2, 12), (0, 15), (2, 17)]);
        // Size 5: centres 0..=11; at centre 0 the rows 0..3 are left.
        assert_eq!(ranges(&plan(&cutout(5, false, 1.0), 3000)), [(0, 9), (3, 12), (0, 14), (3, 17)]);
    }

    #[test]
    fn a_hole_larger_than_the_image_covers_it() {
        let rows = plan(&cutout(50, true, 1.0), 20);
        assert!(rows.iter().all(|row| row.bbox == BBox { y0: 0, x0: 0, y1: 12, x1: 17 }));
    }

    #[test]
    fn the_gate_decides_how_many() {
        let filled = |prob| plan(&cutout(4, true, prob), 10_000).iter().filter(|row| row.kind == Kind::Fill).count();
        assert_eq!((filled(0.0), filled(1.0)), (0, 10_000));
        assert!((900..1100).contains(&filled(0.1)), "{}", filled(0.1));
    }

    #[test]
    fn erased_areas_follow_the_configuration() {
        let erase = EraseConfig { prob: 1.0, ..Default::default() };
        let config = MixtureConfig { name: Name::Erase, erase, ..Default::default() };
        let rows = plan(&config, 4000);
        let holes: Vec<_> = rows.iter().filter(|row| row.kind == Kind::Fill).collect();
        assert!(holes.len() > 3990);
        for row in &holes {
            assert!(row.bbox.area() as f64 <= 0.4 * 12.0 * 17.0 && (0.0..1.0).contains(&row.fill_value));
            assert!(row.bbox.y1 < 12 && row.bbox.x1 < 17, "the last row and column are never erased");
        }
        let (tall, values): (usize, std::collections::BTreeSet<u32>) = (
            holes.iter().filter(|r| r.bbox.y1 - r.bbox.y0 > r.bbox.x1 - r.bbox.x0).count(),
            holes.iter().map(|row| row.fill_value.to_bits()).collect(),
        );
        // A uniform aspect in 0.3..3.33 is above 1 three times out of four.
        assert!(tall * 2 > holes.len() && values.len() > 3900, "{tall}, {}", values.len());
    }

    #[test]
    fn erasing_takes_a_fixed_value_and_gives_up_when_nothing_fits() {
        let fixed = MixtureConfig { name: Name::Erase, fill: Fill::Value(-0.5), ..Default::default() };
        assert!(plan(&fixed, 500).iter().filter(|row| row.kind == Kind::Fill).all(|row| row.fill_value == -0.5));
        let erase = EraseConfig { area: [1.0, 1.0], min_aspect: 1.0, prob: 1.0, ..Default::default() };
        // A square of the whole area is 14 pixels high, more than the 12 of the image.
        assert!(plan(&MixtureConfig { erase, ..fixed }, 50).is_empty());
    }

    /// A change here changes what a resumed run would see.
    #[test]
    fn draws_never_change() {
        let erase = EraseConfig { prob: 0.5, ..Default::default() };
        let erase = MixtureConfig { name: Name::Erase, erase, ..Default::default() };
        let mut got = Vec::new();
        for config in [cutout(5, false, 0.5), cutout(4, true, 0.5), erase] {
            let holes = plan(&config, 5).into_iter().enumerate().filter(|(_, row)| row.kind == Kind::Fill);
            got.push(
                holes.map(|(i, row)| format!("{i} {:?} {}; ", <[u32; 4]>::from(row.bbox), row.fill_value)).collect::<String>(),
            );
        }
        assert_eq!(got, GOLDEN, "{got:#?}");
    }

    const GOLDEN: [&str; 3] = [
        "2 [3, 0, 8, 3] 0; 3 [5, 7, 10, 12] 0; ",
        "2 [3, 0, 7, 4] 0; 3 [5, 7, 9, 11] 0; ",
        "2 [1, 2, 10, 5] 0.56213325; 4 [3, 7, 10, 13] 0.07624037; ",
    ];

    #[test]
    fn views_share_the_hole_unless_told_otherwise() {
        let samples: Vec<u32> = (0..30).collect();
        let shared = policy(&cutout(4, true, 0.5)).plan(&CTX, &samples);
        assert_eq!(shared.plan_of(0), shared.plan_of(1));
        let own = policy(&MixtureConfig { share_views: false, ..cutout(4, true, 0.5) }).plan(&CTX, &samples);
        assert_ne!(own.plan_of(0), own.plan_of(1));
    }
}
