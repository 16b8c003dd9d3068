//! Several streams that come interleaved, as the parts of a model's answer do: one for each choice, field and tool call.
//!
//! A piece of one part says nothing about the others, so each has a stream of its own, made when its first piece comes.

use std::collections::BTreeMap;

use super::Stream;
use crate::{Class, Redactor};

/// A stream for each key.
pub struct StreamSet<K> {
    redactor: Redactor,
    streams: BTreeMap<K, Stream>,
    counts: BTreeMap<Class, u64>,
    blocked: Option<Class>,
}

impl<K: Ord> StreamSet<K> {
    /// No streams yet; those to come obey the redactor's rules.
    pub fn new(redactor: &Redactor) -> Self {
        StreamSet {
            redactor: redactor.clone(),
            streams: BTreeMap::new(),
            counts: BTreeMap::new(),
            blocked: None,
        }
    }

    /// Takes the next piece of the stream of `key`; gives what is certain now, which is often less than came.
    pub fn push(&mut self, key: K, chunk: &str) -> String {
        let mut out = String::with_capacity(chunk.len());
        let stream = self.streams.entry(key).or_insert_with(|| self.redactor.stream());
        stream.push(chunk, &mut out);
        self.blocked = self.blocked.or(stream.blocked());
        out
    }

    /// Ends the stream of `key`: what it held.
    pub fn finish(&mut self, key: &K) -> String {
        self.streams.remove(key).map(|stream| self.end(stream)).unwrap_or_default()
    }

    /// Ends every stream: what each held, in the order of the keys; those that held nothing are left out.
    pub fn finish_all(&mut self) -> Vec<(K, String)> {
        let streams = std::mem::take(&mut self.streams);
        let rests = streams.into_iter().map(|(key, stream)| (key, self.end(stream)));
        rests.filter(|(_, rest)| !rest.is_empty()).collect()
    }

    /// How many finds of each class were masked so far, in all streams.
    pub fn findings(&self) -> BTreeMap<Class, u64> {
        let mut all = self.counts.clone();
        self.streams.values().for_each(|stream| add(&mut all, stream));
        all
    }

    /// The class of the first find for which the rules refuse the whole.
    pub fn blocked(&self) -> Option<Class> {
        self.blocked
    }

    fn end(&mut self, mut stream: Stream) -> String {
        let mut out = String::new();
        stream.end(&mut out);
        add(&mut self.counts, &stream);
        self.blocked = self.blocked.or(stream.blocked());
        out
    }
}

fn add(counts: &mut BTreeMap<Class, u64>, stream: &Stream) {
    for (class, n) in stream.findings() {
        *counts.entry(*class).or_default() += n;
    }
}
