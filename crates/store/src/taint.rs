//! Has a run read what nobody vouches for? The answer is the journal's: each tool's result says when it is recorded
//! whether its output is trusted, and no row of the journal is ever changed. So the answer outlives a worker that died,
//! and a contract that trusts a tool from now on does not wash what was read before.

use awooop_core::RunId;
use awooop_core::approval::Taint;

use crate::claim::ClaimedRun;
use crate::error::StoreError;
use crate::pool::Store;

impl Store {
    /// The first step by which the run, or else its nearest ancestor, read untrusted output. What was refused, answered in
    /// shadow or withheld is not the tool's word and does not count.
    ///
    /// # Errors
    /// The database's.
    pub async fn taint_of(&self, run: &ClaimedRun) -> Result<Option<Taint>, StoreError> {
        let rows = self.once(run.scope(), TAINT, &[&run.scope().project().as_str(), &run.run_id]).await?;
        Ok(rows.first().map(|row| {
            let of: RunId = row.get(0);
            Taint { n: row.get(1), tool: row.get(2), of_ancestor: (of != run.run_id).then_some(of) }
        }))
    }
}

const TAINT: &str = "
WITH RECURSIVE f AS (   -- the run and its ancestors
  SELECT run_id, parent_run_id, 0 AS up FROM run_state WHERE project_id = $1 AND run_id = $2
  UNION ALL
  SELECT r.run_id, r.parent_run_id, f.up + 1 FROM f
  JOIN run_state r ON r.project_id = $1 AND r.run_id = f.parent_run_id)
SELECT f.run_id, j.n, j.name FROM f
CROSS JOIN LATERAL (SELECT n, name FROM step_journal WHERE project_id = $1 AND run_id = f.run_id AND n > 0
  AND kind = 'tool' AND phase = 'result' AND NOT is_trusted ORDER BY n LIMIT 1) j
ORDER BY f.up LIMIT 1";
