//! `awooop retire`: signs that a contract ends, and ends it once enough people have.
//!
//! What is ended is what was read just before: a version that became active meanwhile stays.

use serde_json::json;

use super::{Session, change};
use crate::cli::NamedArgs;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::Reply;

/// Carries out the command.
pub(crate) async fn run(args: NamedArgs, _session: &Session) -> Result<Reply, Failure> {
    let client = Client::new(&args.client)?;
    let name = &args.name;
    let (_, tag) = client.get_tagged(&change::path(name, &[])).await?;
    let retired = client.post_matching(&change::path(name, &["retire"]), &json!({}), tag).await?;
    let breaking = change::breaking(&retired["breaking"]);
    let version = change::named(&retired);
    if retired["is_waiting"] != true {
        let mut reply = Reply::done(retired, format!("{version} is retired"));
        reply.notes = breaking;
        return Ok(reply);
    }
    let counted = change::signatures(&retired["signatures"]);
    let mut reply = Reply::done(retired, format!("{version} stays active: signatures for its end {counted}"));
    reply.notes = breaking;
    reply.notes.push(format!(
        "another admin runs:  awooop retire {name}{project}\nor whoever may sign:  awooop contract sign {version} --act retire{project}",
        project = change::in_project(&args.client),
    ));
    reply.exit = Exit::Waiting;
    Ok(reply)
}
