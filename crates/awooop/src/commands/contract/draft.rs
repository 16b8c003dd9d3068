//! Drafts: saved, replaced only on purpose, and published.

use awooop_core::contract::changes;
use awooop_core::json as canonical;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use crate::cli::{ContractName, DraftArgs, PublishArgs};
use crate::client::Client;
use crate::commands::manifests::{self, Manifest};
use crate::commands::{change, get};
use crate::failure::Failure;
use crate::output::{Reply, note, table};

/// A manifest with its name and the draft that is there.
struct Planned {
    manifest: Manifest,
    name: ContractName,
    client: Client,
    present: Option<Value>,
}

/// Carries out `awooop contract draft`. All present drafts are looked at before any is saved.
pub(super) async fn save(args: DraftArgs) -> Result<Reply, Failure> {
    let found = manifests::read(&args.manifests.files)?;
    for origin in &found.passed_over {
        note(&format!("passed over {origin}: it has no `kind`"));
    }
    let client = Client::new(&args.client)?;
    let mut planned = Vec::with_capacity(found.manifests.len());
    for manifest in found.manifests {
        planned.push(plan(&client, manifest, &args).await?);
    }
    let (mut items, mut notes) = (Vec::new(), Vec::new());
    for plan in &planned {
        let tag = plan.present.as_ref().map(|draft| tag_of(&client, draft)).transpose()?;
        let path = change::path(&plan.name, &["draft"]);
        let sent = plan.client.put_matching(&path, &plan.manifest.document, tag).await;
        let saved = sent.map_err(|failure| with_places(failure, &plan.manifest))?;
        let project = change::in_project(&args.client);
        notes.push(format!("publish it:  awooop contract publish {}{project}", change::named(&saved)));
        items.push(saved);
    }
    let row = |item: &Value| vec![change::named(item), get::short_hash(item)];
    let text = table(&["DRAFT", "SHA256"], &items.iter().map(row).collect::<Vec<_>>());
    let mut reply = Reply::done(json!({ "items": items }), text);
    reply.notes = notes;
    Ok(reply)
}

async fn plan(client: &Client, manifest: Manifest, args: &DraftArgs) -> Result<Planned, Failure> {
    let name = name_of(&manifest)?;
    let named = manifest.document["project"].as_str();
    if let (Some(named), Some(wanted)) = (named, args.client.server.project.as_deref())
        && named != wanted
    {
        return Err(manifest.invalid("/project", format!("is of project `{named}`, not of `{wanted}`")));
    }
    let client = client.in_project_or_own(named.or(args.client.server.project.as_deref()))?;
    let present = match client.get(&change::path(&name, &[]), &[]).await {
        Ok(mut contract) => Some(contract["draft"].take()).filter(Value::is_object),
        Err(Failure::Problem(problem)) if problem.status == 404 => None,
        Err(failure) => return Err(failure),
    };
    let is_other =
        |draft: &Value| draft["sha256"].as_str() != Some(canonical::sha256_hex(&manifest.document).as_str());
    match &present {
        Some(draft) if is_other(draft) && !args.replace => Err(other_draft(&name, draft, &manifest.document)),
        _ => Ok(Planned { manifest, name, client, present }),
    }
}

fn name_of(manifest: &Manifest) -> Result<ContractName, Failure> {
    let text = |key: &str| manifest.document[key].as_str().unwrap_or_default();
    let name = format!("{}/{}", text("kind"), text("id")).parse::<ContractName>();
    let name = name.map_err(|reason| manifest.invalid("/id", reason))?;
    if name.version.is_none() { Ok(name) } else { Err(manifest.invalid("/id", "an id holds no `@`")) }
}

fn other_draft(name: &ContractName, draft: &Value, document: &Value) -> Failure {
    let found = canonical::to_value(&changes(Some(&draft["document"]), document));
    let by = draft["created_by"].as_str().unwrap_or("somebody");
    for line in change::differences(&found) {
        note(&format!("  {line}"));
    }
    Failure::InTheWay {
        message: format!(
            "{name} has another draft, version {} by {by}, with the differences above",
            draft["version"]
        ),
        hint: "take its place with: awooop contract draft --replace -f FILE".to_owned(),
    }
}

/// The entity tag of a version: its hash.
///
/// # Errors
/// [`Failure::Protocol`] when it has none.
pub(super) fn tag_of(client: &Client, version: &Value) -> Result<HeaderValue, Failure> {
    let sha256 = version["sha256"].as_str().ok_or_else(|| client.protocol("a version has no hash"))?;
    HeaderValue::try_from(format!("\"{sha256}\"")).map_err(|_| client.protocol("a hash is none"))
}

/// Says of each violation where it stands; the one manifest is the request, or its first.
fn with_places(failure: Failure, manifest: &Manifest) -> Failure {
    let Failure::Problem(mut problem) = failure else { return failure };
    for error in problem.document["errors"].as_array_mut().into_iter().flatten() {
        let path = error["path"].as_str().unwrap_or_default();
        let inner = path.strip_prefix("/manifests/0").unwrap_or(path).to_owned();
        manifest.mark(error, &inner);
    }
    Failure::Problem(problem)
}

/// Carries out `awooop contract publish`.
pub(super) async fn publish(args: PublishArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let name = &args.name;
    let contract = client.get(&change::path(name, &[]), &[]).await?;
    let draft = &contract["draft"];
    let is_meant = draft.is_object() && name.version.is_none_or(|n| draft["version"] == n);
    let (number, tag) = match (name.version, is_meant) {
        (_, true) => (draft["version"].to_string(), Some(tag_of(&client, draft)?)),
        // published before, or none: the server knows
        (Some(number), false) => (number.to_string(), None),
        (None, false) => {
            return Err(Failure::InTheWay {
                message: format!("{name} has no draft"),
                hint: "save one with: awooop contract draft -f FILE".to_owned(),
            });
        }
    };
    let path = change::path(name, &["versions", &number, "publish"]);
    let published = client.post_matching(&path, &json!({}), tag).await?;
    let version = change::named(&published);
    let note = format!("sign for it:  awooop contract sign {version}{}", change::in_project(&args.client));
    Ok(Reply::done(published, format!("{version} is published")).with_note(note))
}
