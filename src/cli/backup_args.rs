//! The arguments of the commands that make, list, check and restore backups.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixvm backup web
  nixvm backup web db --to /mnt/backups
  nixvm backup web --incremental

The machine may run. Its files and its data go into DIR/NAME-YYYYmmdd-HHMMSS.tar.zst, which only you
can read; the system is built again from the files. docs/backups.md has more.")]
pub struct Backup {
    /// Names of the machines
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Folder for the archives [default: output/backups]
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// Only what changed since the last backup in DIR; a full one where that cannot be told
    #[arg(long)]
    pub incremental: bool,
}

#[derive(Debug, Args)]
pub struct Backups {
    /// Only this machine's
    pub name: Option<String>,
    /// Folder of the archives [default: output/backups]
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixvm verify-backup output/backups/web-20261125-161200.tar.zst

An incremental archive is verified with all that it adds to, which must be in the same folder.")]
pub struct VerifyBackup {
    /// The archive
    pub file: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixvm restore-backup web                       choose one of web's backups
  nixvm restore-backup web web-20261125-161200.tar.zst --yes
  nixvm restore-backup web FILE --as web-copy    a new machine with an identity of its own

Everything is verified before anything is changed, and the machine runs until all that is new is in
the pool. Its data is replaced; its snapshots and generations stay. machines/NAME is kept where it
is there, and comes from the archive where it is not, or with --files. Where an archive that was not
made in this workspace brings files that act here (code for Nix, a program, keys that log in), it says
which and asks.")]
pub struct RestoreBackup {
    /// Name of the machine
    pub name: Option<String>,
    /// The archive, by path or by its name in DIR
    pub file: Option<PathBuf>,
    /// Make a new machine of that name, with an identity of its own
    #[arg(long = "as", value_name = "NEW")]
    pub anew: Option<String>,
    /// Take the archive's files where machines/NAME is there, too
    #[arg(long)]
    pub files: bool,
    /// Take what acts of the archive's files (extra.nix, health-check, keys, …) without being asked
    #[arg(long)]
    pub trust_archive: bool,
    /// Folder of the archives [default: output/backups]
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Start the machine; one that runs is started again in any case
    #[arg(long)]
    pub start: bool,
    /// How long a running machine may take to shut down, in seconds; its power is cut then
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub timeout: u64,
    /// Do not ask whether to replace the data
    #[arg(short, long)]
    pub yes: bool,
}
