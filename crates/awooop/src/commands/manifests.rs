//! Manifests as they lie in files: which files, which documents in them, and where each came from.
//!
//! A file holds YAML (several documents, parted by `---`) or JSON (one). A directory means its `*.yaml`,
//! `*.yml` and `*.json`, by name, not deeper. What has no `kind` is no manifest and is passed over with a
//! note, so that other files may lie beside them; a file that cannot be parsed stops everything.
//! Nothing is judged here beyond that: the schemas are the server's. YAML aliases cannot blow up and a
//! key given twice is an error (the parser's own limits).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::failure::Failure;

/// The largest file that is read.
const FILE_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// One manifest and where it came from.
pub(crate) struct Manifest {
    /// The file, and which document of it where it has several.
    pub(crate) origin: String,
    /// The document; always an object with a `kind`.
    pub(crate) document: Value,
}

/// What lay in the files.
#[derive(Default)]
pub(crate) struct Found {
    /// In the order they were named.
    pub(crate) manifests: Vec<Manifest>,
    /// Documents that are no manifests, each with its file.
    pub(crate) passed_over: Vec<String>,
}

/// Reads files and directories.
///
/// # Errors
/// [`Failure::Invalid`]: a file that cannot be read or parsed (with its line), no manifest at all, the same
/// manifest twice.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Found, Failure> {
    let mut found = Found::default();
    for path in paths {
        for file in files(path)? {
            read_file(&file, &mut found)?;
        }
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

fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |e: std::io::Error| Failure::invalid(format!("cannot read {}: {e}", path.display()));
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
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

fn read_file(file: &Path, found: &mut Found) -> Result<(), Failure> {
    let name = file.display();
    let unreadable = |e: std::io::Error| Failure::invalid(format!("cannot read {name}: {e}"));
    if std::fs::metadata(file).map_err(unreadable)?.len() > FILE_MAX_BYTES {
        return Err(Failure::invalid(format!("{name} is larger than 4 MiB, too large for a manifest")));
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    let is_json = file.extension().is_some_and(|e| e == "json");
    let documents = if is_json { json(&text) } else { yaml(&text) };
    let documents = documents.map_err(|reason| Failure::invalid(format!("{name}:{reason}")))?;
    let has_several = documents.len() > 1;
    for (index, document) in documents.into_iter().enumerate() {
        let origin = if has_several { format!("{name} (document {})", index + 1) } else { name.to_string() };
        match document {
            Value::Null => {}
            Value::Object(ref fields) if fields.contains_key("kind") => {
                found.manifests.push(Manifest { origin, document });
            }
            _ => found.passed_over.push(origin),
        }
    }
    Ok(())
}

/// Parses JSON; the error begins with `line:column: `.
fn json(text: &str) -> Result<Vec<Value>, String> {
    let document = serde_json::from_str(text).map_err(|e| {
        let reason = e.to_string();
        let reason = reason.split(" at line ").next().unwrap_or_default();
        format!("{}:{}: {reason}", e.line(), e.column())
    })?;
    Ok(vec![document])
}

/// Parses YAML; the error begins with `line:column: `.
fn yaml(text: &str) -> Result<Vec<Value>, String> {
    serde_saphyr::from_multiple(text).map_err(|e| {
        let place = e.location().map(|at| format!("{}:{}: ", at.line(), at.column())).unwrap_or_default();
        format!("{place}{}", e.without_snippet())
    })
}

/// Two manifests of one name in one go: neither can be meant.
fn refuse_twins(manifests: &[Manifest]) -> Result<(), Failure> {
    let mut seen: HashMap<[&str; 3], &str> = HashMap::new();
    for Manifest { origin, document } in manifests {
        let field = |name: &str| document[name].as_str();
        let (Some(kind), Some(id)) = (field("kind"), field("id")) else { continue };
        let project = field("project").unwrap_or_default();
        if let Some(first) = seen.insert([kind, project, id], origin) {
            return Err(Failure::invalid(format!("{first} and {origin} are both {kind} `{id}`")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parse_error_names_its_line() {
        let error = |text: &str| yaml(text).expect_err("not YAML");
        assert!(error("kind: agent\nid: [1, 2\nspec: {}\n").contains(':'));
        assert!(error("kind: agent\nkind: project\n").starts_with("2:"), "{}", error("kind: a\nkind: b\n"));
        assert!(json("{\n  \"kind\": ,\n}").expect_err("not JSON").starts_with("2:11: "));
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let before = format!("*a{}", i - 1);
            text.push_str(&format!("a{i}: &a{i} [{}]\n", vec![before; 10].join(", ")));
        }
        assert!(yaml(&text).is_err());
    }
}
