//! PNG files whose writer stopped after the pixels.

use std::borrow::Cow;

const SIGNATURE: usize = 8;
/// Length, name and checksum of a chunk.
const AROUND: usize = 12;
const END: &[u8] = b"\0\0\0\0IEND\xAE\x42\x60\x82";

/// The file with the end chunk that it lacks, where all chunks before are whole and pixels are among them. libpng reads such files; whether
/// the pixels are all there is the decoder's to find.
pub(super) fn ended(bytes: &[u8]) -> Cow<'_, [u8]> {
    if bytes.ends_with(END) {
        return Cow::Borrowed(bytes);
    }
    let (mut at, mut pixels_end) = (SIGNATURE, None);
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(next) = at.checked_add(AROUND + length).filter(|&next| next <= bytes.len()) else { break };
        match &head[4..8] {
            b"IEND" => return Cow::Borrowed(bytes),
            b"IDAT" => pixels_end = Some(next),
            _ => {}
        }
        at = next;
    }
    match pixels_end {
        Some(end) => Cow::Owned([&bytes[..end], END].concat()),
        None => Cow::Borrowed(bytes),
    }
}
