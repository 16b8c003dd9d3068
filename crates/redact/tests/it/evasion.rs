//! Secrets in other spellings: escapes, percent, base64, invisible and full-width characters, broken lines.

use awooop_redact::Redactor;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::{jwt, masked, noise};

/// A text around a secret and the part that must not survive.
fn secrets() -> Vec<(String, String)> {
    let token = format!("ghp_{}", noise(36));
    let jwt = jwt(r#"{"alg":"HS256"}"#);
    let bot = format!("123456789:AA{}", noise(33));
    vec![
        (format!("use {token} now"), token),
        ("id AKIAIOSFODNN7EXAMPLE end".to_owned(), "AKIAIOSFODNN7EXAMPLE".to_owned()),
        (format!("session {jwt} ok"), jwt),
        (format!("bot {bot} ok"), bot),
        ("db postgres://app:s3cr3tpw@db/shop x".to_owned(), "s3cr3tpw".to_owned()),
        ("set password=Hunter2Hunter now".to_owned(), "Hunter2Hunter".to_owned()),
        (format!("Authorization: Bearer {}", noise(40)), noise(40)),
        ("我的密碼：Hunter2Hunter。".to_owned(), "Hunter2Hunter".to_owned()),
    ]
}

/// What remains of `core` in `text` when everything is decoded by the inverse of `spell`.
fn check(name: &str, spell: impl Fn(&str) -> String, keep_context: bool) {
    for (text, core) in secrets() {
        let spelled = if keep_context { text.replace(&core, &spell(&core)) } else { spell(&text) };
        let found = Redactor::new().redact(&spelled);
        let out = masked(&spelled);
        assert!(!found.findings.is_empty(), "{name}: {spelled}");
        let piece = spell(&core);
        let middle: String = piece.chars().skip(4).take(24).collect();
        assert!(!out.contains(&middle), "{name}: {spelled}\nbecame {out}");
    }
}

fn every_other(text: &str, spell: impl Fn(char) -> String) -> String {
    text.char_indices().map(|(n, c)| if n % 2 == 0 { spell(c) } else { c.to_string() }).collect()
}

fn percent(c: char) -> String {
    c.to_string().bytes().map(|b| format!("%{b:02X}")).collect()
}

fn wide(c: char) -> String {
    char::from_u32(u32::from(c) + 0xfee0).filter(|_| c.is_ascii_alphanumeric()).unwrap_or(c).to_string()
}

#[test]
fn json_escapes_hide_nothing() {
    let escape =
        |c: char| c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
    check("all of it", |text| text.chars().map(escape).collect(), false);
    check("the secret", |text| text.chars().map(escape).collect(), true);
    check("every other character", |text| every_other(text, escape), true);
    check("hexadecimal", |text| every_other(text, |c| format!("\\x{:02X}", u32::from(c))), true);
    check(
        "in a string in a string",
        |text| every_other(text, |c| format!("\\\\u{:04x}", u32::from(c))),
        true,
    );
}

#[test]
fn percent_signs_hide_nothing() {
    check("all of it", |text| text.chars().map(percent).collect(), false);
    check("every other character", |text| every_other(text, percent), true);
}

#[test]
fn invisible_and_full_width_characters_hide_nothing() {
    for invisible in ['\u{200b}', '\u{200d}', '\u{feff}', '\u{ad}', '\u{2060}', '\u{202e}'] {
        check("invisible", |text| text.chars().flat_map(|c| [c, invisible]).collect(), true);
    }
    check("full width", |text| text.chars().map(wide).collect(), true);
    check("some full width", |text| every_other(text, wide), true);
}

#[test]
fn one_layer_of_base64_hides_nothing() {
    check("standard", |text| STANDARD.encode(format!("{text}, and more text behind it")), false);
    check("for addresses", |text| URL_SAFE_NO_PAD.encode(format!("before: {text} behind it")), false);
    let lines = |text: &str| {
        let whole = STANDARD.encode(format!("{} {text} {}", "words ".repeat(9), "words ".repeat(9)));
        whole
            .as_bytes()
            .chunks(76)
            .map(|l| std::str::from_utf8(l).expect("ASCII"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    for (text, _) in secrets() {
        assert!(!Redactor::new().redact(&lines(&text)).findings.is_empty(), "{text}");
    }
}

#[test]
fn an_escaped_document_stays_a_document() {
    for (text, core) in secrets() {
        let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        let inner = format!(r#"{{"note":"{escaped}","n":1}}"#);
        let outer = serde_json::json!({ "body": inner.clone() }).to_string();
        for document in [inner, outer] {
            let out = masked(&document);
            let value: serde_json::Value =
                serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
            assert!(!value.to_string().contains(&core), "{out}");
            if let Some(body) = value["body"].as_str() {
                serde_json::from_str::<serde_json::Value>(body).unwrap_or_else(|e| panic!("{e}: {body}"));
            }
        }
    }
}

#[test]
fn a_private_key_whose_label_is_spelled_otherwise_is_masked_to_its_end() {
    let body = "MIIEpAIBAAKCAQEA7bq5".repeat(150);
    let (begin, end) = ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----");
    for label in [begin.replace(' ', "%20"), begin.replace('E', "\\u0045"), begin.replace("PRI", "ＰＲＩ")]
    {
        let out = masked(&format!("key {label}\n{body}\n{end} after"));
        assert_eq!(out, "key [PRIVATE_KEY] after", "{label}");
    }
}

#[test]
fn what_only_looks_spelled_otherwise_stays() {
    for text in [
        "訂單編號２０２６０５０４，共１２件，合計ＮＴ＄３５０。",
        "https://example.org/search?q=%E9%9F%B3%E6%A8%82%20CD&page=2",
        r#"{"note":"\u97f3\u6a02 \u00e9t\u00e9","path":"C:\\users\\x41"}"#,
        "❤️ 100% of the \u{200b}time",
        "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "aGVsbG8gd29ybGQsIHRoaXMgaXMganVzdCB0ZXh0Lg==",
    ] {
        assert_eq!(masked(text), text);
    }
}

#[test]
fn finer_signs_and_wide_brackets_hide_no_number() {
    use awooop_redact::{Action, Rules};
    let redactor = Redactor::with(Rules::everything(Action::Mask));
    for (text, expected) in [
        ("（０２） ２３４５－６７８９", "[PHONE]"),
        ("電話 (02)\u{202f}5772\u{2011}1402\u{202f}分機\u{202f}827", "電話 [PHONE]"),
        ("iban=BG03%E2%80%91CWDQ%E2%80%916852%E2%80%9130DT%E2%80%914CG2%E2%80%91Z7&x=1", "iban=[IBAN]&x=1"),
        ("addr ：：ｆｆｆｆ：２４．２４７．５９．３２", "addr [IP_ADDRESS]"),
        ("（０） 第１項（一）：：", "（０） 第１項（一）：："),
    ] {
        assert_eq!(redactor.redact(text).text, expected, "{text}");
    }
    let short = STANDARD.encode("4111 1111 1111 1111");
    assert!(!redactor.redact(&short).findings.is_empty(), "{short}");
    let both = STANDARD.encode("GET /?tel=%2B886911649714&x=1 HTTP/1.1");
    assert!(!redactor.redact(&both).findings.is_empty(), "{both}");
}
