//! The one table of error codes. A code is never renamed or reused; each has a page in `docs/errors`
//! (the tidy test compares). `E-…` is what people search for, so it appears in every refusal.

use serde::{Serialize, Serializer};

macro_rules! codes {
    ($($variant:ident = $code:literal, $status:literal, $retry:literal, $title:literal;)+) => {
        /// A stable error code with its HTTP status and title.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "each variant is documented by its title and its page")]
        pub enum ErrorCode { $($variant),+ }

        impl ErrorCode {
            /// Every code, in the order of the table.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant),+];

            /// The code as callers see it, such as `E-RUN-001`.
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$variant => $code),+ }
            }

            /// The HTTP status this code travels with.
            pub fn status(self) -> u16 {
                match self { $(ErrorCode::$variant => $status),+ }
            }

            /// May the same request succeed later without a change?
            pub fn is_retryable(self) -> bool {
                match self { $(ErrorCode::$variant => $retry),+ }
            }

            /// What it means, in a few words.
            pub fn title(self) -> &'static str {
                match self { $(ErrorCode::$variant => $title),+ }
            }

            /// Reads a code back from its text.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($code => Some(ErrorCode::$variant),)+ _ => None }
            }
        }
    };
}

codes! {
    Auth001 = "E-AUTH-001", 401, false, "No valid key";
    Auth002 = "E-AUTH-002", 403, false, "The key's role does not allow this";
    Auth003 = "E-AUTH-003", 403, false, "The key belongs to another project";
    Auth004 = "E-AUTH-004", 503, true, "The sign-in service cannot be asked";
    Access001 = "E-ACCESS-001", 409, false, "The key's or principal's state forbids this";
    Access002 = "E-ACCESS-002", 409, false, "The project would be left without an admin";
    Req001 = "E-REQ-001", 400, false, "The request is malformed";
    Req002 = "E-REQ-002", 413, false, "The request is too large";
    Req003 = "E-REQ-003", 422, false, "The request is not valid";
    Req004 = "E-REQ-004", 404, false, "Not found here";
    Req005 = "E-REQ-005", 412, false, "It has changed since it was read";
    Req006 = "E-REQ-006", 422, false, "The idempotency key was used with another body";
    Req007 = "E-REQ-007", 400, false, "The cursor is not valid";
    Req008 = "E-REQ-008", 408, true, "The request came too slowly";
    Req009 = "E-REQ-009", 431, false, "The request's head is too large";
    Req010 = "E-REQ-010", 414, false, "The request's path and query are too long";
    Run001 = "E-RUN-001", 409, false, "The run's state forbids this";
    Run002 = "E-RUN-002", 422, false, "The project has no active agent of this name";
    Run003 = "E-RUN-003", 403, false, "The mode is above the agent's";
    Run010 = "E-RUN-010", 500, false, "The run used up its attempts";
    Run011 = "E-RUN-011", 504, false, "The run timed out";
    Run012 = "E-RUN-012", 500, false, "The run reached its step limit";
    Run013 = "E-RUN-013", 502, false, "The model provider failed";
    Run014 = "E-RUN-014", 409, false, "Nobody knows whether an effect happened";
    Redact001 = "E-REDACT-001", 422, false, "Personal data may not go there";
    Schema001 = "E-SCHEMA-001", 422, false, "The output does not fit the agent's schema";
    Budget001 = "E-BUDGET-001", 402, false, "The budget is spent";
    Budget002 = "E-BUDGET-002", 429, true, "The rest of the budget is held by other calls";
    Limit002 = "E-LIMIT-002", 429, true, "The queue is full";
    Limit003 = "E-LIMIT-003", 503, true, "No room for another connection";
    Limit004 = "E-LIMIT-004", 429, true, "Too many requests with this key";
    Limit005 = "E-LIMIT-005", 429, true, "Too many keys that are not valid";
    Limit006 = "E-LIMIT-006", 402, false, "The project's storage is used up";
    Contract001 = "E-CONTRACT-001", 422, false, "The manifest is not valid";
    Contract002 = "E-CONTRACT-002", 409, false, "A contract is not what was signed";
    Contract003 = "E-CONTRACT-003", 409, false, "Signatures are missing";
    Contract004 = "E-CONTRACT-004", 403, false, "This caller may not sign";
    Contract005 = "E-CONTRACT-005", 409, false, "Signatures are older than the window";
    Contract006 = "E-CONTRACT-006", 409, false, "Another version became active first";
    Contract007 = "E-CONTRACT-007", 409, false, "The version's state forbids this";
    Approval001 = "E-APPROVAL-001", 409, false, "The approval is decided";
    Approval002 = "E-APPROVAL-002", 410, false, "The approval has expired";
    Approval003 = "E-APPROVAL-003", 403, false, "This caller may not decide";
    Gate001 = "E-MCP-GATE-001", 401, false, "Gate 1: the caller is not identified";
    Gate002 = "E-MCP-GATE-002", 404, false, "Gate 2: unknown tool";
    Gate003 = "E-MCP-GATE-003", 403, false, "Gate 2: the tool's definition is not the pinned one";
    Gate004 = "E-MCP-GATE-004", 403, false, "Gate 3: the tool is not granted to this agent";
    Gate005 = "E-MCP-GATE-005", 403, false, "Gate 3: policy or mode forbids the tool";
    Gate006 = "E-MCP-GATE-006", 422, false, "Gate 4: the arguments are not allowed";
    Gate007 = "E-MCP-GATE-007", 429, true, "Gate 4: the budget or a rate leaves no room for the call";
    Gate008 = "E-MCP-GATE-008", 403, false, "Gate 5: people did not allow the call";
    Gate009 = "E-MCP-GATE-009", 403, false, "Gate 5: the tool's credential cannot be resolved";
    Upstream001 = "E-MCP-UPSTREAM-001", 502, true, "The tool's server cannot be reached";
    Upstream002 = "E-MCP-UPSTREAM-002", 504, true, "The tool's server did not answer in time";
    Upstream003 = "E-MCP-UPSTREAM-003", 502, false, "The tool's server broke the protocol";
    Project001 = "E-PROJECT-001", 410, false, "The project was deleted";
    Project002 = "E-PROJECT-002", 429, true, "Too many exports at a time";
    Stop001 = "E-STOP-001", 503, true, "Stopped by people";
    Audit001 = "E-AUDIT-001", 409, true, "The event is in no seal yet";
    Tls001 = "E-TLS-001", 500, false, "The listener's certificate cannot be used";
    Store001 = "E-STORE-001", 503, true, "The database cannot be reached";
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One thing wrong with a document: where, by which rule, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// JSON Pointer into the document, `""` for the whole.
    pub path: String,
    /// The schema keyword or the name of the rule.
    pub keyword: String,
    /// What was expected, without the offending value where that could be a secret.
    pub message: String,
}

impl Violation {
    /// Builds one from parts.
    pub fn new(path: impl Into<String>, keyword: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), keyword: keyword.into(), message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_and_has_an_error_status() {
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::parse(code.as_str()), Some(code));
            assert!((400..600).contains(&code.status()), "{code}");
        }
        assert_eq!(ErrorCode::parse("E-RUN-99"), None);
    }
}
