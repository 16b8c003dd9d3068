//! Gate 2's judgement of a definition: is it the one that was pinned, by a contract or at its first sight, and if
//! nothing was pinned, may it be now?
//!
//! A pin is a hash. A whole pin covers every member that the server wrote; a plain one, as older contracts may hold it,
//! the six members of [`PLAIN_MEMBERS`]. Both are accepted, and whoever is shown the definition gets no member that the
//! pin did not cover ([`Cover`]): nothing that a model reads can change behind a pin.

use crate::error::ErrorCode;
use crate::gate::Refusal;
use crate::scan::Find;

/// Members of a definition that a plain pin covers.
pub const PLAIN_MEMBERS: [&str; 6] =
    ["name", "title", "description", "inputSchema", "outputSchema", "annotations"];

/// Who said that a definition is the one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinnedBy {
    /// A person, who signed a contract with its hash.
    Contract,
    /// Nobody: it was the first one seen.
    FirstSight,
}

impl PinnedBy {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            PinnedBy::Contract => "contract",
            PinnedBy::FirstSight => "first_sight",
        }
    }
}

/// The definition a tool has to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Who said so.
    pub by: PinnedBy,
    /// Its hash, whole or plain: 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// A definition as its server gives it now.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Hash over all its members.
    pub whole_sha256: &'a str,
    /// Hash over [`PLAIN_MEMBERS`]; the same where it has no others.
    pub plain_sha256: &'a str,
    /// What a look at its texts found.
    pub finds: &'a [Find],
}

/// How much of a definition its pin covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cover {
    /// All of it.
    Whole,
    /// [`PLAIN_MEMBERS`] only.
    Plain,
}

/// How a definition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is the pinned one.
    Pinned(Cover),
    /// Nothing is pinned, and nothing speaks against this one.
    New,
    /// Another one is pinned.
    Drifted {
        /// The hash it would have to have.
        pinned: String,
        /// The hash it has, over all its members.
        seen: String,
    },
    /// Only a person may let it pass, by a contract that names its hash.
    Quarantined(Quarantine),
}

/// Why a person has to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quarantine {
    /// This policy accepts only what a contract names.
    NotListed(String),
    /// A look at its texts found something.
    Suspicious,
}

/// How a definition stands. `only_listed_by` is the policy that accepts only definitions whose hash a contract names.
/// What a contract names passes whatever its texts hold: a person has looked.
pub fn standing(pin: Option<&Pin>, only_listed_by: Option<&str>, seen: Seen<'_>) -> Standing {
    let is_by_contract = pin.is_some_and(|pin| pin.by == PinnedBy::Contract);
    if let (false, Some(policy)) = (is_by_contract, only_listed_by) {
        return Standing::Quarantined(Quarantine::NotListed(policy.to_owned()));
    }
    let cover = match pin {
        None if seen.finds.is_empty() => return Standing::New,
        None => return Standing::Quarantined(Quarantine::Suspicious),
        Some(pin) if pin.sha256 == seen.whole_sha256 => Cover::Whole,
        Some(pin) if pin.sha256 == seen.plain_sha256 => Cover::Plain,
        Some(pin) => {
            return Standing::Drifted { pinned: pin.sha256.clone(), seen: seen.whole_sha256.to_owned() };
        }
    };
    match is_by_contract || seen.finds.is_empty() {
        true => Standing::Pinned(cover),
        false => Standing::Quarantined(Quarantine::Suspicious),
    }
}

impl Standing {
    /// What a caller of the tool is told, by its full name; `None` when gate 2 lets it pass. It repeats nothing that the
    /// server wrote: a model reads it.
    pub fn refusal(&self, name: &str) -> Option<Refusal> {
        let message = match self {
            Standing::Pinned(_) | Standing::New => return None,
            Standing::Drifted { pinned, seen } => {
                format!("the definition of `{name}` is not the pinned one (pinned {pinned}, seen {seen})")
            }
            Standing::Quarantined(Quarantine::NotListed(policy)) => format!(
                "`{name}` is quarantined: the policy `{policy}` accepts only definitions that the provider's \
                 contract lists"
            ),
            Standing::Quarantined(Quarantine::Suspicious) => {
                format!("`{name}` is quarantined: a person has to look at its definition first")
            }
        };
        Some(Refusal::new(2, ErrorCode::Gate003, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::FindKind;

    fn judged(by: Option<(PinnedBy, &str)>, policy: Option<&str>, is_suspicious: bool) -> Standing {
        let pin = by.map(|(by, sha256)| Pin { by, sha256: sha256.to_owned() });
        let find =
            Find { kind: FindKind::TooLong, path: "/description".into(), detail: "9000 characters".into() };
        let finds = if is_suspicious { vec![find] } else { Vec::new() };
        standing(pin.as_ref(), policy, Seen { whole_sha256: "w", plain_sha256: "p", finds: &finds })
    }

    #[test]
    fn a_definition_stands_as_pin_policy_and_finds_say() {
        use PinnedBy::{Contract, FirstSight};
        let suspicious = Standing::Quarantined(Quarantine::Suspicious);
        let not_listed = Standing::Quarantined(Quarantine::NotListed("house".into()));
        let drifted = Standing::Drifted { pinned: "x".into(), seen: "w".into() };
        for (by, policy, is_suspicious, expected) in [
            (None, None, false, Standing::New),
            (None, None, true, suspicious.clone()),
            (None, Some("house"), false, not_listed.clone()),
            (Some((FirstSight, "w")), None, false, Standing::Pinned(Cover::Whole)),
            (Some((FirstSight, "p")), None, false, Standing::Pinned(Cover::Plain)),
            (Some((FirstSight, "w")), None, true, suspicious),
            (Some((FirstSight, "x")), None, false, drifted.clone()),
            (Some((FirstSight, "w")), Some("house"), false, not_listed),
            (Some((Contract, "w")), Some("house"), true, Standing::Pinned(Cover::Whole)),
            (Some((Contract, "p")), None, true, Standing::Pinned(Cover::Plain)),
            (Some((Contract, "x")), Some("house"), true, drifted),
        ] {
            assert_eq!(judged(by, policy, is_suspicious), expected, "{by:?} {policy:?} {is_suspicious}");
        }
    }

    #[test]
    fn a_refusal_is_003_of_gate_2_and_repeats_no_find() {
        for standing in [judged(None, None, true), judged(None, Some("house"), false)] {
            let refusal = standing.refusal("a__b").expect("a quarantined tool is refused");
            assert_eq!((refusal.gate, refusal.code), (2, ErrorCode::Gate003));
            assert!(refusal.message.contains("quarantined") && !refusal.message.contains("9000"));
        }
        assert_eq!(Standing::New.refusal("a__b"), None);
    }
}
