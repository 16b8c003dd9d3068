//! Every operation and every kind of caller: the exact status and code of each answer.
//!
//! Who is nobody, who names a project that is not theirs and whose role does not hold the operation is refused by rule,
//! computed from the core's table. What remains is written down, one row an operation; an operation without a row fails.

use std::time::Duration;

use awooop_core::role::{OPERATIONS, Role};
use awooop_journeys::client::{Answer, Api};
use serde_json::{Value, json};

use super::Ground;
use crate::operations::{Furnished, MINE, Operation, forged};
use crate::scripted::until;

/// Operation; what another project's admin gets; what the platform's admin gets without naming a project; what the
/// project's own admin gets.
#[rustfmt::skip]
const ANSWERS: &[(&str, &str, &str, &str)] = &[
    ("activate_version", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("apply_contracts", "403 E-AUTH-003", "422 E-CONTRACT-001", "200 -"),
    ("bulk_cancel_runs", "422 E-REQ-003", "422 E-REQ-003", "422 E-REQ-003"),
    ("bulk_retry_runs", "422 E-REQ-003", "422 E-REQ-003", "422 E-REQ-003"),
    ("cancel_run", "404 E-REQ-004", "404 E-REQ-004", "409 E-RUN-001"),
    ("create_halt", "404 E-REQ-004", "404 E-REQ-004", "201 -"),
    ("create_key", "201 -", "201 -", "201 -"),
    ("create_run", "202 -", "422 E-RUN-002", "202 -"),
    ("decide_approval", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("delete_project", "404 E-REQ-004", "200 -", "403 E-AUTH-002"),
    ("deliver_result", "404 E-REQ-004", "404 E-REQ-004", "409 E-RUN-001"),
    ("diff_contract", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("diff_tool", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("disable_principal", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("enable_principal", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("explain_tool_call", "422 E-RUN-002", "422 E-RUN-002", "200 -"),
    ("export_audit", "200 -", "200 -", "200 -"),
    ("export_project", "200 -", "200 -", "200 -"),
    ("fire_schedule", "404 E-REQ-004", "404 E-REQ-004", "202 -"),
    ("get_activity", "200 -", "200 -", "200 -"),
    ("get_approval", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("get_audit_head", "200 -", "200 -", "200 -"),
    ("get_budget", "200 -", "200 -", "200 -"),
    ("get_contract", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("get_principal", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("get_run", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("get_version", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("get_whoami", "200 -", "200 -", "200 -"),
    ("grant_role", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("lift_halt", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("list_approvals", "200 -", "200 -", "200 -"),
    ("list_contracts", "200 -", "200 -", "200 -"),
    ("list_deletions", "200 -", "200 -", "200 -"),
    ("list_halts", "200 -", "200 -", "200 -"),
    ("list_keys", "200 -", "200 -", "200 -"),
    ("list_principals", "200 -", "200 -", "200 -"),
    ("list_projects", "200 -", "200 -", "200 -"),
    ("list_runs", "200 -", "200 -", "200 -"),
    ("list_schedules", "200 -", "200 -", "200 -"),
    ("list_steps", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("list_tools", "200 -", "200 -", "200 -"),
    ("list_versions", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("pin_tools", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("prove_audit_event", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("publish_version", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("rematerialise_contracts", "200 -", "200 -", "200 -"),
    ("resign_contracts", "200 -", "200 -", "200 -"),
    ("retire_contract", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("revoke_key", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("revoke_role", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
    ("rotate_key", "404 E-REQ-004", "404 E-REQ-004", "201 -"),
    ("save_draft", "403 E-AUTH-003", "422 E-CONTRACT-001", "201 -"),
    ("search_audit", "200 -", "200 -", "200 -"),
    ("sign_version", "404 E-REQ-004", "404 E-REQ-004", "409 E-CONTRACT-007"),
    ("use_mcp", "200 -", "200 -", "200 -"),
    ("use_mcp_of_provider", "200 -", "200 -", "200 -"),
    ("verify_audit", "200 -", "200 -", "200 -"),
    ("watch_run", "404 E-REQ-004", "404 E-REQ-004", "200 -"),
];

/// What a key that is bound to an agent gets, of what its role holds.
const BOUND: &[(&str, &str)] = &[
    ("create_run", "202 -"),
    ("get_run", "200 -"),
    ("get_whoami", "200 -"),
    ("list_tools", "200 -"),
    ("use_mcp", "200 -"),
    ("use_mcp_of_provider", "200 -"),
];

/// Status and code of an answer, such as `404 E-REQ-004`; `-` where there is no code.
fn told(answer: &Answer) -> String {
    let body = answer.json();
    let code = [&body["code"], &body["error"]["data"]["code"]].into_iter().find_map(Value::as_str);
    format!("{} {}", answer.status, code.unwrap_or("-"))
}

/// The same refusal as `/mcp` tells it.
fn as_told_by(operation: &Operation, refusal: &str) -> String {
    match (operation.is_mcp(), refusal) {
        (true, "401 E-AUTH-001") => "401 E-MCP-GATE-001".to_owned(),
        _ => refusal.to_owned(),
    }
}

struct Callers {
    nobody: Vec<(&'static str, Option<String>)>,
    by_role: Vec<(Role, Api)>,
    bound: Api,
    other: Api,
    platform: Api,
}

impl Callers {
    async fn make(ground: &Ground) -> Callers {
        let mine = &ground.furnished.mine;
        let api = |key: &str| mine.with_key(Some(key));
        let expiring = ground.key(json!({"name": "expiring", "role": "admin", "expires_in_s": 1})).await;
        let revoked = ground.key(json!({"name": "revoked", "role": "admin"})).await;
        let id = awooop_core::key::parse(&revoked).unwrap().id.to_owned();
        mine.post(&format!("/v1/platform/keys/{id}/revoke"), &json!({})).await.unwrap().expect(200).unwrap();
        let disabled = ground.key(json!({"name": "disabled", "role": "admin"})).await;
        let path = "/v1/platform/principals/disabled/disable";
        mine.post(path, &json!({})).await.unwrap().expect(200).unwrap();
        let mut by_role = Vec::new();
        for role in [Role::Operator, Role::Approver, Role::Viewer] {
            let body = json!({"name": format!("a-{role}", role = role.as_str()), "role": role.as_str()});
            by_role.push((role, api(&ground.key(body).await)));
        }
        let bound = api(&ground.key(json!({"name": "bound", "agent_id": "tester"})).await);
        let is_over = async || api(&expiring).get("/v1/platform/whoami").await.unwrap().status == 401;
        until("the key has expired", is_over).await;
        let nobody = vec![
            ("no key", None),
            ("an empty key", Some(String::new())),
            ("a malformed key", Some("awp_nonsense".to_owned())),
            ("a key that nobody was given", Some(forged())),
            ("a revoked key", Some(revoked)),
            ("an expired key", Some(expiring)),
            ("a disabled principal's key", Some(disabled)),
        ];
        let (other, platform) = (ground.other.clone(), ground.stage.server.api().clone());
        Callers { nobody, by_role, bound, other, platform }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_every_operation_answers_every_kind_of_caller_as_the_table_says() {
    let ground = Ground::start().await;
    let callers = Callers::make(&ground).await;
    let operations = ground.furnished.operations();
    let mut wrong = Vec::new();
    let closed: Vec<&Operation> = operations.iter().filter(|operation| !operation.is_open).collect();
    for operation in &closed {
        check(operation, &callers, &ground.furnished, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let ids: Vec<&str> = closed.iter().map(|operation| operation.id.as_str()).collect();
    for (id, ..) in ANSWERS {
        assert!(ids.contains(id), "{id} is no operation any more");
    }
    assert_eq!((ANSWERS.len(), OPERATIONS.len()), (ids.len(), ids.len()), "each operation has one row");
    ground.assert_unharmed().await;
}

async fn check(operation: &Operation, callers: &Callers, furnished: &Furnished, wrong: &mut Vec<String>) {
    let id = operation.id.as_str();
    let mut expect = |who: &str, answer: &Answer, expected: &str| {
        if told(answer) != expected {
            wrong.push(format!("{id}, {who}: {}, not {expected}: {}", told(answer), answer.text));
        }
    };
    for (who, key) in &callers.nobody {
        let answer = operation.ask(&furnished.mine.with_key(key.as_deref())).await;
        expect(who, &answer, &as_told_by(operation, "401 E-AUTH-001"));
    }
    for project in [MINE, "no-such-project"] {
        let answer = operation.ask(&callers.other.in_project(project)).await;
        expect("another project's key that names this one", &answer, "403 E-AUTH-003");
    }
    let (_, _, allowed) =
        OPERATIONS.iter().find(|(known, ..)| *known == id).expect("a row in the core's table");
    for (role, api) in callers.by_role.iter().filter(|(role, _)| !allowed.contains(role)) {
        // a key without an agent is shown that it has no tools, and why
        let expected = if operation.is_mcp() { "200 -" } else { "403 E-AUTH-002" };
        expect(role.as_str(), &operation.ask(api).await, expected);
    }
    let bound = BOUND.iter().find(|(known, _)| *known == id).map_or("403 E-AUTH-002", |(_, told)| told);
    expect("a key bound to an agent", &operation.ask(&callers.bound).await, bound);
    let row = ANSWERS.iter().find(|(known, ..)| *known == id);
    let (_, of_other, of_platform, of_own) = row.copied().unwrap_or((id, "?", "?", "?"));
    expect("another project's key", &operation.ask(&callers.other).await, of_other);
    expect("the platform's key without a project", &operation.ask(&callers.platform).await, of_platform);
    if id == "watch_run" {
        // the stream of a run that has ended
        let watching = tokio::time::timeout(Duration::from_secs(30), operation.ask(&furnished.mine));
        return expect("its own", &watching.await.expect("the stream ends"), of_own);
    }
    expect("its own", &operation.ask(&furnished.mine).await, of_own);
}
