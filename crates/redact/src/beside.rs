//! Names and values that no sign connects: sentences, tables, calls, pairs of strings.
//!
//! `password 'x'`, `login app password x`, `(access token x)`, `API key - x`, `| password | x |`, `密碼（x）`,
//! `setPassword("x")`, `define('PASSWORD', 'x')`. Words stand beside names too, so except in a statement that sets
//! something the value must look random, and a word such as `token` alone counts for nothing.

use crate::ident;
use crate::judge::Form;
use crate::keyed::{Value, is_name_byte};
use crate::quote::Quote;
use crate::scan::Scanner;

/// The longest beginning of a cell before the name's last word, in bytes.
const MAX_CELL: usize = 48;
/// The longest value in quotes, in bytes.
const MAX_STRING: usize = 256;
/// Words before a name that set a value: `WITH PASSWORD 'x'`.
const SETTING: &[&[u8]] = &[b"with", b"encrypted", b"set"];
/// Beginnings of names of calls that ask for a value instead of giving one.
const ASKING: &[&str] =
    &["get", "read", "load", "fetch", "find", "lookup", "prompt", "ask", "input", "need", "is", "has"];

impl Scanner<'_> {
    /// The value beside the name at `start..end`, which no quote and no sign follows.
    pub(crate) fn beside(&mut self, start: usize, end: usize) -> Option<Value> {
        let at = self.text.skip_blanks(end);
        let name = &self.text.str[start..end];
        if at == end {
            return match self.text.at(at) {
                b'(' => self.call(start, at + 1),
                b'|' => self.cell(start, at),
                0xef if self.text.has(at, "（") => self.random(at + "（".len()),
                _ => None,
            };
        }
        if self.text.at(at) == b'|' {
            return self.cell(start, at);
        }
        if ident::is_vague(name) {
            return None;
        }
        if let Some(quote) = self.opening_quote(at) {
            let is_set = SETTING.contains(&self.setting_word(start).to_ascii_lowercase().as_slice());
            return self.short_string(at, quote, if is_set { Form::Literal } else { Form::Argument });
        }
        let dash = ["- ", "– ", "— ", "(", "（"].iter().find(|dash| self.text.has(at, dash));
        if let Some(dash) = dash {
            return self.random(self.text.skip_blanks(at + dash.len()));
        }
        if self.is_login(start) || (name.contains('.') && self.is_behind(start, b"config")) {
            return Some(self.unquoted(at, Form::Assigned)).filter(|value| value.start < value.end);
        }
        self.random(at)
    }

    /// The second of two strings, of which the name at `start..end` is the first: `('PASSWORD', 'x')`.
    pub(crate) fn argument(&mut self, start: usize, end: usize, quote: Quote) -> Option<Value> {
        let sign = &self.text.bytes[end..end + quote.len];
        if !self.text.bytes[..start].ends_with(sign) {
            return None;
        }
        let comma = self.text.skip_space(end + quote.len);
        if self.text.at(comma) != b',' {
            return None;
        }
        let at = self.text.skip_space(comma + 1);
        let opening = self.opening_quote(at).filter(|opening| opening.is_like(quote))?;
        let is_call = self.text.bytes[..self.text.back_over_space(start - quote.len)].ends_with(b"(");
        let value = self.short_string(at, opening, if is_call { Form::Argument } else { Form::Beside })?;
        // In a list of names the next is none's value.
        let next = self.text.at(self.text.skip_space(value.behind));
        matches!(next, b')' | b']' | b'}' | 0).then_some(value)
    }

    /// `setPassword("x")`; the string begins at `at`.
    fn call(&mut self, start: usize, at: usize) -> Option<Value> {
        let name = self.text.str[start..at].rsplit(['.', ':']).next().unwrap_or_default();
        if name == "pass(" {
            return None;
        }
        let asks = |word: &&str| name.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
        if ASKING.iter().any(asks) {
            return None;
        }
        let at = self.text.skip_space(at);
        let quote = self.opening_quote(at)?;
        self.short_string(at, quote, Form::Argument)
    }

    /// `| name | x |`; the bar between stands at `bar`.
    fn cell(&mut self, start: usize, bar: usize) -> Option<Value> {
        let is_name = |b: &u8| is_name_byte(*b) || matches!(b, b' ' | b'\t' | b'*' | b'`');
        let before = self.text.bytes[..start].iter().rev().take(MAX_CELL).find(|b| !is_name(b));
        if before != Some(&b'|') || self.text.at(bar + 1) == b'|' {
            return None;
        }
        let value = self.random(self.text.skip_blanks(bar + 1))?;
        let rest = self.text.span(value.end, MAX_STRING, |b| matches!(b, b' ' | b'\t' | b'*' | b'`'));
        matches!(self.text.at(value.end + rest), b'|' | b'\n' | b'\r' | 0 | b'\\').then_some(value)
    }

    /// A value that begins at `at` without a quote, and must look random.
    fn random(&mut self, at: usize) -> Option<Value> {
        let is_emphasised = matches!(self.text.at(at), b'`' | b'*');
        let at = at + if is_emphasised { self.text.span(at, 3, |b| matches!(b, b'`' | b'*')) } else { 0 };
        let mut value = self.unquoted(at, Form::Beside);
        let text = &self.text.bytes[at..value.end.min(at + MAX_STRING)];
        if value.end - at < MAX_STRING {
            let stop = |b: &u8| matches!(b, b'.' | b',' | b';' | b':' | b')' | b'*' | b']');
            let is_end = |b: &u8| stop(b) && (*b != b'*' || is_emphasised);
            let tail = text.iter().rev().take_while(|b| is_end(b)).count();
            value.end -= tail;
        }
        (value.start < value.end).then_some(value)
    }

    /// The string at `at`, unless it is long or goes over the line.
    fn short_string(&mut self, at: usize, quote: Quote, form: Form) -> Option<Value> {
        let start = at + quote.len;
        let len = self.text.span(start, MAX_STRING, |b| b != quote.byte && b != b'\n');
        let is_there = len < MAX_STRING && self.text.at(start + len) == quote.byte;
        if is_there { self.string_at(start, quote, form, true).filter(|value| value.is_quoted) } else { None }
    }

    /// Whether `machine host login user` stands before the name at `start`, on one line or on several.
    fn is_login(&self, start: usize) -> bool {
        let head = &self.text.str[..start];
        let near = &head[head.ceil_char_boundary(start.saturating_sub(MAX_STRING))..];
        let mut words = near.split_ascii_whitespace().rev().skip(1);
        words.next() == Some("login")
            && words.take(2).any(|word| word.ends_with("machine") || word.ends_with("default"))
    }

    /// The word before `at`, of at most 16 letters.
    fn setting_word(&self, at: usize) -> &[u8] {
        let head = &self.text.bytes[..self.text.back_over_space(at)];
        let len = head.iter().rev().take(16).take_while(|b| b.is_ascii_alphabetic()).count();
        &head[head.len() - len..]
    }
}
