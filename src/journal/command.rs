//! The command line that works on a machine.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A command as its words, without `nixvm` and without options: `upgrade`, `web`.
///
/// Two commands with the same words are the same command: the second goes on where the first was interrupted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Command(Vec<String>);

impl Command {
    /// Returns the command of a verb and what follows it.
    pub fn new<W: ToString>(verb: &str, words: impl IntoIterator<Item = W>) -> Self {
        let words = words.into_iter().map(|word| word.to_string());
        Command(std::iter::once(verb.to_owned()).chain(words).collect())
    }

    /// Returns the command of a line whose words have no blanks in them.
    pub(super) fn of_line(line: &str) -> Self {
        Command(line.split(' ').map(str::to_owned).collect())
    }

    /// Returns what follows on the machine's name, such as a snapshot's.
    pub fn object(&self) -> Option<&str> {
        self.0.get(2).map(String::as_str)
    }

    /// Returns its verb.
    pub fn verb(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}
