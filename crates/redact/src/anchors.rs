//! The literal anchors: every credential this crate knows has one of them in or beside it.
//!
//! They are found in one pass without regard to case; the rule of an anchor checks case and everything else.
//! Matches do not overlap, leftmost first, so of two anchors with a common start the longer must come first.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use crate::token::{PREFIXES, Prefix};

/// Which scanner looks around an anchor.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    /// A token that begins with the anchor.
    Prefixed(&'static Prefix),
    /// A JSON Web Token's first characters.
    Jwt,
    /// An AWS access key id.
    Aws,
    /// The middle of an Azure client secret.
    AzureSecret,
    /// A SAS signature's name.
    Sas,
    /// The middle of a Telegram bot token.
    Telegram,
    /// The constant part of a webhook's address.
    Webhook,
    /// A label of a PEM block, or the words in prose.
    PrivateKey,
    /// The part of a PuTTY key file that is secret.
    Putty,
    /// The border between a URL's scheme and the rest.
    Url,
    /// An authentication scheme.
    Scheme,
    /// The name of the `Authorization` header.
    Authorization,
    /// A word that may be the name of a secret.
    Keyword,
}

impl Rule {
    /// Whether the anchor is part of what is masked, and not only beside it. The first line of a private key is
    /// found by its dashes.
    fn masks_its_anchor(self) -> bool {
        matches!(
            self,
            Rule::Prefixed(_) | Rule::Jwt | Rule::Aws | Rule::AzureSecret | Rule::Telegram | Rule::Putty
        )
    }
}

const ANCHORS: &[(&str, Rule)] = &[
    ("private key", Rule::PrivateKey),
    ("private-lines:", Rule::Putty),
    ("eyj", Rule::Jwt),
    ("ewog", Rule::Jwt),
    ("akia", Rule::Aws),
    ("asia", Rule::Aws),
    ("q~", Rule::AzureSecret),
    ("sig=", Rule::Sas),
    (":aa", Rule::Telegram),
    ("%3aaa", Rule::Telegram),
    ("hooks.slack.com/", Rule::Webhook),
    ("/api/webhooks/", Rule::Webhook),
    ("://", Rule::Url),
    (":\\/\\/", Rule::Url),
    ("bearer", Rule::Scheme),
    ("basic ", Rule::Scheme),
    ("authorization", Rule::Authorization),
    ("pass", Rule::Keyword),
    ("pwd", Rule::Keyword),
    ("secret", Rule::Keyword),
    ("token", Rule::Keyword),
    ("credential", Rule::Keyword),
    ("key", Rule::Keyword),
    ("密碼", Rule::Keyword),
    ("密码", Rule::Keyword),
    ("口令", Rule::Keyword),
    ("金鑰", Rule::Keyword),
    ("密鑰", Rule::Keyword),
    ("密钥", Rule::Keyword),
];

/// The compiled anchors.
pub(crate) struct Anchors {
    automaton: AhoCorasick,
    rules: Vec<Rule>,
    masked: Vec<(&'static str, Rule)>,
}

impl Anchors {
    /// Compiles the table above and the token prefixes.
    pub(crate) fn built_in() -> Self {
        let table = || {
            let prefixes = PREFIXES.iter().map(|prefix| (prefix.literal, Rule::Prefixed(prefix)));
            prefixes.chain(ANCHORS.iter().copied())
        };
        let automaton = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::DFA))
            .match_kind(MatchKind::LeftmostFirst)
            .ascii_case_insensitive(true)
            .build(table().map(|(literal, _)| literal))
            .expect("a hundred short literals fit a DFA");
        let masked = table().filter(|(_, rule)| rule.masks_its_anchor()).collect();
        Anchors { automaton, rules: table().map(|(_, rule)| rule).collect(), masked }
    }

    /// The anchors that are part of what is masked.
    pub(crate) fn masked(&self) -> &[(&'static str, Rule)] {
        &self.masked
    }

    /// The anchors in `text`, from left to right: rule, start, end.
    pub(crate) fn find<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (Rule, usize, usize)> + 'a {
        self.automaton.find_iter(text).map(|m| (self.rules[m.pattern().as_usize()], m.start(), m.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_anchor_hides_a_longer_one() {
        let all: Vec<String> = PREFIXES
            .iter()
            .map(|p| p.literal.to_ascii_lowercase())
            .chain(ANCHORS.iter().map(|a| a.0.to_string()))
            .collect();
        for (i, early) in all.iter().enumerate() {
            for late in &all[i + 1..] {
                assert!(!late.starts_with(early.as_str()), "{early} hides {late}");
            }
        }
    }
}
