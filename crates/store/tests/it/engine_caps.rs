//! Caps: of a project and of its agents, under many claimers at once. Never is one exceeded, and never is room left
//! that a queued run could have.

use std::collections::BTreeMap;
use std::sync::Arc;

use awooop_core::AgentId;
use awooop_journeys::db::{TestProject, TestStore, agent_id, manifest};
use awooop_store::claim::ClaimedRun;
use awooop_store::contract::ApplyOptions;
use awooop_store::run::{Created, NewRun};
use futures::future::join_all;
use serde_json::json;

use crate::counting::count;
use crate::stepping::{assert_healthy, create_many, done, new_run, run_of, worker};

/// Another agent of the project, besides the one every test project has.
fn other() -> AgentId {
    AgentId::parse("other").unwrap()
}

/// Puts caps into force: the project's, and one on [`other`].
async fn cap(test: &TestStore, project: &TestProject, runs: Option<u32>, of_other: Option<u32>) {
    let limits = runs.map_or_else(|| json!({}), |runs| json!({"max_running_runs": runs}));
    let project_spec = json!({"display_name": "Capped", "limits": limits});
    let mut agent =
        json!({"instructions": "Answer.", "model": "offline/planner", "output_schema": {"type": "object"}});
    if let Some(runs) = of_other {
        agent["concurrency"] = json!(runs);
    }
    let manifests = [("project", project.id.as_str(), project_spec), ("agent", "other", agent)]
        .map(|(kind, id, spec)| json!({"kind": kind, "project": project.id, "id": id, "spec": spec}))
        .map(|document| manifest(document).unwrap());
    test.store.apply(&project.caller, &manifests, ApplyOptions::default()).await.unwrap();
}

async fn create_of_other(test: &TestStore, project: &TestProject, n: usize) {
    let facts = test.store.find_agent(&project.scope, &other()).await.unwrap().unwrap();
    for _ in 0..n {
        let new = new_run(&test.store, project).await;
        let new = NewRun { agent: other(), agent_version_id: facts.version_id, ..new };
        let made = test.store.create_run(&project.scope, &new).await.unwrap();
        assert!(matches!(made, Created::New(_)));
    }
}

async fn running(test: &TestStore) -> BTreeMap<String, i64> {
    let admin = test.database().admin().await;
    let sql = "SELECT agent_id, count(*) FROM awooop.run_state WHERE state = 'running' GROUP BY agent_id";
    let rows = admin.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Eight claimers at once, each for up to 3 runs until it gets none.
async fn claim_all(test: &TestStore, project: &TestProject) -> Vec<ClaimedRun> {
    let claims = (0..8).map(async |n| {
        let (me, mut all) = (worker(&format!("w{n}")), Vec::new());
        loop {
            let some = test.store.claim(&project.id, &me, 3).await.unwrap();
            if some.is_empty() {
                return all;
            }
            all.extend(some);
        }
    });
    join_all(claims).await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_claimers_fill_the_caps_and_never_exceed_them() {
    let test = TestStore::private().await;
    let project = test.project().await;
    cap(&test, &project, Some(7), Some(2)).await;
    create_of_other(&test, &project, 40).await;
    create_many(&test.store, &project, 40).await;
    let (mut left, mut rounds, outcome) = (80, 0, done());
    while left > 0 {
        let claimed = claim_all(&test, &project).await;
        let now = running(&test).await;
        let of_other = now.get("other").copied().unwrap_or(0);
        assert_eq!(now.values().sum::<i64>(), claimed.len() as i64);
        assert!(claimed.iter().all(|run| run.is_capped));
        let waiting = count(&test, "run_queue WHERE agent_id = 'other'").await;
        assert!(of_other == 2 || waiting == 0, "{of_other} run, {waiting} wait");
        let others_wait = count(&test, "run_queue WHERE agent_id <> 'other'").await;
        assert!(of_other <= 2 && claimed.len() <= 7);
        assert!(claimed.len() == 7 || others_wait == 0, "{} run, {others_wait} wait", claimed.len());
        left -= claimed.len();
        rounds += 1;
        join_all(claimed.iter().map(|run| test.store.end_run(run, &outcome, None, false))).await;
    }
    assert!(rounds >= 80 / 7);
    assert_healthy(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claimers_and_ending_runs_in_a_race_never_exceed_a_cap() {
    let test = TestStore::private().await;
    let project = test.project().await;
    cap(&test, &project, Some(5), None).await;
    create_many(&test.store, &project, 40).await;
    let work = (0..8).map(async |n| {
        let (me, mut ended) = (worker(&format!("w{n}")), 0);
        while count(&test, "run_queue").await > 0 {
            for run in test.store.claim(&project.id, &me, 2).await.unwrap() {
                let most = running(&test).await.values().sum::<i64>();
                assert!(most <= 5, "{most} at a time");
                test.store.end_run(&run, &done(), None, false).await.unwrap();
                ended += 1;
            }
        }
        ended
    });
    assert_eq!(join_all(work).await.iter().sum::<i32>(), 40);
    assert_healthy(&test).await;
}

#[tokio::test]
async fn a_claim_of_two_agents_runs_gives_each_its_own_agent() {
    let test = TestStore::private().await;
    let project = test.project().await;
    cap(&test, &project, None, None).await;
    create_many(&test.store, &project, 3).await;
    create_of_other(&test, &project, 3).await;
    let claimed = test.store.claim(&project.id, &worker("w"), 10).await.unwrap();
    assert_eq!(claimed.len(), 6);
    for (a, b) in claimed.iter().flat_map(|a| claimed.iter().map(move |b| (a, b))) {
        let is_same = Arc::ptr_eq(a.agent.as_ref().unwrap(), b.agent.as_ref().unwrap());
        assert_eq!(is_same, a.agent_id == b.agent_id, "a version is read once and is no other agent's");
    }
}

#[tokio::test]
async fn runs_of_a_full_agent_do_not_stand_before_those_of_another() {
    let test = TestStore::private().await;
    let project = test.project().await;
    cap(&test, &project, None, Some(1)).await;
    create_of_other(&test, &project, 30).await;
    let [last] = create_many(&test.store, &project, 1).await.into_iter().collect::<Vec<_>>()[..] else {
        panic!("one run")
    };
    let claimed = test.store.claim(&project.id, &worker("w"), 10).await.unwrap();
    let of: Vec<&str> = claimed.iter().map(|run| run.agent_id.as_str()).collect();
    assert_eq!(of, ["other", agent_id().as_str()]);
    assert_eq!(claimed[1].run_id, last);
    assert!(test.store.claim(&project.id, &worker("w"), 10).await.unwrap().is_empty());
    assert_healthy(&test).await;
}

#[tokio::test]
async fn what_takes_a_run_from_its_worker_makes_room() {
    let test = TestStore::private().await;
    let project = test.project().await;
    cap(&test, &project, Some(1), None).await;
    create_many(&test.store, &project, 4).await;
    let me = worker("w");
    let claim = async || test.store.claim(&project.id, &me, 10).await.unwrap();
    let first = claim().await.remove(0);
    assert!(claim().await.is_empty());
    test.store.release(&first).await.unwrap();
    let again = claim().await.remove(0);
    assert_eq!(again.run_id, first.run_id);
    test.store.cancel_run(&project.scope, again.run_id).await.unwrap();
    let second = claim().await.remove(0);
    assert!(claim().await.is_empty());
    let dead = test.store.former_leases(&crate::stepping::next_life(&me)).await.unwrap();
    for leases in &dead {
        test.store.reap(leases).await.unwrap();
    }
    assert_eq!(run_of(&test.store, &project, second.run_id).await.epoch, 2);
    assert_eq!(claim().await.len(), 1);
    assert!(claim().await.is_empty());
    assert_healthy(&test).await;
}

#[tokio::test]
async fn a_cap_counts_from_its_activation_and_no_longer_than_it_is_there() {
    let test = TestStore::private().await;
    let project = test.project().await;
    create_many(&test.store, &project, 9).await;
    let claim = async || test.store.claim(&project.id, &worker("w"), 3).await.unwrap().len();
    assert_eq!(claim().await, 3);
    cap(&test, &project, Some(2), None).await;
    assert_eq!(claim().await, 0, "more run than may");
    cap(&test, &project, Some(4), None).await;
    assert_eq!(claim().await, 1);
    cap(&test, &project, None, None).await;
    assert_eq!(claim().await, 3);
    assert_healthy(&test).await;
}
