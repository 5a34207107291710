//! Single image files, named one by one.

use std::path::PathBuf;

use crate::data::folder::read_file;
use crate::data::source::{Encoded, Source};
use crate::error::{Result, shown};

/// Image files in the order in which they were named, without labels.
pub struct FileList(Vec<PathBuf>);

impl FileList {
    /// The given files; none of them is opened before it is asked for.
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self(files)
    }
}

impl Source for FileList {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn classes(&self) -> &[String] {
        &[]
    }

    fn label(&self, _: usize) -> Option<u32> {
        None
    }

    fn encoded(&self, index: usize) -> Result<Encoded<'_>> {
        read_file(&self.0[index])
    }

    fn name(&self, index: usize) -> String {
        shown(&self.0[index].to_string_lossy()).into_owned()
    }

    fn key(&self, index: usize) -> String {
        self.name(index)
    }

    fn describe(&self) -> String {
        format!("{} image files", self.len())
    }
}
