use super::*;

/// An image whose pixels tell where they are.
fn ramp(height: usize, width: usize) -> RgbImage {
    let pixels = (0..height * width).flat_map(|at| [(at / width * 7) as u8, (at % width * 5) as u8, 128]).collect();
    RgbImage { height, width, pixels }
}

fn at(image: &RgbImage, y: usize, x: usize) -> Colour {
    let at = (y * image.width + x) * 3;
    [image.pixels[at], image.pixels[at + 1], image.pixels[at + 2]]
}

fn shown(image: RgbImage, options: SheetOptions) -> RgbImage {
    tile(&Cell::new(image, ""), options).unwrap()
}

#[test]
fn small_images_grow_by_a_whole_factor_and_keep_their_pixels() {
    for (height, width, factor) in [(28, 28, 4), (32, 32, 4), (16, 28, 4), (64, 48, 2), (96, 96, 1), (160, 90, 1)] {
        let image = ramp(height, width);
        let tile = shown(image.clone(), SheetOptions::default());
        assert_eq!((tile.height, tile.width), (height * factor, width * factor));
        for y in 0..tile.height {
            for x in 0..tile.width {
                assert_eq!(at(&tile, y, x), at(&image, y / factor, x / factor), "{height}x{width} at {y}, {x}");
            }
        }
    }
}

#[test]
fn large_images_shrink_to_the_longest_edge_and_keep_their_shape() {
    let flat = |height, width| RgbImage { height, width, pixels: [9, 99, 199].repeat(height * width) };
    for (height, width, expected) in [(224, 224, (160, 160)), (224, 448, (80, 160)), (500, 250, (160, 80)), (1000, 1, (160, 1))] {
        let tile = shown(flat(height, width), SheetOptions::default());
        assert_eq!((tile.height, tile.width), expected);
        assert_eq!(tile.pixels, [9, 99, 199].repeat(tile.height * tile.width));
    }
}

#[test]
fn an_outline_is_one_pixel_wide_inside_the_half_open_box() {
    let mut image = RgbImage { height: 6, width: 8, pixels: vec![0; 6 * 8 * 3] };
    outline(&mut image, [1, 2, 5, 99], OUTLINES[0]);
    for y in 0..6 {
        for x in 0..8 {
            let inside = (1..5).contains(&y) && x >= 2;
            let border = inside && (y == 1 || y == 4 || x == 2 || x == 7);
            assert_eq!(at(&image, y, x) == OUTLINES[0], border, "{y}, {x}");
        }
    }
    let before = image.clone();
    outline(&mut image, [2, 3, 2, 5], OUTLINES[1]);
    outline(&mut image, [9, 9, 3, 3], OUTLINES[1]);
    assert_eq!(image, before, "an empty box draws nothing");
}

#[test]
fn a_cells_outline_is_as_thin_as_the_page_allows() {
    let black = RgbImage { height: 28, width: 28, pixels: vec![0; 28 * 28 * 3] };
    let cell = Cell::new(black, "").outlined([7, 0, 14, 28], OUTLINES[1]).outlined([3, 3, 3, 9], OUTLINES[0]);
    let tile = tile(&cell, SheetOptions::default()).unwrap();
    let coloured = tile.pixels.chunks(3).filter(|pixel| *pixel == OUTLINES[1]).count();
    assert_eq!(coloured, 2 * 112 + 2 * (28 - 2), "a 28 x 112 box, one pixel wide");
    assert_eq!((at(&tile, 28, 50), at(&tile, 55, 50)), (OUTLINES[1], OUTLINES[1]));
    assert_eq!((at(&tile, 27, 50), at(&tile, 56, 50)), ([0; 3], [0; 3]));
}

fn sheet() -> Sheet {
    let row = |n: usize| SheetRow {
        caption: format!("image {n}"),
        cells: vec![Cell::new(ramp(28, 28), "own"), Cell::empty("none"), Cell::new(ramp(28, 28), "lambda 0.63\nbox 1,2,3,4")],
    };
    Sheet {
        title: "im".to_owned(),
        columns: ["own", "partner", "mixed"].map(str::to_owned).into(),
        rows: (0..2).map(row).collect(),
    }
}

/// Where `needle` stands in `page`, top left corners.
fn find(page: &RgbImage, needle: &RgbImage) -> Vec<(usize, usize)> {
    let row = |y: usize, x: usize| &page.pixels[(y * page.width + x) * 3..][..needle.width * 3];
    let here = |y, x| (0..needle.height).all(|dy| row(y + dy, x) == &needle.pixels[dy * needle.width * 3..][..needle.width * 3]);
    let places = (0..=page.height - needle.height).flat_map(|y| (0..=page.width - needle.width).map(move |x| (y, x)));
    places.filter(|&(y, x)| here(y, x)).collect()
}

#[test]
fn a_page_holds_every_image_once_in_a_grid_with_white_margins() {
    for scale in [1, 2] {
        let page = sheet().render(SheetOptions { scale, ..SheetOptions::default() });
        assert_eq!(page.pixels.len(), page.height * page.width * 3);
        let image = shown(ramp(28, 28), SheetOptions { enlarge_to: 112 * scale, at_most: 160 * scale, scale });
        let places = find(&page, &image);
        assert_eq!(places.len(), 4);
        assert!(places[0].0 == places[1].0 && places[2].0 == places[3].0 && places[0].0 < places[2].0, "{places:?}");
        assert!(places[0].1 == places[2].1 && places[1].1 == places[3].1 && places[0].1 < places[1].1, "{places:?}");
        let margin = 20 * scale;
        for y in 0..page.height {
            for x in 0..page.width {
                let border = y < margin || y >= page.height - margin || x < margin || x >= page.width - margin;
                assert!(!border || at(&page, y, x) == [255; 3], "ink in the margin at {y}, {x}");
            }
        }
    }
}

#[test]
fn captions_and_headers_are_drawn() {
    let page = |change: fn(&mut Sheet)| {
        let mut sheet = sheet();
        change(&mut sheet);
        sheet.render(SheetOptions::default())
    };
    let base = page(|_| {});
    for change in [
        (|sheet| sheet.title = "IM".to_owned()) as fn(&mut Sheet),
        |sheet| sheet.columns[1] = "Partner".to_owned(),
        |sheet| sheet.rows[1].caption = "image 2".to_owned(),
        |sheet| sheet.rows[0].cells[1].caption = "NONE".to_owned(),
    ] {
        let other = page(change);
        assert_eq!((other.height, other.width), (base.height, base.width));
        assert_ne!(other.pixels, base.pixels);
    }
}

#[test]
fn sheets_without_something_are_fine() {
    let bare =
        Sheet { rows: vec![SheetRow { caption: String::new(), cells: vec![Cell::new(ramp(3, 5), "")] }], ..Sheet::default() };
    assert_eq!(find(&bare.render(SheetOptions::default()), &shown(ramp(3, 5), SheetOptions::default())), [(24, 24)]);
    for sheet in [
        Sheet::default(),
        Sheet { columns: vec!["a".to_owned()], ..Sheet::default() },
        Sheet { rows: vec![SheetRow::default()], ..Sheet::default() },
    ] {
        let page = sheet.render(SheetOptions::default());
        assert!(page.height >= 48 && page.width >= 34, "{} x {}", page.height, page.width);
    }
    let ragged = Sheet {
        rows: vec![SheetRow::default(), SheetRow { caption: "λ × π".to_owned(), cells: vec![Cell::empty("x"); 3] }],
        ..sheet()
    };
    ragged.render(SheetOptions::default());
}

#[test]
fn the_png_holds_the_page() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("preview.png");
    sheet().save_png(&path, SheetOptions::default()).unwrap();
    let page = sheet().render(SheetOptions::default());
    let read = image::open(&path).unwrap().to_rgb8();
    assert_eq!((read.height() as usize, read.width() as usize), (page.height, page.width));
    assert_eq!(read.into_raw(), page.pixels);
    let error = sheet().save_png(dir.path().join("none/preview.png"), SheetOptions::default()).unwrap_err();
    assert!(error.message().contains("preview.png"), "{error}");
}

#[test]
fn text_is_wrapped_at_spaces() {
    assert_eq!(text::wrap("im (region over global)", 12), ["im (region", "over global)"]);
    assert_eq!(text::wrap("a\n\nlongerthanthat b", 6), ["a", "", "longer", "thanth", "at b"]);
    assert!(text::wrap("", 6).is_empty());
}
