//! `recreate`, `clone` and `rename`.

use std::time::Duration;

use crate::error::{Failure, Result};
use crate::model::{MachineName, Size};
use crate::ops::{self, Anew, Call};

use super::change_args::{Clone, Recreate, Rename};
use super::commands::{machine_name, typed};
use super::network::network;
use super::prompt;
use super::show::Shown;
use super::terminal::Terminal;

/// Carries out `recreate`.
///
/// # Errors
/// A value is not valid, nobody says yes or can be asked, or the operation fails.
pub fn recreate(call: &Call, args: &Recreate, terminal: &Terminal) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    let setup = call.machine(&name)?;
    let size = args.var_size_position.as_deref().or(args.var_size.as_deref());
    let wanted = args.network_position.as_deref().or(args.network.as_deref());
    let anew = Anew {
        var_size: size.map(|text| typed(Size::parse_disk(text))).transpose()?,
        network: network(&setup, wanted, None, "")?,
    };
    // Before somebody is asked to type a name: is there anything to delete?
    setup.hypervisor()?.own(&name)?;
    if !args.yes {
        confirm(&name, terminal)?;
    }
    let recreated = ops::recreate(&setup, &name, &anew, Duration::from_secs(args.timeout), terminal)?;
    Ok(Shown::said(&recreated))
}

fn confirm(name: &MachineName, terminal: &Terminal) -> Result<()> {
    terminal.rest();
    let question = format!("This deletes all data of {name}, its snapshots included. Type its name to go on");
    let instead = "pass `--yes` to delete without being asked";
    let typed = prompt::text(&question, None, instead, |text| Ok(text.to_owned()))?;
    match typed == name.as_str() {
        true => Ok(()),
        false => Err(Failure::user(format!("that is not `{name}`; nothing was deleted")).into()),
    }
}

/// Carries out `clone`.
///
/// # Errors
/// A name is none, or the operation fails.
pub fn clone(call: &Call, args: &Clone, terminal: &Terminal) -> Result<Shown> {
    let (name, new) = two(&args.name, &args.new)?;
    let (from, to) = call.copied(&name, &new)?;
    let cloned = ops::clone((&from, &name), (&to, &new), !args.without_data, terminal)?;
    Ok(Shown::new(&cloned, format!("next: nixvm start {new} --wait, then nixvm ssh {new}")))
}

/// Carries out `rename`.
///
/// # Errors
/// A name is none, or the operation fails.
pub fn rename(call: &Call, args: &Rename, terminal: &Terminal) -> Result<Shown> {
    let (name, new) = two(&args.name, &args.new)?;
    Ok(Shown::said(&ops::rename(&call.renamed(&name, &new)?, &name, &new, terminal)?))
}

fn two(name: &str, new: &str) -> Result<(MachineName, MachineName)> {
    let (name, new) = (machine_name(name)?, machine_name(new)?);
    if name == new {
        return Err(Failure::usage(format!("both names are `{name}`"))
            .hint("give the machine and a name that no machine has")
            .into());
    }
    Ok((name, new))
}
