//! Named tensors of a module: the state dict, and the traversals that need names.

use std::collections::{BTreeMap, VecDeque};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};

use super::tensors::{SANE, first_bad};
use crate::error::{Error, Result};

/// Tensors by torchvision's names (`layer1.0.conv1.weight`), f32, in PyTorch's layout.
pub type StateDict = BTreeMap<String, TensorData>;

/// What a parameter is for. It is known from the layer that holds it and from its rank, never from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Of a convolution or a linear layer.
    Weight,
    /// Of a linear layer: whatever has one axis.
    Bias,
    /// Scale (gamma) of a norm.
    Scale,
    /// Shift (beta) of a norm.
    Shift,
}

/// A parameter that a traversal stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// Its name in the state dict.
    pub name: &'a str,
    /// What it is for.
    pub role: Role,
}

/// The place of a traversal in a module. Enum variants and the encoder's `backbone` leave no trace in the dotted name.
#[derive(Debug, Default)]
pub struct Path(Vec<(Option<String>, bool)>);

impl Path {
    /// To be called from `enter_module`.
    pub fn enter(&mut self, name: &str, container: &str) {
        let hidden = container.starts_with("Enum:") || name == "backbone";
        self.0.push(((!hidden).then(|| name.to_owned()), container == "Struct:BatchNorm"));
    }

    /// To be called from `exit_module`.
    pub fn exit(&mut self) {
        self.0.pop();
    }

    /// `a.b.c`.
    pub fn name(&self) -> String {
        self.0.iter().filter_map(|(name, _)| name.clone()).collect::<Vec<_>>().join(".")
    }

    /// What the parameter here is for, `rank` being its number of axes.
    pub fn role(&self, rank: usize) -> Role {
        match self.0.last() {
            Some((Some(name), true)) if name == "weight" => Role::Scale,
            Some((_, true)) => Role::Shift,
            _ if rank <= 1 => Role::Bias,
            _ => Role::Weight,
        }
    }
}

/// True for the running statistics: saved, but neither trained nor averaged.
pub fn is_buffer(name: &str) -> bool {
    name.ends_with("running_mean") || name.ends_with("running_var")
}

/// The values of a tensor as they are now. Those of CubeCL's devices are read when their bytes are first looked at, by which time an update may
/// have changed them in their memory: here they are looked at.
pub fn now<const D: usize>(tensor: Tensor<D>) -> TensorData {
    let data = tensor.into_data();
    // A device that fails is heard where the values are used.
    let _ = data.as_slice::<f32>();
    data
}

struct Collect {
    path: Path,
    found: StateDict,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.insert(self.path.name(), now(param.val().inner()));
    }
}

/// All parameters and buffers of a module.
pub fn collect<M: Module>(module: &M) -> StateDict {
    let mut collect = Collect { path: Path::default(), found: StateDict::new() };
    module.visit(&mut collect);
    collect.found
}

/// Number of trained values: all but the running statistics.
pub fn parameters<M: Module>(module: &M) -> u64 {
    collect(module).iter().filter(|(name, _)| !is_buffer(name)).map(|(_, data)| data.num_elements() as u64).sum()
}

/// Applies `edit` to every parameter and buffer. Values arrive and return without autodiff; what required a gradient requires it again
/// afterwards.
pub fn map_values<M: Module>(module: M, edit: &mut dyn FnMut(Parameter, AnyTensor) -> AnyTensor) -> M {
    struct Map<'a> {
        path: Path,
        edit: &'a mut dyn FnMut(Parameter, AnyTensor) -> AnyTensor,
    }
    impl ModuleMapper for Map<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, value, mapper) = param.consume();
            let (tracked, on_graph) = (value.is_require_grad(), value.is_autodiff());
            let dims = value.dims();
            let (name, role) = (self.path.name(), self.path.role(D));
            let next = (self.edit)(Parameter { name: &name, role }, AnyTensor::new(value.inner())).shaped(dims);
            let next = if on_graph { next.autodiff().set_require_grad(tracked) } else { next };
            Param::from_mapped_value(id, next, mapper)
        }
    }
    module.map(&mut Map { path: Path::default(), edit })
}

/// A parameter or buffer that was taken out of its module.
#[derive(Debug)]
pub struct Taken {
    /// Its name in the state dict.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its value, without autodiff.
    pub value: AnyTensor,
}

/// Replaces the values of all parameters and buffers by those of `edit`, in their order; what required a gradient requires it again afterwards.
/// Here nobody else holds the values meanwhile, not even the module: whatever changes them may do so in their memory.
pub fn edit_values<M: Module>(module: &mut M, edit: &mut dyn FnMut(Vec<Taken>) -> Vec<AnyTensor>) {
    /// How a value lies in its module.
    struct Place {
        dims: Vec<usize>,
        tracked: bool,
        on_graph: bool,
    }
    /// Hands the values out and leaves something small in their place.
    #[derive(Default)]
    struct Take {
        path: Path,
        taken: Vec<Taken>,
        places: VecDeque<Place>,
        /// One for all: it is made on the device.
        small: Option<Tensor<1>>,
    }
    /// Puts values back, changed.
    struct Put {
        places: VecDeque<Place>,
        values: VecDeque<AnyTensor>,
    }

    impl ModuleMapper for Take {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, value, mapper) = param.consume();
            self.places.push_back(Place {
                dims: value.dims().to_vec(),
                tracked: value.is_require_grad(),
                on_graph: value.is_autodiff(),
            });
            let value = AnyTensor::new(value.inner());
            let small = self.small.get_or_insert_with(|| Tensor::zeros([1], &value.0.device())).clone().reshape([1; D]);
            self.taken.push(Taken { name: self.path.name(), role: self.path.role(D), value });
            Param::from_mapped_value(id, small, mapper)
        }
    }
    impl ModuleMapper for Put {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, _, mapper) = param.consume();
            let next = self.places.pop_front().zip(self.values.pop_front());
            let (Place { dims, tracked, on_graph }, next) = next.expect("one value goes back per parameter");
            let next = next.shaped::<D>(dims.try_into().expect("the rank of a parameter stays"));
            let next = if on_graph { next.autodiff().set_require_grad(tracked) } else { next };
            Param::from_mapped_value(id, next, mapper)
        }
    }
    let mut take = Take::default();
    *module = module.clone().map(&mut take);
    let Take { taken, places, .. } = take;
    let values = edit(taken).into();
    *module = module.clone().map(&mut Put { places, values });
}

/// [`edit_values`] of the parameters alone.
pub fn edit_parameters<M: Module>(module: &mut M, edit: &mut dyn FnMut(Vec<Taken>) -> Vec<AnyTensor>) {
    edit_values(module, &mut |all| {
        let (mut buffers, mut parameters, mut order) = (VecDeque::new(), Vec::new(), Vec::new());
        for one in all {
            order.push(is_buffer(&one.name));
            if is_buffer(&one.name) { buffers.push_back(one.value) } else { parameters.push(one) }
        }
        let mut parameters: VecDeque<AnyTensor> = edit(parameters).into();
        let next = |is_buffer: bool| if is_buffer { buffers.pop_front() } else { parameters.pop_front() };
        order.into_iter().map(next).map(|value| value.expect("one value goes back per parameter")).collect()
    });
}

/// A tensor of any rank, kept flat: lets one closure handle all parameters.
#[derive(Debug, Clone)]
pub struct AnyTensor(pub Tensor<1>);

impl AnyTensor {
    /// Flattens (a view).
    pub fn new<const D: usize>(tensor: Tensor<D>) -> Self {
        let n = tensor.dims().iter().product::<usize>();
        Self(tensor.reshape([n]))
    }

    /// From saved values of any shape, f32.
    pub fn from_data(data: &TensorData, device: &Device) -> Self {
        let values = data.try_to_vec::<f32>().expect("a state dict holds f32 tensors");
        let n = values.len();
        Self(Tensor::from_data(TensorData::new(values, [n]), device))
    }

    /// Back to a shape (a view).
    pub fn shaped<const D: usize>(self, dims: [usize; D]) -> Tensor<D> {
        self.0.reshape(dims)
    }
}

/// The gradient of every parameter that has one, flat, by name.
pub type NamedGradients = BTreeMap<String, Tensor<1>>;

/// What a step trains, seen as parameters with names: any module is.
pub trait Trained {
    /// The gradients of a backward pass through these very weights.
    fn gradients(&self, gradients: &Gradients) -> NamedGradients;

    /// The number of values of every parameter, by name.
    fn sizes(&self) -> BTreeMap<String, usize>;

    /// Replaces the values of all parameters by those of `edit`, in their order; buffers stay as they are.
    fn edit(&mut self, edit: &mut dyn FnMut(Vec<Taken>) -> Vec<AnyTensor>);
}

impl<M: Module> Trained for M {
    fn gradients(&self, gradients: &Gradients) -> NamedGradients {
        struct Visit<'a> {
            path: Path,
            gradients: &'a Gradients,
            found: NamedGradients,
        }
        impl ModuleVisitor for Visit<'_> {
            fn enter_module(&mut self, name: &str, container: &str) {
                self.path.enter(name, container);
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.exit();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let name = self.path.name();
                if is_buffer(&name) {
                    return;
                }
                if let Some(gradient) = param.val().grad(self.gradients) {
                    self.found.insert(name, AnyTensor::new(gradient).0);
                }
            }
        }
        let mut visit = Visit { path: Path::default(), gradients, found: NamedGradients::new() };
        self.visit(&mut visit);
        visit.found
    }

    fn sizes(&self) -> BTreeMap<String, usize> {
        struct Visit(Path, BTreeMap<String, usize>);
        impl ModuleVisitor for Visit {
            fn enter_module(&mut self, name: &str, container: &str) {
                self.0.enter(name, container);
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.0.exit();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.1.insert(self.0.name(), param.dims().iter().product());
            }
        }
        let mut visit = Visit(Path::default(), BTreeMap::new());
        self.visit(&mut visit);
        visit.1.retain(|name, _| !is_buffer(name));
        visit.1
    }

    fn edit(&mut self, edit: &mut dyn FnMut(Vec<Taken>) -> Vec<AnyTensor>) {
        edit_parameters(self, edit);
    }
}

/// A saved tensor `name` holds `what`, which no net can be run with.
pub fn spoilt(name: &str, what: &str) -> Error {
    Error::input(format!("the saved tensor `{name}` cannot be used: {what}"))
        .hint("the run that wrote it has diverged, or the file is damaged: use an earlier checkpoint, or train anew with a lower optim.lr")
}

/// Puts the values of a state dict into a module of the same names and shapes.
///
/// # Errors
/// Lists every missing, unexpected and differently shaped tensor, and names one that holds values which are not finite; the module is
/// returned only if all fit.
pub fn load<M: Module>(module: M, state: &StateDict) -> Result<M> {
    let own = collect(&module);
    let mut problems = Vec::new();
    for (name, value) in &own {
        match state.get(name) {
            None => problems.push(format!("missing: {name} {:?}", value.shape().to_vec())),
            Some(got) if got.shape() != value.shape() => {
                let [got, want] = [got, value].map(|data| data.shape().to_vec());
                problems.push(format!("shape of {name}: the file has {got:?}, the model {want:?}"));
            }
            Some(_) => {}
        }
    }
    problems.extend(state.keys().filter(|name| !own.contains_key(*name)).map(|name| format!("not in the model: {name}")));
    if !problems.is_empty() {
        let mut error = Error::input("the weights do not fit the model");
        let more = problems.len().saturating_sub(10);
        for problem in problems.into_iter().take(10) {
            error = error.detail(problem);
        }
        if more > 0 {
            error = error.detail(format!("... and {more} more"));
        }
        return Err(error.hint("`model.name`, `model.width` and `model.head` must be those the weights were trained with"));
    }
    if let Some((name, what)) = first_bad(state, SANE) {
        return Err(spoilt(&name, &what));
    }
    Ok(map_values(module, &mut |parameter, old| AnyTensor::from_data(&state[parameter.name], &old.0.device())))
}

/// A copy of the module that lives on `device` and outside any graph: for evaluation, or as key encoder.
pub fn without_graph<M: Module>(module: M) -> M {
    struct Inner;
    impl ModuleMapper for Inner {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, value, mapper) = param.consume();
            Param::from_mapped_value(id, value.inner(), mapper)
        }
    }
    module.map(&mut Inner)
}

/// The module with its parameters (not its buffers) on the graph, ready for a backward pass.
pub fn with_graph<M: Module>(module: M) -> M {
    struct Track(Path);
    impl ModuleMapper for Track {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, value, mapper) = param.consume();
            let value = value.inner();
            let value = if is_buffer(&self.0.name()) { value } else { value.autodiff().require_grad() };
            Param::from_mapped_value(id, value, mapper)
        }
    }
    module.map(&mut Track(Path::default()))
}

/// Moves a module to a device, without a graph.
pub fn to_device<M: Module>(module: M, device: &Device) -> M {
    without_graph(module).to_device(device)
}
