//! `set`, `network-config` and `passwd`: what a machine is changed to.

use crate::config;
use crate::error::{Failure, Result};
use crate::model::{Size, quote};
use crate::ops::{self, Call, Effect, Setting, Sizes, Watch};

use super::change_args::{NetworkConfig, Set};
use super::commands::{SSH_LIMIT, machine_name, typed, wait};
use super::network::network;
use super::show::{self, Shown};
use super::terminal::Terminal;

/// Carries out `set`.
///
/// # Errors
/// A value is not valid, or the operation fails.
pub fn set(call: &Call, args: &Set, terminal: &Terminal) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    let set = ops::set(&call.machine(&name)?, &name, sizes(args)?, terminal)?;
    Ok(Shown::new(&set, set.settings.iter().map(setting).collect::<Vec<_>>().join("\n")))
}

/// Returns what is asked, every value of it valid and none said twice.
fn sizes(args: &Set) -> Result<Sizes> {
    const KEYS: &str = "the values are memory, vcpus and var_size: `nixvm set web memory=4G`";
    let mut values: [(&str, Option<&str>); 3] = [
        ("memory", args.memory.as_deref()),
        ("vcpus", args.vcpus.as_deref()),
        ("var_size", args.var_size.as_deref()),
    ];
    for word in &args.values {
        let Some((key, value)) = word.split_once('=') else {
            return Err(Failure::usage(format!("{} is not KEY=VALUE", quote(word))).hint(KEYS).into());
        };
        match values.iter_mut().find(|(known, _)| *known == key) {
            None => {
                return Err(Failure::usage(format!(
                    "{} is no value of a machine that can be set",
                    quote(key)
                ))
                .hint(KEYS)
                .into());
            }
            Some((_, Some(_))) => {
                return Err(Failure::usage(format!("`{key}` is given twice")).hint("give it once").into());
            }
            Some((_, place)) => *place = Some(value),
        }
    }
    if values.iter().all(|(_, value)| value.is_none()) {
        return Err(Failure::usage("nothing to set is named").hint(KEYS).into());
    }
    let [memory, vcpus, var_size] = values.map(|(_, value)| value);
    Ok(Sizes {
        memory: memory.map(|text| typed(Size::parse_memory(text))).transpose()?,
        vcpus: vcpus.map(|text| typed(text.parse())).transpose()?,
        var_size: var_size.map(|text| typed(Size::parse_disk(text))).transpose()?,
    })
}

fn setting(setting: &Setting) -> String {
    let Setting { key, before, after, effect } = setting;
    match effect {
        Effect::Unchanged => format!("{key}: {after}, as it was"),
        Effect::Now => format!("{key}: {before} -> {after}, now"),
        Effect::NextStart => format!("{key}: {before} -> {after}, at the next start"),
        Effect::WithKvm => format!("{key}: {before} -> {after}, once KVM runs it; without, a guest has one"),
    }
}

/// Carries out `network-config`.
///
/// # Errors
/// The network is none, nobody can be asked, or the operation fails.
pub fn network_config(call: &Call, args: &NetworkConfig, terminal: &Terminal) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    let setup = call.machine(&name)?;
    if !config::exists(&setup.workspace, &name) {
        // It may be another workspace's; without one of that name the next line says how to make it.
        setup.require_own(&name)?;
    }
    let now = config::load(&setup.workspace, &name)?.network.to_string();
    let instead = "name the network: `nixvm network-config NAME nat`, `bridge:IF` or `user`";
    let Some(wanted) = network(&setup, args.network.as_deref(), Some(&now), instead)? else {
        return Err(Failure::bug("a question that was asked has no answer").into());
    };
    let change = ops::network_config(&setup, &name, &wanted, terminal)?;
    let mut result = show::json(&change)?;
    match (change.running, change.before == change.network) {
        (false, _) => {}
        (true, true) => {
            terminal.note(&format!("should {name} have been started with another: `nixvm reboot {name}`"));
        }
        (true, false) if args.now => {
            terminal.note(&format!("shutting {name} down and starting it, for the network to be in force"));
            ops::reboot(&setup, &name, SSH_LIMIT, terminal)?;
            result["restarted"] = wait(&setup, &name, args.timeout, terminal)?;
        }
        (true, false) => {
            terminal.note(&format!("in force at the next start: `nixvm reboot {name}` brings it about now"));
        }
    }
    Ok(Shown::said(&result))
}
