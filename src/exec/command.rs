//! A command as a value.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use super::path::search_path;
use crate::error::Failure;

/// Most bytes that are taken from a command, unless it is told another limit. Nix lists the largest closures in a tenth of it.
const MOST: u64 = 64 << 20;

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    directory: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    without: Vec<OsString>,
    missing: Option<String>,
    pub(super) both_streams: bool,
    pub(super) most: u64,
}

impl Command {
    /// `program` is looked up as [`search_path`] says.
    pub fn new(program: impl Into<OsString>) -> Self {
        Command {
            program: program.into(),
            arguments: Vec::new(),
            directory: None,
            environment: Vec::new(),
            without: Vec::new(),
            missing: None,
            both_streams: false,
            most: MOST,
        }
    }

    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    #[must_use]
    pub fn args<I: IntoIterator<Item: Into<OsString>>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Sets an environment variable besides the inherited ones.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Drops an inherited environment variable.
    #[must_use]
    pub fn without_env(mut self, name: impl Into<OsString>) -> Self {
        self.without.push(name.into());
        self
    }

    /// Sets the hint to give when the program is not installed.
    #[must_use]
    pub fn missing(mut self, hint: impl Into<String>) -> Self {
        self.missing = Some(hint.into());
        self
    }

    /// Makes a failure under a limit quote standard output as well as standard error, for a user's program may use either.
    /// No output is returned then.
    #[must_use]
    pub fn both_streams(mut self) -> Self {
        self.both_streams = true;
        self
    }

    /// Ends the command once it prints more than that many bytes: a guest's answer must not fill the memory.
    #[must_use]
    pub fn at_most(mut self, bytes: u64) -> Self {
        self.most = bytes;
        self
    }

    pub fn argv(&self) -> Vec<&OsStr> {
        std::iter::once(self.program.as_os_str())
            .chain(self.arguments.iter().map(OsString::as_os_str))
            .collect()
    }

    pub(super) fn too_much(&self) -> Failure {
        Failure::user(format!("`{self}` printed more than {} MiB", self.most >> 20))
    }

    pub(super) fn process(&self) -> std::process::Command {
        let mut process = std::process::Command::new(&self.program);
        process.env("PATH", search_path(&std::env::var_os("PATH").unwrap_or_default()));
        process.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        for name in &self.without {
            process.env_remove(name);
        }
        if let Some(directory) = &self.directory {
            process.current_dir(directory);
        }
        process
    }

    pub(super) fn not_started(&self) -> Failure {
        Failure::user(format!("cannot run `{}`", self.program.to_string_lossy()))
            .hint_if(self.missing.as_ref())
    }
}

/// Writes the command as it could be typed into a shell.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.argv().into_iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            f.write_str(&quoted(&word.to_string_lossy()))?;
        }
        Ok(())
    }
}

/// Returns `word` as one word of a POSIX shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%#".contains(c);
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with('#') {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_can_be_typed_into_a_shell() {
        let command = Command::new("printf").arg("%s\\n").arg("it's $HOME").arg("").arg("a-b=c");
        assert_eq!(command.to_string(), r"printf '%s\n' 'it'\''s $HOME' '' a-b=c");
        let echoed = Command::new("sh").arg("-c").arg(command.to_string()).output().unwrap();
        assert_eq!(String::from_utf8(echoed).unwrap(), "it's $HOME\n\na-b=c\n");
    }
}
