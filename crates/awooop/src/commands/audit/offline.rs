//! A check of exported files: a public key and the files are all it needs, and all it believes. Both files are
//! read line by line, so that their length costs no memory.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use awooop_core::audit::{Anchor, Event, Head, PublicKeys, Report, Seal, Tampering, Verifier};

use crate::failure::Failure;

/// The lines of a file, one at a time.
struct Lines<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    n: usize,
    line: Vec<u8>,
}

impl<'a> Lines<'a> {
    fn open(path: &'a Path) -> Result<Self, Failure> {
        let file =
            File::open(path).map_err(|e| Failure::invalid(format!("cannot read {}: {e}", path.display())))?;
        Ok(Self { path, reader: BufReader::with_capacity(1 << 20, file), n: 0, line: Vec::new() })
    }

    /// The next line, without its end; `None` after the last.
    fn next(&mut self) -> Result<Option<&[u8]>, Failure> {
        self.line.clear();
        self.n += 1;
        let read = self.reader.read_until(b'\n', &mut self.line);
        let read = read.map_err(|e| Failure::invalid(format!("cannot read {}: {e}", self.path.display())))?;
        Ok((read > 0).then(|| self.line.strip_suffix(b"\n").unwrap_or(&self.line)))
    }

    fn seal(&mut self) -> Result<Option<Seal>, Failure> {
        let Some(line) = self.next()? else { return Ok(None) };
        let seal = Seal::parse(line);
        seal.map(Some).map_err(|reason| bad(self.path, self.n, &reason))
    }
}

fn bad(path: &Path, n: usize, reason: &str) -> Failure {
    Failure::invalid(format!("{}:{n}: {reason}", path.display()))
}

/// Checks exported events against exported seals. Without `project` it is the first seal's.
///
/// # Errors
/// [`Failure::Invalid`] for files or keys that are not what they should be.
pub(super) fn verify(
    events: &Path,
    seals: &Path,
    public_keys: &[String],
    project: Option<String>,
    heads: &[Head],
) -> Result<(Vec<Tampering>, Report), Failure> {
    let keys = keys(public_keys)?;
    let project = match project {
        Some(project) => project,
        None => Lines::open(seals)?.seal()?.map(|seal| seal.project).unwrap_or_default(),
    };
    let heads: Vec<Anchor> = heads.iter().map(Head::anchor).collect();
    let mut verifier = Verifier::new(&project, &keys, &heads, None);
    let (mut events, mut seals) = (Lines::open(events)?, Lines::open(seals)?);
    let (mut found, mut has_seals) = (Vec::new(), true);
    loop {
        let n = events.n + 1;
        let path = events.path;
        let Some(line) = events.next()? else { break };
        let event: Event<'_> = serde_json::from_slice(line).map_err(|e| bad(path, n, &e.to_string()))?;
        while has_seals && verifier.needs_seal(event.id) {
            match seals.seal()? {
                Some(seal) => verifier.seal(&seal),
                None => has_seals = false,
            }
        }
        verifier.event(&event, line, || None);
        found.append(&mut verifier.take_found());
    }
    while let Some(seal) = seals.seal()? {
        verifier.seal(&seal);
    }
    let (rest, report) = verifier.finish();
    found.extend(rest);
    Ok((found, report))
}

fn keys(given: &[String]) -> Result<PublicKeys, Failure> {
    let mut keys = PublicKeys::default();
    for text in given {
        let is_key = text.split_once(':').is_some_and(|(id, key)| keys.add(id, key));
        if !is_key {
            let message = format!("`{text}` is no public key: it is <key id>:<64 hexadecimal digits>");
            return Err(Failure::invalid(message));
        }
    }
    Ok(keys)
}
