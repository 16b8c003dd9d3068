//! How long it takes to put contracts into force: 1,000 agents in one request, new, unchanged, all changed,
//! and one more among them. There is no peer: nobody else signs, checks and activates configuration in one
//! transaction. Figures are of the whole request as its caller sees it, with the processor's time beside it.

use std::time::Instant;

use awooop_journeys::client::Api;
use serde_json::{Value, json};

use crate::site::Site;

const CONTRACTS: usize = 1_000;
const ROUNDS: usize = 3;

/// Measures and prints.
pub(crate) async fn measure() -> anyhow::Result<()> {
    let mut site = Site::start().await?;
    println!("{CONTRACTS} agents of one project in one request; {}", site.facts().await?);
    println!("| round | what | ms | us each | CPU us each: server | PostgreSQL | WAL bytes each |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for round in 1..=ROUNDS {
        let project = format!("contracts-{round}");
        site.make_project(&project).await?;
        let inside = site.api().in_project(&project);
        let (first, second) = (agents(&project, "Answer."), agents(&project, "Answer briefly."));
        for (what, manifests) in [("new", &first), ("unchanged", &first), ("changed", &second)] {
            one(&mut site, &inside, round, what, manifests).await?;
        }
        let single = agents(&project, "Answer at length.").split_off(CONTRACTS - 1);
        one(&mut site, &inside, round, "one changed", &single).await?;
    }
    Ok(())
}

async fn one(
    site: &mut Site,
    api: &Api,
    round: usize,
    what: &str,
    manifests: &[Value],
) -> anyhow::Result<()> {
    let before = site.read().await?;
    let began = Instant::now();
    api.apply(manifests).await?;
    let took = began.elapsed().as_secs_f64();
    let spent = before.until(&site.read().await?, manifests.len());
    println!(
        "| {round} | {what} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |",
        took * 1e3,
        took * 1e6 / manifests.len() as f64,
        spent.server_us,
        spent.postgres_us,
        spent.wal_bytes,
    );
    Ok(())
}

/// Agents as people write them: instructions, schemas, no tools.
fn agents(project: &str, instructions: &str) -> Vec<Value> {
    let agent = |n: usize| {
        json!({"kind": "agent", "project": project, "id": format!("agent-{n:04}"), "spec": {
            "description": "One of many.", "instructions": format!("{instructions} You are number {n}."),
            "model": "offline/planner",
            "output_schema": {"type": "object", "required": ["answer"], "additionalProperties": false,
                "properties": {"answer": {"type": "string", "minLength": 1}, "data": {"type": ["object", "null"]}}},
        }})
    };
    (0..CONTRACTS).map(agent).collect()
}
