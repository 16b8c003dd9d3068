//! The loads: as many runs as possible, and a steady trickle.
//!
//! Both go through the HTTP API with a project's key, as any caller's would. A run that does not complete
//! fails the measurement. Times of one machine's clock are compared; where a run's own id is the start, its
//! UUID v7 gives whole milliseconds, so up to one is added.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use awooop_journeys::client::Api;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::site::AGENT;
use crate::stats::Options;

/// A measurement that takes longer is broken.
const AT_MOST: Duration = Duration::from_secs(180);
/// Between two looks at whether runs are left.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a flood of runs came to.
pub(crate) struct Flood {
    /// From the first request to the last answer.
    pub(crate) accepted_in: Duration,
    /// From the first request to the end of the last run.
    pub(crate) ended_in: Duration,
    /// From a run's id to its start.
    pub(crate) waits: Vec<Duration>,
}

/// What a trickle came to, once a run.
#[derive(Default)]
pub(crate) struct Trickle {
    /// From the sending of the request to the run's start.
    pub(crate) sent_to_start: Vec<Duration>,
    /// From the making of the run's id to the run's start.
    pub(crate) queued_to_start: Vec<Duration>,
    /// From the sending of the request to the answer with the run's output.
    pub(crate) sent_to_answer: Vec<Duration>,
}

/// `runs` runs, spread evenly over the projects, by `callers` who each send the next one when the last was
/// accepted; then waits until none is left.
pub(crate) async fn flood(projects: &[Api], runs: usize, callers: usize) -> anyhow::Result<Flood> {
    let next = Arc::new(AtomicUsize::new(0));
    let shared: Arc<[Api]> = projects.into();
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (next, projects) = (next.clone(), shared.clone());
        tasks.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= runs {
                    return anyhow::Ok(());
                }
                projects[n % projects.len()].create_run(AGENT, &question(n)).await?;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let accepted_in = began.elapsed();
    for (at, project) in projects.iter().enumerate() {
        until_idle(project, began).await.with_context(|| format!("project {at}"))?;
    }
    let ended_in = began.elapsed();
    let mut waits = Vec::with_capacity(runs);
    for (at, project) in projects.iter().enumerate() {
        let own = runs / projects.len() + usize::from(at < runs % projects.len());
        waits.extend(queue_times(project, own).await?);
    }
    Ok(Flood { accepted_in, ended_in, waits })
}

/// `rate` runs a second for some seconds, whatever the server's pace; every caller waits for the output.
pub(crate) async fn trickle(project: &Api, options: &Options) -> anyhow::Result<Trickle> {
    let mut due = tokio::time::interval(Duration::from_secs(1) / options.rate);
    let mut tasks = JoinSet::new();
    for n in 0..options.rate as usize * options.seconds as usize {
        due.tick().await;
        let project = project.clone();
        tasks.spawn(async move { one(&project, n).await });
    }
    let mut trickle = Trickle::default();
    while let Some(ended) = tasks.join_next().await {
        let (to_start, queued, to_answer) = ended??;
        trickle.sent_to_start.push(to_start);
        trickle.queued_to_start.push(queued);
        trickle.sent_to_answer.push(to_answer);
    }
    Ok(trickle)
}

#[expect(clippy::disallowed_methods, reason = "a caller's clock is not the server's")]
async fn one(project: &Api, n: usize) -> anyhow::Result<(Duration, Duration, Duration)> {
    let body = json!({"agent_id": AGENT, "input": question(n)});
    let (sent_at, sent) = (Timestamp::now(), Instant::now());
    let answer = project.send("POST", "/v1/platform/runs", &[("Prefer", "wait=30")], Some(&body)).await?;
    let answered_in = sent.elapsed();
    let document = answer.expect(200)?;
    let started_at = started_at(&document["run"])?;
    let since = |from: Timestamp| Duration::try_from(started_at.duration_since(from)).unwrap_or_default();
    Ok((since(sent_at), since(id_time(&document["run"])?), answered_in))
}

fn question(n: usize) -> Value {
    json!(format!("What is the state of order {n}?"))
}

/// Waits until the project has no run that is pending or running.
async fn until_idle(project: &Api, began: Instant) -> anyhow::Result<()> {
    for state in ["pending", "running", "pending"] {
        let path = format!("/v1/platform/runs?state={state}&limit=1");
        loop {
            let page = project.get(&path).await?.expect(200)?;
            if page["items"].as_array().is_some_and(Vec::is_empty) {
                break;
            }
            anyhow::ensure!(began.elapsed() < AT_MOST, "runs are still {state} after {AT_MOST:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

/// From id to start, of the project's newest `count` runs. Each must have completed.
async fn queue_times(project: &Api, count: usize) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(count);
    let mut cursor = String::new();
    while times.len() < count {
        let page = project.get(&format!("/v1/platform/runs?limit=200{cursor}")).await?.expect(200)?;
        for item in page["items"].as_array().context("runs are a list")? {
            let run = &item["run"];
            anyhow::ensure!(run["state"] == "completed", "a run did not complete: {item}");
            let waited = started_at(run)?.duration_since(id_time(run)?);
            times.push(Duration::try_from(waited).unwrap_or_default());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    anyhow::ensure!(times.len() >= count, "{} of {count} runs are listed", times.len());
    times.truncate(count);
    Ok(times)
}

fn started_at(run: &Value) -> anyhow::Result<Timestamp> {
    let text = run["started_at"].as_str().with_context(|| format!("a run that never started: {run}"))?;
    Ok(text.parse()?)
}

/// When a run's id was made: the first 48 bits of a UUID v7 are Unix milliseconds (RFC 9562).
fn id_time(run: &Value) -> anyhow::Result<Timestamp> {
    let id = run["run_id"].as_str().context("a run has an id")?;
    let hex: String = id.chars().filter(|c| *c != '-').take(12).collect();
    Ok(Timestamp::from_millisecond(i64::from_str_radix(&hex, 16)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_when_it_was_made() {
        let run = json!({"run_id": "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"});
        // the example of RFC 9562, appendix A.6
        assert_eq!(id_time(&run).unwrap().to_string(), "2022-02-22T19:22:22Z");
        assert!(id_time(&json!({})).is_err() && id_time(&json!({"run_id": "no"})).is_err());
        assert!(started_at(&json!({"started_at": null})).is_err());
    }
}
