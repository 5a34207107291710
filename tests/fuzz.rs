//! Damage by the thousand to every input that is read: an error or a value, never a panic, and memory within what the input may claim.
//!
//! `UNMIX_FUZZ_CASES` (default 1,000) is the number of inputs of each target, `UNMIX_FUZZ_SEED` (default 0) draws others. A failure prints seed and number of
//! its input, and leaves the input in the folder for temporary files. A target is one test: its seeds, small valid inputs, and what reads them.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use common::setting;
use image::{DynamicImage, ImageFormat};
use unmix::data::cifar::{Cifar, CifarConfig, CifarKind};
use unmix::data::idx::{Idx, IdxConfig};
use unmix::data::{Split, decode};
use unmix::pickle;
use unmix::rng::{Purpose, Stream};

/// Counts what the thread holds, so that tests beside each other do not count each other's.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // Gone while the thread ends.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        PEAK.with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call goes to the system's allocator with the same arguments; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are those of this call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One input of a target: a seed with a few changes, or a splice of two seeds.
fn mutated(draw: &mut Stream, seeds: &[Vec<u8>]) -> Vec<u8> {
    let any = |draw: &mut Stream, n: usize| draw.below(n.max(1) as u64) as usize;
    let mut bytes = seeds[any(draw, seeds.len())].clone();
    for _ in 0..1 + any(draw, 4) {
        let at = any(draw, bytes.len());
        match draw.below(9) {
            0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << draw.below(8),
            2 if !bytes.is_empty() => bytes[at] = draw.next_u32() as u8,
            3 => bytes.truncate(at),
            4 => {
                // A length where one may stand: small, large, and around the borders of the types.
                let lengths = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, bytes.len() as u64, u64::MAX, 1 << 40];
                let length = lengths[any(draw, lengths.len())];
                let width = [1, 2, 4, 8][any(draw, 4)];
                let word = if draw.gate(0.5) {
                    length.to_le_bytes()[..width].to_vec()
                } else {
                    length.to_be_bytes()[8 - width..].to_vec()
                };
                let end = (at + width).min(bytes.len());
                bytes.splice(at..end, word);
            }
            5 => {
                let more: Vec<u8> = (0..any(draw, 16)).map(|_| draw.next_u32() as u8).collect();
                bytes.splice(at..at, more);
            }
            6 => {
                let end = (at + any(draw, 64)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                if draw.gate(0.5) { drop(bytes.splice(at..end, [])) } else { drop(bytes.splice(at..at, part)) }
            }
            7 => {
                let other = &seeds[any(draw, seeds.len())];
                let from = any(draw, other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ if !bytes.is_empty() => {
                let end = (at + any(draw, 8)).min(bytes.len());
                bytes[at..end].fill(if draw.gate(0.5) { 0 } else { 0xFF });
            }
            _ => {}
        }
    }
    bytes
}

/// Reads every seed, which must succeed, and then damaged ones. `allowed` is the memory that an input may take; `read` says whether it was read.
fn fuzz(target: &str, seeds: &[Vec<u8>], allowed: impl Fn(&[u8]) -> usize, mut read: impl FnMut(&[u8]) -> bool) {
    for (number, seed) in seeds.iter().enumerate() {
        assert!(read(seed), "{target}: seed {number} is not read");
    }
    let (cases, seed) = (setting::<u64>("UNMIX_FUZZ_CASES", 1_000), setting::<u64>("UNMIX_FUZZ_SEED", 0));
    let (mut accepted, mut most) = (0, 0);
    for number in 0..cases {
        let bytes = mutated(&mut Stream::named(seed, Purpose::Probe, &format!("{target} {number}")), seeds);
        let before = HELD.with(Cell::get);
        PEAK.with(|peak| peak.set(before));
        let outcome = catch_unwind(AssertUnwindSafe(|| read(&bytes)));
        let taken = (PEAK.with(Cell::get) - before) as usize;
        most = most.max(taken);
        let wrong = match outcome {
            Ok(_) if taken > allowed(&bytes) => format!("took {taken} bytes, {} are allowed", allowed(&bytes)),
            Ok(read) => {
                accepted += u64::from(read);
                continue;
            }
            Err(_) => "panicked".to_owned(),
        };
        let kept = std::env::temp_dir().join(format!("unmix-fuzz-{}-{seed}-{number}", target.replace(' ', "-")));
        let _ = std::fs::write(&kept, &bytes);
        panic!("{target}: input {number} of seed {seed} ({} bytes, kept as {}) {wrong}", bytes.len(), kept.display());
    }
    eprintln!("{target}: {cases} inputs of seed {seed}, {accepted} read, at most {} KiB", most / 1024);
}

/// The panic that `decode` turns into an error is a decoder's; its text is noise here.
fn quietly() {
    std::panic::set_hook(Box::new(|_| {}));
}

/// What reading small files into memory may take besides their size.
const SMALL: usize = 4 << 20;

fn picture(side: u32) -> DynamicImage {
    let pixel = |x: u32, y: u32| image::Rgb([(x * 7) as u8, (y * 11) as u8, (x * y) as u8]);
    image::RgbImage::from_fn(side, side + 3, pixel).into()
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    image.write_to(&mut out, format).unwrap();
    out.into_inner()
}

/// `mend` makes checksums right. A damaged header may claim any size up to the largest that is accepted, and the decoder makes room for it.
fn image_target(name: &str, seeds: &[Vec<u8>], mend: fn(Vec<u8>) -> Vec<u8>) {
    quietly();
    // 100 megapixels of at most 8 bytes, converted to 3, and the decoder's own tables as large.
    let allowed = |bytes: &[u8]| SMALL + 64 * bytes.len() + (8 + 8 + 3) * unmix::data::decode::MAX_PIXELS as usize;
    fuzz(name, seeds, allowed, |bytes| match decode(&mend(bytes.to_vec())) {
        Ok(image) => {
            assert_eq!(image.pixels.len(), 3 * image.height * image.width);
            true
        }
        Err(error) => {
            assert!(!error.message().is_empty());
            false
        }
    });
}

fn as_it_is(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// A file of the tests.
fn data(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

#[test]
fn jpeg() {
    let whole = encoded(&picture(21), ImageFormat::Jpeg);
    let turned = b"\xFF\xE1\x00\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x04\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let exif = [&whole[..2], turned, &whole[2..]].concat();
    // Those of the second decoder, too.
    let unusual = ["three_scans.jpg", "fine_chroma.jpg", "ycck_four_scans.jpg"].map(data);
    image_target(
        "jpeg",
        &[&[encoded(&picture(17).to_luma8().into(), ImageFormat::Jpeg), exif, whole], &unusual[..]].concat(),
        as_it_is,
    );
}

/// The checksums of all chunks made right, so that damage reaches what is behind them.
fn checked(mut png: Vec<u8>) -> Vec<u8> {
    let mut at = 8;
    while let Some(head) = png.get(at..at + 8) {
        let end = at + 8 + u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
        let mut sum = flate2::Crc::new();
        sum.update(png.get(at + 4..end).unwrap_or_default());
        match png.get_mut(end..end + 4) {
            Some(place) => place.copy_from_slice(&sum.sum().to_be_bytes()),
            None => break,
        }
        at = end + 4;
    }
    png
}

#[test]
fn png() {
    let whole = encoded(&picture(21), ImageFormat::Png);
    let cut = whole[..whole.len() - 12].to_vec();
    let others =
        [DynamicImage::from(picture(9).to_luma16()), picture(9).to_rgba8().into()].map(|one| encoded(&one, ImageFormat::Png));
    image_target("png", &[&[whole, cut], &others[..]].concat(), checked);
}

#[test]
fn webp() {
    image_target(
        "webp",
        &[encoded(&picture(21), ImageFormat::WebP), encoded(&picture(9).to_rgba8().into(), ImageFormat::WebP)],
        as_it_is,
    );
}

#[test]
fn tiff() {
    let seeds = [encoded(&picture(21), ImageFormat::Tiff), encoded(&picture(9).to_luma16().into(), ImageFormat::Tiff)];
    image_target("tiff", &seeds, as_it_is);
}

#[test]
fn bmp_and_pnm() {
    image_target(
        "bmp",
        &[encoded(&picture(21), ImageFormat::Bmp), encoded(&picture(9).to_luma8().into(), ImageFormat::Bmp)],
        as_it_is,
    );
    let p6 = [b"P6\n# made\n5 4\n255\n".as_slice(), &[7; 60]].concat();
    let p5 = [b"P5 3 2 1000\n".as_slice(), &[1; 12]].concat();
    image_target("pnm", &[p6, p5, b"P3\n2 1\n15\n1 2 3 4 5 15\n".to_vec(), b"P1\n3 2\n1 0 1 0 1 0\n".to_vec()], as_it_is);
}

/// Writes an input where a source looks for it.
fn at(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn idx() {
    let words = |magic: u32, sizes: &[u32]| [magic].iter().chain(sizes).flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    let images = [words(0x803, &[4, 3, 5]), vec![9; 60]].concat();
    let labels = [words(0x801, &[4]), vec![0, 1, 2, 1]].concat();
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(format!("train-{name}-ubyte"));
    let open = || Idx::open(&IdxConfig { root: root.path().into() }, Split::Train).is_ok();
    at(&path("labels-idx1"), &labels);
    fuzz(
        "idx images",
        std::slice::from_ref(&images),
        |bytes| SMALL + 8 * bytes.len(),
        |bytes| {
            at(&path("images-idx3"), bytes);
            open()
        },
    );
    at(&path("images-idx3"), &images);
    fuzz(
        "idx labels",
        &[labels],
        |bytes| SMALL + 8 * bytes.len(),
        |bytes| {
            at(&path("labels-idx1"), bytes);
            open()
        },
    );
}

#[test]
fn idx_in_gzip() {
    let root = tempfile::tempdir().unwrap();
    let packed = |name: &str| std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/fashion-mnist").join(name)).unwrap();
    at(&root.path().join("t10k-images-idx3-ubyte.gz"), &packed("t10k-images-idx3-ubyte.gz"));
    let labels = packed("t10k-labels-idx1-ubyte.gz");
    fuzz(
        "idx in gzip",
        &[labels],
        |bytes| SMALL + 64 * bytes.len(),
        |bytes| {
            at(&root.path().join("t10k-labels-idx1-ubyte.gz"), bytes);
            Idx::open(&IdxConfig { root: root.path().into() }, Split::Test).is_ok()
        },
    );
}

#[test]
fn cifar_binary() {
    let root = tempfile::tempdir().unwrap();
    let record = |label: u8| [vec![label], vec![label * 20; 3072]].concat();
    fuzz(
        "cifar, binary",
        &[record(3), [record(9), record(0)].concat()],
        |bytes| SMALL + 8 * bytes.len(),
        |bytes| {
            at(&root.path().join("test_batch.bin"), bytes);
            Cifar::open(&CifarConfig { root: root.path().into() }, CifarKind::Ten, Split::Test).is_ok()
        },
    );
}

/// A small batch of CIFAR-10 as Python pickled it: `{'data': uint8 array of [1, 3072], 'labels': [7]}`.
fn python_batch() -> Vec<u8> {
    let array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R\
        (K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x00\x0c\x00\x00";
    [b"\x80\x02}(U\x04data".as_slice(), array, &[5; 3072], b"tbU\x06labels](K\x07eu."].concat()
}

#[test]
fn cifar_python() {
    let root = tempfile::tempdir().unwrap();
    // A pickle of n moves makes n nodes, and a list of them is copied once.
    fuzz(
        "cifar, python",
        &[python_batch()],
        |bytes| SMALL + 1_000 * bytes.len(),
        |bytes| {
            at(&root.path().join("test_batch"), bytes);
            Cifar::open(&CifarConfig { root: root.path().into() }, CifarKind::Ten, Split::Test).is_ok()
        },
    );
}

#[test]
fn pickles() {
    let seeds = [
        python_batch(),
        b"(dp0\nVa\np1\n(lp2\nI1\naL1099511627776L\naF2.5\naI01\naNas.".to_vec(),
        b"\x80\x04\x95\x20\0\0\0\0\0\0\0}\x94\x8c\x01a\x94]\x94(K\x01J\xfe\xff\xff\xff\x8a\x06\0\0\0\0\0\x01G@\x04\0\0\0\0\0\0\x88Nes.".to_vec(),
        b"\x80\x02cyacs.config\nCfgNode\n)\x81(X\x01\0\0\0aK\x01K\x02K\x03u}X\x01\0\0\0zNsb.".to_vec(),
    ];
    fuzz("pickles", &seeds, |bytes| SMALL + 1_000 * bytes.len(), |bytes| pickle::read(&mut &*bytes).is_ok());
}

/// Files of weights: those of PyTorch's two formats, and safetensors.
#[test]
fn weights() {
    use burn::tensor::TensorData;
    let shapes: [(&str, &[usize]); 5] = [
        ("conv1.weight", &[2, 3, 3, 3]),
        ("bn1.weight", &[2]),
        ("bn1.bias", &[2]),
        ("bn1.running_mean", &[2]),
        ("bn1.running_var", &[2]),
    ];
    let own: unmix::model::state::StateDict = shapes
        .iter()
        .map(|(name, shape)| (name.to_string(), TensorData::new(vec![0.5f32; shape.iter().product()], shape.to_vec())))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w");
    unmix::model::weights::write(&path, &own, &serde_json::json!({})).unwrap();
    let safetensors = std::fs::read(&path).unwrap();
    for (target, seeds) in
        [("pth", vec![data("moco.pth")]), ("pth, old", vec![data("legacy.pth")]), ("safetensors", vec![safetensors])]
    {
        fuzz(
            target,
            &seeds,
            |bytes| SMALL + 1_000 * bytes.len(),
            |bytes| {
                at(&path, bytes);
                unmix::model::weights::read(&path, &own, false).is_ok()
            },
        );
    }
}

/// Manifest and state of a checkpoint. A damaged manifest is refused; a state that is read has counters that a run can have.
#[test]
fn checkpoints() {
    use unmix::train::checkpoint::{State, manifest::Manifest};
    let allowed = |bytes: &[u8]| 64 * bytes.len() + (1 << 20);
    let dir = tempfile::tempdir().unwrap();
    let manifest = Manifest::of(40, [("state.json", &b"{}"[..]), ("tensors.safetensors", b"0123")]);
    manifest.write(dir.path()).unwrap();
    let seed = std::fs::read(dir.path().join("manifest.json")).unwrap();
    fuzz("manifest", &[seed], allowed, |bytes| match Manifest::parse(bytes) {
        Ok(read) => {
            assert_eq!(read, manifest, "damage is taken for another manifest");
            true
        }
        Err(_) => false,
    });
    let state = State { step: 40, epoch: 8, broken_images: vec![3, 9], ..State::start("moco", None) };
    fuzz("state", &[serde_json::to_vec_pretty(&state).unwrap()], allowed, |bytes| {
        State::parse(bytes).is_ok_and(|state| {
            assert!(state.epoch <= state.step && state.wall_s >= 0.0);
            true
        })
    });
}
