//! Signing and activating. Both say which contract they have read, so that a signature is never about
//! another change than the one that was shown.

use serde_json::{Value, json};

use crate::cli::{SignArgs, VersionArgs};
use crate::client::Client;
use crate::commands::change;
use crate::failure::{Exit, Failure};
use crate::output::{Reply, note};

/// Carries out `awooop contract sign`.
pub(super) async fn sign(args: SignArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let number = number(args.name.version);
    let (_, tag) = client.get_tagged(&change::path(&args.name, &[])).await?;
    let path = change::path(&args.name, &["versions", &number, "sign"]);
    let signed = client.post_matching(&path, &json!({"act": args.act.as_str()}), tag).await?;
    let version = change::named(&signed["version"]);
    let is_retiring = signed["signatures"]["act"] == "retire";
    let what = if is_retiring { "to end" } else { "to become active" };
    let counted = change::signatures(&signed["signatures"]);
    let notes = notes(&signed, &args, &version, is_retiring);
    let mut reply = Reply::done(signed, format!("{version} {what}: signatures {counted}"));
    reply.notes = notes;
    Ok(reply)
}

fn notes(signed: &Value, args: &SignArgs, version: &str, is_retiring: bool) -> Vec<String> {
    let project = change::in_project(&args.client);
    let mut notes = change::breaking(&signed["breaking"]);
    notes.push(match (signed["is_ready"] == true, is_retiring) {
        (true, true) => format!("an admin ends it:  awooop retire {}{project}", args.name),
        (true, false) => format!("put it into force:  awooop contract activate {version}{project}"),
        (false, true) => {
            format!("another person runs:  awooop contract sign {version} --act retire{project}")
        }
        (false, false) => format!("another person runs:  awooop contract sign {version}{project}"),
    });
    notes
}

/// Carries out `awooop contract activate`.
pub(super) async fn activate(args: VersionArgs) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let number = number(args.name.version);
    let (_, tag) = client.get_tagged(&change::path(&args.name, &[])).await?;
    let path = change::path(&args.name, &["versions", &number, "activate"]);
    let sent = client.post_matching(&path, &json!({}), tag).await;
    let active = sent.inspect_err(|failure| {
        if failure.exit() == Exit::Waiting {
            let (name, project) = (&args.name, change::in_project(&args.client));
            note(&format!("who has signed:  awooop describe {name}{project}"));
            note(&format!("sign for it:     awooop contract sign {name}@{number}{project}"));
        }
    })?;
    let is_new = active["change"] != "unchanged";
    let notes = change::breaking(&active["breaking"]);
    let adverb = if is_new { "now" } else { "already" };
    let text = format!("{} is {adverb} active", change::named(&active));
    let mut reply = Reply::done(active, text);
    reply.notes = notes;
    Ok(reply)
}

fn number(version: Option<i32>) -> String {
    version.map(|n| n.to_string()).unwrap_or_default()
}
