//! The result of a verb, as text for people and as JSON for programs.

use serde::Serialize;
use serde_json::Value;

use crate::error::{Explain, Failure, Report, Result};

pub struct Shown {
    /// Empty where the steps on standard error already said everything.
    pub text: String,
    pub json: Value,
    pub exit_code: u8,
}

impl Shown {
    pub fn new(value: &impl Serialize, text: impl Into<String>) -> Self {
        let (json, exit_code) = match json(value) {
            Ok(json) => (json, 0),
            Err(error) => {
                let report = Report::of(&error);
                (serde_json::json!(report), report.exit_code)
            }
        };
        Shown { text: text.into(), json, exit_code }
    }

    /// Returns a result without text: the steps on standard error said everything.
    pub fn said(value: &impl Serialize) -> Self {
        Shown::new(value, "")
    }
}

pub fn json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).explain(|| Failure::bug("a result cannot be shown as JSON"))
}
