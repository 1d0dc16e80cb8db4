//! `apply`, the plan: what the hosts lack of what `machines/` declares.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::build::{self, BuiltAhead};
use crate::config;
use crate::disks::data_capacity;
use crate::error::{Failure, Report, Result};
use crate::host::{Call, Setup, Watch, open_pool, ownership};
use crate::hypervisor::{DefinedValues, Hypervisor, Owned};
use crate::journal::{self, WorkState};
use crate::model::domain::Accelerator;
use crate::model::record::Generations;
use crate::model::{Connection, Machine, MachineName, Size, yes_no};

/// What a machine lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Action {
    /// Its disks and its domain.
    Create,
    /// Values of its files that its definition or its data disk does not have.
    Set {
        changes: Vec<Difference>,
    },
    Upgrade {
        from: u32,
        to: u32,
    },
    /// The end of a command that was interrupted: an upgrade continues one, and cleans up after any other.
    Resume {
        command: String,
    },
    /// It is to run whenever its host does, and is off.
    Start,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The file in `machines/NAME` that says it.
    pub file: &'static str,
    pub before: String,
    pub after: String,
}

/// A machine, with what is due, in this order; nothing of one that is as declared.
#[derive(Debug, Serialize)]
pub struct Due {
    pub actions: Vec<Action>,
    #[serde(skip)]
    pub machine: Machine,
    /// Its next generation, which was built to find out.
    #[serde(skip)]
    pub ahead: BuiltAhead,
}

/// What there is of a declared machine.
struct Observed {
    /// `None` where it has no domain.
    domain: Option<ObservedDomain>,
    declared: Machine,
}

struct ObservedDomain {
    active: bool,
    /// The command on it that was interrupted, if any.
    interrupted: Option<String>,
    generations: Generations,
    differences: Vec<Difference>,
}

/// Returns what is due of each machine, in the order of the names. It builds their images, at once, and changes nothing.
///
/// # Errors
/// Something that all machines need is wrong, such as the flake, or the command was interrupted.
pub fn due(call: &Call, names: &[MachineName], watch: &dyn Watch) -> Result<Vec<Result<Due>>> {
    let mut hosts = Hosts::default();
    let observed: Vec<Result<Observed>> = names.iter().map(|name| hosts.observe(call, name)).collect();
    let to_build = observed.iter().flatten().map(|machine| {
        let known = machine.domain.as_ref().map(|domain| domain.generations.clone());
        (machine.declared.clone(), known)
    });
    let mut ahead = build::build_ahead(call.host(), to_build.collect(), watch)?;
    let plan = |observed: Observed| {
        let name = &observed.declared.name;
        let ahead =
            ahead.remove(name).unwrap_or_else(|| Err(Failure::bug("a machine was not built").into()))?;
        let actions = actions(&observed, ahead.number());
        Ok(Due { actions, machine: observed.declared, ahead })
    };
    let mut plan = plan;
    Ok(observed.into_iter().map(|observed| observed.and_then(&mut plan)).collect())
}

/// Returns the machines of this workspace that have a domain and no folder any more, with the libvirt that has them.
pub fn undeclared(call: &Call) -> Result<Vec<(MachineName, Connection)>> {
    let mut names = Vec::new();
    for setup in call.hosts()? {
        // What a silent host has is not known; its machines' own turns say that it is silent.
        let Ok(domains) = setup.hypervisor().and_then(|host| host.domains()) else { continue };
        let ours = domains.into_iter().filter_map(|domain| {
            let metadata = domain.metadata?;
            let theirs = ownership::other_workspace(&setup.workspace, &metadata, domain.id);
            let name = metadata.machine;
            let is_left = theirs.is_none() && !config::exists(&setup.workspace, &name);
            is_left.then(|| (name, setup.connect.clone()))
        });
        names.extend(ours);
    }
    Ok(names)
}

/// Connections to the hosts of the machines, one each.
#[derive(Default)]
struct Hosts(BTreeMap<String, Result<Hypervisor, String>>);

impl Hosts {
    fn observe(&mut self, call: &Call, name: &MachineName) -> Result<Observed> {
        let setup = call.machine(name)?;
        let declared = config::load(&setup.workspace, name)?;
        let domain = match self.at(&setup)?.own_if_any(name)? {
            None => None,
            Some(domain) => Some(observe(&setup, self.at(&setup)?, &domain, &declared)?),
        };
        Ok(Observed { domain, declared })
    }

    /// A host that does not answer is not asked again.
    fn at(&mut self, setup: &Setup) -> Result<&Hypervisor> {
        let uri = setup.connect.as_str();
        if !self.0.contains_key(uri) {
            let opened = setup.hypervisor().map_err(|error| Report::of(&error).error);
            self.0.insert(uri.to_owned(), opened);
        }
        match &self.0[uri] {
            Ok(host) => Ok(host),
            Err(silent) => Err(Failure::user(silent.clone())
                .hint("see that the host is up: `nixvm list` asks all hosts")
                .into()),
        }
    }
}

fn observe(setup: &Setup, host: &Hypervisor, domain: &Owned, declared: &Machine) -> Result<ObservedDomain> {
    let disk = data_capacity(&open_pool(setup, host)?, domain)?;
    let values = domain.defined_values()?;
    let interrupted = match journal::state(&setup.workspace.work_dir(), &declared.name)? {
        WorkState::Interrupted(left) => Some(left.holder.command.to_string()),
        WorkState::Idle | WorkState::AtWork(..) => None,
    };
    Ok(ObservedDomain {
        active: domain.state()?.is_active(),
        interrupted,
        generations: domain.metadata().generations.clone(),
        differences: differences(declared, values.as_ref(), domain.autostart()?, disk),
    })
}

/// Returns what brings a machine to what its files declare; `built` is the generation that they give.
fn actions(observed: &Observed, built: u32) -> Vec<Action> {
    let start = observed.declared.autostart.then_some(Action::Start);
    let Some(domain) = &observed.domain else {
        return [Action::Create].into_iter().chain(start).collect();
    };
    let changes = domain.differences.clone();
    let from = domain.generations.current().number;
    let set = (!changes.is_empty()).then_some(Action::Set { changes });
    let upgrade = match &domain.interrupted {
        Some(command) => Some(Action::Resume { command: command.clone() }),
        None => (built != from).then_some(Action::Upgrade { from, to: built }),
    };
    set.into_iter().chain(upgrade).chain(start.filter(|_| !domain.active)).collect()
}

/// Compares a machine's files with its definition, which an older nixvm may not have recorded, and its data disk, which never
/// shrinks.
fn differences(
    declared: &Machine,
    defined: Option<&DefinedValues>,
    autostart: bool,
    disk: Size,
) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut compare = |file, before: String, after: String| {
        if before != after {
            found.push(Difference { file, before, after });
        }
    };
    if let Some(defined) = defined {
        let emulated = defined.kind == Accelerator::Tcg.domain_type();
        let accelerator = if emulated { Accelerator::Tcg } else { Accelerator::Kvm };
        compare("memory", defined.memory.clone(), format!("{} MiB", declared.memory.mib()));
        compare("vcpus", defined.vcpus.clone(), accelerator.vcpus(declared.vcpus).to_string());
        compare("mac-address", defined.mac.to_lowercase(), declared.mac.to_string().to_lowercase());
        compare("network", network(defined.card.as_ref()), declared.network.to_string());
    }
    let [is, wanted] = [autostart, declared.autostart].map(|value| yes_no::word(value).to_owned());
    compare("autostart", is, wanted);
    if declared.var_size > disk {
        compare("var_size", disk.exact(), declared.var_size.exact());
    }
    found
}

/// Returns a recorded network card as the file `network` names it.
fn network(card: Option<&(String, String)>) -> String {
    match card {
        None => "user".into(),
        Some((kind, source)) if kind == "bridge" => format!("bridge:{source}"),
        Some(_) => "nat".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample;

    const GIB: u64 = 1 << 30;

    fn defined() -> DefinedValues {
        let machine = sample::machine();
        DefinedValues {
            kind: "kvm".into(),
            memory: format!("{} MiB", machine.memory.mib()),
            vcpus: machine.vcpus.to_string(),
            mac: machine.mac.to_string().to_uppercase(),
            card: Some(("network".into(), "default".into())),
        }
    }

    fn files(differences: &[Difference]) -> Vec<(&str, &str, &str)> {
        differences.iter().map(|found| (found.file, found.before.as_str(), found.after.as_str())).collect()
    }

    #[test]
    fn only_what_the_definition_does_not_have_is_different() {
        let machine = sample::machine();
        let disk = machine.var_size;
        let compared = |values: &DefinedValues| differences(&machine, Some(values), false, disk);
        assert_eq!(compared(&defined()), []);
        // An emulated guest has one processor, whatever its files say.
        let emulated = DefinedValues { kind: "qemu".into(), vcpus: "1".into(), ..defined() };
        assert_eq!(compared(&emulated), []);
        let other = DefinedValues { memory: "512 MiB".into(), card: None, ..defined() };
        let memory = format!("{} MiB", machine.memory.mib());
        assert_eq!(
            files(&compared(&other)),
            [("memory", "512 MiB", memory.as_str()), ("network", "user", "nat")]
        );
        let bridged = DefinedValues { card: Some(("bridge".into(), "br0".into())), ..defined() };
        assert_eq!(files(&compared(&bridged)), [("network", "bridge:br0", "nat")]);
        assert_eq!(files(&differences(&machine, None, true, disk)), [("autostart", "yes", "no")]);
    }

    #[test]
    fn a_data_disk_grows_and_never_shrinks() {
        let machine = sample::machine();
        let at = |gib: u64| differences(&machine, None, false, Size::from_bytes(gib * GIB));
        assert_eq!(files(&at(10)), [("var_size", "10G", "20G")]);
        assert_eq!((at(20), at(30)), (vec![], vec![]));
    }

    #[test]
    fn what_is_due_comes_in_an_order_that_costs_one_restart() {
        let due = |autostart, domain: Option<(bool, Vec<Difference>)>, built| {
            let declared = Machine { autostart, ..sample::machine() };
            let domain = domain.map(|(active, differences)| ObservedDomain {
                active,
                interrupted: None,
                generations: Generations::first(crate::model::record::tests::build(1)),
                differences,
            });
            actions(&Observed { domain, declared }, built)
        };
        let change = || Difference { file: "memory", before: "1".into(), after: "2".into() };
        assert_eq!(due(false, None, 1), [Action::Create]);
        assert_eq!(due(true, None, 1), [Action::Create, Action::Start]);
        assert_eq!(due(true, Some((true, vec![])), 1), []);
        assert_eq!(due(true, Some((false, vec![])), 1), [Action::Start]);
        assert_eq!(due(false, Some((false, vec![])), 1), []);
        assert_eq!(
            due(true, Some((false, vec![change()])), 2),
            [Action::Set { changes: vec![change()] }, Action::Upgrade { from: 1, to: 2 }, Action::Start]
        );
    }
}
