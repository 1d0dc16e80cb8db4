//! What the global options and the environment say about where a command works, and as whom.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use rustix::process::{Signal, geteuid};

use crate::config::{self, Trust, Workspace};
use crate::error::{Explain, Failure, Result};
use crate::model::{Connection, PoolName};
use crate::nix;
use crate::ops::{self, Asked, Call, Session, Setup, Target};

use super::global::Global;
use super::input::typed;

pub fn call(global: &Global) -> Result<Call> {
    let here = match &global.directory {
        Some(directory) => directory.clone(),
        None => current_dir()?,
    };
    // Where the environment names no home (cron, `env -i`), the account's is used, as libvirt does it.
    let home = env::home_dir().filter(|home| home.is_absolute());
    let absolute =
        |variable: &str| env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let below_home = |variable: &str, otherwise: &str| {
        absolute(variable).or_else(|| Some(home.as_ref()?.join(otherwise))).unwrap_or_else(env::temp_dir)
    };
    let pool = asked(global.pool.as_deref(), ("--pool", "NIXVM_POOL"))?;
    let workspace = Workspace::find(&here, &trust(&global.trust))?;
    let connect = target(global, &workspace)?;
    let setup = Setup {
        workspace,
        connect: Connection::default(),
        host: None,
        pool: PoolName::default(),
        nixpkgs: nixpkgs(global.nixpkgs.as_deref())?,
        discard_saved: global.discard_saved,
        unprotect: false,
        wait: global.wait,
        // For tests only, which want to see what a power cut leaves: not in a release.
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

/// Returns the signal that a test asks for: one that kills, one that asks to end, or one that pauses nixvm while the
/// test does something to the host.
fn die_by(name: &str) -> Signal {
    match name {
        "TERM" => Signal::TERM,
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "STOP" => Signal::STOP,
        _ => Signal::KILL,
    }
}

fn current_dir() -> Result<PathBuf> {
    env::current_dir().explain(|| Failure::user("cannot find the current folder"))
}

/// Returns whose workspaces are used. Under sudo, the calling user's are too; git does the same.
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

/// Returns the flake reference given in place of the locked nixpkgs; a relative path in it is made absolute.
fn nixpkgs(given: Option<&str>) -> Result<Option<String>> {
    let Some(given) = given.filter(|given| !given.is_empty()) else { return Ok(None) };
    Ok(Some(nix::reference::typed(given, &current_dir()?)))
}

/// Returns the libvirt that was given: by the name of its host, or by its URI.
fn target(global: &Global, workspace: &Workspace) -> Result<Option<Asked<Target>>> {
    let uri = asked(global.connect.as_deref(), ("--connect", "NIXVM_CONNECT"))?;
    let uri = uri.map(|Asked { value, by }| Asked { value: Target::Uri(value), by });
    let Some(name) = &global.host else { return Ok(uri) };
    let host = Target::Host(ops::named(&config::hosts(workspace)?, &typed(name.parse())?)?);
    match uri {
        // As every flag, this one goes before a variable.
        Some(Asked { value, by: by @ "--connect" }) if value != host => {
            Err(Failure::usage(format!("--host says `{host}`, and {by} says `{value}`"))
                .hint("give one of the two")
                .into())
        }
        _ => Ok(Some(Asked { value: host, by: "--host" })),
    }
}

/// Returns the value given by the flag or the variable, and which of the two gave it.
fn asked<T: FromStr<Err = Failure>>(
    given: Option<&str>,
    (flag, variable): (&'static str, &'static str),
) -> Result<Option<Asked<T>>> {
    let Some(given) = given.filter(|given| !given.is_empty()) else { return Ok(None) };
    let is_flag = |word: OsString| {
        word.to_str()
            .and_then(|word| word.strip_prefix(flag))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    let by = if env::args_os().any(is_flag) { flag } else { variable };
    Ok(Some(Asked { value: typed(given.parse())?, by }))
}
