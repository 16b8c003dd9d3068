//! The layer that writes the log: fields are collected as values, masked, and only then made into a line, which is
//! masked once more as a whole, for what no field shows by itself.
//!
//! A span's fields are masked when they are recorded, so that nothing unmasked is kept for the span's life.
//! In text a line reads `TIME LEVEL span{field=value}: message field=value`; in JSON the same members by name.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::{Map, Value, json};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::fields::Fields;
use super::redactor;

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

/// The one writer of the log.
pub(super) struct Masked {
    form: Form,
}

impl Masked {
    /// Writes lines of this form to stderr.
    pub(super) fn new(form: Form) -> Self {
        Self { form }
    }
}

impl<S> Layer<S> for Masked
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        fields.redact(&redactor());
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        if let Some(fields) = extensions.get_mut::<Fields>() {
            values.record(fields);
            fields.redact(&redactor());
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let redactor = redactor();
        let mut fields = Fields::default();
        event.record(&mut fields);
        fields.redact(&redactor);
        let target = target(event, &mut fields);
        let spans: Vec<(&'static str, Fields)> = context
            .event_scope(event)
            .map(|scope| scope.from_root().map(|span| (span.name(), recorded(&span))).collect())
            .unwrap_or_default();
        let line = match self.form {
            Form::Text => text(*event.metadata().level(), &spans, &mut fields),
            Form::Json => document(*event.metadata().level(), &target, &spans, &fields).to_string(),
        };
        let line = format!("{}\n", redactor.redact_line(&line));
        // a closed stderr leaves nobody to tell
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

fn recorded<'a, S: LookupSpan<'a>>(span: &SpanRef<'a, S>) -> Fields {
    span.extensions().get::<Fields>().cloned().unwrap_or_default()
}

/// Where an event comes from; what a library logs through `log` says so in fields of its own.
fn target(event: &Event<'_>, fields: &mut Fields) -> String {
    let named = fields.take("log.target").and_then(|value| value.as_str().map(str::to_owned));
    for member in ["log.module_path", "log.file", "log.line"] {
        fields.take(member);
    }
    named.unwrap_or_else(|| event.metadata().target().to_owned())
}

fn now() -> String {
    let mut text = String::new();
    // a text takes everything
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

fn text(level: Level, spans: &[(&'static str, Fields)], fields: &mut Fields) -> String {
    let mut line = format!("{} {level:>5} ", now());
    for (name, fields) in spans {
        line.push_str(name);
        let shown: Vec<String> = fields.iter().map(|(name, value)| pair(name, value)).collect();
        if !shown.is_empty() {
            let _ = write!(line, "{{{}}}", shown.join(" "));
        }
        line.push(':');
    }
    if !spans.is_empty() {
        line.push(' ');
    }
    let message = fields.take("message").map(|value| plain(&value));
    let rest = fields.iter().map(|(name, value)| pair(name, value));
    line.push_str(&message.into_iter().chain(rest).collect::<Vec<_>>().join(" "));
    line
}

fn pair(name: &str, value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && text.chars().all(is_bare) => format!("{name}={text}"),
        Value::String(text) => format!("{name}={text:?}"),
        other => format!("{name}={other}"),
    }
}

fn is_bare(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && c != '"' && c != '\\'
}

/// A message on one line: no value in it can begin a line of its own.
fn plain(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if text.chars().any(char::is_control) { text.escape_debug().to_string() } else { text }
}

fn document(level: Level, target: &str, spans: &[(&'static str, Fields)], fields: &Fields) -> Value {
    let members = |fields: &Fields| -> Map<String, Value> {
        fields.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect()
    };
    let spans: Vec<Value> = spans
        .iter()
        .map(|(name, fields)| {
            let mut members = members(fields);
            members.insert("name".to_owned(), json!(name));
            Value::Object(members)
        })
        .collect();
    json!({
        "timestamp": now(), "level": level.as_str(), "target": target, "fields": members(fields), "spans": spans,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_text_stays_one_line() {
        assert_eq!(plain(&json!("two\nlines")), "two\\nlines");
        assert_eq!(plain(&json!("一行")), "一行");
        assert_eq!(pair("run_id", &json!("0190-ab")), "run_id=0190-ab");
        assert_eq!(pair("why", &json!("it \"broke\"\n")), r#"why="it \"broke\"\n""#);
        assert_eq!(pair("n", &json!(3)), "n=3");
        assert_eq!(pair("empty", &json!("")), "empty=\"\"");
    }
}
