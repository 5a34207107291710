//! Stem `norm`: batch norm and SplitBN, with gradients and running statistics.

use std::path::Path;

use crate::kernel::update::fastest;
use crate::model::norm::absorb;
use crate::model::{BatchNorm, Pass};
use burn::module::Param;
use burn::tensor::{Device, Tensor};

use crate::check::Tally;
use crate::check::common::Sheet;

/// All cases.
pub fn check(dir: &Path, device: &Device, tally: &mut Tally) {
    let sheet = Sheet::read(dir, "norm");
    for case in sheet.cases() {
        tally.case(case.name(), || {
            let tracked = |key: &str| case.input::<1>(key, device).autodiff().require_grad();
            let x = case.input::<4>("x", device).autodiff().require_grad();
            let (gamma, beta) = (tracked("gamma"), tracked("beta"));
            let mut norm = BatchNorm::new(gamma.dims()[0], case.number("splits") as usize, device);
            norm.weight = Param::from_tensor(gamma.clone());
            norm.bias = Param::from_tensor(beta.clone());
            norm.running_mean = Param::from_tensor(case.input("running_mean", device)).set_require_grad(false);
            norm.running_var = Param::from_tensor(case.input("running_var", device)).set_require_grad(false);

            let eval = |norm: &BatchNorm| norm.forward(case.input::<4>("x", device), &mut Pass::Eval);
            case.check_tensor("y_eval_before", eval(&norm));
            let mut pass = Pass::train();
            let y = norm.forward(x.clone(), &mut pass);
            case.check_tensor("y", y.clone());
            // A forward must not touch the module; only absorbing does.
            case.check_tensor("y_eval_before", eval(&norm));
            absorb(vec![norm.running()], &pass.into_stats(), fastest(device));
            case.check_tensor("running_mean_after", norm.running_mean.val());
            case.check_tensor("running_var_after", norm.running_var.val());
            case.check_tensor("y_eval_after", eval(&norm));

            let gradients = (y * case.input::<4>("grad_y", device)).sum().backward();
            let (weight, bias) = (norm.weight.val(), norm.bias.val());
            case.check_tensor("grad_x", x.grad(&gradients).unwrap());
            let gradient = |t: &Tensor<1>| t.grad(&gradients).unwrap();
            case.check_tensor("grad_gamma", gradient(&weight));
            case.check_tensor("grad_beta", gradient(&bias));
            assert_eq!(case.expected().len(), 8, "{}: a result is not compared", case.name());
        });
    }
}
