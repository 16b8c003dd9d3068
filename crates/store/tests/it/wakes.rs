//! Wake-ups between processes: what rings in one rings in the others, in few messages, whatever becomes of the
//! connection. Two stores on one database stand for two processes.

use std::time::Duration;

use awooop_core::RunId;
use awooop_journeys::db::{TestStore, connect};
use awooop_store::{Store, scope};
use futures::StreamExt;
use tokio::sync::broadcast::Receiver;
use tokio_postgres::{AsyncMessage, NoTls};

const PATIENCE: Duration = Duration::from_secs(30);

/// Another process's store, and whether both listen by now.
async fn neighbours(test: &TestStore) -> Store {
    let other = test.through(test.database().urls()).await;
    for store in [test.store.clone(), other.clone()] {
        scope::spawn_service(scope::Service::Wakes, store.share_wakes());
    }
    until_both_listen(test).await;
    other
}

async fn until_both_listen(test: &TestStore) {
    let admin = test.database().admin().await;
    let listening = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                     AND state = 'idle' AND query ~ 'pg_backend_pid|pg_notify'";
    let both = async {
        while admin.query_one(listening, &[]).await.unwrap().get::<_, i64>(0) < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, both).await.expect("both listen");
}

async fn heard(runs: &mut Receiver<RunId>, wanted: RunId) {
    let hearing = async { while runs.recv().await.unwrap() != wanted {} };
    tokio::time::timeout(PATIENCE, hearing).await.expect("it is heard");
}

#[tokio::test]
async fn what_rings_in_one_process_rings_in_the_other() {
    let test = TestStore::private().await;
    let other = neighbours(&test).await;
    let (mut runs, mut cancelled) = (other.wake().runs(), other.wake().cancelled());
    let run_id = RunId::from(test.store.clock().new_id());
    // both looked for work when they began to listen
    other.wake().until_work().await;

    test.store.wake().run_changed(run_id);
    heard(&mut runs, run_id).await;
    test.store.wake().run_cancelled(run_id);
    heard(&mut cancelled, run_id).await;
    test.store.wake().work_queued();
    tokio::time::timeout(PATIENCE, other.wake().until_work()).await.expect("work is heard of");
}

#[tokio::test]
async fn a_broken_connection_is_made_again() {
    let test = TestStore::private().await;
    let other = neighbours(&test).await;
    let admin = test.database().admin().await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
               AND query ~ 'pg_backend_pid|pg_notify' AND pid <> pg_backend_pid()";
    admin.query(cut, &[]).await.unwrap();
    let run_id = RunId::from(test.store.clock().new_id());
    let mut runs = other.wake().runs();
    // what rings while it is being made again is lost
    let ringing = async {
        loop {
            test.store.wake().run_changed(run_id);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = heard(&mut runs, run_id) => {}
        () = ringing => {}
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a client of the test's own")]
async fn a_burst_goes_out_in_few_messages_and_comes_back_to_nobody() {
    let test = TestStore::private().await;
    let other = neighbours(&test).await;
    let third: tokio_postgres::Config = test.database().urls().app.parse().unwrap();
    let (client, mut connection) = third.connect(NoTls).await.unwrap();
    let (send, mut messages) = tokio::sync::mpsc::unbounded_channel();
    let reading = tokio::spawn(async move {
        let mut told = futures::stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = told.next().await {
            if let AsyncMessage::Notification(one) = message {
                send.send(one.payload().to_owned()).unwrap();
            }
        }
    });
    client.batch_execute("LISTEN awooop").await.unwrap();
    let own = test.store.wake().runs();
    let mut runs = other.wake().runs();
    let all: Vec<RunId> = (0..500).map(|_| RunId::from(test.store.clock().new_id())).collect();
    for run_id in &all {
        test.store.wake().run_changed(*run_id);
        test.store.wake().run_changed(*run_id);
    }
    for run_id in &all {
        heard(&mut runs, *run_id).await;
    }
    // one message at once, the others together; whatever order the scheduler chose, far fewer than changes
    let mut count = 0;
    while messages.try_recv().is_ok() {
        count += 1;
    }
    assert!((1..=10).contains(&count), "{count} messages for 1,000 rings");
    assert_eq!(own.len(), 1000, "one hears oneself directly, and not a second time");
    reading.abort();
}

#[tokio::test]
async fn anybodys_message_is_one_more_look_and_nothing_else() {
    let test = TestStore::private().await;
    let other = neighbours(&test).await;
    other.wake().until_work().await;
    let stranger = connect(&test.database().urls().app).await.unwrap();
    for payload in ["", "nonsense", "{\"work\":7}", "[1]", "{\"runs\":[\"x\"]}"] {
        stranger.execute("SELECT pg_notify('awooop', $1)", &[&payload]).await.unwrap();
        tokio::time::timeout(PATIENCE, other.wake().until_work()).await.expect("it looks");
    }
}
