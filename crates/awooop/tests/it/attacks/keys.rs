//! Keys that are nearly keys. Each is made from one that works, and each is answered as no key at all is.

use serde_json::json;

use super::wire::Reply;
use super::{Ground, MINE, OTHER};

const WHOAMI: &str = "GET /v1/platform/whoami";

/// What an answer says, without what differs from request to request.
fn said(reply: &Reply) -> String {
    let mut body = reply.json();
    if let Some(document) = body.as_object_mut() {
        document.remove("trace_id");
    }
    let mut headers: Vec<_> = reply.headers.iter().filter(|(name, _)| name != "date").collect();
    headers.sort();
    format!("{} {headers:?} {body}", reply.status)
}

/// The same text with the first character that has a look-alike in its place.
fn look_alike(text: &str) -> String {
    let alike = |c| match c {
        '0' => 'O',
        'O' => '0',
        '1' => 'l',
        'l' => 'I',
        'I' => '1',
        'o' => '0',
        _ => c,
    };
    let at = text.find(|c| alike(c) != c).expect("one of 43 characters has a look-alike");
    text.chars().enumerate().map(|(n, c)| if n == at { alike(c) } else { c }).collect()
}

/// Every way the key is bent, with its name.
fn bent(key: &str, second: &str, others: &str) -> Vec<(&'static str, String)> {
    let parts = |key: &str| {
        let parsed = awooop_core::key::parse(key).unwrap();
        (parsed.id.to_owned(), parsed.secret.to_owned())
    };
    let ((id, secret), (second_id, second_secret), (_, others_secret)) =
        (parts(key), parts(second), parts(others));
    let whole = |project: &str, id: &str, secret: &str| format!("awp_{project}_{id}_{secret}");
    let swapped: String = secret
        .chars()
        .map(|c| if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
        .collect();
    vec![
        ("one character short", key[..key.len() - 1].to_owned()),
        ("without its first character", key[1..].to_owned()),
        ("without its secret", format!("awp_{MINE}_{id}_")),
        ("without its id", format!("awp_{MINE}__{secret}")),
        ("its id alone", id.clone()),
        ("its secret alone", secret.clone()),
        ("one character long", format!("{key}0")),
        ("twice", format!("{key}{key}")),
        ("prefix in capitals", key.replacen("awp_", "AWP_", 1)),
        ("prefix with a capital", key.replacen("awp_", "Awp_", 1)),
        ("another prefix", key.replacen("awp_", "sk-", 1)),
        ("a hyphen for the underscore", key.replacen("awp_", "awp-", 1)),
        ("project in capitals", key.replace(MINE, &MINE.to_uppercase())),
        ("another project", whole(OTHER, &id, &secret)),
        ("the operators' project", whole("platform", &id, &secret)),
        ("no project", format!("awp_{id}_{secret}")),
        ("a look-alike in the secret", whole(MINE, &id, &look_alike(&secret))),
        ("the secret in the other case", whole(MINE, &id, &swapped)),
        ("another key's secret", whole(MINE, &id, &second_secret)),
        ("another key's id", whole(MINE, &second_id, &secret)),
        ("another project's secret", whole(MINE, &id, &others_secret)),
        ("the secret as id", whole(MINE, &secret[..12], &secret)),
        ("an empty secret's worth of zeros", whole(MINE, &id, &"0".repeat(43))),
        ("a wildcard for the id", whole(MINE, "%%%%%%%%%%%%", &secret)),
        ("padding", format!("{key}=")),
        ("more padding", format!("{key}==")),
        ("percent form of an underscore", key.replacen('_', "%5f", 1)),
        ("percent form of a NUL at its end", format!("{key}%00")),
        ("escaped NUL at its end", format!("{key}\\u0000")),
        ("a space within", key.replacen('_', "_ ", 1)),
        ("a tab within", key.replacen('_', "_\t", 1)),
        ("quotes around it", format!("\"{key}\"")),
        ("angle brackets around it", format!("<{key}>")),
        ("SQL after it", format!("{key}' OR '1'='1")),
        ("as JSON", json!({"key": key}).to_string()),
        ("a Cyrillic letter in the prefix", key.replacen('a', "а", 1)),
        ("a full-width letter in the secret", format!("{}ａ", &key[..key.len() - 1])),
        ("a soft hyphen within", key.replacen("awp_", "awp_\u{ad}", 1)),
        ("a byte order mark before it", format!("\u{feff}{key}")),
        ("a no-break space after it", format!("{key}\u{a0}")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_what_is_nearly_a_key_is_answered_as_no_key_is() {
    let ground = Ground::start().await;
    let key = ground.key(json!({"name": "first", "role": "admin"})).await;
    let second = ground.key(json!({"name": "second", "role": "admin"})).await;
    let others =
        ground.stage.api(OTHER).create_key(&json!({"name": "theirs", "role": "admin"})).await.unwrap();
    let ask = async |key: &str| {
        let header = format!("Authorization: Bearer {key}");
        ground.wire.ask(WHOAMI, &[&header], b"").await
    };
    assert_eq!(ask(&key).await.expect("an answer").status, 200, "the key itself works");
    let none = ground.wire.ask(WHOAMI, &[], b"").await.expect("an answer");
    assert_eq!((none.status, none.code().as_str()), (401, "E-AUTH-001"));
    for (what, tried) in bent(&key, &second, &others) {
        assert_ne!(tried, key, "{what} changes nothing");
        let answer = ask(&tried).await.unwrap_or_else(|| panic!("{what}: no answer"));
        assert_eq!(said(&answer), said(&none), "{what}");
    }
    for control in ["\0", "\r", "\u{7f}", "\u{b}"] {
        let answer = ask(&format!("{key}{control}")).await.expect("an answer");
        assert_eq!(answer.status, 400, "{control:?} makes it no header");
    }
    for length in [100_000, 1_000_000] {
        let answer = ask(&"a".repeat(length)).await;
        let status = answer.map_or(431, |answer| answer.status);
        assert!([400, 401, 413, 431].contains(&status), "{length} characters: {status}");
    }
    assert_eq!(ask(&key).await.expect("an answer").status, 200, "it still works");
    ground.assert_unharmed().await;
}
