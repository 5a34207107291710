//! Pickles of every protocol, calls that are kept, damage.

use super::*;

fn of(bytes: &[u8]) -> Result<Pickle, String> {
    read(&mut &*bytes)
}

/// `pickle.dumps({'a': [1, -2, 2**40, 2.5, True, None], b'k': (b'x', 'é')}, n)` for every protocol.
#[test]
fn every_protocol_gives_the_same() {
    let all: [&[u8]; 3] = [
        b"(dp0\nVa\np1\n(lp2\nI1\naI-2\naL1099511627776L\naF2.5\naI01\naNas.",
        b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01G@\x04\x00\x00\x00\x00\x00\x00\x88Nes.",
        b"\x80\x04\x95\x20\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94]\x94(K\x01J\xfe\xff\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01G@\x04\x00\x00\x00\x00\x00\x00\x88Nes.",
    ];
    for bytes in all {
        let pickle = of(bytes).unwrap();
        let [(key, value)] = pickle.entries(pickle.root) else { panic!("one entry") };
        let values: Vec<&Node> = pickle.list(*value).unwrap().iter().map(|&id| pickle.node(id)).collect();
        let want =
            [Node::Int(Some(1)), Node::Int(Some(-2)), Node::Int(Some(1 << 40)), Node::Float(2.5), Node::Bool(true), Node::None];
        assert_eq!((pickle.key(*key).as_str(), values), ("a", want.iter().collect()));
    }
}

#[test]
fn calls_are_kept_and_not_made() {
    let pickle = of(b"cos\nsystem\n(S'touch x'\ntR.").unwrap();
    assert_eq!(pickle.call(pickle.root).unwrap().0, "os.system");
    assert_eq!(pickle.globals().collect::<Vec<_>>(), ["os.system"]);
    // A dictionary of a subclass, filled, with a state; `bytes` of protocol 2.
    let pickle = of(b"\x80\x02cyacs.config\nCfgNode\n)\x81(X\x01\0\0\0aK\x01K\x02K\x03u}X\x01\0\0\0zNsb.").unwrap();
    let keys: Vec<String> = pickle.entries(pickle.root).iter().map(|(key, _)| pickle.key(*key)).collect();
    assert_eq!(keys, ["a", "2"]);
    let pickle = of(b"\x80\x02c_codecs\nencode\nX\x02\0\0\0\xc3\xbfX\x06\0\0\0latin1\x86R.").unwrap();
    assert_eq!(pickle.bytes(pickle.root).as_deref(), Some(&[0xFF][..]));
}

#[test]
fn damage_is_an_error() {
    for bytes in [
        &b""[..],
        b"\x80\x02",
        b".",
        b"t.",
        b"K",
        b"K\x01a.",
        b"h\x09.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"(K\x01d.",
        b"\x7f.",
    ] {
        assert!(of(bytes).is_err(), "{bytes:02x?}");
    }
    // A list that holds itself is no trap to the reader.
    assert!(of(b"]q\0h\0a.").is_ok());
}
