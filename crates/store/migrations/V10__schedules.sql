-- Schedules, figures, retention of runs.

-- Runs that begin by themselves. A row a schedule of an active agent contract: what the contract says, and, beside it
-- and kept over activations, when it is due and what it started last.

CREATE TABLE schedule (
  project_id          text NOT NULL,
  agent_id            text NOT NULL,
  schedule_id         text NOT NULL,
  contract_version_id uuid NOT NULL,
  spec                text NOT NULL,
  next_at             timestamptz,             -- NULL: switched off
  last_at             timestamptz,             -- when it started its last run
  last_run_id         uuid,
  CONSTRAINT schedule_pkey PRIMARY KEY (project_id, agent_id, schedule_id)
);
CREATE INDEX schedule_due ON schedule (project_id, next_at);

CALL protect('schedule', 'SELECT, INSERT, UPDATE, DELETE');

-- Discovery sees where something is due, never what it is.
CREATE POLICY dispatch ON schedule FOR SELECT TO awooop_dispatch USING (true);
GRANT SELECT (project_id, next_at) ON schedule TO awooop_dispatch;

ALTER TABLE run_state ADD COLUMN schedule_id text CONSTRAINT run_state_schedule
  CHECK (schedule_id IS NULL OR trigger_type = 'schedule');

-- What figures are made of: how much is queued and since when, what is leased, why a run waits. Ids and kinds only.
GRANT SELECT (priority, run_id) ON run_queue TO awooop_dispatch;
GRANT SELECT (kind) ON run_timer TO awooop_dispatch;
ALTER TABLE worker_beat ADD COLUMN slots integer NOT NULL DEFAULT 0, ADD COLUMN slots_used integer NOT NULL DEFAULT 0;

-- What has its time: idempotency keys, which the app role forgets, and runs that ended long ago, whose deletion is
-- the retention role's.
CREATE INDEX idempotency_key_age ON idempotency_key (project_id, created_at);
CREATE POLICY dispatch ON idempotency_key FOR SELECT TO awooop_dispatch USING (true);
GRANT SELECT (project_id, created_at) ON idempotency_key TO awooop_dispatch;

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
  GRANT USAGE ON SCHEMA awooop TO awooop_retention;
  GRANT SELECT (project_id, id), INSERT, DELETE ON awooop.audit_event TO awooop_retention;
  GRANT SELECT (project_id, run_id, completed_at), DELETE ON awooop.run_state TO awooop_retention;
  GRANT SELECT (project_id, run_id), DELETE ON awooop.step_journal TO awooop_retention;
  GRANT SELECT (project_id, call_id, started_at), DELETE ON awooop.mcp_call TO awooop_retention;
  GRANT SELECT (project_id, approval_id, run_id), DELETE ON awooop.approval TO awooop_retention;
  GRANT SELECT (project_id, approval_id), DELETE ON awooop.approval_decision TO awooop_retention;
END $$;
REVOKE ALL ON PROCEDURE awooop.admit_retention() FROM PUBLIC;
CALL admit_retention();

CREATE OR REPLACE FUNCTION awooop.schema_version() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 10::bigint';
