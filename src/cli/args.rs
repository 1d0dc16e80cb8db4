//! The verbs as clap sees them: text, not yet checked, and no logic. Each verb's arguments are in its own file.

use clap::{Parser, Subcommand, builder::styling::Styles};

use super::global::Global;
use super::input::Name;
use super::selection::Machines;
use super::{backups, generations, life, look, reach, snapshots};

/// Build immutable NixOS virtual machines and run them on libvirt/KVM.
///
/// A machine is a folder of small text files, `machines/NAME`. nixvm builds its
/// system with Nix and runs it with libvirt: the system is read-only, your data
/// is on a disk of its own.
#[derive(Debug, Parser)]
#[command(name = "nixvm", version, propagate_version = true, disable_help_subcommand = true, args_override_self = true, styles = Styles::plain())]
#[command(after_help = "\
Examples:
  nixvm create web --start --wait     create the machine `web` and wait until ssh answers
  nixvm ssh web                       log in as admin
  nixvm create db docker 4G 4 50G     profile, memory, CPUs and data disk by position
  nixvm list                          list all machines with state and address
  nixvm doctor                        show what this host lacks, and the commands that fix it

Exit codes: 0 done; 1 something is wrong with the host, the files or the guest;
2 the command line is wrong; 3 an upgrade was not healthy and was rolled back;
4 a wait was over before all machines were there; 5 `apply --dry-run`
found something due; 130 interrupted; 255 a bug in nixvm.")]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a machine: write its files, build its image, define its domain
    Create(Box<life::create::Create>),
    /// Build profiles, or machines, without touching libvirt
    Build(generations::build::Build),
    /// Build every profile
    BuildAll,
    /// List the profiles of this workspace
    ListProfiles,
    /// Start machines, and resume paused ones
    Start(life::start::Start),
    /// Shut machines down and wait until they are off
    Stop(life::stop::Stop),
    /// Switch machines off at once, like pulling the plug
    ForceStop(Machines),
    /// Restart machines
    Reboot(life::start::Start),
    /// Update nixpkgs and the flake's other inputs to their newest revisions
    Update(generations::update::Update),
    /// Build and run the next generation of machines; roll back if it is not healthy
    Upgrade(generations::upgrade::Upgrade),
    /// Make the hosts match machines/: create, change, upgrade and start what is due
    Apply(generations::apply::Apply),
    /// Run an earlier generation of a machine, without a build
    Rollback(generations::rollback::Rollback),
    /// Show what an upgrade would change: files, packages and sizes, kernel
    Diff(Name),
    /// Delete what nothing needs: base images, old generations, stale links
    Clean(generations::clean::Clean),
    /// List the generations of a machine, or keep only the newest ones
    Generations(generations::list::Generations),
    /// Show machines: state, address, profile, generation, disks
    Status(Machines),
    /// List all machines with state and address
    List(look::list::List),
    /// Wait until machines answer ssh, are healthy, or are off
    Wait(look::wait::Wait),
    /// List the machines declared under machines/
    ListMachines,
    /// Log in to a machine, or run a command in it
    Ssh(reach::ssh::Ssh),
    /// Attach to a machine's serial console; ^] leaves
    Console(Name),
    /// Set a machine's memory, CPUs, data disk size, autostart or protection
    Set(life::set::Set),
    /// Choose how a machine reaches the network
    NetworkConfig(life::network_config::NetworkConfig),
    /// Set root's password for the console
    Passwd(life::passwd::Passwd),
    /// Show a guest's journal, or what it printed on its serial port
    Logs(look::logs::Logs),
    /// Copy a machine and its data; the copy has an identity of its own
    Clone(life::clone::Clone),
    /// Give a machine another name
    Rename(life::rename::Rename),
    /// Replace all disks of a machine and delete its data; machines/NAME stays
    Recreate(life::recreate::Recreate),
    /// Take a snapshot of a machine's data, to go back to later
    Snapshot(snapshots::take::Snapshot),
    /// List a machine's snapshots and their sizes
    Snapshots(Name),
    /// Bring a machine back to a snapshot
    RestoreSnapshot(snapshots::restore::RestoreSnapshot),
    /// Delete a snapshot; all others stay as they are
    DeleteSnapshot(snapshots::delete::DeleteSnapshot),
    /// Delete a machine's domain and disks; machines/NAME stays
    Destroy(life::destroy::Destroy),
    /// Delete a machine's domain, disks and machines/NAME
    Purge(life::destroy::Destroy),
    /// Back up machines into archives while they run
    Backup(backups::take::Backup),
    /// List backups
    Backups(backups::list::Backups),
    /// Restore a machine from a backup, or make a new one from it
    RestoreBackup(backups::restore::RestoreBackup),
    /// Compare every byte of backups with their manifests
    VerifyBackup(backups::verify::VerifyBackup),
    /// Write a machine's disks as images that boot without nixvm
    Export(backups::export::Export),
    /// Open the development shell of this workspace's flake
    Shell,
    /// Print a completion script
    Completions(reach::completions::Completions),
    /// Check this host, and print the command that fixes each fault
    Doctor,
}
