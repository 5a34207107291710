//! What a run needs of the memory, before anything is made.

use super::RunConfig;
use crate::device::{DeviceInfo, memory};
use crate::error::{Error, Result};

/// Bytes of an f32.
const F32: u128 = 4;

/// Something that a run holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is, with its sizes.
    pub what: String,
    /// Its bytes, at least.
    pub bytes: u128,
    /// What to lower where it is too much.
    pub hint: &'static str,
}

impl RunConfig {
    /// Compares what a run on `images` images certainly holds with the memory that there is, and its largest tensors with the largest that the
    /// device takes. What is counted is a lower bound, of activations above all: a run that is refused would not have fitted, and one that
    /// passes still may not fit.
    ///
    /// # Errors
    /// It does not fit: the sums, and which keys to lower. Where the system tells no size nothing is refused.
    pub fn check_memory(&self, images: usize, device: &DeviceInfo) -> Result<()> {
        let largest = device.largest_tensor().map_or(u128::MAX, u128::from);
        if let Some(Part { what, bytes, hint }) = self.tensors(images).into_iter().find(|part| part.bytes > largest) {
            return Err(Error::input(format!(
                "{what}: {}, but the device holds at most {} in a tensor",
                size(bytes),
                size(largest)
            ))
            .hint(hint)
            .hint("or use a device without that limit (cpu, cuda)"));
        }
        let (there, parts) = match device.memory() {
            Some(bytes) => (bytes, self.parts(images)),
            // Of the device's own memory nothing is known.
            None => (memory::host().unwrap_or(u64::MAX), vec![self.views_of_a_batch()]),
        };
        fits(&parts, u128::from(there))
    }

    /// Images of one forward.
    fn micro_batch(&self) -> u128 {
        (self.data.batch / self.shards().max(1)) as u128
    }

    /// The rows of all memories.
    fn memories(&self, images: usize) -> Part {
        let trained = self.method.demands().nets.iter().filter(|net| net.trained).count();
        let (rows, dim) = (self.method.memory_rows(images) as u128, self.model.head.dim as u128);
        Part {
            what: format!("memories of negatives, {trained} x {rows} rows of {dim}"),
            bytes: trained as u128 * rows * dim * F32,
            hint: "use fewer images (`data.limit`), a smaller `method.memory.size` or `model.head.dim`",
        }
    }

    /// The scores of one forward against its negatives, once as they are and once as probabilities.
    fn scores(&self) -> Part {
        let (queries, negatives) = (self.micro_batch(), self.method.negatives() as u128);
        Part {
            what: format!("scores of {queries} queries against {negatives} negatives, twice"),
            bytes: 2 * queries * (1 + negatives) * F32,
            hint: "use fewer negatives (`method.negatives`, `method.memory.size`) or a smaller `data.batch` or `data.micro_batch`",
        }
    }

    /// Images as bytes: one batch, without its partners.
    fn views_of_a_batch(&self) -> Part {
        let (height, width) = self.view_size();
        let (batch, views) = (self.data.batch as u128, self.method.views() as u128);
        Part {
            what: format!("views of {batch} images"),
            bytes: batch * views * 3 * height as u128 * width as u128,
            hint: "use a smaller `data.batch` or `views.crop.size`",
        }
    }

    /// The largest `data.micro_batch` with which the run could fit by what is counted here, or the whole batch; `None` if not even the smallest
    /// does, or where no size is known.
    pub fn largest_micro_batch(&self, images: usize, device: &DeviceInfo) -> Option<usize> {
        let batch = self.data.batch;
        let allowed = |micro: &usize| *micro == batch || super::shard_problem(batch, *micro, self.model.bn_splits).is_none();
        let divisors = (1..=batch).rev().filter(|micro| batch.is_multiple_of(*micro)).filter(allowed);
        let with = |micro: usize| {
            let mut config = self.clone();
            config.data.micro_batch = (micro != batch).then_some(micro);
            config
        };
        let mut fitting = divisors.filter(|micro| with(*micro).check_memory(images, device).is_ok());
        fitting.next()
    }

    /// Bytes of a checkpoint's tensors: weights, velocities, memories.
    pub fn checkpoint_bytes(&self, images: usize) -> u128 {
        self.parts(images)[..3].iter().map(|part| part.bytes).sum()
    }

    /// All that is there when a forward ends.
    pub fn parts(&self, images: usize) -> Vec<Part> {
        let nets = self.method.demands().nets;
        let cost = |net: &crate::method::Net| self.model.cost(net.channels.len(), self.view_size());
        let all: u128 = nets.iter().map(|net| cost(net).weights).sum();
        let trained: u128 = nets.iter().filter(|net| net.trained).map(|net| cost(net).weights).sum();
        let kept: u128 = nets.iter().filter(|net| net.trained).map(|net| cost(net).kept).sum();
        let net = "use a smaller `model.width`, `model.stem_channels` or `model.head.dim`";
        vec![
            Part { what: format!("weights of {} nets", nets.len()), bytes: all * F32, hint: net },
            Part { what: "velocities of the optimizer".into(), bytes: trained * F32, hint: net },
            self.memories(images),
            Part {
                what: format!("what a forward of {} images keeps for its backward pass, at least", self.micro_batch()),
                bytes: self.micro_batch() * kept * F32,
                hint: "use a smaller `data.micro_batch` (or `data.batch`), `views.crop.size` or `model.width`",
            },
            self.scores(),
            self.views_of_a_batch(),
        ]
    }

    /// The largest single tensors.
    pub fn tensors(&self, images: usize) -> Vec<Part> {
        let nets = self.method.demands().nets;
        let trained = nets.iter().filter(|net| net.trained).count() as u128;
        let largest = nets.iter().map(|net| self.model.cost(net.channels.len(), self.view_size()).largest_map).max().unwrap_or(0);
        let (memories, scores) = (self.memories(images), self.scores());
        vec![
            Part { bytes: memories.bytes / trained.max(1), ..memories },
            Part {
                what: format!("the largest map of {} images", self.micro_batch()),
                bytes: self.micro_batch() * largest * F32,
                hint: "use a smaller `data.micro_batch` (or `data.batch`), `views.crop.size` or `model.width`",
            },
            Part { bytes: scores.bytes / 2, ..scores },
        ]
    }
}

/// # Errors
/// The parts together are more than `there`.
fn fits(parts: &[Part], there: u128) -> Result<()> {
    let sum: u128 = parts.iter().map(|part| part.bytes).sum();
    if sum <= there {
        return Ok(());
    }
    let fact = format!("the run needs at least {} of memory, and there are {}", size(sum), size(there));
    let error = parts.iter().fold(Error::input(fact), |error, part| error.detail(format!("{}: {}", part.what, size(part.bytes))));
    let most = parts.iter().max_by_key(|part| part.bytes);
    Err(most.map_or(error.clone(), |part| error.hint(part.hint)))
}

/// Bytes in words.
pub fn size(bytes: u128) -> String {
    const GIB: f64 = (1u64 << 30) as f64;
    match bytes {
        bytes if bytes >> 30 > 0 => format!("{:.1} GiB", bytes as f64 / GIB),
        bytes if bytes < 10 << 20 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        bytes => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::device;

    fn run(settings: &[&str]) -> RunConfig {
        let mut value = json!({"schedule": {"steps": 1}});
        settings.iter().for_each(|setting| super::super::layer::set(&mut value, setting).unwrap());
        RunConfig::from_value(value).unwrap()
    }

    /// A zero too many in any size is said with its sum and the key to lower, before anything is made.
    #[test]
    fn what_cannot_fit_is_refused_with_its_sums() {
        let cpu = device::open("cpu").unwrap().info;
        for (settings, images, key) in [
            (vec!["method.memory.size=16777216", "model.head.dim=65536"], 100, "method.memory.size"),
            (vec!["method.name=insdis"], 1 << 40, "data.limit"),
            (vec!["method.name=cmc", "model.head.dim=65536", "method.negatives=16"], 100_000_000, "data.limit"),
            (
                vec!["method.name=insdis", "method.negatives=16777216", "data.batch=1048576", "method.shared_negatives=true"],
                100,
                "method.negatives",
            ),
            (vec!["data.batch=1048576", "views.crop.size=224", "model.stem=imagenet"], 100, "data.micro_batch"),
            (
                vec!["model.stem_channels=16384", "model.head.dim=65536", "model.width=16", "model.head.name=mlp", "data.batch=16"],
                100,
                "model.width",
            ),
        ] {
            let error = run(&settings).check_memory(images, &cpu).unwrap_err();
            assert!(error.message().contains("needs at least") && error.details().len() == 6, "{error}");
            assert!(error.hints()[0].contains(key), "{settings:?}: {error}");
        }
        run(&[]).check_memory(60_000, &cpu).unwrap();
    }

    /// The shipped experiments' sizes, against a machine that they have run on, and the sum of a small one by hand.
    #[test]
    fn the_sums_are_those_of_the_tensors() {
        let config = run(&["method.memory.size=4096", "data.batch=64", "model.head.dim=128"]);
        let parts = config.parts(1000);
        // ResNet-18 with the stem for small images has 11,168,832 weights and 9,600 running statistics; its head 65,664.
        let net = 11_168_832 + 9_600 + 65_664;
        assert_eq!([parts[0].bytes, parts[1].bytes], [2 * net * 4, net * 4]);
        assert_eq!(parts[2].bytes, 4096 * 128 * 4);
        assert_eq!(parts[4].bytes, 2 * 64 * 4097 * 4);
        assert_eq!(parts[5].bytes, 64 * 2 * 3 * 224 * 224);
    }

    /// The limit of wgpu is on a tensor: the largest map counts, not the images alone.
    #[test]
    fn a_tensor_that_the_device_cannot_hold_is_named() {
        let mut info = device::open("cpu").unwrap().info;
        info.limits.push(("max_storage_buffer_binding_size".into(), 128 << 20));
        let small = ["views.crop.size=32", "method.memory.size=4096", "data.batch=256"];
        run(&small).check_memory(1000, &info).unwrap();
        let error = run(&[&small[..], &["views.crop.size=64"]].concat()).check_memory(1000, &info).unwrap_err();
        assert!(
            error.message().contains("the largest map of 256 images: 256 MiB") && error.hints()[0].contains("data.micro_batch"),
            "{error}"
        );
        run(&[&small[..], &["views.crop.size=64", "data.micro_batch=64"]].concat()).check_memory(1000, &info).unwrap();
        let error = run(&["method.memory.size=1048576"]).check_memory(1000, &info).unwrap_err();
        assert!(error.message().contains("1048576 rows of 128: 512 MiB"), "{error}");
    }
}
