//! What a checkpoint's folder must hold, to the byte: the list of its files with sizes and hashes, written last.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::state::FORMAT;
use crate::error::{Error, Result};
use crate::files;

/// Its file. A folder of form [`FIRST`] without one was not written to its end.
pub const MANIFEST: &str = "manifest.json";
/// The first form of checkpoints that has one.
pub const FIRST: u32 = 3;

/// The files of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Form of the folder.
    format: u32,
    /// Completed steps.
    step: u64,
    /// By name.
    files: BTreeMap<String, Entry>,
    /// The hash of everything above, so that damage to the manifest itself is found too.
    seal: String,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Bytes.
    size: u64,
    /// BLAKE3 of the content, in hexadecimal digits.
    blake3: String,
}

impl Manifest {
    /// For files of these contents.
    pub fn of<'a>(step: u64, contents: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let entry = |bytes: &[u8]| Entry { size: bytes.len() as u64, blake3: blake3::hash(bytes).to_string() };
        let files = contents.into_iter().map(|(name, bytes)| (name.to_owned(), entry(bytes))).collect();
        let open = Self { format: FORMAT, step, files, seal: String::new() };
        Self { seal: open.hash(), ..open }
    }

    /// Writes it into the folder.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|e| Error::run(format!("cannot write the manifest: {e}")))?;
        files::write_atomic(folder.join(MANIFEST), &text)
    }

    /// That of a folder; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(MANIFEST);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| Error::io("read", &path, &error))?,
        };
        Self::parse(&text).map(Some)
    }

    /// Reads the text of a manifest.
    ///
    /// # Errors
    /// Damage, or a newer form.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let damaged = |why: String| Error::input(format!("`{MANIFEST}` is damaged: {why}"));
        let manifest: Self = serde_json::from_slice(text).map_err(|error| damaged(error.to_string()))?;
        if manifest.format > FORMAT {
            return Err(Error::input(format!("it has form {}, this program reads up to {FORMAT}", manifest.format))
                .hint("it was written by a newer version of unmix"));
        }
        if manifest.seal != manifest.hash() {
            return Err(damaged("its own hash differs".to_owned()));
        }
        Ok(manifest)
    }

    /// Completed steps.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The bytes of a file of the folder, if they are those that were written.
    ///
    /// # Errors
    /// The file is missing, has another size or another content.
    pub fn open(&self, folder: &Path, name: &str) -> Result<Vec<u8>> {
        let entry = self.files.get(name).ok_or_else(|| Error::input(format!("`{MANIFEST}` does not name `{name}`")))?;
        let path = folder.join(name);
        // Before anything of that size is allocated.
        let size = fs::metadata(&path).map_err(|error| Error::io("read", &path, &error))?.len();
        if size != entry.size {
            return Err(Error::input(format!("`{name}` has {size} bytes of {}", entry.size)));
        }
        let bytes = fs::read(&path).map_err(|error| Error::io("read", &path, &error))?;
        match blake3::hash(&bytes).to_string() == entry.blake3 {
            true => Ok(bytes),
            false => Err(Error::input(format!("`{name}` is damaged: its hash is not that of what was written"))),
        }
    }

    /// Reads all files again and compares them, without keeping them.
    ///
    /// # Errors
    /// The first that differs.
    pub fn verify(&self, folder: &Path) -> Result<()> {
        for (name, entry) in &self.files {
            let path = folder.join(name);
            let mut hasher = blake3::Hasher::new();
            let hashed = File::open(&path).and_then(|file| io::copy(&mut io::BufReader::with_capacity(1 << 20, file), &mut hasher));
            hashed.map_err(|error| Error::io("read", &path, &error))?;
            if hasher.finalize().to_string() != entry.blake3 {
                return Err(Error::input(format!("`{}` does not hold what was written", path.display()))
                    .hint("the disk or its file system loses data"));
            }
        }
        Ok(())
    }

    fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{} {}\n", self.format, self.step).as_bytes());
        for (name, Entry { size, blake3 }) in &self.files {
            hasher.update(format!("{name} {size} {blake3}\n").as_bytes());
        }
        hasher.finalize().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_the_manifest_counts() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = Manifest::of(7, [("a", &b"content"[..]), ("b", b"")]);
        manifest.write(dir.path()).unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap().as_ref(), Some(&manifest));
        let path = dir.path().join(MANIFEST);
        let text = fs::read(&path).unwrap();
        for bit in 0..8 * text.len() {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &flipped).unwrap();
            // A white space may become another one: then nothing has changed.
            if let Ok(read) = Manifest::read(dir.path()) {
                assert_eq!(read.as_ref(), Some(&manifest), "bit {bit}");
            }
        }
        for length in 0..text.len() {
            fs::write(&path, &text[..length]).unwrap();
            assert!(Manifest::read(dir.path()).is_err(), "{length} bytes");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), None);
    }

    #[test]
    fn only_what_was_written_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = Manifest::of(7, [("a", &b"content"[..])]);
        let open = || manifest.open(dir.path(), "a");
        assert!(open().is_err() && manifest.verify(dir.path()).is_err());
        fs::write(dir.path().join("a"), "content").unwrap();
        assert_eq!(open().unwrap(), b"content");
        manifest.verify(dir.path()).unwrap();
        for other in ["contens", "conten", ""] {
            fs::write(dir.path().join("a"), other).unwrap();
            assert!(open().is_err() && manifest.verify(dir.path()).is_err(), "{other}");
        }
        assert!(manifest.open(dir.path(), "b").unwrap_err().message().contains("does not name"));
    }
}
