//! The engine alone, beside queues and engines that are libraries or servers as well: creating runs, working them off,
//! and the time from the one to the other; then ours by itself, with more projects, more queued runs, and a worker killed.
//!
//! Everybody is measured in turn and nobody shares the machine with another; each round goes the other way round than the
//! one before, and ratios are taken within a round. Our store is this process' own, on an embedded PostgreSQL with the
//! server's settings; journal, audit, row security, fence, budget and fsync are on. Peers run in a Node process on a
//! cluster of their own with the same settings; Restate on its own server. It is bounded and ends by itself, and the
//! report is written by this program, from one run.

mod options;
mod peers;
mod recovery;
mod report;
mod scales;
mod site;

use std::path::Path;

use anyhow::Context;

use crate::cpu;
pub(crate) use options::Sizes;
use peers::{PEERS, Peers};
use report::Report;
use site::Site;

/// Ourselves in the tables.
const OURS: &str = "AwoooP";

/// One thing measured of somebody.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    /// `enqueue`, `drain`, `drain with a step` or `latency`.
    what: String,
    /// How many runs or jobs.
    count: f64,
    /// How many a second; of latency, how many were sent.
    per_s: f64,
    /// CPU of the process that creates and works, in microseconds each.
    process_us: f64,
    /// CPU of PostgreSQL or the peer's server, in microseconds each.
    server_us: f64,
    /// Write-ahead log, in bytes each; where there is one.
    wal: Option<f64>,
    /// From creation to start, in milliseconds.
    start_ms: Option<(f64, f64)>,
}

/// Measures everything and writes the report to `file`.
pub(crate) async fn measure(file: &Path, sizes: &Sizes) -> anyhow::Result<()> {
    let mut report = Report::begin(sizes);
    // first, because it needs the built server
    eprintln!("a worker is killed (load average {})", cpu::load());
    report.recovery = Some(recovery::measure().await?);
    let peers = match peers::is_installed() {
        true => Some(Peers::start().await?),
        false => None,
    };
    let mut whose = vec![OURS];
    whose.extend(peers.iter().flat_map(|_| PEERS).filter(|name| sizes.wants(name)));
    for round in 0..sizes.rounds {
        if round > 0 {
            whose.reverse();
        }
        for name in &whose {
            eprintln!("round {}, {name} (load average {})", round + 1, cpu::load());
            let measured = match (*name, &peers) {
                (OURS, _) => Site::start(1).await?.measure(sizes.jobs, sizes.seconds).await?,
                (name, Some(peers)) => peers.measure(name, sizes).await.with_context(|| name.to_owned())?,
                (_, None) => continue,
            };
            report.add(round, name, measured);
        }
    }
    drop(peers);
    for scale in scales::of(sizes) {
        eprintln!("{scale} (load average {})", cpu::load());
        report.add_scale(scale.to_string(), scale.measure(sizes).await?);
    }
    let text = report.text();
    std::fs::write(file, &text).with_context(|| file.display().to_string())?;
    println!("{text}");
    Ok(())
}
