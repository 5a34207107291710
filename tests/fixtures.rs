//! Golden numbers from an independent oracle, one test per file stem. `UNMIX_FIXTURES=DIR` checks another folder of the same form,
//! `UNMIX_TEST_DEVICES=cpu,wgpu-cpu` other devices.

mod common;

#[path = "fixtures/augment_checks.rs"]
mod augment_checks;
#[path = "fixtures/bank_checks.rs"]
mod bank_checks;
#[path = "fixtures/bbox_checks.rs"]
mod bbox_checks;
#[path = "fixtures/colour_checks.rs"]
mod colour_checks;
#[path = "fixtures/encoder_checks.rs"]
mod encoder_checks;
#[path = "fixtures/knn_checks.rs"]
mod knn_checks;
#[path = "fixtures/losses_checks.rs"]
mod losses_checks;
#[path = "fixtures/mixture_checks.rs"]
mod mixture_checks;
#[path = "fixtures/norm_checks.rs"]
mod norm_checks;
#[path = "fixtures/optim_checks.rs"]
mod optim_checks;
#[path = "fixtures/schedule_checks.rs"]
mod schedule_checks;
#[path = "fixtures/trace_checks.rs"]
mod trace_checks;

use burn::tensor::{Tensor, TensorData};
use unmix::kernel::mix::reference;
use unmix::kernel::{Op, ingest, mix, poison_outputs};

#[test]
fn bbox() {
    bbox_checks::check(&common::fixtures());
}

#[test]
fn schedule() {
    schedule_checks::check(&common::fixtures());
}

#[test]
fn augment() {
    augment_checks::check(&common::fixtures());
}

/// One body for every path of every device, and first for the loops themselves.
#[test]
fn mixture() {
    let dir = common::fixtures();
    mixture_checks::check_with(&dir, &|images, shape, plan| reference::mix(images, shape, plan));
    poison_outputs(true);
    for opened in common::devices() {
        for path in common::paths(&opened) {
            let run = |images: &[f32], shape, plan: &_| {
                let images = Tensor::<4>::from_data(TensorData::new(images.to_vec(), shape), &opened.device);
                common::values(mix(images, plan, path))
            };
            common::asserting_path(Op::Mix, path, || mixture_checks::check_with(&dir, &run));
        }
    }
}

#[test]
fn colour() {
    colour_checks::check_with(&|bytes, how| unmix::kernel::ingest::reference::ingest(bytes, how));
    poison_outputs(true);
    for opened in common::devices() {
        for path in common::paths(&opened) {
            let run = |bytes: &[u8], how: &_| common::values(ingest(bytes, how, &opened.device, path));
            common::asserting_path(Op::Ingest, path, || colour_checks::check_with(&run));
        }
    }
}

#[test]
fn norm() {
    common::devices().iter().for_each(|opened| norm_checks::check(&opened.device));
}

#[test]
fn losses() {
    common::devices().iter().for_each(|opened| losses_checks::check(&opened.device));
}

#[test]
fn encoder() {
    common::devices().iter().for_each(|opened| encoder_checks::check(&opened.device));
}

#[test]
fn trace() {
    common::devices().iter().for_each(|opened| trace_checks::check("trace", opened));
}

/// MoCo with the settings a run has.
#[test]
fn trace_production() {
    common::devices().iter().for_each(|opened| trace_checks::check("trace_production", opened));
}

/// InsDis and CMC.
#[test]
fn trace_bank() {
    common::devices().iter().for_each(|opened| trace_checks::check("trace_bank", opened));
}

/// Rules of optimizers, and exact accumulation.
#[test]
fn optim() {
    for opened in common::devices() {
        optim_checks::check(&opened.device);
        trace_checks::check("optim", &opened);
    }
}

#[test]
fn knn() {
    common::devices().iter().for_each(|opened| knn_checks::check(&opened.device));
}
