//! Labels of two splits in the same numbers.

use crate::data::{Encoded, Source};
use crate::error::{Error, Result};
use crate::eval::features::{Features, unlabelled};

/// How many names an error lists.
const LISTED: usize = 5;

/// What a classifier needs of the labels of its two splits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// Names of the classes of the training split, by label.
    pub classes: Vec<String>,
    /// For every class of the test split, the number of that class in the training split; of a class without test images anything.
    test: Vec<u32>,
}

impl Labels {
    /// Compares the classes of both splits by name. A class without test images is fine; one without training images is not.
    ///
    /// # Errors
    /// Unlabelled data, a single class, classes of which only the test split has images. `what` is the evaluation.
    pub fn of(train: &dyn Source, test: &dyn Source, what: &str) -> Result<Self> {
        let classes = train.classes().to_vec();
        let (known, tested) = (present(train), present(test));
        if let Some(source) = [(train, &known), (test, &tested)].into_iter().find(|(_, found)| found.is_empty()) {
            return Err(unlabelled(what).detail(source.0.describe()));
        }
        if let [only] = known[..] {
            return Err(Error::input(format!("{what} needs at least 2 classes, the data has 1 (`{}`)", classes[only]))
                .detail(train.describe())
                .hint("point data.source.root at the folder that holds the class folders"));
        }
        let place = |name: &String| classes.iter().position(|class| class == name);
        let learnt = |name: &String| place(name).is_some_and(|at| known.contains(&at));
        let unknown: Vec<&String> = tested.iter().map(|&at| &test.classes()[at]).filter(|name| !learnt(name)).collect();
        if unknown.is_empty() {
            let number = |name| place(name).map_or(u32::MAX, |at| at as u32);
            return Ok(Self { test: test.classes().iter().map(number).collect(), classes });
        }
        let listed: Vec<&str> = unknown.iter().take(LISTED).map(|name| name.as_str()).collect();
        let more = if unknown.len() > LISTED { ", ..." } else { "" };
        Err(Error::input(format!(
            "the classes of the two splits do not match: {} of the {} of the test split have no training images ({}{more})",
            unknown.len(),
            tested.len(),
            listed.join(", ")
        ))
        .detail(format!("training split: {}", train.describe()))
        .detail(format!("test split: {}", test.describe()))
        .hint("both splits need class folders of the same names; `data.limit` takes the first images, which may be of few classes"))
    }

    /// The labels of the test images in the training split's numbers.
    ///
    /// # Errors
    /// An image without label.
    pub fn of_test(&self, features: &Features, what: &str) -> Result<Vec<u32>> {
        Ok(features.known(what)?.into_iter().map(|label| self.test[label as usize]).collect())
    }

    /// The number of a test label in the training split.
    pub fn of_test_label(&self, label: u32) -> u32 {
        self.test[label as usize]
    }
}

/// Images compared by [`same_images`].
const COMPARED: usize = 16;

/// Whether two splits hold the same images at the same places, as far as they both reach and as a few of them tell: one folder given twice, a
/// link, or a copy. Images that cannot be read say nothing.
pub fn same_images(train: &dyn Source, test: &dyn Source) -> bool {
    let n = train.len().min(test.len());
    let same = |index: usize| match (train.encoded(index), test.encoded(index)) {
        (Ok(Encoded::File(a)), Ok(Encoded::File(b))) => Some(a == b),
        (Ok(Encoded::Pixels(a)), Ok(Encoded::Pixels(b))) => Some(a == b),
        (Ok(_), Ok(_)) => Some(false),
        _ => None,
    };
    let looked: Vec<bool> = (0..n.min(COMPARED)).map(|at| at * n / n.min(COMPARED)).filter_map(same).collect();
    !looked.is_empty() && looked.into_iter().all(|same| same)
}

/// The classes that have an image, ascending.
fn present(source: &dyn Source) -> Vec<usize> {
    let mut found = vec![false; source.classes().len()];
    (0..source.len()).filter_map(|index| source.label(index)).for_each(|label| found[label as usize] = true);
    (0..found.len()).filter(|&class| found[class]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named(&'static [&'static str], Vec<String>);

    fn named(names: &'static [&'static str]) -> Named {
        Named(names, names.iter().map(|name| (*name).to_owned()).collect())
    }

    impl Source for Named {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn classes(&self) -> &[String] {
            &self.1
        }
        fn label(&self, index: usize) -> Option<u32> {
            Some(index as u32)
        }
        fn encoded(&self, _: usize) -> Result<Encoded<'_>> {
            unreachable!("no image is read")
        }
        fn name(&self, _: usize) -> String {
            String::new()
        }
        fn describe(&self) -> String {
            self.0.join("+")
        }
    }

    #[test]
    fn classes_are_matched_by_name_and_not_by_number() {
        let labels = Labels::of(&named(&["a", "b", "c"]), &named(&["b", "c"]), "x").unwrap();
        assert_eq!((labels.of_test_label(0), labels.of_test_label(1)), (1, 2));
        let error = Labels::of(&named(&["a", "b"]), &named(&["b", "z"]), "x").unwrap_err().to_string();
        assert!(
            error.contains("do not match: 1 of the 2") && error.contains("(z)") && error.contains("training split: a+b"),
            "{error}"
        );
    }

    #[test]
    fn data_without_labels_or_with_one_class_is_refused() {
        for (train, test, fact) in [
            (&["a", "b"][..], &[][..], "needs a label"),
            (&[][..], &["a"][..], "needs a label"),
            (&["a"][..], &["a"][..], "at least 2 classes, the data has 1 (`a`)"),
        ] {
            let error = Labels::of(&named(train), &named(test), "a probe").unwrap_err().to_string();
            assert!(error.contains(fact) && error.contains("a probe") && error.contains("hint: "), "{error}");
        }
    }
}
