//! A text under scan: character sets, runs, and what counts as a border.
//!
//! Every scanner that walks forward over an unbounded run asks here, and the last runs of each set are remembered, as
//! many as a token has parts: many anchors inside long runs cost one walk, which is what keeps the whole scan linear.
//! All sets are ASCII, so a run begins and ends on character borders.

use std::cell::OnceCell;

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
    fn holds(self, byte: u8) -> bool {
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
    is_document: OnceCell<bool>,
}

impl<'a> Text<'a> {
    pub(crate) fn new(str: &'a str) -> Self {
        Text {
            str,
            bytes: str.as_bytes(),
            runs: [[(0, 0); REMEMBERED]; 4],
            oldest: [0; 4],
            is_document: OnceCell::new(),
        }
    }

    /// Whether the whole text is one JSON document.
    pub(crate) fn is_document(&self) -> bool {
        *self
            .is_document
            .get_or_init(|| serde_json::from_str::<&serde_json::value::RawValue>(self.str).is_ok())
    }

    /// The byte at `at`, or 0 past the end.
    pub(crate) fn at(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    /// Whether `literal` stands at `at`.
    pub(crate) fn has(&self, at: usize, literal: &str) -> bool {
        self.bytes.get(at..).is_some_and(|rest| rest.starts_with(literal.as_bytes()))
    }

    /// The end of the run of `set` that begins at or before `from`.
    pub(crate) fn run_end(&mut self, set: Set, from: usize) -> usize {
        let runs = &mut self.runs[set as usize];
        if let Some((_, end)) = runs.iter().find(|(start, end)| *start <= from && from < *end) {
            return *end;
        }
        let end =
            from + self.bytes[from.min(self.bytes.len())..].iter().take_while(|b| set.holds(**b)).count();
        let oldest = &mut self.oldest[set as usize];
        runs[*oldest] = (from, end);
        *oldest = (*oldest + 1) % REMEMBERED;
        end
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
        self.bytes[..at].iter().rev().take_while(|b| **b == b'\\').count()
    }

    /// The first position at or after `from` that is no space or tab.
    pub(crate) fn skip_blanks(&self, from: usize) -> usize {
        from + self.bytes[from.min(self.bytes.len())..]
            .iter()
            .take_while(|b| matches!(b, b' ' | b'\t'))
            .count()
    }
}
