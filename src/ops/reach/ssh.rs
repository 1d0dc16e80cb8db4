//! `ssh`, and the wait of `start --wait` until it answers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::config;
use crate::error::{Failure, Result};
use crate::exec::Command;
use crate::guest::login::login;
use crate::guest::{Jump, Lack, Place, answering, place};
use crate::host::{Setup, Watch};
use crate::interrupt;
use crate::model::{Machine, MachineName};

/// Waits until a machine's ssh server answers, and returns its address. Gives up after `limit`, where the machine goes off, or
/// where it has had no address for half of `limit`.
pub fn wait_for_ssh(
    setup: &Setup,
    name: &MachineName,
    limit: Duration,
    watch: &dyn Watch,
) -> Result<SocketAddr> {
    let machine = config::load(&setup.workspace, name)?;
    let domain = setup.hypervisor()?.own(name)?;
    // A remote host that refuses the ssh jump would look like a guest that does not come up.
    Jump::of(setup).as_ref().map(Jump::check).transpose()?;
    watch.step(&format!("Waiting for {name} to answer ssh"));
    let began = Instant::now();
    let mut nowhere: Option<Instant> = None;
    let answered = interrupt::poll(limit, Duration::from_millis(500), || {
        if !domain.state()?.is_active() {
            return Err(Failure::user(format!("{name} was switched off while nixvm waited for it"))
                .hint(format!("watch it boot: `nixvm start {name}`, then `nixvm console {name}`"))
                .into());
        }
        let place = answering(setup, &domain, machine.mac);
        if place != Place::Nowhere {
            nowhere = None;
        } else if nowhere.is_none() {
            nowhere = Some(Instant::now());
            let why = place.lack(&machine).map(|lack| lack.why).unwrap_or_default();
            watch.step(&format!("Waiting for {name} to get an address ({why} so far)"));
        } else if nowhere.is_some_and(|since| since.elapsed() > limit / 2) {
            return Err(no_address(&machine, place));
        }
        Ok(place.known())
    })?;
    let endpoint = answered.ok_or_else(|| {
        Failure::user(format!("{name} does not answer ssh after {} s", limit.as_secs()))
            .hint(format!("watch it with `nixvm console {name}`, or wait longer with `--timeout`"))
    })?;
    watch.done(&format!("{name} answers ssh at {endpoint} ({:.0} s)", began.elapsed().as_secs_f64()));
    Ok(endpoint)
}

/// Returns the command that logs in to a machine.
pub fn ssh(setup: &Setup, name: &MachineName, user: &str, command: &[String]) -> Result<Command> {
    let domain = setup.hypervisor()?.own(name)?;
    let machine = config::load(&setup.workspace, name)?;
    let state = domain.state()?;
    if !state.can_answer() {
        return Err(Failure::user(format!("{name} is {state}"))
            .hint(format!("start it with `nixvm start {name} --wait`"))
            .into());
    }
    match place(setup, &domain, machine.mac) {
        Place::At(at) => login(setup, &machine, &at, user, command),
        lacking => Err(no_address(&machine, lacking)),
    }
}

fn no_address(machine: &Machine, place: Place) -> anyhow::Error {
    let failure = Failure::user(format!("{} has no address", machine.name));
    match place.lack(machine) {
        Some(Lack { why, hint }) => failure.because(anyhow::Error::msg(why)).hint(hint).into(),
        None => failure.into(),
    }
}
