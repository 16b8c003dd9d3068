//! Two projects with servers of the same id, the same address, the same command and the same issuer: neither is shown,
//! served with, told of or disturbed by the other's credentials.

use std::path::PathBuf;

use awooop_journeys::client::Api;
use awooop_journeys::fixture_kube::FixtureKube;
use serde_json::{Value, json};

use super::{assert_nowhere, base, program};
use crate::gates::agent_client;
use crate::guarded::{Guarded, bearer, said, serve};
use crate::scripted::{Stage, agent, ask_mcp, manifest, until};

const PROJECTS: [&str; 2] = ["alpha", "beta"];
const CLIENT_SECRET: &str = "one-client-secret-for-both";

fn file_token(project: &str) -> String {
    format!("file-token-of-{project}-1")
}

/// A tool server in shell that tells a number made of its environment and never the value itself.
const CHILD: &str = r#"#!/bin/sh
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9][0-9]*\).*/\1/p')
  case "$line" in
    *'"initialize"'*) result='{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"t","version":"1"}}' ;;
    *'"tools/list"'*) result='{"tools":[{"name":"sum","description":"Sums","inputSchema":{"type":"object"}}]}' ;;
    *'"tools/call"'*) result='{"content":[{"type":"text","text":"sum '"$(printf '%s' "$KEY" | cksum | cut -d" " -f1)"'"}]}' ;;
    *) result='{}' ;;
  esac
  [ -n "$id" ] && printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
"#;

struct Street {
    stage: Stage,
    server: Guarded,
    root: PathBuf,
    apis: [Api; 2],
    clients: [Api; 2],
    _cluster: FixtureKube,
    _place: tempfile::TempDir,
}

async fn street() -> Street {
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let place = tempfile::Builder::new().prefix("awooop-street-").permissions(open).tempdir().unwrap();
    let root = place.path().canonicalize().unwrap();
    let child = program(&root, "child.sh", CHILD);
    let cluster = FixtureKube::start().await.unwrap();
    for project in PROJECTS {
        let folder = root.join("secrets").join(project);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("token"), file_token(project)).unwrap();
        std::fs::write(folder.join("client"), CLIENT_SECRET).unwrap();
        cluster.put("shop", project, "token", &format!("kube-token-of-{project}-1"));
    }
    std::os::unix::fs::symlink(root.join("secrets/alpha/token"), root.join("secrets/beta/neighbour"))
        .unwrap();
    cluster.allow("awooop", "shop", &["get"]);
    let kubeconfig = cluster.kubeconfig("awooop").unwrap();
    let tools: Vec<Value> = ["look", "slow", "recall"]
        .map(|name| json!({"name": name, "description": "Looks", "inputSchema": {"type": "object"}}))
        .into();
    let server = Guarded::start(move |message, token| {
        serve(message, &Value::Array(tools.clone()), |name| {
            let text = match name {
                "recall" => "file-token-of-alpha-1 file-token-of-beta-1".to_owned(),
                _ => format!("shown {token}"),
            };
            said(message, json!({"content": [{"type": "text", "text": text}]}))
        })
    })
    .await;
    server.issue_for(CLIENT_SECRET);
    let mut list = format!(
        "secrets = \"{}/secrets\"\nkubeconfig = \"{}\"\nallow_same_uid_children = true\nprivate_addresses = [\"127.0.0.1\"]\n",
        root.display(),
        kubeconfig.display()
    );
    for (n, project) in PROJECTS.into_iter().enumerate() {
        list.push_str(&format!(
            "[projects.{project}]\nuid = {}\nenv = [\"TOKEN_OF_{}\"]\nk8s = [\"shop/{project}\"]\ncommands = {{ sums = \"{child}\" }}\n",
            200_041 + n,
            project.to_uppercase()
        ));
    }
    let more = [
        ("TOKEN_OF_ALPHA", "variable-token-of-alpha-1"),
        ("TOKEN_OF_BETA", "variable-token-of-beta-1"),
        ("AWOOOP_LOG", "trace"),
    ];
    let stage = Stage::start(&more, Some(&list)).await;
    let mut made = Vec::new();
    for project in PROJECTS {
        let variable = format!("env://TOKEN_OF_{}", project.to_uppercase());
        let spec = |reference: &str| server.spec(&["look", "slow", "recall"], &bearer(reference));
        let child = json!({"type": "mcp", "transport": "stdio", "command": "sums",
            "env": {"KEY": "file://token"}, "tools": [{"name": "sum", "risk": "read_only"}]});
        let providers = [
            ("file", spec("file://token")),
            ("env", spec(&variable)),
            ("kube", spec(&format!("k8s://shop/{project}/token"))),
            ("oauth", server.spec(&["look"], &server.oauth("file://client"))),
            ("child", child),
            ("linked", spec("file://neighbour")),
        ];
        let mut manifests = base(project);
        manifests.extend(providers.iter().map(|(id, spec)| manifest("provider", project, id, spec.clone())));
        let granted = [
            "file__look",
            "file__slow",
            "file__recall",
            "env__look",
            "kube__look",
            "oauth__look",
            "child__sum",
            "linked__look",
        ];
        manifests.push(agent(project, "tester", "planner/planner", &granted, json!({})));
        let api = stage.apply(project, &manifests).await;
        let client = agent_client(&api, "tester").await;
        made.push((api, client));
    }
    let [(alpha, alphas), (beta, betas)] = <[(Api, Api); 2]>::try_from(made).ok().unwrap();
    let (apis, clients) = ([alpha, beta], [alphas, betas]);
    Street { stage, server, root, apis, clients, _cluster: cluster, _place: place }
}

impl Street {
    async fn call(&self, project: usize, tool: &str) -> String {
        ask_mcp(&self.clients[project], "tools/call", json!({ "name": tool })).await.text
    }

    /// The credentials that came with the calls which this one made.
    async fn shown_by(&self, project: usize, tool: &str) -> Vec<String> {
        let before = self.server.shown_with_calls().len();
        self.call(project, tool).await;
        self.server.shown_with_calls()[before..].to_vec()
    }

    /// How a provider with this credential is refused in a project, without the credential's own name.
    async fn refusal(&self, project: usize, reference: &str) -> String {
        let spec = self.server.spec(&["look"], &bearer(reference));
        let body = json!({"manifests": [manifest("provider", PROJECTS[project], "outside", spec)]});
        let answer = self.apis[project].post("/v1/platform/contracts", &body).await.unwrap();
        assert_eq!(answer.status, 422, "{reference}: {}", answer.text);
        let said = answer.json()["errors"][0]["message"].as_str().unwrap().to_owned();
        let name = reference.split("//").nth(1).unwrap().rsplit_once('/').map_or_else(
            || reference.split("//").nth(1).unwrap().to_owned(),
            |(secret, _)| secret.to_owned(),
        );
        said.replace(&name, "…")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_projects_with_the_same_servers_never_meet_in_a_credential() {
    let street = street().await;
    let mut wrong: Vec<String> = Vec::new();
    let mut check = |case: &str, holds: bool, seen: &str| {
        if !holds {
            wrong.push(format!("{case}: {seen}"));
        }
    };

    for (n, project) in PROJECTS.into_iter().enumerate() {
        for (case, tool, token) in [
            ("same_provider_id_and_address_by_file", "file__look", file_token(project)),
            (
                "same_provider_id_and_address_by_variable",
                "env__look",
                format!("variable-token-of-{project}-1"),
            ),
            (
                "same_provider_id_and_address_by_kubernetes",
                "kube__look",
                format!("kube-token-of-{project}-1"),
            ),
        ] {
            let shown = street.shown_by(n, tool).await;
            check(case, shown == [token], &format!("{project}: {shown:?}"));
        }
    }
    let (alphas, betas) = (street.shown_by(0, "oauth__look").await, street.shown_by(1, "oauth__look").await);
    check(
        "same_issuer_and_client_secret",
        alphas.len() == 1 && alphas != betas,
        &format!("{alphas:?} {betas:?}"),
    );
    check("one_token_a_project", street.server.issued() == 2, &street.server.issued().to_string());
    let (alpha, beta) = (street.call(0, "child__sum").await, street.call(1, "child__sum").await);
    check("same_command", alpha.contains("sum ") && alpha != beta, &format!("{alpha} {beta}"));
    let before = street.server.shown_with_calls().len();
    let all = futures::future::join_all((0..40).map(|n| street.call(n % 2, "file__look"))).await;
    check("a_shared_pool", all.iter().all(|said| said.contains("shown [SECRET]")), &format!("{all:?}"));
    let shown = street.server.shown_with_calls()[before..].to_vec();
    let alphas = shown.iter().filter(|shown| **shown == file_token("alpha")).count();
    check("calls_at_once", (alphas, shown.len()) == (20, 40), &format!("{shown:?}"));

    // what a server says of both is masked for whom it belongs to, so that no project can try guesses on another's
    let recalled = street.call(1, "file__recall").await;
    check("no_oracle", recalled.contains("file-token-of-alpha-1 [SECRET]"), &recalled);

    // names of the other, of the operator, and of nothing: one answer
    for (case, reference, absent) in [
        ("variable_of_the_other", "env://TOKEN_OF_ALPHA", "env://TOKEN_OF_NOBODY"),
        ("variable_of_the_operator", "env://AWOOOP_DATABASE_URL", "env://TOKEN_OF_NOBODY"),
        ("file_of_a_variable", "env://TOKEN_OF_BETA_FILE", "env://TOKEN_OF_NOBODY"),
        ("secret_of_the_other", "k8s://shop/alpha/token", "k8s://shop/nobody/token"),
        ("secret_in_another_namespace", "k8s://kube-system/alpha/token", "k8s://shop/nobody/token"),
        ("file_of_the_other", "file://../alpha/token", "file://../nobody/token"),
    ] {
        let (told, of_absent) = (street.refusal(1, reference).await, street.refusal(1, absent).await);
        check(case, told == of_absent, &format!("{told} / {of_absent}"));
    }
    let before = street.server.shown_with_calls().len();
    let linked = street.call(1, "linked__look").await;
    check("link_into_the_others_folder", linked.contains("E-MCP-GATE-009"), &linked);
    check("nobody_is_asked", street.server.shown_with_calls().len() == before, "a call went out");

    // a call of one is under way while its token, and then the other's, is rotated
    let slow = async {
        let waits = async || street.server.is_waiting();
        let rotate = async {
            until("the call is under way", waits).await;
            std::fs::write(street.root.join("secrets/alpha/token"), "file-token-of-alpha-2").unwrap();
            let alphas = street.shown_by(0, "file__look").await;
            let betas = street.shown_by(1, "file__look").await;
            street.server.let_go();
            (alphas, betas)
        };
        tokio::join!(street.call(0, "file__slow"), rotate)
    };
    let (answer, (alphas, betas)) = slow.await;
    check("rotated_while_under_way", answer.contains("shown [SECRET]"), &answer);
    check("rotated_for_the_next_call", alphas == ["file-token-of-alpha-2"], &format!("{alphas:?}"));
    check("rotated_in_one_only", betas == [file_token("beta")], &format!("{betas:?}"));

    // nothing of one is named to the other
    let mut answers = Vec::new();
    for path in ["/v1/platform/tools", "/v1/platform/contracts", "/v1/platform/audit?limit=200"] {
        let said = street.apis[1].get(path).await.unwrap().text;
        check("names_of_the_other", !said.contains("TOKEN_OF_ALPHA") && !said.contains("shop/alpha"), &said);
        answers.push((path.to_owned(), said));
    }
    assert_eq!(wrong, Vec::<String>::new());
    let secrets = [
        "file-token-of-alpha-2",
        "file-token-of-beta-1",
        "variable-token-of-",
        "kube-token-of-",
        CLIENT_SECRET,
    ];
    assert_nowhere(&street.stage, &secrets, &answers).await;
}
