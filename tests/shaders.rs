//! The WGSL texts without a GPU: every instance that can be launched parses, validates, and agrees with the tables in Rust.
#![cfg(feature = "wgpu")]

use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, ArraySize, Expression, Literal, Module, StorageAccess, TypeInner};
use unmix::colour::{CONSTANT_WORDS, Curve};
use unmix::kernel::backend::wgsl::{INGEST, INGEST_MIX, Instance, MIX, RUN, Shader, WORKGROUP};
use unmix::mixture::{Kind, ROW_LAYOUT, ROW_WORDS};

/// Every combination of what is filled in.
fn instances() -> Vec<Instance> {
    let mut all = Vec::new();
    for lanes in [1, 4] {
        for half in [false, true] {
            for channels_last in [false, true] {
                for curve in Curve::ALL {
                    all.extend((1..=RUN).map(|run| Instance { lanes, half, channels_last, run, curve }));
                }
            }
        }
    }
    all
}

fn module(shader: &Shader, instance: &Instance) -> Module {
    let text = shader.complete(instance);
    assert!(!text.contains("{{"), "{}: something is not filled in:\n{text}", shader.name);
    let module = naga::front::wgsl::parse_str(&text)
        .unwrap_or_else(|error| panic!("{} {instance:?}: {}", shader.name, error.emit_to_string(&text)));
    Validator::new(ValidationFlags::all(), Capabilities::SHADER_FLOAT16)
        .validate(&module)
        .unwrap_or_else(|error| panic!("{} {instance:?}: {}", shader.name, error.emit_to_string(&text)));
    module
}

/// A shader's bindings in slot order: name, and what an element of the buffer is.
fn bindings(module: &Module) -> Vec<(String, String)> {
    let mut found: Vec<(u32, String, String)> = module
        .global_variables
        .iter()
        .filter_map(|(_, variable)| {
            let binding = variable.binding?;
            assert_eq!(binding.group, 0, "{variable:?}");
            let writable = AddressSpace::Storage { access: StorageAccess::LOAD | StorageAccess::STORE };
            assert_eq!(variable.space, writable, "every buffer is read_write: one page cannot be bound both ways");
            Some((binding.binding, variable.name.clone().unwrap(), element(module, variable.ty)))
        })
        .collect();
    found.sort();
    let slots: Vec<u32> = found.iter().map(|(slot, ..)| *slot).collect();
    assert_eq!(slots, (0..found.len() as u32).collect::<Vec<_>>(), "slots are numbered from 0");
    assert!(found.len() <= 7, "at most 7 bindings");
    found.into_iter().map(|(_, name, element)| (name, element)).collect()
}

/// The layout of a buffer in words: `u32 / 4` is an array of u32 with a stride of 4 bytes; a struct lists its members.
fn element(module: &Module, ty: naga::Handle<naga::Type>) -> String {
    let scalar = |scalar: naga::Scalar| format!("{:?}{}", scalar.kind, 8 * scalar.width).to_lowercase();
    match &module.types[ty].inner {
        TypeInner::Array { base, size, stride } => {
            let count = if let ArraySize::Constant(count) = size { format!(" x {count}") } else { String::new() };
            format!("{} / {stride}{count}", element(module, *base))
        }
        TypeInner::Vector { size, scalar: kind } => format!("{} x {}", scalar(*kind), *size as u32),
        TypeInner::Scalar(kind) => scalar(*kind),
        TypeInner::Struct { members, .. } => {
            let member = |m: &naga::StructMember| format!("{}@{}", m.name.clone().unwrap(), m.offset);
            members.iter().map(member).collect::<Vec<_>>().join(" ")
        }
        other => panic!("a buffer of {other:?}"),
    }
}

/// A module's constants that are whole numbers.
fn constant(module: &Module, name: &str) -> u32 {
    let (_, constant) =
        module.constants.iter().find(|(_, c)| c.name.as_deref() == Some(name)).unwrap_or_else(|| panic!("no constant {name}"));
    match module.global_expressions[constant.init] {
        Expression::Literal(Literal::U32(value)) => value,
        ref other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn every_instance_parses_validates_and_has_the_bindings_that_the_host_passes() {
    for shader in Shader::ALL {
        for instance in instances() {
            let module = module(&shader, &instance);
            let (scalar, bytes) = if instance.half { ("float16", 2) } else { ("float32", 4) };
            let stored = if instance.lanes == 4 { format!("{scalar} x 4 / {}", 4 * bytes) } else { format!("{scalar} / {bytes}") };
            let (stored, words) = (stored.as_str(), "uint32 / 4");
            let constants = format!("float32 / 4 x {CONSTANT_WORDS}");
            let stage = "images@0 keep@4 passes@8 height@12 width@16 plane@20 vectors@24";
            let want: Vec<(&str, &str)> = match shader.name {
                "mix" => vec![("images", stored), ("rows", words), ("mixed", stored), ("info", stage)],
                "ingest" => {
                    vec![("words", words), ("constants", &constants), ("images", stored), ("info", "images@0 plane@4 vectors@8")]
                }
                "ingest_mix" => {
                    vec![("words", words), ("constants", &constants), ("rows", words), ("mixed", stored), ("info", stage)]
                }
                other => panic!("the bindings of {other} are not listed here"),
            };
            let want: Vec<(String, String)> = want.into_iter().map(|(n, e)| (n.to_owned(), e.to_owned())).collect();
            assert_eq!(bindings(&module), want, "{} {instance:?}", shader.name);
            let [entry] = module.entry_points.as_slice() else { panic!("one entry point") };
            assert_eq!((entry.name.as_str(), entry.workgroup_size), ("main", [WORKGROUP as u32, 1, 1]));
            for (name, variable) in module.global_variables.iter().map(|(h, v)| (v.name.clone().unwrap(), h)) {
                let used = std::iter::once(&entry.function).chain(module.functions.iter().map(|(_, f)| f)).any(|function| {
                    function.expressions.iter().any(|(_, e)| matches!(e, Expression::GlobalVariable(g) if *g == variable))
                });
                assert!(used, "{}: {name} is bound and not used: the layout would not match", shader.name);
            }
        }
    }
}

#[test]
fn the_constants_of_the_texts_are_those_of_the_tables() {
    for shader in [MIX, INGEST_MIX] {
        for instance in instances() {
            let module = module(&shader, &instance);
            assert_eq!(constant(&module, "ROW_WORDS") as usize, ROW_WORDS);
            for (place, (name, _)) in ROW_LAYOUT.iter().enumerate() {
                assert_eq!(constant(&module, &format!("ROW_{}", name.to_uppercase())) as usize, place, "{name}");
            }
            for kind in Kind::ALL {
                assert_eq!(constant(&module, &format!("KIND_{}", format!("{kind:?}").to_uppercase())), kind as u32);
            }
            assert_eq!(constant(&module, "LANES") as usize, instance.lanes);
            assert_eq!(constant(&module, "WORKGROUP") as usize, WORKGROUP);
        }
    }
    for instance in instances() {
        let module = module(&INGEST, &instance);
        assert_eq!(constant(&module, "WORKGROUP") as usize, WORKGROUP);
        assert_eq!(constant(&module, "CURVE"), instance.curve as u32);
        for curve in Curve::ALL {
            assert_eq!(constant(&module, &format!("CURVE_{}", format!("{curve:?}").to_uppercase())), curve as u32);
        }
    }
}

/// Floats among the words are read through `bitcast<f32>`, whole numbers never are.
#[test]
fn words_are_read_as_the_table_says() {
    use unmix::mixture::plan::Word;
    let text = MIX.complete(&instances()[0]);
    for (name, word) in ROW_LAYOUT {
        let read = format!("rows[row + ROW_{}]", name.to_uppercase());
        assert!(text.contains(&read), "{name} is never read");
        let casts = text.matches(&format!("bitcast<f32>({read})")).count();
        let reads = text.matches(&read).count();
        assert_eq!(casts, if word == Word::F32 { reads } else { 0 }, "{name}");
    }
}
