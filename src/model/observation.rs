//! What can be seen of a guest from the host, and what a generation's record keeps of it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Longest name of a unit, in bytes (`UNIT_NAME_MAX` in systemd's src/basic/unit-name.h).
const UNIT_NAME: usize = 255;

/// How many units are remembered of a guest: it must not fill a domain's definition.
const UNITS: usize = 64;

/// What systemd says of the whole system (systemctl(1), `is-system-running`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// It has not started everything yet.
    Starting,
    /// All that was to be started was, and works.
    Running,
    /// All that was to be started was, and some of it failed.
    Degraded,
    /// It gave up and waits for a person.
    Maintenance,
    /// It is on its way down, or in a state that nixvm does not know.
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

    /// Returns what systemd's word means.
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

/// What can be seen of a guest from the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// Whether its agent answers.
    pub agent: bool,
    /// Whether its ssh server does.
    pub ssh: bool,
    /// What systemd says; `None` where nobody could be asked.
    pub system: Option<System>,
    /// The units that have failed.
    pub failed: BTreeSet<String>,
    /// The units that systemd has started again since the boot because they ended.
    #[serde(default)]
    pub restarting: BTreeSet<String>,
}

impl Observation {
    /// Returns whether anything in the guest answers.
    pub fn answers(&self) -> bool {
        self.agent || self.ssh
    }

    /// Returns whether the guest has started everything, so that what was seen says how well it runs.
    pub fn is_settled(&self) -> bool {
        matches!(self.system, Some(System::Running | System::Degraded))
    }

    /// Returns the units that fail in it, sorted by name.
    pub fn failing(&self) -> Vec<String> {
        self.failed.iter().cloned().collect()
    }
}

/// Returns what a guest says are names of units, without those that cannot be any: a guest is not trusted.
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
