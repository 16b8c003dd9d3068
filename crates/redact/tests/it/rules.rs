//! What the rules decide: actions, patterns of one's own, tags, and what no rule can do.

use awooop_redact::{Action, Class, Redactor, Rules, TagKey};

use crate::noise;

fn order_numbers(action: Action) -> Rules {
    Rules::credentials().pattern("ORDER_NO", r"\bEW-[0-9]{8}\b", action).expect("a name and a pattern")
}

#[test]
fn a_pattern_masks_tags_or_blocks_what_it_matches() {
    let text = "orders EW-20260504, EW-20260505 and EW-20260504";
    let masked = Redactor::with(order_numbers(Action::Mask)).redact(text).text.into_owned();
    assert_eq!(masked, "orders [ORDER_NO], [ORDER_NO] and [ORDER_NO]");
    let tagged = Redactor::with(order_numbers(Action::Tag).tag_key(TagKey::new([1; 32])));
    let once = tagged.redact(text).text.into_owned();
    let tags: Vec<&str> = once.split([' ', ',']).filter(|word| word.starts_with('[')).collect();
    assert!(tags[0] == tags[2] && tags[0] != tags[1], "{once}");
    assert_eq!(tagged.redact(&once).text, once);
    let blocking = Redactor::with(order_numbers(Action::Block));
    let found = blocking.redact(text);
    assert_eq!(found.blocked.unwrap().as_str(), "ORDER_NO");
    assert_eq!(found.text, masked);
    assert_eq!(blocking.redact("orders").blocked, None);
    assert_eq!(Redactor::with(order_numbers(Action::Allow)).redact(text).text, text);
}

#[test]
fn a_pattern_that_matches_its_own_mask_is_harmless() {
    let rules =
        Rules::credentials().pattern("CAPITALS", "[A-Z_]{3,}", Action::Mask).expect("a name and a pattern");
    let redactor = Redactor::with(rules);
    let once = redactor.redact("say HELLO to password=Hunter2Hunter").text.into_owned();
    assert_eq!(once, "say [CAPITALS] to password=[SECRET]");
    assert_eq!(redactor.redact(&once).text, once);
}

#[test]
fn what_should_be_tagged_without_a_key_is_masked() {
    assert_eq!(Redactor::with(order_numbers(Action::Tag)).redact("EW-20260504").text, "[ORDER_NO]");
}

#[test]
fn an_allow_list_lets_no_credential_pass() {
    let token = format!("ghp_{}", noise(36));
    let rules = Rules::credentials().allow(&token).personal(Class::GithubToken, Action::Allow);
    assert_eq!(Redactor::with(rules).redact(&token).text, "[GITHUB_TOKEN]");
    let rules = order_numbers(Action::Mask).allow("EW-20260504");
    assert_eq!(Redactor::with(rules).redact("EW-20260504 EW-20260505").text, "EW-20260504 [ORDER_NO]");
}
