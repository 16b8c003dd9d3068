//! What a run has read that nobody vouches for is a fact of its journal: whoever claims it next finds the same, and a
//! child finds its parent's.

use awooop_core::approval::Taint;
use awooop_journeys::db::{TestProject, TestStore, test_store};
use awooop_store::claim::ClaimedRun;
use awooop_store::journal::{CallRecord, StepResult, StepStatus};
use awooop_store::run::{Created, NewRun};

use crate::stepping::{call, claim_one, create, new_run, step, worker};

async fn read(test: &TestStore, run: &ClaimedRun, n: i32, tool: &str, is_trusted: bool) {
    let result = StepResult { name: tool.to_owned(), ..step(&test.store, n) };
    let record = CallRecord { tool: tool.to_owned(), is_trusted, ..call(&test.store) };
    test.store.record_step(run, &result, None, Some(&record)).await.unwrap();
}

async fn child(test: &TestStore, project: &TestProject, parent: &ClaimedRun) -> ClaimedRun {
    let new = NewRun { parent_run_id: Some(parent.run_id), ..new_run(&test.store, project).await };
    assert!(matches!(test.store.create_run(&project.scope, &new).await.unwrap(), Created::New(_)));
    claim_one(&test.store, project, &worker("w")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_untrusted_result_taints_a_run_for_good_and_its_children_with_it() {
    let test = TestStore::private().await;
    let project = test.project().await;
    create(&test.store, &project).await;
    let run = claim_one(&test.store, &project, &worker("w")).await;
    assert_eq!(test.store.taint_of(&run).await.unwrap(), None);
    read(&test, &run, 1, "kit__clock", true).await;
    assert_eq!(test.store.taint_of(&run).await.unwrap(), None);
    let before = child(&test, &project, &run).await;
    read(&test, &run, 2, "web__search", false).await;
    read(&test, &run, 3, "web__fetch", false).await;
    let taint = Taint { n: 2, tool: "web__search".to_owned(), of_ancestor: None };
    assert_eq!(test.store.taint_of(&run).await.unwrap(), Some(taint.clone()));

    let inherited = Taint { of_ancestor: Some(run.run_id), ..taint.clone() };
    let below = child(&test, &project, &before).await;
    for descendant in [&before, &below] {
        assert_eq!(test.store.taint_of(descendant).await.unwrap(), Some(inherited.clone()));
    }
    read(&test, &below, 1, "mail__inbox", false).await;
    let own = Taint { n: 1, tool: "mail__inbox".to_owned(), of_ancestor: None };
    assert_eq!(test.store.taint_of(&below).await.unwrap(), Some(own));
    assert_eq!(test.store.taint_of(&before).await.unwrap(), Some(inherited), "nothing goes up by itself");

    test.store.release(&run).await.unwrap();
    let again = claim_one(&test.store, &project, &worker("other")).await;
    assert_eq!((again.run_id, again.epoch > run.epoch), (run.run_id, true));
    assert_eq!(test.store.taint_of(&again).await.unwrap(), Some(taint));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_without_a_word_of_its_trust_is_untrusted() {
    let test = test_store().await;
    let project = test.project().await;
    create(&test.store, &project).await;
    let run = claim_one(&test.store, &project, &worker("w")).await;
    // as a server of the version before records it
    let result = StepResult { status: StepStatus::Error, ..step(&test.store, 1) };
    test.store.record_step(&run, &result, None, None).await.unwrap();
    assert_eq!(test.store.taint_of(&run).await.unwrap().unwrap().n, 1);
}
