//! What looks random, in measures: variety of characters, turns between their kinds, letters that make no words.
//!
//! None of them is certain. A value made by chance looks like words once in a while, and a constant looks random;
//! who asks knows how much else speaks for a secret.

use crate::judge::MAX_JUDGED;

/// Whether the characters behind a vendor's prefix are a token and not `xxxx` or words.
pub(crate) fn is_token_like(body: &[u8]) -> bool {
    let body = &body[..body.len().min(MAX_JUDGED)];
    let has = |test: fn(&u8) -> bool| body.iter().any(test);
    let varied = has(u8::is_ascii_digit) || (has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase));
    // AWS key ids are capitals and a few digits, in rare cases none.
    let capitals = body.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    distinct(body) >= 6 && (varied || capitals)
}

/// Whether `body` has capitals, small letters, digits and the variety of random base64.
pub(crate) fn is_mixed(body: &[u8]) -> bool {
    let has = |test: fn(&u8) -> bool| body.iter().any(test);
    has(u8::is_ascii_digit)
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && distinct(body) >= 14
}

/// Whether a value has a letter of any script and a digit.
pub(crate) fn has_letter_and_digit(value: &str) -> bool {
    value.chars().any(char::is_alphabetic) && value.bytes().any(|b| b.is_ascii_digit())
}

/// Whether letters around a sign are no words: `geqbOG+FIrgiTd`, which has no digit by chance. `least`: how many of
/// what the capitals make of it must not be words.
pub(crate) fn is_jumbled(value: &str, least: usize) -> bool {
    let is_sign = |b: u8| b"@^+~!#$%&*?=/".contains(&b);
    let letters = value.bytes().filter(u8::is_ascii_alphabetic).count();
    let signs = value.bytes().filter(|b| is_sign(*b)).count();
    (10..=64).contains(&value.len())
        && letters + signs == value.len()
        && (1..=3.max(value.len() / 8)).contains(&signs)
        && value.split(|c: char| !c.is_ascii_alphabetic()).map(no_words).sum::<usize>() >= least
}

/// Abbreviations that are no sign of chance.
const USUAL: &[&str] = &[
    "as", "at", "btn", "by", "cfg", "cmd", "cpp", "css", "ctx", "db", "dns", "fn", "ftp", "grpc", "hdr",
    "html", "http", "https", "id", "in", "io", "ip", "is", "jwt", "mgr", "msg", "my", "no", "of", "ok", "on",
    "os", "pdf", "png", "ptr", "pwd", "rgb", "rpc", "sftp", "smtp", "sql", "src", "ssh", "ssl", "std", "str",
    "tcp", "tls", "tmp", "to", "ui", "xml",
];

/// How many of the words that capitals make of `letters` are none: of one or two letters, or without a vowel.
fn no_words(letters: &str) -> usize {
    let bytes = letters.as_bytes();
    let is_capital = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_uppercase);
    let is_small = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_lowercase);
    // A word begins with a capital behind a small letter, and with the last of several capitals.
    let begins = |at: &usize| is_capital(*at) && (is_small(at - 1) || is_small(at + 1));
    let is_vowel = |b: u8| b"aeiouyAEIOUY".contains(&b);
    let mut start = 0;
    let ends = (1..bytes.len()).filter(begins).chain([bytes.len()]);
    ends.filter(|end| {
        let word = &letters[std::mem::replace(&mut start, *end)..*end];
        let is_short = (1..=2).contains(&word.len()) || !word.bytes().any(is_vowel);
        !word.is_empty() && is_short && !USUAL.iter().any(|usual| usual.eq_ignore_ascii_case(word))
    })
    .count()
}

/// How often capitals, small letters and digits take turns; a capital at the beginning of a word does not count.
pub(crate) fn changes(bytes: &[u8]) -> usize {
    let kind = |b: u8| (b.is_ascii_uppercase(), b.is_ascii_lowercase(), b.is_ascii_digit());
    let is_change = |pair: &[u8]| {
        kind(pair[0]) != kind(pair[1]) && !(pair[0].is_ascii_uppercase() && pair[1].is_ascii_lowercase())
    };
    bytes.windows(2).filter(|pair| is_change(pair)).count()
}

/// Shannon's entropy of the bytes, in bits a byte.
pub(crate) fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    bytes.iter().for_each(|b| counts[usize::from(*b)] += 1);
    let total = bytes.len() as f64;
    counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n) / total).map(|p| -p * p.log2()).sum()
}

/// How many different bytes there are among the first 256.
pub(crate) fn distinct(bytes: &[u8]) -> usize {
    let mut seen = [0_u64; 4];
    bytes.iter().take(256).for_each(|b| seen[usize::from(b >> 6)] |= 1 << (b & 63));
    seen.iter().map(|bits| bits.count_ones() as usize).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_shannon_s() {
        assert!((entropy(b"abcd") - 2.0).abs() < 1e-9);
        assert!(entropy(b"aaaa").abs() < 1e-9);
    }
}
