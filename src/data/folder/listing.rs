//! What a folder holds, and what of it is not read.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::Path;

use crate::error::{Error, Result, shown};

/// What is read, by extension: torchvision's list, and `pnm` and `pbm` besides.
pub(super) const EXTENSIONS: [&str; 11] = ["jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff", "ppm", "pgm", "pbm", "pnm"];
/// Pictures that are not read; a user would miss them.
const UNREAD: [&str; 22] = [
    "jfif", "jpe", "gif", "heic", "heif", "avif", "jp2", "j2k", "jxl", "svg", "psd", "ico", "tga", "exr", "hdr", "dds", "raw",
    "dng", "cr2", "nef", "arw", "pcx",
];
/// What systems leave behind in folders.
const JUNK: [&str; 5] = ["__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information"];
/// The most names told of a kind.
const NAMED: usize = 3;

/// The entries of a folder that are read, sorted by name. Hidden ones are passed over.
pub(super) struct Listing {
    /// Files with the extension of an image.
    pub files: Vec<OsString>,
    pub folders: Vec<OsString>,
}

/// What lies in a data set and is not read.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    /// Images beside the class folders, which have no class.
    pub loose: usize,
    /// Files of other picture formats, by extension.
    unread: BTreeMap<String, usize>,
    /// Class folders without an image.
    pub empty: Vec<String>,
    /// Folders of a run, which holds a contact sheet of the data.
    runs: Vec<String>,
    /// Folders that systems made.
    junk: Vec<String>,
    /// A folder of test images that has no class folders, passed over for one that has.
    pub unlabelled: Option<String>,
}

impl fmt::Display for LeftOut {
    /// `; left out: ...`, or nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unread: Vec<String> = self.unread.iter().map(|(extension, count)| format!("{count} .{extension}")).collect();
        let parts = [
            (self.loose > 0).then(|| format!("{} beside the class folders", counted(self.loose, "image"))),
            (!unread.is_empty()).then(|| format!("files of formats that are not read ({})", unread.join(", "))),
            (!self.empty.is_empty())
                .then(|| format!("{} without an image ({})", counted(self.empty.len(), "folder"), few(&self.empty))),
            (!self.runs.is_empty()).then(|| format!("{} ({})", counted(self.runs.len(), "run folder"), few(&self.runs))),
            (!self.junk.is_empty()).then(|| format!("{} of the system ({})", counted(self.junk.len(), "folder"), few(&self.junk))),
            self.unlabelled.as_ref().map(|name| format!("the folder `{name}`, which has no class folders")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() { Ok(()) } else { write!(f, "; left out: {}", parts.join(", ")) }
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn few(names: &[String]) -> String {
    let more = if names.len() > NAMED { ", ..." } else { "" };
    format!("{}{more}", names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", "))
}

/// Lists a folder, and notes what of it is left out.
pub(super) fn list(path: &Path, left: &mut LeftOut) -> Result<Listing> {
    let failed = |e: std::io::Error| Error::io("list the folder", path, &e);
    let mut listing = Listing { files: Vec::new(), folders: Vec::new() };
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (name, kind) = (entry.file_name(), entry.file_type().map_err(failed)?);
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // Links are followed: a subset of a data set is often a folder of links.
        if kind.is_dir() || kind.is_symlink() && entry.path().is_dir() {
            if JUNK.iter().any(|junk| name == *junk) {
                left.junk.push(shown(&name.to_string_lossy()).into_owned());
            } else if is_run(&entry.path()) {
                left.runs.push(shown(&name.to_string_lossy()).into_owned());
            } else {
                listing.folders.push(name);
            }
        } else if let Some(extension) = extension(&name) {
            if EXTENSIONS.contains(&extension.as_str()) {
                listing.files.push(name);
            } else if UNREAD.contains(&extension.as_str()) {
                *left.unread.entry(extension).or_default() += 1;
            }
        }
    }
    listing.files.sort_unstable();
    listing.folders.sort_unstable();
    // The order of a folder is the file system's.
    left.junk.sort_unstable();
    left.runs.sort_unstable();
    Ok(listing)
}

/// Whether an image lies in a folder or below it, at most `depth` folders deep. What cannot be listed holds none.
pub(super) fn holds_image(path: &Path, depth: usize) -> bool {
    let Ok(Listing { files, folders }) = list(path, &mut LeftOut::default()) else { return false };
    !files.is_empty() || depth > 0 && folders.iter().any(|name| holds_image(&path.join(name), depth - 1))
}

/// Whether a run of this program, finished or not, wrote into the folder.
fn is_run(path: &Path) -> bool {
    path.join("config.json").is_file() && ["metrics.jsonl", ".lock"].iter().any(|name| path.join(name).is_file())
}

fn extension(name: &OsStr) -> Option<String> {
    Some(Path::new(name).extension()?.to_str()?.to_ascii_lowercase())
}
