//! Where `create` finds the ssh keys that may log in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::cli::prompt;
use crate::error::{Explain, Failure, Result};
use crate::exec::Command;
use crate::model::AuthorizedKey;
use crate::ops::public_keys;

#[derive(Debug, clap::Args)]
pub struct Keys {
    /// Read admin's ssh public keys from FILE (`-` is standard input)
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Take admin's keys from the running ssh agent
    #[arg(long, conflicts_with = "keys")]
    from_agent: bool,
    /// Make a machine that nobody can log in to by ssh
    #[arg(long, conflicts_with_all = ["keys", "from_agent"])]
    no_keys: bool,
}

impl Keys {
    pub fn named(&self) -> bool {
        self.keys.is_some() || self.from_agent || self.no_keys
    }
}

#[derive(Debug)]
pub struct Found {
    /// Empty only with `--no-keys`.
    pub keys: Vec<AuthorizedKey>,
    pub source: String,
}

const INSTEAD: &str = "give a file of public keys with `--keys FILE`, make a key pair with `ssh-keygen`, \
                       or pass `--no-keys` for a machine that nobody can log in to";

/// Returns the keys of admin: those of the file or agent that was named, else of the first of these that has any: the
/// agent, `~/.ssh/*.pub`, and the person at the terminal if `ask`.
///
/// # Errors
/// No source has a key: a machine that nobody can log in to is made only on request.
pub fn find(args: &Keys, ask: bool, home: Option<&Path>) -> Result<Found> {
    if args.no_keys {
        return Ok(Found { keys: Vec::new(), source: "--no-keys".into() });
    }
    if let Some(file) = &args.keys {
        return parse(read(file)?);
    }
    if args.from_agent {
        return parse(agent()?);
    }
    if let Ok(found) = agent().and_then(parse) {
        return Ok(found);
    }
    for file in home.map(public_keys).unwrap_or_default() {
        if let Ok(found) = parse(read(&file)?) {
            return Ok(found);
        }
    }
    if !ask || !prompt::can_ask() {
        return Err(Failure::user("no ssh key found in the agent or in ~/.ssh").hint(INSTEAD).into());
    }
    let key = prompt::text("ssh public key for admin (one line)", None, INSTEAD, |text| {
        Ok(AuthorizedKey::from_str(text)?)
    })?;
    Ok(Found { keys: vec![key], source: "the terminal".into() })
}

/// Returns the keys in a text of that source, one a line, and at least one.
fn parse((text, source): (String, String)) -> Result<Found> {
    let lines = text.lines().enumerate();
    let keys = lines.filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    let keys = keys.map(|(i, line)| {
        AuthorizedKey::from_str(line)
            .explain(|| Failure::user(format!("line {} of {source} is not an ssh public key", i + 1)))
    });
    let keys = keys.collect::<Result<Vec<_>>>()?;
    if keys.is_empty() {
        return Err(Failure::user(format!("{source} holds no ssh key")).hint(INSTEAD).into());
    }
    Ok(Found { keys, source })
}

fn read(file: &Path) -> Result<(String, String)> {
    let (read, source) = if file == Path::new("-") {
        (io::read_to_string(io::stdin()), "standard input".to_owned())
    } else {
        (fs::read_to_string(file), format!("`{}`", file.display()))
    };
    let text = read.explain(|| Failure::user(format!("cannot read ssh keys from {source}")))?;
    Ok((text, source))
}

fn agent() -> Result<(String, String)> {
    let listed = Command::new("ssh-add").arg("-L").output().explain(|| {
        Failure::user("cannot get keys from the ssh agent")
            .hint("load a key with `ssh-add`, or use `--keys FILE`")
    })?;
    Ok((String::from_utf8_lossy(&listed).into_owned(), "the ssh agent".to_owned()))
}
