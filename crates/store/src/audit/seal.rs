//! Sealing: the events of one project that no seal holds yet, in order of their ids, become leaves of a tree
//! whose root is chained to the seal before and signed. Writers know nothing of it.
//!
//! One sealer a project at a time: an advisory lock that lives as long as the transaction, and behind it the key
//! `(project_id, n)`. What is read is read under the lock, and everything is one transaction, so that a sealer
//! that is killed has sealed nothing. A row whose MAC is not its writer's is never sealed: it is left out,
//! logged once, and counted.

use std::collections::HashSet;

use awooop_core::ProjectId;
use awooop_core::audit::{Event, Head, NO_SEAL, Seal, WINDOW_US, id_bytes, id_time_us, ids, merkle};
use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::row;
use crate::error::StoreError;
use crate::keyring::SignatureProblem;
use crate::pool::Store;
use crate::scope::ProjectScope;
use crate::tx::ProjectTx;

/// Events that are looked at in one go, and so the most that one seal holds.
const PAGE: i64 = 8192;

/// What one pass over a project did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Events that were sealed.
    pub events: usize,
    /// Of them, events that came after the sealer had looked for the last time.
    pub late: usize,
    /// Events that nobody with the key wrote; they stay without a seal.
    pub forged: Vec<Uuid>,
    /// The newest seal, where one was made.
    pub head: Option<Head>,
    /// Did another sealer have the project?
    pub is_busy: bool,
}

/// The newest seal, as far as the next one needs it.
struct Last {
    n: i64,
    hash: [u8; 32],
    total: i64,
}

impl Store {
    /// Seals what is unsealed among the events with ids from `from` on. `ignored` are rows that are known to be
    /// forged.
    ///
    /// # Errors
    /// The database's. What was sealed before stays sealed.
    pub async fn seal(
        &self,
        project: &ProjectId,
        from: Uuid,
        ignored: &HashSet<Uuid>,
    ) -> Result<Sealed, StoreError> {
        self.seal_in(&ProjectScope::new(project.clone(), "platform/sealer"), from, ignored).await
    }

    /// The same in a scope.
    pub(crate) async fn seal_in(
        &self,
        scope: &ProjectScope,
        from: Uuid,
        ignored: &HashSet<Uuid>,
    ) -> Result<Sealed, StoreError> {
        let (mut from, mut done) = (from, Sealed::default());
        loop {
            let page = self.unsealed_ids(scope, from).await?;
            let is_new = page.unsealed.iter().any(|id| !ignored.contains(id) && !done.forged.contains(id));
            if is_new && !self.seal_page(scope, from, ignored, &mut done).await? {
                done.is_busy = true;
                return Ok(done);
            }
            match page.next {
                Some(next) => from = next,
                None => return Ok(done),
            }
        }
    }

    /// Seals what is unsealed of one page. False when another sealer has the project.
    async fn seal_page(
        &self,
        scope: &ProjectScope,
        from: Uuid,
        ignored: &HashSet<Uuid>,
        done: &mut Sealed,
    ) -> Result<bool, StoreError> {
        let project = scope.project().as_str();
        let mut tx = self.begin(scope).await?;
        let lock = "SELECT pg_try_advisory_xact_lock(hashtextextended('awooop.audit_seal/' || $1, 0))";
        if !tx.rows(lock, &[&project]).await?.first().is_some_and(|row| row.get(0)) {
            tx.rollback().await?;
            return Ok(false);
        }
        let events = tx.rows(PAGE_IDS, &[&project, &from, &PAGE]).await?;
        let sealed = sealed_beside(&mut tx, project, &events).await?;
        let page = Page::of(&events, &sealed);
        let wanted: Vec<Uuid> = page.unsealed.into_iter().filter(|id| !ignored.contains(id)).collect();
        let sql = format!(
            "SELECT {} FROM audit_event WHERE project_id = $1 AND id = ANY ($2) ORDER BY id",
            row::EVENT
        );
        let rows = tx.rows(&sql, &[&project, &wanted]).await?;
        let mut genuine = Vec::with_capacity(rows.len());
        for event in rows.iter().map(row::event) {
            match self.judge(&event) {
                Ok(()) => genuine.push(event),
                Err(problem) => {
                    tracing::error!(project, event = %event.id, %problem, "an audit event is forged: it is not sealed");
                    done.forged.push(event.id);
                }
            }
        }
        let is_late = |event: &Event<'_>| {
            id_time_us(event.id) < self.inner.clock.now().as_microsecond().saturating_sub(WINDOW_US)
        };
        let (late, on_time): (Vec<_>, Vec<_>) = genuine.into_iter().partition(is_late);
        for (events, is_late) in [(on_time, false), (late, true)] {
            if let Some(seal) = self.append(&mut tx, scope, &events, is_late).await? {
                done.events += events.len();
                done.late += if is_late { events.len() } else { 0 };
                done.head = Some(seal.head());
            }
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Is the row what its writer's MAC says?
    pub(crate) fn judge(&self, event: &Event<'_>) -> Result<(), SignatureProblem> {
        self.inner.keyring.check_audit_mac(&event.key_id, &event.statement(), &event.mac)
    }

    /// Appends one seal; none for no events.
    async fn append(
        &self,
        tx: &mut ProjectTx,
        scope: &ProjectScope,
        events: &[Event<'_>],
        is_late: bool,
    ) -> Result<Option<Seal>, StoreError> {
        if events.is_empty() {
            return Ok(None);
        }
        let project = scope.project().as_str();
        let rows = tx.rows(LAST_SEAL, &[&project]).await?;
        let last = rows.first().map_or(Last { n: 0, hash: NO_SEAL, total: 0 }, last);
        let sealed_at = self.inner.clock.now();
        let seal = self.make(project, &last, events, is_late, sealed_at);
        let (event_ids, leaves) = (id_bytes(&seal.event_ids), seal.leaves.concat());
        let (first_id, last_id) = (seal.event_ids.first(), seal.event_ids.last());
        tx.rows(
            APPEND,
            &[
                &project,
                &seal.n,
                &event_ids,
                &leaves,
                &first_id,
                &last_id,
                &seal.count,
                &seal.total,
                &seal.root.as_slice(),
                &seal.prev_hash.as_slice(),
                &seal.hash.as_slice(),
                &sealed_at,
                &seal.is_late,
                &seal.key_id,
                &seal.signature,
            ],
        )
        .await?;
        Ok(Some(seal))
    }

    /// The next seal, signed.
    fn make(&self, project: &str, last: &Last, events: &[Event<'_>], is_late: bool, at: Timestamp) -> Seal {
        let leaves: Vec<_> = events.iter().map(Event::leaf).collect();
        let count = i32::try_from(events.len()).expect("a page is much smaller");
        let mut seal = Seal {
            project: project.to_owned(),
            n: last.n + 1,
            event_ids: events.iter().map(|event| event.id).collect(),
            count,
            total: last.total + i64::from(count),
            root: merkle::root(&leaves),
            leaves,
            prev_hash: last.hash,
            hash: NO_SEAL,
            sealed_at_us: at.as_microsecond(),
            is_late,
            key_id: String::new(),
            signature: Vec::new(),
        };
        let mut statement = Vec::new();
        seal.signature = self.inner.keyring.sign_seal(|key_id| {
            key_id.clone_into(&mut seal.key_id);
            statement = seal.statement();
            statement.clone()
        });
        seal.hash = awooop_core::json::sha256(&statement);
        seal
    }

    /// Ids on one page from `from` on that no seal holds; forged ones are among them.
    pub(super) async fn unsealed_ids(&self, scope: &ProjectScope, from: Uuid) -> Result<Page, StoreError> {
        let project = scope.project().as_str();
        let events = self.once(scope, PAGE_IDS, &[&project, &from, &PAGE]).await?;
        let Some((first, last)) = ends(&events) else { return Ok(Page::default()) };
        let seals = self.once(scope, SEALS_BESIDE, &[&project, &first, &last]).await?;
        Ok(Page::of(&events, &sealed_ids(&seals)))
    }

    /// The project's newest seal.
    pub async fn audit_head(&self, scope: &ProjectScope) -> Result<Option<Head>, StoreError> {
        let sql =
            format!("SELECT {} FROM audit_seal WHERE project_id = $1 ORDER BY n DESC LIMIT 1", row::SEAL);
        let rows = self.once(scope, &sql, &[&scope.project().as_str()]).await?;
        Ok(rows.first().map(|row| row::seal(row).head()))
    }
}

/// A page of ids.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Those without a seal.
    pub(super) unsealed: Vec<Uuid>,
    /// Where the next page begins, unless this was the last.
    pub(super) next: Option<Uuid>,
}

impl Page {
    fn of(events: &[Row], sealed: &HashSet<Uuid>) -> Self {
        let ids = events.iter().map(|row| row.get::<_, Uuid>(0));
        let unsealed = ids.filter(|id| !sealed.contains(id)).collect();
        let is_full = i64::try_from(events.len()).unwrap_or(PAGE) >= PAGE;
        let next = ends(events)
            .filter(|_| is_full)
            .map(|(_, last)| Uuid::from_u128(last.as_u128().saturating_add(1)));
        Self { unsealed, next }
    }
}

fn ends(events: &[Row]) -> Option<(Uuid, Uuid)> {
    Some((events.first()?.get(0), events.last()?.get(0)))
}

async fn sealed_beside(
    tx: &mut ProjectTx,
    project: &str,
    events: &[Row],
) -> Result<HashSet<Uuid>, StoreError> {
    let Some((first, last)) = ends(events) else { return Ok(HashSet::new()) };
    Ok(sealed_ids(&tx.rows(SEALS_BESIDE, &[&project, &first, &last]).await?))
}

fn sealed_ids(seals: &[Row]) -> HashSet<Uuid> {
    seals.iter().flat_map(|row| ids(row.get(0)).unwrap_or_default()).collect()
}

/// The row of [`LAST_SEAL`].
fn last(row: &Row) -> Last {
    Last { n: row.get(0), hash: row.get::<_, &[u8]>(1).try_into().unwrap_or(NO_SEAL), total: row.get(2) }
}

const PAGE_IDS: &str = "SELECT id FROM audit_event WHERE project_id = $1 AND id >= $2 ORDER BY id LIMIT $3";

const SEALS_BESIDE: &str =
    "SELECT event_ids FROM audit_seal WHERE project_id = $1 AND last_id >= $2 AND first_id <= $3";

const LAST_SEAL: &str = "SELECT n, hash, total FROM audit_seal WHERE project_id = $1 ORDER BY n DESC LIMIT 1";

const APPEND: &str = "
INSERT INTO audit_seal (project_id, n, event_ids, leaves, first_id, last_id, event_count, total, root, prev_hash, hash,
  sealed_at, is_late, key_id, signature)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
