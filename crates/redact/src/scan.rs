//! One scan of a text: anchors to scanners, their finds to one list without overlaps.
//!
//! Two kinds of finds: those certain by their shape, and values of names that say "secret", which are judged after
//! all shapes are known, since a value that holds a credential is masked whole.
//! Overlaps are resolved the same way every time: earliest start, then longest, then the more precise class; what
//! sticks out is added to the mask, so an overlap never leaves a tail.

use crate::anchors::{Anchors, Rule};
use crate::text::Text;
use crate::{Class, Finding};

/// The value of a name that says it is secret.
pub(crate) struct Candidate {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) class: Class,
    /// Whether the value is a secret by itself, whatever else is found in it.
    pub(crate) is_secret: bool,
    pub(crate) is_quoted: bool,
}

/// A line of a PEM block that names a private key.
pub(crate) struct PemMark {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) opens: bool,
}

/// The state of a scan.
pub(crate) struct Scanner<'a> {
    pub(crate) text: Text<'a>,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) pem_marks: Vec<PemMark>,
    /// Bytes of JWT headers that may still be decoded; spent, the shape alone decides.
    pub(crate) decode_budget: usize,
    /// End of the last name looked at, so that `secret_key` is judged once and not for each of its words.
    pub(crate) last_name_end: usize,
    /// Remembered extent of the last unquoted value.
    pub(crate) last_value: (usize, usize),
    /// End of the last PuTTY key found.
    pub(crate) putty_end: usize,
    hits: Vec<Finding>,
}

impl Scanner<'_> {
    /// Records a credential at `start..end`.
    pub(crate) fn push(&mut self, class: Class, start: usize, end: usize) {
        if start < end {
            self.hits.push(Finding { class, start, end });
        }
    }

    fn apply(&mut self, rule: Rule, start: usize, end: usize) {
        match rule {
            Rule::Prefixed(prefix) => self.prefixed(prefix, start),
            Rule::Jwt => self.jwt(start),
            Rule::Aws => self.aws(start),
            Rule::AzureSecret => self.azure_secret(start),
            Rule::Sas => self.sas(start),
            Rule::Telegram => self.telegram(start, end),
            Rule::Webhook => self.webhook(end),
            Rule::PrivateKey => {
                self.pem_mark(start, end);
                self.keyword(start, end);
            }
            Rule::Putty => self.putty(start, end),
            Rule::Url => self.url(end),
            Rule::Scheme => self.scheme(start, end),
            Rule::Authorization => self.authorization(start, end),
            Rule::Keyword => self.keyword(start, end),
        }
    }

    /// The named values that are to be masked, each with whatever was found in it.
    fn judged(&mut self, shapes: &[Finding]) -> Vec<Finding> {
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.sort_by_key(|candidate| candidate.start);
        let mut masked = Vec::new();
        let mut next = 0;
        for mut candidate in candidates {
            while shapes.get(next).is_some_and(|shape| shape.end <= candidate.start) {
                next += 1;
            }
            loop {
                let inside = shapes[next..].partition_point(|shape| shape.start < candidate.end);
                let Some(last) = inside.checked_sub(1).map(|n| shapes[next + n]) else { break };
                candidate.is_secret = true;
                if candidate.is_quoted || last.end <= candidate.end {
                    break;
                }
                candidate.end = self.unquoted_end(last.end).max(last.end);
            }
            if candidate.is_secret {
                masked.push(Finding { class: candidate.class, start: candidate.start, end: candidate.end });
            }
        }
        masked
    }
}

/// All credentials in `text`, by position, without overlaps.
pub(crate) fn findings(anchors: &Anchors, text: &str) -> Vec<Finding> {
    let mut scanner = Scanner {
        text: Text::new(text),
        candidates: Vec::new(),
        pem_marks: Vec::new(),
        decode_budget: 64 * 1024 + 4 * text.len(),
        last_name_end: 0,
        last_value: (0, 0),
        putty_end: 0,
        hits: Vec::new(),
    };
    for (rule, start, end) in anchors.find(text) {
        scanner.apply(rule, start, end);
    }
    scanner.pem_blocks();
    let mut shapes = merged(std::mem::take(&mut scanner.hits));
    if scanner.candidates.is_empty() {
        return shapes;
    }
    shapes.extend(scanner.judged(&shapes));
    merged(shapes)
}

fn merged(mut hits: Vec<Finding>) -> Vec<Finding> {
    hits.sort_by_key(|hit| (hit.start, std::cmp::Reverse(hit.end), hit.class));
    let mut result: Vec<Finding> = Vec::with_capacity(hits.len());
    for hit in hits {
        match result.last_mut() {
            Some(last) if hit.start < last.end => last.end = last.end.max(hit.end),
            _ => result.push(hit),
        }
    }
    result
}
