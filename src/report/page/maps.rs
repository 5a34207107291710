//! Embedding maps: where the encoder puts images.

use std::fs;
use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::imageops;

use super::html::{Html, code, paragraph, shell};
use super::section::{Scene, Section, unique};
use crate::report::plot::Figure;
use crate::report::plot::figure::slug;
use crate::report::plot::map::{Map, Tile};
use crate::report::run::Run;
use crate::report::run::record::Record;

/// The maps of every run: principal components, t-SNE, and images in place of points.
pub fn section(scene: &Scene) -> Section {
    let (mut section, mut taken) = (Section::new("maps", "Embedding maps"), Vec::new());
    for run in scene.runs {
        let alone = run.of_kind("map").count() == 1;
        for record in run.of_kind("map") {
            let layer = record.layer().map_or_else(String::new, |layer| format!(", layer {layer}"));
            section.push(Html::text(format!("{}{layer}", run.name)).within("h3"));
            let name = if alone { run.name.clone() } else { format!("{} {}", run.name, record.name()) };
            let (figures, notice) = figures(record, &unique(&mut taken, &slug(&name)));
            section.figures(figures);
            section.push(notice.map_or_else(Html::default, paragraph));
        }
    }
    section.push(scene.missing("map", "embedding map"));
    section
}

/// Up to three figures, and a sentence if the images cannot be shown.
fn figures(record: &Record, name: &str) -> (Vec<Figure>, Option<String>) {
    let explained = record.numbers("explained");
    let share =
        |at: usize| explained.get(at).filter(|v| v.is_finite()).map(|v| format!(" ({:.1} %)", v * 100.0)).unwrap_or_default();
    let axes = format!("components 1{} and 2{}", share(0), share(1));
    let pca = map(record, "pca", &format!("map-pca-{}", name), "Principal components", axes);
    let perplexity = record.number("/result/perplexity").map_or_else(String::new, |value| format!("perplexity {value}"));
    let tsne = map(record, "tsne", &format!("map-tsne-{}", name), "t-SNE", perplexity);
    let mut drawn: Vec<Figure> = [&pca, &tsne].into_iter().filter_map(Map::draw).collect();
    let shown = if tsne.points.is_empty() { pca } else { tsne };
    let shown = Map { name: format!("map-images-{}", name), title: format!("Images, {}", shown.title), ..shown };
    match tiles(record, &shown) {
        Ok(figure) => {
            drawn.extend(figure);
            (drawn, None)
        }
        Err(error) => (drawn, Some(format!("The images of this map cannot be shown: {error}."))),
    }
}

fn map(record: &Record, key: &str, name: &str, title: &str, axes: String) -> Map {
    let labels = record.numbers("labels").into_iter().map(|label| label as usize).collect();
    let points = record.points(key);
    let caption = format!("{title} of {} images, protocol {}.", points.len(), record.protocol());
    Map { name: name.into(), title: title.into(), axes, caption, points, labels, classes: record.words("classes") }
}

/// The map with images in place of points, if the record has images.
fn tiles(record: &Record, map: &Map) -> Result<Option<Figure>, String> {
    let Some(file) = record.value["result"]["thumbnails"].as_str() else { return Ok(None) };
    // Beside the record and nowhere else.
    let file = record.file.with_file_name(std::path::Path::new(file).file_name().unwrap_or_default());
    let bytes = fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let atlas = image::load_from_memory(&bytes).map_err(|error| format!("{}: {error}", file.display()))?.to_rgb8();
    let size = |key: &str| record.value["result"][key].as_u64().and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0);
    let (edge, columns) = size("tile").zip(size("columns")).ok_or("the size of its tiles is not known")?;
    let place = |tile: &Tile| {
        let (column, row) = (tile.point as u32 % columns, tile.point as u32 / columns);
        let [x, y] = [column.checked_mul(edge)?, row.checked_mul(edge)?];
        (x.checked_add(edge)? <= atlas.width() && y.checked_add(edge)? <= atlas.height()).then_some((x, y))
    };
    let (tiles, places): (Vec<Tile>, Vec<(u32, u32)>) =
        map.tiles().into_iter().filter_map(|tile| Some((tile, place(&tile)?))).unzip();
    if tiles.is_empty() {
        return Ok(None);
    }
    let caption = format!("{} of the images, each at its place; the frame is the colour of its class.", tiles.len());
    let map = Map { caption, ..map.clone() };
    Ok(map.draw_tiles(&tiles, &strip(&atlas, &places, edge)?))
}

/// The chosen tiles side by side, as a data URI: the whole atlas would be many times as large.
fn strip(atlas: &image::RgbImage, places: &[(u32, u32)], edge: u32) -> Result<String, String> {
    let mut strip = image::RgbImage::new(edge * places.len() as u32, edge);
    for (index, (x, y)) in places.iter().enumerate() {
        let tile = imageops::crop_imm(atlas, *x, *y, edge, edge).to_image();
        imageops::replace(&mut strip, &tile, i64::from(edge) * index as i64, 0);
    }
    let mut png = Cursor::new(Vec::new());
    strip.write_to(&mut png, image::ImageFormat::Png).map_err(|error| error.to_string())?;
    Ok(data_uri(png.get_ref()))
}

/// A PNG as a URI that contains it.
pub fn data_uri(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(png))
}

/// The contact sheets of the runs.
pub fn previews(scene: &Scene) -> Section {
    let mut section = Section::new("preview", "First batch");
    let sheet = |run: &Run| {
        let png = run.preview.as_ref().filter(|png| png.starts_with(b"\x89PNG"))?;
        let words = format!("Contact sheet of the first batch of {}: originals, views, and each stage of the mixture", run.name);
        let alt = crate::report::plot::figure::escape(&words);
        let image = Html::markup(format!("<img alt=\"{alt}\" src=\"{}\">", data_uri(png)));
        let image = image.within(&format!("div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{alt}\""));
        Some(image.and(Html::text(format!("{words}.")).within("figcaption")).within("figure class=\"sheet\""))
    };
    let sheets: Vec<(&Run, Option<Html>)> = scene.runs.iter().map(|run| (run, sheet(run))).collect();
    for (run, sheet) in sheets {
        section.push(sheet.unwrap_or_else(|| {
            let config = shell(&run.path.join("config.json").to_string_lossy());
            let command = format!("unmix preview --config {config} --out sheet.png");
            let text = Html::text(format!("{} has no preview.png (log.preview = 0?). To see its first batch:", run.name));
            text.within("p class=\"missing\"").and(code(command).within("pre"))
        }));
    }
    section
}
