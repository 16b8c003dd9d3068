//! A run that was read from the server, for a person and as one document.
//!
//! The document is the API's own, with the run's steps added as `steps`. For a person: the answer first,
//! then one line a step, then the run's facts. A run that did not complete is not done: its reply carries
//! the exit code and the error's line for stderr.

use jiff::{SpanRound, Timestamp, Unit};
use serde_json::Value;

use crate::failure::Exit;
use crate::output::{Reply, cell, table};

/// Has the run of this document ended?
pub(crate) fn is_ended(document: &Value) -> bool {
    matches!(state(document), "completed" | "failed" | "cancelled" | "timeout")
}

/// Can it not go on before people have decided?
pub(crate) fn waits_for_people(document: &Value) -> bool {
    state(document) == "waiting_approval"
}

/// The run's state, empty where the document has none.
pub(crate) fn state(document: &Value) -> &str {
    document["run"]["state"].as_str().unwrap_or("")
}

/// The result of a run that was waited for: its end decides the exit code.
pub(crate) fn ended(document: Value, steps: Vec<Value>, url: &str) -> Reply {
    let exit = match state(&document) {
        "completed" => Exit::Done,
        "waiting_approval" => Exit::Waiting,
        _ => document["error"]["code"].as_str().map_or(Exit::Failed, Exit::of_run_error),
    };
    let mut reply = shown(document, steps);
    if !matches!(exit, Exit::Done | Exit::Waiting) {
        reply.notes.extend(error_lines(&reply.document, url));
    }
    reply.exit = exit;
    reply
}

/// The result of a run that was only looked at.
pub(crate) fn shown(mut document: Value, steps: Vec<Value>) -> Reply {
    let mut parts = Vec::new();
    parts.extend(answer(&document["output"]));
    if !steps.is_empty() {
        let rows: Vec<Vec<String>> = steps.iter().map(step_row).collect();
        parts.push(table(&["STEP", "WHAT", "STATUS", "GATES", "MS"], &rows));
    }
    parts.push(facts(&document));
    parts.extend(retry(&document["retry"]));
    parts.extend(waiting(&document["waiting"]));
    document["steps"] = steps.into();
    Reply::done(document, parts.join("\n\n"))
}

/// The output as a person wants to read it: its `answer`, a bare text, else all of it.
fn answer(output: &Value) -> Option<String> {
    match output {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other["answer"].as_str().map_or_else(|| format!("{other:#}"), str::to_owned)),
    }
}

fn error_lines(document: &Value, url: &str) -> Vec<String> {
    let state = state(document);
    let message = document["error"]["message"].as_str();
    match (document["error"]["code"].as_str(), message) {
        (Some(code), message) => {
            let message = message.map_or_else(|| format!("the run ended as {state}"), str::to_owned);
            vec![format!("error: {message} ({code})"), format!("see {url}/errors/{code}")]
        }
        (None, message) => {
            let message = message.map(|m| format!(": {m}")).unwrap_or_default();
            vec![format!("error: the run ended as {state}{message}")]
        }
    }
}

fn step_row(step: &Value) -> Vec<String> {
    vec![cell(&step["n"]), subject(step), status(step), gates(step), milliseconds(step)]
}

/// How a step ended, with its code where it has one.
pub(crate) fn status(step: &Value) -> String {
    match step["code"].as_str() {
        Some(code) => format!("{} {code}", cell(&step["status"])),
        None => cell(&step["status"]),
    }
}

/// What a step called: the tool, or the model.
pub(crate) fn subject(step: &Value) -> String {
    let name = if step["tool"].is_string() { &step["tool"] } else { &step["model"] };
    format!("{} {}", cell(&step["kind"]), cell(name))
}

/// How a step fared at the gates: how many let it through, and which one did not.
pub(crate) fn gates(step: &Value) -> String {
    let Some(gates) = step["gates"].as_array().filter(|gates| !gates.is_empty()) else {
        return "-".to_owned();
    };
    let passed = gates.iter().filter(|gate| gate["code"].is_null()).count();
    match gates.iter().find(|gate| !gate["code"].is_null()) {
        None => format!("{passed} passed"),
        Some(gate) => {
            format!("{passed} passed, {} refused", cell(&gate["gate"]))
        }
    }
}

/// How long a step took.
pub(crate) fn milliseconds(step: &Value) -> String {
    cell(&step["duration_ms"])
}

/// What a run waits for after a failure that may pass.
fn retry(retry: &Value) -> Option<String> {
    retry.is_object().then(|| {
        let [at, code, message] = ["at", "code", "message"].map(|field| cell(&retry[field]));
        format!("next try at {at}: {message} ({code})")
    })
}

/// What a parked run waits for, and what to do about it.
fn waiting(waiting: &Value) -> Option<String> {
    let [step, until] = ["step", "until"].map(|field| cell(&waiting[field]));
    waiting.is_object().then(|| match waiting["approval_id"].as_str() {
        Some(id) => format!(
            "step {step} waits for people until {until}:\n  awooop approvals get {id}\n  awooop approvals approve {id}"
        ),
        None => format!("step {step} waits for its tool's result until {until}"),
    })
}

fn facts(document: &Value) -> String {
    let run = &document["run"];
    let mut facts = vec![format!("run {}", cell(&run["run_id"])), cell(&run["state"])];
    facts.push(format!("mode {}", cell(&document["mode"])));
    facts.push(format!("attempt {}", cell(&document["attempt"])));
    facts.extend(duration(run));
    facts.join("  ")
}

/// From the first start to the end, in seconds with milliseconds.
fn duration(run: &Value) -> Option<String> {
    let time = |name: &str| run[name].as_str()?.parse::<Timestamp>().ok();
    let span = time("completed_at")? - time("started_at")?;
    let span = span.round(SpanRound::new().largest(Unit::Millisecond).smallest(Unit::Millisecond)).ok()?;
    let ms = span.get_milliseconds();
    Some(format!("{}.{:03} s", ms / 1000, ms % 1000))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(state: &str, output: Value, error: Value) -> Value {
        json!({
            "run": {"run_id": "r", "state": state, "started_at": "2026-01-02T03:04:05.100Z",
                    "completed_at": "2026-01-02T03:05:06.2Z"},
            "mode": "shadow", "attempt": 1, "output": output, "error": error,
        })
    }

    #[test]
    fn a_run_that_is_put_off_says_until_when_and_why() {
        let mut waiting = document("pending", Value::Null, Value::Null);
        assert!(!shown(waiting.clone(), Vec::new()).text.contains("next try"));
        waiting["retry"] = json!({"at": "2026-01-02T03:04:07Z", "code": "E-RUN-013", "message": "the model provider is busy (429)"});
        let text = shown(waiting, Vec::new()).text;
        let last = text.lines().last();
        let said = "next try at 2026-01-02T03:04:07Z: the model provider is busy (429) (E-RUN-013)";
        assert_eq!(last, Some(said), "{text}");
    }

    #[test]
    fn the_answer_comes_first_then_steps_then_facts() {
        let steps = vec![
            json!({"n": 1, "kind": "llm", "model": "offline/planner", "status": "ok", "code": null,
                   "duration_ms": 3, "gates": []}),
            json!({"n": 2, "kind": "tool", "tool": "shop__x", "status": "refused", "code": "E-MCP-GATE-004",
                   "duration_ms": 0, "gates": [
                       {"gate": "identity", "verdict": "pass", "code": null},
                       {"gate": "authorization", "verdict": "refuse", "code": "E-MCP-GATE-004"}]}),
        ];
        let reply = ended(document("completed", json!({"answer": "42"}), Value::Null), steps, "http://h");
        let lines: Vec<Vec<&str>> = reply
            .text
            .lines()
            .map(|l| l.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect())
            .collect();
        let expected: [&[&str]; 7] = [
            &["42"],
            &[],
            &["STEP", "WHAT", "STATUS", "GATES", "MS"],
            &["1", "llm offline/planner", "ok", "-", "3"],
            &["2", "tool shop__x", "refused E-MCP-GATE-004", "1 passed, authorization refused", "0"],
            &[],
            &["run r", "completed", "mode shadow", "attempt 1", "61.100 s"],
        ];
        assert_eq!(lines, expected);
        assert_eq!(reply.exit, Exit::Done);
        assert_eq!(reply.document["steps"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn a_run_that_did_not_complete_is_not_done() {
        let check = |state: &str, error: Value, exit: Exit, first: &str| {
            let reply = ended(document(state, Value::Null, error), vec![], "http://h");
            assert_eq!((reply.exit, reply.notes[0].as_str()), (exit, first));
        };
        let error = |code: &str| json!({"code": code, "message": "m"});
        check("failed", error("E-SCHEMA-001"), Exit::Failed, "error: m (E-SCHEMA-001)");
        check("failed", error("E-BUDGET-001"), Exit::Refused, "error: m (E-BUDGET-001)");
        check("cancelled", Value::Null, Exit::Failed, "error: the run ended as cancelled");
        check("timeout", error("E-RUN-011"), Exit::Failed, "error: m (E-RUN-011)");
    }

    #[test]
    fn an_output_without_an_answer_is_shown_whole() {
        assert_eq!(answer(&json!("text")).as_deref(), Some("text"));
        assert_eq!(answer(&json!({"answer": 5})).as_deref(), Some("{\n  \"answer\": 5\n}"));
        assert_eq!(answer(&Value::Null), None);
    }
}
