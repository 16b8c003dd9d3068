//! Bare numbers of JSON in a text: their mask needs quotes, or the document is one no longer.
//!
//! A member's number gets the quotes of its key, with as many backslashes, so JSON inside a JSON string stays JSON too.
//! An item of a list has no key: it gets quotes where the text itself begins as a document and the item stands outside
//! its strings. One pass over the quotes decides that, made only as far as such numbers stand.
//! A text that is nothing but a number gets no quotes: it is taken for a text.

use crate::document::Document;

/// The longest key that is read back, in bytes.
const MAX_KEY: usize = 128;
/// The most white space that is skipped, in bytes.
const MAX_SPACE: usize = 256;

/// The places of a text, asked about from left to right.
pub(crate) struct Bare<'a> {
    text: &'a [u8],
    is_document: bool,
    /// Up to where strings have been followed, and whether one is open there.
    lexed: (usize, bool),
}

impl<'a> Bare<'a> {
    /// The places of a text that follows `before`.
    pub(crate) fn behind(text: &'a str, before: Document) -> Self {
        let first = before.first().or_else(|| text.bytes().find(|b| !b.is_ascii_whitespace()));
        let lexed = before.quotes();
        Bare { text: text.as_bytes(), is_document: matches!(first, Some(b'{' | b'[')), lexed }
    }

    /// The quote, with its backslashes, that the mask of `start..end` needs on both sides; empty if none.
    pub(crate) fn quote(&mut self, start: usize, end: usize) -> String {
        if !self.text[start..end].iter().all(u8::is_ascii_digit) {
            return String::new();
        }
        let Some(before) = self.last_sign(start) else { return String::new() };
        let sign = self.text[before];
        if sign == b':' {
            return self.quote_of_key(before, start).unwrap_or_default();
        }
        let is_item = matches!(sign, b',' | b'[') && self.is_document && !self.is_in_string(start);
        if is_item { "\"".to_owned() } else { String::new() }
    }

    /// The quote of the key whose colon is at `colon`.
    fn quote_of_key(&mut self, colon: usize, start: usize) -> Option<String> {
        let close = self.last_sign(colon)?;
        let quote = Some(self.text[close]).filter(|b| matches!(b, b'"' | b'\''))?;
        let level = backslashes_before(self.text, close);
        let is_key = if level == 0 && quote == b'"' && self.is_document {
            !self.is_in_string(start)
        } else {
            self.is_key_before(close, quote, level)
        };
        is_key.then(|| format!("{}{}", "\\".repeat(level), char::from(quote)))
    }

    /// Whether the quote at `close` ends a key, not begins a string: a quote of its kind opens it behind `{` or `,`.
    fn is_key_before(&self, close: usize, quote: u8, level: usize) -> bool {
        let from = close.saturating_sub(MAX_KEY);
        let content = &self.text[from..close - level];
        let Some(open) = content.iter().rposition(|b| *b == quote).map(|n| from + n) else { return false };
        let before = open.saturating_sub(level);
        backslashes_before(self.text, open) == level
            && self.last_sign(before).is_some_and(|at| matches!(self.text[at], b'{' | b','))
    }

    /// The last byte before `at` that is no white space, plain or escaped.
    fn last_sign(&self, at: usize) -> Option<usize> {
        let mut at = at;
        let stop = at.saturating_sub(MAX_SPACE);
        while at > stop {
            let is_escaped =
                at >= 2 && matches!(self.text[at - 1], b'n' | b'r' | b't') && self.text[at - 2] == b'\\';
            match self.text[at - 1] {
                byte if byte.is_ascii_whitespace() => at -= 1,
                _ if is_escaped => at -= 1 + backslashes_before(self.text, at - 1),
                _ => return Some(at - 1),
            }
        }
        None
    }

    /// Whether `at` stands in a string of the document.
    fn is_in_string(&mut self, at: usize) -> bool {
        self.lexed = quotes(self.text, self.lexed, at);
        self.lexed.1
    }
}

/// Follows the quotes of `text` up to `at`, or behind it where an escape reaches over it: up to where, and whether a
/// string is open there. `known`: the same for an earlier place.
pub(crate) fn quotes(text: &[u8], known: (usize, bool), at: usize) -> (usize, bool) {
    let (mut from, mut is_open) = known;
    while let Some(next) = memchr::memchr2(b'"', b'\\', &text[from.min(at)..at]) {
        let is_quote = text[from + next] == b'"';
        is_open ^= is_quote;
        from += next + if is_quote { 1 } else { 2 };
    }
    (from.max(at), is_open)
}

fn backslashes_before(text: &[u8], at: usize) -> usize {
    text[..at].iter().rev().take(64).take_while(|b| **b == b'\\').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_in_a_value_s_place_needs_quotes() {
        for (text, quote) in [
            (r#"{"a": 7}"#, "\""),
            (r#"log {"b":1, "a" : 7}"#, "\""),
            (r#"{'a': 7}"#, "'"),
            (r#""{\"a\":7}""#, "\\\""),
            (r#""{\n  \"a\": 7}""#, "\\\""),
            (r#""{\"b\":\"{\\\"a\\\":7}\"}""#, "\\\\\\\""),
            (r#"{"a": [1, 7]}"#, "\""),
            ("[\n 7]", "\""),
            (r#"{"a": ": 7"}"#, ""),
            (r#"{"a": "b, 7"}"#, ""),
            (r#"{"a": "\\", "b": 7}"#, "\""),
            (r#"log {"a": ": 7"}"#, ""),
            (r#""{\"a\": \": 7\"}""#, ""),
            ("a: 7", ""),
            ("a, 7", ""),
            ("7", ""),
        ] {
            let at = text.find('7').unwrap();
            assert_eq!(Bare::behind(text, Document::new()).quote(at, at + 1), quote, "{text}");
        }
    }
}
