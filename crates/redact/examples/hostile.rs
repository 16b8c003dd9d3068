//! Measures the worst texts known: one piece, repeated over the whole text, against plain text of the same size.
//!
//! Pieces are signs of syntax, beginnings of values that never end, and anchors of every kind, alone and in pairs.
//! Prints those that take longest, and how their time grows when the text does fourfold; 4 is linear. Run with
//! `--release`; the first argument is the greater size in KiB, 256 unless told, so that a reading fits into a time
//! slice of a busy machine; the best of five counts.

#![expect(clippy::print_stdout, reason = "an example prints its result")]

use std::time::{Duration, Instant};

use awooop_redact::{Action, Redactor, Rules};

/// The signs and beginnings that some rule walks from.
const PIECES: &[&str] = &[
    "@",
    "a@",
    "a.b@c.de ",
    "a.",
    ":",
    "::",
    "a:",
    "1:",
    "abcd:",
    "0",
    "1",
    "4111 ",
    "0 ",
    "00 ",
    "1.",
    "1.1.1.1.",
    "f",
    "(",
    "+1",
    "\"",
    "'",
    "\\",
    "\\\"",
    "\"'",
    "[",
    "[SECRET]",
    "{\"a\":",
    "=",
    " ",
    "\n",
    "://",
    "a:b@://",
    "://a:b",
    "eyJ",
    "-eyJhIjox",
    "eyJhIjox.",
    "ewog.",
    "AKIA",
    "ASIA0000000000000000",
    "8Q~",
    "?sig=",
    "1234567:AA",
    "%3aaa",
    "hooks.slack.com/",
    "/api/webhooks/",
    "Bearer ",
    "bearer",
    "basic ",
    "Authorization:",
    "Authorization: \"",
    "Authorization: OAuth ",
    "Private-Lines:Private-MAC",
    "AKIAIOSFODNN7EXAMPLE ",
    "awr_.",
    "password=",
    "password=\"",
    "password='",
    "password=`",
    "password='\"",
    "\"token\":\"",
    "\\\"key\\\":\\\"",
    "token=[",
    "--password ",
    "<secret>",
    "password=\"\"",
    "\"password\":[\"\",",
    "\"password\":[[",
    "\"password\":['",
    "name=\"password\" ",
    "\"name\":\"token\",\"value\",",
    "\"value\":\"\",\"name\":\"token\",",
    "value value value value name=\"token\"",
    "- name: password\n",
    "|password|",
    "**password**",
    "password (",
    "password(\"",
    "('password','",
    "password - ",
    "login password ",
    "config a.password ",
    "API key ",
    "curl -u a:",
    "-u ",
    "--user=",
    "sshpass -p",
    "identified by '",
    "identified with by ",
    "user identified by x",
    "パスワード",
    "passwort: ",
    "mot de passe : ",
    "пароль",
    "secret=a.b.c(",
    "密碼：",
    "private key",
    "Private-Lines:",
    "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----",
    "\"-----BEGIN PRIVATE KEY-----",
    "ghp_",
    "sk-",
    "azdo",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaAZDO",
    ".atlasv1.",
    "key-",
    "0123456789abcdef0123456789abcdef-us1",
    "-us1",
    ".a1B2c3.",
    "pata1B2c3D4e5F6g7.",
    ":\\/\\/",
    ":\\\\",
    "Authorization: Digest a=\"",
    "Authorization: x a=b, ",
    "Authorization: SSWS a1B2c3D4 ",
    "/bot/v2/hook/",
    "-----BEGIN PRIVATE KEY-----Comment: \"",
    "\"Private-Lines:\" ",
    "\\u0041",
    "：：",
    "（０",
    "phone:\n1",
    "xoxd-",
    "SG.",
    "tel 0912",
    "統編12345675",
    "GB82 WEST 1234 ",
    "2001:db8::",
    "phone 1 ",
    "\"a\": 4111111111111111,",
    "[4111111111111111,",
];

fn best(redactor: &Redactor, text: &str) -> Duration {
    let once = || {
        let begin = Instant::now();
        std::hint::black_box(redactor.redact(text));
        begin.elapsed()
    };
    (0..5).map(|_| once()).min().unwrap_or_default()
}

fn main() {
    let kib = std::env::args().nth(1).and_then(|kib| kib.parse().ok());
    let size = kib.unwrap_or(256_usize) << 10;
    let redactor = Redactor::with(Rules::everything(Action::Mask));
    let plain = "2026-05-04T10:20:30.123Z INFO answered in 57 ms, 123 tokens, status 200\n";
    let base = best(&redactor, &plain.repeat(size / plain.len()));
    println!("plain text: {:.0} MB/s", size as f64 / base.as_secs_f64() / 1e6);
    let pairs = ["\"", "'", "\\", "@", ":", "password="]
        .iter()
        .flat_map(|first| PIECES.iter().map(move |second| format!("{first}{second}")));
    let mut results = Vec::new();
    for piece in PIECES.iter().map(|piece| (*piece).to_owned()).chain(pairs) {
        let text = piece.repeat(size / piece.len());
        let quarter = best(&redactor, &text[..text.floor_char_boundary(text.len() / 4)]).as_secs_f64();
        let whole = best(&redactor, &text).as_secs_f64();
        results.push((whole / base.as_secs_f64(), whole / quarter, piece));
    }
    results.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (ratio, growth, piece) in results.iter().take(25) {
        println!("{ratio:8.1} times plain text, {growth:.1} times for four times the size: {piece:?}");
    }
}
