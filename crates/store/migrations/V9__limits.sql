-- How many runs may be under way or wait, and each project's share of a worker's slots.

ALTER TABLE project
  ADD COLUMN weight           smallint NOT NULL DEFAULT 1 CONSTRAINT project_weight CHECK (weight BETWEEN 1 AND 100),
  ADD COLUMN max_running_runs integer CONSTRAINT project_max_running_runs CHECK (max_running_runs > 0),   -- NULL: no limit
  ADD COLUMN max_queued_runs  integer CONSTRAINT project_max_queued_runs CHECK (max_queued_runs > 0);     -- NULL: no limit

-- Materialised from the active agent contracts that name a concurrency.
CREATE TABLE agent_cap (
  project_id          text NOT NULL,
  agent_id            text NOT NULL,
  max_running_runs    integer NOT NULL CONSTRAINT agent_cap_max_running_runs CHECK (max_running_runs > 0),
  contract_version_id uuid NOT NULL,
  CONSTRAINT agent_cap_pkey PRIMARY KEY (project_id, agent_id)
);

-- A claim under caps goes from agent to agent, past those that have no room, however many runs of theirs wait.
CREATE INDEX run_queue_agent ON run_queue (project_id, agent_id, priority, run_id);

CALL protect('agent_cap', 'SELECT, INSERT, UPDATE, DELETE');

-- Discovery shares slots by weight.
GRANT SELECT (weight) ON project TO awooop_dispatch;

CREATE OR REPLACE FUNCTION awooop.schema_version() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 9::bigint';
