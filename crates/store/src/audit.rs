//! Audit events: append-only by privilege, written in the transaction of what they record. Bodies are
//! canonical JSON that went through the redactor; there is no other way to make an `AuditEvent`.

use awooop_core::RunId;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;
use crate::tx::storable;

/// One event, ready to be inserted.
pub(crate) struct AuditEvent {
    pub(crate) id: Uuid,
    pub(crate) at: Timestamp,
    pub(crate) actor: String,
    pub(crate) body: String,
}

impl Store {
    /// Makes an event's row: id, time, actor and the masked body.
    pub(crate) fn audit(&self, scope: &ProjectScope, body: Value) -> AuditEvent {
        let body = self.known_redactors(scope.project()).observed.clean_json(body);
        AuditEvent {
            id: self.inner.clock.new_id(),
            at: self.inner.clock.now(),
            actor: scope.actor().to_owned(),
            body: awooop_core::json::canonical(body.as_value()),
        }
    }

    /// Records something that changed no other row, such as a refused call.
    pub async fn record_event(
        &self,
        scope: &ProjectScope,
        action: &str,
        subject: &str,
        run_id: Option<RunId>,
        body: Value,
    ) -> Result<(), StoreError> {
        let observed = &self.redactors(scope).await?.observed;
        let event = self.audit(scope, body);
        let subject = observed.clean(storable(subject).chars().take(500).collect::<String>());
        self.once(
            scope,
            "INSERT INTO audit_event (project_id, id, at, actor, action, subject, run_id, body)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            &[
                &scope.project().as_str(),
                &event.id,
                &event.at,
                &event.actor,
                &action,
                &subject.as_str(),
                &run_id,
                &event.body,
            ],
        )
        .await?;
        Ok(())
    }
}
