-- Runs that wait for people or for a result, and effects that are announced before they are made. A waiting run is in
-- neither queue nor lease and has exactly one timer: whoever deletes it moves the run.

ALTER TABLE run_timer DROP CONSTRAINT run_timer_kind, ADD CONSTRAINT run_timer_kind
  CHECK (kind IN ('retry', 'approval', 'result'));
ALTER TABLE step_journal DROP CONSTRAINT step_journal_phase, ADD CONSTRAINT step_journal_phase
  CHECK (phase IN ('intent', 'result', 'reaped', 'released', 'retried', 'parked', 'resumed'));
ALTER TABLE step_journal DROP CONSTRAINT step_journal_status, ADD CONSTRAINT step_journal_status
  CHECK (status IN ('ok', 'error', 'refused', 'stub', 'open'));

CREATE TABLE approval (
  project_id    text NOT NULL,
  approval_id   uuid NOT NULL,
  run_id        uuid NOT NULL,
  n             integer NOT NULL,          -- the step
  epoch         bigint NOT NULL,           -- of the run while it waits
  kind          text NOT NULL CONSTRAINT approval_kind CHECK (kind IN ('call', 'outcome')),
  state         text NOT NULL CONSTRAINT approval_state CHECK (state IN
    ('pending', 'approved', 'denied', 'expired', 'withdrawn', 'consumed')),
  agent_id      text NOT NULL,
  tool          text NOT NULL,             -- full name
  risk          text NOT NULL CONSTRAINT approval_risk CHECK (risk IN ('read_only', 'write')),
  arguments     text NOT NULL,             -- JSON, exactly what the tool would get
  action_sha256 text NOT NULL,
  asked_by      text NOT NULL,             -- mode suggest | policy <id> | outcome unknown
  needed        smallint NOT NULL CONSTRAINT approval_needed CHECK (needed BETWEEN 1 AND 10),
  requested_at  timestamptz NOT NULL,
  expires_at    timestamptz NOT NULL,
  decided_at    timestamptz,
  execute_by    timestamptz,               -- of an approved one
  reason        text,                      -- of whoever decided
  CONSTRAINT approval_pkey PRIMARY KEY (project_id, approval_id),
  CONSTRAINT approval_decided CHECK ((decided_at IS NULL) = (state = 'pending'))
);
CREATE INDEX approval_step ON approval (project_id, run_id, n);
CREATE INDEX approval_inbox ON approval (project_id, approval_id) WHERE state = 'pending';

CREATE TABLE approval_decision (
  project_id  text NOT NULL,
  approval_id uuid NOT NULL,
  person      text NOT NULL,               -- people are counted, not keys
  decision    text NOT NULL CONSTRAINT approval_decision_decision CHECK (decision IN ('approve', 'deny', 'record')),
  reason      text,
  actor       text NOT NULL,               -- <project>/<principal>
  decided_at  timestamptz NOT NULL,
  CONSTRAINT approval_decision_pkey PRIMARY KEY (project_id, approval_id, person),
  CONSTRAINT approval_decision_approval_fkey FOREIGN KEY (project_id, approval_id)
    REFERENCES approval (project_id, approval_id)
);

CALL protect('approval', 'SELECT, INSERT, UPDATE');
CALL protect('approval_decision', 'SELECT, INSERT');

CREATE OR REPLACE FUNCTION awooop.schema_version() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 7::bigint';
