//! Everything the server reads, in one table: options, environment, `operator.toml`, files.
//!
//! `docs/configuration.md` is made from it, and `awooop config check` knows from it which variables exist. Tests
//! hold it against the command line's definitions, the operator's list and the sources, so that nothing that
//! is read is missing and nothing that is gone stays.

/// Where a setting is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Given {
    /// On the command line of these commands.
    Option,
    /// In the environment.
    Variable,
    /// In `operator.toml`.
    Operator,
    /// As a file of the data directory.
    DataFile,
}

/// One thing the server reads.
#[cfg_attr(not(test), expect(dead_code, reason = "docs/configuration.md is made from all of it, by a test"))]
pub(crate) struct Setting {
    /// Where it is given.
    pub(crate) given: Given,
    /// Its name; of a key in a file, the whole path of it.
    pub(crate) name: &'static str,
    /// Which commands read it, parted by commas.
    pub(crate) read_by: &'static str,
    /// What it does.
    pub(crate) what: &'static str,
    /// What holds without it.
    pub(crate) default: &'static str,
    /// A value it may have; empty for switches and files.
    pub(crate) example: &'static str,
    /// Whoever reads it can act as the server, a project or a database role.
    pub(crate) is_secret: bool,
}

const fn new(given: Given, name: &'static str, read_by: &'static str, what: &'static str) -> Setting {
    Setting { given, name, read_by, what, default: "", example: "", is_secret: false }
}

const fn option(name: &'static str, read_by: &'static str, what: &'static str) -> Setting {
    new(Given::Option, name, read_by, what)
}

const fn variable(name: &'static str, read_by: &'static str, what: &'static str) -> Setting {
    new(Given::Variable, name, read_by, what)
}

const fn operator(name: &'static str, what: &'static str) -> Setting {
    new(Given::Operator, name, "dev, serve, doctor, config check", what)
}

const fn file(name: &'static str, read_by: &'static str, what: &'static str) -> Setting {
    new(Given::DataFile, name, read_by, what)
}

impl Setting {
    const fn or(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    const fn like(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }

    const fn secret(mut self) -> Self {
        self.is_secret = true;
        self
    }
}

const SERVERS: &str = "dev, serve, migrate, restore, doctor, config check";
const DATA_DIR: &str = "`/var/lib/awooop` as root, else `$XDG_DATA_HOME/awooop` or `~/.local/share/awooop`";

/// The table.
pub(crate) const SETTINGS: &[Setting] = &[
    option("--port", "dev", "Port on 127.0.0.1; 0 picks a free one.").or("7700").like("7701"),
    option("--data-dir", "dev", "Where data, keys and `dev.env` are kept.").or(DATA_DIR).like("/srv/awooop"),
    option("--separate-worker", "dev", "Carries runs out in a process of their own, as `serve --role worker` does. It is started again when it ends.").or("off"),
    option("--role", "serve", "What this process does: `api` answers HTTP, `worker` carries out runs, `all` both.")
        .or("all")
        .like("worker"),
    option("--listen", "serve", "The address to answer on. A worker answers only `/healthz`, `/readyz` and `/metrics`, and only where this is given.")
        .or("127.0.0.1:7700, for `worker` none")
        .like("0.0.0.0:7700"),
    option("--data-dir", "serve", "Where a worker keeps its identity over restarts. One directory a process.")
        .or(DATA_DIR)
        .like("/srv/awooop/worker-1"),
    option("--operator", "serve", "The operator's list: what projects may name on this host (TOML, below).")
        .or("none: projects may name nothing")
        .like("/etc/awooop/operator.toml"),
    option("--keys", "serve", "The directory of the keyring. `serve` does not start without it.")
        .or("none")
        .like("/etc/awooop/keys"),
    option("--slots", "serve", "Runs at the same time, for the roles `worker` and `all`: 1 to 4096.").or("64").like("256"),
    option("--silent-after", "serve", "A worker that was not heard for so many seconds (1 to 600) is dead, and its runs go to others. It stops itself after three quarters of that. The same on every node of a database.")
        .or("20")
        .like("10"),
    option("--drain-for", "serve", "How many seconds (0 to 600) a stop waits for runs to end before it gives them back.")
        .or("10")
        .like("60"),
    option("--end-with-stdin", "serve", "Ends at once when standard input ends: for a supervisor that must leave no process behind.").or("off"),
    option("--tls-cert", "serve", "The certificate to answer TLS with: the chain in PEM, the server's own first. Changed files are taken over within 5 seconds ([network.md](network.md)).")
        .or("`AWOOOP_TLS_CERT`, else plain HTTP")
        .like("/etc/awooop/tls.crt"),
    option("--tls-key", "serve", "The certificate's private key in PEM, without a passphrase.")
        .or("`AWOOOP_TLS_KEY`, else plain HTTP")
        .like("/etc/awooop/tls.key"),
    option("--public-hosts", "serve", "Names, or `name:port`, by which others reach `/mcp`, parted by commas. It answers to no other `Host` and to no page of another site.")
        .or("none: names of this machine and the address of `--listen`")
        .like("awooop.internal,agents.example.com"),
    option("--trusted-proxies", "serve", "Addresses or ranges, parted by commas, whose `X-Forwarded-For` and `Forwarded` are believed.")
        .or("none: these headers say nothing")
        .like("10.0.3.0/24,fd00::/8"),
    option("--max-connections", "serve", "Most open connections (1 to 1000000). Fewer where the limit of open files leaves less than 1,024 for all else.")
        .or("8192")
        .like("2000"),
    option("--max-connections-per-address", "serve", "Of them, of one address (of IPv6, a /64) that is no trusted proxy's; behind such a proxy, requests under way.")
        .or("a quarter of `--max-connections`")
        .like("200"),
    option("--key-rate", "serve", "Requests a second with one key, or of one person (0 to 100000), twice as many at once after a rest; 0 for no limit. Each process counts for itself.")
        .or("200")
        .like("50"),
    option("--failed-auth-rate", "serve", "Keys and tokens that are not valid, a second, from one address (0 to 100000), ten times as many at once; 0 for no limit.")
        .or("20")
        .like("5"),
    option("--admin-url", "migrate", "A superuser's URL, used once to make the roles. Other users of the machine can read a command line.")
        .or("none: roles are left alone")
        .like("postgres://postgres:…@db.internal/awooop")
        .secret(),
    option("--print-roles", "migrate", "Prints the SQL that makes the roles, for a DBA to run, and does nothing.").or("off"),
    option("--keys", "migrate", "Makes the keyring in this directory where there is none, and prints the platform's first admin key, once.")
        .or("none")
        .like("/etc/awooop/keys"),
    option("--plan", "migrate", "Says which migrations would run and which tables they lock, and changes nothing.").or("off"),
    option("--json", "migrate", "With `--plan`: prints one JSON document.").or("off"),
    option("--recipient", "backup", "Encrypts to this age public key; several may be given, and each opens it. The keyring is then in the backup too.")
        .or("not encrypted")
        .like("age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq"),
    option("--passphrase-file", "backup", "Encrypts under the first line of this file, of at least 12 characters; with `--check`, opens with it.")
        .or("not encrypted")
        .like("/etc/awooop/backup.passphrase"),
    option("--keys", "backup", "The directory of the keyring that belongs to the database. Only an encrypted backup holds it.")
        .or("for `dev`, `keys` in the data directory")
        .like("/etc/awooop/keys"),
    option("--data-dir", "backup", "The data directory of the running `dev` to back up.").or(DATA_DIR).like("/srv/awooop"),
    option("--check", "backup", "Takes none, and checks that the one named is whole.").or("off"),
    option("--identity", "backup", "For `--check`: opens the backup with the age private keys in this file.").or("none").like("/root/backup.key"),
    option("--json", "backup", "Prints one JSON document.").or("off"),
    option("--identity", "restore", "Opens the backup with the age private keys in this file.").or("none").like("/root/backup.key"),
    option("--passphrase-file", "restore", "Opens the backup with the first line of this file.").or("none").like("/etc/awooop/backup.passphrase"),
    option("--admin-url", "restore", "A superuser's URL, to make the roles and load the rows, where `AWOOOP_DATABASE_URL` is set.")
        .or("none")
        .like("postgres://postgres:…@db.internal/awooop")
        .secret(),
    option("--keys", "restore", "The directory the keyring belongs in. Written where there is none; one that is there must be the backup's.")
        .or("for `dev`, `keys` in the data directory")
        .like("/etc/awooop/keys"),
    option("--data-dir", "restore", "The data directory of `dev` to restore into; `dev` must not run.").or(DATA_DIR).like("/srv/awooop"),
    option("--json", "restore", "Prints one JSON document.").or("off"),
    option("--data-dir", "doctor", "The data directory to look at.").or(DATA_DIR).like("/srv/awooop"),
    option("--operator", "doctor", "The operator's list to look at.")
        .or("the one in the data directory")
        .like("/etc/awooop/operator.toml"),
    option("--keys", "doctor", "The keyring's directory. Without its keys no signature and no audit event can be checked.")
        .or("`keys` in the data directory")
        .like("/etc/awooop/keys"),
    option("--tls-cert", "doctor", "The listener's certificate: the chain in PEM, the server's own first.")
        .or("`AWOOOP_TLS_CERT`, else none")
        .like("/etc/awooop/tls.crt"),
    option("--tls-key", "doctor", "The certificate's private key in PEM.")
        .or("`AWOOOP_TLS_KEY`, else none")
        .like("/etc/awooop/tls.key"),
    option("--json", "doctor", "Prints one JSON document.").or("off"),
    option("--role", "config check", "Whose settings to check: `dev`, `api`, `worker`, `all` (of `serve`) or `migrate`.")
        .or("`all` where `AWOOOP_DATABASE_URL` is set, else `dev`")
        .like("worker"),
    option("--data-dir", "config check", "The data directory to look at.").or(DATA_DIR).like("/srv/awooop"),
    option("--operator", "config check", "The operator's list to read.")
        .or("for `dev`, the one in the data directory")
        .like("/etc/awooop/operator.toml"),
    option("--keys", "config check", "The keyring's directory.")
        .or("for `dev`, `keys` in the data directory")
        .like("/etc/awooop/keys"),
    option("--tls-cert", "config check", "The listener's certificate: the chain in PEM, the server's own first.")
        .or("`AWOOOP_TLS_CERT`, else none")
        .like("/etc/awooop/tls.crt"),
    option("--tls-key", "config check", "The certificate's private key in PEM.")
        .or("`AWOOOP_TLS_KEY`, else none")
        .like("/etc/awooop/tls.key"),
    option("--offline", "config check", "Connects to nothing: URLs are only parsed.").or("off"),
    option("--json", "config check", "Prints one JSON document.").or("off"),
    option("--keys", "keys", "The directory of the keyring to list or change.")
        .or("`keys` in the data directory")
        .like("/etc/awooop/keys"),
    option("--data-dir", "keys", "The data directory of `dev`, whose keyring it is.").or(DATA_DIR).like("/srv/awooop"),
    option("--json", "keys", "Prints one JSON document.").or("off"),
    variable("AWOOOP_DATABASE_URL", SERVERS, "PostgreSQL as the role `awooop_app`, which row security binds. A URL or keywords and values.")
        .or("`dev` starts its own PostgreSQL; the others need it")
        .like("postgres://awooop_app:…@db.internal/awooop")
        .secret(),
    variable("AWOOOP_DISPATCH_DATABASE_URL", SERVERS, "The same database as the role `awooop_dispatch`, which sees where work lies.")
        .or("needed where `AWOOOP_DATABASE_URL` is set")
        .like("postgres://awooop_dispatch:…@db.internal/awooop")
        .secret(),
    variable("AWOOOP_OWNER_DATABASE_URL", "dev, migrate, restore, config check", "The same database as the role `awooop_owner`, for migrations only. Keep it from serving nodes.")
        .or("needed by `migrate`, and by `dev` where `AWOOOP_DATABASE_URL` is set")
        .like("postgres://awooop_owner:…@db.internal/awooop")
        .secret(),
    variable("AWOOOP_RETENTION_DATABASE_URL", "dev, serve, migrate, restore, audit expire, runs expire", "The same database as the role `awooop_retention`, which deletes audit events and runs that have expired, and deleted projects, and reads no content. With it, runs go as their projects' contracts say (`retention`), and rows of projects as they are deleted.")
        .or("none: nothing expires, and rows of deleted projects wait (`dev` with its own PostgreSQL has one)")
        .like("postgres://awooop_retention:…@db.internal/awooop")
        .secret(),
    variable("AWOOOP_BACKUP_DATABASE_URL", "backup, migrate, restore", "The same database as the role `awooop_backup`, which reads every project and writes nothing. Keep it from serving nodes. The role cannot log in until `migrate --admin-url` (or a DBA) gives it this password.")
        .or("for `backup`, the running `dev` of the data directory")
        .like("postgres://awooop_backup:…@db.internal/awooop")
        .secret(),
    variable("AWOOOP_AUDIT_RETENTION_DAYS", "dev, serve", "Audit events are deleted so many days after they were sealed; their seals stay.")
        .or("none: they are kept")
        .like("365"),
    variable("AWOOOP_AUDIT_HEADS_DIR", "dev, serve", "A directory to which the audit's newest seals are appended, a file a project, once a minute and at a stop. Best on another machine.")
        .or("none")
        .like("/mnt/audit-heads"),
    variable("AWOOOP_AUDIT_HEADS_URL", "dev, serve", "An address to which the audit's newest seals are posted as JSON, once a minute and at a stop.")
        .or("none")
        .like("https://archive.internal/heads/…")
        .secret(),
    variable("AWOOOP_REDIS_URL", "dev, serve, config check", "Redis or Valkey, in which all servers count the policies' rates together, and which is told of signatures that are waited for. Without it each process counts rates by itself; nothing depends on it besides.")
        .or("none: nothing is announced")
        .like("redis://:…@redis.internal:6379/0")
        .secret(),
    variable("AWOOOP_SIGN_IN_ISSUER", "dev, serve, doctor, config check", "The issuer that people sign in with, in place of `sign_in.issuer` of the operator's list.")
        .or("the list's")
        .like("https://id.example.com/realms/main"),
    variable("AWOOOP_SIGN_IN_CLIENT_ID", "dev, serve, doctor, config check", "The same for `sign_in.client_id`.")
        .or("the list's")
        .like("awooop-cli"),
    variable("AWOOOP_SIGN_IN_AUDIENCE", "dev, serve, doctor, config check", "The same for `sign_in.audience`.")
        .or("the list's")
        .like("awooop"),
    variable("AWOOOP_SIGN_IN_GROUPS_CLAIM", "dev, serve, doctor, config check", "The same for `sign_in.groups_claim`.")
        .or("the list's, else `groups`")
        .like("roles"),
    variable("AWOOOP_PG_BIN", "dev, backup, restore, doctor, config check", "The directory of the PostgreSQL programs: the server that `dev` starts, `pg_dump` and `pg_restore`.")
        .or("the newest server installed, 15 or later; the `pg_dump` and `pg_restore` nearest to the server's version")
        .like("/usr/lib/postgresql/17/bin"),
    variable("AWOOOP_LOG", "dev, serve, migrate, backup, restore, doctor, config check", "What is logged on stderr, by level and module.")
        .or("`info` for serve, `warn` for dev, migrate, backup and restore, `error` for doctor and config check")
        .like("info,awooop_worker=debug"),
    variable("AWOOOP_LOG_FORMAT", "dev, serve, migrate, backup, restore, doctor, config check", "`json` for one JSON object a line.")
        .or("text")
        .like("json"),
    variable("AWOOOP_TLS_CERT", "serve, doctor, config check", "The listener's certificate, as `--tls-cert`.")
        .or("none: plain HTTP")
        .like("/etc/awooop/tls.crt"),
    variable("AWOOOP_TLS_KEY", "serve, doctor, config check", "The file of its private key, as `--tls-key`.")
        .or("none: plain HTTP")
        .like("/etc/awooop/tls.key"),
    variable("AWOOOP_CA_FILE", "the client commands", "Authorities, in PEM, that are trusted for the server's address besides the host's, as `--ca-file`.")
        .or("the host's alone")
        .like("/etc/awooop/ca.pem"),
    variable("AWOOOP_URL", "the client commands", "The server's address, as `--url`.")
        .or("the one in `dev.env`, else http://127.0.0.1:7700")
        .like("https://awooop.internal"),
    variable("AWOOOP_KEY", "the client commands", "The API key, as `--key`.")
        .or("the sign-in at the server, else the key in `dev.env`, for the server named there")
        .like("awp_…")
        .secret(),
    variable("XDG_CONFIG_HOME", "the client commands", "Below it lies `awooop/sign-in.json`, what `awooop login` keeps, if it is an absolute path.")
        .or("`~/.config`")
        .like("/home/alice/.settings"),
    variable("BROWSER", "login", "The program that opens the address to sign in at.")
        .or("`xdg-open`, on a Mac `open`")
        .like("firefox"),
    variable("XDG_DATA_HOME", "every command", "Where the data directory lies by default, if it is an absolute path and the user is not root.")
        .or("`~/.local/share`")
        .like("/home/alice/.data"),
    variable("HOME", "every command", "The same where `XDG_DATA_HOME` is not set.").or("none").like("/home/alice"),
    variable("XDG_RUNTIME_DIR", "dev", "Where the socket of `dev`'s own PostgreSQL lies when the data directory's path is too long for one.").or("`/tmp`").like("/run/user/1000"),
    variable("PATH", "dev, backup, restore, doctor, config check", "Where a PostgreSQL is looked for besides the usual places.").or("none").like("/usr/bin"),
    variable("SSL_CERT_FILE", "dev, serve, migrate, backup, restore, the client commands", "The certificates that are trusted for TLS, in place of the host's own.")
        .or("the host's")
        .like("/etc/ssl/private-ca.pem"),
    variable("SSL_CERT_DIR", "dev, serve, migrate, the client commands", "The same as a directory.").or("the host's").like("/etc/ssl/certs"),
    operator("secrets", "Below it lies one folder of credentials a project, for `file://` references.")
        .or("none: no `file://`")
        .like("\"/etc/awooop/secrets\""),
    operator("kubeconfig", "How the Kubernetes API is reached for `k8s://` references: a kubeconfig, which is read when the API is first asked and when it no longer accepts the account.")
        .or("as the account of the pod that the server runs in")
        .like("\"/etc/awooop/kubeconfig\""),
    operator("allow_same_uid_children", "Tool servers may run under the server's own uid when it is not root. For a machine of one person only.")
        .or("false; true in the list that `dev` makes")
        .like("true"),
    operator("private_addresses", "Addresses, ranges and hosts, each optionally with a port, that every project may reach though they are not public.")
        .or("none; this machine in the list that `dev` makes")
        .like("[\"10.20.0.0/16\", \"tools.internal:8443\"]"),
    operator("max_listed_tools", "Most tools that one list shows a model, 2 to 2000. An agent that has more finds the others with `awooop__find_tools`.")
        .or("100")
        .like("40"),
    operator("sign_in.issuer", "The issuer that people sign in with (OpenID Connect), exactly as its tokens name it. `https`, or `http` on this machine.")
        .or("none: people have keys only")
        .like("\"https://id.example.com/realms/main\""),
    operator("sign_in.client_id", "The public client that `awooop login` signs in as. It may redirect to `http://127.0.0.1` at any port.")
        .or("needed with `sign_in`")
        .like("\"awooop-cli\""),
    operator("sign_in.audience", "What access tokens must be meant for (`aud`). Not the client id: ID tokens are not taken.")
        .or("needed with `sign_in`")
        .like("\"awooop\""),
    operator("sign_in.clients", "Further clients whose tokens are taken (`azp`, `client_id`).").or("none").like("[\"ci\"]"),
    operator("sign_in.groups_claim", "The claim that lists a person's groups: a text or a list of texts.")
        .or("`groups`")
        .like("\"roles\""),
    operator("sign_in.scopes", "What `awooop login` asks the issuer for.")
        .or("`openid`, `offline_access`")
        .like("[\"openid\", \"groups\"]"),
    operator("sign_in.people", "The names that subjects (`sub`) already have here, so that somebody with a key and a sign-in is one person.")
        .or("none: everybody is a new person")
        .like("{ \"248289761001\" = \"ana\" }"),
    operator("projects.<project>.groups", "What people who sign in are in this project, by their groups: admin, operator, approver or viewer. `platform` is the operators' project.")
        .or("none: nobody signs in to it")
        .like("{ \"shop-leads\" = \"admin\", \"shop-staff\" = \"viewer\" }"),
    operator("projects.<project>.uid", "Uid and gid of the project's tool servers when the server is root. No other project may have it.")
        .or("none: no tool servers as children")
        .like("200001"),
    operator("projects.<project>.commands", "Programs by the names that the project's contracts use; absolute paths.")
        .or("none")
        .like("{ shop = \"/usr/local/bin/shop-tools\" }"),
    operator("projects.<project>.env", "Variables of the server's environment that the project may use as credentials, as `env://NAME`. Where `NAME` is not set and `NAME_FILE` is, the value is what lies in the file that it names, read for every call.")
        .or("none")
        .like("[\"OPENAI_API_KEY\"]"),
    operator("projects.<project>.k8s", "Secrets of Kubernetes that the project may use as credentials, as `k8s://namespace/secret/key`. The server's account there needs `get` on each.")
        .or("none")
        .like("[\"shop/payment-gateway\"]"),
    operator("projects.<project>.allow_credential_arguments", "The project's tool servers may get credentials in their arguments, which every user of the machine can read (`ps`).")
        .or("false")
        .like("true"),
    operator("projects.<project>.private_addresses", "Addresses that this project may reach besides those for all.")
        .or("none")
        .like("[\"127.0.0.1:7801\"]"),
    file("dev.env", "the client commands", "Address and platform admin's key of the `dev` server; written at each start.").secret(),
    file("keys/keyring.json", "dev, serve, migrate, backup, restore, doctor, config check, keys", "The keyring: the server's own secrets. `serve` reads it from `--keys`. Without it no API key can be checked: keep a copy.").secret(),
    file("keys/postgres.json", "dev, restore", "Passwords of `dev`'s own PostgreSQL.").secret(),
    file("keys/database.json", "doctor, backup", "How to connect to `dev`'s own PostgreSQL; written at each start.").secret(),
    file("operator.toml", "dev, doctor, config check", "The operator's list of `dev`; made at first start and yours to edit. Read at start."),
    file("node.json", "dev, serve", "This node's identity. Removed, the node is a new one, and its former runs wait until it is known to be silent."),
    file("pg/", "dev", "The data of `dev`'s own PostgreSQL.").secret(),
    file("lock", "dev, serve", "Held by the process that owns the directory, and says which one that is."),
];

/// Is this variable a secret of this program?
pub(crate) fn is_secret(variable: &str) -> bool {
    SETTINGS.iter().any(|s| s.given == Given::Variable && s.is_secret && s.name == variable)
}

/// The names of the variables that begin as ours do.
pub(crate) fn own_variables() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().filter(|s| s.given == Given::Variable && s.name.starts_with("AWOOOP_")).map(|s| s.name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write;
    use std::path::{Path, PathBuf};

    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    const RENEW: &str = "UPDATE_DOCS=1 cargo test -p awooop --bin awooop configuration_md";

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    fn code(text: &str) -> String {
        if text.is_empty() { String::new() } else { format!("`{text}`") }
    }

    /// A table of Markdown with a heading. Options name their command in the heading, keys their file.
    fn section(text: &mut String, heading: &str, intro: &str, settings: &[&Setting]) {
        let given = settings[0].given;
        let with_reader = matches!(given, Given::Variable | Given::DataFile);
        let with_values = given != Given::DataFile;
        let row = |name: &str, reader: &str, what: &str, values: [&str; 2], secret: &str| {
            let mut cells = vec![name];
            cells.extend(with_reader.then_some(reader));
            cells.push(what);
            cells.extend(values.into_iter().filter(|_| with_values));
            cells.push(secret);
            format!("| {} |\n", cells.join(" | "))
        };
        write!(text, "## {heading}\n\n{intro}\n\n").unwrap();
        text.push_str(&row("name", "read by", "what it does", ["default", "example"], "secret"));
        text.push_str(&row("---", "---", "---", ["---", "---"], "---"));
        for s in settings {
            let (name, example) = (code(s.name), code(s.example));
            let secret = if s.is_secret { "yes" } else { "no" };
            text.push_str(&row(&name, s.read_by, s.what, [s.default, &example], secret));
        }
        text.push('\n');
    }

    fn document() -> String {
        let of = |given: Given| SETTINGS.iter().filter(move |s| s.given == given);
        let mut text = include_str!("reference_intro.md").to_owned();
        for command in ["dev", "serve", "migrate", "backup", "restore", "doctor", "config check", "keys"] {
            let options: Vec<&Setting> = of(Given::Option).filter(|s| s.read_by == command).collect();
            section(&mut text, &format!("`awooop {command}`"), "Options:", &options);
        }
        let all = |given| of(given).collect::<Vec<_>>();
        let intro = "An empty variable counts as absent. Variables that `operator.toml` lists for a project are read as credentials.";
        section(&mut text, "Environment", intro, &all(Given::Variable));
        let intro = "What projects may name on this host. Contracts are written by projects, so they can name nothing that is not listed \
            here. Read at start. An unknown key is an error.";
        section(&mut text, "operator.toml", intro, &all(Given::Operator));
        let intro = "Belongs to the server's user; secret files have mode 0600. `awooop backup` takes a backup ([backup.md](backup.md)).";
        section(&mut text, "The data directory", intro, &all(Given::DataFile));
        format!("{}\n", text.trim_end())
    }

    #[test]
    fn configuration_md_is_made_from_the_table() {
        let path = root().join("docs/configuration.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, document()).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == document(), "docs/configuration.md is stale; renew it with: {RENEW}");
    }

    #[test]
    fn every_option_of_the_server_s_commands_is_in_the_table_and_none_else() {
        let cli = Cli::command();
        let named = ["dev", "serve", "migrate", "backup", "restore", "doctor", "config check"]
            .map(|words| (words, words));
        // all that `keys` can do takes the same
        let keys = ["keys list", "keys rotate", "keys retire"].map(|words| (words, "keys"));
        for (words, table) in named.into_iter().chain(keys) {
            let command = words.split(' ').fold(&cli, |at, word| at.find_subcommand(word).expect(word));
            let defined: BTreeSet<String> =
                command.get_arguments().filter_map(|a| a.get_long()).map(|l| format!("--{l}")).collect();
            let listed = SETTINGS.iter().filter(|s| s.given == Given::Option && s.read_by == table);
            let listed: BTreeSet<String> = listed.map(|s| s.name.to_owned()).collect();
            assert_eq!(listed, defined, "awooop {words}");
        }
    }

    #[test]
    fn every_variable_in_the_sources_is_in_the_table() {
        let mut files = vec![];
        for room in ["core", "redact", "store", "gateway", "worker", "http", "awooop"] {
            collect(&root().join("crates").join(room).join("src"), &mut files);
        }
        let known: BTreeSet<&str> = own_variables().collect();
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            for part in text.split("\"AWOOOP_").skip(1) {
                let Some((name, _)) = part.split_once('"') else { continue };
                let name = format!("AWOOOP_{name}");
                let is_name = name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
                let is_prefix = name.ends_with('_');
                assert!(
                    !is_name || is_prefix || known.contains(name.as_str()),
                    "{name} in {}",
                    file.display()
                );
            }
        }
    }

    fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }

    /// The parser names the keys it knows when it meets one it does not.
    fn known_keys(text: &str) -> BTreeSet<String> {
        let error = toml::from_str::<awooop_gateway::Operator>(text).expect_err("an unknown key").to_string();
        let known = error.split("expected one of").nth(1).expect("a list of keys").split('`');
        known.skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn every_key_of_the_operator_s_list_is_in_the_table_and_its_example_works() {
        let listed: BTreeSet<&str> =
            SETTINGS.iter().filter(|s| s.given == Given::Operator).map(|s| s.name).collect();
        let mut known = known_keys("nonsense = 1");
        assert!(known.remove("projects") && known.remove("sign_in"));
        known.extend(known_keys("[sign_in]\nnonsense = 1").iter().map(|key| format!("sign_in.{key}")));
        known.extend(
            known_keys("[projects.shop]\nnonsense = 1").iter().map(|key| format!("projects.<project>.{key}")),
        );
        assert_eq!(listed, known.iter().map(String::as_str).collect());
        let mut text: Vec<String> = SETTINGS
            .iter()
            .filter(|s| s.given == Given::Operator)
            .map(|s| format!("{} = {}", s.name.replace("<project>", "shop"), s.example))
            .collect();
        text.sort_by_key(|line| line.starts_with("projects"));
        let list: awooop_gateway::Operator = toml::from_str(&text.join("\n")).unwrap();
        list.validate().unwrap();
    }
}
