//! Every operation of the OpenAPI document, with no key, with another project's key, and with the
//! project's own. The operations come from the document, so one that is added later is tested without a
//! word here.

use awooop_journeys::client::Answer;
use awooop_journeys::fixture_mcp::FixtureMcp;
use serde_json::json;

use crate::operations::{Furnished, MINE, QUESTION, forged};
use crate::support::{kit, make_project, site};

const OTHER: &str = "tenant-other";

#[tokio::test(flavor = "multi_thread")]
async fn heavy_no_operation_crosses_projects() {
    let (site, fixture) = (site().await, FixtureMcp::start().await.unwrap());
    let furnished = Furnished::make(site.server.api(), &fixture).await;
    let mine = &furnished.mine;
    let other = make_project(site.server.api(), OTHER, &fixture, "fail").await;
    let run_id = furnished.id("run_id");
    let secrets = [run_id, furnished.id("key_id"), MINE, QUESTION];
    for operation in &furnished.operations() {
        let name = operation.name();
        if operation.is_open {
            assert_eq!(operation.ask(&mine.with_key(None)).await.status, 200, "{name}");
            continue;
        }
        for bad in [None, Some(""), Some("awp_nonsense"), Some(forged().as_str())] {
            let answer = operation.ask(&mine.with_key(bad)).await;
            assert_eq!(answer.status, 401, "{name} with {bad:?}: {}", answer.text);
            assert_silent(&name, &answer, &secrets);
        }

        let answer = operation.ask(&other).await;
        assert_silent(&name, &answer, &secrets);
        if operation.id == "save_draft" {
            // its body names the project
            assert_eq!((answer.status, answer.code().as_str()), (403, "E-AUTH-003"), "{}", answer.text);
        } else if operation.has_parts && !operation.is_mcp() {
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (404, "E-REQ-004"),
                "{name}: {}",
                answer.text
            );
        } else {
            assert!(answer.status < 500, "{name}: {}", answer.text);
        }
        let answer = operation.ask(&other.in_project(MINE)).await;
        let refusal = (answer.status, answer.code());
        // the MCP endpoint says it in its protocol's form
        if operation.is_mcp() {
            assert!(answer.status == 401 || answer.status == 403, "{name}: {}", answer.text);
        } else {
            assert_eq!(refusal, (403, "E-AUTH-003".to_owned()), "{name}: {}", answer.text);
        }
        let absent = operation.ask(&other.in_project("no-such-project")).await;
        assert_eq!(absent.status, answer.status, "{name}: it does not matter whether the project exists");

        let answer = operation.ask(mine).await;
        if operation.id == "delete_project" {
            // the operators' alone
            assert_eq!((answer.status, answer.code().as_str()), (403, "E-AUTH-002"), "{}", answer.text);
            continue;
        }
        assert!(answer.status < 500 && ![401, 403, 404].contains(&answer.status), "{name}: {}", answer.text);
    }
    let after = mine.get_run(run_id).await;
    assert!(after.is_err() || after.is_ok_and(|run| run["run"]["project_id"] == MINE));
    let listed = other.get("/v1/platform/runs").await.unwrap().expect(200).unwrap();
    for run in listed["items"].as_array().unwrap() {
        assert_eq!(run["run"]["project_id"], OTHER);
    }
}

fn assert_silent(name: &str, answer: &Answer, secrets: &[&str]) {
    // the address it was asked under may be repeated; nothing else of the project
    let mut document = answer.json();
    if let Some(document) = document.as_object_mut() {
        document.remove("instance");
        document.remove("detail");
    }
    let shown = if document.is_null() { answer.text.clone() } else { document.to_string() };
    for secret in secrets {
        assert!(!shown.contains(secret), "{name} says {secret}: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_project_s_manifests_cannot_name_another_project() {
    let (site, fixture) = (site().await, FixtureMcp::start().await.unwrap());
    make_project(site.server.api(), MINE, &fixture, "fail").await;
    let other = make_project(site.server.api(), OTHER, &fixture, "fail").await;
    let offline = json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner"}]});
    let manifests = kit(MINE, fixture.provider_spec(), offline, "planner", &["echo"]);
    let answer = other.post("/v1/platform/contracts", &json!({"manifests": manifests})).await.unwrap();
    assert!([403, 422].contains(&answer.status), "{}: {}", answer.status, answer.text);
    let contracts = site.server.api().in_project(MINE).get("/v1/platform/contracts").await.unwrap();
    let contracts = contracts.expect(200).unwrap();
    assert!(contracts["items"].as_array().unwrap().iter().all(|item| item["version"] == 1), "{contracts}");
}
