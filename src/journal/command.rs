//! The command line that works on a machine.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A command as its words, without `nixvm` and without options: `upgrade`, `web`.
///
/// Commands with equal words are the same command: the second continues where the first was interrupted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Command(Vec<String>);

impl Command {
    pub fn new<W: ToString>(verb: &str, words: impl IntoIterator<Item = W>) -> Self {
        let words = words.into_iter().map(|word| word.to_string());
        Command(std::iter::once(verb.to_owned()).chain(words).collect())
    }

    /// Splits a line at its blanks: no word contains one.
    pub(super) fn of_line(line: &str) -> Self {
        Command(line.split(' ').map(str::to_owned).collect())
    }

    /// Returns the word after the machine's name, such as a snapshot's name.
    pub fn object(&self) -> Option<&str> {
        self.0.get(2).map(String::as_str)
    }

    pub fn verb(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}
