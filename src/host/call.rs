//! The pool and the libvirt that a call was given, and those of the machines that it is about.
//!
//! A machine's own files say which libvirt runs it and which pool holds its disks. The [`Setup`] of an operation is made from
//! them here, for one machine, so that no flag or variable can override the machine's record.

use std::fmt;

use crate::config::{self, Place};
use crate::error::{Failure, Result};
use crate::host::{Setup, pool_of};
use crate::journal;
use crate::model::suggest::did_you_mean;
use crate::model::{Connection, HOSTS, HostLabel, Hosts, Libvirt, MachineName, NamedHost, PoolName};

/// A value that was given on the command line or in the environment.
#[derive(Debug, Clone)]
pub struct Asked<T> {
    pub value: T,
    /// The flag or variable as messages name it: `--pool`.
    pub by: &'static str,
}

/// A libvirt: that of a host in the workspace's file, or one by its URI alone.
#[derive(Debug, Clone)]
pub enum Target {
    Host(NamedHost),
    Uri(Connection),
}

impl Target {
    fn connection(&self) -> &Connection {
        match self {
            Target::Host(host) => &host.connection,
            Target::Uri(connection) => connection,
        }
    }

    fn host(&self) -> Option<&NamedHost> {
        match self {
            Target::Host(host) => Some(host),
            Target::Uri(_) => None,
        }
    }
}

/// Two are equal that lead to one libvirt, however it is named.
impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.connection() == other.connection()
    }
}

impl Default for Target {
    fn default() -> Self {
        Target::Uri(Connection::default())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Host(host) => host.fmt(f),
            Target::Uri(connection) => connection.fmt(f),
        }
    }
}

/// The pool and the libvirt that one call of nixvm was given.
#[derive(Debug, Clone)]
pub struct Call {
    /// With the pool and libvirt that were given, or else the defaults.
    setup: Setup,
    pool: Option<Asked<PoolName>>,
    connect: Option<Asked<Target>>,
}

impl Call {
    /// Returns a call with the given pool and libvirt, if any, in place of those of `setup`.
    pub fn new(setup: Setup, pool: Option<Asked<PoolName>>, connect: Option<Asked<Target>>) -> Self {
        let target = given(&connect).unwrap_or_default();
        let call = Call { setup, pool, connect };
        Call { setup: call.at(&target), ..call }
    }

    /// Returns the setup at that libvirt, with the pool that was given, or else that of its host, or the default.
    fn at(&self, target: &Target) -> Setup {
        let host = target.host().cloned();
        let pool = given(&self.pool).or_else(|| host.as_ref()?.pool.clone()).unwrap_or_default();
        Setup { connect: target.connection().clone(), pool, host, ..self.setup.clone() }
    }

    /// Returns the setup for commands that are not about a machine.
    pub fn host(&self) -> &Setup {
        &self.setup
    }

    /// Returns the setup for work on a machine, in the libvirt and the pool that its files record. Without a recorded pool, that
    /// of its domain counts; and for a machine that has none, the given one, or that of its host, or the default.
    ///
    /// A flag or variable that says otherwise is a usage error.
    pub fn machine(&self, name: &MachineName) -> Result<Setup> {
        let (place, journal) = self.recorded(name)?;
        let by = |file: &str| journal.clone().unwrap_or_else(|| format!("machines/{name}/{file}"));
        let file = if matches!(place.libvirt, Some(Libvirt::Host(_))) { "host" } else { "connection" };
        // Only where it is needed: a machine at a URI can be destroyed whatever the file says.
        let listed = |label: &HostLabel| Ok(config::hosts(&self.setup.workspace)?.get(label).cloned());
        let recorded = place.libvirt.map(|libvirt| target(name, libvirt, listed)).transpose()?;
        let target = agree(name, recorded, &self.connect, "at the libvirt", &by(file))?;
        let setup = self.at(&target.unwrap_or_default());
        // If libvirt does not answer, a command that needs it says so itself; `build` needs none.
        let learnt = || setup.hypervisor().and_then(|host| pool_of(&host, name)).ok().flatten();
        let (pool, by) = match place.pool {
            Some(pool) => (Some(pool), by("pool")),
            None => (learnt(), "its domain".into()),
        };
        let pool = agree(name, pool, &self.pool, "in the pool", &by)?;
        Ok(Setup { pool: pool.unwrap_or_else(|| setup.pool.clone()), ..setup })
    }

    /// Returns the setup for a machine that the call does not name: where its files say where it is, nothing else counts.
    pub fn other(&self, name: &MachineName) -> Result<Setup> {
        let (place, _) = self.recorded(name)?;
        let pool = self.pool.clone().filter(|_| place.pool.is_none());
        let connect = self.connect.clone().filter(|_| place.libvirt.is_none());
        Call { pool, connect, setup: self.setup.clone() }.machine(name)
    }

    /// Returns where a machine is, as its files record it, or else its journal, whose name is returned too.
    fn recorded(&self, name: &MachineName) -> Result<(Place, Option<String>)> {
        let workspace = &self.setup.workspace;
        if config::exists(workspace, name) {
            return Ok((config::place(workspace, name)?, None));
        }
        // An interrupted `clone` or `restore-backup` has volumes in a pool already, and no files yet.
        let left = journal::read(&workspace.work_dir(), name)?;
        let (pool, connection) = left.map_or((None, None), |entry| (entry.pool, entry.connection));
        let libvirt = match connection {
            None => None,
            Some(connection) => Some(match config::hosts(workspace)?.at(&connection) {
                Some(host) => Libvirt::Host(host.name.clone()),
                None => Libvirt::Uri(connection),
            }),
        };
        Ok((Place { pool, libvirt }, Some(format!("output/work/{name}.json"))))
    }

    /// Returns the setup for a machine that is being renamed, whichever name its folder has by now.
    pub fn renamed(&self, old: &MachineName, new: &MachineName) -> Result<Setup> {
        let workspace = &self.setup.workspace;
        let done = !config::exists(workspace, old) && config::exists(workspace, new);
        self.machine(if done { new } else { old })
    }

    /// Returns the setups for a machine and for its copy: in the same libvirt, and in the same pool unless another was given.
    pub fn copied(&self, name: &MachineName, new: &MachineName) -> Result<(Setup, Setup)> {
        let from = Call { pool: None, ..self.clone() }.machine(name)?;
        let (place, journal) = self.recorded(new)?;
        let by = journal.unwrap_or_else(|| format!("machines/{new}/pool"));
        let pool = agree(new, place.pool, &self.pool, "in the pool", &by)?;
        let to = Setup { pool: pool.unwrap_or_else(|| from.pool.clone()), ..from.clone() };
        Ok((from, to))
    }

    /// Returns a setup for each libvirt that was given (by a flag: only that one), that the file `hosts` names, or that runs a
    /// machine of this workspace.
    pub fn hosts(&self) -> Result<Vec<Setup>> {
        if self.connect.as_ref().is_some_and(|asked| asked.by.starts_with('-')) {
            return Ok(vec![self.setup.clone()]);
        }
        let workspace = &self.setup.workspace;
        let hosts = config::hosts(workspace)?;
        let listed = |label: &HostLabel| Ok(hosts.get(label).cloned());
        // First, so that a libvirt with a name is known by it.
        let mut targets: Vec<Target> =
            hosts.iter().cloned().map(Target::Host).chain(given(&self.connect)).collect();
        for name in config::list(workspace)? {
            let libvirt = config::place(workspace, &name)?.libvirt;
            targets.push(match libvirt {
                Some(libvirt) => target(&name, libvirt, listed)?,
                None => Target::Uri(self.setup.connect.clone()),
            });
        }
        if targets.is_empty() {
            targets.push(Target::Uri(self.setup.connect.clone()));
        }
        targets.sort_by(|a, b| a.connection().cmp(b.connection()));
        targets.dedup();
        Ok(targets.iter().map(|target| self.at(target)).collect())
    }

    /// Returns a setup for the pool that was given, or else for each pool with disks of this workspace's machines.
    pub fn pools(&self) -> Result<Vec<Setup>> {
        if self.pool.is_some() || self.connect.is_some() {
            return Ok(vec![self.setup.clone()]);
        }
        let mut setups: Vec<Setup> = vec![];
        for name in config::list(&self.setup.workspace)? {
            let setup = self.machine(&name)?;
            if !setups.iter().any(|other| other.connect == setup.connect && other.pool == setup.pool) {
                setups.push(setup);
            }
        }
        Ok(if setups.is_empty() { vec![self.setup.clone()] } else { setups })
    }
}

/// Returns where the files of a machine say that it is; `listed` finds a host of the file `hosts`.
fn target(
    name: &MachineName,
    libvirt: Libvirt,
    listed: impl FnOnce(&HostLabel) -> Result<Option<NamedHost>>,
) -> Result<Target> {
    match libvirt {
        Libvirt::Uri(connection) => Ok(Target::Uri(connection)),
        Libvirt::Host(label) => listed(&label)?.map(Target::Host).ok_or_else(|| removed(name, &label).into()),
    }
}

/// Returns the host that the command line names.
pub fn named(hosts: &Hosts, name: &HostLabel) -> Result<NamedHost> {
    hosts.get(name).cloned().ok_or_else(|| {
        let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        let hint = match (did_you_mean(name.as_str(), names.iter().copied()), names.is_empty()) {
            (Some(meant), _) => format!("did you mean `{meant}`?"),
            (None, false) => format!("the hosts are {}", names.join(", ")),
            (None, true) => format!("write a line `{name} URI` into the workspace's file `{HOSTS}`"),
        };
        Failure::usage(format!("the file `{HOSTS}` has no host `{name}`")).hint(hint).into()
    })
}

fn removed(name: &MachineName, label: &HostLabel) -> Failure {
    Failure::user(format!(
        "`{name}` is on the host `{label}`, as machines/{name}/host says, and the file `{HOSTS}` has no such host"
    ))
    .hint(format!(
        "write a line `{label} URI` into `{HOSTS}`; or, if that host is to have no name, remove machines/{name}/host and write its \
         libvirt's URI into machines/{name}/connection"
    ))
}

fn given<T: Clone>(asked: &Option<Asked<T>>) -> Option<T> {
    asked.as_ref().map(|asked| asked.value.clone())
}

/// Returns the recorded value, or else the given one; if they differ, a usage error.
fn agree<T: PartialEq + Clone + std::fmt::Display>(
    name: &MachineName,
    recorded: Option<T>,
    asked: &Option<Asked<T>>,
    what: &str,
    by: &str,
) -> Result<Option<T>> {
    match (&recorded, asked) {
        (Some(recorded), Some(Asked { value, by: flag })) if recorded != value => {
            let hint = if flag.starts_with('-') {
                format!("leave `{flag}` out: nixvm knows where the machine is")
            } else {
                format!("unset it (`env -u {flag} nixvm …`): nixvm knows where the machine is")
            };
            let message = format!("`{name}` is {what} `{recorded}`, as {by} says, and {flag} says `{value}`");
            Err(Failure::usage(message).hint(hint).into())
        }
        _ => Ok(recorded.or_else(|| given(asked))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Report;

    #[test]
    fn what_is_recorded_counts_and_what_disagrees_is_refused_by_its_name() {
        let web: MachineName = "web".parse().unwrap();
        let pool = |name: &str| name.parse::<PoolName>().unwrap();
        let asked = |name: &str, by| Asked { value: pool(name), by };
        let agreed = |recorded: Option<&str>, asked: Option<Asked<PoolName>>| {
            agree(&web, recorded.map(pool), &asked, "in the pool", "machines/web/pool")
        };
        assert_eq!(agreed(Some("fast"), None).unwrap(), Some(pool("fast")));
        assert_eq!(agreed(Some("fast"), Some(asked("fast", "--pool"))).unwrap(), Some(pool("fast")));
        assert_eq!(agreed(None, Some(asked("slow", "--pool"))).unwrap(), Some(pool("slow")));
        assert_eq!(agreed(None, None).unwrap(), None);
        for by in ["--pool", "NIXVM_POOL"] {
            let report = Report::of(&agreed(Some("fast"), Some(asked("slow", by))).unwrap_err());
            let said =
                format!("`web` is in the pool `fast`, as machines/web/pool says, and {by} says `slow`");
            assert_eq!((report.exit_code, report.error), (2, said));
            assert!(report.hints[0].contains(by));
        }
    }
}
