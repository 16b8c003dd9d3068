//! Requests against what is active, through one `check`.

use serde_json::{Value, json};

use super::*;
use crate::contract::parse;

fn manifest(kind: &str, id: &str, spec: Value) -> Manifest {
    parse(json!({"kind": kind, "project": "ewoooc", "id": id, "spec": spec})).unwrap()
}

fn project(default_model: Option<&str>) -> Manifest {
    let mut spec = json!({"display_name": "EwoooC"});
    if let Some(model) = default_model {
        spec["default_model"] = json!(model);
    }
    manifest("project", "ewoooc", spec)
}

fn models(names: &[&str]) -> Manifest {
    let models: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
    manifest("provider", "offline", json!({"type": "llm", "dialect": "offline", "models": models}))
}

fn tools(tools: &[(&str, &str)]) -> Manifest {
    let tools: Vec<Value> = tools.iter().map(|(name, risk)| json!({"name": name, "risk": risk})).collect();
    manifest("provider", "shop", json!({"type": "mcp", "transport": "stdio", "command": "x", "tools": tools}))
}

fn agent(model: Option<&str>, grants: Value) -> Manifest {
    let mut spec = json!({"instructions": "Answer.", "output_schema": {}, "grants": grants});
    if let Some(model) = model {
        spec["model"] = json!(model);
    }
    manifest("agent", "analyst", spec)
}

fn channel(agent: &str) -> Manifest {
    let spec = json!({"type": "telegram", "bot_token": "env://T", "allow_chats": [1], "agent": agent});
    manifest("channel", "chat", spec)
}

fn active(manifests: &[Manifest]) -> Vec<Active> {
    manifests.iter().map(|m| Active { id: m.id.clone(), spec: m.spec.clone() }).collect()
}

/// The violations, each as its path and a part of its message.
fn check(new: &[Manifest], before: &[Manifest], retired: &[(Kind, &str)], expected: &[(&str, &str)]) {
    let retired: Vec<(Kind, String)> = retired.iter().map(|(kind, id)| (*kind, (*id).to_owned())).collect();
    let found = check_references(new, &active(before), &retired);
    let paths: Vec<&str> = found.iter().map(|v| v.path.as_str()).collect();
    assert_eq!(paths, expected.iter().map(|(path, _)| *path).collect::<Vec<_>>(), "{found:#?}");
    for (violation, (_, part)) in found.iter().zip(expected) {
        assert!(violation.message.contains(part), "{violation:?} says {part}");
    }
}

#[test]
fn an_agent_and_all_it_needs_can_come_at_once_in_any_order() {
    let grants = json!([{"tool": "shop__sales"}]);
    let request = [
        channel("analyst"),
        agent(None, grants),
        tools(&[("sales", "read_only")]),
        models(&["planner"]),
        project(Some("offline/planner")),
    ];
    check(&request, &[], &[], &[]);
    check(&request[..2], &request[2..], &[], &[]);
    check(&request, &request, &[], &[]);
}

#[test]
fn a_contract_is_in_a_request_once() {
    let twice = [models(&["a"]), models(&["b"])];
    check(&twice, &[], &[], &[("/manifests/1/id", "twice")]);
    let retired = [(Kind::Provider, "offline")];
    check(&twice[..1], &[], &retired, &[("/manifests/0/id", "applied and retired")]);
}

#[test]
fn an_agent_names_a_model_that_a_provider_lists() {
    let world = [models(&["planner"]), tools(&[])];
    let one = |model: Option<&str>| [agent(model, json!([]))];
    check(&one(Some("offline/planner")), &world, &[], &[]);
    check(&one(Some("offline/other")), &world, &[], &[("/manifests/0/spec/model", "lists no model `other`")]);
    check(&one(Some("shop/planner")), &world, &[], &[("/manifests/0/spec/model", "serves tools")]);
    check(&one(Some("none/planner")), &world, &[], &[("/manifests/0/spec/model", "no provider `none`")]);
    check(&one(None), &world, &[], &[("/manifests/0/spec", "names no model")]);
}

#[test]
fn the_default_model_is_that_of_the_project_as_the_request_leaves_it() {
    let world = [models(&["planner"]), project(Some("offline/planner"))];
    let bare = agent(None, json!([]));
    check(std::slice::from_ref(&bare), &world, &[], &[]);
    let dropped = [project(None), bare.clone()];
    check(&dropped, &world, &[], &[("/manifests/1/spec", "names no model")]);
    let other = [project(Some("offline/gone")), bare.clone()];
    check(&other, &world, &[], &[("/manifests/1/spec", "the project's default_model: `offline` lists no")]);
    let staying = [world[0].clone(), world[1].clone(), bare];
    check(&dropped[..1], &staying, &[], &[("", "the active agent `analyst` needs it")]);
    // a default that nobody uses may name what comes later
    check(&other[..1], &world, &[], &[]);
}

#[test]
fn a_granted_tool_is_listed_and_its_risk_only_raised() {
    let world = [models(&["m1"]), tools(&[("sales", "read_only"), ("refund", "write")])];
    let one = |grants: Value| [agent(Some("offline/m1"), grants)];
    check(
        &one(json!([{"tool": "shop__sales", "risk": "write"}, {"tool": "shop__refund"}])),
        &world,
        &[],
        &[],
    );
    let lowered = one(json!([{"tool": "shop__sales"}, {"tool": "shop__refund", "risk": "read_only"}]));
    check(&lowered, &world, &[], &[("/manifests/0/spec/grants/1/risk", "graver")]);
    let unknown = one(json!([{"tool": "shop__gone"}, {"tool": "offline__m1"}, {"tool": "none__x"}]));
    let expected = [
        ("/manifests/0/spec/grants/0/tool", "lists no tool `gone`"),
        ("/manifests/0/spec/grants/1/tool", "serves models"),
        ("/manifests/0/spec/grants/2/tool", "no provider `none`"),
    ];
    check(&unknown, &world, &[], &expected);
}

#[test]
fn nothing_active_loses_what_it_needs() {
    let grants = json!([{"tool": "shop__sales", "risk": "read_only"}]);
    let world = [
        models(&["planner", "spare"]),
        tools(&[("sales", "read_only"), ("spare", "write")]),
        agent(Some("offline/planner"), grants.clone()),
        channel("analyst"),
    ];
    check(&[models(&["planner"]), tools(&[("sales", "read_only")])], &world, &[], &[]);
    check(&[models(&["spare"])], &world, &[], &[("", "lists no model `planner`")]);
    check(&[tools(&[])], &world, &[], &[("", "agent `analyst` needs it: `shop` lists no tool `sales`")]);
    check(&[tools(&[("sales", "write")])], &world, &[], &[("", "graver")]);
    check(&[], &world, &[(Kind::Provider, "shop")], &[("", "there is no provider `shop`")]);
    check(&[], &world, &[(Kind::Agent, "analyst")], &[("", "the active channel `chat` needs it")]);
    check(&[], &world, &[(Kind::Agent, "analyst"), (Kind::Channel, "chat")], &[]);
    let moved = agent(Some("offline/spare"), json!([]));
    check(&[moved, models(&["spare"])], &world, &[(Kind::Provider, "shop")], &[]);
}

#[test]
fn a_channel_names_an_agent() {
    check(&[channel("nobody")], &[], &[], &[("/manifests/0/spec/agent", "no agent `nobody`")]);
}

#[test]
fn what_was_broken_before_does_not_stop_other_changes() {
    let world = [agent(Some("gone/planner"), json!([])), models(&["planner"])];
    check(&[tools(&[])], &world, &[], &[]);
    check(&world[..1], &world, &[], &[("/manifests/0/spec/model", "no provider `gone`")]);
}

#[test]
fn a_provider_that_looks_like_another_is_refused_with_both_names_unless_it_was_in_force_before() {
    let named = |id: &str| {
        manifest("provider", id, json!({"type": "mcp", "transport": "stdio", "command": "x", "tools": []}))
    };
    let (shop, fake) = (named("shop"), named("sh0p"));
    check(
        std::slice::from_ref(&fake),
        std::slice::from_ref(&shop),
        &[],
        &[("/manifests/0/id", "`sh0p` looks like the provider `shop`")],
    );
    check(&[shop.clone(), fake.clone()], &[], &[], &[("/manifests/1/id", "`sh0p` looks like")]);
    check(&[named("calender")], &[named("calendar")], &[], &[("/manifests/0/id", "`calendar`")]);
    check(std::slice::from_ref(&fake), &[shop.clone(), fake.clone()], &[], &[]);
    check(&[fake], std::slice::from_ref(&shop), &[(Kind::Provider, "shop")], &[]);
    check(&[named("crm"), named("shop-eu"), named("shop-us")], &[shop], &[], &[]);
}
