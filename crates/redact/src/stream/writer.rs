//! A writer that masks what passes through it, in bounded memory: for a command between two pipes.
//!
//! `flush` flushes the inner writer and lets what is held stay held: half a secret is never written to please a flush.

use std::io::{self, Write};

use super::Stream;
use crate::Redactor;

/// Masks what is written and passes it on. Bytes that are no UTF-8 come out as U+FFFD.
///
/// Dropped without [`RedactWriter::finish`], it loses what it held.
pub struct RedactWriter<W: Write> {
    inner: W,
    stream: Stream,
    out: String,
}

impl Redactor {
    /// A writer in front of `inner`.
    pub fn writer<W: Write>(&self, inner: W) -> RedactWriter<W> {
        RedactWriter { inner, stream: self.stream(), out: String::new() }
    }
}

impl<W: Write> RedactWriter<W> {
    /// Ends the text, writes what was held, and flushes; gives the inner writer back.
    ///
    /// # Errors
    /// Those of the inner writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.stream.end(&mut self.out);
        self.pass_on()?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    /// The stream, for its counts.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    fn pass_on(&mut self) -> io::Result<()> {
        let written = self.inner.write_all(self.out.as_bytes());
        self.out.clear();
        written
    }
}

impl<W: Write> Write for RedactWriter<W> {
    /// Takes all of `bytes`. After an error of the inner writer what was on its way is lost.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.push_bytes(bytes, &mut self.out);
        self.pass_on()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
