//! The redactor over a text that comes in pieces.
//!
//! What goes out is what [`Redactor::redact`] makes of the whole text, however it was cut. A stream keeps a window: the
//! last bytes that went out, for the rules that look back, and behind them what is held. Each piece is added, the
//! window is scanned as a text that may go on, and everything before the first byte goes out that a longer text could
//! still change; [`window`] says which that is. So ordinary prose waits for the end of a word, a secret for its end.
//! What is held has a cap. There the stream fails closed: a mask goes out for what is held, and the rest is swallowed
//! up to where the find ends, so it may mask more than the whole text's redactor would, never less.
//! Bounds: at most 512 bytes are held, 8 KiB in a key block, and 512 more where rules have patterns; the window adds
//! 1 KiB. A match of a pattern is found as in the whole text if it has at most 256 bytes; a longer one is masked at
//! the cap, and the rest of its line swallowed, if a credential is not what is held.

mod set;
mod swallow;
mod window;
mod writer;

use std::collections::BTreeMap;

pub use set::StreamSet;
pub use writer::RedactWriter;

use crate::bare::Bare;
use crate::document::Document;
use crate::rounds;
use crate::rules::Action;
use crate::{Class, Finding, Redactor};
use swallow::Swallow;
use window::Window;

/// Most bytes that are held.
const MAX_HELD: usize = 512;
/// The same where a private key began.
const MAX_HELD_IN_BLOCK: usize = 8 * 1024;
/// Bytes that are kept of what went out, at least: the farthest any rule looks back.
const CONTEXT: usize = 768;
/// The same while a find is swallowed.
const SWALLOWED_CONTEXT: usize = 128;
/// How many bytes more may gather before the window is moved.
const SLACK: usize = 256;
/// Bytes that are scanned at a time of a long piece.
const SLICE: usize = 16 * 1024;

/// A text under redaction, piece by piece. Dropped before [`Stream::finish`], it keeps what it held.
pub struct Stream {
    redactor: Redactor,
    /// What went out last, then what is held.
    raw: String,
    /// How many bytes of `raw` went out or were masked.
    done: usize,
    /// What was read before `raw`.
    before: Document,
    /// The first bytes of a character whose rest has not come.
    partial: Vec<u8>,
    swallow: Option<Swallow>,
    counts: BTreeMap<Class, u64>,
    blocked: Option<Class>,
}

impl Redactor {
    /// A stream with these rules, at its beginning.
    pub fn stream(&self) -> Stream {
        Stream {
            redactor: self.clone(),
            raw: String::new(),
            done: 0,
            before: Document::new(),
            partial: Vec::new(),
            swallow: None,
            counts: BTreeMap::new(),
            blocked: None,
        }
    }
}

impl Stream {
    /// Takes the next piece and appends to `out` what is certain now.
    pub fn push(&mut self, chunk: &str, out: &mut String) {
        if !self.partial.is_empty() && !chunk.is_empty() {
            self.partial.clear();
            self.take("\u{fffd}", out);
        }
        self.take(chunk, out);
    }

    /// The same for bytes. A character that is cut waits for its rest; what is no UTF-8 becomes U+FFFD, as in
    /// [`String::from_utf8_lossy`].
    pub fn push_bytes(&mut self, chunk: &[u8], out: &mut String) {
        let mut bytes = std::mem::take(&mut self.partial);
        bytes.extend_from_slice(chunk);
        let whole = bytes.len() - cut_character(&bytes);
        self.partial = bytes.split_off(whole);
        self.take(&String::from_utf8_lossy(&bytes), out);
    }

    /// Ends the text and appends what was held.
    pub fn finish(mut self, out: &mut String) {
        self.end(out);
    }

    /// How many finds of each class were masked so far. A find that was cut at the cap is one.
    pub fn findings(&self) -> &BTreeMap<Class, u64> {
        &self.counts
    }

    /// The class of the first find for which the rules refuse the text as a whole.
    pub fn blocked(&self) -> Option<Class> {
        self.blocked
    }

    /// How many bytes came that neither went out nor were masked.
    pub fn held(&self) -> usize {
        self.raw.len() - self.done + self.partial.len()
    }

    /// Ends the text: the stream is then as at its beginning, with its counts.
    fn end(&mut self, out: &mut String) {
        if !self.partial.is_empty() {
            self.partial.clear();
            self.take("\u{fffd}", out);
        }
        if self.swallow.take().is_none() {
            let findings = rounds::findings_behind(&self.redactor, &self.raw, "", self.before);
            self.emit(&findings, self.raw.len(), out);
        }
        self.raw.clear();
        self.done = 0;
        self.before = Document::new();
    }

    fn take(&mut self, mut text: &str, out: &mut String) {
        while !text.is_empty() {
            let (slice, rest) = text.split_at(text.floor_char_boundary(SLICE));
            self.raw.push_str(slice);
            self.advance(out);
            self.move_window();
            text = rest;
        }
    }

    /// Sends out what is certain, and masks what is held too long.
    fn advance(&mut self, out: &mut String) {
        while let Some(swallow) = &mut self.swallow {
            let is_over = swallow.advance(&self.redactor, &self.raw, self.before, &mut self.done);
            if !is_over {
                return;
            }
            self.swallow = None;
        }
        let window = Window::scan(&self.redactor, &self.raw, self.before);
        self.emit(&window.findings, window.cut, out);
        let limit = if window.block.is_some() { MAX_HELD_IN_BLOCK } else { MAX_HELD };
        let is_too_long = self.raw.len() - window.decided.max(self.done) > limit
            || self.raw.len() - self.done > limit + MAX_HELD;
        if is_too_long {
            self.close(&window, out);
        }
    }

    /// Masks what is held and swallows the rest of it.
    fn close(&mut self, window: &Window, out: &mut String) {
        let from = window.decided.max(self.done);
        self.emit(&window.findings, from, out);
        let (class, swallow) = Swallow::of(window);
        let mask = self.redactor.rules.mask(class, &self.raw[self.done..]);
        out.push_str(&mask);
        self.count(class);
        let from = self.raw.len() - swallow.context();
        self.done = self.raw.floor_char_boundary(from).max(self.done);
        self.swallow = Some(swallow);
    }

    /// Appends what stands before `to`, with its finds masked. A find that begins in what already went out cannot
    /// be; it is masked where it is not out yet.
    fn emit(&mut self, findings: &[Finding], to: usize, out: &mut String) {
        let raw = std::mem::take(&mut self.raw);
        let mut bare = Bare::behind(&raw, self.before);
        for finding in findings.iter().filter(|finding| finding.start < to) {
            if finding.end <= self.done {
                continue;
            }
            out.push_str(&raw[self.done..finding.start.max(self.done)]);
            let quote = bare.quote(finding.start, finding.end);
            let value = &raw[finding.start..finding.end];
            out.extend([&quote, &self.redactor.rules.mask(finding.class, value), &quote].map(String::as_str));
            self.count(finding.class);
            self.done = finding.end;
        }
        if self.done < to {
            out.push_str(&raw[self.done..to]);
            self.done = to;
        }
        self.raw = raw;
    }

    fn count(&mut self, class: Class) {
        *self.counts.entry(class).or_default() += 1;
        if self.blocked.is_none() && self.redactor.rules.action(class) == Action::Block {
            self.blocked = Some(class);
        }
    }

    /// Forgets what no rule will look back at.
    fn move_window(&mut self) {
        let context = if self.swallow.is_some() { SWALLOWED_CONTEXT } else { CONTEXT };
        let Some(most) = self.done.checked_sub(context + SLACK) else { return };
        // Behind white space no run is cut in two.
        let border = self.raw.as_bytes()[most..most + SLACK].iter().position(u8::is_ascii_whitespace);
        let start = self.raw.ceil_char_boundary(most + border.map_or(SLACK, |n| n + 1));
        self.before.read(&self.raw.as_bytes()[..start]);
        self.raw.drain(..start);
        self.done -= start;
    }
}

/// How many bytes at the end of `bytes` are the beginning of a character.
fn cut_character(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let lead = tail.iter().rposition(|b| *b >= 0xc0);
    lead.map_or(0, |at| match std::str::from_utf8(&tail[at..]) {
        Err(e) if e.valid_up_to() == 0 && e.error_len().is_none() => tail.len() - at,
        _ => 0,
    })
}
