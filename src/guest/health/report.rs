//! The judgement of a guest, and how it is reported.

use std::time::Instant;

use crate::error::{Failure, Said};
use crate::guest::serial;
use crate::model::Observation;
use crate::work::Work;

/// Lines of the serial log that a failure shows.
const LOG_LINES: usize = 12;

/// A guest after its trial.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    /// Why it is unhealthy; `None` where it is healthy.
    pub fault: Option<String>,
    /// When its ssh or its agent first answered.
    pub answered: Option<Instant>,
    pub seen: Observation,
    /// What its units or the health check said of the fault.
    pub said: Vec<Said>,
    pub log: String,
}

impl Judged {
    /// Returns the judgement of a guest that could not even be switched on.
    pub fn fault(fault: String) -> Self {
        Judged { fault: Some(fault), ..Judged::default() }
    }
}

/// Returns why a guest is unhealthy, with the log of its units or, where it could not be asked, the end of its serial log.
pub fn cause(fault: &str, judged: Option<&Judged>) -> Failure {
    let cause = Failure::user(fault);
    let Some(judged) = judged else { return cause };
    if !judged.said.is_empty() {
        return cause.said(judged.said.clone());
    }
    match serial::tail(&judged.log, LOG_LINES) {
        tail if tail.is_empty() => cause,
        tail => cause.because(anyhow::Error::msg(format!("the end of its serial log:\n{tail}"))),
    }
}

/// Warns of units that fail and were no reason for a rollback.
pub fn note_failing(work: &Work, units: &[String]) {
    if !units.is_empty() {
        work.watch.note(&format!("these units of {} still fail: {}", work.name, units.join(", ")));
    }
}
