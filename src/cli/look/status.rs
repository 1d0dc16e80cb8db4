use std::fmt::Write as _;

use indicatif::HumanBytes;

use crate::cli::{Cost, Machines, Outcome, Shown, Terminal, dash, each, several, state};
use crate::error::Result;
use crate::model::{Connection, MachineName, yes_no};
use crate::ops::{self, Call, Needs, OpenPorts, Setup, Status};

pub fn run(call: &Call, args: &Machines, terminal: &Terminal) -> Result<Shown> {
    let selection = args.select(call)?;
    if let Some(name) = selection.only() {
        let status = ops::status(&call.machine(name)?, name)?;
        return Ok(Shown::new(&status, everything(&status)));
    }
    let look = |setup: &Setup, name: &MachineName, _: &Terminal| ops::status(setup, name);
    let turns = each(call, &selection, Needs::Files, Cost::Waiting, terminal)?.run(look);
    let texts = turns.iter().filter_map(|turn| match &turn.outcome {
        Outcome::Done(status) => Some(everything(status)),
        _ => None,
    });
    let text = texts.collect::<Vec<_>>().join("\n");
    several(turns, text, terminal)
}

fn everything(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "{:<11} {value}", format!("{label}:"));
    };
    line("machine", status.name.clone());
    line("state", state(status.state));
    if status.frozen {
        let mut frozen = "the guest's file systems accept no writes".to_owned();
        // A command that works on the machine thaws them itself.
        if status.work.as_ref().is_none_or(|work| work.pid.is_none()) {
            let _ = write!(frozen, "; `virsh domfsthaw {}` thaws them", status.name);
        }
        line("frozen", frozen);
    }
    line("ssh", status.no_address.as_ref().map_or_else(|| dash(status.address), |why| format!("- ({why})")));
    line("profile", status.profile.clone());
    line("generation", dash(status.generation));
    if !status.not_carried_out.is_empty() {
        line("lacks", format!("{} (not supported by the offline base)", status.not_carried_out.join(", ")));
    }
    if let Some(memory) = status.memory_mib {
        line("memory", format!("{memory} MiB"));
    }
    match (status.vcpus, status.guest_vcpus) {
        (Some(vcpus), Some(guest)) if guest != vcpus => {
            line("vcpus", format!("{vcpus} (the running guest has {guest})"))
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
    line("autostart", yes_no::word(status.autostart).into());
    if !status.after.is_empty() {
        let names: Vec<&str> = status.after.iter().map(MachineName::as_str).collect();
        line("after", names.join(", "));
    }
    if status.protect {
        line("protected", "yes".into());
    }
    line("pool", status.pool.to_string());
    if let Some(host) = &status.host {
        line("host", host.to_string());
    }
    if status.connection != Connection::default() {
        line("connection", status.connection.to_string());
    }
    for disk in &status.disks {
        let (used, capacity) = (HumanBytes(disk.allocation), HumanBytes(disk.capacity));
        line("disk", format!("{}  {used} of {capacity}", disk.volume));
    }
    for image in &status.foreign_images {
        let merge = format!("`nixvm snapshots {}` says how to merge it", status.name);
        line("disk", format!("{image}  made by another tool; {merge}"));
    }
    if status.state.is_some() {
        let layers = match status.chain {
            Some(1) => "1 layer of data".into(),
            Some(layers) => format!("{layers} layers of data"),
            None if !status.foreign_images.is_empty() => "the data is in another tool's file".into(),
            None => "the data disk is NOT WHOLE: `nixvm snapshots` says what is missing".into(),
        };
        line("snapshots", format!("{} ({layers})", status.snapshots));
    }
    if let Some(work) = &status.work {
        let (command, place) = (&work.command, &work.place);
        let text = match work.pid {
            Some(pid) => format!("`nixvm {command}` is at {place} (process {pid})"),
            None => {
                format!(
                    "`nixvm {command}` was interrupted at {place}; run it again, or the next command cleans up"
                )
            }
        };
        line("work", text);
    }
    if let Some(workspace) = &status.other_workspace {
        line("workspace", format!("{workspace} (owns the machine)"));
    }
    text
}

/// Returns the ports of each protocol that has any, such as `tcp 80, 443; udp 53`.
fn open_ports(ports: &OpenPorts) -> String {
    let protocols = [("tcp", &ports.tcp), ("udp", &ports.udp)];
    let listed = protocols.into_iter().filter(|(_, ports)| !ports.is_empty()).map(|(protocol, ports)| {
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        format!("{protocol} {}", ports.join(", "))
    });
    listed.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_ports_are_listed_by_protocol() {
        let ports = |tcp: &[u16], udp: &[u16]| open_ports(&OpenPorts { tcp: tcp.into(), udp: udp.into() });
        assert_eq!(ports(&[80, 443], &[]), "tcp 80, 443");
        assert_eq!(ports(&[80], &[53, 123]), "tcp 80; udp 53, 123");
        assert_eq!(ports(&[], &[53]), "udp 53");
    }
}
