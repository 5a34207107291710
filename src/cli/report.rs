//! `unmix report`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::error::{Error, Result};
use crate::files;
use crate::report::page;

/// Lays out one or several runs as a page to read, print or attach. Evaluations that are missing (kNN, flatness, weights, map) are made first.
#[derive(Debug, Args)]
pub struct Report {
    /// Folders of runs.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The HTML file to write. Nothing else belongs to it.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A folder to write every figure into as an SVG file of its own.
    #[arg(long, value_name = "DIR")]
    figures: Option<PathBuf>,
    /// Read files only: evaluate nothing, open no device and no images.
    #[arg(long)]
    no_eval: bool,
    /// Device of the evaluations; by default that of each run's config.
    #[arg(long, conflicts_with = "no_eval")]
    device: Option<String>,
}

impl Report {
    /// Reads, lays out, writes.
    pub fn run(&self) -> Result<ExitCode> {
        for run in &self.runs {
            super::run_file(run)?;
        }
        if !self.no_eval {
            let lacking = self.runs.iter().flat_map(|run| super::eval::complete(run, self.device.as_deref()));
            lacking.for_each(|notice| eprintln!("warning: {notice}"));
        }
        let page = page::page(&self.runs)?;
        for notice in &page.notices {
            eprintln!("warning: {notice}");
        }
        files::write_atomic(&self.out, page.html.as_bytes())?;
        let (figures, kib) = (page.figures.len(), page.html.len().div_ceil(1024));
        let runs = if page.runs.len() == 1 { "1 run".into() } else { format!("{} runs", page.runs.len()) };
        super::print(&format!("report of {runs} with {figures} figures in {} ({kib} KiB)", self.out.display()));
        if let Some(folder) = &self.figures {
            fs::create_dir_all(folder).map_err(|error| Error::io("create the folder", folder, &error))?;
            for figure in &page.figures {
                files::write_atomic(folder.join(format!("{}.svg", figure.name)), figure.standalone().as_bytes())?;
            }
            super::print(&format!("{figures} figures in {}", folder.display()));
        }
        Ok(ExitCode::SUCCESS)
    }
}
