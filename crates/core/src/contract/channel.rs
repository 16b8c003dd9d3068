//! The channel contract: where people speak with an agent, who may, and in which language the platform
//! answers. Checked and kept; no part of it is in force in this version.

use serde::{Deserialize, Serialize};

use super::credential::CredentialRef;

/// A place where people speak with an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ChannelSpec {
    /// A Telegram bot.
    Telegram(TelegramSpec),
    /// A server of the project's own that sends and takes messages.
    Webhook(WebhookSpec),
}

impl ChannelSpec {
    /// The agent that answers.
    pub fn agent(&self) -> &str {
        match self {
            ChannelSpec::Telegram(telegram) => &telegram.agent,
            ChannelSpec::Webhook(webhook) => &webhook.agent,
        }
    }

    /// The sections this version does not act on yet: the whole channel.
    pub fn not_in_force(&self) -> Vec<&'static str> {
        vec!["channel"]
    }
}

/// A Telegram bot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelegramSpec {
    /// Where the bot's token lies.
    pub bot_token: CredentialRef,
    /// Where the secret lies that Telegram sends back with every update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<CredentialRef>,
    /// The chats that are heard, by id; a group's id is negative.
    pub allow_chats: Vec<i64>,
    /// The agent that answers.
    pub agent: String,
    /// Silence after which people are told that work goes on, in seconds: 5 to 3600.
    #[serde(default = "default_feedback_after_s")]
    pub feedback_after_s: u32,
    /// The language of the platform's own sentences.
    #[serde(default)]
    pub language: Language,
}

/// A server of the project's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSpec {
    /// Where answers are sent.
    pub url: url::Url,
    /// Where the secret lies that signs messages in both directions.
    pub signing_secret: CredentialRef,
    /// The agent that answers.
    pub agent: String,
    /// The senders that are heard; without it everyone whose message is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_senders: Option<Vec<String>>,
    /// Silence after which people are told that work goes on, in seconds: 5 to 3600.
    #[serde(default = "default_feedback_after_s")]
    pub feedback_after_s: u32,
    /// The language of the platform's own sentences.
    #[serde(default)]
    pub language: Language,
}

fn default_feedback_after_s() -> u32 {
    30
}

/// The language of the platform's own sentences; an agent answers in whatever its instructions say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Language {
    /// English.
    #[default]
    #[serde(rename = "en")]
    English,
    /// Traditional Chinese as written in Taiwan.
    #[serde(rename = "zh-TW")]
    TraditionalChinese,
}
