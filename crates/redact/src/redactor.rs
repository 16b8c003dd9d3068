//! The redactor itself: from a text to its masked form and the list of what was masked.
//!
//! What is built in is compiled once per process and shared; a `Redactor` is a handle, cheap to clone, `Send` and `Sync`.
//! Nothing here keeps, logs or returns what was found, only where it stood and of which class it was.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use crate::anchors::{self, Anchors};
use crate::class::Family;
use crate::rules::{Action, Rules};
use crate::{Class, rounds};

static BUILT_IN: LazyLock<Arc<Anchors>> = LazyLock::new(|| Arc::new(Anchors::built_in()));
static CREDENTIALS: LazyLock<Arc<Rules>> = LazyLock::new(|| Arc::new(Rules::credentials()));

/// Finds and masks credentials, and what its rules name besides.
#[derive(Clone)]
pub struct Redactor {
    pub(crate) anchors: Arc<Anchors>,
    pub(crate) rules: Arc<Rules>,
}

/// One masked part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// What was found.
    pub class: Class,
    /// First byte of the masked part, in the input.
    pub start: usize,
    /// The byte after the masked part, in the input.
    pub end: usize,
}

/// A text after redaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redacted<'a> {
    /// The masked text; borrowed when nothing was found.
    pub text: Cow<'a, str>,
    /// What was masked, by position, without overlaps.
    pub findings: Vec<Finding>,
    /// The class of the first find for which the rules refuse the text as a whole.
    pub blocked: Option<Class>,
}

impl Default for Redactor {
    fn default() -> Self {
        Self::new()
    }
}

impl Redactor {
    /// A redactor of credentials. What it looks for is compiled on first use and shared.
    pub fn new() -> Self {
        Redactor { anchors: Arc::clone(&BUILT_IN), rules: Arc::clone(&CREDENTIALS) }
    }

    /// A redactor that obeys `rules`.
    pub fn with(rules: Rules) -> Self {
        Redactor { anchors: Arc::clone(&BUILT_IN), rules: Arc::new(rules) }
    }

    /// The literals it looks around, for those who measure what a text full of them costs.
    #[doc(hidden)]
    pub fn anchors() -> impl Iterator<Item = &'static str> {
        anchors::literals()
    }

    /// What it does with each class.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Masks every credential in `text`, and what the rules name.
    pub fn redact<'a>(&self, text: &'a str) -> Redacted<'a> {
        self.redact_named(text, "")
    }

    /// The same of a text that is the value of `name`.
    pub(crate) fn redact_named<'a>(&self, text: &'a str, name: &str) -> Redacted<'a> {
        let findings = rounds::findings(self, text, name);
        let blocked =
            findings.iter().map(|f| f.class).find(|class| self.rules.action(*class) == Action::Block);
        Redacted { text: rounds::mask(&self.rules, text, &findings), findings, blocked }
    }

    /// Masks a line on its way to a log, for a caller that needs only the text.
    pub fn redact_line<'a>(&self, line: &'a str) -> Cow<'a, str> {
        rounds::mask(&self.rules, line, &rounds::findings(self, line, ""))
    }

    /// The class of the first credential in `text`, if there is one.
    pub fn contains_credential(&self, text: &str) -> Option<Class> {
        let found = rounds::first_findings(self, text, "");
        found.iter().map(|finding| finding.class).find(|class| class.family() == Family::Credential)
    }
}
