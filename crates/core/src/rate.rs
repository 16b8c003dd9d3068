//! Rates: how often tools may be called, and how many calls there may be at a time, as the policies say. Which limits a
//! call comes under is decided here, and what a sliding window says; who keeps the counts is the store's business.
//!
//! A window is kept in [`SLICES`] slices. A call counts in the slice in which it was made and as long as any part of that
//! slice may be younger than the window: so no window, wherever it begins, ever holds more calls than are allowed, a call
//! counts for at most one slice longer than it must, and what is kept does not grow with the limit.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::json;

use crate::contract::{PolicySpec, RatePer, RateRule};
use crate::ids::AgentId;
use crate::json;

/// Slices of a window.
pub const SLICES: u64 = 60;
/// After how long a call that finds no place among those under way may try again: nobody knows when one ends.
pub const PLACE_WAIT: Duration = Duration::from_secs(1);

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Calls within a window.
    Calls {
        /// How many are allowed.
        most: u32,
        /// The window.
        window: Duration,
    },
    /// Calls under way.
    Places {
        /// How many are allowed.
        most: u32,
    },
}

/// One limit that a call comes under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Names the count within its project: calls with the same key are counted together. A rule that only allows another
    /// number keeps its count.
    pub key: String,
    /// What is limited.
    pub bound: Bound,
    /// The rule in words: `the policy p allows each agent 10 calls in 60 s`.
    pub rule: String,
}

/// The limits that a call of `tool` by `agent` comes under, in the order of their keys; of two that count the same calls
/// only the tighter one.
pub fn limits<'a>(
    policies: impl IntoIterator<Item = (&'a str, &'a PolicySpec)>,
    agent: &AgentId,
    tool: &str,
) -> Vec<Limit> {
    let mut found: BTreeMap<String, Limit> = BTreeMap::new();
    for (policy, spec) in policies {
        for rule in spec.rate_rules(tool) {
            for limit in of_rule(policy, rule, agent, tool) {
                match found.get(&limit.key) {
                    Some(known) if known.bound.most() <= limit.bound.most() => {}
                    _ => drop(found.insert(limit.key.clone(), limit)),
                }
            }
        }
    }
    found.into_values().collect()
}

fn of_rule(policy: &str, rule: &RateRule, agent: &AgentId, tool: &str) -> impl Iterator<Item = Limit> {
    let (whose, each) = match rule.per {
        RatePer::Agent => (agent.as_str(), "each agent"),
        RatePer::Tool => (tool, "each tool"),
        RatePer::Project => ("", "the project"),
    };
    let limit = move |bound: Bound, window_s: Option<u32>, what: String| {
        let counted = json!({"per": rule.per.as_str(), "tools": rule.tools, "window_s": window_s});
        let counted = &json::sha256_hex(&counted)[..16];
        let of = match rule.tools.as_deref() {
            None | Some([]) => String::new(),
            Some([one]) => format!(" of `{one}`"),
            Some([first, ..]) => format!(" of `{first}` and others"),
        };
        Limit {
            key: format!("{policy}:{counted}:{whose}"),
            bound,
            rule: format!("the policy `{policy}` allows {each} {what}{of}"),
        }
    };
    let rate = rule.calls.zip(rule.window_s).map(|(most, window_s)| {
        let window = Duration::from_secs(u64::from(window_s));
        limit(Bound::Calls { most, window }, Some(window_s), format!("{} in {window_s} s", calls(most)))
    });
    let places =
        rule.concurrent.map(|most| limit(Bound::Places { most }, None, format!("{} at a time", calls(most))));
    rate.into_iter().chain(places)
}

fn calls(most: u32) -> String {
    if most == 1 { "1 call".to_owned() } else { format!("{most} calls") }
}

impl Bound {
    /// How many are allowed.
    pub fn most(self) -> u32 {
        match self {
            Bound::Calls { most, .. } | Bound::Places { most } => most,
        }
    }
}

/// The calls of one sliding window. Times are milliseconds of any clock that does not go back.
#[derive(Debug, Clone)]
pub struct Window {
    slice_ms: u64,
    /// Slices with calls in them, the oldest first.
    slices: VecDeque<(u64, u32)>,
}

impl Window {
    /// An empty window of this length.
    pub fn new(window: Duration) -> Self {
        Self { slice_ms: slice_ms(window), slices: VecDeque::new() }
    }

    /// Is there room for one more?
    ///
    /// # Errors
    /// After how long there is, when nobody else comes.
    pub fn look(&mut self, most: u32, now_ms: u64) -> Result<(), Duration> {
        self.forget(now_ms);
        let counted: u64 = self.slices.iter().map(|(_, calls)| u64::from(*calls)).sum();
        let Some(mut too_many) = (counted + 1).checked_sub(u64::from(most)).filter(|n| *n > 0) else {
            return Ok(());
        };
        for (slice, calls) in &self.slices {
            too_many = too_many.saturating_sub(u64::from(*calls));
            if too_many == 0 {
                return Err(Duration::from_millis((slice + SLICES + 1) * self.slice_ms - now_ms));
            }
        }
        // only where none is allowed at all
        Err(Duration::from_millis(self.slice_ms * SLICES))
    }

    /// Counts one more, and tells the slice it counts in.
    pub fn add(&mut self, now_ms: u64) -> u64 {
        self.forget(now_ms);
        let now = now_ms / self.slice_ms;
        match self.slices.back_mut() {
            Some((slice, calls)) if *slice >= now => {
                *calls = calls.saturating_add(1);
                *slice
            }
            _ => {
                self.slices.push_back((now, 1));
                now
            }
        }
    }

    /// Takes back one that was counted in this slice and not made.
    pub fn take_back(&mut self, slice: u64) {
        if let Some((_, calls)) = self.slices.iter_mut().find(|(known, _)| *known == slice) {
            *calls = calls.saturating_sub(1);
        }
    }

    /// Is there nothing in it that counts?
    pub fn is_empty(&mut self, now_ms: u64) -> bool {
        self.forget(now_ms);
        self.slices.iter().all(|(_, calls)| *calls == 0)
    }

    fn forget(&mut self, now_ms: u64) {
        let now = now_ms / self.slice_ms;
        while self.slices.front().is_some_and(|(slice, _)| slice + SLICES < now) {
            self.slices.pop_front();
        }
    }
}

/// The length of one slice, in milliseconds: the window's sixtieth part, rounded up.
pub fn slice_ms(window: Duration) -> u64 {
    u64::try_from(window.as_millis()).unwrap_or(u64::MAX).div_ceil(SLICES).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn policy(rules: Value) -> PolicySpec {
        serde_json::from_value(json!({"rates": rules})).unwrap()
    }

    fn clerk() -> AgentId {
        AgentId::parse("clerk").unwrap()
    }

    #[test]
    fn a_call_comes_under_every_rule_that_speaks_of_its_tool_and_of_two_alike_under_the_tighter() {
        let house = policy(json!([
            {"per": "agent", "calls": 10, "window_s": 60, "concurrent": 2},
            {"per": "agent", "calls": 5, "window_s": 60},
            {"per": "tool", "tools": ["shop__*"], "concurrent": 1},
            {"per": "project", "tools": ["mail__*"], "calls": 1, "window_s": 1},
        ]));
        let found = limits([("house", &house)], &clerk(), "shop__refund");
        let mut rules: Vec<&str> = found.iter().map(|limit| limit.rule.as_str()).collect();
        rules.sort_unstable();
        assert_eq!(
            rules,
            [
                "the policy `house` allows each agent 2 calls at a time",
                "the policy `house` allows each agent 5 calls in 60 s",
                "the policy `house` allows each tool 1 call at a time of `shop__*`",
            ]
        );
        assert!(found.is_sorted_by_key(|limit| limit.key.clone()));
        assert!(limits([], &clerk(), "shop__refund").is_empty());
    }

    #[test]
    fn who_is_counted_together_has_one_key_and_another_number_keeps_it() {
        let key = |rule: Value, agent: &str, tool: &str| {
            let spec = policy(json!([rule]));
            limits([("house", &spec)], &AgentId::parse(agent).unwrap(), tool)[0].key.clone()
        };
        let of = |per: &str, calls: u32| json!({"per": per, "calls": calls, "window_s": 60});
        let mine = key(of("agent", 1), "clerk", "a__b");
        assert_eq!(mine, key(of("agent", 9), "clerk", "c__d"));
        assert_ne!(mine, key(of("agent", 1), "buyer", "a__b"));
        assert_ne!(mine, key(of("project", 1), "clerk", "a__b"));
        assert_eq!(key(of("project", 1), "clerk", "a__b"), key(of("project", 1), "buyer", "c__d"));
        assert_eq!(key(of("tool", 1), "clerk", "a__b"), key(of("tool", 1), "buyer", "a__b"));
        assert_ne!(key(of("tool", 1), "clerk", "a__b"), key(of("tool", 1), "clerk", "c__d"));
    }

    #[test]
    fn what_was_taken_back_makes_room_and_an_old_window_is_empty() {
        let mut window = Window::new(Duration::from_secs(60));
        let slice = window.add(0);
        assert_eq!(window.look(1, 500), Err(Duration::from_millis(60_500)));
        window.take_back(slice);
        assert!(window.look(1, 500).is_ok() && window.is_empty(500));
        window.add(1_000);
        assert!(!window.is_empty(61_999) && window.is_empty(62_000));
        assert_eq!(window.look(0, 70_000), Err(Duration::from_secs(60)));
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_is_allowed_and_who_waits_as_told_gets_in(
            window_s in 1_u64..100,
            most in 1_u32..20,
            pauses in proptest::collection::vec(0_u64..20_000, 1..200),
        ) {
            let length = window_s * 1_000;
            let mut window = Window::new(Duration::from_secs(window_s));
            let (mut now, mut made) = (0, Vec::new());
            for pause in pauses {
                now += pause;
                if let Err(wait) = window.look(most, now) {
                    prop_assert!(wait <= Duration::from_millis(length + 2 * slice_ms(Duration::from_secs(window_s))));
                    now += u64::try_from(wait.as_millis()).unwrap();
                    prop_assert_eq!(window.look(most, now), Ok(()));
                }
                window.add(now);
                made.push(now);
                let within = made.iter().filter(|at| **at + length > now).count();
                prop_assert!(within <= most as usize, "{} of {}", within, most);
                prop_assert!(window.slices.len() as u64 <= SLICES + 1);
            }
        }
    }
}
