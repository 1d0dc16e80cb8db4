//! What was typed: names, values and limits of time.

use std::num::ParseIntError;
use std::time::Duration;

use crate::error::{Failure, Result};
use crate::model::MachineName;

#[derive(Debug, clap::Args)]
pub struct Name {
    /// Name of the machine
    pub name: String,
}

// No doc comments on flattened arguments: clap would show them as the verb's description.
#[derive(Debug, clap::Args)]
pub struct Shutdown {
    /// Wait at most SECONDS for the guest to shut down
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub timeout: Duration,
}

pub fn seconds(text: &str) -> Result<Duration, ParseIntError> {
    text.parse().map(Duration::from_secs)
}

pub fn machine_name(text: &str) -> Result<MachineName> {
    typed(text.parse())
}

/// Returns a value that was typed. If it is not valid, the error is one of usage.
pub fn typed<T>(parsed: Result<T, Failure>) -> Result<T> {
    parsed.map_err(|failure| failure.typed().into())
}

/// Returns the value that was typed by position or by flag.
pub fn given<'a>(position: &'a Option<String>, flag: &'a Option<String>) -> Option<&'a str> {
    position.as_deref().or(flag.as_deref())
}

/// Returns a value that may have been typed.
pub fn optional<T>(text: Option<&str>, parse: impl FnOnce(&str) -> Result<T, Failure>) -> Result<Option<T>> {
    text.map(|text| typed(parse(text))).transpose()
}

/// Returns the name of a machine and another one for it or for its copy.
pub fn two_names(name: &str, new: &str) -> Result<(MachineName, MachineName)> {
    let (name, new) = (machine_name(name)?, machine_name(new)?);
    if name == new {
        return Err(Failure::usage(format!("both names are `{name}`"))
            .hint("give the machine's name, and a name that no machine has")
            .into());
    }
    Ok((name, new))
}
