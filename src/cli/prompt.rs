//! Questions. They are asked on a terminal only; elsewhere the error names the option that answers them.

use std::collections::BTreeSet;
use std::io::{IsTerminal, stderr, stdin};

use dialoguer::theme::SimpleTheme;
use dialoguer::{Confirm, Input, Password, Select};
use zeroize::Zeroizing;

use crate::error::{Explain, Failure, Result};
use crate::model::MachineName;
use crate::model::plain;

use super::output;
use super::terminal::Terminal;

#[derive(Debug, clap::Args)]
pub struct Yes {
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
}

impl Yes {
    /// Asks the question unless `--yes` answers it. `to_do` completes the hint "pass `--yes` to ...".
    ///
    /// # Errors
    /// The answer is no, or there is no terminal.
    pub fn or_ask(&self, terminal: &Terminal, question: &str, to_do: &str) -> Result<()> {
        terminal.rest();
        if self.yes || confirm(question, &format!("pass `--yes` to {to_do} without being asked"))? {
            return Ok(());
        }
        Err(unchanged())
    }

    /// Asks about machines: lists several on a line of their own, because a question that fills more than one line is drawn
    /// twice. `question` gets a name, or the number of machines.
    pub fn or_ask_about(
        &self,
        terminal: &Terminal,
        machines: &BTreeSet<MachineName>,
        question: impl FnOnce(&str) -> String,
        to_do: &str,
    ) -> Result<()> {
        let names: Vec<&str> = machines.iter().map(MachineName::as_str).collect();
        if let [name] = names.as_slice() {
            return self.or_ask(terminal, &question(name), to_do);
        }
        if !self.yes {
            terminal.line(&format!("machines: {}", names.join(", ")));
        }
        self.or_ask(terminal, &question(&format!("these {} machines", names.len())), to_do)
    }
}

/// Returns the error of a question that was answered by no.
pub fn unchanged() -> anyhow::Error {
    Failure::user("not confirmed: nothing was changed").into()
}

pub fn can_ask() -> bool {
    stdin().is_terminal() && stderr().is_terminal()
}

/// Asks a question that is answered by yes or no; Enter means no.
pub fn confirm(question: &str, instead: &str) -> Result<bool> {
    need_terminal(question, instead)?;
    Confirm::with_theme(&SimpleTheme)
        .with_prompt(plain(question))
        .default(false)
        .interact()
        .explain(Failure::interrupted)
}

/// Asks for a line of text until `check` accepts it.
pub fn text<T>(
    question: &str,
    default: Option<&str>,
    instead: &str,
    check: impl Fn(&str) -> Result<T>,
) -> Result<T> {
    need_terminal(question, instead)?;
    loop {
        let mut input =
            Input::<String>::with_theme(&SimpleTheme).with_prompt(plain(question)).allow_empty(true);
        if let Some(default) = default {
            input = input.default(default.to_owned());
        }
        match check(input.interact_text().explain(Failure::interrupted)?.trim()) {
            Ok(value) => return Ok(value),
            Err(error) => output::line(&format!("{error:#}")),
        }
    }
}

/// Asks for one of `choices` and returns its place in the list.
pub fn choose(question: &str, choices: &[String], default: usize, instead: &str) -> Result<usize> {
    need_terminal(question, instead)?;
    Select::with_theme(&SimpleTheme)
        .with_prompt(plain(question))
        .items(choices.iter().map(|choice| plain(choice)))
        .default(default)
        .interact()
        .explain(Failure::interrupted)
}

/// Asks for a secret, unseen and twice, until both are the same. It may be empty, and is overwritten when dropped.
pub fn secret(question: &str, again: &str, instead: &str) -> Result<Zeroizing<String>> {
    need_terminal(question, instead)?;
    Password::with_theme(&SimpleTheme)
        .with_prompt(plain(question))
        .with_confirmation(again, "The two differ")
        .allow_empty_password(true)
        .interact()
        .map(Zeroizing::new)
        .explain(Failure::interrupted)
}

fn need_terminal(question: &str, instead: &str) -> Result<()> {
    if can_ask() {
        return Ok(());
    }
    Err(Failure::usage(format!("cannot ask without a terminal: {question}")).hint(instead).into())
}
