//! Text files with one name a line.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// Reads a text file as editors of all systems write it: UTF-8, or UTF-16 with the mark that tells it, with or without that mark at its
/// start. The mark is no part of the first line.
///
/// # Errors
/// The file cannot be read, or is no text.
pub(crate) fn text(doing: &str, path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(|e| Error::io(doing, path, &e))?;
    let wide = |read: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes[2..].chunks_exact(2).map(|two| read([two[0], two[1]])).collect();
        String::from_utf16(&units).ok()
    };
    let text = match bytes.as_slice() {
        [0xFF, 0xFE, ..] => wide(u16::from_le_bytes),
        [0xFE, 0xFF, ..] => wide(u16::from_be_bytes),
        [0xEF, 0xBB, 0xBF, rest @ ..] => std::str::from_utf8(rest).ok().map(str::to_owned),
        all => std::str::from_utf8(all).ok().map(str::to_owned),
    };
    text.ok_or_else(|| {
        Error::input(format!("cannot {doing} {}: it is no text in UTF-8", crate::error::shown_path(path)))
            .hint("save it as text in UTF-8")
    })
}

/// The lines of a text file without the spaces around them, and without empty ones.
///
/// # Errors
/// As [`text`].
pub(crate) fn lines(doing: &str, path: &Path) -> Result<Vec<String>> {
    Ok(text(doing, path)?.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_of_the_encoding_is_no_part_of_the_first_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list.txt");
        let wide = |order: fn(u16) -> [u8; 2]| "\u{FEFF}cat\r\n dög \r\n".encode_utf16().flat_map(order).collect::<Vec<u8>>();
        for bytes in
            ["cat\ndög".as_bytes().to_vec(), "\u{FEFF}cat\r\n\r\ndög\r\n".into(), wide(u16::to_le_bytes), wide(u16::to_be_bytes)]
        {
            fs::write(&path, bytes).unwrap();
            assert_eq!(lines("read the list", &path).unwrap(), ["cat", "dög"]);
        }
        fs::write(&path, b"c\xE4t\n").unwrap();
        assert!(lines("read the list", &path).unwrap_err().message().contains("no text in UTF-8"));
        assert!(lines("read the list", &dir.path().join("absent")).unwrap_err().message().contains("cannot read the list"));
    }
}
