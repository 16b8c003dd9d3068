//! Checking a project's audit where it lies: one snapshot, read page by page, each page fetched while the one
//! before it is checked. What is found is handed on as it is found.

use std::collections::VecDeque;

use awooop_core::audit::{Anchor, Report, Seal, Tampering, Verifier};
use tokio::sync::mpsc::Sender;
use tokio_postgres::Row;
use uuid::Uuid;

use super::row;
use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;
use crate::tx::ProjectTx;

/// Events of one page.
const EVENTS: i64 = 4000;
/// Seals of one page: at most some megabytes.
const SEALS: i64 = 16;
/// Findings that are handed on one by one; more are only counted.
const MOST_TOLD: usize = 10_000;

/// What a check tells.
#[derive(Debug, Clone)]
pub enum VerifyStep {
    /// Something is not as it was.
    Found(Tampering),
    /// So many events were read.
    Progress(u64),
    /// The end.
    Done(Report),
}

impl Store {
    /// Checks the whole audit of a project, with every seal and every event, and against heads that were kept.
    /// Ends early when nobody listens any more.
    ///
    /// # Errors
    /// The database's.
    pub async fn verify_audit(
        &self,
        scope: &ProjectScope,
        heads: &[Anchor],
        to: &Sender<VerifyStep>,
    ) -> Result<(), StoreError> {
        let keys = self.inner.keyring.audit_public_keys();
        let now = self.inner.clock.now().as_microsecond();
        let project = scope.project().as_str();
        let tx = self.begin_snapshot(scope).await?;
        let mut verifier = Verifier::new(project, &keys, heads, Some(now));
        let mut seals = Seals { tx: &tx, project, read: VecDeque::new(), last: 0, has_more: true };
        let mut told = 0;
        let mut rows = events(&tx, project, Uuid::nil()).await?;
        while let Some(last) = rows.last().map(|row| row.get::<_, Uuid>(0)) {
            // the next page is on its way while this one is checked
            let (next, ()) = futures::try_join!(
                events(&tx, project, last),
                check_page(self, &mut verifier, &mut seals, &rows)
            )?;
            if !tell(&mut verifier, &mut told, to).await {
                return tx.rollback().await;
            }
            rows = next;
        }
        while let Some(seal) = seals.next().await? {
            verifier.seal(&seal);
            if !tell(&mut verifier, &mut told, to).await {
                return tx.rollback().await;
            }
        }
        tx.rollback().await?;
        let (found, report) = verifier.finish();
        // whoever left needs no more of it
        for one in found.into_iter().take(MOST_TOLD.saturating_sub(told)) {
            let _ = to.send(VerifyStep::Found(one)).await;
        }
        let _ = to.send(VerifyStep::Done(report)).await;
        Ok(())
    }
}

/// The seals in their order, read as they are asked for.
struct Seals<'a> {
    tx: &'a ProjectTx,
    project: &'a str,
    read: VecDeque<Seal>,
    last: i64,
    has_more: bool,
}

impl Seals<'_> {
    async fn next(&mut self) -> Result<Option<Seal>, StoreError> {
        if self.read.is_empty() && self.has_more {
            let sql = format!(
                "SELECT {} FROM audit_seal WHERE project_id = $1 AND n > $2 ORDER BY n LIMIT $3",
                row::SEAL
            );
            let rows = self.tx.rows_beside(&sql, &[&self.project, &self.last, &SEALS]).await?;
            self.has_more = i64::try_from(rows.len()).unwrap_or(SEALS) >= SEALS;
            self.read.extend(rows.iter().map(row::seal));
            self.last = self.read.back().map_or(self.last, |seal| seal.n);
        }
        Ok(self.read.pop_front())
    }
}

async fn events(tx: &ProjectTx, project: &str, after: Uuid) -> Result<Vec<Row>, StoreError> {
    let sql = format!(
        "SELECT {} FROM audit_event WHERE project_id = $1 AND id > $2 ORDER BY id LIMIT $3",
        row::EVENT
    );
    tx.rows_beside(&sql, &[&project, &after, &EVENTS]).await
}

async fn check_page(
    store: &Store,
    verifier: &mut Verifier<'_>,
    seals: &mut Seals<'_>,
    rows: &[Row],
) -> Result<(), StoreError> {
    for event in rows.iter().map(row::event) {
        while verifier.needs_seal(event.id) {
            let Some(seal) = seals.next().await? else { break };
            verifier.seal(&seal);
        }
        verifier.event(&event, &event.line(), || Some(store.judge(&event).is_ok()));
    }
    Ok(())
}

/// Hands on what was found. False when nobody listens any more.
async fn tell(verifier: &mut Verifier<'_>, told: &mut usize, to: &Sender<VerifyStep>) -> bool {
    for one in verifier.take_found() {
        *told += 1;
        if *told <= MOST_TOLD && to.send(VerifyStep::Found(one)).await.is_err() {
            return false;
        }
    }
    to.send(VerifyStep::Progress(verifier.events())).await.is_ok()
}
