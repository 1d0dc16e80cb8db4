use crate::cli::{Shown, Terminal};
use crate::error::Result;
use crate::ops::{self, Call};

pub fn run(call: &Call, terminal: &Terminal) -> Result<Shown> {
    let shell = ops::shell(call.host(), terminal)?;
    terminal.rest();
    Err(shell.replace())
}
