//! `rollback`: returns to a generation that is in the pool, without a build.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::config;
use crate::disks::layer_of;
use crate::error::{Failure, Result};
use crate::guest::health::{self, Judged};
use crate::guest::{serial, trial};
use crate::host::{Setup, Watch};
use crate::interrupt;
use crate::journal::Intent;
use crate::model::MachineName;
use crate::model::record::{Build, BuildHealth, Metadata};
use crate::model::volume::Role;
use crate::storage::Pool;
use crate::work::generations::{record_health, running};
use crate::work::power::{on_again, power_on};
use crate::work::shutdown::{STOP_LIMIT, take_down};
use crate::work::{Plan, Work, steps};

#[derive(Debug, Clone, Serialize)]
pub struct RolledBack {
    pub machine: MachineName,
    pub from: u32,
    pub to: u32,
    pub restarted: bool,
    /// Seconds it took without the guest's own shutdown and boot.
    pub seconds: f64,
    /// The units that fail in it, as they did when it was last seen well.
    pub failing: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Define(u32),
    Stop,
    PowerOn,
    Look,
}

impl Plan for Step {
    fn title(&self) -> String {
        match self {
            Step::Define(number) => format!("define the domain on generation {number}"),
            Step::Stop => "shut the machine down".into(),
            Step::PowerOn => "start that generation".into(),
            Step::Look => "wait until it comes up".into(),
        }
    }

    fn intent(&self) -> Option<Intent> {
        match self {
            Step::Define(number) => Some(Intent::Generation(*number)),
            Step::PowerOn => Some(Intent::Restart),
            Step::Stop | Step::Look => None,
        }
    }
}

/// Returns the remaining steps. `ran` says whether an interrupted run of the same command found the machine running; `looked`
/// says whether the generation's health is known: a rollback that failed halfway may have started it without looking.
fn plan(target: u32, current: u32, running: Option<u32>, ran: bool, looked: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    if target != current {
        steps.push(Step::Define(target));
    }
    match running {
        Some(running) if running != target => steps.extend([Step::Stop, Step::PowerOn, Step::Look]),
        Some(_) if ran || !looked => steps.push(Step::Look),
        None if ran => steps.extend([Step::PowerOn, Step::Look]),
        _ => {}
    }
    steps
}

/// Makes a machine run an earlier generation: without a number, the last before the current one that is not known to be
/// unhealthy. A machine that is off is not started.
///
/// # Errors
/// There is no such generation, or the guest does not shut down: nothing has changed. If the machine is unhealthy after the
/// restart, it keeps the wanted generation, so that the user can look at it.
pub fn rollback(
    setup: &Setup,
    name: &MachineName,
    generation: Option<u32>,
    timeout: Option<Duration>,
    watch: &dyn Watch,
) -> Result<RolledBack> {
    let work = Work::begin(setup, name, "rollback", watch)?;
    let began = Instant::now();
    let machine = config::load(&setup.workspace, name)?;
    let domain = work.domain()?;
    let (old, running) = (domain.metadata().clone(), running(&domain)?);
    let layer = layer_of(&domain)?;
    // An interrupted run has moved the current generation already, so its own choice counts.
    let mut known = old.generations.all().iter().map(|build| build.number);
    let generation = generation.or_else(|| known.find(|number| work.was_to(Intent::Generation(*number))));
    let target = choose(&old, generation)?.clone();
    require_volumes(&work.pool()?, &old, &target)?;

    let (ran, looked) = (work.was_to(Intent::Restart), target.health != BuildHealth::Untried);
    let steps = plan(target.number, old.current().number, running, ran, looked);
    let define = |metadata: &Metadata| steps::define(setup, &work.host, &machine, metadata, layer, watch);
    let (mut away, mut judged, mut mark) = (Duration::ZERO, None, 0);
    // A generation is compared with how it was itself; where it was never observed, with the running one.
    let mut before = target.seen.clone();
    // This also ends an upgrade's trial.
    trial::forget(setup, name)?;
    let done = work.carry_out(&steps, |step| {
        let step_began = Instant::now();
        match step {
            Step::Define(_) => {
                return define(&Metadata { generations: old.generations.at(target.number), ..old.clone() });
            }
            Step::Stop => {
                before.get_or_insert_with(|| health::observe(&work, &domain, &machine));
                if let Err(error) = take_down(&work, timeout.unwrap_or(STOP_LIMIT)) {
                    interrupt::check()?;
                    define(&old)?;
                    let message = format!("{name} did not shut down and keeps running; nothing was changed");
                    return Err(Failure::user(message).because(error).into());
                }
            }
            Step::PowerOn => {
                mark = serial::length(&work.pool()?, &old.stem);
                power_on(&work, &work.domain()?)?;
            }
            Step::Look => {
                let before = before.clone().unwrap_or_default();
                let came_up = health::wait(&work, &machine, &before, mark, timeout)?;
                let (health, seen) = match &came_up.fault {
                    None => (BuildHealth::Healthy, Some(&came_up.seen)),
                    Some(_) => (BuildHealth::Unhealthy, None),
                };
                record_health(&work, target.number, health, seen)?;
                judged = Some(came_up);
            }
        }
        away += step_began.elapsed();
        Ok(())
    });
    on_again(&work, running.is_some(), done)?;

    let seconds = began.elapsed().saturating_sub(away).as_secs_f64();
    let restarted = steps.contains(&Step::PowerOn);
    let to = target.number;
    if let Some(judged @ Judged { fault: Some(fault), .. }) = &judged {
        return Err(Failure::user(format!("{name} runs generation {to} and is not healthy"))
            .hint(format!("`nixvm generations {name}` lists the others"))
            .because(health::cause(fault, Some(judged)))
            .into());
    }
    if restarted {
        watch.done(&format!("{name} runs generation {to}; took {seconds:.2} s without the restart itself"));
    } else if judged.is_some() {
        watch.done(&format!("{name} runs generation {to} and is healthy"));
    } else if steps.is_empty() {
        watch.note(&format!("{name} has generation {to} already"));
    } else {
        watch.done(&format!("{name} boots generation {to} at its next start"));
    }
    let failing = judged.map(|judged| judged.seen.failing()).unwrap_or_default();
    health::note_failing(&work, &failing);
    Ok(RolledBack { machine: name.clone(), from: old.current().number, to, restarted, seconds, failing })
}

fn choose(metadata: &Metadata, wanted: Option<u32>) -> Result<&Build> {
    let (all, name) = (&metadata.generations, &metadata.machine);
    let current = metadata.current().number;
    let (chosen, lack) = match wanted {
        Some(number) => (all.get(number), format!("no generation {number}")),
        None => (all.before(current), format!("no generation before {current} to go back to")),
    };
    chosen.ok_or_else(|| {
        let numbers: Vec<String> = all.all().iter().map(|build| build.number.to_string()).collect();
        Failure::user(format!("{name} has {lack}; nothing was changed"))
            .hint(format!("its generations are {}: see `nixvm generations {name}`", numbers.join(", ")))
            .into()
    })
}

fn require_volumes(pool: &Pool, metadata: &Metadata, build: &Build) -> Result<()> {
    let (number, machine) = (build.number, &metadata.machine);
    for volume in [Role::Boot(number).of(&metadata.stem), build.base.clone()] {
        if !pool.is_whole(&volume)? {
            let lack = format!("generation {number} lacks its volume `{volume}` in the pool");
            return Err(Failure::user(format!("{lack}; nothing was changed"))
                .hint(format!("`nixvm generations {machine}` shows the others"))
                .into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::Generations;
    use crate::model::record::tests::build;

    #[test]
    fn a_machine_that_is_off_stays_off_and_one_that_runs_it_goes_on() {
        assert_eq!(plan(1, 2, None, false, true), [Step::Define(1)]);
        assert_eq!(
            plan(1, 2, Some(2), false, true),
            [Step::Define(1), Step::Stop, Step::PowerOn, Step::Look]
        );
        assert_eq!(plan(1, 2, Some(1), false, true), [Step::Define(1)]);
        assert_eq!(plan(1, 1, Some(2), false, true), [Step::Stop, Step::PowerOn, Step::Look]);
        assert_eq!(plan(1, 1, Some(1), false, true), []);
    }

    #[test]
    fn one_that_ran_when_it_was_interrupted_runs_at_its_end_and_was_looked_at() {
        assert_eq!(plan(1, 1, None, true, true), [Step::PowerOn, Step::Look]);
        assert_eq!(plan(1, 1, Some(2), true, true), plan(1, 1, Some(2), false, true));
        assert_eq!(plan(1, 1, Some(1), true, true), [Step::Look]);
    }

    #[test]
    fn a_generation_that_runs_and_that_nobody_has_seen_come_up_is_looked_at() {
        assert_eq!(plan(1, 1, Some(1), false, false), [Step::Look]);
        assert_eq!(plan(1, 1, None, false, false), []);
        assert_eq!(plan(1, 2, Some(1), false, false), [Step::Define(1), Step::Look]);
    }

    #[test]
    fn the_generation_is_the_one_that_was_named_or_the_last_good_one() {
        let generations = Generations::new(3, vec![build(1), build(2), build(3)]).unwrap();
        let metadata = |generations: Generations| Metadata {
            machine: "web".parse().unwrap(),
            workspace: "/w".into(),
            stem: "web".parse().unwrap(),
            ssh_port: None,
            generations,
            snapshots: Vec::new(),
        };
        let three = metadata(generations.judged(2, BuildHealth::Unhealthy));
        assert_eq!(choose(&three, None).unwrap().number, 1);
        assert_eq!(choose(&three, Some(2)).unwrap().number, 2);
        let report = crate::error::Report::of(&choose(&three, Some(7)).unwrap_err());
        assert_eq!(report.error, "web has no generation 7; nothing was changed");
        assert_eq!(report.hints, ["its generations are 1, 2, 3: see `nixvm generations web`"]);
        assert!(choose(&metadata(generations.at(1)), None).is_err());
    }
}
