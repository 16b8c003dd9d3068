//! What the engine says to a language model and what it hears back, apart from any provider's wire form.
//!
//! These values are journaled with each model step, so their JSON (snake_case) is part of the record and
//! may grow but not change. A model's tool arguments are kept as the raw text it wrote: text that is not
//! JSON has to reach gate 4, so that the model is told what it did wrong instead of the run failing.
//! Invariants: no credential is part of any value here, and `ModelError` never carries a provider's body.
//! Two kinds of model answer: `openai` (any server of that API) and `offline` (rules, no network).

use awooop_core::ErrorCode;
use awooop_core::error::Violation;
use awooop_core::schema::MAX_VIOLATIONS;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) mod offline;
pub(crate) mod openai;

/// One call of a model: everything it is shown, and how much it may answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRequest {
    /// The model's name as its provider spells it.
    pub model: String,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// The tools the model may call, as gates 1-3 list them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolSpec>,
    /// JSON Schema of the final answer; `None` for plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// Ceiling of the answer in tokens; what the budget holds, so the provider enforces it too.
    pub max_output_tokens: u32,
    /// `<run_id>:<n>`: the same step made again after a crash sends the same key.
    pub idempotency_key: String,
}

impl ModelRequest {
    /// The last thing a person said, without the engine's own demands to mend an answer.
    pub fn last_question(&self) -> Option<&str> {
        self.messages.iter().rev().find_map(|message| match message {
            Message::User(text) if !is_schema_feedback(text) => Some(text.as_str()),
            _ => None,
        })
    }
}

/// One message of the conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The agent's instructions.
    System(String),
    /// What a person, or the engine on their behalf, says.
    User(String),
    /// What the model answered earlier.
    Assistant {
        /// Its text, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<String>,
        /// The calls it asked for, in its order.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall>,
    },
    /// What one of those calls returned.
    Tool {
        /// The `id` of the call that is answered.
        call_id: String,
        /// The tool's full name.
        name: String,
        /// The result as text, or the refusal.
        text: String,
        /// The result's structured content, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        structured: Option<Value>,
        /// The call failed or was refused, and `text` says why.
        #[serde(default)]
        is_error: bool,
    },
}

const SCHEMA_FEEDBACK: &str = "The answer does not fit the output schema. ";

/// Most violations a [`schema_feedback`] lists.
const MAX_LISTED: usize = 12;
/// Longest [`schema_feedback`], in characters, but for the line that counts the rest.
const MAX_FEEDBACK: usize = 2_000;

/// The message that asks a model to answer again, naming what is wrong with its last answer.
///
/// At most 12 violations and about 2,000 characters, then how many more there are. The same violations give
/// the same text, so that a resumed run says what the live one said.
pub fn schema_feedback(violations: &[Violation]) -> Message {
    let mut text = String::from(SCHEMA_FEEDBACK);
    text.push_str(
        "Answer again with one JSON document that fits the output schema you were given, and nothing else: \
         no words before or after it, no comments. What was wrong (JSON Pointer into your answer, keyword of \
         the schema, what it expects):",
    );
    let mut room = MAX_FEEDBACK.saturating_sub(text.chars().count());
    let mut listed = 0;
    for violation in violations.iter().take(MAX_LISTED) {
        let path = if violation.path.is_empty() { "the whole answer" } else { violation.path.as_str() };
        let line = format!("\n- {path} ({}): {}", violation.keyword, violation.message);
        let Some(left) = room.checked_sub(line.chars().count()) else { break };
        text.push_str(&line);
        (room, listed) = (left, listed + 1);
    }
    match violations.len() - listed {
        0 => {}
        _ if violations.len() >= MAX_VIOLATIONS => {
            text.push_str(&format!("\n- and at least {} more", violations.len() - listed));
        }
        more => text.push_str(&format!("\n- and {more} more")),
    }
    Message::User(text)
}

/// Is this the text of a [`schema_feedback`] message?
pub fn is_schema_feedback(text: &str) -> bool {
    text.starts_with(SCHEMA_FEEDBACK.trim_end())
}

/// A tool as a model sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// The full, model-facing name (at most 64 characters of `[A-Za-z0-9_-]`).
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its arguments (an object).
    pub input_schema: Value,
}

/// A model's wish to call a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The model's id of the call; its result answers to it.
    pub id: String,
    /// The tool's full name, as the model wrote it.
    pub name: String,
    /// The arguments as the model wrote them: usually JSON, not always. See [`ToolCall::parse_arguments`].
    pub arguments: String,
}

impl ToolCall {
    /// Reads the arguments. Empty text and `null` are an empty object, as several models write no
    /// arguments that way.
    ///
    /// # Errors
    /// [`ArgumentsError`] says in words for the model why the text is not a JSON object.
    pub fn parse_arguments(&self) -> Result<Map<String, Value>, ArgumentsError> {
        if self.arguments.trim().is_empty() {
            return Ok(Map::new());
        }
        match serde_json::from_str(&self.arguments) {
            Ok(Value::Object(map)) => Ok(map),
            Ok(Value::Null) => Ok(Map::new()),
            Ok(_) => Err(ArgumentsError::NotAnObject),
            Err(error) => Err(ArgumentsError::NotJson { line: error.line(), column: error.column() }),
        }
    }
}

/// Why a call's arguments cannot be read; the text is for the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentsError {
    /// The text does not parse.
    #[error("the arguments are not valid JSON (line {line}, column {column})")]
    NotJson {
        /// 1-based line of the first fault.
        line: usize,
        /// 1-based column of the first fault, 0 at the end of the text.
        column: usize,
    },
    /// It parses to something else.
    #[error("the arguments must be one JSON object")]
    NotAnObject,
}

/// What a model answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelReply {
    /// Its text; the final answer when there are no tool calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The calls it asks for, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// What it cost.
    pub usage: Usage,
    /// The model that answered, as the provider names it.
    pub model: String,
}

/// Tokens of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the request.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// Counted here from bytes, because the provider did not say.
    pub is_estimated: bool,
}

/// Why a model gave no answer. The text is for the caller: it has no address, header or body of the
/// provider in it, at most the provider's own short error code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ModelError {
    /// 429: too many requests, come back later.
    #[error("the model provider is busy (429){}", after(*retry_after_ms))]
    RateLimited {
        /// How long the provider asked to wait, in milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// 5xx (and 408): the provider's own fault.
    #[error("the model provider failed with status {status}")]
    Server {
        /// The HTTP status.
        status: u16,
    },
    /// No connection came about (address, refusal, TLS).
    #[error("the model provider cannot be reached")]
    Connect,
    /// The connection ended in the middle of the answer.
    #[error("the model provider's answer was cut off")]
    Interrupted,
    /// No answer within the total time.
    #[error("the model provider did not answer within {after_ms} ms")]
    Timeout {
        /// The total time given, in milliseconds.
        after_ms: u64,
    },
    /// 401, 403: the key is wrong or may not use this model.
    #[error("the model provider refused the credential (status {status})")]
    Unauthorized {
        /// The HTTP status.
        status: u16,
    },
    /// Any other refusal, such as 400, 404, or a spent quota.
    #[error("the model provider refused the request (status {status}{})", code_of(reason.as_deref()))]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The provider's error code when it is a plain short word, such as `model_not_found`.
        reason: Option<String>,
    },
    /// A success whose body is not an answer.
    #[error("the model provider's answer is malformed: {what}")]
    Malformed {
        /// What is wrong, in our own words.
        what: String,
    },
    /// The answer is larger than we read.
    #[error("the model provider's answer is over {limit_bytes} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit_bytes: u64,
    },
}

impl ModelError {
    /// The platform's code: the provider failed, whatever the way.
    pub fn code(&self) -> ErrorCode {
        ErrorCode::Run013
    }

    /// May the same request succeed later without a change?
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::RateLimited { .. }
            | Self::Server { .. }
            | Self::Connect
            | Self::Interrupted
            | Self::Timeout { .. } => true,
            Self::Unauthorized { .. }
            | Self::Rejected { .. }
            | Self::Malformed { .. }
            | Self::TooLarge { .. } => false,
        }
    }
}

fn after(retry_after_ms: Option<u64>) -> String {
    retry_after_ms.map(|ms| format!(", try again after {ms} ms")).unwrap_or_default()
}

fn code_of(reason: Option<&str>) -> String {
    reason.map(|reason| format!(", {reason}")).unwrap_or_default()
}

/// Room for what a client adds of its own: role markers and the sentence that carries a schema.
const OVERHEAD_TOKENS: u64 = 512;

/// An upper bound of the request's tokens, without a tokenizer.
///
/// A token of a byte-level vocabulary is at least one byte, and the request's JSON holds every byte the
/// model is shown and more (field names outweigh the role markers of a chat template), so bytes + 512
/// is never too low. It is 3 to 5 times too high for English, less for Chinese.
pub fn input_upper_bound(request: &ModelRequest) -> u64 {
    byte_len(request).saturating_add(OVERHEAD_TOKENS)
}

/// Bytes of a value's JSON; values that cannot be written (none of ours) count as the most there is.
pub(crate) fn byte_len<T: Serialize>(value: &T) -> u64 {
    serde_json::to_vec(value).map_or(u64::MAX, |bytes| bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(arguments: &str) -> ToolCall {
        ToolCall { id: "c1".into(), name: "t".into(), arguments: arguments.into() }
    }

    #[test]
    fn arguments_that_are_not_json_survive_as_text_and_say_why() {
        assert_eq!(call("").parse_arguments(), Ok(Map::new()));
        assert_eq!(call(" null ").parse_arguments(), Ok(Map::new()));
        assert_eq!(call(r#"{"a":1}"#).parse_arguments().unwrap()["a"], json!(1));
        assert_eq!(call("[1]").parse_arguments(), Err(ArgumentsError::NotAnObject));
        let broken = call("{\"a\": sk-secret");
        let error = broken.parse_arguments().unwrap_err();
        assert!(matches!(error, ArgumentsError::NotJson { line: 1, .. }), "{error}");
        assert!(!error.to_string().contains("secret"));
        let journaled: ToolCall = serde_json::from_value(serde_json::to_value(&broken).unwrap()).unwrap();
        assert_eq!(journaled, broken);
    }

    #[test]
    fn the_journaled_form_is_snake_case_and_reads_back() {
        let request = ModelRequest {
            model: "m".into(),
            messages: vec![
                Message::System("be brief".into()),
                Message::User("hi".into()),
                Message::Assistant { content: None, tool_calls: vec![call("{}")] },
                Message::Tool {
                    call_id: "c1".into(),
                    name: "t".into(),
                    text: "ok".into(),
                    structured: Some(json!({"n": 1})),
                    is_error: false,
                },
            ],
            tools: vec![],
            output_schema: None,
            max_output_tokens: 10,
            idempotency_key: "r:1".into(),
        };
        let value = serde_json::to_value(&request).unwrap();
        assert_eq!(
            value["messages"],
            json!([
                {"system": "be brief"},
                {"user": "hi"},
                {"assistant": {"tool_calls": [{"id": "c1", "name": "t", "arguments": "{}"}]}},
                {"tool": {"call_id": "c1", "name": "t", "text": "ok", "structured": {"n": 1}, "is_error": false}},
            ])
        );
        assert_eq!(serde_json::from_value::<ModelRequest>(value).unwrap(), request);
        let error = ModelError::RateLimited { retry_after_ms: Some(5) };
        assert_eq!(
            serde_json::to_value(&error).unwrap(),
            json!({"kind": "rate_limited", "retry_after_ms": 5})
        );
        assert_eq!(error.code(), ErrorCode::Run013);
    }

    #[test]
    fn the_input_bound_is_at_least_every_byte_shown() {
        let text = "訂單".repeat(1000);
        let request = ModelRequest {
            model: "m".into(),
            messages: vec![Message::User(text.clone())],
            tools: vec![],
            output_schema: None,
            max_output_tokens: 1,
            idempotency_key: String::new(),
        };
        assert!(input_upper_bound(&request) > text.len() as u64);
    }

    #[test]
    fn feedback_is_bounded_and_counts_what_it_leaves_out() {
        let text = |violations: &[Violation]| match schema_feedback(violations) {
            Message::User(text) => text,
            other => panic!("a user message, not {other:?}"),
        };
        let short = Violation::new("", "required", "expected the property \"data\"");
        let one = text(std::slice::from_ref(&short));
        assert!(one.ends_with("\n- the whole answer (required): expected the property \"data\""), "{one}");
        assert_eq!(one, text(std::slice::from_ref(&short)));
        assert!(text(&vec![short.clone(); 13]).ends_with("\n- and 1 more"));
        assert!(text(&vec![short; MAX_VIOLATIONS]).ends_with("\n- and at least 8 more"));
        let long = text(&vec![Violation::new("/p".repeat(100), "pattern", "x".repeat(300)); 10]);
        assert!(long.chars().count() < MAX_FEEDBACK + 30 && long.ends_with("\n- and 7 more"), "{long}");
        assert!(is_schema_feedback(&long));
    }

    #[test]
    fn the_engines_demand_to_mend_an_answer_is_not_the_persons_question() {
        let feedback = schema_feedback(&[Violation::new("/data", "type", "expected object")]);
        let Message::User(text) = &feedback else { panic!("a user message") };
        assert!(is_schema_feedback(text) && text.contains("\n- /data (type): expected object"));
        let request = ModelRequest {
            model: "m".into(),
            messages: vec![Message::User("how many?".into()), feedback.clone()],
            tools: vec![],
            output_schema: None,
            max_output_tokens: 1,
            idempotency_key: String::new(),
        };
        assert_eq!(request.last_question(), Some("how many?"));
    }
}
