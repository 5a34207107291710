//! Files put together by hand: objects beside the weights, modules saved whole, the numbers of a `Sequential`, promises that are not kept.

use std::path::PathBuf;

use burn::tensor::TensorData;

use super::tests::{Tiny, cpu, expected, saved, tiny};
use super::*;
use crate::model::head::Head;
use crate::model::layers::Conv;
use crate::model::norm::BatchNorm;

/// A pickle of protocol 2, put together by hand: what Python would write for objects of classes that are not here.
mod made {
    pub fn text(text: &str) -> Vec<u8> {
        [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
    }

    pub fn dict(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        [b"}(".to_vec(), entries.iter().flat_map(|(key, value)| [key.clone(), value.clone()].concat()).collect(), b"u".to_vec()]
            .concat()
    }

    pub fn named(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
        dict(&entries.iter().map(|(key, value)| (text(key), value.clone())).collect::<Vec<_>>())
    }

    fn tuple(numbers: &[usize]) -> Vec<u8> {
        [b"(".to_vec(), numbers.iter().flat_map(|&n| [&b"J"[..], &(n as i32).to_le_bytes()].concat()).collect(), b"t".to_vec()]
            .concat()
    }

    /// A tensor in the storage of that key.
    pub fn tensor(key: usize, shape: &[usize]) -> Vec<u8> {
        let count: usize = shape.iter().product();
        let strides: Vec<usize> = (0..shape.len()).map(|at| shape[at + 1..].iter().product()).collect();
        let count = [&b"J"[..], &(count as i32).to_le_bytes()].concat();
        let storage =
            [b"(", text("storage").as_slice(), b"ctorch\nFloatStorage\n", &text(&key.to_string()), &text("cpu"), &count, b"tQ"]
                .concat();
        let rest = [b"K\x00", tuple(shape).as_slice(), &tuple(&strides), b"\x89ccollections\nOrderedDict\n)RtR"].concat();
        [b"ctorch._utils\n_rebuild_tensor_v2\n(", storage.as_slice(), &rest].concat()
    }
}

/// A file as `torch.save` writes it, with these values as storages.
fn zipped(pickle: &[u8], storages: &[Vec<f32>]) -> (tempfile::TempDir, PathBuf) {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made.pth");
    let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut add = |name: String, bytes: &[u8]| {
        archive.start_file(name, stored).unwrap();
        archive.write_all(bytes).unwrap();
    };
    add("made/data.pkl".into(), &[b"\x80\x02", pickle, b"."].concat());
    for (key, values) in storages.iter().enumerate() {
        add(format!("made/data/{key}"), bytemuck::cast_slice(values));
    }
    archive.finish().unwrap();
    (dir, path)
}

/// The state dict of [`expected`], and its storages.
fn weights_to_pickle() -> (Vec<u8>, Vec<Vec<f32>>) {
    let tensors = expected(0);
    let entries: Vec<(&str, Vec<u8>)> =
        tensors.iter().enumerate().map(|(key, (name, data))| (name.as_str(), made::tensor(key, data.shape()))).collect();
    (made::named(&entries), tensors.values().map(|data| data.iter::<f32>().collect()).collect())
}

/// What trainers save beside their weights: keys that are no text, dictionaries of classes of their own, configurations, enums, bytes.
#[test]
fn ordinary_objects_beside_the_weights_are_passed_over() {
    use made::{dict, named, text};
    let (weights, storages) = weights_to_pickle();
    let filled = |class: &[u8]| [class, b"(", &text("lr"), b"G\x3f\x84\x7a\xe1\x47\xae\x14\x7bX\x01\0\0\0aK\x02u"].concat();
    let pair = |key: &[u8]| (key.to_vec(), text("value"));
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        (
            "a class as key",
            dict(&[pair(b"cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n")]),
            &["pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"],
        ),
        (
            "a subclass of dict",
            filled(b"cpytorch_lightning.utilities.parsing\nAttributeDict\n)\x81"),
            &["pytorch_lightning.utilities.parsing.AttributeDict"],
        ),
        (
            "another, with a state",
            [filled(b"cyacs.config\nCfgNode\n)\x81"), named(&[("__immutable__", b"\x88".to_vec())]), b"b".to_vec()].concat(),
            &["yacs.config.CfgNode"],
        ),
        ("defaultdict", filled(b"ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R"), &[]),
        (
            "OrderedDict of Python 2",
            [b"ccollections\nOrderedDict\n](](".to_vec(), text("a"), b"K\x01ee\x85R".to_vec()].concat(),
            &[],
        ),
        ("deque", b"ccollections\ndeque\n)R(K\x01K\x02e".to_vec(), &[]),
        ("set", b"c__builtin__\nset\n](K\x01K\x02e\x85R".to_vec(), &[]),
        (
            "any key",
            dict(&[pair(b"K\x01K\x02\x86"), pair(b"G\x3f\xe0\0\0\0\0\0\0"), pair(b"N"), pair(b"\x88"), pair(b"J\xff\xff\xff\xff")]),
            &[],
        ),
        (
            "OmegaConf",
            [
                b"comegaconf.dictconfig\nDictConfig\n)\x81".to_vec(),
                named(&[("_content", filled(b"}")), ("_parent", b"N".to_vec())]),
                b"b".to_vec(),
            ]
            .concat(),
            &["omegaconf.dictconfig.DictConfig"],
        ),
        ("an enum", b"cmy.package\nMode\nK\x01\x85R".to_vec(), &["my.package.Mode"]),
        ("bytes", [b"c_codecs\nencode\n".to_vec(), text("\u{ff}x"), text("latin1"), b"\x86R".to_vec()].concat(), &[]),
        (
            "functools.partial",
            b"cfunctools\npartial\nctorch.nn.modules.batchnorm\nBatchNorm2d\n\x85R(ctorch.nn.modules.batchnorm\nBatchNorm2d\n)}Ntb"
                .to_vec(),
            &["functools.partial"],
        ),
    ];
    for (what, beside, foreign) in cases {
        let (_dir, path) =
            zipped(&named(&[("beside", beside.clone()), ("state_dict", weights.clone()), ("after", beside)]), &storages);
        let (net, report) = load_into(tiny(), &path, true).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(state::collect(&net), expected(0), "{what}");
        assert_eq!(
            (report.prefix.as_str(), report.foreign.as_slice()),
            ("state_dict.", foreign.iter().map(|f| f.to_string()).collect::<Vec<_>>().as_slice()),
            "{what}"
        );
        let line = foreign.first().map(|name| format!("passed over, not run: {name}"));
        assert_eq!(report.to_string().lines().find(|line| line.starts_with("passed over")).map(str::to_owned), line, "{what}");
    }
}

/// `torch.save(model)`: the class of the model is passed over, and its parameters have the names of a state dict.
#[test]
fn a_module_that_was_saved_whole() {
    use made::named;
    let (_, storages) = weights_to_pickle();
    let tensors = expected(0);
    let key = |name: &str| tensors.keys().position(|known| known == name).unwrap();
    let tensor = |name: &str| made::tensor(key(name), tensors[name].shape());
    let module = |class: &str, parts: &[(&str, Vec<u8>)]| [b"c", class.as_bytes(), b"\n)\x81", &named(parts), b"b"].concat();
    let kept = |layer: &str, names: &[&str]| {
        named(&names.iter().map(|name| (*name, tensor(&format!("{layer}.{name}")))).collect::<Vec<_>>())
    };
    let conv =
        module("torch.nn.modules.conv\nConv2d", &[("training", b"\x88".to_vec()), ("_parameters", kept("conv1", &["weight"]))]);
    let norm = [("_parameters", kept("bn1", &["weight", "bias"])), ("_buffers", kept("bn1", &["running_mean", "running_var"]))];
    let norm = module("torch.nn.modules.batchnorm\nBatchNorm2d", &norm);
    let linear = module("torch.nn.modules.linear\nLinear", &[("_parameters", kept("fc", &["weight", "bias"]))]);
    let net = module("their.code\nNet", &[("_modules", named(&[("conv1", conv), ("bn1", norm), ("fc", linear)]))]);
    let (_dir, path) = zipped(&net, &storages);
    let (net, report) = load_into(tiny(), &path, true).unwrap();
    assert_eq!((state::collect(&net), report.foreign), (expected(0), vec!["their.code.Net".to_owned()]));
}

/// Views that reach beyond their storages, names without end: errors, not memory.
#[test]
fn what_a_pickle_promises_is_checked() {
    use made::named;
    let said = |pickle: &[u8], storages: &[Vec<f32>]| {
        let (_dir, path) = zipped(pickle, storages);
        load_into(tiny(), &path, false).unwrap_err().to_string()
    };
    let beyond = made::tensor(0, &[2, 3, 3, 3]);
    let at = beyond.windows(2).position(|pair| pair == b"QK").unwrap() + 2;
    let mut shifted = beyond.clone();
    shifted[at] = 1;
    assert!(said(&named(&[("conv1.weight", shifted)]), &[vec![0.0; 54]]).contains("conv1.weight reaches beyond its storage"));
    // The archive holds less than the pickle says.
    let (weights, mut storages) = weights_to_pickle();
    storages.iter_mut().for_each(|values| values.truncate(1));
    assert!(said(&weights, &storages).contains("ends early"));
    // A list of lists of lists, each naming the one below a hundred times.
    let mut nested = b"]q\0".to_vec();
    for level in 0..20u8 {
        nested.extend([b"](".as_slice(), &[b'h', level].repeat(100), b"eq", &[level + 1]].concat());
    }
    assert!(said(&nested, &[]).contains("names more than"));
}

/// A block, and a net of two layers of blocks.
#[derive(Module, Debug)]
struct Block {
    conv1: Conv,
    bn1: BatchNorm,
}

#[derive(Module, Debug)]
struct Layered {
    conv1: Conv,
    bn1: BatchNorm,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    fc: Head,
}

#[test]
fn the_numbers_of_a_sequential_are_mapped() {
    let device = cpu();
    let block = || Block { conv1: Conv::new([2, 2], 3, 1, 1, &device), bn1: BatchNorm::new(2, 1, &device) };
    let net = || {
        let Tiny { conv1, bn1, fc } = tiny();
        Layered { conv1, bn1, layer1: vec![block(), block()], layer2: vec![block()], fc }
    };
    let want = state::collect(&net());
    // With and without the activation and the pooling between them.
    for numbers in [["0", "1", "4", "5"], ["0", "1", "2", "3"]] {
        for prefix in ["", "state_dict.backbone.", "online.0."] {
            let mut file = StateDict::new();
            for (name, data) in want.iter().filter(|(name, _)| !name.starts_with(HEAD)) {
                let (part, rest) = name.split_once('.').unwrap();
                let place = ["conv1", "bn1", "layer1", "layer2"].iter().position(|known| *known == part).unwrap();
                file.insert(format!("{prefix}{}.{rest}", numbers[place]), data.clone());
            }
            file.insert("head.0.weight".into(), TensorData::new(vec![0f32; 4], [2, 2]));
            let (_dir, path) = saved(&file);
            let (loaded, report) = load_into(net(), &path, false).unwrap();
            assert_eq!(
                (state::collect(&loaded), report.prefix.as_str(), report.used),
                (
                    StateDict::from_iter(want.iter().map(|(name, data)| {
                        let own = if name.starts_with(HEAD) { state::collect(&loaded)[name].clone() } else { data.clone() };
                        (name.clone(), own)
                    })),
                    prefix,
                    20
                ),
                "{numbers:?} {prefix}"
            );
            // One tensor of another shape, and it is no such net.
            let first = format!("{prefix}{}.0.conv1.weight", numbers[2]);
            file.insert(first, TensorData::new(vec![0f32; 4], [2, 2]));
            let (_dir, path) = saved(&file);
            assert!(load_into(net(), &path, false).is_err());
        }
    }
}
