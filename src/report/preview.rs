//! The contact sheet of a run's first batch: originals, views, and what the mixture made of them.

use std::path::Path;

use burn::tensor::Tensor;

use super::sheet::{Cell, Colour, OUTLINES, Sheet, SheetOptions, SheetRow};
use crate::data::{self, Batch, RgbImage, Source};
use crate::error::Result;
use crate::kernel::Normalization;
use crate::mixture::{Kind, MixturePlan};
use crate::train::jobs::StepPlan;
use crate::train::upload::Upload;

/// Draws up to `count` images of a batch, those that are mixed first. 0 draws nothing.
///
/// # Errors
/// An image that cannot be read again, or a disk that cannot be written.
pub fn save(path: &Path, count: usize, source: &dyn Source, batch: &Batch<StepPlan>, upload: &Upload) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let inputs = upload.inputs(batch);
    let plan = &batch.payload.planned;
    let own = batch.payload.own;
    let mixed = |row: usize| {
        plan.unmix.is_some() || (0..batch.views.len()).any(|v| plan.plan_of(v).is_some_and(|p| !words(p, row).is_empty()))
    };
    let mut rows: Vec<usize> = (0..own).filter(|&row| mixed(row)).collect();
    rows.extend((0..own).filter(|&row| !mixed(row)));
    rows.truncate(count);

    let views = batch.views.len();
    let mut columns = vec!["original".to_owned()];
    columns.extend((1..=views).map(|v| format!("view {v}")));
    // Without Un-Mix the method sees the mixed views; with it, the clean views and the mixture of view 1.
    let results: Vec<(&Tensor<4>, Option<&MixturePlan>)> = match (&inputs.mixed, &plan.unmix) {
        (Some(mixed), Some(unmix)) => vec![(&mixed.images, Some(&unmix.plan))],
        _ => inputs.views.iter().enumerate().map(|(v, images)| (images, plan.plan_of(v))).collect(),
    };
    columns.extend((1..=results.len()).map(|v| format!("view {v}, mixed")));
    let mut sheet = Sheet { title: String::new(), columns, rows: Vec::new() };
    for row in rows {
        let index = batch.index[row] as usize;
        let label = source.label(index).and_then(|l| source.classes().get(l as usize).cloned()).unwrap_or_default();
        let mut cells = vec![Cell::new(data::load(source, index)?, label)];
        cells.extend((0..views).map(|v| Cell::new(clean_tile(&batch.views[v], row, upload.size), "")));
        cells.extend(results.iter().map(|(images, plan)| {
            let text = plan.map(|plan| words(plan, row)).unwrap_or_default();
            Cell {
                boxes: plan.map(|plan| boxes(plan, row)).unwrap_or_default(),
                ..Cell::new(tile(images, row, &upload.norm), if text.is_empty() { "not mixed".into() } else { text.join("\n") })
            }
        }));
        sheet.rows.push(SheetRow { caption: format!("{row}"), cells });
    }
    sheet.save_png(path, SheetOptions::default())
}

/// The boxes that a plan pastes or fills in one image.
fn boxes(plan: &MixturePlan, image: usize) -> Vec<([usize; 4], Colour)> {
    let rows = plan.stages.iter().flat_map(|stage| &stage.passes).map(|pass| &pass[image]);
    rows.filter(|row| matches!(row.kind, Kind::Paste | Kind::Fill) && !row.is_identity())
        .zip(OUTLINES.iter().cycle())
        .map(|(row, colour)| ([row.bbox.y0, row.bbox.x0, row.bbox.y1, row.bbox.x1].map(|v| v as usize), *colour))
        .collect()
}

/// What a plan does to one image, a line per row that does something.
fn words(plan: &MixturePlan, image: usize) -> Vec<String> {
    let mut out = Vec::new();
    for (s, stage) in plan.stages.iter().enumerate() {
        for row in stage.passes.iter().map(|pass| &pass[image]).filter(|row| !row.is_identity()) {
            let b = &row.bbox;
            let place = format!("[{}, {}, {}, {}]", b.y0, b.x0, b.y1, b.x1);
            let what = match row.kind {
                Kind::Copy => format!("scale {}", row.own_scale),
                Kind::Blend => format!("{:.2} own + {:.2} of {}", row.lambda, 1.0 - row.lambda, row.partner),
                Kind::Paste => format!("paste {} of {}", place, row.partner),
                Kind::Fill => format!("fill {} with {:.2}", place, row.fill_value),
            };
            out.push(if plan.stages.len() > 1 { format!("{}: {what}", s + 1) } else { what });
        }
    }
    out
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
