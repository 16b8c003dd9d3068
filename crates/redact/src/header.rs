//! `Authorization` headers, and `Bearer` and `Basic` where no header name stands before them.
//!
//! In the header everything behind the scheme is masked, whatever the scheme: a token, or a list of parameters such as
//! `username="app", response="…"` to its end, so that a signature anywhere in it is not missed.
//! In prose, commands and quoted headers the word alone proves nothing, so the token must look like one; a Basic
//! credential must decode to `user:password`.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::Class;
use crate::ident::Strength;
use crate::keyed::{Found, is_name_byte};
use crate::open::{Open, Until};
use crate::quote::is_quote;
use crate::random;
use crate::scan::Scanner;
use crate::text::Set;

/// The longest name of a scheme, in bytes.
const MAX_SCHEME: usize = 20;
/// The longest name of a parameter.
const MAX_PARAMETER: usize = 40;
/// The shortest token behind a scheme that is not known.
const MIN_TOKEN: usize = 8;
const MIN_BEARER: usize = 12;
const MIN_BASIC: usize = 8;
const MAX_BASIC: usize = 4096;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Schemes with one token behind them.
const TOKEN_SCHEMES: &[&str] =
    &["bearer", "basic", "token", "bot", "apikey", "key", "negotiate", "ntlm", "dpop", "ssws", "geniekey"];
/// Schemes with parameters.
const LIST_SCHEMES: &[&str] = &["aws4-hmac-sha256", "hawk", "oauth", "signature", "digest"];

impl Scanner<'_> {
    /// The value of an `Authorization` header whose name is `start..end`.
    pub(crate) fn authorization(&mut self, start: usize, end: usize) {
        if is_name_byte(self.text.at(end)) {
            return;
        }
        let Some(Found::Value(mut value)) = self.value_of(start, end) else { return };
        let head = &self.text.bytes[value.start..value.end.max(value.start)];
        let scheme_end = value.start + head.iter().take(MAX_SCHEME).take_while(|b| is_name_byte(**b)).count();
        let scheme = &self.text.str[value.start..scheme_end];
        let is_listed = |list: &[&str]| list.iter().any(|listed| listed.eq_ignore_ascii_case(scheme));
        let (is_token, is_list) = (is_listed(TOKEN_SCHEMES), is_listed(LIST_SCHEMES));
        let is_word = scheme.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-');
        let behind = self.text.skip_blanks(scheme_end);
        let mut strength = Strength::Strong;
        if value.is_quoted {
            if is_token || is_list {
                value.start = behind;
            }
        } else if let Some(end) = if behind > scheme_end { self.list_end(behind, is_token) } else { None } {
            (value.start, value.end, value.until) = (behind, end, Until::Parameters);
        } else if is_token {
            (value.start, value.end) = (behind, self.unquoted_end(behind));
        } else if behind > scheme_end {
            let end = self.unquoted_end(behind);
            let is_mask = self.text.mask_len(behind).is_some();
            if is_mask || (end >= behind + MIN_TOKEN && random::is_token_like(&self.text.bytes[behind..end]))
            {
                value.end = end;
                value.start = if is_word || is_mask { behind } else { value.start };
            } else {
                strength = Strength::Weak;
            }
        } else {
            // In code the word names types and functions too.
            strength = Strength::Weak;
        }
        if value.start < value.end {
            self.suspect(strength, Class::Authorization, &value);
        }
    }

    /// The end of the parameters `name=value, name="value"` that begin at `start`, if there are any, remembered like
    /// that of an unquoted value. `is_quoted`: whether the first must have quotes, since a token may hold a `=` too.
    fn list_end(&mut self, start: usize, is_quoted: bool) -> Option<usize> {
        let (from, to) = self.last_header;
        if from <= start && start < to {
            if to >= self.text.bytes.len() {
                self.text.touch();
            }
            return Some(to);
        }
        let (mut at, mut end) = (start, None);
        loop {
            let name = self.text.span(at, MAX_PARAMETER, is_name_byte);
            let sign = at + name;
            let value = sign + 1 + self.backslashes_at(sign + 1);
            let is_parameter = name > 0 && self.text.at(sign) == b'=';
            if !is_parameter || (is_quoted && end.is_none() && !is_quote(self.text.at(value))) {
                break;
            }
            let Some(value_end) = self.parameter_end(sign + 1) else { break };
            end = Some(value_end);
            let comma = self.text.skip_blanks(value_end);
            if self.text.at(comma) != b',' {
                break;
            }
            at = self.text.skip_blanks(comma + 1);
        }
        self.last_header = end.map_or(self.last_header, |end| (start, end));
        end
    }

    /// The end of a parameter's value that begins at `start`, with its quotes, which CSV doubles.
    fn parameter_end(&mut self, start: usize) -> Option<usize> {
        let slashes = self.backslashes_at(start);
        let quote = self.text.at(start + slashes);
        if !is_quote(quote) {
            return Some(self.unquoted_end(start)).filter(|end| *end > start);
        }
        let open = start + slashes + 1;
        let is_doubled = slashes == 0 && self.text.at(open) == quote && {
            let next = self.text.at(open + 1);
            next.is_ascii_alphanumeric() || matches!(next, b'/' | b'+' | b'%' | b'=' | 0x80..)
        };
        let from = open + usize::from(is_doubled);
        let len = self.text.span(from, usize::MAX, |b| b != quote && !matches!(b, b'\n' | b'\r'));
        let close = from + len;
        let width = if self.text.at(close) == quote { 1 + usize::from(is_doubled) } else { 0 };
        Some((close + width).min(self.text.bytes.len()))
    }

    /// The token behind an authentication scheme at `start..end`.
    pub(crate) fn scheme(&mut self, start: usize, end: usize) {
        if !self.text.is_free_before(start) {
            return;
        }
        let is_basic = self.text.at(end - 1) == b' ';
        let gap = self.text.span(end, 8, |b| matches!(b, b' ' | b'\t' | b':' | b'='));
        let escaped = if self.text.has(end + gap, "%20") { 3 } else { 0 };
        let token = end + gap + escaped;
        let run_end = self.text.run_end(Set::Opaque, token);
        if self.text.take_touched() {
            self.open(Open { from: token, class: Class::Authorization, until: Until::Value });
        }
        let token_end = self.text.without_stops(token, run_end);
        let body = &self.text.bytes[token..token_end];
        let is_credential = if is_basic {
            (MIN_BASIC..=MAX_BASIC).contains(&body.len())
                && BASE64
                    .decode(body)
                    .is_ok_and(|pair| pair.contains(&b':') && std::str::from_utf8(&pair).is_ok())
        } else {
            gap + escaped > 0 && body.len() >= MIN_BEARER && random::is_token_like(body)
        };
        if is_credential {
            self.push(Class::Authorization, token, token_end);
        }
    }
}
