//! What was measured, as lines for a person: each round as it comes, then the best rounds and the ratios.
//!
//! The best round is the one with the most runs a second, or the shortest wait: on a machine that is shared,
//! noise only ever takes away.

use crate::cpu;
use crate::disk;
use crate::load::{Flood, Trickle};
use crate::peer::Measured;
use crate::site::Spent;
use crate::stats::{Options, halves, percentile_ms};

/// A flood of our runs.
pub(crate) struct OurFlood {
    /// How many.
    pub(crate) runs: usize,
    /// How long they took.
    pub(crate) flood: Flood,
    /// What they used.
    pub(crate) spent: Spent,
}

/// A trickle of our runs.
pub(crate) struct OurTrickle {
    /// How long they waited.
    pub(crate) trickle: Trickle,
    /// What they used.
    pub(crate) spent: Spent,
}

/// The best of all rounds so far.
#[derive(Default)]
pub(crate) struct Report {
    floods: Vec<(&'static str, f64)>,
    start_ms: Option<(f64, f64)>,
    peer: Vec<(String, f64, f64)>,
}

/// Prints the weather of a round: how busy the machine is, and what a small synchronous write takes now.
pub(crate) fn print_round(round: usize, options: &Options) -> anyhow::Result<()> {
    let sync = disk::sync_times()?;
    println!(
        "round {round} of {} (load average {}, fdatasync {})",
        options.rounds,
        cpu::load(),
        halves(sync)
    );
    Ok(())
}

/// Prints what the figures depend on.
pub(crate) fn print_machine(database: &str, options: &Options, has_peer: bool) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("machine: {cores} cores shared by callers, server and PostgreSQL");
    println!("database: {database}");
    println!(
        "load: {} runs by {} callers over HTTP; then {} runs/s for {} s; agent without tools, offline planner",
        options.runs, options.callers, options.rate, options.seconds
    );
    if !has_peer {
        println!("peer: SKIPPED, graphile-worker is not installed here (node and npm are needed)");
    }
}

impl Spent {
    fn words(&self) -> String {
        format!(
            "CPU a run: server {:.0} us, PostgreSQL {:.0} us, callers {:.0} us; {:.1} writing transactions, \
             {:.1} kB of WAL; others used {:.2} cores",
            self.server_us,
            self.postgres_us,
            self.client_us,
            self.transactions,
            self.wal_bytes / 1000.0,
            self.others
        )
    }
}

impl Report {
    /// Prints a flood and keeps the best of its kind.
    pub(crate) fn add_flood(&mut self, kind: &'static str, ours: OurFlood) {
        let per_s = |elapsed: std::time::Duration| ours.runs as f64 / elapsed.as_secs_f64();
        let (accepted, ended) = (per_s(ours.flood.accepted_in), per_s(ours.flood.ended_in));
        println!("  awooop, {kind}: {ended:.0} runs/s to the last end ({accepted:.0}/s accepted)");
        println!("    id to start p50 / p99: {}; {}", halves(ours.flood.waits), ours.spent.words());
        self.floods.push((kind, ended));
    }

    /// Prints a trickle and keeps the best.
    pub(crate) fn add_trickle(&mut self, ours: OurTrickle) {
        let trickle = ours.trickle;
        let mut starts = trickle.sent_to_start.clone();
        starts.sort_unstable();
        let start = (percentile_ms(&starts, 0.5), percentile_ms(&starts, 0.99));
        println!("  awooop, trickle, p50 / p99: request sent to start {}", halves(trickle.sent_to_start));
        println!("    id to start {}", halves(trickle.queued_to_start));
        println!("    request sent to answer with output {}", halves(trickle.sent_to_answer));
        println!("    {}", ours.spent.words());
        self.start_ms = Some(self.start_ms.filter(|best| best.0 <= start.0).unwrap_or(start));
    }

    /// Prints a round of the peer and keeps the best.
    pub(crate) fn add_peer(&mut self, measured: Vec<Measured>) {
        for Measured { line, postgres_us } in measured {
            let number = |name: &str| line[name].as_f64().unwrap_or_default();
            let name = line["name"].as_str().unwrap_or_default().to_owned();
            let cpu =
                format!("CPU a job: process {:.0} us, PostgreSQL {postgres_us:.0} us", number("process_us"));
            if name == "latency" {
                let (half, most) = (number("p50_ms"), number("p99_ms"));
                println!(
                    "  graphile-worker, trickle, p50 / p99: sent to start {half:.1} / {most:.1} ms; {cpu}"
                );
                self.peer.push((name, half, most));
            } else {
                println!("  graphile-worker, {name}: {:.0} jobs/s; {cpu}", number("per_s"));
                self.peer.push((name, number("per_s"), 0.0));
            }
        }
    }

    /// Prints the best rounds and how they compare.
    pub(crate) fn print_summary(&self, options: &Options) {
        println!("best of {} rounds", options.rounds);
        let most = |values: Vec<f64>| values.into_iter().reduce(f64::max);
        let of = |name: &'static str| self.peer.iter().filter(move |p| p.0 == name);
        for kind in ["1 project", "16 projects"] {
            let ours = most(self.floods.iter().filter(|f| f.0 == kind).map(|f| f.1).collect());
            let Some(ours) = ours else { continue };
            println!("  awooop, {kind}: {ours:.0} runs/s");
            for name in ["single", "drain"] {
                if let Some(theirs) = most(of(name).map(|p| p.1).collect()) {
                    println!("    graphile-worker, {name}: {theirs:.0} jobs/s, ratio {:.3}", ours / theirs);
                }
            }
        }
        if let Some((half, high)) = self.start_ms {
            println!("  awooop, request sent to start: p50 {half:.1} ms, p99 {high:.1} ms");
            if let Some(theirs) = of("latency").min_by(|a, b| a.1.total_cmp(&b.1)) {
                let (ratio, ratio_99) = (half / theirs.1, high / theirs.2);
                println!("    graphile-worker: p50 {:.1} ms, p99 {:.1} ms", theirs.1, theirs.2);
                println!("    ratio: p50 {ratio:.1}, p99 {ratio_99:.1} (below 1 we are faster)");
            }
        }
        println!("not like for like: bench/README.md says what each side includes");
    }
}
