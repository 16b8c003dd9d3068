//! Measures how much synthetic text the redactor reads in a second on one core: credentials alone, and all classes.
//!
//! Texts: plain log lines, the same with a credential or with personal data in every twentieth line, compact JSON
//! records, Chinese prose and source code. Run with `--release`; each text is read for about a second and the best
//! of the rounds counts. An argument selects the texts whose name holds it.

#![expect(clippy::print_stdout, reason = "an example prints its result")]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use awooop_redact::{Action, Redactor, Rules};

/// Small enough that a round fits into one time slice of a busy machine.
const BYTES: usize = 1 << 18;

fn build(line: impl Fn(&mut String, usize) -> std::fmt::Result) -> String {
    let mut text = String::with_capacity(BYTES + 512);
    for n in 0.. {
        if text.len() >= BYTES {
            break;
        }
        line(&mut text, n).expect("a String takes all");
    }
    text
}

fn log_line(text: &mut String, n: usize) -> std::fmt::Result {
    writeln!(
        text,
        "2026-05-{:02}T10:{:02}:07.{:03}Z INFO gateway::call{{run=0197-{n:08x} tool=shop__top_customers}} answered in {} ms, {} tokens, status 200",
        n % 28 + 1,
        n % 60,
        n % 1000,
        n % 97,
        n % 4096,
    )
}

fn corpora() -> [(&'static str, String); 6] {
    [
        ("plain log", build(log_line)),
        (
            "log with credentials",
            build(|text, n| {
                log_line(text, n)?;
                if n % 20 == 0 {
                    writeln!(text, "connect postgres://app:pw{n}x@db:5432/shop with api_key=k9{n:020x}")?;
                }
                Ok(())
            }),
        ),
        (
            "log with personal data",
            build(|text, n| {
                log_line(text, n)?;
                if n % 20 == 0 {
                    let (a, b) = (n % 250 + 1, n % 10_000);
                    writeln!(
                        text,
                        "login c{n}@example.org from 198.51.100.{a}, phone 0912-34{:01}-{b:04}",
                        n % 10
                    )?;
                }
                Ok(())
            }),
        ),
        (
            "json",
            build(|text, n| {
                let (customer, amount) = (n % 9999, n % 300);
                writeln!(
                    text,
                    r#"{{"order_id":{n},"customer":"C{customer:05}","sku_key":"AB-{n:04x}","amount":{amount}.50,"note":"left at the door"}}"#
                )
            }),
        ),
        (
            "chinese",
            build(|text, n| {
                writeln!(
                    text,
                    "第{}批貨物已於五月{}日送達倉庫，請於三個工作天內完成點收，訂單編號為{n:08}，如有短少或破損請回報給門市主管處理。",
                    n % 97,
                    n % 28 + 1
                )
            }),
        ),
        (
            "code",
            build(|text, n| {
                writeln!(
                    text,
                    "    let value_{n} = self.items.get({}).map(|item: &Item| std::cmp::max(item.len(), 0x{n:x})).unwrap_or_default(); // see {}",
                    n % 64,
                    n % 9
                )
            }),
        ),
    ]
}

fn measure(redactor: &Redactor, text: &str) -> (f64, usize) {
    let begin = Instant::now();
    let mut best = Duration::MAX;
    let mut found = 0;
    while begin.elapsed() < Duration::from_secs(1) {
        let round = Instant::now();
        found = redactor.redact(text).findings.len();
        best = best.min(round.elapsed());
    }
    (text.len() as f64 / best.as_secs_f64() / 1e6, found)
}

/// Reads `text` as a stream in pieces of `len` bytes, for a second; megabytes a second.
fn measure_stream(redactor: &Redactor, text: &str, len: usize) -> f64 {
    let begin = Instant::now();
    let (mut stream, mut out) = (redactor.stream(), String::new());
    let mut read = 0;
    for piece in text.as_bytes().chunks(len) {
        stream.push_bytes(piece, &mut out);
        out.clear();
        read += piece.len();
        if begin.elapsed() > Duration::from_secs(1) {
            break;
        }
    }
    read as f64 / begin.elapsed().as_secs_f64() / 1e6
}

fn main() {
    let (credentials, everything) = (Redactor::new(), Redactor::with(Rules::everything(Action::Mask)));
    let wanted = std::env::args().nth(1).unwrap_or_default();
    for (name, text) in corpora().into_iter().filter(|(name, _)| name.contains(&wanted)) {
        let (alone, few) = measure(&credentials, &text);
        let (all, many) = measure(&everything, &text);
        println!(
            "{name}: credentials {alone:.0} MB/s ({few} findings), all classes {all:.0} MB/s ({many} findings)"
        );
        let [small, large] = [16, 4096].map(|len| measure_stream(&credentials, &text, len));
        println!("{name}: a stream in pieces of 16 bytes {small:.1} MB/s, of 4 KiB {large:.0} MB/s");
    }
}
