//! Manifests as they lie in files: which files, which documents in them, and where everything in them stands.
//!
//! A file holds YAML (several documents, parted by `---`) or JSON (one); `-` is standard input. A directory
//! means its `*.yaml`, `*.yml` and `*.json`, by name, not deeper. What has no `kind` is no manifest and is
//! passed over with a note, so that other files may lie beside them; a file that cannot be parsed stops
//! everything. Variables are replaced here, where a document declares them ([`env`]). Nothing is judged
//! beyond that: the schemas are the server's, and [`Manifest::spot`] finds the line for its answer.

mod env;
mod json;
mod node;
mod yaml;

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::failure::{Failure, Fault, Spot};
use node::{Node, Place};

/// The largest file that is read, in bytes.
const FILE_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// The path that means standard input.
const STDIN: &str = "-";

/// One manifest and where it came from.
pub(crate) struct Manifest {
    /// The document as it is sent; always an object with a `kind`.
    pub(crate) document: Value,
    origin: Origin,
    tree: Node,
}

/// A document of a file.
#[derive(Clone)]
struct Origin {
    file: String,
    /// Which of the file's documents that hold something, counted from 1.
    document: usize,
}

impl Origin {
    fn spot(&self, place: Place) -> Spot {
        let Place { line, column } = place;
        Spot { file: self.file.clone(), document: self.document, line, column }
    }
}

impl Manifest {
    /// Where a JSON Pointer into the document leads, or the nearest thing above it that is there.
    pub(crate) fn spot(&self, pointer: &str) -> Spot {
        self.origin.spot(self.tree.place_of(pointer))
    }

    /// A failure because of what stands there.
    pub(crate) fn invalid(&self, pointer: &str, message: impl Into<String>) -> Failure {
        Failure::at(self.spot(pointer), pointer, message)
    }
}

/// What lay in the files.
#[derive(Default)]
pub(crate) struct Found {
    /// In the order they were named.
    pub(crate) manifests: Vec<Manifest>,
    /// Documents that are no manifests, each by its file.
    pub(crate) passed_over: Vec<String>,
    faults: Vec<Fault>,
}

/// Reads files, directories and standard input.
///
/// # Errors
/// [`Failure::Invalid`]: a file that cannot be read, no manifest at all. [`Failure::Faults`], with places: a
/// file that cannot be parsed, variables that cannot be replaced, the same manifest twice.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Found, Failure> {
    if paths.iter().filter(|path| is_stdin(path)).count() > 1 {
        return Err(Failure::invalid("standard input can be read only once: `-f -` is given twice"));
    }
    let mut found = Found::default();
    for path in paths {
        for file in files(path)? {
            found.add(&file)?;
        }
    }
    if !found.faults.is_empty() {
        return Err(Failure::Faults(found.faults));
    }
    if found.manifests.is_empty() {
        let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
        return Err(Failure::Invalid {
            message: format!("no manifest in {}", names.join(", ")),
            hint: Some("a manifest has `kind`, `project`, `id` and `spec`".to_owned()),
        });
    }
    refuse_twins(&found.manifests)?;
    Ok(found)
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == STDIN
}

fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |e: std::io::Error| Failure::invalid(format!("cannot read {}: {e}", path.display()));
    if is_stdin(path) || !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let extension = file.extension().and_then(|e| e.to_str());
        if matches!(extension, Some("yaml" | "yml" | "json")) && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

impl Found {
    fn add(&mut self, file: &Path) -> Result<(), Failure> {
        let name = if is_stdin(file) { "stdin".to_owned() } else { file.display().to_string() };
        let text = text(file, &name)?;
        let origin = |document| Origin { file: name.clone(), document };
        let documents =
            parse(file, &text).map_err(|(place, reason)| Failure::at(origin(1).spot(place), "", reason))?;
        let has_several = documents.len() > 1;
        for (index, mut tree) in documents.into_iter().enumerate() {
            let origin = origin(index + 1);
            if tree.member("kind").is_none() {
                let number =
                    if has_several { format!(" (document {})", origin.document) } else { String::new() };
                self.passed_over.push(format!("{name}{number}"));
                continue;
            }
            if let Err(wrong) = env::substitute(&mut tree, |variable| std::env::var_os(variable)) {
                let faults = wrong.into_iter().map(|(place, path, message)| Fault {
                    spot: origin.spot(place),
                    path,
                    message,
                });
                self.faults.extend(faults);
            }
            self.manifests.push(Manifest { document: tree.to_json(), origin, tree });
        }
        Ok(())
    }
}

fn text(file: &Path, name: &str) -> Result<String, Failure> {
    let unreadable = |e: std::io::Error| Failure::invalid(format!("cannot read {name}: {e}"));
    let mut text = String::new();
    // one byte more than allowed, to tell the largest allowed from a larger one
    let read = if is_stdin(file) {
        std::io::stdin().lock().take(FILE_MAX_BYTES + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|open| open.take(FILE_MAX_BYTES + 1).read_to_string(&mut text))
    };
    if read.map_err(unreadable)? as u64 > FILE_MAX_BYTES {
        return Err(Failure::invalid(format!("{name} is larger than 4 MiB, too large for a manifest")));
    }
    Ok(text)
}

/// A file's documents; nothing where it holds nothing. JSON on standard input is told by its reading as such.
fn parse(file: &Path, text: &str) -> Result<Vec<Node>, (Place, String)> {
    if file.extension().is_some_and(|e| e == "json") {
        return Ok(vec![json::parse(text)?]);
    }
    if is_stdin(file)
        && text.trim_start().starts_with('{')
        && let Ok(document) = json::parse(text)
    {
        return Ok(vec![document]);
    }
    yaml::parse(text)
}

/// Two manifests of one name in one go: neither can be meant.
fn refuse_twins(manifests: &[Manifest]) -> Result<(), Failure> {
    let mut seen: HashMap<[&str; 3], &Manifest> = HashMap::new();
    for manifest in manifests {
        let field = |name: &str| manifest.document[name].as_str();
        let (Some(kind), Some(id)) = (field("kind"), field("id")) else { continue };
        let project = field("project").unwrap_or_default();
        if let Some(first) = seen.insert([kind, project, id], manifest) {
            let Spot { file, line, .. } = first.spot("/id");
            return Err(manifest.invalid("/id", format!("{kind} `{id}` is also in {file}:{line}")));
        }
    }
    Ok(())
}
