//! When a key was used last: written beside the request, at most once a minute a key, over all nodes.
//!
//! Nobody waits for it and nothing fails by it. What this process wrote lately is remembered, and what is being
//! written is bounded; a use that finds no room is written with a later one. So a time may be behind by a minute, and
//! by more only under a flood.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use awooop_core::ProjectId;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::pool::Store;
use crate::scope::ProjectScope;

/// Between two writes about one key.
const EVERY: Duration = Duration::from_secs(60);
/// Keys that are remembered; beyond it all are forgotten, and the rows themselves keep to the minute.
const MOST_KEYS: usize = 10_000;
/// Writes under way.
const MOST_WRITES: usize = 8;

/// Which uses were written lately by this process.
pub(crate) struct KeyUses {
    recent: Mutex<HashMap<(ProjectId, String), Instant>>,
    writes: Arc<Semaphore>,
}

impl Default for KeyUses {
    fn default() -> Self {
        Self { recent: Mutex::default(), writes: Arc::new(Semaphore::new(MOST_WRITES)) }
    }
}

impl KeyUses {
    /// Is a use of this key to be written now?
    fn is_due(&self, project: &ProjectId, key_id: &str) -> bool {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= MOST_KEYS {
            recent.clear();
        }
        let key = (project.clone(), key_id.to_owned());
        let is_due = recent.get(&key).is_none_or(|at| at.elapsed() >= EVERY);
        if is_due {
            recent.insert(key, Instant::now());
        }
        is_due
    }
}

impl Store {
    /// Notes, beside the answer, that a key was used at `now`.
    pub(crate) fn note_use(&self, project: &ProjectId, key_id: &str, now: Timestamp) {
        let uses = &self.inner.key_uses;
        let Ok(room) = Arc::clone(&uses.writes).try_acquire_owned() else { return };
        if !uses.is_due(project, key_id) {
            return;
        }
        let scope = ProjectScope::new(project.clone(), "platform/keys");
        let (store, inside, key_id) = (self.clone(), scope.clone(), key_id.to_owned());
        let write = async move {
            let before = now - EVERY;
            let written = store
                .once(
                    &inside,
                    "UPDATE api_key SET last_used_at = $3 WHERE project_id = $1 AND key_id = $2
                       AND (last_used_at IS NULL OR last_used_at < $4)",
                    &[&inside.project().as_str(), &key_id, &now, &before],
                )
                .await;
            if let Err(error) = written {
                tracing::debug!(error = &error as &dyn std::error::Error, "a key's use was not noted");
            }
            drop(room);
        };
        drop(crate::scope::spawn(&scope, "key use", write));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_s_use_is_due_once_a_minute() {
        let (uses, project) = (KeyUses::default(), ProjectId::parse("shop").unwrap());
        assert!(uses.is_due(&project, "a") && !uses.is_due(&project, "a"));
        assert!(uses.is_due(&project, "b") && uses.is_due(&ProjectId::platform(), "a"));
        let remembered = |uses: &KeyUses| uses.recent.lock().unwrap().len();
        for i in 0..2 * MOST_KEYS {
            uses.is_due(&project, &i.to_string());
        }
        assert!(remembered(&uses) <= MOST_KEYS);
    }
}
