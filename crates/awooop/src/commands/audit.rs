//! `awooop audit search|export|head|verify|prove`: looking things up in the audit, and showing that it is whole.
//!
//! A check on the server is told as it goes on and trusts the server; a check of exported files (`offline`) needs
//! a public key and nothing else.

mod offline;

use std::io::Write;
use std::path::Path;

use awooop_core::audit::Head;
use serde_json::{Value, json};

use super::Session;
use crate::cli::{
    AuditCommand, AuditExportArgs, AuditHeadArgs, AuditProveArgs, AuditSearchArgs, AuditVerifyArgs,
};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{Reply, cell, table};

const AUDIT: [&str; 3] = ["v1", "platform", "audit"];

/// Carries out the command.
pub(crate) async fn run(command: AuditCommand, _session: &Session) -> Result<Reply, Failure> {
    match command {
        AuditCommand::Search(args) => search(args).await,
        AuditCommand::Export(args) => export(args).await,
        AuditCommand::Head(args) => head(args).await,
        AuditCommand::Verify(args) => verify(args).await,
        AuditCommand::Prove(args) => prove(args).await,
        AuditCommand::Expire(_) => Err(Failure::invalid("this is done beside the database, not by a client")),
    }
}

async fn search(args: AuditSearchArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let (limit, run) = (args.page.limit.to_string(), args.run.map(|id| id.to_string()));
    let filters = [
        ("actor", &args.actor),
        ("action", &args.action),
        ("subject", &args.subject),
        ("run_id", &run),
        ("since", &args.since),
        ("until", &args.until),
        ("cursor", &args.page.cursor),
    ];
    let mut query = vec![("limit", limit.as_str())];
    query.extend(filters.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))));
    let page = client.get(&AUDIT, &query).await?;
    let items = page["items"].as_array().ok_or_else(|| client.protocol("a list has no `items`"))?;
    let fields = ["at", "action", "subject", "actor", "id"];
    let row = |item: &Value| fields.iter().map(|&f| cell(&item[f])).collect();
    let text = match items.is_empty() {
        true => "no events".to_owned(),
        false => {
            table(&["AT", "ACTION", "SUBJECT", "ACTOR", "EVENT"], &items.iter().map(row).collect::<Vec<_>>())
        }
    };
    let more = page["next_cursor"].as_str().map(|c| format!("more: --cursor {c}"));
    let mut reply = Reply::done(page, text);
    reply.notes.extend(more);
    Ok(reply)
}

async fn export(args: AuditExportArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    // seals first: every event that one of them holds is exported after it
    let seals = save(&client, "seals", &args.seals).await?;
    let events = save(&client, "events", &args.events).await?;
    let (events_file, seals_file) = (args.events.display(), args.seals.display());
    let text = format!("{events} events in {events_file}, {seals} seals in {seals_file}");
    let document = json!({"events": events, "seals": seals});
    let next = format!(
        "check them anywhere:  awooop audit verify --export {events_file} --seals {seals_file} --public-key …"
    );
    Ok(Reply::done(document, text).with_note(next))
}

/// Writes one export to a new file. Returns how many lines there were.
async fn save(client: &Client, what: &str, path: &Path) -> Result<u64, Failure> {
    let bad = |error: std::io::Error| Failure::invalid(format!("cannot write {}: {error}", path.display()));
    let mut file = std::io::BufWriter::new(std::fs::File::create_new(path).map_err(bad)?);
    let (mut count, mut failed) = (0, None);
    client
        .lines(&[&AUDIT[..], &["export"]].concat(), &[("what", what)], |line| {
            if line.starts_with(b"{\"error\"") {
                failed = Some(client.protocol("the export was cut off by a failure of the server"));
            } else {
                count += 1;
                let written = file.write_all(line).and_then(|()| file.write_all(b"\n"));
                failed = failed.take().or(written.err().map(bad));
            }
            failed.is_none()
        })
        .await?;
    file.flush().map_err(bad)?;
    failed.map_or(Ok(count), Err)
}

async fn head(args: AuditHeadArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let document = client.get(&[&AUDIT[..], &["head"]].concat(), &[]).await?;
    if args.public_keys {
        let keys = document["public_keys"].as_array().map(Vec::as_slice).unwrap_or_default();
        let key = |k: &Value| format!("{}:{}", cell(&k["key_id"]), cell(&k["public_key"]));
        let text = keys.iter().map(key).collect::<Vec<_>>().join("\n");
        return Ok(Reply::done(document, text));
    }
    if document["head"].is_null() {
        return Err(Failure::InTheWay {
            message: "the project has no seal yet".to_owned(),
            hint: "one is made about a second after its first event".to_owned(),
        });
    }
    let text = document["head"].to_string();
    Ok(Reply::done(document, text))
}

/// The heads of files, a line each.
fn heads(files: &[std::path::PathBuf]) -> Result<Vec<Head>, Failure> {
    let mut found = Vec::new();
    for path in files {
        let bad = |reason: String| Failure::invalid(format!("{}: {reason}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
        for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let head =
                serde_json::from_str(line).map_err(|e| bad(format!("line {} is no head: {e}", n + 1)))?;
            found.push(head);
        }
    }
    Ok(found)
}

async fn verify(args: AuditVerifyArgs) -> Result<Reply, Failure> {
    let heads = heads(&args.head)?;
    if let (Some(events), Some(seals)) = (args.export, args.seals) {
        let project = args.client.server.project;
        let check = move || offline::verify(&events, &seals, &args.public_key, project, &heads);
        let ended = tokio::task::spawn_blocking(check).await;
        let (found, report) = ended.map_err(|e| Failure::invalid(format!("the check broke off: {e}")))??;
        let found: Vec<Value> = found.iter().map(|f| json!(f)).collect();
        return Ok(told(found, json!(report)));
    }
    let client = Client::new(&args.client)?;
    let anchors: Vec<String> = heads.iter().map(|h| format!("{}:{}", h.seal.n, h.hash)).collect();
    let anchors = anchors.join(",");
    let query: Vec<(&str, &str)> = if anchors.is_empty() { vec![] } else { vec![("heads", &anchors)] };
    let (mut found, mut report, mut failure) = (Vec::new(), None, None);
    client
        .lines(&[&AUDIT[..], &["verify"]].concat(), &query, |line| {
            let Ok(mut step) = serde_json::from_slice::<Value>(line) else { return false };
            match step.as_object_mut().and_then(|s| s.keys().next().cloned()).as_deref() {
                Some("found") => found.push(step["found"].take()),
                Some("report") => report = Some(step["report"].take()),
                Some("error") => failure = step["error"]["detail"].as_str().map(str::to_owned),
                _ => {}
            }
            true
        })
        .await?;
    match (report, failure) {
        (Some(report), _) => Ok(told(found, report)),
        (None, Some(failure)) => Err(client.away(&failure)),
        (None, None) => Err(client.away("the check was cut off before its end")),
    }
}

/// What a check came to: a line a finding, its kind first, then the counts.
fn told(found: Vec<Value>, report: Value) -> Reply {
    let mut lines: Vec<String> =
        found.iter().map(|f| format!("{:<13} {}", cell(&f["kind"]), cell(&f["message"]))).collect();
    let oldest =
        report["oldest_unsealed_at_us"].as_i64().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    let oldest = oldest.map(|at| format!(", the oldest of {at}")).unwrap_or_default();
    lines.push(format!(
        "project {}: {} events, {} of them in {} seals and as they were sealed, {} wait for a seal{oldest}, {} expired",
        cell(&report["project"]),
        cell(&report["events"]),
        cell(&report["verified"]),
        cell(&report["seals"]),
        cell(&report["unsealed"]),
        cell(&report["expired"]),
    ));
    let is_whole = report["is_whole"] == true;
    let verdict = match is_whole {
        true => "nothing was altered, deleted, added or reordered",
        false => "somebody has changed this audit: see above",
    };
    let mut reply =
        Reply::done(json!({"found": found, "report": report}), lines.join("\n")).with_note(verdict);
    reply.exit = if is_whole { Exit::Done } else { Exit::Failed };
    reply
}

async fn prove(args: AuditProveArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let heads = heads(args.head.as_slice())?;
    let to = heads.iter().map(|head| head.seal.n).max().map(|n| n.to_string());
    let query: Vec<(&str, &str)> = to.as_deref().map(|to| ("to", to)).into_iter().collect();
    let event = args.event.to_string();
    let proof = client.get(&[&AUDIT[..], &["events", &event, "proof"]].concat(), &query).await?;
    let text = format!("{proof:#}");
    Ok(Reply::done(proof, text))
}
