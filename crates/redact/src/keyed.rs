//! `name = value` in its many spellings: assignments, headers, YAML, JSON, XML, flags, sentences.
//!
//! JSON inside a JSON string has its quotes escaped, once or several times; quotes are matched by their number of
//! backslashes, and a mask never holds an unescaped quote, half an escape or a bare JSON number, so a document stays
//! a document.

use crate::Class;
use crate::ident::{self, Strength};
use crate::judge::{self, Form};
use crate::open::{Open, Until};
use crate::scan::{Candidate, Scanner};
use crate::work;

/// The longest rest of a name behind an anchor, in bytes.
const MAX_NAME_REST: usize = 24;

/// Where a value is.
struct Value {
    start: usize,
    end: usize,
    form: Form,
    is_quoted: bool,
    /// Where it ends if it goes beyond the text.
    until: Until,
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

impl Scanner<'_> {
    /// A word at `start..end` that may be, or end, the name of a secret.
    pub(crate) fn keyword(&mut self, start: usize, end: usize) {
        let bytes = self.text.bytes;
        let rest = self.text.span(end, MAX_NAME_REST, is_name_byte);
        let name_end = end + rest;
        if rest == MAX_NAME_REST || name_end == self.last_name_end {
            return;
        }
        self.last_name_end = name_end;
        let before = |b: &&u8| is_name_byte(**b) || **b == b'.';
        let name_start = start - bytes[..start].iter().rev().take(ident::MAX_NAME).take_while(before).count();
        let name = &self.text.str[name_start..name_end];
        let Some((strength, class)) = ident::judge(name) else { return };
        match self.value_of(name_start, name_end) {
            Some(value) => self.suspect(strength, class, &value),
            None if self.text.take_touched() => {
                self.open(Open { from: name_end, class, until: Until::Value });
            }
            None => {}
        }
    }

    /// Judges a value and remembers it with the verdict.
    fn suspect(&mut self, strength: Strength, class: Class, value: &Value) {
        let is_alone = value.is_quoted || (value.form == Form::Colon && self.is_alone(value.end));
        if self.text.take_touched() {
            self.open(Open { from: value.start, class, until: value.until });
        }
        let text = &self.text.str[value.start..value.end];
        let is_crowd = self.values.add(value.end);
        self.candidates.push(Candidate {
            start: value.start,
            end: value.end,
            class,
            is_secret: is_crowd || judge::is_secret(strength, value.form, text, is_alone),
            is_quoted: value.is_quoted,
        });
    }

    /// The value of an `Authorization` header whose name ends at `end`.
    pub(crate) fn authorization(&mut self, start: usize, end: usize) {
        if is_name_byte(self.text.at(end)) {
            return;
        }
        let Some(mut value) = self.value_of(start, end) else { return };
        let scheme_len = self.text.bytes[value.start..value.end.max(value.start)]
            .iter()
            .take(20)
            .take_while(|b| is_name_byte(**b))
            .count();
        let scheme_end = value.start + scheme_len;
        let scheme = self.text.str[value.start..scheme_end].to_ascii_lowercase();
        match scheme.as_str() {
            "bearer" | "basic" | "token" | "bot" | "apikey" | "key" | "negotiate" | "ntlm" | "dpop" => {
                value.start = self.text.skip_blanks(scheme_end);
                if !value.is_quoted || value.start >= value.end {
                    value.end = self.unquoted_end(value.start);
                }
            }
            "aws4-hmac-sha256" | "hawk" | "oauth" | "signature" => {
                value.start = self.text.skip_blanks(scheme_end);
                value.end = self.header_end(value.start);
                value.until = Until::Line;
            }
            _ => {}
        }
        if value.start < value.end {
            self.suspect(Strength::Strong, Class::Authorization, &value);
        }
    }

    /// The end of a header's value that is read to the end of its line, remembered like that of an unquoted value.
    fn header_end(&mut self, start: usize) -> usize {
        let (from, to) = self.last_header;
        if !(from <= start && start < to) {
            let rest = &self.text.bytes[start..];
            let len = rest.iter().take_while(|b| !matches!(b, b'\n' | b'\r' | b'"' | b'\\')).count();
            self.last_header = (start, start + len);
            work::count(len);
        }
        self.text.reach(self.last_header.1 + 1);
        if self.last_header.1 >= self.text.bytes.len() {
            self.text.touch();
        }
        self.last_header.1
    }

    /// The value that belongs to the name at `start..end`.
    fn value_of(&mut self, start: usize, end: usize) -> Option<Value> {
        let quote_at = end + self.backslashes_at(end);
        let is_key_quoted = is_quote(self.text.at(quote_at));
        if !is_key_quoted {
            if let Some(at) = self.tag_or_flag(start, end) {
                return self.value_at(at, Form::Assigned, None);
            }
            let (at, form) = self.separator(end)?;
            return self.value_at(self.text.skip_blanks(at), form, None);
        }
        let bracket = usize::from(self.text.at(quote_at + 1) == b']');
        let (at, form) = self.separator(self.text.skip_space(quote_at + 1 + bracket))?;
        self.value_at(self.text.skip_space(at), form, Some(quote_at))
    }

    /// `<name>` or `--name `: where the value begins.
    fn tag_or_flag(&self, start: usize, end: usize) -> Option<usize> {
        let before = start.checked_sub(1).map_or(0, |at| self.text.at(at));
        if self.text.at(end) == b'>' && matches!(before, b'<' | b':') {
            return Some(end + 1);
        }
        let value = self.text.skip_blanks(end);
        let name = &self.text.str[start..end];
        let has_dashes = (name.starts_with('-') || name.contains("--")) && !name.contains("---");
        let is_other = matches!(self.text.at(value), b'=' | b':')
            || (self.text.at(value) == b'-' && !self.text.has(value, "---"));
        let is_flag = has_dashes && value > end && !is_other;
        is_flag.then_some(value)
    }

    /// What connects a name that ends at `end` with its value: the position behind it.
    fn separator(&self, end: usize) -> Option<(usize, Form)> {
        let at = self.text.skip_blanks(end);
        let first = |signs: &[&str]| {
            let sign = signs.iter().find(|sign| self.text.has(at, sign))?;
            Some(at + sign.len())
        };
        if self.text.has(at, "::") || self.text.has(at, "://") {
            return None;
        }
        if let Some(at) = first(&["===", "==", "=>", ":=", "=", "＝", "%3D", "%3d"]) {
            return Some((at, Form::Assigned));
        }
        if let Some(at) = first(&[":", "：", "%3A", "%3a"]) {
            return Some((at, Form::Colon));
        }
        let words: &[&str] =
            if at > end { &["is ", "is: ", "was "] } else { &["是：", "是", "為", "为"] };
        first(words).map(|at| (at, Form::Said))
    }

    /// The value that begins at `at`, which may be a quote; `key_quote`: where the
    /// name's closing quote is.
    fn value_at(&mut self, at: usize, form: Form, key_quote: Option<usize>) -> Option<Value> {
        let literal_prefix =
            matches!(self.text.at(at), b'b' | b'r' | b'f' | b'u') && is_quote(self.text.at(at + 1));
        let at = at + usize::from(literal_prefix);
        let level = self.backslashes_at(at);
        let quote = self.text.at(at + level);
        let is_key_quoted = key_quote.is_some();
        if is_quote(quote) && key_quote.is_some_and(|at| self.text.backslashes_before(at) != level) {
            // The quote closes the string in which the quoted name stands.
            return None;
        }
        if is_quote(quote) {
            let start = at + level + 1;
            let is_same_quote = key_quote.is_some_and(|at| self.text.at(at) == quote);
            return self.string_at(start, quote, level, is_key_quoted, is_same_quote);
        }
        let opens_list = self.text.at(at) == b'[' && self.text.mask_len(at).is_none();
        let end = self.unquoted_end(at);
        if opens_list || end <= at || (is_key_quoted && is_json_scalar(&self.text.bytes[at..end])) {
            return None;
        }
        Some(Value { start: at, end, form, is_quoted: false, until: Until::Value })
    }

    /// The value in a string that begins at `start`, behind `level` backslashes and `quote`. Of a string that is not
    /// closed the first word is the value.
    fn string_at(
        &mut self,
        start: usize,
        quote: u8,
        level: usize,
        is_member: bool,
        is_same_quote: bool,
    ) -> Option<Value> {
        // A quote directly behind `name:` may close a string instead of opening one: what follows tells.
        let head = self.text.at(self.text.skip_space(start));
        if !is_same_quote && matches!(head, b',' | b':' | b'}' | b']') {
            return None;
        }
        let form = if is_member { Form::Member } else { Form::Literal };
        let closing = self.closing(start, quote, level);
        let (end, is_quoted) = match self.end_in_document(start, closing, quote).or(closing) {
            Some(end) => (end, true),
            None => (self.unquoted_end(start), false),
        };
        if self.text.str[start..end].trim_start().is_empty() {
            return None;
        }
        let until = Until::Quote { quote, level };
        Some(Value { start, end, form, is_quoted, until })
    }

    /// Where the string that began at `start` with `level` backslashes and `quote` ends.
    pub(crate) fn closing(&self, start: usize, quote: u8, level: usize) -> Option<usize> {
        let mut at = start;
        loop {
            at += self.text.span(at, usize::MAX, |b| b != quote);
            self.text.peek(at)?;
            let slashes = self.text.backslashes_before(at).min(at - start);
            // A quote nested n strings deep has 2^n - 1 backslashes, behind pairs that belong to the value:
            // the trailing ones of the count. A quote of an outer string ends the inner one too.
            let own = (1 << slashes.trailing_ones()) - 1;
            if own <= level {
                return Some(at - own);
            }
            at += 1;
        }
    }

    /// In a JSON document a string between other quotes ends at the latest with the JSON string around it.
    pub(crate) fn end_in_document(&self, start: usize, end: Option<usize>, quote: u8) -> Option<usize> {
        let string = &self.text.bytes[start..end.unwrap_or(self.text.bytes.len())];
        let is_border =
            |at: &usize| self.text.at(*at) == b'"' && self.text.backslashes_before(*at).is_multiple_of(2);
        work::count(string.len());
        if quote == b'"' || !string.contains(&b'"') || !self.text.is_in_document(start) {
            return None;
        }
        (start..start + string.len()).find(is_border)
    }

    /// Where an unquoted value that begins at `start` ends: at white space, a quote, an escape, or a delimiter
    /// behind which something else begins.
    pub(crate) fn unquoted_end(&mut self, start: usize) -> usize {
        if self.last_value.0 <= start && start < self.last_value.1 {
            self.text.reach(self.last_value.1 + 1);
            if self.last_value.2 {
                self.text.touch();
            }
            return self.last_value.1;
        }
        let was_touched = self.text.take_touched();
        let bytes = self.text.bytes;
        let mut at = start;
        while at < bytes.len() {
            if let Some(len) = self.text.mask_len(at) {
                at += len;
                continue;
            }
            let ends = match bytes[at] {
                b'"' | b'\'' | b'`' | b'<' | b'>' | b'&' | b'|' => true,
                byte if byte.is_ascii_whitespace() => true,
                b'\\' => {
                    let slashes = self.backslashes_at(at);
                    let ends = matches!(
                        self.text.peek(at + slashes),
                        Some(b'n' | b'r' | b't' | b'u' | b'"' | b'\'' | b'`') | None
                    );
                    at += if ends { 0 } else { slashes - 1 };
                    ends
                }
                b',' | b';' | b')' | b']' | b'}' => self.is_border(at + 1),
                0xe3 | 0xef => is_wide_stop(&bytes[at..]),
                _ => false,
            };
            if ends {
                break;
            }
            at += 1;
        }
        if at >= bytes.len() {
            self.text.touch();
        }
        let at = at.min(bytes.len());
        self.text.reach(at + 1);
        work::count(at - start);
        let is_touched = self.text.take_touched();
        self.last_value = (start, at, is_touched);
        if is_touched || was_touched {
            self.text.touch();
        }
        at
    }

    /// Whether behind a delimiter nothing of the value follows: an end, another delimiter, or `name=`.
    fn is_border(&self, at: usize) -> bool {
        let name = self.text.span(at, 40, is_name_byte);
        match self.text.peek(at + name) {
            None => name == 0,
            Some(b'=' | b':') => name > 0,
            Some(next) => {
                name == 0
                    && (next.is_ascii_whitespace()
                        || matches!(next, b'"' | b'\'' | b'\\' | b',' | b';' | b')' | b']' | b'}' | b'{'))
            }
        }
    }

    /// Whether nothing but an end or a delimiter follows a value on its line.
    fn is_alone(&self, end: usize) -> bool {
        let next = self.text.skip_blanks(end);
        matches!(
            self.text.at(next),
            0 | b'\n' | b'\r' | b'"' | b'\'' | b'\\' | b',' | b';' | b')' | b'}' | b'<' | b'&'
        )
    }

    fn backslashes_at(&self, at: usize) -> usize {
        self.text.span(at, 64, |b| b == b'\\')
    }
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`')
}

fn is_json_scalar(value: &[u8]) -> bool {
    let is_number = |b: &u8| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E');
    value.iter().all(is_number)
        || matches!(value, b"true" | b"false" | b"null")
        || matches!(value[0], b'{' | b'[')
}

/// The stops of Chinese text: a value does not go on behind them.
fn is_wide_stop(rest: &[u8]) -> bool {
    ["、", "。", "，", "；", "）", "」", "！", "？"].iter().any(|stop| rest.starts_with(stop.as_bytes()))
}
