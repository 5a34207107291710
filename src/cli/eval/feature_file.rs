//! Features as files of other programs.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;

use crate::error::{Error, Result, nearest};
use crate::files;
use crate::model::StateDict;
use crate::model::tensors::write_tensors;

/// Rows of one split.
pub struct Rows {
    /// `train` or `test`.
    pub split: &'static str,
    /// Name of each image.
    pub names: Vec<String>,
    /// Label of each image, -1 for none.
    pub labels: Vec<f32>,
    /// `[n, f]`.
    pub features: TensorData,
}

/// The format that a file's ending names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `train.features`, `train.labels`, `test.features`, `test.labels`.
    Safetensors,
    /// A line per image.
    Csv,
    /// NumPy's format, an array per file.
    Npy,
}

impl Format {
    /// The format of a path.
    ///
    /// # Errors
    /// An ending that names none.
    pub fn of(path: &Path) -> Result<Self> {
        const KNOWN: [(&str, Format); 3] = [("safetensors", Format::Safetensors), ("csv", Format::Csv), ("npy", Format::Npy)];
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        KNOWN.iter().find(|(known, _)| *known == ending).map(|(_, format)| *format).ok_or_else(|| {
            let what = format!("--features `{}`: the ending names no format", path.display());
            Error::input(what).hint("features are written as .safetensors, .csv or .npy").hint(nearest(&ending, KNOWN.map(|k| k.0)))
        })
    }

    /// Writes the splits, and returns the files made.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write(self, path: &Path, splits: &[Rows]) -> Result<Vec<PathBuf>> {
        match self {
            Self::Safetensors => {
                let mut tensors = StateDict::new();
                for rows in splits {
                    let labels = TensorData::new(rows.labels.clone(), [rows.labels.len()]);
                    tensors.insert(format!("{}.labels", rows.split), labels);
                    tensors.insert(format!("{}.features", rows.split), rows.features.clone());
                }
                write_tensors(path, &tensors)?;
                Ok(vec![path.to_owned()])
            }
            Self::Csv => files::write_atomic(path, csv(splits).as_bytes()).map(|()| vec![path.to_owned()]),
            Self::Npy => {
                let labels = |rows: &Rows| TensorData::new(rows.labels.clone(), [rows.labels.len()]);
                let arrays = splits.iter().flat_map(|rows| {
                    [(rows.split.to_owned(), rows.features.clone()), (format!("{}-labels", rows.split), labels(rows))]
                });
                let write = |(part, data): (String, TensorData)| {
                    let file = path.with_extension(format!("{part}.npy"));
                    files::write_atomic(&file, &npy(&data)).map(|()| file)
                };
                arrays.map(write).collect()
            }
        }
    }
}

/// Numbers have the shortest digits that read back as the same f32.
fn csv(splits: &[Rows]) -> String {
    let mut out = String::from("split,name,label");
    let width = |rows: &Rows| rows.features.shape()[1];
    for at in 0..splits.first().map_or(0, width) {
        let _ = write!(out, ",f{at}");
    }
    out.push('\n');
    for rows in splits {
        let values = rows.features.as_slice::<f32>().expect("features are f32");
        for ((name, label), row) in rows.names.iter().zip(&rows.labels).zip(values.chunks(width(rows))) {
            let _ = write!(out, "{},{},{label}", rows.split, quoted(name));
            for value in row {
                let _ = write!(out, ",{value}");
            }
            out.push('\n');
        }
    }
    out
}

/// A field as RFC 4180 wants it.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// An f32 array in version 1.0 of NumPy's format: magic, length of the header, header padded to 64 bytes, values in little endian.
fn npy(data: &TensorData) -> Vec<u8> {
    let shape: String = data.shape().to_vec().iter().map(|n| format!("{n}, ")).collect();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", shape.trim_end());
    header.push_str(&" ".repeat(63 - (10 + header.len()) % 64));
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.bytes());
    out.extend(data.as_slice::<f32>().expect("features are f32").iter().flat_map(|value| value.to_le_bytes()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> [Rows; 1] {
        let names = vec!["a,\"b\".jpg".to_owned(), "c.jpg".to_owned()];
        let features = TensorData::new(vec![0.1f32, -3e-9, 7.0, 1.0 / 3.0], [2, 2]);
        [Rows { split: "train", names, labels: vec![1.0, -1.0], features }]
    }

    #[test]
    fn a_line_of_csv_reads_back() {
        assert_eq!(
            csv(&rows()),
            "split,name,label,f0,f1\ntrain,\"a,\"\"b\"\".jpg\",1,0.1,-0.000000003\ntrain,c.jpg,-1,7,0.33333334\n"
        );
    }

    /// The form that `numpy.lib.format` documents: the header ends at a multiple of 64 bytes with a newline.
    #[test]
    fn an_array_has_numpys_header() {
        for shape in [vec![4], vec![2, 2], vec![1, 4]] {
            let bytes = npy(&TensorData::new(vec![0.5f32, 1.0, 2.0, 3.0], shape.clone()));
            let length = u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
            let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
            assert!((10 + length).is_multiple_of(64) && header.ends_with('\n') && bytes.len() == 10 + length + 16);
            let tuple = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            assert!(header.contains(&format!("'shape': ({tuple}")), "{header}");
            assert_eq!(bytes[10 + length..][..4], 0.5f32.to_le_bytes());
        }
    }

    #[test]
    fn an_ending_decides_or_is_refused() {
        assert_eq!(Format::of(Path::new("x.CSV")).unwrap(), Format::Csv);
        for wrong in ["x", "x.npz", "x.txt", "x.safetensor", "features"] {
            let error = Format::of(Path::new(wrong)).unwrap_err().to_string();
            assert!(error.contains(wrong) && error.contains(".safetensors, .csv or .npy"), "{error}");
        }
    }
}
