//! A run's events, with the journal stepped by hand.

use awooop_journeys::db::TestProject;
use awooop_store::journal::{Outcome, StepKind};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::api::{Api, RUNS, admin, request};

/// One event as it arrived.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    id: String,
    name: String,
    data: Value,
}

impl Event {
    fn short(&self) -> String {
        let detail = match self.name.as_str() {
            "step" => self.data["n"].to_string(),
            _ => self.data["run"]["state"].as_str().unwrap().to_owned(),
        };
        format!("{} {} {detail}", self.id, self.name)
    }
}

/// An open stream.
struct Events {
    body: axum::body::BodyDataStream,
    text: String,
}

impl Events {
    async fn open(api: &Api, project: &TestProject, run: &str, after: &str) -> Events {
        let headers = [("last-event-id", after)];
        let headers = if after.is_empty() { &[][..] } else { &headers[..] };
        let path = format!("{RUNS}/{run}/events");
        let response = api.open(request("GET", &path, &admin(project), headers, None)).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next event; `None` when the server closed.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    let of = |line: &str| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned);
                    block.lines().find_map(of).unwrap_or_default()
                };
                if !field("event").is_empty() {
                    let data = serde_json::from_str(&field("data")).unwrap();
                    return Some(Event { id: field("id"), name: field("event"), data });
                }
                continue;
            }
            let chunk = self.body.next().await?.unwrap();
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn take(&mut self, count: usize) -> Vec<String> {
        let mut found = Vec::new();
        for _ in 0..count {
            found.push(self.next().await.expect("an event").short());
        }
        found
    }

    async fn rest(mut self) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(event) = self.next().await {
            found.push(event.short());
        }
        found
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn states_and_steps_arrive_as_they_happen_and_the_end_closes() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let id = api.run(&project).await;
    let mut events = Events::open(&api, &project, &id, "").await;
    assert_eq!(events.take(1).await, ["0.0 state pending"]);
    let claimed = api.claim(&project).await;
    assert_eq!(events.take(1).await, ["1.0 state running"]);
    api.step(&claimed, 1, StepKind::Llm).await;
    assert_eq!(events.take(1).await, ["1.1 step 1"]);
    api.step(&claimed, 2, StepKind::Tool).await;
    assert_eq!(events.take(1).await, ["1.2 step 2"]);
    api.end(&claimed, Outcome::Completed(json!({"a": 1}))).await;
    assert_eq!(events.take(1).await, [" state completed"]);
    let end = events.next().await.unwrap();
    let found = api.get(&admin(&project), &format!("{RUNS}/{id}")).await.json();
    assert_eq!((end.name.as_str(), &end.data), ("end", &found));
    assert_eq!(events.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_run_can_be_watched_from_any_place() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let id = api.run(&project).await;
    let first = api.claim(&project).await;
    api.step(&first, 1, StepKind::Llm).await;
    api.step(&first, 2, StepKind::Tool).await;
    api.test.store.release(&first).await.unwrap();
    let second = api.claim(&project).await;
    assert!(second.epoch > first.epoch);
    let e = second.epoch;
    api.step(&second, 3, StepKind::Llm).await;
    api.end(&second, Outcome::Completed(json!({}))).await;
    let watch = async |after: &str| Events::open(&api, &project, &id, after).await.rest().await;
    let third = format!("{e}.3 step 3");
    // a state before the steps of older claims carries no id: going on after it would lose them
    let whole = [" state completed", "1.1 step 1", "1.2 step 2", &third, " end completed"];
    assert_eq!(watch("").await, whole);
    assert_eq!(watch("1.0").await, whole);
    assert_eq!(watch("1.1").await, [" state completed", "1.2 step 2", &third, " end completed"]);
    let state = format!("{e}.0 state completed");
    assert_eq!(watch("1.2").await, [state.as_str(), &third, " end completed"]);
    assert_eq!(watch(&format!("{e}.0")).await, [state.as_str(), &third, " end completed"]);
    assert_eq!(watch(&format!("{e}.3")).await, [" state completed", " end completed"]);
    assert_eq!(watch("999.999").await, [" state completed", " end completed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_broken_after_any_event_goes_on_without_loss_or_repetition() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let id = api.run(&project).await;
    let first = api.claim(&project).await;
    for n in 1..=3 {
        api.step(&first, n, StepKind::Tool).await;
    }
    api.test.store.release(&first).await.unwrap();
    let second = api.claim(&project).await;
    for n in 4..=5 {
        api.step(&second, n, StepKind::Tool).await;
    }
    api.end(&second, Outcome::Completed(json!({}))).await;
    let (mut last_id, mut steps) = (String::new(), Vec::new());
    for cut in [1, 2, 2, 3, 2, 99] {
        let mut events = Events::open(&api, &project, &id, &last_id).await;
        for _ in 0..cut {
            let Some(event) = events.next().await else { break };
            if !event.id.is_empty() {
                last_id = event.id;
            }
            if event.name == "step" {
                steps.push(event.data["n"].as_i64().unwrap());
            }
        }
    }
    assert_eq!(steps, [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_journal_arrives_whole_and_a_cancel_ends_the_stream() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let id = api.run(&project).await;
    let claimed = api.claim(&project).await;
    for n in 1..=230 {
        api.step(&claimed, n, StepKind::Tool).await;
    }
    let mut events = Events::open(&api, &project, &id, "").await;
    assert_eq!(events.take(1).await, ["1.0 state running"]);
    let steps = events.take(230).await;
    assert_eq!(steps, (1..=230).map(|n| format!("1.{n} step {n}")).collect::<Vec<_>>());
    api.send(request("POST", &format!("{RUNS}/{id}/cancel"), &admin(&project), &[], None)).await;
    assert_eq!(events.rest().await, ["2.0 state cancelled", " end cancelled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_drains_closes_its_streams_and_nonsense_is_refused() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let id = api.run(&project).await;
    for bad in ["x", "1", "-1.0", "1.2.3", "99999999999999999999.0"] {
        let path = format!("{RUNS}/{id}/events");
        let answer = api.send(request("GET", &path, &admin(&project), &[("last-event-id", bad)], None)).await;
        assert_eq!(answer.problem(), (400, "E-REQ-001".into()), "{bad}");
    }
    let mut events = Events::open(&api, &project, &id, "").await;
    assert_eq!(events.take(1).await, ["0.0 state pending"]);
    api.draining.cancel();
    assert_eq!(events.next().await, None);
}
