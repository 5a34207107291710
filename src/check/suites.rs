//! Every suite there is. Whoever adds a check adds a line here (docs/adding.md).

use serde::Serialize;

use super::{Body, Suite, Tally, common, first_losses, golden, gradients, kernels, net, production, rows, scores, update, upload};
use crate::device::Opened;
use crate::kernel::choice::paths;
use crate::kernel::{KernelsConfig, Op};

/// What a suite belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Numbers from an independent oracle; they need a folder of files.
    Golden,
    /// Mixture and ingest on every kernel path, against plain loops.
    Kernels,
    /// Features against rows of a bank on every kernel path, against plain loops.
    Scores,
    /// Blocks of the nets on every path, against plain loops and central differences.
    Net,
    /// Losses and their gradients, against plain loops in f64 and central differences.
    Gradients,
    /// Steps of training, beside the CPU's.
    Training,
}

impl Group {
    /// All groups, in the order in which they run.
    pub const ALL: [Self; 6] = [Self::Golden, Self::Kernels, Self::Scores, Self::Net, Self::Gradients, Self::Training];

    /// The name that is printed and asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Golden => "golden",
            Self::Kernels => "kernels",
            Self::Scores => "scores",
            Self::Net => "net",
            Self::Gradients => "gradients",
            Self::Training => "training",
        }
    }
}

const fn golden(
    name: &'static str,
    about: &'static str,
    body: fn(&std::path::Path, &crate::device::Opened, &mut super::Tally),
) -> Suite {
    Suite { name, group: Group::Golden, about, body: Body::Golden(body) }
}

const fn on_device(
    group: Group,
    name: &'static str,
    about: &'static str,
    body: fn(&crate::device::Opened, &mut super::Tally),
) -> Suite {
    Suite { name, group, about, body: Body::Device(body) }
}

/// The same golden numbers on every path of the nets' blocks, which alone runs.
fn on_net_paths(opened: &Opened, tally: &mut Tally, body: impl Fn(&Opened, &mut Tally)) {
    for path in paths(Op::Net, &opened.info.compiler) {
        let config = KernelsConfig::default().with(Op::Net, path);
        let opened = opened.clone().with_kernels(&config).expect("the path is one of the device's");
        common::asserting_path(Op::Net, path, || body(&opened, tally));
    }
}

/// All suites, in the order in which they run: the golden numbers first, since they say most in the least time.
pub const SUITES: &[Suite] = &[
    golden("bbox", "the box rule with golden numbers (host)", |dir, _, tally| golden::bbox::check(dir, tally)),
    golden("schedule", "learning rates with golden numbers (host)", |dir, _, tally| golden::schedule::check(dir, tally)),
    golden("augment", "augmentations with PIL and torchvision (host)", |dir, _, tally| golden::augment::check(dir, tally)),
    golden("mixture", "mixed images with golden numbers, on every path", golden::mixture::check),
    golden(
        "mixture_zoo",
        "plans of further mixtures and their images with golden numbers, on every path",
        golden::mixture_zoo::check,
    ),
    golden("colour", "colour spaces with golden numbers, on every path", golden::colour::check),
    golden("norm", "batch norm, its gradients and statistics with PyTorch", |dir, opened, tally| {
        golden::norm::check(dir, &opened.device, tally);
    }),
    golden("losses", "every loss and its gradients with PyTorch", golden::losses::check),
    golden("encoder", "activations, gradients and statistics of ResNets with PyTorch", |dir, opened, tally| {
        on_net_paths(opened, tally, |opened, tally| golden::encoder::check(dir, opened, tally));
    }),
    golden("trace", "steps of training with PyTorch, every intermediate result", |dir, opened, tally| {
        on_net_paths(opened, tally, |opened, tally| golden::trace::check(dir, "trace", opened, tally));
    }),
    golden("trace_production", "steps of MoCo with the settings a run has with PyTorch", |dir, opened, tally| {
        on_net_paths(opened, tally, |opened, tally| golden::trace::check(dir, "trace_production", opened, tally));
    }),
    golden("trace_bank", "steps of InsDis and CMC with PyTorch", |dir, opened, tally| {
        on_net_paths(opened, tally, |opened, tally| golden::trace::check(dir, "trace_bank", opened, tally));
    }),
    golden(
        "trace_pair",
        "steps of SimCLR, BYOL, SwAV, SimSiam, Barlow Twins, i-Mix and MixCo with PyTorch",
        |dir, opened, tally| {
            on_net_paths(opened, tally, |opened, tally| golden::pair::check(dir, opened, tally));
        },
    ),
    golden("optim", "rules of optimizers and exact accumulation with PyTorch", |dir, opened, tally| {
        golden::optim::check(dir, &opened.device, tally);
        golden::trace::check(dir, "optim", opened, tally);
    }),
    golden("knn", "votes of nearest neighbours with golden numbers", |dir, opened, tally| {
        golden::knn::check(dir, &opened.device, tally);
    }),
    kernel("random_plans", "10,000 random mixture plans with plain loops", kernels::random_plans_give_what_the_reference_gives),
    kernel("edges", "mixtures of single, odd and very many images with plain loops", kernels::shapes_at_the_edges),
    kernel(
        "strides",
        "mixtures of images with other strides with plain loops",
        kernels::channels_last_images_and_slices_of_larger_tensors_are_mixed_like_any_other,
    ),
    kernel("input_kept", "the images before a mixture with those after it", kernels::the_input_is_left_as_it_was),
    kernel("half_mix", "mixtures of 16-bit images with plain loops", kernels::half_precision_images),
    kernel("parts", "mixtures made in parts with those made in one", kernels::batches_in_parts_are_those_in_one),
    kernel(
        "large_batch",
        "a batch above the largest tensor with plain loops",
        kernels::a_batch_above_the_binding_limit_goes_in_parts,
    ),
    kernel(
        "bytes",
        "images from 1,200 random batches of bytes with plain loops",
        kernels::bytes_become_the_images_of_the_reference,
    ),
    kernel("half_bytes", "16-bit images from bytes with plain loops", kernels::bytes_become_half_precision_images),
    kernel(
        "one_pass",
        "ingest and mixture in one pass with both one after the other",
        kernels::ingest_and_mix_in_one_pass_are_those_in_two,
    ),
    kernel("lab", "mixtures of Lab images with plain loops", kernels::lab_images_are_mixed_after_their_conversion),
    kernel("paste", "pastes with the exact share of pixels they keep", kernels::a_paste_keeps_what_is_outside_its_box),
    kernel(
        "blend",
        "blends and their complements with the sum of both images",
        kernels::a_blend_and_its_complement_sum_to_both_images,
    ),
    kernel("replay", "a plan with itself after JSON, bit by bit", kernels::a_plan_printed_parsed_and_replayed_gives_equal_bits),
    kernel("shapes", "mixtures of the shapes of a run with plain loops, bit by bit", production::every_kind_on_every_shape),
    kernel(
        "shapes_of_bytes",
        "images and mixtures from bytes of the shapes of a run with plain loops",
        production::bytes_of_every_shape_become_images_and_mixtures,
    ),
    kernel(
        "partners",
        "a loaded batch, its views and its partners with plain loops",
        upload::own_images_come_first_and_partners_end_with_the_mixture,
    ),
    kernel(
        "shared_plan",
        "a loaded batch with one plan or none with plain loops",
        upload::one_plan_serves_every_view_and_no_plan_changes_nothing,
    ),
    kernel(
        "batch_mixture",
        "a loaded batch with the mixture of Un-Mix with plain loops",
        upload::the_batch_mixture_is_of_the_first_view_and_the_views_stay_clean,
    ),
    kernel(
        "crops",
        "a loaded batch with crops of two sizes and their mixtures with plain loops",
        upload::crops_of_two_sizes_and_their_mixtures,
    ),
    kernel(
        "across_views",
        "a loaded batch whose views are mixed with each other with plain loops",
        upload::views_are_mixed_with_each_other,
    ),
    kernel(
        "batch_mixtures",
        "a loaded batch with mixtures of other views and of halves with plain loops",
        upload::batch_mixtures_are_of_their_views_and_may_be_fewer_than_the_images,
    ),
    on_device(
        Group::Scores,
        "bank_scores",
        "scores against rows of a bank, and sums of rows, with plain loops",
        scores::every_path_gives_the_scores_and_sums_of_the_loops,
    ),
    on_device(
        Group::Scores,
        "bank_gradients",
        "the backward passes of both with plain loops",
        scores::every_path_has_the_gradient_of_the_loops,
    ),
    on_device(
        Group::Scores,
        "bank_untracked",
        "scores of features that nobody trains with plain loops",
        scores::untracked_features_have_no_backward_pass,
    ),
    on_device(
        Group::Net,
        "blocks",
        "blocks of all forms in training and evaluation, on every path, with f64 loops",
        net::blocks_are_what_their_definition_says,
    ),
    on_device(
        Group::Net,
        "block_gradients",
        "the gradients of blocks of all forms, on every path, with central differences",
        net::blocks_have_the_gradients_of_their_definition,
    ),
    on_device(
        Group::Net,
        "block_shapes",
        "blocks of the shapes of a run on every path with those of plain tensor operations",
        net::blocks_of_the_shapes_of_a_run,
    ),
    on_device(
        Group::Net,
        "pooling",
        "the largest values of windows and their gradients on every path with plain loops, exactly",
        net::pooled_maps_are_the_largest_values,
    ),
    on_device(
        Group::Net,
        "rows",
        "unit rows, softmax losses and their gradients on every path with f64 loops",
        rows::every_path_treats_rows_as_the_loops_do,
    ),
    on_device(
        Group::Net,
        "updates",
        "updates of parameters on every path with f64 loops",
        update::every_path_moves_parameters_as_the_loops_do,
    ),
    gradient("info_nce", gradients::info_nce_has_the_gradient_of_its_definition),
    gradient("mixture_terms", gradients::mixture_terms_have_the_gradient_of_their_definition),
    gradient("nt_xent", gradients::nt_xent_has_the_gradient_of_its_definition),
    gradient("decoupled", gradients::decoupled_losses_have_the_gradient_of_their_definition),
    gradient("simsiam", gradients::simsiam_has_the_gradient_of_its_definition),
    gradient("barlow", gradients::barlow_has_the_gradient_of_its_definition),
    gradient("byol", gradients::byol_has_the_gradient_of_its_definition),
    gradient("swav", gradients::swapped_predictions_have_the_gradient_of_their_definition),
    gradient("sinkhorn", gradients::sinkhorn_is_its_definition_and_overflows_nowhere),
    gradient("zero_rows", gradients::rows_of_zeros_have_finite_gradients),
    gradient("bank_losses", gradients::bank_losses_have_the_gradient_of_their_definition),
    on_device(
        Group::Training,
        "first_losses",
        "five losses of a training with those of the CPU, at most 1e-3 apart (the CPU with itself, bit by bit)",
        first_losses::check,
    ),
];

const fn kernel(name: &'static str, about: &'static str, body: fn(&crate::device::Opened, &mut super::Tally)) -> Suite {
    on_device(Group::Kernels, name, about, body)
}

const fn gradient(name: &'static str, body: fn(&crate::device::Opened, &mut super::Tally)) -> Suite {
    on_device(Group::Gradients, name, "a loss and its gradients with f64 loops and central differences", body)
}
