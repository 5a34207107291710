//! Our JPEG decoding against libjpeg's, on random files of every layout that `cjpeg` writes. Needs Debian's `libjpeg-turbo-progs`.

use std::path::Path;
use std::process::Command;

use rayon::prelude::*;
use unmix::data::decode;
use unmix::rng::{Purpose, Stream};

/// Files compared.
const FILES: u64 = 1000;

// Both programs take the same coefficients from a file, so they may differ by this alone:
// - The inverse cosine transform: each is within 1 of the exact one in each component (ITU-T T.83). Blue is luma + 1.77 Cb: at most 2.77, and
//   1 for the rounding of the colour conversion.
// - How chroma is brought to full size. libjpeg interpolates it, and repeats it where it is two samples wide or less; our decoders always interpolate,
//   with other rounding, and other centres for factors above 2. That is less than the step between two neighbouring samples. The chroma of these images
//   changes by at most CHROMA_SLOPE a pixel in each direction, so by 8 a sample of factor 4, and blue by 14.
// - Quantised chroma that oscillates by its rounding is interpolated likewise: a few steps of 17 at quality 75, and 1 at 100.
// In the mean over a picture all of it is small, but in one of few pixels, where chroma is repeated everywhere.
// Garbage (a block elsewhere, a wrong table, a scan left out) is off by what luma varies: 60 and more, 20 in the mean.
const CHROMA_SLOPE: f64 = 2.0;
const MOST: u8 = 20;
const MEAN: f64 = 2.0;
const MEAN_OF_NARROW: f64 = 6.0;
/// Images of this width have chroma of two samples.
const NARROW: usize = 8;

/// A file to compare, and how it was made.
struct Case {
    recipe: String,
    jpeg: Vec<u8>,
    arithmetic: bool,
}

/// Whether the tools are there. Where `CI` is `true` they must be.
fn tools() -> bool {
    let there = ["cjpeg", "djpeg"].iter().all(|tool| Command::new(tool).arg("-version").output().is_ok());
    assert!(there || std::env::var("CI").as_deref() != Ok("true"), "cjpeg and djpeg are missing: install libjpeg-turbo-progs");
    if !there {
        eprintln!("SKIPPED: cjpeg and djpeg are missing (Debian: libjpeg-turbo-progs)");
    }
    there
}

/// A photograph of sorts as PPM: luma with edges and noise, chroma that varies slowly.
fn picture(draw: &mut Stream, width: usize, height: usize) -> Vec<u8> {
    let mut wave = |slope: f64| {
        let (x, y, at) = (draw.range(-0.1, 0.1), draw.range(-0.1, 0.1), draw.range(0.0, 6.0));
        move |column: usize, row: usize| (at + x * column as f64 + y * row as f64).sin() * slope / 0.15
    };
    let (blue, red, light) = (wave(CHROMA_SLOPE), wave(CHROMA_SLOPE), wave(8.0));
    let mut file = format!("P6\n{width} {height}\n255\n").into_bytes();
    for row in 0..height {
        for column in 0..width {
            let luma = 128.0 + light(column, row) + draw.range(-15.0, 15.0);
            let (cb, cr) = (blue(column, row), red(column, row));
            let rgb = [luma + 1.402 * cr, luma - 0.344 * cb - 0.714 * cr, luma + 1.772 * cb];
            file.extend(rgb.map(|value| value.round().clamp(0.0, 255.0) as u8));
        }
    }
    file
}

fn pick<'a>(draw: &mut Stream, from: &[&'a str]) -> &'a str {
    from[draw.below(from.len() as u64) as usize]
}

/// Makes one file with `cjpeg`; the number decides everything about it.
fn case(number: u64, folder: &Path) -> Case {
    let mut draw = Stream::new(number, Purpose::Probe, &[]);
    let mut side = || match draw.below(4) {
        0 => 1 + draw.below(9) as usize,
        _ => 1 + draw.below(110) as usize,
    };
    let (width, height) = (side(), side());
    let path = |ending: &str| folder.join(format!("{number}.{ending}"));
    std::fs::write(path("ppm"), picture(&mut draw, width, height)).unwrap();
    let mut arguments: Vec<String> = ["-quality", pick(&mut draw, &["75", "85", "90", "95", "100"])].map(str::to_owned).to_vec();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| word.to_string()));
    let grey = draw.gate(0.15);
    if grey {
        add(&["-grayscale"]);
    }
    const SAMPLINGS: [&str; 17] = [
        "1x1",
        "2x1",
        "1x2",
        "2x2",
        "2x2",
        "4x1",
        "1x4",
        "4x2",
        "3x1",
        "3x2", // luma finer, the usual way
        "1x1,2x1,1x1",
        "1x1,1x2,1x2",
        "1x1,2x2,2x2",
        "2x1,1x2,1x1",
        "2x2,1x2,2x1",
        "2x2,2x1,2x1",
        "2x2,2x2,1x1",
    ];
    add(&["-sample", if grey { pick(&mut draw, &["1x1", "2x2", "2x1"]) } else { pick(&mut draw, &SAMPLINGS) }]);
    if !grey && draw.gate(0.1) {
        add(&["-rgb"]);
    }
    let arithmetic = draw.gate(0.03);
    if arithmetic {
        add(&["-arithmetic"]);
    }
    match draw.below(5) {
        0 => add(&["-progressive"]),
        1 if !arithmetic => add(&["-optimize"]),
        2 | 3 if !grey => {
            let scans = pick(&mut draw, &["0;1;2;", "0;1,2;", "0,1;2;", "0,1,2;", "1;0;2;", "2;1;0;", "0,2;1;"]);
            std::fs::write(path("scans"), scans.replace(';', ";\n")).unwrap();
            add(&["-scans", path("scans").to_str().unwrap()]);
        }
        _ => {}
    }
    if draw.gate(0.4) {
        add(&["-restart", pick(&mut draw, &["1", "2", "1B", "3B", "7B"])]);
    }
    let made = Command::new("cjpeg").args(&arguments).arg("-outfile").arg(path("jpg")).arg(path("ppm")).output().unwrap();
    let recipe = format!("{width}x{height} {}", arguments.join(" "));
    assert!(made.status.success(), "cjpeg {recipe}: {}", String::from_utf8_lossy(&made.stderr));
    let mut jpeg = std::fs::read(path("jpg")).unwrap();
    // Bytes of no segment before one of the segments. Inside entropy-coded data 0xFF is followed by 0 or a restart number.
    if draw.gate(0.15) {
        let begins = |pair: &[u8]| pair[0] == 0xFF && matches!(pair[1], 0xC0 | 0xC2 | 0xC4 | 0xDA | 0xDB | 0xDD);
        let segments: Vec<usize> = (0..jpeg.len() - 1).filter(|&at| begins(&jpeg[at..at + 2])).collect();
        let at = segments[draw.below(segments.len() as u64) as usize];
        jpeg.splice(at..at, [0x12, 0x34]);
        std::fs::write(path("jpg"), &jpeg).unwrap();
    }
    Case { recipe, jpeg, arithmetic }
}

/// Size and RGB pixels, as libjpeg reads the file.
fn libjpeg(number: u64, folder: &Path) -> (usize, usize, Vec<u8>) {
    let output = Command::new("djpeg").arg("-rgb").arg(folder.join(format!("{number}.jpg"))).output().unwrap();
    // 2: with a warning.
    assert!(matches!(output.status.code(), Some(0 | 2)), "{}", String::from_utf8_lossy(&output.stderr));
    let file = output.stdout;
    let header: Vec<&[u8]> = file.splitn(4, |&byte| byte == b'\n').collect();
    let size: Vec<usize> = std::str::from_utf8(header[1]).unwrap().split(' ').map(|word| word.parse().unwrap()).collect();
    let pixels = if header[0] == b"P5" { header[3].iter().flat_map(|&grey| [grey; 3]).collect() } else { header[3].to_vec() };
    (size[0], size[1], pixels)
}

/// The largest and the mean difference from libjpeg, or what is wrong.
fn compare(number: u64, folder: &Path) -> Result<(u8, f64), String> {
    let Case { recipe, jpeg, arithmetic } = case(number, folder);
    let got = decode(&jpeg);
    if arithmetic {
        return match got {
            Err(error) if error.message().contains("arithmetic") => Ok((0, 0.0)),
            other => Err(format!("file {number}, {recipe}: arithmetic coding gave {:?}", other.map(|image| image.pixels.len()))),
        };
    }
    let got = got.map_err(|error| format!("file {number}, {recipe}: {error}"))?;
    let (width, height, want) = libjpeg(number, folder);
    if (got.width, got.height, got.pixels.len()) != (width, height, want.len()) {
        return Err(format!("file {number}, {recipe}: {}x{}, libjpeg {width}x{height}", got.width, got.height));
    }
    let off: Vec<u8> = got.pixels.iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).collect();
    let (most, sum) = (off.iter().copied().max().unwrap(), off.iter().map(|&one| f64::from(one)).sum::<f64>());
    let mean = sum / off.len() as f64;
    let mean_allowed = if width <= NARROW { MEAN_OF_NARROW } else { MEAN };
    if most > MOST || mean > mean_allowed {
        Err(format!("file {number}, {recipe}: off by {mean:.2} in the mean, {most} at most"))
    } else {
        Ok((most, mean))
    }
}

#[test]
fn random_files_decode_as_libjpeg_decodes_them() {
    if !tools() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let found: Vec<_> = (0..FILES).into_par_iter().map(|number| compare(number, folder.path())).collect();
    let wrong: Vec<&String> = found.iter().filter_map(|one| one.as_ref().err()).collect();
    assert!(
        wrong.is_empty(),
        "{} of {FILES} files:\n{}",
        wrong.len(),
        wrong.iter().take(30).map(|w| w.as_str()).collect::<Vec<_>>().join("\n")
    );
    let right: Vec<(u8, f64)> = found.into_iter().flatten().collect();
    let most = right.iter().map(|one| one.0).max().unwrap();
    let mean = right.iter().map(|one| one.1).sum::<f64>() / right.len() as f64;
    eprintln!("{FILES} files: off by {most} at most, {mean:.3} in the mean");
}
