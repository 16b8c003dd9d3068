//! A text in pieces comes out as the whole text would: every secret in every surrounding, cut everywhere.
//!
//! Besides: what is held stays small, at the caps nothing of a secret comes out, and prose does not wait.

use std::io::Write as _;

use awooop_redact::{Action, Class, Redactor, Rules, Stream, StreamSet};
use proptest::prelude::*;
use serde_json::json;

use crate::{jwt, noise};

/// What the stream makes of the pieces. At each piece it holds at most `most` bytes.
fn streamed<'a>(redactor: &Redactor, pieces: impl IntoIterator<Item = &'a str>, most: usize) -> String {
    let (mut stream, mut out) = (redactor.stream(), String::new());
    for piece in pieces {
        stream.push(piece, &mut out);
        assert!(stream.held() <= most, "{} bytes are held", stream.held());
    }
    stream.finish(&mut out);
    out
}

fn characters(text: &str) -> impl Iterator<Item = &str> {
    text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()])
}

/// Cuts `text` at every place, and into its characters.
fn check_with(redactor: &Redactor, text: &str) {
    let whole = redactor.redact(text).text;
    let most = 8 * 1024;
    for at in (0..=text.len()).filter(|at| text.is_char_boundary(*at)) {
        let result = streamed(redactor, [&text[..at], &text[at..]], most);
        assert_eq!(result, whole, "cut at {at}: {:?} | {:?}", &text[..at], &text[at..]);
    }
    assert_eq!(streamed(redactor, characters(text), most), whole, "in characters: {text}");
}

fn check(text: &str) {
    check_with(&Redactor::new(), text);
}

/// A private key block; its lines end in `line_end`.
fn pem(label: &str, line_end: &str) -> String {
    let body = format!("{}{line_end}{}{line_end}", noise(64), noise(30));
    format!("-----BEGIN {label}-----{line_end}{body}-----END {label}-----")
}

/// One secret of every class and spelling.
fn secrets() -> Vec<String> {
    let mut list: Vec<String> = [
        ("ghp_", 36),
        ("github_pat_", 82),
        ("glpat-", 20),
        ("npm_", 36),
        ("pypi-AgEIcHlwaS5vcmc", 120),
        ("sk-proj-", 120),
        ("sk-ant-api03-", 95),
        ("hf_", 34),
        ("AIza", 35),
        ("xoxb-1234567890-", 24),
        ("sk_live_", 24),
        ("awp_my_shop_Id0123456789_", 43),
        ("awr_", 43),
        ("123456789:AA", 33),
        ("abc8Q~", 34),
        ("https://hooks.slack.com/services/T00000000/B00000000/", 24),
        ("Authorization: Bearer ", 36),
        ("use bearer ", 20),
        ("?sv=2024&sig=", 43),
    ]
    .iter()
    .map(|(prefix, len)| format!("{prefix}{}", noise(*len)))
    .collect();
    let aws_secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    list.extend([
        jwt(r#"{"alg":"HS256","typ":"JWT"}"#),
        format!("AKIAIOSFODNN7EXAMPLE,{aws_secret}"),
        format!("{aws_secret} belongs to\n  the id ASIAIOSFODNN7EXAMPLE"),
        format!("AKIAIOSFODNN7EXAMPLE {} {aws_secret}", "so it is ".repeat(25)),
        format!("aws_secret_access_key = {aws_secret}"),
        format!("DefaultEndpointsProtocol=https;AccountKey={}==;EndpointSuffix=x", noise(86)),
    ]);
    list.extend(["RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"].map(|l| pem(l, "\n")));
    list.extend([
        pem("PRIVATE KEY", "\\n"),
        format!("Private-Lines: 1\n{}\nPrivate-MAC: 0a", noise(64)),
        format!(
            "\"-----BEGIN PRIVATE KEY-----\\n\" +\n\"{}\\n\" +\n\"-----END PRIVATE KEY-----\"",
            noise(64)
        ),
        format!("\"-----BEGIN PRIVATE KEY-----\\n{}\", \"n\": {}", noise(40), noise(20)),
    ]);
    list.extend(
        [
            "postgres://app:s3cr3t@db:5432/shop",
            "redis://:pa@ss@h/0 x",
            "amqp://u:pa/ss@h/v",
            r"mysql:\/\/u:pw@h\/d",
            "https://example.org:8080/a@b",
            "https://{user}:{password}@host",
            "authorization: Basic dXNlcjpwYXNz",
            "Authorization: OAuth realm=\"x\", oauth_token=abc",
            "a bearer of responsibilities; basic authentication",
            "password=hunter2",
            "DB_PASS=hunter2;x=1",
            "pwd: 'a b c d'",
            "password: sunshine\nuser: bob",
            "password: sunshine is a nice word",
            "?user=a&token=k3j4h5k6&x=1",
            "--password hunter2 --host db",
            "<password>hunter2</password>",
            "config[\"password\"] = \"x,y;z\"",
            "{'api_key': 'abcd1234'}",
            "{'password': 'ab\"cd efgh'}",
            "let client_secret = \"a1b2c3d4e5\";",
            "password=p@ss,w;rd!",
            "密碼：abc12345，謝謝",
            "my password is Hunter22 ok",
            "password=[SECRET]tail",
            "password = [SECRET] and",
            "X-Api-Key: 0f1e2d3c4b5a",
            "private key: 0f1e2d3c4b5a",
            r#"{"password":"a\"b\\","n":1}"#,
            r#"{"password"   :   "must be at least 8 characters" , "n" : 1}"#,
            r#""{\"password\":\"hunter2\",\"n\":1}""#,
            r#"{"log":"password=hunter2\nnext line"}"#,
            r#"{"log":"run 'mysql --password 'ab cd", "next":"it's ours"}"#,
            "password=\"never closed and so on",
            "password=http://u:a&b@h tail",
            "token=changeme password=${PW} secret=<your-key> api_key=env://KEY",
            "password=",
            "\"password\":",
            "password: \"",
        ]
        .map(str::to_owned),
    );
    list
}

/// The secret among other things: prose, code, logs, YAML, documents.
fn surroundings(secret: &str) -> Vec<String> {
    let document =
        json!({"a": [secret], "password": secret, "note": "password: ", "n": 12345678}).to_string();
    vec![
        secret.to_owned(),
        format!("The value is {secret}, as said above.\nNothing else.\n"),
        format!("請用這個：{secret}。謝謝，再見！\n"),
        format!("2026-05-01T10:00:00Z INFO call{{run=0197}} got \"{secret}\" in 12 ms\n"),
        format!("env:\n  - name: DB\n    value: {secret}\n    port: 5432\nx: y\n"),
        format!("token: \"{secret}\"\npassword={secret}\n"),
        json!({"inner": document.clone(), "b": 1}).to_string(),
        document,
    ]
}

#[test]
fn every_secret_cut_anywhere_is_masked_as_in_the_whole_text() {
    for secret in secrets() {
        for text in surroundings(&secret) {
            check(&text);
        }
    }
}

#[test]
fn what_holds_no_secret_comes_out_unchanged() {
    for text in [
        "",
        "The password is required. Please enter the token, then press the key.",
        "繁體中文：請輸入密碼以繼續，訂單編號 10023。\n",
        "| order | customer | total |\n|---|---|---|\n| 1001 | Ann | 12.50 |\n",
        "commit da39a3ee5e6b4b0d3255bfef95601890afd80709\nAuthor: x\n\n    a -- b --- c ----\n",
        "https://example.org/path?key=value&sort_key=name#frag",
        "fn login(password: String, token: &str) -> Result<(), Error> { todo }",
        "the line says PRIVATE KEY and nothing more -----BEGIN CERTIFICATE-----\n",
    ] {
        assert_eq!(streamed(&Redactor::new(), characters(text), 64), text);
        check(text);
    }
}

/// Random pieces of syntax and of secrets, and random lengths to cut them into.
fn any_text() -> impl Strategy<Value = String> {
    let mut pieces: Vec<String> = [
        "password",
        "token",
        "key",
        "=",
        ":",
        " ",
        "  ",
        "\"",
        "\\\"",
        "'",
        "\\",
        "\n",
        ",",
        ";",
        "]",
        "}",
        "{",
        "[",
        "://",
        "@",
        "/",
        "u:p",
        "hunter2",
        "abcd1234",
        "12345678",
        "[SECRET]",
        "[JWT]",
        "Bearer ",
        "Authorization: ",
        "eyJ",
        "AKIA",
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "密碼",
        "：",
        "é",
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "required",
        "ghp_q7Rw2Zk9Xb4Nc6Vm1Lp8Td3Hs5Gf0J",
        "--password ",
        " is ",
        "<",
        ">",
        "$",
        "%3D",
        "-",
        "prose goes on ",
        "Private-Lines:",
        "Private-MAC",
        "sig=",
        "Q~",
        "?",
        "https://hooks.slack.com/services/",
    ]
    .map(str::to_owned)
    .to_vec();
    pieces.extend([noise(30), noise(7), jwt(r#"{"alg":"none"}"#)]);
    prop::collection::vec(prop::sample::select(pieces), 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_in_any_pieces_is_masked_as_the_whole(text in any_text(), lengths in prop::collection::vec(1_usize..20, 1..8)) {
        let redactor = Redactor::new();
        for text in [text.clone(), json!({"password": text.clone(), "b": [text.clone()], text: 12345678}).to_string()] {
            let whole = redactor.redact(&text).text.into_owned();
            let (mut stream, mut out) = (redactor.stream(), String::new());
            let (mut bytes, mut most) = (text.as_bytes(), 0);
            for len in lengths.iter().cycle() {
                if bytes.is_empty() {
                    break;
                }
                let (piece, rest) = bytes.split_at(bytes.len().min(*len));
                stream.push_bytes(piece, &mut out);
                most = most.max(stream.held());
                bytes = rest;
            }
            stream.finish(&mut out);
            prop_assert!(most <= 8 * 1024, "{}", most);
            // At a cap more may be masked.
            if most < 500 {
                prop_assert_eq!(&out, &whole, "of {}", text);
            }
        }
    }
}
