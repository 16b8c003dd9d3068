//! Somebody with every right in the database, and without the keyring: whatever they change in the audit has a
//! name afterwards.

use std::collections::HashSet;

use awooop_core::audit::Head;
use awooop_journeys::db::{TestProject, TestStore, test_store};
use uuid::Uuid;

use crate::audit::{events, record, seal, verify};

/// A project with three seals; the last one holds two events.
struct Site {
    project: TestProject,
    ids: Vec<Uuid>,
    head: Head,
}

async fn site(test: &TestStore) -> Site {
    let project = test.project().await;
    for count in [5, 5, 2] {
        record(test, &project, count).await;
        seal(test, &project).await;
    }
    let ids: Vec<Uuid> = events(test, &project).await.iter().map(|e| e.id).collect();
    let head = test.store.audit_head(&project.scope).await.unwrap().unwrap();
    assert_eq!(verify(&test.store, &project.scope, std::slice::from_ref(&head)).await.0, vec![]);
    Site { project, ids, head }
}

/// Runs statements as the superuser, with row security and everything else out of the way. `$p` stands for the
/// project, `$a` and `$b` for two sealed events.
async fn attack(test: &TestStore, site: &Site, sql: &str) {
    let n = site.ids.len();
    let sql = sql
        .replace("$p", &format!("'{}'", site.project.id))
        .replace("$a", &format!("'{}'", site.ids[n - 4]))
        .replace("$b", &format!("'{}'", site.ids[n - 9]));
    test.database().admin().await.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
}

/// The kinds of what a check finds.
async fn kinds(test: &TestStore, site: &Site, heads: &[Head]) -> Vec<&'static str> {
    let (found, report) = verify(&test.store, &site.project.scope, heads).await;
    assert_eq!(report.is_whole, found.is_empty());
    found.iter().map(|f| f.kind.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_edited_column_of_an_event_is_named() {
    let test = test_store().await;
    for change in [
        "at = at + interval '1 microsecond'",
        "at = 'infinity'",
        "at = '-infinity'",
        "actor = actor || 'x'",
        "action = 'run.create'",
        "subject = subject || ' '",
        "run_id = '00000000-0000-0000-0000-000000000000'",
        "trace_id = ''",
        "body = replace(body, ':', ': ')",
        "key_id = 'ffffffff'",
        "mac = '\\x00'",
    ] {
        let site = site(&test).await;
        attack(
            &test,
            &site,
            &format!("UPDATE awooop.audit_event SET {change} WHERE project_id = $p AND id = $a"),
        )
        .await;
        let (found, _) = verify(&test.store, &site.project.scope, &[]).await;
        let id = site.ids[site.ids.len() - 4];
        assert_eq!(found.len(), 1, "{change}: {found:?}");
        assert_eq!((found[0].kind.as_str(), found[0].event_id), ("altered", Some(id)), "{change}");
    }
    let site = site(&test).await;
    attack(&test, &site, "UPDATE awooop.audit_event SET id = '01900000-0000-7000-8000-000000000001' WHERE project_id = $p AND id = $a").await;
    assert_eq!(kinds(&test, &site, &[]).await, ["missing", "added"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_inserted_and_exchanged_events_are_named() {
    let test = test_store().await;
    let columns = "project_id, id, at, actor, action, subject, run_id, trace_id, body, key_id, mac";
    let copy = |id: &str| {
        let copied = columns.replacen("id, at", &format!("{id}, at"), 1);
        format!(
            "INSERT INTO awooop.audit_event ({columns}) SELECT {copied} FROM awooop.audit_event WHERE project_id = $p AND id = $a"
        )
    };
    let fresh = "INSERT INTO awooop.audit_event (project_id, id, at, actor, action, subject, body, key_id, mac)
        SELECT $p, gen_random_uuid(), now(), 'x/y', 'key.create', 'key/x', '{}', key_id, sha256('x') FROM awooop.audit_event
        WHERE project_id = $p LIMIT 1";
    let exchange = "UPDATE awooop.audit_event x SET at = y.at, actor = y.actor, action = y.action, subject = y.subject,
        body = y.body, key_id = y.key_id, mac = y.mac FROM awooop.audit_event y
        WHERE x.project_id = $p AND y.project_id = $p AND x.id IN ($a, $b) AND y.id IN ($a, $b) AND x.id <> y.id";
    let rename = "UPDATE awooop.audit_event SET id = '00000000-0000-0000-0000-000000000001' WHERE project_id = $p AND id = $a;
        UPDATE awooop.audit_event SET id = $a WHERE project_id = $p AND id = $b;
        UPDATE awooop.audit_event SET id = $b WHERE project_id = $p AND id = '00000000-0000-0000-0000-000000000001'";
    for (what, sql, expected) in [
        (
            "deleted",
            "DELETE FROM awooop.audit_event WHERE project_id = $p AND id = $a".to_owned(),
            &["missing"][..],
        ),
        ("copied", copy("gen_random_uuid()"), &["added"]),
        ("back-dated", copy("'01900000-0000-7000-8000-000000000001'::uuid"), &["added"]),
        ("fresh", fresh.to_owned(), &["added"]),
        ("contents exchanged", exchange.to_owned(), &["reordered", "reordered"]),
        ("ids exchanged", rename.to_owned(), &["reordered", "reordered"]),
        ("all gone", "DELETE FROM awooop.audit_event WHERE project_id = $p".to_owned(), &["missing"]),
    ] {
        let site = site(&test).await;
        attack(&test, &site, &sql).await;
        assert_eq!(kinds(&test, &site, &[]).await, expected, "{what}");
        // and the sealer blesses none of it
        let before = site.head.seal.n;
        let done = test.store.seal(&site.project.id, Uuid::nil(), &HashSet::new()).await.unwrap();
        assert_eq!(
            (done.events, done.forged.len()),
            (0, expected.iter().filter(|k| **k == "added").count()),
            "{what}"
        );
        assert_eq!(test.store.audit_head(&site.project.scope).await.unwrap().unwrap().seal.n, before);
        let forged = test.store.audit_status(&site.project.scope).await.unwrap().forged;
        assert!(what != "copied" && what != "fresh" || forged.len() == 1 || forged.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_edited_column_of_a_seal_is_named() {
    let test = test_store().await;
    for change in [
        "event_ids = substring(event_ids FROM 17) || substring(event_ids FOR 16)",
        "event_ids = ''",
        "event_ids = event_ids || '\\x00'",
        "leaves = leaves || leaves",
        "leaves = overlay(leaves PLACING '\\x00000000' FROM 1)",
        "first_id = '00000000-0000-0000-0000-000000000000'",
        "last_id = 'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        "event_count = event_count + 1",
        "total = total + 1",
        "root = sha256(root)",
        "prev_hash = sha256(prev_hash)",
        "prev_hash = ''",
        "hash = sha256(hash)",
        "sealed_at = sealed_at - interval '1 day'",
        "sealed_at = 'infinity'",
        "is_late = NOT is_late",
        "key_id = 'ffffffff'",
        "signature = ''",
        "signature = sha512(signature)",
    ] {
        let site = site(&test).await;
        attack(
            &test,
            &site,
            &format!("UPDATE awooop.audit_seal SET {change} WHERE project_id = $p AND n = 2"),
        )
        .await;
        let (found, _) = verify(&test.store, &site.project.scope, &[]).await;
        let is_named = found
            .iter()
            .any(|f| f.seal == Some(2) && ["forged_seal", "reordered"].contains(&f.kind.as_str()));
        assert!(is_named, "{change}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn seals_that_are_deleted_exchanged_or_chained_anew_are_named() {
    let test = test_store().await;
    let middle = site(&test).await;
    attack(&test, &middle, "DELETE FROM awooop.audit_seal WHERE project_id = $p AND n = 2").await;
    let found = kinds(&test, &middle, &[]).await;
    assert_eq!(found[0], "missing_seal");

    let exchanged = site(&test).await;
    attack(&test, &exchanged, "UPDATE awooop.audit_seal SET n = n + 10 WHERE project_id = $p;
        UPDATE awooop.audit_seal SET n = CASE n WHEN 11 THEN 2 WHEN 12 THEN 1 ELSE 3 END WHERE project_id = $p").await;
    assert!(kinds(&test, &exchanged, &[]).await.iter().filter(|k| **k == "forged_seal").count() >= 2);

    // an edited event with a root and a chain that fit it: only the signature is missing
    let anew = site(&test).await;
    attack(&test, &anew, "UPDATE awooop.audit_event SET body = '{}' WHERE project_id = $p AND id = $b;
        UPDATE awooop.audit_seal SET root = sha256(root), hash = sha256(hash) WHERE project_id = $p AND n = 2;
        UPDATE awooop.audit_seal s SET prev_hash = (SELECT hash FROM awooop.audit_seal l WHERE l.project_id = $p AND l.n = 2)
          WHERE project_id = $p AND n = 3").await;
    assert!(kinds(&test, &anew, &[]).await.iter().filter(|k| **k == "forged_seal").count() >= 2);

    let (one, two) = (site(&test).await, site(&test).await);
    attack(
        &test,
        &one,
        &format!(
            "UPDATE awooop.audit_seal SET project_id = '{0}', n = 9 WHERE project_id = $p AND n = 3;
        UPDATE awooop.audit_event SET project_id = '{0}' WHERE project_id = $p AND id = $a",
            two.project.id
        ),
    )
    .await;
    assert!(kinds(&test, &one, &[]).await.contains(&"missing"));
    let found = kinds(&test, &two, &[]).await;
    assert!(found.contains(&"forged_seal") && found.contains(&"added"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_cut_off_shows_against_a_head_that_was_kept() {
    let test = test_store().await;
    let site = site(&test).await;
    attack(&test, &site, "DELETE FROM awooop.audit_event e USING awooop.audit_seal s WHERE e.project_id = $p
          AND s.project_id = $p AND s.n = 3 AND position(decode(replace(e.id::text, '-', ''), 'hex') IN s.event_ids) > 0;
        DELETE FROM awooop.audit_seal WHERE project_id = $p AND n = 3").await;
    assert_eq!(kinds(&test, &site, &[]).await, [""; 0], "without a head nothing shows");
    assert_eq!(kinds(&test, &site, std::slice::from_ref(&site.head)).await, ["truncated"]);
    // the chain goes on elsewhere, well signed by the server itself
    record(&test, &site.project, 3).await;
    seal(&test, &site.project).await;
    assert_eq!(kinds(&test, &site, std::slice::from_ref(&site.head)).await, ["rewritten"]);
}
