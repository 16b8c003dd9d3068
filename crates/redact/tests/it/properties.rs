//! Properties over random texts: nothing planted survives, masking is idempotent, documents stay documents.

use awooop_redact::{Action, Redactor, Rules};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{jwt, noise};

/// Secrets of every class, with the part that must not survive.
fn secrets() -> Vec<(String, String)> {
    let tail = noise(36);
    let plain = |text: String| (text.clone(), text);
    let mut list: Vec<(String, String)> = [
        "ghp_",
        "npm_",
        "glpat-",
        "sk-ant-api03-",
        "hf_",
        "AIza",
        "xoxb-1234567890-",
        "awr_",
        "awp_shop_Id0123456789_abcdefg",
    ]
    .iter()
    .map(|prefix| plain(format!("{prefix}{tail}")))
    .collect();
    list.push(plain(jwt(r#"{"alg":"HS256"}"#)));
    list.push(plain("AKIAIOSFODNN7EXAMPLE".to_owned()));
    list.push(plain(format!("123456789:AA{}", noise(33))));
    list.push((format!("-----BEGIN PRIVATE KEY-----\n{tail}\n-----END PRIVATE KEY-----"), tail.clone()));
    list.push(("postgres://app:s3cr3tpw@db/shop".to_owned(), "s3cr3tpw".to_owned()));
    list.push((format!("Authorization: Bearer {tail}"), tail.clone()));
    list.push(("password=Hunter2Hunter".to_owned(), "Hunter2Hunter".to_owned()));
    list.push((format!("{{\"client_secret\":\"{tail}\"}}"), tail));
    list
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_planted_secret_survives(before in "\\PC{0,40}", after in "\\PC{0,40}", border in "[ \n\t,;(|]", which in any::<prop::sample::Index>()) {
        let secrets = secrets();
        let (secret, core) = which.get(&secrets);
        let text = format!("{before}{border}{secret}{border}{after}");
        let redactor = Redactor::new();
        let once = redactor.redact(&text);
        prop_assert!(!once.text.contains(core.as_str()), "{}", once.text);
        prop_assert!(redactor.contains_credential(&text).is_some());
        let again = redactor.redact(&once.text);
        prop_assert_eq!(&again.text, &once.text);
        let document = json!({"a": [text.clone()], "b": 1}).to_string();
        let redacted = redactor.redact(&document);
        prop_assert!(!redacted.text.contains(core.as_str()), "{}", redacted.text);
        prop_assert!(serde_json::from_str::<Value>(&redacted.text).is_ok(), "{}", redacted.text);
        let mut value = json!({"a": [text]});
        redactor.redact_json(&mut value);
        prop_assert!(!value.to_string().contains(core.as_str()), "{value}");
    }

    #[test]
    fn pieces_of_syntax_in_any_order_are_masked_once_and_for_all(pieces in prop::collection::vec(prop::sample::select(vec![
        "password", "token", "key", "=", ":", " ", "\"", "\\\"", "'", "\\", "\n", ",", ";", "]", "}", "{", "[", "://", "@", "/", "u:p",
        "hunter2", "abcd1234", "12345678", "[SECRET]", "[JWT]", "Bearer ", "Authorization: ", "AKIAIOSFODNN7EXAMPLE", "密碼", "：", "é",
        "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "required", "ghp_q7Rw2Zk9Xb4Nc6Vm1Lp8Td3Hs5Gf0J", "--password ", " is ", "<", ">", "$", "%3D",
        "\"name\":\"", "\"value\":\"", "(", ")", "|", "**", "->", "-u ", "curl", "identified by ", "''", "\"\"", "'\\''", "API ", "Harbor2222!",
    ]), 0..14)) {
        let text = pieces.concat();
        let redactor = Redactor::new();
        let once = redactor.redact(&text);
        let again = redactor.redact(&once.text);
        prop_assert_eq!(&again.text, &once.text, "of {}", text);
        let document = json!({"password": text.clone(), "b": [text.clone()], text: 12345678}).to_string();
        let redacted = redactor.redact(&document);
        prop_assert!(serde_json::from_str::<Value>(&redacted.text).is_ok(), "{}\nof {}", redacted.text, document);
    }

    #[test]
    fn no_text_is_too_odd_to_be_read(pieces in prop::collection::vec(prop::sample::select(vec![
        "號", "é", "😀", "a", "A", "z", "A1", "B2", "0", "1", "12345678", "123456789", "4111", "09", "886", "+", "-", ".", ":", "::", "@", "/", " ",
        "\u{200b}", "０９", "：", "\\u", "\\u0041", "%", "%41", "%E5", "\"", "'", "=", "[EMAIL]", "統編", "電話", "id", "card", "GB82", "TW",
        "https://", "password", "bearer ", "pat14.", "-----BEGIN", " PRIVATE KEY", "YWJjZGVmZ2hpamtsbW5vcHFy", "1//0", "sk-", "\n", "\r\n", "e",
    ]), 0..16), cut in any::<prop::sample::Index>()) {
        let text = pieces.concat();
        let redactor = Redactor::with(Rules::everything(Action::Mask));
        let once = redactor.redact(&text);
        prop_assert_eq!(&redactor.redact(&once.text).text, &once.text, "of {}", text);
        let (mut stream, mut out) = (redactor.stream(), String::new());
        let cut = cut.index(text.len() + 1);
        stream.push_bytes(&text.as_bytes()[..cut], &mut out);
        stream.push_bytes(&text.as_bytes()[cut..], &mut out);
        stream.finish(&mut out);
        prop_assert_eq!(&out, &once.text, "of {}", text);
    }
}
