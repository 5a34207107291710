// Bytes to normalised images, with their colours converted.
//
// binding  buffer                                       unit
// 0        words     of u32                             four bytes each, [n, 3, h, w] or [n, h, w, 3]
// 1        constants [18] of f32                        Constants in src/colour.rs: 3 rows of 4, 3 gains, 3 shifts
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
// The space's Curve in src/colour.rs, one of those below.
const CURVE: u32 = {{ curve }}u;
const CURVE_AFFINE: u32 = 0u;
const CURVE_LIGHT: u32 = 1u;
const CURVE_LAB: u32 = 2u;
const CURVE_LUV: u32 = 3u;
const CURVE_HSV: u32 = 4u;
const CURVE_HED: u32 = 5u;

struct Info {
    images: u32,   // n
    plane: u32,    // pixels of a channel, h * w
    vectors: u32,  // plane / lanes
}

@group(0) @binding(0) var<storage, read_write> words: array<u32>;
@group(0) @binding(1) var<storage, read_write> constants: array<f32, 18>;
@group(0) @binding(2) var<storage, read_write> images: array<Stored>;
@group(0) @binding(3) var<storage, read_write> info: Info;

struct Pixel {
    a: Value,
    b: Value,
    c: Value,
}

// Row `c` of the matrix, applied to a pixel.
fn matrix_row(c: u32, r: Value, g: Value, b: Value) -> Value {
    let w = c * 4u;
    return constants[w] * r + constants[w + 1u] * g + constants[w + 2u] * b + constants[w + 3u];
}

// What the matrix takes of sRGB bytes: linear light, optical density in units of the darkest, or the bytes.
fn input(bytes: Value) -> Value {
    let unit = bytes / 255.0;
    if (CURVE == CURVE_LIGHT || CURVE == CURVE_LAB || CURVE == CURVE_LUV) {
        return select(pow((unit + 0.055) / 1.055, Value(2.4)), unit / 12.92, unit <= Value(0.04045));
    }
    if (CURVE == CURVE_HED) {
        return log(max(unit, Value(1e-6))) / -13.815510557964274;
    }
    return bytes;
}

// Cube root of numbers above the knee of Lab and LUV. One Newton step mends the last bits of `pow`.
fn cube_root(t: Value) -> Value {
    let safe = max(t, Value(0.008856));
    let near = pow(safe, Value(1.0 / 3.0));
    return near - (near * near * near - safe) / (3.0 * near * near);
}

// Lab's curve of X, Y or Z over white: a cube root, and a line below the knee.
fn lab_curve(t: Value) -> Value {
    return select(7.787 * t + 16.0 / 116.0, cube_root(t), t > Value(0.008856));
}

fn luv(p: Pixel) -> Pixel {
    let lightness = select(903.3 * p.b, 116.0 * cube_root(p.b) - 16.0, p.b > Value(0.008856));
    // The least of any other colour than black is 1e-3.
    let sum = max(p.a + 15.0 * p.b + 3.0 * p.c, Value(1e-6));
    let white = 0.95047 + 15.0 + 3.0 * 1.08883;
    let u = 4.0 * p.a / sum - 4.0 * 0.95047 / white;
    let v = 9.0 * p.b / sum - 9.0 / white;
    return Pixel(lightness, lightness * u, lightness * v);
}

// Of bytes, which are whole numbers: comparisons are exact and a difference is 0 or at least 1. Grey, whose channels all are the largest,
// falls to red's sector and there to hue 0.
fn hsv(p: Pixel) -> Pixel {
    let top = max(max(p.a, p.b), p.c);
    let spread = top - min(min(p.a, p.b), p.c);
    let divisor = max(spread, Value(1.0));
    let around = (p.b - p.c) / divisor;
    let red = select(around, around + 6.0, around < Value(0.0));
    let green = (p.c - p.a) / divisor + 2.0;
    let blue = (p.a - p.b) / divisor + 4.0;
    let hue = select(select(blue, green, p.b == top), red, p.a == top);
    return Pixel(hue, spread / max(top, Value(1.0)), top);
}

// What follows the matrix: the table of Constants in src/colour.rs.
fn curved(p: Pixel) -> Pixel {
    if (CURVE == CURVE_LAB) {
        let y = lab_curve(p.b);
        return Pixel(y, lab_curve(p.a) - y, y - lab_curve(p.c));
    }
    if (CURVE == CURVE_LUV) {
        return luv(p);
    }
    if (CURVE == CURVE_HSV) {
        return hsv(p);
    }
    return Pixel(max(p.a, Value(0.0)), max(p.b, Value(0.0)), max(p.c, Value(0.0)));
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
    let r = input({{ read }}(first_byte(image, 0u, pixel, info.plane)));
    let g = input({{ read }}(first_byte(image, 1u, pixel, info.plane)));
    let b = input({{ read }}(first_byte(image, 2u, pixel, info.plane)));
    var p = Pixel(matrix_row(0u, r, g, b), matrix_row(1u, r, g, b), matrix_row(2u, r, g, b));
    if (CURVE != CURVE_AFFINE && CURVE != CURVE_LIGHT) {
        p = curved(p);
        p.a = p.a * constants[12] + constants[15];
        p.b = p.b * constants[13] + constants[16];
        p.c = p.c * constants[14] + constants[17];
    }
    let out = image * 3u * info.vectors + at;
    images[out] = Stored(p.a);
    images[out + info.vectors] = Stored(p.b);
    images[out + 2u * info.vectors] = Stored(p.c);
}
