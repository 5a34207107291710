//! What `torch.save` wrote: a zip archive, or before PyTorch 1.6 pickles and raw numbers one after another.
//!
//! The pickle is not run ([`crate::pickle`]). The few calls that make tensors are recognised, dictionaries become dotted names, whatever their
//! class and their keys, and all other classes are passed over by name. Where a pickle would run a program, the whole file is refused, so that it
//! does not go unnoticed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;

use burn::tensor::DType;
use zip::ZipArchive;

use super::file::{Contents, Stored, damaged};
use crate::error::{Error, Result, shown, shown_path};
use crate::pickle::{self, Id, Node, Pickle};

/// The most bytes of a pickle: names and numbers, not the values.
const MAX_PICKLE: u64 = 256 << 20;
/// The most objects that are looked at for tensors: a few entries may name others again and again.
const MAX_VISITS: usize = 4_000_000;
/// Dictionaries nested deeper hold no weights.
const MAX_DEPTH: usize = 64;
/// How many numbers a dimension more than this is refused to have.
const MAX_ELEMENTS: usize = 1 << 33;

/// Reads the names of all tensors of a file; their values are read when asked for.
pub(super) fn open(path: &Path) -> Result<Contents> {
    let mut start = [0; 4];
    let failed = |e: std::io::Error| Error::io("read the weights", path, &e);
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let _ = file.read_exact(&mut start); // a shorter file is neither
    file.rewind().map_err(failed)?;
    let opened = if start.starts_with(b"PK") { zipped(file) } else { one_after_another(file) };
    let (pickle, storages) = opened.map_err(|what| damaged(path, &what))?;
    refuse_programs(path, &pickle)?;
    let mut found = Found { pickle: &pickle, storages: Rc::new(storages), tensors: BTreeMap::new(), visits: 0 };
    found.walk(pickle.root, "", 0).map_err(|what| damaged(path, &what))?;
    let tensors = found.tensors;
    let foreign: BTreeSet<&str> = pickle.globals().filter(|name| !is_usual(name)).collect();
    Ok(Contents { tensors, foreign: foreign.into_iter().map(|name| shown(name).into_owned()).collect() })
}

/// Where the numbers of a file are.
enum Storages {
    Zip {
        archive: RefCell<ZipArchive<BufReader<File>>>,
        /// What stands before `data/KEY`.
        folder: String,
        /// The highest byte of a number comes first.
        big: bool,
    },
    Plain {
        file: RefCell<BufReader<File>>,
        /// Where the numbers of each key begin.
        starts: HashMap<String, u64>,
    },
}

fn zipped(file: BufReader<File>) -> Result<(Pickle, Storages), String> {
    let mut archive = ZipArchive::new(file).map_err(|e| e.to_string())?;
    let before =
        |name: &str| Some(name.strip_suffix("data.pkl")?.to_owned()).filter(|folder| folder.is_empty() || folder.ends_with('/'));
    let folders = archive.file_names().filter_map(|name| before(&name.ok()?));
    let folder = folders.min_by_key(String::len).ok_or("the archive holds no `data.pkl`")?;
    let mut part = |name: &str, most: u64| -> Result<Vec<u8>, String> {
        let entry = archive.by_name(&format!("{folder}{name}")).map_err(|e| format!("{name}: {e}"))?;
        let mut bytes = Vec::new();
        let read = entry.take(most + 1).read_to_end(&mut bytes).map_err(|e| format!("{name}: {e}"))?;
        if read as u64 > most { Err(format!("{name} holds more than {most} bytes")) } else { Ok(bytes) }
    };
    let bytes = part("data.pkl", MAX_PICKLE)?;
    let big = part("byteorder", 16).is_ok_and(|order| order.starts_with(b"big"));
    let pickle = pickle::read(&mut bytes.as_slice())?;
    Ok((pickle, Storages::Zip { archive: RefCell::new(archive), folder, big }))
}

/// A number that says what follows, a version, facts of the system, the object, the keys of its storages, and the storages: a count each, and
/// the numbers.
fn one_after_another(mut file: BufReader<File>) -> Result<(Pickle, Storages), String> {
    let mut limited = (&mut file).take(MAX_PICKLE);
    let first = pickle::read(&mut limited)?;
    // 0x1950a86a20f9469cfc6c, more than 64 bits: the reader of pickles has it as a whole number that does not fit.
    if *first.node(first.root) != Node::Int(None) {
        return Err("it is neither an archive nor the older format of PyTorch".into());
    }
    for _ in ["version", "system"] {
        pickle::read(&mut limited)?;
    }
    let (pickle, keys) = (pickle::read(&mut limited)?, pickle::read(&mut limited)?);
    let mut at = file.stream_position().map_err(|e| e.to_string())?;
    let sizes = storage_sizes(&pickle);
    let mut starts = HashMap::new();
    for &key in keys.list(keys.root).ok_or("the keys of the storages are no list")? {
        let key = keys.key(key);
        let mut count = [0; 8];
        file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut count)).map_err(|e| format!("the storage {key}: {e}"))?;
        starts.insert(key.clone(), at + 8);
        let bytes = u64::from_le_bytes(count).checked_mul(sizes.get(&key).copied().unwrap_or(1));
        at = bytes.and_then(|bytes| bytes.checked_add(at + 8)).ok_or("a storage is larger than any file")?;
    }
    Ok((pickle, Storages::Plain { file: RefCell::new(file), starts }))
}

/// Bytes of a number, by the key of the storage.
fn storage_sizes(pickle: &Pickle) -> HashMap<String, u64> {
    let of = |id| Storage::of(pickle, id).map(|storage| (storage.key, storage.kind.size as u64));
    (0..pickle.len()).filter_map(of).collect()
}

impl Storages {
    /// The first bytes of a storage, the lowest byte of every number first.
    fn read(&self, key: &str, bytes: usize, size: usize) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let short = || std::io::Error::new(std::io::ErrorKind::UnexpectedEof, format!("the storage {} ends early", shown(key)));
        match self {
            Self::Zip { archive, folder, big } => {
                let mut archive = archive.borrow_mut();
                archive
                    .by_name(&format!("{folder}data/{key}"))
                    .map_err(std::io::Error::other)?
                    .take(bytes as u64)
                    .read_to_end(&mut out)?;
                if *big {
                    out.chunks_exact_mut(size).for_each(<[u8]>::reverse);
                }
            }
            Self::Plain { file, starts } => {
                let mut file = file.borrow_mut();
                file.seek(SeekFrom::Start(*starts.get(key).ok_or_else(short)?))?;
                (&mut *file).take(bytes as u64).read_to_end(&mut out)?;
            }
        }
        if out.len() == bytes { Ok(out) } else { Err(short()) }
    }
}

/// The type of a number.
#[derive(Clone)]
struct Kind {
    name: String,
    float: Option<DType>,
    size: usize,
}

impl Kind {
    /// By the name of a storage (`torch.FloatStorage`) or of a type (`torch.float32`).
    fn of(name: &str) -> Self {
        let short = name.rsplit('.').next().unwrap_or_default().trim_end_matches("Storage");
        let (float, size) = match short {
            "Double" | "float64" | "double" => (Some(DType::F64), 8),
            "Float" | "float32" | "float" => (Some(DType::F32), 4),
            "Half" | "float16" | "half" => (Some(DType::F16), 2),
            "BFloat16" | "bfloat16" => (Some(DType::BF16), 2),
            "ComplexDouble" | "complex128" => (None, 16),
            "Long" | "int64" | "long" | "ComplexFloat" | "complex64" | "uint64" => (None, 8),
            "Int" | "int32" | "int" | "QInt32" | "qint32" | "uint32" => (None, 4),
            "Short" | "int16" | "short" | "uint16" => (None, 2),
            _ => (None, 1),
        };
        Self { name: short.to_owned(), float, size }
    }
}

/// A storage as a pickle names it.
struct Storage {
    kind: Kind,
    key: String,
    count: usize,
}

impl Storage {
    /// `('storage', type, key, device, count, ...)`.
    fn of(pickle: &Pickle, id: Id) -> Option<Self> {
        let Node::Outside(name) = pickle.node(id) else { return None };
        let &[word, kind, key, _, count, ..] = pickle.list(*name)? else { return None };
        (pickle.text(word)? == "storage").then_some(())?;
        Some(Self { kind: Kind::of(pickle.global(kind)?), key: pickle.key(key), count: pickle.count(count)? })
    }
}

/// A tensor as a pickle describes it: a view of a storage.
struct View {
    storage: Storage,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl View {
    /// The tensor that a call makes, or `None` for any other object.
    fn of(pickle: &Pickle, id: Id) -> Option<Self> {
        let (mut name, mut arguments) = pickle.call(id)?;
        for _ in 0..4 {
            match (name, arguments) {
                (
                    "torch._utils._rebuild_parameter"
                    | "torch._utils._rebuild_parameter_with_state"
                    | "torch.nn.parameter.Parameter",
                    &[data, ..],
                ) => {
                    (name, arguments) = pickle.call(data)?;
                }
                // A tensor of a subclass: the function, its class, its arguments.
                ("torch._tensor._rebuild_from_type_v2", &[function, _, inner, ..]) => {
                    (name, arguments) = (pickle.global(function)?, pickle.list(inner)?);
                }
                _ => break,
            }
        }
        let &[storage, offset, shape, strides, ..] = arguments else { return None };
        let mut storage = Storage::of(pickle, storage)?;
        match name {
            "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2" => {}
            "torch._utils._rebuild_tensor_v3" => {
                // The storage counts bytes, and its type stands apart.
                storage.kind = Kind::of(pickle.global(*arguments.get(6)?)?);
                storage.count /= storage.kind.size;
            }
            _ => return None,
        }
        let sizes = |id: Id| -> Option<Vec<usize>> {
            let list = pickle.list(id).or_else(|| pickle.list(*pickle.call(id)?.1.first()?))?;
            list.iter().map(|&size| pickle.count(size)).collect()
        };
        Some(Self { storage, offset: pickle.count(offset)?, shape: sizes(shape)?, strides: sizes(strides)? })
    }

    /// Numbers of the storage up to the last that the view needs, if the storage has them.
    fn end(&self) -> Option<usize> {
        let elements = self.shape.iter().try_fold(1usize, |all, &size| all.checked_mul(size)).filter(|&all| all <= MAX_ELEMENTS)?;
        if elements == 0 {
            return Some(0);
        }
        let reach = |(size, stride): (&usize, &usize)| (size - 1).checked_mul(*stride);
        let far = self.shape.iter().zip(&self.strides).map(reach).try_fold(self.offset, |at, step| at.checked_add(step?))?;
        (self.shape.len() == self.strides.len() && far < self.storage.count).then_some(far + 1)
    }

    /// Bytes in the order of the shape.
    fn bytes(&self, storages: &Storages) -> std::io::Result<Vec<u8>> {
        let size = self.storage.kind.size;
        let end = self.end().ok_or_else(|| std::io::Error::other("it reaches beyond its storage"))?;
        if end == 0 {
            return Ok(Vec::new());
        }
        let all = storages.read(&self.storage.key, end * size, size)?;
        let mut expected = 1;
        let contiguous = self.shape.iter().zip(&self.strides).rev().all(|(&size, &stride)| {
            let fits = size == 1 || stride == expected;
            expected *= size;
            fits
        });
        if contiguous {
            return Ok(all[self.offset * size..].to_vec());
        }
        let mut places = vec![self.offset];
        for (&count, &stride) in self.shape.iter().zip(&self.strides) {
            places = places.iter().flat_map(|place| (0..count).map(move |step| place + step * stride)).collect();
        }
        Ok(places.into_iter().flat_map(|place| &all[place * size..(place + 1) * size]).copied().collect())
    }
}

/// The tensors met on a walk through the objects.
struct Found<'a> {
    pickle: &'a Pickle,
    storages: Rc<Storages>,
    tensors: BTreeMap<String, Stored>,
    visits: usize,
}

impl Found<'_> {
    fn walk(&mut self, id: Id, name: &str, depth: usize) -> Result<(), String> {
        self.visits += 1;
        if self.visits > MAX_VISITS {
            return Err(format!("it names more than {MAX_VISITS} objects"));
        }
        if depth > MAX_DEPTH {
            return Ok(());
        }
        if let Some(view) = View::of(self.pickle, id) {
            view.end().ok_or_else(|| format!("the tensor {} reaches beyond its storage", shown(name)))?;
            let (storages, kind) = (self.storages.clone(), view.storage.kind.clone());
            let stored = Stored {
                shape: view.shape.clone(),
                kind: kind.name,
                float: kind.float,
                bytes: Box::new(move || view.bytes(&storages)),
            };
            self.tensors.insert(name.to_owned(), stored);
            return Ok(());
        }
        let below = |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}.{part}") };
        for (key, value) in self.pickle.entries(id) {
            self.walk(*value, &below(&self.pickle.key(*key)), depth + 1)?;
        }
        let items = match self.pickle.node(id) {
            Node::List(items) => items.as_slice(),
            Node::Call(call) => {
                self.inside(call, name, depth)?;
                &call.items
            }
            _ => &[],
        };
        for (number, &item) in items.iter().enumerate() {
            self.walk(item, &below(&number.to_string()), depth + 1)?;
        }
        Ok(())
    }

    /// What an object keeps besides its items: the attributes of a module, or the pairs that Python 2 makes an ordered dictionary from.
    fn inside(&mut self, call: &pickle::Call, name: &str, depth: usize) -> Result<(), String> {
        let below = |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}.{part}") };
        if self.pickle.global(call.callee) == Some("collections.OrderedDict") {
            let pairs = self.pickle.list(call.arguments).and_then(|given| self.pickle.list(*given.first()?));
            for &pair in pairs.unwrap_or_default() {
                if let Some(&[key, value]) = self.pickle.list(pair) {
                    self.walk(value, &below(&self.pickle.key(key)), depth + 1)?;
                }
            }
            return Ok(());
        }
        let state = call.state.map(|state| self.pickle.entries(state)).unwrap_or_default();
        for (key, value) in state {
            let key = self.pickle.key(*key);
            // Where a module keeps them; their names are those in a state dict.
            let transparent = matches!(key.as_str(), "_parameters" | "_buffers" | "_modules");
            self.walk(*value, &if transparent { name.to_owned() } else { below(&key) }, depth + 1)?;
        }
        Ok(())
    }
}

/// Refuses a pickle that names what starts programs or runs text. Nothing would be started here; but whoever loads the file elsewhere should know.
fn refuse_programs(path: &Path, pickle: &Pickle) -> Result<()> {
    let programs: BTreeSet<&str> = pickle.globals().filter(|name| is_program(name)).collect();
    let Some(first) = programs.first() else { return Ok(()) };
    let what = format!("{} is refused: besides weights it makes Python call or load `{}`", shown_path(path), shown(first));
    let error =
        programs.iter().skip(1).take(9).fold(Error::input(what), |error, name| error.detail(format!("and `{}`", shown(name))));
    Err(error
        .detail("nothing in the file was run")
        .hint("if you trust its source, save the tensors alone, for example with safetensors.torch.save_file"))
}

fn is_program(name: &str) -> bool {
    const MODULES: [&str; 15] = [
        "os",
        "posix",
        "nt",
        "subprocess",
        "sys",
        "shutil",
        "socket",
        "runpy",
        "importlib",
        "pty",
        "ctypes",
        "webbrowser",
        "pickle",
        "_pickle",
        "marshal",
    ];
    const BUILTINS: [&str; 9] = ["eval", "exec", "execfile", "compile", "open", "__import__", "input", "breakpoint", "globals"];
    let (module, rest) = name.split_once('.').unwrap_or((name, ""));
    match module {
        "builtins" | "__builtin__" => BUILTINS.contains(&rest),
        "torch" => rest.starts_with("hub.") || rest.starts_with("load") || rest.starts_with("utils.cpp_extension"),
        "numpy" => rest.contains("load") || rest.contains("exec"),
        _ => MODULES.contains(&module),
    }
}

/// Tensors and their types, options, numbers and paths as trainers keep them.
fn is_usual(name: &str) -> bool {
    matches!(
        name.split('.').next(),
        Some(
            "torch"
                | "numpy"
                | "argparse"
                | "collections"
                | "pathlib"
                | "datetime"
                | "builtins"
                | "__builtin__"
                | "_codecs"
                | "copyreg"
                | "copy_reg"
        )
    )
}
