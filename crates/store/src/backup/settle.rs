//! What follows a restore: events that nobody had sealed at the moment of the backup are sealed, the restore is
//! recorded in the platform's audit, and every project's audit is checked from its first event to its last.

use std::time::Duration;

use awooop_core::ProjectId;
use awooop_core::audit::WINDOW_US;
use serde_json::json;
use tokio::sync::mpsc;

use super::manifest::Manifest;
use crate::audit::{Note, Sealer, SealerConfig, VerifyStep};
use crate::doctor::Finding;
use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;

/// Findings of one project that are told.
const MOST_TOLD: usize = 100;

/// What a check of every audit came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// Projects whose audit was checked.
    pub projects: u64,
    /// Their events that verified.
    pub events: u64,
    /// What does not hold, the first 100 of each project.
    pub findings: Vec<Finding>,
}

impl Store {
    /// Seals, records and checks a database that was just restored, before any server works on it.
    ///
    /// # Errors
    /// The database's.
    pub async fn settle_restore(&self, manifest: &Manifest) -> Result<Settled, StoreError> {
        let platform = ProjectScope::new(ProjectId::platform(), "platform/restore");
        let said = json!({"taken_at": manifest.taken_at, "by_version": manifest.product_version,
            "schema_version": manifest.schema_version, "projects": manifest.projects});
        self.record_events(&platform, vec![Note::new("platform.restore", "platform", said)]).await?;
        self.seal_since(manifest).await;
        let (mut settled, mut after) = (Settled::default(), String::new());
        loop {
            let page = self.project_ids(&after, 200).await?;
            let Some(last) = page.last() else { return Ok(settled) };
            after = last.to_string();
            for project in page {
                self.check_audit(project, &mut settled).await?;
            }
        }
    }

    /// Seals what was written within an event's window before the backup, and since.
    async fn seal_since(&self, manifest: &Manifest) {
        let age = self.inner.clock.now().duration_since(manifest.taken_at);
        let age = Duration::try_from(age).unwrap_or_default();
        let window = Duration::from_micros(WINDOW_US.unsigned_abs());
        Sealer::new(self.clone(), SealerConfig::default()).sweep(Some(age + 2 * window)).await;
    }

    async fn check_audit(&self, project: ProjectId, settled: &mut Settled) -> Result<(), StoreError> {
        let scope = ProjectScope::new(project, "platform/restore");
        let (to, mut from) = mpsc::channel(16);
        let checking = async {
            let checked = self.verify_audit(&scope, &[], &to).await;
            drop(to);
            checked
        };
        let mut told = Vec::new();
        let listening = async {
            while let Some(step) = from.recv().await {
                match step {
                    VerifyStep::Found(one) if told.len() < MOST_TOLD => told.push(one.message),
                    VerifyStep::Done(report) => settled.events += report.verified,
                    VerifyStep::Found(_) | VerifyStep::Progress(_) => {}
                }
            }
        };
        let (checked, ()) = futures::join!(checking, listening);
        checked?;
        settled.projects += 1;
        let project = scope.project().to_string();
        settled
            .findings
            .extend(told.into_iter().map(|message| Finding { project: Some(project.clone()), message }));
        Ok(())
    }
}
