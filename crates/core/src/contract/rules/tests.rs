//! Documents that fit their schema and are refused all the same.

use serde_json::{Value, json};

use crate::contract::parse;

fn manifest(kind: &str, spec: Value) -> Value {
    let id = if kind == "project" { "ewoooc" } else { "shop" };
    json!({"kind": kind, "project": "ewoooc", "id": id, "spec": spec})
}

/// The paths that are refused, each with its rule.
fn check(kind: &str, spec: Value, expected: &[(&str, &str)]) {
    let found = parse(manifest(kind, spec)).err().unwrap_or_default();
    let found: Vec<(&str, &str)> = found.iter().map(|v| (v.path.as_str(), v.keyword.as_str())).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_project_contract_is_named_as_its_project() {
    let mut document = manifest("project", json!({"display_name": "EwoooC"}));
    document["id"] = json!("other");
    assert_eq!(parse(document).unwrap_err()[0].path, "/id");
}

#[test]
fn as_many_people_may_sign_as_must() {
    let rule = |activation: Value| json!({"display_name": "EwoooC", "activation": activation});
    check("project", rule(json!({"signatures": 2, "signers": ["a", "b"]})), &[]);
    check("project", rule(json!({"signatures": 2})), &[]);
    let expected = [("/spec/activation/signers", "signers")];
    check("project", rule(json!({"signatures": 3, "signers": ["a", "b"]})), &expected);
}

#[test]
fn models_and_tools_are_listed_once() {
    let llm =
        json!({"type": "llm", "dialect": "offline", "models": [{"name": "a"}, {"name": "b"}, {"name": "a"}]});
    check("provider", llm, &[("/spec/models/2/name", "unique")]);
    let tools = json!([{"name": "a", "risk": "read_only"}, {"name": "a", "risk": "write"}]);
    let mcp = json!({"type": "mcp", "transport": "stdio", "command": "x", "tools": tools});
    check("provider", mcp, &[("/spec/tools/1/name", "unique")]);
}

#[test]
fn an_address_that_only_looks_like_one_is_refused_in_its_place() {
    let llm =
        |url: &str| json!({"type": "llm", "dialect": "openai", "base_url": url, "models": [{"name": "a"}]});
    check("provider", llm("http://127.0.0.1:8080/v1"), &[]);
    check("provider", llm("http://127.0.0.1:99999/v1"), &[("/spec/base_url", "format")]);
    let hook = json!({"type": "webhook", "url": "https://[::1", "signing_secret": "env://S", "agent": "aa"});
    let found = parse(manifest("channel", hook)).unwrap_err();
    assert_eq!(found[0].path, "/spec/url");
}

fn agent(more: Value) -> Value {
    let mut spec = json!({"instructions": "Answer.", "output_schema": {}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

#[test]
fn embedded_schemas_compile_and_reach_nothing_outside() {
    check(
        "agent",
        agent(json!({"output_schema": {"type": "nothing"}})),
        &[("/spec/output_schema", "schema")],
    );
    let remote = json!({"input_schema": {"$ref": "https://example.com/s.json"}});
    check("agent", agent(remote), &[("/spec/input_schema", "schema")]);
    let broken =
        json!({"grants": [{"tool": "shop__a"}, {"tool": "shop__b", "constraints": {"pattern": "(a"}}]});
    check("agent", agent(broken), &[("/spec/grants/1/constraints", "schema")]);
    let remote =
        json!({"grants": [{"tool": "shop__a", "constraints": {"$ref": "https://example.com/schema.json"}}]});
    check("agent", agent(remote), &[("/spec/grants/0/constraints", "schema")]);
    let misspelt =
        json!({"grants": [{"tool": "shop__a", "constraints": {"properties": {"n": {"maximun": 5}}}}]});
    check("agent", agent(misspelt), &[("/spec/grants/0/constraints/properties/n/maximun", "keyword")]);
    let never = json!({"grants": [{"tool": "shop__a", "constraints": {"type": "array"}}]});
    check("agent", agent(never), &[("/spec/grants/0/constraints", "constraints")]);
}

#[test]
fn a_schedule_has_times_and_asks_what_the_agent_accepts() {
    let schedule = |more: Value| {
        let mut schedule = json!({"id": "morning", "cron": "0 7 * * *", "input": {"days": 7}});
        schedule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        schedule
    };
    let whole = |schedules: Value| {
        let input = json!({"type": "object", "properties": {"days": {"maximum": 9}}});
        agent(json!({"input_schema": input, "schedules": schedules}))
    };
    let one =
        |more: Value, expected: &[(&str, &str)]| check("agent", whole(json!([schedule(more)])), expected);
    one(json!({"mode": "shadow", "time_zone": "Asia/Taipei"}), &[]);
    one(json!({"cron": "0 0 7 * * *"}), &[("/spec/schedules/0/cron", "cron")]);
    one(json!({"cron": "0 7 31 2 *"}), &[("/spec/schedules/0/cron", "cron")]);
    one(json!({"time_zone": "Mars/Olympus"}), &[("/spec/schedules/0/time_zone", "zone")]);
    one(
        json!({"cron": "every day", "time_zone": "Mars"}),
        &[("/spec/schedules/0/cron", "cron"), ("/spec/schedules/0/time_zone", "zone")],
    );
    one(json!({"mode": "live"}), &[("/spec/schedules/0/mode", "mode")]);
    one(json!({"input": {"days": 10}}), &[("/spec/schedules/0/input/days", "maximum")]);
    let twice = json!([schedule(json!({})), schedule(json!({}))]);
    check("agent", whole(twice), &[("/spec/schedules/1/id", "unique")]);
}

#[test]
fn a_tool_is_granted_once_and_by_a_name_that_routes() {
    let twice = json!({"grants": [{"tool": "shop__a"}, {"tool": "shop__a", "risk": "write"}]});
    check("agent", agent(twice), &[("/spec/grants/1/tool", "unique")]);
    // the schema's pattern takes these; the first `__` must end a provider's id
    check("agent", agent(json!({"grants": [{"tool": "shop___a"}]})), &[]);
    check("agent", agent(json!({"grants": [{"tool": "a__"}]})), &[("/spec/grants/0/tool", "pattern")]);
    check("agent", agent(json!({"model": "ab_/m"})), &[("/spec/model", "pattern")]);
}

#[test]
fn a_request_is_escalated_before_it_expires() {
    let rule = |after: u32| {
        json!({"approvals": [{"risk": "write"}, {"risk": "write", "expires_in_s": 600, "escalate_to": ["a"],
            "escalate_after_s": after}]})
    };
    check("policy", rule(599), &[]);
    check("policy", rule(600), &[("/spec/approvals/1/escalate_after_s", "escalation")]);
}

fn pattern(pattern: &str, matches: &[&str], misses: &[&str]) -> Value {
    json!({"redaction": {"patterns": [
        {"name": "ORDER_NO", "pattern": pattern, "matches": matches, "misses": misses}
    ]}})
}

#[test]
fn a_redaction_pattern_finds_what_it_claims_and_nothing_else() {
    check("policy", pattern(r"\bEW-[0-9]{8}\b", &["to EW-20260504."], &["EW-1", ""]), &[]);
    let found =
        [("/spec/redaction/patterns/0/matches/1", "regex"), ("/spec/redaction/patterns/0/misses/0", "regex")];
    check("policy", pattern("EW-[0-9]+", &["EW-1", "ew-1"], &["EW-2", "EW-"]), &found);
}

#[test]
fn a_redaction_pattern_is_bounded_and_never_matches_nothing() {
    let refused = [("/spec/redaction/patterns/0/pattern", "regex")];
    for bad in ["(a", "a(?=b)", r"(a)\1", "a*", r"\b", "x?", "(|a)", "^$", r"\pL{900}\pL{900}"] {
        check("policy", pattern(bad, &["a"], &[]), &refused);
    }
    let twice = json!({"redaction": {"patterns": [
        {"name": "A1", "pattern": "a", "matches": ["a"]}, {"name": "A1", "pattern": "b", "matches": ["b"]}
    ]}});
    check("policy", twice, &[("/spec/redaction/patterns/1/name", "unique")]);
    let taken = json!({"redaction": {"patterns": [{"name": "EMAIL", "pattern": "a", "matches": ["a"]}]}});
    check("policy", taken, &[("/spec/redaction/patterns/0/name", "class")]);
}

#[test]
fn an_allow_list_names_values_domains_and_networks_that_are_such() {
    let list = |values: &[&str]| json!({"display_name": "EwoooC", "personal_data": {"allow": values}});
    check(
        "project",
        list(&["0800-000-123", "a@b.tw", "@b.tw", "@門市.tw", "10.0.0.0/8", "::/0", "a/b"]),
        &[],
    );
    for bad in ["@b", "@a..tw", "@a b.tw", "10.0.0.0/33", "10.0.0.0/", "::1/129", "10.0.0.1/x"] {
        check("project", list(&["aa", bad]), &[("/spec/personal_data/allow/1", "allow")]);
    }
}

#[test]
fn what_is_not_in_force_is_said_in_full_sentences() {
    let said = |kind: &str, spec: Value| parse(manifest(kind, spec)).unwrap().spec.not_in_force();
    assert!(said("policy", json!({"deny": ["*"]})).is_empty());
    assert!(said("policy", json!({"approvals": [{"risk": "write"}]})).is_empty());
    let rule = json!({"risk": "write", "escalate_to": ["mei"], "escalate_after_s": 60});
    let sentences = said("policy", json!({"deny": ["*"], "approvals": [rule]}));
    assert_eq!(sentences.len(), 1);
    assert!(sentences[0].contains("a request that nobody decides in time counts as denied"), "{sentences:?}");
    let hook =
        json!({"type": "webhook", "url": "https://example.com/", "signing_secret": "env://S", "agent": "aa"});
    assert_eq!(said("channel", hook).len(), 1);
}

#[test]
fn no_provider_is_named_as_the_platform_s_own() {
    for id in ["awooop", "aw00op", "awo_oop"] {
        let mut document =
            manifest("provider", json!({"type": "llm", "dialect": "offline", "models": [{"name": "a"}]}));
        document["id"] = json!(id);
        assert_eq!(parse(document).unwrap_err()[0].keyword, "reserved", "{id}");
    }
    let tools = json!([{"name": "find_tools", "risk": "read_only"}, {"name": "awooop__find_tools", "risk": "read_only"}]);
    let spec = json!({"type": "mcp", "transport": "stdio", "command": "x", "tools": tools});
    check("provider", spec, &[("/spec/tools/1/name", "reserved")]);
}

#[test]
fn arguments_ask_for_credentials_of_the_contract_and_each_of_those_is_asked_for() {
    let stdio = |args: Value, credentials: Value| {
        let mut spec =
            json!({"type": "mcp", "transport": "stdio", "command": "shop", "tools": [], "args": args});
        if !credentials.is_null() {
            spec["credentials"] = credentials;
        }
        spec
    };
    let token = json!({"token": "file://token"});
    check("provider", stdio(json!(["--token={credential.token}"]), token.clone()), &[]);
    check("provider", stdio(json!(["{token}", "{credential.}"]), Value::Null), &[]);
    check(
        "provider",
        stdio(json!(["a", "{credential.token}"]), Value::Null),
        &[("/spec/args/1", "credentials")],
    );
    let expected = [("/spec/args/0", "credentials"), ("/spec/credentials/token", "credentials")];
    check("provider", stdio(json!(["{credential.tokens}"]), token), &expected);
}

#[test]
fn an_issuer_of_tokens_has_an_address_and_excludes_a_header() {
    let http = |auth: Value| json!({"type": "mcp", "transport": "http", "url": "https://a.example.com/", "tools": [], "auth": auth});
    let oauth = |url: &str| json!({"token_url": url, "client_id": "a", "client_secret": "env://B"});
    check(
        "provider",
        http(json!({"oauth": oauth("https://a:b:c/")})),
        &[("/spec/auth/oauth/token_url", "format")],
    );
    let both = json!({"header": "X-Key", "credential": "env://A", "oauth": oauth("https://id.example.com/")});
    check("provider", http(both.clone()), &[("/spec/auth", "not")]);
    let told = parse(manifest("provider", http(both))).unwrap_err()[0].message.clone();
    assert_eq!(told, "it is either header and credential, or oauth");
}
