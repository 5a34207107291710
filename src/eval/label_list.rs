//! Published lists of the images whose labels are used, such as SimCLR's 1 % and 10 % of ImageNet: a text file with one name per line.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use crate::data::{Source, lists};
use crate::error::{Error, Result, shown, shown_path};

/// Names listed in an error.
const LISTED: usize = 5;

/// The images that the lines of `file` name, ascending, each once. A name is the end of an image's path within the data set, from the name of the
/// file on (`n01440764_10043.JPEG` or `n01440764/n01440764_10043.JPEG`), or a longer path that ends in it; images of records are named by their
/// number.
///
/// # Errors
/// A file that cannot be read or names nothing; names that no image has, with their number, or several have.
pub fn named_images(source: &dyn Source, file: &Path) -> Result<Vec<u32>> {
    let names = lists::lines("read the list of labels", file)?;
    if names.is_empty() {
        return Err(Error::input(format!("{} names no image", shown_path(file))).hint("write one name of an image per line"));
    }
    let keys: Vec<String> = (0..source.len()).map(|index| source.key(index)).collect();
    let mut by_end = HashMap::<&str, Vec<u32>>::new();
    keys.iter().enumerate().for_each(|(index, key)| by_end.entry(end_of(key)).or_default().push(index as u32));
    let (mut found, mut unknown, mut several) = (BTreeSet::new(), Vec::new(), Vec::new());
    for name in &names {
        let path = name.replace('\\', "/");
        let candidates = by_end.get(end_of(&path)).into_iter().flatten();
        let mut meant = candidates.filter(|&&index| same_end(&keys[index as usize], path.trim_start_matches("./")));
        match (meant.next(), meant.next()) {
            (None, _) => unknown.push(name.as_str()),
            (Some(&index), None) => drop(found.insert(index)),
            (Some(_), Some(_)) => several.push(name.as_str()),
        }
    }
    let of = |count: &[&str]| format!("{} of the {} names in {}", count.len(), names.len(), shown_path(file));
    if !unknown.is_empty() {
        return Err(Error::input(format!("{} are no training images: {}", of(&unknown), listed(&unknown)))
            .detail(format!("training images: {}", source.describe()))
            .hint(format!("the list must be one of this data set, whose first image is `{}`", shown(&keys[0]))));
    }
    if !several.is_empty() {
        return Err(Error::input(format!("{} are names of several images: {}", of(&several), listed(&several)))
            .hint("write the folder before the name, as in CLASS/NAME"));
    }
    Ok(found.into_iter().collect())
}

/// The name of the file at the end of a path.
fn end_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether one path is the end of the other, in whole names.
fn same_end(a: &str, b: &str) -> bool {
    a.split('/').rev().zip(b.split('/').rev()).all(|(a, b)| a == b)
}

fn listed(names: &[&str]) -> String {
    let first: Vec<String> = names.iter().take(LISTED).map(|name| format!("`{}`", shown(name))).collect();
    format!("{}{}", first.join(", "), if names.len() > LISTED { ", ..." } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Encoded;

    struct Paths(Vec<&'static str>);

    impl Source for Paths {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn classes(&self) -> &[String] {
            &[]
        }
        fn label(&self, _: usize) -> Option<u32> {
            None
        }
        fn encoded(&self, _: usize) -> Result<Encoded<'_>> {
            unreachable!("no image is read")
        }
        fn name(&self, index: usize) -> String {
            self.0[index].to_owned()
        }
        fn key(&self, index: usize) -> String {
            self.name(index)
        }
        fn describe(&self) -> String {
            "paths".to_owned()
        }
    }

    fn named(list: &str) -> Result<Vec<u32>> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("1percent.txt");
        std::fs::write(&file, list).unwrap();
        named_images(&Paths(vec!["n01/n01_1.JPEG", "n01/n01_2.JPEG", "n02/n02_1.JPEG", "n02/a.JPEG", "n01/a.JPEG"]), &file)
    }

    #[test]
    fn a_list_means_exactly_the_images_that_it_names() {
        assert_eq!(named("n02_1.JPEG\r\n\nn01_2.JPEG\n").unwrap(), [1, 2]);
        assert_eq!(named("n01_2.JPEG\nn01/n01_2.JPEG\n./n01/n01_2.JPEG\ntrain/n01/n01_2.JPEG\nn01\\n01_2.JPEG").unwrap(), [1]);
        assert_eq!(named("n01/a.JPEG").unwrap(), [4], "the folder tells two of a name apart");
    }

    #[test]
    fn names_that_mean_none_or_several_images_are_counted_and_named() {
        let error = named("n01_2.JPEG\nn03_1.JPEG\n02_1.JPEG\nn02/n01_1.JPEG").unwrap_err().to_string();
        assert!(error.contains("3 of the 4 names in") && error.contains("`n03_1.JPEG`, `02_1.JPEG`, `n02/n01_1.JPEG`"), "{error}");
        assert!(error.contains("hint: ") && error.contains("n01/n01_1.JPEG"), "{error}");
        let error = named("a.JPEG\nn01_1.JPEG").unwrap_err().to_string();
        assert!(
            error.contains("1 of the 2 names in") && error.contains("several images: `a.JPEG`") && error.contains("CLASS/NAME")
        );
        assert!(named("\n \n").unwrap_err().message().contains("names no image"));
        assert!(named_images(&Paths(vec!["a"]), Path::new("absent.txt")).unwrap_err().message().contains("absent.txt"));
    }
}
