//! Which tools a policy speaks of: a full name in which `*` stands for any characters, none included.
//! Matching is linear in practice and never worse than pattern times name, both at most 162 characters.

use serde::{Deserialize, Serialize};

/// A full tool name, `<provider>__<tool>`, in which `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ToolPattern(String);

impl ToolPattern {
    /// A pattern from its text. Any text is one; without `*` it matches itself alone.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As the contract spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Does it match a tool's full name? Upper and lower case differ.
    pub fn matches(&self, tool: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), tool.as_bytes());
        let (mut p, mut t) = (0, 0);
        // where the last `*` stood and how much of the text it had swallowed: the only place to go back to
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(byte) if *byte == text[t] => {
                    p += 1;
                    t += 1;
                }
                _ => {
                    let Some((at, swallowed)) = star else { return false };
                    star = Some((at, swallowed + 1));
                    p = at + 1;
                    t = swallowed + 1;
                }
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }

    /// Does it match every name that `other` matches? Read as a text, `other` must match: its `*` can only
    /// be taken by one of ours, which then takes whatever it stands for.
    pub fn covers(&self, other: &ToolPattern) -> bool {
        self.matches(&other.0)
    }
}

impl std::fmt::Display for ToolPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        let check = |pattern: &str, tool: &str, expected: bool| {
            assert_eq!(ToolPattern::new(pattern).matches(tool), expected, "{pattern} on {tool}");
        };
        check("shop__refund", "shop__refund", true);
        check("shop__refund", "shop__refund_all", false);
        check("shop__*", "shop__refund", true);
        check("shop__*", "shop__", true);
        check("shop__*", "workshop__refund", false);
        check("*__delete_*", "files__delete_folder", true);
        check("*__delete_*", "files__undelete_folder", false);
        check("*__delete_*", "a__delete__delete_x", true);
        check("*", "anything__at_all", true);
        check("**", "", true);
        check("*a*b", "xxaxxbxxb", true);
        check("*a*b", "xxaxxbxxc", false);
        check("Shop__*", "shop__x", false);
        check("*退款*", "shop__全部退款", true);
    }

    #[test]
    fn a_pattern_covers_what_it_provably_matches() {
        let covers = |a: &str, b: &str| ToolPattern::new(a).covers(&ToolPattern::new(b));
        assert!(covers("*", "shop__*"));
        assert!(covers("shop__*", "shop__delete_*"));
        assert!(covers("shop__*", "shop__refund"));
        assert!(!covers("shop__delete_*", "shop__*"));
        assert!(!covers("shop__refund", "shop__*"));
    }

    #[test]
    fn a_pattern_built_to_backtrack_ends_at_once() {
        let pattern = ToolPattern::new("*a".repeat(80));
        assert!(!pattern.matches(&format!("{}b", "a".repeat(20_000))));
    }
}
