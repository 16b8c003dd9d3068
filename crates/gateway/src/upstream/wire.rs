//! JSON-RPC messages of a server, read so that a result stays whole.
//!
//! rmcp reads results into types of its own and drops members it does not know. Every result but that of
//! `initialize` is therefore put under one private member, which makes rmcp carry it as a custom result,
//! and taken out again by [`take_result`]. Notifications, requests and errors go through rmcp's types.

use std::sync::Arc;

use awooop_redact::Known;
use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, CustomResult, ErrorCode, ErrorData, RequestId, ServerJsonRpcMessage,
    ServerResult,
};
use serde_json::{Map, Value};

use super::notice::Hearers;

const KEPT: &str = "awooop/kept-result";

/// Our own error code towards the caller of rmcp: the answer was larger than the limit. A server that
/// sends it itself earns the same protocol error.
const TOO_LARGE: ErrorCode = ErrorCode(-31_901);

/// How the messages of one server are read, whatever brings them.
#[derive(Clone)]
pub(super) struct Reading {
    /// Largest message, in bytes of JSON text.
    pub(super) max_bytes: usize,
    /// The values that are masked in every message, as of now.
    pub(super) known: Arc<dyn Fn() -> Arc<Known> + Send + Sync>,
    /// Who listens to what is said of calls.
    pub(super) hearers: Hearers,
}

impl Reading {
    /// Tells who listens, without the values that are masked; `request` is the one in whose answer the message came.
    pub(super) fn hear(&self, request: Option<&RequestId>, message: &str) {
        // almost every message is an answer
        if message.contains("\"notifications/")
            && self.hearers.are_any()
            && let Ok(message) = serde_json::from_str(message)
        {
            self.hearers.hear(request, (self.known)().mask_json(message));
        }
    }

    #[cfg(test)]
    pub(super) fn of_test(max_bytes: usize) -> Self {
        Self { max_bytes, known: Arc::new(Arc::default), hearers: Hearers::default() }
    }
}

/// Is this the handshake, whose result rmcp has to read itself?
pub(super) fn is_initialize(message: &ClientJsonRpcMessage) -> bool {
    matches!(message, ClientJsonRpcMessage::Request(request)
        if matches!(request.request, ClientRequest::InitializeRequest(_)))
}

/// The id of a request; `None` for everything else.
pub(super) fn request_id(message: &ClientJsonRpcMessage) -> Option<RequestId> {
    match message {
        ClientJsonRpcMessage::Request(request) => Some(request.id.clone()),
        _ => None,
    }
}

/// Reads one message, without the values in `known`. A result is kept whole unless its id is `initialize`.
pub(super) fn read(
    bytes: &[u8],
    initialize: Option<&RequestId>,
    known: &Known,
) -> Result<ServerJsonRpcMessage, serde_json::Error> {
    let mut message = known.mask_json(serde_json::from_slice(bytes)?);
    let id = message.get("id").and_then(|id| serde_json::from_value::<RequestId>(id.clone()).ok());
    let is_handshake = id.is_some() && id.as_ref() == initialize;
    match (id, message.get_mut("result")) {
        (Some(id), Some(result)) if !is_handshake => {
            let result = ServerResult::CustomResult(CustomResult(keep(result.take())));
            Ok(ServerJsonRpcMessage::response(result, id))
        }
        _ => serde_json::from_value(message),
    }
}

/// The same for the data of a server-sent event, as text for rmcp to read, which reads the handshake's answer itself:
/// `is_kept` is false for that. Anything that is no response keeps its form.
pub(super) fn keep_in_event(data: String, is_kept: bool, known: &Known) -> String {
    match serde_json::from_str::<Value>(&data).map(|message| known.mask_json(message)) {
        Err(_) => known.mask(&data).into_owned(),
        Ok(Value::Object(mut message)) if is_kept && message.contains_key("result") => {
            let result = message.remove("result").unwrap_or_default();
            message.insert("result".to_owned(), keep(result));
            Value::Object(message).to_string()
        }
        Ok(_) if known.is_empty() => data,
        Ok(message) => message.to_string(),
    }
}

fn keep(result: Value) -> Value {
    Value::Object(Map::from_iter([(KEPT.to_owned(), result)]))
}

/// The result as the server sent it; `None` when it is not one kept by this module.
pub(super) fn take_result(result: ServerResult) -> Option<Value> {
    match result {
        ServerResult::CustomResult(CustomResult(Value::Object(mut members))) => members.remove(KEPT),
        _ => None,
    }
}

/// Stands in for an answer that was too large to read.
pub(super) fn too_large_answer(id: RequestId) -> ServerJsonRpcMessage {
    ServerJsonRpcMessage::error(ErrorData::new(TOO_LARGE, "too large", None), Some(id))
}

/// Is this the stand-in?
pub(super) fn is_too_large(error: &ErrorData) -> bool {
    error.code == TOO_LARGE
}

/// Did rmcp make this error because the stream of an answer closed before the answer came? rmcp marks it
/// in the data; a server that sends the mark itself is treated the same.
pub(super) fn is_stream_closed(error: &ErrorData) -> bool {
    error.data.as_ref().is_some_and(|data| data.get("io.modelcontextprotocol/transportClosed").is_some())
}

/// The id of a response of which only both ends were read. JSON-RPC puts `id` before or after `result`,
/// so it stands between the first two braces that open or the last two that close.
pub(super) fn id_of_ends(head: &[u8], tail: &[u8]) -> Option<RequestId> {
    let head = String::from_utf8_lossy(head);
    let tail = String::from_utf8_lossy(tail);
    let before_result = head.trim_start().strip_prefix('{').and_then(|rest| rest.split('{').next());
    let after_result = tail.trim_end().strip_suffix('}').and_then(|rest| rest.rsplit('}').next());
    before_result.and_then(id_member).or_else(|| after_result.and_then(id_member))
}

fn id_member(members: &str) -> Option<RequestId> {
    let (_, rest) = members.split_once("\"id\"")?;
    let value = rest.trim_start().strip_prefix(':')?.trim_start();
    let digits: String = value.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().map(RequestId::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_result_comes_through_whole_by_either_way() {
        let result = json!({"content": [{"type": "new", "x": [1]}], "isError": false, "extra": {"y": null}});
        let text = json!({"jsonrpc": "2.0", "id": 7, "result": result}).to_string();
        let known = Known::default();
        let direct = read(text.as_bytes(), None, &known).unwrap();
        let event: ServerJsonRpcMessage = serde_json::from_str(&keep_in_event(text, true, &known)).unwrap();
        for message in [direct, event] {
            let ServerJsonRpcMessage::Response(response) = message else { panic!("no response") };
            assert_eq!(response.id, RequestId::Number(7));
            assert_eq!(take_result(response.result), Some(result.clone()));
        }
    }

    #[test]
    fn whatever_a_result_looks_like_rmcp_does_not_read_it() {
        for result in
            [json!({}), json!({"tools": []}), json!({"resultType": "complete"}), json!(null), json!([1])]
        {
            let text = json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string();
            let event: ServerJsonRpcMessage =
                serde_json::from_str(&keep_in_event(text, true, &Known::default())).unwrap();
            let ServerJsonRpcMessage::Response(response) = event else { panic!("no response") };
            assert_eq!(take_result(response.result), Some(result));
        }
    }

    #[test]
    fn the_id_is_found_at_either_end_of_a_cut_answer() {
        let id = Some(RequestId::Number(12));
        assert_eq!(id_of_ends(br#"{"jsonrpc":"2.0","id":12,"result":{"con"#, b"xx"), id);
        assert_eq!(
            id_of_ends(br#"{"result":{"content":[{"id":3"#, br#"x"}]},"jsonrpc":"2.0","id": 12}"#),
            id
        );
        assert_eq!(id_of_ends(br#"{"result":{"id":3"#, br#""id":4}]}}"#), None);
        assert_eq!(id_of_ends(b"aaaa", b"aaaa"), None);
    }
}
