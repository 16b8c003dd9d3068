//! Which addresses an upstream URL may lead to (server-side request forgery guard).
//!
//! A URL is a project's, so it may name only public addresses over https, unless the operator's list for
//! the project has the address. Names are resolved here, every address of the answer is judged, and the
//! connection is pinned to those addresses: a second resolution cannot give another answer. Ranges are
//! those of the IANA special-purpose registries, plus the metadata services of clouds that lie outside
//! them. Numbers in decimal, octal or hexadecimal are made addresses by the URL parser before they come
//! here; IPv6 forms that carry an IPv4 address are judged by that address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use url::{Host, Url};

/// Why an address is refused. `Display` is for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The URL's scheme is neither https nor http.
    #[error("the URL's scheme must be https")]
    Scheme,
    /// http to an address the operator did not list.
    #[error("http is allowed only to addresses that the operator listed for this project")]
    Plaintext,
    /// The URL has no host.
    #[error("the URL names no host")]
    NoHost,
    /// A name or password in the URL.
    #[error("the URL must not hold a user name or password")]
    Credentials,
    /// The address lies in a range that is not public.
    #[error("the address is {0}, and the operator did not list it for this project")]
    NotPublic(&'static str),
}

/// Where a connection may go: the name for TLS and `Host`, and the only addresses to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// The host as the URL has it.
    pub host: String,
    /// Never empty.
    pub addresses: Vec<SocketAddr>,
}

/// Is `ip` public? The error names the kind of range it lies in.
pub fn check_address(ip: IpAddr) -> Result<(), AddressError> {
    let kind = match ip {
        IpAddr::V4(ip) => special_v4(ip),
        IpAddr::V6(ip) => special_v6(ip),
    };
    kind.map_or(Ok(()), |kind| Err(AddressError::NotPublic(kind)))
}

fn special_v4(ip: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, d] = ip.octets();
    Some(match (a, b, c, d) {
        (0, ..) => "of this network (0.0.0.0/8)",
        (127, ..) => "loopback",
        (169, 254, ..) => "link-local or a metadata service",
        (100, 100, 100, 200) | (168, 63, 129, 16) => "a metadata service",
        (10, ..) | (172, 16..=31, ..) | (192, 168, ..) => "private",
        (100, 64..=127, ..) => "shared address space (100.64.0.0/10)",
        (192, 0, 0, _) | (192, 88, 99, _) => "reserved for protocols",
        (192, 0, 2, _) | (198, 51, 100, _) | (203, 0, 113, _) => "for documentation",
        (198, 18..=19, ..) => "for benchmarks",
        (224..=239, ..) => "multicast",
        (240..=255, ..) => "reserved or broadcast",
        _ => return None,
    })
}

fn special_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let s = ip.segments();
    if let Some(v4) = carried_v4(ip) {
        return special_v4(v4);
    }
    Some(match s {
        [0, 0, 0, 0, 0, 0, 0, 0] => "unspecified",
        [0, 0, 0, 0, 0, 0, 0, 1] => "loopback",
        [0xfe80..=0xfebf, ..] => "link-local",
        [0xfec0..=0xfeff, ..] => "site-local",
        [0xfc00..=0xfdff, ..] => "unique local",
        [0xff00..=0xffff, ..] => "multicast",
        [0x64, 0xff9b, 1, ..] => "for local translation",
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => "for documentation",
        [0x2001, 0..=0x1ff, ..] => "reserved for protocols",
        // Outside 2000::/3 nothing is global unicast.
        [0x2000..=0x3fff, ..] => return None,
        _ => "reserved",
    })
}

/// The IPv4 address inside a mapped, compatible, NAT64 (64:ff9b::/96) or 6to4 (2002::/16) address.
fn carried_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = ip.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => Some(join(high, low)),
        [0, 0, 0, 0, 0xffff, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
}

/// Checks the URL and resolves its host. Does not limit its own time: the caller's timeout does.
///
/// # Errors
/// [`AddressError`] wrapped by the outer result's `Ok`; the outer error is the resolver's.
pub async fn pin(url: &Url, allowed: &[String]) -> std::io::Result<Result<Pinned, AddressError>> {
    let resolve = async |host: String, port| Ok(tokio::net::lookup_host((host, port)).await?.collect());
    pin_with(url, allowed, resolve).await
}

/// The same with another resolver, which is asked once at most.
async fn pin_with(
    url: &Url,
    allowed: &[String],
    resolve: impl AsyncFnOnce(String, u16) -> std::io::Result<Vec<SocketAddr>>,
) -> std::io::Result<Result<Pinned, AddressError>> {
    let (host, port) = match checked_host(url) {
        Ok(found) => found,
        Err(error) => return Ok(Err(error)),
    };
    let addresses: Vec<SocketAddr> = match literal(&host) {
        Some(ip) => vec![SocketAddr::new(ip, port)],
        None => resolve(host.clone(), port).await?,
    };
    if addresses.is_empty() {
        return Err(std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(judge(url.scheme(), &host, &addresses, allowed).map(|()| Pinned { host, addresses }))
}

/// Is this URL fine as far as that can be said without resolving a name? For checks at publish.
pub fn check_url(url: &Url, allowed: &[String]) -> Result<(), AddressError> {
    let (host, port) = checked_host(url)?;
    match literal(&host) {
        Some(ip) => judge(url.scheme(), &host, &[SocketAddr::new(ip, port)], allowed),
        None if url.scheme() == "https" || allowed.iter().any(|entry| !entry.trim().is_empty()) => Ok(()),
        None => Err(AddressError::Plaintext),
    }
}

fn checked_host(url: &Url) -> Result<(String, u16), AddressError> {
    if !matches!(url.scheme(), "https" | "http") {
        return Err(AddressError::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(AddressError::Credentials);
    }
    let host = match url.host().ok_or(AddressError::NoHost)? {
        Host::Domain(name) => name.to_owned(),
        Host::Ipv4(ip) => ip.to_string(),
        Host::Ipv6(ip) => ip.to_string(),
    };
    Ok((host, url.port_or_known_default().ok_or(AddressError::NoHost)?))
}

fn literal(host: &str) -> Option<IpAddr> {
    host.parse().ok()
}

fn judge(scheme: &str, host: &str, addresses: &[SocketAddr], allowed: &[String]) -> Result<(), AddressError> {
    let rules: Vec<Rule> = allowed.iter().filter_map(|entry| Rule::parse(entry)).collect();
    for address in addresses {
        let is_listed = rules.iter().any(|rule| rule.matches(host, *address));
        if is_listed {
            continue;
        }
        check_address(address.ip())?;
        if scheme != "https" {
            return Err(AddressError::Plaintext);
        }
    }
    Ok(())
}

/// One entry of the operator's list.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    target: Target,
    port: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
enum Target {
    Range(IpAddr, u8),
    Name(String),
}

impl Rule {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim();
        if let Some(range) = Target::range(entry) {
            return Some(Self { target: range, port: None });
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let target = match Target::range(host) {
            Some(range) => range,
            None => Target::Name(plain_name(host)?),
        };
        Some(Self { target, port })
    }

    fn matches(&self, host: &str, address: SocketAddr) -> bool {
        let is_target = match &self.target {
            Target::Name(name) => plain_name(host).as_deref() == Some(name),
            Target::Range(base, bits) => is_within(plain_ip(address.ip()), *base, *bits),
        };
        is_target && self.port.is_none_or(|port| port == address.port())
    }
}

impl Target {
    fn range(text: &str) -> Option<Self> {
        let (ip, bits) = match text.split_once('/') {
            Some((ip, bits)) => (ip.parse::<IpAddr>().ok()?, Some(bits.parse::<u8>().ok()?)),
            None => (text.parse::<IpAddr>().ok()?, None),
        };
        let width = if ip.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        (bits <= width).then_some(Self::Range(ip, bits))
    }
}

/// A host name in lower case, without the dot at its end; `None` for what is no name.
fn plain_name(host: &str) -> Option<String> {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let is_name = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    is_name.then_some(name)
}

/// An IPv4-mapped address as the IPv4 address it is.
fn plain_ip(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

fn is_within(ip: IpAddr, base: IpAddr, bits: u8) -> bool {
    match (ip, base) {
        (IpAddr::V4(ip), IpAddr::V4(base)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            u32::from(ip) & mask == u32::from(base) & mask
        }
        (IpAddr::V6(ip), IpAddr::V6(base)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            u128::from(ip) & mask == u128::from(base) & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_pass() {
        let check = |ip: &str, is_public: bool| {
            assert_eq!(check_address(ip.parse().unwrap()).is_ok(), is_public, "{ip}");
        };
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::2",
            "::127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
        ] {
            check(ip, false);
        }
        for ip in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "169.253.1.1",
            "192.167.1.1",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            check(ip, true);
        }
    }

    #[test]
    fn every_spelling_of_a_forbidden_host_is_the_same_host() {
        for url in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0177.0.0.1/",
            "https://0x7f000001/",
            "https://127.1/",
            "https://0/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:7f00:1]/",
            "https://[0:0:0:0:0:0:0:1]/",
            "https://１２７.0.0.1/",
            "https://0xa9.0xfe.0xa9.0xfe/",
        ] {
            let result = check_url(&Url::parse(url).unwrap(), &[]);
            assert!(matches!(result, Err(AddressError::NotPublic(_))), "{url}: {result:?}");
        }
    }

    #[test]
    fn a_url_needs_https_and_no_password() {
        let check = |url: &str, allowed: &[&str]| {
            let allowed: Vec<String> = allowed.iter().map(|a| (*a).to_owned()).collect();
            check_url(&Url::parse(url).unwrap(), &allowed)
        };
        assert_eq!(check("https://example.com/mcp", &[]), Ok(()));
        assert_eq!(check("http://example.com/mcp", &[]), Err(AddressError::Plaintext));
        assert_eq!(check("http://8.8.8.8/mcp", &[]), Err(AddressError::Plaintext));
        assert_eq!(check("http://8.8.8.8/mcp", &["8.8.8.8"]), Ok(()));
        assert_eq!(check("ftp://example.com/", &[]), Err(AddressError::Scheme));
        assert_eq!(check("file:///etc/passwd", &[]), Err(AddressError::Scheme));
        assert_eq!(check("https://me:secret@example.com/", &[]), Err(AddressError::Credentials));
        assert_eq!(check("https://me@example.com/", &[]), Err(AddressError::Credentials));
    }

    #[test]
    fn the_operators_list_opens_exactly_what_it_names() {
        let check = |entry: &str, host: &str, address: &str, is_open: bool| {
            let address: SocketAddr = address.parse().unwrap();
            let result = judge("http", host, &[address], &[entry.to_owned()]);
            assert_eq!(result.is_ok(), is_open, "{entry} {host} {address}");
        };
        check("127.0.0.0/8", "127.0.0.1", "127.0.0.1:80", true);
        check("127.0.0.0/8", "x", "[::ffff:127.0.0.1]:80", true);
        check("127.0.0.0/8", "x", "10.0.0.1:80", false);
        check("127.0.0.1:8080", "127.0.0.1", "127.0.0.1:8080", true);
        check("127.0.0.1:8080", "127.0.0.1", "127.0.0.1:8081", false);
        check("::1", "::1", "[::1]:80", true);
        check("[::1]:90", "::1", "[::1]:80", false);
        check("mcp.internal", "MCP.internal.", "10.0.0.1:80", true);
        check("mcp.internal:81", "mcp.internal", "10.0.0.1:80", false);
        check("internal", "mcp.internal", "10.0.0.1:80", false);
        check("0.0.0.0/0", "x", "10.0.0.1:80", true);
        check("0.0.0.0/0", "x", "[fd00::1]:80", false);
        for nonsense in ["", " ", "*", "10.0.0.0/33", "10.0.0.1:x", "http://10.0.0.1", "::1/129"] {
            check(nonsense, "10.0.0.1", "10.0.0.1:80", false);
        }
    }

    #[tokio::test]
    async fn whatever_a_name_resolves_to_is_judged_and_only_that_is_dialled() {
        let check = async |answer: &[&str], expected: Result<(), &str>| {
            let addresses: Vec<SocketAddr> =
                answer.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 443)).collect();
            let url = Url::parse("https://rebinds.example/").unwrap();
            let found = pin_with(&url, &[], async |_, _| Ok(addresses.clone())).await.unwrap();
            let pinned = Pinned { host: "rebinds.example".to_owned(), addresses };
            let expected = expected.map(|()| pinned).map_err(|kind| kind.to_owned());
            assert_eq!(
                found.map_err(|error| error
                    .to_string()
                    .replace(NOT_LISTED, "")
                    .replace("the address is ", "")),
                expected
            );
        };
        check(&["8.8.8.8", "2606:4700::1111"], Ok(())).await;
        check(&["8.8.8.8", "10.0.0.1"], Err("private")).await;
        check(&["127.0.0.1", "8.8.8.8"], Err("loopback")).await;
        check(&["::ffff:169.254.169.254"], Err("link-local or a metadata service")).await;
        check(&["64:ff9b::7f00:1"], Err("loopback")).await;
        check(&["fe80::1"], Err("link-local")).await;
        let url = Url::parse("https://x.example/").unwrap();
        let empty = pin_with(&url, &[], async |_, _| Ok(Vec::new())).await;
        assert!(empty.is_err(), "a name without an address is not dialled");
        let never = async |host, _| panic!("{host} is no name");
        let found = pin_with(&Url::parse("https://8.8.8.8/").unwrap(), &[], never).await.unwrap().unwrap();
        assert_eq!(found.addresses, ["8.8.8.8:443".parse().unwrap()]);
    }

    const NOT_LISTED: &str = ", and the operator did not list it for this project";

    #[test]
    fn one_private_address_among_public_ones_refuses_the_name() {
        let addresses: Vec<SocketAddr> = ["8.8.8.8:443", "10.0.0.1:443"].map(|a| a.parse().unwrap()).into();
        assert_eq!(judge("https", "x.example", &addresses, &[]), Err(AddressError::NotPublic("private")));
        assert_eq!(judge("https", "x.example", &addresses, &["10.0.0.1".to_owned()]), Ok(()));
    }
}
