//! TLS at the listener: 1.2 and 1.3 by rustls and ring, HTTP/1.1. The certificate and its key are two files, which a
//! renewal replaces while the server runs: their contents are looked at every [`LOOK_EVERY`], and a pair that fits and is
//! valid is taken for all handshakes from then on. Open connections go on.
//!
//! The files may be replaced one after the other. Between the two they do not fit: the pair that was taken last stays,
//! and one warning a change says why. What was refused is judged again at every look: a certificate that begins in a
//! moment is taken then.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use awooop_core::ErrorCode;
use awooop_store::Clock;
use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_cert::der::Decode;

/// Between two looks at the files.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Longest time a handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// A certificate that ends within 14 days is worth a warning.
pub const ENDS_SOON: Duration = Duration::from_secs(14 * 24 * 3600);
/// Between two warnings that it does.
const WARN_AGAIN: Duration = Duration::from_secs(24 * 3600);
/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 22;

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there or not ours to read.
    #[error("{} cannot be read: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::ErrorKind,
    },
    /// A file holds something else.
    #[error("{} holds no {what} in PEM", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// Two files that were not made for each other.
    #[error("the key in {} is not the one of the certificate in {}", key.display(), cert.display())]
    Mismatched {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// It was valid.
    #[error("the certificate in {} ended at {at}", path.display())]
    Ended {
        /// The file.
        path: PathBuf,
        /// Its end.
        at: Timestamp,
    },
    /// It will be valid.
    #[error("the certificate in {} begins at {at}", path.display())]
    NotBegun {
        /// The file.
        path: PathBuf,
        /// Its beginning.
        at: Timestamp,
    },
    /// A form that is not known.
    #[error("the certificate in {} cannot be used: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the library said.
        reason: String,
    },
}

impl TlsError {
    /// The stable code.
    pub fn code(&self) -> ErrorCode {
        ErrorCode::Tls001
    }
}

/// Where the certificate lies (its chain, the server's own first) and its key, both in PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The chain.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// What was read of the files.
struct Pair {
    config: Arc<ServerConfig>,
    ends_at: Timestamp,
}

/// The contents of both files, or why one of them cannot be read.
type Contents = Result<(Vec<u8>, Vec<u8>), (PathBuf, io::ErrorKind)>;

impl TlsFiles {
    /// When the certificate ends, if the pair can be used at `now`.
    ///
    /// # Errors
    /// [`TlsError`] says which file and what to do.
    pub fn check(&self, now: Timestamp) -> Result<Timestamp, TlsError> {
        Ok(self.judge(self.read(), now)?.ends_at)
    }

    fn read(&self) -> Contents {
        let read = |path: &Path| std::fs::read(path).map_err(|error| (path.to_owned(), error.kind()));
        Ok((read(&self.cert)?, read(&self.key)?))
    }

    fn judge(&self, contents: Contents, now: Timestamp) -> Result<Pair, TlsError> {
        let (cert, key) = contents.map_err(|(path, reason)| TlsError::Unreadable { path, reason })?;
        let empty = |path: &Path, what| TlsError::Empty { path: path.to_owned(), what };
        let chain = CertificateDer::pem_slice_iter(&cert).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|_| empty(&self.cert, "certificate"))?;
        let own = chain.first().ok_or_else(|| empty(&self.cert, "certificate"))?;
        let ends_at = self.validity(own, now)?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| empty(&self.key, "private key"))?;
        Ok(Pair { config: Arc::new(self.config(chain, key)?), ends_at })
    }

    /// The end of a certificate that is valid now.
    fn validity(&self, own: &CertificateDer<'_>, now: Timestamp) -> Result<Timestamp, TlsError> {
        let read = x509_cert::Certificate::from_der(own).map_err(|error| self.unusable(&error))?;
        let validity = read.tbs_certificate.validity;
        let at = |time: x509_cert::time::Time| {
            let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
            Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
        };
        let (begins_at, ends_at) = (at(validity.not_before), at(validity.not_after));
        if now < begins_at {
            return Err(TlsError::NotBegun { path: self.cert.clone(), at: begins_at });
        }
        if now >= ends_at {
            return Err(TlsError::Ended { path: self.cert.clone(), at: ends_at });
        }
        Ok(ends_at)
    }

    fn config(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| self.unusable(&error))?
            .with_no_client_auth()
            .with_single_cert(chain, key);
        let mut config = config.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatched { cert: self.cert.clone(), key: self.key.clone() }
            }
            other => self.unusable(&other),
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn unusable(&self, error: &dyn std::fmt::Display) -> TlsError {
        TlsError::Unusable { path: self.cert.clone(), reason: error.to_string() }
    }
}

/// The pair that handshakes are made with.
pub struct Tls {
    files: TlsFiles,
    clock: Clock,
    taken: RwLock<Pair>,
    seen: Mutex<Seen>,
}

/// What the last look saw.
#[derive(Debug, Clone, Copy)]
struct Seen {
    digest: u64,
    is_taken: bool,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] when they cannot be used now.
    pub fn load(files: TlsFiles, clock: Clock) -> Result<Self, TlsError> {
        let contents = files.read();
        let seen = Mutex::new(Seen { digest: digest(&contents), is_taken: true });
        let taken = RwLock::new(files.judge(contents, clock.now())?);
        Ok(Self { files, clock, taken, seen })
    }

    /// How long the certificate is still valid, in seconds; negative when it has ended.
    pub fn ends_in_seconds(&self) -> f64 {
        let ends_at = self.taken.read().unwrap_or_else(PoisonError::into_inner).ends_at;
        ends_at.duration_since(self.clock.now()).as_secs_f64()
    }

    /// Looks at the files for good, and takes what they hold.
    pub async fn follow(self: Arc<Self>) {
        let mut warned_at: Option<Timestamp> = None;
        loop {
            let this = self.clone();
            // files may lie where reading takes long
            let _ = tokio::task::spawn_blocking(move || this.look()).await;
            let now = self.clock.now();
            let is_told = warned_at.is_some_and(|at| now.duration_since(at).unsigned_abs() < WARN_AGAIN);
            if self.ends_in_seconds() < ENDS_SOON.as_secs_f64() && !is_told {
                let days = (self.ends_in_seconds() / 86_400.0).floor();
                tracing::warn!(days, "the certificate of the listener ends soon: renew it");
                warned_at = Some(now);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Looks at the files once, and takes the pair if it is another and fits now.
    pub fn look(&self) {
        let contents = self.files.read();
        let digest = digest(&contents);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_changed = seen.digest != digest;
        if seen.is_taken && !is_changed {
            return;
        }
        let judged = self.files.judge(contents, self.clock.now());
        *seen = Seen { digest, is_taken: judged.is_ok() };
        match judged {
            Ok(pair) => {
                tracing::info!(ends_at = %pair.ends_at, "the listener's certificate was renewed");
                *self.taken.write().unwrap_or_else(PoisonError::into_inner) = pair;
            }
            Err(error) if is_changed => tracing::warn!(
                code = error.code().as_str(),
                reason = %error,
                "the changed certificate is not taken; the former one goes on"
            ),
            Err(_) => {}
        }
    }

    /// The handshake of one connection, within a time.
    pub(crate) async fn accept(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = self.taken.read().unwrap_or_else(PoisonError::into_inner).config.clone();
        tokio::time::timeout(HANDSHAKE_WITHIN, handshake(config, tcp)).await?
    }
}

async fn handshake(config: Arc<ServerConfig>, mut tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let mut first = [0];
    if tcp.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
        speak_plainly(&mut tcp).await?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no handshake"));
    }
    TlsAcceptor::from(config).accept(tcp).await
}

/// Tells whoever speaks HTTP here without TLS what is wrong.
async fn speak_plainly(tcp: &mut TcpStream) -> io::Result<()> {
    let text = format!("{}: this port speaks TLS: use https://\n", ErrorCode::Req001);
    let length = text.len();
    let head = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\
                X-Content-Type-Options: nosniff\r\nCache-Control: no-store";
    tcp.write_all(format!("{head}\r\nContent-Length: {length}\r\n\r\n{text}").as_bytes()).await?;
    tcp.shutdown().await?;
    // closed with something unread, the answer could be lost on the way
    let mut rest = [0; 4096];
    let mut left: usize = 1 << 20;
    while left > 0 {
        match tcp.read(&mut rest).await? {
            0 => break,
            n => left = left.saturating_sub(n),
        }
    }
    Ok(())
}

fn digest(contents: &Contents) -> u64 {
    let mut hasher = DefaultHasher::new();
    contents.hash(&mut hasher);
    hasher.finish()
}
