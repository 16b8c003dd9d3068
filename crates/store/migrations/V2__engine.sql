-- The run engine. run_state is the cold truth: no index on a column that changes on the hot path, so
-- that updates stay HOT. run_queue holds only what is due; run_lease has one row per claimed batch.

CREATE TABLE run_state (
  project_id       text NOT NULL,
  run_id           uuid NOT NULL,
  state            text NOT NULL CONSTRAINT run_state_state CHECK (state IN
    ('pending', 'running', 'waiting_approval', 'waiting_tool', 'completed', 'failed', 'cancelled', 'timeout')),
  agent_id         text NOT NULL,
  agent_version_id uuid NOT NULL,
  mode             text NOT NULL CONSTRAINT run_state_mode CHECK (mode IN ('shadow', 'suggest', 'live')),
  priority         smallint NOT NULL CONSTRAINT run_state_priority CHECK (priority BETWEEN 0 AND 9),
  trace_id         text NOT NULL,
  parent_run_id    uuid,
  trigger_type     text NOT NULL CONSTRAINT run_state_trigger CHECK (trigger_type IN
    ('channel_event', 'schedule', 'api', 'sub_agent', 'retry')),
  triggered_by     text NOT NULL,
  attempt          integer NOT NULL DEFAULT 0,
  max_attempts     integer NOT NULL,
  lease_epoch      bigint NOT NULL DEFAULT 0,
  lease_id         uuid,
  worker_id        text,
  created_at       timestamptz NOT NULL,
  started_at       timestamptz,
  completed_at     timestamptz,
  timeout_at       timestamptz NOT NULL,
  error_code       text,
  error_message    text,
  input            text NOT NULL,          -- JSON, masked for credentials
  input_sha256     text NOT NULL,          -- over the RFC 8785 form as received
  output           text,
  output_sha256    text,
  CONSTRAINT run_state_pkey PRIMARY KEY (project_id, run_id),
  CONSTRAINT run_state_ended CHECK ((completed_at IS NOT NULL) = (state IN ('completed', 'failed', 'cancelled', 'timeout'))),
  CONSTRAINT run_state_error CHECK ((error_code IS NOT NULL) = (state IN ('failed', 'timeout'))),
  CONSTRAINT run_state_lease CHECK ((lease_id IS NOT NULL) = (state = 'running'))
) WITH (fillfactor = 50);

CREATE TABLE run_queue (
  project_id text NOT NULL,
  priority   smallint NOT NULL,
  run_id     uuid NOT NULL,
  agent_id   text NOT NULL,
  timeout_at timestamptz NOT NULL,
  CONSTRAINT run_queue_pkey PRIMARY KEY (project_id, priority, run_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE run_lease (
  project_id  text NOT NULL,
  lease_id    uuid NOT NULL,
  worker_id   text NOT NULL,
  incarnation bigint NOT NULL,
  deadline_at timestamptz NOT NULL,        -- earliest timeout_at of its runs
  dirty       boolean NOT NULL DEFAULT false,
  run_ids     uuid[] NOT NULL,
  CONSTRAINT run_lease_pkey PRIMARY KEY (project_id, lease_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

-- The only log of a run, append-only. n goes on over epochs, so a step cut and done again keeps its
-- number and key and a second result is refused by the primary key. Reaps are rows with n = -epoch.
CREATE TABLE step_journal (
  project_id      text NOT NULL,
  run_id          uuid NOT NULL,
  n               integer NOT NULL,
  phase           text NOT NULL CONSTRAINT step_journal_phase CHECK (phase IN ('result', 'reaped', 'released')),
  epoch           bigint NOT NULL,
  kind            text NOT NULL CONSTRAINT step_journal_kind CHECK (kind IN ('llm', 'tool', 'state')),
  name            text NOT NULL,           -- the model or the tool's full name
  idempotency_key text NOT NULL,           -- <run_id>:<n>
  status          text NOT NULL CONSTRAINT step_journal_status CHECK (status IN ('ok', 'error', 'refused', 'stub')),
  code            text,
  started_at      timestamptz NOT NULL,
  duration_ms     bigint NOT NULL,
  body            text NOT NULL,           -- JSON {input, output, usage, gates}, masked
  CONSTRAINT step_journal_pkey PRIMARY KEY (project_id, run_id, n, phase)
);

CREATE TABLE idempotency_key (
  project_id     text NOT NULL,
  principal      text NOT NULL,
  key            text NOT NULL,
  request_sha256 text NOT NULL,
  run_id         uuid NOT NULL,
  created_at     timestamptz NOT NULL,
  CONSTRAINT idempotency_key_pkey PRIMARY KEY (project_id, principal, key)
);

-- One row per worker, never per run. Global and unlogged: it holds nothing of a tenant and may be lost.
CREATE UNLOGGED TABLE worker_beat (
  worker_id   text NOT NULL,
  incarnation bigint NOT NULL,
  first_at    timestamptz NOT NULL,        -- since when this row lives: a crash of PostgreSQL empties the table
  beat_at     timestamptz NOT NULL,
  CONSTRAINT worker_beat_pkey PRIMARY KEY (worker_id)
);

CALL protect('run_state', 'SELECT, INSERT, UPDATE');
CALL protect('run_queue', 'SELECT, INSERT, UPDATE, DELETE');
CALL protect('run_lease', 'SELECT, INSERT, UPDATE, DELETE');
CALL protect('step_journal', 'SELECT, INSERT');
CALL protect('idempotency_key', 'SELECT, INSERT, DELETE');

-- Discovery sees where work lies and what is due, never what it is.
CREATE POLICY dispatch ON run_queue FOR SELECT TO awooop_dispatch USING (true);
GRANT SELECT (project_id, timeout_at) ON run_queue TO awooop_dispatch;
CREATE POLICY dispatch ON run_lease FOR SELECT TO awooop_dispatch USING (true);
GRANT SELECT (project_id, lease_id, worker_id, incarnation, deadline_at) ON run_lease TO awooop_dispatch;
GRANT SELECT, INSERT, UPDATE, DELETE ON worker_beat TO awooop_dispatch;

CREATE OR REPLACE FUNCTION awooop.schema_version() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 2::bigint';
