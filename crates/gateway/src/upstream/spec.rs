//! Which server, for whom, under which contract version. A spec is made from an active provider contract
//! after the operator's list was asked, so the program, uid and private addresses in it are the
//! operator's; the arguments and URL are the project's.
//!
//! Two specs share a connection only when everything in them is equal, credentials included.

use std::path::PathBuf;

use awooop_core::{ProjectId, ProviderId};
use http::HeaderName;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use url::Url;
use uuid::Uuid;

/// One upstream server of one project.
#[derive(Debug, Clone)]
pub struct UpstreamSpec {
    /// The project whose server it is.
    pub project: ProjectId,
    /// The provider within the project.
    pub provider: ProviderId,
    /// The provider's contract version: a new version gets a new connection.
    pub version: Uuid,
    /// How to reach it.
    pub transport: Transport,
}

/// How an upstream is reached.
#[derive(Debug, Clone)]
pub enum Transport {
    /// Streamable HTTP.
    Http {
        /// `https`, or `http` when `allowed_private` names the address.
        url: Url,
        /// A header with a credential, sent with every request.
        header: Option<(HeaderName, SecretString)>,
        /// The operator's list for this project: addresses (`10.1.2.3`), ranges (`10.0.0.0/8`) and host
        /// names, each optionally with `:port`. An entry that cannot be read matches nothing.
        allowed_private: Vec<String>,
    },
    /// A child process that speaks on stdin and stdout.
    Stdio {
        /// Absolute path of the program, from the operator's list. No shell, no `PATH` search.
        program: PathBuf,
        /// Arguments, passed as they are; one may hold a credential.
        args: Vec<SecretString>,
        /// Uid and gid of the child; `None` keeps this process's own.
        uid: Option<u32>,
        /// Added to the child's otherwise scrubbed environment.
        env: Vec<(String, SecretString)>,
    },
}

/// What makes two specs the same connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    project: ProjectId,
    provider: ProviderId,
    version: Uuid,
    fingerprint: [u8; 32],
}

impl UpstreamSpec {
    pub(super) fn key(&self) -> Key {
        Key {
            project: self.project.clone(),
            provider: self.provider.clone(),
            version: self.version,
            fingerprint: self.transport.fingerprint(),
        }
    }

    /// Do both mean one connection?
    pub(crate) fn is_same_connection(&self, other: &Self) -> bool {
        self.key() == other.key()
    }

    /// The span of everything that serves this connection.
    pub(super) fn span(&self) -> tracing::Span {
        tracing::info_span!(parent: None, "upstream", project = %self.project, provider = %self.provider)
    }
}

impl Transport {
    /// SHA-256 over every field, each with its length before it. Kept in memory only.
    fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        match self {
            Self::Http { url, header, allowed_private } => {
                add(b"http");
                add(url.as_str().as_bytes());
                if let Some((name, value)) = header {
                    add(name.as_str().as_bytes());
                    add(value.expose_secret().as_bytes());
                }
                add(b"allowed");
                allowed_private.iter().for_each(|entry| add(entry.as_bytes()));
            }
            Self::Stdio { program, args, uid, env } => {
                add(b"stdio");
                add(program.as_os_str().as_encoded_bytes());
                args.iter().for_each(|arg| add(arg.expose_secret().as_bytes()));
                add(b"uid");
                add(format!("{uid:?}").as_bytes());
                for (name, value) in env {
                    add(name.as_bytes());
                    add(value.expose_secret().as_bytes());
                }
            }
        }
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(secret: &str, args: &[&str]) -> UpstreamSpec {
        UpstreamSpec {
            project: ProjectId::parse("shop").unwrap(),
            provider: ProviderId::parse("orders").unwrap(),
            version: Uuid::nil(),
            transport: Transport::Stdio {
                program: "/bin/true".into(),
                args: args.iter().map(|a| SecretString::from(*a)).collect(),
                uid: None,
                env: vec![("TOKEN".to_owned(), SecretString::from(secret))],
            },
        }
    }

    #[test]
    fn another_credential_or_argument_is_another_connection() {
        assert_eq!(spec("a", &["x", "y"]).key(), spec("a", &["x", "y"]).key());
        assert_ne!(spec("a", &["x", "y"]).key(), spec("b", &["x", "y"]).key());
        assert_ne!(spec("a", &["x", "y"]).key(), spec("a", &["xy"]).key());
    }

    #[test]
    fn a_printed_spec_shows_no_credential() {
        let printed = format!("{:?}", spec("canary-value", &["--token=canary-value"]));
        assert!(!printed.contains("canary-value"), "{printed}");
    }
}
