//! The parameters of a path, checked before anything uses them.

use super::failure::Failure;
use crate::model::plugin_name::PluginName;

/// The `{name}` of a path.
pub(super) fn plugin(text: &str) -> Result<PluginName, Failure> {
    PluginName::parse(text).map_err(|error| Failure::parameter("name", &error.to_string()))
}

/// A parameter that Postgres is asked for. It cannot store NUL.
pub(super) fn text(name: &str, value: String) -> Result<String, Failure> {
    match value.contains('\0') {
        true => Err(Failure::parameter(name, "must not contain the character NUL")),
        false => Ok(value),
    }
}
