//! Formats whose mark is not a prefix: in the middle, by their shape, by the scheme of a header, over several strings.

use crate::{masked, noise};

fn check(text: &str, expected: &str) {
    assert_eq!(masked(text), expected, "for {text}");
}

/// `n` hexadecimal digits that look random.
fn hex(n: usize) -> String {
    "3f9a07c4e1b852d6".chars().cycle().take(n).collect()
}

/// Tokens that have no prefix to be known by, and their masks.
pub(crate) fn tokens() -> Vec<(String, &'static str)> {
    let direct = {
        use base64::Engine as _;
        let header =
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"dir","enc":"A256GCM"}"#);
        format!("{header}..{}.{}.{}", noise(16), noise(60), noise(22))
    };
    vec![
        (format!("{}AZDO{}", noise(76), noise(4)), "[AZURE_KEY]"),
        (format!("{}.atlasv1.{}", noise(14), noise(67)), "[SERVICE_TOKEN]"),
        (format!("key-{}", hex(32)), "[SERVICE_TOKEN]"),
        (format!("{}-us12", hex(32)), "[SERVICE_TOKEN]"),
        (format!("pat{}.{}", noise(14), hex(64)), "[SERVICE_TOKEN]"),
        (format!("MTA{}.{}.{}", noise(23), noise(6), noise(38)), "[SERVICE_TOKEN]"),
        (direct, "[JWT]"),
    ]
}

#[test]
fn a_token_is_known_by_the_mark_in_its_middle_or_by_its_shape() {
    for (token, mask) in tokens() {
        for (before, after) in [
            ("", ""),
            ("see ", " now"),
            ("\"", "\""),
            ("(", "),"),
            ("{\"a\":\"\\n", "\\n\"}"),
            ("x=", "\n"),
            ("：", "。"),
        ] {
            check(&format!("{before}{token}{after}"), &format!("{before}{mask}{after}"));
        }
    }
}

#[test]
fn what_only_resembles_such_a_token_stays() {
    for text in [
        format!("cache key-{}", hex(40)),
        format!("key-{}", "a".repeat(32)),
        format!("md5 {}-us", hex(32)),
        format!("{}-user", hex(32)),
        format!("path{}.{}", noise(14), hex(63)),
        "MyVeryLongModuleNameForUsers.method.another_long_name_of_a_thing".to_owned(),
        "my-key-file key-value x-key-1".to_owned(),
        format!("{}azdo{}", noise(60), noise(4)),
    ] {
        check(&text, &text);
    }
}

#[test]
fn the_secret_of_every_chat_webhook_is_masked() {
    let uuid = format!("{}-{}-{}-{}-{}", hex(8), hex(4), hex(4), hex(4), hex(12));
    for (address, secret) in [
        ("https://hooks.slack.com/triggers/", format!("T00000000/{}/{}", 1_234_567_890, hex(32))),
        ("https://acme.webhook.office.com/webhookb2/a@b/IncomingWebhook/", hex(32)),
        ("https://open.feishu.cn/open-apis/bot/v2/hook/", uuid.clone()),
        ("https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=", uuid),
        ("https://hooks.zapier.com/hooks/catch/1234567/", "b3k9xz1".to_owned()),
    ] {
        let out = masked(&format!("post to {address}{secret} now"));
        assert!(
            out.starts_with(&format!("post to {}", &address[..20])) && out.ends_with("[WEBHOOK] now"),
            "{out}"
        );
        assert!(!out.contains(&secret[secret.len() - 7..]), "{out}");
        let encoded: String = format!("{address}{secret}").replace(':', "%3A").replace('/', "%2F");
        let out = masked(&format!("?url={encoded}&x=1"));
        assert!(out.ends_with("[WEBHOOK]&x=1"), "{out}");
    }
}

#[test]
fn everything_behind_the_scheme_of_a_header_is_masked() {
    let token = noise(40);
    for scheme in ["SSWS", "GenieKey", "Klaviyo-API-Key", "Shop-Own"] {
        check(
            &format!("Authorization: {scheme} {token}"),
            &format!("Authorization: {scheme} [AUTHORIZATION]"),
        );
        check(
            &format!("x \"Authorization: {scheme} {token}\" y"),
            &format!("x \"Authorization: {scheme} [AUTHORIZATION]\" y"),
        );
    }
    let digest = format!(
        "Digest username=\"app\", realm=\"the shop\", nonce=\"7ypf/xlj9XXw\", response=\"{}\", opaque=\"5ccc\"",
        hex(32)
    );
    let oauth = format!("OAuth oauth_consumer_key=\"app\", oauth_signature=\"{token}\"");
    let signed =
        format!("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host;x-amz-date, Signature={}", hex(64));
    for list in [digest, oauth, signed] {
        let scheme = list.split(' ').next().unwrap();
        let header = format!("Authorization: {list}");
        let expected = format!("Authorization: {scheme} [AUTHORIZATION]");
        check(&format!("{header}\nHost: x"), &format!("{expected}\nHost: x"));
        check(&format!("{header} - was sent"), &format!("{expected} - was sent"));
        check(&format!("curl -H '{header}' x"), &format!("curl -H '{expected}' x"));
        let document = serde_json::json!({ "log": header, "n": 1 }).to_string();
        check(&document, &serde_json::json!({ "log": expected, "n": 1 }).to_string());
        check(&format!("1,\"{}\",2", header.replace('"', "\"\"")), &format!("1,\"{expected}\",2"));
    }
    for text in [
        "Authorization: required for all calls",
        "authorization: see the documentation of the service",
        "Authorization: Basic <credentials>",
        "authorization: role based",
        "[`Authorization`]: https://example.org/docs/Headers/Authorization",
        "fn set(authorization: AuthorizationRef, other: *mut u8)",
        "headers[\"Authorization\"] = _basic_auth_str(self.username, self.password)",
        "headers[\"authorization\"] = \"Basic \" + encoded",
    ] {
        check(text, text);
    }
}

/// Key blocks whose lines stand in strings of their own, escaped or not, and a line of their bodies.
pub(crate) fn blocks_in_strings() -> Vec<String> {
    let line = noise(44);
    let escaped: String = line
        .char_indices()
        .map(|(n, c)| if n % 4 == 0 { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() })
        .collect();
    let mut list = Vec::new();
    for body in [line, escaped] {
        let pem = [
            "-----BEGIN RSA PRIVATE KEY-----",
            "DEK-Info: AES-128-CBC,0123456789abcdef",
            &body,
            "-----END RSA PRIVATE KEY-----",
        ];
        let putty = ["PuTTY-User-Key-File-3: ssh-ed25519", "Private-Lines: 2", &body, "Private-MAC: 0a1b"];
        for lines in [pem, putty] {
            list.push(format!("[{}]", lines.map(|line| format!("\"{line}\"")).join(", ")));
            list.push(lines.map(|line| format!("\"{line}\\n\"")).join(" +\n"));
            list.push(format!(
                "{{\"log\":\"{}\"}}",
                lines.map(|line| format!("\\\"{line}\\\\n\\\"")).join("\\n")
            ));
        }
        list.push(format!(
            "{{\"note\":\"INFO ---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\\nINFO Comment: \\\"app\\\"\\nINFO {body}\\n---- END SSH2 ENCRYPTED PRIVATE KEY ----\",\"n\":1}}"
        ));
    }
    list
}

#[test]
fn a_key_block_over_several_strings_leaves_no_line_and_breaks_no_escape() {
    for text in blocks_in_strings() {
        let out = masked(&text);
        let plain = out.replace("\\u", "");
        assert!(
            !out.contains(&noise(40)[20..36]) && !plain.contains(&noise(40)[1..4]),
            "{text}\nbecame {out}"
        );
        assert_eq!(
            text.matches('"').count(),
            out.matches('"').count() + 2 * usize::from(text.contains("Comment")),
            "{out}"
        );
        if text.starts_with(['[', '{']) {
            serde_json::from_str::<serde_json::Value>(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
        }
    }
}

#[test]
fn the_password_of_a_url_is_found_behind_escaped_slashes() {
    for slashes in ["/", "\\/", "\\\\/", "\\\\\\\\/", "\\\\\\\\\\\\\\\\/"] {
        check(
            &format!("mysql:{slashes}{slashes}app:s3cr3tpw@db{slashes}shop"),
            &format!("mysql:{slashes}{slashes}app:[URL_PASSWORD]@db{slashes}shop"),
        );
    }
    check(r"C:\\users\\a:b@c d:\x", r"C:\\users\\a:b@c d:\x");
}

#[test]
fn an_anchor_may_end_where_the_next_begins() {
    let token = format!(
        "AoQOsSW7Y7VY{}.atlasv1.{}",
        "Sg", "WUWFalaoHwsBZ8O673Kaq527jQ9isrK5rJ2YzrzA2Ss9L0_0PE02gkG1IiLqkZ9K3t2"
    );
    check(&format!("at={token}&x=1"), "at=[SERVICE_TOKEN]&x=1");
}
