use std::io::{stdin, stdout};
use std::os::fd::AsFd;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use serde_json::json;

use crate::cli::{Name, Shown, Terminal, machine_name};
use crate::error::{Explain, Failure, Result};
use crate::ops::{self, Call};

pub fn run(call: &Call, args: &Name, terminal: &Terminal) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    let setup = call.machine(&name)?;
    setup.require_own(&name)?;
    terminal.line(&format!("Serial console of {name}. Press Enter for a prompt; ^] leaves."));
    let _raw = RawMode::enter(stdin())?;
    ops::console(&setup, &name, stdin().as_fd(), stdout().as_fd())?;
    Ok(Shown::said(&json!({ "machine": name })))
}

/// Keeps a terminal raw, so that it passes every key on, until this is dropped. Anything else is left alone.
struct RawMode<F: AsFd> {
    terminal: F,
    before: Option<Termios>,
}

impl<F: AsFd> RawMode<F> {
    fn enter(terminal: F) -> Result<Self> {
        let before = isatty(&terminal).then(|| tcgetattr(&terminal)).transpose();
        let before = before.explain(|| Failure::user("cannot read the terminal's settings"))?;
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(&terminal, OptionalActions::Flush, &raw)
                .explain(|| Failure::user("cannot change the terminal's settings"))?;
        }
        Ok(RawMode { terminal, before })
    }
}

impl<F: AsFd> Drop for RawMode<F> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(&self.terminal, OptionalActions::Flush, before);
        }
    }
}
