//! What the audit says of the server's own keys: which there are and what each may do.
//!
//! `awooop keys` changes a file and needs neither a server nor a database, so the servers that read the file
//! write it down: each looks whether the audit knows a key's state and, under a lock, records what it does not know.
//! So the change of a key is one event, whether one server sees it or twenty, and one that nobody announced, such as
//! a keyring put in the place of another, shows as well.

use std::collections::BTreeMap;
use std::time::Duration;

use awooop_core::ProjectId;
use serde_json::{Value, json};
use tokio_postgres::Row;

use super::{AuditEvent, Note, insert};
use crate::error::StoreError;
use crate::keyring::KeyInfo;
use crate::pool::Store;
use crate::scope::ProjectScope;

const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Store {
    /// Takes a changed keyring over within a second and records it, for as long as this is polled. What cannot be
    /// read is logged, once; what cannot be recorded is tried again.
    pub async fn follow_keys(&self) {
        let mut was_wrong = false;
        // not whether this look found a change: whoever verifies a signature may have taken it over before
        let mut recorded: Option<Vec<KeyInfo>> = None;
        loop {
            match self.keyring().refresh() {
                Ok(false) => {}
                Ok(true) => {
                    was_wrong = false;
                    tracing::info!("the keyring has changed and is taken over");
                }
                Err(error) if !was_wrong => {
                    was_wrong = true;
                    tracing::error!(%error, "the keyring has changed and cannot be read; the former one goes on");
                }
                Err(_) => {}
            }
            let keys = self.keyring().keys();
            if recorded.as_ref() != Some(&keys) {
                match self.record_keys().await {
                    Ok(Some(_)) => recorded = Some(keys),
                    Ok(None) => {}
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "the keyring's state could not be recorded; it is tried again");
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Records the state of every key of which the platform's audit does not say it yet. Returns how many there were;
    /// none when there is no platform yet, in which nobody can use a key.
    ///
    /// # Errors
    /// The database's.
    pub async fn record_keys(&self) -> Result<Option<usize>, StoreError> {
        let scope = ProjectScope::new(ProjectId::platform(), "platform/keyring");
        let mut tx = self.begin(&scope).await?;
        let project = scope.project().as_str();
        if tx.rows(LOCK, &[&project]).await?.is_empty() {
            tx.rollback().await?;
            return Ok(None);
        }
        // under the lock: what was read before may be older than what another server recorded meanwhile
        if let Err(error) = self.keyring().refresh() {
            tracing::debug!(%error, "the keyring cannot be read; what is known of it is recorded");
        }
        let keys: Vec<(String, KeyInfo)> =
            self.keyring().keys().into_iter().map(|key| (subject(&key), key)).collect();
        let subjects: Vec<&str> = keys.iter().map(|(subject, _)| subject.as_str()).collect();
        let known: BTreeMap<String, String> =
            tx.rows(KNOWN, &[&project, &ACTION, &subjects]).await?.iter().map(state).collect();
        let is_new = |(subject, key): &&(String, KeyInfo)| {
            known.get(subject).is_none_or(|state| state != key.state.as_str())
        };
        let note =
            |(subject, key): &(String, KeyInfo)| self.audit(&scope, Note::new(ACTION, subject, json!(key)));
        let events: Vec<AuditEvent> = keys.iter().filter(is_new).map(note).collect();
        insert(&mut tx, &scope, &events).await?;
        tx.commit().await?;
        Ok(Some(events.len()))
    }
}

/// The action of these events.
const ACTION: &str = "keyring.change";

fn subject(key: &KeyInfo) -> String {
    format!("keyring/{}/{}", key.name.as_str(), key.id)
}

/// A key's subject and its state as it was recorded last.
fn state(row: &Row) -> (String, String) {
    let body: Value = serde_json::from_str(row.get(1)).unwrap_or_default();
    (row.get(0), body["state"].as_str().unwrap_or_default().to_owned())
}

const LOCK: &str = "SELECT project_id FROM project WHERE project_id = $1 FOR NO KEY UPDATE";

const KNOWN: &str = "
SELECT DISTINCT ON (subject) subject, body FROM audit_event
WHERE project_id = $1 AND action = $2 AND subject = ANY ($3) ORDER BY subject, id DESC";
