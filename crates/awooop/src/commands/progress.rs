//! What a person sees on stderr while a run goes on.
//!
//! On a terminal a spinner with the run's state, above it a line for each step; elsewhere plain lines.
//! Quiet for a command that only waits, apart from the server going away. A step that is sent again after a
//! reconnection is shown once.

use std::collections::HashSet;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish};
use serde_json::Value;

use super::report::{gates, milliseconds, status, subject};
use crate::output::{cell, note, printable};

const TICK: Duration = Duration::from_millis(120);

/// The live view of one run.
pub(crate) struct Progress {
    spinner: Option<ProgressBar>,
    is_live: bool,
    is_away: bool,
    state: String,
    shown: HashSet<(u64, u64)>,
}

impl Progress {
    /// A view that says only when the server is away.
    pub(crate) fn quiet() -> Self {
        Self { spinner: None, is_live: false, is_away: false, state: String::new(), shown: HashSet::new() }
    }

    /// A view of every step.
    pub(crate) fn live() -> Self {
        let spinner = std::io::stderr().is_terminal().then(|| {
            let spinner = ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear);
            spinner.enable_steady_tick(TICK);
            spinner
        });
        Self { spinner, is_live: true, ..Self::quiet() }
    }

    /// The run is in this state.
    pub(crate) fn state(&mut self, state: &str) {
        if self.is_live && self.state != state {
            match &self.spinner {
                Some(spinner) => spinner.set_message(printable(state)),
                None => note(&format!("state {state}")),
            }
            state.clone_into(&mut self.state);
        }
    }

    /// A step ended.
    pub(crate) fn step(&mut self, step: &Value) {
        let id = (step["epoch"].as_u64().unwrap_or(0), step["n"].as_u64().unwrap_or(0));
        if !self.is_live || !self.shown.insert(id) {
            return;
        }
        let gates = match gates(step).as_str() {
            "-" => String::new(),
            text => format!("  gates {text}"),
        };
        let time = milliseconds(step);
        self.line(&format!(
            "step {}  {}  {}  {time} ms{gates}",
            cell(&step["n"]),
            subject(step),
            status(step)
        ));
    }

    /// The server does not answer; said once until it answers again.
    pub(crate) fn away(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.is_away, true) {
            self.line(&format!("{reason}; the run goes on without us, trying again"));
        }
    }

    /// The server answers.
    pub(crate) fn back(&mut self) {
        if std::mem::replace(&mut self.is_away, false) {
            self.line("the server is back");
        }
    }

    fn line(&self, text: &str) {
        match &self.spinner {
            Some(spinner) => spinner.suspend(|| note(text)),
            None => note(text),
        }
    }
}
