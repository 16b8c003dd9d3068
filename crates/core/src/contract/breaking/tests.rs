//! Every rule, by the change that breaks it and one beside it that does not.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::contract::parse;

fn spec(kind: &str, spec: Value) -> Spec {
    let document = json!({"kind": kind, "project": "ewoooc", "id": "ewoooc", "spec": spec});
    parse(document).unwrap_or_else(|found| panic!("{found:?}")).spec
}

/// `base` with members replaced or, by null, taken away.
fn with(base: &Value, change: Value) -> Value {
    let mut changed = base.clone();
    for (name, value) in change.as_object().unwrap() {
        match value {
            Value::Null => changed.as_object_mut().unwrap().remove(name),
            value => changed.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    changed
}

/// The rules and paths of a change from `base` with `before` to `base` with `after`.
fn check(kind: &str, base: &Value, before: Value, after: Value, expected: &[(&str, &str)]) {
    let (from, to) = (spec(kind, with(base, before)), spec(kind, with(base, after)));
    let found = breaking(&from, Some(&to));
    let rules: Vec<(&str, &str)> = found.iter().map(|b| (b.rule, b.path.as_str())).collect();
    assert_eq!(rules, expected, "{found:#?}");
}

#[test]
fn a_project_may_not_lower_its_budget_or_weaken_its_rule_unnoticed() {
    let base = json!({"display_name": "EwoooC"});
    let changed = |before: Value, after: Value, expected: &[(&str, &str)]| {
        check("project", &base, before, after, expected);
    };
    let tokens = |n: i64| json!({"budget": {"tokens": n}});
    changed(tokens(9), tokens(8), &[("budget_lowered", "/spec/budget/tokens")]);
    changed(json!({}), tokens(8), &[("budget_lowered", "/spec/budget")]);
    changed(tokens(8), tokens(9), &[]);
    changed(tokens(8), json!({}), &[]);
    let limits = |running: u32, queued: u32| json!({"limits": {"max_running_runs": running, "max_queued_runs": queued}, "weight": running});
    changed(limits(9, 5), limits(8, 5), &[("limit_lowered", "/spec/limits/max_running_runs")]);
    changed(limits(9, 5), limits(9, 4), &[("limit_lowered", "/spec/limits/max_queued_runs")]);
    changed(limits(8, 4), limits(9, 5), &[]);
    let storage = |bytes: i64| json!({"limits": {"max_storage_bytes": bytes}});
    let lowered = [("limit_lowered", "/spec/limits/max_storage_bytes")];
    changed(storage(9_000_000), storage(8_000_000), &lowered);
    changed(json!({}), storage(8_000_000), &lowered);
    changed(storage(8_000_000), storage(9_000_000), &[]);
    changed(limits(8, 4), json!({}), &[]);
    changed(
        json!({}),
        json!({"limits": {"max_queued_runs": 9}}),
        &[("limit_lowered", "/spec/limits/max_queued_runs")],
    );
    changed(json!({}), json!({"display_name": "Other", "default_model": "a1/b"}), &[]);

    let days = |n: u16| json!({"retention": {"runs_days": n}});
    let shortened = [("retention_shortened", "/spec/retention/runs_days")];
    changed(days(30), days(29), &shortened);
    changed(json!({}), days(29), &shortened);
    changed(days(29), days(30), &[]);
    changed(days(29), json!({}), &[]);

    let rule = |rule: Value| json!({"activation": rule});
    let weaker = "activation_weakened";
    let (two, one) = (rule(json!({"signatures": 2})), rule(json!({"signatures": 1})));
    changed(two.clone(), one.clone(), &[(weaker, "/spec/activation/signatures")]);
    changed(two.clone(), json!({}), &[(weaker, "/spec/activation/signatures")]);
    changed(one, two, &[]);
    let (a, ab) = (rule(json!({"signers": ["a"]})), rule(json!({"signers": ["b", "a"]})));
    changed(a.clone(), ab.clone(), &[(weaker, "/spec/activation/signers/0")]);
    changed(a.clone(), json!({}), &[(weaker, "/spec/activation")]);
    changed(ab, a.clone(), &[]);
    changed(json!({}), a, &[]);
    let own = |may: bool| rule(json!({"publisher_may_sign": may}));
    changed(own(false), own(true), &[(weaker, "/spec/activation/publisher_may_sign")]);
    changed(own(true), own(false), &[]);
    let window = |s: u32| rule(json!({"window_s": s}));
    changed(window(60), window(61), &[(weaker, "/spec/activation/window_s")]);
    changed(window(61), window(60), &[]);
}

#[test]
fn an_agent_may_not_widen_its_reach_or_narrow_its_schemas_unnoticed() {
    let base =
        json!({"instructions": "Answer.", "model": "offline/planner", "output_schema": {"type": "object"}});
    let changed = |before: Value, after: Value, expected: &[(&str, &str)]| {
        check("agent", &base, before, after, expected);
    };
    let output = |schema: Value| json!({"output_schema": schema});
    let needed = json!({"type": "object", "required": ["answer"]});
    changed(json!({}), output(needed.clone()), &[("output_schema_narrowed", "/spec/output_schema/required")]);
    changed(output(needed), json!({}), &[]);
    let input = |schema: Value| json!({"input_schema": schema});
    changed(json!({}), input(json!({"type": "string"})), &[("input_schema_narrowed", "/spec/input_schema")]);
    changed(input(json!({"type": "string"})), json!({}), &[]);
    changed(json!({"mode": "shadow"}), json!({"mode": "live"}), &[("mode_raised", "/spec/mode")]);
    changed(json!({"mode": "live"}), json!({}), &[]);
    let limits = json!({"max_steps": 99, "timeout_ms": 86400000, "step_timeout_ms": 100, "instructions": "Other.", "model": "a1/b"});
    changed(json!({}), limits, &[]);

    let grants = |grants: Value| json!({"grants": grants});
    let none = grants(json!([]));
    let plain = grants(json!([{"tool": "shop__a"}]));
    changed(none.clone(), plain.clone(), &[("grant_widened", "/spec/grants/0")]);
    changed(plain.clone(), none, &[("tool_removed", "/spec/grants/0")]);
    let limited = |max: u32| {
        grants(json!([{"tool": "shop__a", "constraints": {"properties": {"limit": {"maximum": max}}}}]))
    };
    changed(plain.clone(), limited(5), &[]);
    changed(limited(5), limited(4), &[]);
    changed(limited(4), limited(5), &[("grant_widened", "/spec/grants/0/constraints")]);
    changed(limited(4), plain.clone(), &[("grant_widened", "/spec/grants/0")]);
    let risk = |risk: &str| grants(json!([{"tool": "shop__a", "risk": risk}]));
    changed(risk("write"), plain.clone(), &[("risk_lowered", "/spec/grants/0")]);
    changed(risk("write"), risk("read_only"), &[("risk_lowered", "/spec/grants/0")]);
    changed(plain, risk("write"), &[]);
}

#[test]
fn an_agent_may_not_stop_running_by_itself_unnoticed() {
    let base = json!({"instructions": "Answer.", "output_schema": {}});
    let schedule =
        |id: &str, enabled: bool| json!({"id": id, "cron": "0 7 * * *", "input": "x", "enabled": enabled});
    let all = |schedules: &[Value]| json!({"schedules": schedules});
    let changed = |before: Value, after: Value, expected: &[(&str, &str)]| {
        check("agent", &base, before, after, expected);
    };
    let both = all(&[schedule("morning", true), schedule("evening", true)]);
    let dropped = |i: usize| ("schedule_dropped", format!("/spec/schedules/{i}"));
    let (rule, path) = dropped(1);
    changed(both.clone(), all(&[schedule("morning", true)]), &[(rule, &path)]);
    changed(both.clone(), all(&[schedule("evening", false), schedule("morning", true)]), &[(rule, &path)]);
    changed(all(&[schedule("morning", false)]), json!({}), &[]);
    changed(json!({}), both, &[]);
}

#[test]
fn a_provider_may_not_lose_models_or_move_unnoticed() {
    let base = json!({"type": "llm", "dialect": "openai", "base_url": "https://a.example.com/v1",
        "credential": "env://A", "models": [{"name": "a"}, {"name": "b"}]});
    let changed = |after: Value, expected: &[(&str, &str)]| {
        check("provider", &base, json!({}), after, expected);
    };
    changed(json!({"models": [{"name": "b"}]}), &[("model_removed", "/spec/models/0")]);
    changed(json!({"models": [{"name": "c"}, {"name": "b"}, {"name": "a"}]}), &[]);
    changed(json!({"timeout_ms": 100}), &[]);
    changed(json!({"base_url": "https://b.example.com/v1"}), &[("endpoint_changed", "/spec/base_url")]);
    changed(json!({"credential": "env://B"}), &[("endpoint_changed", "/spec/credential")]);
    changed(json!({"credential": null}), &[("endpoint_changed", "/spec/credential")]);
    let planner = json!({"dialect": "offline", "base_url": null, "credential": null});
    changed(planner, &[("endpoint_changed", "/spec/dialect")]);
    let tools = spec("provider", json!({"type": "mcp", "transport": "stdio", "command": "x", "tools": []}));
    let models = spec("provider", base);
    let rules = |from: &Spec, to: &Spec| breaking(from, Some(to)).iter().map(|b| b.rule).collect::<Vec<_>>();
    assert_eq!(rules(&models, &tools), ["model_removed", "endpoint_changed"]);
    assert_eq!(rules(&tools, &models), ["tool_removed", "endpoint_changed"]);
}

#[test]
fn a_tool_server_may_not_lose_lighten_or_exchange_tools_unnoticed() {
    let hash = |digit: &str| digit.repeat(64);
    let base = json!({"type": "mcp", "transport": "stdio", "command": "x",
        "tools": [{"name": "a", "risk": "write"}, {"name": "b", "risk": "read_only", "definition_sha256": hash("0")}]});
    let changed = |after: Value, expected: &[(&str, &str)]| {
        check("provider", &base, json!({}), after, expected);
    };
    let b = json!({"name": "b", "risk": "read_only", "definition_sha256": hash("0")});
    let with_a = |a: Value| json!({"tools": [b, a]});
    changed(json!({"tools": [b]}), &[("tool_removed", "/spec/tools/0")]);
    changed(with_a(json!({"name": "a", "risk": "read_only"})), &[("risk_lowered", "/spec/tools/1/risk")]);
    changed(with_a(json!({"name": "a", "risk": "write", "definition_sha256": hash("1")})), &[]);
    changed(
        with_a(json!({"name": "a", "risk": "destructive", "open_world": true, "trusted_output": false})),
        &[],
    );
    let (closed, trusted) = ("/spec/tools/1/open_world", "/spec/tools/1/trusted_output");
    changed(
        with_a(json!({"name": "a", "risk": "write", "open_world": false, "trusted_output": true})),
        &[("risk_lowered", closed), ("risk_lowered", trusted)],
    );
    let a = json!({"name": "a", "risk": "write"});
    let with_b = |b: Value| json!({"tools": [a, b]});
    let definition = [("definition_changed", "/spec/tools/1")];
    changed(with_b(json!({"name": "b", "risk": "write", "definition_sha256": hash("1")})), &definition);
    changed(with_b(json!({"name": "b", "risk": "write"})), &definition);
    changed(json!({"command": "y"}), &[("endpoint_changed", "/spec/command")]);
    changed(json!({"args": ["--all"]}), &[("endpoint_changed", "/spec/args")]);
    changed(json!({"env": {"T": "env://T"}}), &[("endpoint_changed", "/spec/env")]);
    let argument = json!({"args": ["{credential.t}"], "credentials": {"t": "env://T"}});
    changed(argument, &[("endpoint_changed", "/spec/args"), ("endpoint_changed", "/spec/credentials")]);
    let http = json!({"transport": "http", "command": null, "url": "https://a.example.com/"});
    changed(http.clone(), &[("endpoint_changed", "/spec/transport")]);
    let http = with(&base, http);
    let moved =
        |after: Value, expected: &[(&str, &str)]| check("provider", &http, json!({}), after, expected);
    moved(json!({"url": "https://b.example.com/"}), &[("endpoint_changed", "/spec/url")]);
    let header = json!({"auth": {"header": "X-Key", "credential": "env://K"}});
    moved(header, &[("endpoint_changed", "/spec/auth")]);
    let oauth = json!({"token_url": "https://id.example.com/", "client_id": "a", "client_secret": "env://K"});
    moved(json!({"auth": {"oauth": oauth}}), &[("endpoint_changed", "/spec/auth")]);
}

#[test]
fn a_policy_may_not_weaken_unnoticed() {
    let weaker = |path: &'static str| [("policy_weakened", path)];
    let changed = |before: Value, after: Value, expected: &[(&str, &str)]| {
        check("policy", &json!({"deny": ["zz__*"]}), before, after, expected);
    };
    let deny = |deny: Value| json!({"deny": deny});
    changed(deny(json!(["a1__x", "b1__*"])), deny(json!(["b1__*"])), &weaker("/spec/deny/0"));
    changed(deny(json!(["a1__x", "b1__y"])), deny(json!(["b1__*", "a1__*"])), &[]);
    changed(deny(json!(["b1__*"])), deny(json!(["b1__y"])), &weaker("/spec/deny/0"));

    let approvals = |rule: Value| json!({"approvals": [with(&json!({"risk": "write"}), rule)]});
    let gone = json!({"approvals": null});
    changed(approvals(json!({})), gone, &weaker("/spec/approvals/0"));
    changed(approvals(json!({"signatures": 2})), approvals(json!({})), &weaker("/spec/approvals/0"));
    changed(approvals(json!({})), approvals(json!({"signatures": 2, "expires_in_s": 60})), &[]);
    changed(approvals(json!({"expires_in_s": 60})), approvals(json!({})), &weaker("/spec/approvals/0"));
    changed(approvals(json!({"tools": ["a1__*"]})), approvals(json!({})), &[]);
    changed(approvals(json!({})), approvals(json!({"tools": ["a1__*"]})), &weaker("/spec/approvals/0"));
    changed(approvals(json!({})), approvals(json!({"tools": ["*"]})), &[]);

    let rate = |per: &str, calls: u32, window_s: u32| json!({"rates": [{"per": per, "calls": calls, "window_s": window_s}]});
    changed(rate("agent", 5, 60), rate("agent", 6, 60), &weaker("/spec/rates/0"));
    changed(rate("agent", 5, 60), rate("agent", 5, 59), &weaker("/spec/rates/0"));
    changed(rate("agent", 5, 60), rate("project", 4, 61), &[]);
    changed(rate("project", 5, 60), rate("agent", 5, 60), &weaker("/spec/rates/0"));
    changed(rate("agent", 5, 60), rate("tool", 5, 60), &weaker("/spec/rates/0"));
    changed(rate("agent", 5, 60), json!({}), &weaker("/spec/rates/0"));
    let at_a_time = |most: u32| json!({"rates": [{"per": "agent", "concurrent": most}]});
    changed(at_a_time(2), at_a_time(3), &weaker("/spec/rates/0"));
    changed(at_a_time(2), rate("agent", 1, 60), &weaker("/spec/rates/0"));
    changed(rate("agent", 1, 60), at_a_time(2), &weaker("/spec/rates/0"));
    let both = json!({"rates": [{"per": "project", "calls": 1, "window_s": 60, "concurrent": 2}]});
    changed(at_a_time(2), both.clone(), &[]);
    changed(both, at_a_time(2), &weaker("/spec/rates/0"));

    let untrusted = |rule: Value| json!({"after_untrusted_output": [rule]});
    let allow = |tools: &str| untrusted(json!({"action": "allow", "tools": [tools]}));
    let of_clerk = untrusted(json!({"action": "allow", "tools": ["a1__*"], "agents": ["clerk"]}));
    let approve = |tools: &str| untrusted(json!({"action": "approve", "tools": [tools]}));
    changed(json!({}), allow("a1__x"), &weaker("/spec/after_untrusted_output/0"));
    changed(allow("a1__*"), allow("a1__x"), &[]);
    changed(allow("a1__x"), allow("a1__*"), &weaker("/spec/after_untrusted_output/0"));
    changed(allow("a1__x"), json!({}), &[]);
    changed(allow("a1__*"), of_clerk.clone(), &[]);
    changed(of_clerk, allow("a1__*"), &weaker("/spec/after_untrusted_output/0"));
    changed(json!({}), approve("a1__x"), &[]);
    changed(approve("a1__x"), approve("a1__*"), &[]);
    changed(approve("a1__*"), approve("a1__x"), &weaker("/spec/after_untrusted_output/0"));

    let anomaly = |count: u32, action: &str| json!({"anomalies": [{"kind": "gate_refusal", "count": count, "window_s": 60, "action": action}]});
    changed(anomaly(5, "alert"), anomaly(4, "lower_mode"), &[]);
    changed(anomaly(5, "lower_mode"), anomaly(5, "alert"), &weaker("/spec/anomalies/0"));
    changed(anomaly(5, "alert"), anomaly(6, "alert"), &weaker("/spec/anomalies/0"));

    let mask = |pattern: &str| json!({"redaction": {"patterns": [{"name": "A1", "pattern": pattern, "matches": ["aab"]}]}});
    changed(mask("aa"), json!({}), &weaker("/spec/redaction/patterns/0"));
    changed(mask("aa"), mask("aab"), &weaker("/spec/redaction/patterns/0"));
    changed(json!({}), mask("aa"), &[]);
    let does = |action: &str| json!({"redaction": {"patterns": [{"name": "A1", "pattern": "aa", "action": action, "matches": ["aab"]}]}});
    changed(does("mask"), mask("aa"), &[]);
    changed(does("mask"), does("block"), &[]);
    changed(does("block"), does("mask"), &weaker("/spec/redaction/patterns/0"));
    changed(does("mask"), does("tag"), &weaker("/spec/redaction/patterns/0"));
}

#[test]
fn personal_data_may_not_go_further_unnoticed() {
    let base = json!({"display_name": "EwoooC"});
    let changed = |before: Value, after: Value, expected: &[&str]| {
        let paths: Vec<String> = expected.iter().map(|p| format!("/spec/personal_data/{p}")).collect();
        let expected: Vec<(&str, &str)> =
            paths.iter().map(|p| ("personal_data_loosened", p.as_str())).collect();
        let of = |v: Value| json!({"personal_data": v});
        check("project", &base, of(before), of(after), &expected);
    };
    let model = |direction: Value| json!({"to_model": direction});
    changed(model(json!({"all": "mask", "email": "tag"})), model(json!({"all": "block"})), &[]);
    changed(model(json!({"email": "mask"})), model(json!({"email": "tag"})), &["to_model/email"]);
    changed(model(json!({"email": "tag"})), json!({}), &["to_model/email"]);
    changed(model(json!({"all": "tag"})), model(json!({"all": "tag", "card": "allow"})), &["to_model/card"]);
    changed(json!({}), model(json!({"all": "block"})), &[]);
    let listed = |values: &[&str]| json!({"allow": values});
    changed(listed(&["aa"]), listed(&["@a.tw", "aa"]), &["allow/0"]);
    changed(listed(&["aa", "bb"]), listed(&["bb"]), &[]);
}

#[test]
fn a_channel_may_not_hear_more_people_or_move_unnoticed() {
    let telegram = json!({"type": "telegram", "bot_token": "env://T", "allow_chats": [1, 2], "agent": "aa"});
    let changed = |after: Value, expected: &[(&str, &str)]| {
        check("channel", &telegram, json!({}), after, expected);
    };
    changed(json!({"allow_chats": [2, 1, -3]}), &[("channel_widened", "/spec/allow_chats/2")]);
    changed(json!({"allow_chats": [2], "language": "zh-TW"}), &[]);
    changed(json!({"bot_token": "env://U"}), &[("endpoint_changed", "/spec/bot_token")]);
    changed(json!({"webhook_secret": "env://U"}), &[("endpoint_changed", "/spec/webhook_secret")]);
    let hook = json!({"type": "webhook", "url": "https://a.example.com/", "signing_secret": "env://S", "agent": "aa",
        "allow_senders": ["a"]});
    let changed =
        |after: Value, expected: &[(&str, &str)]| check("channel", &hook, json!({}), after, expected);
    changed(json!({"allow_senders": null}), &[("channel_widened", "/spec/allow_senders")]);
    changed(json!({"allow_senders": ["b", "a"]}), &[("channel_widened", "/spec/allow_senders/0")]);
    changed(json!({"url": "https://b.example.com/"}), &[("endpoint_changed", "/spec/url")]);
    changed(json!({"signing_secret": "env://R"}), &[("endpoint_changed", "/spec/signing_secret")]);
    let found = breaking(&spec("channel", hook), Some(&spec("channel", telegram)));
    let rules: BTreeSet<&str> = found.iter().map(|b| b.rule).collect();
    assert_eq!(rules, ["channel_widened", "endpoint_changed"].into());
}

#[test]
fn a_first_policy_may_loosen_what_holds_without_one() {
    let policy = spec("policy", json!({"deny": ["*"], "after_untrusted_output": [{"action": "allow"}]}));
    let found = breaking_first(&policy);
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].rule, found[0].path.as_str()),
        ("policy_weakened", "/spec/after_untrusted_output/0")
    );
    assert_eq!(breaking_first(&spec("project", json!({"display_name": "EwoooC"}))), []);
}

#[test]
fn retiring_is_breaking() {
    let policy = spec("policy", json!({"deny": ["*"]}));
    let found = breaking(&policy, None);
    assert_eq!((found[0].rule, found[0].path.as_str()), ("retired", ""));
    assert_eq!(found[0].message, "the policy is retired");
}
