-- The core: projects, who acts in them, what they configured, and the audit.
-- Every tenant table: project_id first in every key, FORCE RLS, the tenant policy. No setting means no rows.

CREATE FUNCTION awooop.set_project(p text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('SET LOCAL awooop.project_id = %L', p);
END $$;

-- Made by the owner for one table: RLS on and forced, the tenant policy, privileges of the app role.
CREATE PROCEDURE awooop.protect(t text, privileges text) LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('ALTER TABLE awooop.%I ENABLE ROW LEVEL SECURITY', t);
  EXECUTE format('ALTER TABLE awooop.%I FORCE ROW LEVEL SECURITY', t);
  EXECUTE format('CREATE POLICY tenant ON awooop.%I TO awooop_app, awooop_owner
    USING (project_id = current_setting(''awooop.project_id'', true))
    WITH CHECK (project_id = current_setting(''awooop.project_id'', true))', t);
  EXECUTE format('GRANT %s ON awooop.%I TO awooop_app', privileges, t);
END $$;
REVOKE ALL ON PROCEDURE awooop.protect(text, text) FROM PUBLIC;

CREATE TABLE project (
  project_id   text NOT NULL,
  display_name text NOT NULL,
  state        text NOT NULL CONSTRAINT project_state CHECK (state IN ('active', 'paused')),
  contract_version_id uuid,
  created_at   timestamptz NOT NULL,
  CONSTRAINT project_pkey PRIMARY KEY (project_id)
);

CREATE TABLE principal (
  project_id   text NOT NULL,
  principal_id text NOT NULL,
  kind         text NOT NULL CONSTRAINT principal_kind CHECK (kind IN ('service', 'agent')),
  created_at   timestamptz NOT NULL,
  CONSTRAINT principal_pkey PRIMARY KEY (project_id, principal_id),
  CONSTRAINT principal_project_fkey FOREIGN KEY (project_id) REFERENCES project (project_id)
);

CREATE TABLE role_binding (
  project_id   text NOT NULL,
  principal_id text NOT NULL,
  role         text NOT NULL CONSTRAINT role_binding_role CHECK (role IN ('admin', 'operator', 'viewer', 'agent')),
  created_at   timestamptz NOT NULL,
  CONSTRAINT role_binding_pkey PRIMARY KEY (project_id, principal_id),
  CONSTRAINT role_binding_principal_fkey FOREIGN KEY (project_id, principal_id)
    REFERENCES principal (project_id, principal_id)
);

CREATE TABLE api_key (
  project_id   text NOT NULL,
  key_id       text NOT NULL,
  principal_id text NOT NULL,
  agent_id     text,                       -- bound to this agent, for /mcp
  pepper_id    text NOT NULL,
  secret_hmac  bytea NOT NULL,
  created_at   timestamptz NOT NULL,
  created_by   text NOT NULL,
  expires_at   timestamptz,
  revoked_at   timestamptz,
  CONSTRAINT api_key_pkey PRIMARY KEY (project_id, key_id),
  CONSTRAINT api_key_principal_fkey FOREIGN KEY (project_id, principal_id)
    REFERENCES principal (project_id, principal_id)
);

CREATE TABLE contract (
  project_id     text NOT NULL,
  kind           text NOT NULL CONSTRAINT contract_kind CHECK (kind IN ('project', 'provider', 'agent')),
  id             text NOT NULL,
  active_version integer NOT NULL,
  CONSTRAINT contract_pkey PRIMARY KEY (project_id, kind, id),
  CONSTRAINT contract_project_fkey FOREIGN KEY (project_id) REFERENCES project (project_id)
);

CREATE TABLE contract_version (
  project_id text NOT NULL,
  kind       text NOT NULL,
  id         text NOT NULL,
  version    integer NOT NULL,
  version_id uuid NOT NULL,
  sha256     text NOT NULL,
  body       text NOT NULL,                -- RFC 8785 canonical JSON: the bytes that were hashed
  state      text NOT NULL CONSTRAINT contract_version_state CHECK (state IN ('active', 'retired')),
  applied_at timestamptz NOT NULL,
  applied_by text NOT NULL,
  CONSTRAINT contract_version_pkey PRIMARY KEY (project_id, kind, id, version),
  CONSTRAINT contract_version_id_key UNIQUE (project_id, version_id),
  CONSTRAINT contract_version_contract_fkey FOREIGN KEY (project_id, kind, id)
    REFERENCES contract (project_id, kind, id)
);

-- Materialised from the active provider contracts of `type: llm`.
CREATE TABLE provider (
  project_id          text NOT NULL,
  provider_id         text NOT NULL,
  contract_version_id uuid NOT NULL,
  spec                text NOT NULL,
  CONSTRAINT provider_pkey PRIMARY KEY (project_id, provider_id)
);

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
  CONSTRAINT audit_event_pkey PRIMARY KEY (project_id, id)
);

CALL protect('project', 'SELECT, INSERT, UPDATE');
CALL protect('principal', 'SELECT, INSERT');
CALL protect('role_binding', 'SELECT, INSERT, UPDATE');
CALL protect('api_key', 'SELECT, INSERT, UPDATE');
CALL protect('contract', 'SELECT, INSERT, UPDATE');
CALL protect('contract_version', 'SELECT, INSERT, UPDATE');
CALL protect('provider', 'SELECT, INSERT, UPDATE, DELETE');
CALL protect('audit_event', 'SELECT, INSERT');
GRANT USAGE ON SCHEMA awooop TO awooop_app, awooop_dispatch;

-- The operators' list of projects, and discovery: which projects there are, nothing else of them.
CREATE POLICY dispatch ON project FOR SELECT TO awooop_dispatch USING (true);
GRANT SELECT (project_id, state) ON project TO awooop_dispatch;

-- What the schema is at; the server compares it with what it was built for. Each migration replaces it.
CREATE FUNCTION awooop.schema_version() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 1::bigint';
