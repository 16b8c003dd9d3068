//! `awooop describe`: how a contract stands and what to do next.
//!
//! Shows what is active and since when, the draft, and every act that waits for signatures with who gave one,
//! what it changes and what that could break. A version that does not load says so here.

use serde_json::{Value, json};

use super::get::short_hash;
use super::{Session, change};
use crate::cli::{ContractName, NamedArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Reply, cell};

/// Carries out the command.
pub(crate) async fn run(args: NamedArgs, _session: &Session) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let name = &args.name;
    let mut document = client.get(&change::path(name, &[]), &[]).await?;
    for pending in document["pending"].as_array_mut().into_iter().flatten() {
        let difference = difference(&client, name, pending).await?;
        pending["difference"] = difference;
    }
    let project = change::in_project(&args.client);
    let mut lines = vec![title(name, &document)];
    lines.extend(active(&document["active"]));
    lines.extend(draft(&document["draft"]));
    let pending = document["pending"].as_array().map(Vec::as_slice).unwrap_or_default();
    lines.extend(pending.iter().flat_map(waiting));
    let next = next(name, &document, &project);
    document["next"] = json!(next);
    let label = |(n, command): (usize, &String)| line(if n == 0 { "next" } else { "" }, command);
    lines.extend(next.iter().enumerate().map(label));
    Ok(Reply::done(document, lines.join("\n")))
}

fn title(name: &ContractName, document: &Value) -> String {
    let versions = [&document["active"], &document["draft"], &document["pending"][0]["version"]];
    let project = versions.into_iter().find_map(|version| version["document"]["project"].as_str());
    project.map_or_else(|| name.to_string(), |project| format!("{name} in project {project}"))
}

/// What an act would change; null for the end of a contract, and where a version does not load.
async fn difference(client: &Client, name: &ContractName, pending: &Value) -> Result<Value, Failure> {
    if pending["signatures"]["act"] != "activate" || pending["version"]["problem"].is_string() {
        return Ok(Value::Null);
    }
    let version = pending["version"]["version"].to_string();
    match client.get(&change::path(name, &["diff"]), &[("to", &version)]).await {
        Ok(difference) => Ok(difference),
        // what is active does not load, so there is nothing to compare with
        Err(Failure::Problem(problem)) if problem.status == 409 => Ok(Value::Null),
        Err(failure) => Err(failure),
    }
}

fn line(label: &str, text: &str) -> String {
    format!("  {label:<9}{text}")
}

fn active(version: &Value) -> Vec<String> {
    if !version.is_object() {
        return vec![line("active", "nothing")];
    }
    let (number, hash) = (&version["version"], short_hash(version));
    let (at, by) = (cell(&version["activated_at"]), cell(&version["activated_by"]));
    let mut lines = vec![line("active", &format!("version {number} ({hash}) since {at}, by {by}"))];
    if let Some(problem) = version["problem"].as_str() {
        lines.push(line("problem", &format!("it does not load: {problem} (E-CONTRACT-002)")));
    }
    lines
}

fn draft(version: &Value) -> Option<String> {
    let (at, by) = (cell(&version["created_at"]), cell(&version["created_by"]));
    let text = format!("version {} ({}) of {at}, by {by}", version["version"], short_hash(version));
    version.is_object().then(|| line("draft", &text))
}

fn waiting(pending: &Value) -> Vec<String> {
    let (version, signatures) = (&pending["version"], &pending["signatures"]);
    let act = if signatures["act"] == "retire" { "that it ends" } else { "to become active" };
    let published = match signatures["act"].as_str() {
        Some("retire") => String::new(),
        _ => format!(", published {} by {}", cell(&version["published_at"]), cell(&version["published_by"])),
    };
    let counted = change::signatures(signatures);
    let mut lines = vec![line(
        "waiting",
        &format!("version {} {act}: signatures {counted}{published}", version["version"]),
    )];
    let mut inner = change::uncounted(signatures);
    inner.extend(version["problem"].as_str().map(|problem| format!("it does not load: {problem}")));
    inner.extend(change::differences(&pending["difference"]["changes"]));
    inner.extend(change::breaking(&pending["difference"]["breaking"]));
    lines.extend(inner.iter().map(|text| line("", text)));
    lines
}

/// The commands that come next; none when there is nothing to do.
fn next(name: &ContractName, document: &Value, project: &str) -> Vec<String> {
    let pending = document["pending"].as_array().into_iter().flatten();
    let pending = pending
        .filter(|p| p["version"]["problem"].is_null())
        .max_by_key(|p| p["version"]["version"].as_i64());
    if let Some(pending) = pending {
        let version = format!("{name}@{}", pending["version"]["version"]);
        let is_enough = change::is_enough(&pending["signatures"]);
        let (flag, last) = match pending["signatures"]["act"].as_str() {
            Some("retire") => (" --act retire", format!("awooop retire {name}{project}")),
            _ => ("", format!("awooop contract activate {version}{project}")),
        };
        let sign = format!("awooop contract sign {version}{flag}{project}");
        return if is_enough { vec![last] } else { vec![sign, last] };
    }
    if document["active"]["problem"].is_string() {
        return vec![
            "awooop apply -f FILE".to_owned(),
            format!(
                "awooop contract versions {name}{project}   (an older one may load: sign and activate it)"
            ),
        ];
    }
    let draft = &document["draft"];
    if !draft.is_object() {
        return Vec::new();
    }
    let version = format!("{name}@{}", draft["version"]);
    vec![
        format!("awooop contract diff {version}{project}"),
        format!("awooop contract publish {version}{project}"),
    ]
}
