//! `Host` and `Origin`: a page of another site must not reach a server on the reader's own machine (DNS
//! rebinding), so only loopback names and the configured hosts are answered.

use http::uri::Authority;
use http::{HeaderMap, Uri, header};

use super::reply::Refusal;

/// Names of the machine itself, at any port.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Refuses a request for, or from a page of, another site.
pub(super) fn check(headers: &HeaderMap, uri: &Uri, hosts: &[String]) -> Result<(), Refusal> {
    let host = match (headers.get(header::HOST), uri.authority()) {
        (Some(value), _) => value.to_str().ok().and_then(|text| text.parse().ok()),
        (None, authority) => authority.cloned(),
    };
    if !host.is_some_and(|host| is_ours(&host, hosts)) {
        return Err(Refusal::transport(403, "this server does not answer to this Host"));
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    if origins.all(|origin| origin.to_str().is_ok_and(|text| is_our_origin(text, hosts))) {
        return Ok(());
    }
    Err(Refusal::transport(403, "this Origin may not use this server"))
}

fn is_ours(authority: &Authority, hosts: &[String]) -> bool {
    // a user before the host is no part of a Host
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let is_same =
        |known: &str| known.eq_ignore_ascii_case(host) || known.eq_ignore_ascii_case(authority.as_str());
    LOOPBACK.iter().any(|known| known.eq_ignore_ascii_case(host)) || hosts.iter().any(|known| is_same(known))
}

fn is_our_origin(text: &str, hosts: &[String]) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    is_web && uri.authority().is_some_and(|authority| is_ours(authority, hosts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_allowed(host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        let hosts = ["agents.example".to_owned(), "10.0.0.5:7700".to_owned()];
        check(&headers, &Uri::from_static("/mcp"), &hosts).is_ok()
    }

    #[test]
    fn only_the_own_names_are_answered() {
        for host in [
            "localhost",
            "LOCALHOST:7700",
            "127.0.0.1:1",
            "[::1]:7700",
            "agents.example:443",
            "10.0.0.5:7700",
        ] {
            assert!(is_allowed(host, None), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "10.0.0.5",
            "10.0.0.5:80",
            "127.0.0.2",
            "a b",
            "x@localhost",
        ] {
            assert!(!is_allowed(host, None), "{host}");
        }
    }

    #[test]
    fn a_page_of_another_site_is_refused() {
        for origin in ["http://localhost:3000", "https://agents.example", "http://127.0.0.1"] {
            assert!(is_allowed("localhost", Some(origin)), "{origin}");
        }
        for origin in
            ["https://evil.example", "null", "", "file://localhost", "http://localhost.evil.example"]
        {
            assert!(!is_allowed("localhost", Some(origin)), "{origin}");
        }
    }
}
