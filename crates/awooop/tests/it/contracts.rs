//! The life of contracts from the command line, with a real server: several people, going back, drafts,
//! pruning, and the keys that sign. Which version is in force is seen by what an agent answers: the name of
//! the model that the version names.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use awooop_journeys::fixture_mcp::FixtureMcp;
use awooop_journeys::server::Home;
use serde_json::{Value, json};

use crate::scripted::{Say, Scripted, agent, manifest, says, until};
use crate::support::{Site, site};

const SHOP: &str = "shop";

/// What a command came to.
#[derive(Debug)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// Ended with this code, and all of these texts are in what it printed.
    #[track_caller]
    fn is(&self, code: i32, texts: &[&str]) -> &Self {
        assert_eq!(self.code, code, "{self:#?}");
        for text in texts {
            assert!(self.stdout.contains(text) || self.stderr.contains(text), "`{text}` is not in {self:#?}");
        }
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
}

/// A server, a model that answers its own name, and a directory of manifests.
struct Shop {
    site: Site,
    model: Scripted,
    manifests: PathBuf,
}

impl Shop {
    async fn open() -> Shop {
        let name = |request: &Value| {
            let answer = json!({"answer": request["model"]}).to_string();
            Say::Json(says(&answer))
        };
        let model = Scripted::start(name).await;
        let site = site().await;
        let manifests = site.home.path().join("manifests");
        std::fs::create_dir(&manifests).unwrap();
        let shop = Shop { site, model, manifests };
        shop.write("project", &manifest("project", SHOP, SHOP, json!({"display_name": "Shop"})));
        shop.write_models(&["one", "two", "spare"]);
        shop.write_agent("clerk", "one");
        shop
    }

    fn home(&self) -> &Home {
        &self.site.home
    }

    fn write(&self, name: &str, manifest: &Value) {
        std::fs::write(self.manifests.join(format!("{name}.json")), manifest.to_string()).unwrap();
    }

    fn write_rule(&self, rule: Value) {
        let spec = json!({"display_name": "Shop", "activation": rule});
        self.write("project", &manifest("project", SHOP, SHOP, spec));
    }

    fn write_models(&self, names: &[&str]) {
        self.write("brain", &manifest("provider", SHOP, "brain", self.model.model_spec(names)));
    }

    fn write_agent(&self, id: &str, model: &str) {
        self.write(id, &agent(SHOP, id, &format!("brain/{model}"), &[], json!({})));
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.manifests.join(format!("{name}.json"))).unwrap();
    }

    /// Runs the command line with somebody's key; the platform admin's where it is empty. `-f DIR` and
    /// `-f DIR/…` mean the manifests.
    fn awooop(&self, key: &str, words: &str) -> Ended {
        self.awooop_reading(key, words, "")
    }

    fn awooop_reading(&self, key: &str, words: &str, stdin: &str) -> Ended {
        let directory = self.manifests.to_str().unwrap();
        let words: Vec<String> = words.split(' ').map(|word| word.replacen("DIR", directory, 1)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = self.home().command(&words);
        command.arg("--data-dir").arg(self.home().data_dir()).env("AWOOOP_KEY", key);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = tokio::task::block_in_place(|| {
            let mut child = command.spawn().unwrap();
            // a command that reads nothing may have ended before
            let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
            child.wait_with_output().unwrap()
        });
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let code = output.status.code().expect("no signal ended it");
        Ended { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Makes a key of the project as the platform's admin.
    fn key(&self, words: &str) -> String {
        let made = self.awooop("", &format!("key create {words} --project {SHOP}"));
        made.is(0, &["shown this once"]);
        made.stdout.trim().to_owned()
    }

    /// What an agent answers.
    #[track_caller]
    fn answer(&self, agent: &str) -> String {
        let ran = self.awooop("", &format!("run {agent} hello --project {SHOP} --json"));
        ran.is(0, &[]);
        ran.json()["output"]["answer"].as_str().unwrap().to_owned()
    }

    /// The numbers of a contract's versions, newest first.
    #[track_caller]
    fn versions(&self, name: &str) -> Vec<i64> {
        let listed = self.awooop("", &format!("contract versions {name} --project {SHOP} --json"));
        listed.is(0, &[]);
        let listed = listed.json();
        listed["items"].as_array().unwrap().iter().map(|v| v["version"].as_i64().unwrap()).collect()
    }

    /// Names of the active contracts.
    fn active(&self) -> Vec<String> {
        let listed = self.awooop("", &format!("get --project {SHOP} --json")).json();
        let items = listed["items"].as_array().unwrap().iter();
        items.map(|i| format!("{}/{}", i["kind"].as_str().unwrap(), i["id"].as_str().unwrap())).collect()
    }
}

/// Ana and Carl are admins, Bob approves, and `ci` is a service account with an admin's key.
struct People {
    ana: String,
    bob: String,
    carl: String,
    ci: String,
}

impl People {
    fn of(shop: &Shop) -> People {
        let people = People {
            ana: shop.key("ana --role admin --person ana"),
            bob: shop.key("bob --role approver --person bob"),
            carl: shop.key("carl --role admin --person carl"),
            ci: shop.key("ci --role admin"),
        };
        let listed = shop.awooop(&people.ana, "key list");
        listed.is(0, &["PERSON", "approver  bob", "admin     -"]);
        let feigned = shop.awooop(&people.ana, "key create bob2 --role approver --person bob");
        feigned.is(3, &["only a platform admin makes a key in a person's name"]);
        people
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_two_people_put_contracts_into_force_from_the_command_line() {
    let shop = Shop::open().await;
    shop.awooop("", "apply -f DIR").is(0, &["created  active"]);
    let people = People::of(&shop);
    // the rule that is in force before decides about the new one
    shop.write_rule(json!({"signatures": 2}));
    shop.awooop(&people.ana, "apply -f DIR").is(0, &["updated    active"]);

    a_dry_run_shows_and_changes_nothing(&shop, &people);
    one_person_publishes_and_another_puts_into_force(&shop, &people);
    going_back_is_activating_an_older_version(&shop, &people);
    what_is_printed_is_applied_again_without_a_change(&shop, &people);
    what_no_manifest_names_is_pruned_by_two(&shop, &people);
    a_contract_is_retired_by_two(&shop, &people);
    a_draft_is_replaced_only_on_purpose(&shop, &people);
    whoever_published_does_not_sign_where_the_rule_says_so(&shop, &people);
    too_many_manifests_are_not_sent(&shop, &people);
}

fn a_dry_run_shows_and_changes_nothing(shop: &Shop, people: &People) {
    shop.awooop(&people.ana, "diff -f DIR").is(0, &["nothing differs"]);
    shop.write_agent("clerk", "two");
    shop.write_models(&["one", "two"]);
    let differences = [
        "agent/clerk@2 changes in project shop",
        "  ~ /spec/model \"brain/one\" -> \"brain/two\"",
        "  - /spec/models/2 {\"name\":\"spare\"}",
        "  ! /spec/models/2: the model `spare` is gone (model_removed)",
    ];
    shop.awooop(&people.ana, "diff -f DIR").is(1, &differences);
    let document = shop.awooop(&people.ana, "diff -f DIR --json");
    let document = document.is(1, &[]).json();
    let clerk = document["items"].as_array().unwrap().iter().find(|item| item["id"] == "clerk").unwrap();
    assert_eq!(clerk["patch"], json!([{"op": "replace", "path": "/spec/model", "value": "brain/two"}]));
    assert_eq!((&document["differs"], &clerk["changes"][0]["op"]), (&json!(true), &json!("changed")));
    let dry = shop.awooop(&people.ana, "apply -f DIR --dry-run");
    dry.is(0, &differences).is(0, &["would wait 1 of 2 (ana)", "nothing was changed: this was a dry run"]);
    assert_eq!(shop.versions("agent/clerk"), [1]);
}

fn one_person_publishes_and_another_puts_into_force(shop: &Shop, people: &People) {
    let by_service = shop.awooop(&people.ci, "apply -f DIR");
    by_service
        .is(5, &["waiting 0 of 2", "this key's signature does not count", "asks for people's signatures"]);
    let by_ana = shop.awooop(&people.ana, "apply -f DIR");
    by_ana.is(
        5,
        &[
            "waiting 1 of 2 (ana)",
            "provider/brain@2 ! /spec/models/2: the model `spare` is gone (model_removed)",
            "awooop apply -f /",
            "awooop contract sign agent/clerk@2 --project shop",
            "awooop contract activate agent/clerk@2 --project shop",
        ],
    );
    let again = shop.awooop(&people.ana, "apply -f DIR --json");
    let document = again.is(5, &[]).json();
    assert_eq!(
        (&document["is_waiting"], &document["items"][0]["change"]),
        (&json!(true), &json!("unchanged"))
    );
    assert_eq!(shop.versions("agent/clerk"), [2, 1]);
    assert_eq!(shop.answer("clerk"), "one", "the version before stays in force");

    shop.awooop(&people.bob, "apply -f DIR").is(3, &["a key with the role approver may not do this"]);
    let described = shop.awooop(&people.bob, "describe agent/clerk");
    described.is(
        0,
        &[
            "agent/clerk in project shop",
            "active   version 1",
            "waiting  version 2 to become active: signatures 1 of 2 (ana), published",
            "~ /spec/model \"brain/one\" -> \"brain/two\"",
            "next     awooop contract sign agent/clerk@2",
        ],
    );
    let early = shop.awooop(&people.bob, "contract activate agent/clerk@2");
    early.is(5, &["E-CONTRACT-003", "sign for it:     awooop contract sign agent/clerk@2"]);
    let signed = shop.awooop(&people.bob, "contract sign provider/brain@2");
    signed.is(
        0,
        &["signatures 2 of 2 (ana, bob)", "! /spec/models/2", "awooop contract activate provider/brain@2"],
    );
    shop.awooop(&people.bob, "contract sign agent/clerk@2").is(0, &["2 of 2 (ana, bob)"]);
    shop.awooop(&people.bob, "contract activate provider/brain@2").is(0, &["provider/brain@2 is now active"]);
    shop.awooop(&people.bob, "contract activate agent/clerk@2").is(0, &["agent/clerk@2 is now active"]);
    shop.awooop(&people.bob, "contract activate agent/clerk@2").is(0, &["agent/clerk@2 is already active"]);
    assert_eq!(shop.answer("clerk"), "two");
    let settled = shop.awooop(&people.ana, "apply -f DIR --json");
    assert_eq!(settled.is(0, &[]).json()["is_changed"], false);
}

fn going_back_is_activating_an_older_version(shop: &Shop, people: &People) {
    shop.awooop(&people.ana, "contract activate agent/clerk@1").is(5, &["has 0 of 2 signatures"]);
    shop.awooop(&people.ana, "contract sign agent/clerk@1").is(0, &["1 of 2 (ana)", "another person runs:"]);
    shop.awooop(&people.bob, "contract sign agent/clerk@1").is(0, &["2 of 2 (ana, bob)"]);
    shop.awooop(&people.bob, "contract activate agent/clerk@1").is(0, &["agent/clerk@1 is now active"]);
    assert_eq!(shop.answer("clerk"), "one");
    let difference = shop.awooop(&people.bob, "contract diff agent/clerk@2");
    difference.is(0, &["agent/clerk from version 1 to version 2", "~ /spec/model"]);
    let same = shop.awooop(&people.bob, "contract diff agent/clerk@2 --from 2");
    same.is(0, &["they say the same"]);
}

fn what_is_printed_is_applied_again_without_a_change(shop: &Shop, people: &People) {
    for name in shop.active() {
        let printed = shop.awooop(&people.ana, &format!("get {name}"));
        printed.is(0, &["kind: ", "project: shop"]);
        let applied = shop.awooop_reading(&people.ana, "apply -f - --json", &printed.stdout);
        let document = applied.is(0, &[]).json();
        assert_eq!(
            (&document["is_changed"], &document["items"][0]["change"]),
            (&json!(false), &json!("unchanged"))
        );
    }
    shop.awooop(&people.bob, "get agent").is(0, &["CONTRACT", "agent/clerk  1"]);
    shop.awooop(&people.bob, "get agent/clerk --version 2").is(0, &["model: brain/two"]);
    shop.awooop(&people.bob, "get agent/clerk@2").is(0, &["model: brain/two"]);
    shop.awooop(&people.bob, "get agent/nobody").is(1, &["E-REQ-004"]);
    shop.awooop(&people.bob, "get agent --version 2").is(2, &["name it KIND/ID"]);
    shop.write_agent("clerk", "one");
}

fn what_no_manifest_names_is_pruned_by_two(shop: &Shop, people: &People) {
    shop.write_agent("guest", "two");
    shop.awooop(&people.ana, "apply -f DIR").is(5, &["created    waiting 1 of 2 (ana)"]);
    // a second admin's apply signs and puts into force
    shop.awooop(&people.carl, "apply -f DIR").is(0, &["created    active"]);
    assert_eq!(shop.answer("guest"), "two");
    shop.remove("guest");
    shop.awooop(&people.ana, "apply -f DIR").is(0, &[]);
    let shown = shop.awooop(&people.ana, "diff -f DIR --prune");
    shown.is(1, &["agent/guest@1 is retired in project shop"]);
    let dry = shop.awooop(&people.ana, "apply -f DIR --prune --dry-run");
    dry.is(0, &["retired    would wait 1 of 2 (ana)"]);
    let waits = shop.awooop(&people.ana, "apply -f DIR --prune");
    waits.is(5, &["--prune", "awooop contract sign agent/guest@1 --act retire --project shop"]);
    assert_eq!(shop.answer("guest"), "two", "it is not retired yet");
    shop.awooop(&people.carl, "apply -f DIR --prune").is(0, &["retired    retired"]);
    assert_eq!(shop.active().len(), 3, "the project's own contract and what is named stay");
    shop.awooop("", "run guest hello --project shop").is(2, &["E-RUN-002"]);
}

fn a_contract_is_retired_by_two(shop: &Shop, people: &People) {
    shop.write_agent("leaver", "two");
    shop.awooop(&people.ana, "apply -f DIR").is(5, &[]);
    shop.awooop(&people.carl, "apply -f DIR").is(0, &[]);
    shop.remove("leaver");
    let first = shop.awooop(&people.ana, "retire agent/leaver");
    first.is(
        5,
        &["agent/leaver@1 stays active", "1 of 2 (ana)", "another admin runs:  awooop retire agent/leaver"],
    );
    shop.awooop(&people.bob, "describe agent/leaver")
        .is(0, &["version 1 that it ends: signatures 1 of 2 (ana)"]);
    let second = shop.awooop(&people.bob, "contract sign agent/leaver@1 --act retire");
    second.is(0, &["2 of 2 (ana, bob)", "an admin ends it:  awooop retire agent/leaver"]);
    shop.awooop(&people.ana, "retire agent/leaver").is(0, &["agent/leaver@1 is retired"]);
    shop.awooop(&people.ana, "get agent/leaver").is(1, &["no version of agent/leaver is active"]);
    shop.awooop(&people.ana, "retire project/shop").is(1, &["a project's own contract is never retired"]);
}

fn a_draft_is_replaced_only_on_purpose(shop: &Shop, people: &People) {
    shop.awooop(&people.ana, "contract publish agent/clerk").is(1, &["agent/clerk has no draft"]);
    shop.write_agent("clerk", "one-and-a-half");
    shop.awooop(&people.ana, "contract draft -f DIR/clerk.json")
        .is(0, &["agent/clerk@3", "awooop contract publish"]);
    shop.awooop(&people.ana, "contract draft -f DIR/clerk.json").is(0, &["agent/clerk@3"]);
    shop.write_agent("clerk", "two");
    let refused = shop.awooop(&people.carl, "contract draft -f DIR/clerk.json");
    refused.is(1, &["has another draft, version 3 by shop/ana", "-> \"brain/two\"", "--replace"]);
    shop.awooop(&people.carl, "contract draft -f DIR/clerk.json --replace").is(0, &["agent/clerk@3"]);
    shop.awooop(&people.carl, "describe agent/clerk")
        .is(0, &["draft    version 3", "contract publish agent/clerk@3"]);
    shop.awooop(&people.ana, "contract sign agent/clerk@3").is(1, &["E-CONTRACT-007"]);
    shop.awooop(&people.ana, "contract publish agent/clerk").is(0, &["agent/clerk@3 is published"]);
    shop.awooop(&people.ana, "contract publish agent/clerk@3").is(0, &["agent/clerk@3 is published"]);
    shop.awooop(&people.carl, "contract sign agent/clerk@3").is(0, &[]);
    shop.awooop(&people.bob, "contract sign agent/clerk@3").is(0, &[]);
    shop.awooop(&people.bob, "contract activate agent/clerk@3").is(0, &["agent/clerk@3 is now active"]);
    assert_eq!(shop.answer("clerk"), "two");
    shop.write("clerk", &agent(SHOP, "clerk", "brain/two", &[], json!({"max_steps": "many"})));
    let invalid = shop.awooop(&people.ana, "contract draft -f DIR/clerk.json");
    invalid.is(2, &["clerk.json:1: /spec/max_steps", "E-CONTRACT-001"]);
    shop.write_agent("clerk", "two");
}

fn whoever_published_does_not_sign_where_the_rule_says_so(shop: &Shop, people: &People) {
    shop.write_rule(json!({"signatures": 1, "publisher_may_sign": false}));
    let weaker = shop.awooop(&people.ana, "apply -f DIR");
    weaker.is(5, &["! /spec/activation/signatures: 1 signatures are enough, not 2 (activation_weakened)"]);
    shop.awooop(&people.carl, "apply -f DIR").is(0, &[]);
    shop.write_agent("clerk", "one");
    let own = shop.awooop(&people.ana, "apply -f DIR");
    own.is(5, &["waiting 0 of 1", "does not count the signature of whoever published"]);
    shop.awooop(&people.ana, "contract sign agent/clerk@4").is(3, &["E-CONTRACT-004"]);
    shop.awooop(&people.bob, "contract sign agent/clerk@4").is(0, &["1 of 1 (bob)"]);
    shop.awooop(&people.bob, "contract activate agent/clerk@4").is(0, &[]);
    assert_eq!(shop.answer("clerk"), "one");
}

fn too_many_manifests_are_not_sent(shop: &Shop, people: &People) {
    let many: Vec<String> = (0..2001).map(|n| format!("kind: agent\nproject: shop\nid: a{n}\n")).collect();
    let refused = shop.awooop_reading(&people.ana, "apply -f -", &many.join("---\n"));
    refused.is(2, &["2001 manifests of project `shop`, and a request takes 2000; nothing was sent"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_tools_are_pinned_to_what_their_server_shows_by_a_draft() {
    let shop = Shop::open().await;
    let kit = FixtureMcp::start().await.unwrap();
    shop.write("kit", &manifest("provider", SHOP, "kit", kit.provider_spec()));
    shop.awooop("", "apply -f DIR").is(0, &[]);
    shop.awooop("", "contract pin provider/brain --project shop").is(2, &["only a provider of `type: mcp`"]);
    let pinned = shop.awooop("", "contract pin provider/kit --project shop");
    pinned.is(0, &["provider/kit@2 is a draft with", "+ /spec/tools/0/definition_sha256", "--project shop"]);
    // the same again is no other draft
    shop.awooop("", "contract pin provider/kit --project shop").is(0, &["provider/kit@2"]);
    let mut other = kit.provider_spec();
    other["timeout_ms"] = json!(9_000);
    shop.write("kit", &manifest("provider", SHOP, "kit", other));
    shop.awooop("", "contract draft -f DIR/kit.json --replace").is(0, &["provider/kit@2"]);
    let refused = shop.awooop("", "contract pin provider/kit --project shop");
    refused.is(1, &["E-REQ-005", "awooop contract pin provider/kit --replace --project shop"]);
    shop.awooop("", "contract pin provider/kit --replace --project shop").is(0, &["provider/kit@2"]);
    shop.awooop("", "contract publish provider/kit --project shop").is(0, &[]);
    shop.awooop("", "contract sign provider/kit@2 --project shop").is(0, &["1 of 1 (platform/admin)"]);
    shop.awooop("", "contract activate provider/kit@2 --project shop").is(0, &["is now active"]);
    let all = shop.awooop("", "contract pin provider/kit --project shop");
    all.is(0, &["every tool of provider/kit is pinned to what its server shows"]);
}

#[test]
fn a_schema_is_printed_without_a_server() {
    let home = Home::new().unwrap();
    for kind in ["project", "provider", "agent", "policy", "channel", "runtime_run_state"] {
        let output = home.command(&["contract", "schema", kind]).output().unwrap();
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        let id = format!("https://awooop.platform/contracts/v1/{kind}");
        assert_eq!((output.status.code(), &printed["$id"]), (Some(0), &json!(id)));
    }
    assert_eq!(home.command(&["contract", "schema", "robot"]).output().unwrap().status.code(), Some(2));
}

/// The id of the keyring's key of this name and state.
fn key_id(shop: &Shop, name: &str, state: &str) -> String {
    let listed = shop.awooop("", "keys list --json").json();
    let mut items = listed["items"].as_array().unwrap().iter();
    let found = items.rfind(|key| key["name"] == name && key["state"] == state).expect(state);
    found["id"].as_str().unwrap().to_owned()
}

/// Signs everything again, once the server has seen the keyring's change.
async fn resign(shop: &Shop) {
    until("the server signs with the new key", async || {
        let resigned = shop.awooop("", "contract resign --all --json").json();
        resigned["items"].as_array().unwrap().iter().any(|one| one["signed"].as_u64() > Some(0))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_signing_key_is_rotated_without_a_pause_and_one_retired_too_early_is_mended() {
    let shop = Shop::open().await;
    shop.awooop("", "apply -f DIR").is(0, &[]);
    let rotated = shop.awooop("", "keys rotate publish");
    rotated.is(0, &["is the current key", "awooop contract resign --all"]);
    resign(&shop).await;
    let first = key_id(&shop, "publish", "accepted");
    shop.awooop("", &format!("keys retire publish {first}")).is(0, &["is retired, and its secret is erased"]);
    // the server has read the retirement once it has read the next rotation
    shop.awooop("", "keys rotate publish").is(0, &[]);
    resign(&shop).await;
    let listed = shop.awooop("", "get --project shop --json").json();
    assert!(listed["items"].as_array().unwrap().iter().all(|item| item["problem"].is_null()), "{listed}");
    assert_eq!(shop.answer("clerk"), "one");

    let current = key_id(&shop, "publish", "current");
    shop.awooop("", &format!("keys retire publish {current}")).is(1, &["is the current key: rotate first"]);
    shop.awooop("", "keys rotate publish").is(0, &[]);
    let retired = shop.awooop("", &format!("keys retire publish {current}"));
    retired.is(0, &["contracts that only it signed do not load any more"]);
    until("the contract does not load", async || {
        shop.awooop("", "describe agent/clerk --project shop").stdout.contains("it does not load")
    })
    .await;
    let described = shop.awooop("", "describe agent/clerk --project shop");
    described.is(0, &["made with a key that is retired (E-CONTRACT-002)", "next     awooop apply -f FILE"]);
    shop.awooop("", "get agent/clerk --project shop")
        .is(0, &["agent/clerk@1 does not load", "model: brain/one"]);
    shop.awooop("", "run clerk hello --project shop").is(1, &["E-CONTRACT-002"]);
    shop.awooop("", "diff -f DIR").is(1, &["agent/clerk@2 takes the place of a version that does not load"]);
    shop.awooop("", "apply -f DIR").is(0, &["updated  active"]);
    assert_eq!(shop.answer("clerk"), "one");
    shop.awooop("", "contract rematerialise --project shop")
        .is(0, &["every row is as the active contracts say"]);

    shop.awooop("", "keys rotate key_pepper").is(0, &["API keys that were made before work until"]);
    shop.awooop("", "keys rotate nonsense").is(2, &["possible values: publish"]);
    shop.awooop("", "keys retire publish 00000000").is(2, &["there is no key 00000000 under `publish`"]);
}
