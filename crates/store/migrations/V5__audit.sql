-- The audit shows tampering: every event carries its writer's MAC over the whole row, and seals carry signed
-- Merkle roots over the events, each chained to the one before it.
--
-- Events of before carry no MAC and cannot be told from forged ones. They stay readable in a table of their own,
-- which nothing writes and no seal covers.

ALTER TABLE audit_event RENAME TO audit_event_before;
ALTER TABLE audit_event_before RENAME CONSTRAINT audit_event_pkey TO audit_event_before_pkey;
REVOKE INSERT ON audit_event_before FROM awooop_app;

CREATE TABLE audit_event (
  project_id text NOT NULL,
  id         uuid NOT NULL,
  at         timestamptz NOT NULL,
  actor      text NOT NULL,                -- <project>/<principal>
  action     text NOT NULL,
  subject    text NOT NULL,
  run_id     uuid,
  trace_id   text,
  body       text NOT NULL,                -- canonical JSON as text: jsonb does not keep the bytes
  key_id     text NOT NULL,                -- the key of `mac`
  mac        bytea NOT NULL,               -- over every other column, by whoever wrote the row
  CONSTRAINT audit_event_pkey PRIMARY KEY (project_id, id)
);
-- ids are ordered by time, so each of these serves pages newest first
CREATE INDEX audit_event_actor ON audit_event (project_id, actor, id);
CREATE INDEX audit_event_action ON audit_event (project_id, action, id);
CREATE INDEX audit_event_subject ON audit_event (project_id, subject, id);
CREATE INDEX audit_event_run ON audit_event (project_id, run_id, id) WHERE run_id IS NOT NULL;

CREATE TABLE audit_seal (
  project_id  text NOT NULL,
  n           bigint NOT NULL CONSTRAINT audit_seal_n CHECK (n > 0),
  event_ids   bytea NOT NULL,              -- 16 bytes each, ascending: the order of the leaves
  leaves      bytea NOT NULL,              -- 32 bytes each, in the same order: so that a changed event has a name
  first_id    uuid NOT NULL,
  last_id     uuid NOT NULL,
  event_count integer NOT NULL,
  total       bigint NOT NULL,             -- events of this seal and all before it
  root        bytea NOT NULL,
  prev_hash   bytea NOT NULL,
  hash        bytea NOT NULL,              -- SHA-256 of what is signed
  sealed_at   timestamptz NOT NULL,
  is_late     boolean NOT NULL,
  key_id      text NOT NULL,
  signature   bytea NOT NULL,
  CONSTRAINT audit_seal_pkey PRIMARY KEY (project_id, n)
);
CREATE INDEX audit_seal_last ON audit_seal (project_id, last_id);
-- random bytes do not compress
ALTER TABLE audit_seal ALTER COLUMN event_ids SET STORAGE EXTERNAL;
ALTER TABLE audit_seal ALTER COLUMN leaves SET STORAGE EXTERNAL;

CALL protect('audit_event', 'SELECT, INSERT');
CALL protect('audit_seal', 'SELECT, INSERT');

-- Discovery sees which projects have events after their newest seal, never what they say.
CREATE POLICY dispatch ON audit_event FOR SELECT TO awooop_dispatch USING (true);
GRANT SELECT (project_id, id) ON audit_event TO awooop_dispatch;
CREATE POLICY dispatch ON audit_seal FOR SELECT TO awooop_dispatch USING (true);
GRANT SELECT (project_id, n, last_id) ON audit_seal TO awooop_dispatch;

-- What the role that expires events may do. It is made by an administrator and may not be there yet:
-- `awooop migrate` calls this each time.
CREATE PROCEDURE awooop.admit_retention() LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'awooop_retention') THEN
    RETURN;
  END IF;
  ALTER POLICY tenant ON awooop.audit_event TO awooop_app, awooop_owner, awooop_retention;
  GRANT USAGE ON SCHEMA awooop TO awooop_retention;
  GRANT SELECT (project_id, id), DELETE ON awooop.audit_event TO awooop_retention;
END $$;
REVOKE ALL ON PROCEDURE awooop.admit_retention() FROM PUBLIC;
CALL admit_retention();

CREATE OR REPLACE FUNCTION awooop.schema_version() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 5::bigint';
