//! `passwd`: how root's password comes in without being seen on the way.

use std::fs::File;
use std::io::{Read, stdin};
use std::os::fd::AsFd;
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::{Explain, Failure, Result};
use crate::model::PasswordHash;
use crate::ops::{self, Call};

use super::change_args::Passwd;
use super::commands::machine_name;
use super::prompt;
use super::show::Shown;
use super::terminal::Terminal;

/// Most bytes that are read of a password or a hash; valid ones are shorter.
const MOST: u64 = 4096;

/// Carries out `passwd`.
///
/// # Errors
/// What was typed or read is no password or hash, nobody can be asked, or the operation fails.
pub fn passwd(call: &Call, args: &Passwd, terminal: &Terminal) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    let setup = call.machine(&name)?;
    // Before somebody types a password twice for nothing.
    setup.require_own(&name)?;
    crate::config::load(&setup.workspace, &name)?;
    let hash = match (&args.hash, args.stdin) {
        (Some(file), _) => hash_of(line(file)?.as_str(), |text| text.parse())?,
        (None, true) => hash_of(line(Path::new("-"))?.as_str(), PasswordHash::yescrypt)?,
        (None, false) => {
            terminal.rest();
            let question = format!("New password of root on {name} (empty locks root)");
            let instead = "pass the password with `--stdin`, or a hash with `--hash FILE`";
            hash_of(&prompt::secret(&question, "Once more", instead)?, PasswordHash::yescrypt)?
        }
    };
    Ok(Shown::said(&ops::passwd(&setup, &name, hash, terminal)?))
}

/// Returns the hash, `None` for an empty text.
fn hash_of(
    text: &str,
    hash: impl FnOnce(&str) -> Result<PasswordHash, Failure>,
) -> Result<Option<PasswordHash>> {
    match text {
        "" => Ok(None),
        text => Ok(Some(hash(text)?)),
    }
}

/// Returns the one line of a file, without its end; that of standard input for `-`. It is overwritten when it is dropped.
fn line(file: &Path) -> Result<Zeroizing<String>> {
    let from_stdin = file == Path::new("-");
    let source = if from_stdin { "standard input".to_owned() } else { format!("`{}`", file.display()) };
    let cannot = || Failure::user(format!("cannot read {source}"));
    // Not through `Stdin`, which keeps what it read in a buffer of its own.
    let opened =
        if from_stdin { stdin().as_fd().try_clone_to_owned().map(File::from) } else { File::open(file) };
    // With room for all of it: a text that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(2 * MOST as usize));
    opened.explain(cannot)?.take(MOST).read_to_string(&mut text).explain(cannot)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.contains('\n') {
        return Err(Failure::user(format!("{source} has more than one line"))
            .hint("give the password or hash alone, on one line")
            .into());
    }
    Ok(Zeroizing::new(line.to_owned()))
}
