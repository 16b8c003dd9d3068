-- Made once by an administrator (`awooop migrate --admin-url`), or by a DBA from `awooop migrate --print-roles`.
-- None of them is a superuser, and none but a later backup role may bypass row security.
DO $roles$
DECLARE r text;
BEGIN
  FOREACH r IN ARRAY ARRAY['awooop_owner', 'awooop_app', 'awooop_dispatch', 'awooop_retention'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN
      EXECUTE format('CREATE ROLE %I LOGIN', r);
    END IF;
    EXECUTE format('ALTER ROLE %I NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION', r);
  END LOOP;
END $roles$;
CREATE SCHEMA IF NOT EXISTS awooop AUTHORIZATION awooop_owner;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
-- a temporary table would stand before the real one of its name, for whoever gets the connection next
DO $temporary$
BEGIN
  EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
END $temporary$;
