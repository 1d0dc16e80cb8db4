//! `backup`: a machine's files and data into an archive, while it runs.
//!
//! QEMU copies the data to a volume of the pool first, as it is at one instant. From there it is streamed into the archive,
//! and the volume is deleted. The data of a machine that is off, and whose disk is one plain file, is streamed from where it
//! is: this process's lock keeps every nixvm from starting the machine, and what else may write to its disk meanwhile is
//! noticed before there is an archive.
//!
//! Nothing of the machine is changed, but for the checkpoint that an incremental backup leaves: its instant has a name, and
//! QEMU notes what is written from then on.

mod copy;
mod plan;
mod run;
mod series;

pub use run::{BackedUp, backup};
