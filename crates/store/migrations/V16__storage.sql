-- How much a project may have stored, and how much it had when that was last counted.

ALTER TABLE project
  ADD COLUMN max_storage_bytes  bigint CONSTRAINT project_max_storage_bytes CHECK (max_storage_bytes > 0),  -- NULL: no limit
  ADD COLUMN stored_bytes       bigint,        -- NULL: never counted
  ADD COLUMN storage_counted_at timestamptz,
  ADD COLUMN storage_due_at     timestamptz;   -- when it is counted next; NULL: without a limit it is not

CREATE INDEX project_storage_due ON project (project_id, storage_due_at) WHERE storage_due_at IS NOT NULL;

-- Discovery finds whose storage is to be counted.
GRANT SELECT (storage_due_at) ON project TO awooop_dispatch;

CREATE OR REPLACE FUNCTION awooop.schema_version() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 16::bigint';
