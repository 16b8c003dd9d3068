//! The chat/completions bodies: how a request is written and an answer read.
//!
//! Requests are built as JSON values field by field, so that a server sees only fields it must know.
//! Answers are read leniently where servers differ (ids missing, arguments as an object, usage missing)
//! and refused where nothing sensible can be read. A usage the provider does not state is counted from
//! bytes, which is an upper bound, and marked as estimated.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{
    Message, ModelError, ModelReply, ModelRequest, ToolCall, Usage, byte_len, input_upper_bound,
};

/// The two places where servers differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// The ceiling is called `max_completion_tokens`.
    pub(super) max_completion_tokens: bool,
    /// The output schema is told in the system message instead of `response_format`.
    pub(super) schema_in_text: bool,
}

/// The request's body.
pub(super) fn body(request: &ModelRequest, shape: Shape) -> Value {
    let mut messages: Vec<Value> = request.messages.iter().map(message).collect();
    let ceiling = if shape.max_completion_tokens { "max_completion_tokens" } else { "max_tokens" };
    let mut body = json!({ "model": request.model });
    body[ceiling] = json!(request.max_output_tokens);
    if !request.tools.is_empty() {
        body["tools"] = request.tools.iter().map(tool).collect();
    }
    if let Some(schema) = &request.output_schema {
        if shape.schema_in_text {
            tell_schema(&mut messages, schema);
        } else {
            body["response_format"] =
                json!({ "type": "json_schema", "json_schema": { "name": "output", "schema": schema } });
        }
    }
    body["messages"] = Value::Array(messages);
    body
}

fn message(message: &Message) -> Value {
    match message {
        Message::System(text) => json!({ "role": "system", "content": text }),
        Message::User(text) => json!({ "role": "user", "content": text }),
        Message::Assistant { content, tool_calls } if tool_calls.is_empty() => {
            json!({ "role": "assistant", "content": content.as_deref().unwrap_or_default() })
        }
        Message::Assistant { content, tool_calls } => json!({
            "role": "assistant",
            "content": content,
            "tool_calls": tool_calls.iter().map(|call| json!({
                "id": call.id,
                "type": "function",
                "function": { "name": call.name, "arguments": call.arguments },
            })).collect::<Vec<_>>(),
        }),
        Message::Tool { call_id, text, structured, .. } => {
            json!({ "role": "tool", "tool_call_id": call_id, "content": tool_text(text, structured.as_ref()) })
        }
    }
}

/// A result's text, with its structured content below unless the text is that content already.
fn tool_text(text: &str, structured: Option<&Value>) -> String {
    match structured {
        Some(value) if serde_json::from_str::<Value>(text).ok().as_ref() != Some(value) => {
            format!("{text}\n{value}")
        }
        _ => text.to_owned(),
    }
}

fn tool(tool: &super::super::ToolSpec) -> Value {
    json!({
        "type": "function",
        "function": { "name": tool.name, "description": tool.description, "parameters": tool.input_schema },
    })
}

fn tell_schema(messages: &mut Vec<Value>, schema: &Value) {
    let told = format!(
        "Give your final answer as JSON only, without a code fence, valid against this JSON Schema:\n{schema}"
    );
    match messages.first_mut() {
        Some(first) if first["role"] == "system" => {
            let text = first["content"].as_str().unwrap_or_default();
            first["content"] = Value::String(format!("{text}\n\n{told}"));
        }
        _ => messages.insert(0, json!({ "role": "system", "content": told })),
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    model: Option<String>,
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Value,
}

#[derive(Deserialize)]
struct Choice {
    message: Value,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<SaidCall>>,
}

#[derive(Deserialize)]
struct SaidCall {
    #[serde(default)]
    id: Option<String>,
    function: SaidFunction,
}

#[derive(Deserialize)]
struct SaidFunction {
    name: String,
    #[serde(default)]
    arguments: Value,
}

/// Reads a success's body.
pub(super) fn reply(bytes: &[u8], request: &ModelRequest) -> Result<ModelReply, ModelError> {
    let malformed = |what: &str| ModelError::Malformed { what: what.to_owned() };
    let answer: Answer =
        serde_json::from_slice(bytes).map_err(|_| malformed("the body is not a chat completion"))?;
    let choice = answer.choices.into_iter().next().ok_or_else(|| malformed("it has no choices"))?;
    let message_bytes = byte_len(&choice.message);
    let said: Said = serde_json::from_value(choice.message)
        .map_err(|_| malformed("its message is not in the documented form"))?;
    let tool_calls: Vec<ToolCall> =
        said.tool_calls.unwrap_or_default().into_iter().enumerate().map(tool_call).collect();
    Ok(ModelReply {
        content: said.content.or(said.refusal).filter(|text| !text.is_empty()),
        tool_calls,
        usage: usage(&answer.usage, request, message_bytes),
        model: answer.model.unwrap_or_else(|| request.model.clone()),
    })
}

fn tool_call((index, said): (usize, SaidCall)) -> ToolCall {
    ToolCall {
        id: said.id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{}", index + 1)),
        name: said.function.name,
        arguments: match said.function.arguments {
            Value::String(text) => text,
            Value::Null => String::new(),
            value => value.to_string(),
        },
    }
}

fn usage(stated: &Value, request: &ModelRequest, message_bytes: u64) -> Usage {
    match (stated["prompt_tokens"].as_u64(), stated["completion_tokens"].as_u64()) {
        (Some(input_tokens), Some(output_tokens)) => {
            Usage { input_tokens, output_tokens, is_estimated: false }
        }
        _ => Usage {
            input_tokens: input_upper_bound(request),
            output_tokens: message_bytes,
            is_estimated: true,
        },
    }
}

/// The provider's own error code, when it is a plain word of up to 48 small letters and underscores: a
/// credential or a sentence never is.
pub(super) fn plain_reason(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let error = &body["error"];
    ["code", "type"]
        .iter()
        .filter_map(|field| error[*field].as_str())
        .find(|word| {
            (1..=48).contains(&word.len()) && word.bytes().all(|b| b == b'_' || b.is_ascii_lowercase())
        })
        .map(str::to_owned)
}
