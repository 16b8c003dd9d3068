//! Which server a command talks to, and with which key or sign-in.
//!
//! The order is flag, environment, `dev.env` of the data directory, and for the address the default port on
//! this machine; a sign-in at the server goes before the key in `dev.env`. Invariant: the key in `dev.env` goes to the server that `dev.env` names and to no other,
//! so that `--url` cannot carry an administrator's key of this machine elsewhere. Fails with exit code 2
//! when there is no key, or a setting makes no sense.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::cli::ServerArgs;
use crate::failure::Failure;
use crate::sign_in::Session;

/// Where `awooop dev` listens unless told otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:7700";

/// Where a command's requests go.
pub(crate) struct Settings {
    /// The server's address.
    pub(crate) url: Url,
    /// The key or sign-in, where one is known.
    pub(crate) proof: Option<Proof>,
    /// The project to act in, where it is not the key's own.
    pub(crate) project: Option<String>,
    /// A file of authorities that are trusted besides the host's.
    pub(crate) ca_file: Option<PathBuf>,
}

/// What proves who the command is.
#[derive(Clone)]
pub(crate) enum Proof {
    /// A key of the command line or the environment.
    Given(SecretString),
    /// A sign-in of this machine.
    SignIn(Session),
    /// The key in `dev.env`.
    DevEnv(SecretString),
}

impl Proof {
    /// What it is, for a person.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Proof::Given(_) => "the key of AWOOOP_KEY or --key",
            Proof::SignIn(_) => "the sign-in of this machine",
            Proof::DevEnv(_) => "the key in dev.env",
        }
    }
}

impl Settings {
    /// The server's address without a trailing slash.
    pub(crate) fn shown_url(&self) -> String {
        self.url.as_str().trim_end_matches('/').to_owned()
    }

    /// Finds address and key or sign-in.
    ///
    /// # Errors
    /// [`Failure::Invalid`] for an address that is none and a `dev.env` that cannot be read.
    pub(crate) fn find(server: &ServerArgs, key: Option<SecretString>) -> Result<Self, Failure> {
        let given = server.url.as_deref().filter(|u| !u.is_empty()).map(parse_url).transpose()?;
        let key = key.filter(|k| !k.expose_secret().is_empty());
        let dev = match (&given, &key) {
            (Some(_), Some(_)) => DevEnv::default(),
            _ => DevEnv::read(server.data_dir.as_deref())?,
        };
        let url = match (given, &dev.url) {
            (Some(url), _) => url,
            (None, Some(url)) => url.clone(),
            (None, None) => parse_url(DEFAULT_URL)?,
        };
        let is_dev_server = dev.url.as_ref().is_some_and(|dev| dev.origin() == url.origin());
        let proof = match key {
            Some(key) => Some(Proof::Given(key)),
            None => match Session::find(&url)? {
                Some(session) => Some(Proof::SignIn(session)),
                None => dev.key.filter(|_| is_dev_server).map(Proof::DevEnv),
            },
        };
        let ca_file = server.ca_file.as_deref().filter(|f| !f.is_empty()).map(PathBuf::from);
        Ok(Self { url, proof, project: server.project.clone(), ca_file })
    }
}

/// Reads an address, and refuses what could not be one of ours.
fn parse_url(text: &str) -> Result<Url, Failure> {
    let bad = |reason: &str| Failure::invalid(format!("the server's address is not valid: {reason}"));
    let url = Url::parse(text).map_err(|e| bad(&e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("it must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("it must not hold a user name or password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("it must not hold a query or fragment"));
    }
    Ok(url)
}

/// What `awooop dev` wrote for the command line.
#[derive(Default)]
struct DevEnv {
    url: Option<Url>,
    key: Option<SecretString>,
}

impl DevEnv {
    fn read(data_dir: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = data_dir.map(Path::to_owned).or_else(default_data_dir) else {
            return Ok(Self::default());
        };
        let path = path.join("dev.env");
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(Failure::Invalid {
                message: format!("cannot read {}: {e}", path.display()),
                hint: Some("set AWOOOP_URL and AWOOOP_KEY, or name another --data-dir".to_owned()),
            }),
        }
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let mut found = Self::default();
        for line in text.lines() {
            let line = line.trim();
            let Some((name, value)) = line.strip_prefix("export ").unwrap_or(line).split_once('=') else {
                continue;
            };
            let value = value.trim_matches(['"', '\'']);
            match name {
                "AWOOOP_URL" => found.url = Some(parse_url(value)?),
                "AWOOOP_KEY" => found.key = Some(value.into()),
                _ => {}
            }
        }
        Ok(found)
    }
}

/// Where `awooop dev` keeps its data by default: `/var/lib/awooop` as root, else `$XDG_DATA_HOME/awooop` or
/// `~/.local/share/awooop`. `None` when no home directory is known.
pub(crate) fn default_data_dir() -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/awooop"));
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("awooop"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key that was found; of a sign-in there is none.
    fn key_of(found: Settings) -> Option<String> {
        match found.proof? {
            Proof::Given(key) | Proof::DevEnv(key) => Some(key.expose_secret().to_owned()),
            Proof::SignIn(_) => None,
        }
    }

    fn args(url: Option<&str>, dir: &Path) -> ServerArgs {
        ServerArgs {
            url: url.map(str::to_owned),
            project: None,
            data_dir: Some(dir.to_owned()),
            ca_file: None,
        }
    }

    #[test]
    fn the_key_of_dev_env_goes_to_the_server_of_dev_env_only() {
        let dir = tempfile::tempdir().unwrap();
        let text = "# written by dev\nAWOOOP_URL=http://127.0.0.1:7711\nexport AWOOOP_KEY='awp_x'\n";
        std::fs::write(dir.path().join("dev.env"), text).unwrap();
        let key = |url: Option<&str>| key_of(Settings::find(&args(url, dir.path()), None).unwrap());
        assert_eq!(key(None).as_deref(), Some("awp_x"));
        assert_eq!(key(Some("http://127.0.0.1:7711/")).as_deref(), Some("awp_x"));
        assert_eq!(key(Some("http://127.0.0.1:7712")), None);
        assert_eq!(key(Some("http://elsewhere.example")), None);
        assert_eq!(key(Some("https://127.0.0.1:7711")), None);
    }

    #[test]
    fn a_key_that_was_given_wins_and_an_empty_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let found = Settings::find(&args(None, dir.path()), Some("mine".into())).unwrap();
        assert_eq!(found.url.as_str(), "http://127.0.0.1:7700/");
        assert_eq!(key_of(found).unwrap(), "mine");
        assert!(key_of(Settings::find(&args(None, dir.path()), Some("".into())).unwrap()).is_none());
    }

    #[test]
    fn addresses_that_are_none_are_refused() {
        for bad in ["nonsense", "ftp://h", "http://u:p@h", "http://h?q=1", "http://h/#f", "http://"] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
        assert!(parse_url("https://h.example/prefix").is_ok());
    }
}
