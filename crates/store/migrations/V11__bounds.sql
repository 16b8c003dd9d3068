-- What a sweep costs grows with what it finds, and not with what there is.

-- A sweep goes from parent to parent, whatever the number of their children.
CREATE INDEX run_child_parent ON run_child (project_id, parent_run_id, run_id);

-- Queued runs whose time is over. A queue's row is made and deleted, never updated.
CREATE INDEX run_queue_timeout ON run_queue (project_id, timeout_at);

-- Since when a schedule that is due waits for room in its project's queue; NULL: it does not.
ALTER TABLE schedule ADD COLUMN put_off_at timestamptz;

-- A child's row goes with its run.
CREATE OR REPLACE PROCEDURE awooop.admit_retention() LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'awooop_retention') THEN
    RETURN;
  END IF;
  ALTER POLICY tenant ON awooop.audit_event TO awooop_app, awooop_owner, awooop_retention;
  ALTER POLICY tenant ON awooop.run_state TO awooop_app, awooop_owner, awooop_retention;
  ALTER POLICY tenant ON awooop.step_journal TO awooop_app, awooop_owner, awooop_retention;
  ALTER POLICY tenant ON awooop.mcp_call TO awooop_app, awooop_owner, awooop_retention;
  ALTER POLICY tenant ON awooop.approval TO awooop_app, awooop_owner, awooop_retention;
  ALTER POLICY tenant ON awooop.approval_decision TO awooop_app, awooop_owner, awooop_retention;
  ALTER POLICY tenant ON awooop.run_child TO awooop_app, awooop_owner, awooop_retention;
  GRANT USAGE ON SCHEMA awooop TO awooop_retention;
  GRANT SELECT (project_id, id), INSERT, DELETE ON awooop.audit_event TO awooop_retention;
  GRANT SELECT (project_id, run_id, completed_at), DELETE ON awooop.run_state TO awooop_retention;
  GRANT SELECT (project_id, run_id), DELETE ON awooop.step_journal TO awooop_retention;
  GRANT SELECT (project_id, call_id, started_at), DELETE ON awooop.mcp_call TO awooop_retention;
  GRANT SELECT (project_id, approval_id, run_id), DELETE ON awooop.approval TO awooop_retention;
  GRANT SELECT (project_id, approval_id), DELETE ON awooop.approval_decision TO awooop_retention;
  GRANT SELECT (project_id, run_id), DELETE ON awooop.run_child TO awooop_retention;
END $$;
REVOKE ALL ON PROCEDURE awooop.admit_retention() FROM PUBLIC;
CALL admit_retention();

CREATE OR REPLACE FUNCTION awooop.schema_version() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 11::bigint';
