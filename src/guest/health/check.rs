//! The user's own health check: a program on the host.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config;
use crate::error::{Report, Result, Said};
use crate::exec::Command;
use crate::guest::health::words;
use crate::guest::place;
use crate::host::Setup;
use crate::hypervisor::Owned;
use crate::interrupt;
use crate::model::{Machine, MachineName};
use crate::work::Work;

use super::look::POLL;

/// How long one run may take, and for how long a failing check is repeated.
pub(super) const CHECK_LIMIT: Duration = Duration::from_secs(60);

/// Runs the user's health check, repeatedly if it fails, and returns why the machine does not pass it, with the check's output.
pub(super) fn check(
    work: &Work,
    machine: &Machine,
    domain: &Owned,
    left: Duration,
) -> Result<Option<(String, Vec<Said>)>> {
    let Some(program) = config::health_check(&work.setup.workspace, &work.name)? else { return Ok(None) };
    work.watch.step(&format!("Running the health check of {}", work.name));
    let at = place(work.setup, domain, machine.mac).known();
    let command = health_check(work.setup, program, &work.name, at);
    let mut failed = None;
    let passed = interrupt::poll(left.min(CHECK_LIMIT), POLL, || {
        let Err(error) = command.output_within(CHECK_LIMIT) else { return Ok(Some(())) };
        interrupt::check()?;
        let Report { error, causes, .. } = Report::of(&error);
        let said = words::said(format!("machines/{}/health-check", work.name), &causes.join("\n"));
        failed = Some((error, if said.lines.is_empty() { Vec::new() } else { vec![said] }));
        Ok(None)
    })?;
    Ok(failed.filter(|_| passed.is_none()))
}

/// Returns the command of a health check. The guest's address is its argument, empty if not known.
pub(super) fn health_check(
    setup: &Setup,
    program: PathBuf,
    name: &MachineName,
    at: Option<SocketAddr>,
) -> Command {
    // For `nixvm ssh` in the check: this workspace and this libvirt.
    told(program, name, at).current_dir(setup.workspace.root()).env("NIXVM_CONNECT", setup.connect.as_str())
}

fn told(program: PathBuf, name: &MachineName, at: Option<SocketAddr>) -> Command {
    let address = at.map(|at| at.ip().to_string()).unwrap_or_default();
    Command::new(program)
        .both_streams()
        .arg(&address)
        .env("NIXVM_MACHINE", name.as_str())
        .env("NIXVM_ADDRESS", address)
        .env("NIXVM_SSH_PORT", at.map(|at| at.port().to_string()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_health_check_is_told_whom_it_is_about() {
        let web: MachineName = "web".parse().unwrap();
        let at = SocketAddr::from(([10, 0, 0, 7], 22));
        let command = |program: &str, at| told(program.into(), &web, at);
        assert_eq!(command("/w/health-check", Some(at)).to_string(), "/w/health-check 10.0.0.7");
        assert_eq!(command("/w/health-check", None).to_string(), "/w/health-check ''");
        // `sh` reads the file that its argument names, and so stands in for the user's program.
        let dir = tempfile::tempdir().unwrap();
        let script = "echo $NIXVM_MACHINE $NIXVM_ADDRESS $NIXVM_SSH_PORT\n";
        std::fs::write(dir.path().join("10.0.0.7"), script).unwrap();
        let said = command("/bin/sh", Some(at)).current_dir(dir.path()).output().unwrap();
        assert_eq!(String::from_utf8(said).unwrap(), "web 10.0.0.7 22\n");
    }
}
