//! rmcp's transport over a child's pipes: one JSON-RPC message a line, both ways.
//!
//! Own, not rmcp's, because results must stay whole and an answer over the limit must fail its call at
//! once instead of leaving it to its timeout. Lines that are no JSON-RPC are skipped, as servers do print
//! banners; a server that prints only junk is given up.

use std::borrow::Cow;
use std::io;
use std::sync::{Arc, OnceLock};

use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, RequestId, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Mutex;

use super::error::UpstreamError;
use super::lines::{Line, Lines};
use super::wire::{self, Reading};

/// Lines of junk in a row after which the conversation is over.
const MAX_JUNK_LINES: u32 = 1000;

/// Why a transport ended, when it knows better than "closed". Set at most once.
pub(super) type Fate = Arc<OnceLock<UpstreamError>>;

/// The transport; `R` and `W` are the child's stdout and stdin.
pub(super) struct StdioTransport<R, W> {
    lines: Lines<R>,
    writer: Arc<Mutex<Option<W>>>,
    initialize: Option<RequestId>,
    junk_lines: u32,
    reading: Reading,
    fate: Fate,
}

impl<R: AsyncRead + Unpin, W> StdioTransport<R, W> {
    pub(super) fn new(stdout: R, stdin: W, reading: Reading, fate: Fate) -> Self {
        Self {
            lines: Lines::new(stdout, reading.max_bytes),
            writer: Arc::new(Mutex::new(Some(stdin))),
            initialize: None,
            junk_lines: 0,
            reading,
            fate,
        }
    }

    /// The message of a line: `None` to read on, an error to end the conversation.
    fn message(&mut self, line: Line) -> Result<Option<ServerJsonRpcMessage>, UpstreamError> {
        let read = match line {
            Line::Whole(bytes) if bytes.is_empty() => return Ok(None),
            Line::Whole(bytes) => {
                self.reading.hear(None, &String::from_utf8_lossy(&bytes));
                wire::read(&bytes, self.initialize.as_ref(), &(self.reading.known)()).ok()
            }
            Line::TooLong { head, tail } => {
                let id = wire::id_of_ends(&head, &tail)
                    .ok_or_else(|| UpstreamError::too_large(self.reading.max_bytes))?;
                Some(wire::too_large_answer(id))
            }
        };
        self.junk_lines = if read.is_some() { 0 } else { self.junk_lines + 1 };
        if self.junk_lines > MAX_JUNK_LINES {
            return Err(UpstreamError::protocol("it prints lines that are no JSON-RPC"));
        }
        Ok(read)
    }
}

impl<R, W> Transport<RoleClient> for StdioTransport<R, W>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send + 'static,
{
    type Error = io::Error;

    fn name() -> Cow<'static, str> {
        "stdio".into()
    }

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        if wire::is_initialize(&message) {
            self.initialize = wire::request_id(&message);
        }
        let writer = Arc::clone(&self.writer);
        async move {
            let mut line = serde_json::to_vec(&message)?;
            line.push(b'\n');
            let mut writer = writer.lock().await;
            let writer = writer.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            writer.write_all(&line).await?;
            writer.flush().await
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        loop {
            let line = self.lines.next().await.ok().flatten()?;
            match self.message(line) {
                Ok(None) => {}
                Ok(message) => return message,
                Err(error) => {
                    let _ = self.fate.set(error);
                    return None;
                }
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.writer.lock().await.take();
        Ok(())
    }
}
