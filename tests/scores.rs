//! Scores of features against drawn rows of a bank, on every path of every device (`src/check/scores.rs`); and what cannot run is refused.

mod common;

use burn::tensor::Tensor;
use unmix::kernel::choice::paths;
use unmix::kernel::{KernelPath, Op, bank};

#[test]
fn every_path_gives_the_scores_and_sums_of_the_loops() {
    common::suite("bank_scores");
}

#[test]
fn every_path_has_the_gradient_of_the_loops() {
    common::suite("bank_gradients");
}

#[test]
fn untracked_features_have_no_backward_pass() {
    common::suite("bank_untracked");
}

/// A path of another device is refused before anything runs; it is never quietly another one.
#[test]
fn a_path_of_another_device_panics() {
    for opened in common::devices() {
        let own = paths(Op::Bank, &opened.info.compiler);
        for path in KernelPath::ALL.into_iter().filter(|path| !own.contains(path)) {
            let device = opened.device.clone();
            let run = move || {
                let ones = |dims: [usize; 2]| Tensor::<2>::ones(dims, &device);
                bank::dots(ones([1, 2]), ones([3, 2]), bank::rows(vec![1, 2], [1, 2], &device), path).into_data()
            };
            assert!(
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err(),
                "{} on {}",
                path.name(),
                opened.info.name
            );
        }
    }
}
