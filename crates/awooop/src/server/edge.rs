//! From the command line to the listener's edge: the certificate's files, the limits, and whether the process may open as
//! many descriptors as connections are allowed.

use std::path::PathBuf;
use std::sync::Arc;

use awooop_http::{ADDRESS_SHARE, ENDS_SOON, EdgeConfig, Tls, TlsError, TlsFiles};
use awooop_store::Clock;
use jiff::Timestamp;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use secrecy::ExposeSecret;

use super::setting;
use crate::cli::{EdgeArgs, TlsArgs};

/// Descriptors for all that is no caller's connection: the database, tool servers, providers, files.
const OTHER_DESCRIPTORS: u64 = 1024;

/// Where the certificate and its key lie, from the options or the environment.
///
/// # Errors
/// One of them without the other.
pub(super) fn tls_files(args: &TlsArgs) -> anyhow::Result<Option<TlsFiles>> {
    let of = |given: &Option<PathBuf>, variable: &str| {
        given.clone().or_else(|| Some(PathBuf::from(setting(variable)?.expose_secret())))
    };
    match (of(&args.tls_cert, "AWOOOP_TLS_CERT"), of(&args.tls_key, "AWOOOP_TLS_KEY")) {
        (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert, key })),
        (None, None) => Ok(None),
        (Some(_), None) => anyhow::bail!("--tls-cert needs --tls-key: the certificate's private key"),
        (None, Some(_)) => anyhow::bail!("--tls-key needs --tls-cert: the key's certificate"),
    }
}

/// What `serve` was told, with its defaults. The certificate is read, and judged.
///
/// # Errors
/// A certificate that cannot be used, with its code.
pub(super) fn config(args: &EdgeArgs, clock: &Clock) -> anyhow::Result<EdgeConfig> {
    let max_connections = within_descriptors(args.max_connections);
    let share = || (max_connections / ADDRESS_SHARE).max(1);
    let tls = match tls_files(&args.tls)? {
        None => None,
        Some(files) => Some(Arc::new(Tls::load(files, clock.clone()).map_err(|error| coded(&error))?)),
    };
    Ok(EdgeConfig {
        max_connections,
        max_connections_per_address: args.max_connections_per_address.unwrap_or_else(share),
        key_rate: args.key_rate,
        failed_auth_rate: args.failed_auth_rate,
        trusted_proxies: args.trusted_proxies.clone(),
        tls,
        ..EdgeConfig::default()
    })
}

/// The limits of `dev`, which nobody but this machine reaches.
pub(super) fn of_this_machine() -> EdgeConfig {
    let config = EdgeConfig::of_this_machine();
    let max_connections = within_descriptors(config.max_connections);
    EdgeConfig { max_connections, max_connections_per_address: max_connections, ..config }
}

/// The error with its code, for a person.
fn coded(error: &TlsError) -> anyhow::Error {
    anyhow::anyhow!("{}: {error}", error.code())
}

/// What is to say of a certificate: why it cannot be used, or when it ends and whether that is soon.
pub(super) enum Certificate {
    /// It works.
    Well(String),
    /// It works, and not for long.
    Ends(String),
    /// It does not.
    Unusable(String),
}

/// Looks at the files as a start would.
pub(super) fn examine(files: &TlsFiles, now: Timestamp) -> Certificate {
    let shown = files.cert.display();
    match files.check(now) {
        Err(error) => Certificate::Unusable(format!("{}: {error}", error.code())),
        Ok(ends_at) if ends_at.duration_since(now).unsigned_abs() < ENDS_SOON => {
            Certificate::Ends(format!("{shown} ends at {ends_at}: renew it; a running server takes it over"))
        }
        Ok(ends_at) => Certificate::Well(format!("{shown} and its key fit; it ends at {ends_at}")),
    }
}

/// As many connections as the process may hold beside all else. The soft limit is raised to what is needed; where the hard
/// one is less, so are the connections, or accepting them would fail and all else with it.
fn within_descriptors(wanted: usize) -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return wanted };
    let needed = wanted as u64 + OTHER_DESCRIPTORS;
    let soft =
        match soft < needed.min(hard) && setrlimit(Resource::RLIMIT_NOFILE, needed.min(hard), hard).is_ok() {
            true => needed.min(hard),
            false => soft,
        };
    if soft >= needed {
        return wanted;
    }
    let fits = usize::try_from(soft.saturating_sub(OTHER_DESCRIPTORS).max(soft / 2)).unwrap_or(wanted);
    let connections = fits.clamp(1, wanted);
    tracing::warn!(
        wanted,
        connections,
        descriptors = soft,
        "the limit of open files (ulimit -n) allows fewer connections"
    );
    connections
}
