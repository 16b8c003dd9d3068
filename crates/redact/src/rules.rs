//! What a redactor does with what it finds: credentials are always masked, the rest is the rules' choice.
//!
//! [`Rules`] are data, made once per project and direction and compiled into a [`crate::Redactor`].
//! Invariants: no rule lets a credential pass; a pattern takes linear time and bounded memory and cannot match the
//! empty text; without a tag key what should be tagged is masked.

use std::net::IpAddr;

use regex::{Regex, RegexBuilder};

use crate::class::CustomName;
use crate::mask::{TagKey, mask_len, mask_len_of, one_spelling};
use crate::{Class, view};

/// What is done with a find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// It stays.
    Allow,
    /// `[CLASS]` stands in its place.
    Mask,
    /// `[CLASS:tag]` stands in its place; equal values have equal tags.
    Tag,
    /// It is masked, and the text as a whole is to be refused: see [`crate::Redacted::blocked`].
    Block,
}

/// Why a pattern was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// The name.
    #[error("{0:?} is no name for a pattern: 2 to 40 capitals, digits and _, and no built-in class")]
    Name(String),
    /// The pattern.
    #[error("{0}")]
    Pattern(#[from] Box<regex::Error>),
    /// The empty text matches.
    #[error("it matches the empty text")]
    Empty,
}

/// A pattern of the project's own.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    pub(crate) name: CustomName,
    pub(crate) regex: Regex,
    pub(crate) action: Action,
}

/// Most bytes a compiled pattern may take.
const MAX_PATTERN_MEMORY: usize = 1 << 20;

/// What is done with each class, and what is looked for besides.
#[derive(Debug, Clone)]
pub struct Rules {
    personal: [Action; Class::PERSONAL.len()],
    patterns: Vec<Pattern>,
    allowed: Vec<Allowed>,
    tag_key: Option<TagKey>,
}

/// A value that stays though its class does not.
#[derive(Debug, Clone)]
enum Allowed {
    /// This one, in any spelling.
    Value(String),
    /// Every address at this domain, which begins with `@`.
    Domain(String),
    /// Addresses whose first bits are these.
    Network(IpAddr, u8),
}

impl Rules {
    /// Credentials are masked, personal data stays.
    pub fn credentials() -> Self {
        Rules {
            personal: [Action::Allow; Class::PERSONAL.len()],
            patterns: Vec::new(),
            allowed: Vec::new(),
            tag_key: None,
        }
    }

    /// Credentials are masked, and `action` is taken on every class of personal data.
    pub fn everything(action: Action) -> Self {
        Rules { personal: [action; Class::PERSONAL.len()], ..Rules::credentials() }
    }

    /// Takes `action` on a class of personal data. Of another class it says nothing: credentials are always masked.
    #[must_use]
    pub fn personal(mut self, class: Class, action: Action) -> Self {
        if let Some(index) = class.personal_index() {
            self.personal[index] = action;
        }
        self
    }

    /// Adds a pattern: `action` is taken on what `regex` matches, as class `name`.
    ///
    /// # Errors
    /// A name that is taken or malformed; a pattern that does not compile, takes over 1 MiB or matches nothing at all.
    pub fn pattern(mut self, name: &str, regex: &str, action: Action) -> Result<Self, PatternError> {
        let name = CustomName::new(name).ok_or_else(|| PatternError::Name(name.to_owned()))?;
        let mut builder = RegexBuilder::new(regex);
        let regex = builder
            .size_limit(MAX_PATTERN_MEMORY)
            .dfa_size_limit(MAX_PATTERN_MEMORY)
            .build()
            .map_err(Box::new)?;
        if regex.is_match("") {
            return Err(PatternError::Empty);
        }
        self.patterns.push(Pattern { name, regex, action });
        Ok(self)
    }

    /// Takes `action` on what any of the patterns added so far matches.
    #[must_use]
    pub fn every_pattern(mut self, action: Action) -> Self {
        self.patterns.iter_mut().for_each(|pattern| pattern.action = action);
        self
    }

    /// Lets a value of personal data or of a pattern stay: a value in any spelling, `@example.org` for all addresses
    /// there, or a network such as `10.0.0.0/8`. No credential is let through by it.
    #[must_use]
    pub fn allow(mut self, value: &str) -> Self {
        let network = value.split_once('/').and_then(|(address, bits)| {
            let address: IpAddr = address.parse().ok()?;
            let bits: u8 = bits.parse().ok()?;
            (u32::from(bits) <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
        });
        self.allowed.push(match (network, value.starts_with('@')) {
            (Some((address, bits)), _) => Allowed::Network(address, bits),
            (None, true) => Allowed::Domain(value.to_lowercase()),
            (None, false) => Allowed::Value(value.to_owned()),
        });
        self
    }

    /// Tags are made under this key.
    #[must_use]
    pub fn tag_key(mut self, key: TagKey) -> Self {
        self.tag_key = Some(key);
        self
    }

    /// What is done with finds of `class`.
    pub fn action(&self, class: Class) -> Action {
        match class {
            Class::Custom(name) => {
                let pattern = self.patterns.iter().find(|pattern| pattern.name == name);
                pattern.map_or(Action::Mask, |pattern| pattern.action)
            }
            class => class.personal_index().map_or(Action::Mask, |index| self.personal[index]),
        }
    }

    /// Whether anything is done with finds of `class`.
    pub(crate) fn looks_for(&self, class: Class) -> bool {
        self.action(class) != Action::Allow
    }

    /// Whether any personal data is looked for.
    pub(crate) fn looks_for_personal(&self) -> bool {
        self.personal.iter().any(|action| *action != Action::Allow)
    }

    /// The patterns that were added and do something.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.patterns.iter().filter(|pattern| pattern.action != Action::Allow)
    }

    /// Whether `value`, a find of `class`, is listed to stay.
    pub(crate) fn allows(&self, class: Class, value: &str) -> bool {
        self.allowed.iter().any(|allowed| match allowed {
            Allowed::Value(listed) => one_spelling(class, listed) == one_spelling(class, value),
            Allowed::Domain(domain) => class == Class::Email && value.to_lowercase().ends_with(domain),
            Allowed::Network(network, bits) => {
                class == Class::IpAddress
                    && value
                        .parse()
                        .is_ok_and(|address| first_bits(address, *bits) == first_bits(*network, *bits))
            }
        })
    }

    /// The length in bytes of the mask that begins `bytes`, if one does.
    pub(crate) fn mask_len(&self, bytes: &[u8]) -> Option<usize> {
        let names = self.patterns.iter().map(|pattern| pattern.name.as_str());
        mask_len(bytes).or_else(|| mask_len_of(bytes, names))
    }

    /// What stands in place of `value`, a find of `class`.
    pub(crate) fn mask(&self, class: Class, value: &str) -> String {
        match (self.action(class), &self.tag_key) {
            (Action::Tag, Some(key)) => format!("[{class}:{}]", key.tag(class, &view::decoded(value))),
            _ => ["[", class.as_str(), "]"].concat(),
        }
    }
}

/// The first `bits` of an address; of two families no bits are equal.
fn first_bits(address: IpAddr, bits: u8) -> (bool, u128) {
    let of = |value: u128, width: u32| value.checked_shr(width - u32::from(bits).min(width)).unwrap_or(0);
    match address {
        IpAddr::V4(v4) => (true, of(v4.to_bits().into(), 32)),
        IpAddr::V6(v6) => (false, of(v6.to_bits(), 128)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allow_list_names_values_domains_and_networks() {
        let rules =
            Rules::everything(Action::Mask).allow("0800-000-123").allow("@Example.org").allow("10.0.0.0/8");
        for (class, value, stays) in [
            (Class::Phone, "0800000123", true),
            (Class::Phone, "0800000124", false),
            (Class::Email, "Ann@example.org", true),
            (Class::Email, "ann@notexample.org", false),
            (Class::IpAddress, "10.1.2.3", true),
            (Class::IpAddress, "11.1.2.3", false),
            (Class::IpAddress, "::1", false),
        ] {
            assert_eq!(rules.allows(class, value), stays, "{value}");
        }
        assert!(Rules::credentials().allow("0.0.0.0/0").allows(Class::IpAddress, "9.9.9.9"));
        assert!(!Rules::credentials().allow("0.0.0.0/0").allows(Class::IpAddress, "::9"));
    }

    #[test]
    fn no_rule_lets_a_credential_pass() {
        let rules = Rules::everything(Action::Allow).personal(Class::Jwt, Action::Allow);
        assert!(Class::CREDENTIALS.iter().all(|class| rules.action(*class) == Action::Mask));
    }

    #[test]
    fn a_pattern_has_a_name_of_its_own_and_matches_something() {
        let add = |name, regex| Rules::credentials().pattern(name, regex, Action::Mask);
        assert!(add("ORDER_NO", r"\bEW-[0-9]{8}\b").is_ok());
        assert!(matches!(add("EMAIL", "x"), Err(PatternError::Name(_))));
        assert!(matches!(add("order", "x"), Err(PatternError::Name(_))));
        assert!(matches!(add("ORDER_NO", "x*"), Err(PatternError::Empty)));
        assert!(matches!(add("ORDER_NO", "("), Err(PatternError::Pattern(_))));
        assert!(matches!(add("ORDER_NO", r"\w{500}{50}"), Err(PatternError::Pattern(_))));
    }
}
