//! What only looks like a credential stays as it is.

use crate::masked;

#[test]
fn ordinary_text_stays_untouched() {
    let image =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
            .repeat(20);
    for text in [
        "",
        "550e8400-e29b-41d4-a716-446655440000",
        "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "commit da39a3ee5e6b4b0d3255bfef95601890afd80709",
        &format!("data:image/png;base64,{image}"),
        "the password is required",
        "Password: must be at least 8 characters",
        "The password is invalid. Please reset your password.",
        "password: incorrect",
        "enter the password and the token, then press the key",
        "max_tokens=4096 tokens: 812 total_tokens: 12345678",
        "primary_key=customer_id foreign_key: orders.customer",
        "idempotency-key: 550e8400-e29b-41d4-a716-446655440000",
        "next_page_token=eyabc123def456 progressToken: abc12345",
        "token_type: bearer, token: refresh",
        "password=${DB_PASSWORD} api_key=$API_KEY secret=<your-secret> token=changeme",
        "credential: env://OPENAI_API_KEY",
        "PWD=/home/user bypass: enabled compass: north-27",
        "let token = parser.next_token(); password = get_password()",
        "fn login(password: String, token: &str)",
        "secret::Secret token://x",
        "order_id,customer,amount\n00001,19970101,11.77\n00002,19970112,12.00",
        "| order | customer | total |\n|---|---|---|\n| 1001 | Ann | 12.50 |",
        "2026-05-01T10:00:00Z INFO run=0197 status=200 elapsed_ms=12",
        "risk-based task-force-alpha-team-2024-briefing desk-12345678901234567890",
        "https://example.org/path?key=value&sort_key=name#frag",
        "mail bob@example.org or call +886 2 1234 5678",
        "繁體中文：請輸入密碼以繼續，訂單編號 10023。",
        "{\"password\":{\"type\":\"string\"},\"tokens\":12,\"secret\":null,\"token\":12345678}",
        "{\"errors\":{\"password\":\"is required\"}}",
        "{\"label\":\"password:\",\"n\":12345678,\"x\":\"y\"}",
        "the line says PRIVATE KEY and nothing more",
    ] {
        assert_eq!(masked(text), text);
    }
}

/// What a text of one piece costs is measured by `examples/hostile.rs`; here such texts only come to their end, and
/// a size at which anything quadratic would be felt is enough.
#[test]
fn hostile_repetition_comes_to_an_end_and_is_masked_once() {
    for piece in [
        "eyJ",
        "-eyJhIjox",
        "eyJhIjox.",
        "password=",
        "\"token\":\"",
        "a:b@://",
        "AKIA",
        "\\\"key\\\":\\\"",
        ":-----BEGIN PRIVATE KEY-----",
        "\"-----BEGIN PRIVATE KEY-----",
        "token='\"",
        "Private-Lines:Private-MAC",
        "Authorization: OAuth ",
        "bot1234567:AA",
        "\\",
        "[SECRET]",
        "secret=[",
        "sk-",
        "awr_.",
        "/api/webhooks/",
    ] {
        masked(&piece.repeat(12_000 / piece.len()));
    }
}
