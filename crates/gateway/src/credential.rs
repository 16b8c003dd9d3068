//! Credentials: resolved from a reference when a call needs them, held in memory that never prints, never
//! stored, logged, journaled or returned.

use std::path::Path;

use awooop_core::ProjectId;
use awooop_core::contract::CredentialRef;
use secrecy::SecretString;

use crate::operator::Operator;

/// Largest file taken as a credential, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// Why there is no credential. `Display` names the reference, never a path of the host or a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The operator does not list it for this project.
    #[error("the operator does not allow `{0}` for this project")]
    NotAllowed(String),
    /// It is allowed and not there, or empty.
    #[error("`{0}` holds no credential")]
    Absent(String),
}

/// Reads what a reference points at.
pub fn resolve(
    operator: &Operator,
    project: &ProjectId,
    reference: &CredentialRef,
) -> Result<SecretString, CredentialError> {
    let shown = String::from(reference.clone());
    let found = match reference {
        CredentialRef::Env(name) if operator.allows_env(project, name) => std::env::var(name).ok(),
        CredentialRef::Env(_) => return Err(CredentialError::NotAllowed(shown)),
        CredentialRef::File(path) => {
            let root =
                operator.secrets.as_deref().ok_or_else(|| CredentialError::NotAllowed(shown.clone()))?;
            read_below(&root.join(project.as_str()), Path::new(path)).map_err(|refused| match refused {
                Refused::Outside => CredentialError::NotAllowed(shown.clone()),
                Refused::Absent => CredentialError::Absent(shown.clone()),
            })?
        }
    };
    match found.as_deref().map(str::trim_end) {
        Some(value) if !value.is_empty() => Ok(SecretString::from(value)),
        _ => Err(CredentialError::Absent(shown)),
    }
}

enum Refused {
    Outside,
    Absent,
}

/// Reads a file below `root`, judged after every symbolic link was followed.
fn read_below(root: &Path, path: &Path) -> Result<Option<String>, Refused> {
    if path.is_absolute() {
        return Err(Refused::Outside);
    }
    let root = root.canonicalize().map_err(|_| Refused::Absent)?;
    let file = root.join(path).canonicalize().map_err(|_| Refused::Absent)?;
    if !file.starts_with(&root) {
        return Err(Refused::Outside);
    }
    let is_small_file = file.metadata().is_ok_and(|m| m.is_file() && m.len() <= MAX_BYTES);
    Ok(if is_small_file { std::fs::read_to_string(&file).ok() } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_file_is_read_only_below_the_projects_own_folder() {
        let secrets = tempfile::tempdir().unwrap();
        for (project, value) in [("mine", "mine-secret\n"), ("other", "other-secret")] {
            std::fs::create_dir(secrets.path().join(project)).unwrap();
            std::fs::write(secrets.path().join(project).join("token"), value).unwrap();
        }
        std::os::unix::fs::symlink(secrets.path().join("other/token"), secrets.path().join("mine/link"))
            .unwrap();
        std::fs::write(secrets.path().join("mine/empty"), "\n").unwrap();
        let operator = Operator { secrets: Some(secrets.path().to_owned()), ..Operator::default() };
        let mine = ProjectId::parse("mine").unwrap();
        let read = |path: &str| {
            resolve(&operator, &mine, &CredentialRef::File(path.to_owned()))
                .map(|s| s.expose_secret().to_owned())
        };
        assert_eq!(read("token").as_deref(), Ok("mine-secret"));
        for outside in ["../other/token", "link", "/etc/passwd"] {
            assert!(matches!(read(outside), Err(CredentialError::NotAllowed(_))), "{outside}");
        }
        for absent in ["nothing", "empty", "."] {
            assert!(matches!(read(absent), Err(CredentialError::Absent(_))), "{absent}");
        }
    }

    #[test]
    fn a_variable_is_read_only_when_it_is_listed() {
        let operator = Operator::default();
        let project = ProjectId::parse("mine").unwrap();
        let found = resolve(&operator, &project, &CredentialRef::Env("PATH".to_owned()));
        assert_eq!(found.err(), Some(CredentialError::NotAllowed("env://PATH".to_owned())));
    }
}
