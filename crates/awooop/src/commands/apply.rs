//! `awooop apply` and `awooop diff`: sends manifests, and says what changed or would change.
//!
//! The manifests of each project go in one request, which the server takes whole or not at all. Projects
//! follow one another in the order they were named; when one is refused, those after it are not sent and
//! those before it stay. Violations come back with the file and line they are in. Changes that other people
//! have to sign for end with exit code 5 and the commands that those people run.

mod group;

use serde_json::{Value, json};

use self::group::{How, by_project};
use super::mcp::shell_word;
use super::{Session, change, manifests};
use crate::cli::{ApplyArgs, ClientArgs, DiffArgs, FilesArgs};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{Reply, cell, note, table};

/// Up to so many waiting contracts are signed for one by one; of more, only the whole is offered.
const FEW: usize = 8;
const HEADER: [&str; 6] = ["PROJECT", "KIND", "ID", "VERSION", "CHANGE", "STATE"];

/// Carries out `awooop apply`.
pub(crate) async fn run(args: ApplyArgs, _session: &Session) -> Result<Reply, Failure> {
    let how = How { is_dry_run: args.dry_run, is_pruning: args.prune };
    let items = send(&args.manifests, how, &args.client).await?;
    let is_changed = !args.dry_run && items.iter().any(|item| item["change"] != "unchanged");
    let is_waiting = items.iter().any(is_waiting);
    let mut text = table(&HEADER, &rows(&items, args.dry_run));
    if args.dry_run {
        let shown = shown(&items);
        text = if shown.is_empty() { text } else { format!("{shown}\n\n{text}") };
    }
    let document = json!({
        "items": items, "is_changed": is_changed, "is_waiting": is_waiting, "is_dry_run": args.dry_run,
    });
    let mut reply = Reply::done(document, text);
    reply.notes = remarks(&items, args.dry_run);
    if args.dry_run {
        reply.notes.push("nothing was changed: this was a dry run".to_owned());
    } else if is_waiting {
        reply.exit = Exit::Waiting;
        reply.notes.extend(how_to_go_on(&items, &args));
    }
    Ok(reply)
}

/// Carries out `awooop diff`.
pub(crate) async fn diff(args: DiffArgs, _session: &Session) -> Result<Reply, Failure> {
    let how = How { is_dry_run: true, is_pruning: args.prune };
    let items = send(&args.manifests, how, &args.client).await?;
    let differs = items.iter().any(|item| item["change"] != "unchanged");
    let text = shown(&items);
    let mut reply = Reply::done(json!({"items": items, "differs": differs}), text);
    if differs {
        reply.exit = Exit::Failed;
    } else {
        reply.notes.push("nothing differs".to_owned());
    }
    Ok(reply)
}

/// Sends all, project by project, and gives what became of each manifest.
async fn send(files: &FilesArgs, how: How, args: &ClientArgs) -> Result<Vec<Value>, Failure> {
    let found = manifests::read(&files.files)?;
    for origin in &found.passed_over {
        note(&format!("passed over {origin}: it has no `kind`"));
    }
    let groups = by_project(found.manifests, args.server.project.as_deref())?;
    let client = Client::new(args)?;
    let mut items = Vec::new();
    for group in groups {
        match group.send(&client, how).await {
            Ok(more) => items.extend(more),
            Err(failure) => {
                if !how.is_dry_run && !items.is_empty() {
                    note("applied before this failed:");
                    note(&table(&HEADER, &rows(&items, false)));
                }
                return Err(failure);
            }
        }
    }
    Ok(items)
}

fn is_waiting(item: &Value) -> bool {
    item["is_waiting"] == true
}

fn rows(items: &[Value], is_dry_run: bool) -> Vec<Vec<String>> {
    let fields = ["project_id", "kind", "id", "version", "change"];
    let row = |item: &Value| {
        let mut row: Vec<String> = fields.iter().map(|&f| cell(&item[f])).collect();
        row.push(state(item, is_dry_run));
        row
    };
    items.iter().map(row).collect()
}

/// What holds of a contract now, or would.
fn state(item: &Value, is_dry_run: bool) -> String {
    let counted = || change::signatures(&item["signatures"]);
    match (is_waiting(item), item["change"].as_str()) {
        (true, _) if is_dry_run => format!("would wait {}", counted()),
        (true, _) => format!("waiting {}", counted()),
        (false, Some("unchanged")) => "active".to_owned(),
        (false, Some("retired")) if is_dry_run => "would be retired".to_owned(),
        (false, Some("retired")) => "retired".to_owned(),
        (false, _) if is_dry_run => "would be active".to_owned(),
        (false, _) => "active".to_owned(),
    }
}

/// The differences of a dry run, contract by contract; empty when nothing differs.
fn shown(items: &[Value]) -> String {
    let differing = items.iter().filter(|item| item["change"] != "unchanged");
    differing.map(|item| block(item).join("\n")).collect::<Vec<_>>().join("\n\n")
}

fn block(item: &Value) -> Vec<String> {
    let change = match item["change"].as_str() {
        Some("retired") => "is retired",
        Some("created") => "is new",
        // compared with nothing though something is active: that does not load
        _ if item["changes"][0]["path"] == "" => "takes the place of a version that does not load,",
        _ => "changes",
    };
    let mut lines =
        vec![format!("{} {change} in project {}", change::named(item), cell(&item["project_id"]))];
    let mut inner = change::differences(&item["changes"]);
    inner.extend(change::breaking(&item["breaking"]));
    lines.extend(inner.iter().map(|line| format!("  {line}")));
    lines
}

/// What could break, what is not in force, whose signature does not count.
fn remarks(items: &[Value], is_dry_run: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for item in items {
        let name = change::named(item);
        // a dry run shows them with the differences
        if !is_dry_run {
            lines.extend(change::breaking(&item["breaking"]).iter().map(|line| format!("{name} {line}")));
        }
        let absent = item["not_in_force"].as_array().into_iter().flatten();
        lines.extend(absent.map(|sentence| format!("{name}: {}", cell(sentence))));
        if let Some(why) = item["note"].as_str() {
            lines.push(format!("{name}: this key's signature does not count: {why}"));
        }
    }
    lines
}

/// The commands another person runs.
fn how_to_go_on(items: &[Value], args: &ApplyArgs) -> Vec<String> {
    let files: Vec<String> = args
        .manifests
        .files
        .iter()
        .map(|file| format!(" -f {}", shell_word(&file.display().to_string())))
        .collect();
    let prune = if args.prune { " --prune" } else { "" };
    let mut lines = vec![
        "this waits for other people's signatures, and nothing of it is in force. An admin who signs for all of it runs:"
            .to_owned(),
        format!("  awooop apply{}{prune}", files.concat()),
    ];
    let waiting: Vec<&Value> = items.iter().filter(|item| is_waiting(item)).collect();
    if waiting.len() > FEW {
        lines.push("or looks at one contract after the other with: awooop describe KIND/ID".to_owned());
        return lines;
    }
    lines.push("or anybody who may sign, contract by contract:".to_owned());
    for item in waiting {
        let (name, project) = (change::named(item), cell(&item["project_id"]));
        if item["change"] == "retired" {
            lines.push(format!("  awooop contract sign {name} --act retire --project {project}"));
            continue;
        }
        lines.push(format!("  awooop contract sign {name} --project {project}"));
        lines.push(format!("  awooop contract activate {name} --project {project}"));
    }
    lines
}
