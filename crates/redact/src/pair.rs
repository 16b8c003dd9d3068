//! A name that is itself a value, with its value beside it: `{"name": "DB_PASSWORD", "value": "x"}`, in both orders.
//!
//! The same in XML and HTML (`<add key="Password" value="x"/>`, `<entry key="password">x</entry>`) and in YAML. Both
//! stand in one object or tag, near each other. A value that comes first is held by a stream until it is clear what
//! follows it; [`MAX_FIRST`] keeps that below what a stream holds.

use crate::ident;
use crate::judge::Form;
use crate::keyed::{Found, Name, Value, is_name_byte};
use crate::quote::is_quote;
use crate::scan::Scanner;

/// Members and attributes whose value is a name.
const NAMING: &[&str] =
    &["name", "key", "field", "id", "label", "variable", "var", "param", "parameter", "property", "setting"];
/// The member that holds the value.
const VALUE: &[u8] = b"value";
/// How far behind a name its value may begin, in bytes.
const MAX_AHEAD: usize = 200;
/// How far before a name's member a value may begin, in bytes.
const MAX_FIRST: usize = 256;
/// Bytes between a value and the name behind it: signs, the member's name, the name.
const MAX_BETWEEN: usize = 128;
/// Blanks and signs on one side of the sign between a member's name and its value, in bytes.
const MAX_AROUND: usize = 64;
/// How many members named `value` are tried.
const MAX_TRIES: usize = 4;

/// What stands before a name that is a value.
struct Naming {
    /// Where the member begins.
    start: usize,
    sign: u8,
}

impl Scanner<'_> {
    /// The value that belongs to a name which is a value itself.
    pub(crate) fn paired(&mut self, name: &Name) {
        let quote = self.quote_behind(name.start, name.end);
        let (start, behind) = match quote {
            Some(quote) => {
                let sign = &self.text.bytes[name.end..name.end + quote.len];
                if !self.text.bytes[..name.start].ends_with(sign) {
                    return;
                }
                (name.start - quote.len, name.end + quote.len)
            }
            None => (name.start, name.end),
        };
        let Some(naming) = self.naming_before(start) else { return };
        if quote.is_none() && (naming.sign == b'=' || !matches!(self.text.at(behind), b'\n' | b'\r')) {
            return;
        }
        let ahead = self.value_ahead(behind, naming.sign);
        if self.text.take_touched() {
            self.open_value(name.end, name.class);
        }
        let value = match ahead {
            Some(value) => Some(value),
            None => self.value_first(naming.start),
        };
        // What stands without a quote beside a quoted name is code.
        if let Some(value) = value.filter(|value| value.is_quoted || quote.is_none()) {
            self.suspect(name.strength, name.class, &value);
        }
    }

    /// The member or attribute whose value begins at `at`.
    fn naming_before(&self, at: usize) -> Option<Naming> {
        let bytes = self.text.bytes;
        let sign = self.text.back_over_space(at).checked_sub(1)?;
        if !matches!(bytes[sign], b':' | b'=') {
            return None;
        }
        let end = self.text.back_over_space(sign);
        let signs = |end: usize| {
            bytes[..end].iter().rev().take(16).take_while(|b| is_quote(**b) || **b == b'\\').count()
        };
        let quotes = signs(end);
        let word_end = end - quotes;
        let len = bytes[..word_end].iter().rev().take(16).take_while(|b| is_name_byte(**b)).count();
        let word_start = word_end - len;
        let is_naming =
            NAMING.iter().any(|word| word.as_bytes().eq_ignore_ascii_case(&bytes[word_start..word_end]));
        let before = signs(word_start).min(quotes);
        is_naming.then_some(Naming { start: word_start - before, sign: bytes[sign] })
    }

    /// The value in the same object or tag behind a name.
    fn value_ahead(&mut self, behind: usize, sign: u8) -> Option<Value> {
        let goes_on = |b: u8| b != b'}' && (sign != b'=' || b != b'>');
        let len = self.text.span(behind, MAX_AHEAD, goes_on);
        let words: Vec<usize> = self.value_words(behind, behind + len).take(MAX_TRIES).collect();
        words.into_iter().find_map(|at| self.member_value(at))
    }

    /// The value in the same object or tag before the member at `naming`.
    fn value_first(&mut self, naming: usize) -> Option<Value> {
        let from = naming.saturating_sub(MAX_FIRST + VALUE.len() + 16);
        let words: Vec<usize> = self.value_words(from, naming).rev().take(MAX_TRIES).collect();
        for at in words {
            let value = self.member_value(at).filter(|value| value.is_quoted && value.behind <= naming);
            self.text.take_touched();
            let Some(value) = value.filter(|value| naming - value.start <= MAX_FIRST) else { continue };
            let between = &self.text.bytes[value.behind..naming];
            let is_beside = between.iter().all(|b| b.is_ascii_whitespace() || *b == b',');
            return is_beside.then_some(value);
        }
        None
    }

    /// Where members named `value` may be between `from` and `to`.
    fn value_words(&self, from: usize, to: usize) -> impl DoubleEndedIterator<Item = usize> + use<'_> {
        let bytes = &self.text.bytes[from.min(to)..to];
        let is_word = move |at: &usize| {
            bytes.get(*at..*at + VALUE.len()).is_some_and(|word| word.eq_ignore_ascii_case(VALUE))
                && (*at == 0 || !bytes[*at - 1].is_ascii_alphanumeric())
        };
        memchr::memchr2_iter(b'v', b'V', bytes).filter(is_word).map(move |at| from + at)
    }

    /// The value of the member whose name `value` begins at `at`.
    fn member_value(&mut self, at: usize) -> Option<Value> {
        let end = at + VALUE.len();
        let quote = self.quote_behind(at, end);
        let sign = self.text.skip_space(end + quote.map_or(0, |quote| quote.len));
        if !matches!(self.text.at(sign), b':' | b'=') {
            return None;
        }
        let form = if quote.is_some() { Form::Member } else { Form::Colon };
        match self.value_at(self.text.skip_space(sign + 1), form, quote)? {
            Found::Value(value) => Some(value),
            Found::List(_) => None,
        }
    }

    /// From where a value at the end of the text may become that of a name behind it.
    pub(crate) fn partial_pair(&mut self) -> usize {
        let len = self.text.bytes.len();
        let from =
            len.saturating_sub(MAX_FIRST + MAX_BETWEEN + ident::MAX_NAME + VALUE.len() + 2 * MAX_AROUND);
        let words: Vec<usize> = self.value_words(from, len).collect();
        let pending = words.into_iter().find_map(|at| self.pending_value(at));
        self.text.take_touched();
        pending.unwrap_or(len)
    }

    /// Where the value of the member at `at` begins, if a name may follow it.
    fn pending_value(&mut self, at: usize) -> Option<usize> {
        let bytes = self.text.bytes;
        let value = self.member_value(at)?;
        if !value.is_quoted {
            let is_string = is_quote(bytes[value.start - 1]) && bytes.len() - value.start <= MAX_FIRST;
            return is_string.then_some(value.start);
        }
        let rest = &bytes[value.behind..];
        if value.behind - value.start > MAX_FIRST || rest.len() > MAX_BETWEEN + ident::MAX_NAME {
            return None;
        }
        let is_sign = |b: &u8| b.is_ascii_whitespace() || matches!(b, b',' | b'\\') || is_quote(*b);
        let word = rest.iter().position(|b| !is_sign(b)).map_or(&rest[rest.len()..], |n| &rest[n..]);
        let len = word.iter().take_while(|b| is_name_byte(**b)).count();
        let (head, tail) = word.split_at(len);
        let fits = |naming: &&str| {
            let common = if tail.is_empty() { head.len().min(naming.len()) } else { naming.len() };
            naming.as_bytes()[..common].eq_ignore_ascii_case(head)
        };
        if !NAMING.iter().any(fits) {
            return None;
        }
        let name = tail.iter().position(|b| !is_sign(b) && !matches!(b, b':' | b'=')).unwrap_or(tail.len());
        let closing = tail[name..].iter().position(|b| is_quote(*b)).map(|n| tail.len() - name - n);
        closing.is_none_or(|behind| behind < 16).then_some(value.start)
    }
}
