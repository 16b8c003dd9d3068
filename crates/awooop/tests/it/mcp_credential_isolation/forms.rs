//! The forms in which a credential is given away, and a look for it that knows all of them, by itself.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

pub(super) fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn percent(text: &str) -> String {
    let one = |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(one).collect()
}

pub(super) fn folded(text: &str, every: usize, with: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(every).map(|chunk| chunk.iter().collect::<String>()).collect::<Vec<_>>().join(with)
}

/// A form's name, and what writes a value in it.
type Form = (&'static str, fn(&str) -> String);

/// Each form of a text, by name.
pub(super) const FORMS: [Form; 17] = [
    ("plain", str::to_owned),
    ("upper_case", str::to_uppercase),
    ("reversed", |t| t.chars().rev().collect()),
    ("base64", |t| STANDARD.encode(t)),
    ("base64_url", |t| URL_SAFE.encode(t)),
    ("base64_of_a_sentence", |t| STANDARD.encode(format!("it is {t} today"))),
    ("base64_in_lines", |t| folded(&STANDARD.encode(format!("x{t}")), 10, "\r\n")),
    ("basic_header", |t| format!("Basic {}", STANDARD.encode(format!("client:{t}")))),
    ("hexadecimal", hex),
    ("hexadecimal_in_pairs", |t| folded(&hex(t).to_uppercase(), 2, " ")),
    ("percent", percent),
    ("percent_twice", |t| percent(&percent(t))),
    ("percent_everywhere", |t| t.bytes().map(|byte| format!("%{byte:02x}")).collect()),
    ("json_in_text", |t| {
        serde_json::json!({"inner": serde_json::json!({"token": t}).to_string()}).to_string()
    }),
    ("unicode_escapes", |t| t.bytes().map(|byte| format!("\\u{byte:04x}")).collect()),
    ("html", |t| t.bytes().map(|byte| format!("&#x{byte:x};")).collect()),
    ("zero_width", |t| folded(t, 1, "\u{200b}")),
];

/// Is the credential in the text in any of these forms? What is escaped, spaced or split is put together first.
pub(super) fn shows(text: &str, secret: &str) -> bool {
    let mut needles: Vec<String> =
        vec![secret.to_lowercase(), secret.chars().rev().collect::<String>().to_lowercase()];
    needles.push(hex(secret));
    for before in 0..3 {
        let all = format!("{}{secret}", "x".repeat(before));
        // the characters at both ends depend on what stands around
        for encoded in [STANDARD.encode(&all), URL_SAFE.encode(&all)] {
            needles.push(encoded[4..encoded.len() - 5].to_lowercase());
        }
    }
    let mut seen = vec![text.to_lowercase()];
    for _ in 0..3 {
        let last = seen[seen.len() - 1].clone();
        seen.push(unescaped(&last));
    }
    // parts of one answer, joined
    seen.push(texts(text).to_lowercase());
    seen.extend(seen.clone().iter().map(|text| {
        text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '\u{200b}' | '\u{feff}')).collect()
    }));
    seen.iter().any(|text| needles.iter().any(|needle| text.contains(needle.as_str())))
}

fn texts(document: &str) -> String {
    fn walk(value: &serde_json::Value, all: &mut String) {
        match value {
            serde_json::Value::String(text) => all.push_str(text),
            serde_json::Value::Array(items) => items.iter().for_each(|item| walk(item, all)),
            serde_json::Value::Object(members) => {
                members.iter().filter(|(name, _)| *name != "type").for_each(|(_, value)| walk(value, all));
            }
            _ => {}
        }
    }
    let mut all = String::new();
    if let Ok(value) = serde_json::from_str(document) {
        walk(&value, &mut all);
    }
    all
}

/// One layer of escapes less.
fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut plain, mut at) = (Vec::with_capacity(bytes.len()), 0);
    let number = |digits: &[u8], radix| u8::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok();
    while at < bytes.len() {
        let rest = &bytes[at..];
        let escape = match rest {
            [b'%', a, b, ..] => number(&[*a, *b], 16).map(|byte| (byte, 3)),
            [b'\\', b'u', b'0', b'0', a, b, ..] => number(&[*a, *b], 16).map(|byte| (byte, 6)),
            [b'&', b'#', b'x', a, b, b';', ..] => number(&[*a, *b], 16).map(|byte| (byte, 6)),
            [b'\\', byte, ..] if !byte.is_ascii_alphanumeric() => Some((*byte, 2)),
            _ => None,
        };
        let (byte, length) = escape.unwrap_or((bytes[at], 1));
        plain.push(byte);
        at += length;
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[test]
fn the_look_finds_what_is_given_away_in_every_form() {
    let secret = "harvest+moon&over=7731/quiet-river";
    for (name, form) in FORMS {
        assert!(shows(&format!("before {} after", form(secret)), secret), "{name}");
        let document = serde_json::json!({"text": form(secret)}).to_string();
        assert!(shows(&document, secret), "{name}");
    }
    assert!(!shows("before [SECRET] after", secret));
    let split =
        serde_json::json!([{"type": "text", "text": &secret[..9]}, {"type": "text", "text": &secret[9..]}]);
    assert!(shows(&split.to_string(), secret));
}
