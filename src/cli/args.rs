//! The command line as clap sees it: text, not yet checked, and no logic.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, builder::styling::Styles};

use super::backup_args::{Backup, Backups, RestoreBackup, VerifyBackup};
use super::change_args::{Clone, Logs, NetworkConfig, Passwd, Recreate, Rename, Set};
use super::generation_args::{Clean, Generations, Rollback, Upgrade};
use super::snapshot_args::{DeleteSnapshot, RestoreSnapshot, TakeSnapshot};
use super::update::Update;

/// Build immutable NixOS virtual machines and run them on libvirt/KVM.
///
/// A machine is a folder of small text files, `machines/NAME`. nixvm builds its
/// system with Nix and runs it with libvirt: the system read-only, your data on
/// a disk of its own.
#[derive(Debug, Parser)]
#[command(name = "nixvm", version, propagate_version = true, disable_help_subcommand = true, args_override_self = true, styles = Styles::plain())]
#[command(after_help = "\
Examples:
  nixvm create web --start --wait     make a machine `web` and wait until ssh answers
  nixvm ssh web                       log in as admin
  nixvm create db docker 4G 4 50G     profile, memory, CPUs and data disk by position
  nixvm list                          every machine, its state and address
  nixvm doctor                        what this host lacks, and the command that fixes it

Exit codes: 0 done; 1 the host, the files or the guest are not as they must be;
2 the command line is wrong; 3 an upgrade did not come up healthy and was taken back; 130 interrupted; 255 a bug in nixvm.")]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Work in this workspace (the folder with flake.nix and machines/)
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Take this workspace though it is another user's or others may write to it [env: NIXVM_TRUST=DIR:DIR]
    #[arg(long, global = true, value_name = "DIR")]
    pub trust: Vec<PathBuf>,
    /// libvirt to talk to [default: the machine's own; qemu:///system for a new one]
    #[arg(long, global = true, value_name = "URI", env = "NIXVM_CONNECT", hide_env_values = true)]
    pub connect: Option<String>,
    /// libvirt storage pool for disks, made if it is not there [default: the machine's own; nixvm for a new one]
    #[arg(long, global = true, value_name = "NAME", env = "NIXVM_POOL", hide_env_values = true)]
    pub pool: Option<String>,
    /// Flake reference to build from instead of the locked nixpkgs
    #[arg(long, global = true, value_name = "REF", env = "NIXVM_NIXPKGS", hide_env_values = true)]
    pub nixpkgs: Option<String>,
    /// Wait for another command that works on the machine; `create`, `start` and `reboot` also wait until ssh answers
    #[arg(long, global = true)]
    pub wait: bool,
    /// Throw away the memory of a saved machine: it starts as after a power cut
    #[arg(long, global = true)]
    pub discard_saved: bool,
    /// Print one JSON value on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more; twice shows what builders print
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Use colours
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = Color::Auto)]
    pub color: Color,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a machine, build its image and define its domain
    Create(Box<Create>),
    /// Build profiles, or one machine, without touching libvirt
    Build(Build),
    /// Build every profile
    BuildAll,
    /// List the profiles of this workspace
    ListProfiles,
    /// Start machines; one that is paused goes on
    Start(Start),
    /// Shut machines down and wait until they are off
    Stop(Stop),
    /// Switch machines off at once, as by pulling the plug
    ForceStop(Names),
    /// Restart machines
    Reboot(Start),
    /// Move nixpkgs and the flake's other inputs to their newest revisions
    Update(Update),
    /// Build and run machines' next generation; go back where it is not healthy
    Upgrade(Upgrade),
    /// Have a machine run an earlier generation, without a build
    Rollback(Rollback),
    /// Show what an upgrade would change: files, packages and sizes, kernel
    Diff(Name),
    /// Delete what nothing needs: bases, old generations, stale links
    Clean(Clean),
    /// List the builds of a machine that can be gone back to, or keep fewer
    Generations(Generations),
    /// Show one machine: state, address, profile, generation, disks
    Status(Name),
    /// List all machines with state and address
    List,
    /// List the machines declared under machines/
    ListMachines,
    /// Log in to a machine, or run a command in it
    Ssh(Ssh),
    /// Attach to a machine's serial console; ^] leaves
    Console(Name),
    /// Set a machine's memory, CPUs or data disk size
    Set(Set),
    /// Choose how a machine reaches the network
    NetworkConfig(NetworkConfig),
    /// Set root's password for the console
    Passwd(Passwd),
    /// Show a guest's journal, or what it printed on its serial port
    Logs(Logs),
    /// Make a machine like another, with its data and an identity of its own
    Clone(Clone),
    /// Give a machine another name
    Rename(Rename),
    /// Replace all disks of a machine by new ones; machines/NAME stays
    Recreate(Recreate),
    /// Keep a machine's data as it is now, to go back to
    Snapshot(TakeSnapshot),
    /// List a machine's snapshots and what they take
    Snapshots(Name),
    /// Bring a machine back to a snapshot
    RestoreSnapshot(RestoreSnapshot),
    /// Delete a snapshot; all others stay as they are
    DeleteSnapshot(DeleteSnapshot),
    /// Delete a machine's domain and disks; machines/NAME stays
    Destroy(Delete),
    /// Delete a machine's domain, disks and machines/NAME
    Purge(Delete),
    /// Back machines up into archives, while they run
    Backup(Backup),
    /// List backups
    Backups(Backups),
    /// Restore a machine, or make a new one, from a backup
    RestoreBackup(RestoreBackup),
    /// Compare every byte of a backup with its manifest
    VerifyBackup(VerifyBackup),
    /// Open the development shell of this workspace's flake
    Shell,
    /// Print a completion script
    Completions {
        /// The shell to write it for
        shell: clap_complete::Shell,
    },
    /// Check this host, and print the command that fixes each fault
    Doctor,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixvm create web
  nixvm create web docker 4096 4 50G bridge:br0
  nixvm create web --memory 4G --start --wait
  nixvm create web --keys ~/.ssh/id_ed25519.pub --tcp-port 8080

Files already in machines/NAME are kept; only what is missing is filled in.")]
pub struct Create {
    /// Name of the machine: lower-case letters, digits and dashes
    pub name: Option<String>,
    #[arg(value_name = "PROFILE", conflicts_with = "profile", help = "Profile [default: core]")]
    pub profile_position: Option<String>,
    #[arg(
        value_name = "MEMORY",
        conflicts_with = "memory",
        help = "Memory in MiB, or with K, M, G, T [default: 2048]"
    )]
    pub memory_position: Option<String>,
    #[arg(value_name = "VCPUS", conflicts_with = "vcpus", help = "Virtual CPUs [default: 2]")]
    pub vcpus_position: Option<String>,
    #[arg(
        value_name = "VAR_SIZE",
        conflicts_with = "var_size",
        help = "Data disk in GiB, or with K, M, G, T [default: 20G]"
    )]
    pub var_size_position: Option<String>,
    #[arg(
        value_name = "NETWORK",
        conflicts_with = "network",
        help = "nat, bridge, bridge:IF or user [default: nat]"
    )]
    pub network_position: Option<String>,

    /// The same as PROFILE, by name
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,
    /// The same as MEMORY, by name
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// The same as VCPUS, by name
    #[arg(long, value_name = "N")]
    pub vcpus: Option<String>,
    /// The same as VAR_SIZE, by name
    #[arg(long, value_name = "SIZE")]
    pub var_size: Option<String>,
    /// The same as NETWORK, by name
    #[arg(long, value_name = "NETWORK")]
    pub network: Option<String>,

    /// Host name in the guest [default: NAME]
    #[arg(long, value_name = "HOSTNAME")]
    pub hostname: Option<String>,
    /// File of ssh public keys for admin (`-` is standard input)
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// Take admin's keys from the running ssh agent
    #[arg(long, conflicts_with = "keys")]
    pub from_agent: bool,
    /// Make a machine that nobody can log in to by ssh
    #[arg(long, conflicts_with_all = ["keys", "from_agent"])]
    pub no_keys: bool,
    /// Open a TCP port beside 22, 80 and 443 (may be repeated)
    #[arg(long, value_name = "PORT")]
    pub tcp_port: Vec<String>,
    /// Open a UDP port (may be repeated)
    #[arg(long, value_name = "PORT")]
    pub udp_port: Vec<String>,
    /// Write machines/NAME and stop there
    #[arg(long, conflicts_with = "start")]
    pub no_build: bool,
    /// Start the machine
    #[arg(long)]
    pub start: bool,
    /// How long `--wait` waits for ssh, in seconds [default: 600]
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    pub timeout: Option<u64>,
    /// Ask nothing; take defaults
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Build {
    /// Profiles to build [default: core]
    pub profiles: Vec<String>,
    /// Build the image of this machine instead
    #[arg(long, value_name = "NAME", conflicts_with = "profiles")]
    pub machine: Option<String>,
}

#[derive(Debug, Args)]
pub struct Name {
    /// Name of the machine
    pub name: String,
}

#[derive(Debug, Args)]
pub struct Names {
    /// Names of the machines
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Start {
    #[command(flatten)]
    pub machines: Names,
    /// How long `--wait` waits for ssh, in seconds [default: 600]
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    pub timeout: Option<u64>,
}

#[derive(Debug, Args)]
pub struct Stop {
    #[command(flatten)]
    pub machines: Names,
    /// How long to wait for a clean shutdown, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub timeout: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixvm ssh web
  nixvm ssh web user
  nixvm ssh web -- systemctl status nginx

The guest's host key is checked against machines/NAME; it is never taken on trust.")]
pub struct Ssh {
    /// Name of the machine
    pub name: String,
    /// User to log in as
    #[arg(default_value = "admin")]
    pub user: String,
    /// Command to run in the guest, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Delete {
    /// Name of the machine
    pub name: String,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}
