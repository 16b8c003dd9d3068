//! Looking things up in the audit: pages of events, exports, and proofs.

use awooop_core::RunId;
use awooop_core::audit::{Event, Proof, SEAL_FORMAT, Seal, SealStatement, first_id_at};
use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::row::{self, Micros};
use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;

/// Most seals between an event and the head that its proof leads to.
const MOST_CHAIN: i64 = 10_000;

/// Which events.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only by this actor, `<project>/<principal>`.
    pub actor: Option<String>,
    /// Only this action.
    pub action: Option<String>,
    /// Only this subject.
    pub subject: Option<String>,
    /// Only about this run.
    pub run_id: Option<RunId>,
    /// Not before this time.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// Only events older than this one.
    pub before: Option<Uuid>,
    /// How many at most.
    pub limit: i64,
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// There is no such event, or no longer.
    #[error("there is no such event here")]
    Absent,
    /// No seal holds it yet.
    #[error("the event is in no seal yet; a seal is made about once a second")]
    Unsealed,
    /// The head does not come after the event's seal, or too long after, or seals between them are gone.
    #[error(
        "there is no unbroken way of at most {MOST_CHAIN} seals from seal {from}, which holds the event, to seal {to}"
    )]
    NoWay {
        /// The event's seal.
        from: i64,
        /// The head that was asked for.
        to: i64,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Events that fit the filter, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn search_audit(
        &self,
        scope: &ProjectScope,
        filter: &AuditFilter,
    ) -> Result<Vec<Event<'static>>, StoreError> {
        let sql = format!(
            "SELECT {} FROM audit_event WHERE project_id = $1 AND id < $2 AND id >= $3
               AND ($4::text IS NULL OR actor = $4) AND ($5::text IS NULL OR action = $5)
               AND ($6::text IS NULL OR subject = $6) AND ($7::uuid IS NULL OR run_id = $7)
               AND ($8::timestamptz IS NULL OR at >= $8) AND ($9::timestamptz IS NULL OR at < $9)
             ORDER BY id DESC LIMIT $10",
            row::EVENT
        );
        // an id is made at about the event's time: this bounds what is read, `at` decides
        let around = |at: Timestamp, by: i64| first_id_at(at.as_microsecond().saturating_add(by));
        let oldest = filter.since.map_or(Uuid::nil(), |at| around(at, -SLACK_US));
        let newest = filter.until.map_or(Uuid::max(), |at| around(at, SLACK_US));
        let before = filter.before.map_or(newest, |before| before.min(newest));
        let params: crate::tx::Params<'_> = &[
            &scope.project().as_str(),
            &before,
            &oldest,
            &filter.actor,
            &filter.action,
            &filter.subject,
            &filter.run_id,
            &filter.since,
            &filter.until,
            &filter.limit,
        ];
        let rows = self.once(scope, &sql, params).await?;
        Ok(rows.iter().map(|row| row::event(row).into_owned()).collect())
    }

    /// Events after `after` in the order of their ids, for an export.
    ///
    /// # Errors
    /// The database's.
    pub async fn export_events(
        &self,
        scope: &ProjectScope,
        after: Uuid,
        limit: i64,
    ) -> Result<Vec<Event<'static>>, StoreError> {
        let sql = format!(
            "SELECT {} FROM audit_event WHERE project_id = $1 AND id > $2 ORDER BY id LIMIT $3",
            row::EVENT
        );
        let rows = self.once(scope, &sql, &[&scope.project().as_str(), &after, &limit]).await?;
        Ok(rows.iter().map(|row| row::event(row).into_owned()).collect())
    }

    /// Seals after number `after` in their order, for an export.
    ///
    /// # Errors
    /// The database's.
    pub async fn export_seals(
        &self,
        scope: &ProjectScope,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Seal>, StoreError> {
        let sql = format!(
            "SELECT {} FROM audit_seal WHERE project_id = $1 AND n > $2 ORDER BY n LIMIT $3",
            row::SEAL
        );
        let rows = self.once(scope, &sql, &[&scope.project().as_str(), &after, &limit]).await?;
        Ok(rows.iter().map(row::seal).collect())
    }

    /// The proof that an event is in its seal; with `to`, the number of a head, also that its seal leads there.
    ///
    /// # Errors
    /// See [`ProveError`].
    pub async fn prove_event(
        &self,
        scope: &ProjectScope,
        id: Uuid,
        to: Option<i64>,
    ) -> Result<Proof, ProveError> {
        let project = scope.project().as_str();
        let sql = format!("SELECT {} FROM audit_event WHERE project_id = $1 AND id = $2", row::EVENT);
        let rows = self.once(scope, &sql, &[&project, &id]).await?;
        let event = row::event(rows.first().ok_or(ProveError::Absent)?);
        let sql = format!(
            "SELECT {} FROM audit_seal WHERE project_id = $1 AND first_id <= $2 AND last_id >= $2
               AND position($3::bytea IN event_ids) > 0 ORDER BY n",
            row::SEAL
        );
        let seals = self.once(scope, &sql, &[&project, &id, &id.as_bytes().as_slice()]).await?;
        let seal = seals.iter().map(row::seal).find(|seal| seal.event_ids.contains(&id));
        let seal = seal.ok_or(ProveError::Unsealed)?;
        let chain = match to {
            None => Vec::new(),
            Some(to) if to < seal.n || to - seal.n > MOST_CHAIN => {
                return Err(ProveError::NoWay { from: seal.n, to });
            }
            Some(to) => {
                let chain = self.statements(scope, seal.n, to).await?;
                if i64::try_from(chain.len()) != Ok(to - seal.n) {
                    return Err(ProveError::NoWay { from: seal.n, to });
                }
                chain
            }
        };
        let keys = self.inner.keyring.audit_public_keys();
        Proof::new(&event, &seal, chain, &keys).ok_or(ProveError::Unsealed)
    }

    /// What the seals after `from`, up to `to`, say.
    async fn statements(
        &self,
        scope: &ProjectScope,
        from: i64,
        to: i64,
    ) -> Result<Vec<SealStatement>, StoreError> {
        let project = scope.project().as_str();
        let rows = self.once(scope, STATEMENTS, &[&project, &from, &to]).await?;
        let read = |row: &Row| SealStatement {
            count: row.get(1),
            event_ids_sha256: row.get(2),
            format: SEAL_FORMAT.to_owned(),
            key_id: row.get(3),
            late: row.get(4),
            n: row.get(0),
            prev_hash: row.get(5),
            project: project.to_owned(),
            root: row.get(6),
            sealed_at_us: row.get::<_, Micros>(7).0,
            total: row.get(8),
        };
        Ok(rows.iter().map(read).collect())
    }
}

/// Ids and times of one event are made one after the other, by one clock.
const SLACK_US: i64 = 600_000_000;

const STATEMENTS: &str = "
SELECT n, event_count, encode(sha256(event_ids), 'hex'), key_id, is_late, encode(prev_hash, 'hex'), encode(root, 'hex'),
  sealed_at, total
FROM audit_seal WHERE project_id = $1 AND n > $2 AND n <= $3 ORDER BY n";
