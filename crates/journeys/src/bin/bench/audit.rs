//! What the audit costs: events written one a transaction by many callers, and in batches; sealing them; checking
//! all of them. The store is this process' own, on an embedded PostgreSQL with the server's settings, so that
//! figures are of the audit and not of HTTP; masking, MAC, row security and fsync are on. Beside each figure stands
//! the processor's time an event, of this process and of PostgreSQL.

use std::collections::HashSet;
use std::time::Instant;

use anyhow::Context;
use awooop_core::audit::first_id_at;
use awooop_journeys::cluster::Cluster;
use awooop_journeys::db::{TestProject, TestStore};
use awooop_store::audit::{Note, VerifyStep};
use futures::StreamExt;
use serde_json::json;

use crate::cpu;

const ROUNDS: usize = 3;
/// Events that are written one a transaction.
const SINGLE: usize = 10_000;
/// Callers that do so at the same time.
const CALLERS: usize = 32;
/// Batches, and events of one.
const BATCHES: usize = 200;
const BATCH: usize = 500;
/// Batches under way at the same time.
const WRITERS: usize = 4;

/// Measures and prints.
pub(crate) async fn measure() -> anyhow::Result<()> {
    let cluster = Cluster::get().await?;
    let postmaster = cluster.postmaster_pid().context("the cluster is this process' own")?;
    println!(
        "load average {}; {} cores",
        cpu::load(),
        std::thread::available_parallelism().map_or(0, usize::from)
    );
    println!(
        "| round | what | events | events/s | CPU us an event: this process | PostgreSQL | others' cores |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for round in 1..=ROUNDS {
        let test = TestStore::private().await;
        let project = test.project().await;
        let (test, project) = (&test, &project);
        one(round, "written one by one", postmaster, write_singly(test, project)).await?;
        one(round, "written in batches of 500", postmaster, write_batches(test, project)).await?;
        one(round, "sealed", postmaster, seal(test, project)).await?;
        one(round, "checked", postmaster, check(test, project)).await?;
        let bytes = "SELECT pg_total_relation_size('awooop.audit_event'), pg_total_relation_size('awooop.audit_seal')";
        let row = test.database().admin().await.query_one(bytes, &[]).await?;
        let each = |bytes: i64| bytes as f64 / (SINGLE + BATCHES * BATCH) as f64;
        println!(
            "|  | bytes an event: rows and indexes {:.0}, seals {:.0} |  |  |  |  |  |",
            each(row.get(0)),
            each(row.get(1))
        );
    }
    Ok(())
}

async fn one(
    round: usize,
    what: &str,
    postmaster: u32,
    work: impl Future<Output = anyhow::Result<usize>>,
) -> anyhow::Result<()> {
    let read = || -> anyhow::Result<(f64, f64, f64)> {
        Ok((cpu::of_process(std::process::id())?, cpu::of_postgres(postmaster)?, cpu::of_machine()?))
    };
    let (before, began) = (read()?, Instant::now());
    let events = work.await?;
    let took = began.elapsed().as_secs_f64();
    let after = read()?;
    let each = |from: f64, to: f64| (to - from) * 1e6 / events as f64;
    let own = (after.0 - before.0) + (after.1 - before.1);
    println!(
        "| {round} | {what} | {events} | {:.0} | {:.1} | {:.1} | {:.2} |",
        events as f64 / took,
        each(before.0, after.0),
        each(before.1, after.1),
        ((after.2 - before.2 - own) / took).max(0.0),
    );
    Ok(())
}

/// An event as a refused tool call makes it.
fn note(i: usize) -> Note {
    let body = json!({"agent_id": "clerk", "gate": 3, "code": "E-MCP-GATE-004", "reason": "the tool is not granted to this agent"});
    Note::new("tool.refuse", format!("tool/shop__refund-{i}"), body)
}

async fn write_singly(test: &TestStore, project: &TestProject) -> anyhow::Result<usize> {
    let write = |i: usize| async move { test.store.record_events(&project.scope, vec![note(i)]).await };
    let mut written = futures::stream::iter((0..SINGLE).map(write)).buffer_unordered(CALLERS);
    while let Some(done) = written.next().await {
        done?;
    }
    Ok(SINGLE)
}

async fn write_batches(test: &TestStore, project: &TestProject) -> anyhow::Result<usize> {
    let write = |b: usize| async move {
        let notes = (0..BATCH).map(|i| note(b * BATCH + i)).collect();
        test.store.record_events(&project.scope, notes).await
    };
    let mut written = futures::stream::iter((0..BATCHES).map(write)).buffer_unordered(WRITERS);
    while let Some(done) = written.next().await {
        done?;
    }
    Ok(BATCHES * BATCH)
}

async fn seal(test: &TestStore, project: &TestProject) -> anyhow::Result<usize> {
    Ok(test.store.seal(&project.id, first_id_at(0), &HashSet::new()).await?.events)
}

async fn check(test: &TestStore, project: &TestProject) -> anyhow::Result<usize> {
    let (to, mut steps) = tokio::sync::mpsc::channel(64);
    let check = async {
        let done = test.store.verify_audit(&project.scope, &[], &to).await;
        drop(to);
        done
    };
    let gather = async {
        let mut report = None;
        while let Some(step) = steps.recv().await {
            if let VerifyStep::Done(done) = step {
                report = Some(done);
            }
        }
        report
    };
    let (done, report) = futures::join!(check, gather);
    done?;
    let report = report.context("a check ends with a report")?;
    anyhow::ensure!(report.is_whole, "the audit is not whole: {report:?}");
    Ok(usize::try_from(report.verified)?)
}
