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

/// The longest comment in quotes, in bytes.
const MAX_COMMENT: usize = 256;

/// A run of base64.
#[derive(Default)]
struct Piece {
    /// Its bytes.
    len: usize,
    chars: usize,
    letters: usize,
}

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
            let border = self.border(mark.end.min(limit), limit);
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

    /// The first line break or quote between `from` and `to`, quotes around a comment apart, which are part of the block.
    fn border(&self, from: usize, to: usize) -> Option<usize> {
        let bytes = self.text.bytes;
        let mut at = from;
        loop {
            let stop = memchr::memchr2(b'\n', b'"', &bytes[at..to]);
            work::count(stop.unwrap_or(to - at));
            at += stop?;
            let slashes = self.text.backslashes_before(at).min(at - from);
            let is_comment =
                bytes[at] == b'"' && bytes[from..at - slashes].trim_ascii_end().ends_with(b"Comment:");
            if !is_comment {
                return Some(at);
            }
            let rest = &bytes[at + 1..to.min(at + MAX_COMMENT)];
            let Some(close) = memchr::memchr2(b'\n', b'"', rest).filter(|n| rest[*n] == b'"') else {
                return Some(at).filter(|_| to > at + MAX_COMMENT);
            };
            at += close + 2;
        }
    }

    /// Masks the runs of base64 between `from` and `to` as long as only quotes, escapes and what joins strings stand
    /// between them; says where that ends. What a run has of `\u0041` and the like belongs to it.
    fn pem_pieces(&mut self, from: usize, to: usize) -> usize {
        let mut at = from;
        while at < to {
            let piece = self.piece(at, to);
            if piece.chars >= MIN_PIECE && piece.letters >= 4 {
                self.push(Class::PrivateKey, at, at + piece.len);
            }
            at += piece.len;
            let Some(joined) = self.joined(at, to) else { break };
            work::count(piece.len + joined - at);
            at = joined;
        }
        at.min(to)
    }

    /// The run of base64 that begins at `at`.
    fn piece(&self, at: usize, to: usize) -> Piece {
        let mut piece = Piece::default();
        while at + piece.len < to {
            let (byte, len) = self.character(at + piece.len);
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
                || at + piece.len + len > to
            {
                break;
            }
            piece.len += len;
            piece.chars += 1;
            piece.letters += usize::from(byte.is_ascii_alphabetic());
        }
        piece
    }

    /// The character at `at`, which may be escaped, and its length; a line break or a tab is a blank.
    fn character(&self, at: usize) -> (u8, usize) {
        let bytes = self.text.bytes;
        if bytes[at] != b'\\' {
            return (bytes[at], 1);
        }
        let slashes = self.backslashes_at(at);
        let digits = match self.text.at(at + slashes) {
            b'n' | b'r' | b't' => return (b' ', slashes + 1),
            b'u' => 4,
            b'x' => 2,
            _ => return (b'\\', slashes),
        };
        let start = at + slashes + 1;
        let hex = self.text.str.get(start..start + digits);
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => (byte, slashes + 1 + digits),
            None => (b'\\', slashes),
        }
    }

    /// The place behind the signs at `at` that join two strings; `None` if something else stands there.
    fn joined(&self, at: usize, to: usize) -> Option<usize> {
        if at >= to {
            return Some(at);
        }
        let bytes = self.text.bytes;
        let (sign, len) = self.character(at);
        let joins = match sign {
            b'"' | b'\'' | b'\\' | b',' | b'.' | b'(' | b')' => true,
            // A line of the block that is no base64, such as `DEK-Info: AES-128-CBC,…`.
            b'-' => bytes[at - 1].is_ascii_alphanumeric(),
            b':' => HEADERS.iter().any(|name| bytes[..at].ends_with(name.as_bytes())),
            byte => byte.is_ascii_whitespace(),
        };
        joins.then_some(at + len)
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
            self.open(Open {
                from: start,
                class: Class::PrivateKey,
                until: Until::Putty { over_strings: false },
            });
        }
        let stop = end + stop.unwrap_or(rest.len());
        work::count(stop - end);
        self.text.reach(stop + PUTTY_END.len());
        let slashes = self.text.backslashes_before(stop).min(stop - end);
        self.push(Class::PrivateKey, start, stop - slashes);
        self.putty_end = stop;
        if self.text.bytes.get(stop) == Some(&b'"') {
            // Its lines may stand in strings of their own.
            if self.pem_pieces(stop, self.text.bytes.len()) == self.text.bytes.len() {
                let until = Until::Putty { over_strings: true };
                self.open(Open { from: start, class: Class::PrivateKey, until });
            }
        }
    }
}
