// Bytes to normalised images, with their colours converted.
//
// binding  buffer                                       unit
// 0        words     of u32                             four bytes each, [n, 3, h, w] or [n, h, w, 3]
// 1        constants [18] of f32                        Constants in src/kernel/colour.rs: 3 rows of 4, 3 gains, 3 shifts
// 2        images    [n, 3, h, w] of Stored             normalised values, row-major
// 3        info      Info                               sizes
//
// Work of one invocation: `lanes` neighbouring pixels of one image with all three channels.
// Limits: every size fits u32; lanes is 4 only if h * w is a multiple of 4; 65,535 workgroups for an image, 65,535 x 65,535 images.
{{ enable }}

alias Stored = {{ stored }};
alias Value = {{ value }};
const WORKGROUP: u32 = {{ workgroup_size }}u;
const LANES: u32 = {{ lanes }}u;
// 0: affine in the bytes. 1: Lab.
const CURVE: u32 = {{ curve }}u;

struct Info {
    images: u32,   // n
    plane: u32,    // pixels of a channel, h * w
    vectors: u32,  // plane / lanes
}

@group(0) @binding(0) var<storage, read_write> words: array<u32>;
@group(0) @binding(1) var<storage, read_write> constants: array<f32, 18>;
@group(0) @binding(2) var<storage, read_write> images: array<Stored>;
@group(0) @binding(3) var<storage, read_write> info: Info;

// Row `c` of the matrix, applied to a pixel.
fn matrix_row(c: u32, r: Value, g: Value, b: Value) -> Value {
    let w = c * 4u;
    return constants[w] * r + constants[w + 1u] * g + constants[w + 2u] * b + constants[w + 3u];
}

// Linear light of sRGB bytes.
fn linear(bytes: Value) -> Value {
    let unit = bytes / 255.0;
    return select(pow((unit + 0.055) / 1.055, Value(2.4)), unit / 12.92, unit <= Value(0.04045));
}

// Lab's curve of X, Y or Z over white: a cube root, and a line below the knee. One Newton step mends the last bits of `pow`.
fn lab_curve(t: Value) -> Value {
    let safe = max(t, Value(0.008856));
    let near = pow(safe, Value(1.0 / 3.0));
    let root = near - (near * near * near - safe) / (3.0 * near * near);
    return select(7.787 * t + 16.0 / 116.0, root, t > Value(0.008856));
}

@compute @workgroup_size({{ workgroup_size }}, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let image = group.y + group.z * groups.y;
    let at = group.x * WORKGROUP + invocation;
    if (image >= info.images || at >= info.vectors) {
        return;
    }
    let pixel = at * LANES;
    var r = {{ read }}(first_byte(image, 0u, pixel, info.plane));
    var g = {{ read }}(first_byte(image, 1u, pixel, info.plane));
    var b = {{ read }}(first_byte(image, 2u, pixel, info.plane));
    let out = image * 3u * info.vectors + at;
    if (CURVE == 0u) {
        images[out] = Stored(matrix_row(0u, r, g, b));
        images[out + info.vectors] = Stored(matrix_row(1u, r, g, b));
        images[out + 2u * info.vectors] = Stored(matrix_row(2u, r, g, b));
        return;
    }
    r = linear(r);
    g = linear(g);
    b = linear(b);
    let x = lab_curve(matrix_row(0u, r, g, b));
    let y = lab_curve(matrix_row(1u, r, g, b));
    let z = lab_curve(matrix_row(2u, r, g, b));
    images[out] = Stored(y * constants[12] + constants[15]);
    images[out + info.vectors] = Stored((x - y) * constants[13] + constants[16]);
    images[out + 2u * info.vectors] = Stored((y - z) * constants[14] + constants[17]);
}
