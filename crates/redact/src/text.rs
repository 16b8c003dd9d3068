//! A text under scan: character sets, runs, and what counts as a border.
//!
//! Every scanner that walks forward over an unbounded run asks here, and the last runs of each set are remembered, as
//! many as a token has parts: many anchors inside long runs cost one walk, which is what keeps the whole scan linear.
//! All sets are ASCII, so a run begins and ends on character borders.
//! Whoever looks forward asks here too: a look past the end is noted, since a longer text could have answered
//! otherwise. That is how a stream knows what is not decided yet.

use std::cell::Cell;

use crate::document::Document;
use crate::mask::{MAX_MASK, mask_len};
use crate::view::View;
use crate::work;

/// The widest gap between a name, a sign and a value, in bytes.
const MAX_GAP: usize = 256;

/// The widest gap that is looked back over, in bytes.
const MAX_BACK_GAP: usize = 64;

/// A set of bytes a token may consist of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    /// `[A-Za-z0-9]`
    Alnum,
    /// `[A-Za-z0-9_-]`, which is base64url.
    Url,
    /// `[A-Za-z0-9_.-]`
    Dotted,
    /// `[A-Za-z0-9+/=_.~%-]`: base64 of both kinds, percent escapes, RFC 6750 tokens.
    Opaque,
}

impl Set {
    pub(crate) fn holds(self, byte: u8) -> bool {
        byte.is_ascii_alphanumeric()
            || match self {
                Set::Alnum => false,
                Set::Url => matches!(byte, b'_' | b'-'),
                Set::Dotted => matches!(byte, b'_' | b'-' | b'.'),
                Set::Opaque => matches!(byte, b'_' | b'-' | b'.' | b'+' | b'/' | b'=' | b'~' | b'%'),
            }
    }
}

/// How many runs of each set are remembered: the segments of a JWT, and one more.
const REMEMBERED: usize = 6;

/// The text and what was learnt about it so far.
pub(crate) struct Text<'a> {
    pub(crate) str: &'a str,
    pub(crate) bytes: &'a [u8],
    runs: [[(usize, usize); REMEMBERED]; 4],
    /// Which remembered run of each set the next one replaces.
    oldest: [usize; 4],
    /// The state of reading the text as a JSON document, and how far it was read.
    document: Cell<(Document, usize)>,
    /// What was read before the text.
    before: Document,
    touched: Cell<bool>,
    /// The byte behind the farthest that a long look reached since this was last asked.
    reach: Cell<usize>,
    /// Whether it was asked since whether the text is a document.
    is_document_asked: Cell<bool>,
    /// The text that was decoded to make this one.
    original: Option<(&'a View, &'a Text<'a>)>,
}

impl<'a> Text<'a> {
    /// The text that follows `before`.
    pub(crate) fn new(str: &'a str, before: Document) -> Self {
        Text {
            str,
            bytes: str.as_bytes(),
            runs: [[(0, 0); REMEMBERED]; 4],
            oldest: [0; 4],
            document: Cell::new((before, 0)),
            before,
            touched: Cell::new(false),
            reach: Cell::new(0),
            is_document_asked: Cell::new(false),
            original: None,
        }
    }

    /// What `view` says, which is a part of `original`.
    pub(crate) fn of_view(view: &'a View, original: &'a Text<'a>) -> Self {
        Text { original: Some((view, original)), ..Text::new(&view.text, Document::new()) }
    }

    /// What was read before the text.
    pub(crate) fn before(&self) -> Document {
        self.before
    }

    /// Whether what stands before `at` is the beginning of a JSON document.
    pub(crate) fn is_in_document(&self, at: usize) -> bool {
        if let Some((view, original)) = self.original {
            return original.is_in_document(view.in_original(at, at).0);
        }
        self.is_document_asked.set(true);
        let (mut document, mut read) = self.document.get();
        if at < read {
            (document, read) = (self.before, 0);
        }
        work::count(at - read);
        document.read(&self.bytes[read..at]);
        self.document.set((document, at));
        document.is_one()
    }

    /// Notes that a rule looked past the end.
    pub(crate) fn touch(&self) {
        self.touched.set(true);
    }

    /// Whether a rule looked past the end since this was last asked.
    pub(crate) fn take_touched(&self) -> bool {
        self.touched.take()
    }

    /// Notes a look up to `to`.
    pub(crate) fn reach(&self, to: usize) {
        self.reach.set(self.reach.get().max(to));
    }

    /// How far a rule looked since this was last asked.
    pub(crate) fn take_reach(&self) -> usize {
        self.reach.take().min(self.bytes.len())
    }

    /// Whether a rule asked since this was last asked what all of the text before it decides.
    pub(crate) fn take_document_asked(&self) -> bool {
        self.is_document_asked.take()
    }

    /// The byte at `at`, if the text goes so far.
    pub(crate) fn peek(&self, at: usize) -> Option<u8> {
        let byte = self.bytes.get(at).copied();
        if byte.is_none() {
            self.touch();
        }
        byte
    }

    /// The byte at `at`, or 0 past the end.
    pub(crate) fn at(&self, at: usize) -> u8 {
        self.peek(at).unwrap_or(0)
    }

    /// Whether `literal` stands at `at`.
    pub(crate) fn has(&self, at: usize, literal: &str) -> bool {
        self.starts_with(at, literal.as_bytes())
    }

    /// Whether `sign` stands at `at`.
    pub(crate) fn starts_with(&self, at: usize, sign: &[u8]) -> bool {
        let rest = self.bytes.get(at..).unwrap_or_default();
        if rest.len() < sign.len() && sign.starts_with(rest) {
            self.touch();
        }
        rest.starts_with(sign)
    }

    /// How many bytes from `from` on pass the test, of at most `max`.
    pub(crate) fn span(&self, from: usize, max: usize, test: impl Fn(u8) -> bool) -> usize {
        let rest = self.bytes.get(from..).unwrap_or_default();
        let len = rest.iter().take(max).take_while(|b| test(**b)).count();
        self.reach(from + len + 1);
        work::count(len);
        if len == rest.len() && len < max {
            self.touch();
        }
        len
    }

    /// The length of the mask at `at`, if one stands there.
    pub(crate) fn mask_len(&self, at: usize) -> Option<usize> {
        let rest = self.bytes.get(at..)?;
        let len = mask_len(rest);
        if len.is_none() && rest.first() == Some(&b'[') && rest.len() < MAX_MASK && !rest.contains(&b']') {
            self.touch();
        }
        len
    }

    /// The end of the run of `set` that begins at or before `from`.
    pub(crate) fn run_end(&mut self, set: Set, from: usize) -> usize {
        let end = self.remembered_run(set, from);
        self.reach(end + 1);
        if end >= self.bytes.len() {
            self.touch();
        }
        end
    }

    fn remembered_run(&mut self, set: Set, from: usize) -> usize {
        let runs = &mut self.runs[set as usize];
        if let Some((_, end)) = runs.iter().find(|(start, end)| *start <= from && from < *end) {
            return *end;
        }
        let rest = &self.bytes[from.min(self.bytes.len())..];
        let end = from + rest.iter().take_while(|b| set.holds(**b)).count();
        work::count(end - from);
        let oldest = &mut self.oldest[set as usize];
        runs[*oldest] = (from, end);
        *oldest = (*oldest + 1) % REMEMBERED;
        end
    }

    /// How many bytes from `from` on are of `set`, of at most `max`.
    pub(crate) fn run_len(&mut self, set: Set, from: usize, max: usize) -> usize {
        let end = self.remembered_run(set, from);
        let len = (end - from).min(max);
        self.reach(from + len + 1);
        if end >= self.bytes.len() && len < max {
            self.touch();
        }
        len
    }

    /// Whether a token may begin at `at`: nothing alphanumeric before it, or only the end of an escape
    /// (`\n`, `\u0020`, `%20`).
    pub(crate) fn is_free_before(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1) else { return true };
        if !self.bytes[before].is_ascii_alphanumeric() {
            return true;
        }
        let back = |n: usize| at.checked_sub(n).map_or(0, |i| self.bytes[i]);
        (back(2) == b'\\' && matches!(back(1), b'n' | b'r' | b't' | b'b' | b'f'))
            || (back(3) == b'%' && back(2).is_ascii_hexdigit() && back(1).is_ascii_hexdigit())
            || (back(6) == b'\\' && back(5) == b'u' && (1..5).all(|n| back(n).is_ascii_hexdigit()))
    }

    /// `end` without the full stops directly before it, of which some dozens are looked at, and not before `from`.
    pub(crate) fn without_stops(&self, from: usize, end: usize) -> usize {
        end - self.bytes[from..end].iter().rev().take(64).take_while(|b| **b == b'.').count()
    }

    /// How many backslashes stand directly before `at`.
    pub(crate) fn backslashes_before(&self, at: usize) -> usize {
        let count = self.bytes[..at].iter().rev().take_while(|b| **b == b'\\').count();
        work::count(count);
        count
    }

    /// The end of what stands before white space that ends at `at`; of a longer gap, [`MAX_BACK_GAP`] bytes before.
    pub(crate) fn back_over_space(&self, at: usize) -> usize {
        at - self.bytes[..at].iter().rev().take(MAX_BACK_GAP).take_while(|b| b.is_ascii_whitespace()).count()
    }

    /// The first position at or after `from` that is no space or tab; of a longer gap, what is behind 256 of them.
    pub(crate) fn skip_blanks(&self, from: usize) -> usize {
        from + self.span(from, MAX_GAP, |b| matches!(b, b' ' | b'\t'))
    }

    /// The same for white space of any kind.
    pub(crate) fn skip_space(&self, from: usize) -> usize {
        from + self.span(from, MAX_GAP, |b| b.is_ascii_whitespace())
    }
}
