//! Identifiers. Each is a checked newtype, so that a value of the wrong kind or shape does not compile
//! or does not parse. The pattern of names is the seed's: `^[a-z0-9][a-z0-9_-]{1,63}$`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is not an identifier. `Display` is meant for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} `{value}` must match {pattern}")]
pub struct InvalidId {
    kind: &'static str,
    value: String,
    pattern: &'static str,
}

const NAME_PATTERN: &str = "^[a-z0-9][a-z0-9_-]{1,63}$";
const PROVIDER_PATTERN: &str = "^[a-z0-9][a-z0-9_-]{1,31}$, without `__` and without a trailing `_`";

const PERSON_PATTERN: &str = "^[a-z0-9][a-z0-9._@+-]{0,127}$";

fn is_name(text: &str, max: usize) -> bool {
    let is_head = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    (2..=max).contains(&bytes.len())
        && is_head(bytes[0])
        && bytes[1..].iter().all(|&b| is_head(b) || b == b'_' || b == b'-')
}

fn is_provider(text: &str) -> bool {
    is_name(text, 32) && !text.contains("__") && !text.ends_with('_')
}

fn is_person(text: &str) -> bool {
    let is_head = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=128).contains(&bytes.len())
        && is_head(bytes[0])
        && bytes[1..].iter().all(|&b| is_head(b) || b"._@+-".contains(&b))
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:expr, $pattern:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` against the pattern.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                if $check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    let value = text.chars().take(80).collect();
                    Err(InvalidId { kind: $kind, value, pattern: $pattern })
                }
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_id!(
    /// A tenant. First column of every tenant table.
    ProjectId, "project id", |t| is_name(t, 64), NAME_PATTERN
);
name_id!(
    /// An agent of one project.
    AgentId, "agent id", |t| is_name(t, 64), NAME_PATTERN
);
name_id!(
    /// A model or tool provider of one project; short, because it prefixes tool names.
    ProviderId, "provider id", is_provider, PROVIDER_PATTERN
);
name_id!(
    /// A person, service or agent that acts in a project.
    PrincipalId, "principal id", |t| is_name(t, 64), NAME_PATTERN
);

name_id!(
    /// A person, by the one name they have in every project.
    PersonId, "person", is_person, PERSON_PATTERN
);

impl ProjectId {
    /// The built-in project of the operators.
    pub fn platform() -> Self {
        Self("platform".to_owned())
    }

    /// Is this the operators' project?
    pub fn is_platform(&self) -> bool {
        self.0 == "platform"
    }
}

/// The provider of the platform's own tools; no contract may have this id.
pub const RESERVED_PROVIDER: &str = "awooop";

/// A run: UUID v7, so that ids sort by the time they were made.
pub type RunId = uuid::Uuid;

/// A tool's full name, `<provider>__<tool>`: the only name that routes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ToolName {
    provider: ProviderId,
    tool: String,
}

impl ToolName {
    /// Joins a provider and the tool's own name.
    pub fn new(provider: ProviderId, tool: &str) -> Self {
        Self { provider, tool: tool.to_owned() }
    }

    /// Splits a full name at the first `__`; `None` when there is none or the prefix is no provider id.
    pub fn parse(full: &str) -> Option<Self> {
        let (provider, tool) = full.split_once("__")?;
        if tool.is_empty() {
            return None;
        }
        Some(Self { provider: ProviderId::parse(provider).ok()?, tool: tool.to_owned() })
    }

    /// The provider that serves the tool.
    pub fn provider(&self) -> &ProviderId {
        &self.provider
    }

    /// The name the upstream knows.
    pub fn tool(&self) -> &str {
        &self.tool
    }
}

impl fmt::Display for ToolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}__{}", self.provider, self.tool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_the_seeds_pattern() {
        for good in ["ewoooc", "a1", "0x", "shop-analyst", "a_b", &"a".repeat(64)] {
            assert!(ProjectId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "A1", "-a", "_a", "a b", "a/b", "ä1", "a\n", &"a".repeat(65)] {
            assert!(ProjectId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_provider_id_never_makes_a_full_name_ambiguous() {
        for bad in ["a__b", "ab_", &"a".repeat(33)] {
            assert!(ProviderId::parse(bad).is_err(), "{bad}");
        }
        let name = ToolName::parse("shop__sales__summary").expect("a full name");
        assert_eq!((name.provider().as_str(), name.tool()), ("shop", "sales__summary"));
        assert_eq!(name.to_string(), "shop__sales__summary");
        assert!(ToolName::parse("nothing").is_none());
        assert!(ToolName::parse("shop__").is_none());
        assert!(ToolName::parse("__x").is_none());
    }
}
