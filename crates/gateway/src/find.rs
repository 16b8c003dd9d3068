//! `awooop__find_tools`: how an agent with more tools than one list may hold finds the others. It searches what gates 1 to 3
//! let the agent call, answers with definitions as a list would show them, and asks no server but for its list.
//!
//! What is found is called by its name like any other tool: finding gives no right, and not finding takes none.

use awooop_core::gate::{self, Refusal};
use awooop_core::tool_search::{Entry, rank};
use awooop_core::{ErrorCode, ProviderId};
use awooop_store::StoreError;
use serde_json::{Map, Value, json};

use crate::gateway::Gateway;
use crate::names::model_facing;
use crate::pipeline::{self, Request, Stopped};
use crate::tools::{ListedTool, listed};
use crate::upstream::{ToolDefinition, ToolResult};

/// The tool's full name. Its provider is the platform: no contract may have it.
pub const FIND_TOOLS: &str = "awooop__find_tools";

/// Tools answered where the caller does not say how many.
const FOUND: usize = 5;
/// Most tools answered.
const MOST_FOUND: usize = 20;
/// Most characters of an answer: below what any result may have, so that it is never cut.
const MOST_CHARS: usize = 12_000;

/// Is a call meant for it? Of one server's tools under their own names it is asked as `<provider>__awooop__find_tools`.
pub(crate) fn is_asked(name: &str) -> bool {
    name == FIND_TOOLS || provider(name).is_some()
}

fn provider(name: &str) -> Option<ProviderId> {
    ProviderId::parse(name.strip_suffix(FIND_TOOLS)?.strip_suffix("__")?).ok()
}

/// The tool as a list shows it.
pub(crate) fn listed_tool() -> ListedTool {
    let definition = ToolDefinition::from_raw(raw()).expect("it has a name and an input schema");
    ListedTool { name: FIND_TOOLS.to_owned(), definition }
}

fn raw() -> Value {
    json!({
        "name": FIND_TOOLS,
        "title": "Find tools",
        "description": "Finds tools by what they do. Not every tool is in your list; those found here can be called by \
            the name given, with arguments that fit their inputSchema.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "minLength": 1, "maxLength": 400,
                    "description": "What the tool should do, in a few words"},
                "limit": {"type": "integer", "minimum": 1, "maximum": MOST_FOUND, "default": FOUND}
            },
            "required": ["query"],
            "additionalProperties": false
        },
        "annotations": {"readOnlyHint": true}
    })
}

impl Gateway {
    /// Answers a call of it, after the gates that it has: who calls, whether that is stopped, and its arguments.
    pub(crate) async fn find_tools(&self, request: &Request<'_>) -> Result<ToolResult, Stopped> {
        let facts = self.inner.store.call_facts(request.scope, request.agent, request.step, None).await;
        let facts = facts.map_err(Stopped::Store)?;
        pipeline::Identified::prove(facts.identity)?;
        if let Some(halt) = facts.halt {
            return Err(Stopped::Halted(Box::new(halt)));
        }
        let refuse = |why| Stopped::Refused(Refusal::new(4, ErrorCode::Gate006, why));
        let arguments = request.arguments.clone().map_err(refuse)?;
        gate::arguments(&arguments, &raw()["inputSchema"], None).map_err(Stopped::Refused)?;
        self.search(request, &arguments).await.map_err(Stopped::Store)
    }

    async fn search(
        &self,
        request: &Request<'_>,
        arguments: &Map<String, Value>,
    ) -> Result<ToolResult, StoreError> {
        let of = provider(request.name);
        let (tools, redactors) = self.callable(request.scope, request.agent, of.as_ref()).await?;
        let query = arguments["query"].as_str().unwrap_or_default();
        let limit = arguments.get("limit").and_then(Value::as_u64).map_or(FOUND, |n| n as usize);
        let names: Vec<String> = tools.iter().map(|(name, _)| name.to_string()).collect();
        let entries: Vec<Entry<'_>> = names.iter().zip(&tools).map(|(name, (_, d))| entry(name, d)).collect();
        let found = rank(&entries, query, limit);
        let mut answer = Answer::new(tools.len());
        for i in found {
            let (name, definition) = &tools[i];
            let shown = listed(name, definition.clone(), redactors.to_model.redactor());
            let called = match (&of, request.step) {
                (Some(_), _) => name.tool().to_owned(),
                (None, Some(_)) => model_facing(&shown.name),
                (None, None) => shown.name.clone(),
            };
            answer.add(called, &shown.definition);
        }
        Ok(answer.into_result())
    }
}

fn entry<'a>(name: &'a str, definition: &'a ToolDefinition) -> Entry<'a> {
    Entry {
        name,
        title: definition.title.as_deref().unwrap_or_default(),
        description: definition.description.as_deref().unwrap_or_default(),
    }
}

/// An answer that keeps to [`MOST_CHARS`]: a tool whose schema has no room is named without it.
struct Answer {
    tools: Vec<Value>,
    of: usize,
    left: usize,
}

impl Answer {
    fn new(of: usize) -> Self {
        Self { tools: Vec::new(), of, left: MOST_CHARS }
    }

    fn add(&mut self, name: String, definition: &ToolDefinition) {
        let mut tool = json!({"name": name});
        for (member, value) in [("title", &definition.title), ("description", &definition.description)] {
            if let Some(text) = value {
                tool[member] = Value::from(text.chars().take(1_000).collect::<String>());
            }
        }
        let mut whole = tool.clone();
        whole["inputSchema"] = definition.input_schema.clone();
        for shown in [whole, tool] {
            let chars = shown.to_string().chars().count();
            if chars <= self.left {
                self.left -= chars;
                self.tools.push(shown);
                return;
            }
        }
    }

    fn into_result(self) -> ToolResult {
        let text = json!({"tools": self.tools, "searched": self.of}).to_string();
        let content = vec![json!({"type": "text", "text": text})];
        ToolResult { content, structured_content: None, is_error: false, meta: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_it_is_known_in_both_views_and_no_other_is() {
        assert!(is_asked("awooop__find_tools") && is_asked("shop__awooop__find_tools"));
        for other in
            ["find_tools", "shop__find_tools", "xawooop__find_tools", "__awooop__find_tools", "awooop__find"]
        {
            assert!(!is_asked(other), "{other}");
        }
        assert_eq!(provider("shop__awooop__find_tools").map(|p| p.to_string()).as_deref(), Some("shop"));
    }

    #[test]
    fn an_answer_never_has_more_characters_than_a_result_may() {
        let mut answer = Answer::new(1_000);
        for n in 0..MOST_FOUND {
            let schema = json!({"type": "object", "description": "x".repeat(n * 500)});
            let raw =
                json!({"name": format!("t{n}"), "description": "y".repeat(3_000), "inputSchema": schema});
            answer.add(format!("t{n}"), &ToolDefinition::from_raw(raw).unwrap());
        }
        let result = answer.into_result();
        let said: Value = serde_json::from_str(&result.text()).unwrap();
        assert!(result.text().chars().count() <= MOST_CHARS + 100);
        let tools = said["tools"].as_array().unwrap();
        assert!(tools.len() > 5 && tools[0]["inputSchema"].is_object(), "{}", tools.len());
    }
}
