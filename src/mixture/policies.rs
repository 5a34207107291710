//! The policies that a configuration can name.

use super::config::{MixtureConfig, Name};
use super::holes::{Cutout, Erase};
use super::imix::Imix;
use super::inputmix::InputMix;
use super::mixco::Mixco;
use super::mixed_barlow::MixedBarlow;
use super::policy::{Context, Planned, Policy};
use super::unmix::Unmix;
use super::v1::V1;

/// The policy that a configuration names.
pub fn policy(config: &MixtureConfig) -> Box<dyn Policy> {
    match config.name {
        Name::None => Box::new(Clean),
        Name::Im => Box::new(V1::new(config, true, true)),
        Name::Global => Box::new(V1::new(config, true, false)),
        Name::Region => Box::new(V1::new(config, false, true)),
        Name::Cutout => Box::new(Cutout::new(config)),
        Name::Erase => Box::new(Erase::new(config)),
        Name::Inputmix => Box::new(InputMix::new(config)),
        Name::Unmix => Box::new(Unmix::new(config)),
        Name::Imix => Box::new(Imix::new(config)),
        Name::Mixco => Box::new(Mixco),
        Name::MixedBarlow => Box::new(MixedBarlow),
    }
}

/// Mixes nothing.
struct Clean;

impl Policy for Clean {
    fn plan(&self, _: &Context, _: &[u32]) -> Planned {
        Planned::default()
    }
}
