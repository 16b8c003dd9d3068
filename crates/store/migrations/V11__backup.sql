-- The role that backups are taken by reads every table, and nothing else.

-- What it may do. It is made by an administrator and may not be there yet, and later migrations make further tables:
-- `awooop migrate` calls this each time.
CREATE PROCEDURE awooop.admit_backup() LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'awooop_backup') THEN
    RETURN;
  END IF;
  GRANT USAGE ON SCHEMA awooop TO awooop_backup;
  GRANT SELECT ON ALL TABLES IN SCHEMA awooop TO awooop_backup;
END $$;
REVOKE ALL ON PROCEDURE awooop.admit_backup() FROM PUBLIC;

CREATE OR REPLACE FUNCTION awooop.schema_version() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 11::bigint';
