//! The rules of the five gates, as pure functions over facts. The gateway's pipeline loads the facts,
//! runs these in order and turns each success into the proof the next gate consumes.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::contract::Risk;
use crate::error::{ErrorCode, Violation};
use crate::pin::Standing;
use crate::run::Mode;
use crate::schema::{Schema, depth_exceeds};

/// Largest arguments of one call, in bytes of their JSON text.
pub const MAX_ARGUMENT_BYTES: usize = 256 * 1024;
/// Deepest nesting of arguments.
pub const MAX_ARGUMENT_DEPTH: usize = 32;

/// A gate that said no: the code, and a sentence for the caller that repeats no argument.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Which gate, 1 to 5.
    pub gate: u8,
    /// Its stable code.
    pub code: ErrorCode,
    /// What was expected.
    pub message: String,
    /// After how many seconds the same call may pass, where that is known.
    pub retry_after_s: Option<u64>,
}

impl Refusal {
    /// Builds a refusal.
    pub fn new(gate: u8, code: ErrorCode, message: impl Into<String>) -> Self {
        Self { gate, code, message: message.into(), retry_after_s: None }
    }

    /// Gate 4: a rate of the policies leaves no room for the call, for about this long.
    pub fn rate(rule: &str, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let message = format!("{rule}: try again in {} s", seconds.max(1));
        Self { retry_after_s: Some(seconds.max(1)), ..Self::new(4, ErrorCode::Gate007, message) }
    }
}

/// What one gate decided, for the journal and for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The gate's name.
    pub gate: &'static str,
    /// `pass`, `stub` or `refuse`.
    pub verdict: &'static str,
    /// The code of a refusal.
    pub code: Option<ErrorCode>,
}

/// The gates' names, in order.
pub const GATES: [&str; 5] = ["identity", "registry", "authorization", "arguments", "clearance"];

/// The verdicts of a call that ended with `refusal`, or passed all gates.
pub fn verdicts(refusal: Option<&Refusal>, is_stub: bool) -> Vec<Verdict> {
    let last = refusal.map_or(5, |r| r.gate);
    (1..=last)
        .map(|n| {
            let gate = GATES[usize::from(n) - 1];
            match refusal {
                Some(r) if r.gate == n => Verdict { gate, verdict: "refuse", code: Some(r.code) },
                _ if n == 3 && is_stub => Verdict { gate, verdict: "stub", code: None },
                _ => Verdict { gate, verdict: "pass", code: None },
            }
        })
        .collect()
}

/// Gate 2: the tool is in the project's registry, its server offers it, and its definition may be used.
pub fn registry(name: &str, is_registered: bool, definition: Option<&Standing>) -> Result<(), Refusal> {
    let name = printable(name);
    let unknown = |message: String| Err(Refusal::new(2, ErrorCode::Gate002, message));
    match definition {
        _ if !is_registered => unknown(format!("there is no tool `{name}`")),
        None => unknown(format!("`{name}` is not offered by its server")),
        Some(standing) => standing.refusal(&name).map_or(Ok(()), Err),
    }
}

/// How far gate 3 lets a call go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The call goes on to the gates that follow, and upstream.
    Call,
    /// The effect is recorded and answered with a stub.
    Stub,
}

/// What a tool's own definition says of it that makes it graver than its contract does. Nobody vouches for these hints,
/// so those that would make it less grave are not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hints {
    /// The risk its server admits to, with the hint that says so.
    pub risk: Option<(Risk, &'static str)>,
    /// `idempotentHint: false`.
    pub is_not_idempotent: bool,
    /// `openWorldHint: true`.
    pub is_open_world: bool,
}

impl Hints {
    /// Reads the `annotations` of a definition.
    pub fn of(annotations: Option<&Value>) -> Self {
        let says = |hint: &str, value: bool| {
            annotations.and_then(|hints| hints.get(hint)).and_then(Value::as_bool) == Some(value)
        };
        let risk = if says("destructiveHint", true) {
            Some((Risk::Destructive, "destructiveHint: true"))
        } else {
            says("readOnlyHint", false).then_some((Risk::Write, "readOnlyHint: false"))
        };
        Self {
            risk,
            is_not_idempotent: says("idempotentHint", false),
            is_open_world: says("openWorldHint", true),
        }
    }
}

/// What gate 3 knows of a tool and an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Is the tool granted to the agent?
    pub is_granted: bool,
    /// The policy that denies it to every agent, and its pattern.
    pub denied_by: Option<(&'a str, &'a str)>,
    /// What the tool does to the world.
    pub risk: Risk,
}

/// Gate 3: granted to the agent, denied by no policy; in shadow an effect is answered in its place. Whether an effect
/// needs people is asked at gate 5.
pub fn authorization(name: &str, authority: Authority<'_>, mode: Mode) -> Result<Reach, Refusal> {
    let Authority { is_granted, denied_by, risk } = authority;
    if !is_granted {
        let message = format!("`{}` is not granted to this agent", printable(name));
        return Err(Refusal::new(3, ErrorCode::Gate004, message));
    }
    if let Some((policy, pattern)) = denied_by {
        let message = format!("the policy `{policy}` denies `{}` (by `{pattern}`)", printable(name));
        return Err(Refusal::new(3, ErrorCode::Gate005, message));
    }
    match (risk, mode) {
        (Risk::Write | Risk::Destructive, Mode::Shadow) => Ok(Reach::Stub),
        (Risk::ReadOnly, _) | (_, Mode::Suggest | Mode::Live) => Ok(Reach::Call),
    }
}

/// Gate 4: bounded, valid against the tool's schema and the grant's constraints.
/// Whether they hold a credential is asked by the gateway, which owns the redactor.
pub fn arguments(
    arguments: &Map<String, Value>,
    input_schema: &Value,
    constraints: Option<&Value>,
) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::new(4, ErrorCode::Gate006, message));
    let value = Value::Object(arguments.clone());
    if depth_exceeds(&value, MAX_ARGUMENT_DEPTH) {
        return refuse(format!("the arguments nest deeper than {MAX_ARGUMENT_DEPTH} levels"));
    }
    if value.to_string().len() > MAX_ARGUMENT_BYTES {
        return refuse(format!("the arguments are larger than {MAX_ARGUMENT_BYTES} bytes"));
    }
    for (what, schema) in
        [("the tool's schema", Some(input_schema)), ("the grant's constraints", constraints)]
    {
        let Some(schema) = schema else { continue };
        let compiled = match Schema::compile(schema) {
            Ok(compiled) => compiled,
            Err(e) => return refuse(format!("{what} cannot be used: {e}")),
        };
        if let Err(found) = compiled.validate(&value) {
            return refuse(format!("the arguments do not fit {what}: {}", describe(&found)));
        }
    }
    Ok(())
}

/// Violations as one readable line: path, keyword, expected.
pub fn describe(found: &[Violation]) -> String {
    let line = |v: &Violation| {
        format!("{} ({}): {}", if v.path.is_empty() { "/" } else { &v.path }, v.keyword, v.message)
    };
    found.iter().map(line).collect::<Vec<_>>().join("; ")
}

/// A name from outside, bounded and without control characters, for messages.
fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn code(result: Result<impl Sized, Refusal>) -> Option<ErrorCode> {
        result.err().map(|r| r.code)
    }

    #[test]
    fn each_rule_refuses_with_its_own_code() {
        let drifted = Standing::Drifted { pinned: "x".into(), seen: "y".into() };
        assert_eq!(code(registry("a__b", false, None)), Some(ErrorCode::Gate002));
        assert_eq!(code(registry("a__b", true, None)), Some(ErrorCode::Gate002));
        assert_eq!(code(registry("a__b", true, Some(&drifted))), Some(ErrorCode::Gate003));
        assert_eq!(code(registry("a__b", true, Some(&Standing::New))), None);
        let may = |is_granted, risk| Authority { is_granted, denied_by: None, risk };
        let read = Risk::ReadOnly;
        assert_eq!(code(authorization("a__b", may(false, read), Mode::Live)), Some(ErrorCode::Gate004));
        assert_eq!(authorization("a__b", may(true, Risk::Write), Mode::Live), Ok(Reach::Call));
        assert_eq!(authorization("a__b", may(true, Risk::Write), Mode::Suggest), Ok(Reach::Call));
        assert_eq!(authorization("a__b", may(true, Risk::Write), Mode::Shadow), Ok(Reach::Stub));
        assert_eq!(authorization("a__b", may(true, read), Mode::Shadow), Ok(Reach::Call));
        let denied = Authority { denied_by: Some(("house-rules", "a__*")), ..may(true, read) };
        assert_eq!(code(authorization("a__b", denied, Mode::Shadow)), Some(ErrorCode::Gate005));
    }

    #[test]
    fn hints_only_make_a_tool_graver() {
        let hints = |annotations: Value| Hints::of(Some(&annotations));
        let all = hints(json!({"readOnlyHint": true, "destructiveHint": false, "idempotentHint": true,
            "openWorldHint": false, "title": 5}));
        assert_eq!(all, Hints::default());
        assert_eq!((Hints::of(None), hints(json!("x"))), (Hints::default(), Hints::default()));
        let writes = hints(json!({"readOnlyHint": false, "idempotentHint": false, "openWorldHint": true}));
        let risk = Some((Risk::Write, "readOnlyHint: false"));
        assert_eq!(writes, Hints { risk, is_not_idempotent: true, is_open_world: true });
        let destroys = hints(json!({"readOnlyHint": true, "destructiveHint": true}));
        assert_eq!(destroys.risk, Some((Risk::Destructive, "destructiveHint: true")));
    }

    #[test]
    fn a_full_rate_says_when_to_try_again_in_whole_seconds() {
        let wait = |ms| Refusal::rate("no more", Duration::from_millis(ms));
        assert_eq!((wait(1).retry_after_s, wait(1_001).retry_after_s), (Some(1), Some(2)));
        assert_eq!(
            (wait(0).retry_after_s, wait(3_000).message.as_str()),
            (Some(1), "no more: try again in 3 s")
        );
    }

    proptest::proptest! {
        #[test]
        fn constraints_can_only_narrow(
            number in -10_i64..10, text in "[a-c]{0,3}", low in -10_i64..10, high in -10_i64..10, form in 0_usize..6,
        ) {
            let schema = json!({"type": "object", "required": ["n"], "properties": {
                "n": {"type": "integer", "minimum": -5}, "to": {"type": "array", "items": {"type": "string"}}}});
            let constraints = [
                json!(true),
                json!({}),
                json!({"properties": {"n": {"type": ["integer", "string"], "minimum": low, "maximum": high}}}),
                json!({"properties": {"to": {"items": {"enum": ["a", "b"]}}, "n": {"default": 3}}}),
                json!({"anyOf": [true, {"type": "string"}], "required": []}),
                json!(false),
            ];
            let given = json!({"n": number, "to": [text]});
            let given = given.as_object().unwrap();
            let alone = arguments(given, &schema, None);
            let both = arguments(given, &schema, Some(&constraints[form]));
            proptest::prop_assert!(alone.is_ok() || both.is_err(), "{:?}", given);
        }
    }

    #[test]
    fn arguments_must_fit_the_tool_and_the_grant() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
        let limit = json!({"properties": {"n": {"maximum": 5}}});
        let args = |v: Value| v.as_object().cloned().unwrap();
        assert_eq!(arguments(&args(json!({"n": 5})), &schema, Some(&limit)), Ok(()));
        let refused = arguments(&args(json!({"n": 6})), &schema, Some(&limit)).unwrap_err();
        assert!(
            refused.message.contains("grant's constraints") && refused.message.contains("/n"),
            "{refused}"
        );
        assert_eq!(code(arguments(&args(json!({})), &schema, None)), Some(ErrorCode::Gate006));
        let big = args(json!({"n": 1, "x": "y".repeat(MAX_ARGUMENT_BYTES)}));
        assert_eq!(code(arguments(&big, &schema, None)), Some(ErrorCode::Gate006));
    }

    #[test]
    fn verdicts_end_at_the_gate_that_refused() {
        let refusal = Refusal::new(3, ErrorCode::Gate004, "no");
        let found: Vec<_> = verdicts(Some(&refusal), false).iter().map(|v| (v.gate, v.verdict)).collect();
        assert_eq!(found, [("identity", "pass"), ("registry", "pass"), ("authorization", "refuse")]);
        assert_eq!(verdicts(None, true)[2].verdict, "stub");
        assert_eq!(verdicts(None, false).len(), 5);
    }
}
