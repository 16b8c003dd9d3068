//! The fields of an event or span as values, so that each can be looked at by itself and beside its name.
//!
//! Formatted to one line first, a value that holds line ends would be escaped, one that holds a quote cut at it, and
//! what belongs to which name would be a guess.

use std::error::Error;
use std::fmt;

use awooop_redact::Redactor;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};

/// Fields in the order in which they were recorded.
#[derive(Debug, Default, Clone)]
pub(super) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    /// Name and value of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }

    /// Takes a field out.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(at).1)
    }

    /// Masks what is in the values: each as a whole and as the value of its name, then every two neighbours as the
    /// one text they may have been.
    pub(super) fn redact(&mut self, redactor: &Redactor) {
        let named: Map<String, Value> = self.iter().map(|(n, value)| (n.to_owned(), value.clone())).collect();
        let Value::Object(mut masked) = redactor.clean_json(Value::Object(named)).into_inner() else {
            return;
        };
        for (name, value) in &mut self.0 {
            // names of fields are literals of the code; one that looks like a secret hides its value
            *value = masked.remove(*name).unwrap_or_else(|| Value::String("[SECRET]".to_owned()));
        }
        self.mask_cut_in_two();
    }

    /// Masks credentials that begin in one text and end in the next.
    fn mask_cut_in_two(&mut self) {
        let credentials = Redactor::new();
        for at in 1..self.0.len() {
            let (before, after) = self.0.split_at_mut(at);
            let (Value::String(head), Value::String(tail)) = (&mut before[at - 1].1, &mut after[0].1) else {
                continue;
            };
            let joined = format!("{head}{tail}");
            let found = credentials.redact(&joined).findings;
            let Some(cut) = found.iter().find(|f| f.start < head.len() && head.len() < f.end) else {
                continue;
            };
            *tail = format!("[{}]{}", cut.class, &joined[cut.end..]);
            *head = format!("{}[{}]", &joined[..cut.start], cut.class);
        }
    }

    fn set(&mut self, field: &Field, value: Value) {
        match self.0.iter_mut().find(|(name, _)| *name == field.name()) {
            Some((_, known)) => *known = value,
            None => self.0.push((field.name(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, Value::String(without_details(&format!("{value:?}"))));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, Value::String(without_details(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut chain = value.to_string();
        let mut inner = value.source();
        while let Some(source) = inner {
            chain = format!("{chain}: {source}");
            inner = source.source();
        }
        self.set(field, Value::String(without_details(&chain)));
    }
}

/// The text up to what a database says in detail, which repeats the values of rows.
pub(super) fn without_details(text: &str) -> String {
    match ["\nDETAIL: ", "\\nDETAIL: ", "DETAIL: "].iter().filter_map(|mark| text.find(mark)).min() {
        Some(at) => format!("{} (details withheld)", text[..at].trim_end()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(fields: &[(&'static str, &str)]) -> Vec<String> {
        let mut fields =
            Fields(fields.iter().map(|(name, text)| (*name, Value::String((*text).to_owned()))).collect());
        fields.redact(&Redactor::new());
        fields.iter().map(|(_, value)| value.as_str().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn a_value_is_masked_by_its_shape_its_name_and_its_neighbour() {
        let key = format!("AKIA{}", "IOSFODNN7EXAMPLE");
        assert_eq!(redacted(&[("message", &format!("with {key}"))]), ["with [AWS_KEY]"]);
        assert_eq!(redacted(&[("password", "correct-horse-7")]), ["[SECRET]"]);
        assert_eq!(redacted(&[("name", "DB_PASSWORD"), ("value", "correct-horse-7")])[1], "[SECRET]");
        let (head, tail) = key.split_at(9);
        let cut = redacted(&[("head", &format!("from {head}")), ("tail", &format!("{tail} on"))]);
        assert_eq!(cut, ["from [AWS_KEY]", "[AWS_KEY] on"]);
        assert_eq!(redacted(&[("a", "plain"), ("b", "words")]), ["plain", "words"]);
    }

    #[test]
    fn a_key_of_several_lines_is_masked_whole() {
        let dashes = "-----";
        let key = format!(
            "{dashes}BEGIN PRIVATE KEY{dashes}\nMIIEvQIBADANBgkq\nhkiG9w0BAQEF\n{dashes}END PRIVATE KEY{dashes}"
        );
        assert_eq!(redacted(&[("stderr", &format!("read {key} done"))]), ["read [PRIVATE_KEY] done"]);
    }

    #[test]
    fn what_a_database_says_in_detail_is_withheld() {
        let said = "db error: ERROR: duplicate key\nDETAIL: Key (name)=(ann) already exists.\nHINT: x";
        assert_eq!(without_details(said), "db error: ERROR: duplicate key (details withheld)");
        assert_eq!(without_details("nothing to hide"), "nothing to hide");
    }
}
