//! One request, one meaning. Before this server there may stand another that reads the same bytes: where the standard
//! leaves two ways to read them (RFC 9112, sections 3.2 and 6.3), the request is refused and its connection ends, so that
//! nothing behind it is taken for a further request.
//!
//! The HTTP library refuses most of it before it comes here: two lengths, a length with an encoding it does not know,
//! folded lines, spaces before a colon. It reads a length beside chunks as chunks and then closes.

use awooop_core::ErrorCode;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Version, header};

use crate::problem::Problem;

/// Answers a request that has one meaning.
pub(crate) async fn read_one_way(request: Request, next: Next) -> Response {
    let ambiguity = ambiguity(&request);
    // a length beside the chunks is dropped by the library, so any chunks may have had one
    let is_last = ambiguity.is_some() || request.headers().contains_key(header::TRANSFER_ENCODING);
    let mut response = match ambiguity {
        Some(detail) => Problem::new(ErrorCode::Req001, detail).into_response(),
        None => next.run(request).await,
    };
    if is_last {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What could be read in two ways.
fn ambiguity(request: &Request) -> Option<&'static str> {
    let headers = request.headers();
    let mut encodings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(encoding) = encodings.next()
        && (encodings.next().is_some() || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Some("Transfer-Encoding is chunked, once, or is left out");
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next(), request.uri().authority()) {
        (_, Some(_), _) => Some("Host is given more than once"),
        (None, _, None) if request.version() == Version::HTTP_11 => Some("HTTP/1.1 needs a Host"),
        (Some(host), _, Some(authority))
            if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) =>
        {
            Some("the request's target names another host than its Host")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn is_clear(target: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        ambiguity(&request.body(Body::empty()).unwrap()).is_none()
    }

    #[test]
    fn what_has_two_meanings_is_told_from_what_has_one() {
        let host = ("Host", "a.example");
        assert!(is_clear("/", &[host]));
        assert!(is_clear("/", &[host, ("Transfer-Encoding", "Chunked")]));
        assert!(is_clear("http://A.example/", &[host]) && is_clear("http://a.example/", &[]));
        assert!(!is_clear("/", &[]) && !is_clear("/", &[host, host]));
        assert!(!is_clear("http://b.example/", &[host]));
        for encoding in ["", "identity, chunked", "chunked, chunked", "gzip", "chunked "] {
            assert!(!is_clear("/", &[host, ("Transfer-Encoding", encoding)]), "{encoding:?}");
        }
        let chunked = ("Transfer-Encoding", "chunked");
        assert!(!is_clear("/", &[host, chunked, chunked]));
    }
}
