//! A few steps of a run, measured: nothing is written.

use std::sync::Arc;
use std::time::Instant;

use super::jobs::{Length, jobs};
use super::open::upload;
use super::step::compute;
use super::summary::peak_rss_mib;
use crate::config::RunConfig;
use crate::data::{Loader, Source};
use crate::device::Opened;
use crate::error::{Error, Result};
use crate::kernel::Op;
use crate::optim::Optimizer;

/// What the steps took.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Seconds of the first step, which prepares kernels.
    pub first_s: f64,
    /// Median of the later ones, their wait for images included.
    pub step_s: f64,
    /// The share of the later ones that was spent waiting for images.
    pub data_wait: f64,
    /// Memory of the device where it tells, otherwise of the process.
    pub peak_mib: Option<f64>,
}

/// Makes the first `steps` steps, two at least, of a resolved config.
///
/// # Errors
/// What stops a run: a failing loader or device, a loss that is not finite.
pub fn trial(config: &RunConfig, train: &Arc<dyn Source>, device: &Opened, steps: usize) -> Result<Trial> {
    let length = Length::of(config, train.len())?;
    let upload = upload(config, device);
    upload.check(config.data.batch)?;
    let mut method = config.method.init(&length.setup(config, device, train.len()));
    let path = device.info.kernels.path(Op::Update);
    let mut optimizer = Optimizer::new(config.optim.clone()).on_path(path);
    let steps = steps.max(2).min(usize::try_from(length.steps).unwrap_or(usize::MAX));
    let wanted = jobs(config, train.len(), length, 0).take(steps);
    let mut loader = Loader::start(train.clone(), Arc::new(config.view_recipes()), config.data.loader_options(), wanted);
    let free = &mut |_: &'static str| Ok(());
    let (mut seconds, mut waited) = (Vec::new(), Vec::new());
    for step in 0..steps {
        let (start, before) = (Instant::now(), loader.waited());
        let batch = loader.next().ok_or_else(|| Error::run("the loader gave no batch"))??;
        let rates = config.schedule.rates(&config.optim, step as u64, length.per_epoch, length.steps);
        let computed = compute(method.as_mut(), upload.inputs(&batch), config.shards(), free)?;
        let read = computed.read(path)?;
        read.refuse_non_finite(step as u64 + 1)?;
        computed.apply(method.as_mut(), &mut optimizer, rates, config.optim.clip(read.gradient_norm), free)?;
        device.device.sync().map_err(|e| Error::run(format!("the device failed: {e:?}")))?;
        loader.recycle(batch.views);
        seconds.push(start.elapsed().as_secs_f64());
        waited.push((loader.waited() - before).as_secs_f64());
    }
    let first_s = seconds[0];
    let later = if steps > 1 { &seconds[1..] } else { &seconds[..] };
    let all: f64 = later.iter().sum();
    let data_wait = waited[seconds.len() - later.len()..].iter().sum::<f64>() / all;
    let mut sorted = later.to_vec();
    sorted.sort_by(f64::total_cmp);
    Ok(Trial { first_s, step_s: sorted[sorted.len() / 2], data_wait, peak_mib: peak_mib(device) })
}

/// Memory of the device where it tells, otherwise of the process, in MiB.
pub fn peak_mib(device: &Opened) -> Option<f64> {
    if device.info.on_host() {
        peak_rss_mib()
    } else {
        device.device.memory_pool_usage().map(|usage| usage.bytes_reserved as f64 / f64::from(1 << 20))
    }
}
