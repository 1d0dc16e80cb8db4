use crate::cli::{Shown, Terminal, machine_name, optional};
use crate::error::{Failure, Result};
use crate::model::suggest::did_you_mean;
use crate::model::{Size, quote, yes_no};
use crate::ops::{self, Call, Effect, Setting, Wanted};

const HINT: &str =
    "the settings are memory, vcpus, var_size, autostart and protect: `nixvm set web memory=4G`";

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm set web memory=4G vcpus=4
  nixvm set web var_size=50G
  nixvm set web --memory 4G
  nixvm set web autostart=yes                start web together with its host
  nixvm set web protect=yes                  refuse to delete its data

The values are written to machines/NAME. A larger data disk, less memory for a running guest,
`autostart` and `protect` apply at once. Everything else applies from the next `nixvm start` or `nixvm reboot`; the output
says which. Disks only grow.")]
pub struct Set {
    /// Name of the machine
    name: String,
    /// Values to set: `memory`, `vcpus`, `var_size`, `autostart`, `protect`
    #[arg(value_name = "KEY=VALUE")]
    values: Vec<String>,
    /// The same as memory=SIZE
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// The same as vcpus=N
    #[arg(long, value_name = "N")]
    vcpus: Option<String>,
    /// The same as var_size=SIZE
    #[arg(long, value_name = "SIZE")]
    var_size: Option<String>,
    /// The same as autostart=yes or autostart=no
    #[arg(long, value_name = "yes|no")]
    autostart: Option<String>,
    /// The same as protect=yes or protect=no
    #[arg(long, value_name = "yes|no")]
    protect: Option<String>,
}

pub fn run(call: &Call, args: &Set, terminal: &Terminal) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    let set = ops::set(&call.machine(&name)?, &name, wanted(args)?, terminal)?;
    Ok(Shown::new(&set, set.settings.iter().map(line).collect::<Vec<_>>().join("\n")))
}

fn wanted(args: &Set) -> Result<Wanted> {
    let mut values = [
        ("memory", args.memory.as_deref()),
        ("vcpus", args.vcpus.as_deref()),
        ("var_size", args.var_size.as_deref()),
        ("autostart", args.autostart.as_deref()),
        ("protect", args.protect.as_deref()),
    ];
    let keys = values.map(|(key, _)| key);
    for word in &args.values {
        let Some((key, value)) = word.split_once('=') else {
            return Err(Failure::usage(format!("{} is not KEY=VALUE", quote(word))).hint(HINT).into());
        };
        let Some((_, given)) = values.iter_mut().find(|(known, _)| *known == key) else {
            let hint = did_you_mean(key, keys).map(|known| format!("did you mean `{known}`?"));
            let hint = hint.unwrap_or_else(|| HINT.to_owned());
            return Err(Failure::usage(format!("unknown setting {}", quote(key))).hint(hint).into());
        };
        if given.replace(value).is_some() {
            return Err(Failure::usage(format!("`{key}` is given twice")).hint("give it once").into());
        }
    }
    if values.iter().all(|(_, value)| value.is_none()) {
        return Err(Failure::usage("no setting was given").hint(HINT).into());
    }
    let [memory, vcpus, var_size, autostart, protect] = values.map(|(_, value)| value);
    Ok(Wanted {
        memory: optional(memory, Size::parse_memory)?,
        vcpus: optional(vcpus, str::parse)?,
        var_size: optional(var_size, Size::parse_disk)?,
        autostart: optional(autostart, yes_no::parse)?,
        protect: optional(protect, yes_no::parse)?,
    })
}

fn line(setting: &Setting) -> String {
    let Setting { key, before, after, effect } = setting;
    match effect {
        Effect::Unchanged => format!("{key}: {after}, unchanged"),
        Effect::Now => format!("{key}: {before} -> {after}, now"),
        Effect::NextStart => format!("{key}: {before} -> {after}, at the next start"),
        Effect::WithKvm => {
            format!("{key}: {before} -> {after}, at the next start with KVM; an emulated guest has one")
        }
    }
}
