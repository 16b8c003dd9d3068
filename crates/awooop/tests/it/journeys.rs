//! The main job, end to end, by the real binary: a shop's manifests applied, questions asked, answers
//! compared with the file.

use std::time::Duration;

use awooop_journeys::client::Api;
use awooop_journeys::server::{Home, Server};
use serde_json::{Value, json};

use crate::figures::{Figures, agrees};
use crate::support::root;

/// A first start with its own PostgreSQL, and the shop applied.
async fn shop() -> (Server, Home) {
    let home = Home::new().unwrap();
    let server = home.start().await.expect("the server starts with a database of its own");
    let (code, applied) = apply(&home).await;
    assert_eq!((code, &applied["is_changed"]), (0, &json!(true)), "{applied}");
    assert!(applied["items"].as_array().unwrap().iter().all(|i| i["change"] == "created"), "{applied}");
    (server, home)
}

async fn apply(home: &Home) -> (i32, Value) {
    let shop = root().join("examples/ewoooc");
    home.cli_json(&["apply", "-f", shop.to_str().unwrap()]).await.unwrap()
}

fn questions() -> Vec<Value> {
    let text = std::fs::read_to_string(root().join("examples/ewoooc/tests/questions.yaml")).unwrap();
    let file: Value = serde_saphyr::from_str(&text).unwrap();
    file["questions"].as_array().unwrap().clone()
}

/// Asks the shop's agent by the command line.
async fn ask(home: &Home, question: &str) -> (i32, Value) {
    home.cli_json(&["run", "shop-analyst", question, "--project", "ewoooc"]).await.unwrap()
}

/// What has to be true of a run that answered a question with one tool.
fn check_steps(document: &Value, tool: &str, question: &str) {
    let steps = document["steps"].as_array().unwrap();
    let kinds: Vec<&str> = steps.iter().filter_map(|step| step["kind"].as_str()).collect();
    assert_eq!(kinds, ["llm", "tool", "llm"], "{question}");
    assert!(steps.iter().enumerate().all(|(i, step)| step["n"] == i + 1 && step["epoch"] == 1), "{question}");
    assert!(steps.iter().all(|step| step["status"] == "ok" && step["code"].is_null()), "{question}");
    assert_eq!(steps[1]["tool"], format!("shop__{tool}"), "{question}");
    let gates = steps[1]["gates"].as_array().unwrap();
    assert_eq!(gates.len(), 5, "{question}: {gates:?}");
    assert!(gates.iter().all(|gate| gate["code"].is_null()), "{question}: {gates:?}");
    assert!(steps[0]["usage"]["input_tokens"].as_u64().is_some_and(|n| n > 0), "{question}");
    assert_eq!(document["run"]["step_count"], 2, "the run's steps are the model's answers");
}

/// The main figure of an answer, as a person reads it.
fn main_figure(tool: &str, expected: &Value) -> String {
    match tool {
        "sales_summary" => dollars(&expected["revenue_cents"]),
        "top_customers" => expected["customers"][0]["customer_id"].as_str().unwrap().to_owned(),
        "customer_orders" => expected["orders"].to_string(),
        _ => expected["repeat_customers"].to_string(),
    }
}

fn dollars(cents: &Value) -> String {
    let cents = cents.as_u64().unwrap();
    format!("{}.{:02}", cents / 100, cents % 100)
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_the_shop_s_questions_get_the_figures_of_the_file() {
    let (server, home) = shop().await;
    let figures = Figures::read();
    let questions = questions();
    assert!(questions.len() >= 10);
    let mut wrong = Vec::new();
    for question in &questions {
        let (asked, tool) = (question["ask"].as_str().unwrap(), question["tool"].as_str().unwrap());
        let (code, document) = ask(&home, asked).await;
        assert_eq!((code, &document["run"]["state"]), (0, &json!("completed")), "{asked}: {document}");
        assert_eq!(document["mode"], "shadow", "an agent that names no mode runs in shadow");
        assert_eq!(document["error"], Value::Null);
        let run = awooop_core::contract::RUN_SCHEMA.validate(&document["run"]);
        assert_eq!(run, Ok(()), "{asked}: the run fits its contract");
        check_steps(&document, tool, asked);
        let expected = figures.expected(tool, &question["arguments"]);
        let answer = document["output"]["answer"].as_str().unwrap_or_default().replace(',', "");
        if !agrees(&expected, &document["output"]["data"]) || !answer.contains(&main_figure(tool, &expected))
        {
            wrong.push(format!("{asked}: expected {expected}, got {}", document["output"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), questions.len(), wrong.join("\n"));
    let (code, found) = home.cli_json(&["doctor"]).await.unwrap();
    assert_eq!(code, 0, "{found}");
    let status = server.stop(nix::sys::signal::Signal::SIGTERM).await.unwrap();
    assert!(status.success(), "{status}: {}", home.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_applying_twice_changes_nothing_and_a_run_is_its_project_s_alone() {
    let (server, home) = shop().await;
    let (code, again) = apply(&home).await;
    assert_eq!((code, &again["is_changed"]), (0, &json!(false)), "{again}");
    for item in again["items"].as_array().unwrap() {
        assert_eq!((&item["change"], &item["version"]), (&json!("unchanged"), &json!(1)), "{item}");
    }

    let (_, document) = ask(&home, "How much did we sell in March 1997?").await;
    let run_id = document["run"]["run_id"].as_str().unwrap();
    let other =
        json!({"kind": "project", "project": "other", "id": "other", "spec": {"display_name": "Other"}});
    let operator = server.api().in_project("other");
    operator.apply(&[other]).await.unwrap();
    let key = operator.create_key(&json!({"name": "stranger", "role": "admin"})).await.unwrap();
    let stranger = Api::new(server.url(), Some(&key)).unwrap();
    for path in ["", "/steps", "/events"] {
        let answer = stranger.get(&format!("/v1/platform/runs/{run_id}{path}")).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (404, "E-REQ-004"), "{path}: {}", answer.text);
    }
    let cancel = stranger.post(&format!("/v1/platform/runs/{run_id}/cancel"), &json!({})).await.unwrap();
    assert_eq!((cancel.status, cancel.code().as_str()), (404, "E-REQ-004"));
    let agent =
        stranger.post("/v1/platform/runs", &json!({"agent_id": "shop-analyst", "input": "x"})).await.unwrap();
    assert_eq!((agent.status, agent.code().as_str()), (422, "E-RUN-002"));
    let as_other = stranger.in_project("ewoooc").get("/v1/platform/runs").await.unwrap();
    assert_eq!((as_other.status, as_other.code().as_str()), (403, "E-AUTH-003"));

    // the shop's own key sees it
    let shop = server.api().in_project("ewoooc");
    let key = shop.create_key(&json!({"name": "clerk", "role": "viewer"})).await.unwrap();
    let clerk = Api::new(server.url(), Some(&key)).unwrap();
    assert_eq!(clerk.get_run(run_id).await.unwrap()["run"]["state"], "completed");
    let refused =
        clerk.post("/v1/platform/runs", &json!({"agent_id": "shop-analyst", "input": "x"})).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (403, "E-AUTH-002"));
    let more = shop
        .post("/v1/platform/runs", &json!({"agent_id": "shop-analyst", "input": "x", "mode": "live"}))
        .await
        .unwrap();
    assert_eq!((more.status, more.code().as_str()), (403, "E-RUN-003"), "{}", more.text);
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_events_tell_a_run_s_whole_story_and_resume() {
    let (server, _home) = shop().await;
    let shop = server.api().in_project("ewoooc");
    let run_id = shop.create_run("shop-analyst", &json!("What did customer 17 order?")).await.unwrap();
    shop.wait_for_end(&run_id, Duration::from_secs(30)).await.unwrap();
    let path = format!("/v1/platform/runs/{run_id}/events");
    let whole = events(&shop, &path, None).await;
    let names: Vec<&str> = whole.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names.iter().filter(|name| **name == "step").count(), 3, "{names:?}");
    assert_eq!(names.last(), Some(&"end"));
    assert!(names.contains(&"state"), "{names:?}");
    let (_, _, end) = whole.last().unwrap();
    assert_eq!(*end, shop.get_run(&run_id).await.unwrap(), "the last event is the run as it ended");
    let second = whole.iter().filter(|(name, ..)| name == "step").nth(1).unwrap().1.clone();
    assert_eq!(second, "1.2");
    let rest = events(&shop, &path, Some(&second)).await;
    let steps: Vec<&str> =
        rest.iter().filter(|(name, ..)| name == "step").map(|(_, id, _)| id.as_str()).collect();
    assert_eq!(steps, ["1.3"], "a resumed stream goes on after what was seen");
    assert_eq!(rest.last().unwrap().0, "end");
}

/// The events of a stream that ends by itself: name, id, data.
async fn events(api: &Api, path: &str, after: Option<&str>) -> Vec<(String, String, Value)> {
    let headers: Vec<(&str, &str)> = after.map(|id| ("Last-Event-ID", id)).into_iter().collect();
    let answer = api.send("GET", path, &headers, None).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    let field = |block: &str, name: &str| {
        let lines = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        lines.map(|value| value.trim_start().to_owned()).collect::<Vec<_>>().join("\n")
    };
    let blocks = answer.text.split("\n\n").filter(|block| block.contains("data:"));
    blocks
        .map(|block| {
            let data = serde_json::from_str(&field(block, "data")).expect("data is JSON");
            (field(block, "event"), field(block, "id"), data)
        })
        .collect()
}
