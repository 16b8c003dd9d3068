//! Credentials of others: what a contract may name as its own, and what it is refused, when it is published or when it
//! is used. The tool server behind each of them is never asked.

use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::stat::Mode;
use serde_json::{Value, json};

use super::{PROJECT, with_credential};
use crate::gates::agent_client;
use crate::scripted::{Scripted, Stage, agent, ask_mcp, manifest, mcp, result};

const SECRET: &str = "the-guests-own-secret-7";
const MINE: &str = "my-own-secret-7";

/// References that no contract of the project can be published with.
const UNPUBLISHED: &[&str] = &[
    "file://../guests/token",
    "file://..",
    "file://a/../../guests/token",
    "file://token/../../guests/token",
    "file:///etc/passwd",
    "file:///proc/self/environ",
    "file://%2e%2e/guests/token",
    "file://..%2fguests/token",
    "file://..\\guests\\token",
    "file://~/token",
    "file://$HOME/token",
    "file://to*en",
    "file://token\u{0}",
    "file://token\n",
    "file://tоken",
    "file://",
    "file:token",
    "File://token",
    "FILE://token",
    " file://token",
    "env://PATH",
    "env://HOME",
    "env://AWOOOP_DATABASE_URL",
    "env://AWOOOP_OWNER_DATABASE_URL",
    "env://AWOOOP_TEST_KEPT",
    "env://awooop_test_given",
    "env://AWOOOP_TEST_GIVEN ",
    "env://AWOOOP_TEST_GIVEN,PATH",
    "env://$PATH",
    "env://",
    "env:AWOOOP_TEST_GIVEN",
    "k8s://kube-system/token",
    "vault://secret/token",
    "https://127.0.0.1/token",
    "token",
    "",
];

/// Files that lie, or seem to lie, in the project's folder and hold no credential of it.
const UNUSED: &[&str] = &[
    "link",
    "linked/token",
    "loop",
    "absolute",
    "environ",
    "zero",
    "keyring",
    "Token",
    "guests/token",
    "folder",
    ".",
    "pipe",
    "big",
    "empty",
    "binary",
    "nothing",
    "token/",
    "token/.",
];

/// The operator's folder, with everything that a link can lead to.
fn secrets(root: &Path, data: &Path) {
    let (mine, guests) = (root.join(PROJECT), root.join("guests"));
    for folder in [&mine, &guests, &mine.join("folder")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::write(guests.join("token"), SECRET).unwrap();
    std::fs::write(mine.join("token"), MINE).unwrap();
    let links = [
        ("link", "../guests/token".into()),
        ("linked", "../guests".into()),
        ("loop", "loop".into()),
        ("absolute", guests.join("token")),
        ("environ", "/proc/self/environ".into()),
        ("zero", "/dev/zero".into()),
        ("keyring", data.join("keys/keyring.json")),
    ];
    for (name, target) in links {
        symlink(target, mine.join(name)).unwrap();
    }
    nix::unistd::mkfifo(&mine.join("pipe"), Mode::from_bits_truncate(0o600)).unwrap();
    std::fs::write(mine.join("big"), "x".repeat(64 * 1024 + 1)).unwrap();
    std::fs::write(mine.join("empty"), "\n").unwrap();
    std::fs::write(mine.join("binary"), b"\xff\xfe").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_contract_gets_no_credential_but_its_projects_own() {
    let secrets_in = tempfile::tempdir().unwrap();
    let root = secrets_in.path().canonicalize().unwrap();
    let list = format!(
        "secrets = \"{}\"\nprivate_addresses = [\"127.0.0.1\"]\n[projects.gated]\nenv = [\"AWOOOP_TEST_GIVEN\"]\n",
        root.display()
    );
    let more = [("AWOOOP_TEST_GIVEN", "given-value-7"), ("AWOOOP_TEST_KEPT", "kept-value-7")];
    let tools = json!([{"name": "look", "description": "Looks", "inputSchema": {"type": "object"}}]);
    let upstream = Scripted::start(move |message| {
        let done = json!({"content": [{"type": "text", "text": "done"}]});
        mcp(message, tools.clone(), |_, _| result(message, done))
    })
    .await;
    let stage = Stage::start(&more, Some(&list)).await;
    secrets(&root, &stage.home.data_dir());
    let spec = |credential: &str| with_credential(upstream.tool_spec(&[("look", "read_only")]), credential);

    let used = [&["token", "./token"], UNUSED].concat();
    let id = |n: usize| format!("p{n}");
    let mut manifests = vec![
        manifest("project", PROJECT, PROJECT, json!({"display_name": "Guests"})),
        manifest(
            "provider",
            PROJECT,
            "brain",
            json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner"}]}),
        ),
    ];
    for (n, file) in used.iter().enumerate() {
        manifests.push(manifest("provider", PROJECT, &id(n), spec(&format!("file://{file}"))));
    }
    let grants: Vec<String> = (0..used.len()).map(|n| format!("{}__look", id(n))).collect();
    let grants: Vec<&str> = grants.iter().map(String::as_str).collect();
    manifests.push(agent(PROJECT, "tester", "brain/planner", &grants, json!({})));
    let api = stage.apply(PROJECT, &manifests).await;
    let before = api.get("/v1/platform/contracts").await.unwrap().text;
    for reference in UNPUBLISHED {
        let body = json!({"manifests": [manifest("provider", PROJECT, "outside", spec(reference))]});
        let answer = api.post("/v1/platform/contracts", &body).await.unwrap();
        let told = (answer.status, answer.code());
        assert_eq!(told, (422, "E-CONTRACT-001".to_owned()), "{reference:?}: {}", answer.text);
        assert!(answer.text.contains("/manifests/0/spec"), "{reference:?}: {}", answer.text);
    }
    assert_eq!(api.get("/v1/platform/contracts").await.unwrap().text, before);

    let client = agent_client(&api, "tester").await;
    let call =
        async |n: usize| ask_mcp(&client, "tools/call", json!({"name": format!("{}__look", id(n))})).await;
    for (n, file) in used.iter().enumerate() {
        let (asked, said) = (upstream.asked().len(), call(n).await);
        if n < 2 {
            assert_eq!(said.json()["result"]["content"][0]["text"], "done", "{file}: {}", said.text);
            continue;
        }
        assert!(said.text.contains("E-MCP-GATE-009"), "{file}: {}", said.text);
        assert_eq!(upstream.asked().len(), asked, "{file}: nobody was asked");
        let path = root.display().to_string();
        assert!(!said.text.contains(SECRET) && !said.text.contains(&path), "{file}: {}", said.text);
    }
    let sent: Vec<Value> = upstream.asked().iter().map(|asked| json!(asked.authorization)).collect();
    assert!(sent.iter().all(|value| *value == json!(MINE)), "{sent:?}");
    stage.assert_unseen(SECRET, &[]).await;
}
