//! How a camera was held: the orientation of an EXIF block.

use image::metadata::Orientation;

/// The tag of the orientation.
const ORIENTATION: u16 = 0x0112;
/// The most entries of a directory that are looked at.
const MAX_ENTRIES: u16 = 1000;

/// Reads the orientation from the TIFF structure of an EXIF block, with or without the `Exif\0\0` before it. Damage and absence mean "not
/// turned", as they do to a viewer. The standard says SHORT; cameras and editors write LONG and BYTE too.
pub(super) fn orientation(block: &[u8]) -> Orientation {
    let block = block.strip_prefix(b"Exif\0\0").unwrap_or(block);
    find(block).and_then(|value| Orientation::from_exif(u8::try_from(value).ok()?)).unwrap_or(Orientation::NoTransforms)
}

fn find(block: &[u8]) -> Option<u32> {
    let little = match block.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes: [u8; 2] = block.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let long = |at: usize| {
        let bytes: [u8; 4] = block.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let directory = long(4).filter(|_| short(2) == Some(42))? as usize;
    let entry = |number: u16| directory.checked_add(2 + 12 * usize::from(number));
    let at = (0..short(directory)?.min(MAX_ENTRIES)).filter_map(entry).find(|&at| short(at) == Some(ORIENTATION))?;
    match short(at + 2)? {
        1 => block.get(at + 8).copied().map(u32::from),
        3 => short(at + 8).map(u32::from),
        4 => long(at + 8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with one other entry before the orientation, stored with the given type and four bytes of value.
    fn block(little: bool, kind: u16, value: [u8; 4]) -> Vec<u8> {
        let short = |v: u16| if little { v.to_le_bytes() } else { v.to_be_bytes() };
        let long = |v: u32| if little { v.to_le_bytes() } else { v.to_be_bytes() };
        let entry = |tag, kind, value: [u8; 4]| [&short(tag)[..], &short(kind), &long(1), &value].concat();
        let start = [if little { *b"II" } else { *b"MM" }, short(42)].concat();
        [start, long(8).to_vec(), short(2).to_vec(), entry(0x010F, 2, [0; 4]), entry(ORIENTATION, kind, value), vec![0; 4]].concat()
    }

    #[test]
    fn every_integer_type_in_both_byte_orders() {
        for (little, kind, value) in [
            (true, 3, [6, 0, 0, 0]),
            (true, 4, [6, 0, 0, 0]),
            (true, 1, [6, 9, 9, 9]),
            (false, 3, [0, 6, 9, 9]),
            (false, 4, [0, 0, 0, 6]),
            (false, 1, [6, 0, 0, 0]),
        ] {
            let block = block(little, kind, value);
            assert_eq!(orientation(&block), Orientation::Rotate90, "little {little}, type {kind}");
            assert_eq!(orientation(&[b"Exif\0\0", &block[..]].concat()), Orientation::Rotate90);
        }
    }

    #[test]
    fn damage_is_not_turned() {
        let whole = block(true, 4, [6, 0, 0, 0]);
        // The last four bytes lead to a next directory, which is not read.
        for length in 0..whole.len() - 4 {
            assert_eq!(orientation(&whole[..length]), Orientation::NoTransforms, "{length}");
        }
        for (kind, value) in [(4, [6, 1, 0, 0]), (3, [9, 0, 0, 0]), (2, [6, 0, 0, 0])] {
            assert_eq!(orientation(&block(true, kind, value)), Orientation::NoTransforms);
        }
        let mut far = whole.clone();
        far[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(orientation(&far), Orientation::NoTransforms);
    }
}
