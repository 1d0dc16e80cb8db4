//! Whether a guest that runs is healthy now, for those who wait for it and would not restart it.

use crate::config;
use crate::error::{Report, Result};
use crate::guest::place;
use crate::host::Setup;
use crate::hypervisor::Owned;
use crate::interrupt;
use crate::model::{Machine, Observation};
use crate::work::generations::running;

use super::check::{CHECK_LIMIT, health_check};
use super::judge::{Sample, Verdict, judge, new_failures};
use super::look::{Ssh, look};

/// Asks one guest, again and again.
pub struct Checkup<'a> {
    setup: &'a Setup,
    domain: &'a Owned,
    machine: &'a Machine,
    ssh: Ssh,
}

impl<'a> Checkup<'a> {
    pub fn new(setup: &'a Setup, domain: &'a Owned, machine: &'a Machine) -> Self {
        Checkup { setup, domain, machine, ssh: Ssh::Ask }
    }

    /// Returns why the guest, which is up, is not healthy; `None` if it is as nixvm last saw its generation, and passes the
    /// user's own health check. A health check that is not to be trusted is an error.
    pub fn fault(&mut self) -> Result<Option<String>> {
        let looked = look(self.setup, self.domain, self.machine, self.ssh);
        if looked.seen.ssh {
            self.ssh = Ssh::Answered;
        }
        let sample = Sample { seen: looked.seen, restless: looked.restless, ..Sample::default() };
        match fault(&self.before()?, &sample) {
            Some(fault) => Ok(Some(fault)),
            None => self.failed_check(),
        }
    }

    /// Returns how nixvm last saw the generation that runs; nothing of one that was never judged.
    fn before(&self) -> Result<Observation> {
        let generations = &self.domain.metadata().generations;
        let number = running(self.domain)?.unwrap_or(generations.current().number);
        Ok(generations.get(number).and_then(|build| build.seen.clone()).unwrap_or_default())
    }

    fn failed_check(&self) -> Result<Option<String>> {
        let Some(program) = config::health_check(&self.setup.workspace, &self.machine.name)? else {
            return Ok(None);
        };
        let at = place(self.setup, self.domain, self.machine.mac).known();
        let Err(error) = health_check(self.setup, program, &self.machine.name, at).output_within(CHECK_LIMIT)
        else {
            return Ok(None);
        };
        interrupt::check()?;
        Ok(Some(format!("its health check does not pass: {}", Report::of(&error).error)))
    }
}

fn fault(before: &Observation, now: &Sample) -> Option<String> {
    let new = new_failures(before, &now.seen);
    if now.seen.is_settled() && !new.is_empty() {
        return Some(format!("these units fail: {}", new.join(", ")));
    }
    match judge(before, now) {
        Verdict::Healthy => None,
        Verdict::Early(why) | Verdict::Lacking(why) | Verdict::Unhealthy(why) => Some(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::System;

    #[test]
    fn a_guest_is_measured_by_its_generation_and_a_new_one_by_nothing() {
        let now = |system, failed: &[&str]| Sample {
            seen: Observation {
                agent: true,
                system: Some(system),
                failed: failed.iter().map(ToString::to_string).collect(),
                ..Observation::default()
            },
            ..Sample::default()
        };
        let never = Observation::default();
        assert_eq!(fault(&never, &now(System::Running, &[])), None);
        assert_eq!(fault(&never, &now(System::Starting, &[])).unwrap(), "it is still starting");
        let failing = now(System::Degraded, &["a.service"]);
        assert_eq!(fault(&never, &failing).unwrap(), "these units fail: a.service");
        assert_eq!(fault(&failing.seen, &failing), None, "it failed before, too");
        let with_ssh = Observation { ssh: true, ..now(System::Running, &[]).seen };
        assert!(fault(&with_ssh, &now(System::Running, &[])).unwrap().contains("ssh"));
        assert!(fault(&never, &Sample::default()).unwrap().contains("neither its agent nor ssh answers"));
    }
}
