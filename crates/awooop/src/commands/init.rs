//! `awooop init`: writes a small project that runs at once against `awooop dev`: one agent, the offline model, and a
//! tool server of one file.
//!
//! The templates lie beside this file and are real files, with `PROJECT_ID` where the project's id belongs.
//! Invariant: nothing is overwritten, and when anything is in the way nothing is written at all.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use awooop_core::ProjectId;
use serde_json::json;

use crate::cli::InitArgs;
use crate::failure::Failure;
use crate::output::{Reply, finish};

/// What is written: name and text.
const TEMPLATES: [(&str, &str); 6] = [
    ("project.yaml", include_str!("init/project.yaml")),
    ("provider-offline.yaml", include_str!("init/provider-offline.yaml")),
    ("provider-tools.yaml", include_str!("init/provider-tools.yaml")),
    ("agent.yaml", include_str!("init/agent.yaml")),
    ("tools.py", include_str!("init/tools.py")),
    ("README.md", include_str!("init/README.md")),
];
/// What stands in a template for the project's id.
const PLACEHOLDER: &str = "PROJECT_ID";
/// The id where the directory's name has nothing that an id may hold.
const NAMELESS: &str = "my-project";
const ID_MAX_CHARS: usize = 64;

/// Carries out the command.
pub(crate) fn run(args: &InitArgs) -> ExitCode {
    finish(init(args), args.json)
}

fn init(args: &InitArgs) -> Result<Reply, Failure> {
    let project = match &args.project {
        Some(given) => checked(given)?,
        None => named_like(&args.dir),
    };
    write(&args.dir, &project)?;
    let commands = commands(&args.dir, &project);
    let files: Vec<&str> = TEMPLATES.iter().map(|(name, _)| *name).collect();
    let has_python = has_python();
    let document = json!({
        "project_id": project.as_str(), "dir": args.dir.display().to_string(), "files": files, "next": commands,
        "has_python": has_python,
    });
    let text = format!(
        "project `{project}` is in {}: {}\n\nWith a server running (awooop dev, in another terminal):\n  {}",
        args.dir.display(),
        files.join(", "),
        commands.join("\n  ")
    );
    let reply = Reply::done(document, text);
    Ok(match has_python {
        true => reply,
        false => {
            reply.with_note("python3 is not on the PATH, and tools.py needs it: install Python 3.9 or newer")
        }
    })
}

fn checked(given: &str) -> Result<ProjectId, Failure> {
    let refused = |reason: String| Failure::invalid(format!("--project {given}: {reason}"));
    let project = ProjectId::parse(given).map_err(|e| refused(e.to_string()))?;
    if project == ProjectId::platform() {
        return Err(refused("this name is the platform's own".to_owned()));
    }
    Ok(project)
}

/// An id from the directory's name: small letters, digits, `-` and `_`.
fn named_like(dir: &Path) -> ProjectId {
    let absolute = dir.canonicalize().or_else(|_| std::path::absolute(dir)).unwrap_or_default();
    let name = absolute.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let is_kept = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words: Vec<&str> = name.split(|c: char| !is_kept(c)).filter(|word| !word.is_empty()).collect();
    let id: String = words.join("-").trim_start_matches('_').chars().take(ID_MAX_CHARS).collect();
    match ProjectId::parse(&id) {
        Ok(project) if project != ProjectId::platform() => project,
        _ => ProjectId::parse(NAMELESS).expect("a valid name"),
    }
}

fn write(dir: &Path, project: &ProjectId) -> Result<(), Failure> {
    let in_the_way: Vec<&str> = TEMPLATES
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| dir.join(name).symlink_metadata().is_ok())
        .collect();
    if !in_the_way.is_empty() {
        return Err(Failure::Invalid {
            message: format!("{} has {} already; nothing was written", dir.display(), in_the_way.join(", ")),
            hint: Some("name another directory: awooop init DIR".to_owned()),
        });
    }
    let failed = |path: &Path, e: std::io::Error| match e.kind() {
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            Failure::invalid(format!("{} is in the way: {e}", path.display()))
        }
        _ => Failure::invalid(format!("cannot write {}: {e}", path.display())),
    };
    std::fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
    for (name, text) in TEMPLATES {
        let path = dir.join(name);
        let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
        let text = text.replace(PLACEHOLDER, project.as_str());
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| failed(&path, e))?;
    }
    Ok(())
}

/// What to type next, ready to paste.
fn commands(dir: &Path, project: &ProjectId) -> Vec<String> {
    let quoted = |path: PathBuf| {
        let text = path.display().to_string();
        let is_plain = |c: char| c.is_alphanumeric() || "/._-".contains(c);
        if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
    };
    let tools = if dir == Path::new(".") { PathBuf::from("tools.py") } else { dir.join("tools.py") };
    vec![
        format!("python3 {} &", quoted(tools)),
        format!("awooop apply -f {}", quoted(dir.to_owned())),
        format!("awooop run assistant \"When do you open on Saturday?\" --project {project}"),
    ]
}

fn has_python() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join("python3").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_s_name_becomes_an_id() {
        for (dir, expected) in [
            ("/x/shop", "shop"),
            ("/x/My Shop (2)", "my-shop-2"),
            ("/x/_under_score", "under_score"),
            ("/x/音樂", NAMELESS),
            ("/x/音樂 shop", "shop"),
            ("/x/a", NAMELESS),
            ("/x/platform", NAMELESS),
            ("/", NAMELESS),
        ] {
            assert_eq!(named_like(Path::new(dir)).as_str(), expected, "{dir}");
        }
        assert_eq!(named_like(Path::new(&format!("/x/{}", "y".repeat(100)))).as_str().len(), 64);
    }

    #[test]
    fn a_path_is_quoted_where_a_shell_needs_it() {
        let project = ProjectId::parse("shop").unwrap();
        assert_eq!(commands(Path::new("."), &project)[0], "python3 tools.py &");
        assert_eq!(commands(Path::new("it's here"), &project)[1], "awooop apply -f 'it'\\''s here'");
    }

    #[test]
    fn every_template_is_written_or_none() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a/b");
        let project = ProjectId::parse("shop").unwrap();
        write(&dir, &project).unwrap();
        for (name, _) in TEMPLATES {
            let text = std::fs::read_to_string(dir.join(name)).unwrap();
            assert!(!text.contains(PLACEHOLDER), "{name}");
        }
        std::fs::write(dir.join("agent.yaml"), "mine").unwrap();
        std::fs::remove_file(dir.join("tools.py")).unwrap();
        let refused = write(&dir, &project).expect_err("files are in the way").to_string();
        assert!(refused.contains("agent.yaml") && !refused.contains("tools.py"), "{refused}");
        assert!(!dir.join("tools.py").exists());
        assert_eq!(std::fs::read_to_string(dir.join("agent.yaml")).unwrap(), "mine");
    }
}
