//! The contact sheet of a run's first batch: originals, views, and what the mixture made of them.

use std::path::Path;

use burn::tensor::Tensor;

use super::jobs::StepPlan;
use super::upload::Upload;
use crate::colour::Normalization;
use crate::data::{self, Batch, RgbImage, Source};
use crate::error::Result;
use crate::kernel::ingest::Uploading;
use crate::mixture::{Kind, MixturePlan, Row, Stage, kept_area};
use crate::sheet::{Cell, Colour, OUTLINES, Sheet, SheetOptions, SheetRow};

/// Draws up to `count` images of a batch into a PNG file, those that are mixed first. 0 draws nothing.
///
/// # Errors
/// An image that cannot be read again, or a disk that cannot be written.
pub fn save(path: &Path, count: usize, source: &dyn Source, batch: &Batch<StepPlan>, upload: &Upload) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    sheet(count, source, batch, upload)?.save_png(path, SheetOptions::default())
}

/// Up to `count` rows, mixed images first: the original, its views, and each view after each stage of its plan, with what the plan's
/// rows do to it beside them.
///
/// # Errors
/// An image that cannot be read again.
pub fn sheet(count: usize, source: &dyn Source, batch: &Batch<StepPlan>, upload: &Upload) -> Result<Sheet> {
    let plan = &batch.payload.planned;
    let (own, views) = (batch.payload.own, batch.views.len());
    // The method sees the mixed views, or the clean views and mixtures of them.
    let mut plans: Vec<(Vec<usize>, &MixturePlan)> =
        plan.mixtures.iter().map(|mixture| (mixture.sources(), &mixture.plan)).collect();
    if plans.is_empty() {
        plans = (0..views).filter_map(|view| Some((plan.sources_of(view, views), plan.plan_of(view)?))).collect();
    }
    let is_mixed = |row: &usize| plans.iter().any(|(_, plan)| plan.stages.iter().any(|stage| !active(stage, *row).is_empty()));
    let (mut rows, clean): (Vec<usize>, Vec<usize>) = (0..own).partition(is_mixed);
    rows.extend(clean);
    rows.truncate(count);

    let mut columns = vec!["original".to_owned()];
    columns.extend((1..=views).map(|view| format!("view {view}")));
    let uploading: Vec<Uploading> = batch.views.iter().map(|bytes| Uploading::of(bytes)).collect();
    let mut results = Vec::new();
    for (sources, mixture) in plans {
        for stages in 1..=mixture.stages.len() {
            // The plan up to this stage; only the last one is what the method gets.
            let part = MixturePlan { stages: mixture.stages[..stages].to_vec(), keep: mixture.keep };
            let images = upload.images_of(&uploading, batch.index.len(), &sources, &part);
            let stage = mixture.stages[stages - 1].clone();
            let of: Vec<String> = sources.iter().map(|view| format!("view {}", view + 1)).collect();
            columns.push(format!("{}, {}", of.join(" with "), stage_name(&stage)));
            let partners = Partners { sources: sources.clone(), images: batch.index.len() };
            results.push(Mixed { images, stage, partners, weighted_loss: !plan.mixtures.is_empty() });
        }
    }
    let mut sheet = Sheet { title: String::new(), columns, rows: Vec::new() };
    for row in rows {
        let index = batch.index[row] as usize;
        let label = source.label(index).and_then(|l| source.classes().get(l as usize).cloned()).unwrap_or_default();
        let mut cells = vec![Cell::new(data::load(source, index)?, label)];
        cells.extend((0..views).map(|view| Cell::new(clean_tile(&batch.views[view], row, upload.sizes[view]), "")));
        cells.extend(results.iter().map(|mixed| mixed.cell(row, upload)));
        sheet.rows.push(SheetRow { caption: format!("{row}"), cells });
    }
    Ok(sheet)
}

/// The images after a stage.
struct Mixed {
    images: Tensor<4>,
    stage: Stage,
    partners: Partners,
    /// The weights of the stage are those of a loss.
    weighted_loss: bool,
}

impl Mixed {
    /// What became of an image of the batch.
    fn cell(&self, row: usize, upload: &Upload) -> Cell {
        if row >= self.images.dims()[0] {
            return Cell::empty("only a partner");
        }
        let text = words(&self.stage, row, upload.sizes[self.partners.sources[0]], self.weighted_loss, &self.partners);
        let caption = if text.is_empty() { "unchanged".into() } else { text.join("\n") };
        Cell { boxes: boxes(&self.stage, row), ..Cell::new(tile(&self.images, row, &upload.norm), caption) }
    }
}

/// Which images the partners of a plan are.
struct Partners {
    /// The views, from 0, whose images the plan is of, one after the other.
    sources: Vec<usize>,
    /// Images of each.
    images: usize,
}

impl Partners {
    /// The number of an image in its batch, and its view where there are several.
    fn name(&self, partner: u32) -> String {
        let (source, image) = (partner as usize / self.images, partner as usize % self.images);
        if self.sources.len() == 1 { image.to_string() } else { format!("{image} of view {}", self.sources[source] + 1) }
    }
}

/// What a stage does, by the rows that do something.
fn stage_name(stage: &Stage) -> &'static str {
    let any = |kind| stage.passes.iter().flatten().any(|row| row.kind == kind && !row.is_identity());
    match (any(Kind::Blend), any(Kind::Paste) || any(Kind::Resize), any(Kind::Fill)) {
        (true, false, false) => "global mixture",
        (false, true, false) => "region mixture",
        (false, false, true) => "erased",
        _ => "mixed",
    }
}

/// The rows of an image that do something.
fn active(stage: &Stage, image: usize) -> Vec<&Row> {
    stage.passes.iter().map(|pass| &pass[image]).filter(|row| !row.is_identity()).collect()
}

/// The boxes that a stage writes in one image.
fn boxes(stage: &Stage, image: usize) -> Vec<([usize; 4], Colour)> {
    let rows = active(stage, image).into_iter().filter(|row| matches!(row.kind, Kind::Paste | Kind::Fill | Kind::Resize));
    rows.zip(OUTLINES.iter().cycle())
        .map(|(row, colour)| ([row.bbox.y0, row.bbox.x0, row.bbox.y1, row.bbox.x1].map(|v| v as usize), *colour))
        .collect()
}

/// What a stage does to one image, a line per row that does something: kind, partner, weight of the own image, box as y0, x0, y1, x1. The
/// weight of a region is the share of the `size` that it leaves, which is lambda to a loss that reads one, and not the number that its size was drawn from.
fn words(stage: &Stage, image: usize, (height, width): (usize, usize), weighted_loss: bool, partners: &Partners) -> Vec<String> {
    let kept = if weighted_loss { "lambda" } else { "kept" };
    let line = |row: &Row| {
        let b = &row.bbox;
        let place = format!("[{}, {}, {}, {}]", b.y0, b.x0, b.y1, b.x1);
        let region =
            |verb: &str| format!("{verb} {}\n{kept} {:.3}\nbox {place}", partners.name(row.partner), kept_area(height, width, b));
        let scale = if row.own_scale == 1.0 { String::new() } else { format!("\nown x {}", row.own_scale) };
        let what = match row.kind {
            Kind::Copy => "copy".to_owned(),
            Kind::Blend => format!("blend {}\nlambda {:.3}", partners.name(row.partner), row.lambda),
            Kind::Paste => region("paste"),
            Kind::Resize => region("resize"),
            Kind::Fill => format!("fill {:.2}\nbox {place}", row.fill_value),
        };
        what + &scale
    };
    active(stage, image).into_iter().map(line).collect()
}

/// One image of a loader buffer `[t, 3, h, w]`.
fn clean_tile(bytes: &[u8], row: usize, (height, width): (usize, usize)) -> RgbImage {
    let plane = height * width;
    let planes = &bytes[row * 3 * plane..][..3 * plane];
    let pixels = (0..plane).flat_map(|p| [planes[p], planes[plane + p], planes[2 * plane + p]]).collect();
    RgbImage { height, width, pixels }
}

/// One normalised image of `[n, 3, h, w]`, back to bytes.
fn tile(images: &Tensor<4>, row: usize, norm: &Normalization) -> RgbImage {
    let [_, c, height, width] = images.dims();
    let values =
        images.clone().slice([row..row + 1, 0..c, 0..height, 0..width]).into_data().try_to_vec::<f32>().expect("images are f32");
    let plane = height * width;
    let pixels = (0..plane).flat_map(|p| norm.invert([values[p], values[plane + p], values[2 * plane + p]])).collect();
    RgbImage { height, width, pixels }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::colour::ColorSpace;
    use crate::config::RunConfig;
    use crate::data::{SourceConfig, Split, make_batch, open};
    use crate::device;
    use crate::kernel::KernelPath;
    use crate::kernel::inputs::Target;
    use crate::mixture::config::Name;
    use crate::mixture::{BatchMixture, Context, MixtureConfig, policy};
    use crate::train::jobs::{Length, jobs};
    use crate::train::open::upload;

    /// Every crop in its own size, and every mixed crop with a box inside it.
    #[test]
    fn all_crops_and_their_mixtures_are_shown() {
        let value = json!({
            "data": {"source": {"name": "synthetic", "count": 8}, "batch": 4}, "views": {"recipe": "swav_cifar", "crop": {"size": 24}, "crops": [{"count": 2}, {"count": 3, "size": 10}]},
            "mixture": {"name": "unmix", "prob": 0}, "method": {"name": "swav"}, "model": {"bn_splits": 1}, "schedule": {"epochs": 1}, "device": "cpu",
        });
        let config = RunConfig::from_value(value).unwrap();
        let (opened, source) = (device::open("cpu").unwrap(), config.data.open(Split::Train, config.seed).unwrap());
        let upload = upload(&config, &opened);
        upload.check(4).unwrap();
        let first = jobs(&config, source.len(), Length::of(&config, source.len()).unwrap(), 0).next().unwrap();
        let batch = make_batch(source.clone(), Arc::new(config.view_recipes()), first).unwrap();
        let sheet = sheet(3, source.as_ref(), &batch, &upload).unwrap();
        let views = (1..=5).map(|view| format!("view {view}"));
        let mixed = [1, 3, 5].map(|view| format!("view {view}, region mixture"));
        let columns: Vec<String> = ["original".to_owned()].into_iter().chain(views).chain(mixed).collect();
        assert_eq!(sheet.columns, columns);
        assert_eq!(sheet.rows.len(), 3);
        for row in &sheet.rows {
            let sizes: Vec<usize> = row.cells[1..].iter().map(|cell| cell.image.as_ref().unwrap().height).collect();
            assert_eq!(sizes, [24, 24, 10, 10, 10, 24, 10, 10]);
            for (cell, size) in row.cells[6..].iter().zip([24, 10, 10]) {
                assert!(cell.boxes.iter().all(|([_, _, y1, x1], _)| *y1 <= size && *x1 <= size), "{:?}", cell.boxes);
                let kept =
                    cell.boxes.first().map(|([y0, x0, y1, x1], _)| 1.0 - ((y1 - y0) * (x1 - x0)) as f64 / (size * size) as f64);
                assert!(kept.is_none_or(|kept| cell.caption.contains(&format!("lambda {kept:.3}"))), "{}: {kept:?}", cell.caption);
            }
        }
        assert!(sheet.rows.iter().flat_map(|row| &row.cells).any(|cell| !cell.boxes.is_empty()));
        sheet.render(SheetOptions::default());
    }

    /// Two images of one view.
    fn one() -> Partners {
        Partners { sources: vec![0], images: 2 }
    }

    /// Boxes have even sides and stop at the border: the drawn number is never quite the area.
    #[test]
    fn a_caption_has_the_lambda_of_the_loss() {
        for (lambda, cy, cx) in [(0.1, 0, 0), (0.5, 16, 16), (0.73, 31, 3), (0.999, 8, 8)] {
            let plan = BatchMixture::new(Kind::Paste, (32, 32), &[1, 0], &[(lambda, cy, cx); 2]).unwrap();
            let stage = &plan.plan.stages[0];
            let used = format!("lambda {:.3}", plan.lambdas[0]);
            let text = words(stage, 0, (32, 32), true, &one()).join("\n");
            assert!(text.contains(&used) || stage.passes[0][0].is_identity(), "{text}: {used}");
            assert!(!words(stage, 0, (32, 32), false, &one()).join("").contains("lambda"));
        }
        let blend = BatchMixture::new(Kind::Blend, (32, 32), &[1, 0], &[(0.3, 0, 0); 2]).unwrap();
        assert_eq!(words(&blend.plan.stages[0], 1, (32, 32), true, &one()), ["blend 0\nlambda 0.300"]);
        let resize = BatchMixture::new(Kind::Resize, (32, 32), &[1, 0], &[(0.5, 16, 16); 2]).unwrap();
        let text = words(&resize.plan.stages[0], 0, (32, 32), true, &one());
        assert_eq!(text, ["resize 1\nlambda 0.750\nbox [8, 8, 24, 24]"]);
        assert_eq!(boxes(&resize.plan.stages[0], 0)[0].0, [8, 8, 24, 24]);
    }

    /// The sheet of a mixture of four images, of which the pixels are their numbers.
    fn sheet_of(name: Name) -> Sheet {
        let source = open(&SourceConfig::default(), Split::Train, 0).unwrap();
        let norm = Normalization { space: ColorSpace::Rgb, mean: [0.0; 3], std: [1.0; 3] };
        let target = Target {
            device: crate::device::test_device(),
            mix: KernelPath::Tensor,
            ingest: KernelPath::Tensor,
            largest_tensor: None,
        };
        let upload = Upload { target, norm, sizes: vec![(2, 3); 2], seed: 1 };
        let ctx = Context { seed: 1, epoch: 0, step: 0, height: 2, width: 3, dataset: 4, views: 2, mixed_views: 1 };
        let planned = policy(&MixtureConfig { name, ..Default::default() }).plan(&ctx, &[0, 1, 2, 3]);
        let view = |first: u8| (0..4u8).flat_map(|image| [first + image; 18]).collect::<Vec<u8>>();
        let batch = Batch {
            views: vec![view(10), view(210)],
            index: vec![0, 1, 2, 3],
            labels: vec![None; 4],
            broken: Vec::new(),
            payload: StepPlan { epoch: 0, step: 0, own: 4, planned },
        };
        sheet(4, source.as_ref(), &batch, &upload).unwrap()
    }

    /// Mixtures with the other view have its pixels and its name.
    #[test]
    fn partners_of_another_view_are_shown() {
        let sheet = sheet_of(Name::MixedBarlow);
        assert_eq!(sheet.columns, ["original", "view 1", "view 2", "view 1 with view 2, global mixture"]);
        for row in &sheet.rows {
            let [_, own, _, mixed] = &row.cells[..] else { panic!("four cells") };
            let (partner, lambda) = mixed.caption.split_once(" of view 2\nlambda ").unwrap();
            let partner: u8 = partner.strip_prefix("blend ").unwrap().parse().unwrap();
            let lambda: f64 = lambda.parse().unwrap();
            let pixel = |cell: &Cell| f64::from(cell.image.as_ref().unwrap().pixels[0]);
            let want = lambda * pixel(own) + (1.0 - lambda) * f64::from(210 + partner);
            // Rounded to a byte, and lambda to three places.
            assert!((pixel(mixed) - want).abs() < 0.8, "{}: {}, want {want}", mixed.caption, pixel(mixed));
        }
        assert_eq!(
            sheet_of(Name::Inputmix).columns[3..],
            ["view 1 with view 2, global mixture", "view 2 with view 1, global mixture"]
        );
    }

    /// MixCo's second half of a batch becomes no mixture.
    #[test]
    fn images_that_are_partners_alone_have_no_picture() {
        let sheet = sheet_of(Name::Mixco);
        let last: Vec<(bool, &str)> =
            sheet.rows.iter().map(|row| &row.cells[3]).map(|c| (c.image.is_some(), c.caption.as_str())).collect();
        assert!(last[..2].iter().all(|(image, caption)| *image && caption.starts_with("blend ")), "{last:?}");
        assert_eq!(last[2..], [(false, "only a partner"); 2]);
    }
}
