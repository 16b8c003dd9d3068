//! Who has to sign before a version becomes active: M of N distinct people within a window, by the rule of
//! the project contract that was active before. Pure decisions over facts; the store loads them in the
//! transaction that acts on them.

use crate::contract::ActivationSpec;
use crate::statement::Act;

/// A project's rule. The default asks for one signature of anybody who may sign, the publisher included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// How many distinct signers are needed, at least 1.
    pub signatures: u32,
    /// The only people who may sign; `None` for anybody whose role allows it.
    pub signers: Option<Vec<String>>,
    /// Does the publisher's own signature count?
    pub publisher_may_sign: bool,
    /// How long a signature counts, in seconds.
    pub window_s: u32,
}

impl Default for Rule {
    fn default() -> Self {
        Self::from(&ActivationSpec::default())
    }
}

impl From<&ActivationSpec> for Rule {
    fn from(spec: &ActivationSpec) -> Self {
        Self {
            signatures: u32::from(spec.signatures),
            signers: spec.signers.clone(),
            publisher_may_sign: spec.publisher_may_sign,
            window_s: spec.window_s,
        }
    }
}

/// Who signs: a person, known by the same name in every project, or a service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The person's name, or `<project>/<principal>` of a service account.
    pub id: String,
    /// Is it a person?
    pub is_person: bool,
}

/// A signature that was given and whose own HMAC was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Who gave it.
    pub signer: Signer,
    /// When, in microseconds since 1970.
    pub at_us: i64,
    /// The version that was active then, 0 for none.
    pub base: i32,
}

/// Why somebody may not sign. `Display` is for that person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MayNotSign {
    /// The rule asks for people: for several, for named ones, or for another than the publisher.
    #[error("the project's rule asks for people's signatures, and this key is a service account's")]
    NotAPerson,
    /// The rule names the signers, and not this one.
    #[error("the project's rule names who may sign, and not this signer")]
    NotListed,
    /// Whoever published does not sign.
    #[error("the project's rule does not count the signature of whoever published")]
    Publisher,
}

/// How far an act's signatures have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// How many are needed.
    pub needed: u32,
    /// Signers that count, in the order they signed.
    pub counted: Vec<String>,
    /// Signers whose signature is older than the window.
    pub expired: Vec<String>,
    /// Signers who signed while another version was active, or before what is active became so.
    pub overtaken: Vec<String>,
}

impl Tally {
    /// Are there enough?
    pub fn is_enough(&self) -> bool {
        self.counted.len() >= usize::try_from(self.needed).unwrap_or(usize::MAX)
    }
}

impl Rule {
    /// The rule as it is for an act. A retirement has no publisher: where a rule wants a second person
    /// besides whoever published, it wants one more signature for a retirement.
    pub fn of(&self, act: Act) -> Rule {
        match act {
            Act::Retire if !self.publisher_may_sign => Rule {
                signatures: self.signatures.saturating_add(1),
                publisher_may_sign: true,
                ..self.clone()
            },
            Act::Activate | Act::Retire => self.clone(),
        }
    }

    /// May this signer sign what this publisher published?
    ///
    /// # Errors
    /// [`MayNotSign`] with the reason.
    pub fn may_sign(&self, signer: &Signer, publisher: &str) -> Result<(), MayNotSign> {
        if let Some(listed) = &self.signers {
            if !signer.is_person {
                return Err(MayNotSign::NotAPerson);
            }
            if !listed.contains(&signer.id) {
                return Err(MayNotSign::NotListed);
            }
        }
        if (self.signatures > 1 || !self.publisher_may_sign) && !signer.is_person {
            return Err(MayNotSign::NotAPerson);
        }
        if !self.publisher_may_sign && signer.id == publisher {
            return Err(MayNotSign::Publisher);
        }
        Ok(())
    }

    /// Counts signatures that were given for an act on a version of `publisher`, now that `base` is active
    /// since `since_us`, or nothing is since then; times in microseconds since 1970. A signature given before
    /// was for a change that has been overtaken, even when the same version is active again.
    pub fn tally(
        &self,
        given: &[Given],
        publisher: &str,
        (base, since_us): (i32, i64),
        now_us: i64,
    ) -> Tally {
        let oldest = now_us.saturating_sub(i64::from(self.window_s) * 1_000_000);
        // whoever published through a service account could be any of those who sign
        let hidden = u32::from(!self.publisher_may_sign && is_service(publisher));
        let mut tally = Tally {
            needed: self.signatures.max(1).saturating_add(hidden),
            counted: Vec::new(),
            expired: Vec::new(),
            overtaken: Vec::new(),
        };
        let mut allowed: Vec<&Given> =
            given.iter().filter(|g| self.may_sign(&g.signer, publisher).is_ok()).collect();
        allowed.sort_by_key(|g| g.at_us);
        for one in allowed {
            let (id, list) = (
                &one.signer.id,
                match () {
                    () if one.base != base || one.at_us <= since_us => &mut tally.overtaken,
                    () if one.at_us < oldest => &mut tally.expired,
                    () => &mut tally.counted,
                },
            );
            if !list.contains(id) {
                list.push(id.clone());
            }
        }
        tally
    }
}

/// A service account is named with its project; no person's name holds a slash.
fn is_service(signer: &str) -> bool {
    signer.contains('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVER: i64 = i64::MIN;

    fn person(id: &str) -> Signer {
        Signer { id: id.to_owned(), is_person: true }
    }

    fn service() -> Signer {
        Signer { id: "shop/ci".to_owned(), is_person: false }
    }

    fn at(second: i64) -> i64 {
        second * 1_000_000
    }

    fn given(signer: Signer, second: i64, base: i32) -> Given {
        Given { signer, at_us: at(second), base }
    }

    #[test]
    fn without_a_rule_anybody_signs_once_even_the_publisher() {
        let rule = Rule::default();
        assert_eq!(rule.may_sign(&service(), "shop/ci"), Ok(()));
        assert!(rule.tally(&[given(service(), 0, 0)], "shop/ci", (0, EVER), at(1)).is_enough());
        assert!(!rule.tally(&[], "shop/ci", (0, EVER), at(1)).is_enough());
    }

    #[test]
    fn two_signatures_are_two_people_and_no_service_account() {
        let rule = Rule { signatures: 2, ..Rule::default() };
        assert_eq!(rule.may_sign(&service(), "ana"), Err(MayNotSign::NotAPerson));
        let tally = |given: &[Given]| rule.tally(given, "ana", (0, EVER), at(1));
        assert!(!tally(&[given(person("ana"), 0, 0), given(person("ana"), 1, 0)]).is_enough());
        assert!(!tally(&[given(person("ana"), 0, 0), given(service(), 1, 0)]).is_enough());
        assert!(tally(&[given(person("ana"), 0, 0), given(person("bob"), 1, 0)]).is_enough());
    }

    #[test]
    fn only_listed_signers_count_and_the_publisher_only_where_the_rule_says_so() {
        let listed = Some(vec!["ana".to_owned(), "bob".to_owned()]);
        let rule = Rule { signers: listed, publisher_may_sign: false, ..Rule::default() };
        assert_eq!(rule.may_sign(&person("eve"), "ana"), Err(MayNotSign::NotListed));
        assert_eq!(rule.may_sign(&service(), "ana"), Err(MayNotSign::NotAPerson));
        assert_eq!(rule.may_sign(&person("ana"), "ana"), Err(MayNotSign::Publisher));
        assert_eq!(rule.may_sign(&person("bob"), "ana"), Ok(()));
        let all = [given(person("eve"), 0, 0), given(person("ana"), 0, 0)];
        assert_eq!(rule.tally(&all, "ana", (0, EVER), at(1)).counted, Vec::<String>::new());
    }

    #[test]
    fn one_admin_with_a_service_account_is_not_four_eyes() {
        let rule = Rule { publisher_may_sign: false, ..Rule::default() };
        assert_eq!(rule.may_sign(&service(), "ana"), Err(MayNotSign::NotAPerson));
        let tally = |given: &[Given]| rule.tally(given, "shop/ci", (0, EVER), at(1));
        assert!(!tally(&[given(person("ana"), 0, 0)]).is_enough());
        assert!(tally(&[given(person("ana"), 0, 0), given(person("bob"), 0, 0)]).is_enough());
    }

    #[test]
    fn four_eyes_are_four_eyes_for_a_retirement_too() {
        let rule = Rule { publisher_may_sign: false, ..Rule::default() };
        assert_eq!(rule.of(Act::Activate), rule);
        let retire = rule.of(Act::Retire);
        assert!(!retire.tally(&[given(person("ana"), 0, 3)], "", (3, EVER), at(1)).is_enough());
        assert!(
            retire
                .tally(&[given(person("ana"), 0, 3), given(person("bob"), 0, 3)], "", (3, EVER), at(1))
                .is_enough()
        );
    }

    #[test]
    fn a_signature_counts_within_its_window_and_against_the_version_it_was_given_for() {
        let rule = Rule { window_s: 60, ..Rule::default() };
        let one = [given(person("ana"), 100, 3)];
        assert_eq!(rule.tally(&one, "bob", (3, EVER), at(160)).counted, ["ana"]);
        assert_eq!(rule.tally(&one, "bob", (3, EVER), at(161)).expired, ["ana"]);
        assert_eq!(rule.tally(&one, "bob", (4, EVER), at(120)).overtaken, ["ana"]);
        assert_eq!(rule.tally(&one, "bob", (3, at(99)), at(120)).counted, ["ana"]);
        assert_eq!(rule.tally(&one, "bob", (3, at(100)), at(120)).overtaken, ["ana"]);
    }
}
