//! `name = value` in its many spellings: assignments, headers, YAML, JSON, XML, flags, sentences.
//!
//! JSON inside a JSON string has its quotes escaped, once or several times; quotes are matched by their number of
//! backslashes, and a mask never holds an unescaped quote, half an escape or a bare JSON number, so a document stays
//! a document.

use crate::Class;
use crate::ident::{self, Strength};
use crate::judge::{self, Form};
use crate::open::{Open, Until};
use crate::quote::{Quote, is_quote};
use crate::scan::{Candidate, Scanner};
use crate::text::Set;
use crate::work;

/// Words between a name and its value.
const SAYING: &[&str] =
    &["is ", "is: ", "was ", "ist ", "lautet ", "est ", "es ", "è ", "é ", "是：", "是", "為", "为"];
/// The same where no blank stands before them.
const SAYING_WIDE: &[&str] = &["是：", "是", "為", "为", "は", "는 ", "은 "];

/// The longest rest of a name behind an anchor, in bytes.
const MAX_NAME_REST: usize = 24;
/// The words in front of an emphasised name, in bytes.
const MAX_WORDS: usize = 48;
/// The longest emphasised value, in bytes.
const MAX_EMPHASISED: usize = 256;

/// A name that says its value is secret.
#[derive(Clone, Copy)]
pub(crate) struct Name {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) strength: Strength,
    pub(crate) class: Class,
}

/// Where a value is.
pub(crate) struct Value {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) form: Form,
    pub(crate) is_quoted: bool,
    /// Where it ends if it goes beyond the text.
    pub(crate) until: Until,
    /// Behind its closing quote.
    pub(crate) behind: usize,
}

/// What a name stands for.
pub(crate) enum Found {
    Value(Value),
    /// The strings of a list, whose bracket is here.
    List(usize),
}

pub(crate) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

impl Scanner<'_> {
    /// A word at `start..end` that may be, or end, the name of a secret.
    pub(crate) fn keyword(&mut self, start: usize, end: usize) {
        let bytes = self.text.bytes;
        let rest = self.text.run_len(Set::Url, end, MAX_NAME_REST);
        let name_end = end + rest;
        if rest == MAX_NAME_REST || name_end == self.last_name_end {
            return;
        }
        self.last_name_end = name_end;
        if !self.text.at(name_end).is_ascii() && self.goes_on_in_letters(name_end) {
            return;
        }
        let before = |b: &&u8| is_name_byte(**b) || **b == b'.';
        let name_start = start - bytes[..start].iter().rev().take(ident::MAX_NAME).take_while(before).count();
        if bytes[name_start..name_end].eq_ignore_ascii_case(b"sshpass") {
            return self.sshpass(name_end);
        }
        let name_start = self.with_qualifier(name_start);
        let name = &self.text.str[name_start..name_end];
        let is_directory = ident::is_working_directory(name);
        let judged = ident::judge(name).or(is_directory.then_some((Strength::Weak, Class::Secret)));
        let Some((strength, class)) = judged else { return };
        let name = Name { start: name_start, end: name_end, strength, class };
        match self.value_of(name_start, name_end) {
            Some(Found::Value(value)) => {
                let form = if is_directory { Form::Assigned } else { value.form };
                self.suspect(strength, class, &Value { form, ..value });
            }
            Some(Found::List(open)) => self.list(&name, open),
            None => self.paired(&name),
        }
        if self.text.take_touched() {
            self.open_value(name_end, class);
        }
    }

    /// Whether a letter stands at `at` that connects nothing, as in `密碼錯誤`.
    fn goes_on_in_letters(&self, at: usize) -> bool {
        let connects = |c: char| SAYING_WIDE.iter().any(|word| word.starts_with(c));
        self.text.str[at..].chars().next().is_some_and(|c| c.is_alphanumeric() && !connects(c))
    }

    /// Where a name begins whose last word begins at `start`: `access token`, `API key`.
    fn with_qualifier(&self, start: usize) -> usize {
        let bytes = self.text.bytes;
        let Some(blank) = start.checked_sub(1).filter(|at| bytes[*at] == b' ') else { return start };
        let len = bytes[..blank].iter().rev().take(16).take_while(|b| is_name_byte(**b)).count();
        let word = &self.text.str[blank - len..blank];
        if ident::is_qualifier(word) { blank - len } else { start }
    }

    /// Judges a value and remembers it with the verdict.
    pub(crate) fn suspect(&mut self, strength: Strength, class: Class, value: &Value) {
        let is_alone = value.is_quoted || (value.form == Form::Colon && self.is_alone(value.end));
        let text = &self.text.str[value.start..value.end + self.closing_signs(value)];
        if self.text.take_touched() {
            self.open(Open { from: value.start, class, until: value.until });
        }
        let is_crowd = self.values.add(value.end);
        self.candidates.push(Candidate {
            start: value.start,
            end: value.end,
            class,
            is_secret: is_crowd || judge::is_secret(strength, value.form, text, is_alone),
            is_quoted: value.is_quoted,
        });
    }

    /// How many signs behind a value close what it opened: of `f(x)` and `{a[0]}` the last is no part of it.
    fn closing_signs(&self, value: &Value) -> usize {
        let bytes = &self.text.bytes[value.start..value.end.min(value.start + judge::MAX_JUDGED)];
        let count = |signs: &[u8]| bytes.iter().filter(|b| signs.contains(b)).count();
        let opened = if value.is_quoted { 0 } else { count(b"([{").saturating_sub(count(b")]}")) };
        if opened == 0 { 0 } else { self.text.span(value.end, opened, |b| b")]}".contains(&b)) }
    }

    /// The value that belongs to the name at `start..end`.
    pub(crate) fn value_of(&mut self, start: usize, end: usize) -> Option<Found> {
        let Some(quote) = self.quote_behind(start, end) else {
            if let Some(at) = self.tag_or_flag(start, end) {
                return self.value_at(at, Form::Assigned, None);
            }
            let end = self.behind_emphasis(start, end);
            return match self.separator(end) {
                Some((at, form)) => self.value_at(self.text.skip_blanks(at), form, None),
                None => self.beside(start, end).map(Found::Value),
            };
        };
        let behind = end + quote.len;
        let bracket = usize::from(self.text.at(behind) == b']');
        match self.separator(self.text.skip_space(behind + bracket)) {
            Some((at, form)) => self.value_at(self.text.skip_space(at), form, Some(quote)),
            None => self.argument(start, end, quote).map(Found::Value),
        }
    }

    /// Behind the asterisks that close what they opened before the name, or before words in front of it: `**name**`,
    /// `**the name**`.
    fn behind_emphasis(&self, start: usize, end: usize) -> usize {
        let is_star = |b: u8| b == b'*';
        if !is_star(self.text.at(end)) {
            return end;
        }
        let is_word = |b: &&u8| is_name_byte(**b) || **b == b' ';
        let words = self.text.bytes[..start].iter().rev().take(MAX_WORDS).take_while(is_word).count();
        let head = &self.text.bytes[..start - words];
        let before = head.iter().rev().take(3).take_while(|b| is_star(**b)).count();
        end + if before > 0 { self.text.span(end, before, is_star) } else { 0 }
    }

    /// `<name>` or `--name `: where the value begins.
    fn tag_or_flag(&self, start: usize, end: usize) -> Option<usize> {
        let before = start.checked_sub(1).map_or(0, |at| self.text.at(at));
        if self.text.at(end) == b'>' && matches!(before, b'<' | b':') {
            return (!self.is_placeholder(end + 1)).then_some(end + 1);
        }
        let value = self.text.skip_blanks(end);
        let name = &self.text.str[start..end];
        let has_dashes = (name.starts_with('-') || name.contains("--")) && !name.contains("---");
        let is_other = matches!(self.text.at(value), b'=' | b':')
            || (self.text.at(value) == b'-' && !self.text.has(value, "---"));
        let is_flag = has_dashes && value > end && !is_other;
        is_flag.then_some(value)
    }

    /// Whether a name in angle brackets that end at `at` stands for a value, as in `https://<user>:<password>@host`.
    fn is_placeholder(&self, at: usize) -> bool {
        let is_sign = matches!(self.text.at(at), b'@' | b':' | b'/' | b'.' | b'-');
        let len = if is_sign { self.text.span(at, MAX_EMPHASISED, |b| b > b' ' && b != b'<') } else { 0 };
        is_sign && !self.text.has(at + len, "</")
    }

    /// What connects a name that ends at `end` with its value: the position behind it.
    fn separator(&self, end: usize) -> Option<(usize, Form)> {
        let at = self.text.skip_blanks(end);
        if !begins_separator(self.text.at(at)) {
            return None;
        }
        let first = |signs: &[&str]| {
            let sign = signs.iter().find(|sign| self.text.has(at, sign))?;
            Some(at + sign.len())
        };
        if self.text.has(at, "::") || self.text.has(at, "://") {
            return None;
        }
        if let Some(at) = first(&["===", "==", "=>", "=&gt;", ":=", "=", "＝", "%3D", "%3d"]) {
            return Some((at, Form::Assigned));
        }
        if let Some(at) = first(&[":", "：", "%3A", "%3a"]) {
            return Some((at, Form::Colon));
        }
        if let Some(at) = first(&["->", "-&gt;", "→", "⇒"]) {
            return Some((at, Form::Said));
        }
        let words = if at > end { SAYING } else { SAYING_WIDE };
        first(words).map(|at| (at, Form::Said))
    }

    /// The value that begins at `at`, which may be a quote; `key_quote`: the name's closing quote.
    pub(crate) fn value_at(&mut self, at: usize, form: Form, key_quote: Option<Quote>) -> Option<Found> {
        let literal_prefix =
            matches!(self.text.at(at), b'b' | b'r' | b'f' | b'u') && is_quote(self.text.at(at + 1));
        let at = at + usize::from(literal_prefix);
        if let Some(quote) = self.opening_quote(at) {
            // A quote at another level closes the string in which the quoted name stands.
            if key_quote.is_some_and(|key| !key.is_like(quote)) {
                return None;
            }
            let form = match key_quote {
                Some(key) if key.byte != b'`' => Form::Member,
                // What documents set in code.
                _ if quote.byte == b'`' => form,
                _ => Form::Literal,
            };
            let is_same_quote = quote.is_folded || key_quote.is_some_and(|key| key.byte == quote.byte);
            return self.string_at(at + quote.len, quote, form, is_same_quote).map(Found::Value);
        }
        if self.text.at(at) == b'[' && self.text.mask_len(at).is_none() {
            return Some(Found::List(at));
        }
        let emphasis = if self.text.has(at, "**") { 2 } else { 0 };
        let mut value = self.unquoted(at + emphasis, form);
        if emphasis > 0 {
            let head = &self.text.bytes[value.start..value.end.min(value.start + MAX_EMPHASISED)];
            match head.windows(2).position(|pair| pair == b"**") {
                Some(len) => value.end = value.start + len,
                None => value.start = at,
            }
        }
        let is_json = key_quote.is_some() && value.start < value.end;
        if value.end <= value.start || (is_json && is_json_scalar(&self.text.bytes[value.start..value.end])) {
            return None;
        }
        Some(Found::Value(value))
    }

    /// The value that begins at `start` without a quote.
    pub(crate) fn unquoted(&mut self, start: usize, form: Form) -> Value {
        let end = self.unquoted_end(start).max(start);
        Value { start, end, form, is_quoted: false, until: Until::Value, behind: end }
    }

    /// The value in a string that begins at `start`, behind `quote`. Of a string that is not closed the first word is
    /// the value.
    pub(crate) fn string_at(
        &mut self,
        start: usize,
        quote: Quote,
        form: Form,
        is_same_quote: bool,
    ) -> Option<Value> {
        // A quote directly behind `name:` may close a string instead of opening one: what follows tells.
        let head = self.text.at(self.text.skip_space(start));
        if !is_same_quote && matches!(head, b',' | b':' | b'}' | b']') {
            return None;
        }
        let closing = if quote.is_folded {
            self.folded_closing(start, quote)
        } else {
            self.closing(start, quote.byte, quote.level)
        };
        let border = if quote.is_folded { None } else { self.end_in_document(start, closing, quote.byte) };
        let (end, is_quoted) = match border.or(closing) {
            Some(end) => (end, true),
            None => (self.unquoted_end(start), false),
        };
        if self.text.str[start..end].trim_start().is_empty() {
            return None;
        }
        let until = if quote.is_folded {
            Until::Value
        } else {
            Until::Quote { quote: quote.byte, level: quote.level }
        };
        // A quote of an outer string, with fewer backslashes, ends it too.
        let closing_len = if quote.is_folded { quote.len } else { self.backslashes_at(end) + 1 };
        let behind = end + if is_quoted && border.is_none() { closing_len } else { 0 };
        Some(Value { start, end, form, is_quoted, until, behind })
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

    pub(crate) fn backslashes_at(&self, at: usize) -> usize {
        self.text.span(at, 64, |b| b == b'\\')
    }
}

/// Whether a byte may be the first of what connects a name with its value.
fn begins_separator(byte: u8) -> bool {
    const IS_FIRST: [bool; 256] = {
        let mut table = [false; 256];
        let lists = [SAYING, SAYING_WIDE, &["=", "%", ":", "-", "＝", "→", "⇒"]];
        let mut list = 0;
        while list < lists.len() {
            let mut word = 0;
            while word < lists[list].len() {
                table[lists[list][word].as_bytes()[0] as usize] = true;
                word += 1;
            }
            list += 1;
        }
        table
    };
    IS_FIRST[usize::from(byte)]
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
