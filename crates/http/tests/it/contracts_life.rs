//! The life of a version over HTTP: drafted, published, signed, activated, gone back from, retired; and what
//! each step says when it is refused.

use awooop_journeys::db::{AGENT, TestProject};
use http::StatusCode;
use serde_json::{Value, json};

use crate::api::{Answer, Api, admin, request};

pub(crate) const CONTRACTS: &str = "/v1/platform/contracts";

/// The path of the agent every test project has.
pub(crate) fn clerk(rest: &str) -> String {
    format!("{CONTRACTS}/agent/{AGENT}{rest}")
}

/// A manifest of the agent that differs by its instructions.
pub(crate) fn agent(project: &TestProject, instructions: &str) -> Value {
    let spec = json!({"instructions": instructions, "model": "offline/planner", "output_schema": {}});
    json!({"kind": "agent", "project": project.id, "id": AGENT, "spec": spec})
}

impl Api {
    /// A request under `If-Match`, or without when it is empty.
    pub(crate) async fn ask(
        &self,
        key: &str,
        method: &str,
        path: &str,
        tag: &str,
        body: Option<&Value>,
    ) -> Answer {
        let headers = [("if-match", tag)];
        let headers = if tag.is_empty() { &[][..] } else { &headers[..] };
        self.send(request(method, path, key, headers, body)).await
    }

    pub(crate) async fn draft(&self, key: &str, tag: &str, manifest: &Value) -> Answer {
        self.ask(key, "PUT", &clerk("/draft"), tag, Some(manifest)).await
    }

    /// A step on a version of the agent: `publish`, `activate`.
    pub(crate) async fn take(&self, key: &str, version: i64, step: &str) -> Answer {
        self.ask(key, "POST", &clerk(&format!("/versions/{version}/{step}")), "", None).await
    }

    pub(crate) async fn sign(&self, key: &str, version: i64, act: &str) -> Answer {
        let body = json!({ "act": act });
        self.ask(key, "POST", &clerk(&format!("/versions/{version}/sign")), "", Some(&body)).await
    }

    /// Drafts and publishes the agent; returns its version.
    pub(crate) async fn publish(&self, key: &str, manifest: &Value) -> i64 {
        let drafted = self.draft(key, "", manifest).await;
        assert_eq!(drafted.status, 201, "{drafted:?}");
        let version = drafted.json()["version"].as_i64().unwrap();
        let published = self.take(key, version, "publish").await;
        assert_eq!((published.status.as_u16(), &published.json()["state"]), (200, &json!("published")));
        version
    }

    /// The number of the agent's active version; null for none.
    pub(crate) async fn active(&self, key: &str) -> Value {
        self.get(key, &clerk("")).await.json()["active"]["version"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_new_the_same_or_replaced_under_its_entity_tag() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let key = admin(&project);
    let first = api.draft(&key, "", &agent(&project, "one")).await;
    assert_eq!(first.status, StatusCode::CREATED);
    let tag = first.header("etag").to_owned();
    assert_eq!(tag, format!("\"{}\"", first.json()["sha256"].as_str().unwrap()));
    let same = api.draft(&key, "", &agent(&project, "one")).await;
    assert_eq!((same.status.as_u16(), same.header("etag")), (200, tag.as_str()));
    let other = agent(&project, "two");
    for wrong in ["", "\"0000\"", "\"v1\""] {
        let refused = api.draft(&key, wrong, &other).await;
        assert_eq!(refused.problem(), (412, "E-REQ-005".into()), "{wrong}");
    }
    for malformed in ["x", "W/\"x\"", "\"a\", \"b\"", "*"] {
        assert_eq!(
            api.draft(&key, malformed, &other).await.problem(),
            (400, "E-REQ-001".into()),
            "{malformed}"
        );
    }
    let replaced = api.draft(&key, &tag, &other).await;
    assert_eq!((replaced.status.as_u16(), &replaced.json()["version"]), (200, &json!(2)));
    assert_ne!(replaced.header("etag"), tag);
    let again = api.ask(&key, "POST", &clerk("/versions/2/publish"), &tag, None).await;
    assert_eq!(again.problem(), (412, "E-REQ-005".into()), "what was read is not what would be published");
    let elsewhere = api.ask(&key, "PUT", &format!("{CONTRACTS}/agent/other/draft"), "", Some(&other)).await;
    assert_eq!(elsewhere.problem(), (422, "E-REQ-003".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_goes_from_draft_to_active_and_back_and_each_step_twice_is_once() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let key = admin(&project);
    let version = api.publish(&key, &agent(&project, "two")).await;
    assert_eq!((version, api.take(&key, 2, "publish").await.status.as_u16()), (2, 200));
    let early = api.take(&key, 2, "activate").await;
    assert_eq!(early.problem(), (409, "E-CONTRACT-003".into()));
    assert_eq!(early.json()["detail"], "agent/clerk@2 has 0 of 1 signatures");
    let signed = api.sign(&key, 2, "activate").await.json();
    assert_eq!((&signed["is_changed"], &signed["is_ready"]), (&json!(true), &json!(true)), "{signed}");
    assert_eq!(api.sign(&key, 2, "activate").await.json()["is_changed"], false);
    let done = api.take(&key, 2, "activate").await.json();
    assert_eq!((&done["change"], &done["is_waiting"]), (&json!("updated"), &json!(false)), "{done}");
    assert_eq!(api.take(&key, 2, "activate").await.json()["change"], "unchanged");
    assert_eq!(api.active(&key).await, 2);

    let signed_already = api.sign(&key, 2, "activate").await;
    assert_eq!(signed_already.problem(), (409, "E-CONTRACT-007".into()), "it is active");
    // back: the signature that once activated version 1 is spent
    assert_eq!(api.take(&key, 1, "activate").await.problem(), (409, "E-CONTRACT-003".into()));
    assert_eq!(api.sign(&key, 1, "activate").await.status, 200);
    assert_eq!(api.take(&key, 1, "activate").await.json()["change"], "updated");
    // and forth: the first signature for version 2 was good for one act
    assert_eq!(api.take(&key, 2, "activate").await.problem(), (409, "E-CONTRACT-003".into()));
    assert_eq!(api.active(&key).await, 1);
    assert_eq!(api.test.store.examine_one(&project).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_signed_versions_the_slower_lost_the_race_and_if_match_tells_before() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let key = admin(&project);
    for text in ["two", "three"] {
        let version = api.publish(&key, &agent(&project, text)).await;
        assert_eq!(api.sign(&key, version, "activate").await.status, 200);
    }
    let tag = api.get(&key, &clerk("")).await.header("etag").to_owned();
    assert_eq!(tag, "\"v1\"");
    assert_eq!(api.take(&key, 2, "activate").await.status, 200);
    let late = api.ask(&key, "POST", &clerk("/versions/3/activate"), &tag, None).await;
    assert_eq!(late.problem(), (412, "E-REQ-005".into()));
    assert_eq!(api.take(&key, 3, "activate").await.problem(), (409, "E-CONTRACT-006".into()));
    let signatures = api.get(&key, &clerk("")).await.json()["pending"][0]["signatures"].clone();
    let me = format!("{}/admin", project.id);
    assert_eq!((&signatures["overtaken"], &signatures["signed"]), (&json!([me]), &json!([])), "{signatures}");
    let sign = json!({"act": "activate"});
    let late = api.ask(&key, "POST", &clerk("/versions/3/sign"), &tag, Some(&sign)).await;
    assert_eq!(late.problem(), (412, "E-REQ-005".into()));
    assert_eq!(api.sign(&key, 3, "activate").await.json()["is_changed"], true);
    let done = api.ask(&key, "POST", &clerk("/versions/3/activate"), "\"v2\"", None).await;
    assert_eq!(done.status, 200, "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_absent_is_absent_and_a_draft_is_no_published_version() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let key = admin(&project);
    let sign = json!({"act": "activate"});
    for path in [
        "agent/clerk/versions/9",
        "agent/nobody/versions/1",
        "quota/clerk/versions/1",
        "agent/clerk/versions/x",
        "agent/clerk/versions/+1",
        "agent/clerk/versions/99999999999",
        "agent/cl%00rk/versions/1",
    ] {
        for (step, body) in [("publish", None), ("sign", Some(&sign)), ("activate", None)] {
            let answer = api.ask(&key, "POST", &format!("{CONTRACTS}/{path}/{step}"), "", body).await;
            assert_eq!(answer.problem(), (404, "E-REQ-004".into()), "{path}/{step}");
        }
    }
    let retire = api.ask(&key, "POST", &format!("{CONTRACTS}/agent/nobody/retire"), "", None).await;
    assert_eq!(retire.problem(), (404, "E-REQ-004".into()));
    assert_eq!(api.draft(&key, "", &agent(&project, "two")).await.status, 201);
    for answer in [
        api.sign(&key, 2, "activate").await,
        api.sign(&key, 2, "retire").await,
        api.sign(&key, 1, "activate").await,
    ] {
        assert_eq!(answer.problem(), (409, "E-CONTRACT-007".into()));
    }
    assert_eq!(api.sign(&key, 1, "dance").await.problem(), (422, "E-REQ-003".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_need_does_not_end_and_the_project_s_own_contract_never_does() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let key = admin(&project);
    let retire = async |kind: &str, id: &str| {
        api.ask(&key, "POST", &format!("{CONTRACTS}/{kind}/{id}/retire"), "", None).await
    };
    let needed = retire("provider", "offline").await;
    assert_eq!(needed.problem(), (422, "E-CONTRACT-001".into()));
    assert!(needed.text.contains("clerk"), "{needed:?}");
    assert_eq!(retire("project", project.id.as_str()).await.problem(), (409, "E-CONTRACT-007".into()));
    let ended = retire("agent", AGENT).await;
    assert_eq!((ended.status.as_u16(), &ended.json()["change"]), (200, &json!("retired")));
    let again = retire("agent", AGENT).await;
    assert_eq!((again.status.as_u16(), &again.json()["change"]), (200, &json!("unchanged")), "twice is once");
    assert_eq!(retire("agent", "nobody").await.problem(), (404, "E-REQ-004".into()));
    assert_eq!(retire("provider", "offline").await.status, 200);
    assert_eq!(api.test.store.examine_one(&project).await, Vec::<String>::new());
    // an ended contract comes back with fresh signatures, once what it needs is there
    let key_of = &key;
    assert_eq!(api.sign(key_of, 1, "activate").await.status, 200);
    assert_eq!(api.take(key_of, 1, "activate").await.problem(), (422, "E-CONTRACT-001".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_names_its_changes_and_its_patch_makes_one_of_the_other() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let key = admin(&project);
    let mut second = agent(&project, "two");
    second["spec"]["max_steps"] = json!(5);
    api.publish(&key, &second).await;
    let found = api.get(&key, &clerk("/diff?from=1&to=2")).await.json();
    let document =
        async |n: i64| api.get(&key, &clerk(&format!("/versions/{n}"))).await.json()["document"].clone();
    let (mut from, to) = (document(1).await, document(2).await);
    let patch: json_patch::Patch = serde_json::from_value(found["patch"].clone()).unwrap();
    json_patch::patch(&mut from, &patch).unwrap();
    assert_eq!(from, to);
    let paths: Vec<&str> =
        found["changes"].as_array().unwrap().iter().map(|c| c["path"].as_str().unwrap()).collect();
    assert!(paths.contains(&"/spec/instructions") && paths.contains(&"/spec/max_steps"), "{found}");
    let plain = api.get(&key, &clerk("/diff")).await.json();
    assert_eq!((&plain["from"], &plain["to"]), (&json!(1), &json!(2)), "what is active, and what is newest");
    for wrong in ["from=0", "to=x", "from=-1", "unknown=1"] {
        let answer = api.get(&key, &clerk(&format!("/diff?{wrong}"))).await;
        assert_eq!(answer.problem(), (422, "E-REQ-003".into()), "{wrong}");
    }
    assert_eq!(api.get(&key, &clerk("/diff?to=7")).await.problem(), (404, "E-REQ-004".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_all_and_changes_nothing_and_pruning_ends_what_is_not_named() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let key = admin(&project);
    let offline = json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner"}]});
    let provider = json!({"kind": "provider", "project": project.id, "id": "offline", "spec": offline});
    let mut helper = agent(&project, "help");
    helper["id"] = json!("helper");
    let body = |dry_run: bool| json!({"manifests": [provider, helper], "dry_run": dry_run, "prune": true});
    let told = api.post(&key, CONTRACTS, &body(true)).await;
    assert_eq!(told.status, 200);
    let (told, now) = (told.json(), api.active(&key).await);
    assert_eq!((&told["is_dry_run"], &told["is_changed"], now), (&json!(true), &json!(false), json!(1)));
    let shape = |answer: &Value| -> Vec<String> {
        let items = answer["items"].as_array().unwrap().iter();
        items.map(|i| format!("{} {}", i["id"].as_str().unwrap(), i["change"].as_str().unwrap())).collect()
    };
    assert_eq!(shape(&told), ["offline unchanged", "helper created", "clerk retired"]);
    assert!(told["items"][1]["patch"].is_array() && told["items"][1]["changes"].is_array(), "{told}");
    let done = api.post(&key, CONTRACTS, &body(false)).await.json();
    assert_eq!((shape(&done), &done["is_changed"]), (shape(&told), &json!(true)));
    assert!(done["items"][1]["patch"].is_null());
    assert_eq!(api.active(&key).await, Value::Null);
    assert_eq!(api.post(&key, CONTRACTS, &body(false)).await.json()["is_changed"], false);
    let listed = api.get(&key, CONTRACTS).await.json();
    let kinds: Vec<&str> =
        listed["items"].as_array().unwrap().iter().map(|i| i["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["agent", "project", "provider"], "the project's own contract stays");
}

/// The doctor's view of one project of the shared database.
pub(crate) trait ExamineOne {
    /// What it finds.
    async fn examine_one(&self, project: &TestProject) -> Vec<String>;
}

impl ExamineOne for awooop_store::Store {
    async fn examine_one(&self, project: &TestProject) -> Vec<String> {
        let found = self.examine().await.unwrap().into_iter();
        found.filter(|f| f.project.as_deref() == Some(project.id.as_str())).map(|f| f.message).collect()
    }
}
