//! Results, as text for people and as JSON for programs.

use std::fmt::Write as _;

use console::{measure_text_width, style};
use indicatif::HumanBytes;
use serde::Serialize;
use serde_json::Value;

use crate::error::{Explain, Failure, Report, Result};
use crate::model::Connection;
use crate::model::domain::DomainState;
use crate::ops::{Check, Health, ListedMachine, OpenPorts, Status};

/// A result in both its forms.
pub struct Shown {
    /// For people; may be empty where the steps on standard error said it all.
    pub text: String,
    /// For programs.
    pub json: Value,
    /// What the process ends with.
    pub exit_code: u8,
}

impl Shown {
    /// Returns a result that `text` says to people.
    pub fn new(value: &impl Serialize, text: impl Into<String>) -> Self {
        match json(value) {
            Ok(json) => Shown { text: text.into(), json, exit_code: 0 },
            Err(error) => {
                let report = Report::of(&error);
                Shown { text: text.into(), json: serde_json::json!(report), exit_code: report.exit_code }
            }
        }
    }

    /// Returns a result of which the steps on standard error said everything.
    pub fn said(value: &impl Serialize) -> Self {
        Shown::new(value, "")
    }
}

/// Returns a value as JSON.
///
/// # Errors
/// It cannot be shown so, which is a bug.
pub fn json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).explain(|| Failure::bug("a result cannot be shown as JSON"))
}

/// Returns rows under headings, each column as wide as its widest cell.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| measure_text_width(&row[column]));
        cells.chain([headings[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    let bold = headings.iter().map(|h| style(h).bold().to_string()).collect();
    for row in std::iter::once(&bold).chain(rows) {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| console::pad_str(cell, *width, console::Alignment::Left, None));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

fn state(state: Option<DomainState>) -> String {
    match state {
        Some(DomainState::Running) => style("running").green().to_string(),
        Some(other) => other.to_string(),
        None => style("declared").dim().to_string(),
    }
}

fn dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |v| v.to_string())
}

/// Returns the list of machines.
pub fn machines(machines: &[ListedMachine]) -> String {
    if machines.is_empty() {
        return "no machines yet; `nixvm create NAME` makes one".into();
    }
    let elsewhere = machines.iter().any(|machine| machine.connection != Connection::default());
    let others = machines.iter().any(|machine| machine.other_workspace.is_some());
    let rows: Vec<Vec<String>> = machines
        .iter()
        .map(|m| {
            let mut row = vec![
                m.name.clone(),
                if m.unreachable { style("no answer").red().to_string() } else { state(m.state) },
                dash(m.address),
                dash(m.profile.clone()),
                dash(m.generation),
                dash(m.pool.clone()),
            ];
            row.extend(elsewhere.then(|| m.connection.to_string()));
            row.extend(others.then(|| dash(m.other_workspace.clone())));
            row
        })
        .collect();
    let mut headings = vec!["NAME", "STATE", "ADDRESS", "PROFILE", "GENERATION", "POOL"];
    headings.extend(elsewhere.then_some("CONNECTION"));
    headings.extend(others.then_some("WORKSPACE"));
    table(&headings, &rows)
}

/// Returns everything about one machine.
pub fn status(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "{:<11} {value}", format!("{label}:"));
    };
    line("machine", status.name.clone());
    line("state", state(status.state));
    if status.frozen {
        let way = match status.work.as_ref().and_then(|work| work.pid) {
            Some(_) => String::new(),
            None => format!(": `virsh domfsthaw {}` ends that", status.name),
        };
        line("frozen", format!("the guest's file systems take no writes{way}"));
    }
    line("ssh", status.no_address.as_ref().map_or_else(|| dash(status.address), |why| format!("- ({why})")));
    line("profile", status.profile.clone());
    line("generation", dash(status.generation));
    if !status.not_carried_out.is_empty() {
        line(
            "lacks",
            format!("{} (the offline base does not carry it out)", status.not_carried_out.join(", ")),
        );
    }
    if let Some(memory) = status.memory_mib {
        line("memory", format!("{memory} MiB"));
    }
    match (status.vcpus, status.guest_vcpus) {
        (Some(vcpus), Some(guest)) if guest != vcpus => {
            line("vcpus", format!("{vcpus} (its guest has {guest})"))
        }
        (Some(vcpus), _) | (None, Some(vcpus)) => line("vcpus", vcpus.to_string()),
        (None, None) => {}
    }
    if let Some((network, mac)) = status.network.as_ref().zip(status.mac_address.as_ref()) {
        line("network", format!("{network} ({mac})"));
    }
    if let Some(ports) = status.without_listener.as_ref().filter(|ports| !ports.is_empty()) {
        line("ports", format!("open without a listener: {}", open_ports(ports)));
    }
    line("pool", status.pool.to_string());
    if status.connection != Connection::default() {
        line("connection", status.connection.to_string());
    }
    for disk in &status.disks {
        line(
            "disk",
            format!("{}  {} of {}", disk.volume, HumanBytes(disk.allocation), HumanBytes(disk.capacity)),
        );
    }
    for image in &status.foreign_images {
        line(
            "disk",
            format!("{image}  another tool's: `nixvm snapshots {}` says how to merge it", status.name),
        );
    }
    if status.state.is_some() {
        let layers = match status.chain {
            Some(1) => "1 layer of data".into(),
            Some(layers) => format!("{layers} layers of data"),
            None if !status.foreign_images.is_empty() => "the data is on another tool's file".into(),
            None => "the data disk is NOT WHOLE: `nixvm snapshots` says what is missing".into(),
        };
        line("snapshots", format!("{} ({layers})", status.snapshots));
    }
    if let Some(work) = &status.work {
        line(
            "work",
            match work.pid {
                Some(pid) => format!("`nixvm {}` is at {} (process {pid})", work.command, work.place),
                None => format!(
                    "`nixvm {}` was interrupted at {}; the next command removes what it left, or run it again",
                    work.command, work.place
                ),
            },
        );
    }
    if let Some(workspace) = &status.other_workspace {
        line("workspace", format!("{workspace} (whose machine it is)"));
    }
    text
}

/// Returns the ports of each protocol that has any, such as `tcp 80, 443; udp 53`.
fn open_ports(ports: &OpenPorts) -> String {
    let of = |protocol: &str, ports: &[u16]| {
        let listed = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        (!ports.is_empty()).then(|| format!("{protocol} {listed}"))
    };
    [of("tcp", &ports.tcp), of("udp", &ports.udp)].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Returns the state of the host's requirements.
pub fn checks(checks: &[Check]) -> String {
    let mut text = String::new();
    let width = checks.iter().map(|c| c.name.len()).max().unwrap_or(0);
    for check in checks {
        let mark = match check.health {
            Health::Good => style("ok  ").green(),
            Health::Warning => style("warn").yellow(),
            Health::Fault => style("FAIL").red(),
        };
        let _ = writeln!(text, "{mark}  {:width$}  {}", check.name, check.finding);
        if let (Some(fix), true) = (&check.fix, check.health > Health::Good) {
            let _ = writeln!(text, "      {:width$}  {} {fix}", "", style("fix:").cyan());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        console::set_colors_enabled(false);
        let text = table(
            &["NAME", "STATE"],
            &[vec!["a-long-name".into(), "running".into()], vec!["b".into(), "shutoff".into()]],
        );
        assert_eq!(text, "NAME         STATE\na-long-name  running\nb            shutoff\n");
    }

    #[test]
    fn open_ports_are_listed_by_protocol() {
        let ports = |tcp: &[u16], udp: &[u16]| open_ports(&OpenPorts { tcp: tcp.into(), udp: udp.into() });
        assert_eq!(ports(&[80, 443], &[]), "tcp 80, 443");
        assert_eq!(ports(&[80], &[53, 123]), "tcp 80; udp 53, 123");
        assert_eq!(ports(&[], &[53]), "udp 53");
    }

    #[test]
    fn a_fault_shows_its_cure() {
        console::set_colors_enabled(false);
        let fault =
            Check { name: "Nix", health: Health::Fault, finding: "gone".into(), fix: Some("get it".into()) };
        assert_eq!(checks(&[fault]), "FAIL  Nix  gone\n           fix: get it\n");
    }
}
