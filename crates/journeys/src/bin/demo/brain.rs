//! Which model answers in the demo: the built-in planner, or the server that the environment names.
//!
//! `OPENAI_BASE_URL` and `OPENAI_MODEL` choose a server of that API; `OPENAI_API_KEY` is its credential,
//! which stays in the environment: the contract only says where it lies.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

const PROJECT: &str = "ewoooc";

/// Who thinks.
pub(crate) enum Brain {
    /// Rules: no network, no key.
    Offline,
    /// A server.
    OpenAi { base_url: String, model: String, has_key: bool },
}

impl Brain {
    /// Reads the three variables.
    pub(crate) fn from_environment() -> Brain {
        let value = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        match (value("OPENAI_BASE_URL"), value("OPENAI_MODEL")) {
            (Some(base_url), Some(model)) => {
                Brain::OpenAi { base_url, model, has_key: value("OPENAI_API_KEY").is_some() }
            }
            _ => Brain::Offline,
        }
    }

    /// One sentence about it.
    pub(crate) fn describe(&self) -> String {
        match self {
            Brain::Offline => "The built-in offline planner answers. It is not a language model: it compares \
                 words.\n   Set OPENAI_BASE_URL, OPENAI_MODEL and OPENAI_API_KEY to see a language model do it."
                .to_owned(),
            Brain::OpenAi { base_url, model, .. } => format!("The model {model} at {base_url} answers."),
        }
    }

    /// Manifests that put the server's model into the shop's agent; none for the planner.
    pub(crate) fn manifests(&self, shop: &Path) -> anyhow::Result<Vec<Value>> {
        let Brain::OpenAi { base_url, model, has_key } = self else { return Ok(Vec::new()) };
        let mut spec = json!({
            "type": "llm", "dialect": "openai", "base_url": base_url, "models": [{"name": model}],
        });
        if *has_key {
            spec["credential"] = json!("env://OPENAI_API_KEY");
        }
        let provider = json!({"kind": "provider", "project": PROJECT, "id": "openai", "spec": spec});
        let mut agent = analyst(shop)?;
        agent["spec"]["model"] = json!(format!("openai/{model}"));
        Ok(vec![provider, agent])
    }
}

/// The shop's agent with a planner that takes its time, so that there is a middle of a run to kill.
pub(crate) fn patient_analyst(shop: &Path, delay_ms: u64) -> anyhow::Result<Vec<Value>> {
    let spec = json!({
        "type": "llm", "dialect": "offline", "models": [{"name": "planner", "delay_ms": delay_ms}],
    });
    let provider = json!({"kind": "provider", "project": PROJECT, "id": "slow", "spec": spec});
    let mut agent = analyst(shop)?;
    agent["id"] = json!("patient-analyst");
    agent["spec"]["model"] = json!("slow/planner");
    Ok(vec![provider, agent])
}

fn analyst(shop: &Path) -> anyhow::Result<Value> {
    let path = shop.join("agent-shop-analyst.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} is not a manifest", path.display()))
}
