//! The rest of a find that was masked before its end was known.
//!
//! Nothing of it goes out. Its end is where the rule would have ended the find: the same functions are asked, from the
//! place where the last piece ended. A key block within a string ends first with its last line, then with the string.

use crate::anchors::Rule;
use crate::document::Document;
use crate::encoded::is_base64;
use crate::keyed::is_name_byte;
use crate::open::Until;
use crate::pem::PUTTY_END;
use crate::quote::is_quote;
use crate::scan::Scanner;
use crate::text::Text;
use crate::{Class, Redactor};

use super::SWALLOWED_CONTEXT;
use super::window::Window;

/// How far a rule looks ahead to tell where a find ends, in bytes.
const AHEAD: usize = 64;
/// The longest last line of a key, with what is looked at before it.
const MAX_MARK: usize = 96;

/// What is being swallowed.
pub(super) struct Swallow {
    until: Until,
    /// What it lies in.
    outer: Option<Until>,
}

/// Where a find ends.
enum Border {
    /// Here.
    At(usize),
    /// Not before this.
    Beyond(usize, Until),
}

impl Swallow {
    /// What the window holds: of which class, and where it ends.
    pub(super) fn of(window: &Window) -> (Class, Swallow) {
        let open = window.open.map_or(Until::Value, |open| open.until);
        let Some(block) = window.block else {
            let class = window.open.map_or(Class::Secret, |open| open.class);
            return (class, Swallow { until: open, outer: None });
        };
        let is_within = window.open.filter(|open| open.from <= block.from);
        let outer = is_within
            .map(|open| open.until)
            .filter(|until| matches!(until, Until::Quote { .. } | Until::List { .. }));
        let class = is_within.map_or(block.class, |open| open.class);
        (class, Swallow { until: block.until, outer })
    }

    /// How much of what is held is read again to find the end: of a list nothing, since it is known how far it is.
    pub(super) fn context(&self) -> usize {
        if matches!(self.until, Until::List { .. }) { 0 } else { SWALLOWED_CONTEXT }
    }

    /// Moves `done` over what is swallowed of `raw`; says whether that is over.
    pub(super) fn advance(
        &mut self,
        redactor: &Redactor,
        raw: &str,
        before: Document,
        done: &mut usize,
    ) -> bool {
        loop {
            match border(&mut Scanner::new(redactor, Text::new(raw, before), ""), self.until, *done) {
                Border::Beyond(at, until) => {
                    self.until = until;
                    *done = raw.floor_char_boundary(at).max(*done);
                    return false;
                }
                Border::At(at) => *done = at.max(*done),
            }
            match self.outer.take() {
                Some(outer) => self.until = outer,
                None => return true,
            }
        }
    }
}

/// Where what is swallowed ends, of which `from` is no longer the beginning.
fn border(scanner: &mut Scanner<'_>, until: Until, from: usize) -> Border {
    let bytes = scanner.text.bytes;
    match until {
        Until::Value => {
            let end = scanner.unquoted_end(from);
            match scanner.text.take_touched() {
                true => Border::Beyond(bytes.len().saturating_sub(AHEAD), until),
                false => Border::At(end),
            }
        }
        Until::Quote { quote, level } => {
            let from = from - scanner.text.backslashes_before(from);
            let closing = scanner.closing(from, quote, level);
            match scanner.end_in_document(from, closing, quote).or(closing) {
                Some(end) => Border::At(end),
                None => Border::Beyond(bytes.len() - scanner.text.backslashes_before(bytes.len()), until),
            }
        }
        Until::Parameters => end_of_list(scanner, from),
        Until::List { quote, level, depth } => end_of_strings(scanner, from, quote, level, depth),
        Until::Encoded => {
            let goes_on = |b: u8| is_base64(b) || matches!(b, b'=' | b'\n' | b'\r' | b'\\');
            let len = scanner.text.span(from, usize::MAX, goes_on);
            if from + len < bytes.len() { Border::At(from + len) } else { Border::Beyond(bytes.len(), until) }
        }
        Until::Block { is_in_string } => end_of_block(scanner, is_in_string, from),
        Until::Putty { over_strings } => {
            let rest = &scanner.text.str[from..];
            let quote = rest.find('"').filter(|_| !over_strings).unwrap_or(rest.len());
            let end = rest[..quote].find(PUTTY_END).unwrap_or(quote);
            if end < rest.len() {
                let slashes = scanner.text.backslashes_before(from + end).min(end);
                return Border::At(from + end - slashes);
            }
            Border::Beyond(bytes.len().saturating_sub(AHEAD), until)
        }
    }
}

/// The end of a list of parameters: a line break, or a quote that neither opens a value nor stands before the next
/// parameter.
fn end_of_list(scanner: &Scanner<'_>, from: usize) -> Border {
    let bytes = scanner.text.bytes;
    let beyond = Border::Beyond(bytes.len().saturating_sub(AHEAD), Until::Parameters);
    let stops = (from..bytes.len()).filter(|at| matches!(bytes[*at], b'\n' | b'\r' | b'"' | b'\''));
    for at in stops {
        let start = at - scanner.text.backslashes_before(at).min(at - from);
        let is_break = matches!(bytes[at], b'\n' | b'\r');
        if !is_break && start > 0 && matches!(bytes[start - 1], b'=' | b'"' | b'\'') {
            continue;
        }
        let blank = |b: &&u8| matches!(**b, b',' | b' ' | b'"' | b'\'');
        let next = at + 1 + bytes[at + 1..].iter().take_while(blank).count();
        let name = bytes[next..].iter().take_while(|b| is_name_byte(**b)).count();
        if next + name + AHEAD / 2 > bytes.len() && !is_break {
            return beyond;
        }
        if is_break || name == 0 || bytes[next + name] != b'=' {
            return Border::At(start);
        }
    }
    beyond
}

/// The end of a list of strings, of which `from` lies in a string between `quote`s or, without one, between strings.
fn end_of_strings(
    scanner: &Scanner<'_>,
    from: usize,
    mut quote: Option<u8>,
    level: usize,
    mut depth: u32,
) -> Border {
    let bytes = scanner.text.bytes;
    let end = bytes.len() - scanner.text.backslashes_before(bytes.len());
    let mut at = from.min(end) - scanner.text.backslashes_before(from.min(end));
    while at < end {
        if let Some(byte) = quote {
            let Some(closing) = scanner.closing(at, byte, level) else { break };
            let slashes = scanner.backslashes_at(closing);
            if slashes < level {
                // the string in which the list stands is over
                return Border::At(closing);
            }
            (quote, at) = (None, closing + slashes + 1);
            continue;
        }
        match bytes[at] {
            b'[' => depth += 1,
            b']' if depth <= 1 => return Border::At(at),
            b']' => depth -= 1,
            byte if is_quote(byte) => match scanner.text.backslashes_before(at) {
                slashes if slashes < level => return Border::At(at - slashes),
                slashes if slashes == level => quote = Some(byte),
                _ => {}
            },
            _ => {}
        }
        at += 1;
    }
    Border::Beyond(end, Until::List { quote, level, depth })
}

/// The end of a private key block.
fn end_of_block(scanner: &mut Scanner<'_>, is_in_string: Option<bool>, from: usize) -> Border {
    let bytes = scanner.text.bytes;
    for (rule, start, end) in scanner.redactor.anchors.find(scanner.text.str, 0, bytes.len()) {
        if matches!(rule, Rule::PrivateKey) {
            scanner.pem_mark(start, end);
        }
    }
    let mark = scanner.pem_marks.iter().find(|mark| mark.start >= from);
    let limit = mark.map_or(bytes.len(), |mark| mark.start);
    let sign = bytes[from.min(limit)..limit].iter().position(|b| matches!(b, b'\n' | b'"'));
    if let Some(at) = sign.map(|n| from + n).filter(|at| is_in_string.is_none() && bytes[*at] == b'"') {
        return Border::At((at - scanner.text.backslashes_before(at)).max(from));
    }
    let until = Until::Block { is_in_string: is_in_string.or(sign.map(|_| false)) };
    match mark {
        Some(mark) if mark.opens => Border::At(mark.start),
        Some(mark) if mark.is_open => Border::Beyond(mark.start, until),
        Some(mark) => Border::At(mark.end),
        None => Border::Beyond(bytes.len().saturating_sub(MAX_MARK), until),
    }
}
