//! Progress and messages, on standard error; standard output is for results.
//!
//! On a terminal, long work has a spinner that shows the current step; elsewhere (a log, a pipe) each step is one plain
//! line. Where several machines are worked on at the same time, each has a spinner of its own, and its name before each line.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::ColorChoice;
use console::{Style, Term, style};
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

use crate::error::Report;
use crate::model::plain;
use crate::nix::{BuildProgress, Event};
use crate::ops::Watch;

use super::global::Global;
use super::output;

/// How much is printed beside results and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Volume {
    Quiet,
    Steps,
    Messages,
    BuildLogs,
}

/// What the terminals of several machines share.
struct Screen {
    volume: Volume,
    /// Whether spinners can be shown.
    lively: bool,
    spinners: MultiProgress,
    /// What builders said to the user, to show each text once.
    told: Mutex<BTreeSet<String>>,
}

pub struct Terminal {
    screen: Arc<Screen>,
    /// Stands before each line: nothing, or the name of the machine.
    prefix: String,
    spinner: RefCell<Option<ProgressBar>>,
    progress: RefCell<BuildProgress>,
    step: RefCell<String>,
}

impl Terminal {
    pub fn new(global: &Global) -> Self {
        if global.color != ColorChoice::Auto {
            console::set_colors_enabled(global.color == ColorChoice::Always);
            console::set_colors_enabled_stderr(global.color == ColorChoice::Always);
        }
        let volume = match global.verbose {
            _ if global.quiet => Volume::Quiet,
            0 => Volume::Steps,
            1 => Volume::Messages,
            _ => Volume::BuildLogs,
        };
        let lively = volume == Volume::Steps && Term::stderr().is_term();
        let (spinners, told) = (MultiProgress::new(), Mutex::default());
        Terminal::on(Arc::new(Screen { volume, lively, spinners, told }), String::new())
    }

    /// Returns the terminal of one of several machines or archives, for a thread of its own.
    pub fn of(&self, name: &impl Display) -> Self {
        Terminal::on(Arc::clone(&self.screen), format!("{name}: "))
    }

    fn on(screen: Arc<Screen>, prefix: String) -> Self {
        Terminal {
            screen,
            prefix,
            spinner: RefCell::default(),
            progress: RefCell::default(),
            step: RefCell::default(),
        }
    }

    /// Prints a text that stays.
    pub fn line(&self, text: &str) {
        let lines = text.split('\n').map(|line| format!("{}{line}", self.prefix));
        let text = lines.collect::<Vec<_>>().join("\n");
        // A spinner of any machine would be drawn over it.
        if self.screen.lively {
            self.screen.spinners.suspend(|| output::line(&text));
        } else {
            output::line(&text);
        }
    }

    /// Removes the spinner, before a question or a result.
    pub fn rest(&self) {
        if let Some(bar) = self.spinner.take() {
            bar.finish_and_clear();
            self.screen.spinners.remove(&bar);
        }
    }

    fn show(&self, detail: &str) {
        if !self.screen.lively {
            return;
        }
        let mut message = format!("{}{}", self.prefix, self.step.borrow());
        if !detail.is_empty() {
            message = format!("{message}  {}", style(plain(detail)).dim());
        }
        let added = || {
            let bar = self.screen.spinners.add(new_spinner());
            // Not before: it would be drawn beside the others.
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        };
        let mut spinner = self.spinner.borrow_mut();
        let bar = spinner.get_or_insert_with(added);
        bar.set_message(message);
    }
}

impl Watch for Terminal {
    fn step(&self, text: &str) {
        *self.progress.borrow_mut() = BuildProgress::default();
        *self.step.borrow_mut() = plain(text);
        if self.screen.volume > Volume::Quiet && !self.screen.lively {
            self.line(text);
        }
        self.show("");
    }

    fn done(&self, text: &str) {
        self.rest();
        if self.screen.volume > Volume::Quiet {
            self.line(&format!("{} {}", style("✓").green().for_stderr(), plain(text)));
        }
    }

    fn note(&self, text: &str) {
        if self.screen.volume > Volume::Quiet {
            self.line(&format!("{} {}", style("note:").cyan().bold().for_stderr(), plain(text)));
        }
    }

    fn nix(&self, event: &Event) {
        if let Some(text) = event.told() {
            if self.screen.told.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned()) {
                self.note(text);
            }
            return;
        }
        match event {
            Event::BuildLine(text) if self.screen.volume >= Volume::BuildLogs => self.line(text),
            Event::Message { level: 1, text } if self.screen.volume > Volume::Quiet => self.line(text),
            Event::Message { level, text } if self.screen.volume >= Volume::Messages && *level > 1 => {
                self.line(text)
            }
            _ => {}
        }
        self.progress.borrow_mut().take(event);
        self.show(&build_detail(&self.progress.borrow()));
    }

    fn bytes(&self, done: u64, total: u64) {
        self.show(&format!("{} of {}", HumanBytes(done), HumanBytes(total)));
    }
}

fn build_detail(progress: &BuildProgress) -> String {
    let mut parts = Vec::new();
    if progress.to_build > 0 {
        parts.push(format!("{}/{} built", progress.built, progress.to_build));
    }
    if progress.fetched > 0 {
        parts.push(format!("{} fetched", HumanBytes(progress.fetched)));
    }
    parts.extend(progress.building.last().cloned());
    parts.join(", ")
}

fn new_spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner:.cyan} {wide_msg} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner().with_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "))
}

pub fn error_text(report: &Report) -> String {
    let part = |label: &str, style: Style, text: &str| {
        let label = style.bold().apply_to(format!("{label}:")).for_stderr();
        // The lines after the first are indented, so that a builder's output reads as one block.
        format!("{label} {}", plain(text).replace('\n', "\n       "))
    };
    let mut parts = vec![part("error", Style::new().red(), &report.error)];
    parts.extend(report.causes.iter().map(|cause| part("cause", Style::new(), cause)));
    parts.extend(
        report.said.iter().map(|said| {
            part("log", Style::new(), &format!("{} says:\n{}", said.source, said.lines.join("\n")))
        }),
    );
    parts.extend(report.hints.iter().map(|hint| part("hint", Style::new().cyan(), hint)));
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Said;

    #[test]
    fn an_error_says_what_why_and_what_next() {
        console::set_colors_enabled_stderr(false);
        let report = Report {
            error: "cannot build `vm-web`".into(),
            causes: vec!["first\nsecond".into()],
            said: vec![Said { source: "a.service".into(), lines: vec!["one".into(), "two".into()] }],
            hints: vec!["try again".into()],
            exit_code: 1,
        };
        assert_eq!(
            error_text(&report),
            "error: cannot build `vm-web`\ncause: first\n       second\nlog: a.service says:\n       one\n       two\n\
             hint: try again"
        );
    }
}
