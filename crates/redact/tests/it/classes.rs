//! Every class is found in its usual surroundings and named rightly.

use crate::{jwt, masked, noise};

fn check(text: &str, expected: &str) {
    assert_eq!(masked(text), expected, "for {text}");
}

#[test]
fn tokens_are_known_by_their_prefix() {
    for (prefix, len, tag) in [
        ("ghp_", 36, "GITHUB_TOKEN"),
        ("gho_", 36, "GITHUB_TOKEN"),
        ("ghs_", 36, "GITHUB_TOKEN"),
        ("ghu_", 36, "GITHUB_TOKEN"),
        ("ghr_", 36, "GITHUB_TOKEN"),
        ("github_pat_", 82, "GITHUB_TOKEN"),
        ("glpat-", 20, "GITLAB_TOKEN"),
        ("npm_", 36, "REGISTRY_TOKEN"),
        ("pypi-AgEIcHlwaS5vcmc", 120, "REGISTRY_TOKEN"),
        ("sk-", 48, "MODEL_KEY"),
        ("sk-proj-", 120, "MODEL_KEY"),
        ("sk-ant-api03-", 95, "MODEL_KEY"),
        ("gsk_", 52, "MODEL_KEY"),
        ("hf_", 34, "MODEL_KEY"),
        ("r8_", 37, "MODEL_KEY"),
        ("xai-", 80, "MODEL_KEY"),
        ("AIza", 35, "GOOGLE_KEY"),
        ("xoxb-1234567890-", 24, "SLACK_TOKEN"),
        ("sk_live_", 24, "SERVICE_TOKEN"),
        ("awp_my_shop_Id0123456789_", 43, "AWOOOP_KEY"),
        ("awr_", 43, "AWOOOP_KEY"),
        ("1//0g", 90, "GOOGLE_KEY"),
        ("glft-", 20, "GITLAB_TOKEN"),
        ("cio", 32, "REGISTRY_TOKEN"),
        ("tvly-dev-", 32, "MODEL_KEY"),
        ("ATATT3xFfGF0", 180, "SERVICE_TOKEN"),
        ("dp.st.prd.", 43, "SERVICE_TOKEN"),
        ("PMAK-", 59, "SERVICE_TOKEN"),
        ("glsa_", 41, "SERVICE_TOKEN"),
    ] {
        let secret = format!("{prefix}{}", noise(len));
        for (before, after) in [
            ("", ""),
            ("see ", " now"),
            ("\"", "\""),
            ("(", ")."),
            ("a,", ",b"),
            ("\\n", "\\n"),
            ("%20", "?"),
            ("鍵：", "。"),
        ] {
            check(&format!("{before}{secret}{after}"), &format!("{before}[{tag}]{after}"));
        }
        let filler = format!("{prefix}{}", "x".repeat(len));
        let filler = if prefix.len() > 8 { "sk-xxxxxxxxxxxxxxxxxxxxxxxx" } else { &filler };
        check(filler, filler);
    }
}

#[test]
fn two_secrets_that_touch_are_two_masks() {
    let (a, b) = (format!("ghp_{}", noise(36)), format!("npm_{}", noise(36)));
    check(&format!("\"{a}\",\"{b}\""), "\"[GITHUB_TOKEN]\",\"[REGISTRY_TOKEN]\"");
    check(&format!("{a},{b};{a}"), "[GITHUB_TOKEN],[REGISTRY_TOKEN];[GITHUB_TOKEN]");
}

#[test]
fn a_jwt_needs_a_header_with_alg() {
    let token = jwt(r#"{"alg":"HS256","typ":"JWT"}"#);
    check(&format!("t {token}."), "t [JWT].");
    check(&format!("x{token}"), "x[JWT]");
    let unsigned = jwt(r#"{"alg":"none"}"#);
    check(&unsigned[..=unsigned.rfind('.').unwrap()], "[JWT].");
    let other = jwt(r#"{"typ":"none"}"#);
    check(&other, &other);
    check("eyJub3QganNvbg.eyJhIjoxfQ.x", "eyJub3QganNvbg.eyJhIjoxfQ.x");
}

#[test]
fn private_key_blocks_end_with_their_last_line_or_with_the_text() {
    let body = format!("{}\n{}\n", noise(64), noise(30));
    for label in [
        "RSA PRIVATE KEY",
        "PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
        "PGP PRIVATE KEY BLOCK",
        "ENCRYPTED PRIVATE KEY",
    ] {
        let block = format!("-----BEGIN {label}-----\n{body}-----END {label}-----");
        check(&format!("a\n{block}\nb\n{block}"), "a\n[PRIVATE_KEY]\nb\n[PRIVATE_KEY]");
        check(&format!("a -----BEGIN {label}-----\n{body} \"x\" y"), "a [PRIVATE_KEY]");
        let escaped = format!(r#"{{"k":"{}","n":1}}"#, block.replace('\n', "\\n"));
        check(&escaped, r#"{"k":"[PRIVATE_KEY]","n":1}"#);
        let twice = serde_json::to_string(&escaped).unwrap();
        check(&twice, r#""{\"k\":\"[PRIVATE_KEY]\",\"n\":1}""#);
    }
    let cut = format!(r#"{{"k":"-----BEGIN PRIVATE KEY-----\n{}","n":1}}"#, noise(64));
    check(&cut, r#"{"k":"[PRIVATE_KEY]","n":1}"#);
    let public = format!("-----BEGIN PUBLIC KEY-----\n{body}-----END PUBLIC KEY-----");
    check(&public, &public);
}

#[test]
fn a_private_key_over_several_strings_is_masked_in_each() {
    let code = format!(
        "\"-----BEGIN PRIVATE KEY-----\\n\" +\n\"{}\\n\" +\n\"-----END PRIVATE KEY-----\"",
        noise(64)
    );
    let result = masked(&code);
    assert!(!result.contains(&noise(16)), "{result}");
    assert_eq!(result.matches('"').count(), 6, "{result}");
    let lines = [
        "-----BEGIN RSA PRIVATE KEY-----",
        "Proc-Type: 4,ENCRYPTED",
        "DEK-Info: AES-128-CBC,0123456789abcdef",
    ];
    let array = format!("{:?}", lines.iter().copied().chain([noise(64).as_str()]).collect::<Vec<_>>());
    let result = masked(&array);
    assert!(!result.contains(&noise(16)) && result.matches('"').count() == 8, "{result}");
}

#[test]
fn cloud_keys_are_found_with_the_secret_beside_them() {
    let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    check(&format!("AKIAIOSFODNN7EXAMPLE,{secret}"), "[AWS_KEY],[AWS_KEY]");
    check(&format!("id ASIAIOSFODNN7EXAMPLE\nsecret {secret}\n"), "id [AWS_KEY]\nsecret [AWS_KEY]\n");
    check(&format!("aws_secret_access_key = {secret}"), "aws_secret_access_key = [AWS_KEY]");
    let azure = format!("{}==", noise(86));
    check(
        &format!(
            "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey={azure};EndpointSuffix=core.windows.net"
        ),
        "DefaultEndpointsProtocol=https;AccountName=shop;AccountKey=[AZURE_KEY];EndpointSuffix=core.windows.net",
    );
    check(&format!("?sv=2024&sig={}%3D&se=1", noise(43)), "?sv=2024&sig=[AZURE_KEY]&se=1");
    check(&format!("abc8Q~{}", noise(34)), "[AZURE_KEY]");
}

#[test]
fn chat_tokens_and_webhooks_are_found() {
    let token = format!("123456789:AA{}", noise(33));
    check(&token, "[TELEGRAM_TOKEN]");
    check(
        &format!("https://api.telegram.org/bot{token}/getMe"),
        "https://api.telegram.org/bot[TELEGRAM_TOKEN]/getMe",
    );
    check("at 10:30:AA and 123456789:AAPL", "at 10:30:AA and 123456789:AAPL");
    check(
        &format!("https://hooks.slack.com/services/T00000000/B00000000/{}", noise(24)),
        "https://hooks.slack.com/services/[WEBHOOK]",
    );
}

#[test]
fn only_the_password_of_a_url_is_masked() {
    check("postgres://app:s3cr3t@db:5432/shop", "postgres://app:[URL_PASSWORD]@db:5432/shop");
    check("redis://:pa@ss@h/0 x", "redis://:[URL_PASSWORD]@h/0 x");
    check("amqp://u:pa/ss@h/v", "amqp://u:[URL_PASSWORD]@h/v");
    check(r#""mysql:\/\/u:pw@h\/d""#, r#""mysql:\/\/u:[URL_PASSWORD]@h\/d""#);
    for url in [
        "https://example.org:8080/a@b",
        "https://user@example.org/",
        "postgres://app:${PW}@db",
        "http://[::1]:7700/x@y",
        "https://{user}:{password}@host",
        "https://x.org/?q=a:b@c",
    ] {
        check(url, url);
    }
}

#[test]
fn headers_keep_their_scheme() {
    check("Authorization: Bearer abc123def456ghi", "Authorization: Bearer [AUTHORIZATION]");
    check("authorization: Basic dXNlcjpwYXNz", "authorization: Basic [AUTHORIZATION]");
    check("Authorization: Bot abcd1234", "Authorization: Bot [AUTHORIZATION]");
    check(
        r#"curl -H "Authorization: Bearer abc123def456ghi" http://x"#,
        r#"curl -H "Authorization: Bearer [AUTHORIZATION]" http://x"#,
    );
    check(r#"{"Authorization":"Bearer abc","b":1}"#, r#"{"Authorization":"Bearer abc","b":1}"#);
    check(r#"{"Authorization":"Bearer abcd1","b":1}"#, r#"{"Authorization":"Bearer [AUTHORIZATION]","b":1}"#);
    check("use bearer 0123456789abcdef0 then", "use bearer [AUTHORIZATION] then");
    check("Basic dXNlcjpwYXNz", "Basic [AUTHORIZATION]");
    check("Authorization: Bearer $TOKEN", "Authorization: Bearer $TOKEN");
    check(
        "a bearer of responsibilities; basic authentication",
        "a bearer of responsibilities; basic authentication",
    );
}

#[test]
fn the_value_of_a_secret_name_is_masked_in_every_spelling() {
    for (text, expected) in [
        ("password=hunter2", "password=[SECRET]"),
        ("DB_PASS=hunter2;x=1", "DB_PASS=[SECRET];x=1"),
        ("pwd: 'a b c d'", "pwd: '[SECRET]'"),
        ("password: sunshine\nuser: bob", "password: [SECRET]\nuser: bob"),
        ("?user=a&token=k3j4h5k6&x=1", "?user=a&token=[SECRET]&x=1"),
        ("--password hunter2 --host db", "--password [SECRET] --host db"),
        ("<password>hunter2</password>", "<password>[SECRET]</password>"),
        ("config[\"password\"] = \"x,y;z\"", "config[\"password\"] = \"[SECRET]\""),
        ("{'api_key': 'abcd1234'}", "{'api_key': '[SECRET]'}"),
        ("let client_secret = \"a1b2c3d4e5\";", "let client_secret = \"[SECRET]\";"),
        ("password=p@ss,w;rd!", "password=[SECRET]"),
        ("密碼：abc12345，謝謝", "密碼：[SECRET]，謝謝"),
        ("my password is Hunter22 ok", "my password is [SECRET] ok"),
        ("password=[SECRET]tail", "password=[SECRET]"),
        ("X-Api-Key: 0f1e2d3c4b5a", "X-Api-Key: [SECRET]"),
        ("private key: 0f1e2d3c4b5a", "private key: [SECRET]"),
        (r#"{"password":"a\"b\\","n":1}"#, r#"{"password":"[SECRET]","n":1}"#),
        (r#""{\"password\":\"hunter2\",\"n\":1}""#, r#""{\"password\":\"[SECRET]\",\"n\":1}""#),
        (
            r#""{\"a\":\"{\\\"token\\\":\\\"word\\\"}\"}""#,
            r#""{\"a\":\"{\\\"token\\\":\\\"[SECRET]\\\"}\"}""#,
        ),
        (r#"{"log":"password=hunter2\nnext line"}"#, r#"{"log":"password=[SECRET]\nnext line"}"#),
    ] {
        check(text, expected);
    }
}

#[test]
fn a_named_value_with_a_known_token_in_it_is_masked_whole() {
    let token = format!("ghp_{}", noise(36));
    check(&format!("token={token}"), "token=[GITHUB_TOKEN]");
    check(&format!("secret=ab:{token}!z"), "secret=[SECRET]");
    check(&format!("secret=the-{token}"), "secret=[SECRET]");
}
