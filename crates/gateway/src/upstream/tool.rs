//! Tools as a server describes them, calls and results. The raw JSON of a definition is kept whole,
//! unknown members included, because a pin over a parsed type would not see what the type drops.
//! Everything here came from an untrusted server: annotations are hints, texts may try to instruct.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use awooop_core::json::sha256_hex;
use awooop_core::pin::{Cover, PLAIN_MEMBERS, Seen};
use awooop_core::scan::{Find, scan};
use awooop_redact::Redactor;
use serde_json::{Map, Value};

use super::error::UpstreamError;
use super::notice::Notices;

/// What a look at a definition found: made when somebody asks, kept with every copy of it.
#[derive(Debug, Clone, Default)]
struct Looked(Arc<OnceLock<Facts>>);

#[derive(Debug)]
struct Facts {
    whole_sha256: String,
    plain_sha256: String,
    finds: Vec<Find>,
}

impl PartialEq for Looked {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A tool as its server lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolDefinition {
    /// The server's own name of the tool.
    pub name: String,
    /// A name for people.
    pub title: Option<String>,
    /// What the tool does, in the server's words.
    pub description: Option<String>,
    /// JSON Schema of the arguments, always an object.
    pub input_schema: Value,
    /// JSON Schema of `structuredContent`.
    pub output_schema: Option<Value>,
    /// Untrusted hints.
    pub annotations: Option<Value>,
    /// The definition as it came, unknown members included.
    pub raw: Value,
    looked: Looked,
}

impl ToolDefinition {
    /// Reads one member of a `tools/list` answer. `None` when it has no usable name or input schema.
    pub fn from_raw(raw: Value) -> Option<Self> {
        let text = |member: &str| raw.get(member).and_then(Value::as_str).map(str::to_owned);
        let name = text("name").filter(|name| !name.is_empty())?;
        let input_schema = raw.get("inputSchema").filter(|schema| schema.is_object())?.clone();
        Some(Self {
            name,
            title: text("title"),
            description: text("description"),
            input_schema,
            output_schema: raw.get("outputSchema").cloned(),
            annotations: raw.get("annotations").cloned(),
            raw,
            looked: Looked::default(),
        })
    }

    /// The definition as it may be shown. What is masked in it changes its hash: pin it before.
    pub fn redacted(self, redactor: &Redactor) -> Self {
        let raw = redactor.clean_json(self.raw).into_inner();
        // masking keeps an object an object and a name a name; a server whose tool has no name left loses it
        Self::from_raw(raw.clone()).unwrap_or_else(|| Self {
            description: None,
            title: None,
            input_schema: serde_json::json!({"type": "object"}),
            output_schema: None,
            annotations: None,
            raw,
            looked: Looked::default(),
            ..self
        })
    }

    /// SHA-256 (64 hexadecimal characters) over the canonical JSON of all of its members.
    pub fn sha256_hex(&self) -> &str {
        &self.facts().whole_sha256
    }

    /// The definition as gate 2 judges it.
    pub fn seen(&self) -> Seen<'_> {
        let facts = self.facts();
        let (whole_sha256, plain_sha256) = (facts.whole_sha256.as_str(), facts.plain_sha256.as_str());
        Seen { whole_sha256, plain_sha256, finds: &facts.finds }
    }

    /// What of it a pin covers, and so what may be shown and believed.
    pub fn covered(self, cover: Cover) -> Self {
        match (cover, &self.raw) {
            (Cover::Plain, Value::Object(members))
                if self.seen().whole_sha256 != self.seen().plain_sha256 =>
            {
                Self { raw: Value::Object(plain(members)), looked: Looked::default(), ..self }
            }
            _ => self,
        }
    }

    fn facts(&self) -> &Facts {
        self.looked.0.get_or_init(|| {
            let whole_sha256 = sha256_hex(&self.raw);
            let plain_sha256 = match &self.raw {
                Value::Object(members) if members.keys().any(|name| !is_plain(name)) => {
                    sha256_hex(&Value::Object(plain(members)))
                }
                _ => whole_sha256.clone(),
            };
            Facts { whole_sha256, plain_sha256, finds: scan(&self.raw) }
        })
    }
}

fn is_plain(member: &str) -> bool {
    PLAIN_MEMBERS.contains(&member)
}

fn plain(members: &Map<String, Value>) -> Map<String, Value> {
    let kept = members.iter().filter(|(name, _)| is_plain(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// One call of a tool.
#[derive(Debug, Clone)]
pub struct ToolCallRequest {
    /// The server's own name of the tool.
    pub name: String,
    /// Arguments, already checked.
    pub arguments: Map<String, Value>,
    /// Equal for every attempt of the same step; sent as `_meta["awooop/idempotency-key"]`.
    pub idempotency_key: String,
    /// W3C trace context, sent as `_meta.traceparent`.
    pub traceparent: Option<String>,
    /// Shorter than the configured limit, or `None` for that limit.
    pub timeout: Option<Duration>,
    /// Who wants to hear what the server says of it meanwhile.
    pub notices: Option<Notices>,
}

/// What a tool answered, unredacted and untruncated.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolResult {
    /// Content parts as they came; each is an object.
    pub content: Vec<Value>,
    /// Structured content, when the tool gave some.
    pub structured_content: Option<Value>,
    /// Did the tool (or its server) say that it failed?
    pub is_error: bool,
    /// The result's `_meta`.
    pub meta: Option<Value>,
}

impl ToolResult {
    /// The text parts, joined by line ends.
    pub fn text(&self) -> String {
        let texts: Vec<&str> = self
            .content
            .iter()
            .filter(|part| part.get("type").and_then(Value::as_str) == Some("text"))
            .filter_map(|part| part.get("text").and_then(Value::as_str))
            .collect();
        texts.join("\n")
    }

    /// Reads the `result` of a `tools/call`.
    pub(super) fn from_value(value: Value) -> Result<Self, UpstreamError> {
        let Value::Object(mut members) = value else {
            return Err(UpstreamError::protocol("the result of a call is not an object"));
        };
        let structured_content = members.remove("structuredContent");
        let content = match members.remove("content") {
            Some(Value::Array(parts)) if parts.iter().all(Value::is_object) => parts,
            None if structured_content.is_some() => Vec::new(),
            _ => return Err(UpstreamError::protocol("the result of a call has no list of content parts")),
        };
        let is_error = members.get("isError").and_then(Value::as_bool).unwrap_or(false);
        Ok(Self { content, structured_content, is_error, meta: members.remove("_meta") })
    }

    /// A JSON-RPC error answer as a failed result, so that the model can mend its arguments and the
    /// server's words pass through redaction like any other result.
    pub(super) fn from_rpc_error(code: i32, message: &str) -> Self {
        let text = format!("the tool's server answered error {code}: {message}");
        Self {
            content: vec![serde_json::json!({"type": "text", "text": text})],
            structured_content: None,
            is_error: true,
            meta: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_member_changes_the_whole_hash_and_unknown_ones_leave_the_plain_one() {
        let base = json!({"name": "a", "inputSchema": {"type": "object"}});
        let of = |raw: &Value| {
            let definition = ToolDefinition::from_raw(raw.clone()).unwrap();
            let seen = definition.seen();
            (seen.whole_sha256.to_owned(), seen.plain_sha256.to_owned())
        };
        let hash = awooop_core::json::sha256_hex(&base);
        assert_eq!(of(&base), (hash.clone(), hash.clone()));
        for member in
            ["title", "description", "outputSchema", "annotations", "execution", "_meta", "icons", "x"]
        {
            let mut changed = base.clone();
            changed[member] = json!({"x": 1});
            let (whole, plain) = of(&changed);
            assert_ne!(whole, hash, "{member}");
            assert_eq!(plain == hash, !PLAIN_MEMBERS.contains(&member), "{member}");
        }
    }

    #[test]
    fn what_a_plain_pin_does_not_cover_is_not_shown() {
        let raw = json!({"name": "a", "title": "A", "inputSchema": {"type": "object"}, "_meta": {"k": "v"}, "icons": []});
        let definition = ToolDefinition::from_raw(raw.clone()).unwrap();
        assert_eq!(definition.clone().covered(Cover::Whole).raw, raw);
        let plain = definition.covered(Cover::Plain);
        assert_eq!(plain.raw, json!({"name": "a", "title": "A", "inputSchema": {"type": "object"}}));
        assert_eq!(plain.seen().whole_sha256, plain.seen().plain_sha256);
    }

    #[test]
    fn a_definition_without_name_or_schema_is_no_tool() {
        for bad in [
            json!({}),
            json!(3),
            json!({"name": "", "inputSchema": {}}),
            json!({"name": "a", "inputSchema": true}),
        ] {
            assert!(ToolDefinition::from_raw(bad.clone()).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_result_keeps_unknown_content_and_joins_its_texts() {
        let result = ToolResult::from_value(json!({
            "content": [{"type": "text", "text": "one"}, {"type": "hologram", "x": 1}, {"type": "text", "text": "two"}],
            "structuredContent": {"n": 1}, "isError": true, "_meta": {"k": "v"}, "unknown": 1
        }))
        .unwrap();
        assert_eq!(result.text(), "one\ntwo");
        assert_eq!(result.content[1]["type"], "hologram");
        assert!(result.is_error);
        assert_eq!(result.meta, Some(json!({"k": "v"})));
    }

    #[test]
    fn a_result_that_is_no_result_breaks_the_protocol() {
        for bad in [json!([]), json!({}), json!({"content": "text"}), json!({"content": ["text"]})] {
            assert!(matches!(ToolResult::from_value(bad.clone()), Err(UpstreamError::Protocol(_))), "{bad}");
        }
    }
}
