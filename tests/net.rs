//! Blocks of the nets, on every path of every device (`src/check/net.rs`); equal bits with any number of threads; and what cannot run is refused.

mod common;

use burn::tensor::{Device, Tensor, TensorData};
use unmix::kernel::choice::paths;
use unmix::kernel::net::{self, Block, Convolution, Groups, Shortcut, Unit, Ways, Winograd, simd::Simd};
use unmix::kernel::{KernelPath, Op};

#[test]
fn blocks_are_what_their_definition_says() {
    common::suite("blocks");
}

#[test]
fn blocks_have_the_gradients_of_their_definition() {
    common::suite("block_gradients");
}

#[test]
fn blocks_of_the_shapes_of_a_run() {
    common::suite("block_shapes");
}

#[test]
fn pooled_maps_are_the_largest_values() {
    common::suite("pooling");
}

#[test]
fn every_path_treats_rows_as_the_loops_do() {
    common::suite("rows");
}

#[test]
fn every_path_moves_parameters_as_the_loops_do() {
    common::suite("updates");
}

/// A path of another device is refused before anything runs; it is never quietly another one.
#[test]
fn a_path_of_another_device_panics() {
    for opened in common::devices() {
        let own = paths(Op::Net, &opened.info.compiler);
        for path in KernelPath::ALL.into_iter().filter(|path| !own.contains(path)) {
            let (device, ways) = (opened.device.clone(), Ways { path, ..Ways::portable() });
            let run = move || {
                let (block, units) = bottleneck(8, &device);
                net::block(Tensor::ones([2, 8, 4, 4], &device), units, &block, Groups::of(1), ways).0.into_data()
            };
            let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err();
            assert!(refused, "{} on {}", path.name(), opened.info.name);
        }
    }
}

/// A bottleneck with stride 2 and a shortcut of its own: every kind of convolution there is.
fn bottleneck(channels: usize, device: &Device) -> (Block, Vec<Unit>) {
    let moves = |stride, padding| Convolution { stride, padding };
    let block = Block { path: vec![moves(1, 0), moves(1, 1), moves(2, 1)], shortcut: Shortcut::Convolution(moves(2, 0)) };
    let unit = |input: usize, output: usize, kernel: usize| Unit {
        weight: random([output, input, kernel, kernel], device),
        gamma: random([output], device),
        beta: random([output], device),
    };
    let units = vec![
        unit(channels, channels, 1),
        unit(channels, channels, 3),
        unit(channels, 2 * channels, 3),
        unit(channels, 2 * channels, 1),
    ];
    (block, units)
}

fn random<const D: usize>(dims: [usize; D], device: &Device) -> Tensor<D> {
    let count = dims.iter().product::<usize>();
    let values: Vec<f32> =
        (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_769) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect();
    Tensor::from_data(TensorData::new(values, dims), device)
}

/// Whatever the number of threads, all sums have the same order: outputs, statistics and gradients have equal bits. Few channels and many: with
/// these Winograd's products go in phases over all tiles.
#[cfg(feature = "flex")]
#[test]
fn any_number_of_threads_gives_equal_bits() {
    let device = Device::flex();
    let run = |threads: usize, ways: Ways, dims: [usize; 4], groups: usize| -> Vec<Vec<u32>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            let (block, units) = bottleneck(dims[1], &device);
            let x = random(dims, &device).autodiff().require_grad();
            let track = |unit: Unit| Unit {
                weight: unit.weight.autodiff().require_grad(),
                gamma: unit.gamma.autodiff().require_grad(),
                beta: unit.beta.autodiff().require_grad(),
            };
            let units: Vec<Unit> = units.into_iter().map(track).collect();
            let (y, seen) = net::block(x.clone(), units.clone(), &block, Groups::of(groups), ways);
            let gradients = (y.clone() * random(y.dims(), &device)).sum().backward();
            let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
            let read = |data: TensorData| bits(data.try_to_vec::<f32>().expect("f32"));
            let mut all = vec![read(y.into_data()), read(x.grad(&gradients).expect("tracked").into_data())];
            seen.into_iter().flatten().for_each(|s| all.extend([read(s.mean.into_data()), read(s.variance.into_data())]));
            units.iter().for_each(|u| all.push(read(u.weight.grad(&gradients).expect("tracked").into_data())));
            units.iter().for_each(|u| all.push(read(u.gamma.grad(&gradients).expect("tracked").into_data())));
            all
        })
    };
    for simd in Simd::ALL.into_iter().filter(|simd| simd.runs()) {
        for winograd in Winograd::ALL {
            let ways = Ways { path: KernelPath::Flex, winograd, simd, ..Ways::portable() };
            for (dims, groups) in [([6, 40, 18, 14], 3), ([2, 256, 8, 6], 1)] {
                let one = run(1, ways, dims, groups);
                for threads in [2, 3] {
                    assert!(run(threads, ways, dims, groups) == one, "{threads} threads and one differ: {ways:?}, {dims:?}");
                }
            }
        }
    }
}
