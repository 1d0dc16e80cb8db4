//! The beginning of a work: the lock, and what an interrupted command left.

use std::time::Duration;

use crate::config;
use crate::disks::{files, foreign, saved};
use crate::error::{Failure, Result};
use crate::host::{Setup, Watch, ownership, pool_of};
use crate::hypervisor::Hypervisor;
use crate::journal::{self, Command, Entry, Holder, MachineLock};
use crate::model::{MachineName, Timestamp};
use crate::work::{Work, autostart, known};

/// How long `--wait` waits for another command on the same machine.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// The commands that may follow any interrupted one: they delete whatever there is.
const DELETIONS: [&str; 2] = ["destroy", "purge"];

/// The commands that delete or replace a machine's data.
const LOSE_DATA: [&str; 6] =
    ["destroy", "purge", "recreate", "restore-snapshot", "delete-snapshot", "restore-backup"];

impl<'a> Work<'a> {
    /// Locks a machine for a command, and cleans up what an interrupted command left of it.
    ///
    /// # Errors
    /// Another command works on the machine; the machine is another workspace's; an interrupted command has to be finished first.
    pub fn begin(setup: &'a Setup, name: &MachineName, verb: &str, watch: &'a dyn Watch) -> Result<Self> {
        Self::begin_command(setup, name, Command::new(verb, [name]), watch)
    }

    /// Does the same for a command that works on two machines.
    ///
    /// They are locked in the order of their names, so that two commands on the same two never wait for each other.
    pub fn begin_both(
        (first_setup, first): (&'a Setup, &MachineName),
        (second_setup, second): (&'a Setup, &MachineName),
        verb: &str,
        watch: &'a dyn Watch,
    ) -> Result<(Self, Self)> {
        let begin =
            |setup, name| Self::begin_command(setup, name, Command::new(verb, [first, second]), watch);
        if first < second {
            Ok((begin(first_setup, first)?, begin(second_setup, second)?))
        } else {
            let second = begin(second_setup, second)?;
            Ok((begin(first_setup, first)?, second))
        }
    }

    /// Does the same for a command whose journal has more words than the verb and the machine.
    pub fn begin_command(
        setup: &'a Setup,
        name: &MachineName,
        command: Command,
        watch: &'a dyn Watch,
    ) -> Result<Self> {
        let host = setup.hypervisor()?;
        let holder = Holder { pid: std::process::id(), command, since: Timestamp::now().unix() };
        let patience = if setup.wait { PATIENCE } else { Duration::ZERO };
        let lock = MachineLock::take(&setup.workspace.work_dir(), name, &holder, patience)?;
        ownership::record_move(&setup.workspace, &host, name)?;
        // Before the journal is read: it is this workspace's, and the domain may be another's.
        ownership::require_own(&setup.workspace, &host, name)?;
        check_protection(setup, &host, name, holder.command.verb())?;
        settle_place(setup, &host, name)?;
        let mut work =
            Work { setup, host, name: name.clone(), watch, resumed: None, finishes: false, holder, lock };
        if let Ok(domain) = work.domain() {
            foreign::check(setup, &work.host, &domain, &work.holder.command)?;
            saved::check(setup, &domain, name, work.holder.command.verb(), watch)?;
        }
        if let Some(left) = journal::read(&setup.workspace.work_dir(), name)? {
            work.take_over(left)?;
        }
        if let Ok(domain) = work.domain() {
            files::name_disks(&work.host, &domain, watch)?;
            // A wrong file must not keep a machine from being deleted.
            if !DELETIONS.contains(&work.holder.command.verb()) {
                autostart::settle(&setup.workspace, &domain, watch)?;
            }
        }
        Ok(work)
    }

    /// Undoes what an interrupted command left, or gets ready to finish it.
    fn take_over(&mut self, left: Entry) -> Result<()> {
        let (interrupted, command) = (&left.holder.command, &self.holder.command);
        let same = interrupted == command;
        if !left.only_onward {
            self.watch.note(&format!(
                "an earlier `nixvm {interrupted}` was interrupted at {}; cleaning up",
                left.place()
            ));
            self.settle(&left)?;
        } else if same || DELETIONS.contains(&command.verb()) && interrupted.verb() != "rename" {
            self.watch.note(&format!("an earlier `nixvm {interrupted}` was interrupted; finishing it"));
            self.finishes = true;
        } else {
            // While a machine has two names, `destroy` would take half of it for the whole.
            return Err(Failure::user(format!(
                "an earlier `nixvm {interrupted}` was interrupted at {}, and cannot be undone",
                left.place()
            ))
            .hint(format!("run `nixvm {interrupted}` again to finish it"))
            .into());
        }
        self.resumed = same.then_some(left);
        Ok(())
    }
}

fn check_protection(setup: &Setup, host: &Hypervisor, name: &MachineName, verb: &str) -> Result<()> {
    // A restore of a machine that has no domain replaces nothing.
    if LOSE_DATA.contains(&verb) && (verb != "restore-backup" || host.find(name)?.is_some()) {
        known::require_unprotected(setup, name)?;
    }
    Ok(())
}

/// Checks that the machine's files name the pool that its disks are in, and writes it down for a machine that was made before
/// its files said it.
fn settle_place(setup: &Setup, host: &Hypervisor, name: &MachineName) -> Result<()> {
    // A machine that an interrupted `rename` left with two names is for `rename` alone to judge.
    let Ok(Some(pool)) = pool_of(host, name) else { return Ok(()) };
    if pool != setup.pool {
        return Err(Failure::user(format!(
            "the disks of {name} are in the pool `{pool}`, but machines/{name}/pool says `{}`; nothing was changed",
            setup.pool
        ))
        .hint(format!("write `{pool}` into machines/{name}/pool"))
        .into());
    }
    config::record_place(&setup.workspace, name, &setup.pool, &setup.libvirt())
}
