//! Is this value a secret? Placeholders, prose, references, and what looks random.
//!
//! A name such as `password` is only half of the evidence; the value is the other half. The more explicit the
//! form (a JSON member, an assignment), the less is asked of the value. What is a reference to a secret
//! (`${VAR}`, `env://NAME`) or plainly not one (`changeme`, `required`) stays, since masking it would hide a mistake.
//! In doubt the value is masked.

use std::borrow::Cow;

use crate::ident::{self, Strength};
use crate::mask::{credential_mask_len, mask_len};
use crate::random::{changes, distinct, entropy, has_letter_and_digit, is_jumbled, is_mixed};

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
    /// A string of a list that a name stands for: `"tokens": ["value"]`
    Item,
    /// The string that a call or a pair of strings gives a name: `setPassword("value")`, `("password", "value")`
    Argument,
    /// `password value`, `(access token value)`, `| password | value |`
    Beside,
}

/// The shortest value, in characters, that is masked for its name alone.
const MIN_CHARS: usize = 4;

/// Of a longer value the first bytes are judged, which bounds the work.
pub(crate) const MAX_JUDGED: usize = 256;

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
    "are",
    "be",
    "been",
    "can",
    "can't",
    "cannot",
    "characters",
    "contain",
    "denied",
    "does",
    "expired",
    "failed",
    "field",
    "found",
    "has",
    "have",
    "incorrect",
    "invalid",
    "is",
    "least",
    "longer",
    "malformed",
    "match",
    "mismatch",
    "missing",
    "must",
    "needs",
    "not",
    "optional",
    "please",
    "required",
    "revoked",
    "should",
    "too",
    "unauthorized",
    "used",
    "valid",
    "was",
    "will",
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
    let value = half_width(&rest);
    let is_wide = rest.contains(|c: char| ('！'..='～').contains(&c)) && value.is_ascii();
    let value = value.as_ref();
    if value.chars().count() < MIN_CHARS || is_reference(value) || is_filler(value) || is_prose(value) {
        return false;
    }
    match (form, strength) {
        (Form::Member, _) => true,
        // Nobody writes words in full width.
        (Form::Beside, _) => is_beside(value) || (is_wide && value.len() >= 8 && has_letter_and_digit(value)),
        (_, Strength::Weak) => !is_path(value) && is_random(value, form),
        (Form::Literal | Form::Item, Strength::Strong) => true,
        (Form::Assigned, Strength::Strong) => !is_call(value),
        (Form::Colon, Strength::Strong) => {
            let is_word = value.trim_start_matches(['*', '&']).bytes().all(|b| b.is_ascii_alphabetic());
            (is_alone || !is_word) && !is_call(value)
        }
        (Form::Said | Form::Argument, Strength::Strong) => {
            let is_mixed = value.chars().count() >= 6 && has_letter_and_digit(value);
            (is_mixed || is_jumbled(value, 1)) && !is_call(value)
        }
    }
}

/// Whether a value behind a secret name in JSON is one: everything but placeholders and sentences.
pub(crate) fn is_secret_member(value: &str) -> bool {
    is_secret(Strength::Strong, Form::Member, value, true)
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
        || is_code(value)
}

/// `pkcs8::KeyRef`, `vec![0u8]`, `token1.clone()`, `other.dot2_token`: a path of identifiers that leads to something.
fn is_code(value: &str) -> bool {
    let is_identifier = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let path = value.bytes().take_while(|b| is_identifier(b) || matches!(b, b'.' | b':')).count();
    let (path, rest) = value.split_at(path);
    let mut names = path.split(['.', ':']);
    if path.is_empty() || path.starts_with(|c: char| c.is_ascii_digit()) {
        return false;
    }
    let is_dotted =
        path.contains('.') && names.all(|name| name.contains(|c: char| c.is_ascii_alphabetic() || c == '_'));
    let leads_to_name = || path.rsplit('.').next().is_some_and(|name| ident::judge(name).is_some());
    path.contains("::") && !path.replace("::", "").contains(':')
        || rest.starts_with("![")
        || (rest.starts_with('[') && rest.ends_with(']'))
        || rest.starts_with("!(")
        || (is_dotted && (rest.starts_with('(') || (rest.is_empty() && leads_to_name())))
}

/// A path or an address; base64 that begins with a slash is none.
fn is_path(value: &str) -> bool {
    // a key in base64 may begin with a slash
    let bytes = value.as_bytes();
    let is_base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    let is_key = (value.len() == 40 && bytes.iter().all(is_base64))
        || (value.len() >= 20 && (value.contains('+') || value.ends_with('=')));
    let is_drive = bytes.len() > 2 && bytes[0].is_ascii_alphabetic() && bytes[1..3] == *b":\\";
    ["/", "./", "../", "~/", "http://", "https://"].iter().any(|start| value.starts_with(start))
        && !(is_key && is_mixed(bytes))
        || is_drive
}

/// What is asked of a value behind a name such as `token`, which prose and code use for other things too.
fn is_random(value: &str, form: Form) -> bool {
    let head: Vec<u8> = value.bytes().take(256).collect();
    let is_date =
        head.len() >= 8 && head[..4].iter().all(u8::is_ascii_digit) && head[4] == b'-' && head[7] == b'-';
    if head.len() < 8 || is_date || value.contains(char::is_whitespace) || is_call(value) {
        return false;
    }
    let is_explicit = matches!(form, Form::Literal | Form::Assigned | Form::Item);
    let is_solid = head.iter().all(u8::is_ascii_alphabetic);
    (has_letter_and_digit(value) && distinct(&head) >= 5)
        || is_jumbled(value, 2)
        || (is_explicit && is_solid && head.len() >= 16 && entropy(&head) >= 3.3)
}

/// `value` with full-width characters in their usual width.
fn half_width(value: &str) -> Cow<'_, str> {
    let narrow = |c: char| match c {
        '！'..='～' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        c => c,
    };
    if value.is_ascii() { Cow::Borrowed(value) } else { Cow::Owned(value.chars().map(narrow).collect()) }
}

/// What is asked of a value that only stands beside a name: words, identifiers and paths stand there too.
fn is_beside(value: &str) -> bool {
    let bytes = value.as_bytes();
    if !(8..=MAX_JUDGED).contains(&value.len()) || is_path(value) || !value.is_ascii() {
        return false;
    }
    if is_jumbled(value, 2) {
        return true;
    }
    if !has_letter_and_digit(value)
        || distinct(bytes) < 5
        || bytes.iter().any(|b| b" \t._:(<,;\\%".contains(b))
    {
        return false;
    }
    let has = |signs: &[u8]| bytes.iter().any(|b| signs.contains(b));
    if bytes.iter().all(u8::is_ascii_alphanumeric) {
        let is_hexadecimal = bytes.iter().all(u8::is_ascii_hexdigit) && bytes.len() >= 16;
        return is_hexadecimal || changes(bytes) >= (bytes.len() / 5).max(2);
    }
    if has(b"/=") {
        return is_mixed(bytes);
    }
    if has(b"-") {
        let parts: Vec<&str> = value.split('-').collect();
        let is_number = |part: &&str| part.len() >= 2 && part.bytes().all(|b| b.is_ascii_digit());
        return bytes.len() >= 12
            && parts.len() >= 3
            && parts.last().is_some_and(is_number)
            && !is_number(&parts[0]);
    }
    bytes.iter().filter(|b| b.is_ascii_digit()).count() >= 2 || changes(bytes) >= 3
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
}
