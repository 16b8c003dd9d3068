//! The connection cut before each statement of a step, and after each COMMIT before its answer: either the old
//! or the new state is whole afterwards, never a mixture, and doing the step again completes it.

use awooop_core::RunId;
use awooop_core::contract::Manifest;
use awooop_core::statement::Act;
use awooop_journeys::db::{AGENT, TestProject, TestStore};
use awooop_journeys::pg_proxy::{PgProxy, Point};
use awooop_store::Store;
use awooop_store::contract::{ApplyOptions, ContractError};
use serde_json::json;

use crate::contracts::{active_clerk, agent, apply, clerk, findings, of, publish};
use crate::stepping::create;

/// No step takes more statements.
const MOST_STATEMENTS: u64 = 60;

/// A step on version 2 of the agent, as far as it needs to be prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Draft,
    Publish,
    Sign,
    Activate,
    Retire,
    Apply,
}

impl Step {
    /// Does what comes before the step.
    async fn prepare(self, test: &TestStore, project: &TestProject) {
        if matches!(self, Step::Draft | Step::Retire | Step::Apply) {
            return;
        }
        let (store, by) = (&test.store, &project.caller);
        if self == Step::Publish {
            store.save_draft(by, &second(project), None).await.unwrap();
            return;
        }
        publish(store, by, &second(project)).await;
        if self == Step::Activate {
            store.sign_version(by, &clerk(), 2, Act::Activate, None).await.unwrap();
        }
    }

    /// Does the step. Doing it twice is the same as once.
    async fn take(self, store: &Store, project: &TestProject) -> Result<(), ContractError> {
        let by = &project.caller;
        match self {
            Step::Draft => store.save_draft(by, &second(project), None).await.map(drop),
            Step::Publish => store.publish_version(by, &clerk(), 2, None).await.map(drop),
            Step::Sign => store.sign_version(by, &clerk(), 2, Act::Activate, None).await.map(drop),
            Step::Activate => store.activate_version(by, &clerk(), 2, None).await.map(drop),
            Step::Apply => store.apply(by, &several(project), ApplyOptions::default()).await.map(drop),
            Step::Retire => match store.retire_contract(by, &clerk(), None).await {
                // it has ended already
                Err(ContractError::Absent(_)) => Ok(()),
                other => other.map(drop),
            },
        }
    }
}

fn second(project: &TestProject) -> Manifest {
    agent(project, AGENT, "second")
}

/// A tool server with an agent that needs it, and a policy.
fn several(project: &TestProject) -> Vec<Manifest> {
    let tools = json!([{"name": "sales", "risk": "read_only"}]);
    let shop =
        json!({"type": "mcp", "transport": "http", "url": "https://tools.example.com/mcp", "tools": tools});
    let spec = json!({
        "instructions": "second", "model": "offline/planner", "output_schema": {}, "grants": [{"tool": "shop__sales"}],
    });
    vec![
        of(project, "provider", "shop", shop),
        of(project, "agent", AGENT, spec),
        of(project, "policy", "guard", json!({"deny": ["shop__refund"]})),
    ]
}

/// Everything that a step may change, in one comparable text; times, ids and signatures aside.
async fn state(test: &TestStore, project: &TestProject) -> String {
    let sql = "SELECT concat_ws(E'\n',
        (SELECT string_agg(concat_ws(' ', kind, id, active_version), ', ' ORDER BY kind, id) FROM contract WHERE project_id = $1),
        (SELECT string_agg(concat_ws(' ', kind, id, version, state, sha256), ', ' ORDER BY kind, id, version)
           FROM contract_version WHERE project_id = $1),
        (SELECT string_agg(concat_ws(' ', kind, id, version, act, signer, used_at IS NULL), ', ' ORDER BY kind, id, version, act)
           FROM contract_signature WHERE project_id = $1),
        (SELECT string_agg(concat_ws(' ', agent_id, provider_id, tool), ', ') FROM mcp_grant WHERE project_id = $1),
        (SELECT string_agg(provider_id, ', ') FROM mcp_server WHERE project_id = $1),
        (SELECT string_agg(policy_id, ', ') FROM policy WHERE project_id = $1),
        (SELECT string_agg(action, ', ' ORDER BY action) FROM audit_event WHERE project_id = $1 AND action LIKE 'contract.%'))";
    test.database().admin().await.query_one(sql, &[&project.id.as_str()]).await.unwrap().get(0)
}

/// The version a run was created with.
async fn version_of(test: &TestStore, run_id: RunId) -> String {
    let sql = "SELECT agent_version_id::text FROM run_state WHERE run_id::text = $1";
    test.database().admin().await.query_one(sql, &[&run_id.to_string()]).await.unwrap().get(0)
}

/// The state after the step when nothing is cut.
async fn uncut(test: &TestStore, step: Step) -> String {
    let project = test.project().await;
    step.prepare(test, &project).await;
    step.take(&test.store, &project).await.unwrap();
    state(test, &project).await.replace(project.id.as_str(), "P")
}

/// Cuts the step at its k-th statement, or after its COMMIT, for every k. Returns how often it was cut.
async fn cut_everywhere(step: Step, point: Point) -> u64 {
    let test = TestStore::private().await;
    let proxy = PgProxy::start(&test.database().urls().app).await.unwrap();
    let urls = proxy.urls(test.database().urls());
    let shape = uncut(&test, step).await;
    for at in 1..=MOST_STATEMENTS {
        let project = test.project().await;
        step.prepare(&test, &project).await;
        let run_id = create(&test.store, &project).await;
        let version_id = version_of(&test, run_id).await;
        let base = state(&test, &project).await;
        let store = test.through(&urls).await;
        proxy.stop_at(at, point, || {});
        let result = step.take(&store, &project).await;
        let was_cut = !proxy.disarm();
        // whoever wants the project's row waits until the server has noticed the cut
        assert!(test.store.rematerialise(&project.caller).await.unwrap().is_empty(), "{step:?} {at}");
        assert_eq!(findings(&test, &project).await, Vec::<String>::new(), "{step:?} {at}");
        let now = state(&test, &project).await;
        let kept = version_of(&test, run_id).await;
        assert_eq!(kept, version_id, "{step:?} {at}: a run keeps its version");
        if !was_cut {
            result.unwrap();
            assert!(at > 1, "it was cut at least once");
            return at - 1;
        }
        assert!(result.is_err(), "{step:?} {at}: what was cut does not succeed");
        match point {
            Point::AfterAnswer => assert_ne!(now, base, "{step:?} {at}: it has happened"),
            Point::BeforeStatement | Point::BeforeForwarding => {
                assert_eq!(now, base, "{step:?} {at}: nothing has happened");
            }
        }
        step.take(&store, &project).await.unwrap_or_else(|e| panic!("{step:?} {at}, again: {e}"));
        let now = state(&test, &project).await.replace(project.id.as_str(), "P");
        assert_eq!(without_hashes(&now), without_hashes(&shape), "{step:?} {at}");
        assert_eq!(findings(&test, &project).await, Vec::<String>::new(), "{step:?} {at}");
        let active = active_clerk(&test.store, &project.caller).await;
        let expected = match step {
            Step::Activate | Step::Apply => 2,
            Step::Retire => 0,
            Step::Draft | Step::Publish | Step::Sign => 1,
        };
        assert_eq!(active, expected, "{step:?} {at}");
        // several manifests are active together or not at all
        if step == Step::Apply {
            assert!(!apply(&test.store, &project.caller, &several(&project)).await.0, "{at}");
        }
    }
    panic!("{step:?} still had not ended after {MOST_STATEMENTS} statements");
}

/// Hashes differ between projects, whose names are in the manifests.
fn without_hashes(state: &str) -> String {
    let is_hash = |word: &str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let words = state.split_inclusive([' ', ',', '\n']);
    words.filter(|w| !is_hash(w.trim_end_matches([' ', ',', '\n']))).collect()
}

async fn cut_both_ways(step: Step) {
    let cuts = cut_everywhere(step, Point::BeforeStatement).await;
    let answers = cut_everywhere(step, Point::AfterAnswer).await;
    assert!(cuts >= 5 && answers == 1, "{step:?}: one transaction, cut {cuts} times within");
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_cut_draft_or_publication_is_there_or_is_not() {
    cut_both_ways(Step::Draft).await;
    cut_both_ways(Step::Publish).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_cut_signature_counts_or_is_not_there() {
    cut_both_ways(Step::Sign).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_cut_activation_or_end_has_happened_whole_or_not_at_all() {
    cut_both_ways(Step::Activate).await;
    cut_both_ways(Step::Retire).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_of_several_manifests_cut_while_they_are_applied_all_are_active_or_none() {
    cut_both_ways(Step::Apply).await;
}
