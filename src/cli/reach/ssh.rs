use crate::cli::{Shown, machine_name};
use crate::error::Result;
use crate::ops::{self, Call};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm ssh web
  nixvm ssh web user
  nixvm ssh web -- systemctl status nginx

The guest's host key must be the one in machines/NAME; no other key is ever accepted.")]
pub struct Ssh {
    /// Name of the machine
    name: String,
    /// User to log in as
    #[arg(default_value = "admin")]
    user: String,
    /// Command to run in the guest, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub fn run(call: &Call, args: &Ssh) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    Err(ops::ssh(&call.machine(&name)?, &name, &args.user, &args.command)?.replace())
}
