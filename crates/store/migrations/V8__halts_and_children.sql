-- What people hold back, and which runs belong to which.

-- A project was `active` or `paused`, and nothing ever paused one. What is paused or stopped now stands in one table.
ALTER TABLE project DROP COLUMN state;

-- What is held back. A pause lets nothing new begin and what is under way go on; a stop cuts that too. No foreign key
-- and no other row: whoever stops something waits for nobody's lock.
CREATE TABLE halt (
  project_id text NOT NULL,
  kind       text NOT NULL CONSTRAINT halt_kind CHECK (kind IN ('pause', 'stop')),
  target     text NOT NULL CONSTRAINT halt_target CHECK (target IN ('agent', 'project', 'provider', 'tool')),
  name       text NOT NULL,                -- of agent, provider or tool; else empty
  reason     text NOT NULL,                -- masked
  halted_by  text NOT NULL,
  halted_at  timestamptz NOT NULL,
  CONSTRAINT halt_pkey PRIMARY KEY (project_id, kind, target, name),
  CONSTRAINT halt_named CHECK ((name <> '') = (target <> 'project')),
  CONSTRAINT halt_of_runs CHECK (kind = 'stop' OR target IN ('project', 'agent'))
);
CALL protect('halt', 'SELECT, INSERT, UPDATE, DELETE');
-- Discovery sees what is held back, never why or by whom.
CREATE POLICY dispatch ON halt FOR SELECT TO awooop_dispatch USING (true);
GRANT SELECT (project_id, kind, target, name) ON halt TO awooop_dispatch;

-- The operators' stop of everything: at most one row. It holds for every project, so every project reads it; only who
-- acts in the operators' own project writes it.
CREATE TABLE halt_all (
  is_on     boolean NOT NULL DEFAULT true CONSTRAINT halt_all_is_on CHECK (is_on),
  reason    text NOT NULL,                 -- masked
  halted_by text NOT NULL,
  halted_at timestamptz NOT NULL,
  CONSTRAINT halt_all_pkey PRIMARY KEY (is_on)
);
ALTER TABLE halt_all ENABLE ROW LEVEL SECURITY;
ALTER TABLE halt_all FORCE ROW LEVEL SECURITY;
CREATE POLICY everybody ON halt_all FOR SELECT TO awooop_app, awooop_dispatch, awooop_owner USING (true);
CREATE POLICY make ON halt_all FOR INSERT TO awooop_app
  WITH CHECK (current_setting('awooop.project_id', true) = 'platform');
CREATE POLICY lift ON halt_all FOR DELETE TO awooop_app
  USING (current_setting('awooop.project_id', true) = 'platform');
GRANT SELECT, INSERT, DELETE ON halt_all TO awooop_app;
GRANT SELECT (is_on) ON halt_all TO awooop_dispatch;

-- A run that waits for its model's provider to be started again stands in run_timer until its time is over.
ALTER TABLE run_timer DROP CONSTRAINT run_timer_kind, ADD CONSTRAINT run_timer_kind
  CHECK (kind IN ('retry', 'approval', 'result', 'halt'));

-- Neither column changes after the row was made, so updates stay HOT.
ALTER TABLE run_state ADD COLUMN depth smallint NOT NULL DEFAULT 0
  CONSTRAINT run_state_depth CHECK (depth BETWEEN 0 AND 16);
ALTER TABLE run_state ADD CONSTRAINT run_state_child CHECK (parent_run_id IS NOT NULL OR depth = 0);
CREATE INDEX run_state_parent ON run_state (project_id, parent_run_id, run_id) WHERE parent_run_id IS NOT NULL;
CREATE INDEX budget_ledger_run ON budget_ledger (project_id, run_id);

-- Children that may still be open: what a sweep looks at when their parents may have ended. A row is made with the
-- child and taken away some time after the child's end, so that no end of a run has to know of it.
CREATE TABLE run_child (
  project_id    text NOT NULL,
  run_id        uuid NOT NULL,
  parent_run_id uuid NOT NULL,
  CONSTRAINT run_child_pkey PRIMARY KEY (project_id, run_id)
);
CALL protect('run_child', 'SELECT, INSERT, UPDATE, DELETE');
CREATE POLICY dispatch ON run_child FOR SELECT TO awooop_dispatch USING (true);
GRANT SELECT (project_id) ON run_child TO awooop_dispatch;

-- those that were made before
ALTER TABLE run_state NO FORCE ROW LEVEL SECURITY;
ALTER TABLE run_child NO FORCE ROW LEVEL SECURITY;
INSERT INTO run_child (project_id, run_id, parent_run_id)
  SELECT project_id, run_id, parent_run_id FROM run_state WHERE parent_run_id IS NOT NULL AND completed_at IS NULL;
ALTER TABLE run_child FORCE ROW LEVEL SECURITY;
ALTER TABLE run_state FORCE ROW LEVEL SECURITY;

CREATE OR REPLACE FUNCTION awooop.schema_version() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 8::bigint';
