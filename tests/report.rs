//! `unmix report`: pages of made-up runs, read as text, as XML, and in a real browser.

#[path = "report/browser.rs"]
mod browser;
mod common;
#[path = "report/runs.rs"]
mod runs;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use browser::Browser;
use common::binary::{refuse, succeed, text, unmix};

/// Writes the report of `runs` and returns the page and what was said on stderr.
fn report(dir: &Path, runs: &[PathBuf], more: &[&str]) -> (String, String) {
    let output = succeed(unmix(dir, &["report", "--no-eval", "--out", "report.html"]).args(runs).args(more));
    (fs::read_to_string(dir.join("report.html")).unwrap(), text(&output))
}

/// The values of an attribute.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    page.split(&start).skip(1).map(|rest| &rest[..rest.find('"').unwrap()]).collect()
}

/// The page has these parts, asks nothing of the network, and what is SVG in it is well-formed.
fn check_page(page: &str, sections: &[&str]) {
    for id in sections {
        assert!(page.contains(&format!("<section id=\"{id}\">")), "no section {id}");
    }
    assert!(!page.contains("http://") && !page.contains("https://"), "an address");
    assert!(!page.contains("<script") && !page.contains("@import") && !page.contains("url("));
    for source in attributes(page, "src").into_iter().chain(attributes(page, "href")) {
        assert!(source.starts_with("data:image/png;base64,") || source.starts_with('#'), "{source}");
    }
    for svg in page.split("<svg class=\"plot\"").skip(1) {
        let end = svg.find("</svg>\n<figcaption>").expect("a figure ends with its caption");
        check_svg(&format!("<svg class=\"plot\"{}</svg>", &svg[..end]));
    }
    let ids = attributes(page, "id");
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "ids are unique");
}

/// Well-formed, with a name, and with nothing in it that is no number.
fn check_svg(svg: &str) {
    let document = roxmltree::Document::parse(svg).unwrap_or_else(|error| panic!("{error}\n{svg}"));
    let root = document.root_element();
    assert_eq!((root.attribute("role"), root.tag_name().name()), (Some("img"), "svg"));
    assert!(!root.attribute("aria-label").unwrap().is_empty());
    for path in document.descendants().filter_map(|node| node.attribute("d")) {
        assert!(!path.contains("NaN") && !path.contains("inf") && path.starts_with('M'), "{path}");
    }
}

#[test]
fn everything_a_run_can_have_is_on_the_page() {
    let dir = tempfile::tempdir().unwrap();
    let runs = runs::full(dir.path());
    let (page, said) = report(dir.path(), &runs, &["--figures", "figures"]);
    check_page(
        &page,
        &[
            "runs",
            "curves",
            "budget",
            "layers",
            "flatness",
            "weights",
            "maps",
            "preview",
            "classes",
            "results",
            "differences",
            "environment",
        ],
    );
    assert!(said.contains("report of 3 runs") && !said.contains("warning"), "{said}");
    for words in [
        "moco-im-20",
        "83.85\u{a0}%",
        "linear-moco, layer 6",
        "knn-unmix, layer 7, k 200, T 0.1",
        "1 % of the labels",
        "unmix 0.1.0",
    ] {
        assert!(page.contains(words), "no `{words}`");
    }
    assert!(page.contains("<code>mixture.name</code>") && !page.contains("<code>run.version</code>"), "differences");
    assert!(page.contains("protocol.milestones") && page.contains("[60,80]"), "the whole protocol");
    assert!(page.contains("--config &#39;my config.json&#39;") && page.contains("the fastest here"), "environment");
    let mut files: Vec<String> =
        fs::read_dir(dir.path().join("figures")).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    for name in [
        "loss.svg",
        "layers-linear-moco.svg",
        "flatness.svg",
        "flatness-frog-png.svg",
        "flatness-ship-png.svg",
        "rankme.svg",
        "lidar.svg",
        "weights-conv1.svg",
        "weights-fc.svg",
        "curve-knn-unmix.svg",
        "curve-linear-htdt-top1.svg",
        "curve-linear-htdt-top5.svg",
        "probe-linear-moco-l6.svg",
        "probe-linear-moco-l6-top5.svg",
        "classes-knn-unmix-l7.svg",
        "map-tsne-moco-im-20.svg",
    ] {
        assert!(files.iter().any(|file| file == name), "no {name} in {files:?}");
    }
    assert_eq!(files.len(), page.matches("<svg class=\"plot\"").count());
    for file in files {
        let svg = fs::read_to_string(dir.path().join("figures").join(&file)).unwrap();
        check_svg(&svg);
        assert!(svg.contains("xmlns=\"http://www.w3.org/2000/svg\"") && !svg.contains("var("), "{file}");
    }
    let overview = &page[..page.find("id=\"curves\"").unwrap()];
    assert!(page.contains("11.11\u{a0}%") && page.contains("at step 1<"), "the result of an earlier checkpoint is in the table");
    let svg = fs::read_to_string(dir.path().join("figures/layers-linear-moco.svg")).unwrap();
    assert!(!overview.contains("11.11") && !svg.contains("11.11"), "and nowhere else");
    assert!(
        overview.contains("linear-moco, layer 6") && !overview.contains("linear-moco, layer 7"),
        "the features stand for all layers"
    );
    // Three runs, and one untrained encoder that is the same for all.
    let weights = fs::read_to_string(dir.path().join("figures/weights-layer2.svg")).unwrap();
    assert_eq!(weights.matches(">untrained</title>").count(), 1, "{weights}");
    // The baseline is dotted, the mixtures are not.
    let loss = &page[page.find("<figure id=\"figure-loss\">").unwrap()..];
    let loss = &loss[..loss.find("</figure>").unwrap()];
    assert_eq!(loss.matches("class=\"line dotted\"").count(), 2, "the baseline's line and its sample in the legend");
    assert_eq!(loss.matches("class=\"line\"").count(), 4);
}

#[test]
fn accuracies_are_joined_over_budgets_and_averaged_over_seeds() {
    let dir = tempfile::tempdir().unwrap();
    let (page, _) = report(dir.path(), &runs::budgets(dir.path()), &["--figures", "figures"]);
    check_page(&page, &["budget", "results"]);
    let svg = fs::read_to_string(dir.path().join("figures/budget-linear-moco-l6.svg")).unwrap();
    let document = roxmltree::Document::parse(&svg).unwrap();
    let lines: Vec<&str> =
        document.descendants().filter(|node| node.has_children()).filter_map(|node| node.attribute("d")).collect();
    let joined: Vec<&&str> = lines.iter().filter(|path| path.matches('L').count() == 2 && !path.ends_with('Z')).collect();
    assert_eq!(joined.len(), 2, "a line through three budgets for each mixture: {lines:?}");
    let titles = document.descendants().filter(|node| node.tag_name().name() == "title").filter_map(|node| node.text());
    assert_eq!(titles.filter(|title| title.contains("epochs: ")).count(), 12, "a mark for each run");
}

#[test]
fn odd_runs_give_a_page_that_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let mut runs = runs::odd(dir.path());
    runs.push(runs::unfinished(dir.path()));
    let (page, said) = report(dir.path(), &runs, &[]);
    check_page(&page, &["runs", "curves", "flatness", "maps", "preview", "classes", "results", "differences", "environment"]);
    assert!(!said.contains("warning"), "a torn last line is nothing to warn of: {said}");
    for kind in ["linear", "flatness", "weights", "map", "knn"] {
        assert!(page.contains(&format!("unmix eval {kind} --run ")), "how to make {kind}");
    }
    assert!(page.contains("Not finished, or without a summary.json: bare, stopped"));
    let longest = attributes(&page, "d").into_iter().map(|path| path.matches('L').count()).max().unwrap();
    assert!((100..=600).contains(&longest), "5000 epochs are {longest} points");

    let alone = report(dir.path(), &runs[..1], &[]).0;
    check_page(&alone, &["runs", "curves"]);
    assert!(alone.contains("No epoch and no step has been logged yet.") && !alone.contains("id=\"differences\""));
}

#[test]
fn hostile_words_stay_words_and_damaged_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = runs::hostile(dir.path());
    let (page, said) = report(dir.path(), &[run.clone(), run], &["--figures", "figures"]);
    check_page(&page, &["runs", "maps", "results", "environment"]);
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;b&gt;&quot;&amp;"));
    for notice in ["knn-l7.json` was skipped", "metrics.jsonl`: 1 damaged line", "more than once"] {
        assert!(page.contains(notice) && said.contains(notice), "`{notice}` in\n{said}");
    }
    assert!(page.contains("The images of this map cannot be shown"));
    for file in fs::read_dir(dir.path().join("figures")).unwrap() {
        check_svg(&fs::read_to_string(file.unwrap().path()).unwrap());
    }
}

#[test]
fn what_cannot_be_reported_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let run = runs::trained(dir.path(), runs::Made { name: "a", mixture: "im", epochs: 2, seed: 1, top1: 30.0 });
    let report = |run: &str, out: &str| unmix(dir.path(), &["report", run, "--no-eval", "--out", out]);
    refuse(&mut report("none", "a.html"), "`none` holds no run", "name the folder that `unmix pretrain` printed");
    refuse(&mut report("a", "missing/a.html"), "missing/a.html", "check the path");
    fs::write(run.join("config.json"), "{").unwrap();
    refuse(&mut report("a", "a.html"), "config.json` is damaged", "leave the run out");
}

/// Where the figures are, and what is in them.
const FIGURES: &str = "[...document.querySelectorAll('figure')].map(figure => {
    const box = figure.querySelector('svg, img').getBoundingClientRect();
    const texts = [...figure.querySelectorAll('text')].map(text => text.getBoundingClientRect());
    return { id: figure.id, box: [box.x + scrollX, box.y + scrollY, box.width, box.height],
        marks: figure.querySelectorAll('path, image, use, img').length,
        cut: texts.filter(text => text.width && (text.left < box.left - 3 || text.right > box.right + 3)).length };
})";

#[test]
fn a_browser_shows_every_figure_on_phone_tablet_and_desk() {
    let Some(path) = browser::find() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut all = runs::full(&dir.path().join("full"));
    all.push(runs::hostile(&dir.path().join("odd")));
    all.extend(runs::odd(&dir.path().join("odd")));
    all.push(runs::budgets(&dir.path().join("budget")).remove(0));
    report(dir.path(), &all, &[]);
    let mut browser = Browser::start(&path);
    for (width, scheme) in [(360, "light"), (820, "dark"), (1400, "light")] {
        browser.open(&dir.path().join("report.html"), width, scheme);
        let page = browser.evaluate("[document.documentElement.scrollWidth, innerWidth, document.documentElement.scrollHeight]");
        assert!(page[0].as_f64() <= page[1].as_f64(), "{width}: the page scrolls sideways, {page}");
        let figures = browser.evaluate(FIGURES);
        assert!(figures.as_array().unwrap().len() > 20);
        for figure in figures.as_array().unwrap() {
            check_figure(&mut browser, figure, f64::from(width));
        }
        let heard: Vec<String> = browser
            .heard
            .borrow()
            .iter()
            .filter(|said| !said.contains("asked for data:") && !said.contains("report.html"))
            .cloned()
            .collect();
        assert!(heard.is_empty(), "{width}: {heard:?}");
    }
    let pdf = browser.pdf();
    browser::keep("report.pdf", &pdf);
    assert!(pdf.starts_with(b"%PDF") && pdf.windows(11).any(|part| part == b"/Type /Page"), "{} bytes of PDF", pdf.len());
}

/// A figure is large enough, inside the window (a contact sheet scrolls in its box), has marks, and one sees something.
fn check_figure(browser: &mut Browser, figure: &Value, width: f64) {
    let area: Vec<f64> = figure["box"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    let [x, y, w, h] = area[..] else { panic!("{figure}") };
    assert!(w >= 250.0 && h >= 80.0, "{width}: small {figure}");
    assert!(x >= 0.0 && (x + w <= width || figure["id"] == ""), "{width}: outside {figure}");
    assert!(figure["marks"].as_u64() >= Some(1) && figure["cut"] == 0, "{width}: {figure}");
    let picture = browser.screenshot([x, y, w.min(width - x), h]);
    let ground = *picture.get_pixel(1, picture.height() - 1);
    let drawn = picture.pixels().filter(|pixel| **pixel != ground).count() as f64 / f64::from(picture.width() * picture.height());
    assert!(drawn > 0.01, "{width}: {figure} is empty");
}
