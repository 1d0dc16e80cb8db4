//! Work on one machine, in steps: by one process at a time, written down, and settled when it was interrupted.
//!
//! Every command that changes more than one thing is a plan: a list of steps made by a pure function from what the
//! machine is and what is wanted. A step that is taken twice does no harm. One step of a plan, the
//! definition of the domain, makes the change real; libvirt replaces a definition whole. Before it, the new volumes
//! are nobody's; after it, the old ones are. So whatever dies and whenever, the machine is the old one or the new
//! one, and what is left to do is to delete the volumes that it does not refer to.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Signal, getpid, kill_process};

use crate::config;
use crate::disks::{files, foreign, layer_of, layers, roots, saved};
use crate::error::{Failure, Result};
use crate::host::{Setup, Watch, open_pool, ownership, pool_of};
use crate::hypervisor::{Hypervisor, Owned};
use crate::interrupt;
use crate::journal::{self, Command, Entry, Holder, Intent, Journal, Lock, Recorded};
use crate::model::MachineName;
use crate::model::volume::{self, Role};
use crate::render;
use crate::storage::Pool;
use crate::work::Plan;

/// How long another command on the same machine is waited for with `--wait`.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// The commands that may follow on any that was interrupted: they delete whatever there is.
const DELETIONS: [&str; 2] = ["destroy", "purge"];

/// A machine that this process alone works on.
pub struct Work<'a> {
    /// The workspace and the host.
    pub setup: &'a Setup,
    /// libvirt.
    pub host: Hypervisor,
    /// The machine.
    pub name: MachineName,
    /// Who listens.
    pub watch: &'a dyn Watch,
    /// What is known of the same command, where it was interrupted before.
    pub resumed: Option<Entry>,
    /// Whether an earlier command was interrupted in work that can only be finished, and this one goes on with it.
    pub goes_on: bool,
    holder: Holder,
    lock: Lock,
}

impl<'a> Work<'a> {
    /// Returns the machine once no other process works on it; what an earlier command left half done is settled.
    ///
    /// # Errors
    /// libvirt does not answer, another command works on the machine, or what an earlier one left cannot be removed.
    pub fn begin(setup: &'a Setup, name: &MachineName, verb: &str, watch: &'a dyn Watch) -> Result<Self> {
        Self::begin_command(setup, name, Command::new(verb, [name]), watch)
    }

    /// Returns both machines of a command that works on two, each where it is, as [`Work::begin`] does one.
    ///
    /// They are locked in the order of their names: two commands on the same two cannot wait for each other.
    ///
    /// # Errors
    /// As [`Work::begin`].
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

    /// Does the same for a command that is told by more than its verb and the machine.
    ///
    /// # Errors
    /// As [`Work::begin`].
    pub fn begin_command(
        setup: &'a Setup,
        name: &MachineName,
        command: Command,
        watch: &'a dyn Watch,
    ) -> Result<Self> {
        let host = setup.hypervisor()?;
        let holder = Holder { pid: std::process::id(), command, since: now() };
        let patience = if setup.wait { PATIENCE } else { Duration::ZERO };
        let lock = Lock::take(&setup.workspace.work_dir(), name, &holder, patience)?;
        // A workspace that was moved is found again by whoever looks for it next.
        ownership::record_move(&setup.workspace, &host, name)?;
        // Before what an earlier command left is looked at: it is of this workspace, and the domain may not be.
        ownership::require_own(&setup.workspace, &host, name)?;
        settle_place(setup, &host, name)?;
        let mut work =
            Work { setup, host, name: name.clone(), watch, resumed: None, goes_on: false, holder, lock };
        if let Ok(domain) = work.domain() {
            foreign::check(setup, &work.host, &domain, &work.holder.command)?;
            saved::check(setup, &domain, name, work.holder.command.verb(), watch)?;
        }
        let left = journal::read(&setup.workspace.work_dir(), name)?;
        work.resumed = left.clone().filter(|entry| entry.holder.command == work.holder.command);
        match left {
            Some(entry) if entry.only_onward && !work.may_follow(&entry) => {
                return Err(Failure::user(format!(
                    "`nixvm {}` was interrupted at {}",
                    entry.holder.command,
                    entry.place()
                ))
                .hint(format!("it can only be finished: run `nixvm {}` again", entry.holder.command))
                .into());
            }
            Some(entry) if entry.only_onward => {
                watch.note("going on where an earlier command was interrupted");
                work.goes_on = true;
            }
            Some(entry) => {
                watch.note(&format!(
                    "`nixvm {}` was interrupted at {}; removing what it left",
                    entry.holder.command,
                    entry.place()
                ));
                work.settle(&entry)?;
            }
            None => {}
        }
        if let Ok(domain) = work.domain() {
            files::name_disks(&work.host, &domain, watch)?;
        }
        Ok(work)
    }

    /// Returns whether this command may follow on one that was interrupted and can only be finished.
    fn may_follow(&self, entry: &Entry) -> bool {
        let deletes = DELETIONS.contains(&self.holder.command.verb());
        // While a machine has two names, half of it could be taken for the whole.
        self.holder.command == entry.holder.command || (deletes && entry.holder.command.verb() != "rename")
    }

    /// Returns whether the same command was interrupted with a step of that intent in its plan.
    pub fn was_to(&self, intent: Intent) -> bool {
        self.resumed.as_ref().is_some_and(|cut| cut.intends(intent))
    }

    /// Returns whether the same command was interrupted when the machine was defined already on the data that it made.
    ///
    /// Done from the beginning, it would take that for what there was before, and replace what was written to it since.
    ///
    /// # Errors
    /// libvirt does not answer.
    pub fn was_committed(&self, domain: &Owned) -> Result<bool> {
        self.resumed.as_ref().map_or(Ok(false), |cut| is_committed(cut, domain))
    }

    /// Ends the work on a machine that is no more: nothing says any longer that there was one.
    ///
    /// # Errors
    /// The lock cannot be removed.
    pub fn end_of_machine(self) -> Result<()> {
        self.lock.remove()
    }

    /// Returns the machine's domain.
    ///
    /// # Errors
    /// There is none, or it is not nixvm's.
    pub fn domain(&self) -> Result<Owned> {
        self.host.own(&self.name)
    }

    /// Returns the machine's pool, made where it is missing; what another domain needs is not deleted from it.
    ///
    /// # Errors
    /// libvirt refuses.
    pub fn pool(&self) -> Result<Pool> {
        let id = self.host.find(&self.name)?.map(|domain| domain.id);
        Ok(open_pool(self.setup, &self.host)?.of_machine(self.name.clone(), id))
    }

    /// Takes the steps one after another, the journal saying how far.
    ///
    /// A step that fails ends the work; volumes that it made in vain are deleted.
    ///
    /// # Errors
    /// That of the step; an interruption; the journal cannot be written.
    pub fn carry_out<P: Plan>(&self, steps: &[P], take: impl FnMut(&P) -> Result<()>) -> Result<()> {
        let mut entry = self.entry(steps);
        entry.is_birth = self.host.find(&self.name)?.is_none();
        // What cannot be tidied up now is tidied up by the next command; the fault is what has to be told.
        self.take_each(&[&self.name], &entry, steps, take).inspect_err(|_| drop(self.tidy_up()))
    }

    /// Takes the steps of a work that, once begun, can only be finished.
    ///
    /// # Errors
    /// That of a step: the same command finishes the work.
    pub fn carry_onward<P: Plan>(&self, steps: &[P], take: impl FnMut(&P) -> Result<()>) -> Result<()> {
        self.take_each(&[&self.name], &self.onward(steps), steps, take)
    }

    /// Takes the steps of such a work on two machines: the journals of both say how far.
    ///
    /// # Errors
    /// As [`Work::carry_onward`].
    pub fn carry_both_onward<P: Plan>(
        &self,
        other: &Work,
        steps: &[P],
        take: impl FnMut(&P) -> Result<()>,
    ) -> Result<()> {
        self.take_each(&[&self.name, &other.name], &self.onward(steps), steps, take)
    }

    fn onward<P: Plan>(&self, steps: &[P]) -> Entry {
        let mut entry = self.entry(steps);
        entry.only_onward = true;
        entry
    }

    fn entry<P: Plan>(&self, steps: &[P]) -> Entry {
        let recorded = steps.iter().map(|step| Recorded { title: step.title(), intent: step.intent() });
        let volumes = steps.iter().flat_map(Plan::volumes).collect();
        let mut entry = Entry::new(self.holder.clone(), recorded.collect(), volumes);
        // A machine that is being made may have no files yet that say it.
        entry.pool = Some(self.setup.pool.clone());
        entry.connection = Some(self.setup.connect.clone());
        entry
    }

    fn take_each<P: Plan>(
        &self,
        names: &[&MachineName],
        entry: &Entry,
        steps: &[P],
        mut take: impl FnMut(&P) -> Result<()>,
    ) -> Result<()> {
        let folder = self.setup.workspace.work_dir();
        let begin = |name: &&MachineName| Journal::begin(&folder, name, entry.clone());
        let mut journals = names.iter().map(begin).collect::<Result<Vec<_>>>()?;
        self.maybe_die(0);
        let mut is_committed = false;
        for (done, step) in (1..).zip(steps) {
            if is_committed {
                // The same command would begin anew; what is left is short.
                interrupt::deferred(|| take(step))?;
            } else {
                interrupt::check()?;
                take(step)?;
            }
            is_committed |= matches!(step.intent(), Some(Intent::Layer(_)));
            journals.iter_mut().try_for_each(|journal| journal.step_done().map(drop))?;
            self.maybe_die(done);
        }
        journals.into_iter().try_for_each(Journal::finish)
    }

    /// Settles what this work leaves half done, unless only the same command can bring it to its end.
    fn tidy_up(&self) -> Result<()> {
        let Some(left) = journal::read(&self.setup.workspace.work_dir(), &self.name)? else { return Ok(()) };
        // Of how far the work is, the journal may not know: the disk may be full.
        match self.host.find(&self.name)? {
            Some(_) if is_committed(&left, &self.domain()?)? => Ok(()),
            _ => self.settle(&left),
        }
    }

    /// Deletes those of the work's volumes that the machine does not refer to, and forgets the work.
    fn settle(&self, entry: &Entry) -> Result<()> {
        let mut domain = self.host.find(&self.name)?.map(|_| self.domain()).transpose()?;
        if let Some(domain) = &mut domain {
            // libvirt may still be at what the dead command asked for, such as to go on in one of its volumes, and
            // until then its answers are those of before. It writes down what is written down already after that only.
            let same = domain.metadata().clone();
            let xml = render::metadata_xml(&same)?;
            domain.set_metadata(same, &xml)?;
        }
        // A domain that somebody removed meanwhile no longer says what it referred to: then nothing is nobody's.
        if domain.is_some() || entry.is_birth {
            let pool = self.pool()?;
            if let Some(domain) = domain.as_ref().filter(|_| entry.volumes.iter().any(|v| is_backup(v))) {
                // QEMU would go on writing to what is deleted here, and a guest would stand still for ever.
                domain.end_backup()?;
                if domain.is_frozen() == Some(true) {
                    domain.thaw()?;
                }
            }
            let cut = entry.step().and_then(|step| step.intent);
            if let (Some(domain), Some(Intent::Merge { base, top })) = (&domain, cut) {
                layers::undo_merge(&pool, domain, base, top)?;
            }
            let used = domain.map(|domain| roots::of(&pool, &domain)).transpose()?.unwrap_or_default();
            for volume in entry.volumes.iter().filter(|volume| !used.contains(*volume)) {
                // Since that work was interrupted, another workspace may have made a machine of what it left.
                match pool.user_of(volume)? {
                    Some(user) => self.watch.note(&format!("{volume} stays: the domain `{user}` needs it")),
                    None => pool.clear(volume)?,
                }
            }
        }
        journal::forget(&self.setup.workspace.work_dir(), &self.name)
    }

    /// Ends the process as a power cut would, asks it to end or holds it up, at the step boundary that a test asked for.
    fn maybe_die(&self, done: usize) {
        if let Some((after, signal)) = self.setup.die_after
            && after == done
        {
            let _ = kill_process(getpid(), signal);
            if signal != Signal::STOP {
                // Another thread may take the signal.
                let _ = interrupt::poll(Duration::from_secs(5), Duration::from_millis(5), || Ok(None::<()>));
            }
        }
    }
}

/// Writes down where a machine is that was made before its files said so, and sees that they say where its disks are.
///
/// # Errors
/// They name another pool than the disks are in; libvirt does not answer.
fn settle_place(setup: &Setup, host: &Hypervisor, name: &MachineName) -> Result<()> {
    // One with two names, on its way from one to the other, is for `rename` alone.
    let Ok(Some(pool)) = pool_of(host, name) else { return Ok(()) };
    if pool != setup.pool {
        return Err(Failure::user(format!(
            "the disks of {name} are in the pool `{pool}`, and machines/{name}/pool says `{}`; nothing was changed",
            setup.pool
        ))
        .hint(format!("write `{pool}` into machines/{name}/pool"))
        .into());
    }
    config::record_place(&setup.workspace, name, &setup.pool, &setup.connect)
}

/// Returns whether the work has done what counts, so that only the same command brings it to its end: the machine is defined on
/// the data that it made, or the snapshot that it deletes is no more.
fn is_committed(entry: &Entry, domain: &Owned) -> Result<bool> {
    if entry.intends(Intent::Forget) {
        let has =
            |name: &str| domain.metadata().snapshots.iter().any(|snapshot| snapshot.name.as_str() == name);
        // `snapshot --keep` deletes others than it names.
        return Ok(entry.holder.command.verb() == "delete-snapshot"
            && !entry.holder.command.object().is_some_and(has));
    }
    Ok(entry.intends(Intent::Layer(layer_of(domain)?)))
}

fn is_backup(name: &str) -> bool {
    matches!(volume::parse(name), Some((_, Role::Backup)))
}

/// Returns the time, in seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
