-- Runs that wait for the time of their next try. A pending run is in exactly one of queue and timer.

CREATE TABLE run_timer (
  project_id text NOT NULL,
  run_id     uuid NOT NULL,
  kind       text NOT NULL CONSTRAINT run_timer_kind CHECK (kind IN ('retry')),
  due_at     timestamptz NOT NULL,
  epoch      bigint NOT NULL,              -- of the run when the timer was set
  CONSTRAINT run_timer_pkey PRIMARY KEY (project_id, run_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX run_timer_due ON run_timer (project_id, due_at);

ALTER TABLE step_journal DROP CONSTRAINT step_journal_phase, ADD CONSTRAINT step_journal_phase
  CHECK (phase IN ('result', 'reaped', 'released', 'retried'));

CALL protect('run_timer', 'SELECT, INSERT, UPDATE, DELETE');

-- Discovery sees where something is due, never what it is.
CREATE POLICY dispatch ON run_timer FOR SELECT TO awooop_dispatch USING (true);
GRANT SELECT (project_id, due_at) ON run_timer TO awooop_dispatch;

CREATE OR REPLACE FUNCTION awooop.schema_version() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 6::bigint';
