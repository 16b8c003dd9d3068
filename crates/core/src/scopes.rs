//! Scopes: what a key may call of all that its principal may. A scope is a group of the table of operations, such as
//! `runs:read`, or one operation by its id, such as `create_run`. A key without scopes may what its principal may.
//!
//! A scope never adds anything: the role is asked as well. What lies in [`ANY_SCOPE`] every key may call.

use std::collections::BTreeSet;

use crate::role::{ANY_SCOPE, OPERATIONS};

/// Most scopes of one key.
pub const MOST_SCOPES: usize = 64;

/// Why a list of scopes is none. `Display` is for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidScopes {
    /// No group and no operation has this name.
    #[error("`{0}` is no scope: one is a group such as runs:read, or an operation's id such as create_run")]
    Unknown(String),
    /// None, or too many.
    #[error("a key has 1 to {MOST_SCOPES} scopes, or none are named and it may all that its principal may")]
    Count,
}

/// The scopes of one key; never empty when parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scopes(BTreeSet<String>);

impl Scopes {
    /// Reads scopes that somebody asks for.
    ///
    /// # Errors
    /// [`InvalidScopes`] for an empty list, one that is too long, or a word that is no scope.
    pub fn parse<T: AsRef<str>>(words: &[T]) -> Result<Self, InvalidScopes> {
        if !(1..=MOST_SCOPES).contains(&words.len()) {
            return Err(InvalidScopes::Count);
        }
        let unknown = words.iter().map(AsRef::as_ref).find(|word| !is_known(word));
        match unknown {
            Some(word) => Err(InvalidScopes::Unknown(word.chars().take(80).collect())),
            None => Ok(Self(words.iter().map(|word| word.as_ref().to_owned()).collect())),
        }
    }

    /// Scopes as they were stored. A word that no version knows any more allows nothing.
    pub fn of_stored(words: Vec<String>) -> Self {
        Self(words.into_iter().collect())
    }

    /// Do they allow `operation`?
    pub fn allow(&self, operation: &str) -> bool {
        let found = OPERATIONS.iter().find(|(id, _, _)| *id == operation);
        found.is_some_and(|(id, group, _)| {
            *group == ANY_SCOPE || self.0.contains(*id) || self.0.contains(*group)
        })
    }

    /// Do they allow nothing that `others` do not?
    pub fn are_within(&self, others: &Scopes) -> bool {
        OPERATIONS.iter().all(|(id, _, _)| !self.allow(id) || others.allow(id))
    }

    /// They, sorted.
    pub fn to_vec(&self) -> Vec<String> {
        self.0.iter().cloned().collect()
    }
}

/// The groups of the table, in its order, each once.
pub fn groups() -> Vec<&'static str> {
    let mut found = Vec::new();
    for (_, group, _) in OPERATIONS {
        if *group != ANY_SCOPE && !found.contains(group) {
            found.push(*group);
        }
    }
    found
}

fn is_known(word: &str) -> bool {
    OPERATIONS.iter().any(|(id, group, _)| *group != ANY_SCOPE && (*id == word || *group == word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_a_group_or_an_operation_of_the_table() {
        let scopes = Scopes::parse(&["runs:read", "create_run"]).unwrap();
        assert!(scopes.allow("list_runs") && scopes.allow("create_run") && scopes.allow("get_whoami"));
        assert!(
            !scopes.allow("cancel_run") && !scopes.allow("create_key") && !scopes.allow("no_such_operation")
        );
        for bad in ["runs", "runs:*", "any", "get_whoami", "", "no_such_operation"] {
            assert!(matches!(Scopes::parse(&[bad]), Err(InvalidScopes::Unknown(_))), "{bad}");
        }
        assert_eq!(Scopes::parse::<&str>(&[]), Err(InvalidScopes::Count));
        assert_eq!(Scopes::parse(&vec!["runs:read"; 65]), Err(InvalidScopes::Count));
        assert!(!Scopes::of_stored(vec!["gone:read".to_owned()]).allow("list_runs"));
    }

    #[test]
    fn what_is_within_reaches_no_further() {
        let of = |words: &[&str]| Scopes::parse(words).unwrap();
        assert!(of(&["list_runs"]).are_within(&of(&["runs:read"])));
        assert!(!of(&["runs:read"]).are_within(&of(&["list_runs", "runs:write"])));
        assert!(of(&["runs:read"]).are_within(&of(&["runs:read", "audit:read"])));
    }

    #[test]
    fn a_group_is_named_after_what_it_is_about_and_what_it_allows() {
        for group in groups() {
            let (about, what) = group.split_once(':').expect("two words");
            assert!(about.bytes().all(|b| b.is_ascii_lowercase()), "{group}");
            assert!(["read", "write", "sign", "decide", "use"].contains(&what), "{group}");
        }
    }
}
