//! Known values in every form, in texts and documents.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const SECRET: &str = "Pf3+x/9qLm\"Zz-7w&Q0";

fn known() -> Known {
    Known::new([SECRET, "short", "another secret value"])
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02X}")).collect()
}

fn percent(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

#[test]
fn a_value_is_found_in_every_form_that_programs_write() {
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    let html = SECRET.replace('&', "&amp;").replace('"', "&#34;");
    let spaced: String = SECRET.chars().flat_map(|c| [c, '\u{200b}', ' ']).collect();
    let unicode: String = SECRET.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    for form in [
        SECRET.to_owned(),
        SECRET.to_uppercase(),
        SECRET.chars().rev().collect(),
        hex(SECRET),
        hex(SECRET).to_lowercase(),
        percent(SECRET),
        percent(SECRET).to_lowercase(),
        percent(&percent(SECRET)),
        SECRET.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        quoted(SECRET),
        quoted(&quoted(SECRET)),
        quoted(&quoted(&quoted(SECRET))),
        unicode,
        html,
        spaced,
        hex(SECRET)
            .chars()
            .collect::<Vec<_>>()
            .chunks(2)
            .map(|c| c.iter().collect::<String>() + " ")
            .collect(),
        "another  secret\nvalue".to_owned(),
        "another+secret+value".replace('+', "%20"),
    ] {
        let text = format!("before {form} after");
        let masked = known().mask(&text).into_owned();
        assert!(masked.starts_with("before ") && masked.ends_with(" after"), "{form}: {masked}");
        assert!(masked.contains(MASK) && masked.len() <= 40, "{form}: {masked}");
    }
}

#[test]
fn base64_is_found_wherever_in_the_encoded_text_the_value_stands() {
    for before in 0..7 {
        let text = format!("{}{SECRET} and more", "x".repeat(before));
        for encoded in [STANDARD.encode(&text), URL_SAFE.encode(&text)] {
            let masked = known().mask(&encoded).into_owned();
            assert!(masked.contains(MASK), "{before}: {encoded}");
            let folded: String = encoded
                .chars()
                .collect::<Vec<_>>()
                .chunks(5)
                .map(|c| c.iter().collect::<String>() + "\r\n")
                .collect();
            assert!(known().mask(&folded).contains(MASK), "{before}: {folded}");
        }
    }
    let basic = STANDARD.encode(format!("client-1:{SECRET}"));
    assert!(known().mask(&format!("Basic {basic}")).contains(MASK));
}

#[test]
fn a_document_stays_one_and_holds_no_value_in_one_or_several_strings() {
    let (head, tail) = SECRET.split_at(9);
    let document = json!({
        "content": [{"type": "text", "text": format!("is {head}")}, {"type": "text", "text": format!("{tail} yes")}],
        "list": [head, tail],
        SECRET: 1,
        "quoted": json!({"inner": SECRET}).to_string(),
        "pin": 1234567890,
    });
    let known = Known::new([SECRET, "1234567890"]);
    let masked = known.mask_json(document);
    assert_eq!(
        masked,
        json!({
            "content": [{"type": "text", "text": "is [SECRET]"}, {"type": "text", "text": "[SECRET] yes"}],
            "list": ["[SECRET]", "[SECRET]"],
            "[SECRET]": 1,
            "quoted": "{\"inner\":\"[SECRET]\"}",
            "pin": "[SECRET]",
        })
    );
}

#[test]
fn what_is_cut_off_within_a_value_keeps_no_part_of_it() {
    for kept in 4..SECRET.len() {
        let text = format!("the token is {}", &SECRET[..kept]);
        assert_eq!(known().mask_cut(&text), "the token is [SECRET]", "{kept}");
    }
    assert_eq!(known().mask_cut("nothing here"), "nothing here");
}

#[test]
fn ordinary_text_and_short_values_stay() {
    for text in ["short", "a short text of nothing", "100% sure & \\ done", ""] {
        assert_eq!(known().mask(text), text);
    }
    assert!(Known::new(["short", "  "]).is_empty());
    assert_eq!(Known::default().mask(SECRET), SECRET);
    assert!(!format!("{:?}", known()).contains(SECRET));
}

#[test]
fn the_long_lines_of_a_value_are_found_by_themselves() {
    let key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSj\n-----END KEY-----";
    let masked = Known::new([key]).mask("line 2 is MIIEvQIBADANBgkqhkiG9w0B").into_owned();
    assert_eq!(masked, "line 2 is [SECRET]");
}

proptest! {
    #[test]
    fn whatever_surrounds_a_value_it_is_masked_and_masking_never_panics(
        before in "(?s).{0,20}", after in "(?s).{0,20}", secret in "[A-Za-z0-9+/=_é-]{8,40}",
    ) {
        let known = Known::new([secret.as_str()]);
        let masked = known.mask(&format!("{before}{secret}{after}")).into_owned();
        prop_assert!(!masked.contains(&secret));
        prop_assert!(masked.contains(MASK));
        let any = known.mask_cut(&before).into_owned();
        prop_assert!(any.len() <= before.len() + MASK.len());
    }
}
