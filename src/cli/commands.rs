//! From what was typed to an operation, and from its value to what is shown.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::io::{stdin, stdout};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::CommandFactory;
use rustix::process::{Signal, geteuid};
use serde_json::json;

use crate::config::{Trust, Workspace};
use crate::error::{Explain, Failure, Kind, Report, Result, Said};
use crate::exec;
use crate::model::{Connection, MachineName, PoolName, ProfileName};
use crate::nix;
use crate::ops::{self, Asked, Call, Health, Session, Setup};

use super::args::{Build, Cli, Command, Delete, Global, Ssh};
use super::backup;
use super::change;
use super::copies;
use super::create;
use super::generations;
use super::logs;
use super::passwd;
use super::prompt;
use super::show::{self, Shown};
use super::snapshots;
use super::terminal::{Terminal, error_text};
use super::update;

/// How long a guest has to answer ssh. *Measured:* 47 s under TCG on two cores; the rest is for slower hosts.
pub const SSH_LIMIT: Duration = Duration::from_secs(600);

/// Carries out one command.
///
/// # Errors
/// Those of its operation; a command line that makes no sense.
pub fn run(cli: Cli, terminal: &Terminal) -> Result<Shown> {
    if let Command::Completions { shell } = cli.command {
        return Ok(completions(shell));
    }
    let call = call(&cli.global)?;
    match cli.command {
        Command::Create(args) => create::run(&call, &args, terminal),
        Command::Build(args) => build(&call, &args, terminal),
        Command::BuildAll => build_profiles(call.host(), call.host().workspace.profile_names()?, terminal),
        Command::ListProfiles => list_profiles(call.host()),
        Command::Start(args) => each(&call, &args.machines.names, |setup, name| {
            ops::start(setup, name, terminal)?;
            wait(setup, name, args.timeout, terminal)
        }),
        Command::Reboot(args) => each(&call, &args.machines.names, |setup, name| {
            ops::reboot(setup, name, SSH_LIMIT, terminal)?;
            wait(setup, name, args.timeout, terminal)
        }),
        Command::Stop(args) => {
            let limit = Duration::from_secs(args.timeout);
            each(&call, &args.machines.names, |setup, name| {
                show::json(&ops::stop(setup, name, limit, terminal)?)
            })
        }
        Command::ForceStop(args) => {
            each(&call, &args.names, |setup, name| show::json(&ops::force_stop(setup, name, terminal)?))
        }
        Command::Upgrade(args) => each(&call, &args.machines.names, |setup, name| {
            generations::upgrade(setup, name, &args, terminal)
        }),
        Command::Update(args) => update::update(call.host(), &args, terminal),
        Command::Rollback(args) => generations::rollback(&call, &args, terminal),
        Command::Diff(args) => generations::diff(&call, &machine_name(&args.name)?, terminal),
        Command::Clean(args) => generations::clean(&call, &args, terminal),
        Command::Generations(args) => generations::generations(&call, &args, terminal),
        Command::Status(args) => {
            let name = machine_name(&args.name)?;
            let status = ops::status(&call.machine(&name)?, &name)?;
            Ok(Shown::new(&status, show::status(&status)))
        }
        Command::List => {
            let listed = ops::list(&call)?;
            let mut shown = Shown::new(&listed.machines, show::machines(&listed.machines));
            for host in &listed.unreachable {
                let report = Report::of(&host.error);
                terminal.line(&error_text(&report));
                shown.exit_code = report.exit_code;
            }
            Ok(shown)
        }
        Command::ListMachines => {
            let names = ops::declared(call.host())?;
            Ok(Shown::new(&names, names.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
        }
        Command::Ssh(args) => ssh(&call, &args),
        Command::Console(args) => console(&call, &machine_name(&args.name)?, terminal),
        Command::Set(args) => change::set(&call, &args, terminal),
        Command::NetworkConfig(args) => change::network_config(&call, &args, terminal),
        Command::Passwd(args) => passwd::passwd(&call, &args, terminal),
        Command::Logs(args) => logs::logs(&call, &args, cli.global.json, terminal),
        Command::Clone(args) => copies::clone(&call, &args, terminal),
        Command::Rename(args) => copies::rename(&call, &args, terminal),
        Command::Recreate(args) => copies::recreate(&call, &args, terminal),
        Command::Snapshot(args) => snapshots::take(&call, &args, terminal),
        Command::Snapshots(args) => snapshots::list(&call, &args),
        Command::RestoreSnapshot(args) => snapshots::restore(&call, &args, terminal),
        Command::DeleteSnapshot(args) => snapshots::delete(&call, &args, terminal),
        Command::Destroy(args) => delete(&call, &args, false, terminal),
        Command::Purge(args) => delete(&call, &args, true, terminal),
        Command::Backup(args) => backup::backup(&call, &args, terminal),
        Command::Backups(args) => backup::backups(&call, &args),
        Command::RestoreBackup(args) => backup::restore(&call, &args, terminal),
        Command::VerifyBackup(args) => backup::verify(&args, terminal),
        Command::Shell => {
            let shell = ops::shell(call.host(), terminal)?;
            terminal.rest();
            Err(shell.replace())
        }
        Command::Doctor => Ok(doctor(call.host(), terminal)),
        Command::Completions { shell } => Ok(completions(shell)),
    }
}

fn call(global: &Global) -> Result<Call> {
    let here = match &global.directory {
        Some(directory) => directory.clone(),
        None => env::current_dir().explain(|| Failure::user("cannot tell the current folder"))?,
    };
    // As libvirt does, the account's home is taken where the environment names none: cron, `env -i`.
    let home = env::home_dir().filter(|home| home.is_absolute());
    let absolute =
        |variable: &str| env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let below_home = |variable: &str, otherwise: &str| {
        absolute(variable).or_else(|| Some(home.as_ref()?.join(otherwise))).unwrap_or_else(env::temp_dir)
    };
    let pool = asked(global.pool.as_deref(), ("--pool", "NIXVM_POOL"))?;
    let connect = asked(global.connect.as_deref(), ("--connect", "NIXVM_CONNECT"))?;
    let setup = Setup {
        workspace: Workspace::find(&here, &trust(&global.trust))?,
        connect: Connection::default(),
        pool: PoolName::default(),
        nixpkgs: nixpkgs(global.nixpkgs.as_deref())?,
        discard_saved: global.discard_saved,
        wait: global.wait,
        // Not in a release: nobody but a test wants to see what a power cut leaves.
        die_after: env::var("NIXVM_DIE_AFTER")
            .ok()
            .filter(|_| cfg!(debug_assertions))
            .and_then(|steps| steps.parse().ok())
            .map(|steps| (steps, die_by(&env::var("NIXVM_DIE_BY").unwrap_or_default()))),
        session_pools: below_home("XDG_DATA_HOME", ".local/share").join("libvirt/images"),
        cache: below_home("XDG_CACHE_HOME", ".cache").join("nixvm"),
        choices: below_home("XDG_STATE_HOME", ".local/state").join("nixvm/bases"),
        temporary: env::temp_dir(),
        session: Session {
            config: below_home("XDG_CONFIG_HOME", ".config"),
            runtime: absolute("XDG_RUNTIME_DIR"),
            home,
        },
    };
    Ok(Call::new(setup, pool, connect))
}

/// Returns the signal that a test wants to be met: one that kills, one that asks to end, or one that holds nixvm up while
/// something happens to the host.
fn die_by(name: &str) -> Signal {
    match name {
        "TERM" => Signal::TERM,
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "STOP" => Signal::STOP,
        _ => Signal::KILL,
    }
}

/// Returns whose workspaces are taken: as git does it, under sudo also those of whoever called it.
fn trust(allowed: &[PathBuf]) -> Trust {
    let me = geteuid();
    let caller = env::var("SUDO_UID").ok().filter(|_| me.is_root()).and_then(|user| user.parse().ok());
    let more = env::var_os("NIXVM_TRUST").unwrap_or_default();
    Trust {
        users: std::iter::once(me.as_raw()).chain(caller).collect(),
        // An empty part would be the current folder.
        workspaces: allowed
            .iter()
            .cloned()
            .chain(env::split_paths(&more))
            .filter(|folder| !folder.as_os_str().is_empty())
            .collect(),
    }
}

/// Returns the flake reference that was given in place of the locked nixpkgs, its path as Nix takes it.
fn nixpkgs(given: Option<&str>) -> Result<Option<String>> {
    let Some(given) = given.filter(|given| !given.is_empty()) else { return Ok(None) };
    let here = env::current_dir().explain(|| Failure::user("cannot tell the current folder"))?;
    Ok(Some(nix::reference::typed(given, &here)))
}

/// Returns what the flag or else the variable says.
///
/// # Errors
/// It is not valid.
fn asked<T: FromStr<Err = Failure>>(
    given: Option<&str>,
    (flag, variable): (&'static str, &'static str),
) -> Result<Option<Asked<T>>> {
    let Some(given) = given.filter(|given| !given.is_empty()) else { return Ok(None) };
    let is_flag = |word: OsString| {
        word.to_str()
            .and_then(|word| word.strip_prefix(flag))
            .is_some_and(|rest| matches!(rest.chars().next(), None | Some('=')))
    };
    let by = if env::args_os().any(is_flag) { flag } else { variable };
    Ok(Some(Asked { value: typed(given.parse())?, by }))
}

/// Returns a machine's name that was typed.
///
/// # Errors
/// It is none.
pub fn machine_name(text: &str) -> Result<MachineName> {
    typed(text.parse())
}

/// Returns a value that was typed; what is wrong with it is a fault of the command line.
///
/// # Errors
/// The value is not valid.
pub fn typed<T>(parsed: Result<T, Failure>) -> Result<T> {
    parsed.map_err(|failure| failure.typed().into())
}

/// Does the same with each of several machines; a fault with one does not keep the others from their turn.
///
/// # Errors
/// A name is none, or that of no machine: then nothing is done with any; one or more of them failed; an interruption, after which no other machine is begun.
pub fn each(
    call: &Call,
    names: &[String],
    mut work: impl FnMut(&Setup, &MachineName) -> Result<serde_json::Value>,
) -> Result<Shown> {
    let names: BTreeSet<MachineName> = names.iter().map(|name| machine_name(name)).collect::<Result<_>>()?;
    // Of one machine the work itself says more.
    if names.len() > 1 {
        ops::require_all(call, &names)?;
    }
    let mut results = Vec::new();
    let mut failed = Vec::new();
    for name in &names {
        match call.machine(name).and_then(|setup| work(&setup, name)) {
            Ok(result) => results.push(result),
            // Who presses ^C does not want the next machine to be begun.
            Err(error) if names.len() == 1 || is(&error, Kind::Interrupted) => return Err(error),
            Err(error) => failed.push((name, error)),
        }
    }
    match failed.as_slice() {
        [] => Ok(Shown::said(&results)),
        failed => Err(some_failed(failed, names.len()).into()),
    }
}

fn is(error: &anyhow::Error, kind: Kind) -> bool {
    Report::of(error).exit_code == kind.exit_code()
}

fn some_failed(failed: &[(&MachineName, anyhow::Error)], of: usize) -> Failure {
    let said: Vec<String> = failed.iter().map(|(name, error)| format!("{name}: {error:#}")).collect();
    let counted = match failed.len() {
        all if all == of => format!("all {of} machines failed"),
        some => format!("{some} of {of} machines failed; the others were done"),
    };
    // That a machine went back to what it was is what a program that upgrades many has to know first.
    let failure = match failed.iter().any(|(_, error)| is(error, Kind::RolledBack)) {
        true => Failure::rolled_back(counted),
        false => Failure::user(counted),
    };
    let mut words = Vec::new();
    for (name, error) in failed {
        let named = |said: Said| Said { source: format!("{name}: {}", said.source), ..said };
        words.extend(Report::of(error).said.into_iter().map(named));
    }
    failure.said(words).because(anyhow::Error::msg(said.join("\n")))
}

/// Waits for a machine's ssh if that was asked for, `timeout` seconds at most, and returns what is known of it then.
///
/// # Errors
/// It does not answer in time.
pub fn wait(
    setup: &Setup,
    name: &MachineName,
    timeout: Option<u64>,
    terminal: &Terminal,
) -> Result<serde_json::Value> {
    let address = match setup.wait {
        true => {
            let limit = timeout.map_or(SSH_LIMIT, Duration::from_secs);
            Some(ops::wait_for_ssh(setup, name, limit, terminal)?)
        }
        false => None,
    };
    Ok(json!({ "machine": name, "state": "running", "ssh": address }))
}

fn build(call: &Call, args: &Build, terminal: &Terminal) -> Result<Shown> {
    if let Some(name) = &args.machine {
        let name = machine_name(name)?;
        let built = ops::build_declared(&call.machine(&name)?, &name, terminal)?;
        return Ok(Shown::new(&built, built.out_link.display().to_string()));
    }
    let names: Vec<&str> = match args.profiles.as_slice() {
        [] => vec!["core"],
        names => names.iter().map(String::as_str).collect(),
    };
    build_profiles(
        call.host(),
        names.into_iter().map(|name| typed(name.parse())).collect::<Result<_>>()?,
        terminal,
    )
}

fn build_profiles(setup: &Setup, names: Vec<ProfileName>, terminal: &Terminal) -> Result<Shown> {
    names.iter().try_for_each(|name| setup.workspace.check_profile(name))?;
    let built =
        names.iter().map(|name| ops::build_profile(setup, name, terminal)).collect::<Result<Vec<_>>>()?;
    let links: Vec<String> = built.iter().map(|b| b.out_link.display().to_string()).collect();
    Ok(Shown::new(&built, links.join("\n")))
}

fn list_profiles(setup: &Setup) -> Result<Shown> {
    let profiles = ops::profiles(setup)?;
    let rows: Vec<Vec<String>> =
        profiles.iter().map(|p| vec![p.name.to_string(), p.description.clone()]).collect();
    Ok(Shown::new(&profiles, show::table(&["PROFILE", "DESCRIPTION"], &rows)))
}

fn ssh(call: &Call, args: &Ssh) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    Err(ops::ssh(&call.machine(&name)?, &name, &args.user, &args.command)?.replace())
}

fn console(call: &Call, name: &MachineName, terminal: &Terminal) -> Result<Shown> {
    let setup = call.machine(name)?;
    setup.require_own(name)?;
    terminal.line(&format!("Serial console of {name}. Press Enter for a prompt; ^] leaves."));
    let _raw = super::raw::RawMode::enter(stdin())?;
    ops::console(&setup, name, stdin().as_fd(), stdout().as_fd())?;
    Ok(Shown::said(&json!({ "machine": name })))
}

fn delete(call: &Call, args: &Delete, with_files: bool, terminal: &Terminal) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    let setup = call.machine(&name)?;
    ops::require_something(&setup, &name, with_files)?;
    let what = match with_files {
        false => "its domain and disks, with all data on them",
        true => "its domain, its disks with all data on them, and its files",
    };
    let question = format!("Delete {name}: {what}?");
    if !args.yes && !prompt::confirm(&question, "pass `--yes` to delete without being asked")? {
        return Err(Failure::user("nothing was deleted").into());
    }
    let delete = if with_files { ops::purge } else { ops::destroy };
    Ok(Shown::said(&delete(&setup, &name, terminal)?))
}

fn doctor(setup: &Setup, terminal: &Terminal) -> Shown {
    let path = exec::search_path(&env::var_os("PATH").unwrap_or_default());
    let checks = ops::doctor(setup, &path, terminal);
    terminal.rest();
    let faulty = checks.iter().any(|check| check.health == Health::Fault);
    Shown { exit_code: faulty.into(), ..Shown::new(&checks, show::checks(&checks)) }
}

fn completions(shell: clap_complete::Shell) -> Shown {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "nixvm", &mut script);
    let text = String::from_utf8_lossy(&script).into_owned();
    Shown::new(&text, text.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_machines_one_that_was_taken_back_gives_the_code() {
        let [web, db]: [MachineName; 2] = ["web".parse().unwrap(), "db".parse().unwrap()];
        let off = || Failure::user("it is off").into();
        let words = |source: &str| vec![Said { source: source.into(), lines: vec!["boom".into()] }];
        let back = || Failure::rolled_back("not healthy").said(words("a.service")).into();
        let report =
            |failed: &[(&MachineName, anyhow::Error)], of| Report::of(&some_failed(failed, of).into());
        let both = report(&[(&web, off()), (&db, back())], 2);
        assert_eq!((both.exit_code, both.error.as_str()), (3, "all 2 machines failed"));
        assert_eq!(both.causes, ["web: it is off\ndb: not healthy"]);
        assert_eq!(both.said, words("db: a.service"));
        let one = report(&[(&web, off())], 2);
        assert_eq!((one.exit_code, one.error.as_str()), (1, "1 of 2 machines failed; the others were done"));
    }
}
