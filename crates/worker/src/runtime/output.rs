//! The output validator: a final answer must fit the agent's schema. An answer that does not goes back to
//! the model with what was wrong; three answers in all, then the run fails with E-SCHEMA-001.

use awooop_core::error::Violation;
use awooop_core::schema::Schema;
use serde_json::Value;

/// Answers a run may give in all.
pub(crate) const MAX_ANSWERS: u32 = 3;

/// Reads and checks a final answer. Text that is not JSON counts as a JSON string, so that an agent whose
/// schema is `{"type": "string"}` may simply answer.
pub(crate) fn check(schema: &Value, content: &str) -> Result<Value, Vec<Violation>> {
    let compiled = Schema::compile(schema).map_err(|e| vec![Violation::new("", "schema", e.to_string())])?;
    let text = unfenced(content);
    match serde_json::from_str::<Value>(text) {
        Ok(value) => match compiled.validate(&value) {
            Ok(()) => Ok(value),
            Err(found) => as_text(&compiled, content).ok_or(found),
        },
        Err(error) => as_text(&compiled, content)
            .ok_or_else(|| vec![Violation::new("", "json", format!("the answer is not JSON: {error}"))]),
    }
}

fn as_text(schema: &Schema, content: &str) -> Option<Value> {
    let value = Value::String(content.to_owned());
    schema.validate(&value).is_ok().then_some(value)
}

/// Models like to put JSON into a Markdown fence.
fn unfenced(content: &str) -> &str {
    let text = content.trim();
    let Some(rest) = text.strip_prefix("```") else { return text };
    let Some(rest) = rest.strip_suffix("```") else { return text };
    rest.strip_prefix("json").unwrap_or(rest).trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_fits_as_json_in_a_fence_or_as_plain_text() {
        let object = json!({"type": "object", "required": ["answer"], "additionalProperties": false,
            "properties": {"answer": {"type": "string"}}});
        assert_eq!(check(&object, "{\"answer\":\"x\"}"), Ok(json!({"answer": "x"})));
        assert_eq!(check(&object, "```json\n{\"answer\":\"x\"}\n```"), Ok(json!({"answer": "x"})));
        assert_eq!(check(&object, "plain words").unwrap_err()[0].keyword, "json");
        assert_eq!(check(&object, "{\"answer\":1}").unwrap_err()[0].path, "/answer");
        assert_eq!(check(&json!({"type": "string"}), "plain words"), Ok(json!("plain words")));
        assert_eq!(check(&json!({"type": "string"}), "42"), Ok(json!("42")));
    }
}
