//! Tool servers that give away the credential they were shown, by accident or on purpose, in every place and form an
//! answer has; and projects that share a server, a command or an issuer. Nothing of it reaches a caller, a row, the log
//! or another project.
//!
//! The credentials here look like nothing: no pattern knows them, so that what is found to be masked was masked because
//! its value is known. Each leak is a row with a name, and a failure names the row.

mod forms;
mod leaks;
mod neighbours;

use std::path::Path;

use serde_json::{Value, json};

use self::forms::shows;
use crate::scripted::{Stage, manifest};

/// Everything that lies somewhere after a test, searched for these credentials.
async fn assert_nowhere(stage: &Stage, secrets: &[&str], answers: &[(String, String)]) {
    let mut found = Vec::new();
    for (case, text) in answers {
        found.extend(
            secrets.iter().filter(|s| shows(text, s)).map(|_| format!("the answer of {case}: {text}")),
        );
    }
    for line in stage.home.log().lines() {
        found.extend(secrets.iter().filter(|s| shows(line, s)).map(|_| format!("the log: {line}")));
    }
    let admin = stage.database.admin().await;
    let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'awooop'";
    for table in admin.query(tables, &[]).await.unwrap() {
        let table: String = table.get(0);
        let rows = admin.query(&format!("SELECT t::text FROM awooop.{table} t"), &[]).await.unwrap();
        for row in rows.iter().map(|row| row.get::<_, String>(0)) {
            found.extend(secrets.iter().filter(|s| shows(&row, s)).map(|_| format!("{table}: {row}")));
        }
    }
    let mut files = vec![stage.home.data_dir()];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(text) = std::fs::read(&path) {
            let text = String::from_utf8_lossy(&text);
            found.extend(secrets.iter().filter(|s| shows(&text, s)).map(|_| path.display().to_string()));
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

/// The manifests every project here begins with.
fn base(project: &str) -> Vec<Value> {
    let offline = json!({"type": "llm", "dialect": "offline", "models": [{"name": "planner"}]});
    vec![
        manifest("project", project, project, json!({"display_name": "Isolated"})),
        manifest("provider", project, "planner", offline),
    ]
}

/// A program that everybody may run.
fn program(directory: &Path, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}
