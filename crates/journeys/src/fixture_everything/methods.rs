//! What each method answers, whatever the revision: lists, calls, resources, prompts, completion.

use serde_json::{Map, Value, json};

use super::asks::{Asked, told};
use super::{Fault, Step, Turn, catalog};

/// Words that completion offers.
const WORDS: [&str; 3] = ["paris", "park", "party"];

/// Answers a request of any method that both revisions have.
pub(super) async fn serve(turn: &Turn, method: &str, params: &Value) -> Result<Step, Fault> {
    match method {
        "tools/list" => Ok(list("tools")),
        "resources/list" => Ok(list("resources")),
        "resources/templates/list" => Ok(list("resourceTemplates")),
        "prompts/list" => Ok(list("prompts")),
        "tools/call" => call(turn, params).await,
        "resources/read" => read(turn, params["uri"].as_str().unwrap_or_default()),
        "prompts/get" => prompt(turn, params),
        "completion/complete" => Ok(complete(params["argument"]["value"].as_str().unwrap_or_default())),
        other => Err(Fault::no_method(other)),
    }
}

fn list(kind: &str) -> Step {
    Step::Done(json!({kind: catalog::listed(kind)}))
}

fn complete(beginning: &str) -> Step {
    let values: Vec<&str> = WORDS.into_iter().filter(|word| word.starts_with(beginning)).collect();
    Step::Done(json!({"completion": {"total": values.len(), "values": values, "hasMore": false}}))
}

fn read(turn: &Turn, uri: &str) -> Result<Step, Fault> {
    let mut content = match catalog::find("resources", "uri", uri) {
        Some(resource) => {
            let mut content = resource["fixture"].clone();
            content["mimeType"] = resource["mimeType"].clone();
            content
        }
        None => match uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data")) {
            Some(id) => {
                let text = json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
                json!({"mimeType": "application/json", "text": text.to_string()})
            }
            None => return Err(Fault::no_resource(uri, turn.is_stateless)),
        },
    };
    content["uri"] = uri.into();
    Ok(Step::Done(json!({"contents": [content]})))
}

fn prompt(turn: &Turn, params: &Value) -> Result<Step, Fault> {
    let name = params["name"].as_str().unwrap_or_default();
    let entry = catalog::find("prompts", "name", name);
    let entry = entry.ok_or_else(|| Fault::invalid(&format!("there is no prompt {name}")))?;
    let none = Map::new();
    let arguments = params["arguments"].as_object().unwrap_or(&none);
    if entry["fixture"]["asks"].is_null() {
        let messages = catalog::filled(&entry["fixture"]["messages"], arguments);
        return Ok(Step::Done(json!({"description": entry["description"], "messages": messages})));
    }
    match turn.asking(name, &entry["fixture"], params).look()? {
        Asked::More(step) => Ok(step),
        Asked::Answers(answers) => {
            let text = format!("Prompt with context: {}", told(&answers));
            Ok(Step::Done(json!({"messages": [{"role": "user", "content": {"type": "text", "text": text}}]})))
        }
    }
}

async fn call(turn: &Turn, params: &Value) -> Result<Step, Fault> {
    let name = params["name"].as_str().unwrap_or_default();
    let entry = catalog::find("tools", "name", name);
    let entry = entry.ok_or_else(|| Fault::invalid(&format!("there is no tool {name}")))?;
    let spec = &entry["fixture"];
    turn.wait().await;
    if !spec["asks"].is_null() {
        return match turn.asking(name, spec, params).look()? {
            Asked::More(step) => Ok(step),
            Asked::Answers(answers) => Ok(said(&format!("state-ok\n{}", told(&answers)))),
        };
    }
    if let Some(kind) = spec["announces"].as_str() {
        turn.shared.announce(kind);
        return Ok(said("announced"));
    }
    let arguments = &params["arguments"];
    match name {
        "test_tool_with_logging" => {
            for line in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
                turn.log(line);
            }
        }
        "test_logging_tool" => turn.log("The caller wants to read this"),
        "test_tool_with_progress" => [0, 50, 100].into_iter().for_each(|done| turn.progress(done, 100)),
        "test_streaming_elicitation" => turn.progress(50, 100),
        "test_reconnection" => turn.hang_up(),
        "held" => {
            turn.progress(1, 2);
            turn.shared.let_go().await;
        }
        "test_missing_capability" if turn.capabilities.get("sampling").is_none() => {
            return Err(Fault::needs("sampling"));
        }
        "echo" => return Ok(echo(arguments)),
        _ => {}
    }
    match &spec["result"] {
        Value::Null => Ok(said(&format!("{name}: {arguments}"))),
        result => Ok(Step::Done(result.clone())),
    }
}

/// Members that no revision knows stand in the result and in its content: a proxy that keeps what it does
/// not know keeps them.
fn echo(arguments: &Value) -> Step {
    let text = arguments["text"].as_str().unwrap_or_default();
    Step::Done(json!({
        "content": [{"type": "text", "text": format!("echo: {text}"), "futureMember": {"kept": true}}],
        "structuredContent": {"text": text}, "futureResult": [1, 2], "_meta": {"example.com/from": "fixture"},
    }))
}

fn said(text: &str) -> Step {
    Step::Done(json!({"content": [{"type": "text", "text": text}]}))
}
