//! The connection cut at each statement of sealing, and after its COMMIT before the answer: what was sealed is
//! sealed once, and nothing is lost.

use std::collections::HashSet;

use awooop_journeys::db::TestStore;
use awooop_journeys::pg_proxy::{PgProxy, Point};
use uuid::Uuid;

use crate::audit::{record, verify};

/// No sealing takes more statements.
const MOST_STATEMENTS: u64 = 40;

/// Cuts sealing at its k-th statement, or after its COMMIT, for every k. Returns how often it was cut.
async fn cut_everywhere(point: Point) -> u64 {
    let test = TestStore::private().await;
    let proxy = PgProxy::start(&test.database().urls().app).await.unwrap();
    let urls = proxy.urls(test.database().urls());
    let project = test.project().await;
    for at in 1..=MOST_STATEMENTS {
        record(&test, &project, 3).await;
        let store = test.through(&urls).await;
        proxy.stop_at(at, point, || {});
        let result = store.seal(&project.id, Uuid::nil(), &HashSet::new()).await;
        let was_cut = !proxy.disarm();
        let (found, before) = verify(&test.store, &project.scope, &[]).await;
        assert_eq!(found, vec![], "{point:?} {at}");
        let sealed_by_then = before.events - before.unsealed;
        assert_eq!(sealed_by_then, before.verified, "{point:?} {at}");
        if !was_cut {
            result.unwrap();
            assert_eq!(before.unsealed, 0);
            return at - 1;
        }
        let is_done = point == Point::AfterAnswer;
        assert_eq!(before.unsealed == 0, is_done, "{point:?} {at}: it happened whole or not at all");
        // whoever comes next may wait until the server has noticed the cut
        let mut done = store.seal(&project.id, Uuid::nil(), &HashSet::new()).await.unwrap();
        while done.is_busy {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            done = store.seal(&project.id, Uuid::nil(), &HashSet::new()).await.unwrap();
        }
        let (found, after) = verify(&test.store, &project.scope, &[]).await;
        assert_eq!((found, after.unsealed, after.verified), (vec![], 0, after.events), "{point:?} {at}");
    }
    panic!("sealing still had not ended after {MOST_STATEMENTS} statements");
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_sealing_that_is_cut_loses_and_doubles_nothing() {
    assert!(cut_everywhere(Point::BeforeStatement).await >= 5);
    assert_eq!(cut_everywhere(Point::AfterAnswer).await, 1);
}
