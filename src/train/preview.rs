//! The contact sheet of a run's first batch: originals, views, and what the mixture made of them.

use std::path::Path;

use burn::tensor::Tensor;

use super::jobs::StepPlan;
use super::upload::Upload;
use crate::colour::Normalization;
use crate::data::{self, Batch, RgbImage, Source};
use crate::error::Result;
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
    let own = batch.payload.own;
    let views = batch.views.len();
    // Without Un-Mix the method sees the mixed views; with it, the clean views and the mixture of view 1.
    let mut plans: Vec<(usize, &MixturePlan)> = plan.mixtures.iter().map(|mixture| (mixture.views[0], &mixture.plan)).collect();
    if plans.is_empty() {
        plans = (0..views).filter_map(|view| Some((view, plan.plan_of(view)?))).collect();
    }
    let is_mixed = |row: &usize| plans.iter().any(|(_, plan)| plan.stages.iter().any(|stage| !active(stage, *row).is_empty()));
    let (mut rows, clean): (Vec<usize>, Vec<usize>) = (0..own).partition(is_mixed);
    rows.extend(clean);
    rows.truncate(count);

    let mut columns = vec!["original".to_owned()];
    columns.extend((1..=views).map(|view| format!("view {view}")));
    let mut results = Vec::new();
    for (view, plan) in plans {
        for stages in 1..=plan.stages.len() {
            // The plan up to this stage; only the last one is what the method gets.
            let part = MixturePlan { stages: plan.stages[..stages].to_vec(), keep: own };
            let images = upload.target.images(&batch.views[view], &upload.ingest(batch.index.len()), &part);
            let stage = plan.stages[stages - 1].clone();
            columns.push(format!("view {}, {}", view + 1, stage_name(&stage)));
            results.push((images, stage));
        }
    }
    let mut sheet = Sheet { title: String::new(), columns, rows: Vec::new() };
    for row in rows {
        let index = batch.index[row] as usize;
        let label = source.label(index).and_then(|l| source.classes().get(l as usize).cloned()).unwrap_or_default();
        let mut cells = vec![Cell::new(data::load(source, index)?, label)];
        cells.extend((0..views).map(|view| Cell::new(clean_tile(&batch.views[view], row, upload.size), "")));
        cells.extend(results.iter().map(|(images, stage)| {
            let text = words(stage, row, upload.size, !plan.mixtures.is_empty());
            let caption = if text.is_empty() { "unchanged".into() } else { text.join("\n") };
            Cell { boxes: boxes(stage, row), ..Cell::new(tile(images, row, &upload.norm), caption) }
        }));
        sheet.rows.push(SheetRow { caption: format!("{row}"), cells });
    }
    Ok(sheet)
}

/// What a stage does, by the rows that do something.
fn stage_name(stage: &Stage) -> &'static str {
    let any = |kind| stage.passes.iter().flatten().any(|row| row.kind == kind && !row.is_identity());
    match (any(Kind::Blend), any(Kind::Paste), any(Kind::Fill)) {
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

/// The boxes that a stage pastes or fills in one image.
fn boxes(stage: &Stage, image: usize) -> Vec<([usize; 4], Colour)> {
    let rows = active(stage, image).into_iter().filter(|row| matches!(row.kind, Kind::Paste | Kind::Fill));
    rows.zip(OUTLINES.iter().cycle())
        .map(|(row, colour)| ([row.bbox.y0, row.bbox.x0, row.bbox.y1, row.bbox.x1].map(|v| v as usize), *colour))
        .collect()
}

/// What a stage does to one image, a line per row that does something: kind, partner, weight of the own image, box as y0, x0, y1, x1. The
/// weight of a region is the share of the `size` that it leaves, which is lambda to a loss that reads one, and not the number that its size was drawn from.
fn words(stage: &Stage, image: usize, (height, width): (usize, usize), weighted_loss: bool) -> Vec<String> {
    let kept = if weighted_loss { "lambda" } else { "kept" };
    let line = |row: &Row| {
        let b = &row.bbox;
        let place = format!("[{}, {}, {}, {}]", b.y0, b.x0, b.y1, b.x1);
        let scale = if row.own_scale == 1.0 { String::new() } else { format!("\nown x {}", row.own_scale) };
        let what = match row.kind {
            Kind::Copy => "copy".to_owned(),
            Kind::Blend => format!("blend {}\nlambda {:.3}", row.partner, row.lambda),
            Kind::Paste => format!("paste {}\n{kept} {:.3}\nbox {place}", row.partner, kept_area(height, width, b)),
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
    use super::*;
    use crate::mixture::BatchMixture;

    /// Boxes have even sides and stop at the border: the drawn number is never quite the area.
    #[test]
    fn a_caption_has_the_lambda_of_the_loss() {
        for (lambda, cy, cx) in [(0.1, 0, 0), (0.5, 16, 16), (0.73, 31, 3), (0.999, 8, 8)] {
            let plan = BatchMixture::new(Kind::Paste, (32, 32), &[1, 0], &[(lambda, cy, cx); 2]).unwrap();
            let stage = &plan.plan.stages[0];
            let used = format!("lambda {:.3}", plan.lambdas[0]);
            let text = words(stage, 0, (32, 32), true).join("\n");
            assert!(text.contains(&used) || stage.passes[0][0].is_identity(), "{text}: {used}");
            assert!(!words(stage, 0, (32, 32), false).join("").contains("lambda"));
        }
        let blend = BatchMixture::new(Kind::Blend, (32, 32), &[1, 0], &[(0.3, 0, 0); 2]).unwrap();
        assert_eq!(words(&blend.plan.stages[0], 1, (32, 32), true), ["blend 0\nlambda 0.300"]);
    }
}
