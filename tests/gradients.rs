//! Values and gradients of every loss on every device in `UNMIX_TEST_DEVICES` (`src/check/gradients.rs`).

mod common;

#[test]
fn info_nce_has_the_gradient_of_its_definition() {
    common::suite("info_nce");
}

#[test]
fn mixture_terms_have_the_gradient_of_their_definition() {
    common::suite("mixture_terms");
}

#[test]
fn nt_xent_has_the_gradient_of_its_definition() {
    common::suite("nt_xent");
}

#[test]
fn decoupled_losses_have_the_gradient_of_their_definition() {
    common::suite("decoupled");
}

#[test]
fn simsiam_has_the_gradient_of_its_definition() {
    common::suite("simsiam");
}

#[test]
fn barlow_has_the_gradient_of_its_definition() {
    common::suite("barlow");
}

#[test]
fn byol_has_the_gradient_of_its_definition() {
    common::suite("byol");
}

#[test]
fn swapped_predictions_have_the_gradient_of_their_definition() {
    common::suite("swav");
}

#[test]
fn sinkhorn_is_its_definition_and_overflows_nowhere() {
    common::suite("sinkhorn");
}

#[test]
fn rows_of_zeros_have_finite_gradients() {
    common::suite("zero_rows");
}

#[test]
fn bank_losses_have_the_gradient_of_their_definition() {
    common::suite("bank_losses");
}
