//! Secrets known by the command they stand in: `curl -u user:secret`, `sshpass -p secret`, `IDENTIFIED BY 'secret'`.
//!
//! No name says so; the words before do. They are looked for on the line, not farther back than [`MAX_BACK`].

use crate::Class;
use crate::ident::Strength;
use crate::judge::Form;
use crate::keyed::is_name_byte;
use crate::scan::Scanner;

/// How far back a command's name may stand, in bytes.
const MAX_BACK: usize = 200;
/// The longest user name.
const MAX_USER: usize = 64;

impl Scanner<'_> {
    /// `sshpass -p secret`, whose first word ends at `end`.
    pub(crate) fn sshpass(&mut self, end: usize) {
        let option = self.text.skip_blanks(end);
        if option > end && self.text.has(option, "-p") {
            let at = self.text.skip_blanks(option + 2);
            self.command_value(at, Form::Assigned);
        }
    }

    /// `-u user:secret` or `--user=user:secret` of a command that fetches.
    pub(crate) fn user_option(&mut self, start: usize, end: usize) {
        let is_dashed = start > 0 && self.text.bytes[start - 1] == b'-' || self.has_back(start, b"--proxy");
        let is_short = self.text.bytes[end - 1] == b' ';
        let at = self.text.skip_blanks(end + usize::from(!is_short && self.text.at(end) == b'='));
        if is_short == is_dashed || (!is_short && at == end) {
            return;
        }
        let at = at + self.plain_quote(at).map_or(0, |quote| quote.len);
        let is_user = |b: u8| is_name_byte(b) || matches!(b, b'.' | b'@' | b'%' | b'+' | b'\\');
        let colon = at + self.text.span(at, MAX_USER, is_user);
        if self.text.at(colon) != b':' || !self.is_behind(start, b"curl") {
            return;
        }
        let value = self.unquoted(colon + 1, Form::Assigned);
        let text = &self.text.bytes[value.start..value.end];
        if !text.iter().all(u8::is_ascii_digit) {
            self.suspect(Strength::Strong, Class::Secret, &value);
        }
    }

    /// `IDENTIFIED BY 'secret'` and `IDENTIFIED WITH plugin BY 'secret'` of SQL.
    pub(crate) fn identified(&mut self, start: usize, end: usize) {
        let mut at = self.text.skip_blanks(end);
        if self.has_word(at, "with ") {
            at = self.text.skip_blanks(at + 5);
            let plugin = |b: u8| is_name_byte(b) || matches!(b, b'\'' | b'"' | b'`');
            at = self.text.skip_blanks(at + self.text.span(at, MAX_USER, plugin));
        }
        if !self.has_word(at, "by ") && !self.has_word(at, "as ") {
            return;
        }
        at = self.text.skip_blanks(at + 3);
        if self.has_word(at, "password ") {
            at = self.text.skip_blanks(at + 9);
        }
        let is_sql = self.is_behind(start, b"user") || self.is_behind(start, b"grant");
        let is_quoted = self.plain_quote(at).is_some();
        if is_sql || is_quoted {
            self.command_value(at, if is_sql && is_quoted { Form::Literal } else { Form::Argument });
        }
    }

    fn command_value(&mut self, at: usize, form: Form) {
        let quote = self.opening_quote(at);
        let value = match quote {
            Some(quote) => self.string_at(at + quote.len, quote, form, true),
            None => Some(self.unquoted(at, form)),
        };
        if let Some(value) = value.filter(|value| value.start < value.end) {
            self.suspect(Strength::Strong, Class::Secret, &value);
        }
    }

    /// Whether `word` stands at `at`, in capitals or not.
    fn has_word(&self, at: usize, word: &str) -> bool {
        let len = self.text.span(at, word.len(), |_| true);
        self.text.bytes[at..at + len].eq_ignore_ascii_case(word.as_bytes())
    }

    fn has_back(&self, at: usize, word: &[u8]) -> bool {
        self.text.bytes[..at].ends_with(word)
    }

    /// Whether `word` stands on the line before `at`.
    pub(crate) fn is_behind(&self, at: usize, word: &[u8]) -> bool {
        let head = &self.text.bytes[at.saturating_sub(MAX_BACK)..at];
        let line = head.iter().rposition(|b| *b == b'\n').map_or(head, |newline| &head[newline..]);
        let first = word[0];
        memchr::memchr2_iter(first, first.to_ascii_uppercase(), line)
            .any(|at| line[at..].get(..word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word)))
    }
}
