-- Tools' definitions as they were seen, so that people can compare the one that was pinned with the one that came after it.

-- Masked as people see them and bounded; a few of each tool, never a row for each call.
CREATE TABLE mcp_definition (
  project_id    text NOT NULL,
  provider_id   text NOT NULL,
  tool          text NOT NULL,
  sha256        text NOT NULL,   -- over all of its members
  plain_sha256  text NOT NULL,   -- over the members that older pins cover
  standing      text NOT NULL CONSTRAINT mcp_definition_standing CHECK (standing IN ('pinned', 'drifted', 'quarantined')),
  definition    text NOT NULL CONSTRAINT mcp_definition_definition CHECK (octet_length(definition) <= 65536),
  finds         text NOT NULL,   -- what a look at it found, a JSON array
  first_seen_at timestamptz NOT NULL,
  last_seen_at  timestamptz NOT NULL,
  CONSTRAINT mcp_definition_pkey PRIMARY KEY (project_id, provider_id, tool, sha256)
);

CALL protect('mcp_definition', 'SELECT, INSERT, UPDATE, DELETE');
CALL admit_retention();

CREATE OR REPLACE FUNCTION awooop.schema_version() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 17::bigint';
