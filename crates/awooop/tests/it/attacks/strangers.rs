//! What a stranger learns by asking: nothing. An id of another project and an id that nobody has are answered alike, in
//! status, in every header and in every byte of the body, wherever an id can stand.

use awooop_journeys::client::{Answer, Api};
use serde_json::{Value, json};

use super::{Ground, MINE};
use crate::operations::{AGENT, Operation};

/// Everything of an answer but when it was given, in which trace, and the ids it was asked with.
fn seen(answer: &Answer, ids: &[(&str, String)]) -> String {
    let mut body = answer.json();
    if let Some(document) = body.as_object_mut() {
        document.remove("trace_id");
    }
    let mut headers: Vec<String> =
        answer.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    headers.retain(|line| !line.starts_with("date:"));
    headers.sort();
    let body = if body.is_null() { answer.text.clone() } else { body.to_string() };
    let mut all = format!("{}\n{}\n{body}", answer.status, headers.join("\n"));
    // the longest first: one id may hold another
    let mut ids: Vec<_> = ids.iter().filter(|(_, value)| value.len() > 2).collect();
    ids.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
    for (name, value) in ids {
        all = all.replace(value.as_str(), &format!("<{name}>"));
    }
    all
}

/// An id of the same form and length that nobody has.
fn absent(name: &str, value: &str) -> String {
    match name {
        // neither is anybody's: a number that exists in each contract or run, a kind, a page of the documentation
        "n" | "version" | "kind" | "code" => value.to_owned(),
        "key_id" => "0".repeat(value.len()),
        name if name.ends_with("_id") && value.len() == 36 => {
            format!("01890000-0000-7000-8000-{:012}", name.len())
        }
        _ => format!("{}x", &value[..value.len() - 1]),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_ids_of_another_project_are_answered_as_ids_that_nobody_has() {
    let ground = Ground::start().await;
    let theirs = &ground.furnished.ids;
    let nobodys: Vec<(&str, String)> =
        theirs.iter().map(|(name, value)| (*name, absent(name, value))).collect();
    let mut compared = 0;
    let both = ground.furnished.operations().into_iter().zip(ground.furnished.operations_with(&nobodys));
    // a draft's body names what its path does: asked with the path of one and the body of another it is another request
    let is_asked = |there: &Operation| there.has_parts && !there.is_open && there.id != "save_draft";
    for (there, nowhere) in both.filter(|(there, _)| is_asked(there)) {
        // each by the stranger's own admin, and by the platform's, who has not named the project
        let is_refused = !there.is_mcp();
        for api in [&ground.other, ground.stage.server.api()] {
            let project = if std::ptr::eq(api, &ground.other) { super::OTHER } else { "platform" };
            let there = there.send(api, there.body(project).as_ref()).await;
            let nowhere = nowhere.send(api, nowhere.body(project).as_ref()).await;
            assert_eq!(seen(&there, theirs), seen(&nowhere, &nobodys));
            assert_eq!((400..500).contains(&there.status), is_refused, "{}", there.text);
            compared += 1;
        }
    }
    assert!(compared > 40, "{compared} comparisons");
    for (what, method, path, body) in mentions() {
        let ids = |value: &str| vec![("mentioned", value.to_owned())];
        for (part, value) in [("run_id", ground.furnished.id("run_id")), ("agent", AGENT), ("project", MINE)]
        {
            let nobody = absent(part, value);
            let fill =
                |value: &str| (path.replace(part_mark(part), value), filled(&body, part_mark(part), value));
            if path == fill("").0 && body == fill("").1 {
                continue;
            }
            let there = send(&ground.other, method, &fill(value)).await;
            let nowhere = send(&ground.other, method, &fill(&nobody)).await;
            assert_eq!(seen(&there, &ids(value)), seen(&nowhere, &ids(&nobody)), "{what}");
        }
    }
    for project in [MINE, "no-such-proj"] {
        let answer = ground.other.in_project(project).get("/v1/platform/runs").await.unwrap();
        let ids = [("mentioned", project.to_owned())];
        let own = ground.other.in_project("tenant-none").get("/v1/platform/runs").await.unwrap();
        assert_eq!(seen(&answer, &ids), seen(&own, &[("mentioned", "tenant-none".to_owned())]));
    }
    ground.assert_unharmed().await;
}

/// How a part is written in [`mentions`].
fn part_mark(part: &str) -> &'static str {
    match part {
        "run_id" => "RUN",
        "agent" => "AGENT",
        _ => "PROJECT",
    }
}

/// Where else an id can stand: in bodies and in queries. What it is, method, path, body.
fn mentions() -> Vec<(&'static str, &'static str, &'static str, Value)> {
    let run = json!({"agent_id": "tester", "input": "x", "parent_run_id": "RUN"});
    vec![
        ("a parent", "POST", "/v1/platform/runs", run),
        ("an agent to run", "POST", "/v1/platform/runs", json!({"agent_id": "AGENT", "input": "x"})),
        ("an agent for a key", "POST", "/v1/platform/keys", json!({"name": "bound-x", "agent_id": "AGENT"})),
        ("a parent's runs", "POST", "/v1/platform/runs/bulk-cancel", json!({"parent_run_id": "RUN"})),
        ("an agent's runs to cancel", "POST", "/v1/platform/runs/bulk-cancel", json!({"agent_id": "AGENT"})),
        ("an agent's failed runs", "POST", "/v1/platform/runs/bulk-retry", json!({"agent_id": "AGENT"})),
        ("an agent's runs", "GET", "/v1/platform/runs?agent_id=AGENT", Value::Null),
        ("a run's events", "GET", "/v1/platform/audit?run_id=RUN", Value::Null),
        ("a subject's events", "GET", "/v1/platform/audit?subject=agent/AGENT", Value::Null),
        ("an actor's events", "GET", "/v1/platform/audit?actor=PROJECT/owner", Value::Null),
        (
            "a project's manifest",
            "POST",
            "/v1/platform/contracts",
            json!({"manifests": [
            {"kind": "project", "project": "PROJECT", "id": "PROJECT", "spec": {"display_name": "x"}}]}),
        ),
    ]
}

fn filled(body: &Value, mark: &str, value: &str) -> Value {
    serde_json::from_str(&body.to_string().replace(mark, value)).unwrap()
}

async fn send(api: &Api, method: &str, (path, body): &(String, Value)) -> Answer {
    let body = Some(body).filter(|body| !body.is_null());
    api.send(method, path, &[], body).await.unwrap()
}
