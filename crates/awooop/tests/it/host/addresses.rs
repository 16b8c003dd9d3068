//! Where a contract may lead the server: nowhere inside, however the address is spelled, whatever a name resolves to and
//! whatever an upstream answers. Inside there is a listener on every address of this machine; nobody connects to it.

use std::net::{SocketAddr, TcpListener};

use awooop_journeys::client::Api;
use axum::Router;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::PROJECT;
use crate::gates::agent_client;
use crate::scripted::{Stage, agent, ask_mcp, end, manifest, run};

/// A port of this machine that nobody is to reach. What connects waits in its queue until it is counted.
struct Inside {
    listener: TcpListener,
    port: u16,
}

impl Inside {
    fn listen() -> Inside {
        // one socket for both families, where there are both
        let bound = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0"));
        let listener = bound.expect("a free port");
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        Inside { listener, port }
    }

    fn connections(&self) -> usize {
        std::iter::from_fn(|| self.listener.accept().ok()).count()
    }
}

/// Every host that is inside, as a project might spell it.
const HOSTS: &[&str] = &[
    "127.0.0.1",
    "127.0.0.2",
    "127.0.0.1.",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "00000177.0x0.0.1",
    "0",
    "0.0.0.0",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[fe80::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "１２７.０.０.１",
    "①②⑦.0.0.1",
    "127。0。0。1",
    "127%2e0%2e0%2e1",
    "169.254.169.254",
    "169.254.169.254.",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::]",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "100.64.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
];

/// Addresses that are none, or of no kind that a server of tools or models has. `PORT` is the port inside.
const URLS: &[&str] = &[
    "https://me@127.0.0.1:PORT/",
    "https://me:word@example.com/",
    "https://me@example.com/",
    "https://127.0.0.1:PORT@example.com/",
    "https://example.com@127.0.0.1:PORT/",
    "https://127.0.0.1:PORT\\@example.com/",
    "https://127.0.0.1:PORT#@example.com/",
    "https://[fe80::1%25eth0]:PORT/",
    "https://[::1%25lo]:PORT/",
    "https://[127.0.0.1]:PORT/",
    "https://ｌocalhost:PORT/",
    "https:127.0.0.1:PORT",
    "//127.0.0.1:PORT/",
    "ftp://127.0.0.1:PORT/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:PORT/_x",
    "unix:///var/run/docker.sock",
    "data:application/json,{}",
    "javascript:alert(1)",
    "ws://127.0.0.1:PORT/",
    "https://127.0.0.1:99999/",
    "https://",
    "",
];

fn mcp(url: &str) -> Value {
    json!({"type": "mcp", "transport": "http", "url": url, "tools": [{"name": "look", "risk": "read_only"}]})
}

fn model(url: &str) -> Value {
    json!({"type": "llm", "dialect": "openai", "base_url": url, "models": [{"name": "m"}]})
}

async fn publish(api: &Api, spec: Value) -> (u16, String, bool) {
    let body = json!({"manifests": [manifest("provider", PROJECT, "outside", spec)]});
    let answer = api.post("/v1/platform/contracts", &body).await.unwrap();
    let errors = answer.json()["errors"].as_array().cloned().unwrap_or_default();
    let is_named =
        errors.iter().any(|e| e["path"].as_str().is_some_and(|p| p.starts_with("/manifests/0/spec")));
    (answer.status, answer.code(), is_named)
}

fn project() -> Value {
    manifest("project", PROJECT, PROJECT, json!({"display_name": "Guests"}))
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_no_spelling_of_an_address_inside_is_published() {
    let inside = Inside::listen();
    // one port is listed, so that the list is no reason to refuse: another port of the same address is not
    let list = format!("[projects.gated]\nprivate_addresses = [\"127.0.0.1:{}\"]\n", inside.port ^ 1);
    let stage = Stage::start(&[], Some(&list)).await;
    let api = stage.apply(PROJECT, &[project()]).await;
    let listed = format!("http://127.0.0.1:{}/mcp", inside.port ^ 1);
    assert_eq!(publish(&api, mcp(&listed)).await.0, 200, "what is listed is published");
    let port = inside.port.to_string();
    let hosts =
        HOSTS.iter().flat_map(|host| ["http", "https"].map(|scheme| format!("{scheme}://{host}:{port}/v1")));
    let urls: Vec<String> = hosts.chain(URLS.iter().map(|url| url.replace("PORT", &port))).collect();
    for url in &urls {
        for spec in [mcp(url), model(url)] {
            let refused = publish(&api, spec).await;
            assert_eq!(refused, (422, "E-CONTRACT-001".to_owned(), true), "{url}");
        }
    }
    assert_eq!(inside.connections(), 0);
    stage.assert_well().await;
}

/// A tool server, and a model, that answer with a redirect: `/<status>/<n>` to the n-th place.
struct Redirects {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Redirects {
    #[expect(clippy::disallowed_methods, reason = "test support: the server belongs to no project")]
    async fn start(inside: u16) -> (Redirects, Vec<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let places = vec![
            format!("http://127.0.0.1:{inside}/mcp"),
            format!("//127.0.0.1:{inside}/mcp"),
            format!("https://localhost:{inside}/mcp"),
            format!("http://[::1]:{inside}/"),
            "file:///etc/passwd".to_owned(),
            // round and round
            format!("http://{address}/307/5"),
        ];
        let known = places.clone();
        let router = Router::new().fallback(async move |uri: Uri| redirect(&uri, &known));
        let task = tokio::spawn(async move {
            // ends with the task
            let _ = axum::serve(listener, router).await;
        });
        (Redirects { address, task }, places)
    }
}

fn redirect(uri: &Uri, places: &[String]) -> Response {
    let mut parts = uri.path().split('/').skip(1);
    let status: u16 = parts.next().and_then(|part| part.parse().ok()).unwrap_or(404);
    let n: usize = parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    (StatusCode::from_u16(status).unwrap(), [(header::LOCATION, places[n].clone())]).into_response()
}

impl Drop for Redirects {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Calls a tool of each provider; each is refused in words that hold `reason`.
async fn assert_refused(client: &Api, providers: &[(String, String)], reason: &str) {
    for (id, url) in providers {
        let said =
            ask_mcp(client, "tools/call", json!({"name": format!("{id}__look")})).await.json().to_string();
        assert!(said.contains("E-MCP-UPSTREAM-001") && said.contains(reason), "{url}: {said}");
    }
}

/// Publishes providers at these addresses, and a tester who is granted all their tools.
async fn with_tester(stage: &Stage, providers: &[(String, String)], more: &[Value]) -> (Api, Api) {
    let grants: Vec<String> = providers.iter().map(|(id, _)| format!("{id}__look")).collect();
    let grants: Vec<&str> = grants.iter().map(String::as_str).collect();
    let offline = json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner"}]});
    let mut manifests = vec![project(), manifest("provider", PROJECT, "brain", offline)];
    manifests.extend(providers.iter().map(|(id, url)| manifest("provider", PROJECT, id, mcp(url))));
    manifests.push(agent(PROJECT, "tester", "brain/planner", &grants, json!({})));
    manifests.extend_from_slice(more);
    let api = stage.apply(PROJECT, &manifests).await;
    let client = agent_client(&api, "tester").await;
    (api, client)
}

/// An agent that thinks with the model at this address, and its provider.
fn thinker(name: &str, url: &str) -> [Value; 2] {
    let provider = manifest("provider", PROJECT, &format!("brain-{name}"), model(url));
    [
        provider,
        agent(
            PROJECT,
            &format!("thinker-{name}"),
            &format!("brain-{name}/m"),
            &[],
            json!({"max_attempts": 1}),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_neither_a_name_nor_a_redirect_leads_inside() {
    let inside = Inside::listen();
    let (redirects, places) = Redirects::start(inside.port).await;
    let list = format!("[projects.gated]\nprivate_addresses = [\"{}\"]\n", redirects.address);
    let stage = Stage::start(&[], Some(&list)).await;
    // a name says where it leads only when it is asked, so it is published, and refused when it is used
    let hosts = ["localhost", "LOCALHOST", "loc%61lhost"];
    let urls = hosts
        .iter()
        .flat_map(|host| ["http", "https"].map(|scheme| format!("{scheme}://{host}:{}/", inside.port)));
    let names: Vec<(String, String)> = urls.enumerate().map(|(n, url)| (format!("name{n}"), url)).collect();
    let statuses = [300, 301, 302, 303, 307, 308];
    let all = statuses.iter().flat_map(|status| (0..places.len()).map(move |n| (*status, n)));
    let moved: Vec<(String, String)> = all
        .map(|(status, n)| (format!("to{status}x{n}"), format!("http://{}/{status}/{n}", redirects.address)))
        .collect();
    let thinkers: Vec<Value> = [
        thinker("named", &format!("http://localhost:{}/v1", inside.port)),
        thinker("named-tls", &format!("https://localhost:{}/v1", inside.port)),
        thinker("moved", &format!("http://{}/307/0", redirects.address)),
        thinker("turned", &format!("http://{}/302/1", redirects.address)),
        thinker("circling", &format!("http://{}/308/5", redirects.address)),
    ]
    .concat();
    let (api, client) = with_tester(&stage, &[names.clone(), moved.clone()].concat(), &thinkers).await;
    assert_refused(&client, &names, "the operator did not list it for this project").await;
    assert_refused(&client, &moved, "redirect").await;
    for name in ["named", "named-tls", "moved", "turned", "circling"] {
        let found = run(&api, &format!("thinker-{name}"), &json!("go")).await;
        assert_eq!(end(&found), ("failed", "E-RUN-013"), "{name}: {found}");
    }
    assert_eq!(inside.connections(), 0);
    stage.assert_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_what_the_operator_takes_off_the_list_is_refused_at_its_next_use() {
    let inside = Inside::listen();
    let list = format!("[projects.gated]\nprivate_addresses = [\"127.0.0.1:{}\"]\n", inside.port);
    let stage = Stage::start(&[], Some(&list)).await;
    let providers = [("inside".to_owned(), format!("http://127.0.0.1:{}/mcp", inside.port))];
    with_tester(&stage, &providers, &[]).await;
    let Stage { server, home, database } = stage;
    server.kill().unwrap();
    std::fs::write(home.data_dir().join("operator.toml"), "[projects.gated]\n").unwrap();
    let server = home.start().await.expect("the server starts again");
    let key =
        server.api().in_project(PROJECT).create_key(&json!({"name": "again", "agent_id": "tester"})).await;
    let client = Api::new(server.url(), Some(&key.unwrap())).unwrap();
    assert_refused(&client, &providers, "the operator did not list it for this project").await;
    assert_eq!(inside.connections(), 0, "the contract is as active as it was");
    drop((server, database));
}
