//! Measures how much synthetic log text the redactor reads in a second on one core.
//!
//! Three texts: plain log lines, the same with a credential in every twentieth line, and compact JSON records.
//! Run with `--release`; each text is read for about two seconds and the best of the rounds counts.

#![expect(clippy::print_stdout, reason = "an example prints its result")]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use awooop_redact::Redactor;

const BYTES: usize = 8 << 20;

fn build(line: impl Fn(&mut String, usize)) -> String {
    let mut text = String::with_capacity(BYTES + 512);
    for n in 0.. {
        if text.len() >= BYTES {
            break;
        }
        line(&mut text, n);
    }
    text
}

fn log_line(text: &mut String, n: usize) {
    writeln!(
        text,
        "2026-05-{:02}T10:{:02}:07.{:03}Z INFO gateway::call{{run=0197-{n:08x} tool=shop__top_customers}} answered in {} ms, {} tokens, status 200",
        n % 28 + 1, n % 60, n % 1000, n % 97, n % 4096,
    )
    .expect("a String takes all");
}

fn main() {
    let plain = build(log_line);
    let planted = build(|text, n| {
        log_line(text, n);
        if n % 20 == 0 {
            writeln!(text, "connect postgres://app:pw{n}x@db:5432/shop with api_key=k9{n:020x}")
                .expect("a String takes all");
        }
    });
    let json = build(|text, n| {
        writeln!(text, r#"{{"order_id":{n},"customer":"C{:05}","sku_key":"AB-{n:04x}","amount":{}.50,"note":"left at the door"}}"#, n % 9999, n % 300)
            .expect("a String takes all");
    });
    let redactor = Redactor::new();
    for (name, text) in [("plain log", plain), ("log with credentials", planted), ("json", json)] {
        let begin = Instant::now();
        let mut best = Duration::MAX;
        let mut found = 0;
        while begin.elapsed() < Duration::from_secs(2) {
            let round = Instant::now();
            found = redactor.redact(&text).findings.len();
            best = best.min(round.elapsed());
        }
        println!(
            "{name}: {:.0} MB/s, {found} findings in {} bytes",
            text.len() as f64 / best.as_secs_f64() / 1e6,
            text.len()
        );
    }
}
