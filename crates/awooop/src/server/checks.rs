//! What `doctor` and `config check` both look at on this host. Each function changes nothing and gives the
//! problems it found, each a sentence that says what to do or what is in the way.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use awooop_core::ProjectId;
use awooop_gateway::Operator;
use awooop_gateway::upstream::closed_ancestor;
use awooop_store::DatabaseUrls;
use awooop_store::embedded::find_postgres;

use super::required;

/// The secret files of a data directory.
pub(super) const SECRET_FILES: [&str; 4] =
    ["dev.env", "keys/keyring.json", "keys/postgres.json", "keys/database.json"];

/// The PostgreSQL that `dev` would start, in words, or why there is none and how to get one.
pub(super) fn own_postgres() -> Result<String, String> {
    match find_postgres(std::env::var_os("AWOOOP_PG_BIN").map(PathBuf::from).as_deref()) {
        Ok(bin) => Ok(format!("{} in {}", bin.version, bin.dir.display())),
        Err(missing) => Err(missing.to_string()),
    }
}

/// The two URLs that serving needs, from the environment.
pub(super) fn urls_of_environment() -> anyhow::Result<DatabaseUrls> {
    let dispatch = required("AWOOOP_DISPATCH_DATABASE_URL")?;
    Ok(DatabaseUrls { app: required("AWOOOP_DATABASE_URL")?, dispatch })
}

/// Those of the files that others can read; absent ones are no problem.
pub(super) fn open_to_others(directory: &Path, names: &[&str]) -> Vec<String> {
    let mode = |name: &str| Some(std::fs::metadata(directory.join(name)).ok()?.permissions().mode() & 0o777);
    let found = names.iter().filter_map(|name| Some((name, mode(name)?)));
    found
        .filter(|(_, mode)| mode & 0o077 != 0)
        .map(|(name, mode)| {
            let path = directory.join(name);
            format!(
                "{name} can be read by others (mode {mode:o}); it must be 600: chmod 600 {}",
                path.display()
            )
        })
        .collect()
}

/// Programs of the operator's list that are not there, do not run, or cannot be reached by the project's uid.
pub(super) fn commands(list: &Operator) -> Vec<String> {
    let programs = list
        .projects
        .iter()
        .flat_map(|(project, rules)| rules.commands.iter().map(move |(name, path)| (project, name, path)));
    programs
        .filter_map(|(project, name, path)| {
            let problem = command(list, project, path)?;
            Some(format!("`{name}` of project {project}: {problem}"))
        })
        .collect()
}

fn command(list: &Operator, project: &ProjectId, path: &Path) -> Option<String> {
    let shown = path.display();
    let Some(meta) = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file) else {
        return Some(format!("{shown} is not there"));
    };
    if meta.permissions().mode() & 0o111 == 0 {
        return Some(format!("{shown} is not executable: chmod a+x {shown}"));
    }
    let uid = list.child_uid(project).ok()??;
    let closed = closed_ancestor(path, uid)?;
    Some(format!("uid {uid} cannot pass {}", closed.display()))
}
