//! `generations`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::{HumanBytes, HumanDuration};

use crate::cli::{Shown, Terminal, machine_name, table};
use crate::error::Result;
use crate::ops::{self, Call, ListedGeneration};

/// Letters of a revision that are shown; `--json` has all.
const REVISION: usize = 11;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm generations web
  nixvm generations web --keep 3

The current generation, the running one, the last healthy one and those that snapshots need always stay.")]
pub struct Generations {
    /// Name of the machine
    name: String,
    /// Delete all generations except the last N and those that are needed
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
}

pub fn run(call: &Call, args: &Generations, terminal: &Terminal) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    let setup = call.machine(&name)?;
    if let Some(keep) = args.keep {
        ops::keep_generations(&setup, &name, keep, terminal)?;
        terminal.rest();
    }
    let generations = ops::generations(&setup, &name)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Ok(Shown::new(&generations, listing(&generations, now)))
}

fn listing(generations: &[ListedGeneration], now: u64) -> String {
    let row = |generation: &ListedGeneration| {
        let build = &generation.build;
        let marks = [generation.current.then_some("current"), generation.running.then_some("running")];
        let marks: Vec<&str> = marks.into_iter().flatten().collect();
        vec![
            build.number.to_string(),
            marks.join(", "),
            format!("{} ago", HumanDuration(Duration::from_secs(now.saturating_sub(build.made)))),
            build.health.to_string(),
            build.profile.to_string(),
            build.kernel.clone(),
            build.nixpkgs.chars().take(REVISION).collect(),
            generation.bytes.map_or_else(|| "missing".into(), |bytes| HumanBytes(bytes).to_string()),
        ]
    };
    let headings = ["NUMBER", "", "MADE", "HEALTH", "PROFILE", "KERNEL", "NIXPKGS", "DISK"];
    table(&headings, generations.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::{Build, BuildHealth};

    #[test]
    fn each_generation_is_a_line() {
        console::set_colors_enabled(false);
        let generation = |number, current, bytes| ListedGeneration {
            build: Build {
                number,
                profile: "core".parse().unwrap(),
                digest: "d".repeat(64),
                also: None,
                fingerprint: None,
                base: "b".into(),
                made: 1_000_000 - 7200 * u64::from(number),
                health: BuildHealth::Healthy,
                nixpkgs: "8eeec934ae0dbeca3d7868c0".into(),
                kernel: "6.12.1".into(),
                seen: None,
            },
            current,
            running: !current,
            volume: "v".into(),
            bytes,
        };
        let text = listing(&[generation(1, false, Some(1 << 20)), generation(2, true, None)], 1_000_000);
        assert_eq!(
            text,
            "NUMBER           MADE         HEALTH   PROFILE  KERNEL  NIXPKGS      DISK\n\
             1       running  2 hours ago  healthy  core     6.12.1  8eeec934ae0  1.00 MiB\n\
             2       current  4 hours ago  healthy  core     6.12.1  8eeec934ae0  missing\n"
        );
    }
}
