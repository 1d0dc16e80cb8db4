//! What one call of nixvm was told, and where the machines are that it is about.
//!
//! A machine's own files say which libvirt has it and which pool its disks are in. What an operation works with, a
//! [`Setup`], is made for one machine here, so that none can go by a flag or a variable in place of the machine's record.

use std::collections::BTreeSet;

use crate::config;
use crate::error::{Failure, Result};
use crate::host::{Setup, pool_of};
use crate::journal;
use crate::model::{Connection, MachineName, PoolName};

/// A value that was given for this call, and by what.
#[derive(Debug, Clone)]
pub struct Asked<T> {
    /// The value.
    pub value: T,
    /// The flag or variable, as messages call it: `--pool`.
    pub by: &'static str,
}

/// What one call of nixvm was told.
#[derive(Debug, Clone)]
pub struct Call {
    /// At the pool and libvirt that were given, or else the usual ones.
    setup: Setup,
    pool: Option<Asked<PoolName>>,
    connect: Option<Asked<Connection>>,
}

/// What is written down of where a machine is.
struct Record {
    pool: Option<PoolName>,
    connection: Option<Connection>,
    /// The one file that says both; `None` where each is in a file of the machine's.
    file: Option<String>,
}

impl Call {
    /// Returns a call that was told to use that pool and libvirt, if any; where `setup` works is replaced by them.
    pub fn new(setup: Setup, pool: Option<Asked<PoolName>>, connect: Option<Asked<Connection>>) -> Self {
        let setup = Setup {
            pool: pool.as_ref().map(|asked| asked.value.clone()).unwrap_or_default(),
            connect: connect.as_ref().map(|asked| asked.value.clone()).unwrap_or_default(),
            ..setup
        };
        Call { setup, pool, connect }
    }

    /// Returns the setup for what is about no machine.
    pub fn host(&self) -> &Setup {
        &self.setup
    }

    /// Returns the setup for work on a machine: where its files say that it is. Where they do not, its domain tells the pool;
    /// and of one that has none, what was given counts, or else the usual.
    ///
    /// # Errors
    /// A flag or variable says otherwise, which is a fault of the command line; a file that says it is wrong.
    pub fn machine(&self, name: &MachineName) -> Result<Setup> {
        let Record { pool, connection, file } = self.recorded(name)?;
        let by = file.clone().unwrap_or_else(|| format!("machines/{name}/connection"));
        let connect = agree(name, connection, self.connect.as_ref(), "at the libvirt", &by)?;
        let setup = Setup { connect: connect.unwrap_or_default(), ..self.setup.clone() };
        // Where libvirt does not answer, the command says so if it needs it; `build` does not.
        let learnt = || setup.hypervisor().and_then(|host| pool_of(&host, name)).ok().flatten();
        let (pool, by) = match pool {
            Some(_) => (pool, file.unwrap_or_else(|| format!("machines/{name}/pool"))),
            None => (learnt(), "its domain".into()),
        };
        let pool = agree(name, pool, self.pool.as_ref(), "in the pool", &by)?.unwrap_or_default();
        Ok(Setup { pool, ..setup })
    }

    /// Returns what is written down of where a machine is.
    fn recorded(&self, name: &MachineName) -> Result<Record> {
        let workspace = &self.setup.workspace;
        if config::exists(workspace, name) {
            let place = config::place(workspace, name)?;
            return Ok(Record { pool: place.pool, connection: place.connection, file: None });
        }
        // What a `clone` or `restore-backup` left that was interrupted has no files yet, and volumes in a pool.
        let left = journal::read(&workspace.work_dir(), name)?;
        let (pool, connection) = left.map(|entry| (entry.pool, entry.connection)).unwrap_or_default();
        Ok(Record { pool, connection, file: Some(format!("output/work/{name}.json")) })
    }

    /// Returns the setup for a machine that is or was called `old` and is to be called `new`, wherever its folder is by now.
    ///
    /// # Errors
    /// As [`Call::machine`].
    pub fn renamed(&self, old: &MachineName, new: &MachineName) -> Result<Setup> {
        let workspace = &self.setup.workspace;
        let done = !config::exists(workspace, old) && config::exists(workspace, new);
        self.machine(if done { new } else { old })
    }

    /// Returns the setups for a machine and for a new one like it: in its libvirt, and in its pool unless another was given.
    ///
    /// # Errors
    /// As [`Call::machine`]; another libvirt was given than the machine's.
    pub fn copied(&self, name: &MachineName, new: &MachineName) -> Result<(Setup, Setup)> {
        let from = Call { pool: None, ..self.clone() }.machine(name)?;
        let there = self.recorded(new)?;
        let by = there.file.unwrap_or_else(|| format!("machines/{new}/pool"));
        let pool = agree(new, there.pool, self.pool.as_ref(), "in the pool", &by)?;
        let to = Setup { pool: pool.unwrap_or_else(|| from.pool.clone()), ..from.clone() };
        Ok((from, to))
    }

    /// Returns a setup for each libvirt that was given or has a machine of this workspace; for the usual one, if there is none.
    /// One that was given by a flag is the only one.
    ///
    /// # Errors
    /// `machines/` cannot be read, or a file that says where a machine is is wrong.
    pub fn hosts(&self) -> Result<Vec<Setup>> {
        let mut connections: BTreeSet<Connection> =
            self.connect.iter().map(|asked| asked.value.clone()).collect();
        if self.connect.as_ref().is_some_and(|asked| asked.by.starts_with('-')) {
            return Ok(vec![self.setup.clone()]);
        }
        for name in config::list(&self.setup.workspace)? {
            // One that is not said to be anywhere is where the call says.
            let place = config::place(&self.setup.workspace, &name)?;
            connections.insert(place.connection.unwrap_or_else(|| self.setup.connect.clone()));
        }
        if connections.is_empty() {
            connections.insert(self.setup.connect.clone());
        }
        Ok(connections.into_iter().map(|connect| Setup { connect, ..self.setup.clone() }).collect())
    }

    /// Returns a setup for each pool that was given or has disks of this workspace's machines; for the usual one, if there is
    /// none. A pool that was given is the only one.
    ///
    /// # Errors
    /// As [`Call::machine`], but nothing that was given is refused.
    pub fn pools(&self) -> Result<Vec<Setup>> {
        if self.pool.is_some() || self.connect.is_some() {
            return Ok(vec![self.setup.clone()]);
        }
        let mut setups = vec![];
        let mut seen = BTreeSet::new();
        for name in config::list(&self.setup.workspace)? {
            let setup = self.machine(&name)?;
            if seen.insert((setup.connect.clone(), setup.pool.clone())) {
                setups.push(setup);
            }
        }
        Ok(if setups.is_empty() { vec![self.setup.clone()] } else { setups })
    }
}

/// Returns what is recorded, or else what was given.
///
/// # Errors
/// They differ.
fn agree<T: PartialEq + Clone + std::fmt::Display>(
    name: &MachineName,
    recorded: Option<T>,
    asked: Option<&Asked<T>>,
    what: &str,
    by: &str,
) -> Result<Option<T>> {
    match (recorded, asked) {
        (Some(recorded), Some(asked)) if recorded != asked.value => Err(Failure::usage(format!(
            "`{name}` is {what} `{recorded}`, as {by} says, and {} says `{}`",
            asked.by, asked.value
        ))
        .hint(match asked.by.starts_with('-') {
            true => format!("leave `{}` out: nixvm knows where the machine is", asked.by),
            false => format!("call nixvm without it (`env -u {}`): it knows where the machine is", asked.by),
        })
        .into()),
        (recorded, asked) => Ok(recorded.or_else(|| asked.map(|asked| asked.value.clone()))),
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
            agree(&web, recorded.map(pool), asked.as_ref(), "in the pool", "machines/web/pool")
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
