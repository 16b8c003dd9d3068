//! The redactor's share of `bench/redact`: how fast it reads a text, and what it finds in many.
//!
//! `awooop-bench redact FILE SECONDS` reads the file over and over in each of its modes and prints a JSON line a mode:
//! megabytes (10^6) a second of this process' CPU time, and how much was found. `awooop-bench redact-spans` reads
//! texts from stdin, a JSON string a line, and prints for each the list of `[class, start, end]` in bytes. The
//! scripts of `bench/redact` call both, and the peers beside them.

use std::hint::black_box;
use std::io::{BufRead, Write};

use anyhow::Context;
use awooop_redact::{Action, Redactor, Rules};
use serde_json::json;

use crate::cpu;

fn everything() -> Redactor {
    Redactor::with(Rules::everything(Action::Mask))
}

/// Measures every mode on a file, each for so many seconds of CPU.
pub(crate) fn measure(file: &str, seconds: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{file} cannot be read"))?;
    let seconds: f64 = seconds.parse().with_context(|| format!("{seconds} is no number"))?;
    let (credentials, all) = (Redactor::new(), everything());
    measure_mode("credentials", &text, seconds, |text| credentials.redact(text).findings.len())?;
    measure_mode("all classes", &text, seconds, |text| all.redact(text).findings.len())?;
    measure_mode("streamed, 16 bytes", &text, seconds, |text| streamed(&all, text))
}

/// Bytes of a chunk: what a model's server sends at once is a token or two.
const CHUNK: usize = 16;

/// Reads the text as a stream and says how much was found.
fn streamed(redactor: &Redactor, text: &str) -> usize {
    let (mut stream, mut out) = (redactor.stream(), String::new());
    for chunk in text.as_bytes().chunks(CHUNK) {
        stream.push_bytes(chunk, &mut out);
        // what came out is sent on
        black_box(&out);
        out.clear();
    }
    let found = stream.findings().values().sum::<u64>();
    stream.finish(&mut out);
    usize::try_from(found).unwrap_or(usize::MAX)
}

fn measure_mode(name: &str, text: &str, seconds: f64, redact: impl Fn(&str) -> usize) -> anyhow::Result<()> {
    let process = std::process::id();
    let findings = redact(text);
    let (mut rounds, started) = (0_u32, cpu::of_process(process)?);
    let spent = loop {
        black_box(redact(black_box(text)));
        rounds += 1;
        let spent = cpu::of_process(process)? - started;
        if spent >= seconds {
            break spent;
        }
    };
    let speed = text.len() as f64 * f64::from(rounds) / spent / 1e6;
    println!("{}", json!({"name": name, "mb_s": speed, "findings": findings}));
    Ok(())
}

/// Answers each line of stdin with what was found in it.
pub(crate) fn spans() -> anyhow::Result<()> {
    let redactor = everything();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let text: String = serde_json::from_str(&line?).context("a line is no JSON string")?;
        let found = redactor.redact(&text).findings;
        let spans: Vec<_> = found.iter().map(|f| json!([f.class.as_str(), f.start, f.end])).collect();
        writeln!(out, "{}", serde_json::Value::Array(spans))?;
    }
    Ok(out.flush()?)
}
