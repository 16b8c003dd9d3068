//! Redaction of JSON values: strings, keys, and numbers that are personal data; the shape stays.
//!
//! A string is masked where it holds something, and whole where its key names a secret; in
//! `{"name": "DB_PASSWORD", "value": …}` the name member is the key. The key is also the word that says what a number
//! is: `{"phone": 23456789}` becomes `{"phone": "[PHONE]"}`. No number is taken for a credential. Paths are JSON
//! Pointers (RFC 6901) over the redacted keys, so a path never shows a secret. Recursion is as deep as the value: the
//! parser bounds it at 128.

use serde_json::{Map, Value};

use crate::class::Family;
use crate::{Class, Redactor, ident, judge, rounds};

/// One masked string, number or key of a JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonFinding {
    /// JSON Pointer of the masked value, or of the member whose key was masked.
    pub path: String,
    /// What was found.
    pub class: Class,
}

/// Strings beside which `value` is the value of what they name.
const NAMING: [&str; 3] = ["name", "key", "field"];

/// Under which name a value stands.
#[derive(Clone, Copy)]
struct Named<'a> {
    /// The member's key, or that of the list the value is in; empty if there is none.
    key: &'a str,
    /// What the value is if it is a secret, by its name.
    secret: Option<Class>,
}

impl Redactor {
    /// Masks every credential in `value`, and what the rules name, in place, and says where they were.
    pub fn redact_json(&self, value: &mut Value) -> Vec<JsonFinding> {
        let mut findings = Vec::new();
        self.redact_value(value, Named { key: "", secret: None }, &mut String::new(), &mut findings);
        findings
    }

    /// The path and class of a credential in `value`, if there is one.
    pub fn json_contains_credential(&self, value: &Value) -> Option<(String, Class)> {
        let mut copy = value.clone();
        let mut found = self.redact_json(&mut copy).into_iter();
        found.find(|found| found.class.family() == Family::Credential).map(|found| (found.path, found.class))
    }

    fn redact_value(
        &self,
        value: &mut Value,
        named: Named<'_>,
        path: &mut String,
        out: &mut Vec<JsonFinding>,
    ) {
        match value {
            Value::String(text) => self.redact_string(text, named, path, out),
            Value::Array(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    // A secret name covers a list of strings, not the objects in one.
                    within(path, &i.to_string(), |path| self.redact_value(item, named, path, out));
                }
            }
            Value::Object(members) => self.redact_object(members, path, out),
            Value::Number(number) => {
                if let Some((class, mask)) = self.mask_of_number(&number.to_string(), named.key) {
                    out.push(JsonFinding { path: path.clone(), class });
                    *value = Value::String(mask);
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// What stands in place of a number, if it is personal data.
    fn mask_of_number(&self, number: &str, key: &str) -> Option<(Class, String)> {
        let found = rounds::findings(self, number, key);
        let whole = found.iter().find(|finding| (finding.start, finding.end) == (0, number.len()))?;
        Some((whole.class, self.rules.mask(whole.class, number)))
    }

    fn redact_string(&self, text: &mut String, named: Named<'_>, path: &str, out: &mut Vec<JsonFinding>) {
        let redacted = self.redact_named(text, named.key);
        let shapes: Vec<Class> = redacted.findings.iter().map(|finding| finding.class).collect();
        let holds_secret = || shapes.iter().any(|class| class.family() != Family::Personal);
        if let Some(class) = named.secret.filter(|_| holds_secret() || judge::is_secret_member(text)) {
            let is_whole = redacted.findings.first().is_some_and(|f| (f.start, f.end) == (0, text.len()));
            let class = if is_whole && holds_secret() { shapes[0] } else { class };
            out.push(JsonFinding { path: path.to_owned(), class });
            *text = format!("[{class}]");
        } else if !shapes.is_empty() {
            out.extend(shapes.into_iter().map(|class| JsonFinding { path: path.to_owned(), class }));
            *text = redacted.text.into_owned();
        }
    }

    fn redact_object(&self, members: &mut Map<String, Value>, path: &mut String, out: &mut Vec<JsonFinding>) {
        if members.keys().any(|key| !rounds::first_findings(self, key, "").is_empty()) {
            self.redact_keys(members, path, out);
        }
        let naming = NAMING.iter().find_map(|key| members.get(*key)?.as_str()).map(str::to_owned);
        let value_class = naming.as_deref().and_then(ident::judge).map(|found| found.1);
        for (key, value) in members.iter_mut() {
            let secret = ident::judge(key).map(|found| found.1).or(value_class.filter(|_| key == "value"));
            let key_or_name = naming.as_deref().filter(|_| key == "value").unwrap_or(key);
            let named = Named { key: key_or_name, secret };
            within(path, key, |path| self.redact_value(value, named, path, out));
        }
    }

    /// Rebuilds the object with masked keys; keys that become equal are numbered.
    fn redact_keys(&self, members: &mut Map<String, Value>, path: &mut String, out: &mut Vec<JsonFinding>) {
        for (key, value) in std::mem::take(members) {
            let redacted = self.redact(&key);
            let mut masked = redacted.text.clone().into_owned();
            let mut n = 2;
            while members.contains_key(&masked) {
                masked = format!("{} {n}", redacted.text);
                n += 1;
            }
            for finding in &redacted.findings {
                within(path, &masked, |path| {
                    out.push(JsonFinding { path: path.clone(), class: finding.class })
                });
            }
            members.insert(masked, value);
        }
    }
}

/// Calls `inner` with `step` appended to the path.
fn within(path: &mut String, step: &str, inner: impl FnOnce(&mut String)) {
    let len = path.len();
    path.push('/');
    path.push_str(&step.replace('~', "~0").replace('/', "~1"));
    inner(path);
    path.truncate(len);
}
