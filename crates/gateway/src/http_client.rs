//! The one HTTP client for providers outside: rustls with ring, and the host's own trust store.
//!
//! It follows no redirect (a redirect would carry a credential to an address nobody allowed) and reads no
//! proxy from the environment. It sets no total time-out: whoever calls owns the deadline.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use crate::upstream::address::Pinned;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the client cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum HttpClientError {
    /// The TLS library refused its own settings.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The HTTP library refused its settings.
    #[error("the HTTP client cannot be set up")]
    Http(#[source] reqwest::Error),
}

/// Builds the client; clones of it share one pool of connections.
///
/// A host without a trust store is no error here: plain HTTP (a model on the same machine) works, and
/// HTTPS then fails at the first handshake.
///
/// # Errors
/// [`HttpClientError`], which only a faulty build can meet.
pub fn http_client() -> Result<reqwest::Client, HttpClientError> {
    build(None, Vec::new())
}

/// The same client, which trusts these authorities besides the host's. What is no certificate of an authority adds
/// nothing.
///
/// # Errors
/// [`HttpClientError`], which only a faulty build can meet.
pub fn http_client_trusting(
    authorities: Vec<CertificateDer<'static>>,
) -> Result<reqwest::Client, HttpClientError> {
    build(None, authorities)
}

/// The same client, bound to the addresses that were judged for one host: what a name resolves to later
/// does not count.
///
/// # Errors
/// [`HttpClientError`], which only a faulty build can meet.
pub fn http_client_pinned(pinned: Option<&Pinned>) -> Result<reqwest::Client, HttpClientError> {
    build(pinned, Vec::new())
}

fn build(
    pinned: Option<&Pinned>,
    authorities: Vec<CertificateDer<'static>>,
) -> Result<reqwest::Client, HttpClientError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(authorities);
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(HttpClientError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = match pinned {
        Some(pinned) => reqwest::Client::builder().resolve_to_addrs(&pinned.host, &pinned.addresses),
        None => reqwest::Client::builder(),
    };
    builder
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("awooop/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(HttpClientError::Http)
}
