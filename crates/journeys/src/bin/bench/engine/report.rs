//! The report of one run of the engine's measurements, in Markdown: every figure the median of the rounds, every ratio
//! the median of the ratios within a round.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;

use super::{Measured, OURS, Sizes};
use crate::cpu;

/// What is compared, and where a report says so.
const COMPARED: [&str; 3] = ["enqueue", "drain", "drain with a step"];

/// One round's measurements of somebody.
struct Part {
    round: usize,
    who: String,
    measured: Vec<Measured>,
}

/// All there is to report.
pub(super) struct Report {
    sizes: Sizes,
    machine: String,
    parts: Vec<Part>,
    scales: Vec<Part>,
    /// From the kill of a worker to the moment when all of its runs were under way again.
    pub(super) recovery: Option<Duration>,
}

impl Report {
    #[expect(clippy::disallowed_methods, reason = "a measurement's own date")]
    pub(super) fn begin(sizes: &Sizes) -> Report {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let machine = format!(
            "{cores} shared cores, begun {} at load average {}",
            Timestamp::now().strftime("%Y-%m-%d %H:%M UTC"),
            cpu::load()
        );
        Report { sizes: sizes.clone(), machine, parts: Vec::new(), scales: Vec::new(), recovery: None }
    }

    pub(super) fn add(&mut self, round: usize, who: &str, measured: Vec<Measured>) {
        self.parts.push(Part { round, who: who.to_owned(), measured });
    }

    pub(super) fn add_scale(&mut self, who: String, measured: Vec<Measured>) {
        self.scales.push(Part { round: 0, who, measured });
    }

    /// The whole page.
    pub(super) fn text(&self) -> String {
        let mut text = String::from("# The engine beside queues and engines\n\n");
        let Sizes { jobs, slow_jobs, seconds, rounds, .. } = self.sizes;
        let _ = write!(
            text,
            "Written by `./x bench engine`; what is measured, and what is not like for like, is in\n\
             [README.md](../README.md). {}, ended at {}.\n\
             {rounds} rounds in turn, {jobs} runs or jobs a measurement ({slow_jobs} of DBOS and Restate), {seconds} s of\n\
             latency at half of what each can take in and work off with a step at once. Medians of the rounds.\n\n",
            self.machine,
            cpu::load()
        );
        text.push_str(HEAD);
        self.rows(&mut text, &self.parts);
        self.ratios(&mut text);
        text.push_str("\n## At other sizes, AwoooP alone\n\n");
        text.push_str(HEAD);
        self.rows(&mut text, &self.scales);
        self.depth(&mut text);
        if let Some(took) = self.recovery {
            let _ = writeln!(
                text,
                "\n## A killed worker\n\nWith all intervals at their defaults, a worker process with 40 runs under way was \
                 killed (`kill -9`). All of them were\nunder way on another worker {:.1} s later (goal: 25 s).",
                took.as_secs_f64()
            );
        }
        text
    }

    fn rows(&self, text: &mut String, parts: &[Part]) {
        for who in firsts(parts.iter().map(|part| part.who.as_str())) {
            let all = || parts.iter().filter(|part| part.who == who).flat_map(|part| &part.measured);
            for what in firsts(all().map(|m| m.what.as_str())) {
                let of = |figure: fn(&Measured) -> f64| {
                    median(all().filter(|m| m.what == what).map(figure).collect()).unwrap_or_default()
                };
                let wal = all().any(|m| m.what == what && m.wal.is_some());
                let wal =
                    if wal { format!("{:.0}", of(|m| m.wal.unwrap_or_default())) } else { String::new() };
                let (p50, p99) =
                    (of(|m| m.start_ms.unwrap_or_default().0), of(|m| m.start_ms.unwrap_or_default().1));
                let start = if what == "latency" { format!("{p50:.1} / {p99:.1}") } else { String::new() };
                let _ = writeln!(
                    text,
                    "| {who} | {what} | {:.0} | {:.0} | {:.0} | {:.0} | {wal} | {start} |",
                    of(|m| m.count),
                    of(|m| m.per_s),
                    of(|m| m.process_us),
                    of(|m| m.server_us),
                );
            }
        }
    }

    fn ratios(&self, text: &mut String) {
        let peers: Vec<&str> = firsts(self.parts.iter().map(|part| part.who.as_str()));
        let peers: Vec<&str> = peers.into_iter().filter(|who| *who != OURS).collect();
        if peers.is_empty() {
            text.push_str("\nThe peers are not installed: node and npm are needed.\n");
            return;
        }
        text.push_str("\n| ratio of AwoooP | enqueue | drain | drain with a step | start p50 |\n| --- | --- | --- | --- | --- |\n");
        for peer in peers {
            let mut cells = COMPARED.map(|what| self.ratio(peer, what, |m| m.per_s)).to_vec();
            cells.push(self.ratio(peer, "latency", |m| m.start_ms.unwrap_or_default().0));
            let cell = |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let cells: Vec<String> = cells.into_iter().map(cell).collect();
            let _ = writeln!(text, "| to {peer} | {} |", cells.join(" | "));
        }
    }

    fn ratio(&self, peer: &str, what: &str, figure: fn(&Measured) -> f64) -> Option<f64> {
        let of = |who: &str, round: usize| {
            let part = self.parts.iter().find(|part| part.who == who && part.round == round)?;
            part.measured.iter().find(|m| m.what == what).map(figure)
        };
        let ratio = |round: usize| Some(of(OURS, round)? / of(peer, round)?);
        median((0..self.sizes.rounds).filter_map(ratio).filter(|ratio| ratio.is_finite()).collect())
    }

    /// What a run costs PostgreSQL with most runs queued, against the shallowest queue.
    fn depth(&self, text: &mut String) {
        let deep: Vec<&Part> = self.scales.iter().filter(|part| part.who.starts_with("1 project,")).collect();
        let (Some(first), Some(last)) = (deep.first(), deep.last()) else { return };
        for what in ["drain", "drain with a step"] {
            let cost = |part: &Part| part.measured.iter().find(|m| m.what == what).map(|m| m.server_us);
            if let (Some(shallow), Some(deep)) = (cost(first), cost(last)) {
                let _ = writeln!(
                    text,
                    "\nPostgreSQL's CPU of a run, {what}, with {} against {}: {:.2} times (goal: 1.3).",
                    last.who.replace("1 project, ", ""),
                    first.who.replace("1 project, ", ""),
                    deep / shallow
                );
            }
        }
    }
}

const HEAD: &str = "\
| | what | count | a second | CPU us each: process | PostgreSQL or server | WAL bytes each | start p50 / p99 ms |
| --- | --- | --- | --- | --- | --- | --- | --- |
";

/// The different names in the order of their first appearance.
fn firsts<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// The middle one; of an even number, the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (upper, lower) = (values.len() / 2, values.len().checked_sub(1)? / 2);
    Some((values[lower] + values[upper]) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(what: &str, per_s: f64) -> Measured {
        Measured { what: what.to_owned(), per_s, count: 10.0, ..Measured::default() }
    }

    #[test]
    fn a_ratio_is_the_median_of_the_ratios_within_a_round() {
        let mut report = Report::begin(&Sizes::default());
        for (round, (ours, theirs)) in [(10.0, 1.0), (30.0, 10.0), (8.0, 4.0)].into_iter().enumerate() {
            report.add(round, OURS, vec![measured("drain", ours)]);
            report.add(round, "peer", vec![measured("drain", theirs)]);
        }
        assert_eq!(report.ratio("peer", "drain", |m| m.per_s), Some(3.0));
        assert_eq!(report.ratio("peer", "enqueue", |m| m.per_s), None);
        let text = report.text();
        assert!(text.contains("| AwoooP | drain | 10 | 10 |"), "{text}");
        assert!(text.contains("| to peer |  | 3.00 |  |  |"), "{text}");
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0]), Some(2.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
    }
}
