//! The arguments of the commands that change, copy or replace a machine that is there.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixvm set web memory=4G vcpus=4
  nixvm set web var_size=50G
  nixvm set web --memory 4G

Each value is written to machines/NAME. A larger data disk is there at once, and the guest's file
system follows; a running guest can make do with less memory at once. The rest is in force from the
next `nixvm start` or `nixvm reboot` on, and the output says which. Disks only grow.")]
pub struct Set {
    /// Name of the machine
    pub name: String,
    /// Values to set: `memory`, `vcpus`, `var_size`
    #[arg(value_name = "KEY=VALUE")]
    pub values: Vec<String>,
    /// The same as memory=SIZE
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// The same as vcpus=N
    #[arg(long, value_name = "N")]
    pub vcpus: Option<String>,
    /// The same as var_size=SIZE
    #[arg(long, value_name = "SIZE")]
    pub var_size: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixvm network-config web                   asks
  nixvm network-config web bridge:br0        from the next start on
  nixvm network-config web user --now        a running machine is shut down and started")]
pub struct NetworkConfig {
    /// Name of the machine
    pub name: String,
    /// nat, bridge, bridge:IF or user
    pub network: Option<String>,
    /// Restart a machine that runs, so that it has the network now
    #[arg(long)]
    pub now: bool,
    /// How long `--wait` waits for ssh after a restart, in seconds [default: 600]
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    pub timeout: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixvm passwd web                           asks twice; an empty password locks root
  pass show web | nixvm passwd web --stdin
  nixvm passwd web --hash hash.txt           a hash of crypt(5); `-` is standard input

It is the password of root for the console; ssh takes keys only. It is in force from the next
`nixvm start` or `nixvm reboot` on, without a build.")]
pub struct Passwd {
    /// Name of the machine
    pub name: String,
    /// Read the password from standard input, one line
    #[arg(long, conflicts_with = "hash")]
    pub stdin: bool,
    /// Read a hash instead of a password (`-` is standard input)
    #[arg(long, value_name = "FILE")]
    pub hash: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixvm recreate web                  asks for the machine's name, and begins with an empty data disk
  nixvm recreate web 50G bridge:br0
  nixvm recreate web --yes            asks nothing: for scripts

machines/NAME stays, and with it the machine's identity, keys and ports. Its system is built from the
files as they are now. What is on the data disk is deleted, and so are its snapshots and generations.")]
pub struct Recreate {
    /// Name of the machine
    pub name: String,
    #[arg(
        value_name = "VAR_SIZE",
        conflicts_with = "var_size",
        help = "Data disk in GiB, or with K, M, G, T [default: as it is]"
    )]
    pub var_size_position: Option<String>,
    #[arg(
        value_name = "NETWORK",
        conflicts_with = "network",
        help = "nat, bridge, bridge:IF or user [default: as it is]"
    )]
    pub network_position: Option<String>,
    /// The same as VAR_SIZE, by name
    #[arg(long, value_name = "SIZE")]
    pub var_size: Option<String>,
    /// The same as NETWORK, by name
    #[arg(long, value_name = "NETWORK")]
    pub network: Option<String>,
    /// How long to wait for a clean shutdown, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub timeout: u64,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixvm clone web web2
  nixvm clone web web2 --without-data

NEW has the profile, size, ports, keys, password and modules of NAME, and machine-id, UUID, hardware
address, ssh host key and hostname of its own.")]
pub struct Clone {
    /// Name of the machine to copy
    pub name: String,
    /// Name of the copy
    pub new: String,
    /// Give the copy an empty data disk
    #[arg(long)]
    pub without_data: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  nixvm rename web www

The machine has to be off. It stays the same: identity, disks and data.")]
pub struct Rename {
    /// Name of the machine
    pub name: String,
    /// Its new name
    pub new: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixvm logs web                      the guest's journal; its serial log, where the guest does not answer
  nixvm logs web -f -u nginx
  nixvm logs web --serial -n 500")]
pub struct Logs {
    /// Name of the machine
    pub name: String,
    /// Go on as more is logged
    #[arg(short, long)]
    pub follow: bool,
    /// Only what this unit logged in the guest's journal
    #[arg(short, long, value_name = "UNIT", conflicts_with = "serial")]
    pub unit: Option<String>,
    /// Show the last LINES lines
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 100)]
    pub lines: u32,
    /// Show what the guest printed on its serial port; the machine may be off
    #[arg(long)]
    pub serial: bool,
}
