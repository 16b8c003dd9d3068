//! Lines of a pipe, each of a bounded size. A line over the limit is read to its end and dropped but for
//! both ends, so that a peer that never sends a line end cannot grow our memory.
//!
//! [`Lines::next`] may be dropped and called again without losing a byte: bytes move into the state in the
//! same step that takes them from the pipe.

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Bytes kept of each end of a line that is too long.
const END_BYTES: usize = 512;

/// One line, without its line end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Within the limit.
    Whole(Vec<u8>),
    /// Over the limit: its first and last bytes.
    TooLong { head: Vec<u8>, tail: Vec<u8> },
}

/// Reads lines of at most `max_bytes`.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    max_bytes: usize,
    line: Vec<u8>,
    /// The head of the line being dropped; `line` is then its tail.
    head: Option<Vec<u8>>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R, max_bytes: usize) -> Self {
        Self { reader: BufReader::with_capacity(64 * 1024, reader), max_bytes, line: Vec::new(), head: None }
    }

    /// The next line; `None` at the end of the pipe, where a line without its end is dropped.
    pub(super) async fn next(&mut self) -> std::io::Result<Option<Line>> {
        loop {
            let available = self.reader.fill_buf().await?;
            if available.is_empty() {
                return Ok(None);
            }
            let end = available.iter().position(|&byte| byte == b'\n');
            let taken = end.unwrap_or(available.len());
            self.line.extend_from_slice(&available[..taken]);
            self.reader.consume(taken + usize::from(end.is_some()));
            self.bound();
            if end.is_some() {
                return Ok(Some(self.finish()));
            }
        }
    }

    fn bound(&mut self) {
        if self.head.is_none() && self.line.len() > self.max_bytes {
            self.head = Some(self.line[..self.line.len().min(END_BYTES)].to_vec());
        }
        if self.head.is_some() && self.line.len() > END_BYTES {
            self.line.drain(..self.line.len() - END_BYTES);
        }
    }

    fn finish(&mut self) -> Line {
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        match self.head.take() {
            None => Line::Whole(line),
            Some(head) => Line::TooLong { head, tail: line },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(input: &[u8], max_bytes: usize) -> Vec<Line> {
        let mut lines = Lines::new(input, max_bytes);
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            found.push(line);
        }
        found
    }

    #[tokio::test]
    async fn lines_come_without_their_ends_and_an_unfinished_one_is_dropped() {
        let whole = |text: &str| Line::Whole(text.as_bytes().to_vec());
        assert_eq!(all(b"a\r\n\nbc\nrest", 10).await, [whole("a"), whole(""), whole("bc")]);
        assert_eq!(all(b"", 10).await, []);
    }

    #[tokio::test]
    async fn a_long_line_leaves_only_its_ends_and_the_next_is_whole() {
        let mut input = vec![b'x'; 200_000];
        input[0] = b'<';
        input.extend_from_slice(b">\nnext\n");
        let lines = all(&input, 1000).await;
        let [Line::TooLong { head, tail }, Line::Whole(next)] = lines.as_slice() else {
            panic!("{}", lines.len())
        };
        assert_eq!((head[0], *tail.last().unwrap(), next.as_slice()), (b'<', b'>', b"next".as_slice()));
        assert!(head.len() <= END_BYTES && tail.len() <= END_BYTES);
    }
}
