//! The classes of credentials, and the tags that replace them.
//!
//! A class is what the reader of a log may know about what was there. The order of the variants is the order of
//! precision: of two finds over the same bytes the earlier variant names the mask.
//! Invariant: `as_str` is written into rows and never renamed.

use std::fmt;

/// What kind of credential was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A PEM, OpenSSH, PGP or PuTTY private key block.
    PrivateKey,
    /// A key or run token of AwoooP itself (`awp_…`, `awr_…`).
    AwooopKey,
    /// An AWS access key id, or a secret access key beside one.
    AwsKey,
    /// A Google API key, OAuth access token or client secret.
    GoogleKey,
    /// An Azure storage or service-bus key, SAS signature or client secret.
    AzureKey,
    /// A GitHub token, classic or fine-grained.
    GithubToken,
    /// A GitLab token.
    GitlabToken,
    /// A token of a package registry: npm, PyPI, RubyGems, Docker Hub.
    RegistryToken,
    /// A key of a model provider: OpenAI, Anthropic, Groq, Hugging Face and others.
    ModelKey,
    /// A Telegram bot token.
    TelegramToken,
    /// A Slack token.
    SlackToken,
    /// The secret part of a chat webhook address.
    Webhook,
    /// A token of another service with a prefix of its own: Stripe, SendGrid, Vault and others.
    ServiceToken,
    /// A JSON Web Token, signed, unsigned or encrypted.
    Jwt,
    /// The password in `scheme://user:password@host`.
    UrlPassword,
    /// What follows the scheme in an `Authorization` header, or after `Bearer` or `Basic` elsewhere.
    Authorization,
    /// The value of a name that says it is secret: `password=`, `"client_secret":`, `--token`.
    Secret,
}

impl Class {
    /// Every class, in the order of precision.
    pub const ALL: [Class; 17] = [
        Class::PrivateKey,
        Class::AwooopKey,
        Class::AwsKey,
        Class::GoogleKey,
        Class::AzureKey,
        Class::GithubToken,
        Class::GitlabToken,
        Class::RegistryToken,
        Class::ModelKey,
        Class::TelegramToken,
        Class::SlackToken,
        Class::Webhook,
        Class::ServiceToken,
        Class::Jwt,
        Class::UrlPassword,
        Class::Authorization,
        Class::Secret,
    ];

    /// The class's name in capitals, without brackets: `AWS_KEY`.
    pub fn as_str(self) -> &'static str {
        let tag = self.tag();
        &tag[1..tag.len() - 1]
    }

    /// What stands in a text in place of the credential: `[AWS_KEY]`.
    pub fn tag(self) -> &'static str {
        match self {
            Class::PrivateKey => "[PRIVATE_KEY]",
            Class::AwooopKey => "[AWOOOP_KEY]",
            Class::AwsKey => "[AWS_KEY]",
            Class::GoogleKey => "[GOOGLE_KEY]",
            Class::AzureKey => "[AZURE_KEY]",
            Class::GithubToken => "[GITHUB_TOKEN]",
            Class::GitlabToken => "[GITLAB_TOKEN]",
            Class::RegistryToken => "[REGISTRY_TOKEN]",
            Class::ModelKey => "[MODEL_KEY]",
            Class::TelegramToken => "[TELEGRAM_TOKEN]",
            Class::SlackToken => "[SLACK_TOKEN]",
            Class::Webhook => "[WEBHOOK]",
            Class::ServiceToken => "[SERVICE_TOKEN]",
            Class::Jwt => "[JWT]",
            Class::UrlPassword => "[URL_PASSWORD]",
            Class::Authorization => "[AUTHORIZATION]",
            Class::Secret => "[SECRET]",
        }
    }

    /// The length in bytes of the tag that begins `bytes`, if one does.
    pub(crate) fn tag_len(bytes: &[u8]) -> Option<usize> {
        if bytes.first() != Some(&b'[') {
            return None;
        }
        Class::ALL
            .iter()
            .map(|class| class.tag().as_bytes())
            .find(|tag| bytes.starts_with(tag))
            .map(<[u8]>::len)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
