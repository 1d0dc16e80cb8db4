use crate::cli::{Cost, Several, Shown, Terminal, each, optional};
use crate::error::{Failure, Result};
use crate::model::suggest::did_you_mean;
use crate::model::{MachineName, Size, quote, yes_no};
use crate::ops::{self, Call, Effect, Needs, Setting, Settings, Setup, Wanted};

const KEYS: [&str; 5] = ["memory", "vcpus", "var_size", "autostart", "protect"];

const HINT: &str =
    "the settings are memory, vcpus, var_size, autostart and protect: `nixvm set web memory=4G`";

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm set web memory=4G vcpus=4
  nixvm set web var_size=50G
  nixvm set web --memory 4G
  nixvm set 'web-*' db memory=4G
  nixvm set --all vcpus=2
  nixvm set web autostart=yes                start web together with its host
  nixvm set web protect=yes                  refuse to delete its data

The values are written to machines/NAME. A larger data disk, less memory for a running guest,
`autostart` and `protect` apply at once. Everything else applies from the next `nixvm start` or `nixvm reboot`; the output
says which. Disks only grow.")]
pub struct Set {
    /// Machines: names, globs ('web-*'), or @PROFILE; then values to set: `memory`, `vcpus`, `var_size`, `autostart`, `protect`
    #[arg(required_unless_present = "all", value_name = "NAME|KEY=VALUE")]
    words: Vec<String>,
    #[command(flatten)]
    several: Several,
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
    let words = Words::of(args)?;
    let selection = args.several.or_named(call, &words.names)?;
    let wanted = wanted(args, &words.pairs)?;
    let set =
        |setup: &Setup, name: &MachineName, terminal: &Terminal| ops::set(setup, name, wanted, terminal);
    if let Some(name) = selection.only() {
        let set = set(&call.machine(name)?, name, terminal)?;
        return Ok(Shown::new(&set, lines(&set, "\n")));
    }
    each(call, &selection, Needs::Files, Cost::Waiting, terminal)?.shown(set, |set| lines(set, "; "))
}

/// The words of the command line.
#[derive(Default)]
struct Words<'a> {
    names: Vec<&'a str>,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    fn of(args: &'a Set) -> Result<Self> {
        let mut words = Words::default();
        for word in &args.words {
            match word.split_once('=') {
                Some(pair) => words.pairs.push(pair),
                // The first word is a machine's name, whatever it is; a later one may be a value without its `=`.
                None if KEYS.contains(&word.as_str()) && (args.several.all() || !words.names.is_empty()) => {
                    return Err(Failure::usage(format!("{} is not KEY=VALUE", quote(word)))
                        .hint(HINT)
                        .into());
                }
                None => words.names.push(word.as_str()),
            }
        }
        Ok(words)
    }
}

fn lines(set: &Settings, between: &str) -> String {
    set.settings.iter().map(line).collect::<Vec<_>>().join(between)
}

fn wanted(args: &Set, pairs: &[(&str, &str)]) -> Result<Wanted> {
    let given = [&args.memory, &args.vcpus, &args.var_size, &args.autostart, &args.protect];
    let mut values = std::array::from_fn::<_, 5, _>(|index| (KEYS[index], given[index].as_deref()));
    for (key, value) in pairs {
        let Some((_, given)) = values.iter_mut().find(|(known, _)| known == key) else {
            let hint = did_you_mean(key, KEYS).map(|known| format!("did you mean `{known}`?"));
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
