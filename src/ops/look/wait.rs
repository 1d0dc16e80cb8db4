//! `wait`: until machines answer, are healthy, or are off.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::Result;
use crate::guest::arrival::{self, Arrival, Goal};
use crate::host::{Call, Watch};
use crate::model::MachineName;

/// How the wait for one machine ended.
#[derive(Debug, Clone, Serialize)]
pub struct Waited {
    pub machine: MachineName,
    #[serde(rename = "for")]
    pub goal: Goal,
    pub reached: bool,
    /// Where its ssh answers, if that was waited for.
    pub ssh: Option<SocketAddr>,
    /// Why it is not there.
    pub why: Option<String>,
    /// Seconds from the beginning of the command until it was known.
    pub seconds: f64,
}

/// Waits until all machines are there, `limit` at most for all of them together, and tells of each how it ended.
///
/// One after another is enough: the last one is there when all are.
pub fn wait(
    call: &Call,
    names: &BTreeSet<MachineName>,
    goal: Goal,
    limit: Duration,
    watch: &dyn Watch,
) -> Result<Vec<Waited>> {
    let began = Instant::now();
    let one = |name: &MachineName| -> Result<Waited> {
        let left = limit.saturating_sub(began.elapsed());
        let arrival = arrival::wait(&call.machine(name)?, name, goal, left, watch)?;
        let seconds = began.elapsed().as_secs_f64();
        let (reached, ssh, why) = match arrival {
            Arrival::There(ssh) => (true, ssh, None),
            Arrival::Late(why) => (false, None, Some(why)),
        };
        Ok(Waited { machine: name.clone(), goal, reached, ssh, why, seconds })
    };
    names.iter().map(one).collect()
}
