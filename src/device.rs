//! From a device's name to a device, with what it can do, and which kernel path it takes and why.

pub mod memory;

use burn::tensor::Device;
use serde::Serialize;

use crate::error::{Error, Result, nearest};
use crate::kernel::choice::CPU_COMPILER;
use crate::kernel::inputs::Target;
use crate::kernel::{Kernels, KernelsConfig, Op};

/// The names `--device` takes; `cuda:1` and the like choose a card.
pub const NAMES: [&str; 5] = ["auto", "cpu", "wgpu", "wgpu-cpu", "cuda"];

/// An open device.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The device, without autodiff.
    pub device: Device,
    /// What is known about it; stored in the run.
    pub info: DeviceInfo,
}

impl Opened {
    /// With the default kernel paths.
    fn new(device: Device, name: String, description: String, compiler: String, limits: Vec<(String, u64)>) -> Result<Self> {
        let kernels = Kernels::choose(&KernelsConfig::default(), &compiler)?;
        Ok(Self { device, info: DeviceInfo { name, description, driver: None, compiler, kernels, limits } })
    }

    /// With the version of its driver.
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    fn driven_by(mut self, driver: Option<String>) -> Self {
        self.info.driver = driver.filter(|driver| !driver.trim().is_empty());
        self
    }

    /// Where and how images are made and mixed.
    pub fn target(&self) -> Target {
        let (kernels, largest_tensor) = (&self.info.kernels, self.info.largest_tensor());
        Target { device: self.device.clone(), mix: kernels.path(Op::Mix), ingest: kernels.path(Op::Ingest), largest_tensor }
    }

    /// The same device with the kernel paths that a config asks for.
    ///
    /// # Errors
    /// A path that cannot run on the device.
    pub fn with_kernels(mut self, wanted: &KernelsConfig) -> Result<Self> {
        self.info.kernels = Kernels::choose(wanted, &self.info.compiler)?;
        Ok(self)
    }
}

/// What is known about a device, for `unmix devices` and for the run's `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceInfo {
    /// The name to ask for it by.
    pub name: String,
    /// The part, its driver.
    pub description: String,
    /// Name and version of its driver, where the system tells.
    pub driver: Option<String>,
    /// Burn's backend and the compiler of its kernels.
    pub compiler: String,
    /// The paths our kernels take here, and why.
    pub kernels: Kernels,
    /// Limits that matter to us, for example the largest buffer, in bytes.
    pub limits: Vec<(String, u64)>,
}

impl DeviceInfo {
    /// True where tensors live in host memory anyway.
    pub fn on_host(&self) -> bool {
        self.name == "cpu"
    }

    /// Bytes of the memory that tensors live in, where the system tells: that of the host, which a software adapter uses, too.
    pub fn memory(&self) -> Option<u64> {
        if self.on_host() || self.name == SOFTWARE { memory::host() } else { None }
    }

    /// The largest tensor that the device can hold, in bytes; `None` where only its memory limits it.
    pub fn largest_tensor(&self) -> Option<u64> {
        self.limits.iter().find(|(name, _)| name == LARGEST_BINDING).map(|(_, bytes)| *bytes)
    }
}

/// The name of wgpu's adapter that runs on the CPU.
const SOFTWARE: &str = "wgpu-cpu";

/// The limit of wgpu that caps a tensor.
const LARGEST_BINDING: &str = "max_storage_buffer_binding_size";

/// A device that cannot be used, and what is missing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unusable {
    /// The name to ask for it by.
    pub name: String,
    /// What is missing.
    pub reason: String,
}

/// Opens a device by name.
///
/// # Errors
/// An unknown name, a backend that is not part of this build, no adapter or driver.
pub fn open(name: &str) -> Result<Opened> {
    match name {
        "auto" => open_first(),
        "cpu" => open_flex(),
        "wgpu" => open_wgpu(false),
        "wgpu-cpu" => open_wgpu(true),
        _ => match name.strip_prefix("cuda") {
            Some("") => open_cuda(0),
            Some(index) => match index.strip_prefix(':').and_then(|i| i.parse().ok()) {
                Some(index) => open_cuda(index),
                None => Err(unknown(name)),
            },
            None => Err(unknown(name)),
        },
    }
}

/// Everything this build can use here, and what it cannot and why.
pub fn survey() -> (Vec<DeviceInfo>, Vec<Unusable>) {
    let (mut usable, mut unusable) = (Vec::new(), Vec::new());
    for name in &NAMES[1..] {
        match open(name) {
            Ok(opened) => usable.push(opened.info),
            Err(error) => unusable.push(Unusable { name: (*name).to_owned(), reason: error.to_string() }),
        }
    }
    (usable, unusable)
}

fn unknown(name: &str) -> Error {
    Error::input(format!("there is no device `{name}`")).hint(nearest(name, NAMES))
}

/// The first device of a list that opens; its description says why those before it did not.
fn first_of(devices: &[(&str, &dyn Fn() -> Result<Opened>)]) -> Result<Opened> {
    let mut passed_over = Vec::new();
    for (name, open) in devices {
        match open() {
            Ok(mut opened) => {
                if !passed_over.is_empty() {
                    opened.info.description += &format!("; auto passed over {}", passed_over.join(", "));
                }
                return Ok(opened);
            }
            Err(error) => passed_over.push(format!("{name} ({})", error.message())),
        }
    }
    Err(Error::input(format!("there is no device: {}", passed_over.join(", ")))
        .hint("`unmix devices` says what each of them needs"))
}

/// CUDA, then a real GPU through wgpu, then the CPU.
fn open_first() -> Result<Opened> {
    first_of(&[("cuda", &|| open_cuda(0)), ("wgpu", &|| open_wgpu(false)), ("cpu", &open_flex)])
}

#[cfg(feature = "flex")]
fn open_flex() -> Result<Opened> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let description = format!("{} with {threads} threads", std::env::consts::ARCH);
    let limits = vec![("threads".into(), threads as u64)];
    Opened::new(Device::flex(), "cpu".into(), description, CPU_COMPILER.into(), limits)
}

#[cfg(not(feature = "flex"))]
fn open_flex() -> Result<Opened> {
    Err(Error::input("this build has no CPU backend").hint("build with `--features flex`"))
}

#[cfg(feature = "cuda")]
fn open_cuda(index: usize) -> Result<Opened> {
    use burn::tensor::DeviceType;
    if !driver_present() {
        return Err(Error::input("no CUDA device: the NVIDIA driver (libcuda) is not installed")
            .hint("install the driver, or use --device wgpu or --device cpu"));
    }
    let count = Device::enumerate(DeviceType::Cuda).into_vec().len();
    if index >= count {
        return Err(Error::input(format!("there is no CUDA device {index}: the driver shows {count}"))
            .hint("`unmix devices` lists what can be used"));
    }
    if !libdevice_present() {
        return Err(Error::input("CUDA's libdevice.10.bc was not found; kernels with exp, log or tanh would fail")
            .hint("set CUDA_PATH to a CUDA toolkit (it holds nvvm/libdevice/libdevice.10.bc)"));
    }
    let device = Device::cuda(index);
    let name = if index == 0 { "cuda".to_owned() } else { format!("cuda:{index}") };
    let description = device.identity().map_or_else(|| "NVIDIA GPU".to_owned(), |identity| identity.name);
    let compiler = compiler_of(&device);
    Ok(Opened::new(device, name, description, compiler, Vec::new())?.driven_by(nvidia_driver()))
}

/// The first line of what the kernel module says of itself (Linux).
#[cfg(feature = "cuda")]
fn nvidia_driver() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    text.lines().next().map(|line| line.trim_start_matches("NVRM version:").trim().to_owned())
}

#[cfg(feature = "cuda")]
fn driver_present() -> bool {
    let names = if cfg!(windows) { vec!["nvcuda.dll"] } else { vec!["libcuda.so.1", "libcuda.so"] };
    // SAFETY: loading the driver library runs its initialisers only; nothing of it is called here.
    names.into_iter().any(|name| unsafe { libloading::Library::new(name) }.is_ok())
}

/// The places that are searched for it when a kernel is compiled: `CUDA_PATH` alone if it is set.
#[cfg(feature = "cuda")]
fn libdevice_present() -> bool {
    let roots = match std::env::var_os("CUDA_PATH") {
        Some(path) => vec![std::path::PathBuf::from(path)],
        None => ["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda", "/usr"].map(Into::into).to_vec(),
    };
    roots.iter().any(|root| root.join("nvvm/libdevice/libdevice.10.bc").exists())
}

#[cfg(not(feature = "cuda"))]
fn open_cuda(_: usize) -> Result<Opened> {
    Err(Error::input("this build has no CUDA backend")
        .hint("build with `--features cuda` (README, section CUDA), or use --device wgpu or --device cpu"))
}

#[cfg(feature = "wgpu")]
fn open_wgpu(software: bool) -> Result<Opened> {
    use burn::tensor::DeviceKind;
    use burn_wgpu::wgpu;

    let name = if software { SOFTWARE } else { "wgpu" };
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    let of_kind = |a: &wgpu::Adapter| (a.get_info().device_type == wgpu::DeviceType::Cpu) == software;
    let adapters: Vec<wgpu::Adapter> = adapters.into_iter().filter(of_kind).collect();
    let Some(first) = adapters.first() else {
        return Err(if software {
            Error::input("no software adapter: wgpu found no Vulkan driver that runs on the CPU")
                .hint("install one (Debian: mesa-vulkan-drivers) and set XDG_RUNTIME_DIR")
        } else {
            Error::input("no GPU: wgpu found no Vulkan, Metal or DX12 adapter")
                .hint("install the GPU's Vulkan driver, or use --device cpu; --device wgpu-cpu uses software Vulkan")
        });
    };
    let kind = if software { DeviceKind::Cpu } else { DeviceKind::DefaultDevice };
    let device = pollster::block_on(Device::wgpu_options().device_kind(kind.clone()).init_async())
        .or_else(|error| reopened(kind, &error))
        .map_err(|error| {
            Error::input(format!("the adapter `{}` cannot be used: {error}", first.get_info().name))
                .hint("update its driver, or use --device cpu")
        })?;
    // Of several adapters it is Burn that chooses; the one that is described, and whose limits hold, is the one that it chose.
    let used = device.identity().map(|identity| identity.name);
    let chosen = adapters.iter().find(|adapter| used.as_ref() == Some(&adapter.get_info().name));
    let Some(adapter) = chosen.or(used.is_none().then_some(first)) else {
        let used = used.unwrap_or_default();
        return Err(Error::input(format!("--device {name} opened `{used}`, which is not such an adapter"))
            .hint("unset CUBECL_WGPU_DEFAULT_DEVICE, or choose the device that it names"));
    };
    let (about, limits) = (adapter.get_info(), adapter.limits());
    let compiler = compiler_of(&device);
    let description = format!("{} ({:?}, {} {})", about.name, about.backend, about.driver, about.driver_info);
    let limits = vec![
        (LARGEST_BINDING.into(), limits.max_storage_buffer_binding_size.min(limits.max_buffer_size)),
        ("max_buffer_size".into(), limits.max_buffer_size),
        ("max_storage_buffers_per_shader_stage".into(), limits.max_storage_buffers_per_shader_stage.into()),
        ("max_compute_workgroups_per_dimension".into(), limits.max_compute_workgroups_per_dimension.into()),
    ];
    let driver = format!("{} {}", about.driver, about.driver_info);
    Ok(Opened::new(device, name.into(), description, compiler, limits)?.driven_by(Some(driver)))
}

/// A second start of the same adapter in one process is refused; the first one's device serves then.
#[cfg(feature = "wgpu")]
fn reopened(
    kind: burn::tensor::DeviceKind,
    error: &burn_wgpu::WgpuInitError,
) -> std::result::Result<Device, burn_wgpu::WgpuInitError> {
    match error {
        burn_wgpu::WgpuInitError::Registration { .. } => Ok(Device::wgpu(kind)),
        other => Err(burn_wgpu::WgpuInitError::RequestDevice { message: other.to_string() }),
    }
}

#[cfg(not(feature = "wgpu"))]
fn open_wgpu(_: bool) -> Result<Opened> {
    Err(Error::input("this build has no wgpu backend").hint("build with `--features wgpu`"))
}

/// The compiler of a CubeCL device: `wgpu<wgsl>`, `wgpu<spirv>`, `wgpu<msl>`, a CUDA name.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn compiler_of(device: &Device) -> String {
    match device.as_dispatch() {
        burn::backend::DispatchDevice::Cube(cube) => cube.client().name().to_owned(),
        _ => "unknown".to_owned(),
    }
}

/// The CPU, for unit tests.
#[cfg(test)]
pub fn test_device() -> Device {
    open("cpu").expect("tests run with the feature flex").device
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_says_why_faster_devices_were_passed_over() {
        let missing = || Err(Error::input("no driver").hint("install it"));
        let opened = first_of(&[("cuda", &missing), ("cpu", &open_flex)]).unwrap();
        assert!(opened.info.name == "cpu" && opened.info.description.ends_with("; auto passed over cuda (no driver)"));
        assert!(!first_of(&[("cpu", &open_flex), ("cuda", &missing)]).unwrap().info.description.contains("passed over"));
        assert!(first_of(&[("cuda", &missing)]).unwrap_err().message().contains("cuda (no driver)"));
    }
}
