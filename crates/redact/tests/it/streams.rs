//! A text in pieces comes out as the whole text would: every secret in every surrounding, cut everywhere.
//!
//! Besides: what is held stays small, at the caps nothing of a secret comes out, and prose does not wait.

use std::io::Write as _;

use awooop_redact::{Action, Class, Redactor, Rules, StreamSet, TagKey};
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

/// Cuts `text` in two at every place, and into its characters.
fn check_with(redactor: &Redactor, text: &str) {
    let whole = redactor.redact(text).text;
    let most = 8 * 1024;
    // Of a long text every second or third place, to spare time.
    let places = (0..=text.len()).step_by(1 + text.len() / 400);
    for at in places.filter(|at| text.is_char_boundary(*at)) {
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
    list.extend(crate::formats::tokens().into_iter().map(|(token, _)| token));
    list.extend(crate::formats::blocks_in_strings());
    list.extend([
        format!("Authorization: Klaviyo-API-Key {}", noise(30)),
        format!("Authorization: Digest username=\"a\", uri=\"/\", response=\"{}\", qop=auth", noise(32)),
        format!("https://hooks.zapier.com/hooks/catch/1234567/{}", noise(7)),
        format!("https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key={}", noise(36)),
        format!("https://acme.webhook.office.com/webhookb2/a@b/IncomingWebhook/{}", noise(32)),
    ]);
    list.extend(
        [
            "postgres://app:s3cr3t@db:5432/shop",
            "redis://:pa@ss@h/0 x",
            "amqp://u:pa/ss@h/v",
            r"mysql:\/\/u:pw@h\/d",
            r"mysql:\\/\\/u:pw@h\\/d",
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
    list.extend(beside_names());
    list
}

/// Secrets that no sign connects with their name, and what only looks so.
fn beside_names() -> Vec<String> {
    [
        r#"{"password":["Harbor-1", "x", ["sunset77"]],"n":1}"#,
        r#""{\"passwords\":[\"Harbor-1\",\"sunset77\"]}""#,
        "passwords = ['Harbor-1', 'sunset77'] # both",
        r#"{"name": "DB_PASSWORD", "value": "Harbor2222!"} next"#,
        r#"{"name":"DB_PASSWORD","type":"text","value":"Harbor2222!"}"#,
        r#"{"value": "Harbor2222!", "name": "DB_PASSWORD"} next"#,
        r#"{"value": "Harbor2222!", "name": "city"} next"#,
        r#""{\"value\":\"Harbor2222!\",\"name\":\"DB_PASSWORD\"}""#,
        "<add key=\"Password\" value=\"Harbor2222!\"/> and",
        "<input value='Harbor2222!' name='password'>",
        "<entry key=\"password\">Harbor2222!</entry>",
        "  - name: DB_PASSWORD\n    value: Harbor2222!\n  - name: x\n",
        "machine db login app password sunset\nmachine x",
        "git config --global http.password ember-Falcon-33",
        "client.setPassword(\"Harbor2222!\"); x()",
        "define('DB_PASSWORD', 'Harbor2222!');",
        "ALTER ROLE app WITH PASSWORD 'sunset'; SELECT",
        "CREATE USER 'app'@'%' IDENTIFIED BY 'sunset';",
        "CREATE USER app IDENTIFIED WITH sha256_password BY 'sunset' x",
        "password -> Harbor2222! and",
        "curl -u app:Harbor2222! https://x.org/",
        "curl --user 'app:Harbor2222!' https://x.org/",
        "sshpass -p Harbor2222! ssh app@host",
        "| password | Harbor2222! |\n| port | 8080 |",
        "The **password** is **Harbor2222!**.",
        "**API key:** Xb8iqR3WjWDdXya2 ok",
        "Their API key - Xb8iqR3WjWDdXya2 - was",
        "(access token Xb8iqR3WjWDdXya2). The order",
        "密碼為Harbor2222!），謝謝",
        "密碼（Harbor2222!）與",
        "API 金鑰 Xb8iqR3WjWDdXya2。",
        "パスワード：Harbor2222!、",
        "비밀번호: Harbor2222! 입니다",
        "Passwort: Harbor2222! und contraseña: Harbor2222! y mot de passe : Harbor2222!",
        "accessToken: TPimTe^HtIbYKL",
        "a,\"password=\"\"Harbor2222!\"\"\",b",
        "VALUES ('password=''Harbor 2222!'' x')",
        "sh -c 'password='\\''Harbor2222!'\\'' x'",
        "password = \"\"\"Harbor2222!\"\"\"",
        "password=\"\" x=\"y\"",
        "https://<user>:<password>@example.org/",
        r#"{"errors":{"token":"has expired"}}"#,
        "password: String, token = get_token(a)",
        "PWD=/home/app x PWD=Xb8iqR3WjWDdXya2",
    ]
    .map(str::to_owned)
    .to_vec()
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
fn the_secret_of_an_aws_key_waits_for_an_id_as_far_as_one_would_look_back() {
    let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    for gap in [80, 118, 119, 120, 121, 159, 160, 161] {
        check(&format!("={secret} {} AKIAIOSFODNN7EXAMPLE", "-".repeat(gap - 2)));
        check(&format!("={secret}{}AKIAIOSFODNN7EXAMPLE", "-".repeat(gap)));
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
        "\"name\":\"",
        "\"value\":\"",
        " value=\"",
        "name: ",
        "\nvalue: ",
        "(",
        ")",
        "|",
        "**",
        "->",
        "curl -u ",
        "identified by ",
        "user",
        "''",
        "\"\"",
        "'\\''",
        "API ",
        "login ",
        "sshpass -p",
        "Harbor2222!",
    ]
    .map(str::to_owned)
    .to_vec();
    pieces.extend([noise(30), noise(7), jwt(r#"{"alg":"none"}"#)]);
    prop::collection::vec(prop::sample::select(pieces), 0..24).prop_map(|pieces| pieces.concat())
}

#[test]
fn a_find_that_is_still_open_holds_the_value_it_may_become_part_of() {
    let redactor = Redactor::new();
    for text in [
        "--password ,Private-Lines: 3\nabc",
        "Authorization: ,Private-Lines:",
        "://,Private-Lines:://Private-MAC@",
        r#"{"--password ,Private-Lines:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY  ":12345678}"#,
        "--password ,sk-q7Rw2Zk9Xb4Nc6Vm1Lp8Td3Hs5",
    ] {
        let (mut stream, mut out) = (redactor.stream(), String::new());
        text.chars().for_each(|c| stream.push(&c.to_string(), &mut out));
        stream.finish(&mut out);
        assert_eq!(out, redactor.redact(text).text, "{text}");
    }
}

proptest! {
    // Other texts every time; `PROPTEST_CASES` says how many.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

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
            if most < 490 {
                prop_assert_eq!(&out, &whole, "of {}", text);
            }
        }
    }
}

#[test]
fn personal_data_cut_anywhere_is_masked_as_in_the_whole_text() {
    let redactor = Redactor::with(Rules::everything(Action::Tag).tag_key(TagKey::new([3; 32])));
    for value in [
        "ann.lee@example.org",
        "card 4111 1111 1111 1111",
        "GB82 WEST 1234 5698 7654 32",
        "gb82 west 1234 5698 7654 32",
        "lu67 0944 yqnj 9p1w qxi2",
        "phone +886 2 2345 6789 ext. 12",
        "電話：(02) 2345-6789 分機 3",
        "手機 0912-345-678",
        "Phone:\n0490 75 40 81",
        "電話（０２）２３４５－６７８９ 與 ：：ｆｆｆｆ：２０３．０．１１３．９",
        "(02)\u{202f}5772\u{2011}1402\u{202f}分機\u{202f}827",
        "from 6e40:4041:c617:e898:c11:40d2:c669:2eb4",
        "card 4000123456789012343 or credit card 630427373398",
        "?tel=%2B33%C2%A06%C2%A055%C2%A021%C2%A074%C2%A007&x=1",
        "from 203.0.113.7 and 2001:db8::1",
        "身分證字號 A123456789",
        "統一編號 04595257",
        "mail bob@example.org, then password=Hunter2Hunter",
    ] {
        for text in [
            value.to_owned(),
            format!("Write to {value}. Or not.\nNext line\n"),
            format!("聯絡：{value}，謝謝。\n"),
            json!({"to": value, "n": 4_111_111_111_111_111_u64, "list": [value]}).to_string(),
        ] {
            check_with(&redactor, &text);
        }
    }
}

#[test]
fn other_spellings_cut_anywhere_are_masked_as_in_the_whole_text() {
    use base64::Engine as _;
    let token = format!("ghp_{}", noise(30));
    let escaped: String = token.bytes().map(|b| format!("\\u{b:04x}")).collect();
    let percent: String = token.bytes().map(|b| format!("%{b:02X}")).collect();
    let split: String = token.chars().flat_map(|c| [c, '\u{200b}']).collect();
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    for text in [
        format!("use {escaped} now"),
        format!("{{\"note\":\"{escaped}\",\"n\":1}}"),
        format!("https://example.org/?q={percent}&x=1 end"),
        format!("a {split} b"),
        format!("密碼＝{token}。"),
        format!("secret%3D{}", noise(20)),
        format!("data {} end", base64(&format!("user: ann, token: {token}, more"))),
        format!("data {} end", base64("nothing in here is secret, only words and words")),
        "https://example.org/search?q=%E9%9F%B3%E6%A8%82%20CD&page=2 100%".to_owned(),
        r#"{"note":"\u97f3\u6a02 \u00e9t\u00e9","path":"C:\\users\\x41"}"#.to_owned(),
    ] {
        check(&text);
    }
}

#[test]
fn patterns_cut_anywhere_match_as_in_the_whole_text() {
    let rules = Rules::credentials().pattern("ORDER_NO", r"\bEW-[0-9]{8}\b", Action::Block).unwrap();
    let redactor = Redactor::with(rules);
    let text =
        format!("EW-20260504, EW-20260505x and {}password=hunter2 EW-20260504", "an order ".repeat(40));
    check_with(&redactor, &text);
    let (mut stream, mut out) = (redactor.stream(), String::new());
    characters(&text).for_each(|c| stream.push(c, &mut out));
    assert_eq!(stream.blocked().map(|class| class.to_string()).as_deref(), Some("ORDER_NO"));
    assert_eq!(stream.findings().values().sum::<u64>(), 1, "the rest is held");
}

/// Pushes `text` in pieces of 100 bytes; what is held stays small, and `secret` never comes out.
fn check_cap(text: &str, secret: &str, end: &str) {
    let redactor = Redactor::new();
    let (mut stream, mut out) = (redactor.stream(), String::new());
    for piece in text.as_bytes().chunks(100) {
        stream.push_bytes(piece, &mut out);
        assert!(stream.held() <= 8 * 1024 + 100, "{}", stream.held());
    }
    stream.finish(&mut out);
    for window in secret.as_bytes().windows(16).step_by(5) {
        let part = std::str::from_utf8(window).expect("only ASCII is cut");
        assert!(!out.contains(part), "{part} of the secret is in {out}");
    }
    assert!(out.ends_with(end), "{out}");
}

#[test]
fn a_key_block_that_is_longer_than_other_finds_is_held_until_it_is_decided() {
    let body = format!("# {}\\n", noise(64)).repeat(9);
    let text =
        format!("{{\"a\":\"# -----BEGIN PRIVATE KEY-----\\n{body}# -----END PRIVATE KEY-----\",\"n\":1}}");
    let redactor = Redactor::new();
    let whole = redactor.redact(&text).text;
    for size in (1..100).step_by(3) {
        let pieces =
            text.as_bytes().chunks(size).map(|piece| std::str::from_utf8(piece).expect("only ASCII is cut"));
        assert_eq!(streamed(&redactor, pieces, 8 * 1024), whole, "in pieces of {size}");
    }
}

#[test]
fn at_a_cap_nothing_of_the_secret_comes_out() {
    let (long, body) = (noise(5000), format!("{}\n", noise(64)).repeat(320));
    let key = "-----BEGIN PRIVATE KEY-----";
    check_cap(&format!("{key}\n{body}"), &noise(64), "[PRIVATE_KEY]");
    check_cap(
        &format!("{key}\n{body}-----END PRIVATE KEY----- after it"),
        &noise(64),
        "[PRIVATE_KEY] after it",
    );
    let document = format!("{{\"private_key\":\"{key}\\n{}\",\"n\":1}}", body.replace('\n', "\\n"));
    check_cap(&document, &noise(64), "\",\"n\":1}");
    check_cap(&format!("password={long} after it"), &long, "password=[SECRET] after it");
    check_cap(&format!("password=\"{long} {long}\" after it"), &long, "password=\"[SECRET]\" after it");
    check_cap(&format!("password='{long} {long}"), &long, "password='[SECRET]");
    check_cap(&format!("ghp_{long}, after it"), &long, "[GITHUB_TOKEN], after it");
    check_cap(&format!("Private-Lines: 9\n{body}Private-MAC: 1"), &noise(64), "[PRIVATE_KEY]Private-MAC: 1");
    use base64::Engine as _;
    let text = format!("password: Hunter2Hunter2 {}", "and so on ".repeat(1000));
    let encoded = base64::engine::general_purpose::STANDARD.encode(text);
    check_cap(&format!("data {encoded} after it"), &encoded, " after it");
}

#[test]
fn prose_does_not_wait() {
    let redactor = Redactor::with(Rules::everything(Action::Mask));
    for text in [
        "The order was shipped on Monday, and the customer (who had asked twice) got it on Friday.\n"
            .repeat(20),
        "這筆訂單已經在星期一出貨，客戶於星期五收到，謝謝您的耐心等候。\n".repeat(20),
    ] {
        let (mut stream, mut out, mut held) = (redactor.stream(), String::new(), Vec::new());
        for c in characters(&text) {
            stream.push(c, &mut out);
            held.push(stream.held());
            assert!(c != "\n" || stream.held() == 0, "{} bytes wait at the end of a line", stream.held());
        }
        held.sort_unstable();
        assert!(held[held.len() / 2] < 64, "the median is {}", held[held.len() / 2]);
        assert_eq!(out, text);
    }
}

#[test]
fn bytes_that_are_no_text_become_what_a_whole_text_would_have() {
    let bytes = b"a\xff\xe5\xaf\x86\xe7\xa2 \xf0\x9f\x98\x80 password=Hunter\xc3 \xe5\xaf";
    let whole = Redactor::new().redact(&String::from_utf8_lossy(bytes)).text.into_owned();
    for at in 0..=bytes.len() {
        let (mut stream, mut out) = (Redactor::new().stream(), String::new());
        stream.push_bytes(&bytes[..at], &mut out);
        stream.push_bytes(&bytes[at..], &mut out);
        stream.finish(&mut out);
        assert_eq!(out, whole, "cut at {at}");
    }
}

#[test]
fn interleaved_streams_do_not_mix() {
    let mut set = StreamSet::new(&Redactor::new());
    let mut out = [String::new(), String::new()];
    for (a, b) in [("pass", "{\"tok"), ("word=hun", "en\":\"k3j4"), ("ter2 ok", "h5k6\"}")] {
        out[0] += &set.push(("content", 0), a);
        out[1] += &set.push(("arguments", 0), b);
    }
    for ((field, _), rest) in set.finish_all() {
        out[usize::from(field == "arguments")] += &rest;
    }
    assert_eq!(out, ["password=[SECRET] ok", "{\"token\":\"[SECRET]\"}"]);
    assert_eq!(set.findings().get(&Class::Secret), Some(&2));
}

#[test]
fn a_writer_masks_what_passes_and_never_flushes_half_a_secret() {
    let mut writer = Redactor::new().writer(Vec::new());
    writer.write_all(b"first line\npassword=hun").unwrap();
    writer.flush().unwrap();
    assert!(writer.stream().held() > 0);
    writer.write_all(b"ter2\nlast").unwrap();
    assert_eq!(writer.finish().unwrap(), b"first line\npassword=[SECRET]\nlast");
}

#[test]
fn a_list_that_is_longer_than_what_is_held_is_swallowed_to_its_own_bracket() {
    let redactor = Redactor::new();
    let (items, hidden) = (format!("\"{}\", ", noise(30)).repeat(40), "LEAKb7Xq2Zt9");
    for text in [
        format!("got {{\"passwords\":[[{items}\"x\"],[\"{hidden}\"]], \"n\": 1}} from it"),
        format!(
            "got {{\"passwords\":[{items}\"]{hidden}\", 12, null, [\"{hidden}\"], \"{hidden}\"], \"n\": 1}} from it"
        ),
        format!(
            "{{\"log\":\"{{\\\"passwords\\\":[{} \\\"{hidden}\\\"]}}\",\"n\":1}}",
            items.replace('"', "\\\"")
        ),
    ] {
        for size in [1, 7, 100, 5000] {
            let (mut stream, mut out) = (redactor.stream(), String::new());
            text.as_bytes().chunks(size).for_each(|piece| stream.push_bytes(piece, &mut out));
            stream.finish(&mut out);
            assert!(!out.contains(hidden), "in pieces of {size}: {out}");
            let end = if text.ends_with("from it") { "\"n\": 1} from it" } else { "\"n\":1}" };
            assert!(out.ends_with(end), "in pieces of {size}: {out}");
        }
    }
}
