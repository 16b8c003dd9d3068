//! The built-in planner: rules that pick a granted tool and fill its arguments, with no network and no key.
//!
//! It is not a language model and says so whenever it cannot help. It makes a first run, the demo and the
//! tests work on a bare machine. One question becomes one tool call (several for several periods or for
//! parts joined by "and"), and the tool's own text is the answer.
//! Invariants: pure and deterministic (the same request gives the same reply, ids and usage included); no
//! knowledge of any domain, only of grammar, numbers and dates in English and Chinese; no clock, so it asks
//! what "last month" means; nothing is invented, so it asks for a required argument it was not told.

mod answer;
mod arguments;
mod choices;
mod counts;
mod dates;
mod ids;
mod numbers;
mod pick;
mod point;
mod schema;
mod texts;
mod words;

use std::time::Duration;

use serde_json::Value;

use super::{Message, ModelReply, ModelRequest, ToolCall, Usage, byte_len};
use arguments::{Filled, fill};
use dates::Unclear;
use pick::{Known, Picked, Tools};

/// The planner as a model: waits, then plans.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OfflineModel {
    /// How long an answer takes, in milliseconds: lets a demo or test act in the middle of a run.
    pub delay_ms: u64,
}

impl OfflineModel {
    /// Answers after `delay_ms`. It cannot fail.
    pub(crate) async fn complete(&self, request: &ModelRequest) -> ModelReply {
        if self.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.delay_ms)).await;
        }
        plan(request)
    }
}

/// Most calls in one reply: a question that names more periods is answered for the first ones.
const MAX_CALLS: usize = 4;

/// As much of a question as is read: the matching is quadratic in places.
const MAX_QUESTION_CHARS: usize = 2_000;

/// Answers a request: tool calls for a fresh question, a final answer after their results.
///
/// Usage is bytes / 4, rounded up, and marked as estimated; output never counts more than the ceiling.
pub(crate) fn plan(request: &ModelRequest) -> ModelReply {
    let mut question = request.last_question().map(answer::plain_question).unwrap_or_default();
    if let Some((end, _)) = question.char_indices().nth(MAX_QUESTION_CHARS) {
        question.truncate(end);
    }
    let speaks_chinese = question.chars().any(words::is_han);
    let results = answer::results(request);
    if !results.is_empty() {
        return reply(request, Some(answer::from_results(request, &results, speaks_chinese)), Vec::new());
    }
    match decide(request, &question) {
        Decision::Call(calls) => reply(request, None, calls),
        Decision::Ask(asked) => {
            let text = answer::asking(&asked, speaks_chinese);
            reply(request, Some(answer::content(request, &text, None)), Vec::new())
        }
        Decision::Decline => {
            let text = answer::declining(&request.tools, speaks_chinese);
            reply(request, Some(answer::content(request, &text, None)), Vec::new())
        }
    }
}

/// What a question leads to.
enum Decision {
    Call(Vec<ToolCall>),
    Ask(Asked),
    Decline,
}

/// What the person has to say before a tool can be called.
enum Asked {
    /// Required arguments: name, description, and the values it may have.
    Arguments { tool: String, arguments: Vec<(String, String, Vec<Value>)> },
    /// A period that cannot be known.
    Period(Unclear),
}

fn decide(request: &ModelRequest, question: &str) -> Decision {
    let tools = Tools::new(&request.tools);
    let first_id = answer::calls_so_far(request) + 1;
    if let Some(parts) = parts(&tools, question) {
        let calls = parts.into_iter().enumerate();
        return Decision::Call(
            calls.map(|(i, (tool, filled))| tool_call(first_id + i, tool, filled)).collect(),
        );
    }
    let Some(picked) = tools.pick(question) else { return Decision::Decline };
    if let Some(asked) = asks(&picked) {
        return Decision::Ask(asked);
    }
    let Picked { tool, filled, .. } = picked;
    let periods = filled.periods.clamp(1, MAX_CALLS);
    let mut all = vec![filled];
    all.extend((1..periods).map(|period| fill(tool, question, period)));
    all.dedup_by(|a, b| a.arguments == b.arguments);
    Decision::Call(
        all.into_iter().enumerate().map(|(i, filled)| tool_call(first_id + i, tool, filled)).collect(),
    )
}

fn asks(picked: &Picked<'_>) -> Option<Asked> {
    if !picked.filled.missing.is_empty() {
        let arguments = picked.filled.missing.iter().map(|place| {
            let property = &picked.tool.properties[*place];
            let values = match &property.role {
                schema::Role::Choice(values) => values.clone(),
                _ => Vec::new(),
            };
            (property.name.clone(), property.description.clone(), values)
        });
        return Some(Asked::Arguments {
            tool: picked.tool.spec.name.clone(),
            arguments: arguments.collect(),
        });
    }
    picked.filled.unclear.map(Asked::Period)
}

/// The question as parts for different tools, when each part alone is enough for its tool. A part
/// without a period takes over the one named before it.
fn parts<'t>(tools: &'t Tools<'t>, question: &str) -> Option<Vec<(&'t Known<'t>, Filled)>> {
    let clauses = words::clauses(question);
    if !(2..=MAX_CALLS).contains(&clauses.len()) {
        return None;
    }
    let mut found: Vec<(&Known<'_>, Filled)> = Vec::new();
    let mut period = None;
    for clause in clauses {
        let picked = tools.pick(clause)?;
        let is_ready = picked.is_named && asks(&picked).is_none();
        if !is_ready || found.iter().any(|(tool, _)| tool.spec.name == picked.tool.spec.name) {
            return None;
        }
        let own = dates::read(&mut words::tokens(clause)).periods.into_iter().next();
        let filled = match (&own, &period) {
            (None, Some(earlier)) => fill(picked.tool, &format!("{clause} {earlier}"), 0),
            _ => picked.filled,
        };
        period = own.as_ref().and_then(dates::Period::in_words).or(period);
        found.push((picked.tool, filled));
    }
    Some(found)
}

fn tool_call(number: usize, tool: &Known<'_>, filled: Filled) -> ToolCall {
    ToolCall {
        id: format!("call_{number}"),
        name: tool.spec.name.clone(),
        arguments: Value::Object(filled.arguments).to_string(),
    }
}

fn reply(request: &ModelRequest, content: Option<String>, tool_calls: Vec<ToolCall>) -> ModelReply {
    let output_bytes = content.as_ref().map_or(0, |text| text.len() as u64)
        + if tool_calls.is_empty() { 0 } else { byte_len(&tool_calls) };
    let usage = Usage {
        input_tokens: byte_len(request).div_ceil(4),
        output_tokens: output_bytes.div_ceil(4).min(request.max_output_tokens.into()),
        is_estimated: true,
    };
    ModelReply { content, tool_calls, usage, model: request.model.clone() }
}

/// A tool's result within the conversation.
struct ToolResult<'a> {
    name: &'a str,
    text: &'a str,
    structured: Option<&'a Value>,
    is_error: bool,
}

impl<'a> ToolResult<'a> {
    fn of(message: &'a Message) -> Option<Self> {
        match message {
            Message::Tool { name, text, structured, is_error, .. } => {
                Some(Self { name, text, structured: structured.as_ref(), is_error: *is_error })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
