// Bytes to normalised and mixed images, RGB: the first stage of a mixture plan on images that are never written unmixed.
//
// binding  buffer                                       unit
// 0        words     of u32                             four bytes each, [T, 3, H, W] or [T, H, W, 3]
// 1        constants [18] of f32                        Constants in src/colour.rs; RGB uses the diagonal and the last column
// 2        rows      [passes, T, ROW_WORDS] of u32      plan rows, see plan_row.wgsl; floats as their bits
// 3        mixed     [N, 3, H, W] of Stored             normalised values, row-major
// 4        info      Info                               sizes, see plan_row.wgsl
//
// Work of one invocation: `run` (1 to 4) vectors of `lanes` neighbouring values of one image, one byte read per value (and one per partner) and
// one write.
// Limits: every size fits u32; lanes is 4 only if W is a multiple of 4; 65,535 workgroups for an image, 65,535 x 65,535 images.
{{ enable }}

@group(0) @binding(0) var<storage, read_write> words: array<u32>;
@group(0) @binding(1) var<storage, read_write> constants: array<f32, 18>;
@group(0) @binding(2) var<storage, read_write> rows: array<u32>;
@group(0) @binding(3) var<storage, read_write> mixed: array<Stored>;
@group(0) @binding(4) var<storage, read_write> info: Info;

// The normalised values of an image at vector `at`.
fn image_values(image: u32, at: u32) -> Value {
    let channel = quotient(at * LANES, info.plane);
    let bytes = {{ read }}(first_byte(image, channel, at * LANES - channel * info.plane, info.plane));
    return bytes * constants[channel * 5u] + constants[channel * 4u + 3u];
}

// Normalised value `at` of an image.
fn image_value(image: u32, at: u32) -> f32 {
    let channel = quotient(at, info.plane);
    let value = byte(first_byte(image, channel, at - channel * info.plane, info.plane));
    return value * constants[channel * 5u] + constants[channel * 4u + 3u];
}

@compute @workgroup_size({{ workgroup_size }}, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let image = group.y + group.z * groups.y;
    let at = group.x * (RUN * WORKGROUP) + invocation;
    if (image < info.keep && at < info.vectors) {
        mix_run(image, at);
    }
}
