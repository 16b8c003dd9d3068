//! Validation of an agent's output beside Python's `jsonschema` and Pydantic: `awooop-bench schema`.
//!
//! The same document and schema (`bench/schema`) for all, in the same rounds, ours and theirs in turn, in
//! CPU time. Measured are: *compile*, a text read, a new schema compiled and the document checked; *kept*, a
//! text read and checked against what is compiled already; *validate*, a document that is read already; and
//! *runtime*, what a run does with an answer: *kept*, with the schema found among the compiled ones.
//! `AWOOOP_TEST_PYTHON` names the Python that has the peers; without it they are said to be skipped.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::Command;

use anyhow::Context;
use awooop_core::schema::Schema;
use serde_json::Value;

use crate::cpu;

/// The variable that names a Python with the peers' packages.
const VARIABLE: &str = "AWOOOP_TEST_PYTHON";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bench/schema/peers.py");
const ANSWER: &str = include_str!("../../../../../bench/schema/answer.json");
const SCHEMA: &str = include_str!("../../../../../bench/schema/schema.json");
/// CPU seconds of every case in a round.
const SECONDS: f64 = 1.0;
const ROUNDS: usize = 3;
/// Validations between two looks at the clock.
const BATCH: u32 = 200;

/// The best of all rounds by contender and case, in microseconds.
type Best = BTreeMap<(String, String), f64>;

/// Measures all rounds and prints them.
pub(crate) fn measure() -> anyhow::Result<()> {
    let python = std::env::var_os(VARIABLE);
    println!("document: {} bytes; schema: {} bytes; CPU time, one thread", ANSWER.len(), SCHEMA.len());
    if python.is_none() {
        println!("peers: SKIPPED, {VARIABLE} does not name a Python with jsonschema and pydantic");
    }
    let mut best = Best::new();
    for round in 1..=ROUNDS {
        println!("round {round} of {ROUNDS} (load average {})", cpu::load());
        for (case, us) in ours()? {
            add(&mut best, "awooop", case, us);
        }
        if let Some(python) = &python {
            for line in peers(python)? {
                let word = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
                let name = format!("{} {}", word("name"), word("version"));
                add(&mut best, &name, &word("what"), line["us"].as_f64().context("no time was printed")?);
            }
        }
    }
    println!("best of {ROUNDS} rounds, and how many times ours that is");
    for ((case, name), us) in &best {
        let ours = best[&(case.clone(), "awooop".to_owned())];
        println!("  {case:8} {name:20} {us:9.1} us {:8.1}", us / ours);
    }
    Ok(())
}

fn add(best: &mut Best, name: &str, case: &str, us: f64) {
    println!("  {case:8} {name:20} {us:9.1} us");
    let least = best.entry((case.to_owned(), name.to_owned())).or_insert(us);
    *least = least.min(us);
}

fn ours() -> anyhow::Result<Vec<(&'static str, f64)>> {
    let schema: Value = serde_json::from_str(SCHEMA)?;
    let kept = Schema::compile(&schema)?;
    let parsed: Value = serde_json::from_str(ANSWER)?;
    let mut broken = parsed.clone();
    broken["items"][19]["quantity"] = 0.into();
    anyhow::ensure!(kept.validate(&parsed).is_ok(), "the document fits");
    anyhow::ensure!(kept.validate(&broken).is_err(), "the broken document does not fit");
    let read = || serde_json::from_str::<Value>(black_box(ANSWER)).expect("it was read before");
    let (mut fresh, mut made) = (schema.clone(), 0_u64);
    let compile = microseconds(|| {
        // another comment makes it another schema
        made += 1;
        fresh["$comment"] = format!("{made}").into();
        Schema::compile(&fresh).is_ok_and(|schema| schema.validate(&read()).is_ok())
    })?;
    let runtime = microseconds(|| {
        Schema::compile(black_box(&schema)).is_ok_and(|schema| schema.validate(&read()).is_ok())
    })?;
    Ok(vec![
        ("compile", compile),
        ("runtime", runtime),
        ("kept", microseconds(|| kept.validate(&read()).is_ok())?),
        ("validate", microseconds(|| kept.validate(black_box(&parsed)).is_ok())?),
    ])
}

/// CPU time of one call.
fn microseconds(mut call: impl FnMut() -> bool) -> anyhow::Result<f64> {
    let process = std::process::id();
    let (mut calls, started) = (0, cpu::of_process(process)?);
    loop {
        for _ in 0..BATCH {
            anyhow::ensure!(black_box(call()), "the document was refused");
        }
        calls += BATCH;
        let spent = cpu::of_process(process)? - started;
        if spent >= SECONDS {
            return Ok(spent / f64::from(calls) * 1e6);
        }
    }
}

fn peers(python: &std::ffi::OsStr) -> anyhow::Result<Vec<Value>> {
    let output = Command::new(python)
        .args(["-W", "ignore", SCRIPT, &SECONDS.to_string()])
        .output()
        .context("the peers cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "the peers failed: {}", said.trim());
    let lines = String::from_utf8(output.stdout)?;
    lines.lines().map(|line| serde_json::from_str(line).context("a peer's line is no JSON")).collect()
}
