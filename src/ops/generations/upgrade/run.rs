//! The upgrade itself, once its generation is built.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::build::{BuiltAhead, BuiltMachine, Wanted, build_machine};
use crate::config;
use crate::disks::layer_of;
use crate::error::{Failure, Result, Said};
use crate::guest::health::{self, Judged};
use crate::guest::{Trial, serial, trial};
use crate::host::{Setup, Watch};
use crate::interrupt;
use crate::model::record::{BuildHealth, Metadata};
use crate::model::volume::Role;
use crate::model::{Machine, MachineName, Observation, System};
use crate::work::Work;
use crate::work::generations::{record_health, running};
use crate::work::power::{on_again, power_on};
use crate::work::shutdown::{STOP_LIMIT, take_down};
use crate::work::steps::{self, Deploy, Deployment};

use super::plan::{Facts, Step, plan, starts};

#[derive(Debug, Clone, Copy)]
pub struct UpgradeRequest {
    /// Whether a running machine is restarted.
    pub start: bool,
    /// Whether its health is judged then.
    pub judge: bool,
    /// How long the guest may take to shut down, and then to come up; `None` leaves that to the accelerator.
    pub timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    UpToDate,
    /// The machine has the new generation at its next start.
    Prepared,
    /// The machine runs the new generation.
    Upgraded,
}

/// The result of `upgrade`.
#[derive(Debug, Clone, Serialize)]
pub struct Upgraded {
    pub machine: MachineName,
    /// The generation of the definition before.
    pub from: u32,
    pub to: u32,
    pub outcome: Outcome,
    /// Seconds from the request to shut down until ssh or the agent answered.
    pub downtime: Option<f64>,
    /// The units that fail, though they were no reason to roll back; empty where nobody looked.
    pub failing: Vec<String>,
    /// Options and packages that the offline base does not support.
    pub not_carried_out: Vec<String>,
}

/// Builds a machine's next generation, unless it was built `ahead`, and runs it if it comes up as healthy as the one before.
///
/// # Errors
/// If the build fails or the guest does not shut down, nothing has changed. If the machine does not come up healthy, it runs
/// the generation that it ran before. After an interruption, the same command continues.
pub fn upgrade(
    setup: &Setup,
    name: &MachineName,
    request: UpgradeRequest,
    ahead: Option<&BuiltAhead>,
    watch: &dyn Watch,
) -> Result<Upgraded> {
    let work = Work::begin(setup, name, "upgrade", watch)?;
    let machine = config::load(&setup.workspace, name)?;
    let old = work.domain()?.metadata().clone();
    // A machine of the same name may be another workspace's.
    work.host.check_free(name, machine.machine_id)?;
    let built = match ahead.and_then(|ahead| ahead.of(&machine, Some(&old.generations))) {
        Some(built) => built,
        None => build_machine(setup, &Wanted::declared(setup, &machine, Some(&old.generations)), watch)?,
    };
    let upgrade = Upgrade::new(&work, machine, old, built, request)?;
    let ran = upgrade.running.is_some();
    on_again(&work, ran, upgrade.run())
}

/// An upgrade of one machine, built and not yet done.
pub(super) struct Upgrade<'a> {
    pub(super) work: &'a Work<'a>,
    pub(super) machine: Machine,
    /// The metadata of the domain at the beginning.
    pub(super) old: Metadata,
    pub(super) built: BuiltMachine,
    request: UpgradeRequest,
    running: Option<u32>,
    /// How the machine was before: as an interrupted upgrade saw it, or as this one does.
    trial: Option<Trial>,
    down: Option<Instant>,
    judged: Option<Judged>,
    /// How the old generation came up when it was started again.
    again: Option<Judged>,
}

impl<'a> Upgrade<'a> {
    fn new(
        work: &'a Work<'a>,
        machine: Machine,
        old: Metadata,
        built: BuiltMachine,
        request: UpgradeRequest,
    ) -> Result<Self> {
        let target = built.generation.number;
        let trial = Trial::read(work.setup, &work.name)?.filter(|trial| {
            trial.to == target
                && old.generations.get(trial.to).is_some()
                && old.generations.get(trial.from).is_some()
        });
        let running = running(&*work.domain()?)?;
        Ok(Upgrade {
            work,
            machine,
            old,
            built,
            request,
            running,
            trial,
            down: None,
            judged: None,
            again: None,
        })
    }

    fn run(mut self) -> Result<Upgraded> {
        let (work, name) = (self.work, self.work.name.clone());
        let facts = Facts {
            target: self.target(),
            recorded: self.old.generations.get(self.target()).map(|build| build.health),
            current: self.old.current().number,
            running: self.running,
            tried: self.trial.is_some(),
            start: self.request.start,
            judge: self.request.judge,
        };
        let same = facts.target == facts.current && !self.old.current().is_made_from(&self.built.inputs);
        if same {
            self.take_note_of_inputs()?;
        }
        let steps = plan(facts, &Role::Boot(facts.target).of(&self.old.stem));
        if steps.is_empty() {
            return self.nothing_to_do(facts, same);
        }
        work.carry_out(&steps, |step| self.take(step))?;
        trial::forget(work.setup, &name)?;
        match &self.judged {
            Some(judged @ Judged { fault: Some(fault), .. }) => {
                return Err(self.rolled_back(fault, Some(judged)));
            }
            None if self.again.is_some() => {
                return Err(self.rolled_back("an earlier upgrade found it unhealthy", None));
            }
            _ => {}
        }
        let outcome = if facts.running.is_some() && !facts.start || !steps.iter().any(starts) {
            Outcome::Prepared
        } else {
            Outcome::Upgraded
        };
        let downtime = self.downtime();
        work.watch.done(&match (outcome, downtime) {
            (Outcome::Prepared, _) => format!("{name} has generation {} at its next start", facts.target),
            (_, Some(seconds)) => {
                format!("{name} runs generation {}; it was down for {seconds:.1} s", facts.target)
            }
            (_, None) => format!("{name} runs generation {}", facts.target),
        });
        let failing = self.judged.as_ref().map(|judged| judged.seen.failing()).unwrap_or_default();
        health::note_failing(work, &failing);
        Ok(Upgraded {
            machine: name,
            from: facts.current,
            to: facts.target,
            outcome,
            downtime,
            failing,
            not_carried_out: self.built.not_carried_out.clone(),
        })
    }

    fn take(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Deploy(step) => self.deploy(step, &self.new_metadata()),
            Step::Look => self.look(),
            Step::Remember => self.remember(None),
            Step::Stop => self.stop(),
            Step::PowerOn => self.power_on(),
            Step::Judge => self.judge(),
            Step::Return if self.is_bad() => self.define(&self.metadata_back()),
            Step::SwitchOff if self.goes_back() => self.switch_off(),
            Step::PowerOnAgain if self.goes_back() => self.power_on_again(),
            Step::LookAgain if self.goes_back() => self.look_again(),
            Step::Return | Step::SwitchOff | Step::PowerOnAgain | Step::LookAgain => Ok(()),
        }
    }

    pub(super) fn target(&self) -> u32 {
        self.built.generation.number
    }

    /// Returns the generation to roll back to.
    fn from(&self) -> u32 {
        self.trial.as_ref().map_or(self.old.current().number, |trial| trial.from)
    }

    fn is_bad(&self) -> bool {
        self.judged.as_ref().is_some_and(|judged| judged.fault.is_some())
    }

    /// An upgrade that did not judge continues a rollback that was interrupted.
    fn goes_back(&self) -> bool {
        self.is_bad() || self.judged.is_none()
    }

    fn look(&mut self) -> Result<()> {
        let work = self.work;
        work.watch.step(&format!("Looking at {} as it runs", work.name));
        self.remember(Some(health::observe(work, &work.domain()?, &self.machine)))
    }

    /// Writes down that the machine runs, which generation it gets, and how it is, if somebody looked.
    fn remember(&mut self, before: Option<Observation>) -> Result<()> {
        let work = self.work;
        let log = serial::length(&work.pool()?, &self.old.stem);
        let from = self.running.unwrap_or(self.old.current().number);
        let trial = Trial::new(from, self.target(), log, before);
        trial.write(work.setup, &work.name)?;
        self.trial = Some(trial);
        Ok(())
    }

    /// Returns the metadata for the new generation.
    fn new_metadata(&self) -> Metadata {
        let mut known = self.old.generations.clone();
        // The old generation may never have been judged, as a machine's first; it is now.
        if let Some((trial, seen)) =
            self.trial.as_ref().and_then(|trial| Some((trial, trial.before.as_ref()?)))
        {
            let health = known.get(trial.from).map(|build| build.health);
            if health == Some(BuildHealth::Untried) && seen.system == Some(System::Running) {
                known = known.judged(trial.from, BuildHealth::Healthy);
            }
            // An unhealthy generation must not lower the standard for itself.
            if health != Some(BuildHealth::Unhealthy) && seen.is_settled() {
                known = known.seen(trial.from, seen);
            }
        }
        let generations = known.with_untried(steps::record(&self.machine, &self.built));
        Metadata { generations, ..self.old.clone() }
    }

    /// Returns the metadata for the old generation, with the verdict on the new one.
    fn metadata_back(&self) -> Metadata {
        let tried = self.new_metadata().generations;
        let generations = tried.judged(self.target(), BuildHealth::Unhealthy).at(self.from());
        Metadata { generations, ..self.old.clone() }
    }

    fn deploy(&self, step: &Deploy, metadata: &Metadata) -> Result<()> {
        let work = self.work;
        let (machine, built) = (&self.machine, Some(&self.built));
        let layer = layer_of(&*work.domain()?)?;
        Deployment { work, pool: &work.pool()?, machine, built, metadata, layer }.take(step)
    }

    fn define(&self, metadata: &Metadata) -> Result<()> {
        self.deploy(&Deploy::Define, metadata)
    }

    /// Shuts the guest down; if that fails, the machine keeps its generation.
    fn stop(&mut self) -> Result<()> {
        let work = self.work;
        self.down = Some(Instant::now());
        let limit = self.request.timeout.unwrap_or(STOP_LIMIT);
        let Err(error) = take_down(work, limit) else { return Ok(()) };
        // After ^C the same command continues; after a guest that does not shut down, nothing is to have changed.
        interrupt::check()?;
        self.define(&self.old)?;
        trial::forget(work.setup, &work.name)?;
        let message = format!("{} did not shut down; it runs on unchanged", work.name);
        Err(Failure::user(message).because(error).into())
    }

    fn power_on(&mut self) -> Result<()> {
        let started = power_on(self.work, &self.work.domain()?);
        match started {
            // A generation that QEMU cannot start is as bad as one that does not come up.
            Err(error) if self.request.judge => {
                interrupt::check()?;
                self.judged = Some(Judged::fault(format!("{error:#}")));
                Ok(())
            }
            started => started,
        }
    }

    fn judge(&mut self) -> Result<()> {
        if self.judged.is_some() {
            return Ok(());
        }
        let log = self.trial.as_ref().map_or(0, |trial| trial.log);
        let judged = health::wait(self.work, &self.machine, &self.before(), log, self.request.timeout)?;
        if judged.fault.is_none() {
            record_health(self.work, self.target(), BuildHealth::Healthy, Some(&judged.seen))?;
        }
        self.judged = Some(judged);
        Ok(())
    }

    fn switch_off(&self) -> Result<()> {
        let domain = self.work.domain()?;
        if running(&domain)? != Some(self.from()) && domain.force_off()? {
            self.work.watch.done(&format!("Switched generation {} off", self.target()));
        }
        Ok(())
    }

    fn power_on_again(&self) -> Result<()> {
        let domain = self.work.domain()?;
        if domain.state()?.is_active() { Ok(()) } else { power_on(self.work, &domain) }
    }

    fn look_again(&mut self) -> Result<()> {
        let log = match &self.trial {
            Some(_) => serial::length(&self.work.pool()?, &self.old.stem),
            None => 0,
        };
        self.again = Some(health::wait(self.work, &self.machine, &self.before(), log, self.request.timeout)?);
        Ok(())
    }

    /// Returns how the machine was with the generation to roll back to: as seen before the upgrade, else as its record says.
    fn before(&self) -> Observation {
        let seen = self.trial.as_ref().and_then(|trial| trial.before.clone());
        let recorded = || self.old.generations.get(self.from())?.seen.clone();
        seen.or_else(recorded).unwrap_or_default()
    }

    fn downtime(&self) -> Option<f64> {
        let answered = self.judged.as_ref()?.answered?;
        Some(answered.duration_since(self.down?).as_secs_f64())
    }

    fn rolled_back(&self, fault: &str, judged: Option<&Judged>) -> anyhow::Error {
        let (name, from) = (&self.work.name, self.from());
        let now = match &self.again {
            Some(Judged { fault: None, .. }) => format!("generation {from} runs again"),
            Some(Judged { fault: Some(fault), .. }) => {
                format!("generation {from} was started again, but {fault}")
            }
            None => format!("it is defined on generation {from} again"),
        };
        let said_again = self
            .again
            .iter()
            .flat_map(|again| &again.said)
            .map(|said| Said { source: format!("generation {from}: {}", said.source), ..said.clone() });
        Failure::rolled_back(format!(
            "{name} did not come up healthy with generation {}; {now}",
            self.target()
        ))
        .hint(format!(
            "fix the machine's files and run `nixvm upgrade {name}` again; its data was not touched"
        ))
        .said(said_again.collect())
        .because(health::cause(fault, judged))
        .into()
    }
}
