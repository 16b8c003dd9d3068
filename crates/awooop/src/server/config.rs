//! `awooop config check`: looks at every setting of the server before it starts, starts nothing and changes
//! nothing. The database is asked as `serve` would ask it (roles, schema) unless `--offline`; whoever runs this
//! should be the user who runs the server, or permissions are judged for somebody else.
//!
//! One line a finding, with what to do. Ends with 2 when something is invalid, else with 4 when the database
//! cannot be reached, else with 0; a warning changes nothing. No line holds a URL or any other secret.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use awooop_gateway::Operator;
use awooop_store::keyring::Keyring;
use awooop_store::migrate::role_password;
use awooop_store::pool::OpenError;
use awooop_store::{Clock, DatabaseUrls, Store, StoreError};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use url::Url;

use super::edge::Certificate;
use super::{checks, edge, logging, operator, reference, required, setting};
use crate::cli::{CheckedRole, ConfigCheckArgs, TlsArgs};
use crate::failure::Exit;
use crate::output::{note, write_document, write_raw};
use crate::settings::default_data_dir;

const DATABASE: &str = "database";
const KEYRING: &str = "keyring";
const OPERATOR: &str = "operator's list";
const DATA_DIR: &str = "data directory";
const CERTIFICATE: &str = "certificate";
const ENVIRONMENT: &str = "environment";

/// How a finding bears on the start of the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Status {
    Ok,
    Warning,
    Invalid,
    Unreachable,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Invalid => "invalid",
            Status::Unreachable => "unreachable",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug)]
struct Finding {
    subject: &'static str,
    status: Status,
    message: String,
}

fn finding(subject: &'static str, status: Status, message: impl Into<String>) -> Finding {
    Finding { subject, status, message: message.into() }
}

fn invalid(subject: &'static str, message: impl Into<String>) -> Finding {
    finding(subject, Status::Invalid, message)
}

fn well(subject: &'static str, message: impl Into<String>) -> Finding {
    finding(subject, Status::Ok, message)
}

/// What is checked, after the defaults.
struct Subject {
    role: CheckedRole,
    data_dir: Option<PathBuf>,
    operator: Option<PathBuf>,
    keys: Option<PathBuf>,
    tls: TlsArgs,
    is_offline: bool,
}

impl Subject {
    fn new(args: ConfigCheckArgs) -> Self {
        let is_external = setting("AWOOOP_DATABASE_URL").is_some();
        let role = args.role.unwrap_or(if is_external { CheckedRole::All } else { CheckedRole::Dev });
        let data_dir = args.data_dir.or_else(default_data_dir);
        let of_dev =
            |name: &str| data_dir.as_ref().filter(|_| role == CheckedRole::Dev).map(|dir| dir.join(name));
        let operator = args.operator.or_else(|| of_dev("operator.toml"));
        let keys = args.keys.or_else(|| of_dev("keys"));
        Self { role, operator, keys, tls: args.tls, is_offline: args.offline, data_dir }
    }

    fn is_dev(&self) -> bool {
        self.role == CheckedRole::Dev
    }
}

/// Looks at everything and reports.
pub(crate) async fn run(args: ConfigCheckArgs) -> anyhow::Result<ExitCode> {
    logging::start("error");
    let is_json = args.json;
    let subject = Subject::new(args);
    let role = role_name(subject.role);
    let mut findings = database(&subject).await;
    findings.extend(keyring(&subject));
    findings.extend(operators_list(&subject));
    findings.extend(data_directory(&subject));
    findings.extend(certificate(&subject));
    findings.extend(redis());
    findings.extend(variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())));
    // a parser repeats the line it stumbled over
    findings.iter_mut().for_each(|f| f.message = logging::without_secrets(&f.message));
    let has = |status| findings.iter().any(|f| f.status == status);
    let exit = match (has(Status::Invalid), has(Status::Unreachable)) {
        (true, _) => Exit::Invalid,
        (false, true) => Exit::Unreachable,
        (false, false) => Exit::Done,
    };
    let is_well = exit == Exit::Done;
    if is_json {
        let items: Vec<Value> = findings
            .iter()
            .map(|f| json!({"subject": f.subject, "status": f.status.as_str(), "message": f.message}))
            .collect();
        write_document(&json!({"is_well": is_well, "role": role, "findings": items}));
    } else {
        for Finding { subject, status, message } in &findings {
            write_raw(&format!("{:<11}  {subject:<15}  {message}\n", status.as_str()));
        }
        let verdict = if is_well { "nothing is wrong with" } else { "something is wrong with" };
        note(&format!("{verdict} the settings of {role}"));
    }
    Ok(exit.into())
}

fn role_name(role: CheckedRole) -> &'static str {
    match role {
        CheckedRole::Dev => "dev",
        CheckedRole::Api => "api",
        CheckedRole::Worker => "worker",
        CheckedRole::All => "all",
        CheckedRole::Migrate => "migrate",
    }
}

async fn database(subject: &Subject) -> Vec<Finding> {
    let is_external = setting("AWOOOP_DATABASE_URL").is_some();
    if subject.is_dev() && !is_external {
        return vec![match checks::own_postgres() {
            Ok(detail) => well(DATABASE, format!("dev starts its own PostgreSQL {detail}")),
            Err(missing) => invalid(DATABASE, missing),
        }];
    }
    let is_owner_needed = subject.is_dev() || subject.role == CheckedRole::Migrate;
    let mut findings: Vec<Finding> = if is_owner_needed {
        owner().map(|message| invalid(DATABASE, message)).into_iter().collect()
    } else {
        Vec::new()
    };
    let urls = match checks::urls_of_environment() {
        Ok(urls) => urls,
        Err(missing) => {
            findings.push(invalid(DATABASE, format!("{missing}; `awooop migrate` makes the role it names")));
            return findings;
        }
    };
    if subject.is_offline {
        findings.extend(parsed(&urls));
    } else if !is_owner_needed || findings.is_empty() {
        findings.push(answer(&urls, is_owner_needed).await);
    }
    findings
}

/// What is wrong with the owner's URL; it is never connected to.
fn owner() -> Option<String> {
    let variable = "AWOOOP_OWNER_DATABASE_URL";
    match required(variable) {
        Ok(url) => role_password(variable, &url, "awooop_owner").err().map(|e| e.to_string()),
        Err(missing) => Some(missing.to_string()),
    }
}

/// The URLs without a connection.
fn parsed(urls: &DatabaseUrls) -> Vec<Finding> {
    let urls = [
        ("AWOOOP_DATABASE_URL", &urls.app, "awooop_app"),
        ("AWOOOP_DISPATCH_DATABASE_URL", &urls.dispatch, "awooop_dispatch"),
    ];
    let read = urls.map(|(variable, url, role)| match role_password(variable, url, role) {
        Ok(_) => well(DATABASE, format!("{variable} is a URL for {role}; not connected (--offline)")),
        Err(error) => invalid(DATABASE, error.to_string()),
    });
    read.into()
}

/// Asks the database what `serve` asks at its start. Where the schema is made by the same command, an old
/// one is no fault.
async fn answer(urls: &DatabaseUrls, is_migrating: bool) -> Finding {
    let opened = Store::open(urls, Clock::system(), Keyring::for_reading()).await;
    match opened {
        Ok(store) => {
            store.close();
            well(DATABASE, "answers; its roles cannot step over row security; the schema fits")
        }
        Err(OpenError::Schema { found, needed }) if is_migrating && found < needed => well(
            DATABASE,
            format!("answers; the schema is at version {found} and will be brought to {needed}"),
        ),
        Err(OpenError::Store(error)) => no_answer(&error),
        Err(other) => invalid(DATABASE, other.to_string()),
    }
}

/// What PostgreSQL says when a URL names a user, password or database that it does not have.
const REFUSALS: [&str; 4] =
    ["authentication failed", "does not exist", "no pg_hba.conf entry", "is not permitted to log in"];

/// Why no connection came about: the settings, or a database that is not there at the moment.
fn no_answer(error: &StoreError) -> Finding {
    let mut reason: &dyn std::error::Error = error;
    while let Some(inner) = reason.source() {
        reason = inner;
    }
    let reason = reason.to_string();
    if REFUSALS.iter().any(|refusal| reason.contains(refusal)) {
        return invalid(
            DATABASE,
            format!("refuses the connection ({reason}): correct user, password or database"),
        );
    }
    let message = format!("cannot be reached ({reason}): is it running, and are host and port right?");
    finding(DATABASE, Status::Unreachable, message)
}

fn keyring(subject: &Subject) -> Vec<Finding> {
    let Some(directory) = &subject.keys else {
        return match subject.role {
            CheckedRole::Migrate => Vec::new(),
            _ => vec![invalid(
                KEYRING,
                "name its directory with --keys; `awooop migrate --keys DIR` makes one",
            )],
        };
    };
    let is_made_later = subject.is_dev() || subject.role == CheckedRole::Migrate;
    let file = directory.join("keyring.json");
    if is_made_later && !file.exists() {
        return vec![well(KEYRING, format!("none yet: the first start makes {}", file.display()))];
    }
    if let Err(error) = Keyring::load(directory) {
        let reason = std::error::Error::source(&error).map(|e| format!(": {e}")).unwrap_or_default();
        return vec![invalid(KEYRING, format!("{error}{reason}"))];
    }
    let open = checks::open_to_others(directory, &["keyring.json"]);
    if open.is_empty() {
        return vec![well(KEYRING, format!("{} is readable and private", file.display()))];
    }
    open.into_iter().map(|problem| invalid(KEYRING, problem)).collect()
}

fn operators_list(subject: &Subject) -> Vec<Finding> {
    if subject.role == CheckedRole::Migrate {
        return Vec::new();
    }
    let Some(path) = &subject.operator else {
        return vec![well(OPERATOR, "none: projects may name nothing on this host (--operator names one)")];
    };
    if subject.is_dev() && !path.exists() {
        return vec![well(OPERATOR, format!("none yet: the first start makes {}", path.display()))];
    }
    let read = if subject.is_dev() { operator::for_dev(path) } else { operator::read(path) };
    let list = match read {
        Ok(list) => list,
        Err(error) => return vec![invalid(OPERATOR, format!("{error:#}"))],
    };
    let mut findings: Vec<Finding> =
        checks::commands(&list).into_iter().map(|problem| invalid(OPERATOR, problem)).collect();
    findings.extend(secrets(&list));
    findings.extend(kubeconfig(&list));
    // the list that `dev` makes names a variable that nobody has to set
    if !subject.is_dev() {
        findings.extend(unready(&list));
    }
    if findings.is_empty() {
        findings.push(well(OPERATOR, format!("{} is valid", path.display())));
    }
    findings
}

fn secrets(list: &Operator) -> Option<Finding> {
    let folder = list.secrets.as_ref().filter(|folder| !folder.is_dir())?;
    Some(invalid(OPERATOR, format!("the secrets folder {} is no directory: make it", folder.display())))
}

fn kubeconfig(list: &Operator) -> Option<Finding> {
    let path = list.kubeconfig.as_ref().filter(|path| std::fs::File::open(path).is_err())?;
    Some(invalid(OPERATOR, format!("the kubeconfig {} cannot be read", path.display())))
}

/// What a project may name and would not find: no reason not to start.
fn unready(list: &Operator) -> Vec<Finding> {
    let warning = |message: String| finding(OPERATOR, Status::Warning, message);
    let mut found = Vec::new();
    for (project, rules) in &list.projects {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        for name in rules.env.iter().filter(|name| !is_set(name) && !is_set(&format!("{name}_FILE"))) {
            found.push(warning(format!("project {project} may use the variable {name}, which is not set")));
        }
        if !rules.k8s.is_empty() && list.kubeconfig.is_none() && !is_set("KUBERNETES_SERVICE_HOST") {
            let message =
                "may use Secrets of Kubernetes, but this server runs in no cluster: name a kubeconfig";
            found.push(warning(format!("project {project} {message}")));
        }
        if !rules.commands.is_empty()
            && let Err(reason) = list.child_uid(project)
        {
            found.push(warning(format!("project {project} lists commands that will not start: {reason}")));
        }
    }
    found
}

fn data_directory(subject: &Subject) -> Vec<Finding> {
    if matches!(subject.role, CheckedRole::Api | CheckedRole::Migrate) {
        return Vec::new();
    }
    let Some(path) = &subject.data_dir else {
        return match subject.is_dev() {
            true => vec![invalid(DATA_DIR, "no home directory is known: name a --data-dir")],
            false => vec![finding(DATA_DIR, Status::Warning, "none: this worker is a new one at each start")],
        };
    };
    let shown = path.display();
    let Ok(meta) = std::fs::metadata(path) else {
        return vec![well(DATA_DIR, format!("{shown} is not there yet and will be made"))];
    };
    if !meta.is_dir() {
        return vec![invalid(DATA_DIR, format!("{shown} is no directory"))];
    }
    let me = nix::unistd::geteuid().as_raw();
    if meta.uid() != me {
        let message = format!("{shown} belongs to uid {}, not to {me}: run as its user", meta.uid());
        return vec![invalid(DATA_DIR, message)];
    }
    let open = open_files(path);
    if open.is_empty() { vec![well(DATA_DIR, shown.to_string())] } else { open }
}

fn open_files(path: &Path) -> Vec<Finding> {
    // the keyring has its own finding
    let names = checks::SECRET_FILES.into_iter().filter(|name| *name != "keys/keyring.json");
    let open = checks::open_to_others(path, &names.collect::<Vec<_>>());
    open.into_iter().map(|problem| invalid(DATA_DIR, problem)).collect()
}

/// The listener's certificate; `dev` and `migrate` have none.
fn certificate(subject: &Subject) -> Option<Finding> {
    if matches!(subject.role, CheckedRole::Dev | CheckedRole::Migrate) {
        return None;
    }
    let files = match edge::tls_files(&subject.tls) {
        Ok(files) => files?,
        Err(error) => return Some(invalid(CERTIFICATE, error.to_string())),
    };
    Some(match edge::examine(&files, Clock::system().now()) {
        Certificate::Well(message) => match open_key(&files.key) {
            None => well(CERTIFICATE, message),
            Some(mode) => {
                let key = files.key.display();
                let message = format!("everybody can read {key} (mode {mode:o}): chmod 600 {key}");
                finding(CERTIFICATE, Status::Warning, message)
            }
        },
        Certificate::Ends(message) => finding(CERTIFICATE, Status::Warning, message),
        Certificate::Unusable(message) => invalid(CERTIFICATE, message),
    })
}

/// The mode of a key that everybody on this machine can read. A group may: certificates are often kept for one.
fn open_key(path: &Path) -> Option<u32> {
    let mode = std::fs::metadata(path).ok()?.mode() & 0o777;
    (mode & 0o007 != 0).then_some(mode)
}

fn redis() -> Option<Finding> {
    let url = setting("AWOOOP_REDIS_URL")?;
    let parsed = Url::parse(url.expose_secret()).ok();
    let is_good = parsed.is_some_and(|url| matches!(url.scheme(), "redis" | "rediss") && url.has_host());
    Some(match is_good {
        true => well("redis", "AWOOOP_REDIS_URL is a URL; not connected"),
        false => {
            invalid("redis", "AWOOOP_REDIS_URL must look like redis://host:6379/0, or rediss:// with TLS")
        }
    })
}

/// Variables that begin as ours and that nothing reads. One that is nearly a known name is misspelt; another may
/// be somebody else's, such as those that Kubernetes makes for a service of our name.
fn variables(names: impl Iterator<Item = String>) -> Vec<Finding> {
    let mut unknown: Vec<String> = names
        .filter(|name| name.starts_with("AWOOOP_") && !name.starts_with("AWOOOP_TEST_"))
        .filter(|name| reference::own_variables().all(|known| known != name))
        .collect();
    unknown.sort();
    let judge = |name: String| {
        let nearest = reference::own_variables().map(|known| (distance(known, &name), known)).min();
        match nearest {
            Some((0..=2, known)) => {
                invalid(ENVIRONMENT, format!("{name} is read by nothing: {known} is meant?"))
            }
            Some((_, known)) => {
                let message = format!("{name} is read by nothing; the nearest known name is {known}");
                finding(ENVIRONMENT, Status::Warning, message)
            }
            None => finding(ENVIRONMENT, Status::Warning, format!("{name} is read by nothing")),
        }
    };
    unknown.into_iter().map(judge).collect()
}

/// How many characters have to be put in, taken out or changed to make one of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.chars().enumerate() {
            let changed = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[row.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_single_changes() {
        for (a, b, expected) in
            [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("AWOOOP_LOG", "AWOOOP_LOGS", 1)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn a_misspelt_variable_is_invalid_and_a_foreign_one_is_only_named() {
        let names = ["AWOOOP_DATABSE_URL", "AWOOOP_PORT", "AWOOOP_LOG", "AWOOOP_TEST_X", "PATH"];
        let found = variables(names.into_iter().map(str::to_owned));
        let found: Vec<(Status, bool)> =
            found.iter().map(|f| (f.status, f.message.contains("AWOOOP_DATABASE_URL"))).collect();
        assert_eq!(found[0], (Status::Invalid, true));
        assert_eq!(found[1].0, Status::Warning);
        assert_eq!(found.len(), 2);
    }
}
