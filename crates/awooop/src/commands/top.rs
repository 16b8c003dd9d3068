//! `awooop runs top`: what goes on, drawn anew on a terminal until Ctrl-C.

use std::io::IsTerminal;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::cli::RunsTopArgs;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Reply, cell, printable, table, write_raw};

/// Moves to the upper left corner and forgets what was below.
const REDRAW: &str = "\u{1b}[H\u{1b}[J";
/// The same with the whole screen emptied first.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// Carries out the command.
pub(super) async fn run(args: RunsTopArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    if args.once || args.client.json || !std::io::stdout().is_terminal() {
        let document = look(&client).await?;
        let text = shown(&document);
        return Ok(Reply::done(document, text));
    }
    let mut first = CLEAR;
    loop {
        let text = printable(&shown(&look(&client).await?));
        write_raw(&format!("{first}{text}\n"));
        first = REDRAW;
        tokio::time::sleep(Duration::from_secs(args.every)).await;
    }
}

async fn look(client: &Client) -> Result<Value, Failure> {
    client.get(&["v1", "platform", "activity"], &[]).await
}

fn shown(document: &Value) -> String {
    let items = |name: &str| document[name].as_array().cloned().unwrap_or_default();
    let (mut projects, workers) = (items("projects"), items("workers"));
    let at = document["at"].as_str().and_then(|at| at.parse().ok());
    let weight = |p: &Value| -(p["queued"].as_i64().unwrap_or(0) + p["running"].as_i64().unwrap_or(0));
    projects.sort_by_key(weight);
    let sum = |name: &str| workers.iter().filter_map(|w| w[name].as_i64()).sum::<i64>();
    let more = if document["is_cut"] == true { ", and more projects than are shown" } else { "" };
    let head = format!(
        "{}  workers: {}, slots used: {} of {}{more}",
        cell(&document["at"]),
        workers.len(),
        sum("slots_used"),
        sum("slots")
    );
    let rows: Vec<Vec<String>> = projects.iter().map(|p| project_row(p, at)).collect();
    let columns = [
        "PROJECT",
        "QUEUED",
        "OLDEST",
        "RUNNING",
        "WAITING",
        "RETRYING",
        "STARTED/MIN",
        "ENDED/MIN",
        "P50",
        "P99",
    ];
    let of_projects = if rows.is_empty() { "nothing goes on".to_owned() } else { table(&columns, &rows) };
    let rows: Vec<Vec<String>> = workers.iter().map(worker_row).collect();
    let of_workers = match rows.is_empty() {
        true => "no worker has a heartbeat: nothing is carried out".to_owned(),
        false => table(&["WORKER", "BEAT", "SLOTS", "USED"], &rows),
    };
    [head, of_projects, of_workers].join("\n\n")
}

fn project_row(project: &Value, at: Option<Timestamp>) -> Vec<String> {
    let oldest = project["oldest_queued_at"].as_str().and_then(|oldest| oldest.parse::<Timestamp>().ok());
    let age = at
        .zip(oldest)
        .map_or("-".to_owned(), |(at, oldest)| seconds(at.duration_since(oldest).as_secs_f64()));
    let took = |name: &str| project[name].as_f64().map_or("-".to_owned(), seconds);
    let mut row = vec![cell(&project["project_id"]), cell(&project["queued"]), age];
    let counts = ["running", "waiting", "retrying", "started_last_minute", "ended_last_minute"];
    row.extend(counts.map(|name| cell(&project[name])));
    row.extend([took("start_p50_s"), took("start_p99_s")]);
    row
}

fn worker_row(worker: &Value) -> Vec<String> {
    let beat = worker["beat_age_s"].as_f64().map_or("-".to_owned(), seconds);
    vec![cell(&worker["worker_id"]), beat, cell(&worker["slots"]), cell(&worker["slots_used"])]
}

/// A length of time as a person reads it: milliseconds, seconds, minutes or hours.
fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", s.max(0.0) * 1000.0),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_busiest_project_comes_first_and_times_are_readable() {
        let project = |id: &str, queued: i64| {
            json!({"project_id": id, "queued": queued, "oldest_queued_at": "2026-05-01T10:00:00Z", "running": 1,
                "waiting": 0, "retrying": 2, "started_last_minute": 3, "ended_last_minute": 4, "start_p50_s": 0.0042,
                "start_p99_s": null})
        };
        let document = json!({"at": "2026-05-01T10:01:30Z", "is_cut": false,
            "projects": [project("calm", 1), project("busy", 1000)],
            "workers": [{"worker_id": "w", "beat_age_s": 2.5, "slots": 64, "slots_used": 2}]});
        let text = shown(&document);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|l| l.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect()).collect();
        assert_eq!(lines[0], ["2026-05-01T10:01:30Z", "workers: 1, slots used: 2 of 64"]);
        assert_eq!(lines[3], ["busy", "1000", "90.0 s", "1", "0", "2", "3", "4", "4 ms", "-"]);
        assert_eq!(lines[7], ["w", "2.5 s", "64", "2"]);
        assert_eq!((seconds(150.0), seconds(9000.0)), ("2 min".to_owned(), "2.5 h".to_owned()));
    }
}
