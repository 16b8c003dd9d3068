//! `awooop mcp config`: settings to paste into an MCP client, with a key bound to one agent.
//!
//! The key is made on the way unless one is given, so what is pasted works at once and can be revoked alone.
//! Invariant: the settings hold an agent's key, never the key of the person who asks. A given key is checked
//! for its shape only and no server is asked. The forms are those of the clients' own documentation.

use awooop_core::ProviderId;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use crate::cli::{McpClient, McpConfigArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Reply;
use crate::settings::Settings;

/// The longest name a principal may have.
const NAME_MAX: usize = 64;

/// Carries out the command.
pub(super) async fn run(args: McpConfigArgs) -> Result<Reply, Failure> {
    let (url, key, key_id) = match args.key.clone() {
        Some(key) => given(&args, key)?,
        None => made(&args).await?,
    };
    let provider = args.provider.as_ref().map(ProviderId::as_str);
    let way = match args.stdio || args.client == McpClient::ClaudeDesktop {
        true => Way::Stdio { program: this_program()?, env: environment(&args, &url)? },
        false => Way::Http { endpoint: endpoint(&url, provider) },
    };
    let pasted = pasted(args.client, &way, provider, &key);
    let note = match &key_id {
        Some(id) => format!("{}; it holds a new key of agent {}: {id}", pasted.place, args.agent),
        None => pasted.place.to_owned(),
    };
    let document = json!({
        "client": args.client.as_str(), "agent_id": args.agent, "url": endpoint(&url, provider),
        "key_id": key_id, "config": pasted.config,
    });
    Ok(Reply::done(document, pasted.text).with_note(note))
}

/// How a client reaches the server.
enum Way {
    Http {
        endpoint: String,
    },
    /// What is spawned, with its environment but for the key.
    Stdio {
        program: String,
        env: Vec<(&'static str, String)>,
    },
}

/// What is pasted, and where.
struct Pasted {
    /// For machines: the client's settings, or the text of a client that reads none in JSON.
    config: Value,
    text: String,
    place: &'static str,
}

fn pasted(client: McpClient, way: &Way, provider: Option<&str>, key: &str) -> Pasted {
    let name = provider.map_or_else(|| "awooop".to_owned(), |provider| format!("awooop-{provider}"));
    let of_json = |config: Value, place| Pasted { text: format!("{config:#}"), config, place };
    let of_text = |text: String, place| Pasted { config: Value::String(text.clone()), text, place };
    let servers = |server: Value| json!({ "mcpServers": { &name: server } });
    match client {
        McpClient::ClaudeCode => of_text(claude_code(&name, way, provider, key), "run this in a shell"),
        McpClient::ClaudeDesktop => {
            of_json(servers(settings(way, provider, key)), "put this into claude_desktop_config.json")
        }
        McpClient::Cursor => {
            of_json(servers(settings(way, provider, key)), "put this into .cursor/mcp.json of a workspace")
        }
        McpClient::Vscode => {
            let mut server = settings(way, provider, key);
            server["type"] = if matches!(way, Way::Http { .. }) { "http" } else { "stdio" }.into();
            of_json(json!({"servers": { name: server }}), "put this into .vscode/mcp.json of a workspace")
        }
        McpClient::Codex => of_text(codex(&name, way, provider, key), "put this into ~/.codex/config.toml"),
    }
}

/// The server's members as most clients have them.
fn settings(way: &Way, provider: Option<&str>, key: &str) -> Value {
    match way {
        Way::Http { endpoint } => {
            json!({"url": endpoint, "headers": {"Authorization": format!("Bearer {key}")}})
        }
        Way::Stdio { program, env } => {
            let env: Map<String, Value> =
                with_key(env, key).map(|(name, value)| (name.to_owned(), value.into())).collect();
            json!({"command": program, "args": stdio_words(provider), "env": env})
        }
    }
}

fn with_key<'a>(
    env: &'a [(&'static str, String)],
    key: &'a str,
) -> impl Iterator<Item = (&'static str, &'a str)> {
    env.iter().map(|(name, value)| (*name, value.as_str())).chain([("AWOOOP_KEY", key)])
}

fn stdio_words(provider: Option<&str>) -> Vec<&str> {
    let mut words = vec!["mcp", "stdio"];
    words.extend(provider.iter().flat_map(|provider| ["--provider", provider]));
    words
}

fn claude_code(name: &str, way: &Way, provider: Option<&str>, key: &str) -> String {
    match way {
        Way::Http { endpoint } => {
            let endpoint = shell_word(endpoint);
            format!(
                "claude mcp add --transport http {name} {endpoint} --header \"Authorization: Bearer {key}\""
            )
        }
        Way::Stdio { program, env } => {
            let words = stdio_words(provider).join(" ");
            let env: Vec<String> = with_key(env, key)
                .map(|(name, value)| format!("--env {}", shell_word(&format!("{name}={value}"))))
                .collect();
            format!("claude mcp add {name} {} -- {} {words}", env.join(" "), shell_word(program))
        }
    }
}

/// Codex reads TOML, and a header from `http_headers`.
fn codex(name: &str, way: &Way, provider: Option<&str>, key: &str) -> String {
    let mut server = settings(way, provider, key);
    if let Some(members) = server.as_object_mut()
        && let Some(headers) = members.remove("headers")
    {
        members.insert("http_headers".to_owned(), headers);
    }
    let settings = json!({"mcp_servers": { name: server }});
    toml::to_string(&settings).expect("tables, lists and texts have a form in TOML")
}

fn endpoint(url: &str, provider: Option<&str>) -> String {
    match provider {
        Some(provider) => format!("{url}/mcp/{provider}"),
        None => format!("{url}/mcp"),
    }
}

/// A client gives what it spawns nothing of a shell's environment: how to reach the server is all in here.
fn environment(args: &McpConfigArgs, url: &str) -> Result<Vec<(&'static str, String)>, Failure> {
    let mut env = vec![("AWOOOP_URL", url.to_owned())];
    if let Some(file) = args.server.ca_file.as_deref().filter(|file| !file.is_empty()) {
        let path = std::path::absolute(file).ok().and_then(|path| path.to_str().map(str::to_owned));
        let path = path.ok_or_else(|| Failure::invalid("the path of --ca-file is not known"))?;
        env.push(("AWOOOP_CA_FILE", path));
    }
    Ok(env)
}

/// Clients search for programs in fewer places than shells do.
fn this_program() -> Result<String, Failure> {
    let path = std::env::current_exe().ok().and_then(|path| path.to_str().map(str::to_owned));
    path.ok_or_else(|| Failure::invalid("the path of this program is not known"))
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

/// A word that a POSIX shell reads as it stands.
pub(in crate::commands) fn shell_word(text: &str) -> String {
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b":/._-=".contains(&b)) {
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

    #[test]
    fn every_client_gets_its_own_form() {
        let http = Way::Http { endpoint: "http://h:1/mcp".to_owned() };
        let env =
            vec![("AWOOOP_URL", "http://h:1".to_owned()), ("AWOOOP_CA_FILE", "/etc/our ca.pem".to_owned())];
        let stdio = Way::Stdio { program: "/opt/a b/awooop".to_owned(), env };
        let of = |client, way| pasted(client, way, None, "awp_k").config;
        let bearer = json!({"Authorization": "Bearer awp_k"});
        let spawned = json!({"command": "/opt/a b/awooop", "args": ["mcp", "stdio"],
            "env": {"AWOOOP_URL": "http://h:1", "AWOOOP_CA_FILE": "/etc/our ca.pem", "AWOOOP_KEY": "awp_k"}});
        assert_eq!(
            of(McpClient::Cursor, &http),
            json!({"mcpServers": {"awooop": {"url": "http://h:1/mcp", "headers": bearer}}})
        );
        assert_eq!(of(McpClient::ClaudeDesktop, &stdio), json!({"mcpServers": {"awooop": spawned}}));
        assert_eq!(
            of(McpClient::Vscode, &http),
            json!({"servers": {"awooop": {"type": "http", "url": "http://h:1/mcp", "headers": bearer}}})
        );
        let codex = pasted(McpClient::Codex, &http, Some("shop"), "awp_k").text;
        let read: toml::Table = codex.parse().unwrap();
        let server = &read["mcp_servers"]["awooop-shop"];
        assert_eq!(server["url"].as_str(), Some("http://h:1/mcp"));
        assert_eq!(server["http_headers"]["Authorization"].as_str(), Some("Bearer awp_k"));
        assert_eq!(
            pasted(McpClient::ClaudeCode, &stdio, Some("shop"), "awp_k").text,
            "claude mcp add awooop-shop --env AWOOOP_URL=http://h:1 --env 'AWOOOP_CA_FILE=/etc/our ca.pem' \
             --env AWOOOP_KEY=awp_k -- '/opt/a b/awooop' mcp stdio --provider shop"
        );
    }
}
