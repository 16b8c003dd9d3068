//! A project's scope: the proof that some work acts for exactly one project. Made only from an
//! authenticated caller or from a claimed unit of work, and carried by every task that is spawned.

use std::future::Future;

use awooop_core::ProjectId;
use tracing::Instrument;

pub use crate::service::Service;

/// One project and who acts in it. Without one there is no way to a tenant's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectScope {
    project: ProjectId,
    actor: String,
    is_deleted: bool,
}

impl ProjectScope {
    /// Only this crate makes scopes: from a checked key, or from a row that a worker claimed.
    pub(crate) fn new(project: ProjectId, actor: impl Into<String>) -> Self {
        Self { project, actor: actor.into(), is_deleted: false }
    }

    /// The scope of what deletes a project: the database lets nobody else into one that is being deleted.
    pub(crate) fn of_deleted(project: ProjectId, actor: impl Into<String>) -> Self {
        Self { project, actor: actor.into(), is_deleted: true }
    }

    /// The project everything under this scope belongs to.
    pub fn project(&self) -> &ProjectId {
        &self.project
    }

    /// Is it the scope of what deletes the project?
    pub(crate) fn is_deleted(&self) -> bool {
        self.is_deleted
    }

    /// Who acts, `<project>/<principal>`: what the audit names.
    pub fn actor(&self) -> &str {
        &self.actor
    }
}

/// Spawns a task that carries the scope's span, so that each log line names its project.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns for a project")]
pub fn spawn<F>(scope: &ProjectScope, name: &'static str, future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let span = tracing::info_span!("task", name, project = scope.project.as_str());
    tokio::spawn(future.instrument(span))
}

/// Spawns a task of the node itself, which belongs to no project, not even to that of whoever was the first to need it.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns for the node")]
pub fn spawn_service<F>(service: Service, future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let span = tracing::info_span!(parent: None, "service", name = service.name());
    span.in_scope(|| tracing::trace!("started"));
    tokio::spawn(future.instrument(span))
}
