//! What one check of the host found.

use serde::Serialize;

use crate::error::{Report, Result};

/// Bytes below which a host's free space is worth a warning: about one base image and one build of it.
pub const LITTLE_SPACE: u64 = 5 << 30;

/// How one requirement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// As it must be.
    Good,
    /// nixvm works, but not as well as it could.
    Warning,
    /// nixvm does not work until this is fixed.
    Fault,
}

/// One requirement and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is required.
    pub name: &'static str,
    /// How it stands.
    pub health: Health,
    /// What was found.
    pub finding: String,
    /// What fixes it: a command where there is one.
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

    /// Returns the check of a result that already says in its error what to do.
    pub fn of<T>(name: &'static str, result: Result<T>, good: impl FnOnce(T) -> Check) -> Check {
        match result {
            Ok(value) => good(value),
            Err(error) => {
                let report = Report::of(&error);
                let finding =
                    std::iter::once(report.error).chain(report.causes).collect::<Vec<_>>().join(": ");
                let fix = report.hints.into_iter().next();
                Check { name, health: Health::Fault, finding, fix }
            }
        }
    }
}
