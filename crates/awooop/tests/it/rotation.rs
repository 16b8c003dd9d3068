//! A credential that changes under a running server: the next call uses the new one, whatever kind of reference it is,
//! and whoever is refused is told why. The Secrets of Kubernetes are written by `kubectl`.

use std::path::Path;
use std::process::Command;

use awooop_journeys::client::Api;
use awooop_journeys::fixture_kube::{ALL_VERBS, FixtureKube};
use serde_json::{Value, json};

use crate::gates::agent_client;
use crate::guarded::{Guarded, bearer, said, serve};
use crate::scripted::{Stage, agent, ask_mcp, manifest};

const PROJECT: &str = "rotating";

/// A server whose one tool says that it was called.
async fn upstream() -> Guarded {
    let tools = json!([{"name": "look", "description": "Looks", "inputSchema": {"type": "object"}}]);
    Guarded::start(move |message, _| {
        serve(message, &tools, |_| said(message, json!({"content": [{"type": "text", "text": "looked"}]})))
    })
    .await
}

/// A project with these providers, each with the tool `look`.
async fn client(stage: &Stage, providers: &[(&str, Value)]) -> Api {
    let offline = json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner"}]});
    let mut manifests = vec![
        manifest("project", PROJECT, PROJECT, json!({"display_name": "Rotating"})),
        manifest("provider", PROJECT, "brain", offline),
    ];
    manifests.extend(providers.iter().map(|(id, spec)| manifest("provider", PROJECT, id, spec.clone())));
    let granted: Vec<String> = providers.iter().map(|(id, _)| format!("{id}__look")).collect();
    let granted: Vec<&str> = granted.iter().map(String::as_str).collect();
    manifests.push(agent(PROJECT, "tester", "brain/planner", &granted, json!({})));
    let api = stage.apply(PROJECT, &manifests).await;
    agent_client(&api, "tester").await
}

/// What a call says: `looked`, or the error.
async fn look(client: &Api, provider: &str) -> String {
    let said = ask_mcp(client, "tools/call", json!({"name": format!("{provider}__look")})).await.json();
    let error = &said["error"];
    match said["result"]["content"][0]["text"].as_str() {
        Some(text) => text.to_owned(),
        None => format!("{} {}", error["data"]["code"].as_str().unwrap_or_default(), error["message"]),
    }
}

/// The cluster as its administrator uses it.
struct Kubectl<'a> {
    kubeconfig: &'a Path,
    home: tempfile::TempDir,
}

impl<'a> Kubectl<'a> {
    fn new(kubeconfig: &'a Path) -> Self {
        Self { kubeconfig, home: tempfile::tempdir().unwrap() }
    }

    fn run(&self, arguments: &[&str]) -> (bool, String) {
        let mut kubectl = Command::new("kubectl");
        kubectl.arg("--kubeconfig").arg(self.kubeconfig).args(["--namespace", "shop"]).args(arguments);
        let output = kubectl.env("HOME", self.home.path()).output().unwrap_or_else(|error| {
            panic!(
                "this test writes Secrets as an administrator does, with kubectl, which cannot be started \
                 ({error}): install it (https://kubernetes.io/docs/tasks/tools/)"
            )
        });
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Writes a Secret as a document of JSON: without one, kubectl sends what only a whole cluster reads.
    fn create(&self, name: &str, literal: &str) -> (bool, String) {
        let literal = format!("--from-literal={literal}");
        let document =
            self.must(&["create", "secret", "generic", name, &literal, "--dry-run=client", "-o", "json"]);
        let file = file_of(&document);
        self.run(&["create", "--validate=false", "-f", file.path().to_str().unwrap()])
    }

    fn must(&self, arguments: &[&str]) -> String {
        let (is_well, said) = self.run(arguments);
        assert!(is_well, "kubectl {arguments:?}: {said}");
        said
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_secret_of_kubernetes_is_followed_as_kubectl_changes_it() {
    let cluster = FixtureKube::start().await.unwrap();
    cluster.allow("admin", "shop", &ALL_VERBS);
    cluster.allow("awooop", "shop", &["get"]);
    cluster.allow("watcher", "shop", &["list"]);
    let (admin, ours) = (cluster.kubeconfig("admin").unwrap(), cluster.kubeconfig("awooop").unwrap());
    let kubectl = Kubectl::new(&admin);
    let (is_well, said) = kubectl.create("gateway", "token=first-token-of-shop");
    assert!(is_well, "{said}");
    assert!(
        kubectl.must(&["get", "secret", "gateway", "-o", "jsonpath={.data.token}"]).starts_with("Zmlyc3Q")
    );
    let (is_well, said) = kubectl.create("gateway", "token=x");
    assert!(!is_well && said.contains("already exists"), "{said}");

    let server = upstream().await;
    server.accept(&["first-token-of-shop"]);
    let list = format!(
        "private_addresses = [\"127.0.0.1\"]\nkubeconfig = \"{}\"\n[projects.{PROJECT}]\nk8s = [\"shop/gateway\"]\n",
        ours.display()
    );
    let stage = Stage::start(&[("AWOOOP_LOG", "trace,kube_client=trace")], Some(&list)).await;
    let spec = |reference: &str| server.spec(&["look"], &bearer(reference));
    let providers =
        [("kube", spec("k8s://shop/gateway/token")), ("keyless", spec("k8s://shop/gateway/other"))];
    let client = client(&stage, &providers).await;
    for unlisted in ["k8s://shop/other/token", "k8s://other/gateway/token", "k8s://shop/gateway.x/token"] {
        let refused = json!({"manifests": [manifest("provider", PROJECT, "outside", spec(unlisted))]});
        let answer = stage.api(PROJECT).post("/v1/platform/contracts", &refused).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (422, "E-CONTRACT-001"), "{unlisted}");
        assert!(answer.text.contains("does not list the Secret"), "{}", answer.text);
    }
    assert_eq!(look(&client, "kube").await, "looked");
    let reads = || cluster.asked().iter().filter(|asked| asked.ends_with("secrets/gateway")).count();
    let before = reads();
    for _ in 0..5 {
        assert_eq!(look(&client, "kube").await, "looked");
    }
    assert_eq!(reads(), before, "what was read is kept for a while");
    let said = look(&client, "keyless").await;
    assert!(said.contains("E-MCP-GATE-009") && said.contains("no such key"), "{said}");

    // rotated: the server refuses the old value, and the call that hears of it is made with the new one
    let patch = json!({"stringData": {"token": "second-token-of-shop"}}).to_string();
    kubectl.must(&["patch", "secret", "gateway", "-p", &patch]);
    server.accept(&["second-token-of-shop"]);
    assert_eq!(look(&client, "kube").await, "looked");
    let applied = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "gateway", "namespace": "shop"},
        "stringData": {"token": "third-token-of-shop"}});
    let file = stage.home.path().join("secret.json");
    std::fs::write(&file, applied.to_string()).unwrap();
    kubectl.must(&["apply", "--validate=false", "-f", file.to_str().unwrap()]);
    server.accept(&["third-token-of-shop"]);
    assert_eq!(look(&client, "kube").await, "looked");

    // each thing that can be wrong is told apart
    server.accept(&["nobody's"]);
    let expect = async |code: &str, words: &str| {
        let said = look(&client, "kube").await;
        assert!(said.contains(code) && said.contains(words), "{words}: {said}");
    };
    kubectl.must(&["delete", "secret", "gateway", "--wait=false"]);
    expect("E-MCP-UPSTREAM-001", "refuses the credential").await;
    expect("E-MCP-GATE-009", "there is no such Secret").await;
    cluster.allow("awooop", "shop", &[]);
    expect("E-MCP-GATE-009", "Kubernetes forbids it").await;
    cluster.allow("awooop", "shop", &["get"]);
    cluster.be_away(true);
    expect("E-MCP-GATE-009", "the Kubernetes API is away").await;
    cluster.be_away(false);
    cluster.put("shop", "gateway", "token", "fourth-token-of-shop");
    server.accept(&["fourth-token-of-shop"]);
    assert_eq!(look(&client, "kube").await, "looked");
    // the account gets a new token: the kubeconfig is read anew
    cluster.kubeconfig("awooop").unwrap();
    cluster.put("shop", "gateway", "token", "fifth-token-of-shop");
    server.accept(&["fifth-token-of-shop"]);
    assert_eq!(look(&client, "kube").await, "looked");
    let is_get = |asked: &String| !asked.contains("/secrets/") || !asked.starts_with("LIST");
    assert!(cluster.asked().iter().all(is_get));

    let log = stage.home.log();
    for n in ["first", "second", "third", "fourth", "fifth"] {
        let token = format!("{n}-token-of-shop");
        stage.assert_unseen(&token, &[]).await;
        use base64::Engine as _;
        assert!(!log.contains(&base64::engine::general_purpose::STANDARD.encode(&token)), "{n}");
    }
    assert!(!log.contains("token-of-awooop"), "the account's own token");
    stage.assert_well().await;
}

#[test]
fn kubectl_and_the_fixture_agree_on_conflicts_and_versions_that_are_gone() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = runtime.block_on(FixtureKube::start()).unwrap();
    cluster.allow("admin", "shop", &ALL_VERBS);
    cluster.allow("reader", "shop", &["get"]);
    let (admin, reader) = (cluster.kubeconfig("admin").unwrap(), cluster.kubeconfig("reader").unwrap());
    let (kubectl, reader) = (Kubectl::new(&admin), Kubectl::new(&reader));
    assert!(kubectl.create("one", "key=value").0);
    let stale = kubectl.must(&["get", "secret", "one", "-o", "json"]);
    kubectl.must(&["patch", "secret", "one", "--type=merge", "-p", r#"{"stringData": {"key": "other"}}"#]);
    let file = file_of(&stale);
    let refused = kubectl.run(&["replace", "--validate=false", "-f", file.path().to_str().unwrap()]);
    assert!(!refused.0 && refused.1.contains("Conflict"), "{}", refused.1);
    assert!(reader.run(&["get", "secret", "one"]).0);
    let refused = reader.run(&["delete", "secret", "one"]);
    assert!(!refused.0 && refused.1.contains("Forbidden"), "{}", refused.1);
    let version = serde_json::from_str::<Value>(&stale).unwrap()["metadata"]["resourceVersion"].clone();
    cluster.compact();
    let path = format!("/api/v1/namespaces/shop/secrets?resourceVersion={}", version.as_str().unwrap());
    let gone = kubectl.run(&["get", "--raw", &path]);
    assert!(!gone.0 && gone.1.contains("too old"), "{}", gone.1);
    let absent = kubectl.run(&["get", "secret", "two"]);
    assert!(!absent.0 && absent.1.contains("NotFound"), "{}", absent.1);
}

fn file_of(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_files_and_variables_are_followed_without_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().canonicalize().unwrap();
    let (token, variable) = (root.join(PROJECT).join("token"), root.join("variable"));
    std::fs::create_dir(root.join(PROJECT)).unwrap();
    let server = upstream().await;
    let list = format!(
        "secrets = \"{}\"\nprivate_addresses = [\"127.0.0.1\"]\n[projects.{PROJECT}]\nenv = [\"ROTATED_TOKEN\"]\n",
        root.display()
    );
    std::fs::write(&token, "file-token-number-0\n").unwrap();
    std::fs::write(&variable, "variable-token-number-0\n").unwrap();
    let more = [("ROTATED_TOKEN_FILE", variable.to_str().unwrap())];
    let stage = Stage::start(&more, Some(&list)).await;
    let spec = |reference: &str| server.spec(&["look"], &bearer(reference));
    let providers = [("file", spec("file://token")), ("env", spec("env://ROTATED_TOKEN"))];
    let client = client(&stage, &providers).await;
    for n in 0..3 {
        let [of_file, of_variable] = [format!("file-token-number-{n}"), format!("variable-token-number-{n}")];
        std::fs::write(&token, &of_file).unwrap();
        std::fs::write(&variable, &of_variable).unwrap();
        server.accept(&[&of_file, &of_variable]);
        assert_eq!(look(&client, "file").await, "looked");
        assert_eq!(look(&client, "env").await, "looked");
    }
    assert_eq!(server.shown_with_calls().len(), 6, "nothing was asked twice");
    stage.assert_unseen("file-token-number-0", &[]).await;
    stage.assert_unseen("variable-token-number-2", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_tokens_of_oauth_are_fetched_once_and_anew_when_refused_or_rotated() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().canonicalize().unwrap();
    let secret = root.join(PROJECT).join("client");
    std::fs::create_dir(root.join(PROJECT)).unwrap();
    std::fs::write(&secret, "first-client-secret").unwrap();
    let server = upstream().await;
    server.accept(&["nothing that was issued"]);
    server.issue_for("first-client-secret");
    let list = format!(
        "secrets = \"{}\"\nprivate_addresses = [\"{}\"]\n[projects.{PROJECT}]\n",
        root.display(),
        server.url("").trim_start_matches("http://")
    );
    let stage = Stage::start(&[("AWOOOP_LOG", "trace")], Some(&list)).await;
    let providers = [("oauth", server.spec(&["look"], &server.oauth("file://client")))];
    let client = client(&stage, &providers).await;
    let all = futures::future::join_all((0..20).map(|_| look(&client, "oauth"))).await;
    assert!(all.iter().all(|said| said == "looked"), "{all:?}");
    assert_eq!(server.issued(), 1, "one token for all");

    // the server forgets its tokens: one more is fetched, and each call is made once with a token that is accepted
    server.accept(&["nothing that was issued"]);
    let before = server.shown_with_calls().len();
    assert_eq!(look(&client, "oauth").await, "looked");
    assert_eq!(server.issued(), 2);
    let shown = server.shown_with_calls()[before..].to_vec();
    let good = shown.iter().filter(|shown| shown.starts_with("issued-1")).count();
    assert_eq!(good, 1, "{shown:?}");

    // a rotated client secret is another token's
    std::fs::write(&secret, "second-client-secret").unwrap();
    server.issue_for("second-client-secret");
    assert_eq!(look(&client, "oauth").await, "looked");
    assert_eq!(server.issued(), 3);

    // what the issuer says is told by its name alone
    std::fs::write(&secret, "wrong-client-secret").unwrap();
    let said = look(&client, "oauth").await;
    assert!(said.contains("E-MCP-GATE-009") && said.contains("HTTP 401 (invalid_client)"), "{said}");
    assert!(!said.contains("wrong-client-secret") && !said.contains("not grant_type"), "{said}");

    // tokens that hardly live are fetched for each use
    std::fs::write(&secret, "second-client-secret").unwrap();
    server.tokens_live(0.0);
    server.accept(&["nothing that was issued"]);
    let before = server.issued();
    assert_eq!(look(&client, "oauth").await, "looked");
    assert!(server.issued() > before);

    // an issuer elsewhere is judged as every address
    let mut spec = providers[0].1.clone();
    for (token_url, message) in
        [("http://169.254.169.254/token", "link-local"), ("http://127.0.0.1:1/token", "")]
    {
        spec["auth"]["oauth"]["token_url"] = json!(token_url);
        let refused = json!({"manifests": [manifest("provider", PROJECT, "outside", spec.clone())]});
        let answer = stage.api(PROJECT).post("/v1/platform/contracts", &refused).await.unwrap();
        assert_eq!(answer.status, 422, "{}", answer.text);
        assert!(
            answer.text.contains("/spec/auth/oauth/token_url") && answer.text.contains(message),
            "{}",
            answer.text
        );
    }
    for secret in
        ["first-client-secret", "second-client-secret", "wrong-client-secret", "issued-0-", "issued-2-"]
    {
        stage.assert_unseen(secret, std::slice::from_ref(&said)).await;
    }
}
