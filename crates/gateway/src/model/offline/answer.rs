//! The planner's own words: answers from results, questions back, and what it says when it cannot help.
//!
//! An answer is the tool's text, unchanged. For an output schema with `answer` and `data` it is put into
//! that form; another schema is filled with what fits by name and type, and with nothing else: an answer
//! that misses a required property is refused by the engine, which is better than one that is made up.

use serde_json::{Map, Value, json};

use super::super::{Message, ModelRequest, ToolSpec, is_schema_feedback};
use super::dates::Unclear;
use super::{Asked, ToolResult};

const SELF_EN: &str = "I am a rule-based offline planner, not a language model: I match the words of a question with the \
tools I may use, and found none for this one.";
const SELF_ZH: &str = "我是以規則運作的離線規劃器，不是語言模型：我只會用問題中的字詞比對可用的工具，這個問題沒有找到合適的工具。";
const DESCRIBED_CHARS: usize = 300;

/// The question as text: a JSON object of strings, as a run's input may be, gives its strings.
pub(super) fn plain_question(text: &str) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(text) else { return text.to_owned() };
    let main = ["question", "prompt", "message", "query", "ask", "text", "input"]
        .iter()
        .find_map(|name| fields.get(*name).and_then(Value::as_str));
    match main {
        Some(main) => main.to_owned(),
        None => fields.values().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
    }
}

fn since_question(request: &ModelRequest) -> &[Message] {
    let is_question = |message: &Message| matches!(message, Message::User(text) if !is_schema_feedback(text));
    let start = request.messages.iter().rposition(is_question).map_or(0, |at| at + 1);
    &request.messages[start..]
}

/// The tool results since the last question.
pub(super) fn results(request: &ModelRequest) -> Vec<ToolResult<'_>> {
    since_question(request).iter().filter_map(ToolResult::of).collect()
}

/// How many calls the conversation has seen, so that ids stay unique in it.
pub(super) fn calls_so_far(request: &ModelRequest) -> usize {
    let calls = request.messages.iter().map(|message| match message {
        Message::Assistant { tool_calls, .. } => tool_calls.len(),
        _ => 0,
    });
    calls.sum()
}

/// The final answer: every result's text in order, and the last good result's structured content.
pub(super) fn from_results(request: &ModelRequest, results: &[ToolResult<'_>], chinese: bool) -> String {
    let texts: Vec<String> = results
        .iter()
        .map(|result| match (result.is_error, chinese) {
            (false, _) => result.text.to_owned(),
            (true, false) => format!("The tool {} gave no result: {}", result.name, result.text),
            (true, true) => format!("工具 {} 沒有結果：{}", result.name, result.text),
        })
        .collect();
    let data = results.iter().rev().find(|result| !result.is_error).and_then(|result| result.structured);
    let mut text = texts.join("\n\n");
    if text.trim().is_empty() {
        text = data.map_or_else(|| String::from("(empty)"), Value::to_string);
    }
    content(request, &text, data)
}

/// A text and its data in the form the request's output schema asks for.
pub(super) fn content(request: &ModelRequest, text: &str, data: Option<&Value>) -> String {
    let Some(schema) = &request.output_schema else { return text.to_owned() };
    let properties = &schema["properties"];
    if properties["answer"].is_object() && !properties["data"].is_null() {
        return json!({ "answer": text, "data": data }).to_string();
    }
    if let Some(properties) = properties.as_object() {
        return fill_output(schema, properties, text, data).to_string();
    }
    match data {
        Some(data) if fits(schema, data) => data.to_string(),
        _ if fits(schema, &json!(text)) => json!(text).to_string(),
        _ => text.to_owned(),
    }
}

fn fits(schema: &Value, value: &Value) -> bool {
    jsonschema::validator_for(schema).is_ok_and(|validator| validator.is_valid(value))
}

fn fill_output(schema: &Value, properties: &Map<String, Value>, text: &str, data: Option<&Value>) -> Value {
    if let Some(data) = data.filter(|data| fits(schema, data)) {
        return data.clone();
    }
    let mut out = Map::new();
    for (name, property) in properties {
        let is_required = schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
        let same_named = data.and_then(|data| data.get(name)).cloned();
        let by_type = [Some(json!(text)), data.cloned(), Some(Value::Null)];
        let candidates = same_named.into_iter().chain(by_type.into_iter().flatten().filter(|_| is_required));
        let found = candidates.into_iter().find(|value| fits(property, value));
        if let Some(value) = found {
            out.insert(name.clone(), value);
        }
    }
    Value::Object(out)
}

/// The question back to the person.
pub(super) fn asking(asked: &Asked, chinese: bool) -> String {
    match asked {
        Asked::Period(unclear) => asking_period(*unclear, chinese).to_owned(),
        Asked::Arguments { tool, arguments } => {
            let mut text = if chinese {
                format!("要用 {tool} 回答，還需要：")
            } else {
                format!("To answer this with {tool} I still need:")
            };
            for (name, description, values) in arguments {
                text.push_str(&format!("\n- {name}"));
                if !description.is_empty() {
                    text.push_str(&format!(": {}", shorten(description)));
                }
                if !values.is_empty() {
                    let values: Vec<String> = values.iter().map(plain).collect();
                    text.push_str(&format!(" ({})", values.join(" | ")));
                }
            }
            text.push_str(if chinese {
                "\n請補上後再問一次。"
            } else {
                "\nPlease ask again with it."
            });
            text
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn asking_period(unclear: Unclear, chinese: bool) -> &'static str {
    match (unclear, chinese) {
        (Unclear::NoYear, false) => {
            "Which year do you mean? Please ask again with the year, such as March 2024."
        }
        (Unclear::NoYear, true) => "請問是哪一年？請把年份一起寫出來，例如 2024年3月。",
        (Unclear::Relative, false) => {
            "I cannot tell which days you mean, as I have no calendar of today. Please ask again with dates, such as \
             2024-03-01 to 2024-03-31."
        }
        (Unclear::Relative, true) => {
            "我不知道今天的日期，無法判斷這段期間。請寫出日期，例如 2024-03-01 到 2024-03-31。"
        }
        (Unclear::DayOrMonth, false) => {
            "This date can be read in two ways. Please ask again with year, month and day, such as 2024-03-05."
        }
        (Unclear::DayOrMonth, true) => "這個日期有兩種讀法，請依年-月-日寫出，例如 2024-03-05。",
    }
}

/// What the planner says of itself when no tool fits, with what it can do.
pub(super) fn declining(tools: &[ToolSpec], chinese: bool) -> String {
    let mut text = String::from(if chinese { SELF_ZH } else { SELF_EN });
    if tools.is_empty() {
        text.push_str(if chinese { "目前沒有可用的工具。" } else { " I may use no tool here." });
        return text;
    }
    text.push_str(if chinese { "我可以使用：" } else { " I can use:" });
    for tool in tools.iter().take(20) {
        text.push_str(&format!("\n- {}: {}", tool.name, shorten(&tool.description)));
    }
    text
}

/// The start of a description: whole sentences up to 300 characters where there are any.
fn shorten(text: &str) -> String {
    let text = text.trim();
    let Some((end, _)) = text.char_indices().nth(DESCRIBED_CHARS) else { return text.to_owned() };
    let head = &text[..end];
    match head.rfind(['.', '。']) {
        Some(stop) => head[..stop].to_owned(),
        None => format!("{head}…"),
    }
}
