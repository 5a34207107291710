//! The report: one HTML page without scripts that loads nothing, and its figures.

mod budget;
mod classes;
mod curves;
mod differences;
mod environment;
mod flatness;
mod html;
mod layers;
mod maps;
mod overview;
mod records;
mod section;
mod weights;

use std::path::PathBuf;

use super::plot::{Figure, figure, theme};
use super::run::{self, Run};
use crate::error::Result;
use html::Html;
use section::{Scene, Section};

/// The page with what else there is to know of it.
#[derive(Debug)]
pub struct Page {
    /// The page.
    pub html: String,
    /// Its figures; no two have the same name.
    pub figures: Vec<Figure>,
    /// Names of the runs.
    pub runs: Vec<String>,
    /// Files that were skipped and the like, a sentence each. The page shows them too.
    pub notices: Vec<String>,
}

/// Reads the folders of runs and lays out the page.
///
/// # Errors
/// A folder or its config cannot be read.
pub fn page(paths: &[PathBuf]) -> Result<Page> {
    let (runs, notices) = run::read_all(paths)?;
    let scene = Scene::new(&runs);
    let mut sections = vec![
        overview::section(&scene),
        curves::section(&scene),
        budget::section(&scene),
        layers::section(&scene),
        flatness::section(&scene),
        weights::section(&scene),
        maps::section(&scene),
        maps::previews(&scene),
        classes::section(&scene),
        records::section(&scene),
        differences::section(&scene),
        environment::section(&scene),
    ];
    sections.retain(|section| !section.body.is_empty());
    let html = layout(&runs, &notices, &sections);
    let figures = sections.into_iter().flat_map(|section| section.figures).collect();
    Ok(Page { html, figures, runs: runs.into_iter().map(|run| run.name).collect(), notices })
}

fn layout(runs: &[Run], notices: &[String], sections: &[Section]) -> String {
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let title = if runs.len() <= 3 { names.join(", ") } else { format!("{} runs", runs.len()) };
    let link = |section: &Section| Html::text(section.title).within(&format!("a href=\"#{}\"", section.id)).within("li");
    let contents = sections.iter().map(link).collect::<Html>().within("ol").within("nav aria-label=\"Contents\"");
    let notice: Html = notices.iter().map(|notice| Html::text(notice).within("li")).collect();
    let notice =
        if notice.is_empty() { notice } else { notice.within("ul").within("aside class=\"notice\" aria-label=\"Notices\"") };
    let part = |section: &Section| {
        let heading = Html::text(section.title).within("h2");
        heading.and(section.body.clone()).within(&format!("section id=\"{}\"", section.id)).and(Html::markup("\n"))
    };
    let kind = Html::text("Pre-training report").within("p class=\"kind\"");
    let header = kind.and(Html::text(&title).within("h1")).within("header");
    let made = Html::text(format!("Made by unmix {} from the files of the runs.", env!("CARGO_PKG_VERSION"))).within("footer");
    let main = header.and(notice).and(contents).and(sections.iter().map(part).collect::<Html>().within("main")).and(made);
    // The policy forbids what the page does not do anyway: scripts, and loading anything.
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{}{}{}</style>\n</head>\n<body>\n{}\n</body>\n</html>\n",
        figure::escape(&format!("unmix: {title}")),
        theme::css(),
        include_str!("page/page.css"),
        figure::CSS,
        main.as_str()
    )
}
