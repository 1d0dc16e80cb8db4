//! `set`: a machine's memory, processors and data disk, whether it starts with its host, and whether its data is protected; in
//! force at once where that can be.
//!
//! A running guest keeps the processors that it was started with. Its memory can shrink, and grow back to what it was started
//! with. More of either could be plugged in only where the domain declares slots and nodes for it beforehand, and their
//! number would be a guess; so more takes a start.

use serde::Serialize;

use crate::config;
use crate::disks::{data_capacity, grow_data, layer_of};
use crate::error::{Failure, Result};
use crate::host::{Setup, Watch, accelerator, memory};
use crate::hypervisor::LiveSize;
use crate::model::domain::Accelerator;
use crate::model::{Machine, MachineName, Size, Vcpus, yes_no};
use crate::work::{Plan, Work, autostart, steps};

/// The wanted values; `None` leaves one as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    pub memory: Option<Size>,
    pub vcpus: Option<Vcpus>,
    pub var_size: Option<Size>,
    pub autostart: Option<bool>,
    pub protect: Option<bool>,
}

/// When a value is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    Unchanged,
    Now,
    NextStart,
    /// At the first start with KVM: an emulated guest has one processor.
    WithKvm,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The file in `machines/NAME` that holds it.
    pub key: &'static str,
    pub before: String,
    pub after: String,
    pub effect: Effect,
}

#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    pub machine: MachineName,
    pub settings: Vec<Setting>,
}

/// The machine before anything is set.
#[derive(Debug, Clone, Copy, Default)]
struct Observed {
    /// `None` where the guest is off.
    live: Option<LiveSize>,
    /// The size of the data disk; `None` where the machine is only declared.
    disk: Option<Size>,
    /// Whether guests run without KVM.
    emulated: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Files,
    Define,
    Identity,
    Memory(Size),
    Grow(Size),
}

impl Plan for Step {
    fn title(&self) -> String {
        match self {
            Step::Files => "write the machine's files".into(),
            Step::Define => "define the domain".into(),
            Step::Identity => "write the identity volume".into(),
            Step::Memory(_) => "change the running guest's memory".into(),
            Step::Grow(_) => "grow the data disk".into(),
        }
    }
}

/// Sets the wanted values: in the machine's files, and at once where the guest can take them.
///
/// # Errors
/// The data disk would have to shrink: nothing was changed. Where a later step fails, the same command completes the work.
pub fn set(setup: &Setup, name: &MachineName, asked: Wanted, watch: &dyn Watch) -> Result<Settings> {
    let work = Work::begin(setup, name, "set", watch)?;
    let machine = config::load(&setup.workspace, name)?;
    let there = match work.host.own_if_any(name)? {
        Some(domain) => Some((domain, work.pool()?)),
        None => None,
    };
    let mut observed = Observed::default();
    if let Some((domain, pool)) = &there {
        observed.disk = Some(data_capacity(pool, domain)?);
        observed.emulated = accelerator(setup, &work.host, watch)? == Accelerator::Tcg;
        observed.live = if domain.state()?.is_active() { Some(domain.live_size()?) } else { None };
    }
    let (settings, steps) = plan(&machine, asked, observed)?;
    if let Some(wanted) = asked.memory {
        memory::warn_total(&work.host, name, wanted, watch)?;
    }
    work.carry_out(&steps, |step| match (step, &there) {
        (Step::Files, _) => config::change(&setup.workspace, name, |files| {
            files.memory = asked.memory.or(files.memory);
            files.vcpus = asked.vcpus.or(files.vcpus);
            files.var_size = asked.var_size.or(files.var_size);
            files.autostart = asked.autostart.or(files.autostart);
            files.protect = asked.protect.or(files.protect);
        })
        .map(drop),
        (Step::Define, Some((domain, _))) => {
            let machine = config::load(&setup.workspace, name)?;
            steps::define(setup, &work.host, &machine, domain.metadata(), layer_of(domain)?, watch)
        }
        (Step::Identity, Some(_)) => steps::refresh_identity(&work, &config::load(&setup.workspace, name)?),
        (Step::Memory(memory), Some((domain, _))) => domain.set_live_memory(*memory),
        (Step::Grow(size), Some((domain, pool))) => grow_data(pool, domain, *size),
        (_, None) => Ok(()),
    })?;
    if asked.autostart == Some(true) {
        autostart::note_session(&work.host, name, watch);
    }
    Ok(Settings { machine: name.clone(), settings })
}

/// Returns when each wanted value is in force, and the steps to it.
fn plan(machine: &Machine, asked: Wanted, observed: Observed) -> Result<(Vec<Setting>, Vec<Step>)> {
    let mut settings = Vec::new();
    let mut steps = vec![Step::Files];
    let is_defined = Wanted { protect: None, ..asked } != Wanted::default();
    if observed.disk.is_some() && is_defined {
        // The host itself may be what starts the machine next, and reads the definition alone.
        steps.push(Step::Define);
    }
    let unless = |same: bool, effect| if same { Effect::Unchanged } else { effect };
    if let Some(memory) = asked.memory {
        let same = memory == machine.memory;
        let effect = match observed.live {
            Some(live) if live.memory == memory => unless(same, Effect::Now),
            Some(live) if memory <= live.most_memory => {
                steps.push(Step::Memory(memory));
                Effect::Now
            }
            Some(_) => Effect::NextStart,
            None => unless(same, Effect::NextStart),
        };
        settings.push(setting("memory", machine.memory.exact(), memory.exact(), effect));
    }
    if let Some(vcpus) = asked.vcpus {
        let same = vcpus == machine.vcpus;
        let effect = match observed.live {
            _ if observed.emulated && same => Effect::Unchanged,
            _ if observed.emulated && Accelerator::Tcg.vcpus(vcpus) != vcpus.get() => Effect::WithKvm,
            Some(live) if live.vcpus == vcpus.get() => unless(same, Effect::Now),
            Some(_) => Effect::NextStart,
            None => unless(same, Effect::NextStart),
        };
        settings.push(setting("vcpus", machine.vcpus.to_string(), vcpus.to_string(), effect));
    }
    if let Some(size) = asked.var_size {
        let same = size == machine.var_size;
        let effect = match observed.disk {
            Some(disk) if size < disk => return Err(smaller(&machine.name, size, disk).into()),
            Some(disk) if size > disk => {
                steps.push(Step::Grow(size));
                Effect::Now
            }
            Some(_) => unless(same, Effect::Now),
            None => unless(same, Effect::NextStart),
        };
        settings.push(setting("var_size", machine.var_size.exact(), size.exact(), effect));
    }
    if let Some(autostart) = asked.autostart {
        let [before, after] = [machine.autostart, autostart].map(|value| yes_no::word(value).to_owned());
        let effect = unless(before == after, Effect::Now);
        if autostart && observed.disk.is_some() {
            steps.push(Step::Identity);
        }
        settings.push(setting("autostart", before, after, effect));
    }
    if let Some(protect) = asked.protect {
        let [before, after] = [machine.protect, protect].map(|value| yes_no::word(value).to_owned());
        let effect = unless(before == after, Effect::Now);
        settings.push(setting("protect", before, after, effect));
    }
    Ok((settings, steps))
}

fn setting(key: &'static str, before: String, after: String, effect: Effect) -> Setting {
    Setting { key, before, after, effect }
}

fn smaller(name: &MachineName, size: Size, disk: Size) -> Failure {
    let [size, disk] = [size, disk].map(|size| size.exact());
    Failure::user(format!("the data disk of {name} has {disk} and cannot be made {size}; nothing was changed"))
        .hint(format!(
            "disks only grow: data behind the new end would be lost. `nixvm recreate {name} {size}` makes a new, empty one"
        ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample;

    const GIB: u64 = 1 << 30;

    fn gib(size: u64) -> Size {
        Size::from_bytes(size * GIB)
    }

    fn running() -> Observed {
        let live = LiveSize { memory: gib(2), most_memory: gib(2), vcpus: 2 };
        Observed { live: Some(live), disk: Some(gib(20)), emulated: false }
    }

    fn asked(memory: u64, vcpus: &str, var_size: u64) -> Wanted {
        Wanted {
            memory: Some(gib(memory)),
            vcpus: Some(vcpus.parse().unwrap()),
            var_size: Some(gib(var_size)),
            ..Wanted::default()
        }
    }

    fn effects(asked: Wanted, observed: Observed) -> (Vec<Effect>, Vec<Step>) {
        let (settings, steps) = plan(&sample::machine(), asked, observed).unwrap();
        (settings.iter().map(|setting| setting.effect).collect(), steps)
    }

    #[test]
    fn a_running_guest_gets_what_it_can_and_the_rest_waits() {
        use Effect::{NextStart, Now, Unchanged};
        let more = effects(asked(4, "4", 50), running());
        assert_eq!(
            more,
            (vec![NextStart, NextStart, Now], vec![Step::Files, Step::Define, Step::Grow(gib(50))])
        );
        let less = effects(asked(1, "1", 20), running());
        assert_eq!(
            less,
            (vec![Now, NextStart, Unchanged], vec![Step::Files, Step::Define, Step::Memory(gib(1))])
        );
        assert_eq!(effects(asked(2, "2", 20), running()).1, [Step::Files, Step::Define]);
        // Changed by hand before: the files say it, the guest does not have it.
        let mut live = running();
        live.live.as_mut().unwrap().memory = gib(1);
        assert_eq!(effects(asked(2, "2", 20), live).1, [Step::Files, Step::Define, Step::Memory(gib(2))]);
    }

    #[test]
    fn of_a_machine_that_is_off_only_the_disk_changes_now() {
        use Effect::{NextStart, Now, Unchanged};
        let off = Observed { live: None, ..running() };
        let grown = vec![Step::Files, Step::Define, Step::Grow(gib(50))];
        assert_eq!(effects(asked(4, "2", 50), off), (vec![NextStart, Unchanged, Now], grown));
        let declared = effects(asked(4, "4", 5), Observed::default());
        assert_eq!(declared, (vec![NextStart; 3], vec![Step::Files]));
    }

    #[test]
    fn an_emulated_guest_has_one_processor_whatever_is_set() {
        let live = LiveSize { vcpus: 1, ..running().live.unwrap() };
        let emulated = Observed { live: Some(live), emulated: true, ..running() };
        for observed in [emulated, Observed { live: None, ..emulated }] {
            let vcpus = |vcpus| effects(asked(2, vcpus, 20), observed).0[1];
            assert_eq!((vcpus("2"), vcpus("4")), (Effect::Unchanged, Effect::WithKvm));
        }
        assert_eq!(effects(asked(2, "1", 20), emulated).0[1], Effect::Now);
    }

    #[test]
    fn a_machine_that_is_to_start_with_its_host_gets_what_nobody_will_write_then() {
        let autostart = |on| Wanted { autostart: Some(on), ..Wanted::default() };
        for observed in [running(), Observed { live: None, ..running() }] {
            let on = effects(autostart(true), observed);
            assert_eq!(on, (vec![Effect::Now], vec![Step::Files, Step::Define, Step::Identity]));
            let off = effects(autostart(false), observed);
            assert_eq!(off, (vec![Effect::Unchanged], vec![Step::Files, Step::Define]));
        }
        assert_eq!(effects(autostart(true), Observed::default()).1, [Step::Files]);
        let protect = Wanted { protect: Some(true), ..Wanted::default() };
        assert_eq!(effects(protect, running()), (vec![Effect::Now], vec![Step::Files]));
    }

    #[test]
    fn no_disk_shrinks() {
        for observed in [running(), Observed { live: None, ..running() }] {
            let refused = plan(&sample::machine(), asked(4, "4", 19), observed).unwrap_err();
            assert_eq!(
                refused.to_string(),
                "the data disk of web has 20G and cannot be made 19G; nothing was changed"
            );
        }
    }
}
