//! Our device operations on all paths of all devices in `UNMIX_TEST_DEVICES`, against the obvious loops (`src/check/kernels.rs`); and what
//! cannot run is refused.

mod common;

use burn::tensor::{Tensor, TensorData};
use unmix::kernel::{KernelPath, mix};
use unmix::mixture::plan::{MixturePlan, Row, Stage};

#[test]
fn random_plans_give_what_the_reference_gives() {
    common::suite("random_plans");
}

#[test]
fn shapes_at_the_edges() {
    common::suite("edges");
}

#[test]
fn channels_last_images_and_slices_of_larger_tensors_are_mixed_like_any_other() {
    common::suite("strides");
}

#[test]
fn the_input_is_left_as_it_was() {
    common::suite("input_kept");
}

#[test]
fn half_precision_images() {
    common::suite("half_mix");
}

#[test]
fn batches_in_parts_are_those_in_one() {
    common::suite("parts");
}

#[test]
fn a_batch_above_the_binding_limit_goes_in_parts() {
    common::suite("large_batch");
}

#[test]
fn bytes_become_the_images_of_the_reference() {
    common::suite("bytes");
}

#[test]
fn bytes_become_half_precision_images() {
    common::suite("half_bytes");
}

#[test]
fn ingest_and_mix_in_one_pass_are_those_in_two() {
    common::suite("one_pass");
}

#[test]
fn lab_images_are_mixed_after_their_conversion() {
    common::suite("lab");
}

#[test]
fn a_paste_keeps_what_is_outside_its_box() {
    common::suite("paste");
}

#[test]
fn a_blend_and_its_complement_sum_to_both_images() {
    common::suite("blend");
}

#[test]
fn a_plan_printed_parsed_and_replayed_gives_equal_bits() {
    common::suite("replay");
}

#[test]
fn every_kind_on_every_shape() {
    common::suite("shapes");
}

#[test]
fn bytes_of_every_shape_become_images_and_mixtures() {
    common::suite("shapes_of_bytes");
}

#[test]
fn own_images_come_first_and_partners_end_with_the_mixture() {
    common::suite("partners");
}

#[test]
fn one_plan_serves_every_view_and_no_plan_changes_nothing() {
    common::suite("shared_plan");
}

#[test]
fn the_batch_mixture_is_of_the_first_view_and_the_views_stay_clean() {
    common::suite("batch_mixture");
}

#[test]
fn crops_of_two_sizes_and_their_mixtures() {
    common::suite("crops");
}

#[test]
fn views_are_mixed_with_each_other() {
    common::suite("across_views");
}

#[test]
fn batch_mixtures_are_of_their_views_and_may_be_fewer_than_the_images() {
    common::suite("batch_mixtures");
}

/// A path of another device, or a plan for other images, is refused before anything runs.
#[test]
fn what_cannot_run_panics() {
    for opened in common::devices() {
        let rows = vec![Row::blend(1, 0.5), Row::default()];
        let plan = MixturePlan { stages: vec![Stage { passes: vec![rows] }], keep: 1 };
        let refused = |plan: MixturePlan, path: KernelPath| {
            let input = Tensor::<4>::from_data(TensorData::new(vec![0.5f32; 2 * 15], [2, 1, 3, 5]), &opened.device);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| common::values(mix(input, &plan, path))));
            assert!(result.is_err(), "{} {}", opened.info.name, path.name());
        };
        let here = common::paths(&opened);
        KernelPath::ALL.into_iter().filter(|path| !here.contains(path)).for_each(|path| refused(plan.clone(), path));
        let mut wrong = plan.clone();
        wrong.stages[0].passes[0][0] = Row::blend(1000, 0.5);
        here.iter().for_each(|&path| refused(wrong.clone(), path));
    }
}
