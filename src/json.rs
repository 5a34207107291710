//! What JSON cannot say by itself.

use serde::{Deserialize, Deserializer};

/// Reads back a float: JSON has no NaN and no infinity, so both were written as `null`.
pub(crate) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}
