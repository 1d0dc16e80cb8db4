//! Observations of a guest from the host, and the part that a generation's record keeps.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Longest name of a unit, in bytes (`UNIT_NAME_MAX` in systemd's src/basic/unit-name.h).
const UNIT_NAME: usize = 255;

/// Most units that are remembered of a guest, which must not fill its domain's definition.
const UNITS: usize = 64;

/// systemd's state of the whole system (systemctl(1), `is-system-running`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    Starting,
    Running,
    /// Everything was started, and some units failed.
    Degraded,
    Maintenance,
    /// Shutting down, or a state that nixvm does not know.
    Other,
}

impl System {
    /// Returns the word that stands for it in a domain's metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            System::Starting => "starting",
            System::Running => "running",
            System::Degraded => "degraded",
            System::Maintenance => "maintenance",
            System::Other => "other",
        }
    }

    pub fn from_word(word: &str) -> Self {
        match word {
            "initializing" | "starting" => System::Starting,
            "running" => System::Running,
            "degraded" => System::Degraded,
            "maintenance" => System::Maintenance,
            _ => System::Other,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// The agent answers.
    pub agent: bool,
    /// The ssh server answers.
    pub ssh: bool,
    /// `None` where systemd could not be asked.
    pub system: Option<System>,
    pub failed: BTreeSet<String>,
    /// The units that systemd has restarted since the boot because they ended.
    #[serde(default)]
    pub restarting: BTreeSet<String>,
}

impl Observation {
    pub fn answers(&self) -> bool {
        self.agent || self.ssh
    }

    /// Returns whether the guest has started everything, so that failed units mean something.
    pub fn is_settled(&self) -> bool {
        matches!(self.system, Some(System::Running | System::Degraded))
    }

    pub fn failing(&self) -> Vec<String> {
        self.failed.iter().cloned().collect()
    }
}

/// Keeps only valid names of units: a guest is not trusted.
pub fn unit_names<'a>(said: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    said.into_iter().filter(|name| is_unit_name(name)).take(UNITS).map(str::to_owned).collect()
}

/// Returns whether that can be the name of a unit (`VALID_CHARS` in systemd's src/basic/unit-name.c).
fn is_unit_name(name: &str) -> bool {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    !name.is_empty() && !name.starts_with('-') && name.len() <= UNIT_NAME && name.bytes().all(valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_unit_is_no_name() {
        let said = ["a.service", "dev-disk\\x2dby.mount", "x@1:2.service", "", "a b", "é", "-x", "a\nb", "'"];
        assert_eq!(
            unit_names(said).into_iter().collect::<Vec<_>>(),
            ["a.service", "dev-disk\\x2dby.mount", "x@1:2.service"]
        );
        let many: Vec<String> = (0..1000).map(|n| format!("u{n}.service")).collect();
        assert_eq!(unit_names(many.iter().map(String::as_str)).len(), UNITS);
    }

    #[test]
    fn what_an_older_nixvm_wrote_is_read() {
        let old = r#"{"agent":true,"ssh":false,"system":"degraded","failed":["a.service"]}"#;
        let seen: Observation = serde_json::from_str(old).unwrap();
        assert!(seen.is_settled() && seen.restarting.is_empty());
        assert_eq!(seen.failing(), ["a.service"]);
    }
}
