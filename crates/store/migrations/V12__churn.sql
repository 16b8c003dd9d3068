-- Holds come and go with every model call, as queue rows and leases do with every run: what they leave behind is taken away
-- as often, or each settlement reads it.
ALTER TABLE budget_hold SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500,
  autovacuum_vacuum_cost_delay = 0);

CREATE OR REPLACE FUNCTION awooop.schema_version() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 12::bigint';
