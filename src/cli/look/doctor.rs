use std::env;
use std::fmt::Write as _;

use console::style;

use crate::cli::{Shown, Terminal};
use crate::exec;
use crate::ops::{self, Call, Check, Health};

pub fn run(call: &Call, terminal: &Terminal) -> Shown {
    let path = exec::search_path(&env::var_os("PATH").unwrap_or_default());
    let checks = ops::doctor(call.host(), &path, terminal);
    terminal.rest();
    let faulty = checks.iter().any(|check| check.health == Health::Fault);
    Shown { exit_code: faulty.into(), ..Shown::new(&checks, report(&checks)) }
}

fn report(checks: &[Check]) -> String {
    let mut text = String::new();
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for check in checks {
        let mark = match check.health {
            Health::Good => style("ok  ").green(),
            Health::Warning => style("warn").yellow(),
            Health::Fault => style("FAIL").red(),
        };
        let _ = writeln!(text, "{mark}  {:width$}  {}", check.name, check.finding);
        if let Some(fix) = &check.fix
            && check.health > Health::Good
        {
            let _ = writeln!(text, "      {:width$}  {} {fix}", "", style("fix:").cyan());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_shows_its_cure() {
        console::set_colors_enabled(false);
        let fault =
            Check { name: "Nix", health: Health::Fault, finding: "gone".into(), fix: Some("get it".into()) };
        assert_eq!(report(&[fault]), "FAIL  Nix  gone\n           fix: get it\n");
    }
}
