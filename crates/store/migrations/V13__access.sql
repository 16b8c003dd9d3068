-- Who may come in: principals that can be disabled, roles that can be granted and taken back, keys with scopes, a
-- successor and the time of their last use, and people who sign in at an issuer.

ALTER TABLE principal
  ADD COLUMN disabled_at timestamptz,
  ADD COLUMN disabled_by text,
  ADD COLUMN issuer      text,                 -- of a person who signs in; their roles are their groups', no row
  ADD COLUMN subject     text;
ALTER TABLE principal ADD CONSTRAINT principal_disabled CHECK ((disabled_at IS NULL) = (disabled_by IS NULL));
ALTER TABLE principal ADD CONSTRAINT principal_subject
  CHECK ((issuer IS NULL) = (subject IS NULL) AND (issuer IS NULL OR kind = 'human'));
GRANT UPDATE (person, disabled_at, disabled_by) ON principal TO awooop_app;

-- A role that was granted after the principal's keys were made carries a MAC under a key outside the database.
ALTER TABLE role_binding
  ADD COLUMN key_id text,
  ADD COLUMN mac    bytea;
GRANT DELETE ON role_binding TO awooop_app;

ALTER TABLE api_key
  ADD COLUMN role         text,                -- the principal's when the key was made: its HMAC covers it
  ADD COLUMN scopes       text[],              -- NULL: all that its principal may
  ADD COLUMN replaced_by  text,                -- the key it was rotated to
  ADD COLUMN last_used_at timestamptz;         -- at most a minute behind
ALTER TABLE api_key NO FORCE ROW LEVEL SECURITY;
ALTER TABLE role_binding NO FORCE ROW LEVEL SECURITY;
UPDATE api_key k SET role = b.role FROM role_binding b
  WHERE b.project_id = k.project_id AND b.principal_id = k.principal_id;
ALTER TABLE role_binding FORCE ROW LEVEL SECURITY;
ALTER TABLE api_key FORCE ROW LEVEL SECURITY;
ALTER TABLE api_key ALTER COLUMN role SET NOT NULL;
CREATE INDEX api_key_principal ON api_key (project_id, principal_id);

CREATE OR REPLACE FUNCTION awooop.schema_version() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 13::bigint';
