//! A text as somebody reads it who undoes escapes or skips white space, with the way back to where it stands.

use std::ops::Range;

/// Bytes made of other bytes.
#[derive(Debug, Clone)]
pub(super) struct View {
    bytes: Vec<u8>,
    marks: Vec<Mark>,
}

/// From `view` on, bytes are those of the source from `source` on; the first of them was written as so many.
#[derive(Debug, Clone, Copy)]
struct Mark {
    view: usize,
    source: usize,
    written: usize,
}

impl View {
    /// What it shows.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The source with the escapes of URLs, JSON and HTML undone; `None` when there are none.
    pub(super) fn unescaped(source: &[u8]) -> Option<Self> {
        if !source.iter().any(|byte| matches!(byte, b'%' | b'\\' | b'&')) {
            return None;
        }
        Self::read(source, |rest| unescape(rest).map(|(byte, written)| (Some(byte), written)))
    }

    /// The source without white space and characters that nobody sees; `None` when there are none.
    pub(super) fn unspaced(source: &[u8]) -> Option<Self> {
        Self::read(source, |rest| space(rest).map(|written| (None, written)))
    }

    /// `other` tells what is written at the beginning of what is left, and how long it is, where that is something else
    /// than the byte itself.
    fn read(source: &[u8], other: impl Fn(&[u8]) -> Option<(Option<u8>, usize)>) -> Option<Self> {
        let (mut bytes, mut marks) = (Vec::with_capacity(source.len()), Vec::new());
        let (mut at, mut is_off) = (0, false);
        while at < source.len() {
            match other(&source[at..]) {
                Some((Some(byte), written)) => {
                    marks.push(Mark { view: bytes.len(), source: at, written });
                    bytes.push(byte);
                    at += written;
                    is_off = true;
                }
                Some((None, written)) => {
                    at += written;
                    is_off = true;
                }
                None => {
                    if is_off {
                        marks.push(Mark { view: bytes.len(), source: at, written: 1 });
                        is_off = false;
                    }
                    bytes.push(source[at]);
                    at += 1;
                }
            }
        }
        (bytes.len() < source.len()).then_some(Self { bytes, marks })
    }

    /// Where a range of the view stands in its source.
    pub(super) fn source(&self, range: Range<usize>) -> Range<usize> {
        let (start, _) = self.byte(range.start);
        let (last, written) = self.byte(range.end.saturating_sub(1));
        start..last + written
    }

    fn byte(&self, at: usize) -> (usize, usize) {
        let after = self.marks.partition_point(|mark| mark.view <= at);
        match after.checked_sub(1).map(|before| self.marks[before]) {
            None => (at, 1),
            Some(mark) if mark.view == at => (mark.source, mark.written),
            Some(mark) => (mark.source + mark.written + (at - mark.view - 1), 1),
        }
    }
}

/// An escape at the beginning of `rest`: the byte it stands for, and its length.
fn unescape(rest: &[u8]) -> Option<(u8, usize)> {
    match rest {
        [b'%', high, low, ..] => Some((number(&[*high, *low], 16)?, 3)),
        [b'\\', b'u', digits @ ..] => Some((number(digits.get(..4)?, 16)?, 6)),
        [b'\\', b'x', high, low, ..] => Some((number(&[*high, *low], 16)?, 4)),
        [b'\\', byte @ (b'"' | b'\\' | b'/' | b'\''), ..] => Some((*byte, 2)),
        [b'\\', b'n' | b'r' | b't', ..] => Some((b'\n', 2)),
        [b'&', inner @ ..] => entity(inner),
        _ => None,
    }
}

fn entity(inner: &[u8]) -> Option<(u8, usize)> {
    const NAMES: [(&[u8], u8); 5] =
        [(b"amp", b'&'), (b"lt", b'<'), (b"gt", b'>'), (b"quot", b'"'), (b"apos", b'\'')];
    let end = inner.iter().take(8).position(|byte| *byte == b';')?;
    let byte = match &inner[..end] {
        [b'#', b'x' | b'X', digits @ ..] => number(digits, 16)?,
        [b'#', digits @ ..] => number(digits, 10)?,
        name => NAMES.iter().find(|(known, _)| known == &name)?.1,
    };
    Some((byte, end + 2))
}

/// A number that is an ASCII character.
fn number(digits: &[u8], radix: u32) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
    u32::from_str_radix(text, radix).ok().and_then(|n| u8::try_from(n).ok())
}

/// White space or an invisible character at the beginning of `rest`: its length.
fn space(rest: &[u8]) -> Option<usize> {
    const UNSEEN: [&[u8]; 7] = [
        "\u{200b}".as_bytes(),
        "\u{200c}".as_bytes(),
        "\u{200d}".as_bytes(),
        "\u{2060}".as_bytes(),
        "\u{feff}".as_bytes(),
        "\u{ad}".as_bytes(),
        "\u{a0}".as_bytes(),
    ];
    match rest.first()? {
        byte if byte.is_ascii_whitespace() => Some(1),
        byte if byte.is_ascii() => None,
        _ => UNSEEN.iter().find(|unseen| rest.starts_with(unseen)).map(|unseen| unseen.len()),
    }
}
