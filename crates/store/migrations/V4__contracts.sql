-- Contracts with a life: drafts, publications, people's signatures, activations. Everything that counts is
-- signed with a key outside the database, so that a row changed behind the server's back does not load.
-- Contract versions of before carry no signature; applying the same manifests once more signs them.

-- People: one name for the same person in every project. Only operators give it to a principal.
ALTER TABLE principal DROP CONSTRAINT principal_kind;
ALTER TABLE principal ADD CONSTRAINT principal_kind CHECK (kind IN ('service', 'agent', 'human'));
ALTER TABLE principal ADD COLUMN person text;
ALTER TABLE principal ADD CONSTRAINT principal_person CHECK ((person IS NOT NULL) = (kind = 'human'));
ALTER TABLE role_binding DROP CONSTRAINT role_binding_role;
ALTER TABLE role_binding ADD CONSTRAINT role_binding_role
  CHECK (role IN ('admin', 'operator', 'approver', 'viewer', 'agent'));

-- What is stored of a key now covers whom it proves. Keys of before cannot be told from changed ones: they are
-- revoked, and `awooop migrate --keys DIR` (or `dev`) makes the platform's first one anew. Forced row security
-- binds the owner too, and would let this change nothing.
ALTER TABLE api_key NO FORCE ROW LEVEL SECURITY;
UPDATE api_key SET revoked_at = now() WHERE revoked_at IS NULL;
ALTER TABLE api_key FORCE ROW LEVEL SECURITY;

ALTER TABLE contract DROP CONSTRAINT contract_kind;
ALTER TABLE contract ADD CONSTRAINT contract_kind
  CHECK (kind IN ('project', 'provider', 'agent', 'policy', 'channel'));
ALTER TABLE contract ALTER COLUMN active_version DROP NOT NULL;      -- NULL: only drafts so far, or retired
ALTER TABLE contract ADD COLUMN activated_at timestamptz;            -- of the last activation or retirement
ALTER TABLE contract ADD COLUMN activated_by text;
ALTER TABLE contract ADD COLUMN key_id text;                         -- the key of `signature`
ALTER TABLE contract ADD COLUMN signature bytea;                     -- over which version is active, since when

ALTER TABLE contract_version RENAME COLUMN applied_at TO created_at;
ALTER TABLE contract_version RENAME COLUMN applied_by TO created_by;
ALTER TABLE contract_version DROP CONSTRAINT contract_version_state;
ALTER TABLE contract_version ADD CONSTRAINT contract_version_state
  CHECK (state IN ('draft', 'published', 'active', 'retired'));
ALTER TABLE contract_version ADD COLUMN published_at timestamptz;
ALTER TABLE contract_version ADD COLUMN published_by text;
ALTER TABLE contract_version ADD COLUMN publisher text;              -- who it is when signatures are counted
ALTER TABLE contract_version ADD COLUMN key_id text;
ALTER TABLE contract_version ADD COLUMN signature bytea;
CREATE UNIQUE INDEX contract_version_one_draft ON contract_version (project_id, kind, id) WHERE state = 'draft';
CREATE UNIQUE INDEX contract_version_one_active ON contract_version (project_id, kind, id) WHERE state = 'active';

-- One row a signer and act. Signing again, when the last time does not count any more, takes its place;
-- the audit keeps both.
CREATE TABLE contract_signature (
  project_id   text NOT NULL,
  kind         text NOT NULL,
  id           text NOT NULL,
  version      integer NOT NULL,
  act          text NOT NULL CONSTRAINT contract_signature_act CHECK (act IN ('activate', 'retire')),
  signer       text NOT NULL,
  is_person    boolean NOT NULL,
  base_version integer NOT NULL,           -- the version that was active when it was given, 0 for none
  signed_at    timestamptz NOT NULL,
  used_at      timestamptz,                -- the act was done with it: it counts no more
  key_id       text NOT NULL,
  signature    bytea NOT NULL,
  CONSTRAINT contract_signature_pkey PRIMARY KEY (project_id, kind, id, version, act, signer),
  CONSTRAINT contract_signature_version_fkey FOREIGN KEY (project_id, kind, id, version)
    REFERENCES contract_version (project_id, kind, id, version)
);

-- Materialised from the active contracts of these kinds.
CREATE TABLE policy (
  project_id          text NOT NULL,
  policy_id           text NOT NULL,
  contract_version_id uuid NOT NULL,
  spec                text NOT NULL,
  CONSTRAINT policy_pkey PRIMARY KEY (project_id, policy_id)
);
CREATE TABLE channel (
  project_id          text NOT NULL,
  channel_id          text NOT NULL,
  contract_version_id uuid NOT NULL,
  spec                text NOT NULL,
  CONSTRAINT channel_pkey PRIMARY KEY (project_id, channel_id)
);
ALTER TABLE project ADD COLUMN default_model text;
ALTER TABLE mcp_grant ADD COLUMN risk text CONSTRAINT mcp_grant_risk CHECK (risk IN ('read_only', 'write'));

CALL protect('contract_signature', 'SELECT, INSERT, UPDATE');
CALL protect('policy', 'SELECT, INSERT, UPDATE, DELETE');
CALL protect('channel', 'SELECT, INSERT, UPDATE, DELETE');

CREATE OR REPLACE FUNCTION awooop.schema_version() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 4::bigint';
