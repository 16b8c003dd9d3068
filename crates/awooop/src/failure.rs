//! Why a command did not do what was asked, and the exit code that says so to a script.
//!
//! The server's problem documents are kept whole, so `--json` can hand them on; everything else gets the
//! same shape. Invariants: the exit code depends on nothing but the failure; no text here holds a key.

use serde_json::{Value, json};

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// The run or the operation failed.
    Failed = 1,
    /// Wrong usage or invalid input.
    Invalid = 2,
    /// Refused: key, role, gate, budget.
    Refused = 3,
    /// The server cannot be reached.
    Unreachable = 4,
    /// Done as far as one person can: it waits for other people's signatures.
    Waiting = 5,
    /// Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// The exit code for an HTTP status above 299.
    pub(crate) fn of_status(status: u16) -> Self {
        match status {
            400 | 413 | 422 => Exit::Invalid,
            401 | 402 | 403 | 429 => Exit::Refused,
            _ => Exit::Failed,
        }
    }

    /// The exit code for an error code that says more than its status; `None` for every other.
    fn of_code(code: &str) -> Option<Self> {
        match awooop_core::ErrorCode::parse(code)? {
            awooop_core::ErrorCode::Contract003 | awooop_core::ErrorCode::Contract005 => Some(Exit::Waiting),
            _ => None,
        }
    }

    /// The exit code for a run that ended with this error code: a refusal stays one.
    pub(crate) fn of_run_error(code: &str) -> Self {
        match awooop_core::ErrorCode::parse(code).map(awooop_core::ErrorCode::status) {
            Some(401 | 402 | 403 | 429) => Exit::Refused,
            _ => Exit::Failed,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ended without its result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The input or the settings make no sense.
    #[error("{message}")]
    Invalid {
        /// What is wrong.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// What is on the server, or on this machine, stands in the way.
    #[error("{message}")]
    InTheWay {
        /// What that is.
        message: String,
        /// What to do about it.
        hint: String,
    },
    /// Files that a person wrote are not right.
    #[error("{}", detail(.0))]
    Faults(Vec<Fault>),
    /// The server said no.
    #[error("{}", .0.detail())]
    Problem(Box<Problem>),
    /// No server there, or it went away.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// The server's address.
        url: String,
        /// What the network said.
        reason: String,
        /// Did no connection come about at all? Then nothing can have been done either.
        is_refused: bool,
    },
    /// The database that a command works on beside a server does not answer.
    #[error("cannot reach the database: {reason}")]
    NoDatabase {
        /// What the network said.
        reason: String,
        /// What to do about it.
        hint: String,
    },
    /// Something answered, but not this server.
    #[error("{url} gave an answer that makes no sense here: {reason}")]
    Protocol {
        /// The server's address.
        url: String,
        /// What was expected.
        reason: String,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted {
        /// The run that goes on, where one was started or watched.
        run_id: Option<String>,
    },
}

/// A place in a file that a person wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spot {
    /// The file as it was named.
    pub(crate) file: String,
    /// Which of the file's documents that hold something, from 1; unknown where the file cannot be parsed.
    pub(crate) document: Option<usize>,
    /// The line, from 1.
    pub(crate) line: u64,
    /// The column, from 1.
    pub(crate) column: u64,
}

impl Spot {
    /// Adds the place to an item of a document's `errors`.
    pub(crate) fn mark(&self, error: &mut Value) {
        error["file"] = self.file.as_str().into();
        error["document"] = self.document.into();
        error["line"] = self.line.into();
        error["column"] = self.column.into();
    }
}

/// Something that is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where.
    pub(crate) spot: Spot,
    /// The JSON Pointer of the value in its document; empty where there is none.
    pub(crate) path: String,
    /// What is wrong with it.
    pub(crate) message: String,
}

impl Fault {
    fn document(&self) -> Value {
        let mut error = json!({"path": self.path, "message": self.message});
        self.spot.mark(&mut error);
        error
    }
}

fn detail(faults: &[Fault]) -> String {
    match faults {
        [one] => shown(&one.document()),
        several => format!("{} things are wrong in the files; nothing was sent", several.len()),
    }
}

/// A problem document with the address that sent it.
#[derive(Debug)]
pub(crate) struct Problem {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The document as it came; always an object.
    pub(crate) document: Value,
    /// The server's address, without a trailing slash.
    pub(crate) url: String,
}

impl Problem {
    /// The stable code, where the document has one.
    pub(crate) fn code(&self) -> Option<&str> {
        self.document["code"].as_str()
    }

    fn detail(&self) -> &str {
        let text = |key: &str| self.document[key].as_str().filter(|t| !t.is_empty());
        text("detail").or_else(|| text("title")).unwrap_or("the server refused and gave no reason")
    }
}

impl Failure {
    /// Wrong input or settings, without a hint.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Failure::Invalid { message: message.into(), hint: None }
    }

    /// One thing that is wrong in a file.
    pub(crate) fn at(spot: Spot, path: &str, message: impl Into<String>) -> Self {
        Failure::Faults(vec![Fault { spot, path: path.to_owned(), message: message.into() }])
    }

    /// How the process ends.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Failure::Invalid { .. } | Failure::Faults(_) => Exit::Invalid,
            Failure::InTheWay { .. } => Exit::Failed,
            Failure::Problem(problem) => {
                problem.code().and_then(Exit::of_code).unwrap_or(Exit::of_status(problem.status))
            }
            Failure::Unreachable { .. } | Failure::NoDatabase { .. } => Exit::Unreachable,
            Failure::Protocol { .. } => Exit::Failed,
            Failure::Interrupted { .. } => Exit::Interrupted,
        }
    }

    /// Could the same request succeed in a moment because only the server is away?
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Failure::Unreachable { .. } => true,
            Failure::Problem(problem) => matches!(problem.status, 502..=504),
            Failure::Invalid { .. }
            | Failure::InTheWay { .. }
            | Failure::NoDatabase { .. }
            | Failure::Faults(_)
            | Failure::Protocol { .. }
            | Failure::Interrupted { .. } => false,
        }
    }

    /// The value of `error` in the document that `--json` prints.
    pub(crate) fn document(&self) -> Value {
        let title = match self {
            Failure::Problem(problem) => return problem.document.clone(),
            Failure::Invalid { .. } => "Invalid input",
            Failure::InTheWay { .. } => "Something stands in the way",
            Failure::Faults(faults) => {
                let errors: Vec<Value> = faults.iter().map(Fault::document).collect();
                return json!({"title": "Invalid input", "detail": self.to_string(), "errors": errors});
            }
            Failure::Unreachable { .. } => "The server cannot be reached",
            Failure::NoDatabase { .. } => "The database cannot be reached",
            Failure::Protocol { .. } => "The answer makes no sense",
            Failure::Interrupted { run_id } => {
                return json!({"title": "Interrupted", "detail": self.to_string(), "run_id": run_id});
            }
        };
        json!({"title": title, "detail": self.to_string()})
    }

    /// What a person reads on stderr, line by line.
    pub(crate) fn lines(&self) -> Vec<String> {
        match self {
            Failure::Invalid { message, hint } => {
                let mut lines = vec![format!("error: {message}")];
                lines.extend(hint.clone());
                lines
            }
            Failure::InTheWay { message, hint } => vec![format!("error: {message}"), hint.clone()],
            Failure::NoDatabase { hint, .. } => vec![format!("error: {self}"), hint.clone()],
            Failure::Faults(faults) => {
                let mut lines = vec![format!("error: {self}")];
                if faults.len() > 1 {
                    lines.extend(faults.iter().map(|fault| format!("  {}", shown(&fault.document()))));
                }
                lines
            }
            Failure::Problem(problem) => problem_lines(problem),
            Failure::Unreachable { reason, .. } if reason.contains("invalid peer certificate") => vec![
                format!("error: {self}"),
                "name the authority of its certificate with --ca-file or AWOOOP_CA_FILE".to_owned(),
            ],
            Failure::Unreachable { .. } => vec![
                format!("error: {self}"),
                "start a server here with `awooop dev`, or name another with --url or AWOOOP_URL".to_owned(),
            ],
            Failure::Protocol { .. } => {
                vec![format!("error: {self}"), "is this the address of an awooop server?".to_owned()]
            }
            Failure::Interrupted { run_id: None } => vec!["interrupted".to_owned()],
            Failure::Interrupted { run_id: Some(id) } => vec![
                "interrupted; the run goes on".to_owned(),
                format!("watch it:  awooop runs watch {id}"),
                format!("cancel it: awooop runs cancel {id}"),
            ],
        }
    }
}

fn problem_lines(problem: &Problem) -> Vec<String> {
    let code = problem.code();
    let errors = problem.document["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    // the detail of a document with violations repeats the first of them, without its place
    let title = problem.document["title"].as_str().filter(|_| errors.iter().any(|e| e["line"].is_u64()));
    let head = title.unwrap_or_else(|| problem.detail());
    let mut lines = vec![match code {
        Some(code) => format!("error: {head} ({code})"),
        None => format!("error: {head}"),
    }];
    lines.extend(errors.iter().map(|error| format!("  {}", shown(error))));
    if let Some(code) = code {
        lines.push(format!("see {}/errors/{code}", problem.url));
    }
    lines
}

/// An item of `errors` for a person: `FILE:LINE: PATH: message`, as far as that is known.
fn shown(error: &Value) -> String {
    let message = error["message"].as_str().unwrap_or("not valid");
    match (error["file"].as_str(), error["line"].as_u64(), error["path"].as_str()) {
        (Some(file), Some(line), None | Some("")) => {
            let column = error["column"].as_u64().map(|column| format!(":{column}")).unwrap_or_default();
            format!("{file}:{line}{column}: {message}")
        }
        (Some(file), Some(line), Some(path)) => format!("{file}:{line}: {path}: {message}"),
        (_, _, None | Some("")) => format!("(whole document): {message}"),
        (_, _, Some(path)) => format!("{path}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_one_exit_code() {
        for (status, exit) in [
            (400, Exit::Invalid),
            (413, Exit::Invalid),
            (422, Exit::Invalid),
            (401, Exit::Refused),
            (402, Exit::Refused),
            (403, Exit::Refused),
            (429, Exit::Refused),
            (404, Exit::Failed),
            (409, Exit::Failed),
            (500, Exit::Failed),
            (503, Exit::Failed),
        ] {
            assert_eq!(Exit::of_status(status), exit, "{status}");
        }
    }

    #[test]
    fn signatures_that_are_missing_or_too_old_are_waited_for_and_other_conflicts_failed() {
        let exit = |code: &str| {
            let problem = Problem { status: 409, document: json!({"code": code}), url: String::new() };
            Failure::Problem(Box::new(problem)).exit()
        };
        assert_eq!((exit("E-CONTRACT-003"), exit("E-CONTRACT-005")), (Exit::Waiting, Exit::Waiting));
        assert_eq!((exit("E-CONTRACT-006"), exit("E-CONTRACT-002")), (Exit::Failed, Exit::Failed));
    }

    #[test]
    fn a_run_that_a_budget_or_gate_ended_was_refused_and_every_other_failed() {
        assert_eq!(Exit::of_run_error("E-BUDGET-001"), Exit::Refused);
        assert_eq!(Exit::of_run_error("E-MCP-GATE-004"), Exit::Refused);
        assert_eq!(Exit::of_run_error("E-SCHEMA-001"), Exit::Failed);
        assert_eq!(Exit::of_run_error("E-RUN-013"), Exit::Failed);
        assert_eq!(Exit::of_run_error("nonsense"), Exit::Failed);
    }

    #[test]
    fn a_problem_without_any_field_still_says_something() {
        let problem = Problem { status: 500, document: json!({}), url: "http://h".into() };
        let failure = Failure::Problem(Box::new(problem));
        assert_eq!(failure.lines(), ["error: the server refused and gave no reason"]);
    }
}
