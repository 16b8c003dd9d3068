//! Bringing contracts about in tests of the store, and asking the doctor about one project.

use awooop_core::contract::{Kind, Manifest};
use awooop_core::statement::Act;
use awooop_journeys::db::{AGENT, TestProject, TestStore, manifest};
use awooop_store::Store;
use awooop_store::auth::Caller;
use awooop_store::contract::{Applied, ApplyOptions, ContractError, ContractKey, Version};
use serde_json::{Value, json};

/// The contract of the agent that every test project has.
pub(crate) fn clerk() -> ContractKey {
    ContractKey::new(Kind::Agent, AGENT)
}

/// A manifest of the project.
pub(crate) fn of(project: &TestProject, kind: &str, id: &str, spec: Value) -> Manifest {
    manifest(json!({"kind": kind, "project": project.id, "id": id, "spec": spec})).unwrap()
}

/// An agent that differs from others by its instructions.
pub(crate) fn agent(project: &TestProject, id: &str, instructions: &str) -> Manifest {
    let model = "offline/planner";
    of(project, "agent", id, json!({"instructions": instructions, "model": model, "output_schema": {}}))
}

/// The project's contract with a rule for activations.
pub(crate) fn rule(project: &TestProject, activation: Value) -> Manifest {
    let spec = json!({"display_name": "A test's project", "activation": activation});
    of(project, "project", project.id.as_str(), spec)
}

pub(crate) async fn apply(store: &Store, by: &Caller, manifests: &[Manifest]) -> (bool, Vec<Applied>) {
    store.apply(by, manifests, ApplyOptions::default()).await.unwrap()
}

/// Drafts and publishes a version.
pub(crate) async fn publish(store: &Store, by: &Caller, manifest: &Manifest) -> Version {
    let draft = store.save_draft(by, manifest, None).await.unwrap().version;
    store.publish_version(by, &draft.key, draft.version, Some(&draft.sha256)).await.unwrap()
}

/// Publishes a version and signs for it as each of the people; the first of them publishes.
pub(crate) async fn signed(store: &Store, people: &[&Caller], manifest: &Manifest) -> Version {
    let version = publish(store, people[0], manifest).await;
    for person in people {
        store.sign_version(person, &version.key, version.version, Act::Activate, None).await.unwrap();
    }
    version
}

pub(crate) async fn activate(
    store: &Store,
    by: &Caller,
    version: &Version,
) -> Result<Applied, ContractError> {
    store.activate_version(by, &version.key, version.version, None).await
}

/// The number of the active version of [`clerk`], 0 for none.
pub(crate) async fn active_clerk(store: &Store, by: &Caller) -> i32 {
    let active = store.list_contracts(by.scope()).await.unwrap();
    active.iter().find(|a| a.version.key == clerk()).map_or(0, |a| a.version.version)
}

/// What the doctor says about this project.
pub(crate) async fn findings(test: &TestStore, project: &TestProject) -> Vec<String> {
    let found = test.store.examine().await.unwrap().into_iter();
    found.filter(|f| f.project.as_deref() == Some(project.id.as_str())).map(|f| f.message).collect()
}

/// Runs SQL as the superuser, with `{p}` for the project.
pub(crate) async fn tamper(test: &TestStore, project: &TestProject, sql: &str) {
    let sql = sql.replace("{p}", project.id.as_str());
    test.database().admin().await.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
}

/// Audit events of an action.
pub(crate) async fn audited(test: &TestStore, project: &TestProject, action: &str) -> i64 {
    let sql = "SELECT count(*) FROM audit_event WHERE project_id = $1 AND action = $2";
    let admin = test.database().admin().await;
    admin.query_one(sql, &[&project.id.as_str(), &action]).await.unwrap().get(0)
}
