//! Cursors that were changed, made up or borrowed. A list reads on after its own cursors only, and whatever else is
//! given it never shows another project's rows.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Ground, MINE, OTHER};
use crate::operations::AGENT;

/// Lists that are paged: path, and the name by which their cursors are bound. `RUN` is a run of the project.
const LISTS: &[(&str, &str)] = &[
    ("/v1/platform/runs", "runs"),
    ("/v1/platform/runs/RUN/steps", "steps/RUN"),
    ("/v1/platform/schedules", "schedules"),
    ("/v1/platform/approvals", "approvals"),
    ("/v1/platform/contracts", "contracts"),
    ("/v1/platform/contracts/agent/only-mine/versions", "versions/agent/only-mine"),
    ("/v1/platform/projects", "projects"),
    ("/v1/platform/tools", "tools"),
    ("/v1/platform/keys", "keys"),
    ("/v1/platform/principals", "principals"),
    ("/v1/platform/audit", "audit"),
];

/// Keys of rows that nobody has, for cursors with the right check.
const ODD_KEYS: &[&str] = &[
    "",
    "\0",
    "a\0b",
    "0/a\0b",
    "agent/a\0b",
    "a/\0",
    "-1",
    "9223372036854775807",
    "9223372036854775808",
    "-377705023201000000/a",
    "253402207200999999/zz",
    "-62167219200000001/x",
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "' OR true --",
    "tenant-mine",
    "zzzz",
    "\u{10ffff}",
    "agent/only-mine/2147483648",
];

/// A cursor as the server would make it for this list, project and key.
fn made_up(list: &str, project: &str, key: &str) -> String {
    let check = awooop_core::json::sha256(format!("{list}\n{project}\n{key}").as_bytes());
    URL_SAFE_NO_PAD.encode([&check[..8], key.as_bytes()].concat())
}

/// A good cursor, bent in every way.
fn bent(cursor: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let bytes = URL_SAFE_NO_PAD.decode(cursor).unwrap();
    for n in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[n] ^= 1 << (n % 8);
        all.push(URL_SAFE_NO_PAD.encode(flipped));
    }
    all.extend((0..cursor.len()).step_by(5).map(|n| cursor[..n].to_owned()));
    all.extend([
        format!("{cursor}A"),
        format!("{cursor}="),
        format!("{cursor}{cursor}"),
        format!("{cursor}%00"),
        format!("%20{cursor}"),
        cursor.chars().rev().collect(),
        STANDARD.encode(&bytes).replace('+', "%2b").replace('/', "%2f") + "%3d",
        URL_SAFE_NO_PAD.encode(cursor),
        "A".repeat(8000),
        "%f0%9f%92%a9".to_owned(),
        "null".to_owned(),
        "0".to_owned(),
    ]);
    all
}

async fn more_rows(ground: &Ground) {
    let mine = &ground.furnished.mine;
    for _ in 0..3 {
        mine.create_run("tester", &json!("one more")).await.unwrap();
    }
    let agent = |name: &str, crons: &[&str]| {
        let schedules: Vec<Value> = (crons.iter().enumerate())
            .map(|(n, cron)| json!({"id": format!("s{n}-mine"), "cron": cron, "input": "x"}))
            .collect();
        let spec = json!({"instructions": "Answer.", "model": "brain/planner", "output_schema": {}, "schedules": schedules});
        json!({"kind": "agent", "project": MINE, "id": name, "spec": spec})
    };
    mine.apply(&[agent(AGENT, &["0 4 * * *", "0 5 * * *"])]).await.unwrap();
}

/// Status and code of an answer; every row of one that succeeds is the project's own.
async fn told(ground: &Ground, path: &str) -> String {
    let answer = ground.furnished.mine.get(path).await.unwrap();
    assert!(!answer.text.contains(OTHER), "{path} shows another project: {}", answer.text);
    format!("{} {}", answer.status, answer.code()).trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_list_reads_on_after_its_own_cursors_only() {
    let ground = Ground::start().await;
    more_rows(&ground).await;
    let run_id = ground.furnished.id("run_id").to_owned();
    let mut good: Vec<(String, String)> = Vec::new();
    for (path, _) in LISTS {
        let path = path.replace("RUN", &run_id);
        let page = ground.furnished.mine.get(&format!("{path}?limit=1")).await.unwrap().expect(200).unwrap();
        if let Some(cursor) = page["next_cursor"].as_str() {
            good.push((path.clone(), cursor.to_owned()));
        }
        for limit in
            ["-1", "0", "201", "1000000000", "18446744073709551616", "", "1.0", "0x1", "%2b1", "%d9%a1"]
        {
            assert_eq!(
                told(&ground, &format!("{path}?limit={limit}")).await,
                "422 E-REQ-003",
                "{path} {limit}"
            );
        }
        assert_eq!(told(&ground, &format!("{path}?limit=1&limit=2")).await, "422 E-REQ-003", "{path}");
    }
    assert!(good.len() >= 8, "lists with a second page: {good:?}");
    let theirs = ground.other.get("/v1/platform/contracts?limit=1").await.unwrap().expect(200).unwrap();
    let theirs = theirs["next_cursor"].as_str().expect("more than one contract").to_owned();
    for (path, cursor) in &good {
        let borrowed = good.iter().filter(|(other, _)| other != path).map(|(_, cursor)| cursor.clone());
        for bad in bent(cursor).into_iter().chain(borrowed).chain([theirs.clone()]) {
            let path = format!("{path}?limit=1&cursor={bad}");
            assert_eq!(told(&ground, &path).await, "400 E-REQ-007", "{path}");
        }
        assert_eq!(told(&ground, &format!("{path}?limit=1&cursor={cursor}")).await, "200", "{path}");
    }
    ground.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_cursor_that_somebody_made_up_shows_nothing_of_others_and_breaks_nothing() {
    let ground = Ground::start().await;
    let run_id = ground.furnished.id("run_id").to_owned();
    let mut wrong = Vec::new();
    for (path, list) in LISTS {
        let (path, list) = (path.replace("RUN", &run_id), list.replace("RUN", &run_id));
        for key in ODD_KEYS {
            for project in [MINE, OTHER] {
                let path = format!("{path}?cursor={}", made_up(&list, project, key));
                let told = told(&ground, &path).await;
                let is_fine = told == "400 E-REQ-007" || (told == "200" && project == MINE);
                if !is_fine {
                    wrong.push(format!("{list} {key:?} of {project}: {told}"));
                }
            }
        }
    }
    for (path, list) in [("bulk-cancel", "bulk-cancel"), ("bulk-retry", "bulk-retry")] {
        for cursor in [made_up(list, OTHER, &run_id), made_up(list, MINE, "\0"), "AAAA".to_owned()] {
            let body = json!({"all": true, "dry_run": true, "cursor": cursor});
            let answer =
                ground.furnished.mine.post(&format!("/v1/platform/runs/{path}"), &body).await.unwrap();
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (400, "E-REQ-007"),
                "{path}: {}",
                answer.text
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    ground.assert_unharmed().await;
}
