//! What every answer says about itself, whatever it is: a browser that shows it guesses no type, runs and frames nothing,
//! tells no other site where it was, and keeps nothing. A route that says otherwise itself is heard.

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};

const ALWAYS: [(HeaderName, &str); 4] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (CACHE_CONTROL, "no-store"),
];
/// A year: from then on a browser asks by TLS only.
const BY_TLS_ONLY: &str = "max-age=31536000";

/// Adds what is missing.
pub(crate) fn secure(headers: &mut HeaderMap, is_tls: bool) {
    for (name, value) in ALWAYS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if is_tls {
        headers.entry(STRICT_TRANSPORT_SECURITY).or_insert(HeaderValue::from_static(BY_TLS_ONLY));
    }
}
