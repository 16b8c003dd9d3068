//! Every operation of the OpenAPI document as a request that is valid in one project, and that project: furnished so
//! that every path part names something there. The operations come from the document, so one that is added later is
//! asked by every test that walks them without a word here.

use std::time::Duration;

use awooop_journeys::client::{Answer, Api};
use awooop_journeys::fixture_mcp::FixtureMcp;
use awooop_journeys::fixture_model::{FixtureModel, Line};
use serde_json::{Value, json};

use crate::scripted::until;
use crate::support::make_project;

/// The project the requests are valid in.
pub(crate) const MINE: &str = "tenant-mine";
/// What every run in it is asked.
pub(crate) const QUESTION: &str = "a question of mine";
/// An agent, a tool server and a schedule that only [`MINE`] has.
pub(crate) const AGENT: &str = "only-mine";
const PROVIDER: &str = "onlymine";
const SCHEDULE: &str = "nightly-mine";
/// A principal that is nobody's way in.
const SPARE: &str = "spare-mine";

/// One operation, its path parts filled in.
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) is_open: bool,
    pub(crate) has_parts: bool,
    has_body: bool,
}

/// The project, and what its path parts can be.
pub(crate) struct Furnished {
    /// As a person who is its admin: there are things that only people may do.
    pub(crate) mine: Api,
    /// Name and value of every path part.
    pub(crate) ids: Vec<(&'static str, String)>,
    document: Value,
}

impl Furnished {
    /// Makes [`MINE`] as the platform's administrator.
    pub(crate) async fn make(admin: &Api, fixture: &FixtureMcp) -> Furnished {
        let mine = make_project(admin, MINE, fixture, "fail").await;
        let person = json!({"name": "mei", "role": "admin", "person": "mei"});
        let person = admin.in_project(MINE).create_key(&person).await.unwrap();
        let mine = mine.with_key(Some(&person));
        mine.create_key(&json!({"name": SPARE, "role": "viewer"})).await.unwrap();
        let run_id = mine.create_run("tester", &json!(QUESTION)).await.unwrap();
        mine.wait_for_end(&run_id, Duration::from_secs(30)).await.unwrap();
        let keys = mine.get("/v1/platform/keys").await.unwrap().expect(200).unwrap();
        let key_id = keys["items"][0]["key_id"].as_str().unwrap().to_owned();
        let event_id = sealed_event(&mine).await;
        apply_own_contracts(&mine, fixture).await;
        let approval_id = approval(&mine).await;
        let named = |name, value: &str| (name, value.to_owned());
        let ids = vec![
            named("run_id", &run_id),
            named("n", "1"),
            named("approval_id", &approval_id),
            named("key_id", &key_id),
            named("code", "E-AUTH-001"),
            named("kind", "agent"),
            named("id", AGENT),
            named("version", "1"),
            named("provider_id", PROVIDER),
            named("tool", &format!("{PROVIDER}__echo")),
            named("event_id", &event_id),
            named("agent_id", AGENT),
            named("schedule_id", SCHEDULE),
            named("principal_id", SPARE),
            named("project_id", MINE),
        ];
        let document = mine.get("/openapi.json").await.unwrap().expect(200).unwrap();
        Furnished { mine, ids, document }
    }

    /// The value of a path part.
    pub(crate) fn id(&self, name: &str) -> &str {
        &self.ids.iter().find(|(known, _)| *known == name).expect("a part of a path").1
    }

    /// Every operation, in an order in which all of them can be called with their project's own key.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        self.operations_with(&self.ids)
    }

    /// The same with other values for the path parts.
    pub(crate) fn operations_with(&self, ids: &[(&'static str, String)]) -> Vec<Operation> {
        let mut found = Vec::new();
        for (path, item) in self.document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                let mut filled = path.clone();
                for (name, value) in ids {
                    filled = filled.replace(&format!("{{{name}}}"), value);
                }
                assert!(!filled.contains('{'), "{path}: say in `ids` what its parts can be");
                let is_open = operation["security"].as_array().is_some_and(|s| s.contains(&json!({})));
                found.push(Operation {
                    id: operation["operationId"].as_str().expect("an id").to_owned(),
                    method: method.to_uppercase(),
                    has_parts: filled != *path,
                    path: filled,
                    is_open,
                    has_body: !operation["requestBody"].is_null(),
                });
            }
        }
        assert!(found.len() >= 15, "the document lists the operations");
        found.sort_by_key(turn);
        found
    }

    /// The names of the values an operation's query may have.
    pub(crate) fn query_of(&self, id: &str) -> Vec<String> {
        let items = self.document["paths"].as_object().expect("paths").values();
        let all = items.flat_map(|item| item.as_object().expect("operations").values());
        let parameters = all.filter(|operation| operation["operationId"] == id);
        let parameters =
            parameters.flat_map(|operation| operation["parameters"].as_array().into_iter().flatten());
        let of_query = parameters.filter(|parameter| parameter["in"] == "query");
        of_query.map(|parameter| parameter["name"].as_str().expect("a name").to_owned()).collect()
    }
}

impl Operation {
    /// Method and path, for what a test says when it fails.
    pub(crate) fn name(&self) -> String {
        format!("{} {} {}", self.id, self.method, self.path)
    }

    /// Is it one of the tools' endpoints? They speak MCP, where a server that is not there has no tools.
    pub(crate) fn is_mcp(&self) -> bool {
        self.id.starts_with("use_mcp")
    }

    /// A body that is valid in `project`, for operations that take one.
    pub(crate) fn body(&self, project: &str) -> Option<Value> {
        let body = match self.id.as_str() {
            "create_run" => json!({"agent_id": "tester", "input": "hello"}),
            "apply_contracts" => {
                json!({"manifests": [{"kind": "project", "project": project, "id": project, "spec": {"display_name": "Mine"}}]})
            }
            "save_draft" => agent(project),
            "create_halt" | "lift_halt" => json!({"kind": "pause", "target": "agent", "name": AGENT}),
            "delete_project" => json!({"confirm": project, "dry_run": true}),
            "grant_role" => json!({"role": "viewer"}),
            "create_key" => json!({"name": "further", "role": "viewer"}),
            "decide_approval" => json!({"decision": "deny"}),
            "explain_tool_call" => json!({"agent_id": AGENT, "tool": format!("{PROVIDER}__echo")}),
            "deliver_result" => json!({"content": [{"type": "text", "text": "done"}]}),
            "use_mcp" | "use_mcp_of_provider" => json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
            _ if self.has_body => json!({}),
            _ => return None,
        };
        Some(body)
    }

    /// Asks it with this body.
    pub(crate) async fn send(&self, api: &Api, body: Option<&Value>) -> Answer {
        let headers = [("Accept", "application/json, text/event-stream")];
        let answer = api.send(&self.method, &self.path, &headers, body).await;
        answer.unwrap_or_else(|e| panic!("{}: {e}", self.name()))
    }

    /// Asks it with a body that is valid in [`MINE`].
    pub(crate) async fn ask(&self, api: &Api) -> Answer {
        self.send(api, self.body(MINE).as_ref()).await
    }
}

/// What ends something that others need comes late, and what revokes the key that is used, last.
fn turn(operation: &Operation) -> u8 {
    match operation.id.as_str() {
        "revoke_key" => 3,
        id if id.starts_with("revoke") => 2,
        id if id.starts_with("retire") => 1,
        _ => 0,
    }
}

/// A well-formed key of [`MINE`] that nobody was given.
pub(crate) fn forged() -> String {
    format!("awp_{MINE}_{}_{}", "a".repeat(12), "b".repeat(43))
}

/// The manifest of [`AGENT`].
fn agent(project: &str) -> Value {
    let nightly = json!({"id": SCHEDULE, "cron": "0 3 * * *", "input": QUESTION});
    let spec = json!({"instructions": "Answer.", "model": "brain/planner", "output_schema": {}, "schedules": [nightly]});
    json!({"kind": "agent", "project": project, "id": AGENT, "spec": spec})
}

/// Gives the project contracts whose names no other project has.
async fn apply_own_contracts(mine: &Api, fixture: &FixtureMcp) {
    let provider =
        json!({"kind": "provider", "project": MINE, "id": PROVIDER, "spec": fixture.provider_spec()});
    mine.apply(&[agent(MINE), provider]).await.expect("the manifests are valid");
}

/// An approval of the project: an agent in `suggest` that asks for a call.
async fn approval(mine: &Api) -> String {
    let call = Line::call(&format!("{PROVIDER}__echo"), json!({"text": QUESTION}));
    let model = FixtureModel::start(vec![call]).await.unwrap();
    let thinker =
        json!({"kind": "provider", "project": MINE, "id": "thinker", "spec": model.provider_spec()});
    let grants = [json!({"tool": format!("{PROVIDER}__echo"), "risk": "write"})];
    let spec = json!({"instructions": "Ask.", "model": "thinker/script", "output_schema": {}, "mode": "suggest",
        "grants": grants});
    let asker = json!({"kind": "agent", "project": MINE, "id": "asker", "spec": spec});
    mine.apply(&[thinker, asker]).await.expect("the manifests are valid");
    let run_id = mine.create_run("asker", &json!("go")).await.unwrap();
    let asked = async || mine.get_run(&run_id).await.unwrap()["waiting"]["approval_id"].clone();
    until("it waits for people", async || asked().await.is_string()).await;
    asked().await.as_str().unwrap().to_owned()
}

/// An event of the project's audit that a seal holds.
async fn sealed_event(api: &Api) -> String {
    let page = api.get("/v1/platform/audit?action=run.create").await.unwrap().expect(200).unwrap();
    let id = page["items"][0]["id"].as_str().expect("a run was created").to_owned();
    let proof = format!("/v1/platform/audit/events/{id}/proof");
    until("the event is sealed", async || api.get(&proof).await.unwrap().status != 409).await;
    id
}
