//! `console`: a machine's serial console.

use std::os::fd::BorrowedFd;

use crate::error::Result;
use crate::host::Setup;
use crate::model::MachineName;

/// Connects a terminal to a machine's serial console, until ^] is typed or the machine goes away.
pub fn console(
    setup: &Setup,
    name: &MachineName,
    input: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
) -> Result<()> {
    let host = setup.hypervisor()?;
    host.own(name)?.console(&host, input, output, false).map(drop)
}
