//! What the official suite does not look at: the refusals of a server of one revision, cancelling, coming
//! back to a stream, and what the fixture remembers.

use std::time::Duration;

use super::*;
use crate::client::{Answer, Api};

/// A client of one revision.
struct Client {
    api: Api,
    session: Option<String>,
}

impl Client {
    /// One of 2026-07-28.
    fn stateless(fixture: &FixtureEverything) -> Client {
        Client { api: Api::new(fixture.url(), None).unwrap(), session: None }
    }

    /// One of 2025-11-25 that can be asked things.
    async fn stateful(fixture: &FixtureEverything) -> Client {
        let api = Api::new(fixture.url(), None).unwrap();
        let params =
            json!({"protocolVersion": STATEFUL, "capabilities": {"elicitation": {}}, "clientInfo": {}});
        let message = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        let hello = api.post("", &message).await.unwrap();
        assert_eq!(hello.json()["result"]["protocolVersion"], STATEFUL);
        let session = hello.headers[SESSION_HEADER].to_str().unwrap().to_owned();
        Client { api, session: Some(session) }
    }

    async fn ask(&self, method: &str, mut params: Value) -> Answer {
        let name = params["name"].as_str().unwrap_or_default().to_owned();
        let mut headers = vec![("mcp-method", method), (VERSION_HEADER, STATELESS)];
        match &self.session {
            Some(session) => headers = vec![(SESSION_HEADER, session), (VERSION_HEADER, STATEFUL)],
            None => {
                params["_meta"][META_VERSION] = STATELESS.into();
                params["_meta"][META_CAPABILITIES] = json!({"elicitation": {}});
            }
        }
        if method == "tools/call" {
            headers.push(("mcp-name", &name));
        }
        let message = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
        self.api.send("POST", "", &headers, Some(&message)).await.unwrap()
    }

    async fn call(&self, tool: &str) -> Value {
        self.ask("tools/call", json!({"name": tool, "arguments": {}})).await.json()
    }
}

/// Waits until the fixture has seen `number` cancellations.
async fn cancelled(fixture: &FixtureEverything, number: usize) -> Vec<Value> {
    while fixture.cancelled().len() < number {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    fixture.cancelled()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_one_revision_refuses_the_other_as_real_ones_do() {
    let old = FixtureEverything::start(Speaks::Only2025).await.unwrap();
    let refused = Client::stateless(&old).ask("tools/list", json!({})).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (400, &json!(-32000)));
    assert_eq!(refused.json()["id"], 7);
    let listed = Client::stateful(&old).await.ask("tools/list", json!({})).await.json();
    assert_eq!(listed["result"]["tools"].as_array().map(Vec::len), Some(old.tools().len()));
    assert!(!listed.to_string().contains("\"fixture\""), "how it answers is nobody's business");

    let new = FixtureEverything::start(Speaks::Only2026).await.unwrap();
    let hello =
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": STATEFUL}});
    let refused = Api::new(new.url(), None).unwrap().post("", &hello).await.unwrap();
    let error = refused.json()["error"].clone();
    assert_eq!((refused.status, &error["code"]), (400, &json!(-32022)));
    assert_eq!(error["data"], json!({"supported": [STATELESS], "requested": STATEFUL}));
    let listed = Client::stateless(&new).ask("tools/list", json!({})).await.json();
    assert_eq!(
        (&listed["result"]["cacheScope"], &listed["result"]["resultType"]),
        (&json!("public"), &json!("complete"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_question_is_a_result_in_one_revision_and_a_request_in_the_other() {
    let fixture = FixtureEverything::start(Speaks::Both).await.unwrap();
    let client = Client::stateless(&fixture);
    let asked = client.call("ask_name").await["result"].clone();
    assert_eq!(asked["resultType"], "input_required");
    assert_eq!(asked["inputRequests"]["user_name"]["method"], "elicitation/create");
    let state = asked["requestState"].as_str().unwrap();
    let answer = async |state: &str, tool: &str| {
        let answers = json!({"user_name": {"action": "accept", "content": {"name": "Ada"}}});
        let params = json!({"name": tool, "arguments": {}, "requestState": state, "inputResponses": answers});
        client.ask("tools/call", params).await.json()
    };
    let done = answer(state, "ask_name").await;
    assert!(done["result"]["content"][0]["text"].as_str().unwrap().contains("Ada"), "{done}");
    for (state, tool) in [
        (format!("{state}x"), "ask_name"),
        ("nonsense".to_owned(), "ask_name"),
        (state.to_owned(), "test_input_required_result_multi_round"),
    ] {
        assert_eq!(answer(&state, tool).await["error"]["code"], -32602, "{state} {tool}");
    }

    // the question comes on the stream of the call, and its answer is a message of its own
    let client = Client::stateful(&fixture).await;
    let mut call = std::pin::pin!(client.ask("tools/call", json!({"name": "ask_name", "arguments": {}})));
    let reply = json!({"jsonrpc": "2.0", "id": "fixture-0",
        "result": {"action": "accept", "content": {"name": "Ada"}}});
    let headers = [(SESSION_HEADER, client.session.as_deref().unwrap())];
    let answered = loop {
        tokio::select! {
            biased;
            answered = &mut call => break answered.text,
            () = tokio::time::sleep(Duration::from_millis(2)) => {
                client.api.send("POST", "", &headers, Some(&reply)).await.unwrap();
            }
        }
    };
    assert!(answered.contains("\"method\":\"elicitation/create\"") && answered.contains("Ada"), "{answered}");
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_cancels_in_one_revision_and_saying_so_in_the_other() {
    let fixture = FixtureEverything::start(Speaks::Both).await.unwrap();
    fixture.hold();
    let client = Client::stateless(&fixture);
    let arrived = async {
        while fixture.calls("held").is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        answer = client.call("held") => panic!("answered while held: {answer}"),
        () = arrived => {}
    }
    assert_eq!(cancelled(&fixture, 1).await, [json!(7)]);
    fixture.forget();

    let client = Client::stateful(&fixture).await;
    let params = json!({"name": "held", "arguments": {}, "_meta": {"progressToken": "p"}});
    let mut call = std::pin::pin!(client.ask("tools/call", params));
    let headers = [(SESSION_HEADER, client.session.as_deref().unwrap())];
    let notice = notification("notifications/cancelled", json!({"requestId": 7}));
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut call => break ended.text,
            () = tokio::time::sleep(Duration::from_millis(2)) => {
                client.api.send("POST", "", &headers, Some(&notice)).await.unwrap();
            }
        }
    };
    assert!(!ended.contains("\"result\""), "what is cancelled is not answered: {ended}");
    assert_eq!(fixture.cancelled()[0], 7);
    fixture.let_go();
    assert!(
        client.ask("tools/call", json!({"name": "held", "arguments": {}})).await.text.contains("\"result\"")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_taken_up_again_and_an_ended_session_is_not_found() {
    let fixture = FixtureEverything::start(Speaks::Only2025).await.unwrap();
    let client = Client::stateful(&fixture).await;
    let first = client.ask("tools/call", json!({"name": "test_reconnection", "arguments": {}})).await.text;
    let last = first.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
    assert!(!first.contains("\"result\""), "{first}");
    let session = client.session.clone().unwrap();
    let headers = [(SESSION_HEADER, session.as_str()), ("last-event-id", last)];
    let rest = client.api.send("GET", "", &headers, None).await.unwrap().text;
    assert!(rest.contains("\"result\""), "{rest}");
    fixture.end_sessions();
    assert_eq!(client.ask("tools/list", json!({})).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_differ_from_the_body_are_refused_and_all_is_remembered() {
    let fixture = FixtureEverything::start(Speaks::Only2026).await.unwrap();
    let api = Api::new(fixture.url(), None).unwrap();
    let meta = json!({META_VERSION: STATELESS, META_CAPABILITIES: {}, "progressToken": "p"});
    let params = json!({"name": "echo", "arguments": {"text": "a"}, "_meta": meta});
    let message = json!({"jsonrpc": "2.0", "id": "one", "method": "tools/call", "params": params});
    let right =
        [(VERSION_HEADER, STATELESS), ("mcp-method", "tools/call"), ("mcp-name", "=?base64?ZWNobw==?=")];
    let answer = api.send("POST", "", &right, Some(&message)).await.unwrap();
    assert_eq!(answer.json()["result"]["content"][0]["futureMember"], json!({"kept": true}));
    for wrong in 0..right.len() {
        for value in [Some("wrong"), None] {
            let mut headers = right.to_vec();
            match value {
                Some(value) => headers[wrong].1 = value,
                None => _ = headers.remove(wrong),
            }
            let refused = api.send("POST", "", &headers, Some(&message)).await.unwrap();
            assert_eq!(
                (refused.status, &refused.json()["error"]["code"]),
                (400, &json!(-32020)),
                "{headers:?}"
            );
        }
    }
    let seen = fixture.calls("echo").remove(0);
    assert_eq!((seen.method(), seen.header("mcp-method")), ("tools/call", Some("tools/call")));
    assert_eq!((&seen.meta()["progressToken"], &seen.message["id"]), (&json!("p"), &json!("one")));
    assert_eq!(fixture.seen().len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_listens_hears_what_it_asked_for_and_nothing_else() {
    const WATCHED: &str = "test://watched-resource";
    let fixture = FixtureEverything::start(Speaks::Both).await.unwrap();
    let wanted = json!({"promptsListChanged": true, "resourceSubscriptions": [WATCHED]});
    let meta = json!({META_VERSION: STATELESS, META_CAPABILITIES: {}});
    let message = json!({"jsonrpc": "2.0", "id": "sub", "method": "subscriptions/listen",
        "params": {"notifications": wanted, "_meta": meta}});
    let client = Client::stateful(&fixture).await;
    let http = reqwest::Client::new();
    let listen = http.post(fixture.url()).header(VERSION_HEADER, STATELESS);
    let stateless = listen.header("mcp-method", "subscriptions/listen").json(&message).send().await.unwrap();
    client.ask("resources/subscribe", json!({"uri": WATCHED})).await;
    let session = client.session.as_deref().unwrap();
    let stateful = http.get(fixture.url()).header(SESSION_HEADER, session).send().await.unwrap();
    fixture.announce("tools");
    fixture.announce("prompts");
    fixture.touch("test://static-text");
    fixture.touch(WATCHED);
    let hears = async |mut stream: reqwest::Response| {
        let mut text = String::new();
        while !text.contains("resources/updated") {
            text += std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap();
        }
        let messages = text.lines().filter_map(|line| line.strip_prefix("data: "));
        messages.map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let methods = |messages: &[Value]| {
        messages.iter().map(|m| m["method"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = hears(stateless).await;
    assert_eq!(
        methods(&first),
        [
            "notifications/subscriptions/acknowledged",
            "notifications/prompts/list_changed",
            "notifications/resources/updated"
        ]
    );
    assert_eq!(first[0]["params"]["notifications"], wanted);
    assert!(first.iter().all(|message| message["params"]["_meta"][META_SUBSCRIPTION] == "sub"), "{first:?}");
    let second = hears(stateful).await;
    assert_eq!(
        methods(&second),
        [
            "notifications/tools/list_changed",
            "notifications/prompts/list_changed",
            "notifications/resources/updated"
        ]
    );
    assert_eq!(second[2]["params"], json!({"uri": WATCHED}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_does_not_want_to_read_is_not_logged() {
    let fixture = FixtureEverything::start(Speaks::Only2025).await.unwrap();
    let client = Client::stateful(&fixture).await;
    for (level, lines) in [("debug", 3), ("error", 0), ("info", 3)] {
        client.ask("logging/setLevel", json!({"level": level})).await;
        let params = json!({"name": "test_tool_with_logging", "arguments": {}});
        let said = client.ask("tools/call", params).await.text;
        assert_eq!(said.matches("notifications/message").count(), lines, "{level}: {said}");
    }
    let call = client.call("test_missing_capability").await;
    assert_eq!(call["result"]["isError"], true, "this revision has no error for it");
}
