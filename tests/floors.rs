//! The house has floors: a room uses rooms below its own floor and none beside or above it. This list is the architecture picture of
//! docs/ARCHITECTURE.md, which quotes it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The rooms of `src`, from the ground up. Whoever adds a room puts it here and in docs/ARCHITECTURE.md.
const FLOORS: [&[&str]; 12] = [
    &["colour", "error", "json", "pickle", "rng", "simd", "time", "unread"],
    &["data", "files", "mixture"],
    &["augment", "kernel", "sheet"],
    &["device", "loss"],
    &["memory", "model"],
    &["optim"],
    &["method"],
    &["eval", "report"],
    &["config"],
    &["train"],
    &["check"],
    &["cli"],
];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// Every Rust file below a folder.
fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The rooms that a source text names in code, with the line: comments lead anywhere, and tests may use everything.
fn named(text: &str) -> Vec<(usize, String)> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
        for after in line.split("crate::").skip(1) {
            let room: String = after.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            found.push((number + 1, room));
        }
    }
    found
}

#[test]
fn no_room_uses_one_beside_or_above_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for path in all {
        let inside = path.strip_prefix(&src).unwrap();
        let room = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if room == "lib" || room == "main" {
            continue;
        }
        let own = floor(&room).unwrap_or_else(|| panic!("`{room}` is on no floor: add it to FLOORS and to docs/ARCHITECTURE.md"));
        seen.insert(room.clone());
        // A file of tests alone.
        if inside.file_stem().unwrap().to_str().unwrap().ends_with("tests") {
            continue;
        }
        for (line, used) in named(&fs::read_to_string(&path).unwrap()) {
            if floor(&used).is_some_and(|floor| used != room && floor >= own) {
                wrong.push(format!("src/{}:{line} uses `{used}`, which is not below `{room}`", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that do not run down:\n{}", wrong.join("\n"));
    let listed: BTreeSet<String> = FLOORS.concat().into_iter().map(str::to_owned).collect();
    assert_eq!(seen, listed, "FLOORS names a room that does not exist");
}

/// The picture in the documentation is this list.
#[test]
fn the_architecture_page_shows_these_floors() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ARCHITECTURE.md")).unwrap();
    let (_, picture) = page.split_once("```floors\n").expect("the page has a block ```floors");
    let (picture, _) = picture.split_once("```").unwrap();
    let shown: Vec<Vec<&str>> = picture.lines().rev().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(shown, FLOORS.map(|rooms| rooms.to_vec()));
}

#[test]
fn an_arrow_up_is_found() {
    let text = "use crate::rng::Stream;\n// crate::cli is a comment\nlet x = crate::train::run();\n#[cfg(test)]\nmod tests {\nuse crate::cli;\n}";
    assert_eq!(named(text), [(1, "rng".to_owned()), (3, "train".to_owned())]);
}
