//! What a text says to a reader who decodes it: escapes, percent signs, full-width, typographic and invisible characters.
//!
//! A secret written `\u0067hp_…`, `ghp%5F…` or with a zero-width space inside is none to a scanner of bytes. Around
//! every such spelling a window of the text is decoded and scanned as well; what is found there is masked in the
//! original, whole escapes at a time, so that a document stays one.
//! Windows keep the cost where the spellings are. Chinese punctuation is full-width by nature and is left alone:
//! only what stands for a letter, a digit or a sign that tokens hold is decoded.
//! Invariants: one layer of each kind; linear time; every place of a window maps to whole characters of the text.

use memchr::{memchr2_iter, memchr3_iter};

use crate::work;

/// Bytes on both sides of a spelling that are read with it: the longest name and value that are looked at, and room.
const AROUND: usize = 1024;
/// Beyond that a window grows to the next white space, at most by so much.
const TO_BORDER: usize = 256;
/// How far from a spelling a change may alter what is read with it.
pub(crate) const REACH: usize = AROUND + TO_BORDER + 8;
/// The longest run of percent escapes that is decoded together, in characters of UTF-8 (3 bytes each in the text).
const MAX_PERCENT_RUN: usize = 4;
/// The longest spelling without its backslashes but one, in bytes.
const MAX_SPELLING: usize = 3 * MAX_PERCENT_RUN;

/// A part of a text, decoded.
pub(crate) struct View {
    /// What it says.
    pub(crate) text: String,
    /// Where its pieces come from, by position.
    pieces: Vec<Piece>,
    /// Where it is in the original.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A stretch that was copied as it is, or one decoded character.
struct Piece {
    /// First byte in the view.
    at: usize,
    /// First byte in the original.
    from: usize,
    /// Bytes in the original when this is a decoded character, else 0.
    decoded_len: usize,
}

/// A spelling at some place of a text: the character it stands for, if any, and its bytes.
struct Spelling {
    stands_for: Option<char>,
    start: usize,
    len: usize,
}

impl View {
    /// The part of the original that `start..end` of the view came from, in whole characters.
    pub(crate) fn in_original(&self, start: usize, end: usize) -> (usize, usize) {
        let piece = |at: usize| &self.pieces[self.pieces.partition_point(|piece| piece.at <= at).max(1) - 1];
        let first = piece(start);
        let from = if first.decoded_len > 0 { first.from } else { first.from + (start - first.at) };
        let last = piece(end.saturating_sub(1).max(start));
        let to = match last.decoded_len {
            0 => last.from + (end - last.at),
            len => last.from + len,
        };
        (from, to)
    }

    fn of(text: &str, spellings: &[Spelling], start: usize, end: usize) -> View {
        work::count(end - start);
        let mut view = View { text: String::with_capacity(end - start), pieces: Vec::new(), start, end };
        let mut copied = start;
        for spelling in spellings {
            view.copy(text, copied, spelling.start);
            if let Some(c) = spelling.stands_for {
                let (at, from) = (view.text.len(), spelling.start);
                view.pieces.push(Piece { at, from, decoded_len: spelling.len });
                view.text.push(c);
            }
            copied = spelling.start + spelling.len;
        }
        view.copy(text, copied, end);
        view
    }

    fn copy(&mut self, text: &str, from: usize, to: usize) {
        if from < to {
            self.pieces.push(Piece { at: self.text.len(), from, decoded_len: 0 });
            self.text.push_str(&text[from..to]);
        }
    }
}

/// The decoded windows of `text`, in order, of whose places `is_wanted` approves; none if nothing in it is spelled in
/// another way.
pub(crate) fn windows(text: &str, is_wanted: impl Fn(usize, usize) -> bool) -> impl Iterator<Item = View> {
    let spellings = spellings(text);
    let mut next = 0;
    std::iter::from_fn(move || {
        loop {
            let first = spellings.get(next)?;
            let start = back_to_border(text, first.start);
            let begin = next;
            let mut solid = 0;
            let mut end = ahead_to_border(text, first.start + first.len, &mut solid);
            while let Some(spelling) = spellings.get(next).filter(|spelling| spelling.start < end) {
                let reach = (spelling.start + spelling.len + AROUND).min(text.len());
                if reach > end {
                    end = ahead_to_border(text, spelling.start + spelling.len, &mut solid);
                }
                next += 1;
            }
            if is_wanted(start, end) {
                return Some(View::of(text, &spellings[begin..next], start, end));
            }
        }
    })
}

/// `value` decoded, for comparing it with others.
pub(crate) fn decoded(value: &str) -> String {
    View::of(value, &spellings(value), 0, value.len()).text
}

/// Where the last bytes of `text` begin a spelling that is not whole, or its end.
pub(crate) fn partial(text: &str) -> usize {
    let bytes = text.as_bytes();
    let near = bytes.len().saturating_sub(MAX_SPELLING);
    let slash = bytes[near..].iter().rposition(|b| *b == b'\\').map(|n| near + n);
    let is_partial = |at: &usize| {
        let digits = |from: usize, wanted: usize| {
            let rest = &bytes[from.min(bytes.len())..];
            rest.len() < wanted && rest.iter().all(u8::is_ascii_hexdigit)
        };
        match bytes.get(at + 1) {
            None => true,
            Some(b'u') => digits(at + 2, 4),
            Some(b'x') => digits(at + 2, 2),
            Some(_) => false,
        }
    };
    let slash =
        slash.filter(is_partial).map(|at| at - bytes[..at].iter().rev().take_while(|b| **b == b'\\').count());
    // Percent escapes may be parts of one character.
    let is_percent = |tail: &[u8]| {
        let (first, rest) = (tail[0], &tail[1..]);
        first == b'%' && rest.iter().all(|b| *b == b'%' || b.is_ascii_hexdigit())
    };
    let percent = (near..bytes.len()).find(|at| is_percent(&bytes[*at..]));
    // What follows these tells whether they stand for a sign.
    let wide =
        text.chars().next_back().filter(|c| matches!(c, '：' | '（')).map(|c| bytes.len() - c.len_utf8());
    slash.into_iter().chain(percent).chain(wide).min().unwrap_or(bytes.len())
}

fn back_to_border(text: &str, at: usize) -> usize {
    let near = text.floor_char_boundary(at.saturating_sub(AROUND));
    let far = text.floor_char_boundary(near.saturating_sub(TO_BORDER));
    text[far..near].rfind(char::is_whitespace).map_or(near, |n| far + n)
}

/// `solid`: up to where no white space stands from the last border on, so that no byte is looked at twice.
fn ahead_to_border(text: &str, at: usize, solid: &mut usize) -> usize {
    let near = text.floor_char_boundary((at + AROUND).min(text.len()));
    let far = text.floor_char_boundary((near + TO_BORDER).min(text.len()));
    let from = (*solid).clamp(near, far);
    work::count(far - from);
    let border = text[from..far].find(char::is_whitespace).map(|n| from + n);
    *solid = border.unwrap_or(far);
    border.unwrap_or(near)
}

/// Everything in `text` that is spelled in another way, by position.
fn spellings(text: &str) -> Vec<Spelling> {
    let mut found = escapes(text);
    let bytes = text.as_bytes();
    let before = found.len();
    // U+00AD; U+200B-U+2064; U+FEFF, U+FE00-U+FE0F and U+FF01-U+FF5E.
    found.extend(memchr3_iter(0xc2, 0xe2, 0xef, bytes).filter_map(|at| wide_or_invisible(text, at)));
    if before > 0 && before < found.len() {
        found.sort_by_key(|spelling| spelling.start);
    }
    found
}

/// `\u0041`, `\x41` and `%41`.
fn escapes(text: &str) -> Vec<Spelling> {
    let bytes = text.as_bytes();
    let mut found: Vec<Spelling> = Vec::new();
    let mut done = 0;
    for at in memchr2_iter(b'%', b'\\', bytes) {
        if at < done {
            continue;
        }
        let before = found.len();
        if bytes[at] == b'%' {
            percent(bytes, at, &mut found);
        } else {
            found.extend(backslash(bytes, at));
        }
        if let Some(last) = found[before..].last() {
            done = last.start + last.len;
        } else if bytes[at] == b'\\' {
            done = at + bytes[at..].iter().take_while(|b| **b == b'\\').count();
        }
    }
    found
}

/// `\uXXXX`, a pair of surrogates, or `\xXX`; any number of backslashes belongs to it, since in a string within a
/// string each is doubled and half of them would break the document.
fn backslash(bytes: &[u8], start: usize) -> Option<Spelling> {
    let slashes = bytes[start..].iter().take_while(|b| **b == b'\\').count();
    let kind = start + slashes;
    let (digits, c) = match bytes.get(kind)? {
        b'u' => (4, u32::from(hex(bytes, kind + 1, 4)?)),
        b'x' => (2, u32::from(hex(bytes, kind + 1, 2)?)),
        _ => return None,
    };
    let end = kind + 1 + digits;
    let spelling = |stands_for, end| Some(Spelling { stands_for, start, len: end - start });
    if (0xd800..0xdc00).contains(&c) {
        let low = end + bytes[end..].iter().take_while(|b| **b == b'\\').count();
        let pair = (low > end && bytes.get(low) == Some(&b'u')).then(|| hex(bytes, low + 1, 4)).flatten();
        let low_value = u32::from(pair.filter(|unit| (0xdc00..0xe000).contains(unit))?);
        let c = char::from_u32(0x10000 + ((c - 0xd800) << 10) + (low_value - 0xdc00))?;
        return spelling(plain(c), low + 5);
    }
    spelling(plain(char::from_u32(c)?), end)
}

/// A run of percent escapes at `start`, a spelling a character.
fn percent(bytes: &[u8], start: usize, found: &mut Vec<Spelling>) {
    let mut buffer = [0; MAX_PERCENT_RUN];
    let mut len = 0;
    while len < MAX_PERCENT_RUN && bytes.get(start + 3 * len) == Some(&b'%') {
        let Some(byte) = hex(bytes, start + 3 * len + 1, 2) else { break };
        buffer[len] = byte.to_le_bytes()[0];
        len += 1;
    }
    let valid = match std::str::from_utf8(&buffer[..len]) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&buffer[..error.valid_up_to()]).unwrap_or_default(),
    };
    if let Some(c) = valid.chars().next() {
        found.push(Spelling {
            stands_for: separator(c).or_else(|| wide_sign(c)).or_else(|| plain(c)),
            start,
            len: 3 * c.len_utf8(),
        });
    }
}

fn hex(bytes: &[u8], at: usize, digits: usize) -> Option<u16> {
    let digits = bytes.get(at..at + digits)?;
    digits.iter().try_fold(0, |value, b| {
        let digit = char::from(*b).to_digit(16)?;
        Some((value << 4) | u16::try_from(digit).ok()?)
    })
}

/// A full-width, typographic or invisible character whose first byte is at `at`.
#[inline]
fn wide_or_invisible(text: &str, at: usize) -> Option<Spelling> {
    let bytes = text.as_bytes();
    // Most of what begins with these bytes is punctuation; it is told apart without decoding.
    let (second, third) = (*bytes.get(at + 1)?, bytes.get(at + 2).copied().unwrap_or(0));
    let is_candidate = match bytes[at] {
        0xc2 => matches!(second, 0xa0 | 0xad),
        0xe2 => match second {
            0x80 => matches!(third, 0x80..=0x95 | 0xaa..=0xaf),
            0x81 => third >= 0xa0,
            _ => (second, third) == (0x88, 0x92),
        },
        _ => matches!(second, 0xb8 | 0xbb | 0xbc | 0xbd),
    };
    let c = is_candidate.then(|| text[at..].chars().next()).flatten()?;
    let before = text[..at].chars().next_back();
    let stands_for = match c {
        // As punctuation these stand in every other line; they are signs where a token is spelled so.
        '：' | '％' | '（' | '）' => {
            let after = text[at + c.len_utf8()..].chars().next();
            let joins = match c {
                '（' => after.is_some_and(is_wide_digit),
                '）' => before.is_some_and(is_wide_digit),
                '：' if after == Some('：') => true,
                _ => before.is_some_and(|b| is_wide_word(b) || b == '：'),
            };
            if joins { wide_sign(c) } else { Some(c) }
        }
        c => match separator(c) {
            Some(plain) if before.is_some_and(|b| joins_groups(b, plain)) => Some(plain),
            Some(_) => Some(c),
            None => plain(c),
        },
    };
    (stands_for != Some(c)).then_some(Spelling { stands_for, start: at, len: c.len_utf8() })
}

fn is_wide_word(c: char) -> bool {
    matches!(c, '０'..='９' | 'Ａ'..='Ｚ' | 'ａ'..='ｚ')
}

/// The sign that one of the wide signs stands for which Chinese text uses too.
fn wide_sign(c: char) -> Option<char> {
    matches!(c, '：' | '％' | '（' | '）').then(|| char::from_u32(u32::from(c) - 0xfee0)).flatten()
}

fn is_wide_digit(c: char) -> bool {
    ('０'..='９').contains(&c)
}

/// Whether a finer sign for `plain` that stands behind `before` may part groups of a number: behind the brackets of
/// an area code, behind `ext.` and behind `分機` only a blank.
fn joins_groups(before: char, plain: char) -> bool {
    before.is_ascii_alphanumeric()
        || is_wide_word(before)
        || (plain == ' ' && (before.is_alphabetic() || matches!(before, ')' | '）' | '.')))
}

/// The sign between groups of a number for which typesetters have finer ones.
fn separator(c: char) -> Option<char> {
    match c {
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' => Some(' '),
        '\u{2010}'..='\u{2015}' | '\u{2212}' => Some('-'),
        _ => None,
    }
}

/// The character that `c` stands for: `None` if it cannot be seen.
fn plain(c: char) -> Option<char> {
    match c {
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => None,
        '\u{fe00}'..='\u{fe0f}' | '\u{feff}' => None,
        '０'..='９' | 'Ａ'..='Ｚ' | 'ａ'..='ｚ' | '＠' | '．' | '＿' | '－' | '＋' | '／' | '＝' | '～' => {
            char::from_u32(u32::from(c) - 0xfee0)
        }
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        windows(text, |_, _| true).map(|view| view.text).collect()
    }

    #[test]
    fn every_spelling_is_read() {
        for (text, says) in [
            (r"\u0041\u0042", "AB"),
            (r"a\\u0041b", "aAb"),
            (r"\x41\x42", "AB"),
            (r"\ud83d\ude00 \u5bc6", "😀 密"),
            ("ann%40example%2Eorg", "ann@example.org"),
            ("%E5%AF%86%E7%A2%BC%3D1", "密碼=1"),
            ("%EF%BC%9A%EF%BC%91%EF%BC%88", ":1("),
            ("４１１１－１１", "4111-11"),
            ("4111\u{2009}1111\u{2011}22", "4111 1111-22"),
            ("２００１：ｄｂ８：：１", "2001:db8::1"),
            ("gh\u{200b}p_\u{feff}x\u{ad}y\u{2060}z", "ghp_xyz"),
        ] {
            assert_eq!(read(text), says, "{text}");
            assert_eq!(decoded(text), says);
        }
        for text in
            ["", "100% of 5%", r"\n \ud83d \u12 \xg", "密碼：一二三，“好”…", "好 – 不好", "%E5%", "%zz"]
        {
            assert_eq!(read(text), "", "{text}");
        }
    }

    #[test]
    fn a_place_of_the_view_is_whole_characters_of_the_text() {
        let text = r"x \u0041bc%44 ｅf";
        let view = windows(text, |_, _| true).next().expect("there is one");
        assert_eq!(view.text, "x AbcD ef");
        let original = |part: &str| {
            let start = view.text.find(part).expect("it is there");
            let (from, to) = view.in_original(start, start + part.len());
            text[from..to].to_owned()
        };
        for (part, from) in
            [("A", r"\u0041"), ("bc", "bc"), ("AbcD", r"\u0041bc%44"), ("cD e", "c%44 ｅ"), ("ef", "ｅf")]
        {
            assert_eq!(original(part), from);
        }
    }

    #[test]
    fn windows_lie_around_the_spellings_and_do_not_overlap() {
        let far = "word ".repeat(2000);
        let text = format!("{far}a%41 {far}b%42 c%43 {far}");
        let views: Vec<View> = windows(&text, |_, _| true).collect();
        assert_eq!(views.len(), 2);
        assert!(views.iter().all(|view| view.text.len() < 3 * (AROUND + TO_BORDER)));
        assert!(views[1].text.contains("bB cC"));
    }
}
