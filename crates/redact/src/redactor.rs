//! The redactor itself: from a text to its masked form and the list of what was masked.
//!
//! The rules are compiled once per process and shared; a `Redactor` is a handle, cheap to clone, `Send` and `Sync`.
//! Nothing here keeps, logs or returns what was found, only where it stood and of which class it was.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use crate::anchors::Anchors;
use crate::{Class, scan};

static BUILT_IN: LazyLock<Arc<Anchors>> = LazyLock::new(|| Arc::new(Anchors::built_in()));

/// Finds and masks credentials with the built-in rules.
#[derive(Clone)]
pub struct Redactor {
    anchors: Arc<Anchors>,
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
}

impl Default for Redactor {
    fn default() -> Self {
        Self::new()
    }
}

impl Redactor {
    /// A redactor with the built-in rules, which are compiled on first use.
    pub fn new() -> Self {
        Redactor { anchors: Arc::clone(&BUILT_IN) }
    }

    /// Masks every credential in `text`.
    pub fn redact<'a>(&self, text: &'a str) -> Redacted<'a> {
        let findings = scan::findings(&self.anchors, text);
        Redacted { text: scan::mask(text, &findings), findings }
    }

    /// Masks a line on its way to a log, for a caller that needs only the text.
    pub fn redact_line<'a>(&self, line: &'a str) -> Cow<'a, str> {
        scan::mask(line, &scan::findings(&self.anchors, line))
    }

    /// The class of the first credential in `text`, if there is one.
    pub fn contains_credential(&self, text: &str) -> Option<Class> {
        scan::first_findings(&self.anchors, text).first().map(|finding| finding.class)
    }
}
