// Executes one stage of a mixture plan: all passes of the stage folded in registers, partners read from the stage's input.
//
// binding  buffer                                   unit
// 0        images [T, C, H, W] of Stored            normalised values, row-major
// 1        rows   [passes, T, ROW_WORDS] of u32     plan rows, see plan_row.wgsl; floats as their bits
// 2        mixed  [N, C, H, W] of Stored            normalised values
// 3        info   Info                              sizes, see plan_row.wgsl
//
// Work of one invocation: `lanes` neighbouring values of one image, one read (and one per partner) and one write. A workgroup
// stays within one image, so that its rows are the same for all invocations.
// Limits: every size fits u32; lanes is 4 only if W is a multiple of 4; up to 65,535 x 65,535 workgroups.
{{ enable }}

alias Stored = {{ stored }};
alias Value = {{ value }};
alias Place = {{ place }};
const WORKGROUP: u32 = {{ workgroup_size }}u;
const LANES: u32 = {{ lanes }}u;
const LANE_OFFSETS: Place = {{ lane_offsets }};

@group(0) @binding(0) var<storage, read_write> images: array<Stored>;
@group(0) @binding(1) var<storage, read_write> rows: array<u32>;
@group(0) @binding(2) var<storage, read_write> mixed: array<Stored>;
@group(0) @binding(3) var<storage, read_write> info: Info;

@compute @workgroup_size({{ workgroup_size }}, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let block = group.x + group.y * groups.x;
    let image = block / info.blocks;
    let at = (block % info.blocks) * WORKGROUP + invocation;
    if (image >= info.keep || at >= info.vectors) {
        return;
    }
    var own = Value(images[image * info.vectors + at]);
    for (var pass_index = 0u; pass_index < info.passes; pass_index++) {
        let row = (pass_index * info.images + image) * ROW_WORDS;
        var other = own;
        if (reads_partner(row)) {
            other = Value(images[rows[row + ROW_PARTNER] * info.vectors + at]);
        }
        own = apply_row(row, own, other, at);
    }
    mixed[image * info.vectors + at] = Stored(own);
}
