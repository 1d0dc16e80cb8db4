//! A terminal that passes every key on, for as long as a console needs it.

use std::os::fd::AsFd;

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

use crate::error::{Explain, Failure, Result};

/// Keeps a terminal raw until it is dropped; what is no terminal is left alone.
pub struct RawMode<F: AsFd> {
    terminal: F,
    before: Option<Termios>,
}

impl<F: AsFd> RawMode<F> {
    /// Makes `terminal` raw.
    ///
    /// # Errors
    /// The terminal's settings cannot be changed.
    pub fn enter(terminal: F) -> Result<Self> {
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
