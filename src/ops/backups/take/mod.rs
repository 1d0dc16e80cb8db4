//! `backup`: writes a machine's files and data into an archive, while it runs.
//!
//! QEMU first copies the data, as it is at one instant, to a volume of the pool. From there it is streamed into the archive, and
//! the volume is deleted. The data of a machine that is off, and whose disk is one plain file, is streamed from its own volume:
//! this process's lock keeps every nixvm from starting the machine, and writes by any other program are noticed before the
//! archive is complete.
//!
//! A backup changes nothing of the machine, except that an incremental one leaves a checkpoint: a name for its instant, from
//! which QEMU notes what is written.

mod copy;
mod plan;
mod run;
mod series;

pub use run::{BackedUp, backup};
