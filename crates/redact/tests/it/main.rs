//! The redactor from outside: each class, what must stay, JSON, and properties over random texts.
//!
//! The secrets here are made up or are the vendors' documentation examples. They are put together at run time where
//! a scanner of this repository could take them for real ones.

mod classes;
mod evasion;
mod formats;
mod json;
mod named;
mod personal;
mod personal_properties;
mod properties;
mod rules;
mod stays;
mod streams;

use awooop_redact::Redactor;

/// The masked form of `text`, which must be the same when masked again.
fn masked(text: &str) -> String {
    let redactor = Redactor::new();
    let once = redactor.redact(text);
    for finding in &once.findings {
        assert!(text.is_char_boundary(finding.start) && text.is_char_boundary(finding.end));
    }
    let again = redactor.redact(&once.text);
    assert_eq!(again.text, once.text, "masking twice differs for {text}");
    once.text.into_owned()
}

/// `n` characters that look random and are the same each time.
fn noise(n: usize) -> String {
    "q7Rw2Zk9Xb4Nc6Vm1Lp8Td3Hs5Gf0JyQeUaIoWxPzKn".chars().cycle().take(n).collect()
}

/// A JWT with the given header.
fn jwt(header: &str) -> String {
    use base64::Engine as _;
    let b64 = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", b64(header), b64(r#"{"sub":"1234567890","admin":true}"#), noise(43))
}
