//! Tells the log of transactions that have been open for long and keep the queue's tables from being vacuumed: each
//! once an hour, with who holds it and never what it says.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use awooop_store::Store;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(60);
/// Until the same one is told of again.
const AGAIN_AFTER: Duration = Duration::from_secs(3_600);

/// When it was last looked, and of what was told.
#[derive(Default)]
pub(crate) struct VacuumWatch {
    looked_at: Option<Instant>,
    told: HashMap<(&'static str, String), Instant>,
}

impl VacuumWatch {
    /// Looks, if it is time to.
    pub(crate) async fn look(&mut self, store: &Store) {
        if self.looked_at.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        self.looked_at = Some(Instant::now());
        self.told.retain(|_, at| at.elapsed() < AGAIN_AFTER);
        let found = match store.long_holdbacks().await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "it could not be seen what holds vacuum back");
                return;
            }
        };
        for one in found {
            if self.told.insert((one.kind, one.name.clone()), Instant::now()).is_none() {
                tracing::warn!(
                    kind = one.kind,
                    name = one.name,
                    user = one.user,
                    application = one.application,
                    state = one.state,
                    since = one.since.map(|at| at.to_string()),
                    age_transactions = one.age_xids,
                    "a transaction that has been open for long keeps the queue's tables from being vacuumed"
                );
            }
        }
    }
}
