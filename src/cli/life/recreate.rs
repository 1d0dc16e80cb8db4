use crate::cli::{Shown, Shutdown, Terminal, Unprotect, given, machine_name, network, optional, prompt};
use crate::error::Result;
use crate::model::{MachineName, Size};
use crate::ops::{self, Anew, Call};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm recreate web                  asks for the machine's name, then starts with an empty data disk
  nixvm recreate web 50G bridge:br0
  nixvm recreate web --yes            asks nothing: for scripts

machines/NAME stays, and with it the machine's identity, keys and ports. The system is built from the
files as they are now. The data, the snapshots and the generations of the machine are deleted.")]
pub struct Recreate {
    /// Name of the machine
    name: String,
    /// Size of the data disk in GiB, or with K, M, G, T [default: unchanged]
    #[arg(value_name = "VAR_SIZE", conflicts_with = "var_size")]
    var_size_position: Option<String>,
    /// Network: nat, bridge, bridge:IF or user [default: unchanged]
    #[arg(value_name = "NETWORK", conflicts_with = "network")]
    network_position: Option<String>,
    /// The same as VAR_SIZE, by name
    #[arg(long, value_name = "SIZE")]
    var_size: Option<String>,
    /// The same as NETWORK, by name
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,
    #[command(flatten)]
    shutdown: Shutdown,
    #[command(flatten)]
    unprotect: Unprotect,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

pub fn run(call: &Call, args: &Recreate, terminal: &Terminal) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    let setup = args.unprotect.setup(call, &name)?;
    let anew = Anew {
        var_size: optional(given(&args.var_size_position, &args.var_size), Size::parse_disk)?,
        network: network(&setup, given(&args.network_position, &args.network), None, "")?,
    };
    // Nobody should type a name only to hear that there is nothing to delete.
    setup.hypervisor()?.own(&name)?;
    if !args.yes {
        confirm(&name, terminal)?;
    }
    Ok(Shown::said(&ops::recreate(&setup, &name, &anew, args.shutdown.timeout, terminal)?))
}

fn confirm(name: &MachineName, terminal: &Terminal) -> Result<()> {
    terminal.rest();
    let question = format!("This deletes all data of {name} and its snapshots. Type its name to continue");
    let instead = "pass `--yes` to delete without being asked";
    let typed = prompt::text(&question, None, instead, |text| Ok(text.to_owned()))?;
    if typed == name.as_str() { Ok(()) } else { Err(prompt::unchanged()) }
}
