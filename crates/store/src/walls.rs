//! The walls between projects, as the database's own catalogue shows them: who may do what, the policies of every
//! table, the functions, what the server's roles are, and the rules that each table of a project keeps.
//!
//! What they must be lies beside this crate in `walls/`, one line a fact, reviewed with every migration. The doctor
//! compares a living installation with it; `AWOOOP_RENEW=1 cargo nextest run -p awooop-store -E 'test(walls)'` writes it
//! anew from a migrated database.

use std::collections::BTreeSet;
use std::fmt::Write;

use tokio_postgres::Client;

use crate::doctor::Finding;
use crate::error::StoreError;
use crate::pool::Store;

/// A part of the walls.
pub struct Wall {
    /// Its name, and its file's in `walls/`.
    pub name: &'static str,
    /// What it must be, a line each.
    pub expected: &'static str,
    sql: &'static str,
}

/// All parts.
pub const WALLS: [Wall; 4] = [
    Wall { name: "privileges", expected: include_str!("../walls/privileges.txt"), sql: PRIVILEGES },
    Wall { name: "policies", expected: include_str!("../walls/policies.txt"), sql: POLICIES },
    Wall { name: "functions", expected: include_str!("../walls/functions.txt"), sql: FUNCTIONS },
    Wall { name: "roles", expected: include_str!("../walls/roles.txt"), sql: ROLES },
];

impl Wall {
    /// What it is in this database, a line each.
    ///
    /// # Errors
    /// The database's.
    pub async fn read(&self, client: &Client) -> Result<String, tokio_postgres::Error> {
        let mut text = String::new();
        for row in client.query(self.sql, &[]).await? {
            let line: String = row.get(0);
            writeln!(text, "{line}").expect("a string takes any text");
        }
        Ok(text)
    }

    /// What is there and must not be, and what must be and is not there, each as a sentence.
    fn compare(&self, found: &str) -> Vec<String> {
        let (expected, found): (BTreeSet<&str>, BTreeSet<&str>) =
            (self.expected.lines().collect(), found.lines().collect());
        let name = self.name;
        let more =
            found.difference(&expected).map(|line| format!("{name}: `{line}` is none of this version's"));
        let less = expected.difference(&found).map(|line| format!("{name}: `{line}` is missing"));
        more.chain(less).collect()
    }
}

impl Store {
    /// The walls, compared with what they must be.
    ///
    /// # Errors
    /// The database's.
    pub async fn examine_walls(&self) -> Result<Vec<Finding>, StoreError> {
        let client = self.app().await?;
        let mut found = broken_rules(&client).await?;
        let version: i64 = client.query_one("SELECT awooop.schema_version()", &[]).await?.get(0);
        let known = crate::migrate::latest_version();
        if version > known {
            found.push(format!(
                "the schema is at version {version}, newer than this binary's {known}: the newer one's doctor knows its walls"
            ));
            return Ok(found.into_iter().map(|message| Finding { project: None, message }).collect());
        }
        let absent = absent_roles(&client).await?;
        for wall in &WALLS {
            let sentences = wall.compare(&wall.read(&client).await?);
            found.extend(sentences.into_iter().filter(|line| !absent.iter().any(|role| line.contains(role))));
        }
        Ok(found.into_iter().map(|message| Finding { project: None, message }).collect())
    }
}

/// Roles that an installation can do without and that nobody made: what they would be allowed is missing for that
/// reason.
async fn absent_roles(client: &Client) -> Result<Vec<&'static str>, tokio_postgres::Error> {
    let there = client.query("SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'awooop%'", &[]).await?;
    let there: BTreeSet<String> = there.iter().map(|row| row.get(0)).collect();
    Ok(["awooop_retention", "awooop_backup"].into_iter().filter(|role| !there.contains(*role)).collect())
}

/// Tables, owners and functions that break a rule, each as a sentence. An empty list is good news.
///
/// # Errors
/// The database's.
pub async fn broken_rules(client: &Client) -> Result<Vec<String>, tokio_postgres::Error> {
    Ok(client.query(BROKEN_RULES, &[]).await?.iter().map(|row| row.get(0)).collect())
}

const PRIVILEGES: &str = "
SELECT line FROM (
  SELECT c.relname || ': ' || coalesce(r.rolname, 'PUBLIC') || ' '
         || string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type) AS line
  FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace,
    aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
  WHERE s.nspname = 'awooop' AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND a.grantee <> c.relowner
  GROUP BY c.relname, r.rolname
  UNION ALL
  SELECT c.relname || ' (' || string_agg(t.attname, ', ' ORDER BY t.attnum) || '): '
         || coalesce(r.rolname, 'PUBLIC') || ' ' || a.privilege_type
  FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
    JOIN pg_attribute t ON t.attrelid = c.oid AND t.attnum > 0 AND NOT t.attisdropped,
    aclexplode(t.attacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
  WHERE s.nspname = 'awooop'
  GROUP BY c.relname, r.rolname, a.privilege_type
  UNION ALL
  SELECT p.proname || '(): ' || coalesce(r.rolname, 'PUBLIC') || ' ' || a.privilege_type
  FROM pg_proc p JOIN pg_namespace s ON s.oid = p.pronamespace,
    aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a LEFT JOIN pg_roles r ON r.oid = a.grantee
  WHERE s.nspname = 'awooop' AND a.grantee <> p.proowner
  UNION ALL
  SELECT 'schema ' || s.nspname || ': ' || coalesce(r.rolname, 'PUBLIC') || ' '
         || string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type)
  FROM pg_namespace s, aclexplode(s.nspacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
  WHERE s.nspname = 'awooop' AND a.grantee <> s.nspowner
  GROUP BY s.nspname, r.rolname
) x ORDER BY line COLLATE \"C\"";

const POLICIES: &str = "
SELECT tablename || ': ' || policyname || ' for ' || cmd || ' to ' || array_to_string(roles, ', ') || ' ' || permissive
  || '; using ' || coalesce(regexp_replace(qual, '\\s+', ' ', 'g'), '-') || '; check ' || coalesce(with_check, '-')
FROM pg_policies WHERE schemaname = 'awooop' ORDER BY tablename COLLATE \"C\", policyname COLLATE \"C\"";

/// The text of a function counts by its hash; it comes from the migrations.
const FUNCTIONS: &str = "
SELECT p.proname || '(' || pg_get_function_identity_arguments(p.oid) || '): ' || l.lanname || ', ' || md5(p.prosrc)
  || CASE WHEN p.prosecdef THEN ', as its owner' ELSE '' END || coalesce(', with ' || array_to_string(p.proconfig, ' '), '')
FROM pg_proc p JOIN pg_namespace s ON s.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE s.nspname = 'awooop' ORDER BY p.proname COLLATE \"C\", p.oid";

const ROLES: &str = "
SELECT rolname || ': superuser=' || rolsuper || ' bypassrls=' || rolbypassrls || ' createdb=' || rolcreatedb
  || ' createrole=' || rolcreaterole || ' replication=' || rolreplication
  || ' member of=' || coalesce((SELECT string_agg(g.rolname, ', ') FROM pg_auth_members m
       JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid), '-')
FROM pg_roles r WHERE rolname IN ('awooop_owner', 'awooop_app', 'awooop_dispatch', 'awooop_retention', 'awooop_backup')
ORDER BY rolname";

const BROKEN_RULES: &str = "
WITH t AS (
  SELECT c.oid, c.relname, c.relrowsecurity, c.relforcerowsecurity, c.relowner,
    EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'project_id') AS has_project
  FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace WHERE s.nspname = 'awooop' AND c.relkind IN ('r', 'p'))
SELECT relname || ' has no project and is not one of the global tables' FROM t
  WHERE NOT has_project AND relname NOT IN ('worker_beat', 'halt_all', 'refinery_schema_history')
UNION ALL
SELECT relname || ' is not under FORCE ROW LEVEL SECURITY' FROM t
  WHERE has_project AND NOT (relrowsecurity AND relforcerowsecurity)
UNION ALL
SELECT relname || ' is not owned by awooop_owner' FROM t
  WHERE relowner <> (SELECT oid FROM pg_roles WHERE rolname = 'awooop_owner')
UNION ALL
SELECT relname || ': project_id may be null' FROM t JOIN pg_attribute a ON a.attrelid = t.oid
  WHERE has_project AND a.attname = 'project_id' AND NOT a.attnotnull
UNION ALL
SELECT relname || ' has no primary key' FROM t
  WHERE NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = t.oid AND k.contype = 'p')
UNION ALL
SELECT relname || ': project_id does not lead ' || k.conname FROM t JOIN pg_constraint k ON k.conrelid = t.oid
  WHERE has_project AND k.contype IN ('p', 'u', 'f')
    AND (SELECT attname FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum = k.conkey[1]) <> 'project_id'
UNION ALL
SELECT relname || ': ' || k.conname || ' does not tie the projects of both tables' FROM t
  JOIN pg_constraint k ON k.conrelid = t.oid
  WHERE k.contype = 'f'
    AND (SELECT attname FROM pg_attribute a WHERE a.attrelid = k.confrelid AND a.attnum = k.confkey[1]) <> 'project_id'
UNION ALL
SELECT relname || ': project_id does not lead the index ' || i.indexrelid::regclass FROM t
  JOIN pg_index i ON i.indrelid = t.oid
  WHERE has_project AND (SELECT attname FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum = i.indkey[0]) <> 'project_id'
UNION ALL
SELECT relname || ' has a trigger' FROM t JOIN pg_trigger g ON g.tgrelid = t.oid WHERE NOT g.tgisinternal
UNION ALL
SELECT relname || ': the policy ' || p.polname || ' lets ' || r.rolname || ' see other projects' FROM t
  JOIN pg_policy p ON p.polrelid = t.oid JOIN pg_roles r ON r.oid = ANY (p.polroles)
  WHERE has_project AND p.polname <> 'tenant' AND (r.rolname <> 'awooop_dispatch' OR p.polcmd <> 'r')
    AND (p.polname <> 'deletion' OR r.rolname <> 'awooop_retention')
UNION ALL
SELECT p.proname || ' runs with its owner''s rights' FROM pg_proc p JOIN pg_namespace s ON s.oid = p.pronamespace
  WHERE s.nspname = 'awooop' AND p.prosecdef
UNION ALL
SELECT p.proname || ' is not owned by awooop_owner' FROM pg_proc p JOIN pg_namespace s ON s.oid = p.pronamespace
  WHERE s.nspname = 'awooop' AND p.proowner <> (SELECT oid FROM pg_roles WHERE rolname = 'awooop_owner')
UNION ALL
SELECT relname || ' has the rule ' || w.rulename FROM t JOIN pg_rewrite w ON w.ev_class = t.oid
UNION ALL
SELECT u.rolname || ' is a member of ' || r.rolname || ' and may do what it may: REVOKE ' || r.rolname || ' FROM '
    || quote_ident(u.rolname) FROM pg_auth_members m
  JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles u ON u.oid = m.member
  WHERE r.rolname IN ('awooop_owner', 'awooop_app', 'awooop_dispatch', 'awooop_retention', 'awooop_backup')
    AND NOT u.rolsuper AND NOT u.rolcreaterole
UNION ALL
SELECT r.rolname || ' may make temporary tables, which would stand before the real ones: REVOKE TEMPORARY ON DATABASE '
    || quote_ident(current_database()) || ' FROM PUBLIC' FROM pg_roles r
  WHERE r.rolname IN ('awooop_app', 'awooop_dispatch', 'awooop_retention', 'awooop_backup')
    AND has_database_privilege(r.rolname, current_database(), 'TEMPORARY')
UNION ALL
SELECT r.rolname || ' may make objects in the schema ' || s.nspname || ': REVOKE CREATE ON SCHEMA '
    || quote_ident(s.nspname) || ' FROM PUBLIC' FROM pg_roles r, pg_namespace s
  WHERE r.rolname IN ('awooop_app', 'awooop_dispatch', 'awooop_retention', 'awooop_backup') AND s.nspname NOT LIKE 'pg\\_%'
    AND has_schema_privilege(r.rolname, s.oid, 'CREATE')";
