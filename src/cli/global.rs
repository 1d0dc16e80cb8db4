//! The options that every verb has.

use std::path::PathBuf;

use clap::ColorChoice;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Use the workspace at DIR, the folder with flake.nix and machines/ [default: the nearest one, from here upwards]
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Use the workspace at DIR even if it belongs to another user or others can write to it [env: NIXVM_TRUST=DIR:DIR]
    #[arg(long, global = true, value_name = "DIR")]
    pub trust: Vec<PathBuf>,
    /// Connect to this libvirt [default: the machine's own; qemu:///system for a new machine]
    #[arg(long, global = true, value_name = "URI", env = "NIXVM_CONNECT", hide_env_values = true)]
    pub connect: Option<String>,
    /// Connect to this host of the workspace's file `hosts` [default: the machine's own]
    #[arg(long, global = true, value_name = "NAME")]
    pub host: Option<String>,
    /// Keep disks in this libvirt storage pool; it is made if missing [default: the machine's own; for a new machine its host's, else nixvm]
    #[arg(long, global = true, value_name = "NAME", env = "NIXVM_POOL", hide_env_values = true)]
    pub pool: Option<String>,
    /// Build from this flake reference instead of the locked nixpkgs
    #[arg(long, global = true, value_name = "REF", env = "NIXVM_NIXPKGS", hide_env_values = true)]
    pub nixpkgs: Option<String>,
    /// Wait while another command works on the machine; `create`, `start` and `reboot` also wait until ssh answers
    #[arg(long, global = true)]
    pub wait: bool,
    /// Discard the saved memory of a machine: it starts as after a power cut
    #[arg(long, global = true)]
    pub discard_saved: bool,
    /// Print the result as one JSON value on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Print only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print more; given twice, also the output of builders
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Use colours
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = ColorChoice::Auto)]
    pub color: ColorChoice,
}
