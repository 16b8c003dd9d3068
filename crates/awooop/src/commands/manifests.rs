//! Manifests as they lie in files: which files, which documents in them, and where everything in them stands.
//!
//! A file holds YAML (several documents, parted by `---`) or JSON (one); `-` is standard input. A directory
//! means its `*.yaml`, `*.yml` and `*.json`, by name, not deeper. What has no `kind` is no manifest and is
//! passed over with a note, so that other files may lie beside them; a file that cannot be parsed stops
//! everything. Variables are replaced here, where a document declares them (`env.rs`). Nothing is judged
//! beyond that: the schemas are the server's, and [`Manifest::spot`] finds the line for its answer.

mod env;
mod json;
mod node;
mod write;
mod yaml;

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::failure::{Failure, Fault, Spot};
use node::{Node, Place};
pub(crate) use write::to_text;

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
        Spot { file: self.file.clone(), document: Some(self.document), line, column }
    }
}

impl Manifest {
    /// Where a JSON Pointer into the document leads, or the nearest thing above it that is there.
    pub(crate) fn spot(&self, pointer: &str) -> Spot {
        self.origin.spot(self.tree.place_of(pointer))
    }

    /// Where a violation stands that the server found below this pointer. Of a member that should not be
    /// there the pointer names the holder and the message the key; it is the key that a person looks for.
    pub(crate) fn spot_of(&self, violation: &Value, pointer: &str) -> Spot {
        let is_too_much = violation["keyword"] == "additionalProperties";
        let message = violation["message"].as_str().filter(|_| is_too_much).unwrap_or_default();
        let holder = self.document.pointer(pointer);
        let key = message.split('\'').find(|part| holder.is_some_and(|holder| holder.get(part).is_some()));
        match key {
            Some(key) => self.spot(&format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))),
            None => self.spot(pointer),
        }
    }

    /// Says of a violation that the server found below this pointer where it stands.
    pub(crate) fn mark(&self, violation: &mut Value, pointer: &str) {
        self.spot_of(violation, pointer).mark(violation);
        violation["path"] = pointer.into();
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
        let documents = parse(file, &text).map_err(|(Place { line, column }, reason)| {
            Failure::at(Spot { file: name.clone(), document: None, line, column }, "", reason)
        })?;
        let has_several = documents.len() > 1;
        for (index, mut tree) in documents.into_iter().enumerate() {
            let origin = Origin { file: name.clone(), document: index + 1 };
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
    let mut bytes = Vec::new();
    // one byte more than allowed, to tell the largest allowed from a larger one
    let read = if is_stdin(file) {
        std::io::stdin().lock().take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|open| open.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes))
    };
    if read.map_err(unreadable)? as u64 > FILE_MAX_BYTES {
        return Err(Failure::invalid(format!("{name} is larger than 4 MiB, too large for a manifest")));
    }
    String::from_utf8(bytes).map_err(|_| Failure::invalid(format!("cannot read {name}: it is not UTF-8")))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(files: &[(&str, &str)]) -> Result<Found, Failure> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        read(&[dir.path().to_owned()])
    }

    /// `FILE:LINE` without the directory.
    fn shown(spot: &Spot) -> String {
        let name = Path::new(&spot.file).file_name().unwrap().to_str().unwrap();
        format!("{name}:{}", spot.line)
    }

    #[test]
    fn every_document_of_every_file_knows_its_places() {
        let two = "kind: agent\nid: a\n---\n- no manifest\n---\n# c\nkind: agent\nid: b\nspec: {}\n";
        let found = found(&[("b.yaml", two), ("a.json", "{\"kind\": \"agent\",\n\"id\": \"c\"}")]).unwrap();
        let ids: Vec<(String, usize)> = found
            .manifests
            .iter()
            .map(|m| m.spot("/id"))
            .map(|spot| (shown(&spot), spot.document.unwrap()))
            .collect();
        let expected = [("a.json:2", 1), ("b.yaml:2", 1), ("b.yaml:8", 3)];
        assert_eq!(ids, expected.map(|(spot, document)| (spot.to_owned(), document)));
        assert_eq!(shown(&found.manifests[2].spot("/spec/model")), "b.yaml:9");
        assert!(found.passed_over[0].ends_with("b.yaml (document 2)"), "{:?}", found.passed_over);
    }

    #[test]
    fn a_member_that_should_not_be_there_is_found_by_its_key() {
        let text = "kind: agent\nid: a\nspec:\n  model: x/y\n  max_step: 3\n";
        let found = found(&[("a.yaml", text)]).unwrap();
        let violation = |keyword: &str, message: &str| json!({"keyword": keyword, "message": message});
        let too_much = "Additional properties are not allowed ('max_step' was unexpected)";
        let line = |v: &Value| found.manifests[0].spot_of(v, "/spec").line;
        assert_eq!(line(&violation("additionalProperties", too_much)), 5);
        assert_eq!(line(&violation("additionalProperties", "no key is named")), 3);
        assert_eq!(line(&violation("required", "\"max_step\" is a required property")), 3);
    }

    #[test]
    fn all_that_is_wrong_with_variables_is_said_at_once_and_env_is_not_sent() {
        let bad = |id: &str| {
            format!(
                "kind: agent\nid: {id}\nenv:\n  - NO_SUCH_VARIABLE_HERE\nspec: ${{NO_SUCH_VARIABLE_HERE}}\n"
            )
        };
        let Err(Failure::Faults(faults)) = found(&[("a.yaml", &bad("a")), ("b.yaml", &bad("b"))]) else {
            panic!("variables that are not set");
        };
        let places: Vec<String> = faults.iter().map(|fault| shown(&fault.spot)).collect();
        assert_eq!(places, ["a.yaml:4", "b.yaml:4"]);
        let good = "kind: agent\nid: a\nenv: {NO_SUCH_VARIABLE_HERE: x}\nspec: ${NO_SUCH_VARIABLE_HERE}\n";
        let sent = found(&[("a.yaml", good)]).unwrap().manifests.remove(0).document;
        assert_eq!(sent, json!({"kind": "agent", "id": "a", "spec": "x"}));
    }

    #[test]
    fn twins_and_files_that_are_too_large_are_refused() {
        let one = "kind: agent\nid: a\n";
        let twins = found(&[("a.yaml", one), ("b.yaml", one)]).err().unwrap().to_string();
        assert!(
            twins.contains("b.yaml:2: /id: agent `a` is also in") && twins.ends_with("a.yaml:2"),
            "{twins}"
        );
        let large = format!("{one}# {}\n", "x".repeat(4 * 1024 * 1024));
        let refused = found(&[("a.yaml", &large)]).err().unwrap().to_string();
        assert!(refused.contains("larger than 4 MiB"), "{refused}");
    }
}
