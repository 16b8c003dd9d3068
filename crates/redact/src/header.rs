//! `Bearer` and `Basic` where no header name stands before them: in prose, commands, and quoted headers.
//!
//! The word alone proves nothing, so the token must look like one; a Basic credential must decode to `user:password`.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::Class;
use crate::judge;
use crate::open::{Open, Until};
use crate::scan::Scanner;
use crate::text::Set;

const MIN_BEARER: usize = 12;
const MIN_BASIC: usize = 8;
const MAX_BASIC: usize = 4096;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Scanner<'_> {
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
            gap + escaped > 0 && body.len() >= MIN_BEARER && judge::is_token_like(body)
        };
        if is_credential {
            self.push(Class::Authorization, token, token_end);
        }
    }
}
