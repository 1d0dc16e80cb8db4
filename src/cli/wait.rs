//! `--wait`: until a guest answers ssh.

use std::time::Duration;

use serde_json::{Value, json};

use crate::error::Result;
use crate::model::MachineName;
use crate::ops::{self, Setup};

use super::input::seconds;
use super::terminal::Terminal;

/// How long a guest has to answer ssh. *Measured:* 47 s under TCG on two cores; the rest is for slower hosts.
pub const SSH_LIMIT: Duration = Duration::from_secs(600);

#[derive(Debug, clap::Args)]
pub struct SshTimeout {
    /// With `--wait`, wait at most SECONDS for ssh [default: 600]
    #[arg(long, value_name = "SECONDS", requires = "wait", value_parser = seconds)]
    pub timeout: Option<Duration>,
}

/// Waits for a machine's ssh if that was asked for, and returns the JSON of a machine that runs.
pub fn wait(setup: &Setup, name: &MachineName, limit: &SshTimeout, terminal: &Terminal) -> Result<Value> {
    let mut address = None;
    if setup.wait {
        address = Some(ops::wait_for_ssh(setup, name, limit.timeout.unwrap_or(SSH_LIMIT), terminal)?);
    }
    Ok(json!({ "machine": name, "state": "running", "ssh": address }))
}
