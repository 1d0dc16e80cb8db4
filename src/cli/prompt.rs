//! Questions. Asked on a terminal only; elsewhere a command says which option answers them.

use std::io::{IsTerminal, stderr, stdin};

use dialoguer::theme::SimpleTheme;
use dialoguer::{Confirm, Input, Password, Select};
use zeroize::Zeroizing;

use super::output;
use crate::error::{Explain, Failure, Result};
use crate::model::plain;

/// Returns whether there is somebody to ask.
pub fn can_ask() -> bool {
    stdin().is_terminal() && stderr().is_terminal()
}

/// Asks a question that is answered by yes or no, no being what Enter means.
///
/// # Errors
/// There is no terminal; `instead` says which option answers the question there.
pub fn confirm(question: &str, instead: &str) -> Result<bool> {
    need_terminal(question, instead)?;
    Confirm::with_theme(&SimpleTheme)
        .with_prompt(plain(question))
        .default(false)
        .interact()
        .explain(Failure::interrupted)
}

/// Asks for a line of text until `check` takes it.
///
/// # Errors
/// There is no terminal; `instead` says which option answers the question there.
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
///
/// # Errors
/// There is no terminal; `instead` says which option answers the question there.
pub fn choose(question: &str, choices: &[String], default: usize, instead: &str) -> Result<usize> {
    need_terminal(question, instead)?;
    Select::with_theme(&SimpleTheme)
        .with_prompt(plain(question))
        .items(choices.iter().map(|choice| plain(choice)))
        .default(default)
        .interact()
        .explain(Failure::interrupted)
}

/// Asks twice for what nobody is to see, until both are the same; it may be empty. It is overwritten when it is dropped.
///
/// # Errors
/// There is no terminal; `instead` says which option answers the question there.
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
