//! The sealer's loop, in every process that writes events. About once a second it seals the projects that this
//! process wrote to; every few seconds those in which discovery sees events after the newest seal, which other
//! or killed processes left; once a minute it looks back over the whole window in which an event may still become
//! visible; at its start and once an hour over a day, for what came later still.
//!
//! What fails for one project is logged and keeps no other waiting. Nobody waits for it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use awooop_core::ProjectId;
use awooop_core::audit::{Head, WINDOW_US, first_id_at};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Sealed;
use crate::error::StoreError;
use crate::pool::Store;

/// Forged rows that are remembered, so that each is told once.
const MOST_FORGED: usize = 100_000;
/// Projects of one look at what discovery sees.
const PROJECTS: i64 = 500;

/// The sealer's times.
#[derive(Debug, Clone)]
pub struct SealerConfig {
    /// Between two rounds.
    pub every: Duration,
    /// How far a round looks back in a project that this process wrote to.
    pub look_back: Duration,
    /// Between two looks at what other processes left.
    pub discover_every: Duration,
    /// Between two looks over the whole window.
    pub window_every: Duration,
    /// Between two looks over [`SealerConfig::far`].
    pub far_every: Duration,
    /// How far back the farthest look goes. What is older is named by a check of the whole audit.
    pub far: Duration,
}

impl Default for SealerConfig {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(1),
            look_back: Duration::from_secs(5),
            discover_every: Duration::from_secs(5),
            window_every: Duration::from_secs(60),
            far_every: Duration::from_secs(3600),
            far: Duration::from_secs(26 * 3600),
        }
    }
}

/// What a process knows of its own audit: projects it wrote to, heads that were made and not yet taken, counts.
#[derive(Default)]
pub(crate) struct Dirty {
    projects: Mutex<HashMap<ProjectId, Instant>>,
    heads: Mutex<BTreeMap<String, Head>>,
    has_heads: Notify,
    counts: Mutex<Counts>,
}

/// Since this process began.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Events that were sealed.
    pub sealed: u64,
    /// Of them, late ones.
    pub late: u64,
    /// Seals that were made.
    pub seals: u64,
    /// Rows that nobody with the key wrote.
    pub forged: u64,
    /// Times a chain was not the one that this process had seen before.
    pub rewritten: u64,
}

impl Dirty {
    /// An event of this project was made and will be committed soon.
    pub(crate) fn mark(&self, project: &ProjectId) {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        match projects.get_mut(project) {
            Some(at) => *at = Instant::now(),
            None => drop(projects.insert(project.clone(), Instant::now())),
        }
    }

    /// Projects that were marked, and forgets those whose last mark is older than `kept`: their events are
    /// committed by now, or discovery finds them.
    fn due(&self, kept: Duration) -> Vec<ProjectId> {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        let due = projects.keys().cloned().collect();
        projects.retain(|_, at| at.elapsed() < kept);
        due
    }

    fn forget(&self, project: &ProjectId) {
        self.projects.lock().unwrap_or_else(PoisonError::into_inner).remove(project);
    }

    fn count(&self, with: impl FnOnce(&mut Counts)) {
        with(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn offer(&self, head: Head) {
        let mut heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        heads.insert(head.seal.project.clone(), head);
        self.has_heads.notify_one();
    }
}

impl Store {
    /// What this process has sealed and seen since it began.
    pub fn audit_counts(&self) -> Counts {
        *self.inner.dirty.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for new heads and takes them: the newest of each project that got a seal since the last call.
    pub async fn new_heads(&self) -> Vec<Head> {
        loop {
            let heads =
                std::mem::take(&mut *self.inner.dirty.heads.lock().unwrap_or_else(PoisonError::into_inner));
            if !heads.is_empty() {
                return heads.into_values().collect();
            }
            self.inner.dirty.has_heads.notified().await;
        }
    }

    /// Projects after `after`, in their order, whose events reach beyond their newest seal, with the first such
    /// event; those with any event from `since` on too.
    pub(super) async fn projects_to_seal(
        &self,
        after: &str,
        since: Option<Uuid>,
    ) -> Result<Vec<(ProjectId, Uuid)>, StoreError> {
        let rows = self.system(DISCOVER, &[&after, &since, &PROJECTS]).await?;
        let read = |row: &tokio_postgres::Row| {
            let project = ProjectId::parse(row.get(0)).map_err(|e| StoreError::Corrupt(e.to_string()))?;
            Ok((project, row.get(1)))
        };
        rows.iter().map(read).collect()
    }
}

/// See the module.
pub struct Sealer {
    store: Store,
    config: SealerConfig,
    forged: HashMap<ProjectId, HashSet<Uuid>>,
    seen: HashMap<ProjectId, (i64, String)>,
}

impl Sealer {
    /// A sealer over this store.
    pub fn new(store: Store, config: SealerConfig) -> Self {
        Self { store, config, forged: HashMap::new(), seen: HashMap::new() }
    }

    /// Seals until `stop`, and once more then, so that a clean stop leaves nothing unsealed.
    pub async fn run(mut self, stop: CancellationToken) {
        let config = self.config.clone();
        let (mut discover, mut window, mut far) = (None, None, None);
        while !stop.is_cancelled() {
            self.round().await;
            let sweeps = [
                (&mut far, config.far_every, Some(config.far)),
                (&mut window, config.window_every, Some(window_of_events())),
                (&mut discover, config.discover_every, None),
            ];
            for (last, every, back) in sweeps {
                if last.is_none_or(|at: Instant| at.elapsed() >= every) {
                    *last = Some(Instant::now());
                    self.sweep(back).await;
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(config.every) => {}
            }
        }
        self.round().await;
    }

    /// One round over the projects that this process wrote to. Returns how many events were sealed.
    pub async fn round(&mut self) -> usize {
        let (look_back, mut sealed) = (self.config.look_back, 0);
        for project in self.store.inner.dirty.due(look_back) {
            let from = self.id_before(look_back);
            sealed += self.seal(&project, from).await;
        }
        sealed
    }

    /// One look at every project in which discovery sees unsealed events, or any at all this far back. Returns
    /// how many events were sealed.
    pub async fn sweep(&mut self, back: Option<Duration>) -> usize {
        let since = back.map(|back| self.id_before(back));
        let (mut after, mut sealed) = (String::new(), 0);
        loop {
            let found = match self.store.projects_to_seal(&after, since).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the sealer cannot see what is unsealed"
                    );
                    return sealed;
                }
            };
            for (project, first) in &found {
                sealed += self.seal(project, *first).await;
            }
            match found.last() {
                Some((last, _)) => after = last.to_string(),
                None => return sealed,
            }
        }
    }

    fn id_before(&self, back: Duration) -> Uuid {
        let back = i64::try_from(back.as_micros()).unwrap_or(i64::MAX);
        first_id_at(self.store.clock().now().as_microsecond().saturating_sub(back))
    }

    async fn seal(&mut self, project: &ProjectId, from: Uuid) -> usize {
        let known = self.forged.entry(project.clone()).or_default();
        match self.store.seal(project, from, known).await {
            Ok(done) => {
                known.extend(done.forged.iter().take(MOST_FORGED.saturating_sub(known.len())));
                self.note(project, &done);
                done.events
            }
            // whoever deletes it seals it for the last time
            Err(StoreError::Deleted) => {
                self.store.inner.dirty.forget(project);
                0
            }
            Err(error) => {
                let (error, project) = (&error as &dyn std::error::Error, project.as_str());
                tracing::warn!(error, project, "a project's audit could not be sealed");
                0
            }
        }
    }

    fn note(&mut self, project: &ProjectId, done: &Sealed) {
        let late = done.late as u64;
        if late > 0 {
            tracing::warn!(
                project = project.as_str(),
                late,
                "audit events came after their time and are sealed as late"
            );
        }
        let Some(head) = &done.head else {
            return self.store.inner.dirty.count(|c| c.forged += done.forged.len() as u64);
        };
        let before = self.seen.insert(project.clone(), (head.seal.n, head.hash.clone()));
        // a chain that this process has seen longer was cut meanwhile
        let is_cut = before.is_some_and(|(n, _)| head.seal.n <= n);
        if is_cut {
            tracing::error!(project = project.as_str(), "seals of the audit are gone that were there before");
        }
        self.store.inner.dirty.count(|c| {
            c.sealed += done.events as u64;
            c.late += late;
            c.seals += 1;
            c.forged += done.forged.len() as u64;
            c.rewritten += u64::from(is_cut);
        });
        self.store.inner.dirty.offer(head.clone());
    }
}

/// How long after its time an event may still become visible.
fn window_of_events() -> Duration {
    Duration::from_micros(WINDOW_US.unsigned_abs())
}

const DISCOVER: &str = "
SELECT p.project_id, u.id FROM project p
CROSS JOIN LATERAL (SELECT coalesce((SELECT s.last_id FROM audit_seal s WHERE s.project_id = p.project_id
  ORDER BY s.last_id DESC LIMIT 1), '00000000-0000-0000-0000-000000000000'::uuid) AS id) l
CROSS JOIN LATERAL (SELECT e.id FROM audit_event e WHERE e.project_id = p.project_id
  AND e.id > least(l.id, $2::uuid) ORDER BY e.id LIMIT 1) u
WHERE p.project_id > $1 AND NOT EXISTS (SELECT FROM project_deletion d WHERE d.project_id = p.project_id)
ORDER BY p.project_id LIMIT $3";
