//! Generated bodies, arbitrary ones and valid manifests with something exchanged, to the requests that take
//! manifests: every answer is an accepted change or a refusal, never a failure of the server.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use awooop_journeys::db::TestProject;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Number, Value, json};

use crate::api::{Api, admin};
use crate::contracts_life::CONTRACTS;

/// How long bodies are made up and sent.
const FOR: Duration = Duration::from_secs(10);

/// Texts that have hurt somebody before.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        prop::sample::select(vec![
            "",
            "\0",
            "a\u{0}b",
            "\u{202e}gnp",
            "🦀",
            "e\u{301}",
            "\u{feff}",
            "../../etc/passwd",
            "%00",
            "__proto__",
            "http://169.254.169.254/",
            "https://[::1]/",
            "https://",
            "file:///etc/passwd",
            "env://HOME",
            "file://a",
            "offline/planner",
            "shop__sales",
            "^(a+)+$",
            "*",
            "{}",
            "null",
            "-0",
            "NaN",
            "1e999",
            "$ref",
            "#/$defs/x",
        ])
        .prop_map(str::to_owned),
        (1usize..60_000).prop_map(|n| "x".repeat(n)),
    ]
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|f| Number::from_f64(f).map_or(Value::Null, Value::Number)),
        prop::sample::select(vec![
            json!(0),
            json!(-1),
            json!(1.5),
            json!(1e300),
            json!(i64::MAX),
            json!(u64::MAX)
        ]),
    ]
}

fn arbitrary() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number(),
        text().prop_map(Value::String)
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec((text(), inner), 0..6).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

/// Deeper than anything that should be walked without a limit.
fn deep(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, n| if n % 2 == 0 { json!([inner]) } else { json!({"a": inner}) })
}

/// What is done to one place of a valid manifest.
fn mutations() -> impl Strategy<Value = Vec<(usize, Value)>> {
    let value = prop_oneof![4 => arbitrary(), 1 => (1usize..200).prop_map(deep)];
    prop::collection::vec((any::<usize>(), value), 1..4)
}

/// The valid examples of every kind, as this project's own.
fn fixtures(project: &TestProject) -> Vec<Value> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts");
    let mut found = Vec::new();
    for kind in ["project", "provider", "agent", "policy", "channel"] {
        for entry in std::fs::read_dir(format!("{root}/{kind}/valid")).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let mut document: Value = serde_json::from_str(&text).unwrap();
            document["project"] = json!(project.id);
            if kind == "project" {
                document["id"] = json!(project.id);
            }
            found.push(document);
        }
    }
    assert!(found.len() > 30, "the fixtures are there");
    found
}

/// Puts `with` at the `n`-th place of a document, counted over all its values, or adds it to an object there.
fn exchange(document: &mut Value, n: usize, with: Value) {
    let mut paths = Vec::new();
    collect(document, String::new(), &mut paths);
    let path = &paths[n % paths.len()];
    let place = document.pointer_mut(path).expect("a path of its own");
    match place {
        Value::Object(members) if n.is_multiple_of(3) => {
            members.insert(format!("added{n}"), with);
        }
        place => *place = with,
    }
}

fn collect(value: &Value, path: String, paths: &mut Vec<String>) {
    let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| collect(item, format!("{path}/{i}"), paths));
        }
        Value::Object(members) => {
            members.iter().for_each(|(key, item)| collect(item, format!("{path}/{}", escape(key)), paths));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    paths.push(path);
}

/// Sends a document as a manifest and as a draft, where its path can be written. Returns the statuses.
async fn send(api: &Api, key: &str, document: &Value) -> Vec<u16> {
    let mut answers = vec![api.post(key, CONTRACTS, &json!({"manifests": [document]})).await];
    answers.push(api.post(key, CONTRACTS, document).await);
    let part = |name: &str| {
        document[name].as_str().filter(|t| t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
    };
    let (kind, id) = (part("kind").unwrap_or("agent"), part("id").unwrap_or("clerk"));
    let path = format!("{CONTRACTS}/{kind}/{id}/draft");
    answers.push(api.ask(key, "PUT", &path, "", Some(document)).await);
    answers.iter().map(|answer| answer.status.as_u16()).collect()
}

/// A generator and its seed: the one in the environment, to walk a former way again, or this one.
#[expect(clippy::print_stdout, reason = "whoever reads of a failure needs the seed")]
fn runner(fresh: u128) -> (TestRunner, u128) {
    let given = std::env::var("PROPTEST_RNG_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u128 = given.unwrap_or(fresh);
    println!("PROPTEST_RNG_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    (TestRunner::new_with_rng(Config::default(), rng), seed)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_makes_the_server_fail() {
    let api = Api::new().await;
    let project = api.test.project().await;
    let (key, fixtures) = (admin(&project), fixtures(&project));
    let (mut runner, seed) = runner(api.test.store.clock().new_id().as_u128());
    let (began, mut sent, mut statuses) = (Instant::now(), 0_usize, BTreeSet::new());
    // as they are, so that some are accepted however the dice fall
    for fixture in &fixtures {
        statuses.extend(send(&api, &key, fixture).await);
    }
    while began.elapsed() < FOR {
        let document = if sent % 4 == 0 {
            arbitrary().new_tree(&mut runner).unwrap().current()
        } else {
            // three of four, so counted by themselves: no fixture is passed over for good
            let mut document = fixtures[(sent - sent.div_ceil(4)) % fixtures.len()].clone();
            for (n, with) in mutations().new_tree(&mut runner).unwrap().current() {
                exchange(&mut document, n, with);
            }
            document
        };
        for status in send(&api, &key, &document).await {
            assert!(status < 500, "seed {seed}: {status} for {document}");
            statuses.insert(status);
        }
        sent += 1;
    }
    assert!(sent > 20 && statuses.contains(&200) && statuses.contains(&422), "{sent} sent, {statuses:?}");
}
