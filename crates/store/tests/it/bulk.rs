//! Many runs at once: what one page looks at is bounded, and its pages together find each run once.

use awooop_core::RunId;
use awooop_core::run::StateName;
use awooop_journeys::db::{TestProject, TestStore};
use awooop_store::bulk::{BulkFilter, MOST_LOOKED_AT};

use crate::counting::rows_read;
use crate::stepping::create;

fn cancelled() -> BulkFilter {
    BulkFilter {
        states: vec![StateName::Cancelled],
        run_id: None,
        agent_id: None,
        parent: None,
        error_code: None,
        made_before: None,
        made_after: None,
    }
}

/// Runs that completed, made one a millisecond after the one that is there.
async fn completed_runs(test: &TestStore, n: i64) {
    let made = "INSERT INTO awooop.run_state (project_id, run_id, state, agent_id, agent_version_id, mode, priority,
            trace_id, trigger_type, triggered_by, max_attempts, created_at, completed_at, timeout_at, input, input_sha256)
        SELECT project_id, overlay(run_id::text PLACING lpad(to_hex((('x' || replace(left(run_id::text, 13), '-', ''))
              ::bit(48)::bigint + n) / 65536), 8, '0') || '-'
            || lpad(to_hex((('x' || replace(left(run_id::text, 13), '-', ''))::bit(48)::bigint + n) % 65536), 4, '0')
            FROM 1 FOR 13)::uuid,
          'completed', agent_id, agent_version_id, mode, priority, trace_id, 'api', triggered_by, max_attempts, created_at,
          now(), timeout_at, input, input_sha256
        FROM awooop.run_state, generate_series(1, $1::bigint) n";
    let admin = test.database().admin().await;
    admin.execute(made, &[&n]).await.unwrap();
    admin.batch_execute("VACUUM ANALYZE awooop.run_state").await.unwrap();
}

/// All pages of a filter: what they found, and how many they were.
async fn all_pages(test: &TestStore, project: &TestProject, filter: &BulkFilter) -> (Vec<RunId>, i64) {
    let (mut found, mut pages, mut before) = (Vec::new(), 0, RunId::max());
    loop {
        let page = test.store.page_of(&project.scope, filter, before, 2).await.unwrap();
        found.extend(page.runs.iter().map(|(run_id, _)| *run_id));
        pages += 1;
        match page.next_before {
            Some(next) => before = next,
            None => return (found, pages),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_looks_at_a_bounded_number_of_runs_however_many_there_are() {
    let test = TestStore::private().await;
    let project = test.project().await;
    let oldest = create(&test.store, &project).await;
    test.store.cancel_run(&project.scope, oldest).await.unwrap();
    completed_runs(&test, 50_000).await;
    let scope = project.scope.clone();
    let read = rows_read(&test, "run_state", async |store| {
        let page = store.page_of(&scope, &cancelled(), RunId::max(), 50).await.unwrap();
        assert_eq!((page.runs.len(), page.looked_at), (0, MOST_LOOKED_AT));
        assert!(page.next_before.is_some(), "there are more to look at");
    });
    let read = read.await;
    assert!(read <= MOST_LOOKED_AT + 10, "{read} rows were read");
    let (found, pages) = all_pages(&test, &project, &cancelled()).await;
    assert_eq!((found, pages), (vec![oldest], 11));
    // one that is named is looked at alone
    let one = BulkFilter { run_id: Some(oldest), ..cancelled() };
    let page = test.store.page_of(&project.scope, &one, RunId::max(), 50).await.unwrap();
    assert_eq!((page.runs.len(), page.looked_at, page.next_before), (1, 1, None));
}

#[tokio::test]
async fn pages_find_each_run_once_newest_first_and_nobody_else_s() {
    let test = TestStore::private().await;
    let (project, other) = (test.project().await, test.project().await);
    let mut made = Vec::new();
    for _ in 0..7 {
        let run_id = create(&test.store, &project).await;
        test.store.cancel_run(&project.scope, run_id).await.unwrap();
        made.insert(0, run_id);
        create(&test.store, &project).await;
    }
    assert_eq!(all_pages(&test, &project, &cancelled()).await.0, made);
    assert!(all_pages(&test, &other, &cancelled()).await.0.is_empty());
    let nobody_s = BulkFilter { parent: Some(made[0]), ..cancelled() };
    assert!(all_pages(&test, &project, &nobody_s).await.0.is_empty());
    let of_no_agent = BulkFilter { agent_id: Some("nobody".to_owned()), ..cancelled() };
    assert!(all_pages(&test, &project, &of_no_agent).await.0.is_empty());
    let now = test.store.clock().after(std::time::Duration::from_secs(1));
    let (before, after) = (
        BulkFilter { made_before: Some(now), ..cancelled() },
        BulkFilter { made_after: Some(now), ..cancelled() },
    );
    assert_eq!(all_pages(&test, &project, &before).await.0, made);
    assert!(all_pages(&test, &project, &after).await.0.is_empty());
}
