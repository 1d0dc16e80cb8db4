//! Waiting for a machine, whoever starts or stops it.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::config;
use crate::error::Result;
use crate::guest::health::Checkup;
use crate::guest::{Jump, answering};
use crate::host::{Setup, Watch};
use crate::hypervisor::Owned;
use crate::interrupt;
use crate::model::{Machine, MachineName};

const POLL: Duration = Duration::from_millis(500);

/// What a machine is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// Its ssh server answers.
    Ssh,
    /// It is as healthy as its generation was, and passes the user's own health check.
    Healthy,
    Off,
}

/// As the end of "Waiting for web to ".
impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Goal::Ssh => "answer ssh",
            Goal::Healthy => "become healthy",
            Goal::Off => "go off",
        })
    }
}

/// The end of a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// Where its ssh answers, if that was what it was waited for.
    There(Option<SocketAddr>),
    /// The time is over; why it is not there, as the end of "web: ".
    Late(String),
}

/// Waits until a machine is there, `limit` at most; it is asked once in any case. A machine that is off may be started meanwhile.
///
/// # Errors
/// There is no such machine, or it is another workspace's.
pub fn wait(
    setup: &Setup,
    name: &MachineName,
    goal: Goal,
    limit: Duration,
    watch: &dyn Watch,
) -> Result<Arrival> {
    let machine = config::load(&setup.workspace, name)?;
    let domain = setup.hypervisor()?.own(name)?;
    if goal == Goal::Ssh {
        // A remote host that refuses the ssh jump would look like a guest that does not come up.
        Jump::of(setup).as_ref().map(Jump::check).transpose()?;
    }
    watch.step(&format!("Waiting for {name} to {goal}"));
    let began = Instant::now();
    let (mut checkup, mut why) = (Checkup::new(setup, &domain, &machine), String::new());
    let there = interrupt::poll(limit, POLL, || match look(setup, &domain, &machine, goal, &mut checkup)? {
        Arrival::There(at) => Ok(Some(at)),
        Arrival::Late(reason) => {
            why = reason;
            Ok(None)
        }
    })?;
    let Some(at) = there else { return Ok(Arrival::Late(why)) };
    let seconds = began.elapsed().as_secs_f64();
    watch.done(&match (goal, at) {
        (Goal::Ssh, Some(at)) => format!("{name} answers ssh at {at} ({seconds:.0} s)"),
        (Goal::Healthy, _) => format!("{name} is healthy ({seconds:.0} s)"),
        (Goal::Ssh | Goal::Off, _) => format!("{name} is off ({seconds:.0} s)"),
    });
    Ok(Arrival::There(at))
}

fn look(
    setup: &Setup,
    domain: &Owned,
    machine: &Machine,
    goal: Goal,
    checkup: &mut Checkup,
) -> Result<Arrival> {
    let state = domain.state()?;
    if goal == Goal::Off {
        let is = format!("it is {state}");
        return Ok(if state.is_active() { Arrival::Late(is) } else { Arrival::There(None) });
    }
    if !state.can_answer() {
        return Ok(Arrival::Late(format!("it is {state}")));
    }
    if goal == Goal::Healthy {
        return Ok(checkup.fault()?.map_or(Arrival::There(None), Arrival::Late));
    }
    let place = answering(setup, domain, machine.mac);
    let lack = place.lack(machine).map(|lack| lack.why).unwrap_or_default();
    Ok(place.known().map_or(Arrival::Late(lack), |at| Arrival::There(Some(at))))
}
