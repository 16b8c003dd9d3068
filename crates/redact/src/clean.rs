//! Values that went through the redactor: the row type of audit and journal bodies.
//!
//! The fields are private and only [`Redactor`] fills them, so a function that takes [`Clean`] cannot be called with
//! a text that nobody looked at. There is no `From<String>`, no `Deserialize`, and nothing that changes the value.

use std::fmt;

use serde_json::Value;

use crate::rules::Action;
use crate::{Class, Redactor};

/// A text without credentials.
///
/// A text that nobody looked at is none:
/// ```compile_fail
/// let clean: awooop_redact::Clean = String::from("looked at by nobody").into();
/// ```
/// ```compile_fail
/// let clean = awooop_redact::Clean(String::from("looked at by nobody"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clean(String);

impl Clean {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, owned; it is then an ordinary string.
    pub fn into_inner(self) -> String {
        self.0
    }
}

impl AsRef<str> for Clean {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Clean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A JSON value without credentials in its strings and keys.
///
/// ```compile_fail
/// let clean: awooop_redact::CleanJson = serde_json::from_str("{}").unwrap();
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct CleanJson(Value);

impl CleanJson {
    /// The value.
    pub fn as_value(&self) -> &Value {
        &self.0
    }

    /// The value, owned; it is then an ordinary value.
    pub fn into_inner(self) -> Value {
        self.0
    }
}

/// The compact form of a clean value is a clean text.
impl From<CleanJson> for Clean {
    fn from(json: CleanJson) -> Clean {
        Clean(json.0.to_string())
    }
}

impl fmt::Display for CleanJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Redactor {
    /// Redacts `text` and seals the result.
    pub fn clean(&self, text: impl Into<String>) -> Clean {
        let text = text.into();
        let masked = match self.redact(&text).text {
            std::borrow::Cow::Borrowed(_) => None,
            std::borrow::Cow::Owned(masked) => Some(masked),
        };
        Clean(masked.unwrap_or(text))
    }

    /// Redacts `value` as [`Redactor::redact_json`] does and seals the result.
    pub fn clean_json(&self, mut value: Value) -> CleanJson {
        self.redact_json(&mut value);
        CleanJson(value)
    }

    /// Redacts `text` and seals the result, or names the class for which the rules refuse the text as a whole.
    pub fn pass(&self, text: &str) -> Result<Clean, Class> {
        let redacted = self.redact(text);
        redacted.blocked.map_or_else(|| Ok(Clean(redacted.text.into_owned())), Err)
    }

    /// Redacts `value` and seals the result, or names the class for which the rules refuse the value as a whole.
    pub fn pass_json(&self, mut value: Value) -> Result<CleanJson, Class> {
        let found = self.redact_json(&mut value);
        let blocked =
            found.iter().map(|f| f.class).find(|class| self.rules().action(*class) == Action::Block);
        blocked.map_or(Ok(CleanJson(value)), Err)
    }
}
