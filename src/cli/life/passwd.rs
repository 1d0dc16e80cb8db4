//! `passwd`: root's password is read so that nobody sees it on the way.

use std::fs::File;
use std::io::{Read, stdin};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::cli::{Shown, Terminal, machine_name, prompt};
use crate::config;
use crate::error::{Explain, Failure, Result};
use crate::model::PasswordHash;
use crate::ops::{self, Call};

/// At most this many bytes of a password or a hash are read; valid ones are shorter.
const MOST: u64 = 4096;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nixvm passwd web                           asks twice; an empty password locks root
  pass show web | nixvm passwd web --stdin
  nixvm passwd web --hash hash.txt           a hash of crypt(5); `-` is standard input

This is root's password for the console; ssh accepts only keys. It applies from the next
`nixvm start` or `nixvm reboot`, without a build.")]
pub struct Passwd {
    /// Name of the machine
    name: String,
    /// Read the password from standard input, one line
    #[arg(long, conflicts_with = "hash")]
    stdin: bool,
    /// Read a hash instead of a password (`-` is standard input)
    #[arg(long, value_name = "FILE")]
    hash: Option<PathBuf>,
}

pub fn run(call: &Call, args: &Passwd, terminal: &Terminal) -> Result<Shown> {
    let name = machine_name(&args.name)?;
    let setup = call.machine(&name)?;
    // Nobody should type a password twice only to hear that there is no such machine.
    setup.require_own(&name)?;
    config::load(&setup.workspace, &name)?;
    let hash = if let Some(file) = &args.hash {
        hash_of(&line(file)?, str::parse)?
    } else if args.stdin {
        hash_of(&line(Path::new("-"))?, PasswordHash::yescrypt)?
    } else {
        terminal.rest();
        let question = format!("New password of root on {name} (empty locks root)");
        let instead = "pass the password with `--stdin`, or a hash with `--hash FILE`";
        hash_of(&prompt::secret(&question, "Once more", instead)?, PasswordHash::yescrypt)?
    };
    Ok(Shown::said(&ops::passwd(&setup, &name, hash, terminal)?))
}

/// Returns the hash, `None` for an empty text.
fn hash_of(
    text: &str,
    hash: impl FnOnce(&str) -> Result<PasswordHash, Failure>,
) -> Result<Option<PasswordHash>> {
    if text.is_empty() { Ok(None) } else { Ok(Some(hash(text)?)) }
}

/// Returns the only line of a file, or of standard input for `-`. It is overwritten when dropped.
fn line(file: &Path) -> Result<Zeroizing<String>> {
    let from_stdin = file == Path::new("-");
    let source = if from_stdin { "standard input".to_owned() } else { format!("`{}`", file.display()) };
    let cannot = || Failure::user(format!("cannot read {source}"));
    // Not through `Stdin`: that keeps a copy in its own buffer.
    let opened =
        if from_stdin { stdin().as_fd().try_clone_to_owned().map(File::from) } else { File::open(file) };
    // Large enough from the start: a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(2 * MOST as usize));
    opened.explain(cannot)?.take(MOST).read_to_string(&mut text).explain(cannot)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.contains('\n') {
        return Err(Failure::user(format!("{source} has more than one line"))
            .hint("give only the password or hash, on one line")
            .into());
    }
    Ok(Zeroizing::new(line.to_owned()))
}
