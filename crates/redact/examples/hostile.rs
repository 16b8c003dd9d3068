//! Measures the worst texts known: one piece, repeated over the whole text, against plain text of the same size.
//!
//! Pieces are signs of syntax, beginnings of values that never end, and anchors of every kind, alone and in pairs.
//! Prints those that take longest, and how their time grows from a sixteenth of the text to an eighth; 2 is linear.
//! What grows by more is not read to the end. Run with `--release`; the first argument is the size in KiB, 10240
//! unless told.

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
    "密碼：",
    "private key",
    "Private-Lines:",
    "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----",
    "\"-----BEGIN PRIVATE KEY-----",
    "ghp_",
    "sk-",
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
    once().min(once())
}

fn main() {
    let size = std::env::args().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(10_240_usize) << 10;
    let redactor = Redactor::with(Rules::everything(Action::Mask));
    let plain = "2026-05-04T10:20:30.123Z INFO answered in 57 ms, 123 tokens, status 200\n";
    let base = best(&redactor, &plain.repeat(size / plain.len()));
    println!("plain text: {:.0} MB/s", size as f64 / base.as_secs_f64() / 1e6);
    let pairs = ["\"", "'", "\\", "@", ":", "password="]
        .iter()
        .flat_map(|first| PIECES.iter().map(move |second| format!("{first}{second}")));
    let mut results = Vec::new();
    for piece in PIECES.iter().map(|piece| (*piece).to_owned()).chain(pairs) {
        // A sixteenth first: what is not linear would take hours.
        let text = piece.repeat(size / piece.len());
        let part = |n: usize| &text[..text.floor_char_boundary(text.len() / n)];
        let (small, double) = (best(&redactor, part(16)), best(&redactor, part(8)));
        let is_linear = double < small * 3 && small < base * 4;
        let whole = if is_linear { best(&redactor, &text) } else { small * 256 };
        results.push((
            whole.as_secs_f64() / base.as_secs_f64(),
            double.as_secs_f64() / small.as_secs_f64(),
            piece,
        ));
    }
    results.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (ratio, growth, piece) in results.iter().take(15) {
        println!("{ratio:8.1} times plain text, {growth:.1} times for twice the size: {piece:?}");
    }
}
