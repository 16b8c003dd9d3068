//! Tokens that carry their own mark: vendor prefixes, JWT, AWS key ids, Telegram, Azure.
//!
//! A prefix with enough of the right characters behind it is a token, whether or not a checksum would agree:
//! a shape that fits is masked. The mask covers the whole run, so a token with something glued to it leaves no tail.
//! Sources: the vendors' published formats; lengths are minima, since vendors lengthen their tokens.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::Class;
use crate::random;
use crate::scan::Scanner;
use crate::text::Set;

/// A vendor's token format.
pub(crate) struct Prefix {
    /// The first characters, in their true case.
    pub(crate) literal: &'static str,
    pub(crate) class: Class,
    set: Set,
    /// Characters that must follow the prefix.
    min: usize,
}

const fn prefix(literal: &'static str, class: Class, set: Set, min: usize) -> Prefix {
    Prefix { literal, class, set, min }
}

/// Every format that is recognised by its prefix alone.
pub(crate) static PREFIXES: &[Prefix] = &[
    prefix("awp_", Class::AwooopKey, Set::Url, 40),
    prefix("awr_", Class::AwooopKey, Set::Dotted, 20),
    prefix("AIza", Class::GoogleKey, Set::Url, 30),
    prefix("ya29.", Class::GoogleKey, Set::Url, 20),
    prefix("GOCSPX-", Class::GoogleKey, Set::Url, 20),
    prefix("1//0", Class::GoogleKey, Set::Url, 30),
    prefix("ghp_", Class::GithubToken, Set::Alnum, 20),
    prefix("gho_", Class::GithubToken, Set::Alnum, 20),
    prefix("ghu_", Class::GithubToken, Set::Alnum, 20),
    prefix("ghs_", Class::GithubToken, Set::Dotted, 20),
    prefix("ghr_", Class::GithubToken, Set::Alnum, 20),
    prefix("github_pat_", Class::GithubToken, Set::Url, 20),
    prefix("glpat-", Class::GitlabToken, Set::Dotted, 16),
    prefix("gldt-", Class::GitlabToken, Set::Dotted, 16),
    prefix("glrt-", Class::GitlabToken, Set::Dotted, 16),
    prefix("glptt-", Class::GitlabToken, Set::Dotted, 16),
    prefix("glcbt-", Class::GitlabToken, Set::Dotted, 16),
    prefix("glft-", Class::GitlabToken, Set::Dotted, 16),
    prefix("glimt-", Class::GitlabToken, Set::Dotted, 16),
    prefix("glagent-", Class::GitlabToken, Set::Dotted, 16),
    prefix("gloas-", Class::GitlabToken, Set::Dotted, 16),
    prefix("glsoat-", Class::GitlabToken, Set::Dotted, 16),
    prefix("glffct-", Class::GitlabToken, Set::Dotted, 16),
    prefix("npm_", Class::RegistryToken, Set::Alnum, 30),
    prefix("pypi-", Class::RegistryToken, Set::Url, 50),
    prefix("rubygems_", Class::RegistryToken, Set::Alnum, 40),
    prefix("dckr_pat_", Class::RegistryToken, Set::Url, 20),
    prefix("dckr_oat_", Class::RegistryToken, Set::Url, 20),
    prefix("cio", Class::RegistryToken, Set::Alnum, 32),
    prefix("oy2", Class::RegistryToken, Set::Alnum, 43),
    prefix("CLOJARS_", Class::RegistryToken, Set::Alnum, 50),
    prefix("AKCp8", Class::RegistryToken, Set::Alnum, 60),
    prefix("sk-", Class::ModelKey, Set::Url, 20),
    prefix("csk-", Class::ModelKey, Set::Url, 30),
    prefix("gsk_", Class::ModelKey, Set::Alnum, 30),
    prefix("hf_", Class::ModelKey, Set::Alnum, 30),
    prefix("r8_", Class::ModelKey, Set::Alnum, 30),
    prefix("xai-", Class::ModelKey, Set::Url, 30),
    prefix("pplx-", Class::ModelKey, Set::Alnum, 30),
    prefix("nvapi-", Class::ModelKey, Set::Url, 30),
    prefix("tgp_v1_", Class::ModelKey, Set::Url, 30),
    prefix("lsv2_", Class::ModelKey, Set::Url, 30),
    prefix("fw_", Class::ModelKey, Set::Alnum, 20),
    prefix("pa-", Class::ModelKey, Set::Url, 40),
    prefix("jina_", Class::ModelKey, Set::Url, 40),
    prefix("tvly-", Class::ModelKey, Set::Url, 20),
    prefix("pcsk_", Class::ModelKey, Set::Url, 40),
    prefix("api_org_", Class::ModelKey, Set::Alnum, 30),
    prefix("xoxa-", Class::SlackToken, Set::Url, 10),
    prefix("xoxb-", Class::SlackToken, Set::Url, 10),
    prefix("xoxc-", Class::SlackToken, Set::Url, 10),
    prefix("xoxd-", Class::SlackToken, Set::Opaque, 10),
    prefix("xoxe-", Class::SlackToken, Set::Url, 10),
    prefix("xoxe.", Class::SlackToken, Set::Dotted, 10),
    prefix("xoxo-", Class::SlackToken, Set::Url, 10),
    prefix("xoxp-", Class::SlackToken, Set::Url, 10),
    prefix("xoxr-", Class::SlackToken, Set::Url, 10),
    prefix("xoxs-", Class::SlackToken, Set::Url, 10),
    prefix("xapp-", Class::SlackToken, Set::Url, 10),
    prefix("xwfp-", Class::SlackToken, Set::Url, 10),
    prefix("sk_live_", Class::ServiceToken, Set::Alnum, 16),
    prefix("rk_live_", Class::ServiceToken, Set::Alnum, 16),
    prefix("whsec_", Class::ServiceToken, Set::Opaque, 20),
    prefix("SG.", Class::ServiceToken, Set::Dotted, 40),
    prefix("hvs.", Class::ServiceToken, Set::Url, 20),
    prefix("dop_v1_", Class::ServiceToken, Set::Alnum, 40),
    prefix("shpat_", Class::ServiceToken, Set::Alnum, 24),
    prefix("hvb.", Class::ServiceToken, Set::Url, 20),
    prefix("doo_v1_", Class::ServiceToken, Set::Alnum, 40),
    prefix("dor_v1_", Class::ServiceToken, Set::Alnum, 40),
    prefix("shpss_", Class::ServiceToken, Set::Alnum, 24),
    prefix("shpca_", Class::ServiceToken, Set::Alnum, 24),
    prefix("shppa_", Class::ServiceToken, Set::Alnum, 24),
    prefix("dapi", Class::ServiceToken, Set::Alnum, 32),
    prefix("dp.pt.", Class::ServiceToken, Set::Dotted, 40),
    prefix("dp.st.", Class::ServiceToken, Set::Dotted, 40),
    prefix("dp.sa.", Class::ServiceToken, Set::Dotted, 40),
    prefix("glsa_", Class::ServiceToken, Set::Url, 40),
    prefix("lin_api_", Class::ServiceToken, Set::Alnum, 40),
    prefix("ntn_", Class::ServiceToken, Set::Alnum, 40),
    prefix("ATATT3", Class::ServiceToken, Set::Opaque, 60),
    prefix("PMAK-", Class::ServiceToken, Set::Url, 50),
    prefix("NRAK-", Class::ServiceToken, Set::Alnum, 27),
    prefix("sntryu_", Class::ServiceToken, Set::Alnum, 60),
    prefix("sntrys_", Class::ServiceToken, Set::Opaque, 60),
    prefix("sq0csp-", Class::ServiceToken, Set::Url, 20),
    prefix("sq0atp-", Class::ServiceToken, Set::Url, 20),
    prefix("pul-", Class::ServiceToken, Set::Alnum, 40),
    prefix("sbp_", Class::ServiceToken, Set::Alnum, 40),
    prefix("pscale_", Class::ServiceToken, Set::Url, 30),
    prefix("figd_", Class::ServiceToken, Set::Url, 30),
    prefix("nfp_", Class::ServiceToken, Set::Alnum, 30),
    prefix("xkeysib-", Class::ServiceToken, Set::Url, 60),
    prefix("tskey-", Class::ServiceToken, Set::Url, 20),
    prefix("squ_", Class::ServiceToken, Set::Alnum, 40),
    prefix("sqp_", Class::ServiceToken, Set::Alnum, 40),
    prefix("EAAC", Class::ServiceToken, Set::Alnum, 60),
    prefix("sl.B", Class::ServiceToken, Set::Url, 60),
    prefix("AGE-SECRET-KEY-1", Class::ServiceToken, Set::Alnum, 50),
];

/// base64url with or without padding.
const JWT_BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// How far before a key id of AWS its secret may begin, and how far behind it, in bytes.
pub(crate) const AWS_BEHIND: usize = 160;
const AWS_AHEAD: usize = 320;
/// The length of the secret.
pub(crate) const AWS_SECRET: usize = 40;

/// How much of a JWT's header shows that it is none, in bytes.
const MAX_HEAD: usize = 64;
/// How many headers that end in the same place are decoded.
const MAX_TRIES: u32 = 8;

/// The characters of the secret of an AWS key.
pub(crate) fn is_aws_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

impl Scanner<'_> {
    /// A token that begins at `start` with `prefix`.
    pub(crate) fn prefixed(&mut self, prefix: &Prefix, start: usize) {
        if !self.text.has(start, prefix.literal) || !self.text.is_free_before(start) {
            return;
        }
        let body = start + prefix.literal.len();
        let run_end = self.text.run_end(prefix.set, body);
        let end = self.text.without_stops(body, run_end);
        if end < body + prefix.min {
            return;
        }
        if !self.tokens.add(end) && !random::is_token_like(&self.text.bytes[body..end]) {
            return;
        }
        self.push(prefix.class, start, end);
    }

    /// A JWT whose header begins at `start`: two to five base64url segments, the first a JSON object with `alg`.
    pub(crate) fn jwt(&mut self, start: usize) {
        if !(self.text.has(start, "eyJ") || self.text.has(start, "ewog")) {
            return;
        }
        let header_end = self.text.run_end(Set::Url, start);
        let is_cut = self.goes_on && header_end == self.text.bytes.len();
        if (self.text.at(header_end) != b'.' && !is_cut) || !self.begins_like_json(start) {
            // nothing that may follow makes it one
            self.text.take_touched();
            return;
        }
        if is_cut {
            return;
        }
        let mut end = self.text.run_end(Set::Url, header_end + 1);
        // Where the key is agreed on, an encrypted token has no second segment.
        let is_direct = end == header_end + 1 && self.text.at(end) == b'.' && self.text.at(end + 1) != b'.';
        if (end < header_end + 5 && !is_direct) || !self.is_jose_header(start, header_end) {
            return;
        }
        for _ in 0..3 {
            if self.text.at(end) != b'.' {
                break;
            }
            let next = self.text.run_end(Set::Url, end + 1);
            if next == end + 1 && self.text.at(next) != b'.' {
                break;
            }
            end = next;
        }
        self.push(Class::Jwt, start, end);
    }

    /// Whether the first characters decode to text, as far as they are there.
    fn begins_like_json(&self, start: usize) -> bool {
        let head = self.text.bytes[start..].iter().take(MAX_HEAD).take_while(|b| Set::Url.holds(**b)).count();
        let json = JWT_BASE64.decode(&self.text.bytes[start..start + head / 4 * 4]).unwrap_or_default();
        let is_text = |text: &str| text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace());
        match std::str::from_utf8(&json) {
            Ok(text) => is_text(text),
            Err(e) => {
                e.error_len().is_none() && std::str::from_utf8(&json[..e.valid_up_to()]).is_ok_and(is_text)
            }
        }
    }

    /// Whether a segment decodes to an object with `alg`. Where too many headers would end in one place, the shape
    /// decides.
    fn is_jose_header(&mut self, start: usize, end: usize) -> bool {
        let tries = if self.jwt_tries.0 == end { self.jwt_tries.1 + 1 } else { 1 };
        self.jwt_tries = (end, tries);
        if tries > MAX_TRIES {
            return true;
        }
        let Ok(json) = JWT_BASE64.decode(&self.text.bytes[start..end]) else { return false };
        serde_json::from_slice::<serde_json::Value>(&json).is_ok_and(|header| header.get("alg").is_some())
    }

    /// `AKIA` or `ASIA` and 16 capitals or digits; beside it, the 40 characters of a secret access key.
    pub(crate) fn aws(&mut self, start: usize) {
        let is_upper = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
        if self.text.span(start, 20, is_upper) < 20 || !self.text.is_free_before(start) {
            return;
        }
        let end = self.text.run_end(Set::Alnum, start);
        if !random::is_token_like(&self.text.bytes[start + 4..end]) {
            return;
        }
        self.push(Class::AwsKey, start, end);
        if self.is_again {
            return;
        }
        self.aws_secrets(start.saturating_sub(AWS_BEHIND), start);
        self.aws_secrets(end, (end + AWS_AHEAD).min(self.text.bytes.len()));
    }

    /// Runs of exactly 40 base64 characters that begin between `from` and `to`.
    fn aws_secrets(&mut self, from: usize, to: usize) {
        let run =
            |at: usize| self.text.bytes[at..].iter().take(400).take_while(|b| is_aws_base64(**b)).count();
        let is_within = from > 0 && is_aws_base64(self.text.bytes[from - 1]);
        let mut at = from + if is_within { run(from) } else { 0 };
        while at < to {
            let len = self.text.bytes[at..].iter().take(400).take_while(|b| is_aws_base64(**b)).count();
            let escaped = usize::from(at > 0 && self.text.at(at - 1) == b'\\');
            if len == AWS_SECRET + escaped && random::is_mixed(&self.text.bytes[at + escaped..at + len]) {
                self.push(Class::AwsKey, at + escaped, at + len);
            }
            at += len + 1;
        }
    }

    /// An Azure client secret: three characters, a digit, `Q~`, then 31 to 34 characters.
    pub(crate) fn azure_secret(&mut self, anchor: usize) {
        let Some(start) = anchor.checked_sub(4) else { return };
        if !self.text.has(anchor, "Q~") || !self.text.at(anchor - 1).is_ascii_digit() {
            return;
        }
        let end = self.text.run_end(Set::Opaque, anchor + 2);
        let head = &self.text.bytes[start..anchor];
        if end >= anchor + 33
            && head.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'~' | b'-'))
        {
            self.push(Class::AzureKey, start, end);
        }
    }

    /// The `sig` parameter of a shared access signature.
    pub(crate) fn sas(&mut self, start: usize) {
        if start == 0 || !matches!(self.text.at(start - 1), b'?' | b'&' | b';') {
            return;
        }
        let value = start + 4;
        let end = self.text.run_end(Set::Opaque, value);
        if end >= value + 30 && random::is_token_like(&self.text.bytes[value..end]) {
            self.push(Class::AzureKey, value, end);
        }
    }

    /// `<bot id>:AA<33 characters>`; `anchor` is the colon, `body` what follows `AA`.
    pub(crate) fn telegram(&mut self, anchor: usize, body: usize) {
        if self.text.at(body - 1) != b'A' || self.text.at(body - 2) != b'A' {
            return;
        }
        let digits =
            self.text.bytes[..anchor].iter().rev().take(16).take_while(|b| b.is_ascii_digit()).count();
        let end = self.text.run_end(Set::Url, body);
        if (6..=12).contains(&digits)
            && end >= body + 30
            && random::is_token_like(&self.text.bytes[body..end])
        {
            self.push(Class::TelegramToken, anchor - digits, end);
        }
    }
}
