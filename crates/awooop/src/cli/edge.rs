//! What `serve` lets in at its listener, and how TLS is named to it and to the commands that look at it.

use std::path::PathBuf;

use awooop_http::{FAILED_AUTH_RATE, KEY_RATE, MAX_CONNECTIONS, TrustedProxies};
use clap::Args;

/// The certificate and its key.
#[derive(Args, Clone)]
pub(crate) struct TlsArgs {
    /// The certificate to answer TLS with: the chain in PEM, the server's own first [env: AWOOOP_TLS_CERT]
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM [env: AWOOOP_TLS_KEY]
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
}

/// The limits of the listener.
#[derive(Args, Clone)]
pub(crate) struct EdgeArgs {
    /// The certificate, where TLS is spoken.
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    /// Names, or name:port, by which others reach `/mcp`; without them only this machine does
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) public_hosts: Vec<String>,
    /// Proxies whose `X-Forwarded-For` and `Forwarded` are believed, as addresses or ranges
    #[arg(long, value_name = "CIDR,…", default_value = "", hide_default_value = true)]
    pub(crate) trusted_proxies: TrustedProxies,
    /// Most open connections
    #[arg(long, value_name = "N", default_value_t = MAX_CONNECTIONS, value_parser = connections)]
    pub(crate) max_connections: usize,
    /// Of them, of one address that is no trusted proxy's [default: a quarter]
    #[arg(long, value_name = "N", value_parser = connections)]
    pub(crate) max_connections_per_address: Option<usize>,
    /// Requests a second with one key, twice as many at once after a rest; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = KEY_RATE, value_parser = rate())]
    pub(crate) key_rate: u32,
    /// Keys and tokens that are not valid, a second, from one address, ten times as many at once; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = FAILED_AUTH_RATE, value_parser = rate())]
    pub(crate) failed_auth_rate: u32,
}

fn rate() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(0..=100_000)
}

fn connections(text: &str) -> Result<usize, String> {
    let n: usize = text.parse().map_err(|_| "not a number".to_owned())?;
    (1..=1_000_000).contains(&n).then_some(n).ok_or_else(|| "1 to 1000000".to_owned())
}
