//! Keys and calls that were refused, in the audit of the project they name. A key that no project has leaves no
//! trace there: it says nothing of anybody, and only the log tells of it.
//!
//! A flood of refusals must not fill the disk: of one key or caller and reason at most one event a minute is
//! written, which says how many others there were since the last, and of one project at most
//! [`MOST_PER_MINUTE`]. The event is written beside the answer, so that the answer takes no longer for a key that
//! exists.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use awooop_core::{ErrorCode, ProjectId};
use serde_json::{Value, json};

use crate::pool::Store;
use crate::scope::ProjectScope;

/// Between two events about one key and reason.
const EVERY: Duration = Duration::from_secs(60);
/// Events of one project within [`EVERY`].
const MOST_PER_MINUTE: u32 = 60;
/// Keys that are remembered; beyond it all are forgotten and counted anew.
const MOST_KEYS: usize = 10_000;

/// Why a key was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The id is a key's or a person's, the secret or subject is not, or the row was changed.
    WrongSecret,
    /// It was revoked.
    Revoked,
    /// Its time is over.
    Expired,
    /// Its principal is disabled.
    Disabled,
    /// Its principal has no role, or one that nobody granted.
    NoRole,
}

impl Refused {
    fn as_str(self) -> &'static str {
        match self {
            Refused::WrongSecret => "wrong_secret",
            Refused::Revoked => "revoked",
            Refused::Expired => "expired",
            Refused::Disabled => "disabled",
            Refused::NoRole => "no_role",
        }
    }
}

/// What was refused lately in this process.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    keys: HashMap<(ProjectId, String, &'static str), (Instant, u64)>,
    projects: HashMap<ProjectId, (Instant, u32)>,
}

impl Refusals {
    /// Is an event to be written now, and how many refusals of the same kind were left out since the last one?
    fn admit(&self, project: &ProjectId, who: &str, reason: &'static str) -> Option<u64> {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.keys.len() >= MOST_KEYS {
            recent.keys.clear();
        }
        let key = (project.clone(), who.to_owned(), reason);
        let left_out = match recent.keys.get_mut(&key) {
            Some((at, left_out)) if at.elapsed() < EVERY => {
                *left_out += 1;
                return None;
            }
            Some((_, left_out)) => *left_out,
            None => 0,
        };
        let (since, written) = recent.projects.entry(project.clone()).or_insert((Instant::now(), 0));
        if since.elapsed() >= EVERY {
            (*since, *written) = (Instant::now(), 0);
        }
        if *written >= MOST_PER_MINUTE {
            return None;
        }
        *written += 1;
        recent.keys.insert(key, (Instant::now(), 0));
        Some(left_out)
    }
}

impl Store {
    /// Records, beside the answer, that a key of this project was refused.
    pub(crate) fn refuse_key(&self, project: &ProjectId, key_id: &str, reason: Refused) {
        let scope = ProjectScope::new(project.clone(), "platform/nobody");
        let Some(left_out) = self.inner.refusals.admit(project, key_id, reason.as_str()) else { return };
        let said = json!({"reason": reason.as_str(), "left_out": left_out});
        self.record_beside(scope, "key.refuse", format!("key/{key_id}"), said);
    }

    /// Records, beside the answer, that a person who signed in was refused.
    pub(crate) fn refuse_person(&self, project: &ProjectId, id: &str, reason: Refused) {
        let scope = ProjectScope::new(project.clone(), "platform/nobody");
        let Some(left_out) = self.inner.refusals.admit(project, id, reason.as_str()) else { return };
        let said = json!({"reason": reason.as_str(), "left_out": left_out});
        self.record_beside(scope, "principal.refuse", format!("principal/{id}"), said);
    }

    /// Records, beside the answer, that a caller was refused what their key does not allow.
    pub fn note_refused_call(&self, scope: &ProjectScope, operation: &str, code: ErrorCode) {
        let who = format!("{} {operation}", scope.actor());
        let Some(left_out) = self.inner.refusals.admit(scope.project(), &who, code.as_str()) else { return };
        let said = json!({"code": code, "left_out": left_out});
        self.record_beside(scope.clone(), "call.refuse", format!("operation/{operation}"), said);
    }

    fn record_beside(&self, inside: ProjectScope, action: &'static str, subject: String, said: Value) {
        let (store, scope) = (self.clone(), inside.clone());
        let write = async move {
            if let Err(error) = store.record_event(&inside, action, &subject, None, said).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "a refusal could not be recorded");
            }
        };
        // nobody waits for it: an answer that took longer would tell that the key exists
        drop(crate::scope::spawn(&scope, action, write));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_a_few_events() {
        let (refusals, project) = (Refusals::default(), ProjectId::parse("shop").unwrap());
        let admitted = (0..1000).filter(|_| refusals.admit(&project, "k", "wrong_secret").is_some());
        assert_eq!(admitted.count(), 1);
        let many = (0..1000).filter(|i| refusals.admit(&project, &i.to_string(), "revoked").is_some());
        assert_eq!(many.count(), 59, "together with the first, a minute's worth");
        let other = ProjectId::parse("other").unwrap();
        assert!(refusals.admit(&other, "k", "expired").is_some());
    }
}
