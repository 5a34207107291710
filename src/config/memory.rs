//! What a run needs of the memory, before anything is made.

use super::RunConfig;
use crate::device::{DeviceInfo, memory};
use crate::error::{Error, Result};
use crate::method::Net;

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
        let (rows, dim) = (self.method.memory_rows(images) as u128, self.model.head.dim as u128);
        Part {
            what: format!("memories, {rows} rows of {dim}"),
            bytes: rows * dim * F32,
            hint: "use fewer images (`data.limit`), a smaller `method.memory.size` or `model.head.dim`",
        }
    }

    /// The scores of one forward against its negatives, once as they are and once as probabilities.
    fn scores(&self) -> Part {
        if let Some((side, count)) = self.method.squares(self.data.batch, self.model.head.dim) {
            return Part {
                what: format!("{count} squares of {side} x {side} of the loss"),
                bytes: count * side * side * F32,
                hint: "use a smaller `data.batch` (SimCLR) or `model.head.dim` (Barlow Twins): `data.micro_batch` does not help",
            };
        }
        let (queries, negatives) = (self.micro_batch(), self.method.negatives() as u128);
        Part {
            what: format!("scores of {queries} queries against {negatives} negatives, twice"),
            bytes: 2 * queries * (1 + negatives) * F32,
            hint: "use fewer negatives (`method.negatives`, `method.memory.size`) or a smaller `data.batch` or `data.micro_batch`",
        }
    }

    /// Images as bytes: one batch, without its partners.
    fn views_of_a_batch(&self) -> Part {
        let batch = self.data.batch as u128;
        let image: u128 = self.view_sizes().iter().map(|&(height, width)| 3 * height as u128 * width as u128).sum();
        Part {
            what: format!("views of {batch} images"),
            bytes: batch * image,
            hint: "use a smaller `data.batch`, smaller views (`views.crop.size`) or fewer of them (`views.crops`)",
        }
    }

    /// The forwards that a step certainly keeps for its backward pass, as a size of views and how many of an image go through together: with
    /// `views.crops` all views, those of a size together, since all of them predict; otherwise as many as the method trains on.
    pub fn forwards(&self) -> Vec<((usize, usize), usize)> {
        let sizes = self.view_sizes();
        if self.views.crops.is_none() {
            return vec![(sizes[0], self.method.trained_forwards(self.mixture.form()))];
        }
        let kept = &sizes[..];
        let mut forwards: Vec<((usize, usize), usize)> = Vec::new();
        for &size in kept {
            match forwards.iter_mut().find(|(known, _)| *known == size) {
                Some((_, views)) => *views += 1,
                None => forwards.push((size, 1)),
            }
        }
        forwards
    }

    /// The images of the forwards of [`RunConfig::forwards`] in words.
    fn images_of_forwards(&self) -> String {
        let views: usize = self.forwards().iter().map(|(_, views)| views).sum();
        let images = format!("{} images", self.micro_batch());
        if views == 1 { images } else { format!("{images}, {views} views of each") }
    }

    /// The largest `data.micro_batch` with which the run could fit by what is counted here, or the whole batch; `None` if not even the smallest
    /// does, or where no size is known.
    pub fn largest_micro_batch(&self, images: usize, device: &DeviceInfo) -> Option<usize> {
        let batch = self.data.batch;
        let with = |micro: usize| {
            let mut config = self.clone();
            config.data.micro_batch = (micro != batch).then_some(micro);
            config
        };
        let allowed = |micro: &usize| *micro == batch || with(*micro).validate().is_ok();
        let divisors = (1..=batch).rev().filter(|micro| batch.is_multiple_of(*micro)).filter(allowed);
        let mut fitting = divisors.filter(|micro| with(*micro).check_memory(images, device).is_ok());
        fitting.next()
    }

    /// Bytes of a checkpoint's tensors: weights, what the optimizer remembers, memories.
    pub fn checkpoint_bytes(&self, images: usize) -> u128 {
        self.parts(images)[..3].iter().map(|part| part.bytes).sum()
    }

    /// All that is there when a forward ends.
    pub fn parts(&self, images: usize) -> Vec<Part> {
        let nets = self.method.demands().nets;
        let forwards = self.forwards();
        let weights = |net: &Net| self.model.cost(net.channels.len(), forwards[0].0).weights;
        let kept = |net: &Net| -> u128 {
            forwards.iter().map(|&(size, views)| views as u128 * self.model.cost(net.channels.len(), size).kept).sum()
        };
        let beside = self.method.beside(self.model.head.dim);
        let all = nets.iter().map(weights).sum::<u128>() + beside;
        let trained = nets.iter().filter(|net| net.trained).map(weights).sum::<u128>() + beside;
        let kept: u128 = nets.iter().filter(|net| net.trained).map(kept).sum();
        let slots = self.optim.slots();
        let net = "use a smaller `model.width`, `model.stem_channels` or `model.head.dim`";
        vec![
            Part { what: format!("weights of {} nets", nets.len()), bytes: all * F32, hint: net },
            Part {
                what: format!("what the optimizer remembers, {slots} per weight"),
                bytes: slots as u128 * trained * F32,
                hint: net,
            },
            self.memories(images),
            Part {
                what: format!("what a forward of {} keeps for its backward pass, at least", self.images_of_forwards()),
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
        // Values of an image's largest map, and how many such maps are one tensor.
        let map = |net: &Net, (size, views): ((usize, usize), usize)| {
            (self.model.cost(net.channels.len(), size).largest_map * views as u128, views as u128)
        };
        let maps = nets.iter().flat_map(|net| self.forwards().into_iter().map(move |forward| map(net, forward)));
        let (largest, views) = maps.max().unwrap_or((0, 1));
        let (memories, scores) = (self.memories(images), self.scores());
        vec![
            Part { bytes: memories.bytes / trained.max(1), ..memories },
            Part {
                what: format!("the largest map of {} images", self.micro_batch() * views),
                bytes: self.micro_batch() * largest * F32,
                hint: "use a smaller `data.micro_batch` (or `data.batch`), `views.crop.size` or `model.width`",
            },
            Part {
                bytes: scores.bytes / self.method.squares(self.data.batch, self.model.head.dim).map_or(2, |(_, count)| count),
                ..scores
            },
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
        let adam = run(&["method.memory.size=4096", "data.batch=64", "model.head.dim=128", "optim.name=adam"]);
        assert_eq!(adam.parts(1000)[1].bytes, 2 * net * 4);
    }

    /// All crops are bytes of the batch and maps of the backward pass; those of a size are one tensor.
    #[test]
    fn crops_count_by_their_sizes() {
        let plain = run(&["method.memory.size=4096", "data.batch=64", "views.crop.size=64"]);
        let mut crops = plain.clone();
        // No method takes crops yet: the config is not checked.
        crops.views.crops = Some(serde_json::from_value(json!([{"count": 2}, {"count": 6, "size": 32}])).unwrap());
        assert_eq!(crops.forwards(), [((64, 64), 2), ((32, 32), 6)]);
        let (one, all) = (plain.parts(1000), crops.parts(1000));
        for same in [0, 1, 2, 4] {
            assert_eq!(one[same], all[same]);
        }
        assert_eq!(all[5].bytes, 64 * 3 * (2 * 64 * 64 + 6 * 32 * 32));
        let at = |size| plain.model.cost(3, (size, size));
        assert_eq!(one[3].bytes, 64 * 4 * at(64).kept);
        assert_eq!(all[3].bytes, 64 * 4 * (2 * at(64).kept + 6 * at(32).kept));
        assert!(all[3].what.contains("64 images, 8 views of each"), "{}", all[3].what);
        // Two maps of 64 x 64 are more than six of 32 x 32.
        let largest = &crops.tensors(1000)[1];
        assert_eq!(largest.bytes, 2 * plain.tensors(1000)[1].bytes);
        assert_eq!(largest.what, "the largest map of 128 images");
        crops.views.crops.as_mut().unwrap()[1].count = 9;
        assert_eq!(crops.tensors(1000)[1].bytes, 9 * 64 * 4 * at(32).largest_map);
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
