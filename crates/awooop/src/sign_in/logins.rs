//! The sign-ins of this machine's user: one file, mode 0600, an entry a server. Written anew and renamed over the old,
//! under a lock, so that two commands at a time neither lose an entry nor use one refresh token twice.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use super::Offer;
use crate::failure::Failure;

const FILE: &str = "sign-in.json";
const LOCK: &str = "sign-in.lock";

/// A sign-in at one server.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Login {
    /// Who vouches for the person.
    pub(crate) issuer: String,
    /// As which client they signed in.
    pub(crate) client_id: String,
    /// What the tokens are meant for.
    pub(crate) audience: String,
    /// The scopes that were asked for.
    pub(crate) scopes: Vec<String>,
    /// What the server takes.
    #[serde(serialize_with = "exposed", deserialize_with = "hidden")]
    pub(crate) access_token: SecretString,
    /// What the issuer gives a new one for.
    #[serde(serialize_with = "exposed_if_any", deserialize_with = "hidden_if_any")]
    pub(crate) refresh_token: Option<SecretString>,
    /// When the access token ends, where that is known.
    pub(crate) expires_at: Option<Timestamp>,
}

impl Login {
    /// What the server offered when it was made.
    pub(super) fn offer(&self) -> Offer {
        Offer {
            issuer: self.issuer.clone(),
            client_id: self.client_id.clone(),
            audience: self.audience.clone(),
            scopes: self.scopes.clone(),
        }
    }
}

/// Only the file of the user itself holds tokens in clear.
fn exposed<S: Serializer>(token: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(token.expose_secret())
}

fn exposed_if_any<S: Serializer>(token: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    token.as_ref().map(ExposeSecret::expose_secret).serialize(serializer)
}

fn hidden<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(Into::into)
}

fn hidden_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Into::into))
}

#[derive(Default, Serialize, Deserialize)]
struct Content {
    logins: BTreeMap<String, Login>,
}

/// Where the sign-ins lie.
#[derive(Clone)]
pub(crate) struct Logins {
    directory: PathBuf,
}

/// The same while nobody else writes.
pub(crate) struct HeldLogins {
    logins: Logins,
    _lock: Flock<File>,
}

impl Logins {
    /// `$XDG_CONFIG_HOME/awooop`, or `~/.config/awooop`; `None` when no home directory is known.
    pub(crate) fn here() -> Option<Self> {
        let absolute =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base =
            absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
        Some(Self { directory: base.join("awooop") })
    }

    /// The sign-in at this server.
    pub(crate) fn find(&self, server: &Url) -> Result<Option<Login>, Failure> {
        Ok(self.read()?.logins.remove(&name(server)))
    }

    /// Waits until nobody else writes.
    pub(crate) async fn lock(&self) -> Result<HeldLogins, Failure> {
        let logins = self.clone();
        let locked = tokio::task::spawn_blocking(move || logins.lock_now()).await;
        locked.map_err(|e| Failure::invalid(format!("the sign-ins cannot be locked: {e}")))?
    }

    fn lock_now(self) -> Result<HeldLogins, Failure> {
        let failed = |e: std::io::Error| self.failed("write in", &self.directory, &e);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        made.map_err(failed)?;
        let path = self.directory.join(LOCK);
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
        let lock = Flock::lock(file.map_err(failed)?, FlockArg::LockExclusive);
        let lock = lock.map_err(|(_, e)| failed(e.into()))?;
        Ok(HeldLogins { logins: self, _lock: lock })
    }

    fn read(&self) -> Result<Content, Failure> {
        let path = self.directory.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Content::default()),
            Err(e) => return Err(self.failed("read", &path, &e)),
        };
        serde_json::from_slice(&text).map_err(|e| {
            // what it holds is secret: only the place is told
            let place = format!("line {}, column {}", e.line(), e.column());
            Failure::Invalid {
                message: format!("{} is damaged: {place}", path.display()),
                hint: Some("remove it and sign in again with `awooop login`".to_owned()),
            }
        })
    }

    fn write(&self, content: &Content) -> Result<(), Failure> {
        let path = self.directory.join(FILE);
        let fresh = self.directory.join(format!("{FILE}.new"));
        let failed = |e: std::io::Error| self.failed("write", &path, &e);
        // one that a crash left is in the way of a file of our own mode
        match std::fs::remove_file(&fresh) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        let text = serde_json::to_vec_pretty(content).expect("texts and times are JSON");
        let written = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&fresh);
        written
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .and_then(|()| std::fs::rename(&fresh, &path))
            .map_err(failed)
    }

    fn failed(&self, what: &str, path: &Path, error: &std::io::Error) -> Failure {
        Failure::Invalid {
            message: format!("cannot {what} {}: {error}", path.display()),
            hint: Some("XDG_CONFIG_HOME names the directory of settings".to_owned()),
        }
    }
}

impl HeldLogins {
    /// The sign-in at this server.
    pub(crate) fn find(&self, server: &Url) -> Result<Option<Login>, Failure> {
        self.logins.find(server)
    }

    /// Keeps a sign-in in place of a former one.
    pub(crate) fn put(&self, server: &Url, login: Login) -> Result<(), Failure> {
        let mut content = self.logins.read()?;
        content.logins.insert(name(server), login);
        self.logins.write(&content)
    }

    /// Forgets the sign-in at this server and gives it back.
    pub(crate) fn remove(&self, server: &Url) -> Result<Option<Login>, Failure> {
        let mut content = self.logins.read()?;
        let found = content.logins.remove(&name(server));
        if found.is_some() {
            self.logins.write(&content)?;
        }
        Ok(found)
    }
}

/// A server's address as a name: without the slash at its end.
fn name(server: &Url) -> String {
    server.as_str().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn login(token: &str) -> Login {
        Login {
            issuer: "https://id.example".to_owned(),
            client_id: "cli".to_owned(),
            audience: "awooop".to_owned(),
            scopes: vec!["openid".to_owned()],
            access_token: token.to_owned().into(),
            refresh_token: None,
            expires_at: None,
        }
    }

    #[tokio::test]
    async fn a_sign_in_is_kept_for_its_server_and_readable_by_nobody_else() {
        let home = tempfile::tempdir().unwrap();
        let logins = Logins { directory: home.path().join("awooop") };
        let url = |text: &str| Url::parse(text).unwrap();
        let (here, there) = (url("http://127.0.0.1:7700/"), url("https://awooop.example/prefix"));
        assert!(logins.find(&here).unwrap().is_none());
        let held = logins.lock().await.unwrap();
        held.put(&here, login("first")).unwrap();
        held.put(&there, login("second")).unwrap();
        drop(held);
        let found = logins.find(&here).unwrap().unwrap();
        assert_eq!(found.access_token.expose_secret(), "first");
        for other in ["http://127.0.0.1:7701", "https://127.0.0.1:7700", "https://awooop.example"] {
            assert!(logins.find(&url(other)).unwrap().is_none(), "{other}");
        }
        let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(logins.directory.join(FILE)), mode(logins.directory.clone())), (0o600, 0o700));
        let held = logins.lock().await.unwrap();
        assert!(held.remove(&here).unwrap().is_some() && held.remove(&here).unwrap().is_none());
        assert!(logins.find(&there).unwrap().is_some());
        std::fs::write(logins.directory.join(FILE), "{\"logins\": \"secret").unwrap();
        let error = logins.find(&there).map(drop).expect_err("damaged").to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
