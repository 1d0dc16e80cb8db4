//! Failures: what went wrong, why, and what to do next.
//!
//! Errors travel as [`anyhow::Error`]. A [`Failure`] in the chain gives the error a kind (and so an exit code) and may add a
//! hint, which is written beside the cause it belongs to. [`Explain::explain`] puts a failure on top of another error;
//! `anyhow`'s `.context("…")` adds plain context.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

pub use anyhow::{Context, Result};

/// The kind of a failure, which decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something about the user's files or the host is wrong.
    User,
    /// The command line is wrong.
    Usage,
    /// An upgrade did not come up healthy, and the machine was given back what it ran before.
    RolledBack,
    /// What was waited for did not come in time.
    Late,
    /// Somebody pressed ^C, or asked the process to stop in another way.
    Interrupted,
    /// nixvm itself is wrong.
    Bug,
}

impl Kind {
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::User => 1,
            Kind::Usage => 2,
            Kind::RolledBack => 3,
            Kind::Late => 4,
            // As a shell reports a process ended by SIGINT.
            Kind::Interrupted => 130,
            Kind::Bug => 255,
        }
    }
}

/// One link of an error chain, with a kind and perhaps a hint.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    message: String,
    hint: Option<String>,
    said: Vec<Said>,
    cause: Option<anyhow::Error>,
}

/// A report of somebody else, such as a unit of a guest, about a failure: shown below the causes, word for word.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Said {
    pub source: String,
    pub lines: Vec<String>,
}

impl Failure {
    /// Returns a failure that the user or the host can fix.
    pub fn user(message: impl Into<String>) -> Self {
        Self::new(Kind::User, message)
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Returns the failure of an upgrade that was undone because its machine did not come up healthy.
    pub fn rolled_back(message: impl Into<String>) -> Self {
        Self::new(Kind::RolledBack, message)
    }

    /// Returns the failure of a wait whose time is over.
    pub fn late(message: impl Into<String>) -> Self {
        Self::new(Kind::Late, message)
    }

    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
    }

    /// Returns a failure that only a change in nixvm can fix.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Kind::Bug, message)
    }

    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Failure { kind, message: message.into(), hint: None, said: Vec::new(), cause: None }
    }

    /// Returns the failure of a file or folder that cannot be read.
    pub fn unreadable(path: &Path) -> Self {
        Self::user(format!("cannot read `{}`", path.display()))
    }

    /// Turns the failure of a file's value into one of the command line, where the same value was typed.
    #[must_use]
    pub fn typed(mut self) -> Self {
        self.kind = Kind::Usage;
        self
    }

    /// Adds a sentence that says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// As [`Failure::hint`], where there is one.
    #[must_use]
    pub fn hint_if(self, hint: Option<impl Into<String>>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    #[must_use]
    pub fn said(mut self, said: Vec<Said>) -> Self {
        self.said = said;
        self
    }

    /// Adds the error that caused it.
    #[must_use]
    pub fn because(mut self, cause: impl Into<anyhow::Error>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(AsRef::as_ref)
    }
}

/// Puts a [`Failure`] on top of an error.
///
/// `anyhow`'s own `.context(failure)` would wrap it in a type that hides its hint from [`Report::of`].
pub trait Explain<T> {
    fn explain(self, say: impl FnOnce() -> Failure) -> Result<T>;
}

impl<T, E: Into<anyhow::Error>> Explain<T> for std::result::Result<T, E> {
    fn explain(self, say: impl FnOnce() -> Failure) -> Result<T> {
        self.map_err(|cause| say().because(cause).into())
    }
}

/// An error as it is shown: in text by the CLI, as an object under `--json`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    pub error: String,
    /// From the nearest cause to the deepest.
    pub causes: Vec<String>,
    /// The deepest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<Said>,
    /// The nearest first.
    pub hints: Vec<String>,
    pub exit_code: u8,
}

impl Report {
    /// The outermost [`Failure`] decides the kind. An interruption below it wins over [`Kind::User`]: the command failed
    /// because it was interrupted.
    pub fn of(error: &anyhow::Error) -> Self {
        let mut kind = None;
        let mut hints: Vec<String> = Vec::new();
        let mut said: Vec<Said> = Vec::new();
        for failure in error.chain().filter_map(|link| link.downcast_ref::<Failure>()) {
            match (kind, failure.kind) {
                (None, found) | (Some(Kind::User), found @ Kind::Interrupted) => kind = Some(found),
                _ => {}
            }
            // The deepest failure in the chain is the nearest to the fault.
            said.splice(0..0, failure.said.iter().cloned());
            if let Some(hint) = failure.hint.as_ref().filter(|hint| !hints.contains(hint)) {
                hints.push(hint.clone());
            }
        }
        if hints.is_empty() {
            hints.extend(error.chain().find_map(of_the_host).map(str::to_owned));
        }
        Report {
            error: error.to_string(),
            causes: error.chain().skip(1).map(ToString::to_string).collect(),
            said,
            hints,
            exit_code: kind.unwrap_or(Kind::User).exit_code(),
        }
    }
}

/// Returns the hint for a fault of a file system, which any operation on a file may meet.
fn of_the_host(link: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    match link.downcast_ref::<io::Error>()?.kind() {
        ErrorKind::StorageFull => Some(
            "free space on that file system (`nixvm clean` lists what it can delete), then run the command again",
        ),
        ErrorKind::QuotaExceeded => Some("free space within your quota, then run the command again"),
        ErrorKind::ReadOnlyFilesystem => Some(
            "make the file system writable (`findmnt --target PATH` names it); if it became read-only by itself, it has errors, and `dmesg` shows them",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(result: Result<()>) -> Report {
        Report::of(&result.unwrap_err())
    }

    #[test]
    fn the_outermost_failure_gives_the_exit_code_and_every_hint_is_kept() {
        let inner: Result<()> = Err(Failure::user("no route to host").hint("check the cable").into());
        let shown = report(inner.explain(|| Failure::usage("cannot start `web`").hint("see `nixvm doctor`")));
        assert_eq!(shown.error, "cannot start `web`");
        assert_eq!(shown.causes, ["no route to host"]);
        assert_eq!(shown.hints, ["see `nixvm doctor`", "check the cable"]);
        assert_eq!(shown.exit_code, 2);
    }

    #[test]
    fn what_others_say_comes_from_the_whole_chain() {
        let said = |source: &str| Said { source: source.into(), lines: vec!["boom".into()] };
        let inner: Result<()> =
            Err(Failure::user("deep").said(vec![said("a.service"), said("b.service")]).into());
        let shown = report(inner.explain(|| Failure::user("upper").said(vec![said("c.service")])));
        assert_eq!(shown.said, [said("a.service"), said("b.service"), said("c.service")]);
    }

    #[test]
    fn a_hint_below_plain_context_is_found() {
        let inner: Result<()> = Err(Failure::user("deep").hint("dig").into());
        let shown = report(inner.context("middle").explain(|| Failure::user("upper")).context("top"));
        assert_eq!(shown.error, "top");
        assert_eq!(shown.causes, ["upper", "middle", "deep"]);
        assert_eq!(shown.hints, ["dig"]);
    }

    #[test]
    fn what_was_taken_back_has_a_code_of_its_own_whatever_the_cause() {
        let inner: Result<()> = Err(Failure::user("a unit failed").into());
        assert_eq!(report(inner.explain(|| Failure::rolled_back("not healthy"))).exit_code, 3);
    }

    #[test]
    fn what_failed_by_an_interruption_is_one() {
        let inner: Result<()> = Err(Failure::interrupted().into());
        let shown = report(inner.explain(|| Failure::user("cannot store the disk")).context("top"));
        assert_eq!((shown.exit_code, shown.causes.len()), (130, 2));
        let inner: Result<()> = Err(Failure::interrupted().into());
        assert_eq!(report(inner.explain(|| Failure::rolled_back("not healthy"))).exit_code, 3);
    }

    #[test]
    fn a_full_or_read_only_disk_has_a_hint_unless_somebody_knows_better() {
        let full = || -> Result<()> { Err(io::Error::from(ErrorKind::StorageFull).into()) };
        assert!(report(full().explain(|| Failure::user("cannot write"))).hints[0].contains("nixvm clean"));
        assert_eq!(
            report(full().explain(|| Failure::user("cannot write").hint("do this"))).hints,
            ["do this"]
        );
        assert!(!report(Err(io::Error::from(ErrorKind::ReadOnlyFilesystem).into())).hints.is_empty());
        assert!(report(Err(io::Error::from(ErrorKind::NotFound).into())).hints.is_empty());
    }

    #[test]
    fn foreign_errors_are_the_hosts() {
        let shown = report(Err(io::Error::other("disk on fire").into()));
        assert_eq!(shown.exit_code, 1);
    }
}
