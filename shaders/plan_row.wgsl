// Part of mix.wgsl and ingest_mix.wgsl: the rows of a mixture plan, applied to vectors (`lanes` neighbouring values) of an image.
// The row's words are those of ROW_LAYOUT in src/mixture/plan.rs; a test compares the two.

alias Stored = {{ stored }};
alias Value = {{ value }};
alias Place = {{ place }};
const WORKGROUP: u32 = {{ workgroup_size }}u;
const LANES: u32 = {{ lanes }}u;
const RUN: u32 = {{ run }}u;
const LANE_OFFSETS: Place = {{ lane_offsets }};

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
const KIND_RESIZE: u32 = 4u;

// Sizes of a launch; `vectors` and `blocks` count per image.
struct Info {
    images: u32,   // T, images in
    keep: u32,     // N <= T, images out
    passes: u32,   // rows per image
    height: u32,   // lines of a channel
    width: u32,    // pixels of a line
    plane: u32,    // pixels of a channel, height * width
    vectors: u32,  // values of an image / lanes
}

// a / b for quotients below 2^22, where the float quotient is off by one at the most. Integer division costs more than all the rest
// of the kernel where it is not an instruction: on software Vulkan, and some twenty instructions on GPUs.
fn quotient(a: u32, b: u32) -> u32 {
    let near = u32(f32(a) / f32(b));
    let product = near * b;
    if (product > a) {
        return near - 1u;
    }
    if (a - product >= b) {
        return near + 1u;
    }
    return near;
}

// One row, in registers: read once for all vectors of an invocation.
struct Row {
    kind: u32,
    partner: u32,
    lambda: f32,
    y0: u32,
    x0: u32,
    y1: u32,
    x1: u32,
    own_scale: f32,
    fill_value: f32,
}

// The row that starts at word `row`.
fn load_row(row: u32) -> Row {
    return Row(
        rows[row + ROW_KIND],
        rows[row + ROW_PARTNER],
        bitcast<f32>(rows[row + ROW_LAMBDA]),
        rows[row + ROW_Y0],
        rows[row + ROW_X0],
        rows[row + ROW_Y1],
        rows[row + ROW_X1],
        bitcast<f32>(rows[row + ROW_OWN_SCALE]),
        bitcast<f32>(rows[row + ROW_FILL_VALUE]),
    );
}

// The place that low..high shows at `at` of an axis of `size` pixels scaled to it: floor((at - low) * size / (high - low)). Outside, where
// it is not taken, it is the nearest place that is shown.
fn shown(at: u32, low: u32, high: u32, size: u32) -> u32 {
    let side = max(high - low, 1u);
    let offset = min(max(at, low) - low, side - 1u);
    return quotient(offset * size, side);
}

// The value of the partner that a resize shows in column x, of the partner's values from `line` on.
fn gather_one(row: Row, line: u32, x: u32) -> f32 {
    return image_value(row.partner, line + shown(x, row.x0, row.x1, info.width));
}

fn gather_four(row: Row, line: u32, x: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(gather_one(row, line, x.x), gather_one(row, line, x.y), gather_one(row, line, x.z), gather_one(row, line, x.w));
}

// Vector `at` of an image after a row; `own` is its value before. `image_values` and `image_value` are the kernel's: a vector and a value of
// the stage's input.
fn apply_row(row: Row, own: Value, at: u32) -> Value {
    var other = own;
    if (row.kind == KIND_BLEND || row.kind == KIND_PASTE) {
        other = image_values(row.partner, at);
    }
    let scaled = row.own_scale * own;
    if (row.kind == KIND_BLEND) {
        return row.lambda * scaled + (1.0 - row.lambda) * other;
    }
    if (row.kind == KIND_COPY) {
        return scaled;
    }
    // `lanes` values never reach over the end of a line, so they share y.
    let line = quotient(at * LANES, info.width);
    let channel = quotient(line, info.height);
    let y = line - channel * info.height;
    let x = Place(at * LANES - line * info.width) + LANE_OFFSETS;
    if (y < row.y0 || y >= row.y1) {
        return scaled;
    }
    let inside = (x >= Place(row.x0)) & (x < Place(row.x1));
    if (row.kind == KIND_FILL) {
        return select(scaled, Value(row.fill_value), inside);
    }
    if (row.kind == KIND_RESIZE) {
        let partner_line = channel * info.height + shown(y, row.y0, row.y1, info.height);
        other = {{ gather }}(row, partner_line * info.width, x);
    }
    return select(scaled, other, inside);
}

// Makes RUN vectors of an image, at, at + WORKGROUP and so on, so that neighbouring invocations touch neighbouring memory. Written out:
// an array indexed in a loop would leave the registers, and what a smaller RUN leaves out is gone when the kernel is compiled. Vectors
// past the end repeat the last.
fn mix_run(image: u32, at: u32) {
    let last = info.vectors - 1u;
    let at_b = min(at + WORKGROUP, last);
    let at_c = min(at + 2u * WORKGROUP, last);
    let at_d = min(at + 3u * WORKGROUP, last);
    var a = image_values(image, at);
    var b = a;
    var c = a;
    var d = a;
    if (RUN > 1u) { b = image_values(image, at_b); }
    if (RUN > 2u) { c = image_values(image, at_c); }
    if (RUN > 3u) { d = image_values(image, at_d); }
    for (var pass_index = 0u; pass_index < info.passes; pass_index++) {
        let row = load_row((pass_index * info.images + image) * ROW_WORDS);
        a = apply_row(row, a, at);
        if (RUN > 1u) { b = apply_row(row, b, at_b); }
        if (RUN > 2u) { c = apply_row(row, c, at_c); }
        if (RUN > 3u) { d = apply_row(row, d, at_d); }
    }
    // Two invocations that repeat the last vector write the same values.
    let out = image * info.vectors;
    mixed[out + at] = Stored(a);
    if (RUN > 1u) { mixed[out + at_b] = Stored(b); }
    if (RUN > 2u) { mixed[out + at_c] = Stored(c); }
    if (RUN > 3u) { mixed[out + at_d] = Stored(d); }
}
