//! Colour conversions against `colour.json` and `colour.safetensors`, for any implementation of the ingest.

use std::path::Path;

use crate::check::Tally;
use crate::check::common::{self, Sheet};
use crate::colour::{ColorSpace, Normalization};
use crate::device::Opened;
use crate::kernel::{ByteLayout, Ingest, Op, ingest, poison_outputs};

/// Turns bytes into images.
pub type Ingester<'a> = &'a dyn Fn(&[u8], &Ingest) -> Vec<f32>;

/// The loops themselves, then every path of the device.
pub fn check(dir: &Path, opened: &Opened, tally: &mut Tally) {
    tally.within("plain loops", |tally| check_with(dir, &|bytes, how| ingest::reference::ingest(bytes, how), tally));
    poison_outputs(true);
    for path in common::paths(opened) {
        let run = |bytes: &[u8], how: &_| common::values(ingest(bytes, how, &opened.device, path));
        tally.within(&format!("path {}", path.name()), |tally| {
            common::asserting_path(Op::Ingest, path, || check_with(dir, &run, tally));
        });
    }
}

/// Checks every space in its natural units, and Lab and YCbCr as views, from bytes in both orders, as images whose pixels are the file's rows.
pub fn check_with(dir: &Path, run: Ingester, tally: &mut Tally) {
    let sheet = Sheet::read(dir, "colour");
    let (shape, rgb) = sheet.tensors.bytes.get("rgb").expect("a u8 tensor rgb");
    let count = shape[0];
    let mut seen = Vec::new();
    for case in sheet.cases() {
        let name = case.name();
        let (text, view) = name.strip_suffix("_view").map_or((name, false), |text| (text, true));
        let space = ColorSpace::ALL.into_iter().find(|space| space.text() == text);
        let space = space.unwrap_or_else(|| panic!("colour space {name} is not checked"));
        tally.case(name, || {
            let norm = if view { Normalization::of(space) } else { Normalization { space, mean: [0.0; 3], std: [1.0; 3] } };
            if view {
                let file = |key: &str| -> [f64; 3] { serde_json::from_value(case.json[key].clone()).unwrap() };
                assert_eq!(Some((file("mean"), file("std"))), space.normalization(), "{name}: constants");
            }
            let tol = case.json["tol"].as_f64().unwrap();
            let want = &sheet.tensors.float(case.json["tensor"].as_str().unwrap()).1;
            // A single row of pixels, and two images of several rows where the count allows it.
            let two = if count.is_multiple_of(6) { [2, 3, count / 6] } else { [1, count, 1] };
            for dims in [[1, 1, count], two] {
                for layout in [ByteLayout::Hwc, ByteLayout::Chw] {
                    let [n, h, w] = dims;
                    let plane = h * w;
                    let at = |image: usize, pixel: usize, channel: usize| match layout {
                        ByteLayout::Hwc => (image * plane + pixel) * 3 + channel,
                        ByteLayout::Chw => (image * 3 + channel) * plane + pixel,
                    };
                    let mut bytes = vec![0; 3 * count];
                    let places: Vec<_> = (0..n).flat_map(|i| (0..plane).map(move |p| (i, p))).collect();
                    for (row, &(image, pixel)) in places.iter().enumerate() {
                        (0..3).for_each(|c| bytes[at(image, pixel, c)] = rgb[row * 3 + c]);
                    }
                    let how = Ingest { layout, ..Ingest::new(dims, norm) };
                    let got = run(&bytes, &how);
                    for (row, &(image, pixel)) in places.iter().enumerate() {
                        for c in 0..3 {
                            let (got, want) = (got[(image * 3 + c) * plane + pixel], want[row * 3 + c]);
                            let mut off = f64::from(got - want).abs();
                            if space == ColorSpace::Hsv && c == 0 {
                                // Hue is an angle in turns: 0 and 1 are the same.
                                off = off.min(1.0 - off);
                            }
                            assert!(
                                off <= tol,
                                "{name}, row {row}, channel {c}, {dims:?} {layout:?}: {got}, want {want} within {tol}"
                            );
                        }
                    }
                }
            }
        });
        seen.push(space);
    }
    // RGB is no conversion; two have a view besides.
    assert!(ColorSpace::ALL.iter().all(|space| *space == ColorSpace::Rgb || seen.contains(space)), "{seen:?}");
    assert_eq!(seen.len(), ColorSpace::ALL.len() + 1, "{seen:?}");
}
