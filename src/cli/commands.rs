//! From a parsed command line to the verb that carries it out.

use clap::CommandFactory;

use crate::error::Result;

use super::args::{Cli, Command};
use super::environment::call;
use super::shown::Shown;
use super::terminal::Terminal;
use super::{backups, generations, life, look, reach, snapshots};

pub fn run(cli: Cli, terminal: &Terminal) -> Result<Shown> {
    // Needs no workspace, unlike all others.
    if let Command::Completions(args) = &cli.command {
        return Ok(reach::completions::run(args, Cli::command()));
    }
    let call = call(&cli.global)?;
    match cli.command {
        Command::Create(args) => life::create::run(&call, &args, terminal),
        Command::Build(args) => generations::build::run(&call, &args, terminal),
        Command::BuildAll => generations::build::all(&call, terminal),
        Command::ListProfiles => generations::build::list_profiles(&call),
        Command::Start(args) => life::start::start(&call, &args, terminal),
        Command::Stop(args) => life::stop::stop(&call, &args, terminal),
        Command::ForceStop(args) => life::stop::force_stop(&call, &args, terminal),
        Command::Reboot(args) => life::start::reboot(&call, &args, terminal),
        Command::Update(args) => generations::update::run(&call, &args, terminal),
        Command::Upgrade(args) => generations::upgrade::run(&call, &args, terminal),
        Command::Apply(args) => generations::apply::run(&call, &args, terminal),
        Command::Rollback(args) => generations::rollback::run(&call, &args, terminal),
        Command::Diff(args) => generations::diff::run(&call, &args, terminal),
        Command::Clean(args) => generations::clean::run(&call, &args, terminal),
        Command::Generations(args) => generations::list::run(&call, &args, terminal),
        Command::Status(args) => look::status::run(&call, &args, terminal),
        Command::List(args) => look::list::run(&call, &args, cli.global.json, terminal),
        Command::Wait(args) => look::wait::run(&call, &args, terminal),
        Command::ListMachines => look::list::declared(&call),
        Command::Ssh(args) => reach::ssh::run(&call, &args),
        Command::Console(args) => reach::console::run(&call, &args, terminal),
        Command::Set(args) => life::set::run(&call, &args, terminal),
        Command::NetworkConfig(args) => life::network_config::run(&call, &args, terminal),
        Command::Passwd(args) => life::passwd::run(&call, &args, terminal),
        Command::Logs(args) => look::logs::run(&call, &args, cli.global.json, terminal),
        Command::Clone(args) => life::clone::run(&call, &args, terminal),
        Command::Rename(args) => life::rename::run(&call, &args, terminal),
        Command::Recreate(args) => life::recreate::run(&call, &args, terminal),
        Command::Snapshot(args) => snapshots::take::run(&call, &args, terminal),
        Command::Snapshots(args) => snapshots::list::run(&call, &args),
        Command::RestoreSnapshot(args) => snapshots::restore::run(&call, &args, terminal),
        Command::DeleteSnapshot(args) => snapshots::delete::run(&call, &args, terminal),
        Command::Destroy(args) => life::destroy::run(&call, &args, false, terminal),
        Command::Purge(args) => life::destroy::run(&call, &args, true, terminal),
        Command::Backup(args) => backups::take::run(&call, &args, terminal),
        Command::Backups(args) => backups::list::run(&call, &args),
        Command::RestoreBackup(args) => backups::restore::run(&call, &args, terminal),
        Command::VerifyBackup(args) => backups::verify::run(&args, terminal),
        Command::Export(args) => backups::export::run(&call, &args, terminal),
        Command::Shell => reach::shell::run(&call, terminal),
        Command::Doctor => Ok(look::doctor::run(&call, terminal)),
        Command::Completions(args) => Ok(reach::completions::run(&args, Cli::command())),
    }
}
