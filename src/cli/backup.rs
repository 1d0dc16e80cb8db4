//! `backup`, `backups`, `verify-backup` and `restore-backup`: from what was typed to an archive, and to what is shown.

use std::path::{Path, PathBuf};
use std::time::Duration;

use console::style;
use indicatif::HumanBytes;

use crate::backup::{Archive, ArchiveName, Checksum, State};
use crate::error::{Explain, Failure, Result};
use crate::model::{MachineName, Timestamp};
use crate::ops::{self, Call, ListedBackup, Restore, Setup};

use super::backup_args::{Backup, Backups, RestoreBackup, VerifyBackup};
use super::commands::{each, machine_name};
use super::prompt;
use super::show::{Shown, json, table};
use super::terminal::Terminal;

/// Carries out `backup`.
///
/// # Errors
/// A name is none, or one of the backups failed.
pub fn backup(call: &Call, args: &Backup, terminal: &Terminal) -> Result<Shown> {
    let folder = folder(call.host(), args.to.as_deref())?;
    let mut lines = Vec::new();
    let shown = each(call, &args.names, |setup, name| {
        let made = ops::backup(setup, name, &folder, args.incremental, terminal)?;
        let kind = match &made.parent {
            Some(parent) => format!("adds to {parent}"),
            None => "full".into(),
        };
        lines.push(format!(
            "{}  {}, {kind}, {}",
            made.file.display(),
            HumanBytes(made.bytes),
            state(made.state)
        ));
        json(&made)
    })?;
    Ok(Shown { text: lines.join("\n"), ..shown })
}

/// Carries out `backups`.
///
/// # Errors
/// The folder cannot be read.
pub fn backups(call: &Call, args: &Backups) -> Result<Shown> {
    let name = args.name.as_deref().map(machine_name).transpose()?;
    let folder = folder(call.host(), args.from.as_deref())?;
    let found = ops::backups(&folder, name.as_ref())?;
    let text = match found.as_slice() {
        [] => format!("no backups in {}; `nixvm backup NAME` makes one", folder.display()),
        found => listing(found),
    };
    Ok(Shown::new(&found, text))
}

/// Carries out `verify-backup`.
///
/// # Errors
/// The archive, or one that it adds to, is not what nixvm wrote.
pub fn verify(args: &VerifyBackup, terminal: &Terminal) -> Result<Shown> {
    let verified = ops::verify_backup(&args.file, terminal)?;
    let others = match verified.files.len() {
        1 => String::new(),
        2 => ", and so is the archive that it adds to".into(),
        count => format!(", and so are the {} archives that it adds to", count - 1),
    };
    let text = format!("{} is whole{others}: {}", args.file.display(), HumanBytes(verified.bytes));
    Ok(Shown::new(&verified, text))
}

/// Carries out `restore-backup`.
///
/// # Errors
/// Which archive is meant cannot be told or asked, or the operation fails.
pub fn restore(call: &Call, args: &RestoreBackup, terminal: &Terminal) -> Result<Shown> {
    let folder = folder(call.host(), args.from.as_deref())?;
    let source = args.name.as_deref().map(machine_name).transpose()?;
    let (file, of) = match &args.file {
        Some(file) => {
            let source = source.ok_or_else(|| Failure::usage("no machine is named"))?;
            (place(&folder, file), source)
        }
        None => choose(&folder, source.as_ref())?,
    };
    let anew = args.anew.as_deref().map(machine_name).transpose()?;
    let mut wanted = Restore {
        file,
        name: anew.clone().unwrap_or(of),
        anew: anew.is_some(),
        files: args.files,
        trusted: None,
        limit: Duration::from_secs(args.timeout),
    };
    let setup = call.machine(&wanted.name)?;
    let host = setup.hypervisor()?;
    if !args.yes && host.find(&wanted.name)?.is_some() {
        // Before somebody is asked for nothing.
        host.own(&wanted.name)?;
        Archive::open(&wanted.file)?;
        let question = format!("Replace all data of {} by that in {}?", wanted.name, wanted.file.display());
        terminal.rest();
        if !prompt::confirm(&question, "pass `--yes` to replace it without being asked")? {
            return Err(Failure::user("nothing was changed").into());
        }
    }
    wanted.trusted = trusted(&setup, &wanted, args.trust_archive, terminal)?;
    let mut restored = ops::restore_backup(&setup, &wanted, terminal)?;
    if args.start && !restored.running {
        ops::start(&setup, &restored.machine, terminal)?;
        restored.running = true;
    }
    let next = match restored.running {
        true => format!("next: nixvm ssh {}", restored.machine),
        false => format!("next: nixvm start {}", restored.machine),
    };
    Ok(Shown::new(&restored, next))
}

/// Returns the archive that is trusted, if there is anything in it that has to be; asks, unless `already` says so.
///
/// `--yes` is no answer to this: it says that data may be replaced, and not whose code may run here.
fn trusted(setup: &Setup, wanted: &Restore, already: bool, terminal: &Terminal) -> Result<Option<Checksum>> {
    let brings = ops::brings(setup, wanted)?;
    if brings.files.is_empty() || already {
        return Ok(Some(brings.archive));
    }
    if !prompt::can_ask() {
        return Err(brings.refused());
    }
    terminal.rest();
    let file = wanted.file.display();
    terminal.line(&format!("{file} was not made in this workspace, and brings:\n{}", brings.listing()));
    match prompt::confirm("Do you trust these files like a program of your own?", "pass `--trust-archive`")? {
        true => Ok(Some(brings.archive)),
        false => Err(Failure::user("nothing was changed").into()),
    }
}

/// Returns the folder of the archives, absolute.
fn folder(setup: &Setup, named: Option<&Path>) -> Result<PathBuf> {
    match named {
        None => Ok(setup.workspace.backups_dir()),
        Some(named) => {
            std::path::absolute(named).explain(|| Failure::user(format!("cannot find {}", named.display())))
        }
    }
}

/// Returns where the file is: as it was typed, or else in the folder of the archives.
fn place(folder: &Path, file: &Path) -> PathBuf {
    if !file.exists() && file.components().count() == 1 { folder.join(file) } else { file.to_owned() }
}

/// Asks for one of the archives that can be restored, of that machine or of all, and returns it with its machine.
fn choose(folder: &Path, of: Option<&MachineName>) -> Result<(PathBuf, MachineName)> {
    let mut found = ops::backups(folder, of)?;
    found.retain(|backup| backup.fault.is_none());
    let whose = of.map_or(String::new(), |name| format!(" of {name}"));
    if found.is_empty() {
        return Err(Failure::user(format!(
            "there is no backup{whose} in {} that can be restored",
            folder.display()
        ))
        .hint("name another folder with `--from DIR`; `nixvm backups` shows what is there")
        .into());
    }
    // The newest first: it is what is wanted most often.
    found.reverse();
    let rows = listing(&found);
    let name = of.map_or("NAME".to_owned(), ToString::to_string);
    let instead = format!("name the archive: `nixvm restore-backup {name} FILE`\n{rows}");
    let choices: Vec<String> = rows.lines().skip(1).map(str::to_owned).collect();
    let chosen = prompt::choose("Backup to restore", &choices, 0, instead.trim_end())?;
    let chosen = found.swap_remove(chosen);
    Ok((chosen.file, chosen.machine))
}

fn listing(found: &[ListedBackup]) -> String {
    let row = |backup: &ListedBackup| {
        let contents = backup.contents.as_ref();
        let unknown = || "-".to_owned();
        vec![
            name(backup),
            Timestamp::from_unix(backup.taken).map_or_else(unknown, time),
            HumanBytes(backup.bytes).to_string(),
            contents.map_or_else(unknown, |contents| contents.generation.to_string()),
            contents.map_or_else(unknown, |contents| state(contents.state).to_owned()),
            match (&backup.fault, contents) {
                (Some(fault), _) => style(fault).red().to_string(),
                (None, Some(contents)) if contents.parent.is_some() => {
                    format!("{} archives", contents.chain)
                }
                _ => "full".into(),
            },
        ]
    };
    table(
        &["ARCHIVE", "TIME (UTC)", "SIZE", "GENERATION", "DATA", "CHAIN"],
        &found.iter().map(row).collect::<Vec<_>>(),
    )
}

fn name(backup: &ListedBackup) -> String {
    let name = Timestamp::from_unix(backup.taken)
        .map(|taken| ArchiveName { taken, machine: backup.machine.clone() });
    name.map_or_else(|| backup.file.display().to_string(), |name| name.to_string())
}

/// Returns the moment as people read it: `2026-11-25 16:12:00`.
fn time(moment: Timestamp) -> String {
    let text = moment.to_string();
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    format!("{}-{}-{} {}:{}:{}", part(0, 4), part(4, 6), part(6, 8), part(9, 11), part(11, 13), part(13, 15))
}

fn state(state: State) -> &'static str {
    match state {
        State::Off => "consistent (off)",
        State::Frozen => "consistent (frozen)",
        State::Running => "as after a power cut",
    }
}
