//! `awooop mcp config`: settings to paste into an MCP client, with a key bound to one agent.
//!
//! The key is made on the way unless one is given, so what is pasted works at once and can be revoked alone.
//! Invariant: the settings hold an agent's key, never the key of the person who asks. A given key is checked
//! for its shape only and no server is asked.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::Session;
use crate::cli::{McpClient, McpCommand, McpConfigArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Reply;
use crate::settings::Settings;

/// The longest name a principal may have.
const NAME_MAX: usize = 64;

/// Carries out the command.
pub(crate) async fn run(command: McpCommand, _session: &Session) -> Result<Reply, Failure> {
    let McpCommand::Config(args) = command;
    let (url, key, key_id) = match args.key.clone() {
        Some(key) => given(&args, key)?,
        None => made(&args).await?,
    };
    let endpoint = format!("{url}/mcp");
    let config = match args.client {
        McpClient::ClaudeCode => Value::String(claude_code(&endpoint, &key)),
        McpClient::Cursor => cursor(&endpoint, &key),
    };
    let (text, place) = match args.client {
        McpClient::ClaudeCode => (claude_code(&endpoint, &key), "run this in a shell"),
        McpClient::Cursor => (format!("{config:#}"), "put this into .cursor/mcp.json of a workspace"),
    };
    let note = match &key_id {
        Some(id) => format!("{place}; it holds a new key of agent {}: {id}", args.agent),
        None => place.to_owned(),
    };
    let document = json!({
        "client": args.client.as_str(), "agent_id": args.agent, "url": endpoint,
        "key_id": key_id, "config": config,
    });
    Ok(Reply::done(document, text).with_note(note))
}

/// Address, key and no id, for a key that exists.
fn given(args: &McpConfigArgs, key: SecretString) -> Result<(String, String, Option<String>), Failure> {
    if awooop_core::key::parse(key.expose_secret()).is_none() {
        return Err(Failure::invalid(
            "--key is no key: a key begins with awp_ and has a project, id and secret",
        ));
    }
    let url = Settings::find(&args.server, Some(key.clone()))?.url;
    Ok((url.as_str().trim_end_matches('/').to_owned(), key.expose_secret().to_owned(), None))
}

/// Address, key and id of a key made now for the agent.
async fn made(args: &McpConfigArgs) -> Result<(String, String, Option<String>), Failure> {
    let own = std::env::var("AWOOOP_KEY").ok().map(SecretString::from);
    let client = Client::connect(&args.server, own)?;
    let mut name = format!("{}-{}", args.client.as_str(), args.agent);
    name.truncate(name.floor_char_boundary(NAME_MAX));
    let body = json!({"name": name, "agent_id": args.agent});
    let made = client.post(&["v1", "platform", "keys"], &body).await?;
    let key = made["key"].as_str().filter(|k| awooop_core::key::parse(k).is_some());
    let key = key.ok_or_else(|| client.protocol("the new key is missing"))?;
    Ok((client.url(), key.to_owned(), made["key_id"].as_str().map(str::to_owned)))
}

fn claude_code(endpoint: &str, key: &str) -> String {
    let endpoint = shell_word(endpoint);
    format!("claude mcp add --transport http awooop {endpoint} --header \"Authorization: Bearer {key}\"")
}

fn cursor(endpoint: &str, key: &str) -> Value {
    let headers = json!({"Authorization": format!("Bearer {key}")});
    json!({"mcpServers": {"awooop": {"url": endpoint, "headers": headers}}})
}

/// A word that a POSIX shell reads as it stands.
pub(super) fn shell_word(text: &str) -> String {
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b":/._-".contains(&b)) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pasted_address_cannot_become_another_command() {
        assert_eq!(shell_word("http://127.0.0.1:7700/mcp"), "http://127.0.0.1:7700/mcp");
        assert_eq!(shell_word("http://h/$(x)'"), r"'http://h/$(x)'\'''");
    }
}
