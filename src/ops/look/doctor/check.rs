//! One requirement of the host and its finding.

use serde::Serialize;

use crate::error::{Report, Result};

/// Free bytes below which there is a warning: about one base image and one build of it.
const LITTLE_SPACE: u64 = 5 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    Good,
    /// nixvm works, but not as well as it could.
    Warning,
    /// nixvm does not work.
    Fault,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub health: Health,
    pub finding: String,
    /// A command where there is one. The JSON keeps the field's first name.
    #[serde(rename = "mend")]
    pub fix: Option<String>,
}

impl Check {
    pub fn good(name: &'static str, finding: impl Into<String>) -> Self {
        Check { name, health: Health::Good, finding: finding.into(), fix: None }
    }

    pub fn warning(name: &'static str, finding: impl Into<String>, fix: impl Into<String>) -> Self {
        Check { name, health: Health::Warning, finding: finding.into(), fix: Some(fix.into()) }
    }

    pub fn fault(name: &'static str, finding: impl Into<String>, fix: impl Into<String>) -> Self {
        Check { name, health: Health::Fault, finding: finding.into(), fix: Some(fix.into()) }
    }

    /// Returns a fault whose fix is the error's first hint.
    pub fn failed(name: &'static str, error: &anyhow::Error) -> Self {
        let fix = Report::of(error).hints.into_iter().next();
        Check { name, health: Health::Fault, finding: format!("{error:#}"), fix }
    }

    pub fn space(name: &'static str, free: u64, finding: String, fix: &str) -> Self {
        if free < LITTLE_SPACE { Check::warning(name, finding, fix) } else { Check::good(name, finding) }
    }

    pub fn of<T>(name: &'static str, result: Result<T>, check: impl FnOnce(T) -> Check) -> Self {
        result.map_or_else(|error| Check::failed(name, &error), check)
    }
}
