-- Projects that are deleted: nothing of them is served from the statement on that marks them, and the retention role
-- takes their rows away once the operators' audit holds a checkpoint of theirs.

-- One row a project that is being deleted or was. It stays: audit and backups name the id, so nobody gets it again.
CREATE TABLE project_deletion (
  project_id   text NOT NULL,
  state        text NOT NULL CONSTRAINT project_deletion_state CHECK (state IN ('marked', 'erasing', 'deleted')),
  requested_at timestamptz NOT NULL,
  requested_by text NOT NULL,              -- platform/<principal>
  reason       text NOT NULL,              -- masked
  key_id       text NOT NULL,              -- the key of `mac`
  mac          bytea NOT NULL,             -- over all of the above: rows go only by a server's word
  erasing_at   timestamptz,                -- since when rows go
  checkpoint   text,                       -- JSON: what was there, and how the project's audit ended
  deleted_at   timestamptz,
  CONSTRAINT project_deletion_pkey PRIMARY KEY (project_id),
  CONSTRAINT project_deletion_platform CHECK (project_id <> 'platform'),
  CONSTRAINT project_deletion_checkpoint CHECK ((checkpoint IS NULL) = (state = 'marked')
    AND (erasing_at IS NULL) = (state = 'marked') AND (deleted_at IS NULL) = (state <> 'deleted'))
);
CALL protect('project_deletion', 'SELECT, INSERT');
-- Which project, when, by whom and why stays as it was first said.
GRANT UPDATE (state, erasing_at, checkpoint, deleted_at, key_id, mac) ON project_deletion TO awooop_app;
-- Discovery sees which projects go and how far that is, never why or by whom.
CREATE POLICY dispatch ON project_deletion FOR SELECT TO awooop_dispatch USING (true);
GRANT SELECT (project_id, state, requested_at, erasing_at, deleted_at) ON project_deletion TO awooop_dispatch;

-- Mixed into the key of the project's redaction tags: with the row goes the only thing by which they can be made again.
-- Two random UUIDs hold 244 random bits.
ALTER TABLE project ADD COLUMN tag_salt bytea NOT NULL
  DEFAULT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex');

-- Every transaction of a project begins here, so this is where all of them end for a deleted one.
CREATE OR REPLACE FUNCTION awooop.set_project(p text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('SET LOCAL awooop.project_id = %L', p);
  IF EXISTS (SELECT FROM awooop.project_deletion WHERE project_id = p) THEN
    RAISE EXCEPTION 'the project was deleted' USING ERRCODE = 'AWP01';
  END IF;
END $$;

-- The other way in, for what deletes: into such projects only.
CREATE FUNCTION awooop.set_deleted_project(p text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('SET LOCAL awooop.project_id = %L', p);
  IF NOT EXISTS (SELECT FROM awooop.project_deletion WHERE project_id = p) THEN
    RAISE EXCEPTION 'the project is not deleted' USING ERRCODE = 'AWP02';
  END IF;
END $$;

-- What the retention role may do. It is made by an administrator and may not be there yet, and later migrations make
-- further tables: `awooop migrate` calls this each time. Of a project whose rows go it may delete everything, seeing keys
-- of rows and no content; of any other only what ages.
CREATE OR REPLACE PROCEDURE awooop.admit_retention() LANGUAGE plpgsql AS $$
DECLARE
  t record;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'awooop_retention') THEN
    RETURN;
  END IF;
  -- a policy that is changed locks its table: not where it says so already
  FOR t IN
    SELECT tablename AS relname FROM pg_policies
    WHERE schemaname = 'awooop' AND policyname = 'tenant' AND NOT 'awooop_retention' = ANY (roles)
      AND tablename IN ('audit_event', 'run_state', 'step_journal', 'mcp_call', 'approval', 'approval_decision',
        'run_child', 'project_deletion')
    ORDER BY tablename
  LOOP
    EXECUTE format('ALTER POLICY tenant ON awooop.%I TO awooop_app, awooop_owner, awooop_retention', t.relname);
  END LOOP;
  GRANT USAGE ON SCHEMA awooop TO awooop_retention;
  GRANT INSERT ON awooop.audit_event TO awooop_retention;
  GRANT SELECT (project_id, run_id, completed_at) ON awooop.run_state TO awooop_retention;
  GRANT SELECT (project_id, call_id, started_at) ON awooop.mcp_call TO awooop_retention;
  GRANT SELECT (project_id, approval_id, run_id) ON awooop.approval TO awooop_retention;
  GRANT SELECT (project_id, state) ON awooop.project_deletion TO awooop_retention;
  FOR t IN
    SELECT c.relname, c.relname IN ('audit_event', 'run_state', 'step_journal', 'mcp_call', 'approval',
        'approval_decision', 'run_child') AS ages,
      (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.n)
       FROM pg_index i, unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, n)
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
       WHERE i.indrelid = c.oid AND i.indisprimary) AS keys
    FROM pg_class c
    WHERE c.relnamespace = 'awooop'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> 'project_deletion'
      AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'project_id')
    ORDER BY c.relname
  LOOP
    EXECUTE format('GRANT SELECT (%s), DELETE ON awooop.%I TO awooop_retention', t.keys, t.relname);
    IF NOT t.ages AND NOT EXISTS (SELECT FROM pg_policies
        WHERE schemaname = 'awooop' AND tablename = t.relname AND policyname = 'deletion') THEN
      EXECUTE format('CREATE POLICY deletion ON awooop.%I FOR ALL TO awooop_retention
        USING (project_id = current_setting(''awooop.project_id'', true)
          AND EXISTS (SELECT FROM awooop.project_deletion d
            WHERE d.project_id = current_setting(''awooop.project_id'', true) AND d.state = ''erasing''))', t.relname);
    END IF;
  END LOOP;
END $$;
REVOKE ALL ON PROCEDURE awooop.admit_retention() FROM PUBLIC;
CALL admit_retention();

CREATE OR REPLACE FUNCTION awooop.schema_version() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 15::bigint';
