//! `list` and `list-machines`.

use console::style;

use crate::cli::{Shown, Terminal, dash, error_text, state, table};
use crate::error::{Report, Result};
use crate::model::Connection;
use crate::ops::{self, Call, ListedMachine};

pub fn run(call: &Call, terminal: &Terminal) -> Result<Shown> {
    let listed = ops::list(call)?;
    let mut shown = Shown::new(&listed.machines, machines(&listed.machines));
    for host in &listed.unreachable {
        let report = Report::of(&host.error);
        terminal.line(&error_text(&report));
        shown.exit_code = report.exit_code;
    }
    Ok(shown)
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
