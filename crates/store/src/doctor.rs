//! What must hold of the rows, checked on a live database: the walls between projects, and in each
//! project the invariants of runs and money. The fault tests call this after every fault.

use crate::error::StoreError;
use crate::pool::Store;
use crate::scope::ProjectScope;

/// One thing that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The project, or none for the database itself.
    pub project: Option<String>,
    /// What does not hold, in a sentence.
    pub message: String,
}

impl Store {
    /// Checks the walls and everything in every project. An empty list is good news. How deletions stand is asked on its own:
    /// one that waits is nothing wrong.
    ///
    /// # Errors
    /// The database's.
    pub async fn examine(&self) -> Result<Vec<Finding>, StoreError> {
        let mut found = self.examine_walls().await?;
        found.extend(self.examine_projects().await?);
        Ok(found)
    }

    /// Checks everything in every project.
    ///
    /// # Errors
    /// The database's.
    pub async fn examine_projects(&self) -> Result<Vec<Finding>, StoreError> {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let page = self.project_ids(&after, 200).await?;
            let Some(last) = page.last() else { return Ok(found) };
            after = last.to_string();
            for project in page {
                let scope = ProjectScope::new(project, "platform/doctor");
                found.extend(self.examine_project(&scope).await?);
            }
        }
    }

    async fn examine_project(&self, scope: &ProjectScope) -> Result<Vec<Finding>, StoreError> {
        let rows = self.once(scope, INVARIANTS, &[&scope.project().as_str()]).await?;
        let project = Some(scope.project().to_string());
        let finding = |row: &tokio_postgres::Row| Finding { project: project.clone(), message: row.get(0) };
        let mut found: Vec<Finding> = rows.iter().map(finding).collect();
        found.extend(self.examine_contracts(scope).await?);
        Ok(found)
    }
}

const INVARIANTS: &str = "
WITH r AS (SELECT run_id, state, lease_id, lease_epoch FROM run_state WHERE project_id = $1),
q AS (SELECT run_id, count(*) AS n FROM (SELECT run_id FROM run_queue WHERE project_id = $1
    UNION ALL SELECT run_id FROM run_timer WHERE project_id = $1) d GROUP BY run_id),
l AS (SELECT lease_id, run_ids FROM run_lease WHERE project_id = $1)
SELECT 'run ' || r.run_id || ' is pending and neither queued nor waiting for its time, or both' FROM r LEFT JOIN q USING (run_id)
  WHERE r.state = 'pending' AND coalesce(q.n, 0) <> 1
UNION ALL
SELECT 'run ' || r.run_id || ' is ' || r.state || ' and still queued, or waiting for a time' FROM r JOIN q USING (run_id)
  WHERE r.state NOT IN ('pending', 'waiting_approval', 'waiting_tool')
UNION ALL
SELECT 'run ' || r.run_id || ' is ' || r.state || ' and not waiting for exactly one ' || CASE r.state
    WHEN 'pending' THEN 'next try' WHEN 'waiting_tool' THEN 'result' ELSE 'approval' END
  FROM r LEFT JOIN run_timer t ON t.project_id = $1 AND t.run_id = r.run_id
  WHERE r.state IN ('waiting_approval', 'waiting_tool') AND t.kind IS DISTINCT FROM
      CASE r.state WHEN 'waiting_tool' THEN 'result' ELSE 'approval' END
    OR r.state = 'pending' AND t.kind NOT IN ('retry', 'halt')
    OR r.state IN ('waiting_approval', 'waiting_tool') AND EXISTS
      (SELECT FROM run_queue k WHERE k.project_id = $1 AND k.run_id = r.run_id)
UNION ALL
SELECT 'run ' || r.run_id || ' is ' || r.state || ' and has ' || count(a.approval_id) || ' approvals that are pending'
  FROM r LEFT JOIN approval a ON a.project_id = $1 AND a.run_id = r.run_id AND a.state = 'pending'
  GROUP BY r.run_id, r.state HAVING count(a.approval_id) <> CASE r.state WHEN 'waiting_approval' THEN 1 ELSE 0 END
UNION ALL
SELECT 'a queue or timer row names a run that does not exist: ' || q.run_id FROM q LEFT JOIN r USING (run_id)
  WHERE r.run_id IS NULL
UNION ALL
SELECT 'run ' || r.run_id || ' is running under a lease that does not list it' FROM r
  WHERE r.state = 'running' AND NOT EXISTS
    (SELECT FROM l WHERE l.lease_id = r.lease_id AND r.run_id = ANY (l.run_ids))
UNION ALL
SELECT 'the budget says ' || b.held || ' held, its holds say ' || coalesce(h.amount, 0)
  FROM budget b LEFT JOIN (SELECT sum(amount) AS amount FROM budget_hold WHERE project_id = $1) h ON true
  WHERE b.project_id = $1 AND b.held <> coalesce(h.amount, 0)
UNION ALL
SELECT 'the budget says ' || b.settled || ' settled, its ledger says ' || coalesce(e.amount, 0)
  FROM budget b LEFT JOIN (SELECT sum(amount) AS amount FROM budget_ledger WHERE project_id = $1) e ON true
  WHERE b.project_id = $1 AND b.settled <> coalesce(e.amount, 0)
UNION ALL
SELECT 'contract ' || c.kind || '/' || c.id || ' has no active version ' || c.active_version
  FROM contract c WHERE c.project_id = $1 AND c.active_version IS NOT NULL AND NOT EXISTS (SELECT FROM contract_version v
    WHERE v.project_id = $1 AND v.kind = c.kind AND v.id = c.id AND v.version = c.active_version AND v.state = 'active')
UNION ALL
SELECT v.kind || '/' || v.id || '@' || v.version || ' says it is active, and its contract says otherwise'
  FROM contract_version v JOIN contract c ON c.project_id = $1 AND c.kind = v.kind AND c.id = v.id
  WHERE v.project_id = $1 AND v.state = 'active' AND c.active_version IS DISTINCT FROM v.version
UNION ALL
SELECT v.kind || '/' || v.id || '@' || v.version || ' says it is a draft, and was published'
  FROM contract_version v WHERE v.project_id = $1 AND v.state = 'draft' AND v.signature IS NOT NULL
UNION ALL
SELECT 'the signature of ' || s.signer || ' under ' || s.kind || '/' || s.id || '@' || s.version
    || ' says it was not used, and the version is active by it'
  FROM contract_signature s JOIN contract c ON c.project_id = $1 AND c.kind = s.kind AND c.id = s.id
  WHERE s.project_id = $1 AND s.act = 'activate' AND s.used_at IS NULL AND c.active_version = s.version
    AND s.signed_at <= c.activated_at
LIMIT 200";
