//! `awooop whoami`: who the server takes this command line for, and by which of the keys and sign-ins it has.

use serde_json::Value;

use super::Session;
use crate::cli::WhoamiArgs;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Reply, cell};

/// Carries out the command.
pub(crate) async fn run(args: WhoamiArgs, _session: &Session) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let found = client.get(&["v1", "platform", "whoami"], &[]).await?;
    let text = describe(&found, client.proof());
    Ok(Reply::done(found, text).with_note(format!("{} is used at {}", client.proof(), client.url())))
}

fn describe(found: &Value, proof: &str) -> String {
    let person = match (found["person"].as_str(), found["name"].as_str()) {
        (Some(person), Some(name)) if person != name => format!(" (person {person})"),
        _ => String::new(),
    };
    let place = match found["project_id"].as_str() {
        Some(project) => format!("in project {project}: {}", cell(&found["roles"])),
        None => "in no project yet: name one with --project".to_owned(),
    };
    let mut lines = vec![format!("{}{person}, {}, {place}", cell(&found["name"]), cell(&found["kind"]))];
    let credential = &found["credential"];
    let until = credential["expires_at"].as_str().map(|at| format!(", until {at}")).unwrap_or_default();
    lines.push(match credential["type"].as_str() {
        Some("token") => format!("by {proof} as {}{until}", cell(&credential["subject"])),
        _ => {
            let scopes = credential["scopes"].as_array().map(|_| cell(&credential["scopes"]));
            let scopes = scopes.map(|scopes| format!(", narrowed to {scopes}")).unwrap_or_default();
            format!("by {proof}, key {}{scopes}{until}", cell(&credential["key_id"]))
        }
    });
    if found["is_platform_admin"] == true {
        lines.push("a platform admin: may act in any project with --project".to_owned());
    }
    for project in found["projects"].as_array().into_iter().flatten() {
        lines.push(format!("  {}: {}", cell(&project["project_id"]), cell(&project["roles"])));
    }
    lines.join("\n")
}
