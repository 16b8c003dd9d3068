//! Text in base64: one layer is taken off, and a run that holds a secret is masked whole.
//!
//! A run is 20 or more characters of either alphabet, also broken into lines as mail and certificates are. It is
//! decoded only if it begins as text does, which random bytes rarely do; of what is text at first and then is not, the
//! text is read. The beginning is tried at four places, since a path or a word may be glued to the front.

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::work;

/// The shortest run that is looked at: 15 bytes of text, which a card number has.
const MIN_RUN: usize = 20;
/// The shortest line of a run that goes on in the next one.
const MIN_LINE: usize = 60;
/// Characters decoded to see whether a run begins as text.
const PROBE: usize = 12;
/// At how many places the beginning is tried.
pub(crate) const MAX_OFFSET: usize = 4;

const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);

const fn engine(alphabet: &Alphabet) -> GeneralPurpose {
    GeneralPurpose::new(alphabet, CONFIG)
}

const PLAIN: GeneralPurpose = engine(&STANDARD);
const URL: GeneralPurpose = engine(&URL_SAFE);

/// A run of base64 that decodes to text.
pub(crate) struct Encoded {
    /// Where the run stands, padding included.
    pub(crate) start: usize,
    /// The byte behind it.
    pub(crate) end: usize,
    /// What it says.
    pub(crate) text: String,
}

/// The runs of base64 in `text` that are long enough to say something, in order.
pub(crate) fn long_runs(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        next_run(bytes, at).map(|start| {
            at = run_end(bytes, start);
            work::count(at - start);
            (start, at)
        })
    })
}

/// Where the first run of [`MIN_RUN`] characters or more begins, at or after `from`, which is in the middle of none.
/// Its characters are tested from the last to the first: of other text most bytes are never looked at.
fn next_run(bytes: &[u8], from: usize) -> Option<usize> {
    let mut start = from;
    while let Some(run) = bytes.get(start..start + MIN_RUN) {
        match run.iter().rposition(|b| !is_base64(*b)) {
            Some(other) => start += other + 1,
            None => return Some(start),
        }
    }
    None
}

/// Where the run begins that may go on behind the end of `text` and may say something; none if the last is decided.
pub(crate) fn open_run(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut start = bytes.len() - tail_len(bytes);
    // Full lines before it belong to it.
    while let Some(before) = line_before(bytes, start) {
        start = before;
    }
    let run = &bytes[start..];
    (!run.is_empty() && (run.len() < PROBE + 3 || (0..MAX_OFFSET).any(|offset| begins_text(run, offset))))
        .then_some(start)
}

/// The length of what may be the last line of a run, with padding or a line break behind it.
fn tail_len(bytes: &[u8]) -> usize {
    let count = |end: usize, test: fn(u8) -> bool, max: usize| {
        bytes[..end].iter().rev().take(max).take_while(|b| test(**b)).count()
    };
    let space = count(bytes.len(), |b| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | b'\\'), 68);
    let has_break = bytes[bytes.len() - space..].iter().any(|b| matches!(b, b'\n' | b'\r' | b'\\'));
    let behind = if has_break { space } else { 0 };
    let padding = count(bytes.len() - behind, |b| b == b'=', 2);
    let line = count(bytes.len() - behind - padding, is_base64, usize::MAX);
    // A shorter line is the last of a run, whatever follows.
    if line == 0 || (behind > 0 && line < MIN_LINE) { 0 } else { line + padding + behind }
}

/// Where the line begins that goes on in the one at `start`.
fn line_before(bytes: &[u8], start: usize) -> Option<usize> {
    let blank = |b: &&u8| matches!(**b, b' ' | b'\t');
    let indented = start - bytes[..start].iter().rev().take(64).take_while(blank).count();
    let end = ["\r\n", "\n", "\\r\\n", "\\n"]
        .iter()
        .find_map(|b| bytes[..indented].ends_with(b.as_bytes()).then(|| indented - b.len()))?;
    let line = bytes[..end].iter().rev().take_while(|b| is_base64(**b)).count();
    (line >= MIN_LINE).then_some(end - line)
}

/// Whether a byte is of one of the alphabets: a table, since it is asked for a fourth of all bytes of a text.
static IS_BASE64: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_');
        byte += 1;
    }
    table
};

pub(crate) fn is_base64(byte: u8) -> bool {
    IS_BASE64[usize::from(byte)]
}

/// The end of the run that begins at `at`, over line breaks where full lines of equal length follow each other.
fn run_end(bytes: &[u8], at: usize) -> usize {
    let line_end = |from: usize| from + bytes[from..].iter().take_while(|b| is_base64(**b)).count();
    let mut line = at;
    let mut end = line_end(at);
    loop {
        let next = end + line_break(&bytes[end..]);
        let is_full = line != at || end - line >= MIN_LINE;
        let padding = bytes[line_end(next)..].iter().take(2).take_while(|b| **b == b'=').count();
        if next == end || !is_full || line_end(next) + padding < next + 4 {
            return end;
        }
        let (before, length) = (end - line, line_end(next) - next);
        if line != at && length > before {
            return end;
        }
        (line, end) = (next, next + length);
        if length < MIN_LINE {
            return end;
        }
    }
}

/// The length of a line break and the blanks behind it; of an escaped one too.
fn line_break(rest: &[u8]) -> usize {
    let breaks: [&[u8]; 4] = [b"\r\n", b"\n", b"\\r\\n", b"\\n"];
    let Some(len) = breaks.iter().find(|b| rest.starts_with(b)).map(|b| b.len()) else { return 0 };
    len + rest[len..].iter().take(64).take_while(|b| matches!(b, b' ' | b'\t')).count()
}

/// What the run `start..end` says, if it decodes to text.
pub(crate) fn decode(bytes: &[u8], start: usize, end: usize) -> Option<Encoded> {
    let run = &bytes[start..end];
    let offset = (0..MAX_OFFSET).find(|offset| begins_text(run, *offset))?;
    let mut chars: Vec<u8> = run[offset..].iter().copied().filter(|b| is_base64(*b)).collect();
    if let Some(broken) = run.windows(2).position(|pair| pair == b"\\n" || pair == b"\\r") {
        // The letters of escaped line breaks are not part of it.
        let rest = String::from_utf8_lossy(&run[offset.min(broken)..]).replace("\\r", "").replace("\\n", "");
        chars = rest.bytes().filter(|b| is_base64(*b)).collect();
    }
    chars.truncate(chars.len() - usize::from(chars.len() % 4 == 1));
    let decoded = decode_as_far_as_possible(&chars)?;
    let valid = match std::str::from_utf8(&decoded) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&decoded[..error.valid_up_to()]).unwrap_or_default(),
    };
    let padding = bytes[end..].iter().take(2).take_while(|b| **b == b'=').count();
    let text = valid.to_owned();
    (text.len() >= PROBE).then_some(Encoded { start: start + offset, end: end + padding, text })
}

/// Whether the characters from `offset` on decode to text.
fn begins_text(run: &[u8], offset: usize) -> bool {
    let mut head = [0; PROBE];
    run.get(offset..offset + PROBE).is_some_and(|chars| {
        let is_decoded = engine_of(chars).decode_slice(chars, &mut head).is_ok();
        is_decoded && is_text(&head[..PROBE / 4 * 3])
    })
}

/// The alphabet in which `chars` are, by the signs that differ.
fn engine_of(chars: &[u8]) -> &'static GeneralPurpose {
    if chars.iter().any(|b| matches!(b, b'-' | b'_')) { &URL } else { &PLAIN }
}

/// A run may mix both alphabets where two of them were glued together; then only its beginning is read.
fn decode_as_far_as_possible(chars: &[u8]) -> Option<Vec<u8>> {
    let engine = engine_of(chars);
    engine.decode(chars).ok().or_else(|| {
        let other: &[u8] = if std::ptr::eq(engine, &URL) { b"+/" } else { b"-_" };
        let len = chars.iter().position(|b| other.contains(b))?;
        engine_of(&chars[..len]).decode(&chars[..len - len % 4]).ok()
    })
}

/// Whether `head` begins a text: characters that can be seen, or white space; the last one may be cut.
fn is_text(head: &[u8]) -> bool {
    let whole = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    whole.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        let decoded = |(start, end)| decode(text.as_bytes(), start, end);
        long_runs(text).filter_map(decoded).map(|found| found.text).collect()
    }

    #[test]
    fn runs_are_found_wherever_they_begin() {
        let secret = "the password is Hunter2Hunter";
        for shift in 0..60 {
            let text = format!("{} {} end", ".".repeat(shift), PLAIN.encode(secret));
            assert_eq!(texts(&text), [secret], "{shift}");
        }
    }

    #[test]
    fn lines_and_glued_words_do_not_hide_it() {
        let secret =
            "a long text with a secret in the middle of it: password=Hunter2Hunter and more text behind it";
        let whole = PLAIN.encode(secret);
        for line_break in ["\n", "\r\n", "\n  ", "\\n"] {
            let lines: Vec<&str> =
                whole.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).expect("ASCII")).collect();
            let text = format!("data: {}\n", lines.join(line_break));
            assert_eq!(texts(&text), [secret], "{line_break:?}");
        }
        assert_eq!(texts(&format!("/a/{whole}")), [secret]);
        assert_eq!(texts(&URL.encode(secret)), [secret]);
    }

    #[test]
    fn what_is_no_text_is_not_decoded() {
        let binary: Vec<u8> =
            (0..600_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x80).collect();
        let text =
            format!("{} /usr/lib/python3/dist-packages/requests {}", PLAIN.encode(&binary), "ab".repeat(30));
        assert_eq!(texts(&text), Vec::<String>::new());
    }
}
