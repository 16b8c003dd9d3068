//! Upkeep: tool definitions pinned, materialised rows repaired, everything signed again after a rotation.

use serde_json::{Value, json};

use super::draft::tag_of;
use crate::cli::{PinArgs, ProjectArgs, ResignArgs};
use crate::client::Client;
use crate::commands::{change, tools};
use crate::failure::Failure;
use crate::output::{Reply, cell, note, table};

const PROJECTS: [&str; 3] = ["v1", "platform", "projects"];
const RESIGN: [&str; 4] = ["v1", "platform", "contracts", "resign"];

/// Carries out `awooop contract pin`.
pub(super) async fn pin(args: PinArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let (name, project) = (&args.name, change::in_project(&args.client));
    let tag = if args.replace {
        let contract = client.get(&change::path(name, &[]), &[]).await?;
        let draft = Some(&contract["draft"]).filter(|draft| draft.is_object());
        draft.map(|draft| tag_of(&client, draft)).transpose()?
    } else {
        None
    };
    let sent = client.post_matching(&change::path(name, &["pin"]), &json!({}), tag).await;
    let pinned = sent.inspect_err(|failure| {
        if matches!(failure, Failure::Problem(problem) if problem.status == 412) && !args.replace {
            note(&format!(
                "{name} has another draft; take its place with: awooop contract pin {name} --replace{project}"
            ));
        }
    })?;
    let found: Vec<String> = pinned["finds"].as_array().into_iter().flatten().flat_map(of_tool).collect();
    if !pinned["draft"].is_object() {
        let mut lines = vec![format!("every tool of {name} is pinned to what its server shows")];
        lines.extend(found);
        return Ok(Reply::done(pinned, lines.join("\n")));
    }
    let version = change::named(&pinned["draft"]);
    let mut lines = vec![format!("{version} is a draft with")];
    lines.extend(change::differences(&pinned["changes"]).iter().map(|line| format!("  {line}")));
    lines.extend(found);
    let note = format!(
        "whoever signs for it approves those definitions:  awooop contract publish {version}{project}"
    );
    Ok(Reply::done(pinned, lines.join("\n")).with_note(note))
}

/// A tool, and below it what a look at its definition found.
fn of_tool(tool: &Value) -> Vec<String> {
    let finds = tools::finds(&tool["finds"]);
    let head = std::iter::once(format!("look at {} before you sign:", cell(&tool["tool"])));
    head.chain(finds.into_iter().map(|line| format!("  {line}"))).collect()
}

/// Carries out `awooop contract rematerialise`.
pub(super) async fn rematerialise(args: ProjectArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let path = ["v1", "platform", "contracts", "rematerialise"];
    let repaired = client.post(&path, &json!({})).await?;
    let rows: Vec<Vec<String>> = repaired["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| vec![cell(&item["change"]), cell(&item["what"])])
        .collect();
    let text = match rows.is_empty() {
        true => "every row is as the active contracts say".to_owned(),
        false => table(&["CHANGE", "WHAT"], &rows),
    };
    Ok(Reply::done(repaired, text))
}

/// Carries out `awooop contract resign`.
pub(super) async fn resign(args: ResignArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    if !args.all {
        let resigned = client.post(&RESIGN, &json!({})).await?;
        let text = format!("{} signatures are now under the current key", resigned["signed"]);
        return Ok(Reply::done(resigned, text));
    }
    let projects = client.get_all(&PROJECTS, &[]).await?;
    let mut items: Vec<Value> = Vec::with_capacity(projects.len());
    for project in &projects {
        let id = project["project_id"].as_str().ok_or_else(|| client.protocol("a project has no id"))?;
        let resigned = client.in_project(id)?.post(&RESIGN, &json!({})).await.inspect_err(|_| {
            note(&format!(
                "project {id} and those after it are not signed again: {} of {} are",
                items.len(),
                projects.len()
            ));
        })?;
        items.push(json!({"project_id": id, "signed": resigned["signed"]}));
    }
    let rows: Vec<Vec<String>> =
        items.iter().map(|item| vec![cell(&item["project_id"]), cell(&item["signed"])]).collect();
    let text = table(&["PROJECT", "SIGNED"], &rows);
    Ok(Reply::done(json!({ "items": items }), text))
}
