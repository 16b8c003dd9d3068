//! What contracts say becomes what redactors do, and the two rooms that know patterns agree on them.

use awooop_core::contract::{BUILT_IN_CLASSES, parse};
use serde_json::json;

use super::*;

const KEY: [u8; 32] = [7; 32];

fn patterns(patterns: Value) -> Vec<RedactionPattern> {
    serde_json::from_value(patterns).unwrap()
}

fn compiled(personal_data: Value, of: Value) -> ProjectRedactors {
    let personal_data = serde_json::from_value(personal_data).unwrap();
    ProjectRedactors::compile(&personal_data, &patterns(of), TagKey::new(KEY)).unwrap()
}

#[test]
fn a_pattern_is_in_force_in_every_direction_and_tagged_where_things_are_observed() {
    let of = |action: &str| json!([{"name": "ORDER_NO", "pattern": "EW-[0-9]{8}", "action": action, "matches": ["x"]}]);
    let text = "to EW-20260504.";
    let masked = compiled(json!({}), of("mask"));
    for direction in [&masked.to_model, &masked.to_tool, &masked.to_journal, &masked.to_people] {
        assert_eq!(direction.text(text).unwrap().as_str(), "to [ORDER_NO].");
    }
    let blocked = compiled(json!({}), of("block"));
    assert_eq!(
        blocked.to_tool.text(text).unwrap_err().to_string().split(',').next(),
        Some("it holds ORDER_NO")
    );
    assert!(blocked.to_model.json(json!({"a": [text]})).is_err());
    assert_eq!(blocked.to_journal.redactor().clean(text).as_str(), "to [ORDER_NO].");
    for redactors in [masked, blocked, compiled(json!({}), of("tag"))] {
        let seen = redactors.observed.clean(text).into_inner();
        assert!(
            seen.starts_with("to [ORDER_NO:") && seen.len() == "to [ORDER_NO:0123456789ab].".len(),
            "{seen}"
        );
    }
}

#[test]
fn of_two_patterns_of_one_name_the_stricter_action_counts() {
    let both = json!([
        {"name": "A1", "pattern": "aa", "action": "tag", "matches": ["aa"]},
        {"name": "A1", "pattern": "bb", "action": "block", "matches": ["bb"]}
    ]);
    let redactors = compiled(json!({}), both);
    assert!(redactors.to_model.text("aa").is_err() && redactors.to_model.text("bb").is_err());
}

#[test]
fn each_class_has_its_action_in_each_direction_and_observers_get_tags() {
    let spec = json!({"to_model": {"all": "mask", "email": "allow"}, "to_tool": {"card": "block"}});
    let redactors = compiled(spec, json!([]));
    let action = |direction: &Direction, class| direction.redactor().rules().action(class);
    assert_eq!(action(&redactors.to_model, Class::Email), Action::Allow);
    assert_eq!(action(&redactors.to_model, Class::Iban), Action::Mask);
    assert_eq!(action(&redactors.to_tool, Class::Card), Action::Block);
    assert_eq!(action(&redactors.to_people, Class::Card), Action::Allow);
    assert!(Class::PERSONAL.iter().all(|class| redactors.observed.rules().action(*class) == Action::Tag));
    let closed = ProjectRedactors::closed(TagKey::new(KEY));
    for direction in [&closed.to_model, &closed.to_tool, &closed.to_journal, &closed.to_people] {
        assert!(Class::PERSONAL.iter().all(|class| action(direction, *class) == Action::Mask));
    }
}

#[test]
fn the_classes_of_contracts_are_those_of_the_redactor() {
    let known: Vec<&str> = Class::CREDENTIALS.iter().chain(&Class::PERSONAL).map(Class::as_str).collect();
    assert_eq!(known, BUILT_IN_CLASSES);
    assert_eq!(DataClass::EACH.len(), Class::PERSONAL.len());
    for class in DataClass::EACH {
        assert_eq!(class_of(class).as_str(), class.as_str().to_uppercase());
    }
}

/// What `contract::parse` takes, `Rules::pattern` takes: a pattern that was applied always compiles.
#[test]
fn a_pattern_that_may_be_applied_compiles() {
    let names = ["ORDER_NO", "A1", "A", "EMAIL", "JWT", "order", "1A", "A_", "A-B"];
    let long = format!("A{}", "B".repeat(39));
    let too_long = format!("{long}B");
    let regexes = [
        r"\bEW-[0-9]{8}\b",
        "a*",
        "(a",
        r"\b",
        "^$",
        "x?",
        "(|a)",
        "a|",
        r"\pL{900}\pL{900}",
        r"\pL{40}",
        "(?i)straße",
        "門市[0-9]{3}",
        r"(?x) a b # c",
        r"(?s).{1,20}",
        r"[[:alpha:]]+",
        r"a(?=b)",
        r"(a)\1",
        r"(?-u:a)",
        r"\d{1,500}",
        r"(?m)^x$",
        r"(a{1,30}){1,30}",
        "\u{0}",
    ];
    let mut taken = 0;
    for name in names.into_iter().chain([long.as_str(), too_long.as_str()]) {
        for regex in regexes {
            // what it matches is another question: `matches` is asked only of what compiles
            let document = json!({"kind": "policy", "project": "ewoooc", "id": "p1", "spec": {"redaction":
                {"patterns": [{"name": name, "pattern": regex, "matches": ["z"]}]}}});
            let found = parse(document).err().unwrap_or_default();
            let is_refused = found.iter().any(|v| !v.path.contains("/matches/"));
            let rules = Rules::credentials().pattern(name, regex, Action::Mask);
            assert!(is_refused || rules.is_ok(), "{name} {regex}: {:?}", rules.err());
            taken += usize::from(!is_refused);
            if let Err(error) = rules {
                assert!(is_refused, "{name} {regex}: {error}");
            }
        }
    }
    assert!(taken >= 3 * 10, "{taken} were taken by both");
}
