//! Audit events: append-only by privilege, written in the transaction of what they record. Bodies are canonical
//! JSON that went through the redactor, and every row carries a MAC over all of its columns under a key outside
//! the database; there is no other way to make an `AuditEvent`.
//!
//! Seals over the events are made afterwards (`seal`), so that no writer waits for another. What can be found
//! out of it later lies in `search`, `verify` and `prove`; `expire` lets go of what is old enough.

mod expire;
mod keys;
mod row;
mod seal;
mod sealer;
mod search;
mod status;
mod verify;

use awooop_core::RunId;
use awooop_core::audit::{EVENT_FORMAT, Event};
use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

pub use expire::{Expired, Retention};
pub use seal::Sealed;
pub(crate) use sealer::Dirty;
pub use sealer::{Sealer, SealerConfig};
pub use search::{AuditFilter, ProveError};
pub use status::AuditStatus;
pub use verify::VerifyStep;

pub(crate) use row::{EVENT as EVENT_COLUMNS, SEAL as SEAL_COLUMNS};

use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;
use crate::tx::{ProjectTx, storable};

/// Longest subject that is kept, in characters.
const MOST_SUBJECT: usize = 500;

/// What an event says, before it is masked and given its id, time and MAC.
#[derive(Debug, Clone)]
pub struct Note {
    /// What happened, such as `run.create`.
    pub action: &'static str,
    /// What it was done to, such as `run/…`.
    pub subject: String,
    /// The run it is about.
    pub run_id: Option<RunId>,
    /// Its W3C trace.
    pub trace_id: Option<String>,
    /// More about it.
    pub body: Value,
}

impl Note {
    /// A note about something that is no run.
    pub fn new(action: &'static str, subject: impl Into<String>, body: Value) -> Self {
        Self { action, subject: subject.into(), run_id: None, trace_id: None, body }
    }

    /// A note about a run.
    pub(crate) fn of_run(action: &'static str, run_id: RunId, trace_id: &str, body: Value) -> Self {
        let subject = format!("run/{run_id}");
        Self { action, subject, run_id: Some(run_id), trace_id: Some(trace_id.to_owned()), body }
    }
}

/// One event, ready to be inserted. Every column is covered by the MAC: a statement that inserts one has to
/// write exactly these.
#[derive(Debug, Clone)]
pub(crate) struct AuditEvent {
    pub(crate) id: Uuid,
    pub(crate) at: Timestamp,
    pub(crate) actor: String,
    pub(crate) action: &'static str,
    pub(crate) subject: String,
    pub(crate) run_id: Option<RunId>,
    pub(crate) trace_id: Option<String>,
    pub(crate) body: String,
    pub(crate) key_id: String,
    pub(crate) mac: Vec<u8>,
}

impl Store {
    /// Makes an event's row as of now.
    pub(crate) fn audit(&self, scope: &ProjectScope, note: Note) -> AuditEvent {
        self.audit_at(scope, self.inner.clock.now(), note)
    }

    /// The same for something that happened, as its other rows say, at this time.
    pub(crate) fn audit_at(&self, scope: &ProjectScope, at: Timestamp, note: Note) -> AuditEvent {
        let body = self.known_redactors(scope.project()).observed.clean_json(note.body);
        let id = self.inner.clock.new_id();
        let body = awooop_core::json::canonical(body.as_value());
        let (key_id, mac) = self.inner.keyring.audit_mac(|key_id| {
            let event = Event {
                action: note.action.into(),
                actor: scope.actor().into(),
                at_us: at.as_microsecond(),
                body: (&body).into(),
                id,
                key_id: key_id.into(),
                mac: Vec::new(),
                project: scope.project().as_str().into(),
                run_id: note.run_id,
                subject: (&note.subject).into(),
                trace_id: note.trace_id.as_deref().map(Into::into),
                format: EVENT_FORMAT.into(),
            };
            event.statement()
        });
        self.inner.dirty.mark(scope.project());
        let Note { action, subject, run_id, trace_id, .. } = note;
        AuditEvent {
            id,
            at,
            actor: scope.actor().to_owned(),
            action,
            subject,
            run_id,
            trace_id,
            body,
            key_id,
            mac,
        }
    }

    /// Records something that changed no other row, such as a refused call.
    pub async fn record_event(
        &self,
        scope: &ProjectScope,
        action: &'static str,
        subject: &str,
        run_id: Option<RunId>,
        body: Value,
    ) -> Result<(), StoreError> {
        let note = Note { run_id, ..Note::new(action, subject, body) };
        self.record_events(scope, vec![note]).await
    }

    /// Records several such things in one transaction.
    pub async fn record_events(&self, scope: &ProjectScope, notes: Vec<Note>) -> Result<(), StoreError> {
        let observed = &self.redactors(scope).await?.observed;
        let clean = |note: Note| {
            let subject = storable(&note.subject).chars().take(MOST_SUBJECT).collect::<String>();
            let subject = observed.clean(subject).into_inner();
            self.audit(scope, Note { subject, ..note })
        };
        let events: Vec<AuditEvent> = notes.into_iter().map(clean).collect();
        let columns = Columns::of(&events);
        self.once(scope, INSERT, &columns.params(&scope.project().as_str())).await?;
        Ok(())
    }
}

/// The line of an exported event, of a row with [`EVENT_COLUMNS`].
pub(crate) fn row_line_of_event(row: &tokio_postgres::Row) -> Vec<u8> {
    row::event(row).line()
}

/// The line of an exported seal, of a row with [`SEAL_COLUMNS`].
pub(crate) fn row_line_of_seal(row: &tokio_postgres::Row) -> String {
    row::seal(row).line()
}

/// Inserts events in a transaction whose other rows named them.
pub(crate) async fn insert(
    tx: &mut ProjectTx,
    scope: &ProjectScope,
    events: &[AuditEvent],
) -> Result<(), StoreError> {
    if !events.is_empty() {
        let columns = Columns::of(events);
        tx.rows(INSERT, &columns.params(&scope.project().as_str())).await?;
    }
    Ok(())
}

/// Events by column.
pub(crate) struct Columns<'a> {
    ids: Vec<Uuid>,
    ats: Vec<Timestamp>,
    actors: Vec<&'a str>,
    actions: Vec<&'a str>,
    subjects: Vec<&'a str>,
    runs: Vec<Option<RunId>>,
    traces: Vec<Option<&'a str>>,
    bodies: Vec<&'a str>,
    keys: Vec<&'a str>,
    macs: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    pub(crate) fn of(events: &'a [AuditEvent]) -> Self {
        Self {
            ids: events.iter().map(|e| e.id).collect(),
            ats: events.iter().map(|e| e.at).collect(),
            actors: events.iter().map(|e| e.actor.as_str()).collect(),
            actions: events.iter().map(|e| e.action).collect(),
            subjects: events.iter().map(|e| e.subject.as_str()).collect(),
            runs: events.iter().map(|e| e.run_id).collect(),
            traces: events.iter().map(|e| e.trace_id.as_deref()).collect(),
            bodies: events.iter().map(|e| e.body.as_str()).collect(),
            keys: events.iter().map(|e| e.key_id.as_str()).collect(),
            macs: events.iter().map(|e| e.mac.as_slice()).collect(),
        }
    }

    /// The parameters of [`INSERT`].
    pub(crate) fn params<'b>(&'b self, project: &'b &'b str) -> [&'b (dyn ToSql + Sync); 11] {
        [
            project,
            &self.ids,
            &self.ats,
            &self.actors,
            &self.actions,
            &self.subjects,
            &self.runs,
            &self.traces,
            &self.bodies,
            &self.keys,
            &self.macs,
        ]
    }
}

pub(crate) const INSERT: &str = "
INSERT INTO audit_event (project_id, id, at, actor, action, subject, run_id, trace_id, body, key_id, mac)
SELECT $1, e.* FROM unnest($2::uuid[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::uuid[], $8::text[],
  $9::text[], $10::text[], $11::bytea[]) AS e";
