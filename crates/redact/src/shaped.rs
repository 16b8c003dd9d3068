//! Tokens whose mark stands in their middle, or that are known by their shape alone: Azure DevOps, Terraform Cloud,
//! Mailgun, Mailchimp, Airtable, Discord bots.
//!
//! Where the mark is too short to look for everywhere, the pass over long runs of base64's characters finds the token
//! by its last segment, which is such a run. Every look back is bounded by [`MAX_SHAPED`].

use crate::Class;
use crate::random;
use crate::scan::Scanner;
use crate::text::Set;

/// What stands before the mark of an Azure DevOps token, and of one of Terraform Cloud, in characters.
pub(crate) const AZURE_DEVOPS: usize = 76;
pub(crate) const TERRAFORM: usize = 14;
/// The shortest last segment of a token known by its shape.
pub(crate) const MIN_SHAPED: usize = 27;
/// The most bytes that a token known by its shape needs to be one.
pub(crate) const MAX_SHAPED: usize = 96;

impl Scanner<'_> {
    /// An Azure DevOps token: 76 letters and digits, `AZDO`, four or more.
    pub(crate) fn azure_devops(&mut self, anchor: usize) {
        if !self.text.has(anchor, "AZDO") {
            return;
        }
        let before = self.text.bytes[..anchor].iter().rev().take(AZURE_DEVOPS);
        if before.take_while(|b| b.is_ascii_alphanumeric()).count() < AZURE_DEVOPS {
            return;
        }
        let end = self.text.run_end(Set::Alnum, anchor);
        let start = anchor - AZURE_DEVOPS;
        if end >= anchor + 8 && random::is_mixed(&self.text.bytes[start..anchor]) {
            self.push(Class::AzureKey, start, end);
        }
    }

    /// A Terraform Cloud token: 14 letters and digits, `.atlasv1.`, 60 or more; the mark is `anchor..body`.
    pub(crate) fn terraform(&mut self, anchor: usize, body: usize) {
        let before = self.text.bytes[..anchor].iter().rev().take(TERRAFORM);
        let is_long = before.take_while(|b| b.is_ascii_alphanumeric()).count() == TERRAFORM;
        let end = self.text.run_end(Set::Url, body);
        if is_long && end >= body + 40 && random::is_token_like(&self.text.bytes[body..end]) {
            self.push(Class::ServiceToken, anchor - TERRAFORM, end);
        }
    }

    /// A Mailgun key: `key-` and 32 hexadecimal digits.
    pub(crate) fn mailgun(&mut self, start: usize, body: usize) {
        let end = self.text.run_end(Set::Alnum, body);
        let key = &self.text.bytes[body..end];
        let is_hex = key.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let is_key = key.len() == 32 && is_hex && random::is_token_like(key);
        if is_key && self.text.has(start, "key-") && self.text.is_free_before(start) {
            self.push(Class::ServiceToken, start, end);
        }
    }

    /// Tokens without a literal part long enough to look for, whose last segment is the long run `start..end`: of
    /// Discord bots, Airtable and Mailchimp.
    pub(crate) fn shaped(&mut self, start: usize, end: usize) {
        let bytes = self.text.bytes;
        let before = |to: usize, set: Set, max: usize| {
            bytes[..to].iter().rev().take(max).take_while(|b| set.holds(**b)).count()
        };
        if let Some(dot) = start.checked_sub(1).filter(|at| bytes[*at] == b'.') {
            let segment = dot - before(dot, Set::Url, MAX_SHAPED);
            let is_airtable = dot - segment >= 17 && bytes[dot - 17..].starts_with(b"pat");
            let body = self.text.run_end(Set::Alnum, start) - start;
            if is_airtable && body >= 64 && self.text.is_free_before(dot - 17) {
                self.push(Class::ServiceToken, dot - 17, start + body);
            }
            self.discord(segment, start);
        }
        self.mailchimp(start, end);
    }

    /// A Discord bot's token: the bot's number in base64, which begins with M, N or O, six characters, and 27 or more
    /// that begin at `last`; the second begins at `middle`.
    fn discord(&mut self, middle: usize, last: usize) {
        let bytes = self.text.bytes;
        let Some(dot) = middle.checked_sub(1).filter(|at| bytes[*at] == b'.' && last == middle + 7) else {
            return;
        };
        let first = bytes[..dot].iter().rev().take(29).take_while(|b| Set::Url.holds(**b)).count();
        // What is glued to the front may be the end of an escape.
        let glued = usize::from(first > 1 && self.text.at((dot - first).saturating_sub(1)) == b'\\');
        let start = dot - first + glued;
        let end = self.text.run_end(Set::Url, last);
        if (23..=28).contains(&(dot - start))
            && matches!(bytes[start], b'M'..=b'O')
            && end >= last + 27
            && random::is_mixed(&bytes[start..last + 27])
        {
            self.push(Class::ServiceToken, start, end);
        }
    }

    /// A Mailchimp key within the long run `start..end`: 32 hexadecimal digits, `-us`, the number of a data centre.
    fn mailchimp(&mut self, start: usize, end: usize) {
        let bytes = self.text.bytes;
        for mark in memchr::memmem::find_iter(&bytes[start..end], "-us").map(|n| start + n) {
            let is_hex = |b: &&u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
            let hex = bytes[..mark].iter().rev().take(33).take_while(is_hex).count();
            let number = self.text.span(mark + 3, 3, |b| b.is_ascii_digit());
            let to = mark + 3 + number;
            let is_over = !self.text.at(to).is_ascii_alphanumeric();
            if hex >= 32 && matches!(number, 1 | 2) && is_over && self.text.is_free_before(mark - 32) {
                self.push(Class::ServiceToken, mark - 32, to);
            }
        }
    }
}
