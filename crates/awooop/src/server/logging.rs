//! Logs go to stderr, one line an event, each through the redactor. `AWOOOP_LOG` sets the filter
//! (`info` by default), `AWOOOP_LOG_FORMAT=json` the form. Libraries that would log payloads or statement
//! parameters are kept quiet whatever the filter says.

use std::io::{self, Write};

use awooop_redact::Redactor;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Libraries that log payloads or statement parameters when they are asked for detail.
const QUIET: &str = "rmcp=error,tokio_postgres=info,hyper=info";

/// Starts logging for the process; a second call does nothing.
pub(super) fn start(default: &str) {
    let wanted = std::env::var("AWOOOP_LOG").unwrap_or_else(|_| default.to_owned());
    let filter = EnvFilter::try_new(format!("{wanted},{QUIET}"))
        .unwrap_or_else(|_| EnvFilter::new(format!("{default},{QUIET}")));
    let writer = Masked { redactor: Redactor::new() };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    let is_json = std::env::var("AWOOOP_LOG_FORMAT").is_ok_and(|form| form == "json");
    // an error means that a subscriber is set already
    let _ = if is_json { builder.json().try_init() } else { builder.with_target(false).try_init() };
}

/// Makes writers that mask each event's text before it reaches stderr.
struct Masked {
    redactor: Redactor,
}

/// One event's text.
struct Line {
    redactor: Redactor,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Masked {
    type Writer = Line;
    fn make_writer(&'a self) -> Line {
        Line { redactor: self.redactor.clone(), text: Vec::new() }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        let masked = self.redactor.redact_line(&text);
        // a closed stderr leaves nobody to tell
        let _ = io::stderr().lock().write_all(masked.as_bytes());
    }
}
