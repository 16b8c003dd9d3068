-- Made once by an administrator (`awooop migrate --admin-url`), or by a DBA from `awooop migrate --print-roles`.
-- None of them is a superuser. Only `awooop_backup` reads past row security: it writes nothing, and cannot log in
-- until an operator gives it a password (`AWOOOP_BACKUP_DATABASE_URL` for `awooop migrate --admin-url`).
DO $roles$
DECLARE r text;
BEGIN
  FOREACH r IN ARRAY ARRAY['awooop_owner', 'awooop_app', 'awooop_dispatch', 'awooop_retention'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN
      EXECUTE format('CREATE ROLE %I LOGIN', r);
    END IF;
    EXECUTE format('ALTER ROLE %I NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION', r);
  END LOOP;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'awooop_backup') THEN
    CREATE ROLE awooop_backup NOLOGIN;
  END IF;
  ALTER ROLE awooop_backup NOSUPERUSER BYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION;
  ALTER ROLE awooop_backup SET default_transaction_read_only = on;
END $roles$;
CREATE SCHEMA IF NOT EXISTS awooop AUTHORIZATION awooop_owner;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
-- a temporary table would stand before the real one of its name, for whoever gets the connection next
DO $temporary$
BEGIN
  EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END $temporary$;
