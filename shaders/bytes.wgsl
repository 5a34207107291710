// Part of ingest.wgsl and ingest_mix.wgsl: bytes out of 32-bit words (WGSL has no 8-bit type), the first in the lowest bits.

// Distance in bytes between neighbouring pixels of one channel: 1 in [n, 3, h, w], 3 in [n, h, w, 3].
const PIXEL_STEP: u32 = select(1u, 3u, {{ channels_last }});

// Index of the first of `lanes` neighbouring pixels of one channel.
fn first_byte(image: u32, channel: u32, pixel: u32, plane: u32) -> u32 {
    if (PIXEL_STEP == 1u) {
        return (image * 3u + channel) * plane + pixel;
    }
    return (image * plane + pixel) * 3u + channel;
}

fn byte(index: u32) -> f32 {
    return f32((words[index / 4u] >> (8u * (index % 4u))) & 255u);
}

fn read_one(first: u32) -> f32 {
    return byte(first);
}

// Four pixels; where they are neighbours in memory `first` is a multiple of 4, and they are one word.
fn read_four(first: u32) -> vec4<f32> {
    if (PIXEL_STEP == 1u) {
        let word = words[first / 4u];
        return vec4<f32>((vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u));
    }
    return vec4<f32>(byte(first), byte(first + 3u), byte(first + 6u), byte(first + 9u));
}
