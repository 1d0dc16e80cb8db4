//! `list` and `list-machines`.

use std::time::Duration;

use console::style;

use crate::cli::{Screen, Shown, Terminal, dash, error_text, state, table};
use crate::error::{Failure, Report, Result};
use crate::interrupt;
use crate::model::Connection;
use crate::ops::{self, Call, Listed, ListedMachine};

/// The time from one list to the next.
const EVERY: Duration = Duration::from_secs(2);

/// How often the pause between two lists checks for ^C.
const ATTENTION: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub struct List {
    /// Show the list again every two seconds, until ^C
    #[arg(long)]
    watch: bool,
}

pub fn run(call: &Call, args: &List, json: bool, terminal: &Terminal) -> Result<Shown> {
    if args.watch {
        return watch(call, json, terminal);
    }
    let listed = ops::list(call)?;
    let mut shown = Shown::new(&listed.machines, machines(&listed.machines));
    for host in &listed.unreachable {
        let report = Report::of(&host.error);
        terminal.line(&error_text(&report));
        shown.exit_code = report.exit_code;
    }
    Ok(shown)
}

/// Shows the list again and again. The end is always a request to end, and so no failure.
fn watch(call: &Call, json: bool, terminal: &Terminal) -> Result<Shown> {
    if json || !Screen::is_there() {
        let what = if json { "with `--json`" } else { "without a terminal" };
        return Err(Failure::usage(format!("`--watch` shows nothing {what}"))
            .hint("run `nixvm list`, as often as you like; `nixvm wait` waits for machines")
            .into());
    }
    terminal.rest();
    let screen = Screen::enter()?;
    while !interrupt::is_requested() {
        let call = call.clone();
        // On another thread, so that ^C waits for no libvirt.
        let listed = interrupt::attended(Duration::MAX, move || ops::list(&call)).and_then(Option::transpose);
        let text = match listed {
            Ok(listed) => listed.as_ref().map(everything).unwrap_or_default(),
            Err(error) => error_text(&Report::of(&error)),
        };
        if interrupt::is_requested() || !screen.draw(&text)? {
            break;
        }
        let _ = interrupt::poll(EVERY, ATTENTION, || Ok(None::<()>));
    }
    Ok(Shown::said(&()))
}

/// Returns the table, and below it what every libvirt says that does not answer.
fn everything(listed: &Listed) -> String {
    let faults = listed.unreachable.iter().map(|host| error_text(&Report::of(&host.error)));
    let table = std::iter::once(machines(&listed.machines).trim_end().to_owned());
    table.chain(faults).collect::<Vec<_>>().join("\n\n")
}

pub fn declared(call: &Call) -> Result<Shown> {
    let names = ops::declared(call.host())?;
    Ok(Shown::new(&names, names.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

fn machines(machines: &[ListedMachine]) -> String {
    if machines.is_empty() {
        return "no machines yet; `nixvm create NAME` makes one".into();
    }
    let named = machines.iter().any(|machine| machine.host.is_some());
    let elsewhere =
        machines.iter().any(|machine| machine.host.is_none() && machine.connection != Connection::default());
    let others = machines.iter().any(|machine| machine.other_workspace.is_some());
    let row = |machine: &ListedMachine| {
        let mut row = vec![
            machine.name.clone(),
            if machine.unreachable { style("no answer").red().to_string() } else { state(machine.state) },
            dash(machine.address),
            dash(machine.profile.as_ref()),
            dash(machine.generation),
            dash(machine.pool.as_ref()),
        ];
        row.extend(named.then(|| dash(machine.host.as_ref())));
        row.extend(elsewhere.then(|| machine.connection.to_string()));
        row.extend(others.then(|| dash(machine.other_workspace.as_ref())));
        row
    };
    let mut headings = vec!["NAME", "STATE", "ADDRESS", "PROFILE", "GENERATION", "POOL"];
    headings.extend(named.then_some("HOST"));
    headings.extend(elsewhere.then_some("CONNECTION"));
    headings.extend(others.then_some("WORKSPACE"));
    table(&headings, machines.iter().map(row))
}
