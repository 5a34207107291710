// Part of mix.wgsl and ingest_mix.wgsl: one row of a mixture plan, applied to `lanes` neighbouring values of an image.
// The row's words are those of ROW_LAYOUT in src/mixture/plan.rs; a test compares the two.

const ROW_WORDS: u32 = 9u;
const ROW_KIND: u32 = 0u;
const ROW_PARTNER: u32 = 1u;
const ROW_LAMBDA: u32 = 2u;
const ROW_Y0: u32 = 3u;
const ROW_X0: u32 = 4u;
const ROW_Y1: u32 = 5u;
const ROW_X1: u32 = 6u;
const ROW_OWN_SCALE: u32 = 7u;
const ROW_FILL_VALUE: u32 = 8u;

const KIND_COPY: u32 = 0u;
const KIND_BLEND: u32 = 1u;
const KIND_PASTE: u32 = 2u;
const KIND_FILL: u32 = 3u;

// Sizes of a launch; `vectors` and `blocks` count per image.
struct Info {
    images: u32,   // T, images in
    keep: u32,     // N <= T, images out
    passes: u32,   // rows per image
    width: u32,    // pixels of a line
    plane: u32,    // pixels of a channel, height * width
    vectors: u32,  // values of an image / lanes
    blocks: u32,   // workgroups of an image
}

// Does this row read its partner?
fn reads_partner(row: u32) -> bool {
    let kind = rows[row + ROW_KIND];
    return kind == KIND_BLEND || kind == KIND_PASTE;
}

// `own` after the row that starts at word `row`; `at` is the index of the values in the image, in vectors.
fn apply_row(row: u32, own: Value, other: Value, at: u32) -> Value {
    let kind = rows[row + ROW_KIND];
    let scaled = bitcast<f32>(rows[row + ROW_OWN_SCALE]) * own;
    if (kind == KIND_BLEND) {
        let lambda = bitcast<f32>(rows[row + ROW_LAMBDA]);
        return lambda * scaled + (1.0 - lambda) * other;
    }
    if (kind == KIND_COPY) {
        return scaled;
    }
    // `lanes` values never reach over the end of a line, so they share y.
    let pixel = (at * LANES) % info.plane;
    let y = pixel / info.width;
    let x = Place(pixel % info.width) + LANE_OFFSETS;
    let in_line = y >= rows[row + ROW_Y0] && y < rows[row + ROW_Y1];
    let inside = (x >= Place(rows[row + ROW_X0])) & (x < Place(rows[row + ROW_X1]));
    var written = other;
    if (kind == KIND_FILL) {
        written = Value(bitcast<f32>(rows[row + ROW_FILL_VALUE]));
    }
    if (in_line) {
        return select(scaled, written, inside);
    }
    return scaled;
}
