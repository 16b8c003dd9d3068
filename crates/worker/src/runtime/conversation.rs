//! The conversation, rebuilt from the journal. Live and resumed runs go through the same `apply`, so they
//! cannot come to differ: what a model sees after a crash is what it would have seen without one.

use std::collections::VecDeque;

use awooop_core::ErrorCode;
use awooop_core::contract::AgentSpec;
use awooop_core::error::Violation;
use awooop_core::gate::describe;
use awooop_gateway::find::FIND_TOOLS;
use awooop_gateway::model::{Message, ToolCall, schema_feedback};
use awooop_store::journal::Outcome;
use serde_json::{Value, json};

use super::output;

/// How many violations a failed run's error names.
const SHOWN_VIOLATIONS: usize = 3;

/// A recorded step as the conversation needs it.
pub(crate) struct Recorded<'a> {
    pub(crate) n: i32,
    pub(crate) kind: &'a str,
    pub(crate) status: &'a str,
    pub(crate) code: Option<&'a str>,
    pub(crate) body: &'a Value,
}

/// What is to be done next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Ask the model.
    Ask,
    /// Call this tool.
    Call(ToolCall),
    /// End the run.
    End(Outcome),
}

/// A run's memory.
pub(crate) struct Conversation<'a> {
    agent: &'a AgentSpec,
    messages: Vec<Message>,
    pending: VecDeque<ToolCall>,
    answers: u32,
    last_n: i32,
    end: Option<Outcome>,
}

impl<'a> Conversation<'a> {
    /// The beginning: the agent's instructions and the run's input.
    pub(crate) fn new(agent: &'a AgentSpec, input: &Value) -> Self {
        let question = match input {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let messages = vec![Message::System(agent.instructions.clone()), Message::User(question)];
        Self { agent, messages, pending: VecDeque::new(), answers: 0, last_n: 0, end: None }
    }

    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Names of the tools that the model found in this run, as it was told them, each once.
    pub(crate) fn found_tools(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for message in &self.messages {
            let Message::Tool { name, text, is_error: false, .. } = message else { continue };
            if name != FIND_TOOLS {
                continue;
            }
            let said: Value = serde_json::from_str(text).unwrap_or_default();
            let found =
                said["tools"].as_array().into_iter().flatten().filter_map(|tool| tool["name"].as_str());
            for name in found {
                if !names.iter().any(|known| known == name) {
                    names.push(name.to_owned());
                }
            }
        }
        names
    }

    /// The ordinal of the next step.
    pub(crate) fn next_n(&self) -> i32 {
        self.last_n + 1
    }

    /// Takes a recorded step in.
    pub(crate) fn apply(&mut self, step: &Recorded<'_>) {
        self.last_n = self.last_n.max(step.n);
        match step.kind {
            "llm" if step.status == "ok" => self.apply_reply(&step.body["output"]),
            "llm" => {
                let code = step.code.and_then(ErrorCode::parse).unwrap_or(ErrorCode::Run013);
                let message = step.body["output"]["error"].as_str().unwrap_or("the model provider failed");
                self.end = Some(Outcome::Failed(code, message.to_owned()));
            }
            _ => self.apply_result(&step.body["output"]),
        }
    }

    fn apply_reply(&mut self, output: &Value) {
        let content = output["content"].as_str().map(str::to_owned);
        let calls: Vec<ToolCall> = serde_json::from_value(output["tool_calls"].clone()).unwrap_or_default();
        self.messages.push(Message::Assistant { content: content.clone(), tool_calls: calls.clone() });
        if calls.is_empty() {
            self.apply_answer(content.as_deref().unwrap_or_default());
        } else {
            self.pending = calls.into();
        }
    }

    fn apply_answer(&mut self, content: &str) {
        self.answers += 1;
        match output::check(&self.agent.output_schema, content) {
            Ok(value) => self.end = Some(Outcome::Completed(value)),
            Err(found) if self.answers >= output::MAX_ANSWERS => self.end = Some(unfit(&found)),
            Err(found) => self.messages.push(schema_feedback(&found)),
        }
    }

    fn apply_result(&mut self, output: &Value) {
        let Some(call) = self.pending.pop_front() else { return };
        self.messages.push(Message::Tool {
            call_id: call.id,
            name: call.name,
            text: output["text"].as_str().unwrap_or_default().to_owned(),
            structured: Some(output["structured"].clone()).filter(|v| !v.is_null()),
            is_error: output["is_error"] == json!(true),
        });
    }

    /// What is to be done next; the step limit counts model calls and tool calls together.
    pub(crate) fn next(&self) -> Next {
        if let Some(end) = &self.end {
            return Next::End(end.clone());
        }
        if self.last_n >= i32::try_from(self.agent.max_steps).unwrap_or(i32::MAX) {
            let message = format!("the run made {} steps without an answer", self.last_n);
            return Next::End(Outcome::Failed(ErrorCode::Run012, message));
        }
        match self.pending.front() {
            Some(call) => Next::Call(call.clone()),
            None => Next::Ask,
        }
    }
}

/// The run's error names the first violations; every answer and what was wrong with it stand in its steps.
fn unfit(found: &[Violation]) -> Outcome {
    let (first, rest) = found.split_at(found.len().min(SHOWN_VIOLATIONS));
    let more = if rest.is_empty() { String::new() } else { format!("; and {} more", rest.len()) };
    let message =
        format!("{} answers did not fit the output schema: {}{more}", output::MAX_ANSWERS, describe(first));
    Outcome::Failed(ErrorCode::Schema001, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> AgentSpec {
        serde_json::from_value(json!({
            "instructions": "Answer.", "model": "offline/planner", "max_steps": 4,
            "output_schema": {"type": "object", "required": ["answer"]}
        }))
        .unwrap()
    }

    fn reply(content: Option<&str>, calls: Value) -> Value {
        json!({"output": {"content": content, "tool_calls": calls}})
    }

    fn step<'a>(n: i32, kind: &'a str, body: &'a Value) -> Recorded<'a> {
        Recorded { n, kind, status: "ok", code: None, body }
    }

    #[test]
    fn tool_calls_are_answered_in_order_before_the_model_is_asked_again() {
        let agent = agent();
        let mut talk = Conversation::new(&agent, &json!("how many?"));
        assert!(matches!(talk.next(), Next::Ask));
        let calls = json!([{"id": "a", "name": "x__a", "arguments": "{}"}, {"id": "b", "name": "x__b", "arguments": "{}"}]);
        talk.apply(&step(1, "llm", &reply(None, calls)));
        let result = json!({"output": {"text": "1", "structured": {"n": 1}, "is_error": false}});
        for (n, id) in [(2, "a"), (3, "b")] {
            assert!(matches!(talk.next(), Next::Call(call) if call.id == id));
            talk.apply(&step(n, "tool", &result));
        }
        assert!(matches!(talk.next(), Next::Ask));
        assert_eq!(talk.next_n(), 4);
        assert_eq!(talk.messages().len(), 5);
    }

    #[test]
    fn tools_that_were_found_are_known_from_the_journal_alone() {
        let agent = agent();
        let mut talk = Conversation::new(&agent, &json!("q"));
        let calls = json!([{"id": "a", "name": "awooop__find_tools", "arguments": "{}"},
            {"id": "b", "name": "x__b", "arguments": "{}"}]);
        talk.apply(&step(1, "llm", &reply(None, calls)));
        let found = json!({"tools": [{"name": "x__a"}, {"name": "x__b"}, {"name": "x__a"}]}).to_string();
        let result = json!({"output": {"text": found, "structured": null, "is_error": false}});
        // what another tool says is no list of tools
        for n in 2..=3 {
            talk.apply(&step(n, "tool", &result));
        }
        assert_eq!(talk.found_tools(), ["x__a", "x__b"]);
    }

    #[test]
    fn the_third_answer_that_does_not_fit_ends_the_run() {
        let agent = agent();
        let mut talk = Conversation::new(&agent, &json!({"q": 1}));
        let wrong = reply(Some("{}"), json!([]));
        for n in 1..=2 {
            talk.apply(&step(n, "llm", &wrong));
            assert!(matches!(talk.next(), Next::Ask));
        }
        talk.apply(&step(3, "llm", &wrong));
        assert!(matches!(talk.next(), Next::End(Outcome::Failed(ErrorCode::Schema001, _))));
    }

    #[test]
    fn the_step_limit_ends_a_run_that_never_answers() {
        let agent = agent();
        let mut talk = Conversation::new(&agent, &json!("q"));
        let call = reply(None, json!([{"id": "a", "name": "x__a", "arguments": "{}"}]));
        let result = json!({"output": {"text": "", "is_error": true}});
        for n in 1..=4 {
            let (kind, body) = if n % 2 == 1 { ("llm", &call) } else { ("tool", &result) };
            talk.apply(&step(n, kind, body));
        }
        assert!(matches!(talk.next(), Next::End(Outcome::Failed(ErrorCode::Run012, _))));
    }
}
