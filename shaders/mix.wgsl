// Executes one stage of a mixture plan: all passes of the stage folded in registers, partners read from the stage's input.
//
// binding  buffer                                   unit
// 0        images [T, C, H, W] of Stored            normalised values, row-major
// 1        rows   [passes, T, ROW_WORDS] of u32     plan rows, see plan_row.wgsl; floats as their bits
// 2        mixed  [N, C, H, W] of Stored            normalised values
// 3        info   Info                              sizes, see plan_row.wgsl
//
// Work of one invocation: `run` (1 to 4) vectors of `lanes` neighbouring values of one image, each with one read (and one per partner) and one
// write. A workgroup stays within one image, so that its rows are the same for all invocations.
// Limits: every size fits u32; lanes is 4 only if W is a multiple of 4; 65,535 workgroups for an image, 65,535 x 65,535 images.
{{ enable }}

@group(0) @binding(0) var<storage, read_write> images: array<Stored>;
@group(0) @binding(1) var<storage, read_write> rows: array<u32>;
@group(0) @binding(2) var<storage, read_write> mixed: array<Stored>;
@group(0) @binding(3) var<storage, read_write> info: Info;

// Vector `at` of an image of the stage's input.
fn image_values(image: u32, at: u32) -> Value {
    return Value(images[image * info.vectors + at]);
}

// Value `at` of an image of the stage's input.
fn image_value(image: u32, at: u32) -> f32 {
    return f32(images[image * info.vectors + at / LANES]{{ component }});
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
