-- Budgets: money moves only by rows. Tools: what contracts materialise, pins, and every call.

CREATE TABLE budget (
  project_id   text NOT NULL,
  scope        text NOT NULL CONSTRAINT budget_scope CHECK (scope = 'project'),
  unit         text NOT NULL CONSTRAINT budget_unit CHECK (unit = 'tokens'),
  limit_amount bigint CONSTRAINT budget_limit CHECK (limit_amount >= 0),   -- NULL: recorded, not limited
  settled      bigint NOT NULL DEFAULT 0 CONSTRAINT budget_settled CHECK (settled >= 0),
  held         bigint NOT NULL DEFAULT 0 CONSTRAINT budget_held CHECK (held >= 0),
  contract_version_id uuid,
  CONSTRAINT budget_pkey PRIMARY KEY (project_id, scope, unit)
) WITH (fillfactor = 50);

CREATE TABLE budget_hold (
  project_id text NOT NULL,
  hold_id    uuid NOT NULL,
  run_id     uuid NOT NULL,
  n          integer NOT NULL,
  epoch      bigint NOT NULL,
  amount     bigint NOT NULL CONSTRAINT budget_hold_amount CHECK (amount > 0),
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  CONSTRAINT budget_hold_pkey PRIMARY KEY (project_id, hold_id)
);

CREATE TABLE budget_ledger (
  project_id   text NOT NULL,
  entry_id     uuid NOT NULL,              -- the hold's id: settling twice is refused by the key
  run_id       uuid NOT NULL,
  n            integer NOT NULL,
  held         bigint NOT NULL,
  amount       bigint NOT NULL,
  is_estimated boolean NOT NULL,
  reason       text NOT NULL CONSTRAINT budget_ledger_reason CHECK (reason IN ('settled', 'abandoned')),
  at           timestamptz NOT NULL,
  CONSTRAINT budget_ledger_pkey PRIMARY KEY (project_id, entry_id)
);

CREATE TABLE mcp_server (
  project_id          text NOT NULL,
  provider_id         text NOT NULL,
  contract_version_id uuid NOT NULL,
  spec                text NOT NULL,
  CONSTRAINT mcp_server_pkey PRIMARY KEY (project_id, provider_id)
);

CREATE TABLE mcp_tool (
  project_id          text NOT NULL,
  provider_id         text NOT NULL,
  tool                text NOT NULL,
  contract_version_id uuid NOT NULL,
  risk                text NOT NULL CONSTRAINT mcp_tool_risk CHECK (risk IN ('read_only', 'write')),
  definition_sha256   text,
  CONSTRAINT mcp_tool_pkey PRIMARY KEY (project_id, provider_id, tool),
  CONSTRAINT mcp_tool_server_fkey FOREIGN KEY (project_id, provider_id)
    REFERENCES mcp_server (project_id, provider_id) ON DELETE CASCADE
);

-- The first definition seen of a tool whose contract names no hash. Survives activations.
CREATE TABLE mcp_pin (
  project_id        text NOT NULL,
  provider_id       text NOT NULL,
  tool              text NOT NULL,
  definition_sha256 text NOT NULL,
  pinned_at         timestamptz NOT NULL,
  CONSTRAINT mcp_pin_pkey PRIMARY KEY (project_id, provider_id, tool)
);

CREATE TABLE mcp_grant (
  project_id          text NOT NULL,
  agent_id            text NOT NULL,
  provider_id         text NOT NULL,
  tool                text NOT NULL,
  contract_version_id uuid NOT NULL,
  constraints         text,
  CONSTRAINT mcp_grant_pkey PRIMARY KEY (project_id, agent_id, provider_id, tool)
);

-- Every call, refused ones too; the commit of this row is the audit of a read-only call.
CREATE TABLE mcp_call (
  project_id       text NOT NULL,
  call_id          uuid NOT NULL,
  agent_id         text NOT NULL,
  actor            text NOT NULL,
  run_id           uuid,
  n                integer,
  tool             text NOT NULL,
  status           text NOT NULL CONSTRAINT mcp_call_status CHECK (status IN ('ok', 'error', 'refused', 'stub')),
  code             text,
  arguments_sha256 text NOT NULL,
  result_chars     integer NOT NULL,
  started_at       timestamptz NOT NULL,
  duration_ms      bigint NOT NULL,
  trace_id         text,
  CONSTRAINT mcp_call_pkey PRIMARY KEY (project_id, call_id)
);

CALL protect('budget', 'SELECT, INSERT, UPDATE');
CALL protect('budget_hold', 'SELECT, INSERT, DELETE');
CALL protect('budget_ledger', 'SELECT, INSERT');
CALL protect('mcp_server', 'SELECT, INSERT, UPDATE, DELETE');
CALL protect('mcp_tool', 'SELECT, INSERT, UPDATE, DELETE');
CALL protect('mcp_pin', 'SELECT, INSERT');
CALL protect('mcp_grant', 'SELECT, INSERT, UPDATE, DELETE');
CALL protect('mcp_call', 'SELECT, INSERT');

CREATE POLICY dispatch ON budget_hold FOR SELECT TO awooop_dispatch USING (true);
GRANT SELECT (project_id, expires_at) ON budget_hold TO awooop_dispatch;

CREATE OR REPLACE FUNCTION awooop.schema_version() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 3::bigint';
