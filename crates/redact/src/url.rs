//! Credentials in addresses: `scheme://user:password@host`, and webhooks whose path is the secret.
//!
//! Only the secret part is masked; where it pointed stays readable. A password may hold `/` or `#` though it must
//! not; it is then found by the `@` behind it. A port is not a password.

use crate::Class;
use crate::judge;
use crate::random;
use crate::scan::Scanner;
use crate::text::Set;
use crate::work;

/// The longest `user:password`, in bytes.
const MAX_USERINFO: usize = 480;
/// The shortest user name without a password that is taken for a token.
const MIN_TOKEN: usize = 20;

impl Scanner<'_> {
    /// The user information of a URL whose authority begins at `start`.
    pub(crate) fn url(&mut self, start: usize) {
        let Some(at) = self.end_of_userinfo(start) else { return };
        self.userinfo_ends.push(at);
        let userinfo = &self.text.bytes[start..at];
        let (secret, min) = match userinfo.iter().position(|b| *b == b':') {
            Some(colon) => (start + colon + 1, 1),
            None => (start, MIN_TOKEN),
        };
        let value = &self.text.str[secret..at];
        let is_token = secret > start || random::is_token_like(value.as_bytes());
        if value.len() >= min && is_token && !judge::is_masked_or_reference(value) {
            self.push(Class::UrlPassword, secret, at);
        }
    }

    /// The same for a URL whose slashes each have as many backslashes as the first, which stand at `start`.
    pub(crate) fn escaped_url(&mut self, start: usize) {
        let slashes = self.backslashes_at(start);
        let second = start + slashes + 1;
        if self.text.at(second - 1) == b'/'
            && self.backslashes_at(second) == slashes
            && self.text.at(second + slashes) == b'/'
        {
            self.url(second + slashes + 1);
        }
    }

    /// The position of the `@` that ends the user information.
    fn end_of_userinfo(&self, start: usize) -> Option<usize> {
        let rest: &[u8] = &self.text.bytes[start..];
        let stops = |n: &usize| {
            let byte = rest[*n];
            byte.is_ascii_whitespace()
                || matches!(byte, b'"' | b'\'' | b'`' | b'<' | b'>' | b'\\')
                || (byte == b':' && rest[*n..].starts_with(b"://"))
        };
        let limit = rest.len().min(MAX_USERINFO);
        let word = (0..limit).find(stops).unwrap_or(limit);
        work::count(word);
        self.text.reach(start + word + 1);
        let is_cut = word == rest.len() && word < MAX_USERINFO;
        let path = rest[..word].iter().position(|b| matches!(b, b'/' | b'?' | b'#'));
        if is_cut && path.is_none() {
            self.text.touch();
        }
        let authority = path.unwrap_or(word);
        if let Some(at) = rest[..authority].iter().rposition(|b| *b == b'@') {
            return Some(start + at);
        }
        let colon = rest[..authority].iter().position(|b| *b == b':')?;
        if rest[0] == b'[' || rest[colon + 1..authority].iter().all(u8::is_ascii_digit) {
            return None;
        }
        if is_cut {
            self.text.touch();
        }
        rest[..word].iter().rposition(|b| *b == b'@').map(|at| start + at)
    }

    /// The secret path of a webhook; `start` is behind the constant part. Slack: services/T…/B…/secret; Discord and
    /// Zapier: id/secret; Teams, Feishu and WeCom: secret. The first `segments` of it are no secret.
    pub(crate) fn webhook(&mut self, start: usize, segments: usize, min: usize) {
        let end = self.text.run_end(Set::Opaque, start);
        if self.tokens.add(end) {
            return self.push(Class::Webhook, start, end);
        }
        let path = &self.text.str[start..end];
        let open: usize = path.split_inclusive('/').take(segments).map(str::len).sum();
        let secret = &path.as_bytes()[open..];
        if secret.len() >= min && (random::is_token_like(secret) || min < MIN_TOKEN) {
            self.push(Class::Webhook, start + open, end);
        }
    }
}
