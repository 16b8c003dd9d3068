//! Quotes as they stand in a text: plain, behind backslashes, doubled as in CSV and SQL, tripled as in Python,
//! or a shell's `'\''`.
//!
//! A string inside a string writes its quotes anew, and each format does it in its own way. Who asks gets the whole
//! sign, so that a value begins and ends beside it and never within.
//! Bound: a doubled quote is closed within [`MAX_FOLDED`] bytes, or it is none.

use crate::scan::Scanner;

/// The longest string between doubled quotes, in bytes.
const MAX_FOLDED: usize = 256;

/// The sign that begins or ends a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quote {
    pub(crate) byte: u8,
    /// The backslashes before it.
    pub(crate) level: usize,
    /// All its bytes.
    pub(crate) len: usize,
    /// Whether it stands for one quote of an inner string: `""`, `''`, `'\''`.
    pub(crate) is_folded: bool,
}

impl Quote {
    /// Whether strings of the same document have both.
    pub(crate) fn is_like(self, other: Quote) -> bool {
        self.level == other.level && self.is_folded == other.is_folded
    }
}

pub(crate) fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`')
}

impl Scanner<'_> {
    /// The quote at `at`, if it is not doubled.
    pub(crate) fn plain_quote(&self, at: usize) -> Option<Quote> {
        let level = self.backslashes_at(at);
        let byte = self.text.at(at + level);
        is_quote(byte).then_some(Quote { byte, level, len: level + 1, is_folded: false })
    }

    /// The quote behind a name at `start..end`; a doubled one stands before the name too.
    pub(crate) fn quote_behind(&self, start: usize, end: usize) -> Option<Quote> {
        let plain = self.plain_quote(end)?;
        let folded = self.folded_quote(end, plain).filter(|quote| {
            let sign = &self.text.bytes[end..end + quote.len];
            self.text.bytes[..start].ends_with(sign)
        });
        folded.or(Some(plain))
    }

    /// The quote at `at` that opens a string.
    pub(crate) fn opening_quote(&self, at: usize) -> Option<Quote> {
        let plain = self.plain_quote(at)?;
        self.opening_folded(at, plain).or(Some(plain))
    }

    /// The doubled or tripled quote at `at` with which a string begins.
    fn opening_folded(&self, at: usize, plain: Quote) -> Option<Quote> {
        let opens = |quote: &Quote| {
            let next = self.text.at(at + quote.len);
            !next.is_ascii_whitespace() && !b"\0\"'`\\,;:)]}>&|+./".contains(&next)
        };
        let folded = self.folded_quote(at, plain)?;
        let is_third = folded.len == 2 * plain.len && self.plain_quote(at + folded.len) == Some(plain);
        let tripled = is_third.then_some(Quote { len: 3 * plain.len, ..folded });
        Some(tripled.unwrap_or(folded)).filter(opens)
    }

    /// The doubled quote that begins with the one at `at`.
    fn folded_quote(&self, at: usize, plain: Quote) -> Option<Quote> {
        let behind = at + plain.len;
        let folded = |len: usize| Some(Quote { len, is_folded: true, ..plain });
        match self.plain_quote(behind)? {
            again if again == plain && plain.byte != b'`' => folded(2 * plain.len),
            inner if plain.byte == b'\'' && plain.level == 0 && inner.byte == b'\'' && inner.level > 0 => {
                let closes = self.text.at(behind + inner.len) == b'\'';
                closes.then(|| plain.len + inner.len + 1).and_then(folded)
            }
            _ => None,
        }
    }

    /// Where the string behind the doubled quote that ends at `start` is closed. A quote of an outer string ends the
    /// search.
    pub(crate) fn folded_closing(&self, start: usize, quote: Quote) -> Option<usize> {
        let bytes = self.text.bytes;
        let sign = &bytes[start - quote.len..start];
        let limit = start + MAX_FOLDED;
        let mut at = start;
        loop {
            at += self.text.span(at, limit - at, |b| b != quote.byte && b != b'"');
            if at >= limit || bytes.get(at).is_none_or(|b| *b != quote.byte) {
                return None;
            }
            let slashes = self.text.backslashes_before(at).min(at - start);
            let begin = at - slashes.min(quote.level);
            if slashes == quote.level && self.text.starts_with(begin, sign) {
                return Some(begin);
            }
            let is_tripled = quote.len == 3 * (quote.level + 1);
            if slashes < quote.level || (slashes == quote.level && !is_tripled) {
                return None;
            }
            at += 1;
        }
    }
}
