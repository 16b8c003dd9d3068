-- The role that backups are taken by reads every table, and nothing else; servers may be one version behind.

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

-- The oldest server that can work with this schema, by the schema it was made for. A server one version behind may start
-- when it is not older than this. A migration that the servers before it can work with leaves it as it is; any other
-- replaces it with its own version.
CREATE FUNCTION awooop.compatible_from() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 14::bigint';

CREATE OR REPLACE FUNCTION awooop.schema_version() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT 14::bigint';
