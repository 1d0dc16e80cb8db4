//! A guest is asked to shut down and waited for, or its power is cut.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::disks::saved;
use crate::error::{Failure, Result};
use crate::host::{Setup, Watch, accelerator};
use crate::hypervisor::Ended;
use crate::interrupt;
use crate::model::MachineName;
use crate::model::domain::DomainState;
use crate::work::Work;

const POLL: Duration = Duration::from_millis(250);

/// How often a guest is asked again: in its firmware and early in its boot it does not hear the power button.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// How long a guest has to shut down.
pub const STOP_LIMIT: Duration = Duration::from_secs(120);

/// The result of `stop`.
#[derive(Debug, Clone, Serialize)]
pub struct Stopped {
    pub machine: MachineName,
    /// `None` if it was off before.
    pub ended: Option<Ended>,
    pub seconds: f64,
}

/// Asks a machine to shut down and waits until it is off.
///
/// # Errors
/// It is paused, or still on after `limit`. Its power is not cut then, because that could lose data it has not written yet.
pub fn stop(setup: &Setup, name: &MachineName, limit: Duration, watch: &dyn Watch) -> Result<Stopped> {
    ask(setup, name, limit, watch, &mut None)
}

/// Does the same with a machine that the work is to start again.
///
/// An interruption does not take the request to shut down back. So the guest is still waited for, `limit` at most, for
/// [`on_again`](super::power::on_again) to find it off.
pub fn take_down(work: &Work, limit: Duration) -> Result<Stopped> {
    let Work { setup, name, watch, .. } = work;
    // The start needs to know it, and finding out takes seconds that would be downtime.
    accelerator(setup, &work.host, *watch)?;
    let mut asked = None;
    let stopped = ask(setup, name, limit, *watch, &mut asked);
    if stopped.is_err() && asked.is_some() && interrupt::is_requested() {
        watch
            .note(&format!("waiting for {name} to shut down, to start it again; press ^C again to leave it"));
        let domain = work.domain()?;
        let off = interrupt::deferred(|| interrupt::poll(limit, POLL, || domain.ended()))?;
        if off.is_none() {
            watch.note(&format!(
                "{name} is still on; if it shuts down later, `nixvm start {name}` starts it again"
            ));
        }
    }
    stopped
}

/// Asks again and again until the machine is off or the limit has passed; `asked` is set to when it was asked last.
fn ask(
    setup: &Setup,
    name: &MachineName,
    limit: Duration,
    watch: &dyn Watch,
    asked: &mut Option<Instant>,
) -> Result<Stopped> {
    let domain = setup.hypervisor()?.own(name)?;
    let began = Instant::now();
    if setup.discard_saved {
        saved::check(setup, &domain, name, "stop", watch)?;
    }
    match domain.state()? {
        DomainState::Paused => {
            return Err(Failure::user(format!("{name} is paused, so it cannot shut down")).hint(format!(
                "`nixvm start {name}` resumes it, `nixvm force-stop {name}` cuts its power; QEMU pauses a guest when the pool is full"
            )).into());
        }
        state if !state.is_active() => {
            watch.note(&off_already(name, state));
            return Ok(Stopped { machine: name.clone(), ended: None, seconds: 0.0 });
        }
        _ => {}
    }
    watch.step(&format!("Waiting for {name} to shut down"));
    let off = interrupt::poll(limit, POLL, || {
        let ended = domain.ended()?;
        if ended.is_none() && asked.is_none_or(|at| at.elapsed() > ASK_AGAIN) {
            domain.shutdown()?;
            *asked = Some(Instant::now());
        }
        Ok(ended)
    })?;
    let Some(ended) = off else {
        return Err(Failure::user(format!("{name} is still on after {} s", limit.as_secs()))
            .hint(format!(
                "wait longer with `--timeout`, look at it with `nixvm console {name}`, or cut its power with `nixvm force-stop {name}`"
            ))
            .into());
    };
    let seconds = began.elapsed().as_secs_f64();
    let how = match ended {
        Ended::Shutdown => "shut down",
        Ended::Forced => "was switched off",
        Ended::Crashed => "crashed",
        Ended::Unknown => "went off",
    };
    watch.done(&format!("{name} {how} after {seconds:.1} s"));
    Ok(Stopped { machine: name.clone(), ended: Some(ended), seconds })
}

/// Cuts a machine's power.
pub fn force_stop(setup: &Setup, name: &MachineName, watch: &dyn Watch) -> Result<Stopped> {
    let domain = setup.hypervisor()?.own(name)?;
    let began = Instant::now();
    if setup.discard_saved {
        saved::check(setup, &domain, name, "force-stop", watch)?;
    }
    let ended = if domain.force_off()? {
        watch.done(&format!("Switched {name} off"));
        domain.ended()?
    } else {
        watch.note(&off_already(name, domain.state()?));
        None
    };
    Ok(Stopped { machine: name.clone(), ended, seconds: began.elapsed().as_secs_f64() })
}

fn off_already(name: &MachineName, state: DomainState) -> String {
    match state {
        DomainState::Saved => {
            format!("{name} is off already, and saved: its next start resumes it from its memory")
        }
        _ => format!("{name} is off already"),
    }
}
