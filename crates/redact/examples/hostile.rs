//! Measures the worst texts known: one piece, repeated over the whole text, against plain text of the same size.
//!
//! Pieces are the anchors, signs of syntax, beginnings of values that never end, and finds of every class: alone, and
//! all pairs. Each is measured in a short text, the worst of them in one of ten megabytes, where plain text is the
//! median of prose, code and log lines. Prints those that take longest, and how their time grows from a quarter of the
//! size to all of it; 4 is linear. Run with `--release`, for about four minutes; the first argument is the greater
//! size in KiB.

#![expect(clippy::print_stdout, reason = "an example prints its result")]

use std::time::{Duration, Instant};

use awooop_redact::{Action, Redactor, Rules};

/// Bytes of the text in which each piece is measured.
const SHORT: usize = 32 << 10;
/// How many of the worst are measured in a long text.
const WORST: usize = 80;
/// How many of those are printed.
const PRINTED: usize = 30;

/// Texts in which nothing is found.
const PLAIN: &[&str] = &[
    "The warehouse confirmed on Monday that most of the shipment had arrived, and the rest would follow by rail. ",
    "    let total = items.iter().map(|item| item.amount * rate(item.kind)).sum::<Decimal>(); // of the cart\n",
    "2026-05-04T10:20:30.123Z INFO answered in 57 ms, 123 tokens, status 200\n",
];

/// Signs and beginnings that some rule walks from, besides the anchors.
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
    "password=password='",
    "\"--password ",
    "name=\\u0041",
    "%41",
    "０",
    "\u{200b}",
    "QUJD",
    "&password=",
    ",token=",
];

/// What is found. A text of these holds more finds than bytes between them.
fn finds() -> Vec<String> {
    let token = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0";
    let mut finds: Vec<String> = [
        "ann.lee@example.org ",
        "王小明@例子.中國 ",
        "0912-345-678 ",
        "+886 912 345 678, ",
        "(415) 555-2671 ",
        "call 2345-6789 ",
        "4111 1111 1111 1111 ",
        "4111111111111111\n",
        "A123456789 ",
        "統編 12345675，",
        "DE89 3704 0044 0532 0130 00 ",
        "198.51.100.7 ",
        "2001:db8::1 ",
        "postgres://app:s3cr3tpw@db/shop ",
        "password=hunter2x ",
        "\"password\": \"hunter2x\", ",
        "Authorization: Basic YXBwOnMzY3IzdHB3\n",
        "the password is hunter2x. ",
        "token=a1b2c3d4e5, ",
        "{\"phone\": 23456789},",
        "password=\\u0068unter2x ",
        "ann%40example.org ",
    ]
    .map(str::to_owned)
    .to_vec();
    finds.extend(["ghp_", "sk-", "xoxb-", "AIza", "glpat-"].map(|prefix| format!("{prefix}{token} ")));
    finds.push(format!("Bearer {token}\n"));
    finds.push("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcDEF123456 ".to_owned());
    finds.push(format!("AKIA{} ", "IOSFODNN7Q2W3E4R"));
    finds.push("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADAN\n-----END PRIVATE KEY-----\n".to_owned());
    finds.push("dGhlIHBhc3N3b3JkPUh1bnRlcjJIdW50ZXIy ".to_owned());
    finds
}

fn best(redactor: &Redactor, text: &str, rounds: usize) -> Duration {
    let once = || {
        let begin = Instant::now();
        std::hint::black_box(redactor.redact(text));
        begin.elapsed()
    };
    (0..rounds).map(|_| once()).min().unwrap_or_default()
}

/// The median time for plain text of `size` bytes.
fn plain(redactor: &Redactor, size: usize) -> Duration {
    let mut times: Vec<Duration> =
        PLAIN.iter().map(|piece| best(redactor, &piece.repeat(size / piece.len()), 5)).collect();
    times.sort();
    times[PLAIN.len() / 2]
}

/// The pieces whose short texts take longest.
fn worst(redactor: &Redactor) -> Vec<String> {
    let mut singles: Vec<String> = Redactor::anchors().map(str::to_owned).collect();
    singles.extend(PIECES.iter().map(|piece| (*piece).to_owned()));
    singles.extend(finds());
    let pairs = singles.iter().flat_map(|first| singles.iter().map(move |second| format!("{first}{second}")));
    let time = |piece: String| (best(redactor, &piece.repeat(SHORT / piece.len()), 1), piece);
    let mut timed: Vec<(Duration, String)> = singles.iter().cloned().chain(pairs).map(time).collect();
    timed.sort_by(|a, b| b.0.cmp(&a.0));
    println!("{} pieces measured in {} KiB each", timed.len(), SHORT >> 10);
    timed.truncate(WORST);
    timed.into_iter().map(|(_, piece)| piece).collect()
}

fn main() {
    let kib = std::env::args().nth(1).and_then(|kib| kib.parse().ok());
    let size = kib.unwrap_or(10_240_usize) << 10;
    let redactor = Redactor::with(Rules::everything(Action::Mask));
    let base = plain(&redactor, size);
    println!("plain text: {:.0} MB/s", size as f64 / base.as_secs_f64() / 1e6);
    let mut results = Vec::new();
    for piece in worst(&redactor) {
        let text = piece.repeat(size / piece.len());
        let quarter = best(&redactor, &text[..text.floor_char_boundary(text.len() / 4)], 2).as_secs_f64();
        let whole = best(&redactor, &text, 2).as_secs_f64();
        results.push((whole / base.as_secs_f64(), whole / quarter, piece));
    }
    results.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (ratio, growth, piece) in results.iter().take(PRINTED) {
        println!("{ratio:8.1} times plain text, {growth:.1} times for four times the size: {piece:?}");
    }
}
