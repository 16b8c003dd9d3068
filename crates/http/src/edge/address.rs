//! Whose a request is, as an address: the other end of the connection, or, behind a proxy that the operator named, the
//! client that the proxy names. From anybody else the headers are text without a meaning.
//!
//! A header grows to the right: each proxy adds whom it heard. So it is read from the right, past the proxies that are
//! trusted, and the first address that is none of them is the client's; what stands left of it anybody can have written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

/// The header that nearly every proxy writes.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Most hops that are looked at.
const MOST_HOPS: usize = 32;

/// The proxies whose word counts, as ranges of addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// A range that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address and no range such as 10.0.0.0/8 or fd00::/8")]
pub struct BadRange(String);

impl FromStr for TrustedProxies {
    type Err = BadRange;

    /// Reads ranges, or single addresses, parted by commas.
    fn from_str(text: &str) -> Result<Self, BadRange> {
        let range = |part: &str| {
            let address = || part.parse::<IpAddr>().map(IpNet::from);
            part.parse::<IpNet>().or_else(|_| address()).map_err(|_| BadRange(part.to_owned()))
        };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(range).collect::<Result<_, _>>().map(Self)
    }
}

impl TrustedProxies {
    /// Is this address one of theirs?
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(&address))
    }

    /// Whose the request of `peer` is. A proxy that names nobody, or two different clients in the two headers there are,
    /// speaks for itself.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.has(peer) {
            return peer;
        }
        let named = (self.forwarded_for(peer, headers), self.forwarded(peer, headers));
        match named {
            (Some(client), None) | (None, Some(client)) => client,
            (Some(one), Some(other)) if one == other => one,
            _ => peer,
        }
    }

    fn forwarded_for(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        let hops = from_the_right(headers, &FORWARDED_FOR)?;
        Some(self.first_stranger(peer, hops.map(|hop| address(hop?))))
    }

    fn forwarded(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        let hops = from_the_right(headers, &header::FORWARDED)?;
        let client = |hop: &str| {
            let pairs = hop.split(';').filter_map(|pair| pair.split_once('='));
            let mut of = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
            address(of.next()?.1.trim().trim_matches('"'))
        };
        Some(self.first_stranger(peer, hops.map(|hop| client(hop?))))
    }

    /// The first that is no proxy of ours; what cannot be read ends the walk at the proxy that wrote it.
    fn first_stranger(&self, peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut last = peer;
        for hop in hops.take(MOST_HOPS) {
            let Some(hop) = hop else { return last };
            last = hop;
            if !self.has(hop) {
                return hop;
            }
        }
        last
    }
}

/// Is somebody named, by whomever?
pub(crate) fn names_another(headers: &HeaderMap) -> bool {
    headers.contains_key(FORWARDED_FOR) || headers.contains_key(header::FORWARDED)
}

/// The parts of a list that may stand in several headers, the last first; `None` for what is not text. Nothing where
/// there is no such header.
fn from_the_right<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Option<impl Iterator<Item = Option<&'h str>> + use<'h>> {
    let values: Vec<_> = headers.get_all(name).iter().collect();
    let parts = |text: Option<&'h str>| match text {
        Some(text) => text.rsplit(',').map(|part| Some(part.trim())).collect(),
        None => vec![None],
    };
    let is_there = !values.is_empty();
    is_there.then(|| values.into_iter().rev().flat_map(move |value| parts(value.to_str().ok())))
}

/// An address as proxies write it: alone, with a port, or in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let parsed: Option<IpAddr> = text.parse().ok().or_else(bracketed);
    parsed.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip())).map(|ip| ip.to_canonical())
}

/// What is counted as one address: an IPv4 address, or the /64 that one IPv6 customer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Block {
    V4(Ipv4Addr),
    V6([u16; 4]),
}

impl From<IpAddr> for Block {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(network(address)),
        }
    }
}

fn network(address: Ipv6Addr) -> [u16; 4] {
    let [a, b, c, d, ..] = address.segments();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, headers: &[(&str, &str)]) -> String {
        let proxies: TrustedProxies = "10.0.0.0/8, 192.0.2.7, fd00::/8".parse().unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        proxies.client(peer.parse().unwrap(), &map).to_string()
    }

    #[test]
    fn a_strangers_headers_are_text() {
        for name in ["x-forwarded-for", "forwarded"] {
            assert_eq!(client("203.0.113.9", &[(name, "198.51.100.1")]), "203.0.113.9");
            assert_eq!(client("203.0.113.9", &[(name, "for=198.51.100.1")]), "203.0.113.9");
        }
    }

    #[test]
    fn the_client_is_the_right_most_that_is_no_proxy_of_ours() {
        let of = |value: &str| client("10.1.1.1", &[("x-forwarded-for", value)]);
        let table = [
            ("198.51.100.1", "198.51.100.1"),
            ("1.2.3.4, 198.51.100.1", "198.51.100.1"),
            ("1.2.3.4, 198.51.100.1, 10.2.2.2,192.0.2.7", "198.51.100.1"),
            ("10.9.9.9, 10.2.2.2", "10.9.9.9"),
            ("198.51.100.1:4711", "198.51.100.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:198.51.100.1", "198.51.100.1"),
            ("198.51.100.1, unknown, 10.2.2.2", "10.2.2.2"),
            ("", "10.1.1.1"),
            ("nonsense", "10.1.1.1"),
            ("127.1", "10.1.1.1"),
        ];
        for (value, expected) in table {
            assert_eq!(of(value), expected, "{value}");
        }
        let many = "10.2.2.2,".repeat(1000);
        assert_eq!(of(&format!("198.51.100.1,{many}10.2.2.2")), "10.2.2.2");
    }

    #[test]
    fn several_headers_are_one_list_and_forwarded_is_read_as_well() {
        let twice = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-for", "198.51.100.1, 10.2.2.2")];
        assert_eq!(client("10.1.1.1", &twice), "198.51.100.1");
        let of = |value: &str| client("10.1.1.1", &[("forwarded", value)]);
        assert_eq!(of("for=1.2.3.4, For=\"[2001:db8::1]:80\";proto=https, for=10.2.2.2"), "2001:db8::1");
        assert_eq!(of("for=198.51.100.1;by=10.1.1.1"), "198.51.100.1");
        assert_eq!(of("by=198.51.100.1"), "10.1.1.1");
        assert_eq!(of("for=_hidden"), "10.1.1.1");
    }

    #[test]
    fn a_proxy_that_names_two_clients_or_none_speaks_for_itself() {
        let both =
            |one: &str, other: &str| client("10.1.1.1", &[("x-forwarded-for", one), ("forwarded", other)]);
        assert_eq!(both("198.51.100.1", "for=1.2.3.4"), "10.1.1.1");
        assert_eq!(both("198.51.100.1", "for=198.51.100.1"), "198.51.100.1");
        assert_eq!(client("10.1.1.1", &[]), "10.1.1.1");
    }

    #[test]
    fn ranges_are_read_or_refused_by_name() {
        assert!("".parse::<TrustedProxies>().unwrap().0.is_empty());
        let refused = "10.0.0.0/8,10.0.0.0/33".parse::<TrustedProxies>().unwrap_err();
        assert!(refused.to_string().contains("10.0.0.0/33"));
        assert!("proxy.internal".parse::<TrustedProxies>().is_err());
    }

    #[test]
    fn an_ipv6_customer_is_one_address() {
        let block = |text: &str| Block::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(block("2001:db8:1:2::1"), block("2001:db8:1:2:ffff::9"));
        assert_ne!(block("2001:db8:1:2::1"), block("2001:db8:1:3::1"));
        assert_eq!(block("::ffff:1.2.3.4"), block("1.2.3.4"));
        assert_ne!(block("1.2.3.4"), block("1.2.3.5"));
    }
}
