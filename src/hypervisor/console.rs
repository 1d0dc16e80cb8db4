//! The interactive serial console.

use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::exchange::{End, Exchange};
use super::{Hypervisor, Owned};
use crate::error::{Explain, Failure, Result};
use crate::interrupt;

/// The byte that leaves the console: `^]`.
const LEAVE: u8 = 0x1d;

/// How often this looks for a signal to end; ^C goes to the guest.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleEnd {
    /// `^]` was typed.
    Left,
    InputClosed,
    GuestGone,
}

impl Owned {
    /// Connects `input` and `output` to the guest's serial console until the session ends.
    ///
    /// The caller sets up the terminal: in raw mode every key but `^]` reaches the guest. `force` takes over the console
    /// of another session.
    ///
    /// # Errors
    /// The guest is off, another session has the console, `output` cannot be written, or an interruption.
    pub fn console(
        &self,
        hypervisor: &Hypervisor,
        input: BorrowedFd<'_>,
        output: BorrowedFd<'_>,
        force: bool,
    ) -> Result<ConsoleEnd> {
        if !self.state()?.is_active() {
            return Err(self
                .cannot("open the console of")
                .hint(format!("start it: `nixvm start {}`", self.name()))
                .because(Failure::user("it is off"))
                .into());
        }
        let output = output.try_clone_to_owned().explain(|| Failure::user("cannot use the terminal"))?;
        let print = move |bytes: &[u8]| {
            write_all(&output, bytes).explain(|| Failure::user("cannot write to the terminal"))?;
            Ok(ControlFlow::Continue(()))
        };
        let mut exchange = Exchange::open(hypervisor.connection(), &self.domain, force, Box::new(print))
            .explain(|| self.cannot("open the console of"))?;
        exchange.send_from(input, until_left)?;
        let end = loop {
            interrupt::check()?;
            if let Some(end) = exchange.run(Some(LOOK))? {
                break end;
            }
        };
        Ok(match end {
            End::Caller => ConsoleEnd::Left,
            End::Input => ConsoleEnd::InputClosed,
            End::Guest => ConsoleEnd::GuestGone,
        })
    }
}

fn until_left(typed: &[u8]) -> (&[u8], ControlFlow<()>) {
    match typed.iter().position(|&byte| byte == LEAVE) {
        Some(end) => (&typed[..end], ControlFlow::Break(())),
        None => (typed, ControlFlow::Continue(())),
    }
}

fn write_all(output: impl std::os::fd::AsFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&output, bytes) {
            Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            // Standard output shares its open file, and so O_NONBLOCK, with other users of the terminal.
            Err(rustix::io::Errno::AGAIN) => std::thread::sleep(std::time::Duration::from_millis(5)),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_before_leaving_still_goes_to_the_guest() {
        assert_eq!(until_left(b"halt\r\x1dlost"), (&b"halt\r"[..], ControlFlow::Break(())));
        assert_eq!(until_left(b"\x03\x04\x1b"), (&b"\x03\x04\x1b"[..], ControlFlow::Continue(())));
    }
}
