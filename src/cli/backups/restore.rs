//! `restore-backup`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::backup::{Archive, Checksum};
use crate::cli::{Shown, Terminal, Unprotect, Yes, machine_name, prompt, seconds};
use crate::error::{Failure, Result};
use crate::model::MachineName;
use crate::ops::{self, Call, Restore, Setup};

use crate::cli::archives::{folder, listing};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm restore-backup web                       choose one of web's backups
  nixvm restore-backup web web-20261125-161200.tar.zst --yes
  nixvm restore-backup web FILE --as web-copy    make a new machine with an identity of its own

Everything is verified before anything is changed, and the machine runs until its new data is in the
pool. Its data is replaced; its snapshots and generations stay. Its files in machines/NAME are kept
unless `--files` is given; if there are none, the archive's are used. If the archive was not made in
this workspace and brings files that act here (Nix code, a program, keys that can log in), they are
listed, and you are asked whether you trust them.")]
pub struct RestoreBackup {
    /// Name of the machine
    name: Option<String>,
    /// The archive: a path, or its name in DIR
    file: Option<PathBuf>,
    /// Make a new machine of this name, with an identity of its own
    #[arg(long = "as", value_name = "NEW")]
    anew: Option<String>,
    /// Use the archive's files even if machines/NAME exists
    #[arg(long)]
    files: bool,
    /// Trust the archive's files that act here (extra.nix, health-check, keys, …) without asking
    #[arg(long)]
    trust_archive: bool,
    /// Look for archives in this folder [default: output/backups]
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Start the machine; one that was running is started again in any case
    #[arg(long)]
    start: bool,
    /// Wait at most SECONDS for a running machine to shut down, then switch it off
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    timeout: Duration,
    #[command(flatten)]
    unprotect: Unprotect,
    #[command(flatten)]
    yes: Yes,
}

pub fn run(call: &Call, args: &RestoreBackup, terminal: &Terminal) -> Result<Shown> {
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
        limit: args.timeout,
    };
    let setup = Setup { unprotect: args.unprotect.unprotect, ..call.machine(&wanted.name)? };
    let host = setup.hypervisor()?;
    if host.find(&wanted.name)?.is_some() {
        // Nobody should be asked about what would be refused anyway.
        host.own(&wanted.name)?;
        ops::require_unprotected(&setup, &wanted.name)?;
        Archive::open(&wanted.file)?;
        let question = format!("Replace all data of {} by that in {}?", wanted.name, wanted.file.display());
        args.yes.or_ask(terminal, &question, "replace it")?;
    }
    wanted.trusted = Some(trusted(&setup, &wanted, args.trust_archive, terminal)?);
    let mut restored = ops::restore_backup(&setup, &wanted, terminal)?;
    if args.start && !restored.running {
        ops::start(&setup, &restored.machine, terminal)?;
        restored.running = true;
    }
    let next = if restored.running { "ssh" } else { "start" };
    Ok(Shown::new(&restored, format!("next: nixvm {next} {}", restored.machine)))
}

/// Returns the checksum of an archive that may be restored: it brings nothing that acts here, or is trusted.
///
/// `--yes` does not answer this question: it allows data to be replaced, not another's code to run here.
fn trusted(setup: &Setup, wanted: &Restore, already: bool, terminal: &Terminal) -> Result<Checksum> {
    let brings = ops::brings(setup, wanted)?;
    if brings.files.is_empty() || already {
        return Ok(brings.archive);
    }
    if !prompt::can_ask() {
        return Err(brings.refused());
    }
    terminal.rest();
    let file = wanted.file.display();
    terminal.line(&format!("{file} was not made in this workspace, and brings:\n{}", brings.listing()));
    if prompt::confirm("Do you trust these files like a program of your own?", "pass `--trust-archive`")? {
        Ok(brings.archive)
    } else {
        Err(prompt::unchanged())
    }
}

/// Returns the path of the file: as it was typed, or else in the folder of the archives.
fn place(folder: &Path, file: &Path) -> PathBuf {
    if !file.exists() && file.components().count() == 1 { folder.join(file) } else { file.to_owned() }
}

/// Asks for one of the archives that can be restored, of one machine or of all, and returns it with its machine.
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
    // The newest first: it is wanted most often.
    found.reverse();
    let rows = listing(&found);
    let name = of.map_or("NAME".to_owned(), ToString::to_string);
    let instead = format!("name the archive: `nixvm restore-backup {name} FILE`\n{rows}");
    let choices: Vec<String> = rows.lines().skip(1).map(str::to_owned).collect();
    let chosen = prompt::choose("Backup to restore", &choices, 0, instead.trim_end())?;
    let chosen = found.swap_remove(chosen);
    Ok((chosen.file, chosen.machine))
}
