//! What the runs ran on, and what they complained about.

use serde_json::Value;

use super::html::{Html, code, definitions, shell};
use super::section::{Scene, Section, digits};
use crate::report::run::Run;

/// So many warnings, and so many unreadable images, are shown of each run.
const SHOWN: usize = 20;

/// Version, device, kernels, command, warnings.
pub fn section(scene: &Scene) -> Section {
    let mut section = Section::new("environment", "Environment");
    for run in scene.runs {
        section.push(Html::text(&run.name).within("h3"));
        section.push(definitions(facts(run)));
    }
    section
}

fn facts(run: &Run) -> Vec<(String, Html)> {
    let word = |pointer: &str| run.key(pointer).as_str().map(str::to_owned);
    let device = [word("/run/device/name"), word("/run/device/description"), word("/run/device/compiler")];
    let device: Vec<String> = device.into_iter().flatten().collect();
    let mut facts = vec![
        ("folder".to_owned(), code(run.path.to_string_lossy())),
        ("version".to_owned(), Html::text(word("/run/version").map_or_else(|| "–".into(), |version| format!("unmix {version}")))),
        ("device".to_owned(), Html::text(if device.is_empty() { "–".into() } else { device.join(", ") })),
    ];
    facts.extend(run.key("/run/kernels").as_array().into_iter().flatten().map(kernel));
    if let Some(command) = run.key("/run/command").as_array() {
        let words: Vec<String> = command.iter().filter_map(Value::as_str).map(shell).collect();
        facts.push(("command".into(), code(words.join(" "))));
    }
    facts.extend(run.metrics.of("start").next().and_then(size).map(|words| ("work".to_owned(), Html::text(words))));
    facts.push(("end".into(), Html::text(end(run))));
    let warnings: Vec<String> = run.metrics.of("warning").filter_map(|event| Some(event["message"].as_str()?.to_owned())).collect();
    facts.push(("warnings".into(), list(&warnings)));
    let broken = |event: &Value| format!("{}: {}", event["name"].as_str().unwrap_or("?"), event["reason"].as_str().unwrap_or("?"));
    facts.push(("broken images".into(), list(&run.metrics.of("broken").map(broken).collect::<Vec<_>>())));
    facts
}

fn kernel(choice: &Value) -> (String, Html) {
    let word = |key: &str| choice[key].as_str().unwrap_or("–");
    (format!("kernel {}", word("op")), code(word("path")).and(Html::text(format!(": {}", word("reason")))))
}

/// What the run set out to do.
fn size(start: &Value) -> Option<String> {
    let count = |key: &str| Some(format!("{} {key}", digits(start[key].as_f64()?, 1)));
    let words: Vec<String> = ["images", "epochs", "steps", "parameters"].into_iter().filter_map(count).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn end(run: &Run) -> String {
    let starts = run.metrics.of("start").count();
    let resumed = if starts > 1 { format!(", started {starts} times") } else { String::new() };
    let outcome = run.metrics.of("end").next_back().and_then(|event| event["outcome"].as_str());
    format!("{}{resumed}", outcome.unwrap_or("not reached"))
}

/// How many, and the first of them.
fn list(lines: &[String]) -> Html {
    let items: Html = lines.iter().take(SHOWN).map(|line| Html::text(line).within("li")).collect();
    match lines.len() {
        0 => Html::text("none"),
        count if count > SHOWN => Html::text(format!("{count}, of which the first {SHOWN}:")).and(items.within("ul")),
        count => Html::text(format!("{count}:")).and(items.within("ul")),
    }
}
