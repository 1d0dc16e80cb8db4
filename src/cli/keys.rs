//! Where the ssh keys of whoever creates a machine are found.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use crate::error::{Explain, Failure, Result};
use crate::exec::Command;
use crate::model::AuthorizedKey;
use crate::ops::public_keys;

use super::args::Create;
use super::prompt;

/// Keys, and where they came from.
#[derive(Debug)]
pub struct Found {
    /// At least one key, unless the user asked for none.
    pub keys: Vec<AuthorizedKey>,
    /// The source, as a person would name it.
    pub source: String,
}

const INSTEAD: &str = "give a file of public keys with `--keys FILE`, make a key pair with `ssh-keygen`, \
                       or pass `--no-keys` for a machine nobody can log in to";

/// Returns the keys that may log in as admin: of the file or agent that was named, else of the first that has any among the agent, `~/.ssh/*.pub` and the person at the terminal.
///
/// # Errors
/// A key is none, the named source has none, or no source has any: a machine that nobody can log in to is made only on request.
pub fn find(args: &Create, home: Option<&Path>) -> Result<Found> {
    if args.no_keys {
        return Ok(Found { keys: Vec::new(), source: "--no-keys".into() });
    }
    if let Some(file) = &args.keys {
        let (text, source) = read(file)?;
        return named(parse(&text, &source)?, source);
    }
    if args.from_agent {
        return named(parse(&agent()?, "the ssh agent")?, "the ssh agent".into());
    }
    if let Ok(listed) = agent()
        && let Ok(keys @ [_, ..]) = parse(&listed, "the ssh agent").as_deref()
    {
        return Ok(Found { keys: keys.to_vec(), source: "the ssh agent".into() });
    }
    for file in home.map(public_keys).unwrap_or_default() {
        let (text, source) = read(&file)?;
        if let Ok(keys @ [_, ..]) = parse(&text, &source).as_deref() {
            return Ok(Found { keys: keys.to_vec(), source });
        }
    }
    if args.yes || !prompt::can_ask() {
        return Err(Failure::user("no ssh key found in the agent or in ~/.ssh").hint(INSTEAD).into());
    }
    let key = prompt::text("ssh public key for admin (one line)", None, INSTEAD, |text| {
        Ok(AuthorizedKey::from_str(text)?)
    })?;
    Ok(Found { keys: vec![key], source: "the terminal".into() })
}

/// Returns the keys in `text`, one a line; blank lines and comments do not count.
fn parse(text: &str, source: &str) -> Result<Vec<AuthorizedKey>> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .map(|(i, line)| {
            AuthorizedKey::from_str(line)
                .explain(|| Failure::user(format!("line {} of {source} is no ssh key", i + 1)))
        })
        .collect()
}

fn named(keys: Vec<AuthorizedKey>, source: String) -> Result<Found> {
    if keys.is_empty() {
        return Err(Failure::user(format!("{source} has no ssh key")).hint(INSTEAD).into());
    }
    Ok(Found { keys, source })
}

fn read(file: &Path) -> Result<(String, String)> {
    let source =
        if file == Path::new("-") { "standard input".to_owned() } else { format!("`{}`", file.display()) };
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.explain(|| Failure::user(format!("cannot read ssh keys from {source}")))?;
    Ok((text, source))
}

fn agent() -> Result<String> {
    let listed = Command::new("ssh-add").arg("-L").output().explain(|| {
        Failure::user("the ssh agent gives no keys").hint("load one with `ssh-add`, or use `--keys FILE`")
    })?;
    Ok(String::from_utf8_lossy(&listed).into_owned())
}
