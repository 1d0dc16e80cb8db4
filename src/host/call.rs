//! The pool and the libvirt that a call was given, and those of the machines that it is about.
//!
//! A machine's own files say which libvirt runs it and which pool holds its disks. The [`Setup`] of an operation is made from
//! them here, for one machine, so that no flag or variable can override the machine's record.

use std::collections::BTreeSet;

use crate::config::{self, Place};
use crate::error::{Failure, Result};
use crate::host::{Setup, pool_of};
use crate::journal;
use crate::model::{Connection, MachineName, PoolName};

/// A value that was given on the command line or in the environment.
#[derive(Debug, Clone)]
pub struct Asked<T> {
    pub value: T,
    /// The flag or variable as messages name it: `--pool`.
    pub by: &'static str,
}

/// The pool and the libvirt that one call of nixvm was given.
#[derive(Debug, Clone)]
pub struct Call {
    /// With the pool and libvirt that were given, or else the defaults.
    setup: Setup,
    pool: Option<Asked<PoolName>>,
    connect: Option<Asked<Connection>>,
}

impl Call {
    /// Returns a call with the given pool and libvirt, if any, in place of those of `setup`.
    pub fn new(setup: Setup, pool: Option<Asked<PoolName>>, connect: Option<Asked<Connection>>) -> Self {
        let setup = Setup {
            pool: given(&pool).unwrap_or_default(),
            connect: given(&connect).unwrap_or_default(),
            ..setup
        };
        Call { setup, pool, connect }
    }

    /// Returns the setup for commands that are not about a machine.
    pub fn host(&self) -> &Setup {
        &self.setup
    }

    /// Returns the setup for work on a machine, in the libvirt and the pool that its files record. Without a recorded pool, that
    /// of its domain counts; and for a machine that has none, the given or default one.
    ///
    /// A flag or variable that says otherwise is a usage error.
    pub fn machine(&self, name: &MachineName) -> Result<Setup> {
        let (place, journal) = self.recorded(name)?;
        let by = journal.clone().unwrap_or_else(|| format!("machines/{name}/connection"));
        let connect = agree(name, place.connection, &self.connect, "at the libvirt", &by)?;
        let setup = Setup { connect: connect.unwrap_or_default(), ..self.setup.clone() };
        // If libvirt does not answer, a command that needs it says so itself; `build` needs none.
        let learnt = || setup.hypervisor().and_then(|host| pool_of(&host, name)).ok().flatten();
        let (pool, by) = match place.pool {
            Some(pool) => (Some(pool), journal.unwrap_or_else(|| format!("machines/{name}/pool"))),
            None => (learnt(), "its domain".into()),
        };
        let pool = agree(name, pool, &self.pool, "in the pool", &by)?.unwrap_or_default();
        Ok(Setup { pool, ..setup })
    }

    /// Returns the setup for a machine that the call does not name: where its files say where it is, nothing else counts.
    pub fn other(&self, name: &MachineName) -> Result<Setup> {
        let (place, _) = self.recorded(name)?;
        let pool = self.pool.clone().filter(|_| place.pool.is_none());
        let connect = self.connect.clone().filter(|_| place.connection.is_none());
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
        let place = left.map(|entry| Place { pool: entry.pool, connection: entry.connection });
        Ok((place.unwrap_or_default(), Some(format!("output/work/{name}.json"))))
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

    /// Returns a setup for each libvirt that was given (by a flag: only that one) or that runs a machine of this workspace.
    pub fn hosts(&self) -> Result<Vec<Setup>> {
        if self.connect.as_ref().is_some_and(|asked| asked.by.starts_with('-')) {
            return Ok(vec![self.setup.clone()]);
        }
        let mut connections: BTreeSet<Connection> = given(&self.connect).into_iter().collect();
        for name in config::list(&self.setup.workspace)? {
            let place = config::place(&self.setup.workspace, &name)?;
            connections.insert(place.connection.unwrap_or_else(|| self.setup.connect.clone()));
        }
        if connections.is_empty() {
            connections.insert(self.setup.connect.clone());
        }
        Ok(connections.into_iter().map(|connect| Setup { connect, ..self.setup.clone() }).collect())
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
