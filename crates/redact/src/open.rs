//! What a longer text could still change: the parts of a find that are not decided when the text ends.
//!
//! A rule that looked past the end of the text leaves an [`Open`]: the first byte it could mask, and where what it
//! found would end. Besides, the last bytes of a text may be the beginning of an anchor, or lie where a rule that
//! looks back will look: [`Scanner::open_tail`] says from where. Both may say too much, never too little.
//! In a text that is whole nobody asks, and the answers cost nothing.

use crate::anchors::Rule;
use crate::scan::Scanner;
use crate::shaped::{AZURE_DEVOPS, MAX_SHAPED, TERRAFORM};
use crate::text::Set;
use crate::token::{AWS_BEHIND, AWS_SECRET, is_aws_base64};
use crate::view::View;
use crate::{Class, encoded, personal, random};

/// Where something ends that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// With the unquoted value.
    Value,
    /// At the quote that closes a string, which stands behind so many backslashes.
    Quote { quote: u8, level: usize },
    /// With the list of parameters, at the latest with the line.
    Parameters,
    /// With the bracket that closes a list of strings, so many lists deep: within a string between such quotes, or
    /// between strings whose quotes stand behind so many backslashes.
    List { quote: Option<u8>, level: usize, depth: u32 },
    /// With the last line of a private key; `is_in_string`: if it stands in a string, with that.
    Block { is_in_string: Option<bool> },
    /// With the secret part of a PuTTY key; `over_strings`: which goes on over the end of a string.
    Putty { over_strings: bool },
    /// With the run of base64, over its lines.
    Encoded,
}

/// A find that is not decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Open {
    /// The first byte that may be masked.
    pub(crate) from: usize,
    pub(crate) class: Class,
    pub(crate) until: Until,
}

impl Open {
    /// Whether it may be long: a key block, or base64.
    pub(crate) fn is_block(&self) -> bool {
        matches!(self.until, Until::Block { .. } | Until::Putty { .. } | Until::Encoded)
    }
}

/// The bytes of a label before the words `PRIVATE KEY`, and the dashes before it.
const MAX_LABEL: usize = 40;
const MAX_DASHES: usize = 8;

impl Scanner<'_> {
    /// Notes what is open; the earliest counts, and of the blocks the earliest too.
    pub(crate) fn open(&mut self, open: Open) {
        let slot = if open.is_block() { &mut self.open_block } else { &mut self.open };
        if slot.is_none_or(|known| open.from < known.from) {
            *slot = Some(open);
        }
    }

    /// Notes that a value behind `from` is not in sight.
    pub(crate) fn open_value(&mut self, from: usize, class: Class) {
        self.open(Open { from, class, until: Until::Value });
    }

    /// Notes what the rule of the anchor at `start..end` left open, if it looked past the end.
    pub(crate) fn open_rule(&mut self, rule: Rule, start: usize, end: usize) {
        if !self.text.take_touched() {
            return;
        }
        let (from, class) = match rule {
            Rule::Prefixed(prefix) => (start, prefix.class),
            Rule::Jwt => (start, Class::Jwt),
            Rule::Aws => (start, Class::AwsKey),
            Rule::AzureSecret => (start - self.before_azure(start), Class::AzureKey),
            Rule::AzureDevops => (start - self.alnum_before(start, AZURE_DEVOPS), Class::AzureKey),
            Rule::Terraform => (start - self.alnum_before(start, TERRAFORM), Class::ServiceToken),
            Rule::Mailgun => (start, Class::ServiceToken),
            Rule::Sas => (end, Class::AzureKey),
            Rule::Telegram => (start - self.digits_before(start), Class::TelegramToken),
            Rule::Webhook { .. } => (end, Class::Webhook),
            Rule::Url | Rule::EscapedUrl => (end, Class::UrlPassword),
            Rule::Scheme | Rule::Authorization => (end, Class::Authorization),
            Rule::PrivateKey | Rule::Putty | Rule::Keyword | Rule::Identified | Rule::User => {
                (end, Class::Secret)
            }
        };
        self.open(Open { from, class, until: Until::Value });
    }

    /// Notes the token that is known by its shape and reaches the end, if it is long enough to be one.
    pub(crate) fn open_shaped(&mut self, start: usize) {
        if self.text.take_touched() {
            let from = start.saturating_sub(MAX_SHAPED);
            self.open(Open { from, class: Class::ServiceToken, until: Until::Value });
        }
    }

    /// Notes what is open in a view that reaches the end.
    pub(crate) fn open_in_view(&mut self, inner: &mut Scanner<'_>, view: &View) {
        let place = |at: usize| view.in_original(at, at).0;
        for open in [inner.open, inner.open_block].into_iter().flatten() {
            self.open(Open { from: place(open.from), ..open });
        }
        let decided = inner.open.map_or(view.text.len(), |open| open.from);
        let tail = inner.tail_of_anchors(decided);
        self.tail_in_view = self.tail_in_view.min(place(tail));
        self.secret_in_view = self.secret_in_view.min(place(inner.aws_secret_before(tail)));
        for candidate in &inner.candidates {
            self.spans.push(view.in_original(candidate.start, candidate.end));
        }
    }

    /// Notes the run of base64 at the end.
    pub(crate) fn open_encoded(&mut self) {
        let from = if self.goes_on { encoded::open_run(self.text.str) } else { None };
        let is_cut = |from: usize| from == 0 && encoded::is_base64(self.text.before().last());
        if let Some(from) = from.filter(|from| !is_cut(*from)) {
            self.open(Open { from, class: Class::Secret, until: Until::Encoded });
        }
    }

    /// From where the last bytes could become part of a find for which nothing else stands yet; `before`: from where
    /// they are part of one.
    pub(crate) fn open_tail(&mut self, before: usize) -> usize {
        let from = self.tail_of_anchors(before);
        self.aws_secret_before(from).min(self.secret_in_view)
    }

    fn tail_of_anchors(&mut self, before: usize) -> usize {
        let bytes = self.text.bytes;
        let pair = self.partial_pair();
        let personal = if self.rules.looks_for_personal() {
            personal::tail::open_from(self.text.str)
        } else {
            bytes.len()
        };
        before
            .min(personal)
            .min(self.tail_in_view)
            .min(pair)
            .min(self.partial_anchor())
            .min(partial_label(bytes))
            .min(last_run(bytes))
            .min(last_word(bytes))
    }

    /// Where a suffix begins that is the beginning of an anchor which is masked itself.
    fn partial_anchor(&self) -> usize {
        let bytes = self.text.bytes;
        let mut from = bytes.len();
        for (literal, rule) in self.redactor.anchors.masked() {
            for len in 1..literal.len().min(bytes.len() + 1) {
                let start = bytes.len() - len;
                if !bytes[start..].eq_ignore_ascii_case(&literal.as_bytes()[..len]) {
                    continue;
                }
                let back = match rule {
                    Rule::AzureSecret => self.before_azure(start),
                    Rule::AzureDevops => self.alnum_before(start, AZURE_DEVOPS),
                    Rule::Terraform => self.alnum_before(start, TERRAFORM),
                    Rule::Telegram => self.digits_before(start),
                    _ => 0,
                };
                from = from.min(start - back);
            }
        }
        from
    }

    /// How many bytes before `Q~` belong to an Azure client secret.
    fn before_azure(&self, start: usize) -> usize {
        let head = &self.text.bytes[start.saturating_sub(4)..start];
        let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'~' | b'-');
        if head.iter().all(fits) { head.len() } else { 0 }
    }

    /// How many letters and digits stand before `start`, of at most `max`.
    fn alnum_before(&self, start: usize, max: usize) -> usize {
        self.text.bytes[..start].iter().rev().take(max).take_while(|b| b.is_ascii_alphanumeric()).count()
    }

    fn digits_before(&self, start: usize) -> usize {
        self.text.bytes[..start].iter().rev().take(16).take_while(|b| b.is_ascii_digit()).count()
    }

    /// The first run that a key id of AWS at or behind `from` would make a secret.
    fn aws_secret_before(&self, from: usize) -> usize {
        if self.is_again {
            return from;
        }
        let bytes = self.text.bytes;
        let mut at = from.saturating_sub(AWS_BEHIND);
        let is_within = at > 0 && is_aws_base64(bytes[at - 1]);
        at += bytes[at..from].iter().take_while(|b| is_within && is_aws_base64(**b)).count();
        while at < from {
            let len = bytes[at..].iter().take_while(|b| is_aws_base64(**b)).count();
            let escaped = usize::from(at > 0 && bytes[at - 1] == b'\\');
            if len == AWS_SECRET + escaped && random::is_mixed(&bytes[at + escaped..at + len]) {
                return at;
            }
            at += len + 1;
        }
        from
    }
}

/// A run at the end of the text that may still become the secret of an AWS key.
fn last_run(bytes: &[u8]) -> usize {
    let run = bytes.iter().rev().take(AWS_SECRET + 2).take_while(|b| is_aws_base64(**b)).count();
    bytes.len() - if run <= AWS_SECRET + 1 { run } else { 0 }
}

/// A word at the end of the text that may still become a token which is known by its shape or by a mark in its middle.
fn last_word(bytes: &[u8]) -> usize {
    bytes.len() - bytes.iter().rev().take(MAX_SHAPED).take_while(|b| Set::Dotted.holds(**b)).count()
}

/// The beginning of a PEM block's first line at the end of the text.
fn partial_label(bytes: &[u8]) -> usize {
    let label = |b: &&u8| b.is_ascii_alphanumeric() || **b == b' ';
    let len = bytes.iter().rev().take(MAX_LABEL + 12).take_while(label).count();
    let start = bytes.len() - len;
    let dashes = bytes[..start].iter().rev().take(MAX_DASHES).take_while(|b| **b == b'-').count();
    let words = bytes[start..].trim_ascii_start();
    let begin = b"BEGIN";
    let common = words.len().min(begin.len());
    let opens = words[..common].eq_ignore_ascii_case(&begin[..common]);
    bytes.len() - if opens && dashes > 0 && (dashes > 1 || len == 0) { dashes + len } else { 0 }
}
