//! `unmix eval map`.

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::subject::{Subject, SubjectArgs};
use crate::cli;
use crate::data::source::Picked;
use crate::error::{Error, Result};
use crate::eval::features::extract_unit;
use crate::eval::map;
use crate::eval::measures::Rows;
use crate::eval::record::Record;
use crate::files;
use crate::model::LayerName;

/// `unmix eval map`.
#[derive(Debug, Args)]
pub struct DrawMap {
    #[command(flatten)]
    subject: SubjectArgs,
    /// The layer: features, embedding, or a number from 1 (-1 is the last).
    #[arg(long, default_value_t = LayerName::FEATURES, allow_negative_numbers = true)]
    layer: LayerName,
    /// Most images on the map, evenly over the classes.
    #[arg(long, default_value_t = map::IMAGES)]
    images: usize,
}

impl DrawMap {
    /// Runs the subcommand.
    pub fn run(&self) -> Result<ExitCode> {
        if self.images == 0 {
            return Err(Error::input("--images is 0: there is nothing to put on the map"));
        }
        let subject = self.subject.open(&[])?;
        let record = draw(&subject, self.layer, self.images)?;
        if self.subject.json {
            cli::print_json(&json!({"results": [record]}))?;
        } else {
            cli::print(&format!(
                "{} images, PCA and t-SNE, in {}/{}.json",
                record.result["images"],
                subject.out.display(),
                record.name
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Where test images lie by their unit rows of a layer. Writes the record and its thumbnails.
pub fn draw(subject: &Subject, layer: LayerName, images: usize) -> Result<Record> {
    let started = Instant::now();
    let layer = layer.resolve(&subject.encoder.layers(), "layer")?;
    subject.check_head(&[layer], "layer")?;
    let labels: Vec<Option<u32>> = (0..subject.test.len()).map(|index| subject.test.label(index)).collect();
    let chosen = map::choose(&labels, images);
    let picked = Picked::of(subject.test.clone(), chosen.clone());
    let features = extract_unit(&subject.encoder, picked, &subject.single_pass()?, &[layer])?;
    subject.tell_unreadable(&features.speed.unreadable);
    // An image that cannot be read is no point of the map.
    let chosen: Vec<usize> = features.images.iter().map(|&at| chosen[at as usize]).collect();
    let labels = chosen.iter().map(|&index| labels[index]).collect();
    let rows = Rows::of(&features.layers[0]);
    let protocol = json!({
        "tag": "map", "layer": layer, "images": chosen.len(), "rows": "unit length", "split": "test, evenly over the classes",
    });
    let stem = format!("map-l{layer}");
    let thumbnails = format!("{}.png", subject.context.name(&stem, &protocol));
    let found = map::map(layer, &rows, labels, subject.test.classes(), &thumbnails)?;
    let atlas = map::atlas(subject.test.as_ref(), &chosen);
    let record = subject.context.record("map", &stem, protocol, json!(found), started.elapsed().as_secs_f64());
    std::fs::create_dir_all(&subject.out).map_err(|error| Error::io("create", &subject.out, &error))?;
    files::write_atomic(subject.out.join(&thumbnails), &map::png(&atlas)?)?;
    record.write(&subject.out)?;
    Ok(record)
}
