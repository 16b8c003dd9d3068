-- Risks of a third kind, and which tool results a run may believe.

ALTER TABLE mcp_tool DROP CONSTRAINT mcp_tool_risk,
  ADD CONSTRAINT mcp_tool_risk CHECK (risk IN ('read_only', 'write', 'destructive'));
ALTER TABLE mcp_grant DROP CONSTRAINT mcp_grant_risk,
  ADD CONSTRAINT mcp_grant_risk CHECK (risk IN ('read_only', 'write', 'destructive'));
ALTER TABLE approval DROP CONSTRAINT approval_risk,
  ADD CONSTRAINT approval_risk CHECK (risk IN ('read_only', 'write', 'destructive'));

-- Of a tool's call and its result: the words are the platform's own, or the tool's contract said at the time of the call
-- that its output is trusted. What was recorded before nobody vouched for.
ALTER TABLE step_journal ADD COLUMN is_trusted boolean NOT NULL DEFAULT false;

CREATE OR REPLACE FUNCTION awooop.schema_version() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 18::bigint';
