//! JSON values and documents: masked inside, whole outside.

use awooop_redact::{Class, Clean, Redactor};
use serde_json::{Value, json};

use crate::{jwt, noise};

fn check(mut value: Value, expected: Value, paths: &[(&str, Class)]) {
    let redactor = Redactor::new();
    let first = redactor.json_contains_credential(&value);
    let findings = redactor.redact_json(&mut value);
    assert_eq!(value, expected);
    let found: Vec<_> = findings.iter().map(|f| (f.path.as_str(), f.class)).collect();
    assert_eq!(found, paths);
    assert_eq!(first, paths.first().map(|(path, class)| ((*path).to_owned(), *class)));
    assert!(redactor.redact_json(&mut value).is_empty(), "masking twice differs: {value}");
}

#[test]
fn a_secret_key_masks_its_strings_and_nothing_else() {
    check(
        json!({"password": "sunshine", "tokens": 5, "secret": 12345678, "token": null, "api_key": true, "a/b": {"pwd": ["word1", "word2"]}}),
        json!({"password": "[SECRET]", "tokens": 5, "secret": 12345678, "token": null, "api_key": true, "a/b": {"pwd": ["[SECRET]", "[SECRET]"]}}),
        &[("/a~1b/pwd/0", Class::Secret), ("/a~1b/pwd/1", Class::Secret), ("/password", Class::Secret)],
    );
}

#[test]
fn placeholders_schemas_and_messages_stay() {
    let value = json!({
        "password": {"type": "string", "description": "the password"},
        "token": "changeme", "secret": "${SECRET}", "api_key": "abc", "errors": {"password": "is required"},
        "page_token": "abcdefgh12345", "credential": "env://KEY", "id": "550e8400-e29b-41d4-a716-446655440000",
    });
    check(value.clone(), value, &[]);
}

#[test]
fn strings_and_keys_are_searched_for_every_class() {
    let token = format!("ghp_{}", noise(36));
    check(
        json!({"list": [1, {"note": format!("use {token} now")}], token.clone(): 1, "[GITHUB_TOKEN]": 2}),
        json!({"list": [1, {"note": "use [GITHUB_TOKEN] now"}], "[GITHUB_TOKEN]": 2, "[GITHUB_TOKEN] 2": 1}),
        &[("/[GITHUB_TOKEN] 2", Class::GithubToken), ("/list/1/note", Class::GithubToken)],
    );
    check(json!({"token": jwt(r#"{"alg":"RS256"}"#)}), json!({"token": "[JWT]"}), &[("/token", Class::Jwt)]);
}

#[test]
fn a_pair_of_name_and_value_is_read_as_a_member() {
    check(
        json!([{"name": "DB_PASSWORD", "value": "sunshine"}, {"name": "PORT", "value": "sunshine"}]),
        json!([{"name": "DB_PASSWORD", "value": "[SECRET]"}, {"name": "PORT", "value": "sunshine"}]),
        &[("/0/value", Class::Secret)],
    );
}

#[test]
fn a_document_in_a_text_stays_a_document() {
    let inner = json!({"password": "a\"b\\c\nd", "url": "postgres://u:p%40@h/d", "n": 1.5e10, "token": 12345678, "label": "password: ",
        "key": format!("-----BEGIN PRIVATE KEY-----\n{}\n", noise(64)), "cmd": "mysql --password \"x y\" --password=z1z1"});
    let mut text = inner.to_string();
    for level in 0..4 {
        let redacted = Redactor::new().redact(&text).text.into_owned();
        let mut value: Value =
            serde_json::from_str(&redacted).unwrap_or_else(|e| panic!("level {level}: {e}: {redacted}"));
        for _ in 0..level {
            value = serde_json::from_str(value.as_str().expect("a string"))
                .unwrap_or_else(|e| panic!("level {level}: {e}"));
        }
        assert_eq!(value["password"], "[SECRET]");
        assert_eq!(value["key"], "[PRIVATE_KEY]");
        assert_eq!(value["n"], 1.5e10);
        assert_eq!(value["url"], "postgres://u:[URL_PASSWORD]@h/d");
        text = serde_json::to_string(&text).unwrap();
    }
}

#[test]
fn clean_values_come_from_the_redactor_only() {
    let redactor = Redactor::default();
    assert_eq!(redactor.clean("password=hunter2").as_str(), "password=[SECRET]");
    assert_eq!(redactor.clean("nothing").into_inner(), "nothing");
    let json = redactor.clean_json(json!({"password": "hunter2"}));
    assert_eq!(json.as_value(), &json!({"password": "[SECRET]"}));
    assert_eq!(Clean::from(json).as_str(), r#"{"password":"[SECRET]"}"#);
    assert_eq!(redactor.redact_line("token=k3j4h5k6"), "token=[SECRET]");
    assert_eq!(redactor.contains_credential("token=k3j4h5k6"), Some(Class::Secret));
    assert_eq!(redactor.contains_credential("token"), None);
}

#[test]
fn a_string_that_ends_in_the_beginning_of_a_value_does_not_swallow_the_next() {
    for tail in [
        "password=\"",
        "Authorization: '",
        "\"password\"=",
        "'token'=",
        "x password: \"\\",
        "-----BEGIN PRIVATE KEY-----\"",
    ] {
        let text = json!({"a": [tail], tail: 12345678, "b": "it's ours"}).to_string();
        let redacted = Redactor::new().redact(&text).text.into_owned();
        let value: Value =
            serde_json::from_str(&redacted).unwrap_or_else(|e| panic!("{e}: {redacted} of {text}"));
        assert_eq!(value["b"], "it's ours", "{redacted}");
    }
}
