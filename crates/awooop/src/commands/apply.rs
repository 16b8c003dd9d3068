//! `awooop apply`: sends manifests and says what changed.
//!
//! The manifests of each project go in one request, which the server takes whole or not at all. Projects
//! follow one another in the order they were named; when one is refused, those after it are not sent and
//! those before it stay. Violations come back with the file and line they are in.

use serde_json::{Value, json};

use super::Session;
use super::manifests::{self, Manifest};
use crate::cli::ApplyArgs;
use crate::client::Client;
use crate::failure::{Failure, Problem};
use crate::output::{Reply, cell, note, table};

/// Carries out the command.
pub(crate) async fn run(args: ApplyArgs, _session: &Session) -> Result<Reply, Failure> {
    let found = manifests::read(&args.files)?;
    for origin in &found.passed_over {
        note(&format!("passed over {origin}: it has no `kind`"));
    }
    let groups = by_project(found.manifests, args.client.server.project.as_deref())?;
    let client = Client::new(&args.client)?;
    let mut items = Vec::new();
    for (project, manifests) in groups {
        match send(&client, project.as_deref(), &manifests).await {
            Ok(more) => items.extend(more),
            Err(failure) => {
                applied_before(&items);
                return Err(failure);
            }
        }
    }
    let is_changed = items.iter().any(|item| item["change"] != "unchanged");
    let text = table(&["PROJECT", "KIND", "ID", "VERSION", "CHANGE"], &rows(&items));
    Ok(Reply::done(json!({"items": items, "is_changed": is_changed}), text))
}

type Group = (Option<String>, Vec<Manifest>);

/// Groups manifests by the project they name; one that names none belongs to the caller's.
fn by_project(manifests: Vec<Manifest>, wanted: Option<&str>) -> Result<Vec<Group>, Failure> {
    let mut groups: Vec<Group> = Vec::new();
    for manifest in manifests {
        let named = manifest.document["project"].as_str().map(str::to_owned);
        if let (Some(named), Some(wanted)) = (&named, wanted)
            && named != wanted
        {
            let message = format!("is of project `{named}`, not of `{wanted}`");
            return Err(manifest.invalid("/project", message));
        }
        if let Some(named) = &named
            && let Err(e) = awooop_core::ProjectId::parse(named)
        {
            return Err(manifest.invalid("/project", e.to_string()));
        }
        let project = named.or_else(|| wanted.map(str::to_owned));
        match groups.iter_mut().find(|(name, _)| *name == project) {
            Some((_, group)) => group.push(manifest),
            None => groups.push((project, vec![manifest])),
        }
    }
    Ok(groups)
}

/// Applies one project's manifests and gives what became of each, with its project.
async fn send(client: &Client, project: Option<&str>, manifests: &[Manifest]) -> Result<Vec<Value>, Failure> {
    let documents: Vec<&Value> = manifests.iter().map(|m| &m.document).collect();
    let body = json!({ "manifests": documents });
    let path = ["v1", "platform", "contracts"];
    let sent = match project {
        Some(project) => client.in_project(project)?.post(&path, &body).await,
        None => client.post(&path, &body).await,
    };
    let mut answer = sent.map_err(|failure| with_places(failure, manifests))?;
    let project_id = answer["project_id"].take();
    let Value::Array(mut items) = answer["items"].take() else {
        return Err(client.protocol("the answer has no `items`"));
    };
    for item in &mut items {
        item["project_id"] = project_id.clone();
    }
    Ok(items)
}

/// Says of each violation where it stands: `/manifests/3/spec/x` becomes `/spec/x` with file and line.
fn with_places(failure: Failure, manifests: &[Manifest]) -> Failure {
    let Failure::Problem(mut problem) = failure else { return failure };
    let Problem { document, .. } = problem.as_mut();
    for error in document["errors"].as_array_mut().into_iter().flatten() {
        let located = error["path"].as_str().and_then(|path| {
            let rest = path.strip_prefix("/manifests/")?;
            let (index, inner) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let manifest = manifests.get(index.parse::<usize>().ok()?)?;
            Some((manifest.spot_of(error, inner), inner.to_owned()))
        });
        if let Some((spot, path)) = located {
            spot.mark(error);
            error["path"] = path.into();
        }
    }
    Failure::Problem(problem)
}

fn applied_before(items: &[Value]) {
    if !items.is_empty() {
        note("applied before this failed:");
        note(&table(&["PROJECT", "KIND", "ID", "VERSION", "CHANGE"], &rows(items)));
    }
}

fn rows(items: &[Value]) -> Vec<Vec<String>> {
    let fields = ["project_id", "kind", "id", "version", "change"];
    items.iter().map(|item| fields.iter().map(|&f| cell(&item[f])).collect()).collect()
}
