//! A reader of server-sent events, as far as the run's event stream needs it.
//!
//! Bytes go in as the network cuts them, whole events come out. Follows the parsing rules of the WHATWG HTML
//! standard ("Interpreting an event stream") but for `retry`, which is ignored: the caller has its own
//! patience. Lines end with LF or CRLF; a lone CR, which no server here writes, ends no line.
//! Fails when one event grows beyond [`MAX_EVENT_BYTES`].

/// More than any step the server would send (outputs are capped far below).
pub(crate) const MAX_EVENT_BYTES: usize = 32 * 1024 * 1024;

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its name, `message` where it has none.
    pub(crate) name: String,
    /// Its data, lines joined by `\n`.
    pub(crate) data: String,
}

/// An event larger than [`MAX_EVENT_BYTES`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// What was read so far.
#[derive(Default)]
pub(crate) struct Reader {
    line: Vec<u8>,
    name: String,
    data: String,
    has_data: bool,
    pending_id: Option<String>,
    last_id: Option<String>,
}

impl Reader {
    /// A reader that goes on after the event with this id.
    pub(crate) fn after(last_id: Option<String>) -> Self {
        Self { last_id, ..Self::default() }
    }

    /// The id of the last event, for `Last-Event-ID`.
    pub(crate) fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// Takes bytes and gives the events they complete.
    ///
    /// # Errors
    /// [`TooLarge`]; the stream is of no use then.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Event>, TooLarge> {
        let mut events = Vec::new();
        for part in bytes.split_inclusive(|&b| b == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() + self.data.len() > MAX_EVENT_BYTES {
                return Err(TooLarge);
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                let line = String::from_utf8_lossy(&line);
                let line = line.strip_suffix('\n').unwrap_or(&line);
                events.extend(self.take_line(line.strip_suffix('\r').unwrap_or(line)));
            }
        }
        Ok(events)
    }

    fn take_line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            "id" if !value.contains('\0') => self.pending_id = Some(value.to_owned()),
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        // Only now: an event that is cut off after its id has to come again.
        self.last_id = self.pending_id.take().or(self.last_id.take());
        if !std::mem::take(&mut self.has_data) {
            return None;
        }
        Some(Event { name: if name.is_empty() { "message".to_owned() } else { name }, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_however_the_network_cuts_them() {
        let text = ": hello\n\nid: 1.0\nevent: state\ndata: {\"音\":\ndata: 1}\r\n\r\nevent: none\n\ndata\nid:1.2\n\n";
        let event = |name: &str, data: &str| Event { name: name.into(), data: data.into() };
        let expected = vec![event("state", "{\"音\":\n1}"), event("message", "")];
        for size in 1..text.len() {
            let mut reader = Reader::default();
            let events: Vec<Event> =
                text.as_bytes().chunks(size).flat_map(|c| reader.feed(c).unwrap()).collect();
            assert_eq!(events, expected, "chunks of {size}");
            assert_eq!(reader.last_id(), Some("1.2"));
        }
    }

    #[test]
    fn an_event_that_was_cut_off_is_not_delivered() {
        let mut reader = Reader::after(Some("1.1".into()));
        assert_eq!(reader.feed(b"id: 1.2\nevent: end\ndata: {}\n").unwrap(), []);
        assert_eq!(reader.last_id(), Some("1.1"));
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut reader = Reader::default();
        let chunk = vec![b'x'; 1024 * 1024];
        let is_refused = (0..40).any(|_| reader.feed(&chunk).is_err());
        assert!(is_refused);
    }
}
