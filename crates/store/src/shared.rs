//! Reads that many ask for at a time: those that come while one is under way share the next. Each answer was read after
//! it was asked for, so nothing is cached and nothing can be stale; a node with a thousand requests of one key looks
//! the key up a few times, not a thousand.

use std::sync::Arc;

use awooop_core::{ProjectId, RunId};
use tokio_postgres::Row;

use crate::error::StoreError;
use crate::lane::Lanes;
use crate::pool::Store;
use crate::redaction::ProjectRedactors;
use crate::run::{AgentFacts, Run, UsedKey};
use crate::scope::ProjectScope;
use crate::tool::{CallFacts, ModelFacts, ToolFacts};

/// Most callers of one read.
const MOST: usize = 1024;
/// Most rows of one read that each caller asks for its own of.
const MOST_ROWS: usize = 256;

/// Lanes of one read, by the project and what it is about.
pub(crate) type Shared<V> = Lanes<(ProjectId, String), (), Result<V, StoreError>>;

/// Every read that is shared.
pub(crate) struct Reads {
    pub(crate) keys: Shared<Arc<Vec<Row>>>,
    pub(crate) agents: Shared<Option<AgentFacts>>,
    pub(crate) redactors: Shared<Arc<ProjectRedactors>>,
    pub(crate) identities: Shared<CallFacts>,
    pub(crate) tools: Shared<Vec<ToolFacts>>,
    pub(crate) models: Shared<ModelFacts>,
    /// Idempotency keys, by principal and key, several of a project in one read.
    pub(crate) used_keys: Lanes<ProjectId, (String, String), Result<Option<UsedKey>, StoreError>>,
    /// Runs, several of a project in one read.
    pub(crate) runs: Lanes<ProjectId, RunId, Result<Option<Run>, StoreError>>,
}

impl Default for Reads {
    fn default() -> Self {
        Self {
            keys: Lanes::new("keys", MOST),
            agents: Lanes::new("agents", MOST),
            redactors: Lanes::new("redactors", MOST),
            identities: Lanes::new("identities", MOST),
            tools: Lanes::new("tools", MOST),
            models: Lanes::new("models", MOST),
            used_keys: Lanes::new("used keys", MOST_ROWS),
            runs: Lanes::new("runs", MOST_ROWS),
        }
    }
}

impl Store {
    /// The answer of a read that was begun after this call. `read` depends on nothing but the project and `of`.
    pub(crate) async fn share<V, R, F>(
        &self,
        lanes: &Shared<V>,
        scope: &ProjectScope,
        of: &str,
        read: R,
    ) -> Result<V, StoreError>
    where
        V: Clone + Send + 'static,
        R: Fn(Store, ProjectScope) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<V, StoreError>> + Send + 'static,
    {
        let (store, of_project) = (self.clone(), scope.clone());
        let work = move |callers: Vec<()>| {
            let reading = read(store.clone(), of_project.clone());
            async move {
                match reading.await {
                    Ok(value) => callers.iter().map(|()| Ok(value.clone())).collect(),
                    Err(error) => {
                        let mut answers: Vec<_> =
                            callers.iter().skip(1).map(|()| Err(error.again())).collect();
                        answers.push(Err(error));
                        answers
                    }
                }
            }
        };
        let lane = (scope.project().clone(), of.to_owned());
        let answer = lanes.run(scope, lane, (), work).await;
        answer.map_err(|lost| StoreError::Unavailable(Box::new(lost)))?
    }
}
