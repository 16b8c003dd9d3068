//! Private key blocks: PEM, OpenSSH, SSH2, PGP, PuTTY.
//!
//! A block without its last line is masked to the end of the text, or to the end of the string it stands in: a
//! quote met before a line break shows that the block lies in a string of JSON or code with escaped line breaks.
//! A block spread over several such strings is masked piece by piece, so that the quotes between stay; it ends where
//! something stands between the strings that does not join them.

use crate::Class;
use crate::open::{Open, Until};
use crate::scan::{PemMark, Scanner};
use crate::work;

/// Names of lines before the body of a block.
const HEADERS: [&str; 6] = ["Proc-Type", "DEK-Info", "Comment", "Version", "Subject", "Charset"];

/// The shortest run of base64 that is masked between the strings of a block.
const MIN_PIECE: usize = 16;

/// What follows the secret part of a PuTTY key.
pub(crate) const PUTTY_END: &str = "Private-MAC";

impl Scanner<'_> {
    /// Remembers a first or last line of a block around the words at `start..end`.
    pub(crate) fn pem_mark(&mut self, start: usize, end: usize) {
        let bytes = self.text.bytes;
        let label = |b: &&u8| b.is_ascii_alphanumeric() || **b == b' ';
        let label_start = start - bytes[..start].iter().rev().take(40).take_while(label).count();
        let dashes = bytes[..label_start].iter().rev().take(8).take_while(|b| **b == b'-').count();
        let words = self.text.str[label_start..start].trim_start().to_ascii_uppercase();
        let opens = words.starts_with("BEGIN");
        if dashes < 2 || !(opens || words.starts_with("END")) {
            return;
        }
        let end = end + self.text.span(end, 12, |b| matches!(b, b'-' | b' ') || b.is_ascii_uppercase());
        let is_open = self.text.take_touched();
        let trailing_space = bytes[..end].iter().rev().take_while(|b| **b == b' ').count();
        self.pem_marks.push(PemMark {
            start: label_start - dashes,
            end: end - trailing_space,
            opens,
            is_open,
        });
    }

    /// Masks the blocks between the marks.
    pub(crate) fn pem_blocks(&mut self) {
        let mut marks = std::mem::take(&mut self.pem_marks);
        marks.sort_by_key(|mark| (mark.start, mark.end));
        marks.dedup_by_key(|mark| mark.start);
        for (i, mark) in marks.iter().enumerate().filter(|(_, mark)| mark.opens) {
            let next = marks.get(i + 1);
            let is_closed = next.is_some_and(|next| next.opens || !next.is_open);
            let limit =
                next.map_or(self.text.bytes.len(), |next| if next.opens { next.start } else { next.end });
            let body = &self.text.bytes[mark.end.min(limit)..limit];
            let border = body.iter().position(|b| matches!(b, b'\n' | b'"')).map(|n| mark.end + n);
            work::count(border.map_or(body.len(), |at| at - mark.end));
            let is_in_string = border.map(|at| self.text.at(at) == b'"');
            let is_decided = match border.filter(|_| is_in_string == Some(true)) {
                None => {
                    self.push(Class::PrivateKey, mark.start, limit);
                    is_closed
                }
                Some(quote) => {
                    self.push(Class::PrivateKey, mark.start, quote - self.text.backslashes_before(quote));
                    self.pem_pieces(quote, limit) < limit || is_closed
                }
            };
            if !is_decided {
                // Once its string has ended, a block goes on over strings to its last line.
                let until = Until::Block { is_in_string: border.map(|_| false) };
                self.open(Open { from: mark.start, class: Class::PrivateKey, until });
            }
        }
    }

    /// Masks the runs of base64 between `from` and `to` as long as only quotes, escapes and what joins strings stand
    /// between them; says where that ends.
    fn pem_pieces(&mut self, from: usize, to: usize) -> usize {
        let is_base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
        let bytes = self.text.bytes;
        let joins = |at: usize| match bytes[at] {
            b'"' | b'\'' | b'\\' | b',' | b'.' | b'(' | b')' => true,
            // A line of the block that is no base64, such as `DEK-Info: AES-128-CBC,…`.
            b'-' => bytes[at - 1].is_ascii_alphanumeric(),
            b':' => HEADERS.iter().any(|name| bytes[..at].ends_with(name.as_bytes())),
            byte => byte.is_ascii_whitespace(),
        };
        let mut at = from;
        while at < to {
            let run = self.text.bytes[at..to].iter().take_while(|b| is_base64(b)).count();
            if run == 0 && !joins(at) {
                break;
            }
            let escape = usize::from(run > 0 && self.text.at(at - 1) == b'\\');
            let letters = self.text.bytes[at..at + run].iter().filter(|b| b.is_ascii_alphabetic()).count();
            if run.saturating_sub(escape) >= MIN_PIECE && letters >= 4 {
                self.push(Class::PrivateKey, at + escape, at + run);
            }
            work::count(run.max(1));
            at += run.max(1);
        }
        at
    }

    /// The secret lines of a PuTTY key file, which begin behind `start..end`.
    pub(crate) fn putty(&mut self, start: usize, end: usize) {
        if start < self.putty_end {
            return;
        }
        let rest = &self.text.bytes[end..];
        let mut stops = memchr::memchr2_iter(b'"', PUTTY_END.as_bytes()[0], rest);
        let stop = stops.find(|at| rest[*at] == b'"' || rest[*at..].starts_with(PUTTY_END.as_bytes()));
        if stop.is_none() {
            self.open(Open { from: start, class: Class::PrivateKey, until: Until::Putty });
        }
        let stop = end + stop.unwrap_or(rest.len());
        work::count(stop - end);
        self.putty_end = stop;
        self.text.reach(stop + PUTTY_END.len());
        let slashes = self.text.backslashes_before(stop).min(stop - end);
        self.push(Class::PrivateKey, start, stop - slashes);
    }
}
