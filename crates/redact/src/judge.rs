//! Is this value a secret? Placeholders, prose, references, and what looks random.
//!
//! A name such as `password` is only half of the evidence; the value is the other half. The more explicit the
//! form (a JSON member, an assignment), the less is asked of the value. What is a reference to a secret
//! (`${VAR}`, `env://NAME`) or plainly not one (`changeme`, `required`) stays, since masking it would hide a mistake.
//! In doubt the value is masked.

use std::borrow::Cow;

use crate::ident::Strength;
use crate::mask::{credential_mask_len, mask_len};

/// How a name and its value are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A string member of an object: both quoted.
    Member,
    /// A quoted literal behind an unquoted name.
    Literal,
    /// `name=value`, `--name value`, `<name>value`.
    Assigned,
    /// `name: value`
    Colon,
    /// `the password is value`
    Said,
}

/// The shortest value, in characters, that is masked for its name alone.
const MIN_CHARS: usize = 4;

/// Of a longer value the first bytes are judged, which bounds the work.
const MAX_JUDGED: usize = 256;

/// Words that stand for a value or speak about it. A value that consists of them is a placeholder.
const FILLER: &[&str] = &[
    "a",
    "access",
    "add",
    "admin's",
    "an",
    "any",
    "api",
    "apikey",
    "auth",
    "bool",
    "boolean",
    "bytes",
    "change",
    "changed",
    "changeme",
    "char",
    "client",
    "credential",
    "credentials",
    "default",
    "disabled",
    "dummy",
    "empty",
    "enabled",
    "enter",
    "example",
    "expired",
    "fake",
    "false",
    "field",
    "filtered",
    "goes",
    "here",
    "hidden",
    "incorrect",
    "input",
    "insert",
    "int",
    "invalid",
    "is",
    "key",
    "masked",
    "me",
    "missing",
    "must",
    "my",
    "na",
    "nil",
    "no",
    "none",
    "not",
    "null",
    "number",
    "object",
    "omitted",
    "option",
    "optional",
    "passphrase",
    "passwd",
    "password",
    "placeholder",
    "private",
    "provided",
    "redacted",
    "removed",
    "replace",
    "required",
    "sample",
    "secret",
    "secretstring",
    "see",
    "set",
    "should",
    "some",
    "str",
    "string",
    "tbd",
    "text",
    "the",
    "this",
    "todo",
    "token",
    "true",
    "type",
    "undefined",
    "unknown",
    "unset",
    "use",
    "user",
    "value",
    "varchar",
    "with",
    "wrong",
    "yes",
    "you",
    "your",
];

/// Words that show a value of several words to be a sentence about secrets.
const PROSE: &[&str] = &[
    "be",
    "cannot",
    "characters",
    "contain",
    "does",
    "field",
    "incorrect",
    "invalid",
    "is",
    "least",
    "match",
    "missing",
    "must",
    "needs",
    "not",
    "optional",
    "please",
    "required",
    "should",
    "too",
    "valid",
];

/// Beginnings of references to a secret kept elsewhere.
const REFERENCES: &[&str] = &[
    "env://",
    "file://",
    "k8s://",
    "vault://",
    "op://",
    "arn:aws:",
    "secretref:",
    "process.env",
    "os.environ",
    "os.getenv",
    "env.",
    "secrets.",
    "self.",
    "this.",
];

/// Counts what ends at one place. Each name of `a=b=c=` and each prefix of `sk-sk-sk-` begins a value with the same
/// end: the first are judged, then all are taken for secrets, so a long run of them is not read again for each.
#[derive(Default)]
pub(crate) struct Crowd {
    end: usize,
    count: usize,
}

impl Crowd {
    /// How many are judged.
    const JUDGED: usize = 8;

    /// Adds one that ends at `end`; whether there are too many.
    pub(crate) fn add(&mut self, end: usize) -> bool {
        self.count = if self.end == end { self.count + 1 } else { 1 };
        self.end = end;
        self.count > Self::JUDGED
    }
}

/// Whether `value`, found behind a name of `strength` in `form`, is a secret. `is_alone`: nothing but the end of
/// the line or a delimiter follows it.
pub(crate) fn is_secret(strength: Strength, form: Form, value: &str, is_alone: bool) -> bool {
    let head = &value[..value.floor_char_boundary(MAX_JUDGED)];
    let rest = without(head, mask_len);
    if without(head, credential_mask_len).len() < head.len() {
        return !rest.trim().is_empty() || head.len() < value.len();
    }
    // Masks of other data neither make a secret nor hide one.
    let value = rest.as_ref();
    if value.chars().count() < MIN_CHARS || is_reference(value) || is_filler(value) || is_prose(value) {
        return false;
    }
    match (form, strength) {
        (Form::Member, _) => true,
        (_, Strength::Weak) => !is_path(value) && is_random(value, form),
        (Form::Literal, Strength::Strong) => true,
        (Form::Assigned, Strength::Strong) => !is_call(value),
        (Form::Colon, Strength::Strong) => is_alone || !value.bytes().all(|b| b.is_ascii_alphabetic()),
        (Form::Said, Strength::Strong) => value.chars().count() >= 6 && has_letter_and_digit(value),
    }
}

/// Whether a value behind a secret name in JSON is one: everything but placeholders and sentences.
pub(crate) fn is_secret_member(value: &str) -> bool {
    is_secret(Strength::Strong, Form::Member, value, true)
}

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

/// Whether `value` points to a secret (`${VAR}`, `<your-key>`, `{{ x }}`, `env://X`) or hides one (`****`).
pub(crate) fn is_reference(value: &str) -> bool {
    let value = value.trim();
    let within = |open: &str, close: &str| value.starts_with(open) && value.ends_with(close);
    let is_name = |t: &str| t.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    value.is_empty()
        || distinct(value.as_bytes()) <= value.len().min(4) / 2
        || ["${", "$(", "{{"].iter().any(|open| value.starts_with(open))
        || within("{", "}")
        || within("<", ">")
        || within("%", "%")
        || value.strip_prefix('$').is_some_and(is_name)
        || REFERENCES.iter().any(|reference| value.starts_with(reference))
}

/// Whether `value` is a reference or consists of redaction tags only.
pub(crate) fn is_masked_or_reference(value: &str) -> bool {
    is_reference(value) || without(value, mask_len).trim().is_empty()
}

fn is_filler(value: &str) -> bool {
    let mut words = value.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).peekable();
    value.len() <= 80
        && words.peek().is_some()
        && words.all(|word| (word.len() >= 3 && distinct(word.as_bytes()) == 1) || has_word(FILLER, word))
}

fn is_prose(value: &str) -> bool {
    value.contains(char::is_whitespace)
        && value.split(|c: char| !c.is_alphanumeric()).any(|word| has_word(PROSE, word))
}

fn has_word(list: &[&str], word: &str) -> bool {
    list.iter().any(|listed| listed.eq_ignore_ascii_case(word))
}

/// `get_password()`, `config.read(path)`: code, not a literal.
fn is_call(value: &str) -> bool {
    let name =
        value.bytes().take_while(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'.' | b':')).count();
    name >= 3 && value.as_bytes().get(name) == Some(&b'(') && (value.ends_with(')') || value.ends_with('('))
}

fn is_path(value: &str) -> bool {
    ["/", "./", "../", "~/", "http://", "https://"].iter().any(|start| value.starts_with(start))
}

fn has_letter_and_digit(value: &str) -> bool {
    value.chars().any(char::is_alphabetic) && value.bytes().any(|b| b.is_ascii_digit())
}

/// What is asked of a value behind a name such as `token`, which prose and code use for other things too.
fn is_random(value: &str, form: Form) -> bool {
    let head: Vec<u8> = value.bytes().take(256).collect();
    let is_date =
        head.len() >= 8 && head[..4].iter().all(u8::is_ascii_digit) && head[4] == b'-' && head[7] == b'-';
    if head.len() < 8 || is_date || value.contains(char::is_whitespace) || is_call(value) {
        return false;
    }
    let is_explicit = matches!(form, Form::Literal | Form::Assigned);
    let is_solid = head.iter().all(u8::is_ascii_alphabetic);
    (has_letter_and_digit(value) && distinct(&head) >= 5)
        || (is_explicit && is_solid && head.len() >= 16 && entropy(&head) >= 3.3)
}

/// Shannon's entropy of the bytes, in bits a byte.
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    bytes.iter().for_each(|b| counts[usize::from(*b)] += 1);
    let total = bytes.len() as f64;
    counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n) / total).map(|p| -p * p.log2()).sum()
}

/// How many different bytes there are among the first 256.
fn distinct(bytes: &[u8]) -> usize {
    let mut seen = [0_u64; 4];
    bytes.iter().take(256).for_each(|b| seen[usize::from(b >> 6)] |= 1 << (b & 63));
    seen.iter().map(|bits| bits.count_ones() as usize).sum()
}

/// `value` without the masks whose length `mask_len` tells.
fn without(value: &str, mask_len: fn(&[u8]) -> Option<usize>) -> Cow<'_, str> {
    if !value.contains('[') {
        return Cow::Borrowed(value);
    }
    let mut rest = String::new();
    let mut at = 0;
    while let Some(open) = value[at..].find('[').map(|n| at + n) {
        let len = mask_len(&value.as_bytes()[open..]);
        rest.push_str(&value[at..if len.is_some() { open } else { open + 1 }]);
        at = open + len.unwrap_or(1);
    }
    rest.push_str(&value[at..]);
    Cow::Owned(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_and_references_are_not_secrets() {
        for value in [
            "changeme",
            "CHANGE_ME",
            "xxxxxxxx",
            "********",
            "<your-key>",
            "${DB_PASSWORD}",
            "$DB_PASSWORD",
            "null",
            "your-api-key-here",
            "example",
            "env://OPENAI_API_KEY",
            "{{ secrets.KEY }}",
            "[SECRET]",
            "%PASS%",
            "must be at least 8 characters",
            "abc",
            "",
            "….",
        ] {
            assert!(!is_secret_member(value), "{value}");
        }
        for value in ["hunter2", "correct horse battery staple", "[SECRET]tail", "$ecret1", "密碼一二三"]
        {
            assert!(is_secret_member(value), "{value}");
        }
    }

    #[test]
    fn entropy_is_shannon_s() {
        assert!((entropy(b"abcd") - 2.0).abs() < 1e-9);
        assert!(entropy(b"aaaa").abs() < 1e-9);
    }
}
