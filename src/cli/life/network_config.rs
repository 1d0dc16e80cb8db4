use crate::cli::{SSH_LIMIT, Shown, SshTimeout, Terminal, machine_name, network, shown, wait};
use crate::config;
use crate::error::{Failure, Result};
use crate::ops::{self, Call, Watch};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm network-config web                   asks for the network
  nixvm network-config web bridge:br0        applies from the next start
  nixvm network-config web user --now        restarts a running machine")]
pub struct NetworkConfig {
    /// Name of the machine
    name: String,
    /// Network: nat, bridge, bridge:IF or user [default: ask]
    network: Option<String>,
    /// Restart a running machine, to apply the network now
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    ssh: SshTimeout,
}

pub fn run(call: &Call, args: &NetworkConfig, terminal: &Terminal) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    let setup = call.machine(&name)?;
    if !config::exists(&setup.workspace, &name) {
        // It may be another workspace's. If there is none of that name, loading it says how to make one.
        setup.require_own(&name)?;
    }
    let now = config::load(&setup.workspace, &name)?.network.to_string();
    let instead = "name the network: `nixvm network-config NAME nat`, `bridge:IF` or `user`";
    let Some(wanted) = network(&setup, args.network.as_deref(), Some(&now), instead)? else {
        return Err(Failure::bug("a question that was asked has no answer").into());
    };
    let change = ops::network_config(&setup, &name, &wanted, terminal)?;
    let mut result = shown::json(&change)?;
    if !change.running {
        return Ok(Shown::said(&result));
    }
    if change.before == change.network {
        terminal.note(&format!(
            "if {name} was started with another network, `nixvm reboot {name}` applies this one"
        ));
    } else if args.now {
        terminal.note(&format!("shutting {name} down and starting it again, to apply the network"));
        ops::reboot(&setup, &name, SSH_LIMIT, terminal)?;
        result["restarted"] = wait(&setup, &name, &args.ssh, terminal)?;
    } else {
        terminal
            .note(&format!("the network applies from the next start; `nixvm reboot {name}` applies it now"));
    }
    Ok(Shown::said(&result))
}
